//! `random`: reads and updates at addresses that are known long before, so that many misses are under way at once.
//!
//! The updates are those of HPC Challenge RandomAccess (exclusive or at a random place of a table); beside each there is
//! one read of another table as large, and one of a small table that stays in the cache. Tables are of 4, 128, 512 or
//! 2048 MiB by scale, two of them, and the small one of 256 KiB. An iteration makes 2^21 steps.
//!
//! Expected order: `lookups` = `updated`, then `resident`. The two large tables miss equally often and their misses overlap;
//! `updated` comes first where bandwidth is short, as its dirty lines are also written back. All three are accessed
//! equally often: whoever counts accesses ranks `resident` with the others, and by the byte far above them, although it
//! never leaves the cache. (Tierscope's clock sampler, `small`: 50, 45 and 2 % of the samples.)
//!
//! Exclusive or and addition are the same in any order, and so is the result with any number of threads.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde_json::{Map, Value};

use super::{result, size};
use crate::command_line::Settings;
use crate::registry::Registry;
use crate::run::Run;
use crate::shared::{for_each_chunk_mut, for_each_piece, view};
use crate::{checksum, random};

/// Steps of an iteration.
const STEPS: usize = 1 << 21;

/// Steps a thread takes at a time.
const PIECE: usize = 1 << 13;

/// Words of the small table.
const RESIDENT: usize = 1 << 15;

/// Runs the workload.
pub(crate) fn run(settings: &Settings, run: &mut Run) -> Map<String, Value> {
    let length = size(settings.scale, [1 << 19, 1 << 24, 1 << 26, 1 << 28]);
    let threads = run.threads();
    let mut tables = run.phase(c"generate", |run| Tables::new(length, settings.seed, threads, &mut run.registry));
    let total = run.phase(c"kernel", |_| {
        let totals = (0..settings.iterations).map(|iteration| tables.step(u64::from(iteration), STEPS, threads));
        totals.fold(0, u64::wrapping_add)
    });
    result(checksum::of([total, tables.updated.iter().fold(0, |sum, &word| sum.wrapping_mul(3).wrapping_add(word))]))
}

struct Tables {
    seed: u64,
    lookups: Vec<u64>,
    updated: Vec<u64>,
    resident: Vec<u64>,
}

impl Tables {
    /// Large tables of `length`, a power of two.
    fn new(length: usize, seed: u64, threads: u32, registry: &mut Registry) -> Self {
        let mut lookups = allocate_lookups(registry, length);
        let mut updated = allocate_updated(registry, length);
        let mut resident = allocate_resident(registry, RESIDENT);
        for (stream, table) in [&mut lookups, &mut updated, &mut resident].into_iter().enumerate() {
            let seed = random::derive(seed, stream as u64);
            for_each_chunk_mut(table, PIECE, threads, |start, chunk| {
                chunk.iter_mut().zip(start..).for_each(|(word, index)| *word = random::at(seed, index as u64));
            });
        }
        Tables { seed: random::derive(seed, 3), lookups, updated, resident }
    }

    /// Makes that many steps and returns the sum of what was read.
    fn step(&mut self, iteration: u64, steps: usize, threads: u32) -> u64 {
        let (lookups, resident, updated) = (&self.lookups, &self.resident, view(&mut self.updated));
        let (mask, seed) = (lookups.len() - 1, random::derive(self.seed, iteration));
        let total = AtomicU64::new(0);
        for_each_piece(0..steps, PIECE, threads, |piece| {
            let mut sum = 0u64;
            for step in piece {
                let word = random::at(seed, step as u64);
                let [read, update, near] = places(word, mask);
                sum = sum.wrapping_add(lookups[read]).wrapping_add(resident[near]);
                if threads > 1 {
                    updated[update].fetch_xor(word, Relaxed);
                } else {
                    updated[update].store(updated[update].load(Relaxed) ^ word, Relaxed);
                }
            }
            total.fetch_add(sum, Relaxed);
        });
        total.into_inner()
    }
}

/// Where a step reads, updates, and reads the small table.
#[inline]
fn places(word: u64, mask: usize) -> [usize; 3] {
    [word as usize & mask, (word >> 32) as usize & mask, (word >> 49) as usize % RESIDENT]
}

#[inline(never)]
fn allocate_lookups(registry: &mut Registry, length: usize) -> Vec<u64> {
    registry.add("lookups", vec![0; length])
}

#[inline(never)]
fn allocate_updated(registry: &mut Registry, length: usize) -> Vec<u64> {
    registry.add("updated", vec![0; length])
}

#[inline(never)]
fn allocate_resident(registry: &mut Registry, length: usize) -> Vec<u64> {
    registry.add("resident", vec![0; length])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_read_and_update_where_they_say() {
        let mut tables = Tables::new(1 << 10, 7, 1, &mut Registry::default());
        let before = tables.updated.clone();
        let word = random::at(random::derive(tables.seed, 5), 0);
        let [read, update, near] = places(word, 1023);
        assert_eq!(tables.step(5, 1, 1), tables.lookups[read].wrapping_add(tables.resident[near]));
        assert_eq!(tables.updated[update], before[update] ^ word);
        assert_eq!(tables.updated.iter().zip(&before).filter(|(now, before)| now != before).count(), 1);
    }

    #[test]
    fn an_update_made_twice_is_undone() {
        let mut tables = Tables::new(1 << 10, 7, 2, &mut Registry::default());
        let before = tables.updated.clone();
        let one = tables.step(1, 40_000, 1);
        assert_ne!(tables.updated, before);
        assert_eq!(tables.step(1, 40_000, 3), one);
        assert_eq!(tables.updated, before);
    }
}
