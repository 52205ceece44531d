//! Which learner: by what each says of programs that were left out.
//!
//! Placement divides a budget among the objects of one run. So what counts is how a learner divides the run's cost among them: the part of
//! the cost that it gives to wrong objects (half the sum of absolute differences of shares), the mean over cases, then over
//! programs. The tables also have what others would choose by.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::cost;
use crate::data::{Data, FLOOR};
use crate::feature::Group;
use crate::judge::{kendall_tau, ndcg};
use crate::learn::inputs::Target;
use crate::learn::{Ensemble, Kind, LearnError};
use crate::random::in_parallel;

/// Most parts that programs are divided into; with fewer programs each is left out alone.
pub(crate) const FOLDS: usize = 10;

/// A learner counts as better only if it gives so much less to wrong objects: otherwise the simpler one, which comes first.
const BETTER: f64 = 0.002;

/// What is compared, the simplest first.
const CANDIDATES: [(Kind, Target); 7] = [
    (Kind::Formula, Target::Correction),
    (Kind::Pairwise, Target::Correction),
    (Kind::BoostedTrees, Target::Correction),
    (Kind::Forest, Target::Correction),
    (Kind::ExtraTrees, Target::Correction),
    (Kind::Blend, Target::Correction),
    (Kind::Forest, Target::Cost),
];

/// What one candidate said of rows whose program was left out.
pub(crate) struct HeldOut {
    pub(crate) kind: Kind,
    pub(crate) target: Target,
    /// By row of the data: cost and spread.
    pub(crate) said: Vec<(f64, f64)>,
}

/// How one learner did on programs that were left out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Compared {
    /// Which.
    pub kind: Kind,
    /// What it predicted.
    pub target: Target,
    /// Part of a case's cost that it gives to wrong objects.
    pub misplaced: f64,
    /// Kendall's tau of the order of objects.
    pub tau: f64,
    /// Normalised discounted cumulative gain of the order.
    pub ndcg: f64,
    /// Weighted root mean square of the logarithm of predicted over true.
    pub log_error: f64,
    /// Whether it was chosen.
    pub chosen: bool,
}

/// All learners beside each other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Programs that were left out in turn.
    pub programs: usize,
    /// Rows of theirs.
    pub rows: usize,
    /// The simplest first.
    pub learners: Vec<Compared>,
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} rows of {} programs, each predicted by what was learnt without it", self.rows, self.programs)?;
        writeln!(f, "  {:24} {:>9} {:>6} {:>6} {:>9}", "learner", "misplaced", "tau", "ndcg", "log error")?;
        for row in &self.learners {
            let name = match row.target {
                Target::Correction => row.kind.as_str().to_owned(),
                Target::Cost => format!("{} without formula", row.kind.as_str()),
            };
            let mark = if row.chosen { '*' } else { ' ' };
            let misplaced = row.misplaced * 100.0;
            writeln!(f, "{mark} {name:24} {misplaced:7.1} % {:6.3} {:6.3} {:9.3}", row.tau, row.ndcg, row.log_error)?;
        }
        Ok(())
    }
}

/// The programs of some rows, sorted.
pub(crate) fn programs(data: &Data, rows: &[usize]) -> Vec<usize> {
    let mut programs: Vec<usize> = rows.iter().filter_map(|&row| data.program.get(row).copied()).collect();
    programs.sort_unstable();
    programs.dedup();
    programs
}

/// Rows to train on and rows to predict, for each part: no program is in both.
pub(crate) fn splits(data: &Data, rows: &[usize], folds: usize) -> Vec<(Vec<usize>, Vec<usize>)> {
    let programs = programs(data, rows);
    let folds = folds.clamp(1, programs.len().max(1));
    let part = |row: usize| {
        let program = data.program.get(row).copied().unwrap_or(0);
        programs.binary_search(&program).unwrap_or(0) % folds
    };
    (0..folds).map(|fold| rows.iter().partition(|&&row| part(row) != fold)).collect()
}

