//! How good rankers are on programs that nothing was learnt from.
//!
//! Each program is left out in turn: a model is trained on the others from scratch, choice of learner and calibration of intervals included.
//! For each of its cases and budgets (10 to 90 % of the movable bytes) every ranker places the objects, and the placement costs what was
//! timed ([`crate::Lattice`]). A cell is one program and one budget: the mean over the program's cases, so that a program
//! with many cases says no more than one with few.
//!
//! * *Reduction* against `llc-misses`: 1 - slowdown / its slowdown, over cells in which that is 1 % at least.
//! * *Regret*: (1 + slowdown) / (1 + the oracle's) - 1, over all cells.
//! * *Coverage*: part of the labels inside their interval, each of the program's rows counting the same.

mod ablation;
mod placing;
mod ranker;
mod report;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::data::{Data, prepared};
use crate::feature::{Family, Features};
use crate::judge::{kendall_tau, ndcg};
use crate::model::{Model, Predicted, TrainError};
use crate::random::{Random, in_parallel};
use crate::table::{Case, Row, Set, Table};
use placing::Placing;

pub use ablation::{Ablated, Ablation};
pub use ranker::Ranker;

/// Budgets, parts of all movable bytes.
pub const BUDGETS: [f64; 9] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9];

/// Draws that the `random` ranker is the mean of.
const DRAWS: u64 = 8;

/// Least slowdown under `llc-misses` that can be reduced.
const LEAST: f64 = 0.01;

/// What an object weighs that costs nothing as far as is known: room that is left is for it.
const NOTHING: f64 = 1e-9;

/// Parts that the programs left to train on are divided into.
const FOLDS: usize = 5;

/// One program, case and budget.
#[derive(Clone, Debug)]
pub struct Cell {
    /// Which case.
    pub case: Case,
    /// Part of the movable bytes that is fast.
    pub budget: f64,
    /// Slowdown by ranker, in the order of [`Ranker::ALL`]; `None` where the table does not have what it ranks by.
    pub slowdowns: Vec<Option<f64>>,
    /// Whether any of them was put together from sets that were timed.
    pub is_estimate: bool,
}

/// One program, budget and ranker: the mean over the program's cases.
#[derive(Clone, Debug, Serialize)]
pub struct EvaluatedRow {
    /// Which program.
    pub program: String,
    /// Part of the movable bytes that is fast.
    pub budget: f64,
    /// Who placed.
    pub ranker: Ranker,
    /// Cases it is the mean of.
    pub cases: usize,
    /// 0.05 is 5 %.
    pub slowdown: f64,
}

/// One ranker over all cells.
#[derive(Clone, Debug, Serialize)]
pub struct RankerSummary {
    /// Which.
    pub ranker: Ranker,
    /// Mean slowdown.
    pub mean_slowdown: f64,
    /// Mean reduction of slowdown against `llc-misses`.
    pub mean_reduction_vs_llc_misses: f64,
    /// Largest reduction of one cell.
    pub max_reduction_vs_llc_misses: f64,
    /// Mean regret against the oracle.
    pub mean_regret_vs_oracle: f64,
    /// Kendall's tau of its order with that of criticality, the mean over programs; NaN for those without an order of costs.
    pub tau: f64,
    /// The order's NDCG.
    pub ndcg: f64,
}

/// What counts, as fractions.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Summary {
    /// Of the model, over cells.
    pub mean_reduction_vs_llc_misses: f64,
    /// Of the model, the largest of a cell.
    pub max_reduction_vs_llc_misses: f64,
    /// Of the model, over cells.
    pub mean_regret_vs_oracle: f64,
    /// Part of the criticalities inside their nominal 90 % interval.
    pub interval_coverage: f64,
    /// The same for objects that cost 1 % or more.
    pub interval_coverage_costly: f64,
    /// The same for slowdowns of sets.
    pub interval_coverage_sets: f64,
    /// Objects for which the model followed the formula.
    pub unsure: f64,
}

/// Everything that came of it.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// Which features.
    pub family: Family,
    /// Programs that were left out in turn.
    pub programs: usize,
    /// What counts.
    pub summary: Summary,
    /// In the order of [`Ranker::ALL`].
    pub rankers: Vec<RankerSummary>,
    /// One per program, budget and ranker.
    pub rows: Vec<EvaluatedRow>,
    /// One per case and budget.
    pub cells: Vec<Cell>,
    /// Programs on which each kind of learner was the choice, by name.
    pub chosen: BTreeMap<String, usize>,
}

/// What came of one program.
#[derive(Default)]
struct Part {
    chosen: String,
    cells: Vec<Cell>,
    /// By ranker: tau and NDCG of each case.
    orders: Vec<Vec<(Option<f64>, f64)>>,
    covered: Counts,
    covered_costly: Counts,
    covered_sets: Counts,
    unsure: Counts,
}

