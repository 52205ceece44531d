//! Intervals whose ends rise with the prediction, for sets.
//!
//! A placement that leaves more objects in slow memory cannot cost less, and what is predicted of it is not less either. So its
//! interval must not end below that of a part of it. Quantiles by size of the prediction break this where two sizes meet: each holds for
//! what is typical of its size, and is wrong in another direction at either edge. Here they are taken where they hold, at the middle of
//! each size's predictions, and lines between these *knots* are the ends. An upper end that would fall to the next knot is raised to the one
//! before, a lower end that would rise to the one before is lowered to the next: both only widen. Both ends together are then
//! moved apart as far as the outcomes ask that they were made of, so that the nominal part is covered again.
//!
//! On lines that rise, through a prediction that rises with every member of a set ([`crate::Forecast`]), ends rise along nested sets.

use serde::{Deserialize, Serialize};

use super::{ANYTHING, COVERAGE, Conformal, Outcome, at, scaled, unscaled, weights};

/// Both ends as functions of the prediction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Rising {
    /// In the order of predictions; at least one.
    knots: Vec<Knot>,
}

/// Where quantiles hold, on the scale.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Knot {
    predicted: f64,
    low: f64,
    high: f64,
}

impl Rising {
    /// From predictions for programs that were left out; all count as equally sure.
    pub(crate) fn new(outcomes: &[Outcome]) -> Self {
        let mut knots = Vec::new();
        let mut least = 0.0;
        for bin in Conformal::new(outcomes).bins {
            let own: Vec<Outcome> =
                outcomes.iter().filter(|o| o.predicted >= least && o.predicted < bin.most).copied().collect();
            least = bin.most;
            if let Some(predicted) = middle(&own) {
                knots.push(Knot { predicted, low: predicted + bin.low, high: predicted + bin.high });
            }
        }
        if knots.is_empty() {
            knots.push(Knot { predicted: 0.0, low: ANYTHING.0, high: ANYTHING.1 });
        }
        let mut rising = Self { knots };
        rising.rise();
        rising.cover(outcomes);
        rising
    }

    fn rise(&mut self) {
        let mut most = f64::NEG_INFINITY;
        for knot in &mut self.knots {
            most = knot.high.max(most);
            knot.high = most;
        }
        let mut least = f64::INFINITY;
        for knot in self.knots.iter_mut().rev() {
            least = knot.low.min(least);
            knot.low = least;
        }
    }

    /// Moves the ends apart until each leaves out no more than half of what may be left out.
    fn cover(&mut self, outcomes: &[Outcome]) {
        let beyond = |end: fn(&Self, f64) -> f64, sign: f64| {
            let rows = outcomes.iter().zip(weights(outcomes));
            let mut beyond: Vec<(f64, f64)> =
                rows.map(|(o, weight)| (sign * (scaled(o.truth) - end(self, scaled(o.predicted))), weight)).collect();
            beyond.sort_by(|a, b| b.0.total_cmp(&a.0));
            let all: f64 = beyond.iter().map(|(_, weight)| weight).sum();
            at(&beyond, (1.0 - COVERAGE) / 2.0 * all).max(0.0)
        };
        let (below, above) = (beyond(Self::low, -1.0), beyond(Self::high, 1.0));
        for knot in &mut self.knots {
            knot.low -= below;
            knot.high += above;
        }
    }

    fn low(&self, predicted: f64) -> f64 {
        self.end(predicted, |knot| knot.low)
    }

    fn high(&self, predicted: f64) -> f64 {
        self.end(predicted, |knot| knot.high)
    }

    /// On the line between two knots; as far from the prediction as at the nearest knot where there is none beyond.
    fn end(&self, predicted: f64, of: fn(&Knot) -> f64) -> f64 {
        let after = self.knots.partition_point(|knot| knot.predicted <= predicted);
        match (after.checked_sub(1).and_then(|before| self.knots.get(before)), self.knots.get(after)) {
            (Some(before), Some(after)) => {
                let part = (predicted - before.predicted) / (after.predicted - before.predicted);
                // Between both, whatever is rounded.
                (of(before) + part * (of(after) - of(before))).clamp(of(before), of(after))
            }
            (Some(only), None) | (None, Some(only)) => of(only) + (predicted - only.predicted),
            (None, None) => predicted,
        }
    }

    /// The interval of a prediction, which it contains.
    pub(crate) fn interval(&self, predicted: f64) -> (f64, f64) {
        let at = scaled(predicted);
        (unscaled(self.low(at)).min(predicted), unscaled(self.high(at)).max(predicted))
    }

