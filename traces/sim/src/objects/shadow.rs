//! From an address to its object in two or three steps, whatever there is.
//!
//! A radix tree over user space: one entry for each GiB, for each page of a GiB that is not all one object, and for each 16 bytes of a
//! page that is not. An entry is an object, or where to look further. Large blocks and mappings are whole entries of the upper
//! levels, so that reserving a terabyte costs a thousand writes and no memory; small blocks are exact to 16 bytes, which is
//! what allocators align to.
//!
//! 16 bytes that two objects share (globals may) belong to the one that was entered last.

use super::ObjectId;
use crate::machine::LINE_BYTES;
use std::ops::Range;

/// Bytes of the smallest thing told apart.
pub(crate) const GRANULE: u64 = 16;

/// User space of x86-64 with four levels of page tables.
pub(crate) const SPACE: u64 = 1 << 47;

const GIB_SHIFT: u32 = 30;
const PAGE_SHIFT: u32 = 12;
const GRANULE_SHIFT: u32 = 4;
const PAGES: usize = 1 << (GIB_SHIFT - PAGE_SHIFT);
const GRANULES: usize = 1 << (PAGE_SHIFT - GRANULE_SHIFT);

/// Set in an entry that is the number of a table.
const TABLE: u32 = 1 << 31;

/// Granules of a line.
const OF_LINE: usize = (LINE_BYTES / GRANULE) as usize;

/// Changes that are remembered.
const RECENT: usize = 8;

/// What lies in a line: one object, as long as [`Shadow::changed`] does not say otherwise, or what [`Shadow::find`] says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Within(u32);

impl Within {
    /// Not known to be one object.
    pub(crate) const UNKNOWN: Self = Self(TABLE);

    /// The object, if it is one.
    #[inline(always)]
    pub(crate) fn object(self) -> Option<ObjectId> {
        (self != Self::UNKNOWN).then_some(ObjectId(self.0))
    }
}

/// What has changed in a map.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Changed<'a> {
    /// No more than the lines that hold these addresses.
    In(&'a [Range<u64>]),
    /// More than is remembered.
    Anything,
}

/// The map. Holds [`ObjectId::NONE`] everywhere at first.
#[derive(Debug, Clone)]
pub(crate) struct Shadow {
    /// How often something was entered.
    changes: u64,
    /// Where, the last times: each twice, so that any number of the last lie side by side.
    recent: Box<[Range<u64>; 2 * RECENT]>,
    gibs: Box<[u32]>,
    pages: Tables<PAGES>,
    granules: Tables<GRANULES>,
}

/// Tables of N entries, in one piece.
#[derive(Debug, Clone, Default)]
struct Tables<const N: usize> {
    entries: Vec<u32>,
    free: Vec<u32>,
}

impl<const N: usize> Tables<N> {
    /// The number of a table whose entries are all `entry`.
    fn make(&mut self, entry: u32) -> u32 {
        if let Some(number) = self.free.pop() {
            self.slice(number, 0..N).fill(entry);
            return number;
        }
        let number = (self.entries.len() / N) as u32;
        self.entries.resize(self.entries.len() + N, entry);
        number
    }

    fn slice(&mut self, number: u32, range: Range<usize>) -> &mut [u32] {
        let start = number as usize * N;
        &mut self.entries[start + range.start..start + range.end]
    }

    /// The entries of a table from one on; not empty.
    fn rest(&self, number: u32, index: usize) -> &[u32] {
        let start = number as usize * N;
        &self.entries[start + index..start + N]
    }

    /// The `index`th M entries of a table.
    fn part<const M: usize>(&self, number: u32, index: usize) -> [u32; M] {
        let start = number as usize * N + index * M;
        std::array::from_fn(|entry| self.entries[start + entry])
    }

    fn get(&self, number: u32, index: usize) -> u32 {
        self.entries[number as usize * N + index]
    }
}

