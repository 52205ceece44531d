//! The rows of a table as learners see them: one family, formula put in, weighted, with program and case as numbers.
//!
//! **Target.** Placement needs the costs of a program's objects in proportion, intervals need their size. So what is learnt is by
//! what factor the formula is wrong: ln((criticality + floor) / (formula + floor)), bounded. What is small stays small, and the
//! estimate keeps growing with share and ratios.
//!
//! **Weights.** A case has one, however many objects it has, and a program one, however many cases: programs are what one
//! generalises over. In a case an object weighs by what it costs or would cost by the formula, since nobody minds a factor of
//! two in nothing.

use std::collections::BTreeMap;

use crate::feature::{Family, Features, Name};
use crate::formula;
use crate::table::{Case, Table};

/// Slowdowns below are noise: 0.2 %.
pub(crate) const FLOOR: f64 = 0.002;

/// The least and the most a logarithmic correction may be: e^-4 is a 55th, e^3 twenty times.
pub(crate) const BOUNDS: (f64, f64) = (-4.0, 3.0);

/// Part of a case's weight that its objects share equally.
const EQUAL_PART: f64 = 0.1;

/// Rows of one family.
#[derive(Clone, Debug)]
pub(crate) struct Data {
    pub(crate) family: Family,
    pub(crate) features: Vec<Features>,
    pub(crate) formula: Vec<f64>,
    pub(crate) labels: Vec<f64>,
    pub(crate) weights: Vec<f64>,
    /// By row: number of its program in `programs`.
    pub(crate) program: Vec<usize>,
    /// By row: number of its case in `cases`.
    pub(crate) case: Vec<usize>,
    /// By row: its identity.
    pub(crate) object: Vec<String>,
    pub(crate) programs: Vec<String>,
    pub(crate) cases: Vec<Case>,
}

impl Data {
    /// The rows of `table` that have features of `family`.
    pub(crate) fn new(table: &Table, family: Family) -> Self {
        let programs = table.programs();
        let mut cases: BTreeMap<&Case, usize> = BTreeMap::new();
        let mut data = Self {
            family,
            features: Vec::new(),
            formula: Vec::new(),
            labels: Vec::new(),
            weights: Vec::new(),
            program: Vec::new(),
            case: Vec::new(),
            object: Vec::new(),
            programs: Vec::new(),
            cases: Vec::new(),
        };
        for row in &table.rows {
            let Some(features) = row.features(family) else { continue };
            let features = prepared(family, features);
            let next = cases.len();
            let case = *cases.entry(&row.case).or_insert(next);
            if case == next {
                data.cases.push(row.case.clone());
            }
            data.formula.push(formula_of(&features));
            data.features.push(features);
            data.labels.push(row.criticality.max(0.0));
            data.program.push(programs.binary_search(&row.case.program).unwrap_or(0));
            data.case.push(case);
            data.object.push(row.object.clone());
        }
        data.programs = programs;
        data.weigh();
        data
    }

    pub(crate) fn len(&self) -> usize {
        self.labels.len()
    }

    /// What is to be learnt of a row, as a correction of the formula.
    pub(crate) fn correction(&self, row: usize) -> f64 {
        let (Some(label), Some(formula)) = (self.labels.get(row), self.formula.get(row)) else { return 0.0 };
        ((label + FLOOR) / (formula + FLOOR)).ln().clamp(BOUNDS.0, BOUNDS.1)
    }

    fn weigh(&mut self) {
        let mut by_case: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (row, &case) in self.case.iter().enumerate() {
            by_case.entry(case).or_default().push(row);
        }
        self.weights = vec![0.0; self.len()];
        let mut by_program: BTreeMap<usize, f64> = BTreeMap::new();
        for rows in by_case.values() {
            let get = |values: &[f64], row: usize| values.get(row).copied().unwrap_or(0.0);
            let labels: f64 = rows.iter().map(|&row| get(&self.labels, row)).sum();
            let formulas: f64 = rows.iter().map(|&row| get(&self.formula, row)).sum();
            // A case in which nothing costs anything teaches little.
            let matters = labels / (labels + 0.02);
            for &row in rows {
                let known = get(&self.labels, row) / (labels + FLOOR) + get(&self.formula, row) / (formulas + FLOOR);
                let weight = matters * ((1.0 - EQUAL_PART) * known / 2.0 + EQUAL_PART / rows.len() as f64);
                if let (Some(slot), Some(&program)) = (self.weights.get_mut(row), self.program.get(row)) {
                    *slot = weight;
                    *by_program.entry(program).or_default() += weight;
                }
            }
        }
        for (weight, program) in self.weights.iter_mut().zip(&self.program) {
            let all = by_program.get(program).copied().unwrap_or(0.0);
            *weight = if all > 0.0 { (*weight / all).max(1e-9) } else { 1e-9 };
        }
    }
}

/// Features with the formula put in.
pub(crate) fn prepared(family: Family, mut features: Features) -> Features {
    formula::put(family, &mut features);
    features
}

/// The formula's sum; 0 where there is no estimate.
pub(crate) fn formula_of(features: &Features) -> f64 {
    let part = |name| features.known(name).unwrap_or(0.0).max(0.0);
    part(Name::FormulaLatency) + part(Name::FormulaBandwidth)
}

/// A corrected estimate: never more than the largest correction makes of the formula. Of what nothing was seen costs nothing is known either, and a
/// program has hundreds of such objects, which would otherwise, with the floor's part each, outweigh the one that costs most.
pub(crate) fn corrected(formula: f64, correction: f64) -> f64 {
    ((formula + FLOOR) * correction.exp() - FLOOR).min(formula * BOUNDS.1.exp()).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_never_seen_costs_nothing_whatever_is_typical() {
        for correction in [-4.0, 0.0, 0.2, 3.0] {
            assert_eq!(corrected(0.0, correction), 0.0);
            let rising: Vec<f64> = (0..200).map(|step| corrected(1e-5 * 1.1_f64.powi(step), correction)).collect();
            assert!(rising.windows(2).all(|pair| pair[0] <= pair[1]), "{correction}");
        }
        assert!(corrected(1e-6, 0.2) < 3e-5, "the floor is no cost of its own");
        assert!((corrected(0.1, 0.2) / ((0.1 + FLOOR) * 0.2_f64.exp() - FLOOR) - 1.0).abs() < 1e-12);
    }
}
