//! What objects cost as a simulation timed it, where it timed the tiers that are advised on.
//!
//! Each object alone in a slower tier was timed: that is its cost, not an estimate from samples. Sets were not. Singles do not
//! add up, but how far they are off is known for the largest set, everything: with *s* the sum of a set's singles, *S* that of all
//! and *A* what everything in that tier costs, a set is taken to cost *s* (1 + (*A*/*S* - 1) *s*/*S*): what was timed for one small
//! object and for all, and between them on the way from one to the other. The factor is held at 1/2 at least, so that more
//! in slow memory never costs less. `tierscope simulate --budget-sweep` times sets themselves.

use rustc_hash::FxHashMap;
use tierscope_placement::Cost;
use tierscope_traces::{Meta, PlacementKind, PlacementRow, Tables};

use super::tier::Tier;
use crate::summary::Summary;

/// Below this, a set could cost less than its parts in the order they are added.
const LEAST_FACTOR: f64 = 0.5;

/// Timed costs, as parts of the run with everything fast.
pub(super) struct Timed {
    /// By tier but the first: cost of each object of the summary, `None` where it was not timed.
    tiers: Vec<TimedTier>,
}

struct TimedTier {
    alone: Vec<Option<Cost>>,
    /// Sum of all singles, and what everything costs together.
    sum: f64,
    together: Option<f64>,
}

/// Singles of a set, added up.
#[derive(Clone, Copy, Default)]
struct Sum {
    point: f64,
    squares: f64,
}

impl Timed {
    /// `None` where a tier was not timed against the first.
    pub(super) fn new(
        meta: &Meta,
        tables: &Tables,
        summary: &Summary,
        recorded: &FxHashMap<String, Vec<u32>>,
        tiers: &[Tier],
    ) -> Option<Self> {
        let simulation = meta.simulation.as_ref()?;
        let all_fast = simulation.cycles_all_fast.filter(|cycles| cycles.is_finite() && *cycles > 0.0)?;
        let fastest = tiers.first()?;
        let of_object: FxHashMap<u32, usize> = summary
            .objects
            .iter()
            .enumerate()
            .flat_map(|(place, object)| {
                recorded.get(&object.id).into_iter().flatten().map(move |&number| (number, place))
            })
            .collect();
        let timed = |tier: &Tier| {
            let pair = simulation.tiers.iter().find(|pair| pair.slow == tier.name && pair.fast == fastest.name)?;
            let rows = || tables.placements.iter().filter(|row| row.tiers == pair.name && row.extra_cycles.is_finite());
            let all = rows().find(|row| row.kind == PlacementKind::AllSlow)?;
            let mut alone: Vec<Option<Cost>> = vec![None; summary.objects.len()];
            for row in rows().filter(|row| row.kind == PlacementKind::Alone) {
                let place = row.object.and_then(|object| of_object.get(&object));
                if let Some(slot) = place.and_then(|&place| alone.get_mut(place)) {
                    *slot = Some(add(*slot, row, all_fast));
                }
            }
            let sum = alone.iter().flatten().map(|cost| cost.point).sum();
            Some(TimedTier { alone, sum, together: Some(all.extra_cycles / all_fast) })
        };
        let slower = tiers.iter().skip(1).map(timed).collect::<Option<Vec<TimedTier>>>()?;
        Some(Self { tiers: slower })
    }

    /// What an object of the summary costs alone in a tier. What was not timed never reached memory, or was given up for others
    /// that cost more.
    pub(super) fn of(&self, object: usize, tier: usize) -> Cost {
        let tier = tier.checked_sub(1).and_then(|tier| self.tiers.get(tier));
        tier.and_then(|tier| *tier.alone.get(object)?).unwrap_or(Cost::NONE)
    }

    /// Adds an object to a set.
    fn charge(&self, object: usize, tier: usize, sum: &mut Sum) {
        let cost = self.of(object, tier);
        sum.point += cost.point;
        sum.squares += ((cost.high - cost.low) / 2.0).powi(2);
    }

