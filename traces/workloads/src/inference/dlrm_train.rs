//! `dlrm-train`: training a recommendation model on batches known ahead, for rows 2 and 10, lookahead and
//! frequency-aware caching of embeddings.
//!
//! Each iteration takes the oldest of a window of batches that are already in memory, while a new one enters at its end:
//! forward, backward, one step of plain gradient descent for the perceptrons and of row-wise Adagrad for the rows that
//! were looked up.
//!
//! Kept: every looked-up row is read in the forward pass and read and written in the update, at random; one number of
//! optimiser state per row in a block of its own beside each table; the indices of the next `lookahead` batches in
//! memory, which is all that a cache with foresight needs; popularity as skewed as row 2 says (1 % of the rows take 92
//! % of the accesses, which a Zipf law of exponent 1.3 does for tables like these). Left out: several trainers, and
//! the cache itself, whose place is in the profiler.
//!
//! Expected on top: the tables, but less so than when serving: a row that was missed in the forward pass is at hand
//! when it is updated. Then `by_top` and `by_bottom`, the gradients of the perceptrons, written and added up for every
//! batch, and `accumulators`, one random line per update. With 92 % of the lookups in 1 % of the rows, two thirds of a
//! table are as good as never touched: whoever places whole tables pays for them.
//!
//! The result is the same with any number of threads: samples are worked on in pieces of fixed bounds with gradients of
//! their own, which are added up in order; and each table is updated by one thread, lookup after lookup in the order of
//! the batch. The steady state begins with the phase `kernel`.

use std::collections::VecDeque;

use serde_json::{Map, Value, json};

use super::dlrm::{DIMENSION, POOLING, ROWS, SKEW, WIDE, source};
use super::dlrm_model::{DENSE, Model, allocate_dense, fill_dense};
use super::embedding::{Batch, Pooling, Source, TABLES, Tables};
use super::matrix::{add_scaled, checksum, dot, sigmoid};
use crate::command_line::Settings;
use crate::options::{Declared, Values};
use crate::random;
use crate::registry::Registry;
use crate::run::Run;
use crate::shared::on_pieces;

/// Samples of a batch.
const BATCH: usize = 256;

/// Samples a thread works on at a time.
const PIECE: usize = 64;

/// Step of the perceptrons' descent, for the sum over a batch of [`BATCH`].
const STEP: f32 = 0.05 / BATCH as f32;

/// Step of the rows' Adagrad, and what keeps it finite.
const ROW_STEP: f32 = 0.002;
const EPSILON: f32 = 1e-8;

/// What can be set.
pub(crate) static OPTIONS: &[Declared] = &[
    Declared { default: "zipf:1.3", ..SKEW },
    ROWS,
    POOLING,
    Declared {
        name: "lookahead",
        default: "8",
        values: Values::Whole { least: 1, most: 256 },
        help: "batches known before they are trained on",
    },
];

/// A model and what its optimiser keeps.
#[derive(Debug)]
struct Trainer {
    model: Model,
    /// For each table and row the sum of the mean squares of its gradients.
    accumulators: Vec<Vec<f32>>,
    seed: u64,
    threads: u32,
}

/// Some samples of a batch, and where what comes of them goes.
#[derive(Debug)]
struct Piece<'a> {
    losses: &'a mut [f32],
    by_vectors: &'a mut [f32],
    by_bottom: &'a mut [f32],
    by_top: &'a mut [f32],
}

/// Gradients of one batch.
#[derive(Debug)]
struct Gradients {
    /// For each sample one vector per table, behind one that is not used.
    by_vectors: Vec<f32>,
    /// For each piece those by the perceptrons' parameters.
    by_bottom: Vec<f32>,
    by_top: Vec<f32>,
}

