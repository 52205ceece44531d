//! `dynamic-gnn`: training on snapshots of a graph that changes, for row 18, dynamic graph neural networks.
//!
//! A few edges are replaced from snapshot to snapshot. Each iteration is one snapshot: its rows are built from the list
//! of edges; the model is trained on the window of snapshots before it, to say how many neighbours each vertex has in the
//! new one; and each vertex's features are averaged over its neighbours, which is all that later windows need of it.
//!
//! Kept: the three stretches of such training, which touch different objects in different ways: `snapshot` writes the
//! rows at random and allocates them anew, `train` streams over the aggregated features of all snapshots of the
//! window, beside a small dense weight matrix, and `aggregate` gathers the features of neighbours at random;
//! aggregated features of one snapshot reused by all the windows it is in, which is the system's own idea; many
//! lifetimes from one site. Left out: more than one layer of convolution; the recurrent cell is the simplest there is,
//! a decaying sum over the window; and everything about moving snapshots to an accelerator.
//!
//! Expected on top: `features` in `aggregate`, which gathers neighbours' rows at random; `aggregated` in `train`, read
//! in order; in `snapshot` `neighbours`, which is written at random. Which one is on top over all depends on how long
//! the stretches are: a placement that changes with them is what this workload is for.
//!
//! The result is the same with any number of threads: gradients are summed per piece of vertices, and pieces in order.

use std::collections::VecDeque;

use serde_json::{Map, Value, json};

use super::matrix::{Form, add_scaled, checksum, dot, fill_normal, multiply, relu};
use super::skew::{FORM, Lookups, Skew, share_of_hottest};
use crate::command_line::{Scale, Settings};
use crate::graphs::graph::Graph;
use crate::options::{Declared, Values};
use crate::random;
use crate::registry::Registry;
use crate::run::Run;
use crate::shared::on_pieces;

/// Features of a vertex, and of its state.
const FEATURES: usize = 64;

/// Edges per vertex.
const EDGE_FACTOR: usize = 10;

/// Vertices a thread works on at a time.
const PIECE: usize = 1024;

/// What is left of a snapshot's part in the state after one more.
const DECAY: f32 = 0.5;

/// Step of the descent.
const STEP: f32 = 0.05;

/// What can be set.
pub(crate) static OPTIONS: &[Declared] = &[
    Declared {
        name: "change",
        default: "0.05",
        values: Values::Number { least: 0.0, most: 1.0 },
        help: "share of the edges that are replaced from snapshot to snapshot",
    },
    Declared {
        name: "window",
        default: "4",
        values: Values::Whole { least: 1, most: 64 },
        help: "snapshots that a prediction is made from",
    },
    Declared {
        name: "skew",
        default: "zipf:0.7",
        values: Values::Read { form: FORM, accepts: Skew::accepts },
        help: "how popular vertices are as ends of edges",
    },
];

/// The list of edges, as it is now.
#[derive(Debug)]
struct Edges {
    ends: Vec<(u32, u32)>,
    lookups: Lookups,
    seed: u64,
}

/// What is trained.
#[derive(Debug)]
struct Model {
    /// From aggregated features to a snapshot's part in the state: features x features.
    weights: Vec<f32>,
    /// From the state to the prediction.
    reader: Vec<f32>,
    threads: u32,
}

/// Sums over some vertices.
#[derive(Debug, Clone)]
struct Sums {
    loss: f64,
    by_weights: Vec<f32>,
    by_reader: Vec<f32>,
}

