//! One case to place: its movable objects, a budget, and what each placement costs.

use tierscope_placement::{Additive, Cost, Limits, Object, Plan, Problem, Tier, best, in_order};

use crate::lattice::{Lattice, Slowdown};
use crate::table::{Row, Set};

/// Steps of the search for the best placement by predicted costs: plenty for the objects of a case.
const WORK: u64 = 300_000;

/// The movable objects of a case.
pub(super) struct Placing<'a> {
    pub(super) rows: Vec<&'a Row>,
    pub(super) lattice: Lattice,
}

impl<'a> Placing<'a> {
    pub(super) fn new(rows: Vec<&'a Row>, sets: &[&Set]) -> Self {
        let lattice = Lattice::new(&rows, sets);
        Self { rows, lattice }
    }

    /// Bytes of so great a part of all movable objects.
    pub(super) fn bytes(&self, part: f64) -> u64 {
        (self.rows.iter().map(|row| row.bytes as f64).sum::<f64>() * part) as u64
    }

    fn problem(&self, costs: &[f64], budget: u64) -> Option<Problem> {
        let object = |(row, cost): (&&Row, &f64)| Object {
            id: row.object.clone(),
            bytes: row.bytes,
            lives: None,
            costs: vec![Cost::NONE, Cost::exactly(if cost.is_finite() { cost.clamp(0.0, 1e9) } else { 0.0 })],
        };
        let objects = self.rows.iter().zip(costs).map(object).collect();
        let tier = |name: &str, capacity| Tier { name: name.into(), capacity };
        Problem::new(objects, vec![tier("fast", Some(budget)), tier("slow", None)]).ok()
    }

    /// What it costs to place so that the sum of these costs is least.
    pub(super) fn by_costs(&self, costs: &[f64], budget: u64) -> Slowdown {
        let plan = self.problem(costs, budget).and_then(|p| best(&p, &Additive, Limits { work: WORK }).ok());
        self.slowdown(plan.as_ref())
    }

    /// What it costs to place the largest scores first, as long as there is room; equal ones by name.
    pub(super) fn by_scores(&self, scores: &[f64], budget: u64) -> Slowdown {
        let mut order: Vec<usize> = (0..self.rows.len()).collect();
        let score = |place: usize| scores.get(place).copied().unwrap_or(0.0);
        order.sort_by(|&a, &b| score(b).total_cmp(&score(a)).then(a.cmp(&b)));
        let nothing = vec![0.0; self.rows.len()];
        let plan = self.problem(&nothing, budget).and_then(|problem| in_order(&problem, &order, &Additive).ok());
        self.slowdown(plan.as_ref())
    }

    fn slowdown(&self, plan: Option<&Plan>) -> Slowdown {
        let placed = plan.map_or(&[][..], |plan| &plan.placed);
        let slow: Vec<usize> = match plan {
            Some(_) => placed.iter().enumerate().filter(|(_, tier)| **tier > 0).map(|(place, _)| place).collect(),
            None => (0..self.rows.len()).collect(),
        };
        self.lattice.slowdown(&slow)
    }

    /// The least that any placement costs: all combinations of what was timed so, the rest by its own costs per byte.
    pub(super) fn oracle(&self, budget: u64) -> f64 {
        let core = self.lattice.core();
        let mut rest: Vec<usize> = (0..self.rows.len()).filter(|place| !core.contains(place)).collect();
        let row = |place: usize| self.rows.get(place).map_or((0.0, 0), |row| (row.criticality.max(0.0), row.bytes));
        let density = |place: usize| {
            let (cost, bytes) = row(place);
            cost / bytes.max(1) as f64
        };
        rest.sort_by(|&a, &b| density(b).total_cmp(&density(a)).then(a.cmp(&b)));
        let mut least = f64::INFINITY;
        for bits in 0..1u32 << core.len() {
            let is_fast = |place: usize| bits >> place & 1 == 1;
            let (fast, mut slow): (Vec<_>, Vec<_>) = core.iter().enumerate().partition(|(place, _)| is_fast(*place));
            let taken = fast.iter().try_fold(0u64, |sum, (_, object)| sum.checked_add(row(**object).1));
            let Some(mut left) = taken.and_then(|taken| budget.checked_sub(taken)) else { continue };
            let mut slow: Vec<usize> = slow.drain(..).map(|(_, object)| *object).collect();
            for &object in &rest {
                let bytes = row(object).1;
                if bytes <= left {
                    left -= bytes;
                } else {
                    slow.push(object);
                }
            }
            least = least.min(self.lattice.slowdown(&slow).slowdown);
        }
        least
    }
}
