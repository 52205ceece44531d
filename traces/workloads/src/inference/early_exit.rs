//! `early-exit`: a deep classifier that may answer after every layer, for row 17, early exits in serving.
//!
//! Each iteration is a batch of samples. After each layer an exit reads the state of those that are left; a sample whose
//! best class has at least `confidence` is answered and leaves the batch; the last layer answers all that remain.
//!
//! Kept: one block of weights per layer, several times any cache together, of which the deep ones are seldom read; exits
//! that are small and read as often as their layer; batches that shrink. Left out: training. The network is made so that
//! depth helps, as it does in trained ones: among a layer's hidden units is one per class that answers to the class's
//! prototype and strengthens it in the state (a step of associative recall), and all others are random. A sample is a
//! prototype in noise, some with little and some with much, so that easy samples are sure at once and hard ones late; the
//! range is chosen so that exits save about as much as row 17 reports.
//!
//! Expected on top: `layer.0`, then `layer.1`, and so on: all are of one size, and each is read for those batches only
//! of which some sample got so far. The deepest layers wait for the hardest sample of a batch: with large batches all
//! are read, only for fewer samples.
//!
//! The result is the same with any number of threads, and what a sample answers does not depend on its batch. The steady
//! state begins with the phase `kernel`.

use serde_json::{Map, Value, json};

use super::matrix::{add_scaled, checksum, dot, fill_normal, softmax};
use super::weights::{Inputs, apply_floats, by_input};
use crate::command_line::{Scale, Settings};
use crate::options::{Declared, Values};
use crate::random;
use crate::registry::Registry;
use crate::run::Run;

/// Classes.
const CLASSES: usize = 16;

/// How much a class's unit adds to the state.
const RECALL: f32 = 0.3;

/// How many standard deviations of noise a hidden unit ignores.
const DEAF: f32 = 2.0;

/// How much surer an exit is of a class for each standard deviation of noise by which it is stronger.
const SHARPNESS: f32 = 0.6;

/// What can be set.
pub(crate) static OPTIONS: &[Declared] = &[
    Declared {
        name: "confidence",
        default: "0.9",
        values: Values::Number { least: 0.0, most: 1.0 },
        help: "how sure an exit must be to answer; 1 sends every sample through all layers",
    },
    Declared {
        name: "batch",
        default: "16",
        values: Values::Whole { least: 1, most: 4096 },
        help: "samples that enter together",
    },
];

/// The network.
#[derive(Debug)]
struct Network {
    width: usize,
    hidden: usize,
    /// For each layer the rows that widen, and then those that narrow.
    layers: Vec<Vec<f32>>,
    /// For each layer a row per class.
    exits: Vec<Vec<f32>>,
    threads: u32,
}

/// What became of one sample.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Answer {
    class: usize,
    /// After which layer, from 0.
    layer: usize,
    confidence: f32,
}

/// Runs the workload.
pub(crate) fn run(settings: &Settings, run: &mut Run) -> Map<String, Value> {
    let (layers, width, hidden) = match settings.scale {
        Scale::Tiny => (4, 256, 1024),
        Scale::Small => (12, 1024, 4096),
        Scale::Medium => (16, 1536, 6144),
        Scale::Large => (24, 2048, 8192),
    };
    let (threads, batch) = (run.threads(), settings.options.whole("batch"));
    let confidence = settings.options.number("confidence") as f32;
    let network =
        run.phase(c"generate", |run| Network::new(layers, (width, hidden), settings.seed, threads, &mut run.registry));
    let samples = u64::from(settings.iterations) * batch as u64;
    let answers = run.phase(c"kernel", |run| {
        let mut states = allocate_states(&mut run.registry, batch * width);
        let mut answers = Vec::new();
        for first in (0..samples).step_by(batch) {
            for (state, sample) in states.chunks_exact_mut(width).zip(first..) {
                fill_sample(state, sample, settings.seed);
            }
            answers.extend(network.classify(&mut states, confidence));
        }
        answers
    });
    let mut exits = vec![0u64; layers];
    answers.iter().for_each(|answer| exits[answer.layer] += 1);
    let rates: Vec<_> = exits.iter().map(|&count| count as f64 / samples as f64).collect();
    let depth: f64 = rates.iter().zip(1..).map(|(rate, layers)| rate * f64::from(layers)).sum();
    let right =
        answers.iter().zip(0..).filter(|&(answer, sample)| answer.class == class_of(sample, settings.seed)).count();
    let mut result = Map::new();
    result.insert("checksum".into(), json!(checksum(answers.iter().map(|answer| answer.confidence))));
    result.insert("exit_rates".into(), json!(rates));
    result.insert("layers_per_sample".into(), json!(depth));
    result.insert("compute_saved_share".into(), json!(1.0 - depth / layers as f64));
    result.insert("accuracy".into(), json!(right as f64 / samples as f64));
    result
}