impl Default for Shadow {
    fn default() -> Self {
        Self {
            changes: 0,
            recent: Box::new([const { 0..0 }; 2 * RECENT]),
            gibs: vec![0; (SPACE >> GIB_SHIFT) as usize].into(),
            pages: Tables::default(),
            granules: Tables::default(),
        }
    }
}

impl Shadow {
    /// The object at an address.
    #[inline]
    pub(crate) fn find(&self, address: u64) -> ObjectId {
        let address = address & (SPACE - 1);
        let entry = self.gibs[(address >> GIB_SHIFT) as usize];
        if entry & TABLE == 0 {
            return ObjectId(entry);
        }
        let entry = self.pages.get(entry & !TABLE, (address >> PAGE_SHIFT) as usize % PAGES);
        if entry & TABLE == 0 {
            return ObjectId(entry);
        }
        ObjectId(self.granules.get(entry & !TABLE, (address >> GRANULE_SHIFT) as usize % GRANULES))
    }

    /// The object at an address, and what lies in its line.
    pub(crate) fn find_line(&self, address: u64) -> (ObjectId, Within) {
        let address = address & (SPACE - 1);
        let entry = self.gibs[(address >> GIB_SHIFT) as usize];
        if entry & TABLE == 0 {
            return (ObjectId(entry), Within(entry));
        }
        let entry = self.pages.get(entry & !TABLE, (address >> PAGE_SHIFT) as usize % PAGES);
        if entry & TABLE == 0 {
            return (ObjectId(entry), Within(entry));
        }
        let granule = (address >> GRANULE_SHIFT) as usize % GRANULES;
        let line = self.granules.part::<OF_LINE>(entry & !TABLE, granule / OF_LINE);
        let object = line[granule % OF_LINE];
        let within = if line == [object; OF_LINE] { Within(object) } else { Within::UNKNOWN };
        (ObjectId(object), within)
    }

    /// A number that changes whenever something is entered.
    #[inline]
    pub(crate) fn changes(&self) -> u64 {
        self.changes
    }

