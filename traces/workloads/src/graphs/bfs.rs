//! `bfs`: breadth-first search, for row 7, placing graph data by object on Optane.
//!
//! Direction-optimising (Beamer, Asanovic and Patterson, SC 2012), with the thresholds of the GAP benchmark. While few
//! edges leave the frontier, its vertices are taken from a queue and look downwards for neighbours without a parent. When
//! many do, every vertex without a parent looks upwards instead, for a neighbour in the frontier, which is a bitmap then,
//! and stops at the first: most edges are never looked at.
//!
//! Kept: random reads of `parents` downwards; upwards, `parents` and `offsets` in order, random bits of `frontier`, and the
//! beginnings of most rows of `neighbours`; `parents` allocated anew for every source, as the benchmark does. Left out: the
//! benchmark's trick of keeping degrees in `parents`.
//!
//! Expected on top: `neighbours` and `parents`, and in this order where the graph is much larger than the cache:
//! published work on this kernel found `neighbours` to matter most although `parents` misses more often. The bitmaps are
//! a thirty-second of `parents` and stay in the cache; the queue is written and read in order. (Tierscope's clock
//! sampler, `small`: 38, 22, 12 and less than 1 % of the samples.)
//!
//! Which of several possible parents a vertex gets depends on the threads; how many vertices each level has does not, and
//! these numbers make the checksum.

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
pub(crate) const UNREACHED: u32 = u32::MAX;

/// Looking upwards begins when the frontier has more than this part of the edges that were not looked at.
const UPWARDS_PART: u64 = 15;

/// It ends when the frontier shrinks below this part of the vertices.
const DOWNWARDS_PART: usize = 18;

/// Vertices a thread takes from a level at a time, and words of 64 vertices it takes from a bitmap.
const PIECE: usize = 64;

/// Vertices a thread collects before it appends them to the queue.
const BUFFER: usize = 1024;

/// Runs the workload.
pub(crate) fn run(settings: &Settings, run: &mut Run) -> Map<String, Value> {
    let graph = graphs::obtain(settings, run);
    let threads = run.threads();
    let sources: Vec<u32> = graph.sources(settings.seed).take(settings.iterations as usize).collect();
    let levels = run.phase(c"kernel", |run| {
        let mut arrays = Arrays::new(&graph, &mut run.registry);
        let mut levels = Vec::new();
        for &source in &sources {
            let (parents, sizes) = search(&graph, source, &mut arrays, threads, &mut run.registry);
            run.registry.free(parents);
            levels.push(sizes);
        }
        arrays.free(&mut run.registry);
        levels
    });
    let mut result = graphs::result(settings, &graph, checksum::of(levels.iter().flatten().copied()));
    result.insert("sources".into(), json!(sources));
    result.insert("reached".into(), json!(levels.last().map_or(0, |sizes| sizes.iter().sum())));
    result
}

/// What searches share: made once, used by each.
#[derive(Debug)]
pub(crate) struct Arrays {
    queue: Vec<u32>,
    frontier: Vec<u64>,
    next_frontier: Vec<u64>,
}

impl Arrays {
    pub(crate) fn new(graph: &Graph, registry: &mut Registry) -> Self {
        let words = graph.vertices().div_ceil(64);
        Arrays {
            queue: allocate_queue(registry, graph.vertices()),
            frontier: allocate_frontier(registry, words),
            next_frontier: allocate_next_frontier(registry, words),
        }
    }

    pub(crate) fn free(self, registry: &mut Registry) {
        registry.free(self.queue);
        registry.free(self.frontier);
        registry.free(self.next_frontier);
    }
}

/// For each vertex one neighbour that is a step nearer to the source, which is its own (`UNREACHED` where there is no
/// way); and how many vertices are 0, 1, 2 ... steps away.
pub(crate) fn search(
    graph: &Graph,
    source: u32,
    arrays: &mut Arrays,
    threads: u32,
    registry: &mut Registry,
) -> (Vec<u32>, Vec<u64>) {
    let mut parents = allocate_parents(registry, graph.vertices());
    let search = Search {
        graph,
        parents: view(&mut parents),
        queue: view(&mut arrays.queue),
        queued: AtomicUsize::new(0),
        bitmaps: [view(&mut arrays.frontier), view(&mut arrays.next_frontier)],
        count: AtomicU64::new(0),
        threads,
        barrier: Barrier::new(threads as usize),
    };
    search.parents[source as usize].store(source, Relaxed);
    search.push(&[source]);
    let sizes = std::sync::Mutex::new(Vec::new());
    on_threads(threads, |thread| {
        let found = Walk { search: &search, thread, counted: 0 }.levels(source);
        if thread == 0
            && let Ok(mut sizes) = sizes.lock()
        {
            *sizes = found;
        }
    });
    (parents, sizes.into_inner().unwrap_or_default())
}

#[inline(never)]
fn allocate_parents(registry: &mut Registry, vertices: usize) -> Vec<u32> {
    registry.add("parents", vec![UNREACHED; vertices])
}

#[inline(never)]
fn allocate_queue(registry: &mut Registry, vertices: usize) -> Vec<u32> {
    registry.add("queue", vec![0; vertices])
}

