//! `bc`: betweenness centrality, for row 7, placing graph data by object on Optane.
//!
//! Brandes' algorithm (J. Math. Sociology 2001) in the form of the GAP benchmark: from each source a breadth-first
//! search counts shortest paths and marks, in one bit per edge, which edges lead one level deeper; then, level by level
//! from the deepest, each vertex collects its dependency from its successors along the marked edges.
//!
//! Kept: the graph in compressed rows, which are read in the order of the frontier (random rows, sequential inside a
//! row); random reads and writes of `depths` and `path_counts`, one per edge; random reads of `deltas`; `depths` and
//! `deltas` allocated anew for every source, as the benchmark does, so that one site has many lifetimes. Left out: the
//! benchmark's NUMA interleaving.
//!
//! The result is the same with any number of threads. Path counts are whole numbers in floating point, exact below
//! 2^53, so that the order in which they are added does not matter; every other sum is taken by one thread, along one
//! row. Which thread finds a vertex first decides its place in the queue only.

use std::ops::Range;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};

use serde_json::{Map, Value, json};

use super::graph::Graph;
use crate::command_line::Settings;
use crate::registry::Registry;
use crate::run::Run;
use crate::shared::{on_threads, turns, view};
use crate::{checksum, graphs};

/// A vertex not reached yet.
const UNREACHED: u32 = u32::MAX;

/// Vertices a thread takes from a level at a time.
const PIECE: usize = 64;

/// Vertices a thread collects before it appends them to the queue.
const BUFFER: usize = 1024;

/// Runs the workload.
pub(crate) fn run(settings: &Settings, run: &mut Run) -> Map<String, Value> {
    let threads = run.threads();
    let graph = graphs::obtain(settings, run);
    let sources: Vec<u32> = graph.sources(settings.seed).take(settings.iterations as usize).collect();
    let scores = run.phase(c"kernel", |run| betweenness(&graph, &sources, threads, &mut run.registry));
    let mut result = graphs::result(settings, &graph, checksum(&scores));
    result.insert("largest_score".into(), json!(scores.iter().copied().fold(0.0, f32::max)));
    result
}

/// For each vertex the sum, over the sources, of its dependencies (not normalised).
pub(crate) fn betweenness(graph: &Graph, sources: &[u32], threads: u32, registry: &mut Registry) -> Vec<f32> {
    let vertices = graph.vertices();
    let mut scores = allocate_scores(registry, vertices);
    let mut path_counts = allocate_path_counts(registry, vertices);
    let mut successors = allocate_successors(registry, graph.neighbours.len().div_ceil(64));
    let mut queue = allocate_queue(registry, vertices);
    for &source in sources {
        let mut depths = allocate_depths(registry, vertices);
        let mut deltas = allocate_deltas(registry, vertices);
        path_counts.fill(0.0);
        successors.fill(0);
        let search = Search {
            graph,
            source,
            depths: view(&mut depths),
            path_counts: view(&mut path_counts),
            successors: view(&mut successors),
            queue: view(&mut queue),
            queued: AtomicUsize::new(0),
            deltas: view(&mut deltas),
            scores: view(&mut scores),
            threads: threads as usize,
            barrier: Barrier::new(threads as usize),
        };
        search.run();
        registry.free(depths);
        registry.free(deltas);
    }
    registry.free(path_counts);
    registry.free(successors);
    registry.free(queue);
    scores
}

#[inline(never)]
fn allocate_scores(registry: &mut Registry, vertices: usize) -> Vec<f32> {
    registry.add("scores", vec![0.0; vertices])
}

#[inline(never)]
fn allocate_path_counts(registry: &mut Registry, vertices: usize) -> Vec<f64> {
    registry.add("path_counts", vec![0.0; vertices])
}

#[inline(never)]
fn allocate_successors(registry: &mut Registry, words: usize) -> Vec<u64> {
    registry.add("successors", vec![0; words])
}

#[inline(never)]
fn allocate_queue(registry: &mut Registry, vertices: usize) -> Vec<u32> {
    registry.add("queue", vec![0; vertices])
}

#[inline(never)]
fn allocate_depths(registry: &mut Registry, vertices: usize) -> Vec<u32> {
    registry.add("depths", vec![UNREACHED; vertices])
}

#[inline(never)]
fn allocate_deltas(registry: &mut Registry, vertices: usize) -> Vec<f32> {
    registry.add("deltas", vec![0.0; vertices])
}

#[inline(never)]
fn allocate_buffer() -> Vec<u32> {
    Vec::with_capacity(BUFFER)
}

