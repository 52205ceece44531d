//! `hash-join`: an equi-join by a hash table with chains, in two phases with different needs.
//!
//! The no-partitioning join of Blanas, Li and Patel (SIGMOD 2011). `build` puts every row of one side into the chain of its
//! bucket. `kernel` looks up every key of the other side: the head of its bucket, then keys along the chain, and the
//! payload when one matches; half of the keys find nothing. There are 2^16, 2^22, 2^24 or 2^26 rows to build from by scale,
//! as many buckets, and twice as many keys to probe with: 4 MiB, 224 MiB, 0.9 GiB or 3.5 GiB in all. Each iteration does
//! both, the builds first, so that each phase is one stretch of time.
//!
//! Expected order, probing: `build_keys`, `build_payloads`, `nexts`, `heads`, then `joined` and `probe_keys`. Heads of many
//! probes are fetched at once; each key of a chain waits for the row before it, and a wrong guess whether it matches ends
//! the overlap with later probes; a payload waits for that as well; the next row lies in another line than the key. The
//! two long arrays, more than half of the bytes, are streams. (Tierscope's clock sampler, `small`: 41, 34, 15, 3, 3 and
//! 0 % of the samples, both phases together.) Building, `heads` alone is random: the order changes with the phase.
//!
//! A key occurs once on the build side, so that the order of a chain, which depends on the threads, decides nothing.

use std::sync::atomic::Ordering::Relaxed;

use serde_json::{Map, Value, json};

use super::{result, size};
use crate::command_line::Settings;
use crate::registry::Registry;
use crate::run::Run;
use crate::shared::{for_each_chunk_mut, for_each_piece, view};
use crate::{checksum, random};

/// The end of a chain.
const END: u32 = u32::MAX;

/// Rows a thread takes at a time.
const PIECE: usize = 1 << 12;

/// Keys to probe with, for each row.
const PROBES: usize = 2;

/// What a probe yields that finds nothing.
const NOTHING: u64 = 0;

/// Runs the workload.
pub(crate) fn run(settings: &Settings, run: &mut Run) -> Map<String, Value> {
    let rows = size(settings.scale, [1 << 16, 1 << 22, 1 << 24, 1 << 26]);
    let threads = run.threads();
    let mut join = run.phase(c"generate", |run| Join::new(rows, settings.seed, threads, &mut run.registry));
    run.phase(c"build", |_| (0..settings.iterations).for_each(|_| join.build(threads)));
    run.phase(c"kernel", |_| (0..settings.iterations).for_each(|_| join.probe(threads)));
    let mut result = result(checksum::of(join.joined.iter().copied()));
    result.insert("matches".into(), json!(join.joined.iter().filter(|&&payload| payload != NOTHING).count()));
    result
}

struct Join {
    build_keys: Vec<u64>,
    build_payloads: Vec<u64>,
    /// For each bucket the first row of its chain.
    heads: Vec<u32>,
    /// For each row the next one of its chain.
    nexts: Vec<u32>,
    probe_keys: Vec<u64>,
    /// For each key to probe with, the payload it found.
    joined: Vec<u64>,
}

impl Join {
    /// Both sides; `rows` is a power of two.
    fn new(rows: usize, seed: u64, threads: u32, registry: &mut Registry) -> Self {
        let mut build_keys = allocate_build_keys(registry, rows);
        let mut build_payloads = allocate_build_payloads(registry, rows);
        let mut probe_keys = allocate_probe_keys(registry, rows * PROBES);
        // One sequence never yields a number twice: the keys of rows are its first, and those that match nothing the next.
        let key = |index: usize| random::at(seed, index as u64);
        let (payloads, probes) = (random::derive(seed, 1), random::derive(seed, 2));
        for_each_chunk_mut(&mut build_keys, PIECE, threads, |start, keys| {
            keys.iter_mut().zip(start..).for_each(|(cell, row)| *cell = key(row));
        });
        for_each_chunk_mut(&mut build_payloads, PIECE, threads, |start, cells| {
            cells.iter_mut().zip(start..).for_each(|(cell, row)| *cell = random::at(payloads, row as u64) | 1);
        });
        for_each_chunk_mut(&mut probe_keys, PIECE, threads, |start, keys| {
            for (cell, probe) in keys.iter_mut().zip(start..) {
                *cell = key(random::below(random::at(probes, probe as u64), 2 * rows as u32) as usize);
            }
        });
        Join {
            build_keys,
            build_payloads,
            heads: allocate_heads(registry, rows),
            nexts: allocate_nexts(registry, rows),
            probe_keys,
            joined: allocate_joined(registry, rows * PROBES),
        }
    }

