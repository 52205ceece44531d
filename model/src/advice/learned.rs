//! What objects cost as a model that was trained on other programs predicts it.
//!
//! Features of every object ([`crate::features`]) go in, once for each slower tier beside the fastest; a cost alone in that tier comes out,
//! with an interval that held for nine in ten objects of programs that were left out (`tierscope-rank`). A set costs less than its members' sum
//! where their misses overlap; how much less was fitted to sets that were timed, and so were intervals of sets. With more than two tiers
//! a set is what is in any slower one, each object with its cost there.
//!
//! **Bounds.** Nothing waits longer than for the worst ratio of the two tiers, latency or bandwidth in the granules that the slow
//! one moves, so no interval reaches beyond that; below zero there is nothing.
//!
//! **What no sample fell on** adds nothing to a set. Alone its cost may be as large as its interval says. Room that is left in fast memory
//! goes to what may need it, a thousandth of what it might cost being its weight ([`Predicted::weight`]); but blocks below 64 KiB that no sample
//! fell on are not worth a rule.

use tierscope_placement::Cost;
use tierscope_rank::{Family, Kind, Model, Name, Predicted, TierPair, WrongFamily};

use super::tier::{Tier, pair};
use crate::features::Observed;

/// Objects below this that no sample fell on stay in slow memory, bytes.
const WORTH_A_RULE: f64 = 65536.0;

/// What memory without granules moves at once, bytes.
const LINE_BYTES: f64 = 64.0;

/// Where bandwidths are not known nothing bounds a slowdown but this.
const BOUNDLESS: f64 = 1e9;

/// A model, and what it is stored under.
#[derive(Clone, Debug)]
pub struct Trained {
    /// The model.
    pub model: Model,
    /// Its key: table and version.
    pub key: String,
}

/// Which model an advice is by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelUsed {
    /// What it was trained on: samples of time, or of misses.
    pub family: Family,
    /// What it learnt with.
    pub learner: Kind,
    /// Table and version.
    pub key: String,
    /// How many programs it learnt from.
    pub programs: usize,
}

/// Predicted costs of all objects of a summary.
pub(super) struct Learned {
    used: ModelUsed,
    model: Model,
    /// By tier but the first.
    tiers: Vec<Predictions>,
    /// By object: whether a sample fell on it, and whether it is worth a rule.
    seen: Vec<bool>,
    weighed: Vec<bool>,
}

struct Predictions {
    objects: Vec<Predicted>,
    /// The largest slowdown that these tiers can cause.
    most: f64,
}

impl Learned {
    /// Predicts every object of `observed` (all of a summary, in its order) in every tier but the first.
    pub(super) fn new(trained: Trained, observed: &Observed, tiers: &[Tier]) -> Result<Self, WrongFamily> {
        let Trained { model, key } = trained;
        let fastest = tiers.first();
        let predictions = tiers.iter().skip(1).filter_map(|tier| Some(pair(fastest?, tier))).map(|pair| {
            let questions: Vec<_> = observed.objects.iter().map(|object| (object.features.clone(), pair)).collect();
            Ok(Predictions { objects: model.predict(observed.family, &questions)?, most: most(&pair) })
        });
        let tiers = predictions.collect::<Result<Vec<Predictions>, WrongFamily>>()?;
        let features = || observed.objects.iter().map(|object| &object.features);
        let seen: Vec<bool> =
            features().map(|features| features.known(Name::Samples).is_some_and(|samples| samples > 0.0)).collect();
        let large = |log2_bytes: Option<f64>| log2_bytes.is_some_and(|bytes| bytes >= WORTH_A_RULE.log2());
        let weighed =
            features().zip(&seen).map(|(features, &seen)| seen || large(features.known(Name::Log2Bytes))).collect();
        let used = ModelUsed { family: model.family(), learner: model.kind(), key, programs: model.programs() };
        Ok(Self { used, model, tiers, seen, weighed })
    }

    pub(super) fn used(&self) -> &ModelUsed {
        &self.used
    }

    fn predictions(&self, tier: usize) -> Option<&Predictions> {
        tier.checked_sub(1).and_then(|tier| self.tiers.get(tier))
    }

    /// What was predicted of an object of the summary in the slowest tier.
    pub(super) fn slowest(&self, object: usize) -> Option<&Predicted> {
        self.tiers.last()?.objects.get(object)
    }

    fn is_seen(&self, object: usize) -> bool {
        self.seen.get(object).copied().unwrap_or(false)
    }

