//! What every budget of the fastest tier would give.
//!
//! One plan is a point; the curve is the answer to "how much fast memory is worth buying". Objects go into the fastest
//! tier in a given order, one more at each step; at a few budgets in between the exact placement is asked too, and stands
//! in the curve where it is better. Points that cost more bytes and save nothing are left out, so the curve falls
//! everywhere. The capacities of the other tiers hold throughout, that of the fastest does not: it is the question.

use crate::greedy::beside;
use crate::plan::{Forecast, Limits, Plan, best, check_order};
use crate::problem::{Cost, PlacementError, Problem};
use crate::usage::Usage;

/// Steps of the order that are evaluated; more are thinned out evenly.
const MOST_STEPS: usize = 200;
/// Budgets whose exact placement is asked.
const EXACT_POINTS: u64 = 20;
/// A budget is found to this many bytes: a page.
const GRAIN: u64 = 4096;

/// One budget.
#[derive(Clone, Debug, PartialEq)]
pub struct CurvePoint {
    /// Bytes of the fastest tier that are used at their fullest.
    pub fast_bytes: u64,
    /// What the placement is predicted to cost.
    pub cost: Cost,
    /// The object that would come into the fastest tier next; `None` when all that gain are there.
    pub next: Option<usize>,
    /// Whether it was found by search rather than in the order.
    pub searched: bool,
}

/// Which end of a prediction a limit is held against.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bound {
    /// The best estimate.
    #[default]
    Point,
    /// The upper end of its interval.
    High,
}

impl Bound {
    fn of(self, cost: Cost) -> f64 {
        match self {
            Self::Point => cost.point,
            Self::High => cost.high,
        }
    }
}

/// The curve from no fast memory to enough for everything. With `limits`, placements between the steps of `order` are
/// searched for as well, each within a twentieth of the work.
///
/// # Errors
/// [`PlacementError::BadOrder`]; [`PlacementError::DoesNotFit`] if the slower tiers cannot hold what the fastest does not.
pub fn curve(
    problem: &Problem,
    order: &[usize],
    forecast: &dyn Forecast,
    limits: Option<Limits>,
) -> Result<Vec<CurvePoint>, PlacementError> {
    check_order(problem, order)?;
    let open = problem.with_fast(None);
    let steps = order.len();
    let mut points = Vec::new();
    let mut failed = None;
    for number in 0..=steps.min(MOST_STEPS) {
        let step = if steps > MOST_STEPS { steps * number / MOST_STEPS } else { number };
        let (inside, outside) = order.split_at(step);
        match beside(&open, inside, order) {
            Ok(placed) => {
                let fast_bytes = Usage::of(&open, &placed).peak(0);
                let next = next(problem, outside, &placed);
                points.push(CurvePoint { fast_bytes, cost: forecast.forecast(&open, &placed), next, searched: false });
            }
            Err(error) => failed = Some(error),
        }
    }
    let footprint = problem.footprint();
    if let Some(limits) = limits {
        let limits = Limits { work: limits.work / EXACT_POINTS };
        for part in 1..EXACT_POINTS {
            let budget = (u128::from(footprint) * u128::from(part) / u128::from(EXACT_POINTS)) as u64;
            if let Ok(plan) = best(&problem.with_fast(Some(budget)), forecast, limits) {
                let next = next(problem, order, &plan.placed);
                points.push(CurvePoint { fast_bytes: plan.fast_bytes(), cost: plan.cost, next, searched: true });
            }
        }
    }
    match failed {
        Some(error) if points.is_empty() => Err(error),
        _ => Ok(falling(points, footprint)),
    }
}

/// The first object of an order that is not in the fastest tier and would gain there.
fn next(problem: &Problem, order: &[usize], placed: &[usize]) -> Option<usize> {
    let gains = |object: usize, tier: usize| tier != 0 && problem.cost(object, tier) > problem.cost(object, 0);
    order.iter().copied().find(|&object| placed.get(object).is_some_and(|&tier| gains(object, tier)))
}

/// The points that save something over all cheaper ones, and the last also at the full footprint.
fn falling(mut points: Vec<CurvePoint>, footprint: u64) -> Vec<CurvePoint> {
    let key = |point: &CurvePoint| (point.fast_bytes, point.searched);
    points.sort_by(|a, b| {
        key(a).0.cmp(&key(b).0).then(a.cost.point.total_cmp(&b.cost.point)).then(key(a).1.cmp(&key(b).1))
    });
    let mut kept: Vec<CurvePoint> = Vec::new();
    for point in points {
        if kept.last().is_none_or(|last| point.cost.point < last.cost.point) {
            kept.push(point);
        }
    }
    if let Some(last) = kept.last().filter(|last| last.fast_bytes < footprint).cloned() {
        kept.push(CurvePoint { fast_bytes: footprint, next: None, ..last });
    }
    kept
}

/// The placement with the least fast memory whose predicted cost stays at or under `limit`, to a page.
///
/// With an `order`, objects come into the fastest tier in that order; without, the best placement is asked for every
/// budget that is tried.
///
/// # Errors
/// [`PlacementError::OutOfReach`] if not even everything in the fastest tier does; [`PlacementError::BadOrder`];
/// [`PlacementError::DoesNotFit`].
pub fn least_fast(
    problem: &Problem,
    order: Option<&[usize]>,
    forecast: &dyn Forecast,
    limit: f64,
    bound: Bound,
    limits: Limits,
) -> Result<Plan, PlacementError> {
    let limits = Limits { work: limits.work / EXACT_POINTS };
    let at = |budget: u64| {
        let problem = problem.with_fast(Some(budget));
        match order {
            Some(order) => crate::plan::in_order(&problem, order, forecast),
            None => best(&problem, forecast, limits),
        }
    };
    let most = problem.capacity(0).unwrap_or(u64::MAX).min(problem.footprint());
    let mut found = at(most)?;
    if limit.is_nan() || bound.of(found.cost) > limit {
        return Err(PlacementError::OutOfReach { limit, least: bound.of(found.cost) });
    }
    let (mut too_little, mut enough) = (None, found.fast_bytes());
    while too_little.map_or(enough > 0, |low| enough - low > GRAIN) {
        let budget = too_little.map_or(0, |low| low + (enough - low) / 2);
        match at(budget) {
            Ok(plan) if bound.of(plan.cost) <= limit => {
                enough = plan.fast_bytes().min(budget);
                found = plan;
            }
            _ => too_little = Some(budget),
        }
    }
    Ok(found)
}