#[inline(never)]
fn allocate_frontier(registry: &mut Registry, words: usize) -> Vec<u64> {
    registry.add("frontier", vec![0; words])
}

#[inline(never)]
fn allocate_next_frontier(registry: &mut Registry, words: usize) -> Vec<u64> {
    registry.add("next_frontier", vec![0; words])
}

#[inline(never)]
fn allocate_buffer() -> Vec<u32> {
    Vec::with_capacity(BUFFER)
}

/// One source's search, shared by the threads that carry it out.
#[derive(Debug)]
struct Search<'a> {
    graph: &'a Graph,
    parents: &'a [AtomicU32],
    /// Vertices in the order in which they were reached, but for those of levels that were bitmaps.
    queue: &'a [AtomicU32],
    queued: AtomicUsize,
    /// The frontier and the next one, in turn.
    bitmaps: [&'a [AtomicU64]; 2],
    /// What the threads count, from the beginning of the search.
    count: AtomicU64,
    threads: u32,
    barrier: Barrier,
}

impl Search<'_> {
    /// Appends to the queue.
    fn push(&self, vertices: &[u32]) {
        let start = self.queued.fetch_add(vertices.len(), Relaxed);
        for (cell, &vertex) in self.queue[start..].iter().zip(vertices) {
            cell.store(vertex, Relaxed);
        }
    }

    /// Makes `u` the parent of `v` if it has none.
    #[inline]
    fn adopt(&self, u: u32, v: u32) -> bool {
        let parent = &self.parents[v as usize];
        if parent.load(Relaxed) != UNREACHED {
            return false;
        }
        if self.threads == 1 {
            parent.store(u, Relaxed);
            return true;
        }
        parent.compare_exchange(UNREACHED, u, Relaxed, Relaxed).is_ok()
    }
}

/// One thread's part in a search. All threads make the same decisions, as all see the same counts.
#[derive(Debug)]
struct Walk<'a> {
    search: &'a Search<'a>,
    thread: u32,
    /// How much of the common count this thread has seen.
    counted: u64,
}

