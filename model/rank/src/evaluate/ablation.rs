//! Which groups of features matter: each alone, each left out, all.
//!
//! The paper this project starts from found that a chosen set of features ranks better than any of them alone. Here a forest is trained
//! on each group alone (with the figures of the tiers, without which no cost can be predicted) and with each group left out, always
//! without the program it is then tried on. Without the formula's group the cost itself is learnt, otherwise a correction
//! of the formula; the formula's group alone is the formula as it stands.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::placing::Placing;
use super::{BUDGETS, CaseOf, LEAST, NOTHING, Ranker, cases, mean};
use crate::data::Data;
use crate::feature::{Family, Group};
use crate::learn::inputs::Target;
use crate::learn::{Ensemble, Kind, LearnError};
use crate::model::{cost, judge, splits};
use crate::random::in_parallel;
use crate::table::{Case, Row, Table};

/// What a choice of groups came to.
#[derive(Clone, Debug, Serialize)]
pub struct Ablated {
    /// `sizes alone`, `without order`, `all`.
    pub features: String,
    /// Part of a case's cost that is given to wrong objects.
    pub misplaced: f64,
    /// Kendall's tau of the order.
    pub tau: f64,
    /// NDCG of the order.
    pub ndcg: f64,
    /// Mean reduction of slowdown against `llc-misses`, over programs and budgets.
    pub mean_reduction_vs_llc_misses: f64,
}

/// All choices of groups.
#[derive(Clone, Debug, Serialize)]
pub struct Ablation {
    /// Which features.
    pub family: Family,
    /// All first, then each alone, then each left out.
    pub rows: Vec<Ablated>,
}

struct Choice {
    name: String,
    groups: Vec<Group>,
}

fn choices(family: Family) -> Vec<Choice> {
    let all: Vec<Group> =
        Group::ALL.into_iter().filter(|&group| group != Group::Levels || family == Family::Levels).collect();
    let mut choices = vec![Choice { name: "all".into(), groups: all.clone() }];
    let varied = || all.iter().copied().filter(|&group| group != Group::Tiers);
    choices.extend(
        varied().map(|group| Choice { name: format!("{} alone", group.as_str()), groups: vec![group, Group::Tiers] }),
    );
    choices.extend(varied().map(|group| {
        let groups = all.iter().copied().filter(|&other| other != group).collect();
        Choice { name: format!("without {}", group.as_str()), groups }
    }));
    choices
}

impl Ablation {
    /// Trains and tries every choice.
    ///
    /// # Errors
    /// [`LearnError`] where a learner refuses.
    pub fn run(table: &Table, family: Family) -> Result<Self, LearnError> {
        let data = Data::new(table, family);
        let rows: Vec<usize> = (0..data.len()).collect();
        let splits = splits(&data, &rows, usize::MAX);
        let choices = choices(family);
        let placed = placed(table, &data);
        let ablated = in_parallel(choices.len(), |number| {
            choices.get(number).map(|choice| ablate(&placed, &data, &splits, choice)).transpose()
        });
        let rows = ablated.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect();
        Ok(Self { family, rows })
    }
}

fn ablate(
    placed: &[Placed],
    data: &Data,
    splits: &[(Vec<usize>, Vec<usize>)],
    choice: &Choice,
) -> Result<Ablated, LearnError> {
    let physics = choice.groups.contains(&Group::Physics);
    let target = if physics { Target::Correction } else { Target::Cost };
    let alone = physics && choice.groups.len() == 2;
    let kind = if alone { Kind::Formula } else { Kind::Forest };
    let mut values = vec![0.0; data.len()];
    for (train, test) in splits {
        let trained = Ensemble::train(data, train, kind, target, &choice.groups)?;
        let said = trained.predictor().say(test.iter().filter_map(|&row| data.features.get(row)));
        for (&row, said) in test.iter().zip(said) {
            if let (Some(slot), Some(&formula)) = (values.get_mut(row), data.formula.get(row)) {
                *slot = cost(target, formula, said.mean);
            }
        }
    }
    let rows: Vec<usize> = (0..data.len()).collect();
    let judged = judge(data, &rows, &values);
    Ok(Ablated {
        features: choice.name.clone(),
        misplaced: judged.misplaced,
        tau: judged.tau,
        ndcg: judged.ndcg,
        mean_reduction_vs_llc_misses: reduction(placed, &values),
    })
}

/// The mean over programs and budgets of what placing by these costs saves.
fn reduction(placed: &[Placed], values: &[f64]) -> f64 {
    let mut sums: BTreeMap<(&str, usize), (f64, f64, f64)> = BTreeMap::new();
    for case in placed {
        let value = |row: &Option<usize>| row.and_then(|row| values.get(row).copied()).unwrap_or(0.0).max(NOTHING);
        let costs: Vec<f64> = case.rows.iter().map(value).collect();
        for (number, (&budget, &misses)) in BUDGETS.iter().zip(&case.by_misses).enumerate() {
            let slot = sums.entry((case.program, number)).or_default();
            slot.0 += case.placing.by_costs(&costs, case.placing.bytes(budget)).slowdown;
            slot.1 += misses;
            slot.2 += 1.0;
        }
    }
    let worth = sums.values().filter(|(_, misses, cases)| *misses >= LEAST * cases && *misses > 0.0);
    mean(&worth.map(|(own, misses, _)| 1.0 - own / misses).collect::<Vec<_>>())
}

/// A case to place.
struct Placed<'a> {
    program: &'a str,
    placing: Placing<'a>,
    /// Where the data has each of its movable objects.
    rows: Vec<Option<usize>>,
    /// By budget: what placing by exact misses costs.
    by_misses: Vec<f64>,
}

fn placed<'a>(table: &'a Table, data: &Data) -> Vec<Placed<'a>> {
    let numbers: BTreeMap<&Case, usize> = data.cases.iter().zip(0..).collect();
    let places: BTreeMap<(usize, &str), usize> = data
        .case
        .iter()
        .zip(&data.object)
        .zip(0..)
        .map(|((case, object), row)| ((*case, object.as_str()), row))
        .collect();
    let place = |case: &CaseOf<'a>| {
        let number = *numbers.get(case.case)?;
        let movable: Vec<&Row> = case.rows.iter().copied().filter(|row| row.movable).collect();
        let misses: Option<Vec<f64>> = movable.iter().map(|row| Ranker::LlcMisses.score(data.family, row)).collect();
        let misses = misses.filter(|misses| misses.len() > 1)?;
        let rows = movable.iter().map(|row| places.get(&(number, row.object.as_str())).copied()).collect();
        let placing = Placing::new(movable, &case.sets);
        let by_misses = BUDGETS.iter().map(|&budget| placing.by_scores(&misses, placing.bytes(budget)).slowdown);
        let by_misses = by_misses.collect();
        Some(Placed { program: &case.case.program, placing, rows, by_misses })
    };
    cases(table).iter().filter_map(place).collect()
}

impl fmt::Display for Ablation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "features of family {}: what a forest makes of some of them", self.family)?;
        writeln!(f, "  {:20} {:>9} {:>6} {:>6} {:>10}", "features", "misplaced", "tau", "ndcg", "reduction")?;
        for row in &self.rows {
            let (misplaced, reduction) = (row.misplaced * 100.0, row.mean_reduction_vs_llc_misses * 100.0);
            let (name, tau, ndcg) = (&row.features, row.tau, row.ndcg);
            writeln!(f, "  {name:20} {misplaced:7.1} % {tau:6.3} {ndcg:6.3} {reduction:8.1} %")?;
        }
        Ok(())
    }
}