    /// Puts every row into its chain.
    fn build(&mut self, threads: u32) {
        self.heads.fill(END);
        let (heads, nexts, keys) = (view(&mut self.heads), view(&mut self.nexts), &self.build_keys);
        for_each_piece(0..keys.len(), PIECE, threads, |piece| {
            for row in piece {
                let head = &heads[bucket(keys[row], heads.len())];
                let next = if threads > 1 {
                    head.swap(row as u32, Relaxed)
                } else {
                    let next = head.load(Relaxed);
                    head.store(row as u32, Relaxed);
                    next
                };
                nexts[row].store(next, Relaxed);
            }
        });
    }

    /// Looks up every key of the other side.
    fn probe(&mut self, threads: u32) {
        let Join { build_keys, build_payloads, heads, nexts, probe_keys, joined } = self;
        for_each_chunk_mut(joined, PIECE, threads, |start, joined| {
            for (found, &key) in joined.iter_mut().zip(&probe_keys[start..]) {
                let mut row = heads[bucket(key, heads.len())];
                while row != END && build_keys[row as usize] != key {
                    row = nexts[row as usize];
                }
                *found = if row == END { NOTHING } else { build_payloads[row as usize] };
            }
        });
    }
}

/// The bucket of a key, of a power of two of them: the highest bits of a product (Knuth's multiplicative hashing).
#[inline]
fn bucket(key: u64, buckets: usize) -> usize {
    (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - buckets.trailing_zeros())) as usize
}

#[inline(never)]
fn allocate_build_keys(registry: &mut Registry, rows: usize) -> Vec<u64> {
    registry.add("build_keys", vec![0; rows])
}

#[inline(never)]
fn allocate_build_payloads(registry: &mut Registry, rows: usize) -> Vec<u64> {
    registry.add("build_payloads", vec![0; rows])
}

#[inline(never)]
fn allocate_heads(registry: &mut Registry, buckets: usize) -> Vec<u32> {
    registry.add("heads", vec![END; buckets])
}

#[inline(never)]
fn allocate_nexts(registry: &mut Registry, rows: usize) -> Vec<u32> {
    registry.add("nexts", vec![END; rows])
}

#[inline(never)]
fn allocate_probe_keys(registry: &mut Registry, keys: usize) -> Vec<u64> {
    registry.add("probe_keys", vec![0; keys])
}

#[inline(never)]
fn allocate_joined(registry: &mut Registry, keys: usize) -> Vec<u64> {
    registry.add("joined", vec![NOTHING; keys])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn every_probe_finds_what_a_map_finds() {
        for threads in [1, 3] {
            let mut join = Join::new(1 << 14, 3, threads, &mut Registry::default());
            join.build(threads);
            // Building again replaces the table.
            join.build(threads);
            join.probe(threads);
            let map: HashMap<_, _> = join.build_keys.iter().zip(&join.build_payloads).collect();
            assert_eq!(map.len(), 1 << 14, "keys are distinct");
            for (key, &found) in join.probe_keys.iter().zip(&join.joined) {
                assert_eq!(found, map.get(key).map_or(NOTHING, |payload| **payload));
            }
            let matches = join.joined.iter().filter(|&&payload| payload != NOTHING).count();
            assert!((15_000..18_000).contains(&matches), "{matches} of {}", join.joined.len());
        }
    }
}