/// Runs the workload.
pub(crate) fn run(settings: &Settings, run: &mut Run) -> Map<String, Value> {
    let vertices: u32 = match settings.scale {
        Scale::Tiny => 5000,
        Scale::Small => 200_000,
        Scale::Medium => 700_000,
        Scale::Large => 3_000_000,
    };
    let (seed, threads, options) = (settings.seed, run.threads(), &settings.options);
    let (change, limit) = (options.number("change"), options.whole("window"));
    let skew = Skew::parse(options.text("skew")).unwrap_or(Skew::Uniform);
    let (mut edges, features, mut model) = run.phase(c"generate", |run| {
        let edges = Edges::new(vertices, skew, seed, &mut run.registry);
        let features = generate_features(vertices as usize, seed, threads, &mut run.registry);
        (edges, features, Model::new(seed, threads, &mut run.registry))
    });
    let mut window: VecDeque<Vec<f32>> = VecDeque::new();
    let (mut losses, mut replaced, mut hottest) = (Vec::new(), 0, 0.0);
    for snapshot in 0..u64::from(settings.iterations) {
        let graph = run.phase(c"snapshot", |run| {
            if snapshot > 0 {
                replaced += edges.replace(change, snapshot);
            }
            Graph::build(vertices, edges.ends.len() as u64, |i| edges.ends[i as usize], threads, &mut run.registry)
        });
        if !window.is_empty() {
            losses.push(run.phase(c"train", |_| model.train(&window, &targets(&graph))));
        }
        run.phase(c"aggregate", |run| {
            if window.len() == limit {
                window.pop_front().into_iter().for_each(|oldest| run.registry.free(oldest));
            }
            let mut aggregated = allocate_aggregated(&mut run.registry, features.len());
            aggregate(&graph, &features, threads, &mut aggregated);
            window.push_back(aggregated);
            if snapshot == 0 {
                let degrees = (0..vertices).map(|vertex| graph.row(vertex).len() as u32).collect();
                hottest = share_of_hottest(degrees, 0.01);
            }
            run.registry.free(graph.offsets);
            run.registry.free(graph.neighbours);
        });
    }
    let changes = f64::from(settings.iterations - 1) * edges.ends.len() as f64;
    let kept = if changes == 0.0 { 1.0 } else { 1.0 - replaced as f64 / changes };
    let mut result = Map::new();
    result.insert("vertices".into(), json!(vertices));
    result.insert("edges".into(), json!(edges.ends.len()));
    result.insert("edges_of_previous_snapshot_share".into(), json!(kept));
    result.insert("hottest_1_percent_of_vertices_share".into(), json!(hottest));
    result.insert("first_loss".into(), json!(losses.first()));
    result.insert("last_loss".into(), json!(losses.last()));
    let state = model.weights.iter().chain(&model.reader).copied();
    result.insert("checksum".into(), json!(checksum(state)));
    result
}

impl Edges {
    fn new(vertices: u32, skew: Skew, seed: u64, registry: &mut Registry) -> Self {
        let lookups = Lookups::new(skew, vertices, random::derive(seed, 1), false);
        let ends = allocate_edges(registry, vertices as usize * EDGE_FACTOR);
        let mut edges = Edges { ends, lookups, seed: random::derive(seed, 2) };
        for edge in 0..edges.ends.len() {
            edges.ends[edge] = edges.draw(edge, 0);
        }
        edges
    }

    /// The ends an edge gets when it is replaced for that snapshot.
    fn draw(&self, edge: usize, snapshot: u64) -> (u32, u32) {
        let first = random::at(random::derive(self.seed, snapshot), edge as u64);
        (self.lookups.row(first), self.lookups.row(first.wrapping_add(1)))
    }

    /// Replaces about that share of the edges; returns how many.
    fn replace(&mut self, share: f64, snapshot: u64) -> usize {
        let chance = random::derive(random::derive(self.seed, 1 << 32), snapshot);
        let mut replaced = 0;
        for edge in 0..self.ends.len() {
            if random::unit(random::at(chance, edge as u64)) < share {
                self.ends[edge] = self.draw(edge, snapshot);
                replaced += 1;
            }
        }
        replaced
    }
}

fn generate_features(vertices: usize, seed: u64, threads: u32, registry: &mut Registry) -> Vec<f32> {
    let mut features = allocate_features(registry, vertices * FEATURES);
    on_pieces(
        threads,
        &mut features,
        PIECE * FEATURES,
        || (),
        |(), piece, features| {
            fill_normal(features, random::derive(random::derive(seed, 3), piece as u64), 1.0);
            // One feature that all have, for the mean of what is to be predicted.
            features.chunks_exact_mut(FEATURES).for_each(|row| row[0] = 1.0);
        },
    );
    features
}

/// What is to be predicted of each vertex: the logarithm of one more than its neighbours.
fn targets(graph: &Graph) -> Vec<f32> {
    (0..graph.vertices() as u32).map(|vertex| (graph.row(vertex).len() as f32).ln_1p()).collect()
}

/// For each vertex the mean of its own features and its neighbours'.
fn aggregate(graph: &Graph, features: &[f32], threads: u32, aggregated: &mut [f32]) {
    on_pieces(
        threads,
        aggregated,
        PIECE * FEATURES,
        || (),
        |(), piece, aggregated| {
            for (vertex, mean) in (piece * PIECE..).zip(aggregated.chunks_exact_mut(FEATURES)) {
                mean.copy_from_slice(&features[vertex * FEATURES..][..FEATURES]);
                let neighbours = &graph.neighbours[graph.row(vertex as u32)];
                for &neighbour in neighbours {
                    add_scaled(mean, 1.0, &features[neighbour as usize * FEATURES..][..FEATURES]);
                }
                let count = (neighbours.len() + 1) as f32;
                mean.iter_mut().for_each(|value| *value /= count);
            }
        },
    );
}

