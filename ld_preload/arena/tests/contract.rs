//! What `malloc` and its kin promise, and what the arena promises beside.

mod support;

use std::ptr::NonNull;
use std::sync::atomic::Ordering;
use support::{mapped, plain};
use tierscope_arena::{Arena, CreateError, PAGE, Pages, SEGMENT, Settings};

fn fill(block: NonNull<u8>, value: u8, bytes: usize) {
    // SAFETY: the tests fill what they were promised.
    unsafe { block.write_bytes(value, bytes) };
}

fn holds(block: NonNull<u8>, value: u8, bytes: usize) -> bool {
    // SAFETY: filled before.
    unsafe { std::slice::from_raw_parts(block.as_ptr(), bytes) }.iter().all(|byte| *byte == value)
}

const SIZES: [usize; 14] =
    [0, 1, 24, 25, 100, 4000, 65_536, 131_071, 131_072, 140_000, 1 << 20, 2_097_151, 2 << 20, 9_000_001];

#[test]
fn blocks_are_aligned_writable_to_their_usable_size_and_counted() {
    mapped(256, Settings::new(2), |arena, pages| {
        let mut live = Vec::new();
        for (number, bytes) in SIZES.into_iter().cycle().take(3 * SIZES.len()).enumerate() {
            for alignment in [1_usize, 16, 64, 4096, 8192, 1 << 20, 8 << 20] {
                let block = arena.allocate(number % 2, bytes, alignment, false, number).unwrap();
                assert!(block.addr().get().is_multiple_of(alignment.max(16)));
                // SAFETY: live.
                let usable = unsafe { arena.usable_size(block) }.unwrap();
                assert!(usable >= bytes.max(1));
                assert_eq!(arena.tier_of(block.addr().get() + usable - 1), Some(number % 2));
                fill(block, live.len() as u8, usable);
                live.push((block, usable, live.len() as u8));
            }
            if number >= SIZES.len() {
                // Make holes, so that later blocks take used memory.
                for _ in 0..5 {
                    let (block, usable, value) = live.swap_remove(number * 7 % live.len());
                    assert!(holds(block, value, usable));
                    // SAFETY: live until now.
                    assert!(unsafe { arena.free(block) });
                }
            }
            for tier in 0..2 {
                assert_eq!(arena.usage(tier).unwrap().committed, pages.committed(tier));
            }
        }
        for (block, usable, value) in live {
            assert!(holds(block, value, usable));
            // SAFETY: live until now.
            assert!(unsafe { arena.free(block) });
        }
        for tier in 0..2 {
            arena.trim(tier);
            let usage = arena.usage(tier).unwrap();
            assert_eq!((usage.committed, usage.retained, pages.committed(tier)), (0, 0, 0));
        }
        assert_eq!(arena.segments_taken(), 0);
    });
}

#[test]
fn huge_alignments_are_kept_and_impossible_ones_refused() {
    mapped(600, Settings::new(1), |arena, _| {
        let block = arena.allocate(0, 100, 1 << 30, false, 0).unwrap();
        assert!(block.addr().get().is_multiple_of(1 << 30));
        // SAFETY: live.
        unsafe {
            assert_eq!(arena.usable_size(block), Some(PAGE));
            assert!(arena.free(block));
        }
        for alignment in [0, 3, 24, 1 << 50, 1 << 63] {
            assert_eq!(arena.allocate(0, 100, alignment, false, 0), None);
        }
        for bytes in [usize::MAX, usize::MAX - 4095, usize::MAX / 2, 600 * SEGMENT + 1] {
            assert_eq!(arena.allocate(0, bytes, 16, false, 0), None);
        }
        assert_eq!(arena.allocate(1, 1, 16, false, 0), None, "no such tier");
    });
}

#[test]
fn blocks_from_two_mebibytes_on_lie_where_huge_pages_do() {
    plain(16, Settings::new(1), |arena, pages| {
        for bytes in [2 << 20, (2 << 20) + 1, 5 << 20] {
            let block = arena.allocate(0, bytes, 16, false, 0).unwrap();
            assert!(block.addr().get().is_multiple_of(2 << 20));
        }
        assert_eq!(pages.committed(0), (2 << 20) + (2 << 20) + PAGE + (5 << 20), "no more is committed than asked for");
    });
}

#[test]
fn medium_blocks_share_segments() {
    plain(8, Settings::new(1), |arena, _| {
        let blocks: Vec<_> = (0..62).map(|_| arena.allocate(0, 132 << 10, 16, false, 0).unwrap()).collect();
        assert_eq!(arena.segments_taken(), 2);
        for block in blocks {
            // SAFETY: live until now.
            assert!(unsafe { arena.free(block) });
        }
    });
}

#[test]
fn zeroed_blocks_are_zero_whatever_was_there() {
    plain(16, Settings::new(1), |arena, _| {
        for _ in 0..2 {
            let blocks: Vec<_> = SIZES
                .iter()
                .map(|bytes| {
                    let block = arena.allocate(0, *bytes, 16, true, 0).unwrap();
                    assert!(holds(block, 0, *bytes));
                    // SAFETY: live.
                    fill(block, 0xee, unsafe { arena.usable_size(block) }.unwrap());
                    block
                })
                .collect();
            for block in blocks {
                // SAFETY: live until now.
                assert!(unsafe { arena.free(block) });
            }
        }
    });
}