impl Walk<'_> {
    /// Goes through all levels and returns their sizes.
    fn levels(mut self, source: u32) -> Vec<u64> {
        let graph = self.search.graph;
        let mut sizes = vec![1];
        let mut level = 0..1;
        let mut leaving = graph.row(source).len() as u64;
        let mut unseen = graph.neighbours.len() as u64;
        while !level.is_empty() {
            if leaving > unseen / UPWARDS_PART {
                level = self.upwards(level, &mut sizes);
                // So few vertices are left that what leaves them is not worth counting.
                leaving = 1;
            } else {
                unseen -= leaving;
                leaving = self.downwards(level.clone());
                level = level.end..self.search.queued.load(Relaxed);
                // Nobody appends to the queue before everybody has read how long it is.
                self.search.barrier.wait();
                sizes.push(level.len() as u64);
            }
        }
        while sizes.last() == Some(&0) {
            sizes.pop();
        }
        sizes
    }

    /// Adds to the common count, and returns what all threads have added since the last time.
    fn total(&mut self, mine: u64) -> u64 {
        self.search.count.fetch_add(mine, Relaxed);
        self.search.barrier.wait();
        let now = self.search.count.load(Relaxed);
        let total = now - self.counted;
        self.counted = now;
        // Nobody adds before everybody has read.
        self.search.barrier.wait();
        total
    }

    fn turns(&self, range: Range<usize>) -> impl Iterator<Item = Range<usize>> + use<> {
        turns(range, PIECE, self.thread, self.search.threads)
    }

    /// Lets a level look for children, which are appended to the queue. Returns how many edges leave them.
    fn downwards(&mut self, level: Range<usize>) -> u64 {
        let search = self.search;
        let mut buffer = allocate_buffer();
        let mut leaving = 0;
        for u in self.turns(level).flat_map(|piece| &search.queue[piece]).map(|u| u.load(Relaxed)) {
            for &v in &search.graph.neighbours[search.graph.row(u)] {
                if search.adopt(u, v) {
                    leaving += search.graph.row(v).len() as u64;
                    if buffer.len() == BUFFER {
                        search.push(&buffer);
                        buffer.clear();
                    }
                    buffer.push(v);
                }
            }
        }
        search.push(&buffer);
        self.total(leaving)
    }

    /// Lets vertices look for parents, level by level, while that is worth it. Returns the last level, in the queue.
    fn upwards(&mut self, level: Range<usize>, sizes: &mut Vec<u64>) -> Range<usize> {
        let search = self.search;
        let [mut frontier, mut next] = search.bitmaps;
        for word in self.turns(0..frontier.len()).flat_map(|piece| &frontier[piece]) {
            word.store(0, Relaxed);
        }
        search.barrier.wait();
        for v in self.turns(level.clone()).flat_map(|piece| &search.queue[piece]).map(|v| v.load(Relaxed)) {
            frontier[v as usize / 64].fetch_or(1 << (v % 64), Relaxed);
        }
        search.barrier.wait();
        let mut size = level.len() as u64;
        loop {
            let before = size;
            let mut found = 0;
            for word in self.turns(0..next.len()).flatten() {
                let bits = self.look_up(word, frontier);
                next[word].store(bits, Relaxed);
                found += u64::from(bits.count_ones());
            }
            size = self.total(found);
            sizes.push(size);
            (frontier, next) = (next, frontier);
            if size < before && size as usize <= search.parents.len() / DOWNWARDS_PART {
                break;
            }
        }
        let mut buffer = allocate_buffer();
        for word in self.turns(0..frontier.len()).flatten() {
            let mut bits = frontier[word].load(Relaxed);
            while bits != 0 {
                buffer.push((word * 64) as u32 + bits.trailing_zeros());
                bits &= bits - 1;
            }
            if buffer.len() > BUFFER - 64 {
                search.push(&buffer);
                buffer.clear();
            }
        }
        search.push(&buffer);
        search.barrier.wait();
        let level = level.end..search.queued.load(Relaxed);
        search.barrier.wait();
        level
    }

    /// Lets the vertices of a word that have no parent look for one in the frontier; a bit is set for each that finds one.
    #[inline]
    fn look_up(&self, word: usize, frontier: &[AtomicU64]) -> u64 {
        let search = self.search;
        let is_in_frontier = |u: u32| frontier[u as usize / 64].load(Relaxed) >> (u % 64) & 1 == 1;
        let mut bits = 0;
        for v in word * 64..search.parents.len().min(word * 64 + 64) {
            if search.parents[v].load(Relaxed) == UNREACHED {
                let row = &search.graph.neighbours[search.graph.row(v as u32)];
                if let Some(&u) = row.iter().find(|&&u| is_in_frontier(u)) {
                    search.parents[v].store(u, Relaxed);
                    bits |= 1 << (v % 64);
                }
            }
        }
        bits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command_line::GraphKind;

    fn found(graph: &Graph, source: u32, threads: u32) -> (Vec<u32>, Vec<u64>) {
        let registry = &mut Registry::default();
        search(graph, source, &mut Arrays::new(graph, registry), threads, registry)
    }

    /// Steps from the source, by a queue.
    fn distances(graph: &Graph, source: u32) -> Vec<u32> {
        let mut distances = vec![UNREACHED; graph.vertices()];
        distances[source as usize] = 0;
        let mut queue = std::collections::VecDeque::from([source]);
        while let Some(u) = queue.pop_front() {
            for &v in &graph.neighbours[graph.row(u)] {
                if distances[v as usize] == UNREACHED {
                    distances[v as usize] = distances[u as usize] + 1;
                    queue.push_back(v);
                }
            }
        }
        distances
    }

    /// Parents are neighbours one step nearer, and levels have the sizes they say.
    #[track_caller]
    fn expect_right(graph: &Graph, source: u32, threads: u32) {
        let (parents, sizes) = found(graph, source, threads);
        let distances = distances(graph, source);
        assert_eq!(parents[source as usize], source);
        for (v, (&parent, &distance)) in parents.iter().zip(&distances).enumerate() {
            assert_eq!(parent == UNREACHED, distance == UNREACHED, "vertex {v}");
            if distance != UNREACHED && distance > 0 {
                assert!(graph.neighbours[graph.row(v as u32)].contains(&parent));
                assert_eq!(distances[parent as usize] + 1, distance, "vertex {v}");
            }
        }
        let size = |depth| distances.iter().filter(|&&distance| distance == depth).count() as u64;
        assert_eq!(sizes, (0..).map(size).take_while(|&size| size > 0).collect::<Vec<_>>());
    }

    #[test]
    fn parents_are_one_step_nearer() {
        for kind in [GraphKind::Kronecker, GraphKind::Uniform] {
            for (bits, seed) in [(3, 1), (6, 2), (11, 3)] {
                let graph = Graph::generate(kind, bits, seed, 1, &mut Registry::default());
                graph.sources(seed).take(5).for_each(|source| expect_right(&graph, source, 1));
                graph.sources(seed).take(5).for_each(|source| expect_right(&graph, source, 3));
            }
        }
    }

    #[test]
    fn a_path_is_walked_to_its_end() {
        let graph = Graph::build(300, 299, |i| (i as u32, i as u32 + 1), 1, &mut Registry::default());
        expect_right(&graph, 0, 1);
        expect_right(&graph, 150, 2);
    }

    #[test]
    fn a_vertex_without_neighbours_reaches_itself() {
        let graph = Graph::build(4, 1, |_| (1, 2), 1, &mut Registry::default());
        assert_eq!(found(&graph, 0, 1), (vec![0, UNREACHED, UNREACHED, UNREACHED], vec![1]));
    }

    #[test]
    fn arrays_serve_one_search_after_another() {
        let graph = Graph::generate(GraphKind::Kronecker, 11, 1, 1, &mut Registry::default());
        let registry = &mut Registry::default();
        let mut arrays = Arrays::new(&graph, registry);
        for source in graph.sources(1).take(6) {
            assert_eq!(search(&graph, source, &mut arrays, 2, registry).1, found(&graph, source, 1).1);
        }
    }
}
