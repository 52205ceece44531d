//! What is to be placed, where, and at what cost: checked once, so that nothing after it has to doubt.

use std::collections::BTreeSet;
use std::sync::Arc;

use thiserror::Error;

use crate::timeline::{self, Demand};

/// Costs above this are no slowdowns.
const MOST_COST: f64 = 1e12;

/// A predicted slowdown: 0.05 is 5 % more run time than with everything in the fastest tier.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// The best estimate.
    pub point: f64,
    /// Lower end of its interval.
    pub low: f64,
    /// Upper end of its interval.
    pub high: f64,
}

impl Cost {
    /// No cost, for certain.
    pub const NONE: Self = Self { point: 0.0, low: 0.0, high: 0.0 };

    /// A cost without an interval.
    #[must_use]
    pub const fn exactly(point: f64) -> Self {
        Self { point, low: point, high: point }
    }

    fn is_sound(&self) -> bool {
        [self.low, self.point, self.high].iter().all(|value| (0.0..=MOST_COST).contains(value))
            && self.low <= self.point
            && self.point <= self.high
    }
}

/// Bytes that live for a while: from `start_ns` until just before `end_ns`, on any one clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// First instant.
    pub start_ns: u64,
    /// First instant after; a span that would be empty lasts one nanosecond.
    pub end_ns: u64,
    /// How many bytes.
    pub bytes: u64,
}

/// What is placed as a unit.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// Its name: unique, and what ties are decided by.
    pub id: String,
    /// The most bytes of it that live at once; what it takes throughout where `lives` is unknown.
    pub bytes: u64,
    /// When how many of its bytes live; spans may overlap and come in any order. `None`: all of them, all the time.
    pub lives: Option<Vec<Span>>,
    /// What it costs in each tier, in the order of the tiers.
    pub costs: Vec<Cost>,
}

/// Where objects can be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tier {
    /// What it is called.
    pub name: String,
    /// Bytes it can hold; `None`: as many as there are.
    pub capacity: Option<u64>,
}

/// Why objects cannot be placed.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum PlacementError {
    /// There is no tier.
    #[error("there is no tier to place objects in: name at least one, the fastest first")]
    NoTiers,
    /// Two objects have the same name.
    #[error("there are two objects called {id}: names must tell objects apart")]
    DuplicateObject {
        /// The name.
        id: String,
    },
    /// An object does not say what it costs in each tier.
    #[error("object {id} has {found} costs for {tiers} tiers: it needs one for each")]
    CostsMissing {
        /// The object.
        id: String,
        /// Costs it has.
        found: usize,
        /// Tiers there are.
        tiers: usize,
    },
    /// A cost is no number, negative, beyond reason, or outside its own interval.
    #[error(
        "object {id} cannot cost {cost:?} in tier {tier}: a cost is a number from 0 to 1e12 inside its own interval"
    )]
    BadCost {
        /// The object.
        id: String,
        /// Name of the tier.
        tier: String,
        /// What was given.
        cost: Cost,
    },
    /// Sizes that no machine has.
    #[error("the sizes of the objects add up to more than 8 EiB: at least one of them is wrong")]
    TooManyBytes,
    /// The capacities of all tiers do not hold the objects.
    #[error(
        "object {id} ({bytes} bytes) fits in no tier beside the others: give the slowest tier more capacity, or none"
    )]
    DoesNotFit {
        /// The object that was left over.
        id: String,
        /// Its size.
        bytes: u64,
    },
    /// An order names an object that is not there, or one twice, or not all.
    #[error("the order of {given} objects is not an order of the {objects} there are: each must come exactly once")]
    BadOrder {
        /// How many it names.
        given: usize,
        /// How many there are.
        objects: usize,
    },
    /// A limit that is no number, or below what is possible.
    #[error("no budget keeps the slowdown under {limit}: everything in the fastest tier is predicted to cost {least}")]
    OutOfReach {
        /// What was asked for.
        limit: f64,
        /// What is possible.
        least: f64,
    },
}

/// Objects and tiers that passed every check.
#[derive(Clone, Debug)]
pub struct Problem {
    objects: Arc<[Object]>,
    tiers: Vec<Tier>,
    demand: Arc<Demand>,
}

impl Problem {
    /// Checks objects and tiers (the fastest first), and finds the instants at which tiers can be fullest.
    ///
    /// # Errors
    /// Every variant of [`PlacementError`] but the last three.
    pub fn new(objects: Vec<Object>, tiers: Vec<Tier>) -> Result<Self, PlacementError> {
        if tiers.is_empty() {
            return Err(PlacementError::NoTiers);
        }
        let mut known = BTreeSet::new();
        for object in &objects {
            if !known.insert(object.id.as_str()) {
                return Err(PlacementError::DuplicateObject { id: object.id.clone() });
            }
            let found = object.costs.len();
            if found != tiers.len() {
                return Err(PlacementError::CostsMissing { id: object.id.clone(), found, tiers: tiers.len() });
            }
            if let Some((tier, cost)) = tiers.iter().zip(&object.costs).find(|(_, cost)| !cost.is_sound()) {
                let (id, tier) = (object.id.clone(), tier.name.clone());
                return Err(PlacementError::BadCost { id, tier, cost: *cost });
            }
        }
        let demand = timeline::demand(&objects).ok_or(PlacementError::TooManyBytes)?;
        Ok(Self { objects: objects.into(), tiers, demand: Arc::new(demand) })
    }

    /// The same objects with another budget for the fastest tier.
    #[must_use]
    pub fn with_fast(&self, capacity: Option<u64>) -> Self {
        let mut other = self.clone();
        if let Some(fastest) = other.tiers.first_mut() {
            fastest.capacity = capacity;
        }
        other
    }

    /// The objects, in the order they were given.
    #[must_use]
    pub fn objects(&self) -> &[Object] {
        &self.objects
    }

    /// The tiers, the fastest first.
    #[must_use]
    pub fn tiers(&self) -> &[Tier] {
        &self.tiers
    }

    /// The most bytes of all objects that live at once: what a fast tier that holds everything needs.
    #[must_use]
    pub fn footprint(&self) -> u64 {
        let mut sums = vec![0u64; self.demand.slots()];
        for object in 0..self.objects.len() {
            sums.iter_mut().zip(self.demand.of(object)).for_each(|(sum, bytes)| *sum += bytes);
        }
        sums.into_iter().max().unwrap_or(0)
    }

    /// The most bytes of one object that live at once.
    #[must_use]
    pub fn peak(&self, object: usize) -> u64 {
        self.demand.of(object).iter().copied().max().unwrap_or(0)
    }

    /// What an object costs in a tier; neither is out of range in this crate.
    pub(crate) fn cost(&self, object: usize, tier: usize) -> f64 {
        self.objects.get(object).and_then(|object| object.costs.get(tier)).map_or(0.0, |cost| cost.point)
    }

    /// The sum of what objects cost where they are.
    pub(crate) fn cost_of(&self, placed: &[usize]) -> f64 {
        placed.iter().enumerate().map(|(object, &tier)| self.cost(object, tier)).sum()
    }

    pub(crate) fn capacity(&self, tier: usize) -> Option<u64> {
        self.tiers.get(tier).and_then(|tier| tier.capacity)
    }

    pub(crate) fn demand(&self) -> &Demand {
        &self.demand
    }
}
