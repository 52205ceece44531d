//! `cc`: connected components, for row 7, placing graph data by object on Optane.
//!
//! Afforest (Sutton, Ben-Nun and Barak, IPDPS 2018), the one of the GAP benchmark. Components are trees in one array: a
//! vertex points to one with a smaller number or to itself. First, the first two edges of every vertex are linked, which
//! is enough to join most vertices of most graphs into one component. Then that component is guessed from a sample, and
//! only the vertices outside it have their other edges linked: an edge that leads into it is seen from its other end.
//!
//! Kept: random reads of `components` along chains (compression makes them short), at few edges per row, so that most of
//! `neighbours` is never read and a cache line of it serves one row only. Left out: nothing.
//!
//! Expected on top: `components`, which every linked edge reads twice, at random; then `neighbours`, for one miss per
//! row; `offsets` is read in order. (Tierscope's clock sampler, `small`: 60, 26 and 3 % of the samples.)
//!
//! The result is the same with any number of threads: every component ends as a tree of height one, and as links go from
//! larger to smaller numbers only, its root is the smallest number in it.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use serde_json::{Map, Value, json};

use super::graph::Graph;
use crate::command_line::Settings;
use crate::registry::Registry;
use crate::run::Run;
use crate::shared::{for_each_piece, view};
use crate::{checksum, graphs, random};

/// Edges of each vertex that are linked before the largest component is guessed.
const FIRST_EDGES: usize = 2;

/// Vertices in the sample from which it is guessed.
const SAMPLES: u64 = 1024;

/// Vertices a thread takes at a time.
const PIECE: usize = 4096;

/// Runs the workload.
pub(crate) fn run(settings: &Settings, run: &mut Run) -> Map<String, Value> {
    let graph = graphs::obtain(settings, run);
    let threads = run.threads();
    let components = run.phase(c"kernel", |run| {
        let mut last = Vec::new();
        for _ in 0..settings.iterations {
            run.registry.free(last);
            last = components(&graph, threads, &mut run.registry);
        }
        last
    });
    let roots = components.iter().enumerate().filter(|&(v, &root)| v == root as usize).count();
    let mut result = graphs::result(settings, &graph, checksum::of(components.iter().map(|&root| u64::from(root))));
    result.insert("components".into(), json!(roots));
    result
}

/// For each vertex the smallest vertex that is connected with it.
pub(crate) fn components(graph: &Graph, threads: u32, registry: &mut Registry) -> Vec<u32> {
    let vertices = graph.vertices();
    let mut array = allocate_components(registry, vertices);
    let components = view(&mut array);
    let row = |v: usize| &graph.neighbours[graph.row(v as u32)];
    for edge in 0..FIRST_EDGES {
        for_each_piece(0..vertices, PIECE, threads, |piece| {
            for u in piece {
                if let Some(&v) = row(u).get(edge) {
                    link(components, u as u32, v, threads > 1);
                }
            }
        });
        for_each_piece(0..vertices, PIECE, threads, |piece| piece.for_each(|v| compress(components, v)));
    }
    let largest = most_frequent(components);
    for_each_piece(0..vertices, PIECE, threads, |piece| {
        for u in piece {
            if components[u].load(Relaxed) != largest {
                for &v in row(u).iter().skip(FIRST_EDGES) {
                    link(components, u as u32, v, threads > 1);
                }
            }
        }
    });
    for_each_piece(0..vertices, PIECE, threads, |piece| piece.for_each(|v| compress(components, v)));
    array
}

#[inline(never)]
fn allocate_components(registry: &mut Registry, vertices: usize) -> Vec<u32> {
    registry.add("components", (0..vertices as u32).collect())
}

/// Joins the trees of two vertices: the larger of two roots is made to point to the smaller. A root that another thread has
/// joined meanwhile is no root any more, and the search goes on from where it points now.
#[inline]
fn link(components: &[AtomicU32], u: u32, v: u32, contended: bool) {
    let at = |v: u32| components[v as usize].load(Relaxed);
    let (mut one, mut other) = (at(u), at(v));
    while one != other {
        let (low, high) = (one.min(other), one.max(other));
        let above = at(high);
        if above == low {
            return;
        }
        if above == high {
            let cell = &components[high as usize];
            if !contended {
                cell.store(low, Relaxed);
                return;
            }
            if cell.compare_exchange(high, low, Relaxed, Relaxed).is_ok() {
                return;
            }
        }
        (one, other) = (at(at(high)), at(low));
    }
}

/// Makes a vertex point to its root.
#[inline]
fn compress(components: &[AtomicU32], v: usize) {
    let at = |v: u32| components[v as usize].load(Relaxed);
    let mut above = components[v].load(Relaxed);
    loop {
        let root = at(above);
        if root == above {
            return;
        }
        components[v].store(root, Relaxed);
        above = root;
    }
}

/// The component most often met at vertices taken by chance; of several the smallest.
fn most_frequent(components: &[AtomicU32]) -> u32 {
    let vertices = components.len() as u32;
    let vertex = |i| random::below(random::at(0x0061_6666_6f72_6573, i), vertices);
    let mut sample: Vec<u32> = (0..SAMPLES).map(|i| components[vertex(i) as usize].load(Relaxed)).collect();
    sample.sort_unstable();
    let runs = sample.chunk_by(|one, other| one == other);
    runs.rev().max_by_key(|run| run.len()).map_or(0, |run| run[0])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command_line::GraphKind;

    fn found(graph: &Graph, threads: u32) -> Vec<u32> {
        components(graph, threads, &mut Registry::default())
    }

    /// Smallest numbers spread along edges until nothing changes.
    fn by_spreading(graph: &Graph) -> Vec<u32> {
        let mut smallest: Vec<u32> = (0..graph.vertices() as u32).collect();
        loop {
            let before = smallest.clone();
            for v in 0..graph.vertices() {
                for &u in &graph.neighbours[graph.row(v as u32)] {
                    smallest[v] = smallest[v].min(smallest[u as usize]);
                }
            }
            if before == smallest {
                return smallest;
            }
        }
    }

    #[test]
    fn components_are_named_by_their_smallest_vertex() {
        for seed in 0..4 {
            let graph = Graph::generate(GraphKind::Kronecker, 10, seed, 1, &mut Registry::default());
            assert_eq!(found(&graph, 1), by_spreading(&graph));
        }
    }

    #[test]
    fn sparse_graphs_of_many_components_come_out_right() {
        for seed in 0..20 {
            let end = |i| random::below(random::at(seed, i), 500);
            let graph = Graph::build(500, 260, |i| (end(2 * i), end(2 * i + 1)), 1, &mut Registry::default());
            let expected = by_spreading(&graph);
            assert!(expected.iter().enumerate().filter(|&(v, &root)| v == root as usize).count() > 100);
            assert_eq!(found(&graph, 1), expected);
            assert_eq!(found(&graph, 4), expected);
        }
    }

    #[test]
    fn a_path_joined_in_the_worst_order_is_one_component() {
        let graph = Graph::build(1000, 999, |i| (i as u32, i as u32 + 1), 1, &mut Registry::default());
        assert_eq!(found(&graph, 1), vec![0; 1000]);
    }

    #[test]
    fn the_number_of_threads_changes_nothing() {
        let graph = Graph::generate(GraphKind::Uniform, 14, 5, 2, &mut Registry::default());
        let one = found(&graph, 1);
        for threads in [2, 3, 8] {
            assert_eq!(one, found(&graph, threads));
        }
    }
}