/// One source's search, shared by the threads that carry it out.
#[derive(Debug)]
struct Search<'a> {
    graph: &'a Graph,
    source: u32,
    /// Level of each vertex.
    depths: &'a [AtomicU32],
    /// Shortest paths from the source to each vertex, as bits of an `f64`.
    path_counts: &'a [AtomicU64],
    /// One bit per directed edge: does it lead one level deeper?
    successors: &'a [AtomicU64],
    /// Vertices in the order in which they were reached: a level is a range of it.
    queue: &'a [AtomicU32],
    queued: AtomicUsize,
    /// Dependency of the source on each vertex, as bits of an `f32`.
    deltas: &'a [AtomicU32],
    scores: &'a [AtomicU32],
    threads: usize,
    barrier: Barrier,
}

impl Search<'_> {
    /// Adds the dependencies of the source to the scores.
    fn run(&self) {
        self.depths[self.source as usize].store(0, Relaxed);
        self.path_counts[self.source as usize].store(1f64.to_bits(), Relaxed);
        self.push(&[self.source]);
        on_threads(self.threads as u32, |thread| {
            let mut levels = Vec::new();
            let mut buffer = allocate_buffer();
            let mut level = 0..1;
            while !level.is_empty() {
                levels.push(level.clone());
                for piece in self.pieces(level.clone(), thread) {
                    self.forward(piece, levels.len() as u32, &mut buffer);
                }
                self.push(&buffer);
                buffer.clear();
                self.barrier.wait();
                level = level.end..self.queued.load(Relaxed);
                // Nobody appends to the queue before everybody has read how long it is.
                self.barrier.wait();
            }
            while let Some(level) = levels.pop() {
                self.pieces(level, thread).for_each(|piece| self.backward(piece));
                self.barrier.wait();
            }
        });
    }

    /// The pieces of a level that fall to one thread.
    fn pieces(&self, level: Range<usize>, thread: u32) -> impl Iterator<Item = Range<usize>> {
        turns(level, PIECE, thread, self.threads as u32)
    }

    /// Follows the edges of a piece of a level, to `depth` if they lead to new vertices.
    fn forward(&self, piece: Range<usize>, depth: u32, buffer: &mut Vec<u32>) {
        for u in self.queue[piece].iter().map(|u| u.load(Relaxed)) {
            let paths = self.paths(u);
            let row = self.graph.row(u);
            for (edge, &v) in row.clone().zip(&self.graph.neighbours[row]) {
                let reached = self.reach(v, depth);
                if reached == UNREACHED {
                    if buffer.len() == BUFFER {
                        self.push(buffer);
                        buffer.clear();
                    }
                    buffer.push(v);
                }
                if reached == UNREACHED || reached == depth {
                    self.mark_successor(edge);
                    self.add_paths(v, paths);
                }
            }
        }
    }

    /// Collects the dependencies of a piece of a level from the level below.
    fn backward(&self, piece: Range<usize>) {
        for u in self.queue[piece].iter().map(|u| u.load(Relaxed)) {
            let paths = self.paths(u);
            let row = self.graph.row(u);
            let mut delta = 0f64;
            for (edge, &v) in row.clone().zip(&self.graph.neighbours[row]) {
                if self.is_successor(edge) {
                    delta += paths / self.paths(v) * f64::from(1.0 + load(&self.deltas[v as usize]));
                }
            }
            store(&self.deltas[u as usize], delta as f32);
            if u != self.source {
                let score = &self.scores[u as usize];
                store(score, load(score) + delta as f32);
            }
        }
    }

    /// Takes a vertex into the level `depth` if no level has it. Returns the level that had it, if any.
    #[inline]
    fn reach(&self, v: u32, depth: u32) -> u32 {
        let cell = &self.depths[v as usize];
        let found = cell.load(Relaxed);
        if found != UNREACHED {
            return found;
        }
        if self.threads == 1 {
            cell.store(depth, Relaxed);
            return found;
        }
        cell.compare_exchange(UNREACHED, depth, Relaxed, Relaxed).unwrap_or_else(|other| other)
    }

    #[inline]
    fn paths(&self, v: u32) -> f64 {
        f64::from_bits(self.path_counts[v as usize].load(Relaxed))
    }

    #[inline]
    fn add_paths(&self, v: u32, paths: f64) {
        let cell = &self.path_counts[v as usize];
        let mut before = cell.load(Relaxed);
        if self.threads == 1 {
            cell.store((f64::from_bits(before) + paths).to_bits(), Relaxed);
            return;
        }
        while let Err(now) =
            cell.compare_exchange_weak(before, (f64::from_bits(before) + paths).to_bits(), Relaxed, Relaxed)
        {
            before = now;
        }
    }

    #[inline]
    fn mark_successor(&self, edge: usize) {
        let (word, bit) = (&self.successors[edge / 64], 1 << (edge % 64));
        if self.threads == 1 {
            word.store(word.load(Relaxed) | bit, Relaxed);
        } else {
            word.fetch_or(bit, Relaxed);
        }
    }

    #[inline]
    fn is_successor(&self, edge: usize) -> bool {
        self.successors[edge / 64].load(Relaxed) >> (edge % 64) & 1 == 1
    }

    /// Appends to the queue.
    fn push(&self, vertices: &[u32]) {
        let start = self.queued.fetch_add(vertices.len(), Relaxed);
        for (cell, &vertex) in self.queue[start..].iter().zip(vertices) {
            cell.store(vertex, Relaxed);
        }
    }
}