/// Runs the workload.
pub(crate) fn run(settings: &Settings, run: &mut Run) -> Map<String, Value> {
    let threads = run.threads();
    let source = source(settings, [Pooling::About(settings.options.whole("pooling")); TABLES]);
    let lookahead = settings.options.whole("lookahead");
    let mut trainer = run.phase(c"generate", |run| {
        let tables = Tables::new(source.clone(), DIMENSION, threads, &mut run.registry);
        let model = Model::new(tables, WIDE, settings.seed, &mut run.registry);
        Trainer::new(model, settings.seed, threads, &mut run.registry)
    });
    let batches = u64::from(settings.iterations);
    let losses = run.phase(c"kernel", |run| trainer.train(batches, BATCH, lookahead, &mut run.registry));
    let mut result = Map::new();
    result.insert("first_loss".into(), json!(losses.first()));
    result.insert("last_loss".into(), json!(losses.last()));
    result.insert("checksum".into(), json!(checksum(losses)));
    run.phase(c"measure", |_| {
        source.measure(batches * BATCH as u64, &mut result);
        let (distinct, recent) = reuse(&source, batches, BATCH, lookahead);
        result.insert("distinct_rows_of_batch_share".into(), json!(distinct));
        result.insert("rows_of_batch_in_window_share".into(), json!(recent));
    });
    result
}

impl Trainer {
    fn new(model: Model, seed: u64, threads: u32, registry: &mut Registry) -> Self {
        let rows = model.tables.source().rows();
        let accumulators = rows
            .iter()
            .enumerate()
            .map(|(table, &rows)| allocate_accumulators(registry, table, rows as usize))
            .collect();
        Trainer { model, accumulators, seed, threads }
    }

    /// Trains on that many batches and returns the mean loss of each.
    fn train(&mut self, batches: u64, samples: usize, lookahead: usize, registry: &mut Registry) -> Vec<f32> {
        let pieces = samples.div_ceil(PIECE);
        let mut gradients = Gradients {
            by_vectors: allocate_by_vectors(registry, samples * (TABLES + 1) * self.model.tables.dimension),
            by_bottom: allocate_by_bottom(registry, pieces * self.model.bottom.parameters_mut().len()),
            by_top: allocate_by_top(registry, pieces * self.model.top.parameters_mut().len()),
        };
        let mut window: VecDeque<Batch> = VecDeque::new();
        let mut known = 0;
        let mut losses = Vec::new();
        for number in 0..batches {
            while known < batches && known < number + lookahead as u64 {
                window.push_back(self.model.tables.source().batch(known, samples, registry));
                known += 1;
            }
            let Some(batch) = window.pop_front() else { break };
            let mut dense = allocate_dense(registry, samples);
            fill_dense(&mut dense, number * samples as u64, self.seed);
            losses.push(self.backward(&batch, &dense, &mut gradients));
            self.step(&gradients);
            self.update(&batch, &gradients.by_vectors);
            registry.free(dense);
            batch.free(registry);
        }
        for block in [gradients.by_vectors, gradients.by_bottom, gradients.by_top] {
            registry.free(block);
        }
        losses
    }

    /// The mean loss of a batch, and its gradients.
    fn backward(&mut self, batch: &Batch, dense: &[f32], gradients: &mut Gradients) -> f32 {
        let (bottom, top) = (self.model.bottom.parameters_mut().len(), self.model.top.parameters_mut().len());
        let (model, seed) = (&self.model, self.seed);
        let width = (TABLES + 1) * model.tables.dimension;
        let mut losses = vec![0.0; batch.samples];
        let mut pieces: Vec<_> = losses
            .chunks_mut(PIECE)
            .zip(gradients.by_vectors.chunks_mut(PIECE * width))
            .zip(gradients.by_bottom.chunks_mut(bottom).zip(gradients.by_top.chunks_mut(top)))
            .map(|((losses, by_vectors), (by_bottom, by_top))| Piece { losses, by_vectors, by_bottom, by_top })
            .collect();
        let scratch = || (model.scratch(PIECE), model.scratch(PIECE), vec![0.0; PIECE]);
        on_pieces(self.threads, &mut pieces, 1, scratch, |(forward, backward, by_scores), number, piece| {
            let [Piece { losses, by_vectors, by_bottom, by_top }] = piece else { return };
            let (first, count) = (number * PIECE, losses.len());
            model.tables.gather(batch, first..first + count, &mut forward.vectors);
            let scores = model.predict(count, &dense[first * DENSE..(first + count) * DENSE], forward);
            for (index, &score) in scores.iter().enumerate() {
                let clicked = label(seed, batch.bag(TABLES - 1, first + index));
                let chance = sigmoid(score);
                losses[index] = -(if clicked { chance } else { 1.0 - chance }).max(1e-7).ln();
                by_scores[index] = chance - f32::from(u8::from(clicked));
            }
            by_bottom.fill(0.0);
            by_top.fill(0.0);
            model.backward(count, &by_scores[..count], forward, backward, (by_bottom, by_top));
            by_vectors.copy_from_slice(&backward.vectors[..count * width]);
        });
        losses.iter().sum::<f32>() / batch.samples as f32
    }