#[test]
fn the_limit_is_kept_to_the_page_and_nothing_is_lost_at_it() {
    plain(32, Settings::new(2), |arena, pages| {
        let limit = (9 << 20) + PAGE;
        arena.set_limit(0, Some(limit));
        for bytes in [100_usize, 5000, 140_000, 1 << 20, 3 << 20] {
            let mut live = Vec::new();
            while let Some(block) = arena.allocate(0, bytes, 16, false, live.len()) {
                live.push(block);
                assert!(pages.committed(0) <= limit);
            }
            assert!(live.len() * (bytes + 16) > limit * 6 / 10, "{} of {bytes}", live.len());
            assert_eq!(arena.usage(0).unwrap().committed, pages.committed(0));
            assert!(arena.allocate(1, bytes, 16, false, 0).is_some(), "the other tier has no limit");
            for block in live {
                // SAFETY: live until now.
                assert!(unsafe { arena.free(block) });
            }
        }
        let block = arena.allocate(0, limit, 16, false, 0);
        assert!(block.is_some(), "what blocks left behind makes room for the next");
        assert_eq!((pages.committed(0), arena.allocate(0, 1, 16, false, 0)), (limit, None));
    });
}

#[test]
fn a_refused_commit_loses_nothing() {
    plain(16, Settings::new(1), |arena, pages| {
        for bytes in SIZES {
            pages.refuse.store(true, Ordering::Relaxed);
            assert_eq!(arena.allocate(0, bytes, 16, false, 0), None);
            assert_eq!((arena.usage(0).unwrap().committed, arena.segments_taken()), (0, 0));
            pages.refuse.store(false, Ordering::Relaxed);
            let block = arena.allocate(0, bytes, 16, false, 0).unwrap();
            pages.refuse.store(true, Ordering::Relaxed);
            // SAFETY: live.
            unsafe {
                assert!(!arena.reallocate_in_place(block, 12 << 20));
                assert_eq!(arena.reallocate(block, 12 << 20, 0), None);
                assert!(arena.usable_size(block).unwrap() >= bytes);
                assert!(arena.free(block));
            }
            arena.trim(0);
        }
    });
}

#[test]
fn what_is_no_block_is_not_freed() {
    plain(16, Settings::new(1), |arena, _| {
        let free = |address: usize| {
            let pointer = NonNull::new(std::ptr::without_provenance_mut(address)).unwrap();
            // SAFETY: pointers the arena must recognise as none of its blocks.
            unsafe { (arena.free(pointer), arena.usable_size(pointer), arena.reallocate(pointer, 50, 0)) }
        };
        let nothing = (false, None, None);
        for bytes in [140_000, 5 << 20] {
            let block = arena.allocate(0, bytes, 16, false, 0).unwrap().addr().get();
            for inside in [16, PAGE, PAGE + 16, bytes - 1] {
                assert_eq!(free(block + inside), nothing, "{inside} into {bytes}");
            }
            assert!(free(block).0);
            assert_eq!(free(block), nothing, "freed twice: {bytes}");
        }
        let small = arena.allocate(0, 100, 16, false, 0).unwrap().addr().get();
        let _next = arena.allocate(0, 100, 16, false, 0).unwrap();
        assert_eq!((free(small + 8), free(small + 1), free(small + (1 << 20))), (nothing, nothing, nothing));
        assert!(free(small).0);
        assert_eq!(free(small), nothing, "a small block freed twice, its neighbour in use");
        assert_eq!((free(16), free(usize::MAX - 15)), (nothing, nothing), "outside the region");
    });
}

#[test]
fn a_block_grows_and_shrinks_where_it_is() {
    plain(32, Settings::new(1), |arena, pages| {
        // SAFETY: one block, used within what it was last said to hold.
        unsafe {
            for (first, steps) in [
                (200_000_usize, [140_000_usize, 300_000, 1_500_000, 200_000]),
                (3 << 20, [9 << 20, 2 << 20, 20 << 20, 3 << 20]),
            ] {
                let block = arena.allocate(0, first, 16, false, 0).unwrap();
                fill(block, 7, 140_000);
                for bytes in steps {
                    assert!(arena.reallocate_in_place(block, bytes));
                    let usable = arena.usable_size(block).unwrap();
                    assert!(usable >= bytes && usable <= bytes + bytes / 7 + PAGE);
                    assert_eq!(arena.usage(0).unwrap().committed, pages.committed(0));
                    assert!(holds(block, 7, 140_000));
                    fill(block, 7, usable);
                }
                let behind = arena.allocate(0, first, 16, false, 0).unwrap();
                assert!(!arena.reallocate_in_place(block, 80 << 20));
                assert!(arena.free(behind) && arena.free(block));
            }
        }
    });
}

