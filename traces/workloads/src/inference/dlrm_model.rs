//! The deep learning recommendation model that `dlrm`, `dlrm-train` and `dlrm-sessions` share (Naumov et al., 2019).
//!
//! A sample has dense features, which a bottom perceptron turns into one more vector beside those pooled from the
//! embedding tables; the dot products of all pairs of vectors, behind the dense one, are the input of a top perceptron,
//! whose one output is the score of a click.

use super::embedding::{TABLES, Tables};
use super::matrix::{add_scaled, dot};
use super::perceptron::{Activations, Perceptron};
use crate::random;
use crate::registry::Registry;

/// Dense features of a sample, as many as Criteo's data have.
pub(crate) const DENSE: usize = 13;

/// Vectors of a sample: the dense one and one per table.
const VECTORS: usize = TABLES + 1;

const PAIRS: usize = VECTORS * (VECTORS - 1) / 2;

/// Tables and perceptrons.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) tables: Tables,
    pub(crate) bottom: Perceptron,
    pub(crate) top: Perceptron,
}

/// What a thread needs to work on some samples.
#[derive(Debug)]
pub(crate) struct Scratch {
    /// For each sample its vectors.
    pub(crate) vectors: Vec<f32>,
    bottom: Activations,
    top: Activations,
}

impl Model {
    /// A model around `tables`; `wide` is the length of the widest hidden layer.
    pub(crate) fn new(tables: Tables, wide: usize, seed: u64, registry: &mut Registry) -> Self {
        let bottom = [DENSE, wide, wide / 2, tables.dimension];
        let top = [tables.dimension + PAIRS, wide, wide / 2, 1];
        let bottom_parameters = allocate_bottom_perceptron(registry, Perceptron::parameter_count(&bottom));
        let top_parameters = allocate_top_perceptron(registry, Perceptron::parameter_count(&top));
        Model {
            tables,
            bottom: Perceptron::new(&bottom, bottom_parameters, true, random::derive(seed, 1)),
            top: Perceptron::new(&top, top_parameters, false, random::derive(seed, 2)),
        }
    }

    /// Scratch for up to that many samples at once.
    pub(crate) fn scratch(&self, samples: usize) -> Scratch {
        Scratch {
            vectors: vec![0.0; samples * VECTORS * self.tables.dimension],
            bottom: self.bottom.activations(samples),
            top: self.top.activations(samples),
        }
    }

    /// The scores of some samples, from their dense features and the pooled vectors in `scratch`.
    pub(crate) fn predict<'a>(&self, samples: usize, dense: &[f32], scratch: &'a mut Scratch) -> &'a [f32] {
        let (dimension, Scratch { vectors, bottom, top }) = (self.tables.dimension, scratch);
        bottom[0][..dense.len()].copy_from_slice(dense);
        self.bottom.forward(samples, bottom);
        let inputs = top[0].chunks_exact_mut(dimension + PAIRS);
        for ((vectors, dense), input) in vectors
            .chunks_exact_mut(VECTORS * dimension)
            .zip(bottom[3].chunks_exact(dimension))
            .zip(inputs)
            .take(samples)
        {
            vectors[..dimension].copy_from_slice(dense);
            input[..dimension].copy_from_slice(dense);
            for ((i, j), product) in pairs().zip(&mut input[dimension..]) {
                *product = dot(vector(vectors, i, dimension), vector(vectors, j, dimension));
            }
        }
        self.top.forward(samples, top);
        &top[3][..samples]
    }

    /// After [`Model::predict`] on the same samples and with the gradient by each score: adds those by the parameters to
    /// `by_bottom` and `by_top`, and leaves those by the vectors in `backward.vectors`.
    pub(crate) fn backward(
        &self,
        samples: usize,
        by_scores: &[f32],
        forward: &Scratch,
        backward: &mut Scratch,
        (by_bottom, by_top): (&mut [f32], &mut [f32]),
    ) {
        let dimension = self.tables.dimension;
        backward.top[3][..samples].copy_from_slice(by_scores);
        self.top.backward(samples, &forward.top, &mut backward.top, by_top);
        backward.vectors.fill(0.0);
        let width = VECTORS * dimension;
        let by_inputs = backward.top[0].chunks_exact(dimension + PAIRS);
        let by_dense = backward.bottom[3].chunks_exact_mut(dimension);
        for (((vectors, by_vectors), by_input), by_dense) in forward
            .vectors
            .chunks_exact(width)
            .zip(backward.vectors.chunks_exact_mut(width))
            .zip(by_inputs)
            .zip(by_dense)
            .take(samples)
        {
            for ((i, j), &by_product) in pairs().zip(&by_input[dimension..]) {
                add_scaled(&mut by_vectors[i * dimension..][..dimension], by_product, vector(vectors, j, dimension));
                add_scaled(&mut by_vectors[j * dimension..][..dimension], by_product, vector(vectors, i, dimension));
            }
            by_dense.copy_from_slice(&by_vectors[..dimension]);
            add_scaled(by_dense, 1.0, &by_input[..dimension]);
        }
        self.bottom.backward(samples, &forward.bottom, &mut backward.bottom, by_bottom);
    }
}

