//! Many threads at once, and processes that fork while they are at it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![cfg(not(miri))]

mod support;

use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use support::mapped;
use tierscope_arena::{Arena, Pages, Settings};

/// Numbers that look random (xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % bound
    }

    fn bytes(&mut self) -> usize {
        match self.below(40) {
            0 => 1 + self.below(6 << 20),
            1..4 => 1 + self.below(1 << 20),
            4..10 => 1 + self.below(100_000),
            _ => 1 + self.below(1000),
        }
    }
}

struct Block {
    at: NonNull<u8>,
    bytes: usize,
    mark: u8,
}

// SAFETY: a block belongs to who holds it.
unsafe impl Send for Block {}

impl Block {
    fn new(at: NonNull<u8>, bytes: usize, mark: u8) -> Self {
        let block = Block { at, bytes, mark };
        // SAFETY: live.
        block.edges().into_iter().for_each(|edge| unsafe { at.add(edge).write(mark) });
        block
    }

    /// A byte of each page, the last one, and all of the first.
    fn edges(&self) -> Vec<usize> {
        (0..self.bytes.min(64)).chain((0..self.bytes).step_by(4096)).chain([self.bytes - 1]).collect()
    }

    fn is_whole(&self) -> bool {
        // SAFETY: live.
        self.edges().into_iter().all(|edge| unsafe { self.at.add(edge).read() } == self.mark)
    }
}

/// Allocates, reallocates, frees, and frees what another thread allocated.
fn churn<P: Pages>(arena: &Arena<'_, P>, thread: usize, rounds: usize, next: &Sender<Block>, mine: &Receiver<Block>) {
    let mut dice = Dice(thread as u64 * 7919 + 1);
    let mut live: Vec<Block> = Vec::new();
    for round in 0..rounds {
        while let Ok(block) = mine.try_recv() {
            assert!(block.is_whole());
            // SAFETY: live until now.
            assert!(unsafe { arena.free(block.at) });
        }
        if live.len() > 60 || (!live.is_empty() && dice.below(3) == 0) {
            let block = live.swap_remove(dice.below(live.len()));
            assert!(block.is_whole());
            if dice.below(2) == 0 {
                next.send(block).ok();
            } else {
                // SAFETY: live until now.
                assert!(unsafe { arena.free(block.at) });
            }
        } else if !live.is_empty() && dice.below(4) == 0 {
            let index = dice.below(live.len());
            let (block, bytes) = (&live[index], dice.bytes());
            // SAFETY: live.
            if let Some(at) = unsafe { arena.reallocate(block.at, bytes, thread) } {
                let kept = Block { at, bytes: bytes.min(block.bytes), mark: block.mark };
                // SAFETY: live.
                assert!((0..kept.bytes.min(64)).all(|edge| unsafe { at.add(edge).read() } == kept.mark));
                live[index] = Block::new(at, bytes, round as u8);
            }
        } else {
            let bytes = dice.bytes();
            if let Some(at) = arena.allocate(dice.below(2), bytes, 16 << dice.below(4), dice.below(2) == 0, thread) {
                live.push(Block::new(at, bytes, round as u8));
            }
        }
    }
    for block in live {
        assert!(block.is_whole());
        // SAFETY: live until now.
        assert!(unsafe { arena.free(block.at) });
    }
}

/// Runs `count` threads in a ring, each freeing what the one before hands over; returns when all blocks are freed.
fn churn_in_a_ring<P: Pages>(arena: &Arena<'_, P>, count: usize, rounds: usize) {
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..count).map(|_| channel()).unzip();
    std::thread::scope(|scope| {
        let mut ends = Vec::new();
        for (thread, receiver) in receivers.into_iter().enumerate() {
            let next = senders[(thread + 1) % count].clone();
            ends.push(scope.spawn(move || {
                churn(arena, thread, rounds, &next, &receiver);
                receiver
            }));
        }
        let receivers: Vec<_> = ends.into_iter().map(|end| end.join().unwrap()).collect();
        drop(senders);
        for block in receivers.iter().flat_map(|receiver| receiver.try_iter()) {
            assert!(block.is_whole());
            // SAFETY: live until now.
            assert!(unsafe { arena.free(block.at) });
        }
    });
}

#[test]
fn threads_share_an_arena_and_leave_nothing_behind() {
    for (shards, limit) in [(1, None), (4, None), (3, Some(24 << 20))] {
        let settings = Settings { shards, ..Settings::new(2) };
        mapped(512, settings, |arena, pages| {
            arena.set_limit(1, limit);
            churn_in_a_ring(arena, 6, 4000);
            assert!(limit.is_none_or(|limit| arena.usage(1).unwrap().peak <= limit));
            for tier in 0..2 {
                arena.trim(tier);
                assert_eq!((arena.usage(tier).unwrap().committed, pages.committed(tier)), (0, 0));
            }
            assert_eq!(arena.segments_taken(), 0);
        });
    }
}

#[test]
fn of_two_threads_that_free_a_huge_block_one_succeeds() {
    mapped(64, Settings::new(1), |arena, _| {
        for _ in 0..300 {
            let block = arena.allocate(0, 3 << 20, 16, false, 0).unwrap().addr();
            let successes: usize = std::thread::scope(|scope| {
                let free = || {
                    let block = NonNull::new(std::ptr::without_provenance_mut(block.get())).unwrap();
                    // SAFETY: one of the two frees it; the other is what is tested.
                    usize::from(unsafe { arena.free(block) })
                };
                let other = scope.spawn(free);
                free() + other.join().unwrap()
            });
            assert_eq!(successes, 1);
        }
    });
}

/// In the child of a fork only functions that are safe in signal handlers may be called, so it tells by its status.
fn child_works<P: Pages>(arena: &Arena<'_, P>) -> bool {
    let mut blocks = [None; 60];
    for (number, block) in blocks.iter_mut().enumerate() {
        let bytes = [100, 5000, 150_000, 3 << 20][number % 4];
        let Some(at) = arena.allocate(number % 2, bytes, 16, false, number) else { return false };
        // SAFETY: live.
        unsafe { at.write_bytes(1, bytes) };
        *block = Some(at);
    }
    // SAFETY: live until now.
    blocks.into_iter().flatten().all(|block| unsafe { arena.free(block) })
}

#[test]
fn the_child_of_a_busy_process_finds_the_arena_whole() {
    mapped(512, Settings { shards: 2, ..Settings::new(2) }, |arena, _| {
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for thread in 0..3 {
                let over = &over;
                scope.spawn(move || {
                    let (next, mine) = channel();
                    while !over.load(Ordering::Relaxed) {
                        churn(arena, thread, 200, &next, &mine);
                    }
                    // What it sent itself.
                    churn(arena, thread, 1, &next, &mine);
                });
            }
            let mut statuses = Vec::new();
            for _ in 0..40 {
                arena.prepare_fork();
                // SAFETY: the child calls the arena and ends; nothing of std that might wait for another thread.
                let child = unsafe { libc::fork() };
                if child == 0 {
                    // SAFETY: prepared above, in this thread.
                    unsafe {
                        arena.child_after_fork();
                        // A child that waits for ever is ended by a signal, and is seen by its status.
                        libc::alarm(60);
                        libc::_exit(i32::from(!child_works(arena)));
                    }
                }
                // SAFETY: prepared above, in this thread.
                unsafe { arena.parent_after_fork() };
                let mut status = -1;
                // SAFETY: our child.
                assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
                statuses.push(status);
            }
            over.store(true, Ordering::Relaxed);
            assert_eq!(statuses, [0; 40]);
        });
    });
}