#[test]
fn contents_move_with_a_block_that_must() {
    plain(32, Settings::new(2), |arena, _| {
        // SAFETY: one block, used within what it was last said to hold.
        unsafe {
            let mut block = arena.allocate(1, 10, 16, false, 0).unwrap();
            fill(block, 1, 10);
            let mut held = 10;
            for bytes in [1000, 100_000, 200_000, 3 << 20, 10 << 20, 50_000, 5, 150_000, 0] {
                block = arena.reallocate(block, bytes, 3).unwrap();
                assert!(holds(block, 1, held.min(bytes)), "{held} to {bytes}");
                assert_eq!(arena.tier_of(block.addr().get()), Some(1));
                held = bytes;
                fill(block, 1, held);
            }
            assert!(arena.free(block));
        }
        arena.trim(1);
        assert_eq!((arena.usage(1).unwrap().committed, arena.segments_taken()), (0, 0));
    });
}

#[test]
fn a_loop_of_malloc_and_free_makes_no_system_calls() {
    plain(64, Settings::new(1), |arena, pages| {
        for bytes in SIZES {
            let mut after_first = 0;
            for round in 0..20 {
                let blocks: Vec<_> = (0..3).map(|_| arena.allocate(0, bytes, 16, false, 0).unwrap()).collect();
                for block in blocks {
                    // SAFETY: live until now.
                    assert!(unsafe { arena.free(block) });
                }
                if round == 0 {
                    after_first = pages.calls();
                }
            }
            assert_eq!(pages.calls(), after_first, "{bytes} bytes");
        }
    });
}

#[test]
fn no_more_is_retained_than_the_settings_say() {
    let settings = Settings { retained_bytes: 3 << 20, ..Settings::new(1) };
    plain(64, settings, |arena, _| {
        for bytes in [100_000_usize, 500_000, 2 << 20, 5 << 20] {
            let blocks: Vec<_> = (0..20).map(|_| arena.allocate(0, bytes, 16, false, 0).unwrap()).collect();
            for block in blocks {
                // SAFETY: live until now.
                assert!(unsafe { arena.free(block) });
                assert!(arena.usage(0).unwrap().retained <= 6 << 20);
            }
        }
    });
}

#[test]
fn descriptions_of_pages_may_run_out() {
    // One segment in 32, at least 4096: more segments than that, each begun by a medium block.
    mapped(4200, Settings::new(1), |arena, pages| {
        let blocks: Vec<_> = (0..4150).map(|_| arena.allocate(0, 1_900_000, 1 << 21, false, 0).unwrap()).collect();
        let pages_each = 1_900_000_usize.div_ceil(PAGE);
        assert_eq!(pages.committed(0), 4150 * pages_each * PAGE);
        for block in blocks {
            // SAFETY: live until now.
            assert!(unsafe { arena.usable_size(block) == Some(pages_each * PAGE) && arena.free(block) });
        }
        arena.trim(0);
        assert_eq!((pages.committed(0), arena.segments_taken()), (0, 0));
    });
}

struct Never;

impl Pages for Never {
    fn commit(&self, _: usize, _: usize, _: usize) -> bool {
        false
    }
    fn decommit(&self, _: usize, _: usize, _: usize) {}
    fn relax(&self, _: u32) {}
}

#[test]
fn a_terabyte_needs_a_few_mebibytes_of_metadata() {
    let bytes = |region: usize| Arena::<Never>::metadata_bytes(region, &Settings::new(4)).unwrap();
    assert!(bytes(1 << 40) < 9 << 20, "{}", bytes(1 << 40));
    assert!(bytes(64 << 30) < 3 << 20, "{}", bytes(64 << 30));
}

#[test]
fn what_makes_no_sense_is_refused() {
    let good = Settings::new(1);
    for bad in [
        Settings { tiers: 0, ..good },
        Settings { shards: 0, ..good },
        Settings { tiers: 4097, ..good },
        Settings { shards: 4097, ..good },
        Settings { large_bytes: 100, ..good },
        Settings { large_bytes: 2 << 20, ..good },
    ] {
        assert_eq!(Arena::<Never>::metadata_bytes(1 << 30, &bad), Err(CreateError::Settings));
    }
    assert_eq!(Arena::<Never>::metadata_bytes(SEGMENT - 1, &good), Err(CreateError::Region));
    let bytes = Arena::<Never>::metadata_bytes(SEGMENT, &good).unwrap();
    let create = |region: usize, metadata: usize, bytes: usize| {
        let at = |address| NonNull::new(std::ptr::without_provenance_mut(address)).unwrap();
        // SAFETY: refused before anything is touched.
        unsafe { Arena::create(at(region), SEGMENT, at(metadata), bytes, good, Never) }.err()
    };
    assert_eq!(create(SEGMENT + PAGE, PAGE, bytes), Some(CreateError::Region));
    assert_eq!(create(SEGMENT, 64, bytes), Some(CreateError::Metadata));
    assert_eq!(create(SEGMENT, PAGE, bytes - 1), Some(CreateError::Metadata));
    assert!(CreateError::Metadata.to_string().contains("too small"));
}
