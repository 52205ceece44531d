//! Any sequence of calls, against a list of the blocks that should be there.

#![allow(clippy::unwrap_used, reason = "a property fails by panicking")]

mod support;

use proptest::prelude::*;
use std::ptr::NonNull;
use std::sync::atomic::Ordering;
use support::{Backing, Checked, Shared, plain};
use tierscope_arena::{Arena, PAGE, Settings};

const TIERS: usize = 2;

#[derive(Debug, Clone)]
enum Step {
    Allocate { tier: usize, bytes: usize, alignment: usize, zeroed: bool, shard: usize },
    Free { pick: usize },
    Resize { pick: usize, bytes: usize, in_place: bool },
    Misuse { pick: usize, offset: usize },
    Limit { tier: usize, bytes: Option<usize> },
    Refuse(bool),
    Trim { tier: usize },
    Fork,
}

fn sizes() -> impl Strategy<Value = usize> {
    prop_oneof![
        6 => 0_usize..600,
        3 => 600_usize..20_000,
        2 => 20_000_usize..140_000,
        2 => 140_000_usize..(2 << 20),
        1 => (2_usize << 20)..(11 << 20),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..TIERS, sizes(), prop_oneof![4 => 0_u32..5, 1 => 5_u32..24], any::<bool>(), 0_usize..9).prop_map(
            |(tier, bytes, alignment, zeroed, shard)| {
                // Large alignments cost addresses: only with few bytes.
                let alignment = if bytes > 20_000 { alignment.min(16) } else { alignment };
                Step::Allocate { tier, bytes, alignment: 1 << alignment, zeroed, shard }
            }
        ),
        8 => any::<usize>().prop_map(|pick| Step::Free { pick }),
        6 => (any::<usize>(), sizes(), any::<bool>())
            .prop_map(|(pick, bytes, in_place)| Step::Resize { pick, bytes, in_place }),
        2 => (any::<usize>(), 1_usize..(3 << 20)).prop_map(|(pick, offset)| Step::Misuse { pick, offset }),
        1 => (0..TIERS, proptest::option::of(0_usize..(40 << 20))).prop_map(|(tier, bytes)| Step::Limit { tier, bytes }),
        1 => prop_oneof![1 => Just(true), 3 => Just(false)].prop_map(Step::Refuse),
        1 => (0..TIERS).prop_map(|tier| Step::Trim { tier }),
        1 => Just(Step::Fork),
    ]
}

struct Block {
    at: NonNull<u8>,
    tier: usize,
    bytes: usize,
    usable: usize,
    mark: u8,
}

impl Block {
    /// Writes all that may be written, so that what overlaps would show.
    fn soil(&mut self, arena: &Arena<'_, impl tierscope_arena::Pages>, mark: u8) {
        // SAFETY: live.
        self.usable = unsafe { arena.usable_size(self.at) }.unwrap();
        assert!(self.usable >= self.bytes.max(1));
        self.mark = mark;
        // SAFETY: live and that long.
        unsafe { self.at.write_bytes(mark, self.usable) };
    }

    fn holds(&self, bytes: usize) -> bool {
        // SAFETY: soiled before.
        let held = unsafe { std::slice::from_raw_parts(self.at.as_ptr(), bytes) };
        // Miri takes a second for a megabyte: there the first bytes, the last, and some of each page must do.
        let step = if cfg!(miri) && bytes > 200 { 509 } else { 1 };
        held.iter().step_by(step).chain(held.last()).all(|byte| *byte == self.mark)
    }
}

