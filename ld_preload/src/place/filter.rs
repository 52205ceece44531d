//! Which return addresses a rule's stack may begin with: one bit says that none does.
//!
//! A bit stands for all granules of sixteen bytes of code that hash to it, so that a range of addresses (a function found
//! by name) is a few bits like a single one. Bits are only ever set: a module that went away leaves some behind, and they
//! cost a look at the stack.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

const WORDS: usize = 512;
const GRANULE: u64 = 16;
/// A frame that may be anywhere in more code than this sets all bits.
const MOST_BYTES: u64 = 1 << 20;

/// The filter of this process.
pub(super) static FILTER: Filter = Filter::new();

/// See the module's page.
#[derive(Debug)]
pub(super) struct Filter {
    words: [AtomicU64; WORDS],
}

fn place(address: u64) -> (usize, u64) {
    let hash = (address / GRANULE).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 49;
    ((hash >> 6) as usize, 1 << (hash & 63))
}

impl Filter {
    const fn new() -> Self {
        Filter { words: [const { AtomicU64::new(0) }; WORDS] }
    }

    /// Whether a range that was admitted may hold `address`.
    #[inline(always)]
    pub(super) fn may_hold(&self, address: u64) -> bool {
        let (word, bit) = place(address);
        self.words.get(word).is_none_or(|word| word.load(Relaxed) & bit != 0)
    }

    /// Admits ranges of addresses, `(first, one past the last)`.
    pub(super) fn admit(&self, ranges: impl Iterator<Item = (u64, u64)> + Clone) {
        if ranges.clone().map(|(low, high)| high.saturating_sub(low)).fold(0, u64::saturating_add) > MOST_BYTES {
            self.words.iter().for_each(|word| word.store(u64::MAX, Relaxed));
            return;
        }
        for (low, high) in ranges {
            let granules = low / GRANULE..high.div_ceil(GRANULE);
            for (word, bit) in granules.map(|granule| place(granule * GRANULE)) {
                if let Some(word) = self.words.get(word) {
                    word.fetch_or(bit, Relaxed);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_admitted_is_held(ranges in proptest::collection::vec((0_u64..1 << 47, 1_u64..5000), 1..20), at in 0.0..1.0) {
            let filter = Filter::new();
            filter.admit(ranges.iter().map(|(low, bytes)| (*low, low + bytes)));
            for (low, bytes) in ranges {
                let inside = low + ((bytes - 1) as f64 * at) as u64;
                prop_assert!(filter.may_hold(low) && filter.may_hold(low + bytes - 1) && filter.may_hold(inside));
            }
        }
    }

    #[test]
    fn little_else_is() {
        let filter = Filter::new();
        filter.admit((0..100).map(|at| (0x40_0000 + at * 0x1237, 0x40_0001 + at * 0x1237)));
        let tried = if cfg!(miri) { 1000 } else { 100_000 };
        let others = (0..tried).filter(|at| filter.may_hold(0x7f00_0000_0000 + at * 0x61)).count() as u64;
        assert!(others < tried / 100, "{others} of {tried} let through by 100 addresses");
        assert!(!Filter::new().may_hold(0));
    }

    #[test]
    fn a_whole_library_lets_all_through() {
        let filter = Filter::new();
        filter.admit([(0, 2 << 20)].into_iter());
        assert!(filter.may_hold(1 << 40));
    }
}
