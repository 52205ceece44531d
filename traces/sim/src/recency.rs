//! Pages in order of use: the first level of a TLB, which every access uses.
//!
//! First-level TLBs often are fully associative with 48 to 96 entries, too many to search: pages are found by a hash. Which was used
//! longest ago only a miss asks (`times.rs`).

use crate::times::Times;

/// No page: beyond the last of a 64-bit address.
pub(crate) const NO_PAGE: u64 = u64::MAX;

/// No entry: the end of a bucket.
const NONE: u32 = u32::MAX;

/// Sets of entries, each given up least recently used first.
#[derive(Debug, Clone)]
pub(crate) struct Recency {
    /// By entry: what it holds.
    pages: Box<[u64]>,
    times: Times,
    /// By entry: the next in its bucket.
    next: Box<[u32]>,
    /// The first entry of each bucket.
    buckets: Box<[u32]>,
    set_mask: u64,
}

impl Recency {
    /// `sets` must be a power of two, `ways` at most a million.
    pub(crate) fn new(sets: usize, ways: usize) -> Self {
        let times = Times::new(sets, ways);
        let entries = times.entries();
        Self {
            pages: vec![NO_PAGE; entries].into(),
            times,
            next: vec![NONE; entries].into(),
            buckets: vec![NONE; (entries * 8).next_power_of_two()].into(),
            set_mask: sets as u64 - 1,
        }
    }

    /// How many there are, those that fill up what sets are apart included.
    pub(crate) fn entries(&self) -> usize {
        self.pages.len()
    }

    /// Pages are mostly consecutive: their lowest bits spread them best.
    fn bucket(&self, page: u64) -> usize {
        (page ^ page >> 20) as usize & (self.buckets.len() - 1)
    }

    /// The entry that holds a page.
    pub(crate) fn find(&self, page: u64) -> Option<u32> {
        let mut entry = self.buckets[self.bucket(page)];
        while entry != NONE && self.pages[entry as usize] != page {
            entry = self.next[entry as usize];
        }
        (entry != NONE).then_some(entry)
    }

    /// Uses an entry.
    #[inline(always)]
    pub(crate) fn touch(&mut self, entry: u32) {
        self.times.touch(entry as usize);
    }

    /// Brings a page in that is not there, and uses it. Its entry, and the page that left it ([`NO_PAGE`] for none).
    pub(crate) fn bring(&mut self, page: u64) -> (u32, u64) {
        let entry = self.times.oldest((page & self.set_mask) as usize) as u32;
        let gone = std::mem::replace(&mut self.pages[entry as usize], page);
        if gone != NO_PAGE {
            self.leave_bucket(entry, gone);
        }
        let bucket = self.bucket(page);
        self.next[entry as usize] = std::mem::replace(&mut self.buckets[bucket], entry);
        self.touch(entry);
        (entry, gone)
    }

    fn leave_bucket(&mut self, entry: u32, page: u64) {
        let after = self.next[entry as usize];
        let bucket = self.bucket(page);
        let mut before = self.buckets[bucket];
        if before == entry {
            self.buckets[bucket] = after;
            return;
        }
        while self.next[before as usize] != entry {
            before = self.next[before as usize];
        }
        self.next[before as usize] = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against the obvious model: a vector for each set, in order of use. Some pages share a bucket, and times end.
        #[test]
        fn the_least_recently_used_is_given_up(
            pages in proptest::collection::vec((0_u64..20, 0_u64..3), 0..400),
            sets_shift in 0_u32..3,
            ways in 1_usize..24,
            left in 0_i32..300,
        ) {
            let sets = 1_usize << sets_shift;
            let mut recency = Recency::new(sets, ways);
            recency.times.leave(left);
            let mut model = vec![Vec::new(); sets];
            for (low, high) in pages {
                let page = low + (high << 20);
                let set = &mut model[page as usize % sets];
                let there = set.iter().position(|other| *other == page);
                match recency.find(page) {
                    Some(entry) => {
                        recency.touch(entry);
                        prop_assert_eq!(there.map(|place| set.remove(place)), Some(page));
                    }
                    None => {
                        prop_assert_eq!(there, None);
                        let oldest = if set.len() == ways { set.pop() } else { None };
                        prop_assert_eq!(recency.bring(page).1, oldest.unwrap_or(NO_PAGE));
                    }
                }
                set.insert(0, page);
            }
        }
    }
}
