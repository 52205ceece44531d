//! Intervals that hold for programs nobody trained on.
//!
//! What a model says of programs it was not trained on is known from cross-validation: residuals of rows whose program was left out.
//! Quantiles of those are the intervals of the next program, if programs are exchangeable (conformal prediction; Vovk, Gammerman, Shafer,
//! *Algorithmic Learning in a Random World*, 2005). Rows of a program are not: they share code. So every program counts the same,
//! however many rows it has (Dunn, Wasserman, Ramdas, "Distribution-Free Prediction Sets for Two-Layer Hierarchical Models", 2022).
//!
//! Residuals are taken on a logarithmic scale that is linear below the floor, and in units of how sure the model is, which holds the
//! spread of its members and the error of the samples. They are taken apart by the size of the prediction, for
//! the many objects that cost nothing must not decide how wide the interval of a costly one is.

mod rising;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::data::FLOOR;

pub(crate) use rising::Rising;

/// Nominal coverage.
pub const COVERAGE: f64 = 0.9;

/// Where predictions of different size part: 0.5 %, 5 %, 20 %.
const SIZES: [f64; 3] = [0.005, 0.05, 0.2];

/// Least rows and programs that have intervals of their own.
const LEAST_ROWS: usize = 30;
const LEAST_PROGRAMS: usize = 4;

/// A residual that nothing explains: 0.3 is a factor of 1.35.
const UNEXPLAINED: f64 = 0.3;

/// The scale: logarithmic above the floor, linear below, 0 at 0.
pub(crate) fn scaled(slowdown: f64) -> f64 {
    (slowdown.max(0.0) / FLOOR).ln_1p()
}

/// Back from the scale.
pub(crate) fn unscaled(scaled: f64) -> f64 {
    scaled.clamp(0.0, 60.0).exp_m1() * FLOOR
}

/// How unsure a prediction is, on the scale, from the logarithmic errors that are known of it.
pub(crate) fn unsureness(spread: f64, relative_error: f64) -> f64 {
    let known = |error: f64| if error.is_finite() { error.min(3.0) } else { 0.0 };
    (UNEXPLAINED * UNEXPLAINED + known(spread).powi(2) + known(relative_error).powi(2)).sqrt()
}

/// How much of that, squared, is owed to few samples: 0 to 1.
pub(crate) fn sampled_part(spread: f64, relative_error: f64) -> f64 {
    let (all, without) = (unsureness(spread, relative_error), unsureness(spread, 0.0));
    1.0 - (without / all).powi(2)
}

/// What came of one prediction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    pub(crate) predicted: f64,
    pub(crate) unsureness: f64,
    pub(crate) truth: f64,
    pub(crate) program: usize,
}

/// Quantiles of residuals, by size of the prediction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Conformal {
    bins: Vec<Bin>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Bin {
    /// Predictions up to this.
    most: f64,
    low: f64,
    high: f64,
}

/// A bin that says nothing: whatever is possible.
const ANYTHING: (f64, f64) = (-50.0, 50.0);

impl Conformal {
    /// From predictions for programs that were left out.
    pub(crate) fn new(outcomes: &[Outcome]) -> Self {
        let mut bins = Vec::new();
        let mut waiting: Vec<Outcome> = Vec::new();
        let mut least = 0.0;
        for most in SIZES.into_iter().chain([f64::MAX]) {
            waiting.extend(outcomes.iter().filter(|o| o.predicted >= least && o.predicted < most));
            least = most;
            if is_enough(&waiting) {
                let (low, high) = quantiles(&waiting);
                bins.push(Bin { most, low, high });
                waiting.clear();
            }
        }
        // What is left at the top joins the last bin that had enough.
        match bins.last_mut() {
            Some(last) if last.most < f64::MAX => {
                let from = if last.most > SIZES[0] { SIZES[0] } else { 0.0 };
                let top: Vec<Outcome> = outcomes.iter().filter(|o| o.predicted >= from).copied().collect();
                (last.low, last.high) = quantiles(&top);
                last.most = f64::MAX;
            }
            Some(_) => {}
            None => {
                let (low, high) = if outcomes.is_empty() { ANYTHING } else { quantiles(outcomes) };
                bins.push(Bin { most: f64::MAX, low, high });
            }
        }
        Self { bins }
    }

