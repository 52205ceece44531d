//! Undirected random graphs in compressed sparse rows, built without ever holding more than the graph.
//!
//! A generator usually peaks far above what the kernel will use, because it keeps the list of edges beside the rows it
//! fills from it, and a profile then shows the generator. Here edge number `i` is a pure function of the seed and `i`
//! (see [`crate::random`]), so that the edges are generated twice instead of stored: one pass counts degrees, the other places
//! both directions of each edge. Rows are sorted and duplicates squeezed out in place; the array keeps its capacity, as
//! giving the slack back (6 % at most) would move an object that has been noted. The cursors of the second pass are the
//! offsets themselves: after it, each holds the end of its row, which is the beginning of the next.
//!
//! The Kronecker graph is the one of Graph500 and the GAP benchmark: R-MAT with A = 0.57, B = C = 0.19 and 16 edges per
//! vertex (Chakrabarti, Zhan and Faloutsos, SDM 2004), its vertices renumbered so that a number says nothing about a
//! degree. Probabilities are rounded to 16 bits, and numbers are scrambled by a bijection instead of a permutation
//! table. The uniform graph has as many vertices and edges.

use std::mem;
use std::ops::Range;
use std::sync::atomic::Ordering::Relaxed;

use crate::command_line::GraphKind;
use crate::random;
use crate::registry::Registry;
use crate::shared::{self, Pieces};

/// Generated edges per vertex; each is stored in both directions.
const EDGE_FACTOR: u64 = 16;

/// Edges generated before they are placed. Generating is arithmetic and placing is cache misses: taken apart, many
/// misses are under way at once.
const BATCH: usize = 1 << 12;

/// An undirected graph: the neighbours of `v`, in ascending order and without `v`, are
/// `neighbours[offsets[v]..offsets[v + 1]]`.
#[derive(Debug)]
pub(crate) struct Graph {
    pub(crate) offsets: Vec<u64>,
    pub(crate) neighbours: Vec<u32>,
}

impl Graph {
    /// A graph of 2^`bits` vertices (`bits` from 1 to 28).
    pub(crate) fn generate(kind: GraphKind, bits: u32, seed: u64, threads: u32, registry: &mut Registry) -> Graph {
        let edges = EDGE_FACTOR << bits;
        let seed = random::derive(seed, 0x0067_7261_7068);
        match kind {
            GraphKind::Kronecker => {
                let scramble = Scramble::new(bits, seed);
                let edge = move |i| kronecker_edge(bits, seed, i, &scramble);
                Graph::build(1 << bits, edges, edge, threads, registry)
            }
            GraphKind::Uniform => {
                let vertices = 1 << bits;
                let end = move |i| random::below(random::at(seed, i), vertices);
                Graph::build(vertices, edges, move |i| (end(2 * i), end(2 * i + 1)), threads, registry)
            }
        }
    }

    /// The graph of the `edges` edges that `edge` generates, without loops and duplicates.
    pub(crate) fn build(
        vertices: u32,
        edges: u64,
        edge: impl Fn(u64) -> (u32, u32) + Sync,
        threads: u32,
        registry: &mut Registry,
    ) -> Graph {
        let count = vertices as usize;
        let mut offsets = allocate_offsets(registry, count + 1);
        for_each_batch(edges, &edge, threads, {
            let degrees = shared::view(&mut offsets);
            let count = move |u: u32| shared::add(&degrees[u as usize], 1, threads > 1);
            move |batch| {
                for &(u, v) in batch {
                    count(u);
                    count(v);
                }
            }
        });
        let mut total = 0;
        for offset in &mut offsets {
            let degree = *offset;
            *offset = total;
            total += degree;
        }

        let mut neighbours = allocate_neighbours(registry, total as usize);
        for_each_batch(edges, &edge, threads, {
            let (cursors, slots) = (shared::view(&mut offsets), shared::view(&mut neighbours));
            let place = move |u: u32, v| {
                let slot = shared::add(&cursors[u as usize], 1, threads > 1);
                slots[slot as usize].store(v, Relaxed);
            };
            move |batch| {
                for &(u, v) in batch {
                    place(u, v);
                    place(v, u);
                }
            }
        });
        sort_rows(&mut neighbours, &offsets[..count], threads);
        squeeze(&mut neighbours, &mut offsets);
        Graph { offsets, neighbours }
    }