/// So many of so many.
#[derive(Clone, Copy, Default)]
struct Counts(usize, usize);

impl Counts {
    fn count(&mut self, is: bool) {
        self.0 += usize::from(is);
        self.1 += 1;
    }
}

/// One case with its rows and sets.
struct CaseOf<'a> {
    case: &'a Case,
    rows: Vec<&'a Row>,
    sets: Vec<&'a Set>,
}

/// Evaluates all rankers, leaving out each program in turn; `progress` is told after each how many are done and how many there are.
///
/// # Errors
/// [`TrainError`] where there are too few programs to leave one out and train on the rest.
pub fn evaluate(
    table: &Table,
    family: Family,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Evaluation, TrainError> {
    let data = Data::new(table, family);
    let programs: Vec<usize> = {
        let mut programs = data.program.clone();
        programs.sort_unstable();
        programs.dedup();
        programs
    };
    let done = std::sync::atomic::AtomicUsize::new(0);
    let parts = in_parallel(programs.len(), |number| {
        let name = programs.get(number).and_then(|&program| data.programs.get(program));
        let part = name.map_or_else(|| Ok(Part::default()), |name| one(table, family, name));
        progress(1 + done.fetch_add(1, std::sync::atomic::Ordering::Relaxed), programs.len());
        part
    });
    let parts: Vec<Part> = parts.into_iter().collect::<Result<_, _>>()?;
    Ok(gather(family, parts))
}

/// Evaluates all rankers on programs that `model` was not trained on: those of another table than its own.
#[must_use]
pub fn evaluate_model(model: &Model, table: &Table) -> Evaluation {
    let programs = table.programs();
    let parts = programs.iter().map(|program| {
        let (_, own) = without(table, program);
        judge_program(model, &own)
    });
    gather(model.family(), parts.collect())
}

/// What is learnt from every program but one: nothing of that one reaches it.
///
/// # Errors
/// [`TrainError`] where too few programs are left.
pub fn train_without(table: &Table, family: Family, program: &str) -> Result<Model, TrainError> {
    let (others, _) = without(table, program);
    Model::train_with(&others, &Data::new(&others, family), FOLDS)
}

/// Trains without a program and evaluates on it.
fn one(table: &Table, family: Family, program: &str) -> Result<Part, TrainError> {
    let model = train_without(table, family, program)?;
    let (_, own) = without(table, program);
    Ok(judge_program(&model, &own))
}

fn judge_program(model: &Model, own: &Table) -> Part {
    let mut part = Part { chosen: model.kind().as_str().into(), ..Part::default() };
    part.orders.resize_with(Ranker::ALL.len(), Vec::new);
    for case in cases(own) {
        judge_case(&mut part, model, &case);
    }
    part
}

/// The table without a program, and that program's part of it.
fn without(table: &Table, program: &str) -> (Table, Table) {
    let (own_rows, rows) = table.rows.iter().cloned().partition(|row| row.case.program == program);
    let (own_sets, sets) = table.sets.iter().cloned().partition(|set| set.case.program == program);
    (Table { rows, sets }, Table { rows: own_rows, sets: own_sets })
}

fn cases(table: &Table) -> Vec<CaseOf<'_>> {
    let mut cases: BTreeMap<&Case, CaseOf<'_>> = BTreeMap::new();
    let new = |case| CaseOf { case, rows: Vec::new(), sets: Vec::new() };
    for row in &table.rows {
        cases.entry(&row.case).or_insert_with(|| new(&row.case)).rows.push(row);
    }
    for set in &table.sets {
        cases.entry(&set.case).or_insert_with(|| new(&set.case)).sets.push(set);
    }
    cases.into_values().collect()
}

fn judge_case(part: &mut Part, model: &Model, case: &CaseOf) {
    let family = model.family();
    let mut predicted: BTreeMap<&str, Predicted> = BTreeMap::new();
    let known = case.rows.iter().filter_map(|row| Some((*row, prepared(family, row.features(family)?))));
    let (rows, features): (Vec<&Row>, Vec<Features>) = known.unzip();
    for (row, said) in rows.into_iter().zip(model.predict_prepared(&features)) {
        let (low, high) = said.interval;
        let covers = low <= row.criticality.max(0.0) && row.criticality <= high;
        part.covered.count(covers);
        part.unsure.count(said.unsure);
        if row.criticality >= LEAST {
            part.covered_costly.count(covers);
        }
        predicted.insert(&row.object, said);
    }
    for set in case.sets.iter().filter(|set| set.slow.len() > 1) {
        let costs: Option<Vec<f64>> =
            set.slow.iter().map(|object| predicted.get(object.as_str()).map(|said| said.criticality)).collect();
        let Some(costs) = costs else { continue };
        let (low, high) = model.forecast().interval(&costs);
        part.covered_sets.count(low <= set.slowdown.max(0.0) && set.slowdown <= high);
    }
    let movable: Vec<&Row> = case.rows.iter().copied().filter(|row| row.movable).collect();
    if movable.len() < 2 {
        return;
    }
    let placing = Placing::new(movable, &case.sets);
    let scores: Vec<Option<Vec<f64>>> = Ranker::ALL
        .iter()
        .map(|&ranker| {
            let score = |row: &&Row| match ranker {
                // What a family saw nothing of costs nothing, as far as it knows.
                Ranker::Model => Some(predicted.get(row.object.as_str()).map_or(NOTHING, Predicted::weight)),
                Ranker::StallDensity => Some(ranker.score(family, row).unwrap_or(0.0).max(NOTHING)),
                _ => ranker.score(family, row),
            };
            placing.rows.iter().map(score).collect()
        })
        .collect();
    let truth: Vec<f64> = placing.rows.iter().map(|row| row.criticality.max(0.0)).collect();
    for (orders, scores) in part.orders.iter_mut().zip(&scores) {
        if let Some(scores) = scores {
            orders.push((kendall_tau(&truth, scores), ndcg(&truth, scores)));
        }
    }
    part.cells.extend(BUDGETS.iter().map(|&budget| cell(&placing, case.case, &scores, budget)));
}

