//! `chase`: pointers followed one after the other, where every miss costs its whole latency.
//!
//! A chain is a single random cycle through nodes of one cache line each (Sattolo's algorithm). Three of them are walked in
//! each iteration, 2^18 hops in each: `chain`, one walk after the other; `lanes`, eight walks at once that know nothing of
//! each other; and `resident_chain`, 256 KiB that stay in the cache. The large ones are of 4, 128, 512 or 2048 MiB by scale.
//!
//! Expected order: `chain`, `lanes`, `resident_chain`. Both large chains miss equally often, but eight misses of `lanes`
//! share one latency: whoever counts misses takes the two for equal, and is wrong by a factor of up to eight.
//! (Tierscope's clock sampler, `small`: 82, 14 and 2 % of the samples.)
//!
//! Walks are the same, and only shared out differently, with any number of threads.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde_json::{Map, Value};

use super::{result, size};
use crate::command_line::Settings;
use crate::registry::Registry;
use crate::run::Run;
use crate::shared::for_each_piece;
use crate::{checksum, random};

/// Walks through each chain in an iteration, and hops of each.
const WALKS: usize = 64;
const HOPS: usize = 1 << 12;

/// Walks at once through `lanes`.
const LANES: usize = 8;

/// Nodes of the small chain.
const RESIDENT: usize = 1 << 12;

/// One cache line.
#[derive(Debug, Clone)]
#[repr(align(64))]
struct Node {
    next: u32,
    payload: u64,
}

/// Runs the workload.
pub(crate) fn run(settings: &Settings, run: &mut Run) -> Map<String, Value> {
    let nodes = size(settings.scale, [1 << 16, 1 << 21, 1 << 23, 1 << 25]);
    let threads = run.threads();
    let chains = run.phase(c"build", |run| {
        let registry = &mut run.registry;
        let mut chains = [
            allocate_chain(registry, nodes),
            allocate_lanes(registry, nodes),
            allocate_resident_chain(registry, RESIDENT),
        ];
        for (stream, chain) in chains.iter_mut().enumerate() {
            close(chain, random::derive(settings.seed, stream as u64));
        }
        chains
    });
    let totals = run.phase(c"kernel", |_| {
        let [chain, lanes, resident] = &chains;
        let mut totals = [0u64; 3];
        for iteration in 0..settings.iterations {
            let seed = random::derive(settings.seed, 3 + u64::from(iteration));
            let sums = [
                walk::<1>(chain, seed, threads),
                walk::<LANES>(lanes, seed, threads),
                walk::<1>(resident, seed, threads),
            ];
            totals.iter_mut().zip(sums).for_each(|(total, sum)| *total = total.wrapping_add(sum));
        }
        totals
    });
    result(checksum::of(totals))
}

#[inline(never)]
fn allocate_chain(registry: &mut Registry, nodes: usize) -> Vec<Node> {
    registry.add("chain", vec![Node { next: 0, payload: 0 }; nodes])
}

#[inline(never)]
fn allocate_lanes(registry: &mut Registry, nodes: usize) -> Vec<Node> {
    registry.add("lanes", vec![Node { next: 0, payload: 0 }; nodes])
}

#[inline(never)]
fn allocate_resident_chain(registry: &mut Registry, nodes: usize) -> Vec<Node> {
    registry.add("resident_chain", vec![Node { next: 0, payload: 0 }; nodes])
}

/// Makes a single cycle of the nodes, in random order. Each place but the first is exchanged with one strictly before
/// it, from the last on: of the permutations this yields exactly those with one cycle (Sattolo, 1986).
fn close(nodes: &mut [Node], seed: u64) {
    for (index, node) in nodes.iter_mut().enumerate() {
        *node = Node { next: index as u32, payload: random::at(!seed, index as u64) };
    }
    for index in (1..nodes.len()).rev() {
        let other = random::below(random::at(seed, index as u64), index as u32) as usize;
        let next = nodes[index].next;
        nodes[index].next = nodes[other].next;
        nodes[other].next = next;
    }
}

/// Walks that many at once until all are walked, and returns the sum of the payloads on the way.
fn walk<const AT_ONCE: usize>(nodes: &[Node], seed: u64, threads: u32) -> u64 {
    let total = AtomicU64::new(0);
    for_each_piece(0..WALKS, AT_ONCE, threads, |walks| {
        let mut at = [0; AT_ONCE];
        for (at, walk) in at.iter_mut().zip(walks) {
            *at = random::below(random::at(seed, walk as u64), nodes.len() as u32);
        }
        let mut sum = 0u64;
        for _ in 0..HOPS {
            for at in &mut at {
                let node = &nodes[*at as usize];
                sum = sum.wrapping_add(node.payload);
                *at = node.next;
            }
        }
        total.fetch_add(sum, Relaxed);
    });
    total.into_inner()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(nodes: usize) -> Vec<Node> {
        let mut chain = vec![Node { next: 0, payload: 0 }; nodes];
        close(&mut chain, 5);
        chain
    }

    #[test]
    fn a_chain_is_one_cycle_through_every_node() {
        for nodes in [1, 2, 3, 1000] {
            let chain = chain(nodes);
            let mut seen = vec![false; nodes];
            let mut at = 0;
            while !seen[at] {
                seen[at] = true;
                at = chain[at].next as usize;
            }
            assert!(at == 0 && seen.iter().all(|&seen| seen));
        }
    }

    #[test]
    fn walks_at_once_pass_what_they_pass_one_by_one() {
        let chain = chain(1 << 10);
        let one_by_one = walk::<1>(&chain, 3, 1);
        assert_eq!(
            [walk::<1>(&chain, 3, 2), walk::<LANES>(&chain, 3, 1), walk::<LANES>(&chain, 3, 3)],
            [one_by_one; 3]
        );
        let by_hand = (0..WALKS as u64).flat_map(|walk| {
            let start = random::below(random::at(3, walk), 1 << 10) as usize;
            std::iter::successors(Some(start), |&at| Some(chain[at].next as usize)).take(HOPS)
        });
        assert_eq!(by_hand.fold(0, |sum: u64, at| sum.wrapping_add(chain[at].payload)), one_by_one);
    }
}