    /// How many vertices there are.
    pub(crate) fn vertices(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Where the row of `v` lies in `neighbours`.
    #[inline]
    pub(crate) fn row(&self, v: u32) -> Range<usize> {
        self.offsets[v as usize] as usize..self.offsets[v as usize + 1] as usize
    }

    /// Whether the arrays are rows of a graph: each row ends where the next begins, the last with the array, and
    /// neighbours are vertices.
    pub(crate) fn is_sound(&self) -> bool {
        let vertices = self.vertices() as u64;
        self.offsets.first() == Some(&0)
            && self.offsets.is_sorted()
            && self.offsets.last() == Some(&(self.neighbours.len() as u64))
            && self.neighbours.iter().all(|&neighbour| u64::from(neighbour) < vertices)
    }

    /// Vertices with neighbours, by chance; the same for the same seed. Empty where no vertex has any.
    pub(crate) fn sources(&self, seed: u64) -> impl Iterator<Item = u32> {
        let seed = random::derive(seed, 0x736f_7572_6365);
        let candidates = if self.neighbours.is_empty() { 0 } else { u64::MAX };
        let vertices = self.vertices() as u32;
        (0..candidates).map(move |i| random::below(random::at(seed, i), vertices)).filter(|&v| !self.row(v).is_empty())
    }
}

#[inline(never)]
pub(super) fn allocate_offsets(registry: &mut Registry, length: usize) -> Vec<u64> {
    registry.add("offsets", vec![0; length])
}

#[inline(never)]
pub(super) fn allocate_neighbours(registry: &mut Registry, length: usize) -> Vec<u32> {
    registry.add("neighbours", vec![0; length])
}

/// Calls `place` with the edges that are no loops, some at a time.
fn for_each_batch(
    edges: u64,
    edge: &(impl Fn(u64) -> (u32, u32) + Sync),
    threads: u32,
    place: impl Fn(&[(u32, u32)]) + Sync,
) {
    let pieces = Pieces::new(0..edges as usize, BATCH);
    shared::on_threads(threads, |_| {
        let mut batch = Vec::with_capacity(BATCH);
        while let Some(piece) = pieces.take() {
            batch.clear();
            batch.extend(piece.map(|i| edge(i as u64)).filter(|(u, v)| u != v));
            place(&batch);
        }
    });
}

/// Sorts each row; `ends` are the rows' ends. Threads get runs of whole rows with about as many edges each.
fn sort_rows(mut neighbours: &mut [u32], mut ends: &[u64], threads: u32) {
    let share = neighbours.len() as u64 / u64::from(threads) + 1;
    let mut begin = 0;
    std::thread::scope(move |scope| {
        while !ends.is_empty() {
            let rows = ends.partition_point(|&end| end < begin + share).saturating_add(1).min(ends.len());
            let (mine, others) = ends.split_at(rows);
            let end = mine[rows - 1];
            let (run, rest) = mem::take(&mut neighbours).split_at_mut((end - begin) as usize);
            let first = begin;
            let sort = move || {
                let (mut run, mut start) = (run, first);
                for &end in mine {
                    let (row, rest) = run.split_at_mut((end - start) as usize);
                    row.sort_unstable();
                    (run, start) = (rest, end);
                }
            };
            if others.is_empty() {
                sort();
            } else {
                scope.spawn(sort);
            }
            (neighbours, ends, begin) = (rest, others, end);
        }
    });
}

/// Moves the distinct neighbours of each row together. `offsets` holds the rows' ends, and their beginnings afterwards.
fn squeeze(neighbours: &mut Vec<u32>, offsets: &mut [u64]) {
    let (mut kept, mut start) = (0, 0);
    for offset in offsets.iter_mut() {
        // The last offset has no row: no edge moved it, and it equals the end of the last row.
        let end = *offset as usize;
        *offset = kept as u64;
        let row = kept;
        for index in start..end {
            let neighbour = neighbours[index];
            if kept == row || neighbours[kept - 1] != neighbour {
                neighbours[kept] = neighbour;
                kept += 1;
            }
        }
        start = end;
    }
    neighbours.truncate(kept);
}

/// One edge of the Kronecker graph: at each level one of four quadrants is chosen, four levels to a random word.
#[inline]
fn kronecker_edge(bits: u32, seed: u64, index: u64, scramble: &Scramble) -> (u32, u32) {
    const A: u32 = (0.57 * 65536.0) as u32;
    const A_B: u32 = (0.76 * 65536.0) as u32;
    const A_B_C: u32 = (0.95 * 65536.0) as u32;
    let words = u64::from(bits.div_ceil(4));
    let (mut u, mut v) = (0, 0);
    let mut word = 0;
    for level in 0..bits {
        if level % 4 == 0 {
            word = random::at(seed, index * words + u64::from(level / 4));
        }
        let draw = (word & 0xffff) as u32;
        word >>= 16;
        let down = u32::from(draw >= A_B);
        let right = u32::from(draw >= A) - down + u32::from(draw >= A_B_C);
        u = u << 1 | down;
        v = v << 1 | right;
    }
    (scramble.apply(u), scramble.apply(v))
}

/// A bijection of the numbers below 2^`bits`: multiplication by an odd number and a folding of the high half into the
/// low one are each invertible.
#[derive(Debug)]
struct Scramble {
    mask: u32,
    fold: u32,
    factors: [u32; 2],
}

impl Scramble {
    fn new(bits: u32, seed: u64) -> Self {
        let odd = |stream| random::derive(seed, stream) as u32 | 1;
        Scramble { mask: (1 << bits) - 1, fold: bits.div_ceil(2), factors: [odd(1), odd(2)] }
    }

