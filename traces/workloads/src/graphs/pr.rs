//! `pr`: PageRank, for row 7, placing graph data by object on Optane.
//!
//! The pull form of the GAP benchmark: in each iteration every vertex divides its score among its neighbours, as its
//! contribution; then every vertex collects the contributions of its neighbours. No thread writes what another reads.
//!
//! Kept: the rows, read from end to end in each iteration; one random read of `contributions` per edge; `scores` read and
//! written once per vertex. Scores are single precision, as there. Left out: the test for convergence, so that a number
//! of iterations is a number of iterations; how far it had come is in the result.
//!
//! Expected on top: `contributions`, for its random reads, as soon as it is larger than the second-level cache; then
//! `neighbours`, for the bytes. `offsets` and `scores` are streams a sixteenth as long, and last. (Tierscope's clock
//! sampler, `small`: 70, 15, 3 and 8 % of the samples.)
//!
//! The result is the same with any number of threads: each sum is taken by one thread along one row, and the changes of
//! scores are added up in fixed point, in which the order of additions does not matter.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde_json::{Map, Value, json};

use super::graph::Graph;
use crate::command_line::Settings;
use crate::registry::Registry;
use crate::run::Run;
use crate::shared::{for_each_piece, view};
use crate::{checksum, graphs};

/// The share of a score that is passed on along edges.
const DAMPING: f32 = 0.85;

/// Vertices a thread takes at a time.
const PIECE: usize = 1024;

/// One, in the fixed point in which changes are added up. All of them together are at most 2.
const ONE: f32 = (1u64 << 60) as f32;

/// Runs the workload.
pub(crate) fn run(settings: &Settings, run: &mut Run) -> Map<String, Value> {
    let graph = graphs::obtain(settings, run);
    let threads = run.threads();
    let (scores, change) =
        run.phase(c"kernel", |run| page_rank(&graph, settings.iterations, threads, &mut run.registry));
    let checksum = checksum::of(scores.iter().map(|score| u64::from(score.to_bits())));
    let mut result = graphs::result(settings, &graph, checksum);
    result.insert("last_change".into(), json!(change));
    result.insert("sum_of_scores".into(), json!(scores.iter().copied().map(f64::from).sum::<f64>()));
    result
}

/// Scores after that many iterations, and the sum of all changes of the last. A vertex without neighbours passes nothing
/// on, so that scores add up to less than 1 if there are such.
pub(crate) fn page_rank(graph: &Graph, iterations: u32, threads: u32, registry: &mut Registry) -> (Vec<f32>, f32) {
    let vertices = graph.vertices();
    let mut scores = allocate_scores(registry, vertices);
    let mut contributions = allocate_contributions(registry, vertices);
    let base = (1.0 - DAMPING) / vertices as f32;
    let mut change = 0;
    for _ in 0..iterations {
        for_each_piece(0..vertices, PIECE, threads, {
            let (scores, contributions) = (&scores, view(&mut contributions));
            move |piece| {
                for v in piece {
                    let contribution = scores[v] / graph.row(v as u32).len() as f32;
                    contributions[v].store(contribution.to_bits(), Relaxed);
                }
            }
        });
        let changes = AtomicU64::new(0);
        for_each_piece(0..vertices, PIECE, threads, {
            let (scores, contributions, changes) = (view(&mut scores), &contributions, &changes);
            move |piece| {
                let mut changed = 0;
                for v in piece {
                    let row = &graph.neighbours[graph.row(v as u32)];
                    let score = base + DAMPING * sum(row, contributions);
                    let before = f32::from_bits(scores[v].load(Relaxed));
                    scores[v].store(score.to_bits(), Relaxed);
                    changed += ((score - before).abs() * ONE) as u64;
                }
                changes.fetch_add(changed, Relaxed);
            }
        });
        change = changes.into_inner();
    }
    registry.free(contributions);
    (scores, change as f32 / ONE)
}

/// What a row's neighbours contribute. Four sums are taken side by side: an addition need not wait for the one before.
#[inline]
fn sum(row: &[u32], contributions: &[f32]) -> f32 {
    let of = |u: u32| contributions[u as usize];
    let (quads, rest) = row.as_chunks::<4>();
    let mut sums = [0.0; 4];
    for quad in quads {
        for (sum, &u) in sums.iter_mut().zip(quad) {
            *sum += of(u);
        }
    }
    sums.iter().sum::<f32>() + rest.iter().map(|&u| of(u)).sum::<f32>()
}

#[inline(never)]
fn allocate_scores(registry: &mut Registry, vertices: usize) -> Vec<f32> {
    registry.add("scores", vec![1.0 / vertices as f32; vertices])
}

#[inline(never)]
fn allocate_contributions(registry: &mut Registry, vertices: usize) -> Vec<f32> {
    registry.add("contributions", vec![0.0; vertices])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command_line::GraphKind;

    fn scores(graph: &Graph, iterations: u32, threads: u32) -> (Vec<f32>, f32) {
        page_rank(graph, iterations, threads, &mut Registry::default())
    }

    /// The definition, in double precision: each vertex pushes.
    fn by_definition(graph: &Graph, iterations: u32) -> Vec<f64> {
        let n = graph.vertices();
        let mut scores = vec![1.0 / n as f64; n];
        for _ in 0..iterations {
            let mut next = vec![0.15 / n as f64; n];
            for (u, score) in scores.iter().enumerate() {
                let row = &graph.neighbours[graph.row(u as u32)];
                row.iter().for_each(|&v| next[v as usize] += 0.85 * score / row.len() as f64);
            }
            scores = next;
        }
        scores
    }

    #[test]
    fn scores_are_those_of_the_definition() {
        for kind in [GraphKind::Kronecker, GraphKind::Uniform] {
            let graph = Graph::generate(kind, 9, 2, 1, &mut Registry::default());
            for iterations in [1, 2, 30] {
                let found = scores(&graph, iterations, 2).0;
                for (score, expected) in found.into_iter().zip(by_definition(&graph, iterations)) {
                    assert!((f64::from(score) - expected).abs() < 1e-5 * expected, "{score} against {expected}");
                }
            }
        }
    }

    #[test]
    fn scores_add_up_to_one_where_every_vertex_has_neighbours() {
        let graph = Graph::generate(GraphKind::Uniform, 10, 1, 1, &mut Registry::default());
        assert!((0..1 << 10).all(|v| !graph.row(v).is_empty()));
        let sum: f32 = scores(&graph, 20, 1).0.iter().sum();
        assert!((sum - 1.0).abs() < 1e-4, "{sum}");
    }

    #[test]
    fn changes_fade_and_are_those_of_the_last_iteration() {
        let graph = Graph::generate(GraphKind::Kronecker, 10, 1, 1, &mut Registry::default());
        let (before, after) = (scores(&graph, 4, 1), scores(&graph, 5, 1));
        let changed: f32 = before.0.iter().zip(&after.0).map(|(one, other)| (one - other).abs()).sum();
        assert!((after.1 - changed).abs() < 1e-4 * changed, "{} against {changed}", after.1);
        assert!(after.1 < before.1);
    }

    #[test]
    fn the_number_of_threads_changes_nothing() {
        let graph = Graph::generate(GraphKind::Kronecker, 12, 5, 2, &mut Registry::default());
        assert_eq!(scores(&graph, 7, 1), scores(&graph, 7, 3));
    }
}