fn run<B: Backing>(arena: &Arena<'_, Shared<'_, B>>, pages: &Checked<B>, steps: Vec<Step>) {
    let mut live: Vec<Block> = Vec::new();
    let mut limits = [usize::MAX; TIERS];
    for (number, step) in steps.into_iter().enumerate() {
        let mark = number as u8;
        let before = [pages.committed(0), pages.committed(1)];
        match step {
            Step::Allocate { tier, bytes, alignment, zeroed, shard } => {
                if let Some(at) = arena.allocate(tier, bytes, alignment, zeroed, shard) {
                    assert!(at.addr().get().is_multiple_of(alignment.max(16)));
                    let mut block = Block { at, tier, bytes, usable: bytes, mark: 0 };
                    assert!(!zeroed || block.holds(bytes));
                    block.soil(arena, mark);
                    live.push(block);
                }
            }
            Step::Free { pick } if !live.is_empty() => {
                let block = live.swap_remove(pick % live.len());
                assert!(block.holds(block.usable));
                // SAFETY: live until now.
                assert!(unsafe { arena.free(block.at) });
            }
            Step::Resize { pick, bytes, in_place } if !live.is_empty() => {
                let index = pick % live.len();
                let block = &mut live[index];
                let kept = block.usable.min(bytes);
                // SAFETY: live.
                let moved = unsafe {
                    if in_place {
                        arena.reallocate_in_place(block.at, bytes).then_some(block.at)
                    } else {
                        arena.reallocate(block.at, bytes, number)
                    }
                };
                match moved {
                    Some(at) => {
                        (block.at, block.bytes) = (at, bytes);
                        assert!(block.holds(kept));
                        block.soil(arena, mark);
                    }
                    None => assert!(block.holds(block.usable)),
                }
            }
            Step::Misuse { pick, offset } if !live.is_empty() => {
                let block = &live[pick % live.len()];
                // Inside of a small block lies what the program wrote: only large ones know all their starts.
                if block.usable.is_multiple_of(PAGE) && offset < block.usable {
                    // SAFETY: a pointer into a large block, which the arena must refuse.
                    unsafe {
                        let inside = block.at.add(offset);
                        assert!(!arena.free(inside) && arena.usable_size(inside).is_none());
                        assert!(!arena.reallocate_in_place(inside, 1) && arena.reallocate(inside, 1, 0).is_none());
                    }
                }
            }
            Step::Limit { tier, bytes } => {
                arena.set_limit(tier, bytes);
                limits[tier] = bytes.unwrap_or(usize::MAX);
            }
            Step::Refuse(refuse) => pages.refuse.store(refuse, Ordering::Relaxed),
            Step::Trim { tier } => arena.trim(tier),
            Step::Fork => {
                arena.prepare_fork();
                // SAFETY: prepared just now; alone, parent and child have the same to do.
                unsafe { if mark.is_multiple_of(2) { arena.parent_after_fork() } else { arena.child_after_fork() } }
            }
            Step::Free { .. } | Step::Resize { .. } | Step::Misuse { .. } => {}
        }
        for tier in 0..TIERS {
            let usage = arena.usage(tier).unwrap();
            assert_eq!(usage.committed, pages.committed(tier));
            assert!(usage.committed <= limits[tier].max(before[tier]));
            assert!(usage.retained <= usage.committed && usage.committed <= usage.peak);
            assert!(
                live.iter().filter(|block| block.tier == tier).map(|block| block.usable).sum::<usize>()
                    <= usage.committed
            );
        }
    }
    for block in live {
        assert!(block.holds(block.usable));
        assert_eq!(arena.tier_of(block.at.addr().get()), Some(block.tier));
        // SAFETY: live until now.
        assert!(unsafe { arena.free(block.at) });
    }
    for tier in 0..TIERS {
        arena.trim(tier);
        assert_eq!((pages.committed(tier), arena.usage(tier).unwrap().retained), (0, 0));
    }
    assert_eq!(arena.segments_taken(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 3 } else { 24 }, ..ProptestConfig::default() })]

    #[test]
    fn blocks_are_what_a_list_of_them_says(
        steps in proptest::collection::vec(step(), 1..if cfg!(miri) { 25 } else { 400 }),
        shards in 1_usize..4,
        retained_bytes in prop_oneof![Just(0_usize), Just(1 << 20), Just(32 << 20)],
        large_bytes in prop_oneof![2 => Just(128_usize << 10), 1 => Just(4 << 10), 1 => Just(1 << 20)],
    ) {
        let settings = Settings { tiers: TIERS, shards, retained_bytes, large_bytes };
        plain(if cfg!(miri) { 8 } else { 24 }, settings, |arena, pages| run(arena, pages, steps));
    }
}

#[cfg(not(miri))]
proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn blocks_are_where_memory_is(steps in proptest::collection::vec(step(), 1..300)) {
        support::mapped(64, Settings { shards: 2, ..Settings::new(TIERS) }, |arena, pages| run(arena, pages, steps));
    }
}
