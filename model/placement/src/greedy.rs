//! Placing objects one after the other, each in the best tier that still has room.
//!
//! By benefit per byte that is the classic answer to a knapsack: optimal but for the object that no longer fits whole,
//! and therefore good where no object is large against the budget. Whoever comes later may still fit, so the order does
//! not end at the first that does not.

use std::cmp::Ordering;

use crate::problem::{PlacementError, Problem};
use crate::usage::Usage;

/// What "best" is for an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// The fastest tier with room, whatever it costs elsewhere: what an order without costs means.
    Fastest,
    /// Where it costs least; among equals the slowest, to leave faster ones to those who gain.
    Cheapest,
}

/// Objects by benefit per byte: what the fastest tier saves against the slowest, over the most bytes that live at once.
/// What needs no bytes comes first, what gains nothing last, the smaller before the larger.
#[must_use]
pub fn by_density(problem: &Problem) -> Vec<usize> {
    let slowest = problem.tiers().len().saturating_sub(1);
    let objects: Vec<(f64, u64, &str)> = problem
        .objects()
        .iter()
        .enumerate()
        .map(|(object, described)| {
            let benefit = problem.cost(object, slowest) - problem.cost(object, 0);
            let bytes = problem.peak(object);
            (if benefit == 0.0 { 0.0 } else { benefit / bytes as f64 }, bytes, described.id.as_str())
        })
        .collect();
    let compare = |a: &(f64, u64, &str), b: &(f64, u64, &str)| -> Ordering {
        b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)).then_with(|| a.2.cmp(b.2))
    };
    let mut order: Vec<usize> = (0..objects.len()).collect();
    order.sort_by(|&a, &b| match (objects.get(a), objects.get(b)) {
        (Some(a), Some(b)) => compare(a, b),
        _ => a.cmp(&b),
    });
    order
}

/// Places objects in `order`; the objects of `forced` are in the fastest tier whatever its capacity, and no others are.
pub(crate) fn beside(problem: &Problem, forced: &[usize], order: &[usize]) -> Result<Vec<usize>, PlacementError> {
    let mut placed = vec![usize::MAX; problem.objects().len()];
    for &object in forced {
        if let Some(tier) = placed.get_mut(object) {
            *tier = 0;
        }
    }
    let rest: Vec<usize> = order.iter().copied().filter(|&object| placed.get(object) == Some(&usize::MAX)).collect();
    fill(problem, &rest, Choice::Cheapest, 1, placed)
}

/// Places objects in `order`.
///
/// # Errors
/// [`PlacementError::DoesNotFit`] if neither this order nor the largest first leaves room for all.
pub(crate) fn place(problem: &Problem, order: &[usize], choice: Choice) -> Result<Vec<usize>, PlacementError> {
    fill(problem, order, choice, 0, vec![usize::MAX; problem.objects().len()])
}

fn fill(
    problem: &Problem,
    order: &[usize],
    choice: Choice,
    from_tier: usize,
    placed: Vec<usize>,
) -> Result<Vec<usize>, PlacementError> {
    // With one tier, there is no slower one to leave objects to.
    let from_tier = from_tier.min(problem.tiers().len() - 1);
    attempt(problem, order, choice, from_tier, placed.clone()).or_else(|_| {
        // Small ones in the way of large ones: the order matters less than that everything has a place.
        let mut by_size = order.to_vec();
        by_size.sort_by_key(|&object| std::cmp::Reverse(problem.peak(object)));
        attempt(problem, &by_size, choice, from_tier, placed)
    })
}

fn attempt(
    problem: &Problem,
    order: &[usize],
    choice: Choice,
    from_tier: usize,
    mut placed: Vec<usize>,
) -> Result<Vec<usize>, PlacementError> {
    let mut usage = Usage::new(problem);
    placed.iter().enumerate().filter(|&(_, &tier)| tier == 0).for_each(|(object, _)| usage.add(object, 0));
    for &object in order {
        let mut roomy = (from_tier..problem.tiers().len()).filter(|&tier| usage.has_room(object, tier));
        let chosen = match choice {
            Choice::Fastest => roomy.next(),
            Choice::Cheapest => {
                roomy.rev().min_by(|&a, &b| problem.cost(object, a).total_cmp(&problem.cost(object, b)))
            }
        };
        let Some(tier) = chosen else {
            let id = problem.objects().get(object).map(|object| object.id.clone()).unwrap_or_default();
            return Err(PlacementError::DoesNotFit { id, bytes: problem.peak(object) });
        };
        usage.add(object, tier);
        if let Some(slot) = placed.get_mut(object) {
            *slot = tier;
        }
    }
    Ok(placed)
}
