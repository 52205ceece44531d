//! `sort`: radix sort, which scatters to as many streams as a digit has values.
//!
//! Least digit first, eight bits at a time: keys of 4 bytes with payloads of 8, four passes between the arrays and their
//! scratch copies. In each pass the values of the digit are counted per block, the counters become the places where each
//! block writes each value, and all is moved there. Before each iteration the sorted keys are scrambled, in place. There
//! are 2^18, 2^24, 2^25 or 2^27 keys by scale: 6 MiB, 384 MiB, 768 MiB or 3 GiB in all.
//!
//! Expected order: `keys`, `payloads` and their scratch copies about equal, then `counters`. Every array is read in order, and
//! written along 256 streams at once, more than a first-level cache and its TLB can keep open; payloads are twice as long,
//! but a payload's miss is under way together with that of its key. `counters`, 256 KiB, never leave the cache, and yet a
//! sampler of time puts them first, because each place to write to waits for its counter (Tierscope's clock sampler,
//! `small`: 31 % of the samples, 10 to 12 % for each of the others): hot is not critical.
//!
//! Blocks do not depend on the threads, and nor does the result.

use serde_json::{Map, Value};
use std::sync::atomic::Ordering::Relaxed;

use super::{result, size};
use crate::command_line::Settings;
use crate::registry::Registry;
use crate::run::Run;
use crate::shared::{for_each_chunk_mut, for_each_piece, view};
use crate::{checksum, random};

/// Values of a digit, and bits.
const VALUES: usize = 256;
const DIGIT_BITS: u32 = 8;

/// Blocks that are counted and moved by themselves.
const BLOCKS: usize = 256;

/// Runs the workload.
pub(crate) fn run(settings: &Settings, run: &mut Run) -> Map<String, Value> {
    let length = size(settings.scale, [1 << 18, 1 << 24, 1 << 25, 1 << 27]);
    let threads = run.threads();
    let mut sorter = run.phase(c"generate", |run| Sorter::new(length, settings.seed, threads, &mut run.registry));
    run.phase(c"kernel", |_| {
        for _ in 0..settings.iterations {
            sorter.scramble(threads);
            sorter.sort(threads);
        }
    });
    let pairs = sorter.keys.iter().zip(&sorter.payloads);
    result(checksum::of(pairs.map(|(&key, &payload)| u64::from(key) ^ payload)))
}

struct Sorter {
    keys: Vec<u32>,
    payloads: Vec<u64>,
    scratch_keys: Vec<u32>,
    scratch_payloads: Vec<u64>,
    /// For each block, for each value: how many there are, then where the next one goes.
    counters: Vec<u32>,
}

impl Sorter {
    /// Random keys, whose payloads are their original places.
    fn new(length: usize, seed: u64, threads: u32, registry: &mut Registry) -> Self {
        let mut keys = allocate_keys(registry, length);
        let mut payloads = allocate_payloads(registry, length);
        for_each_chunk_mut(&mut keys, 1 << 14, threads, |start, keys| {
            keys.iter_mut().zip(start..).for_each(|(key, index)| *key = random::at(seed, index as u64) as u32);
        });
        for_each_chunk_mut(&mut payloads, 1 << 14, threads, |start, payloads| {
            payloads.iter_mut().zip(start..).for_each(|(payload, index)| *payload = index as u64);
        });
        Sorter {
            keys,
            payloads,
            scratch_keys: allocate_scratch_keys(registry, length),
            scratch_payloads: allocate_scratch_payloads(registry, length),
            counters: allocate_counters(registry, BLOCKS * VALUES),
        }
    }

    /// Replaces every key by another, equal ones by equal ones.
    fn scramble(&mut self, threads: u32) {
        for_each_chunk_mut(&mut self.keys, 1 << 14, threads, |_, keys| {
            for key in keys {
                let mixed = (*key ^ (*key >> 15)).wrapping_mul(0x2c1b_3c6d);
                *key = mixed ^ (mixed >> 13);
            }
        });
    }

