//! Rows of made-up tables, plain as can be; tests change what they are about.

use tierscope_traces::{
    Access, AddressQuality, AllocationRow, Attribution, ModuleRow, ObjectKind, ObjectRow, SampleRow, SymbolRow,
};

use super::MIB;

/// A module of one MiB.
pub(crate) fn module(module: u32, path: &str, start: u64) -> ModuleRow {
    ModuleRow {
        module,
        path: path.into(),
        build_id: Some("aa".into()),
        start,
        end: start.saturating_add(MIB),
        bias: start,
        loaded_ns: 0,
        unloaded_ns: None,
    }
}

/// A function of module 0.
pub(crate) fn symbol(offset: u64, function: &str) -> SymbolRow {
    SymbolRow { module: 0, offset, inline_depth: 0, function: function.into(), file: None, line: None }
}

/// A heap object of the site with its number.
pub(crate) fn object(object: u32, bytes: u64) -> ObjectRow {
    ObjectRow {
        object,
        kind: ObjectKind::Heap,
        site: Some(object),
        size_class: Some(bytes.ilog2() as u8),
        slot: Some(0),
        module: None,
        name: String::new(),
        start: 0,
        bytes,
        tid: None,
        first_seen_ns: u64::from(object),
    }
}

/// A block of the site with the object's number.
pub(crate) fn block(allocation: u64, object: u32, bytes: u64, time_ns: u64, freed_ns: Option<u64>) -> AllocationRow {
    AllocationRow { allocation, object, site: object, address: 0, bytes, weight: 1.0, time_ns, tid: 1, freed_ns }
}

/// A load by thread 1 from an address that was sampled.
pub(crate) fn sample(time_ns: u64, object: Option<u32>) -> SampleRow {
    SampleRow {
        time_ns,
        tid: 1,
        cpu: 0,
        ip: 0,
        module: Some(0),
        offset: 0x20,
        kernel: false,
        address: Some(1),
        access: Access::Load,
        address_quality: AddressQuality::Exact,
        attribution: Attribution::Exact,
        level: None,
        latency: None,
        dependent: None,
        tlb: None,
        weight: 1.0,
        object,
    }
}
