//! `sssp`: shortest paths from one source, for row 7, placing graph data by object on Optane.
//!
//! Delta-stepping (Meyer and Sanders, J. Algorithms 2003) in the form of the GAP benchmark. A vertex whose distance falls
//! is put into the bin of its distance divided by delta. Bins are emptied in ascending order: all threads' bins of one
//! number become the frontier, whose vertices offer their neighbours shorter ways. A thread goes on with its own bin of
//! the current number while that is short, without meeting the others (bucket fusion; Zhang et al., CGO 2020). A vertex
//! that has meanwhile been served from a lower bin is skipped.
//!
//! Kept: rows of `neighbours` and `weights` read side by side in the order of the frontier; one random read of
//! `distances` per edge, and a write where it falls; bins that grow, one set per thread; `distances` allocated anew for
//! every source, as the benchmark does. Left out: nothing. Weights are whole numbers from 1 to 255, as there, and the same
//! in both directions.
//!
//! Expected on top: `distances`, for its random reads; then `neighbours`, ahead of `weights`: both are read together, but
//! which distance to read depends on the neighbour only. The frontier and the bins are written and read in order.
//! (Tierscope's clock sampler, `small`: 44, 29 and 10 % of the samples, 2 % for frontier and bins together.)
//!
//! Distances are the same with any number of threads: whatever the order of the offers, the shortest one remains.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};
use std::sync::{Barrier, Mutex};

use serde_json::{Map, Value, json};

use super::graph::Graph;
use crate::command_line::Settings;
use crate::registry::Registry;
use crate::run::Run;
use crate::shared::{for_each_piece, on_threads, turns, view};
use crate::{checksum, graphs, random};

/// The distance of a vertex not reached yet. Ways in these graphs have tens of edges, of 255 at most.
pub(crate) const UNREACHED: u32 = u32::MAX;

/// The largest weight.
const HEAVIEST: u32 = 255;

/// Distances that share a bin.
const DELTA: u32 = 16;

/// Vertices a thread takes from the frontier at a time.
const PIECE: usize = 64;

/// A thread's bin of the current number that is longer than this is shared with the others.
const FUSED: usize = 1000;

/// Vertices in a new bin.
const BIN: usize = 1024;

/// No bin at all.
const NONE: usize = usize::MAX;

/// Runs the workload.
pub(crate) fn run(settings: &Settings, run: &mut Run) -> Map<String, Value> {
    let graph = graphs::obtain(settings, run);
    let threads = run.threads();
    let weights = run.phase(c"build", |run| weights(&graph, settings.seed, threads, &mut run.registry));
    let sources: Vec<u32> = graph.sources(settings.seed).take(settings.iterations as usize).collect();
    let distances = run.phase(c"kernel", |run| {
        let mut frontier = allocate_frontier(&mut run.registry, graph.vertices());
        let mut last = Vec::new();
        for &source in &sources {
            run.registry.free(last);
            last = distances(&graph, &weights, source, &mut frontier, threads, &mut run.registry);
        }
        run.registry.free(frontier);
        last
    });
    let reached = distances.iter().filter(|&&distance| distance != UNREACHED);
    let checksum = checksum::of(distances.iter().map(|&distance| u64::from(distance)));
    let mut result = graphs::result(settings, &graph, checksum);
    result.insert("reached".into(), json!(reached.clone().count()));
    result.insert("farthest".into(), json!(reached.max()));
    result
}

/// One weight per stored edge, the same in both directions.
pub(crate) fn weights(graph: &Graph, seed: u64, threads: u32, registry: &mut Registry) -> Vec<u32> {
    let seed = random::derive(seed, 0x7765_6967_6874);
    let mut weights = allocate_weights(registry, graph.neighbours.len());
    let cells = view(&mut weights);
    for_each_piece(0..graph.vertices(), 1024, threads, |piece| {
        for u in piece {
            for edge in graph.row(u as u32) {
                let v = u64::from(graph.neighbours[edge]);
                let (low, high) = (v.min(u as u64), v.max(u as u64));
                let weight = 1 + random::below(random::at(seed, high << 32 | low), HEAVIEST);
                cells[edge].store(weight, Relaxed);
            }
        }
    });
    weights
}

/// For each vertex the length of the shortest way from the source (`UNREACHED` where there is none). `frontier` has room for
/// one vertex at least; what it does not hold waits in the bins.
pub(crate) fn distances(
    graph: &Graph,
    weights: &[u32],
    source: u32,
    frontier: &mut [u32],
    threads: u32,
    registry: &mut Registry,
) -> Vec<u32> {
    let mut distances = allocate_distances(registry, graph.vertices());
    frontier[0] = source;
    let search = Search {
        graph,
        weights,
        distances: view(&mut distances),
        frontier: view(frontier),
        lengths: [AtomicUsize::new(1), AtomicUsize::new(0)],
        lowest: [AtomicUsize::new(NONE), AtomicUsize::new(NONE)],
        threads,
        barrier: Barrier::new(threads as usize),
    };
    search.distances[source as usize].store(0, Relaxed);
    let noted = Mutex::new(registry);
    on_threads(threads, |thread| {
        let mut bins = Bins::default();
        search.run(thread, &mut bins);
        if let Ok(mut noted) = noted.lock() {
            noted.merge(bins.free());
        }
    });
    distances
}

