//! A placement with what it takes and what it is predicted to cost.

use crate::exact::Search;
use crate::greedy::{Choice, by_density, place};
use crate::improve::{by_price, improve};
use crate::multipliers::Relaxed;
use crate::problem::{Cost, PlacementError, Problem};
use crate::usage::Usage;

/// How much work a search may do: counts, so that the same question has the same answer on every machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Steps of branch and bound times constraints.
    pub work: u64,
}

impl Default for Limits {
    /// A fraction of a second.
    fn default() -> Self {
        Self { work: 20_000_000 }
    }
}

/// How good a placement is known to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Optimality {
    /// None is better.
    Exact,
    /// None is better by more than this part of its cost.
    WithinFraction(f64),
    /// Placed in a given order; nothing is known.
    Greedy,
}

/// What a set of objects in slower tiers costs together.
pub trait Forecast {
    /// The cost of a placement: `placed` has the tier of each object of `problem`.
    fn forecast(&self, problem: &Problem, placed: &[usize]) -> Cost;
}

/// Costs add up, and so do the ends of their intervals: certain, and wider than need be.
#[derive(Clone, Copy, Debug, Default)]
pub struct Additive;

impl Forecast for Additive {
    fn forecast(&self, problem: &Problem, placed: &[usize]) -> Cost {
        let costs = problem.objects().iter().zip(placed).filter_map(|(object, &tier)| object.costs.get(tier));
        costs.fold(Cost::NONE, |sum, cost| Cost {
            point: sum.point + cost.point,
            low: sum.low + cost.low,
            high: sum.high + cost.high,
        })
    }
}

/// Every object in its tier.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Number of the tier of each object, in the order of the problem's objects.
    pub placed: Vec<usize>,
    /// The most bytes each tier holds at once, in the order of the tiers.
    pub peaks: Vec<u64>,
    /// What it is predicted to cost.
    pub cost: Cost,
    /// How good it is known to be.
    pub optimality: Optimality,
}

impl Plan {
    pub(crate) fn new(problem: &Problem, placed: Vec<usize>, forecast: &dyn Forecast, optimality: Optimality) -> Self {
        let usage = Usage::of(problem, &placed);
        let peaks = (0..problem.tiers().len()).map(|tier| usage.peak(tier)).collect();
        let cost = forecast.forecast(problem, &placed);
        Self { placed, peaks, cost, optimality }
    }

    /// The most bytes the fastest tier holds at once.
    #[must_use]
    pub fn fast_bytes(&self) -> u64 {
        self.peaks.first().copied().unwrap_or(0)
    }
}

/// Places objects in `order`, each in the fastest tier that has room for it while it lives.
///
/// # Errors
/// [`PlacementError::BadOrder`], [`PlacementError::DoesNotFit`].
pub fn in_order(problem: &Problem, order: &[usize], forecast: &dyn Forecast) -> Result<Plan, PlacementError> {
    check_order(problem, order)?;
    let placed = place(problem, order, Choice::Fastest)?;
    Ok(Plan::new(problem, placed, forecast, Optimality::Greedy))
}

/// Places objects so that the sum of their costs is least: by benefit per byte first, then by search.
///
/// # Errors
/// [`PlacementError::DoesNotFit`].
pub fn best(problem: &Problem, forecast: &dyn Forecast, limits: Limits) -> Result<Plan, PlacementError> {
    let greedy = place(problem, &by_density(problem), Choice::Cheapest)?;
    let greedy_cost = problem.cost_of(&greedy);
    let relaxed = Relaxed::new(problem, greedy_cost);
    let started = [Some(greedy.clone()), by_price(&relaxed)].into_iter().flatten().map(|mut placed| {
        improve(problem, &mut placed, limits.work / 4);
        (problem.cost_of(&placed), placed)
    });
    let (known, mut placed) =
        started.min_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or_else(|| (greedy_cost, greedy.clone()));
    let mut search = Search::new(&relaxed, known, limits.work);
    search.run();
    let optimality = if search.complete || search.best <= search.bound {
        Optimality::Exact
    } else {
        Optimality::WithinFraction(((search.best - search.bound) / search.best).clamp(0.0, 1.0))
    };
    if let Some(found) = search.found.take() {
        placed = found;
    }
    // A placement that saves no more than rounding is no reason to leave the one by benefit per byte.
    if problem.cost_of(&placed) >= greedy_cost - greedy_cost * 1e-10 {
        placed = greedy;
    }
    give_way(problem, &mut placed);
    Ok(Plan::new(problem, placed, forecast, optimality))
}

/// What gains nothing where it is goes to the slowest tier with room in which it costs no more: a search ends with such
/// objects wherever it happened to put them.
fn give_way(problem: &Problem, placed: &mut [usize]) {
    let mut usage = Usage::of(problem, placed);
    for (object, slot) in placed.iter_mut().enumerate() {
        let own = problem.cost(object, *slot);
        let mut slower = (*slot + 1..problem.tiers().len()).rev();
        let better = slower.find(|&tier| problem.cost(object, tier) <= own && usage.has_room(object, tier));
        if let Some(tier) = better {
            usage.remove(object, *slot);
            usage.add(object, tier);
            *slot = tier;
        }
    }
}

pub(crate) fn check_order(problem: &Problem, order: &[usize]) -> Result<(), PlacementError> {
    let objects = problem.objects().len();
    let mut seen = vec![false; objects];
    let each_once = order.iter().all(|&object| seen.get_mut(object).is_some_and(|seen| !std::mem::replace(seen, true)));
    if each_once && order.len() == objects {
        Ok(())
    } else {
        Err(PlacementError::BadOrder { given: order.len(), objects })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::{Object, Tier};

    #[test]
    fn what_gains_nothing_gives_way_as_far_as_there_is_room() {
        let object = |id: &str, costs: [f64; 3]| Object {
            id: id.into(),
            bytes: 10,
            lives: None,
            costs: costs.map(|cost| Cost { point: cost, low: cost, high: cost }).to_vec(),
        };
        let tier = |name: &str, capacity| Tier { name: name.into(), capacity };
        let objects = vec![
            object("idle", [0.0; 3]),
            object("idle, too", [0.0; 3]),
            object("busy", [0.0, 0.1, 0.2]),
            object("busy in the slowest only", [0.0, 0.0, 0.2]),
        ];
        let tiers = vec![tier("fast", None), tier("middling", None), tier("slow", Some(10))];
        let problem = Problem::new(objects, tiers).unwrap();
        let mut placed = [0; 4];
        give_way(&problem, &mut placed);
        assert_eq!(placed, [2, 1, 0, 1]);
    }
}