    /// Sorts by key; equal keys keep their order.
    fn sort(&mut self, threads: u32) {
        // An even number of passes ends where it began.
        for digit in 0..u32::BITS / DIGIT_BITS {
            self.pass(digit * DIGIT_BITS, threads);
            std::mem::swap(&mut self.keys, &mut self.scratch_keys);
            std::mem::swap(&mut self.payloads, &mut self.scratch_payloads);
        }
    }

    /// Moves everything to the scratch arrays, sorted by one digit.
    fn pass(&mut self, shift: u32, threads: u32) {
        let (keys, payloads) = (&self.keys, &self.payloads);
        let block = keys.len().div_ceil(BLOCKS);
        let range = |number: usize| (number * block).min(keys.len())..((number + 1) * block).min(keys.len());
        let digit = |key: u32| (key >> shift) as usize % VALUES;
        for_each_chunk_mut(&mut self.counters, VALUES, threads, |start, counters| {
            counters.fill(0);
            for &key in &keys[range(start / VALUES)] {
                counters[digit(key)] += 1;
            }
        });
        let mut total = 0;
        for value in 0..VALUES {
            for counter in self.counters[value..].iter_mut().step_by(VALUES) {
                let count = *counter;
                *counter = total;
                total += count;
            }
        }
        let (to_keys, to_payloads) = (view(&mut self.scratch_keys), view(&mut self.scratch_payloads));
        let counters = view(&mut self.counters);
        for_each_piece(0..BLOCKS, 1, threads, |numbers| {
            for number in numbers {
                let places = &counters[number * VALUES..][..VALUES];
                for (&key, &payload) in keys[range(number)].iter().zip(&payloads[range(number)]) {
                    let place = &places[digit(key)];
                    let to = place.load(Relaxed);
                    place.store(to + 1, Relaxed);
                    to_keys[to as usize].store(key, Relaxed);
                    to_payloads[to as usize].store(payload, Relaxed);
                }
            }
        });
    }
}

#[inline(never)]
fn allocate_keys(registry: &mut Registry, length: usize) -> Vec<u32> {
    registry.add("keys", vec![0; length])
}

#[inline(never)]
fn allocate_payloads(registry: &mut Registry, length: usize) -> Vec<u64> {
    registry.add("payloads", vec![0; length])
}

#[inline(never)]
fn allocate_scratch_keys(registry: &mut Registry, length: usize) -> Vec<u32> {
    registry.add("scratch_keys", vec![0; length])
}

#[inline(never)]
fn allocate_scratch_payloads(registry: &mut Registry, length: usize) -> Vec<u64> {
    registry.add("scratch_payloads", vec![0; length])
}

#[inline(never)]
fn allocate_counters(registry: &mut Registry, length: usize) -> Vec<u32> {
    registry.add("counters", vec![0; length])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_sorted_as_the_library_sorts_them() {
        for (length, threads) in [(1, 1), (100, 1), (70_001, 1), (70_001, 3)] {
            let mut sorter = Sorter::new(length, 5, threads, &mut Registry::default());
            // Few different keys, so that their order among equals shows.
            sorter.keys.iter_mut().for_each(|key| *key &= 0x0703_0305);
            let mut expected: Vec<_> = sorter.keys.iter().copied().zip(sorter.payloads.iter().copied()).collect();
            expected.sort_by_key(|&(key, _)| key);
            sorter.sort(threads);
            assert!(sorter.keys.iter().copied().zip(sorter.payloads.iter().copied()).eq(expected));
        }
    }

    #[test]
    fn scrambling_keeps_equal_keys_equal_and_others_apart() {
        let mut sorter = Sorter::new(50_000, 5, 1, &mut Registry::default());
        sorter.keys.iter_mut().zip(0..).for_each(|(key, index)| *key = index / 2);
        sorter.scramble(2);
        assert!(sorter.keys.chunks(2).all(|pair| pair[0] == pair[1]) && !sorter.keys.is_sorted());
        sorter.keys.sort_unstable();
        sorter.keys.dedup();
        assert_eq!(sorter.keys.len(), 25_000);
    }
}