    /// One step of the perceptrons.
    fn step(&mut self, gradients: &Gradients) {
        let perceptrons = [(&mut self.model.bottom, &gradients.by_bottom), (&mut self.model.top, &gradients.by_top)];
        for (perceptron, gradients) in perceptrons {
            let parameters = perceptron.parameters_mut();
            for gradient in gradients.chunks_exact(parameters.len()) {
                add_scaled(parameters, -STEP, gradient);
            }
        }
    }

    /// One step of every row that was looked up, once per lookup.
    fn update(&mut self, batch: &Batch, by_vectors: &[f32]) {
        let dimension = self.model.tables.dimension;
        let mut tables: Vec<_> = self.model.tables.tables.iter_mut().zip(&mut self.accumulators).collect();
        on_pieces(
            self.threads,
            &mut tables,
            1,
            || (),
            |(), number, table| {
                let [(table, accumulators)] = table else { return };
                for sample in 0..batch.samples {
                    let gradient = &by_vectors[(sample * (TABLES + 1) + number + 1) * dimension..][..dimension];
                    let mean_square = dot(gradient, gradient) / dimension as f32;
                    for &row in batch.bag(number, sample) {
                        let sum = &mut accumulators[row as usize];
                        *sum += mean_square;
                        let step = ROW_STEP / (sum.sqrt() + EPSILON);
                        add_scaled(&mut table[row as usize * dimension..][..dimension], -step, gradient);
                    }
                }
            },
        );
    }
}

/// Whether a sample was clicked: by chance, settled by the first row it asks of the last (and smallest) table, so that
/// there is something to learn.
fn label(seed: u64, bag: &[u32]) -> bool {
    bag.first().is_some_and(|&row| random::at(random::derive(seed, 0x636c_6963), u64::from(row)) & 1 == 1)
}

/// Of the rows that a batch looks up: distinct ones per lookup, and the share of the distinct ones that one of the
/// `window` batches before it looked up too; both over all batches.
fn reuse(source: &Source, batches: u64, samples: usize, window: usize) -> (f64, f64) {
    let (mut lookups, mut distinct, mut recent) = (0u64, 0u64, 0u64);
    for (table, &rows) in source.rows().iter().enumerate() {
        let mut last_batch = vec![0; rows as usize];
        for batch in 1..=batches {
            for sample in (batch - 1) * samples as u64..batch * samples as u64 {
                for row in source.bag(table, sample) {
                    lookups += 1;
                    let last = std::mem::replace(&mut last_batch[row as usize], batch);
                    distinct += u64::from(last != batch);
                    recent += u64::from(last != batch && last != 0 && last + window as u64 >= batch);
                }
            }
        }
    }
    (distinct as f64 / lookups as f64, recent as f64 / distinct as f64)
}

#[inline(never)]
fn allocate_accumulators(registry: &mut Registry, table: usize, rows: usize) -> Vec<f32> {
    registry.add_numbered("accumulators", table, vec![0.0; rows])
}

#[inline(never)]
fn allocate_by_vectors(registry: &mut Registry, length: usize) -> Vec<f32> {
    registry.add("by_vectors", vec![0.0; length])
}

#[inline(never)]
fn allocate_by_bottom(registry: &mut Registry, length: usize) -> Vec<f32> {
    registry.add("by_bottom", vec![0.0; length])
}

#[inline(never)]
fn allocate_by_top(registry: &mut Registry, length: usize) -> Vec<f32> {
    registry.add("by_top", vec![0.0; length])
}

#[cfg(test)]
mod tests {
    use super::super::skew::Skew;
    use super::*;

    fn trainer(threads: u32) -> Trainer {
        let mut registry = Registry::default();
        let source = Source::new(800, [Pooling::About(2); TABLES], Skew::Zipf { exponent: 1.3 }, false, 1);
        let tables = Tables::new(source, 8, threads, &mut registry);
        Trainer::new(Model::new(tables, 16, 1, &mut registry), 1, threads, &mut registry)
    }

