//! Pairwise logistic regression by linfa: which of two objects of a case costs more.
//!
//! A pair is the difference of two rows, the answer which of them costs more; pairs that cost about the same ask nothing. What is learnt
//! is a weighted sum of columns and of the logarithm of the formula. Divided by the formula's weight it is a correction of the
//! formula; its offset is the median of what is left. Where the formula got no weight the pairs contradict it and
//! nothing is corrected: a ranking that ignores the formula would not grow with a share.

use linfa::Dataset;
use linfa::traits::Fit;
use linfa_logistic::LogisticRegression;
use ndarray::{Array1, Array2};

use super::{LearnError, Learner, Member, Training};
use crate::random::Random;

const NAME: &str = "pairwise";

/// Most pairs: thinned beyond, evenly by lot.
const MOST_PAIRS: usize = 1500;

/// Least difference of two costs, as part of the larger.
const APART: f64 = 0.2;

/// Least weight of the formula, in its own standard deviations, for a correction of it to mean anything.
const LEAST_WEIGHT: f64 = 0.2;

pub(super) struct Pairwise;

pub(super) static PAIRWISE: Pairwise = Pairwise;

impl Learner for Pairwise {
    fn fit(&self, training: &Training, seed: u64) -> Result<Member, LearnError> {
        let columns = training.columns;
        let (centres, widths) = moments(training);
        let nothing = Member::Linear {
            weights: vec![0.0; columns],
            centres: centres.clone(),
            offset: median(training, &[], &[]),
        };
        let pairs = pairs(training, seed);
        let row = |row: usize| training.matrix.get(row * columns..(row + 1) * columns).unwrap_or(&[]);
        let formula = |row: usize| training.formula.get(row).copied().unwrap_or(0.0);
        let mut values = Vec::with_capacity(pairs.len() * (columns + 1));
        let mut answers = Vec::with_capacity(pairs.len());
        for (number, &(more, less)) in pairs.iter().enumerate() {
            // Every other pair the other way round, so that both answers are equally frequent.
            let (first, second) = if number % 2 == 0 { (more, less) } else { (less, more) };
            let scaled = row(first).iter().zip(row(second)).zip(&widths).map(|((a, b), width)| (a - b) / width);
            values.extend(scaled);
            values.push(formula(first) - formula(second));
            answers.push(number % 2 == 0);
        }
        if pairs.len() < 4 {
            return Ok(nothing);
        }
        let refused = |reason: String| LearnError::Refused { learner: NAME, reason };
        let matrix = Array2::from_shape_vec((pairs.len(), columns + 1), values).map_err(|e| refused(e.to_string()))?;
        let dataset = Dataset::new(matrix, Array1::from_vec(answers));
        let regression =
            LogisticRegression::default().alpha(0.002 * pairs.len() as f64).max_iterations(30).with_intercept(false);
        let trained = regression.fit(&dataset).map_err(|error| refused(error.to_string()))?;
        // The label that scores point to is the one linfa met as positive.
        let sign = if trained.labels().pos.class { 1.0 } else { -1.0 };
        let found: Vec<f64> = trained.params().iter().map(|weight| weight * sign).collect();
        let Some((&formula_weight, others)) = found.split_last() else { return Ok(nothing) };
        if formula_weight < LEAST_WEIGHT || found.iter().any(|weight| !weight.is_finite()) {
            return Ok(nothing);
        }
        let weights = others.iter().zip(&widths).zip(training.rising).map(|((weight, width), &rising)| {
            let weight = weight / formula_weight / width;
            if rising { weight.max(0.0) } else { weight }
        });
        let weights: Vec<f64> = weights.collect();
        let offset = median(training, &weights, &centres);
        Ok(Member::Linear { weights, centres, offset })
    }
}

/// Mean and standard deviation of every column.
fn moments(training: &Training) -> (Vec<f64>, Vec<f64>) {
    let rows = training.targets.len().max(1) as f64;
    let columns = training.columns;
    let mut sums = vec![(0.0, 0.0); columns];
    for row in training.matrix.chunks_exact(columns.max(1)) {
        for ((sum, squares), value) in sums.iter_mut().zip(row) {
            (*sum, *squares) = (*sum + value, *squares + value * value);
        }
    }
    let width = |(sum, squares): &(f64, f64)| (squares / rows - (sum / rows).powi(2)).max(0.0).sqrt();
    let widths = sums.iter().map(width).map(|width| if width > 1e-12 { width } else { 1.0 }).collect();
    (sums.iter().map(|(sum, _)| sum / rows).collect(), widths)
}

/// Pairs of rows of one case, the costlier first.
fn pairs(training: &Training, seed: u64) -> Vec<(usize, usize)> {
    let mut order: Vec<usize> = (0..training.case.len()).collect();
    let case = |row: usize| training.case.get(row).copied().unwrap_or(0);
    let label = |row: usize| training.labels.get(row).copied().unwrap_or(0.0);
    order.sort_by_key(|&row| (case(row), row));
    let mut pairs = Vec::new();
    for rows in order.chunk_by(|&a, &b| case(a) == case(b)) {
        for (at, &a) in rows.iter().enumerate() {
            for &b in rows.iter().skip(at + 1) {
                let (more, less) = if label(a) >= label(b) { (a, b) } else { (b, a) };
                if label(more) - label(less) > APART * label(more) + crate::data::FLOOR {
                    pairs.push((more, less));
                }
            }
        }
    }
    let mut random = Random::new(seed);
    let keep = MOST_PAIRS as f64 / pairs.len().max(1) as f64;
    pairs.retain(|_| random.unit() < keep);
    pairs
}

/// The weighted median of what a correction without an offset leaves.
fn median(training: &Training, weights: &[f64], centres: &[f64]) -> f64 {
    let rows = training.matrix.chunks_exact(training.columns.max(1));
    let mut left: Vec<(f64, f64)> = rows
        .zip(training.targets)
        .zip(training.weights)
        .map(|((row, target), &weight)| {
            let terms = weights.iter().zip(centres).zip(row);
            (target - terms.map(|((weight, centre), value)| weight * (value - centre)).sum::<f64>(), weight)
        })
        .collect();
    left.sort_by(|a, b| a.0.total_cmp(&b.0));
    let half = left.iter().map(|(_, weight)| weight).sum::<f64>() / 2.0;
    let mut sum = 0.0;
    let found = left.iter().find(|(_, weight)| {
        sum += weight;
        sum >= half
    });
    found.map_or(0.0, |(value, _)| *value)
}