/// What all candidates say of programs that were left out.
pub(crate) fn held_out(data: &Data, rows: &[usize], folds: usize) -> Result<Vec<HeldOut>, LearnError> {
    let splits = splits(data, rows, folds);
    let parts = in_parallel(splits.len(), |fold| {
        let Some((train, test)) = splits.get(fold) else { return Ok(Vec::new()) };
        let trained = candidates(data, train)?;
        let said = trained.iter().map(|ensemble| {
            let said = ensemble.predictor().say(test.iter().filter_map(|&row| data.features.get(row)));
            let rows = test.iter().zip(said).filter_map(|(&row, said)| {
                Some((row, cost(ensemble.target, *data.formula.get(row)?, said.mean), said.spread))
            });
            rows.collect::<Vec<_>>()
        });
        Ok(said.collect::<Vec<_>>())
    });
    let candidates = CANDIDATES.iter();
    let mut all: Vec<HeldOut> =
        candidates.map(|&(kind, target)| HeldOut { kind, target, said: vec![(0.0, 0.0); data.len()] }).collect();
    for part in parts {
        for (held, said) in all.iter_mut().zip(part?) {
            for (row, value, spread) in said {
                if let Some(slot) = held.said.get_mut(row) {
                    *slot = (value, spread);
                }
            }
        }
    }
    Ok(all)
}

/// All candidates, trained; the blend is made of those that are trained anyway.
fn candidates(data: &Data, rows: &[usize]) -> Result<Vec<Ensemble>, LearnError> {
    let mut trained: Vec<Ensemble> = Vec::new();
    for (kind, target) in CANDIDATES {
        let parts =
            |ensemble: &&Ensemble| matches!(ensemble.kind, Kind::BoostedTrees | Kind::Forest | Kind::ExtraTrees);
        let blend =
            if kind == Kind::Blend { Ensemble::blend(&trained.iter().filter(parts).collect::<Vec<_>>()) } else { None };
        trained.push(match blend {
            Some(blend) => blend,
            None => Ensemble::train(data, rows, kind, target, &Group::ALL)?,
        });
    }
    Ok(trained)
}

/// The final training.
pub(crate) fn train(data: &Data, rows: &[usize], kind: Kind) -> Result<Ensemble, LearnError> {
    Ensemble::train(data, rows, kind, Target::Correction, &Group::ALL)
}

/// How they did.
pub(crate) fn compare(data: &Data, held_out: &[HeldOut]) -> Comparison {
    let rows: Vec<usize> = (0..data.len()).collect();
    let mut learners: Vec<Compared> = held_out
        .iter()
        .map(|held| {
            let values: Vec<f64> = held.said.iter().map(|(value, _)| *value).collect();
            let judged = judge(data, &rows, &values);
            Compared { kind: held.kind, target: held.target, chosen: false, ..judged }
        })
        .collect();
    let mut best: Option<(usize, f64)> = None;
    for (number, compared) in learners.iter().enumerate() {
        let better = best.is_none_or(|(_, least)| compared.misplaced < least - BETTER);
        if compared.target == Target::Correction && better {
            best = Some((number, compared.misplaced));
        }
    }
    if let Some(chosen) = best.and_then(|(number, _)| learners.get_mut(number)) {
        chosen.chosen = true;
    }
    Comparison { programs: programs(data, &rows).len(), rows: rows.len(), learners }
}

/// The one that was chosen.
pub(crate) fn chosen<'a>(comparison: &Comparison, held_out: &'a [HeldOut]) -> Option<&'a HeldOut> {
    comparison.learners.iter().zip(held_out).find(|(compared, _)| compared.chosen).map(|(_, held)| held)
}