    fn losses(threads: u32, lookahead: usize) -> Vec<f32> {
        trainer(threads).train(30, 150, lookahead, &mut Registry::default())
    }

    #[test]
    fn neither_threads_nor_lookahead_change_anything() {
        let one = losses(1, 1);
        assert_eq!(one, losses(3, 1));
        assert_eq!(one, losses(1, 7));
    }

    #[test]
    fn steps_on_one_batch_make_its_loss_fall() {
        let mut trainer = trainer(1);
        let batch = trainer.model.tables.source().batch(0, 100, &mut Registry::default());
        let dense = vec![0.5; 100 * DENSE];
        let (bottom, top) = (trainer.model.bottom.parameters_mut().len(), trainer.model.top.parameters_mut().len());
        let mut gradients = Gradients {
            by_vectors: vec![0.0; 100 * (TABLES + 1) * 8],
            by_bottom: vec![0.0; 2 * bottom],
            by_top: vec![0.0; 2 * top],
        };
        let losses: Vec<_> = (0..30)
            .map(|_| {
                let loss = trainer.backward(&batch, &dense, &mut gradients);
                trainer.step(&gradients);
                trainer.update(&batch, &gradients.by_vectors);
                loss
            })
            .collect();
        assert!(losses[29] < 0.7 * losses[0], "{losses:?}");
    }

    #[test]
    fn gradients_of_the_loss_are_differences_over_small_steps() {
        let mut trainer = trainer(1);
        let batch = trainer.model.tables.source().batch(0, 70, &mut Registry::default());
        let mut dense = vec![0.0; 70 * DENSE];
        fill_dense(&mut dense, 0, 1);
        let count = trainer.model.bottom.parameters_mut().len();
        let top = trainer.model.top.parameters_mut().len();
        let mut gradients = Gradients {
            by_vectors: vec![0.0; 70 * (TABLES + 1) * 8],
            by_bottom: vec![0.0; 2 * count],
            by_top: vec![0.0; 2 * top],
        };
        trainer.backward(&batch, &dense, &mut gradients);
        let expected: Vec<f32> =
            (0..count).map(|i| (gradients.by_bottom[i] + gradients.by_bottom[count + i]) / 70.0).collect();
        for i in (0..count).step_by(17) {
            let mut loss = |step: f32| {
                trainer.model.bottom.parameters_mut()[i] += step;
                trainer.backward(&batch, &dense, &mut gradients)
            };
            let (up, down) = (loss(1e-2), loss(-2e-2));
            loss(1e-2);
            assert!(((up - down) / 2e-2 - expected[i]).abs() < 1e-2, "{i}: {} {}", (up - down) / 2e-2, expected[i]);
        }
    }

    #[test]
    fn a_row_moves_by_adagrad_once_per_lookup() {
        let mut trainer = trainer(2);
        let batch = trainer.model.tables.source().batch(0, 20, &mut Registry::default());
        let gradients: Vec<f32> = (0..20 * (TABLES + 1) * 8).map(|i| (i % 13) as f32 - 6.0).collect();
        let mut expected = trainer.model.tables.tables[0].clone();
        let mut sums = vec![0f32; expected.len() / 8];
        for sample in 0..20 {
            let gradient = &gradients[(sample * (TABLES + 1) + 1) * 8..][..8];
            for &row in batch.bag(0, sample) {
                sums[row as usize] += gradient.iter().map(|g| g * g).sum::<f32>() / 8.0;
                for column in 0..8 {
                    expected[row as usize * 8 + column] -= ROW_STEP * gradient[column] / sums[row as usize].sqrt();
                }
            }
        }
        trainer.update(&batch, &gradients);
        assert!(super::super::matrix::close(&trainer.model.tables.tables[0], &expected, 1e-5));
    }

    #[test]
    fn reuse_counts_distinct_rows_and_those_seen_within_the_window() {
        let source = Source::new(8, [Pooling::Exactly(4); TABLES], Skew::Uniform, false, 1);
        let (distinct, recent) = reuse(&source, 50, 16, 2);
        assert!(distinct < 0.05 && recent > 0.9, "{distinct} {recent}");
    }
}
