//! The data TLBs of a core.
//!
//! Two levels of translations, both LRU, the second asked when the first has none and filled along with it. A miss in both is a page
//! walk, which costs a constant ([`Machine::walk_cycles`]): the upper levels of a walk hit the processor's page-walk caches nearly
//! always (Barr, Cox, Rixner, "Translation caching: skip, don't walk (the page table)", ISCA 2010), and what is left is one
//! read of a page-table entry, whose way through the data caches is not modelled. Page tables take no room in the caches here.
//!
//! Every access is translated, so a hit must cost next to nothing, also where accesses go to several pages in turn, and first-level
//! TLBs often are fully associative with 48 to 96 entries. So each entry has the time of its last use, which a hit only has to
//! write; a small direct-mapped table says in which entry a page is. Only a miss searches the set for the oldest.

use crate::array::{Array, Found};
use crate::line::word;
use crate::machine::{Machine, Replacement, Translations};
use crate::objects::ObjectId;
use crate::served::Tlb as From;

/// Pages whose entries are known without a search.
const KNOWN: usize = 256;

/// No page: beyond the last of a 64-bit address.
const NO_PAGE: u64 = u64::MAX;

#[derive(Debug, Clone, Copy)]
struct Known {
    page: u64,
    entry: usize,
}

/// The first level.
#[derive(Debug, Clone)]
struct First {
    pages: Box<[u64]>,
    /// When each entry was last used; 0 for never.
    used: Box<[u64]>,
    now: u64,
    known: Box<[Known; KNOWN]>,
    ways: usize,
    set_mask: u64,
}

impl First {
    fn new(shape: &Translations) -> Self {
        let entries = shape.entries as usize;
        Self {
            pages: vec![NO_PAGE; entries].into(),
            used: vec![0; entries].into(),
            now: 0,
            known: Box::new([Known { page: NO_PAGE, entry: 0 }; KNOWN]),
            ways: shape.ways as usize,
            set_mask: u64::from(shape.entries / shape.ways) - 1,
        }
    }

    /// Uses a page if it is known to be there.
    #[inline(always)]
    fn access_known(&mut self, page: u64) -> bool {
        let known = self.known[page as usize % KNOWN];
        if known.page != page {
            return false;
        }
        self.now += 1;
        self.used[known.entry] = self.now;
        true
    }

    /// Uses a page, which comes in if it was not there; true if it was.
    fn access(&mut self, page: u64) -> bool {
        let start = (page & self.set_mask) as usize * self.ways;
        let set = start..start + self.ways;
        let there = self.pages[set.clone()].iter().position(|other| *other == page);
        let way = there.or_else(|| {
            let used = &self.used[set];
            used.iter().enumerate().min_by_key(|(_, used)| **used).map(|(way, _)| way)
        });
        let entry = start + way.unwrap_or(0);
        let left = std::mem::replace(&mut self.pages[entry], page);
        let known = &mut self.known[left as usize % KNOWN];
        if known.page == left {
            known.page = NO_PAGE;
        }
        self.known[page as usize % KNOWN] = Known { page, entry };
        self.now += 1;
        self.used[entry] = self.now;
        there.is_some()
    }
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
        let second =
            |shape: &Translations| Array::new(u64::from(shape.entries / shape.ways), shape.ways, Replacement::Lru);
        Self {
            shift: machine.page.shift(),
            first: First::new(&machine.dtlb),
            second: machine.stlb.as_ref().map(second),
        }
    }

    /// Translates an address if its page is known to be in the first level.
    #[inline(always)]
    pub(crate) fn access_known(&mut self, address: u64) -> bool {
        self.first.access_known(address >> self.shift)
    }

    /// Translates an address.
    pub(crate) fn access(&mut self, address: u64) -> From {
        let page = address >> self.shift;
        if self.first.access_known(page) || self.first.access(page) {
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
        /// Against the obvious model: a vector for each set, in order of use. Pages are such that several share a place in the
        /// table of known ones.
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
                let page = low + high * KNOWN as u64;
                let set = &mut model[(page % u64::from(sets)) as usize];
                let there = set.iter().position(|other| *other == page);
                if let Some(place) = there {
                    set.remove(place);
                }
                set.insert(0, page);
                set.truncate(ways as usize);
                prop_assert_eq!(first.access_known(page) || first.access(page), there.is_some());
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
        let pages = [1, 1, 2, 2, 1, 3, 1, 2, u64::MAX >> 12];
        let walks: Vec<_> = pages.into_iter().filter(|page| tlb.access(page << 12) == From::Walk).collect();
        assert_eq!(walks, [1, 2, 3, 2, u64::MAX >> 12]);
    }

    #[test]
    fn huge_pages_reach_farther() {
        let mut tlb = tlb(4, 4, 0, PageSize::Huge);
        let walks = (0..1024).filter(|page| tlb.access(page << 12) == From::Walk).count();
        assert_eq!(walks, 2);
    }
}