    #[inline]
    fn apply(&self, mut number: u32) -> u32 {
        for factor in self.factors {
            number = number.wrapping_mul(factor) & self.mask;
            number ^= number >> self.fold;
        }
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generate(kind: GraphKind, bits: u32, seed: u64, threads: u32) -> Graph {
        Graph::generate(kind, bits, seed, threads, &mut Registry::default())
    }

    #[test]
    fn rows_are_sorted_distinct_loop_free_and_symmetric() {
        for kind in [GraphKind::Kronecker, GraphKind::Uniform] {
            let graph = generate(kind, 10, 3, 1);
            assert_eq!((graph.vertices(), graph.offsets[0]), (1 << 10, 0));
            assert_eq!(*graph.offsets.last().unwrap() as usize, graph.neighbours.len());
            for u in 0..1 << 10 {
                let row = &graph.neighbours[graph.row(u)];
                assert!(row.is_sorted_by(|a, b| a < b), "{u}: {row:?}");
                for &v in row {
                    assert_ne!(u, v);
                    assert!(graph.neighbours[graph.row(v)].binary_search(&u).is_ok(), "{u} -> {v}");
                }
            }
        }
    }

    #[test]
    fn the_graph_is_that_of_its_edges() {
        let edges = [(0, 1), (1, 0), (2, 2), (1, 3), (0, 1), (3, 1)];
        let graph = Graph::build(5, 6, |i| edges[i as usize], 1, &mut Registry::default());
        assert_eq!(graph.offsets, [0, 1, 3, 3, 4, 4]);
        assert_eq!(graph.neighbours, [1, 0, 3, 1]);
    }

    #[test]
    fn threads_and_repetition_change_nothing_and_the_seed_does() {
        for kind in [GraphKind::Kronecker, GraphKind::Uniform] {
            let one = generate(kind, 12, 7, 1);
            let four = generate(kind, 12, 7, 4);
            assert_eq!((&one.offsets, &one.neighbours), (&four.offsets, &four.neighbours));
            assert_ne!(one.neighbours, generate(kind, 12, 8, 1).neighbours);
        }
    }

    #[test]
    fn the_kronecker_graph_is_skewed_and_the_uniform_one_is_not() {
        let share_of_hottest_percent = |kind| {
            let graph = generate(kind, 14, 1, 2);
            let mut degrees: Vec<_> = (0..1 << 14).map(|v| graph.row(v).len()).collect();
            degrees.sort_unstable_by(|a, b| b.cmp(a));
            degrees[..164].iter().sum::<usize>() as f64 / graph.neighbours.len() as f64
        };
        assert!(share_of_hottest_percent(GraphKind::Kronecker) > 0.15);
        assert!(share_of_hottest_percent(GraphKind::Uniform) < 0.02);
    }

    #[test]
    fn scrambling_is_a_bijection() {
        for bits in [1, 2, 7, 12] {
            let scramble = Scramble::new(bits, 5);
            let mut seen = vec![false; 1 << bits];
            (0..1u32 << bits).for_each(|number| seen[scramble.apply(number) as usize] = true);
            assert!(seen.iter().all(|&seen| seen));
        }
    }

    #[test]
    fn generating_holds_nothing_but_the_graph() {
        let mut registry = Registry::default();
        let graph = Graph::generate(GraphKind::Kronecker, 14, 1, 1, &mut registry);
        let names: Vec<_> = registry.blocks().iter().map(|block| block.name).collect();
        assert_eq!(names, ["offsets", "neighbours"]);
        assert!(graph.neighbours.len() as f64 > 0.8 * graph.neighbours.capacity() as f64);
    }

    #[test]
    fn sources_have_neighbours() {
        let graph = generate(GraphKind::Kronecker, 10, 1, 1);
        assert!(graph.sources(4).take(100).all(|v| !graph.row(v).is_empty()));
        let empty = Graph::build(4, 0, |_| (0, 0), 1, &mut Registry::default());
        assert_eq!(empty.sources(4).next(), None);
    }
}