fn class_of(sample: u64, seed: u64) -> usize {
    random::below(random::at(random::derive(seed, 1), sample), CLASSES as u32) as usize
}

fn prototype(class: usize, seed: u64, width: usize) -> Vec<f32> {
    let mut prototype = vec![0.0; width];
    fill_normal(&mut prototype, random::derive(random::derive(seed, 2), class as u64), 1.0);
    prototype
}

/// A prototype in noise. How much of it there is goes from 2.5 to 8.5 standard deviations of the noise of an exit,
/// evenly.
fn fill_sample(state: &mut [f32], sample: u64, seed: u64) {
    let width = state.len();
    let ease = random::unit(random::at(random::derive(seed, 3), sample)) as f32;
    let signal = (2.5 + 6.0 * ease) * (width as f32).powf(-0.5);
    fill_normal(state, random::derive(random::derive(seed, 4), sample), (1.0 - (signal * signal).min(0.99)).sqrt());
    add_scaled(state, signal, &prototype(class_of(sample, seed), seed, width));
    normalize(state);
}

/// Scales to a mean square of 1.
fn normalize(state: &mut [f32]) {
    let scale = (dot(state, state) / state.len() as f32 + 1e-6).sqrt();
    state.iter_mut().for_each(|x| *x /= scale);
}

impl Network {
    fn new(layers: usize, (width, hidden): (usize, usize), seed: u64, threads: u32, registry: &mut Registry) -> Self {
        let prototypes: Vec<_> = (0..CLASSES).map(|class| prototype(class, seed, width)).collect();
        let mut network = Network { width, hidden, layers: Vec::new(), exits: Vec::new(), threads };
        for number in 0..layers {
            let mut layer = allocate_layer(registry, number, 2 * width * hidden);
            let own = random::derive(random::derive(seed, 5), number as u64);
            fill_normal(&mut layer, own, 1.0);
            let (widen, narrow) = layer.split_at_mut(width * hidden);
            for (row, prototype) in widen.chunks_exact_mut(width).zip(&prototypes) {
                row.copy_from_slice(prototype);
            }
            // A unit's answer is the mean product of its row and the state.
            widen.iter_mut().for_each(|weight| *weight /= width as f32);
            // Units that nobody taught say little, all together less than one that was taught.
            narrow.iter_mut().for_each(|weight| *weight *= (hidden as f32).powf(-0.5));
            for (column, row) in narrow.chunks_exact_mut(hidden).enumerate() {
                row.iter_mut().zip(&prototypes).for_each(|(weight, prototype)| *weight = RECALL * prototype[column]);
            }
            network.layers.push(layer);
            let mut exit = allocate_exit(registry, number, CLASSES * width);
            exit.copy_from_slice(&prototypes.concat());
            exit.iter_mut().for_each(|weight| *weight *= SHARPNESS * (width as f32).powf(-0.5));
            network.exits.push(exit);
        }
        network
    }

    /// Answers all samples, whose states it overwrites.
    fn classify(&self, states: &mut [f32], confidence: f32) -> Vec<Answer> {
        let (width, last) = (self.width, self.layers.len() - 1);
        let mut left: Vec<usize> = (0..states.len() / width).collect();
        let mut answers = vec![Answer { class: 0, layer: 0, confidence: 0.0 }; left.len()];
        for (number, (layer, exit)) in self.layers.iter().zip(&self.exits).enumerate() {
            if left.is_empty() {
                break;
            }
            let running = &mut states[..left.len() * width];
            self.apply(layer, running);
            let mut scores = vec![0.0; CLASSES * left.len()];
            apply_floats(exit, &Inputs::floats(running, width), self.threads, &mut scores);
            let mut kept = Vec::new();
            for (place, scores) in by_input(&scores, left.len()).chunks_exact_mut(CLASSES).enumerate() {
                softmax(scores);
                let best = scores.iter().copied().zip(0..).max_by(|(a, _), (b, _)| a.total_cmp(b));
                let (sure, class) = best.unwrap_or((0.0, 0));
                if number == last || (sure >= confidence && confidence < 1.0) {
                    answers[left[place]] = Answer { class, layer: number, confidence: sure };
                } else {
                    // Those that stay move up into the places of those that went.
                    running.copy_within(place * width..(place + 1) * width, kept.len() * width);
                    kept.push(left[place]);
                }
            }
            left = kept;
        }
        answers
    }