    /// What has changed since [`Shadow::changes`] said `before`.
    pub(crate) fn changed(&self, before: u64) -> Changed<'_> {
        match self.changes.checked_sub(before) {
            Some(count) if count <= RECENT as u64 => {
                let end = RECENT + (self.changes % RECENT as u64) as usize;
                Changed::In(&self.recent[end - count as usize..end])
            }
            _ => Changed::Anything,
        }
    }

    /// Enters an object at every granule that the range touches; what lies beyond user space is left out.
    pub(crate) fn set(&mut self, range: Range<u64>, object: ObjectId) {
        let Range { mut start, end } = granules(range);
        let place = (self.changes % RECENT as u64) as usize;
        (self.recent[place], self.recent[place + RECENT]) = (start..end, start..end);
        self.changes += 1;
        while start < end {
            let gib = (start >> GIB_SHIFT) as usize;
            let next = end.min((gib as u64 + 1) << GIB_SHIFT);
            if next - start == 1 << GIB_SHIFT {
                if self.gibs[gib] & TABLE != 0 {
                    self.drop_pages(self.gibs[gib] & !TABLE);
                }
                self.gibs[gib] = object.0;
            } else if self.gibs[gib] != object.0 {
                if self.gibs[gib] & TABLE == 0 {
                    self.gibs[gib] = self.pages.make(self.gibs[gib]) | TABLE;
                }
                self.set_pages(self.gibs[gib] & !TABLE, start..next, object);
            }
            start = next;
        }
    }

    fn set_pages(&mut self, table: u32, range: Range<u64>, object: ObjectId) {
        let Range { mut start, end } = range;
        while start < end {
            let page = (start >> PAGE_SHIFT) as usize % PAGES;
            let next = end.min((start | ((1 << PAGE_SHIFT) - 1)) + 1);
            let entry = self.pages.get(table, page);
            if next - start == 1 << PAGE_SHIFT {
                if entry & TABLE != 0 {
                    self.granules.free.push(entry & !TABLE);
                }
                self.pages.slice(table, page..page + 1)[0] = object.0;
            } else if entry != object.0 {
                let granules = if entry & TABLE == 0 { self.granules.make(entry) } else { entry & !TABLE };
                self.pages.slice(table, page..page + 1)[0] = granules | TABLE;
                let first = (start >> GRANULE_SHIFT) as usize % GRANULES;
                let count = ((next - start) >> GRANULE_SHIFT) as usize;
                self.granules.slice(granules, first..first + count).fill(object.0);
            }
            start = next;
        }
    }

    fn drop_pages(&mut self, table: u32) {
        for page in 0..PAGES {
            let entry = self.pages.get(table, page);
            if entry & TABLE != 0 {
                self.granules.free.push(entry & !TABLE);
            }
        }
        self.pages.free.push(table);
    }

    /// Makes a range what it is in another map.
    pub(crate) fn copy(&mut self, range: Range<u64>, from: &Self) {
        let Range { mut start, end } = granules(range);
        while start < end {
            let (object, uniform) = from.stretch(start);
            let next = end.min(uniform);
            self.set(start..next, object);
            start = next;
        }
    }

    /// The object at an address, and an address up to which it is the same.
    fn stretch(&self, address: u64) -> (ObjectId, u64) {
        let entry = self.gibs[(address >> GIB_SHIFT) as usize];
        if entry & TABLE == 0 {
            return (ObjectId(entry), ((address >> GIB_SHIFT) + 1) << GIB_SHIFT);
        }
        let page = (address >> PAGE_SHIFT) as usize % PAGES;
        let pages = self.pages.rest(entry & !TABLE, page);
        let entry = pages[0];
        if entry & TABLE == 0 {
            let same = pages.iter().take_while(|other| **other == entry).count() as u64;
            return (ObjectId(entry), ((address >> PAGE_SHIFT) + same) << PAGE_SHIFT);
        }
        let granules = self.granules.rest(entry & !TABLE, (address >> GRANULE_SHIFT) as usize % GRANULES);
        let same = granules.iter().take_while(|other| **other == granules[0]).count() as u64;
        (ObjectId(granules[0]), ((address >> GRANULE_SHIFT) + same) << GRANULE_SHIFT)
    }
}

