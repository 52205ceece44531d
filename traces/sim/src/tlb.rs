//! The data TLBs of a core.
//!
//! Two levels of translations, both LRU, the second asked when the first has none and filled along with it. A miss in both is a page
//! walk, which costs a constant ([`Machine::walk_cycles`]): the upper levels of a walk hit the processor's page-walk caches nearly
//! always (Barr, Cox, Rixner, "Translation caching: skip, don't walk (the page table)", ISCA 2010), and what is left is one
//! read of a page-table entry, whose way through the data caches is not modelled. Page tables take no room in the caches here.
//!
//! Every access is translated, so a hit must cost next to nothing, and first-level TLBs often are fully associative with 48 to 96
//! entries, too many to search. Those are a list in order of use, found by a hash of the page ([`Recency`]): hits, misses and the
//! choice of the victim are a few steps whatever the size.

use crate::array::{Array, Found};
use crate::line::word;
use crate::machine::{Machine, Replacement, Translations};
use crate::objects::{ObjectId, SPACE};
use crate::served::Tlb as From;

/// Of more ways than this, if there is only one set, a list is kept.
const SEARCHED_WAYS: u32 = 16;

/// The place of the list's own entry, which is both before the newest and after the oldest: so no place is the end.
const ENDS: u16 = 0;

/// No page: beyond the last of a 64-bit address.
const NO_PAGE: u64 = u64::MAX;

#[derive(Debug, Clone, Copy)]
struct Entry {
    page: u64,
    newer: u16,
    older: u16,
    /// Next in the same bucket; [`ENDS`] for none.
    next: u16,
}

/// Pages in order of use, found by hash.
#[derive(Debug, Clone)]
struct Recency {
    /// The list's own entry, then one for each page.
    entries: Vec<Entry>,
    /// Place of the first entry of each bucket.
    buckets: Box<[u16]>,
    capacity: usize,
}

impl Recency {
    fn new(capacity: usize) -> Self {
        let own = Entry { page: NO_PAGE, newer: ENDS, older: ENDS, next: ENDS };
        let mut entries = Vec::with_capacity(capacity + 1);
        entries.push(own);
        Self { entries, buckets: vec![ENDS; (capacity * 8).next_power_of_two()].into(), capacity }
    }

    /// Pages are mostly consecutive: their lowest bits spread them best.
    fn bucket(&self, page: u64) -> usize {
        (page ^ page >> 20) as usize & (self.buckets.len() - 1)
    }

    fn at(&mut self, place: u16) -> &mut Entry {
        &mut self.entries[usize::from(place)]
    }

    /// Uses a page if it is the first of its bucket.
    #[inline(always)]
    fn access_first(&mut self, page: u64) -> bool {
        let place = self.buckets[self.bucket(page)];
        let entry = *self.at(place);
        if entry.page != page {
            return false;
        }
        if entry.newer != ENDS {
            self.unlink(entry);
            self.link(place);
        }
        true
    }

    /// Uses a page, which comes in if it was not there; true if it was.
    fn access(&mut self, page: u64) -> bool {
        let bucket = self.bucket(page);
        let mut place = self.buckets[bucket];
        while place != ENDS {
            let entry = *self.at(place);
            if entry.page == page {
                self.unlink(entry);
                self.link(place);
                return true;
            }
            place = entry.next;
        }
        let place = if self.entries.len() <= self.capacity {
            self.entries.push(Entry { page, newer: ENDS, older: ENDS, next: ENDS });
            (self.entries.len() - 1) as u16
        } else {
            let oldest = self.at(ENDS).newer;
            self.forget(oldest);
            oldest
        };
        let next = std::mem::replace(&mut self.buckets[bucket], place);
        *self.at(place) = Entry { page, newer: ENDS, older: ENDS, next };
        self.link(place);
        false
    }

    /// Makes an entry that is in no list the newest.
    #[inline(always)]
    fn link(&mut self, place: u16) {
        let older = std::mem::replace(&mut self.at(ENDS).older, place);
        self.at(older).newer = place;
        let entry = self.at(place);
        (entry.newer, entry.older) = (ENDS, older);
    }

    #[inline(always)]
    fn unlink(&mut self, entry: Entry) {
        self.at(entry.newer).older = entry.older;
        self.at(entry.older).newer = entry.newer;
    }

    /// Takes an entry out of list and bucket.
    fn forget(&mut self, place: u16) {
        let entry = *self.at(place);
        self.unlink(entry);
        let bucket = self.bucket(entry.page);
        if self.buckets[bucket] == place {
            self.buckets[bucket] = entry.next;
            return;
        }
        let mut before = self.buckets[bucket];
        while before != ENDS {
            let next = self.at(before).next;
            if next == place {
                self.at(before).next = entry.next;
                return;
            }
            before = next;
        }
    }
}