#[inline(never)]
fn allocate_weights(registry: &mut Registry, edges: usize) -> Vec<u32> {
    registry.add("weights", vec![0; edges])
}

#[inline(never)]
fn allocate_distances(registry: &mut Registry, vertices: usize) -> Vec<u32> {
    registry.add("distances", vec![UNREACHED; vertices])
}

#[inline(never)]
fn allocate_frontier(registry: &mut Registry, vertices: usize) -> Vec<u32> {
    registry.add("frontier", vec![0; vertices])
}

#[inline(never)]
fn allocate_bins(registry: &mut Registry, vertices: usize) -> Vec<u32> {
    registry.add("bins", Vec::with_capacity(vertices))
}

#[inline(never)]
fn allocate_buffer() -> Vec<u32> {
    Vec::with_capacity(FUSED)
}

/// One thread's bins, by number. A full one is replaced by one of twice the size.
#[derive(Debug, Default)]
struct Bins {
    bins: Vec<Vec<u32>>,
    registry: Registry,
}

impl Bins {
    #[inline]
    fn push(&mut self, number: usize, vertex: u32) {
        match self.bins.get_mut(number) {
            Some(bin) if bin.len() < bin.capacity() => bin.push(vertex),
            _ => self.grow(number, vertex),
        }
    }

    #[cold]
    fn grow(&mut self, number: usize, vertex: u32) {
        if self.bins.len() <= number {
            self.bins.resize_with(number + 1, Vec::new);
        }
        let full = std::mem::take(&mut self.bins[number]);
        let mut bin = allocate_bins(&mut self.registry, BIN.max(full.capacity() * 2));
        bin.extend_from_slice(&full);
        bin.push(vertex);
        self.bins[number] = bin;
        if full.capacity() > 0 {
            self.registry.free(full);
        }
    }

    /// The number of the lowest bin, from `number`, that holds anything.
    fn lowest(&self, number: usize) -> Option<usize> {
        (number..self.bins.len()).find(|&number| !self.bins[number].is_empty())
    }

    /// Frees all of them and returns what was noted about them.
    fn free(mut self) -> Registry {
        self.bins.into_iter().filter(|bin| bin.capacity() > 0).for_each(|bin| self.registry.free(bin));
        self.registry
    }
}

/// One source's search, shared by the threads that carry it out.
#[derive(Debug)]
struct Search<'a> {
    graph: &'a Graph,
    weights: &'a [u32],
    distances: &'a [AtomicU32],
    frontier: &'a [AtomicU32],
    /// Vertices in the frontier of even and odd rounds.
    lengths: [AtomicUsize; 2],
    /// The lowest bin that any thread has anything in, after even and odd rounds.
    lowest: [AtomicUsize; 2],
    threads: u32,
    barrier: Barrier,
}