impl Model {
    fn new(seed: u64, threads: u32, registry: &mut Registry) -> Self {
        let mut weights = allocate_weights(registry);
        fill_normal(&mut weights, random::derive(seed, 4), (2.0 / FEATURES as f32).sqrt());
        let mut reader = vec![0.0; FEATURES];
        fill_normal(&mut reader, random::derive(seed, 5), (1.0 / FEATURES as f32).sqrt());
        Model { weights, reader, threads }
    }

    /// One step on a window; returns the mean loss before it.
    fn train(&mut self, window: &VecDeque<Vec<f32>>, targets: &[f32]) -> f32 {
        let sums = self.differentiate(window, targets);
        add_scaled(&mut self.weights, -STEP, &sums.by_weights);
        add_scaled(&mut self.reader, -STEP, &sums.by_reader);
        sums.loss as f32
    }

    /// The mean squared error, and its gradients.
    fn differentiate(&self, window: &VecDeque<Vec<f32>>, targets: &[f32]) -> Sums {
        let empty = Sums { loss: 0.0, by_weights: vec![0.0; FEATURES * FEATURES], by_reader: vec![0.0; FEATURES] };
        let mut pieces = vec![empty.clone(); targets.len().div_ceil(PIECE)];
        let scratch = || (vec![0.0; window.len() * PIECE * FEATURES], vec![0.0; PIECE * FEATURES]);
        on_pieces(self.threads, &mut pieces, 1, scratch, |(parts, states), number, piece| {
            let [sums] = piece else { return };
            let first = number * PIECE;
            let targets = &targets[first..targets.len().min(first + PIECE)];
            let count = targets.len();
            let rows = first * FEATURES..(first + count) * FEATURES;
            let states = &mut states[..rows.len()];
            states.fill(0.0);
            for (age, (aggregated, part)) in
                (0..).zip(window.iter().rev().zip(parts.chunks_exact_mut(PIECE * FEATURES)))
            {
                let part = &mut part[..rows.len()];
                let input = (&aggregated[rows.clone()], Form::AsIs);
                multiply((count, FEATURES, FEATURES), input, (&self.weights, Form::AsIs), part, false);
                relu(part);
                add_scaled(states, DECAY.powi(age), part);
            }
            // From here on a state becomes the gradient by it.
            for (state, target) in states.chunks_exact_mut(FEATURES).zip(targets) {
                let error = dot(state, &self.reader) - target;
                sums.loss += f64::from(error * error);
                add_scaled(&mut sums.by_reader, 2.0 * error, state);
                state.iter_mut().zip(&self.reader).for_each(|(by_state, weight)| *by_state = 2.0 * error * weight);
            }
            for (age, (aggregated, part)) in
                (0..).zip(window.iter().rev().zip(parts.chunks_exact_mut(PIECE * FEATURES)))
            {
                let part = &mut part[..rows.len()];
                for (value, by_state) in part.iter_mut().zip(&*states) {
                    *value = if *value > 0.0 { DECAY.powi(age) * by_state } else { 0.0 };
                }
                let input = (&aggregated[rows.clone()], Form::Transposed);
                let shape = (FEATURES, count, FEATURES);
                multiply(shape, input, (part, Form::AsIs), &mut sums.by_weights, true);
            }
        });
        let scale = 1.0 / targets.len() as f32;
        pieces.into_iter().fold(empty, |mut all, piece| {
            all.loss += piece.loss * f64::from(scale);
            add_scaled(&mut all.by_weights, scale, &piece.by_weights);
            add_scaled(&mut all.by_reader, scale, &piece.by_reader);
            all
        })
    }
}

#[inline(never)]
fn allocate_edges(registry: &mut Registry, length: usize) -> Vec<(u32, u32)> {
    registry.add("edges", vec![(0, 0); length])
}

#[inline(never)]
fn allocate_features(registry: &mut Registry, length: usize) -> Vec<f32> {
    registry.add("features", vec![0.0; length])
}

#[inline(never)]
fn allocate_aggregated(registry: &mut Registry, length: usize) -> Vec<f32> {
    registry.add("aggregated", vec![0.0; length])
}

#[inline(never)]
fn allocate_weights(registry: &mut Registry) -> Vec<f32> {
    registry.add("weights", vec![0.0; FEATURES * FEATURES])
}

#[cfg(test)]
mod tests {
    use super::super::matrix::close;
    use super::*;