    /// The interval of a prediction, which it contains.
    pub(crate) fn interval(&self, predicted: f64, unsureness: f64) -> (f64, f64) {
        let bin = self.bins.iter().find(|bin| predicted < bin.most).or(self.bins.last());
        let (low, high) = bin.map_or(ANYTHING, |bin| (bin.low, bin.high));
        let at = scaled(predicted);
        let low = unscaled(at + low * unsureness).min(predicted);
        (low, unscaled(at + high * unsureness).max(predicted))
    }

    pub(crate) fn is_sound(&self) -> bool {
        let numbers = |bin: &Bin| [bin.most, bin.low, bin.high].iter().all(|number| number.is_finite());
        !self.bins.is_empty() && self.bins.iter().all(numbers)
    }
}

fn is_enough(outcomes: &[Outcome]) -> bool {
    let mut programs: Vec<usize> = outcomes.iter().map(|outcome| outcome.program).collect();
    programs.sort_unstable();
    programs.dedup();
    outcomes.len() >= LEAST_ROWS && programs.len() >= LEAST_PROGRAMS
}

/// What every outcome counts, in order: the same for every program, however many it has.
fn weights(outcomes: &[Outcome]) -> impl Iterator<Item = f64> {
    let mut rows: BTreeMap<usize, f64> = BTreeMap::new();
    for outcome in outcomes {
        *rows.entry(outcome.program).or_default() += 1.0;
    }
    outcomes.iter().map(move |outcome| 1.0 / rows.get(&outcome.program).copied().unwrap_or(1.0))
}

/// The quantiles that leave half of what is not covered on either side, every program counting the same.
fn quantiles(outcomes: &[Outcome]) -> (f64, f64) {
    let residuals = outcomes.iter().map(|o| (scaled(o.truth) - scaled(o.predicted)) / o.unsureness);
    let mut residuals: Vec<(f64, f64)> = residuals.zip(weights(outcomes)).collect();
    residuals.sort_by(|a, b| a.0.total_cmp(&b.0));
    let tail = (1.0 - COVERAGE) / 2.0;
    let all: f64 = residuals.iter().map(|(_, weight)| weight).sum();
    let low = at(&residuals, tail * all);
    residuals.reverse();
    (low.min(0.0), at(&residuals, tail * all).max(0.0))
}

/// The first value at which the sum of weights passes `weight`.
fn at(sorted: &[(f64, f64)], weight: f64) -> f64 {
    let mut sum = 0.0;
    let found = sorted.iter().find(|(_, own)| {
        sum += own;
        sum > weight
    });
    found.or(sorted.last()).map_or(0.0, |(value, _)| *value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    pub(super) fn outcomes(programs: usize, rows: usize, seed: u64) -> Vec<Outcome> {
        let mut random = Random::new(seed);
        let mut outcomes = Vec::new();
        for program in 0..programs {
            let bias = random.unit() - 0.5;
            for _ in 0..rows {
                let predicted = unscaled(random.unit() * 6.0);
                let truth = unscaled((scaled(predicted) + bias + random.unit() - 0.5).max(0.0));
                outcomes.push(Outcome { predicted, unsureness: 1.0, truth, program });
            }
        }
        outcomes
    }

    #[test]
    fn nine_in_ten_of_programs_nobody_saw_are_covered() {
        let conformal = Conformal::new(&outcomes(40, 50, 1));
        let unseen = outcomes(400, 10, 2);
        let covered = unseen.iter().filter(|o| {
            let (low, high) = conformal.interval(o.predicted, o.unsureness);
            low <= o.truth && o.truth <= high
        });
        let share = covered.count() as f64 / unseen.len() as f64;
        assert!((0.86..0.94).contains(&share), "{share}");
    }

    #[test]
    fn a_program_with_many_rows_counts_as_one_with_few() {
        let of = |rows: usize| {
            let mut all = outcomes(20, 40, 3);
            all.extend((0..rows).map(|_| Outcome { predicted: 0.1, unsureness: 1.0, truth: 10.0, program: 99 }));
            Conformal::new(&all)
        };
        assert_eq!(of(50), of(5000));
    }

    #[test]
    fn an_interval_contains_its_prediction_even_when_nothing_is_known() {
        for conformal in [Conformal::new(&[]), Conformal::new(&outcomes(2, 3, 4)), Conformal::new(&outcomes(9, 40, 4))]
        {
            assert!(conformal.is_sound());
            for predicted in [0.0, 1e-9, 0.004, 0.3, 50.0] {
                let (low, high) = conformal.interval(predicted, 0.5);
                assert!(0.0 <= low && low <= predicted && predicted <= high && high.is_finite());
            }
        }
    }
}
