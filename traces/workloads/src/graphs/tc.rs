//! `tc`: counting triangles, for row 7, placing graph data by object on Optane.
//!
//! The way of the GAP benchmark: vertices are renumbered by degree, the largest first, and each keeps only its
//! neighbours with smaller numbers, so that even in a skewed graph no row is long. A triangle is then seen once, from its
//! largest number: as an edge from `u` to `v`, and a vertex in the rows of both.
//!
//! Kept: rows merged with rows, each read in order from a random beginning; the
//! graph as it was generated stays allocated beside the renumbered one, unused. Left out: the sample by which the benchmark
//! decides whether renumbering is worth it; here it always is done, before the kernel, in the phase `build`.
//!
//! Expected on top: `ranked_neighbours`, with nearly all samples (94 % by Tierscope's clock sampler at `small`). The rows
//! of few vertices are read again and again and stay in the cache, so that it suffers less from slow memory than its
//! number of reads suggests. Then `ranked_offsets`, read at random once per edge. `offsets` and `neighbours` are not
//! touched: whoever ranks by size is wrong here.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde_json::{Map, Value, json};

use super::graph::Graph;
use crate::command_line::Settings;
use crate::registry::Registry;
use crate::run::Run;
use crate::shared::{Word, for_each_piece, view};
use crate::{checksum, graphs};

/// Vertices a thread takes at a time: rows with large numbers cost more than others.
const PIECE: usize = 64;

/// Runs the workload.
pub(crate) fn run(settings: &Settings, run: &mut Run) -> Map<String, Value> {
    let graph = graphs::obtain(settings, run);
    let threads = run.threads();
    let ranked = run.phase(c"build", |run| rank(&graph, threads, &mut run.registry));
    let triangles = run.phase(c"kernel", |_| {
        // Each iteration counts them all, and finds as many.
        (0..settings.iterations).fold(0, |_, _| triangles(&ranked, threads))
    });
    let mut result = graphs::result(settings, &graph, checksum::of([triangles]));
    result.insert("triangles".into(), json!(triangles));
    result
}

/// The graph with its vertices renumbered by falling degree (of equal ones, the smaller number first), each with its
/// neighbours of smaller numbers only.
pub(crate) fn rank(graph: &Graph, threads: u32, registry: &mut Registry) -> Graph {
    let vertices = graph.vertices();
    let mut order = allocate_order(registry, vertices);
    order.sort_unstable_by_key(|&v| (usize::MAX - graph.row(v).len(), v));
    let mut ranks = allocate_ranks(registry, vertices);
    for (rank, &v) in order.iter().enumerate() {
        ranks[v as usize] = rank as u32;
    }
    let smaller = |rank: u32| {
        let row = &graph.neighbours[graph.row(order[rank as usize])];
        row.iter().map(|&v| ranks[v as usize]).filter(move |&other| other < rank)
    };
    let mut offsets = allocate_ranked_offsets(registry, vertices + 1);
    let mut total = 0;
    for (rank, offset) in offsets.iter_mut().enumerate() {
        *offset = total;
        if rank < vertices {
            total += smaller(rank as u32).count() as u64;
        }
    }
    let mut neighbours = allocate_ranked_neighbours(registry, total as usize);
    let cells = view(&mut neighbours);
    for_each_piece(0..vertices, PIECE, threads, |piece| {
        let mut row = Vec::new();
        for rank in piece {
            row.clear();
            row.extend(smaller(rank as u32));
            row.sort_unstable();
            store(&cells[offsets[rank] as usize..], &row);
        }
    });
    registry.free(order);
    registry.free(ranks);
    Graph { offsets, neighbours }
}

fn store(cells: &[<u32 as Word>::Atomic], numbers: &[u32]) {
    for (cell, &number) in cells.iter().zip(numbers) {
        cell.store(number, Relaxed);
    }
}