impl Search<'_> {
    /// One thread's part.
    fn run(&self, thread: u32, bins: &mut Bins) {
        let mut number = 0;
        let mut buffer = allocate_buffer();
        for round in 0.. {
            let (this, next) = (round % 2, (round + 1) % 2);
            // More may have been counted than there was room for.
            let length = self.lengths[this].load(Relaxed).min(self.frontier.len());
            for piece in turns(0..length, PIECE, thread, self.threads) {
                self.frontier[piece].iter().for_each(|u| self.serve(u.load(Relaxed), number, bins));
            }
            while let Some(bin) = bins.bins.get_mut(number)
                && (1..=FUSED).contains(&bin.len())
            {
                buffer.clear();
                buffer.append(bin);
                buffer.iter().for_each(|&u| self.serve(u, number, bins));
            }
            if let Some(mine) = bins.lowest(number) {
                self.lowest[this].fetch_min(mine, Relaxed);
            }
            self.barrier.wait();
            number = self.lowest[this].load(Relaxed);
            if number == NONE {
                return;
            }
            if let Some(bin) = bins.bins.get_mut(number) {
                self.share(bin, &self.lengths[next]);
            }
            self.barrier.wait();
            // Everybody has read these of this round, and touches them again after the next meeting at the earliest.
            if thread == 0 {
                self.lengths[this].store(0, Relaxed);
                self.lowest[this].store(NONE, Relaxed);
            }
        }
    }

    /// Moves a bin to the frontier, as far as there is room.
    fn share(&self, bin: &mut Vec<u32>, length: &AtomicUsize) {
        let start = length.fetch_add(bin.len(), Relaxed).min(self.frontier.len());
        let room = &self.frontier[start..];
        let kept = bin.len().saturating_sub(room.len());
        for (cell, vertex) in room.iter().zip(bin.drain(kept..)) {
            cell.store(vertex, Relaxed);
        }
    }

    /// Offers the neighbours of `u` the way through it, unless `u` was served from a lower bin.
    #[inline]
    fn serve(&self, u: u32, number: usize, bins: &mut Bins) {
        let distance = self.distances[u as usize].load(Relaxed);
        if ((distance / DELTA) as usize) < number {
            return;
        }
        let row = self.graph.row(u);
        for (&v, &weight) in self.graph.neighbours[row.clone()].iter().zip(&self.weights[row]) {
            let offer = distance + weight;
            if self.shorten(v, offer) {
                bins.push((offer / DELTA) as usize, v);
            }
        }
    }

    /// Makes the distance of `v` that short if it is longer.
    #[inline]
    fn shorten(&self, v: u32, offer: u32) -> bool {
        let cell = &self.distances[v as usize];
        if offer >= cell.load(Relaxed) {
            return false;
        }
        if self.threads == 1 {
            cell.store(offer, Relaxed);
            return true;
        }
        cell.fetch_min(offer, Relaxed) > offer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command_line::GraphKind;
    use std::cmp::Reverse;

    fn found(graph: &Graph, weights: &[u32], source: u32, room: usize, threads: u32) -> Vec<u32> {
        distances(graph, weights, source, &mut vec![0; room], threads, &mut Registry::default())
    }

    fn dijkstra(graph: &Graph, weights: &[u32], source: u32) -> Vec<u32> {
        let mut distances = vec![UNREACHED; graph.vertices()];
        let mut heap = std::collections::BinaryHeap::from([Reverse((0, source))]);
        while let Some(Reverse((distance, u))) = heap.pop() {
            if distances[u as usize] != UNREACHED {
                continue;
            }
            distances[u as usize] = distance;
            heap.extend(graph.row(u).map(|edge| Reverse((distance + weights[edge], graph.neighbours[edge]))));
        }
        distances
    }

    #[test]
    fn distances_are_those_of_dijkstra() {
        for kind in [GraphKind::Kronecker, GraphKind::Uniform] {
            for (bits, seed) in [(4, 1), (8, 2), (11, 3)] {
                let graph = Graph::generate(kind, bits, seed, 1, &mut Registry::default());
                let weights = weights(&graph, seed, 2, &mut Registry::default());
                for source in graph.sources(seed).take(4) {
                    let expected = dijkstra(&graph, &weights, source);
                    assert_eq!(found(&graph, &weights, source, graph.vertices(), 1), expected);
                    assert_eq!(found(&graph, &weights, source, graph.vertices(), 3), expected);
                }
            }
        }
    }

    #[test]
    fn a_frontier_that_is_too_small_costs_rounds_and_no_vertex() {
        let graph = Graph::generate(GraphKind::Uniform, 13, 1, 1, &mut Registry::default());
        let weights = weights(&graph, 1, 1, &mut Registry::default());
        let source = graph.sources(1).next().unwrap();
        let expected = dijkstra(&graph, &weights, source);
        assert_eq!(found(&graph, &weights, source, 100, 1), expected);
        assert_eq!(found(&graph, &weights, source, 1, 2), expected);
    }

    #[test]
    fn weights_are_the_same_in_both_directions_and_even() {
        let graph = Graph::generate(GraphKind::Kronecker, 10, 1, 1, &mut Registry::default());
        let weights = weights(&graph, 1, 2, &mut Registry::default());
        for u in 0..1 << 10 {
            for edge in graph.row(u) {
                let v = graph.neighbours[edge];
                let back = graph.row(v).start + graph.neighbours[graph.row(v)].binary_search(&u).unwrap();
                assert_eq!(weights[edge], weights[back]);
            }
        }
        let mean = weights.iter().map(|&weight| f64::from(weight)).sum::<f64>() / weights.len() as f64;
        assert!((126.0..130.0).contains(&mean), "{mean}");
        assert_eq!((weights.iter().min(), weights.iter().max()), (Some(&1), Some(&HEAVIEST)));
    }

    #[test]
    fn bins_are_noted_however_often_they_grow() {
        let mut bins = Bins::default();
        (0..5000).for_each(|vertex| bins.push(2, vertex));
        assert!(bins.bins[2].iter().copied().eq(0..5000));
        assert_eq!((bins.lowest(0), bins.lowest(3)), (Some(2), None));
        let registry = bins.free();
        let bytes: Vec<_> = registry.blocks().iter().map(|block| block.bytes).collect();
        assert_eq!(bytes, [4096, 8192, 16384, 32768]);
        assert!(registry.blocks().iter().all(|block| block.freed_ns.is_some()));
    }
}