    /// What a set costs: objects of the summary, each with its tier.
    pub(super) fn together(&self, placed: impl Iterator<Item = (usize, usize)>) -> Cost {
        let mut sums = vec![Sum::default(); self.tiers.len()];
        for (object, tier) in placed {
            if let Some(sum) = tier.checked_sub(1).and_then(|tier| sums.get_mut(tier)) {
                self.charge(object, tier, sum);
            }
        }
        let point: f64 = sums.iter().enumerate().map(|(tier, sum)| sum.point * self.factor(tier + 1, sum.point)).sum();
        let half = sums.iter().map(|sum| sum.squares).sum::<f64>().sqrt();
        Cost { point, low: point - half, high: point + half }
    }

    /// How much of the singles' sum a set costs whose singles add up to `sum`.
    fn factor(&self, tier: usize, sum: f64) -> f64 {
        let Some(tier) = tier.checked_sub(1).and_then(|tier| self.tiers.get(tier)) else { return 1.0 };
        let Some(together) = tier.together.filter(|_| tier.sum > 0.0) else { return 1.0 };
        let whole = (together / tier.sum).max(LEAST_FACTOR);
        1.0 + (whole - 1.0) * (sum / tier.sum).clamp(0.0, 1.0)
    }

    /// The share of every object in what all of them cost alone in the slowest tier.
    pub(super) fn shares(&self, objects: usize) -> Vec<f64> {
        let slowest = self.tiers.len();
        let sum = self.tiers.last().map_or(0.0, |tier| tier.sum);
        (0..objects).map(|object| if sum > 0.0 { self.of(object, slowest).point / sum } else { 0.0 }).collect()
    }
}

/// An object with several members costs what they cost, their errors being independent.
fn add(sum: Option<Cost>, row: &PlacementRow, all_fast: f64) -> Cost {
    let (point, half) = (row.extra_cycles / all_fast, row.extra_cycles_error.abs() / all_fast);
    let (before, half_before) = sum.map_or((0.0, 0.0), |sum| (sum.point, (sum.high - sum.low) / 2.0));
    let (point, half) = (before + point.max(0.0), half.hypot(half_before));
    let half = if half.is_finite() { half } else { 0.0 };
    Cost { point, low: point - half, high: point + half }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(point: f64) -> Option<Cost> {
        Some(Cost { point, low: point - 0.01, high: point + 0.01 })
    }

    fn timed(alone: &[f64], together: f64) -> Timed {
        let sum = alone.iter().sum();
        let alone = alone.iter().map(|&point| cost(point)).collect();
        Timed { tiers: vec![TimedTier { alone, sum, together: Some(together) }] }
    }

    #[test]
    fn one_small_object_costs_its_own_and_everything_what_everything_costs() {
        let timed = timed(&[0.01, 1.0, 0.8], 1.36);
        let alone = timed.together([(0, 1)].into_iter()).point;
        assert!((alone - 0.01).abs() < 1e-4, "{alone}");
        let all = timed.together((0..3).map(|object| (object, 1))).point;
        assert!((all - 1.36).abs() < 1e-9, "{all}");
    }

    #[test]
    fn more_in_slow_memory_never_costs_less() {
        let timed = timed(&[0.5, 1.0, 0.8, 0.1], 0.2);
        let mut before = 0.0;
        for count in 0..=4 {
            let cost = timed.together((0..count).map(|object| (object, 1))).point;
            assert!(cost >= before, "{count}: {cost} < {before}");
            before = cost;
        }
    }

    #[test]
    fn what_was_not_timed_costs_nothing_and_the_fastest_tier_neither() {
        let timed = timed(&[0.5], 0.5);
        assert_eq!(timed.of(7, 1), Cost::NONE);
        assert_eq!(timed.of(0, 0), Cost::NONE);
        assert_eq!(timed.together([(0, 0)].into_iter()).point, 0.0);
        assert_eq!(timed.shares(2), [1.0, 0.0]);
    }
}
