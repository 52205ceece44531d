//! The data TLBs of a core.
//!
//! Two levels of translations, both LRU, the second asked when the first has none and filled along with it. A miss in both is a page
//! walk, which costs a constant ([`Machine::walk_cycles`]): the upper levels of a walk hit the processor's page-walk caches nearly
//! always (Barr, Cox, Rixner, "Translation caching: skip, don't walk (the page table)", ISCA 2010), and what is left is one
//! read of a page-table entry, whose way through the data caches is not modelled. Page tables take no room in the caches here.
//!
//! First-level TLBs are often fully associative with 48 to 96 entries, too many to search one by one for every access, so those
//! are a list in order of use with a hash table into it ([`Recency`]): a few steps whatever the size.

use crate::array::{Array, Found};
use crate::line::word;
use crate::machine::{Machine, Replacement, Translations};
use crate::objects::ObjectId;
use crate::served::Tlb as From;

/// More ways than this are kept as a list with a hash table, if there is only one set.
const SEARCHED_WAYS: u32 = 8;

/// No place in a list.
const NOWHERE: u16 = u16::MAX;

#[derive(Debug, Clone, Copy)]
struct Entry {
    page: u64,
    newer: u16,
    older: u16,
    /// Next in the same bucket.
    next: u16,
}

/// Pages in order of use, found by hash.
#[derive(Debug, Clone)]
struct Recency {
    entries: Vec<Entry>,
    buckets: Box<[u16]>,
    newest: u16,
    oldest: u16,
    capacity: usize,
}

impl Recency {
    fn new(capacity: usize) -> Self {
        Self {
            entries: Vec::with_capacity(capacity),
            buckets: vec![NOWHERE; (capacity * 4).next_power_of_two()].into(),
            newest: NOWHERE,
            oldest: NOWHERE,
            capacity,
        }
    }

    fn bucket(&self, page: u64) -> usize {
        // Fibonacci hashing: pages are mostly consecutive, and any multiplier spreads those.
        (page.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize & (self.buckets.len() - 1)
    }

    /// Uses a page; true if it was there.
    fn access(&mut self, page: u64) -> bool {
        let bucket = self.bucket(page);
        let mut place = self.buckets[bucket];
        while place != NOWHERE {
            let entry = self.entries[usize::from(place)];
            if entry.page == page {
                if place != self.newest {
                    self.unlink(entry);
                    self.link(place);
                }
                return true;
            }
            place = entry.next;
        }
        let place = if self.entries.len() < self.capacity {
            self.entries.push(Entry { page, newer: NOWHERE, older: NOWHERE, next: NOWHERE });
            (self.entries.len() - 1) as u16
        } else {
            let place = self.oldest;
            self.forget(place);
            place
        };
        self.entries[usize::from(place)] =
            Entry { page, newer: NOWHERE, older: NOWHERE, next: std::mem::replace(&mut self.buckets[bucket], place) };
        self.link(place);
        false
    }

    /// Makes an entry that is in no list the newest.
    fn link(&mut self, place: u16) {
        let older = std::mem::replace(&mut self.newest, place);
        let entry = &mut self.entries[usize::from(place)];
        (entry.newer, entry.older) = (NOWHERE, older);
        match older {
            NOWHERE => self.oldest = place,
            older => self.entries[usize::from(older)].newer = place,
        }
    }

    fn unlink(&mut self, entry: Entry) {
        match entry.newer {
            NOWHERE => self.newest = entry.older,
            newer => self.entries[usize::from(newer)].older = entry.older,
        }
        match entry.older {
            NOWHERE => self.oldest = entry.newer,
            older => self.entries[usize::from(older)].newer = entry.newer,
        }
    }

    /// Takes an entry out of list and bucket.
    fn forget(&mut self, place: u16) {
        let entry = self.entries[usize::from(place)];
        self.unlink(entry);
        let bucket = self.bucket(entry.page);
        if self.buckets[bucket] == place {
            self.buckets[bucket] = entry.next;
            return;
        }
        let mut before = self.buckets[bucket];
        while before != NOWHERE {
            let next = self.entries[usize::from(before)].next;
            if next == place {
                self.entries[usize::from(before)].next = entry.next;
                return;
            }
            before = next;
        }
    }
}

#[derive(Debug, Clone)]
enum Level {
    Sets(Array),
    List(Recency),
}

impl Level {
    fn new(shape: &Translations) -> Self {
        if shape.ways == shape.entries && shape.ways > SEARCHED_WAYS && shape.entries < u32::from(NOWHERE) {
            return Self::List(Recency::new(shape.entries as usize));
        }
        Self::Sets(Array::new(u64::from(shape.entries / shape.ways), shape.ways, Replacement::Lru))
    }