    const VERTICES: u32 = 60;

    fn edges() -> Edges {
        Edges::new(VERTICES, Skew::Uniform, 1, &mut Registry::default())
    }

    fn graph(edges: &Edges) -> Graph {
        let edge = |i: u64| edges.ends[i as usize];
        Graph::build(VERTICES, edges.ends.len() as u64, edge, 1, &mut Registry::default())
    }

    fn window(threads: u32) -> (VecDeque<Vec<f32>>, Vec<f32>) {
        let mut edges = edges();
        let features = generate_features(VERTICES as usize, 1, threads, &mut Registry::default());
        let mut window = VecDeque::new();
        for snapshot in 1..4 {
            let mut aggregated = vec![0.0; features.len()];
            aggregate(&graph(&edges), &features, threads, &mut aggregated);
            window.push_back(aggregated);
            edges.replace(0.2, snapshot);
        }
        (window, targets(&graph(&edges)))
    }

    #[test]
    fn aggregated_features_are_means_over_the_neighbourhood() {
        let (graph, features) = (graph(&edges()), generate_features(VERTICES as usize, 1, 1, &mut Registry::default()));
        let mut found = vec![0.0; features.len()];
        aggregate(&graph, &features, 2, &mut found);
        for vertex in 0..VERTICES {
            let around: Vec<_> = graph.neighbours[graph.row(vertex)].iter().chain([&vertex]).collect();
            let expected: Vec<f32> = (0..FEATURES)
                .map(|i| {
                    around.iter().map(|&&v| features[v as usize * FEATURES + i]).sum::<f32>() / around.len() as f32
                })
                .collect();
            assert!(close(&found[vertex as usize * FEATURES..][..FEATURES], &expected, 1e-4));
        }
    }

    #[test]
    fn the_prediction_is_that_of_plain_loops() {
        let (window, targets) = window(1);
        let model = Model::new(1, 1, &mut Registry::default());
        let mut loss = 0.0;
        for (vertex, target) in targets.iter().enumerate() {
            let mut prediction = 0.0;
            for (age, aggregated) in window.iter().rev().enumerate() {
                for out in 0..FEATURES {
                    let row = &aggregated[vertex * FEATURES..][..FEATURES];
                    let sum: f32 = row.iter().enumerate().map(|(i, x)| x * model.weights[i * FEATURES + out]).sum();
                    prediction += 0.5f32.powi(age as i32) * sum.max(0.0) * model.reader[out];
                }
            }
            loss += f64::from((prediction - target) * (prediction - target)) / f64::from(VERTICES);
        }
        assert!((model.differentiate(&window, &targets).loss - loss).abs() < 1e-3 * loss);
    }

    #[test]
    fn gradients_are_differences_over_small_steps() {
        let (window, targets) = window(1);
        let mut model = Model::new(1, 1, &mut Registry::default());
        let sums = model.differentiate(&window, &targets);
        let gradients = [&sums.by_weights[..], &sums.by_reader].concat();
        for (at, gradient) in gradients.iter().enumerate().step_by(61) {
            let mut loss = |step: f32| {
                match at.checked_sub(FEATURES * FEATURES) {
                    None => model.weights[at] += step,
                    Some(at) => model.reader[at] += step,
                }
                model.differentiate(&window, &targets).loss
            };
            let (up, down) = (loss(5e-3), loss(-1e-2));
            loss(5e-3);
            let slope = (up - down) / 1e-2;
            assert!((slope - f64::from(*gradient)).abs() < 5e-3 + 0.05 * slope.abs(), "{at}: {slope} {gradient}");
        }
    }

    #[test]
    fn the_loss_falls_and_is_the_same_for_any_number_of_threads() {
        let losses = |threads| -> Vec<f32> {
            let (window, targets) = window(threads);
            let mut model = Model::new(1, threads, &mut Registry::default());
            (0..10).map(|_| model.train(&window, &targets)).collect()
        };
        let one = losses(1);
        assert!(one[9] < 0.8 * one[0], "{one:?}");
        assert_eq!(one, losses(3));
    }

    #[test]
    fn about_the_told_share_of_edges_is_replaced() {
        let mut edges = Edges::new(2000, Skew::Uniform, 1, &mut Registry::default());
        let before = edges.ends.clone();
        let replaced = edges.replace(0.1, 1);
        let changed = before.iter().zip(&edges.ends).filter(|(a, b)| a != b).count();
        assert!(
            (1700..2300).contains(&replaced) && changed <= replaced && changed > replaced - 20,
            "{replaced} {changed}"
        );
    }
}
