//! What a set of objects costs together.
//!
//! Costs alone do not add up: misses that waited for one another still do, and two that overlap are waited for once. The more evenly a set's
//! cost is divided, the more there is to overlap. So the sum is taken times 1 - b (1 - m), where m is the largest cost over the sum and b
//! is fitted to the sets that were timed; one object costs what it costs. Intervals come from sets of programs that were left out, as those of objects do.
//!
//! **Nested sets.** The forecast is (1 - b) times the sum and b times the largest cost, so with b between -0.5 and 0.9 one more object never makes it
//! less; nor does it lower an end of the interval, which rise with the forecast.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::conformal::{Outcome, Rising};
use crate::data::Data;
use crate::table::{Case, Table};

/// Sets that cost less teach nothing of overlap: 1 %.
const LEAST: f64 = 0.01;

/// How costs add up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Forecast {
    overlap: f64,
    intervals: Rising,
}

impl Forecast {
    /// From timed sets and what was said of their objects by models trained without their program.
    pub(crate) fn fit(table: &Table, data: &Data, said: &[f64]) -> Self {
        let cases: BTreeMap<&Case, usize> = data.cases.iter().zip(0..).collect();
        let mut rows: BTreeMap<(usize, &str), usize> = BTreeMap::new();
        for (row, (case, object)) in data.case.iter().zip(&data.object).enumerate() {
            rows.insert((*case, object), row);
        }
        // Of every set: program, true costs alone, predicted costs alone, true cost together.
        let sets: Vec<(usize, Vec<f64>, Vec<f64>, f64)> = table
            .sets
            .iter()
            .filter_map(|set| {
                let case = *cases.get(&set.case)?;
                let found: Option<Vec<usize>> =
                    set.slow.iter().map(|object| rows.get(&(case, object.as_str())).copied()).collect();
                let found = found.filter(|found| found.len() > 1)?;
                let of = |values: &[f64]| found.iter().filter_map(|&row| values.get(row).copied()).collect();
                let program = *data.program.get(*found.first()?)?;
                Some((program, of(&data.labels), of(said), set.slowdown.max(0.0)))
            })
            .collect();
        let mut programs: BTreeMap<usize, (f64, f64)> = BTreeMap::new();
        for (program, alone, _, together) in &sets {
            let (sum, largest) = sum_and_largest(alone);
            if sum > LEAST {
                let evenness = 1.0 - largest / sum;
                let slot = programs.entry(*program).or_default();
                slot.0 += evenness * (1.0 - together / sum);
                slot.1 += evenness * evenness;
            }
        }
        let slopes: Vec<f64> =
            programs.values().filter(|(_, squares)| *squares > 0.0).map(|(both, squares)| both / squares).collect();
        let mean = slopes.iter().sum::<f64>() / slopes.len().max(1) as f64;
        let mut forecast = Self { overlap: mean.clamp(-0.5, 0.9), intervals: Rising::new(&[]) };
        let outcomes: Vec<Outcome> = sets
            .iter()
            .map(|(program, _, said, together)| Outcome {
                predicted: forecast.slowdown(said),
                unsureness: 1.0,
                truth: *together,
                program: *program,
            })
            .collect();
        forecast.intervals = Rising::new(&outcomes);
        forecast
    }

    /// By how much a run is slower with objects of these costs in slow memory together.
    #[must_use]
    pub fn slowdown(&self, alone: &[f64]) -> f64 {
        let (sum, largest) = sum_and_largest(alone);
        if sum > 0.0 { sum * (1.0 - self.overlap * (1.0 - largest / sum)) } else { 0.0 }
    }

    /// Nominally nine in ten truths lie inside.
    #[must_use]
    pub fn interval(&self, alone: &[f64]) -> (f64, f64) {
        if alone.is_empty() { (0.0, 0.0) } else { self.intervals.interval(self.slowdown(alone)) }
    }

    pub(crate) fn is_sound(&self) -> bool {
        (-0.5..=0.9).contains(&self.overlap) && self.intervals.is_sound()
    }
}

fn sum_and_largest(costs: &[f64]) -> (f64, f64) {
    costs.iter().fold((0.0, 0.0), |(sum, largest), cost| (sum + cost.max(0.0), cost.max(largest)))
}
