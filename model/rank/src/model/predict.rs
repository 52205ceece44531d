//! What a model says of objects.
//!
//! **Unsure.** Where a third of what a learner looks at is unknown or far outside what it was trained on, or an object has fewer than
//! four samples, the correction is the median of all: the formula speaks, with the wider intervals that it earned.
//!
//! **Many at once.** The learner is asked about blocks of objects, and only about those that it is to speak of; an object's prediction is
//! the same whatever objects are asked about with it.

use thiserror::Error;

use super::{Model, relative_error};
use crate::conformal::{sampled_part, unsureness};
use crate::data::{FLOOR, corrected, formula_of};
use crate::feature::{Family, Features, Name};
use crate::formula;
use crate::learn::{BLOCK, Block, Predictor, Said};
use crate::random::in_parallel;
use crate::table::TierPair;

/// Part of the columns that may be strange before a learner is not believed.
const STRANGE: f64 = 1.0 / 3.0;

/// Fewest samples that say anything.
const FEWEST_SAMPLES: f64 = 4.0;

/// Objects that one thread predicts before it takes others, whole blocks: fewer are not worth a second thread.
const CHUNK: usize = 32 * BLOCK;

/// Most features named in an explanation.
const NAMED: usize = 4;

/// Least that is named, on the scale of logarithms: 2 %.
const WORTH_NAMING: f64 = 0.02;

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

    /// What it adds to the costs of a set ([`crate::Forecast`]). On the scale of corrections what costs nothing may come to cost a thousandth
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
    /// What every object costs, each with the tiers it would move between.
    ///
    /// # Errors
    /// [`WrongFamily`] where `family` is not what it was trained on.
    pub fn predict(&self, family: Family, objects: &[(Features, TierPair)]) -> Result<Vec<Predicted>, WrongFamily> {
        if family != self.family {
            return Err(WrongFamily { trained: self.family, asked: family });
        }
        let predictor = self.ensemble.predictor();
        let chunks: Vec<&[(Features, TierPair)]> = objects.chunks(CHUNK).collect();
        let predicted = in_parallel(chunks.len(), |number| {
            let objects = chunks.get(number).copied().unwrap_or_default();
            let mut asking = Asking::new(self, &predictor, objects.len());
            let mut block: Vec<Features> = Vec::with_capacity(BLOCK);
            for objects in objects.chunks(BLOCK) {
                block.clear();
                block.extend(objects.iter().map(|(features, _)| features.clone()));
                for (features, (_, tiers)) in block.iter_mut().zip(objects) {
                    features.set_tiers(tiers);
                    formula::put(family, features);
                }
                asking.ask(&block);
            }
            asking.predicted
        });
        let mut all = Vec::with_capacity(objects.len());
        predicted.into_iter().for_each(|mut chunk| all.append(&mut chunk));
        Ok(all)
    }

    /// The same for features that have everything put in.
    pub(crate) fn predict_prepared(&self, features: &[Features]) -> Vec<Predicted> {
        let predictor = self.ensemble.predictor();
        let mut asking = Asking::new(self, &predictor, features.len());
        features.chunks(BLOCK).for_each(|block| asking.ask(block));
        asking.predicted
    }

    /// What is said without the learner; the formula alone where the learner is to be asked.
    fn without_learner(&self, features: &Features) -> Predicted {
        let formula = formula_of(features);
        let plain = Predicted {
            criticality: 0.0,
            interval: (0.0, 0.0),
            sampled: 0.0,
            formula,
            unsure: true,
            contributions: Vec::new(),
        };
        if features.known(Name::FormulaLatency).is_none() {
            let most = features.known(Name::LatencyX).map_or(1.0, |ratio| (ratio - 1.0).max(0.0));
            return Predicted { interval: (0.0, most), ..plain };
        }
        let few = features.known(Name::Samples).is_some_and(|samples| samples < FEWEST_SAMPLES);
        if !few && self.ensemble.inputs.strange(features) <= STRANGE {
            return Predicted { unsure: false, ..plain };
        }
        let error = relative_error(features);
        let criticality = corrected(formula, self.bias);
        let interval = self.fallback.interval(criticality, unsureness(1.0, error));
        Predicted { criticality, interval, sampled: sampled_part(1.0, error), ..plain }
    }
}

/// A model at work, with room that is used again for every block.
struct Asking<'a> {
    model: &'a Model,
    predictor: &'a Predictor<'a>,
    block: Block,
    /// Where `predicted` has the objects of the block.
    asked: Vec<usize>,
    naming: Naming,
    predicted: Vec<Predicted>,
}

impl<'a> Asking<'a> {
    fn new(model: &'a Model, predictor: &'a Predictor<'a>, objects: usize) -> Self {
        Self {
            model,
            predictor,
            block: Block::default(),
            asked: Vec::with_capacity(BLOCK),
            naming: Naming::new(model.ensemble.inputs.names()),
            predicted: Vec::with_capacity(objects),
        }
    }

    /// Predicts a block of objects at most, with everything put in.
    fn ask(&mut self, features: &[Features]) {
        self.block.clear();
        self.asked.clear();
        let start = self.predicted.len();
        for (number, features) in features.iter().enumerate() {
            let said = self.model.without_learner(features);
            if !said.unsure {
                self.block.push(self.predictor, features);
                self.asked.push(number);
            }
            self.predicted.push(said);
        }
        self.block.say(self.predictor);
        for (&number, (said, moved)) in self.asked.iter().zip(self.block.said(self.predictor)) {
            let slot = self.predicted.get_mut(start + number);
            let (Some(slot), Some(features)) = (slot, features.get(number)) else { continue };
            let Said { mean, spread } = said;
            let error = relative_error(features);
            slot.criticality = corrected(slot.formula, mean);
            slot.interval = self.model.conformal.interval(slot.criticality, unsureness(spread, error));
            slot.sampled = sampled_part(spread, error);
            slot.contributions = self.naming.largest(features, moved);
        }
    }
}

/// The features that moved a prediction most, from what its columns moved it.
struct Naming {
    names: Vec<Name>,
    /// By column: where `names` has its feature.
    places: Vec<Option<usize>>,
    /// By name, of the last row.
    sums: Vec<f64>,
    worth: Vec<(Name, f64)>,
}

impl Naming {
    fn new(columns: &[Option<Name>]) -> Self {
        let mut names: Vec<Name> = Vec::new();
        let mut place = |name: Name| {
            names.iter().position(|other| *other == name).unwrap_or_else(|| {
                names.push(name);
                names.len() - 1
            })
        };
        let places = columns.iter().map(|name| name.map(&mut place)).collect();
        Self { places, sums: Vec::new(), worth: Vec::new(), names }
    }

    fn largest(&mut self, features: &Features, moved: &[f64]) -> Vec<Contribution> {
        self.sums.clear();
        self.sums.resize(self.names.len(), 0.0);
        for (&place, moved) in self.places.iter().zip(moved) {
            if let Some(sum) = place.and_then(|place| self.sums.get_mut(place)) {
                *sum += moved;
            }
        }
        self.worth.clear();
        let sums = self.names.iter().copied().zip(self.sums.iter().copied());
        self.worth.extend(sums.filter(|(_, moved)| moved.abs() > WORTH_NAMING));
        self.worth.sort_unstable_by(|a, b| b.1.abs().total_cmp(&a.1.abs()).then(a.0.cmp(&b.0)));
        let largest = self.worth.iter().take(NAMED);
        largest.map(|&(name, moved)| Contribution { name, value: features.get(name), factor: moved.exp() }).collect()
    }
}