fn cell(placing: &Placing, case: &Case, scores: &[Option<Vec<f64>>], budget: f64) -> Cell {
    let bytes = placing.bytes(budget);
    let mut is_estimate = false;
    let mut slowdowns: Vec<Option<f64>> = Ranker::ALL
        .iter()
        .zip(scores)
        .map(|(ranker, scores)| {
            let found = match (ranker, scores) {
                (Ranker::Model | Ranker::StallDensity, Some(costs)) => placing.by_costs(costs, bytes),
                (Ranker::Random, _) => return Some(by_lot(placing, bytes)),
                (Ranker::Oracle, _) => return Some(placing.oracle(bytes)),
                (_, Some(scores)) => placing.by_scores(scores, bytes),
                (_, None) => return None,
            };
            is_estimate |= found.is_estimate;
            Some(found.slowdown)
        })
        .collect();
    // The oracle searches beyond the combinations greedily: whoever found better is what it would have found.
    let least = slowdowns.iter().flatten().copied().fold(f64::INFINITY, f64::min);
    if let Some(oracle) = slowdowns.last_mut() {
        *oracle = Some(least);
    }
    Cell { case: case.clone(), budget, slowdowns, is_estimate }
}

fn by_lot(placing: &Placing, bytes: u64) -> f64 {
    let one = |seed| {
        let mut random = Random::new(seed);
        let scores: Vec<f64> = placing.rows.iter().map(|_| random.unit()).collect();
        placing.by_scores(&scores, bytes).slowdown
    };
    (0..DRAWS).map(one).sum::<f64>() / DRAWS as f64
}

fn gather(family: Family, parts: Vec<Part>) -> Evaluation {
    let programs = parts.len();
    let mut chosen: BTreeMap<String, usize> = BTreeMap::new();
    let mut counts = [Counts::default(); 4];
    let mut orders: Vec<Vec<(f64, f64)>> = vec![Vec::new(); Ranker::ALL.len()];
    let mut cells = Vec::new();
    for part in parts {
        *chosen.entry(part.chosen).or_default() += 1;
        let own = [part.covered, part.covered_costly, part.covered_sets, part.unsure];
        for (sum, own) in counts.iter_mut().zip(own) {
            *sum = Counts(sum.0 + own.0, sum.1 + own.1);
        }
        for (orders, own) in orders.iter_mut().zip(part.orders) {
            let taus: Vec<f64> = own.iter().filter_map(|(tau, _)| *tau).collect();
            let gains: Vec<f64> = own.iter().map(|(_, gain)| *gain).collect();
            if !gains.is_empty() {
                orders.push((mean(&taus), mean(&gains)));
            }
        }
        cells.extend(part.cells);
    }
    let rows = report::rows(&cells);
    let rankers = report::rankers(&rows, &orders);
    let model = rankers.first();
    let [covered, costly, sets, unsure] = counts.map(|Counts(some, all)| some as f64 / all as f64);
    let summary = Summary {
        mean_reduction_vs_llc_misses: model.map_or(f64::NAN, |model| model.mean_reduction_vs_llc_misses),
        max_reduction_vs_llc_misses: model.map_or(f64::NAN, |model| model.max_reduction_vs_llc_misses),
        mean_regret_vs_oracle: model.map_or(f64::NAN, |model| model.mean_regret_vs_oracle),
        interval_coverage: covered,
        interval_coverage_costly: costly,
        interval_coverage_sets: sets,
        unsure,
    };
    Evaluation { family, programs, summary, rankers, rows, cells, chosen }
}

/// The mean; NaN of nothing.
fn mean(values: &[f64]) -> f64 {
    let known: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    known.iter().sum::<f64>() / known.len() as f64
}