#[inline]
fn load(cell: &AtomicU32) -> f32 {
    f32::from_bits(cell.load(Relaxed))
}

#[inline]
fn store(cell: &AtomicU32, number: f32) {
    cell.store(number.to_bits(), Relaxed);
}

/// Of the bits of the scores.
fn checksum(scores: &[f32]) -> String {
    checksum::of(scores.iter().map(|score| u64::from(score.to_bits())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command_line::GraphKind;

    fn scores(graph: &Graph, sources: &[u32], threads: u32) -> Vec<f32> {
        betweenness(graph, sources, threads, &mut Registry::default())
    }

    /// Distances and numbers of shortest paths between all pairs, by relaxation until nothing changes.
    fn all_pairs(graph: &Graph) -> (Vec<Vec<usize>>, Vec<Vec<f64>>) {
        let n = graph.vertices();
        let mut distances = vec![vec![usize::MAX; n]; n];
        let mut paths = vec![vec![0.0; n]; n];
        for s in 0..n {
            distances[s][s] = 0;
            paths[s][s] = 1.0;
            for depth in 1..n {
                for v in (0..n).filter(|&v| v != s) {
                    let from_above: f64 = graph.neighbours[graph.row(v as u32)]
                        .iter()
                        .filter(|&&u| distances[s][u as usize] == depth - 1)
                        .map(|&u| paths[s][u as usize])
                        .sum();
                    if distances[s][v] == usize::MAX && from_above > 0.0 {
                        distances[s][v] = depth;
                        paths[s][v] = from_above;
                    }
                }
            }
        }
        (distances, paths)
    }

    /// The definition: for each pair, the share of its shortest paths that pass through `v`.
    fn by_definition(graph: &Graph, sources: &[u32]) -> Vec<f64> {
        let (distances, paths) = all_pairs(graph);
        let n = graph.vertices();
        let through = |s: usize, t: usize, v: usize| {
            let (before, after) = (distances[s][v], distances[v][t]);
            let between = before != usize::MAX && after != usize::MAX && before + after == distances[s][t];
            if between && s != v && v != t { paths[s][v] * paths[v][t] / paths[s][t] } else { 0.0 }
        };
        let of = |v| sources.iter().flat_map(|&s| (0..n).map(move |t| through(s as usize, t, v))).sum();
        (0..n).map(of).collect()
    }

    #[test]
    fn scores_are_those_of_the_definition() {
        for (kind, bits) in [(GraphKind::Kronecker, 6), (GraphKind::Uniform, 5), (GraphKind::Kronecker, 3)] {
            for seed in 0..4 {
                let graph = Graph::generate(kind, bits, seed, 1, &mut Registry::default());
                let sources: Vec<_> = (0..1 << bits).collect();
                let expected = by_definition(&graph, &sources);
                for (score, expected) in scores(&graph, &sources, 1).into_iter().zip(expected) {
                    let score = f64::from(score);
                    assert!((score - expected).abs() <= 1e-4 * expected.max(1.0), "{score} against {expected}");
                }
            }
        }
    }

    #[test]
    fn the_middle_of_a_path_carries_every_pair_across_it() {
        let edges = [(0, 1), (1, 2), (2, 3), (3, 4)];
        let graph = Graph::build(5, 4, |i| edges[i as usize], 1, &mut Registry::default());
        assert_eq!(scores(&graph, &[0, 1, 2, 3, 4], 1), [0.0, 6.0, 8.0, 6.0, 0.0]);
    }

    #[test]
    fn the_number_of_threads_changes_nothing() {
        for kind in [GraphKind::Kronecker, GraphKind::Uniform] {
            let graph = Graph::generate(kind, 12, 5, 2, &mut Registry::default());
            let sources: Vec<_> = graph.sources(5).take(3).collect();
            let one = checksum(&scores(&graph, &sources, 1));
            for threads in [2, 3, 8] {
                assert_eq!(one, checksum(&scores(&graph, &sources, threads)), "{threads} threads");
            }
        }
    }

    #[test]
    fn objects_are_noted_and_those_of_a_source_live_as_long_as_its_search() {
        let mut registry = Registry::default();
        let graph = Graph::generate(GraphKind::Kronecker, 8, 1, 1, &mut registry);
        betweenness(&graph, &[1, 2], 1, &mut registry);
        let names: Vec<_> = registry.blocks().iter().map(|block| block.name).collect();
        let once = ["offsets", "neighbours", "scores", "path_counts", "successors", "queue"];
        assert_eq!(names[..6], once);
        assert_eq!(names[6..], ["depths", "deltas", "depths", "deltas"]);
        assert!(registry.blocks()[3..].iter().all(|block| block.freed_ns.is_some()));
    }
}