    /// What an object of the summary costs alone in a tier.
    pub(super) fn of(&self, object: usize, tier: usize) -> Cost {
        let Some(predictions) = self.predictions(tier) else { return Cost::NONE };
        let Some(predicted) = predictions.objects.get(object) else { return Cost::NONE };
        let (low, high) = predicted.interval;
        if self.is_seen(object) {
            within(predicted.criticality, (low, high), predictions.most)
        } else {
            within(0.0, (0.0, high), predictions.most)
        }
    }

    /// What a placement should weigh it by.
    pub(super) fn weight(&self, object: usize, tier: usize) -> Cost {
        let predicted = self.predictions(tier).and_then(|predictions| predictions.objects.get(object));
        match predicted {
            Some(predicted) if self.is_seen(object) => Cost::exactly(predicted.weight().min(BOUNDLESS)),
            Some(predicted) if self.weighed.get(object) == Some(&true) => {
                Cost::exactly((predicted.weight() - predicted.criticality).clamp(0.0, BOUNDLESS))
            }
            _ => Cost::NONE,
        }
    }

    /// What a set costs: objects of the summary, each with its tier.
    pub(super) fn together(&self, placed: impl Iterator<Item = (usize, usize)>) -> Cost {
        let mut alone = Vec::new();
        let mut most = 0.0_f64;
        for (object, tier) in placed {
            let Some(predictions) = self.predictions(tier) else { continue };
            let summand = predictions.objects.get(object).map_or(0.0, Predicted::summand);
            if summand > 0.0 && self.is_seen(object) {
                alone.push(summand);
                most = most.max(predictions.most);
            }
        }
        let forecast = self.model.forecast();
        within(forecast.slowdown(&alone), forecast.interval(&alone), most)
    }
}

/// A prediction inside its interval, and both inside what is possible.
fn within(point: f64, (low, high): (f64, f64), most: f64) -> Cost {
    let point = if point.is_finite() { point.clamp(0.0, most) } else { 0.0 };
    // An end that is no number is no end.
    let low = if low.is_finite() { low } else { 0.0 };
    let high = if high.is_finite() { high } else { most };
    Cost { point, low: low.clamp(0.0, point), high: high.min(most).max(point) }
}

/// The largest slowdown that a pair of tiers can cause: every access waits for the worse of latency and bandwidth.
fn most(pair: &TierPair) -> f64 {
    let granules = if pair.granule_bytes.is_finite() { (pair.granule_bytes / LINE_BYTES).max(1.0) } else { 1.0 };
    // Where only reads were timed, writes are taken to differ as they do.
    let writes = if pair.write_bandwidth_x.is_finite() { pair.write_bandwidth_x } else { pair.bandwidth_x };
    let ratios = [pair.latency_x, pair.bandwidth_x * granules, writes * granules];
    if ratios.iter().any(|ratio| !ratio.is_finite()) {
        return BOUNDLESS;
    }
    (ratios.into_iter().fold(1.0, f64::max) - 1.0).clamp(0.0, BOUNDLESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAIR: TierPair = TierPair {
        latency_x: 3.0,
        bandwidth_x: 2.0,
        write_bandwidth_x: 5.0,
        granule_bytes: 64.0,
        slow_read_gbs: 30.0,
        slow_write_gbs: 10.0,
    };

    #[test]
    fn an_interval_has_its_point_inside_and_stays_between_nothing_and_what_is_possible() {
        for point in [0.0, 0.2, 3.9, 100.0, f64::NAN] {
            for (low, high) in [(-1.0, 0.1), (0.3, 0.4), (0.0, 1e26), (f64::NAN, f64::INFINITY)] {
                let cost = within(point, (low, high), 4.0);
                assert!(0.0 <= cost.low && cost.low <= cost.point, "{cost:?}");
                assert!(cost.point <= cost.high && cost.high <= 4.0, "{cost:?}");
            }
        }
    }

    #[test]
    fn nothing_gets_slower_by_more_than_the_tiers_differ() {
        assert_eq!(most(&PAIR), 4.0);
        assert_eq!(most(&TierPair { granule_bytes: 256.0, ..PAIR }), 19.0);
        assert_eq!(most(&TierPair { bandwidth_x: f64::NAN, ..PAIR }), BOUNDLESS);
        assert_eq!(most(&TierPair { write_bandwidth_x: f64::NAN, ..PAIR }), 2.0);
        let same = TierPair { latency_x: 1.0, bandwidth_x: 1.0, write_bandwidth_x: 1.0, ..PAIR };
        assert_eq!(most(&same), 0.0);
    }
}