    /// One layer: the state, and what the hidden units that are loud enough add to it.
    fn apply(&self, layer: &[f32], states: &mut [f32]) {
        let (width, hidden) = (self.width, self.hidden);
        let count = states.len() / width;
        let (widen, narrow) = layer.split_at(width * hidden);
        let mut units = vec![0.0; hidden * count];
        apply_floats(widen, &Inputs::floats(states, width), self.threads, &mut units);
        let deaf = DEAF * (width as f32).powf(-0.5);
        units.iter_mut().for_each(|unit| *unit = (*unit - deaf).max(0.0));
        let units = by_input(&units, count);
        let mut added = vec![0.0; width * count];
        apply_floats(narrow, &Inputs::floats(&units, hidden), self.threads, &mut added);
        add_scaled(states, 1.0, &by_input(&added, count));
        states.chunks_exact_mut(width).for_each(normalize);
    }
}

#[inline(never)]
fn allocate_layer(registry: &mut Registry, number: usize, length: usize) -> Vec<f32> {
    registry.add_numbered("layer", number, vec![0.0; length])
}

#[inline(never)]
fn allocate_exit(registry: &mut Registry, number: usize, length: usize) -> Vec<f32> {
    registry.add_numbered("exit", number, vec![0.0; length])
}

#[inline(never)]
fn allocate_states(registry: &mut Registry, length: usize) -> Vec<f32> {
    registry.add("states", vec![0.0; length])
}

#[cfg(test)]
mod tests {
    use super::super::matrix::close;
    use super::*;

    const WIDTH: usize = 256;

    fn network(threads: u32) -> Network {
        Network::new(5, (WIDTH, 300), 1, threads, &mut Registry::default())
    }

    fn states(samples: u64) -> Vec<f32> {
        let mut states = vec![0.0; samples as usize * WIDTH];
        states.chunks_mut(WIDTH).zip(0..).for_each(|(state, sample)| fill_sample(state, sample, 1));
        states
    }

    #[test]
    fn a_layer_is_that_of_plain_loops() {
        let network = network(1);
        let before = states(2);
        let mut after = before.clone();
        network.apply(&network.layers[3], &mut after);
        let (widen, narrow) = network.layers[3].split_at(WIDTH * 300);
        for (x, found) in before.chunks(WIDTH).zip(after.chunks(WIDTH)) {
            let product = |rows: &[f32], x: &[f32]| -> Vec<f32> {
                rows.chunks(x.len()).map(|row| row.iter().zip(x).map(|(w, x)| w * x).sum()).collect()
            };
            let units: Vec<_> = product(widen, x).iter().map(|unit| (unit - DEAF / 16.0).max(0.0)).collect();
            let mut expected: Vec<_> = product(narrow, &units).iter().zip(x).map(|(added, x)| x + added).collect();
            let scale = (expected.iter().map(|x| x * x).sum::<f32>() / WIDTH as f32 + 1e-6).sqrt();
            expected.iter_mut().for_each(|x| *x /= scale);
            assert!(close(found, &expected, 1e-4));
        }
    }

    #[test]
    fn an_answer_does_not_depend_on_the_batch_or_the_number_of_threads() {
        let together = network(1).classify(&mut states(12), 0.9);
        assert_eq!(together, network(3).classify(&mut states(12), 0.9));
        let network = network(1);
        let alone: Vec<_> = states(12).chunks_mut(WIDTH).flat_map(|state| network.classify(state, 0.9)).collect();
        assert_eq!(together, alone);
        assert!(together.iter().any(|answer| answer.layer == 0) && together.iter().any(|answer| answer.layer > 0));
    }

    #[test]
    fn without_exits_every_sample_goes_through_all_layers() {
        let network = network(1);
        assert!(network.classify(&mut states(6), 1.0).iter().all(|answer| answer.layer == 4));
    }

    #[test]
    fn depth_makes_surer_and_answers_are_mostly_right() {
        let network = network(1);
        let sureness = |layers: usize| {
            let shallow = Network {
                layers: network.layers[..layers].to_vec(),
                exits: network.exits[..layers].to_vec(),
                ..Network { width: WIDTH, hidden: 300, threads: 1, layers: vec![], exits: vec![] }
            };
            let answers = shallow.classify(&mut states(60), 1.0);
            answers.iter().map(|answer| f64::from(answer.confidence)).sum::<f64>() / 60.0
        };
        assert!(sureness(5) > sureness(1) + 0.05, "{} {}", sureness(1), sureness(5));
        let answers = network.classify(&mut states(60), 0.9);
        let correct = answers.iter().zip(0..).filter(|&(answer, sample)| answer.class == class_of(sample, 1)).count();
        assert!(correct > 50, "{correct}");
    }
}
