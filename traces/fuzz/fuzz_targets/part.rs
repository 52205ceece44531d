//! The bytes of one part, read as every table: a reason or rows, never a panic that gets out.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tierscope_traces::{
    AllocationRow, CountRow, CounterRow, MarkRow, ModuleRow, ObjectRow, PlacementRow, SampleRow, SiteRow, SymbolRow,
    rows_of_part,
};

fuzz_target!(|content: &[u8]| {
    let _ = rows_of_part::<SampleRow>(content.to_vec());
    let _ = rows_of_part::<AllocationRow>(content.to_vec());
    let _ = rows_of_part::<ModuleRow>(content.to_vec());
    let _ = rows_of_part::<ObjectRow>(content.to_vec());
    let _ = rows_of_part::<SiteRow>(content.to_vec());
    let _ = rows_of_part::<CounterRow>(content.to_vec());
    let _ = rows_of_part::<MarkRow>(content.to_vec());
    let _ = rows_of_part::<CountRow>(content.to_vec());
    let _ = rows_of_part::<PlacementRow>(content.to_vec());
    let _ = rows_of_part::<SymbolRow>(content.to_vec());
});