/// How predicted costs of rows compare with the labels: means over programs of means over cases.
pub(crate) fn judge(data: &Data, rows: &[usize], values: &[f64]) -> Compared {
    let mut order: Vec<usize> = rows.to_vec();
    let case = |row: usize| data.case.get(row).copied().unwrap_or(0);
    order.sort_by_key(|&row| (data.program.get(row).copied().unwrap_or(0), case(row), row));
    let mut sums = [[0.0f64; 2]; 3];
    let mut count = 0.0;
    let (mut squares, mut weights) = (0.0, 0.0);
    for program in order.chunk_by(|&a, &b| data.program.get(a) == data.program.get(b)) {
        let mut means = [[0.0f64; 2]; 3];
        for rows in program.chunk_by(|&a, &b| case(a) == case(b)) {
            let of = |all: &[f64]| rows.iter().filter_map(|&row| all.get(row).copied()).collect::<Vec<f64>>();
            let (truth, said, own) = (of(&data.labels), of(values), of(&data.weights));
            for ((truth, said), weight) in truth.iter().zip(&said).zip(&own) {
                squares += weight * ((said + FLOOR) / (truth + FLOOR)).ln().powi(2);
                weights += weight;
            }
            let total: f64 = truth.iter().sum();
            // Nothing costs anything: there is nothing to divide.
            if total < 0.01 || truth.len() < 2 {
                continue;
            }
            let misplaced = misplaced(&truth, &said);
            for ([sum, cases], value) in
                means.iter_mut().zip([Some(misplaced), kendall_tau(&truth, &said), Some(ndcg(&truth, &said))])
            {
                if let Some(value) = value {
                    *sum += value;
                    *cases += 1.0;
                }
            }
        }
        count += 1.0;
        for ([sum, programs], [own, cases]) in sums.iter_mut().zip(means) {
            if cases > 0.0 {
                *sum += own / cases;
                *programs += 1.0;
            }
        }
    }
    let mean = |[sum, programs]: [f64; 2]| if programs > 0.0 { sum / programs } else { 0.0 };
    let [misplaced, tau, ndcg] = sums.map(mean);
    let log_error = if count > 0.0 && weights > 0.0 { (squares / weights).sqrt() } else { 0.0 };
    Compared { kind: Kind::Formula, target: Target::Correction, misplaced, tau, ndcg, log_error, chosen: false }
}

/// Half the sum of differences of shares.
fn misplaced(truth: &[f64], said: &[f64]) -> f64 {
    let share = |values: &[f64]| {
        let sum: f64 = values.iter().sum();
        let equal = 1.0 / values.len().max(1) as f64;
        values.iter().map(|value| if sum > 0.0 { value / sum } else { equal }).collect::<Vec<f64>>()
    };
    share(truth).iter().zip(share(said)).map(|(truth, said)| (truth - said).abs()).sum::<f64>() / 2.0
}

/// The weighted median of what the formula is wrong by.
pub(crate) fn bias(data: &Data, rows: &[usize]) -> f64 {
    let mut found: Vec<(f64, f64)> =
        rows.iter().filter_map(|&row| Some((data.correction(row), *data.weights.get(row)?))).collect();
    found.sort_by(|a, b| a.0.total_cmp(&b.0));
    let half = found.iter().map(|(_, weight)| weight).sum::<f64>() / 2.0;
    let mut sum = 0.0;
    let middle = found.iter().find(|(_, weight)| {
        sum += weight;
        sum >= half
    });
    middle.map_or(0.0, |(value, _)| *value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feature::{Family, Features};

    /// Rows of so many programs, unevenly many of each.
    fn data(programs: usize) -> Data {
        let program: Vec<usize> = (0..programs).flat_map(|program| vec![program; 1 + program % 3]).collect();
        let rows = program.len();
        Data {
            family: Family::Clock,
            features: vec![Features::default(); rows],
            formula: vec![0.1; rows],
            labels: vec![0.1; rows],
            weights: vec![1.0; rows],
            case: program.clone(),
            program,
            object: vec!["heap-1".into(); rows],
            programs: (0..programs).map(|program| program.to_string()).collect(),
            cases: Vec::new(),
        }
    }

    #[test]
    fn no_program_is_in_both_halves_of_a_split_and_every_row_is_left_out_once() {
        for (programs, folds) in [(1, 5), (3, 10), (7, 3), (25, 10), (25, usize::MAX)] {
            let data = data(programs);
            let rows: Vec<usize> = (0..data.len()).collect();
            let splits = splits(&data, &rows, folds);
            assert_eq!(splits.len(), folds.min(programs));
            let mut left_out: Vec<usize> = Vec::new();
            for (train, test) in &splits {
                let known = super::programs(&data, train);
                assert!(super::programs(&data, test).iter().all(|program| !known.contains(program)));
                assert_eq!(train.len() + test.len(), rows.len());
                left_out.extend(test);
            }
            left_out.sort_unstable();
            assert_eq!(left_out, rows);
        }
    }

    #[test]
    fn costs_given_to_the_wrong_objects_are_counted_by_their_part() {
        assert_eq!(misplaced(&[1.0, 3.0], &[2.0, 6.0]), 0.0);
        assert_eq!(misplaced(&[1.0, 0.0], &[0.0, 5.0]), 1.0);
        assert_eq!(misplaced(&[1.0, 1.0], &[0.0, 0.0]), 0.0);
    }
}