    fn access(&mut self, page: u64) -> bool {
        match self {
            Self::Sets(array) => matches!(array.access(page, word(page, ObjectId::NONE)), Found::Hit(_)),
            Self::List(list) => list.access(page),
        }
    }
}

/// Both levels.
#[derive(Debug, Clone)]
pub(crate) struct Tlb {
    /// The page used last, which is the most recent in the first level.
    last: u64,
    shift: u32,
    first: Level,
    second: Option<Level>,
}

impl Tlb {
    pub(crate) fn new(machine: &Machine) -> Self {
        Self {
            last: u64::MAX,
            shift: machine.page.shift(),
            first: Level::new(&machine.dtlb),
            second: machine.stlb.as_ref().map(Level::new),
        }
    }

    /// Translates the addresses of an access of at least one byte: where the farther of its translations came from.
    #[inline]
    pub(crate) fn access(&mut self, address: u64, bytes: u8) -> From {
        let first = address >> self.shift;
        let last = address.wrapping_add(u64::from(bytes.max(1)) - 1) >> self.shift;
        if first == self.last && last == first {
            return From::L1;
        }
        let from = self.page(first);
        if last == first { from } else { from.max(self.page(last)) }
    }

    fn page(&mut self, page: u64) -> From {
        self.last = page;
        if self.first.access(page) {
            return From::L1;
        }
        if self.second.as_mut().is_some_and(|second| second.access(page)) { From::L2 } else { From::Walk }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::PageSize;
    use proptest::prelude::*;

    fn tlb(entries: u32, ways: u32, second: u32, page: PageSize) -> Tlb {
        let stlb = (second > 0).then_some(Translations { entries: second, ways: second, latency_cycles: 7 });
        let dtlb = Translations { entries, ways, latency_cycles: 0 };
        Tlb::new(&Machine { dtlb, stlb, page, ..Machine::default() })
    }

    proptest! {
        /// Against the obvious model: a vector in order of use.
        #[test]
        fn a_list_gives_up_the_least_recently_used(pages in proptest::collection::vec(0_u64..40, 0..400), entries in 1_u32..24) {
            let mut list = Recency::new(entries as usize);
            let mut model: Vec<u64> = Vec::new();
            for page in pages {
                let there = model.iter().position(|p| *p == page);
                if let Some(place) = there {
                    model.remove(place);
                }
                model.insert(0, page);
                model.truncate(entries as usize);
                prop_assert_eq!(list.access(page), there.is_some());
            }
        }

        #[test]
        fn list_and_sets_are_the_same_where_there_is_one_set(pages in proptest::collection::vec(0_u64..40, 0..400)) {
            let mut list = Level::List(Recency::new(12));
            let mut sets = Level::Sets(Array::new(1, 12, Replacement::Lru));
            for page in pages {
                prop_assert_eq!(list.access(page), sets.access(page));
            }
        }
    }

    #[test]
    fn what_the_first_level_lost_is_in_the_second_and_beyond_both_is_a_walk() {
        let mut tlb = tlb(16, 16, 64, PageSize::Small);
        let mut from = |page: u64| tlb.access(page << 12, 8);
        assert!((0..64).all(|page| from(page) == From::Walk));
        assert!((48..64).all(|page| from(page) == From::L1));
        assert!((0..48).all(|page| from(page) == From::L2));
        assert_eq!(from(64), From::Walk);
    }

    #[test]
    fn an_access_into_the_next_page_needs_both() {
        let mut tlb = tlb(4, 4, 0, PageSize::Small);
        assert_eq!(tlb.access(4000, 8), From::Walk);
        assert_eq!(tlb.access(4092, 4), From::L1);
        assert_eq!(tlb.access(4092, 8), From::Walk);
        assert_eq!(tlb.access(4092, 8), From::L1);
        assert_eq!(tlb.access(u64::MAX, 8), From::Walk);
    }

    #[test]
    fn huge_pages_reach_farther() {
        let mut tlb = tlb(4, 4, 0, PageSize::Huge);
        let walks = (0..1024).filter(|page| tlb.access(page << 12, 8) == From::Walk).count();
        assert_eq!(walks, 2);
    }
}
