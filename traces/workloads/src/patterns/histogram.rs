//! `histogram`: a stream in, random increments out.
//!
//! Every value is counted twice: in `bins`, a counter for each possible value, at a random place; and in `coarse`, by its
//! highest bits, in 64 KiB that stay in the cache. There are 2^20, 2^25, 2^27 or 2^29 values by scale and as many bins,
//! of 4 bytes each: 4, 128, 512 or 2048 MiB, twice.
//!
//! Expected order: `bins`, then far behind `values` and `coarse`. An increment reads a line at random and dirties it; many
//! are under way at once, but each moves a line twice for 4 bytes. A value costs a sixteenth of a line, fetched ahead.
//! `coarse` is accessed as often as `bins` and costs nothing. (Tierscope's clock sampler, `small`: 95 % of the samples on
//! `bins`, less than 1 % on each of the others.)
//!
//! Counts are the same in any order, and so with any number of threads.

use serde_json::{Map, Value};

use super::{result, size};
use crate::command_line::Settings;
use crate::registry::Registry;
use crate::run::Run;
use crate::shared::{count, for_each_chunk_mut, for_each_piece, view};
use crate::{checksum, random};

/// Values a thread takes at a time.
const PIECE: usize = 1 << 13;

/// Counters of the small table.
const COARSE: usize = 1 << 14;

/// Runs the workload.
pub(crate) fn run(settings: &Settings, run: &mut Run) -> Map<String, Value> {
    let length = size(settings.scale, [1 << 20, 1 << 25, 1 << 27, 1 << 29]);
    let threads = run.threads();
    let (values, mut bins, mut coarse) = run.phase(c"generate", |run| {
        let registry = &mut run.registry;
        let mut values = allocate_values(registry, length);
        for_each_chunk_mut(&mut values, PIECE, threads, |start, chunk| {
            for (value, index) in chunk.iter_mut().zip(start..) {
                *value = random::below(random::at(settings.seed, index as u64), length as u32);
            }
        });
        (values, allocate_bins(registry, length), allocate_coarse(registry, COARSE))
    });
    run.phase(c"kernel", |_| {
        for _ in 0..settings.iterations {
            tally(&values, &mut bins, &mut coarse, threads);
        }
    });
    result(checksum::of(bins.iter().chain(&coarse).map(|&count| u64::from(count))))
}

#[inline(never)]
fn allocate_values(registry: &mut Registry, length: usize) -> Vec<u32> {
    registry.add("values", vec![0; length])
}

#[inline(never)]
fn allocate_bins(registry: &mut Registry, length: usize) -> Vec<u32> {
    registry.add("bins", vec![0; length])
}

#[inline(never)]
fn allocate_coarse(registry: &mut Registry, length: usize) -> Vec<u32> {
    registry.add("coarse", vec![0; length])
}

/// Counts all values, in both tables, whose lengths are powers of two. Counters wrap in the end.
fn tally(values: &[u32], bins: &mut [u32], coarse: &mut [u32], threads: u32) {
    let shift = (bins.len() / coarse.len()).trailing_zeros();
    let (bins, coarse) = (view(bins), view(coarse));
    for_each_piece(0..values.len(), PIECE, threads, |piece| {
        for &value in &values[piece] {
            count(&bins[value as usize], threads > 1);
            count(&coarse[(value >> shift) as usize], threads > 1);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_in_both_tables() {
        let values: Vec<u32> = (0..40_000).map(|i| random::below(random::at(1, i), 1 << 10)).collect();
        for threads in [1, 3] {
            let (mut bins, mut coarse) = (vec![1; 1 << 10], vec![0; 1 << 4]);
            tally(&values, &mut bins, &mut coarse, threads);
            for (bin, &count) in bins.iter().enumerate() {
                assert_eq!(count as usize, 1 + values.iter().filter(|&&value| value as usize == bin).count());
            }
            for (index, &count) in coarse.iter().enumerate() {
                assert_eq!(count, bins[index * 64..][..64].iter().map(|count| count - 1).sum::<u32>());
            }
        }
    }
}