/// The first level.
#[derive(Debug, Clone)]
enum First {
    Sets(Array),
    List(Recency),
}

impl First {
    fn new(shape: &Translations) -> Self {
        if shape.ways == shape.entries && shape.ways > SEARCHED_WAYS && shape.entries < u32::from(u16::MAX) {
            return Self::List(Recency::new(shape.entries as usize));
        }
        Self::Sets(sets(shape))
    }

    /// Uses a page if it is found at once.
    #[inline(always)]
    fn access_near(&mut self, page: u64) -> bool {
        match self {
            Self::Sets(array) => array.access_near(page).is_some(),
            Self::List(list) => list.access_first(page),
        }
    }

    /// Uses a page, which comes in if it was not there; true if it was.
    fn access(&mut self, page: u64) -> bool {
        match self {
            Self::Sets(array) => matches!(array.access(page, word(page, ObjectId::NONE)), Found::Hit(_)),
            Self::List(list) => list.access(page),
        }
    }
}

fn sets(shape: &Translations) -> Array {
    Array::new(u64::from(shape.entries / shape.ways), shape.ways, Replacement::Lru)
}

/// Both levels.
#[derive(Debug, Clone)]
pub(crate) struct Tlb {
    shift: u32,
    first: First,
    second: Option<Array>,
}

impl Tlb {
    pub(crate) fn new(machine: &Machine) -> Self {
        Self { shift: machine.page.shift(), first: First::new(&machine.dtlb), second: machine.stlb.as_ref().map(sets) }
    }

    /// The page of an address. Those beyond user space are taken modulo its size, as lines are.
    #[inline(always)]
    fn page(&self, address: u64) -> u64 {
        (address & (SPACE - 1)) >> self.shift
    }

    /// Translates an address if its page is found at once in the first level.
    #[inline(always)]
    pub(crate) fn access_near(&mut self, address: u64) -> bool {
        self.first.access_near(self.page(address))
    }

    /// Translates an address.
    pub(crate) fn access(&mut self, address: u64) -> From {
        let page = self.page(address);
        if self.first.access(page) {
            return From::L1;
        }
        let new = word(page, ObjectId::NONE);
        let found = self.second.as_mut().map(|second| second.access(page, new));
        if matches!(found, Some(Found::Hit(_))) { From::L2 } else { From::Walk }
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
        /// Against the obvious model: a vector for each set, in order of use. Some pages share a bucket.
        #[test]
        fn the_least_recently_used_is_given_up(
            pages in proptest::collection::vec((0_u64..20, 0_u64..3), 0..400),
            sets_shift in 0_u32..3,
            ways in 1_u32..24,
        ) {
            let sets = 1_u32 << sets_shift;
            let mut first = First::new(&Translations { entries: sets * ways, ways, latency_cycles: 0 });
            let mut model = vec![Vec::new(); sets as usize];
            for (low, high) in pages {
                let page = low + high * 512;
                let set = &mut model[(page % u64::from(sets)) as usize];
                let there = set.iter().position(|other| *other == page);
                if let Some(place) = there {
                    set.remove(place);
                }
                set.insert(0, page);
                set.truncate(ways as usize);
                prop_assert_eq!(first.access_near(page) || first.access(page), there.is_some());
            }
        }
    }

    #[test]
    fn what_the_first_level_lost_is_in_the_second_and_beyond_both_is_a_walk() {
        let mut tlb = tlb(16, 16, 64, PageSize::Small);
        let mut from = |page: u64| tlb.access(page << 12);
        assert!((0..64).all(|page| from(page) == From::Walk));
        assert!((48..64).all(|page| from(page) == From::L1));
        assert!((0..48).all(|page| from(page) == From::L2));
        assert_eq!(from(64), From::Walk);
    }

    #[test]
    fn the_page_used_last_is_the_most_recent() {
        let mut tlb = tlb(2, 2, 0, PageSize::Small);
        let pages = [1, 1, 2, 2, 1, 3, 1, 2, 9];
        let walks: Vec<_> = pages.into_iter().filter(|page| tlb.access(page << 12) == From::Walk).collect();
        assert_eq!(walks, [1, 2, 3, 2, 9]);
    }

    #[test]
    fn huge_pages_reach_farther() {
        let mut tlb = tlb(4, 4, 0, PageSize::Huge);
        let walks = (0..1024).filter(|page| tlb.access(page << 12) == From::Walk).count();
        assert_eq!(walks, 2);
    }
}
