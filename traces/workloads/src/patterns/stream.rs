//! `stream`: long arrays from end to end, where nothing but bandwidth counts.
//!
//! The triad of McCalpin's STREAM (`target = left + 3 * right`), and a sum over a fourth array, one pass each per iteration.
//! Arrays are of 2, 64, 256 or 1024 MiB by scale, four of them.
//!
//! Expected order, by bytes moved: `target`, `left` = `right` = `summed`. A line of `target` is read before it is written and
//! goes back later: two transfers, and one of them is a write, which slow memories like least. The others are one transfer
//! each. All misses are foreseen by prefetchers, so that bandwidth decides and latency hardly matters. A sampler of time
//! has it the other way round, as nobody waits for a store: Tierscope's clock sampler finds 32, 30 and 29 % of the samples
//! on what is read and 6 % on `target`. Which of the two is right depends on the memory: this is the pattern to ask it with.
//!
//! Numbers are whole, and sums below 2^53: exact in any order, and so the same with any number of threads.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde_json::{Map, Value};

use super::{result, size};
use crate::command_line::Settings;
use crate::registry::Registry;
use crate::run::Run;
use crate::shared::{for_each_chunk_mut, for_each_piece};
use crate::{checksum, random};

const SCALAR: f64 = 3.0;

/// Elements a thread takes at a time.
const PIECE: usize = 1 << 14;

/// Numbers are below this.
const BOUND: u32 = 1 << 20;

/// Runs the workload.
pub(crate) fn run(settings: &Settings, run: &mut Run) -> Map<String, Value> {
    let length = size(settings.scale, [1 << 18, 1 << 23, 1 << 25, 1 << 27]);
    let threads = run.threads();
    let (mut target, left, right, summed) = run.phase(c"generate", |run| {
        let registry = &mut run.registry;
        let mut arrays =
            [allocate_left(registry, length), allocate_right(registry, length), allocate_summed(registry, length)];
        for (stream, array) in arrays.iter_mut().enumerate() {
            fill(array, random::derive(settings.seed, stream as u64), threads);
        }
        let [left, right, summed] = arrays;
        (allocate_target(registry, length), left, right, summed)
    });
    let total = run.phase(c"kernel", |_| {
        let mut total = 0;
        for _ in 0..settings.iterations {
            triad(&mut target, &left, &right, threads);
            total = sum(&summed, threads);
        }
        total
    });
    result(checksum::of([total, sum(&target, threads)]))
}

#[inline(never)]
fn allocate_target(registry: &mut Registry, length: usize) -> Vec<f64> {
    registry.add("target", vec![1.0; length])
}

#[inline(never)]
fn allocate_left(registry: &mut Registry, length: usize) -> Vec<f64> {
    registry.add("left", vec![0.0; length])
}

#[inline(never)]
fn allocate_right(registry: &mut Registry, length: usize) -> Vec<f64> {
    registry.add("right", vec![0.0; length])
}

#[inline(never)]
fn allocate_summed(registry: &mut Registry, length: usize) -> Vec<f64> {
    registry.add("summed", vec![0.0; length])
}

/// Whole numbers below [`BOUND`], by chance.
fn fill(array: &mut [f64], seed: u64, threads: u32) {
    for_each_chunk_mut(array, PIECE, threads, |start, chunk| {
        for (index, number) in chunk.iter_mut().enumerate() {
            *number = f64::from(random::below(random::at(seed, (start + index) as u64), BOUND));
        }
    });
}

fn triad(target: &mut [f64], left: &[f64], right: &[f64], threads: u32) {
    for_each_chunk_mut(target, PIECE, threads, |start, chunk| {
        let sources = left[start..].iter().zip(&right[start..]);
        for (target, (left, right)) in chunk.iter_mut().zip(sources) {
            *target = left + SCALAR * right;
        }
    });
}

/// The sum of whole numbers. Sixteen sums are taken side by side, so that additions do not wait for each other.
fn sum(array: &[f64], threads: u32) -> u64 {
    let total = AtomicU64::new(0);
    for_each_piece(0..array.len(), PIECE, threads, |piece| {
        let mut sums = [0.0; 16];
        let (groups, rest) = array[piece].as_chunks::<16>();
        for group in groups {
            for (sum, number) in sums.iter_mut().zip(group) {
                *sum += number;
            }
        }
        total.fetch_add(sums.iter().chain(rest).sum::<f64>() as u64, Relaxed);
    });
    total.into_inner()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn triad_and_sum_are_what_they_say() {
        let (left, right): (Vec<f64>, Vec<f64>) = (0..50_001u32).map(|i| (f64::from(i), f64::from(i % 7))).unzip();
        let mut target = vec![0.0; left.len()];
        triad(&mut target, &left, &right, 2);
        for (i, &number) in target.iter().enumerate() {
            assert_eq!(number, (i + 3 * (i % 7)) as f64);
        }
        assert_eq!(sum(&left, 3), 50_000 * 50_001 / 2);
    }
}
