//! Gradient-boosted trees by smartcore.
//!
//! Its boosting knows squared loss and no weights. So rows are drawn in proportion to their weights, evenly spaced along the sum of
//! weights (systematic sampling): as many as [`MOST_ROWS`], which also bounds the time. Few, shallow trees and small steps: there
//! are dozens of programs to learn from, not thousands.

use smartcore::linalg::basic::matrix::DenseMatrix;
use smartcore::xgboost::{XGRegressor, XGRegressorParameters};

use super::trees::{Forest, Tree};
use super::{LearnError, Learner, Member, Training};
use crate::random::Random;

const NAME: &str = "boosted-trees";
const MOST_ROWS: usize = 500;
const TREES: usize = 30;
const DEPTH: u16 = 3;
const STEP: f64 = 0.1;

pub(super) struct Boosted;

pub(super) static BOOSTED: Boosted = Boosted;

impl Learner for Boosted {
    fn fit(&self, training: &Training, seed: u64) -> Result<Member, LearnError> {
        let refused = |reason: String| LearnError::Refused { learner: NAME, reason };
        let rows = drawn(training.weights, MOST_ROWS.min(4 * training.targets.len()), seed);
        let mut matrix = Vec::with_capacity(rows.len() * training.columns);
        let mut targets = Vec::with_capacity(rows.len());
        for row in rows {
            let start = row * training.columns;
            let values = training.matrix.get(start..start + training.columns);
            if let (Some(values), Some(&target)) = (values, training.targets.get(row)) {
                matrix.extend_from_slice(values);
                targets.push(target);
            }
        }
        let mean = targets.iter().sum::<f64>() / targets.len().max(1) as f64;
        let matrix = DenseMatrix::new(targets.len(), training.columns, matrix, false)
            .map_err(|error| refused(error.to_string()))?;
        let parameters = XGRegressorParameters::default()
            .with_n_estimators(TREES)
            .with_max_depth(DEPTH)
            .with_learning_rate(STEP)
            .with_min_child_weight((targets.len() / 50).max(1))
            .with_base_score(mean)
            .with_subsample(0.7)
            .with_seed(seed);
        let trained = XGRegressor::fit(&matrix, &targets, parameters).map_err(|error| refused(error.to_string()))?;
        let form = || LearnError::Form { learner: NAME };
        let written = serde_json::to_value(&trained).map_err(|_| form())?;
        let trees = written.get("regressors").and_then(|trees| trees.as_array()).ok_or_else(form)?;
        let mut trees: Vec<Tree> = trees.iter().map(Tree::of_nested).collect::<Option<_>>().ok_or_else(form)?;
        trees.iter_mut().for_each(|tree| tree.rise(training.rising));
        Ok(Member::Trees(Forest { trees, scale: STEP, offset: mean }))
    }
}

/// So many rows, each as often as its weight says, give or take one.
fn drawn(weights: &[f64], count: usize, seed: u64) -> Vec<usize> {
    let all: f64 = weights.iter().sum();
    let step = all / count.max(1) as f64;
    let mut next = Random::new(seed).unit() * step;
    let mut sum = 0.0;
    let mut rows = Vec::with_capacity(count);
    for (row, weight) in weights.iter().enumerate() {
        sum += weight;
        while next < sum && rows.len() < count {
            rows.push(row);
            next += step;
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_drawn_as_often_as_they_weigh() {
        let rows = drawn(&[1.0, 0.0, 3.0, 4.0], 80, 1);
        let times = |row| rows.iter().filter(|&&drawn| drawn == row).count();
        assert_eq!([times(0), times(1), times(2), times(3)], [10, 0, 30, 40]);
        assert!(drawn(&[], 10, 1).is_empty());
    }
}
