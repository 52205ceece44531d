//! Bounds of functions, for modules with symbols or without.
//!
//! Every function that an exception may pass through, or a profiler or debugger walk out of, has an FDE in `.eh_frame`,
//! and distributions strip symbols but never that: it is the one table of function bounds that is (nearly) always
//! there. The `.eh_frame_hdr` index holds starts only, in an order the file merely promises; reading all FDEs once
//! (about 0.1 us each) gives starts and ends, in an order of our own, and no second way to be wrong. Functions without
//! an FDE (assembler, Go, `-fno-asynchronous-unwind-tables`) come from symbols.

use std::collections::HashMap;
use std::ops::Range;

use gimli::{BaseAddresses, CieOrFde, EhFrame, RunTimeEndian, UnwindSection as _};
use object::elf;

use crate::headers::Headers;
use crate::source::Source;
use crate::symbols::Symbols;

/// Distinct common entries (CIEs) of one module. Linkers merge them to a handful; a file with more has been made to
/// keep us busy.
const COMMON_ENTRIES_LIMIT: usize = 4096;

/// Sorted, non-empty function ranges in ELF addresses.
#[derive(Debug, Default)]
pub(crate) struct Functions {
    ranges: Vec<Range<u64>>,
}

impl Functions {
    /// Functions that have unwind information.
    pub(crate) fn from_frames(source: &Source, headers: &Headers) -> Self {
        Self::sorted(frame_ranges(source, headers).unwrap_or_default())
    }

    /// Functions that have symbols.
    pub(crate) fn from_symbols(headers: &Headers, symbols: &Symbols) -> Self {
        Self::sorted(symbol_ranges(headers, symbols))
    }

    /// Of ranges with one start the shortest is kept: it claims least.
    fn sorted(mut ranges: Vec<Range<u64>>) -> Self {
        ranges.sort_unstable_by_key(|range| (range.start, range.end));
        ranges.dedup_by_key(|range| range.start);
        ranges.shrink_to_fit();
        Self { ranges }
    }

    /// All of them, sorted by start.
    pub(crate) fn ranges(&self) -> &[Range<u64>] {
        &self.ranges
    }

    /// The function that holds `vaddr`.
    pub(crate) fn find(&self, vaddr: u64) -> Option<Range<u64>> {
        let after = self.ranges.partition_point(|range| range.start <= vaddr);
        self.ranges[..after].last().filter(|range| range.contains(&vaddr)).cloned()
    }
}

fn frame_ranges(source: &Source, headers: &Headers) -> Option<Vec<Range<u64>>> {
    let section = headers.section(".eh_frame").filter(|section| section.kind != elf::SHT_NOBITS)?;
    let bytes = source.table(section.offset, section.bytes, ".eh_frame").ok()?;
    let endian = if headers.is_little_endian() { RunTimeEndian::Little } else { RunTimeEndian::Big };
    let mut frames = EhFrame::new(&bytes, endian);
    frames.set_address_size(headers.address_bytes());
    let address = |name| headers.section(name).map_or(0, |section| section.vaddr);
    let bases = BaseAddresses::default()
        .set_eh_frame(section.vaddr)
        .set_eh_frame_hdr(address(".eh_frame_hdr"))
        .set_text(address(".text"))
        .set_got(address(".got"));
    let mut ranges = Vec::new();
    let mut common = HashMap::new();
    let mut entries = frames.entries(&bases);
    // An entry that does not parse is skipped; a broken length ends the walk, with what was read so far kept.
    while let Ok(Some(entry)) = entries.next() {
        let CieOrFde::Fde(partial) = entry else { continue };
        let frame = partial.parse(|frames, bases, offset| {
            if common.len() >= COMMON_ENTRIES_LIMIT {
                return Err(gimli::Error::NotCieId(offset.0 as u64));
            }
            common.entry(offset.0).or_insert_with(|| frames.cie_from_offset(bases, offset)).clone()
        });
        let Ok(frame) = frame else { continue };
        // Linkers zero the start of functions they discarded.
        if let (start @ 1.., Some(end)) = (frame.initial_address(), frame.initial_address().checked_add(frame.len()))
            && end > start
        {
            ranges.push(start..end);
        }
    }
    Some(ranges)
}

/// Functions by symbol. One of unknown size (hand-written assembler) reaches to the next, or to its section's end.
fn symbol_ranges(headers: &Headers, symbols: &Symbols) -> Vec<Range<u64>> {
    let mut ranges = Vec::new();
    let (mut current, mut next) = (u64::MAX, u64::MAX);
    for symbol in symbols.list.iter().rev().filter(|symbol| symbol.is_function()) {
        if symbol.vaddr < current {
            (current, next) = (symbol.vaddr, current);
        }
        let Some(section) = headers.sections.get(usize::from(symbol.section)) else { continue };
        let end = if symbol.bytes == 0 { next } else { symbol.end() };
        let end = end.min(section.vaddr.saturating_add(section.bytes));
        if symbol.vaddr < end {
            ranges.push(symbol.vaddr..end);
        }
    }
    ranges
}
