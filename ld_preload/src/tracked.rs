//! The set of recorded blocks that are alive: every `free` asks it, and must get an exact answer fast.
//!
//! A filter of one-byte counters stands in front. Neighbouring addresses share a cache line of it, so that a loop over
//! few blocks touches few lines. A zero counter proves that no recorded block hashes there, which is the answer for
//! nearly every call. A counter that reached its top stays there: it then only sends more calls to the table.
//!
//! The table has buckets of one cache line: seven addresses and a count of those that found no room. Insertion and
//! removal are one compare-and-swap on one word each; there are no tombstones and no moves, so no reader can miss an
//! address that is there. Two threads never insert or remove the same address at once, because a block has one owner
//! from the allocator's return until it is freed (a program that frees twice has worse trouble).
//!
//! A bucket that overflowed answers "recorded" to every address it does not hold. That errs on the harmless side: the
//! agent sees a `Free` of a block it was never told of, and no recorded block's death is ever missed.

use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

const FILTER_BYTES: usize = if cfg!(miri) { 1 << 8 } else { 1 << 16 };
const BUCKETS: usize = if cfg!(miri) { 1 << 5 } else { 1 << 15 };
const SLOTS: usize = 7;

#[derive(Debug)]
#[repr(C, align(64))]
struct Bucket {
    slots: [AtomicU64; SLOTS],
    overflowed: AtomicU64,
}

/// The set. All zeros is an empty one.
#[derive(Debug)]
pub(crate) struct Tracked {
    filter: [AtomicU8; FILTER_BYTES],
    buckets: [Bucket; BUCKETS],
}

/// Blocks are 16-byte aligned: four bits say nothing.
#[inline(always)]
fn filter_index(address: u64) -> usize {
    ((address >> 4) ^ (address >> 20)) as usize & (FILTER_BYTES - 1)
}

fn bucket_index(address: u64) -> usize {
    ((address >> 4).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 49) as usize & (BUCKETS - 1)
}

impl Tracked {
    /// An empty set.
    pub(crate) const fn new() -> Self {
        Tracked {
            filter: [const { AtomicU8::new(0) }; FILTER_BYTES],
            buckets: [const { Bucket { slots: [const { AtomicU64::new(0) }; SLOTS], overflowed: AtomicU64::new(0) } };
                BUCKETS],
        }
    }

    /// False only when `address` is certainly not in the set.
    #[inline(always)]
    pub(crate) fn may_contain(&self, address: u64) -> bool {
        // Masked to the array's length: no bounds check remains.
        self.filter[filter_index(address)].load(Ordering::Relaxed) != 0
    }

    /// Adds a block that was just handed out.
    pub(crate) fn insert(&self, address: u64) {
        // The filter first: whoever learns of the block after this call must not be told it is absent.
        let counter = &self.filter[filter_index(address)];
        let _ = counter.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |count| count.checked_add(1));
        let bucket = &self.buckets[bucket_index(address)];
        for slot in &bucket.slots {
            if slot.compare_exchange(0, address, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                return;
            }
        }
        bucket.overflowed.fetch_add(1, Ordering::AcqRel);
    }

    /// Takes a block out; whether its death has to be told.
    pub(crate) fn remove(&self, address: u64) -> bool {
        let bucket = &self.buckets[bucket_index(address)];
        for slot in &bucket.slots {
            if slot.compare_exchange(address, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                let counter = &self.filter[filter_index(address)];
                let _ = counter.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |count| match count {
                    0 | u8::MAX => None,
                    _ => Some(count - 1),
                });
                return true;
            }
        }
        bucket.overflowed.load(Ordering::Acquire) != 0
    }

    /// Forgets everything. (In a forked child that is not to be recorded.)
    pub(crate) fn clear(&self) {
        for counter in &self.filter {
            counter.store(0, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    static SHARED: Tracked = Tracked::new();

    fn boxed() -> Box<Tracked> {
        let layout = std::alloc::Layout::new::<Tracked>();
        // SAFETY: zeros are a valid set, and the layout is that of the type.
        unsafe { Box::from_raw(std::alloc::alloc_zeroed(layout).cast()) }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 1 } else { 64 }))]

        #[test]
        fn it_answers_as_a_set_does(steps in proptest::collection::vec((1_u64..400, any::<bool>()), 1..600)) {
            let set = boxed();
            let mut model = HashSet::new();
            for (number, add) in steps {
                let address = 0x7f00_0000_0010 + number * 0x1_0010;
                if add && model.insert(address) {
                    set.insert(address);
                } else if !add {
                    let present = model.remove(&address);
                    prop_assert!(!present || set.may_contain(address));
                    prop_assert_eq!(set.may_contain(address) && set.remove(address), present);
                }
            }
            for address in model {
                prop_assert!(set.may_contain(address) && set.remove(address));
            }
        }
    }

    #[test]
    fn an_overflowing_bucket_misses_no_death() {
        let set = boxed();
        let same: Vec<u64> = (1_u64..)
            .map(|n| n * 16)
            .filter(|a| bucket_index(*a) == 5)
            .take(if cfg!(miri) { 12 } else { 100 })
            .collect();
        same.iter().for_each(|address| set.insert(*address));
        assert!(same.iter().all(|address| set.may_contain(*address) && set.remove(*address)));
    }

    #[test]
    fn threads_do_not_disturb_each_other() {
        let rounds = if cfg!(miri) { 20 } else { 20_000_u64 };
        std::thread::scope(|scope| {
            for thread in 1..=4_u64 {
                scope.spawn(move || {
                    for round in 0..rounds {
                        let address = (thread << 40) + (round % 64) * 0x40;
                        SHARED.insert(address);
                        assert!(SHARED.may_contain(address));
                        assert!(SHARED.remove(address));
                    }
                });
            }
        });
    }
}
