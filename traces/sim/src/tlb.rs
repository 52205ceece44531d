//! The data TLBs of a core, and which object lies in the pages it used lately.
//!
//! Two levels of translations, both LRU, the second asked when the first has none and filled along with it. A miss in both is a page
//! walk, which costs a constant ([`Machine::walk_cycles`]): the upper levels of a walk hit the processor's page-walk caches nearly
//! always (Barr, Cox, Rixner, "Translation caching: skip, don't walk (the page table)", ISCA 2010), and what is left is one
//! read of a page-table entry, whose way through the data caches is not modelled. Page tables take no room in the caches here.
//!
//! Every access is translated, so a table of pages that the first level holds comes before it. It holds nothing of its own: an
//! entry leaves it when its page leaves the first level.

use crate::array::{Array, Found};
use crate::line::word;
use crate::machine::{Machine, Replacement, Translations};
use crate::objects::{ObjectId, SPACE};
use crate::recency::{NO_PAGE, Recency};
use crate::served::Tlb as From;

/// Pages found at once.
const NEAR: usize = 512;

/// Places that share a bit of [`Tlb::places`].
const TOGETHER: usize = NEAR / u64::BITS as usize;

/// Binary logarithm of the bytes of a page of 4 KiB, as which all pages are found, be it as part of a larger one.
const SMALL_PAGE_SHIFT: u32 = 12;

/// Where the page begins in a word of the table; below is its entry of the first level.
const ENTRY_BITS: u32 = 24;

/// Nothing in a place: no page has so high a number.
const NOTHING: u64 = u64::MAX;

/// Both levels.
#[derive(Debug, Clone)]
pub(crate) struct Tlb {
    near: [u64; NEAR],
    /// By entry of the first level: in which places of `near` parts of its page may be.
    places: Box<[u64]>,
    /// What is added to the shift of small pages.
    shift: u32,
    first: Recency,
    second: Option<Array>,
}

fn sets(shape: &Translations) -> u32 {
    shape.entries / shape.ways
}

/// The place of a small page among those found at once.
fn place(small: u64) -> usize {
    (small ^ small >> 9) as usize % NEAR
}

fn small_page(address: u64) -> u64 {
    (address & (SPACE - 1)) >> SMALL_PAGE_SHIFT
}

impl Tlb {
    /// Of a machine that has a first level.
    pub(crate) fn new(machine: &Machine) -> Option<Self> {
        let shape = machine.dtlb.as_ref()?;
        let first = Recency::new(sets(shape) as usize, shape.ways as usize);
        let second = |shape: &Translations| Array::new(u64::from(sets(shape)), shape.ways, Replacement::Lru);
        Some(Self {
            near: [NOTHING; NEAR],
            shift: machine.page.shift() - SMALL_PAGE_SHIFT,
            places: vec![0; first.entries()].into(),
            first,
            second: machine.stlb.as_ref().map(second),
        })
    }

    /// Translates an address if its page was used lately.
    #[inline(always)]
    pub(crate) fn access_near(&mut self, address: u64) -> bool {
        let small = small_page(address);
        let near = self.near[place(small)];
        if near >> ENTRY_BITS != small {
            return false;
        }
        self.first.touch(near as u32 & ((1 << ENTRY_BITS) - 1));
        true
    }

    /// Translates an address if the first level has its page.
    pub(crate) fn access_first(&mut self, address: u64) -> bool {
        let small = small_page(address);
        let Some(entry) = self.first.find(small >> self.shift) else { return false };
        self.first.touch(entry);
        self.remember(small, entry);
        true
    }

    fn remember(&mut self, small: u64, entry: u32) {
        let place = place(small);
        self.near[place] = small << ENTRY_BITS | u64::from(entry);
        self.places[entry as usize] |= 1 << (place / TOGETHER);
    }

    /// Translates an address.
    pub(crate) fn access(&mut self, address: u64) -> From {
        if self.access_near(address) || self.access_first(address) {
            return From::L1;
        }
        let small = small_page(address);
        let page = small >> self.shift;
        let (entry, gone) = self.first.bring(page);
        if gone != NO_PAGE {
            self.forget(entry, gone);
        }
        self.remember(small, entry);
        let new = word(page, ObjectId::NONE);
        let found = self.second.as_mut().map(|second| second.access(page, new));
        if matches!(found, Some(Found::Hit(_))) { From::L2 } else { From::Walk }
    }

    /// A page left an entry of the first level.
    fn forget(&mut self, entry: u32, page: u64) {
        let mut places = std::mem::take(&mut self.places[entry as usize]);
        while places != 0 {
            let start = places.trailing_zeros() as usize * TOGETHER;
            for near in &mut self.near[start..start + TOGETHER] {
                if *near >> ENTRY_BITS >> self.shift == page {
                    *near = NOTHING;
                }
            }
            places &= places - 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::PageSize;
    use proptest::prelude::*;

    fn tlb(entries: u32, ways: u32, second: u32, page: PageSize) -> Tlb {
        let stlb = (second > 0).then_some(Translations { entries: second, ways: second, latency_cycles: 7 });
        let dtlb = Some(Translations { entries, ways, latency_cycles: 0 });
        Tlb::new(&Machine { dtlb, stlb, page, ..Machine::default() }).unwrap()
    }

    proptest! {
        /// Against the obvious model: a vector for each set, in order of use. Some pages share a place.
        #[test]
        fn the_first_level_gives_up_the_least_recently_used(
            pages in proptest::collection::vec((0_u64..20, 0_u64..3), 0..400),
            sets_shift in 0_u32..3,
            ways in 1_u32..24,
            huge: bool,
        ) {
            let sets = 1_u32 << sets_shift;
            let size = if huge { PageSize::Huge } else { PageSize::Small };
            let mut tlb = tlb(sets * ways, ways, 0, size);
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
                // Somewhere in the page: a huge one has many small ones.
                let address = (page << size.shift()) + high * 0x3010 % (1 << size.shift());
                let near = tlb.access_near(address);
                prop_assert!(!near || there.is_some());
                prop_assert_eq!(tlb.access(address) == From::L1, there.is_some());
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