fn vector(vectors: &[f32], number: usize, dimension: usize) -> &[f32] {
    &vectors[number * dimension..][..dimension]
}

/// All pairs of vectors, the first being the larger number.
fn pairs() -> impl Iterator<Item = (usize, usize)> {
    (1..VECTORS).flat_map(|i| (0..i).map(move |j| (i, j)))
}

/// The dense features of the samples of a batch: a pure function of the seed and the sample.
pub(crate) fn fill_dense(dense: &mut [f32], first_sample: u64, seed: u64) {
    let seed = random::derive(seed, 0x6465_6e73);
    for (value, i) in dense.iter_mut().zip(first_sample * DENSE as u64..) {
        *value = random::normal(random::at(seed, i)).abs().ln_1p();
    }
}

#[inline(never)]
fn allocate_bottom_perceptron(registry: &mut Registry, parameters: usize) -> Vec<f32> {
    registry.add("bottom_perceptron", vec![0.0; parameters])
}

#[inline(never)]
fn allocate_top_perceptron(registry: &mut Registry, parameters: usize) -> Vec<f32> {
    registry.add("top_perceptron", vec![0.0; parameters])
}

#[inline(never)]
pub(crate) fn allocate_dense(registry: &mut Registry, samples: usize) -> Vec<f32> {
    registry.add("dense", vec![0.0; samples * DENSE])
}

#[cfg(test)]
mod tests {
    use super::super::embedding::{Pooling, Source};
    use super::super::matrix::close;
    use super::super::skew::Skew;
    use super::*;

    fn model() -> Model {
        let mut registry = Registry::default();
        let tables =
            Tables::new(Source::new(300, [Pooling::About(2); TABLES], Skew::Uniform, false, 1), 4, 1, &mut registry);
        Model::new(tables, 8, 3, &mut registry)
    }

    #[test]
    fn a_score_is_the_top_perceptron_of_the_dense_vector_and_all_dot_products() {
        let model = model();
        let batch = model.tables.source().batch(0, 3, &mut Registry::default());
        let mut dense = vec![0.0; 3 * DENSE];
        fill_dense(&mut dense, 0, 1);
        let mut scratch = model.scratch(3);
        model.tables.gather(&batch, 0..3, &mut scratch.vectors);
        let scores = model.predict(3, &dense, &mut scratch).to_vec();
        for sample in 0..3 {
            let mut bottom = model.bottom.activations(1);
            bottom[0].copy_from_slice(&dense[sample * DENSE..][..DENSE]);
            model.bottom.forward(1, &mut bottom);
            let mut vectors = vec![bottom[3].clone()];
            for table in 0..TABLES {
                let mut pooled = vec![0.0; 4];
                model.tables.pool(table, batch.bag(table, sample), &mut pooled);
                vectors.push(pooled);
            }
            let mut top = model.top.activations(1);
            top[0] = vectors[0].clone();
            for i in 0..VECTORS {
                for j in 0..i {
                    top[0].push(vectors[i].iter().zip(&vectors[j]).map(|(x, y)| x * y).sum());
                }
            }
            model.top.forward(1, &mut top);
            assert!(close(&top[3], &scores[sample..=sample], 1e-4));
        }
    }

    #[test]
    fn gradients_by_pooled_vectors_are_differences_over_small_steps() {
        let model = model();
        let mut dense = vec![0.0; 2 * DENSE];
        fill_dense(&mut dense, 0, 1);
        let mut forward = model.scratch(2);
        let batch = model.tables.source().batch(0, 2, &mut Registry::default());
        model.tables.gather(&batch, 0..2, &mut forward.vectors);
        model.predict(2, &dense, &mut forward);
        let (mut backward, mut by_bottom, mut by_top) = (model.scratch(2), vec![0.0; 4096], vec![0.0; 4096]);
        model.backward(2, &[1.0, 1.0], &forward, &mut backward, (&mut by_bottom, &mut by_top));
        let mut moved = model.scratch(2);
        for i in (0..2 * VECTORS * 4).filter(|i| i % (VECTORS * 4) >= 4) {
            let mut sum = |step: f32| {
                moved.vectors.copy_from_slice(&forward.vectors);
                moved.vectors[i] += step;
                model.predict(2, &dense, &mut moved).iter().sum::<f32>()
            };
            let slope = (sum(1e-2) - sum(-1e-2)) / 2e-2;
            let gradient = backward.vectors[i];
            assert!((slope - gradient).abs() < 2e-2 * (1.0 + slope.abs()), "{i}: {slope} {gradient}");
        }
        assert!(by_bottom.iter().any(|&x| x != 0.0) && by_top.iter().any(|&x| x != 0.0));
    }
}