    /// Whether it is numbers, and rises.
    pub(crate) fn is_sound(&self) -> bool {
        let numbers = |knot: &Knot| [knot.predicted, knot.low, knot.high].iter().all(|number| number.is_finite());
        let rises = |pair: &[Knot]| match pair {
            [a, b] => a.predicted < b.predicted && a.low <= b.low && a.high <= b.high,
            _ => true,
        };
        !self.knots.is_empty() && self.knots.iter().all(numbers) && self.knots.windows(2).all(rises)
    }
}

/// The middle of predictions, on the scale, every program counting the same; `None` of none.
fn middle(outcomes: &[Outcome]) -> Option<f64> {
    let mut predicted: Vec<(f64, f64)> = outcomes.iter().map(|o| scaled(o.predicted)).zip(weights(outcomes)).collect();
    predicted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let all: f64 = predicted.iter().map(|(_, weight)| weight).sum();
    (!predicted.is_empty()).then(|| at(&predicted, all / 2.0))
}

#[cfg(test)]
mod tests {
    use super::super::tests::outcomes;
    use super::*;
    use proptest::prelude::*;

    /// Small predictions that were far too small, and large ones that were right: quantiles by size fall where they meet.
    fn falling() -> Vec<Outcome> {
        let mut all = outcomes(20, 40, 7);
        for (number, outcome) in all.iter_mut().enumerate() {
            if outcome.predicted < 0.05 && number % 3 == 0 {
                outcome.truth = 2.0;
            } else if outcome.predicted >= 0.05 {
                outcome.truth = outcome.predicted;
            }
        }
        all
    }

    #[test]
    fn ends_rise_where_those_by_size_fall() {
        let all = falling();
        let (by_size, rising) = (Conformal::new(&all), Rising::new(&all));
        let near = [0.049_999, 0.050_001];
        let [below, above] = near.map(|predicted| by_size.interval(predicted, 1.0).1);
        assert!(above < below, "{below} {above}");
        let [below, above] = near.map(|predicted| rising.interval(predicted).1);
        assert!(above >= below && rising.is_sound());
    }

    #[test]
    fn the_nominal_part_is_covered_of_what_it_was_made_of_and_of_programs_nobody_saw() {
        let covered = |rising: &Rising, all: &[Outcome]| {
            let rows = all.iter().zip(weights(all));
            let inside = |o: &Outcome| {
                let (low, high) = rising.interval(o.predicted);
                // What lies on an end is inside, whatever was rounded.
                low <= o.truth + 1e-9 && o.truth <= high + 1e-9
            };
            let (sum, all) = rows
                .fold((0.0, 0.0), |(sum, all), (o, weight)| (sum + if inside(o) { weight } else { 0.0 }, all + weight));
            sum / all
        };
        for all in [falling(), outcomes(40, 50, 1), outcomes(2, 3, 4)] {
            let rising = Rising::new(&all);
            assert!(covered(&rising, &all) >= COVERAGE - 1e-9, "{}", covered(&rising, &all));
        }
        let share = covered(&Rising::new(&outcomes(40, 50, 1)), &outcomes(400, 10, 2));
        assert!((0.86..0.96).contains(&share), "{share}");
    }

    #[test]
    fn what_falls_is_not_sound() {
        let knot = |predicted, low, high| Knot { predicted, low, high };
        for knots in [
            vec![],
            vec![knot(0.0, 0.0, f64::NAN)],
            vec![knot(1.0, 0.0, 2.0), knot(1.0, 0.0, 2.0)],
            vec![knot(1.0, 0.0, 2.0), knot(2.0, 0.0, 1.0)],
            vec![knot(1.0, 0.5, 2.0), knot(2.0, 0.0, 2.0)],
        ] {
            assert!(!Rising { knots }.is_sound());
        }
    }

    proptest! {
        #[test]
        fn both_ends_rise_with_the_prediction_and_have_it_between_them(
            programs in 0usize..9, rows in 1usize..60, seed: u64, first in 0.0..60.0f64, second in 0.0..60.0f64
        ) {
            let rising = Rising::new(&outcomes(programs, rows, seed));
            prop_assert!(rising.is_sound());
            let (less, more) = (unscaled(first.min(second) / 5.0), unscaled(first.max(second) / 5.0));
            let (of_less, of_more) = (rising.interval(less), rising.interval(more));
            prop_assert!(0.0 <= of_less.0 && of_less.0 <= less && less <= of_less.1 && of_less.1.is_finite());
            prop_assert!(of_less.0 <= of_more.0 && of_less.1 <= of_more.1, "{of_less:?} {of_more:?}");
        }
    }
}
