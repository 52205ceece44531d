//! A trained ranking: what every object costs alone in slow memory, how sure that is, and why.
//!
//! Training has four steps, all on the rows of one family. Each kind of learner predicts programs that it was not trained on
//! (cross-validation with whole programs left out). The kind that divides the costs of a case best among its objects is chosen. Its
//! residuals there make the intervals. Then it is trained on everything.
//!
//! **Unsure.** Where a third of what a learner looks at is unknown or far outside what it was trained on, or an object has fewer than
//! four samples, the correction is the median of all: the formula speaks, with the wider intervals that it earned.

mod choose;
mod sets;
mod store;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::conformal::{Conformal, Outcome, sampled_part, unsureness};
use crate::data::{Data, FLOOR, corrected, formula_of, prepared};
use crate::feature::{Family, Features, Name};
use crate::learn::inputs::Target;
use crate::learn::{Ensemble, Kind, LearnError, Scratch};
use crate::random::in_parallel;
use crate::table::{Table, TierPair};

pub use choose::{Compared, Comparison};
pub(crate) use choose::{judge, splits};
pub use sets::Forecast;
pub use store::{StoreError, key};

/// Part of the columns that may be strange before a learner is not believed.
const STRANGE: f64 = 1.0 / 3.0;

/// Fewest samples that say anything.
const FEWEST_SAMPLES: f64 = 4.0;

/// Objects that one thread predicts before it takes others: fewer are not worth a second thread.
const CHUNK: usize = 1000;

/// Most features named in an explanation.
const NAMED: usize = 4;

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

/// What a model says of one object.
#[derive(Clone, Debug, PartialEq)]
pub struct Predicted {
    /// By how much the run is slower with this object alone in slow memory; 0.05 is 5 %.
    pub criticality: f64,
    /// Nominally nine in ten truths lie inside.
    pub interval: (f64, f64),
    /// How much of the interval's squared width is owed to few samples, 0 to 1: the part that a longer recording takes away.
    pub sampled: f64,
    /// What the formula alone says.
    pub formula: f64,
    /// Whether the formula was followed because the learner knows nothing like this object.
    pub unsure: bool,
    /// What moved it most away from the formula, the largest first.
    pub contributions: Vec<Contribution>,
}

impl Predicted {
    /// What a placement should weigh the object by: its cost and a thousandth of what it might cost, so that room which is left
    /// goes to what may need it rather than to nobody.
    #[must_use]
    pub fn weight(&self) -> f64 {
        self.criticality + self.interval.1 / 1000.0
    }

    /// What it adds to the costs of a set ([`Forecast`]). On the scale of corrections what costs nothing may come to cost a thousandth
    /// of the run; a thousand objects that cost nothing cost nothing together, so that is left out.
    #[must_use]
    pub fn summand(&self) -> f64 {
        let formula = self.formula.max(0.0);
        self.criticality.min(formula * (self.criticality + FLOOR) / (formula + FLOOR))
    }
}

/// A feature that moved a prediction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Contribution {
    /// Which.
    pub name: Name,
    /// Its value; NaN where that it is not known was what moved the prediction.
    pub value: f64,
    /// By what factor the prediction is larger for it; under 1 where it is smaller.
    pub factor: f64,
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

/// A model was asked about features of the other family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "this model was trained on features of family {trained} and cannot rank features of family {asked}: train one for {asked}"
)]
pub struct WrongFamily {
    /// What it knows.
    pub trained: Family,
    /// What it was asked.
    pub asked: Family,
}

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

    /// What every object costs, each with the tiers it would move between.
    ///
    /// # Errors
    /// [`WrongFamily`] where `family` is not what it was trained on.
    pub fn predict(&self, family: Family, objects: &[(Features, TierPair)]) -> Result<Vec<Predicted>, WrongFamily> {
        if family != self.family {
            return Err(WrongFamily { trained: self.family, asked: family });
        }
        let chunks: Vec<&[(Features, TierPair)]> = objects.chunks(CHUNK).collect();
        let predicted = in_parallel(chunks.len(), |number| {
            let mut scratch = Scratch::default();
            let objects = chunks.get(number).copied().unwrap_or_default().iter().map(|(features, tiers)| {
                let mut features = features.clone();
                features.set_tiers(tiers);
                self.predict_prepared(&prepared(family, features), &mut scratch)
            });
            objects.collect::<Vec<_>>()
        });
        Ok(predicted.into_iter().flatten().collect())
    }

    /// The same for features that have everything put in.
    pub(crate) fn predict_prepared(&self, features: &Features, scratch: &mut Scratch) -> Predicted {
        let formula = formula_of(features);
        if features.known(Name::FormulaLatency).is_none() {
            let most = features.known(Name::LatencyX).map_or(1.0, |ratio| (ratio - 1.0).max(0.0));
            let interval = (0.0, most);
            return Predicted {
                criticality: 0.0,
                interval,
                sampled: 0.0,
                formula,
                unsure: true,
                contributions: Vec::new(),
            };
        }
        let few = features.known(Name::Samples).is_some_and(|samples| samples < FEWEST_SAMPLES);
        let unsure = few || self.ensemble.inputs.strange(features) > STRANGE;
        let error = relative_error(features);
        if unsure {
            let criticality = corrected(formula, self.bias);
            let interval = self.fallback.interval(criticality, unsureness(1.0, error));
            let sampled = sampled_part(1.0, error);
            return Predicted { criticality, interval, sampled, formula, unsure, contributions: Vec::new() };
        }
        let said = self.ensemble.say(features, scratch);
        let criticality = corrected(formula, said.mean);
        let interval = self.conformal.interval(criticality, unsureness(said.spread, error));
        Predicted {
            criticality,
            interval,
            sampled: sampled_part(said.spread, error),
            formula,
            unsure,
            contributions: self.contributions(features, &scratch.moved),
        }
    }

    fn contributions(&self, features: &Features, moved: &[f64]) -> Vec<Contribution> {
        let mut found: Vec<(Name, f64)> = Vec::new();
        for (column, &moved) in moved.iter().enumerate() {
            let Some(name) = self.ensemble.inputs.name(column) else { continue };
            match found.iter_mut().find(|(other, _)| *other == name) {
                Some((_, sum)) => *sum += moved,
                None => found.push((name, moved)),
            }
        }
        found.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()).then(a.0.cmp(&b.0)));
        found.truncate(NAMED);
        let found = found.into_iter().filter(|(_, moved)| moved.abs() > 0.02);
        found.map(|(name, moved)| Contribution { name, value: features.get(name), factor: moved.exp() }).collect()
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