/// A range widened to granules and cut to user space.
fn granules(range: Range<u64>) -> Range<u64> {
    let end = range.end.min(SPACE).next_multiple_of(GRANULE);
    range.start.min(end) & !(GRANULE - 1)..if range.is_empty() { 0 } else { end }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// The obvious model: cuts, each with the object from there on.
    #[derive(Default)]
    struct Cuts(BTreeMap<u64, u32>);

    impl Cuts {
        fn find(&self, address: u64) -> u32 {
            self.0.range(..=address).next_back().map_or(0, |(_, object)| *object)
        }

        fn set(&mut self, start: u64, end: u64, object: u32) {
            let after = self.find(end);
            let inside: Vec<u64> = self.0.range(start..end).map(|(at, _)| *at).collect();
            self.0.retain(|at, _| !inside.contains(at));
            self.0.insert(start, object);
            self.0.insert(end, after);
        }
    }

    /// Starts near borders of all levels, sizes of all levels.
    fn range() -> impl Strategy<Value = (u64, u64)> {
        let base = prop_oneof![Just(0_u64), Just(1 << 12), Just(1 << 30), Just((1 << 30) + (5 << 12)), Just(3 << 30)];
        let bytes =
            prop_oneof![1_u64..20, 1_u64..5000, 4000_u64..20_000, Just(1 << 30), Just((1 << 31) + 48), Just(1 << 12)];
        (base, 0_u64..600, bytes).prop_map(|(base, offset, bytes)| {
            let start = base + offset * GRANULE;
            (start, start + bytes)
        })
    }

    fn probes(start: u64, end: u64) -> impl Iterator<Item = u64> {
        [
            start.saturating_sub(1),
            start,
            start + 8,
            u64::midpoint(start, end),
            end - 1,
            end,
            end + 15,
            end + 16,
            end + 4096,
        ]
        .into_iter()
    }

    proptest! {
        #[test]
        fn every_address_has_what_was_entered_last(steps in proptest::collection::vec((range(), 0_u32..6), 1..40)) {
            let (mut shadow, mut model) = (Shadow::default(), Cuts::default());
            for ((start, end), object) in &steps {
                shadow.set(*start..*end, ObjectId(*object));
                model.set(*start, end.next_multiple_of(GRANULE), *object);
            }
            for address in steps.iter().flat_map(|((start, end), _)| probes(*start, *end)) {
                prop_assert_eq!(shadow.find(address), ObjectId(model.find(address)), "at {:#x}", address);
                let (object, within) = shadow.find_line(address);
                let granules = (address & !(LINE_BYTES - 1)..).step_by(GRANULE as usize).take(OF_LINE);
                let is_one = granules.map(|address| shadow.find(address)).all(|other| other == object);
                prop_assert_eq!((object, within.object()), (shadow.find(address), is_one.then_some(object)));
            }
        }

        #[test]
        fn a_copy_is_the_same_inside_and_nothing_changes_outside(
            from in proptest::collection::vec((range(), 1_u32..6), 1..12),
            to in proptest::collection::vec((range(), 6_u32..9), 1..12),
            (start, end) in range(),
        ) {
            let (mut source, mut target) = (Shadow::default(), Shadow::default());
            from.iter().for_each(|((start, end), object)| source.set(*start..*end, ObjectId(*object)));
            to.iter().for_each(|((start, end), object)| target.set(*start..*end, ObjectId(*object)));
            let before = target.clone();
            target.copy(start..end, &source);
            let copied = start..end.next_multiple_of(GRANULE);
            let addresses = from.iter().chain(&to).flat_map(|((start, end), _)| probes(*start, *end));
            for address in addresses.chain(probes(start, end)) {
                let expected = if copied.contains(&address) { source.find(address) } else { before.find(address) };
                prop_assert_eq!(target.find(address), expected, "at {:#x}", address);
            }
        }
    }

    #[test]
    fn tables_are_used_again() {
        let mut shadow = Shadow::default();
        for round in 0..1000_u64 {
            let start = (round % 7) << 30 | (round % 5) << 12;
            shadow.set(start + 16..start + 64, ObjectId(1));
            shadow.set(0..7 << 30, ObjectId::NONE);
        }
        assert_eq!(shadow.pages.entries.len(), PAGES);
        assert_eq!(shadow.granules.entries.len(), GRANULES);
    }

    #[test]
    fn the_last_changes_are_remembered() {
        let mut shadow = Shadow::default();
        for entered in 0..40_u64 {
            let before = shadow.changes();
            for other in 0..=entered {
                shadow.set(other << 12..(other << 12) + 8, ObjectId(1));
            }
            let ranges: Vec<_> = (0..=entered).map(|other| other << 12..(other << 12) + 16).collect();
            let expected = if entered < RECENT as u64 { Changed::In(&ranges) } else { Changed::Anything };
            assert_eq!(shadow.changed(before), expected);
            assert_eq!(shadow.changed(shadow.changes()), Changed::In(&[]));
        }
    }

    #[test]
    fn senseless_ranges_are_nothing() {
        let mut shadow = Shadow::default();
        let (low, high) = (0, 64);
        for range in [64..64, high..low, SPACE..SPACE + 4096, u64::MAX - 5..u64::MAX] {
            shadow.set(range, ObjectId(1));
        }
        shadow.set(SPACE - 32..u64::MAX, ObjectId(2));
        assert!(shadow.gibs.iter().take(10).all(|entry| *entry == 0));
        assert_eq!((shadow.find(SPACE - 1), shadow.find(SPACE - 33)), (ObjectId(2), ObjectId::NONE));
    }
}