/// How many triangles there are in a ranked graph.
pub(crate) fn triangles(ranked: &Graph, threads: u32) -> u64 {
    let total = AtomicU64::new(0);
    for_each_piece(0..ranked.vertices(), PIECE, threads, |piece| {
        let mut count = 0;
        for u in piece {
            let row = &ranked.neighbours[ranked.row(u as u32)];
            for (index, &v) in row.iter().enumerate() {
                // What both rows hold is smaller than `v`, and so is everything before it.
                count += common(&row[..index], &ranked.neighbours[ranked.row(v)]);
            }
        }
        total.fetch_add(count, Relaxed);
    });
    total.into_inner()
}

/// How many numbers two ascending rows have in common. Steps are sums, not branches, which nobody could predict.
#[inline]
fn common(one: &[u32], other: &[u32]) -> u64 {
    let (mut left, mut right, mut count) = (0, 0, 0);
    while left < one.len() && right < other.len() {
        let (a, b) = (one[left], other[right]);
        count += u64::from(a == b);
        left += usize::from(a <= b);
        right += usize::from(b <= a);
    }
    count
}

#[inline(never)]
fn allocate_order(registry: &mut Registry, vertices: usize) -> Vec<u32> {
    registry.add("order", (0..vertices as u32).collect())
}

#[inline(never)]
fn allocate_ranks(registry: &mut Registry, vertices: usize) -> Vec<u32> {
    registry.add("ranks", vec![0; vertices])
}

#[inline(never)]
fn allocate_ranked_offsets(registry: &mut Registry, length: usize) -> Vec<u64> {
    registry.add("ranked_offsets", vec![0; length])
}

#[inline(never)]
fn allocate_ranked_neighbours(registry: &mut Registry, edges: usize) -> Vec<u32> {
    registry.add("ranked_neighbours", vec![0; edges])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command_line::GraphKind;

    fn count(graph: &Graph, threads: u32) -> u64 {
        triangles(&rank(graph, threads, &mut Registry::default()), threads)
    }

    /// Every three vertices.
    fn by_definition(graph: &Graph) -> u64 {
        let n = graph.vertices() as u32;
        let joined = |u: u32, v: u32| graph.neighbours[graph.row(u)].contains(&v);
        let pairs = (0..n).flat_map(|u| (0..u).map(move |v| (u, v))).filter(|&(u, v)| joined(u, v));
        pairs.map(|(u, v)| (0..v).filter(|&w| joined(u, w) && joined(v, w)).count() as u64).sum()
    }

    #[test]
    fn triangles_are_counted_once() {
        for (kind, bits) in [(GraphKind::Kronecker, 7), (GraphKind::Uniform, 7), (GraphKind::Uniform, 2)] {
            for seed in 0..3 {
                let graph = Graph::generate(kind, bits, seed, 1, &mut Registry::default());
                assert_eq!(count(&graph, 1), by_definition(&graph));
                assert_eq!(count(&graph, 3), by_definition(&graph));
            }
        }
    }

    #[test]
    fn a_complete_graph_has_every_triple_and_a_star_none() {
        let complete = Graph::build(20, 400, |i| (i as u32 / 20, i as u32 % 20), 1, &mut Registry::default());
        assert_eq!(count(&complete, 1), 20 * 19 * 18 / 6);
        let star = Graph::build(20, 19, |i| (0, i as u32 + 1), 1, &mut Registry::default());
        assert_eq!(count(&star, 1), 0);
    }

    #[test]
    fn ranked_rows_are_short_ascending_and_hold_each_edge_once() {
        let graph = Graph::generate(GraphKind::Kronecker, 10, 1, 1, &mut Registry::default());
        let ranked = rank(&graph, 2, &mut Registry::default());
        assert!(ranked.is_sound());
        assert_eq!(ranked.neighbours.len() * 2, graph.neighbours.len());
        let longest = |graph: &Graph| (0..1 << 10).map(|v| graph.row(v).len()).max();
        assert!(longest(&ranked) < longest(&graph));
        for u in 0..1 << 10 {
            let row = &ranked.neighbours[ranked.row(u)];
            assert!(row.is_sorted_by(|a, b| a < b) && row.iter().all(|&v| v < u));
        }
    }
}
