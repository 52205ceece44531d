//! A trained ranking: what every object costs alone in slow memory, how sure that is, and why.
//!
//! Training has four steps, all on the rows of one family. Each kind of learner predicts programs that it was not trained on
//! (cross-validation with whole programs left out). The kind that divides the costs of a case best among its objects is chosen. Its
//! residuals there make the intervals. Then it is trained on everything.

mod choose;
mod predict;
mod sets;
mod store;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::conformal::{Conformal, Outcome, unsureness};
use crate::data::{Data, FLOOR, corrected, formula_of};
use crate::feature::{Family, Features, Name};
use crate::learn::inputs::Target;
use crate::learn::{Ensemble, Kind, LearnError};
use crate::table::Table;

pub use choose::{Compared, Comparison};
pub(crate) use choose::{judge, splits};
pub use predict::{Contribution, Predicted, WrongFamily};
pub use sets::Forecast;
pub use store::{StoreError, key};

/// A trained ranking of one family.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Model {
    schema: String,
    key: String,
    family: Family,
    ensemble: Ensemble,
    /// The correction where the ensemble is not believed.
    bias: f64,
    conformal: Conformal,
    fallback: Conformal,
    forecast: Forecast,
    comparison: Comparison,
}

/// Why nothing was trained.
#[derive(Debug, Error)]
pub enum TrainError {
    /// Too few programs have features of the family.
    #[error(
        "the table has features of family {family} for {programs} programs and training needs {LEAST_PROGRAMS}: \
         add cases with tierscope label"
    )]
    TooFew {
        /// Which family.
        family: Family,
        /// How many there are.
        programs: usize,
    },
    /// A learner refused.
    #[error(transparent)]
    Learn(#[from] LearnError),
}

/// Fewest programs to learn from and to leave some out.
pub const LEAST_PROGRAMS: usize = 3;

impl Model {
    /// Trains on the rows of `table` that have features of `family`. The same rows give the same model, bit for bit.
    ///
    /// # Errors
    /// [`TrainError`] where there are too few programs, or a learner refuses.
    pub fn train(table: &Table, family: Family) -> Result<Self, TrainError> {
        Self::train_with(table, &Data::new(table, family), choose::FOLDS)
    }

    pub(crate) fn train_with(table: &Table, data: &Data, folds: usize) -> Result<Self, TrainError> {
        let family = data.family;
        let rows: Vec<usize> = (0..data.len()).collect();
        let programs = choose::programs(data, &rows);
        if programs.len() < LEAST_PROGRAMS {
            return Err(TrainError::TooFew { family, programs: programs.len() });
        }
        let held_out = choose::held_out(data, &rows, folds)?;
        let comparison = choose::compare(data, &held_out);
        let chosen = choose::chosen(&comparison, &held_out);
        let (kind, said) = chosen.map_or((Kind::Formula, None), |held| (held.kind, Some(held)));
        let outcomes = |values: &dyn Fn(usize) -> (f64, f64)| -> Vec<Outcome> {
            let outcome = |row: usize| {
                let (predicted, unsureness) = values(row);
                Some(Outcome { predicted, unsureness, truth: *data.labels.get(row)?, program: *data.program.get(row)? })
            };
            rows.iter().filter_map(|&row| outcome(row)).collect()
        };
        let bias = choose::bias(data, &rows);
        let plain = |row: usize| {
            let formula = data.formula.get(row).copied().unwrap_or(0.0);
            let error = data.features.get(row).map_or(0.0, relative_error);
            (corrected(formula, bias), unsureness(1.0, error))
        };
        let fallback = Conformal::new(&outcomes(&plain));
        let learnt = |row: usize| match said.and_then(|held| held.said.get(row)) {
            Some(&(value, spread)) => (value, unsureness(spread, data.features.get(row).map_or(0.0, relative_error))),
            None => plain(row),
        };
        let values: Vec<f64> = rows.iter().map(|&row| learnt(row).0).collect();
        Ok(Self {
            schema: store::SCHEMA.into(),
            key: String::new(),
            family,
            ensemble: choose::train(data, &rows, kind)?,
            bias,
            conformal: Conformal::new(&outcomes(&learnt)),
            fallback,
            forecast: Forecast::fit(table, data, &values),
            comparison,
        })
    }

    /// What it was trained on.
    #[must_use]
    pub const fn family(&self) -> Family {
        self.family
    }

    /// What it learnt with.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.ensemble.kind
    }

    /// How the kinds of learners compared.
    #[must_use]
    pub const fn comparison(&self) -> &Comparison {
        &self.comparison
    }

    /// How many programs it was trained on.
    #[must_use]
    pub const fn programs(&self) -> usize {
        self.comparison.programs
    }

    /// What sets of objects cost together.
    #[must_use]
    pub const fn forecast(&self) -> &Forecast {
        &self.forecast
    }
}

/// The error of the formula's sum, relative to it and the floor, from the error of what it was made of.
fn relative_error(features: &Features) -> f64 {
    let part = |name| {
        let error = features.error(name);
        if error.is_finite() { error } else { 0.0 }
    };
    (part(Name::FormulaLatency) + part(Name::FormulaBandwidth)) / (formula_of(features) + FLOOR)
}

/// A cost from what an ensemble said.
pub(crate) fn cost(target: Target, formula: f64, said: f64) -> f64 {
    match target {
        Target::Correction => corrected(formula, said),
        Target::Cost => (said.clamp(-20.0, 20.0).exp() - FLOOR).max(0.0),
    }
}
