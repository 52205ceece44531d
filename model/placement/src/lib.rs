//! Objects, tiers and a budget in; a placement, and the curve of all budgets, out.
//!
//! An object costs something in each tier: what the run would be slower by, against everything in the fastest. It takes
//! bytes while its blocks live. A placement gives every object one tier, so that at no instant the blocks live together
//! in a tier exceed its capacity, and the sum of costs is least. That is a multiple-choice knapsack with one constraint
//! per tier and instant: objects whose lives never meet share the same bytes.
//!
//! - [`Problem`] checks what it is given and finds the instants that matter.
//! - [`in_order`] places objects in an order somebody else chose: what a ranker without costs can do.
//! - [`best`] places by benefit per byte, then searches for better until it has proved that there is none, or has
//!   done as much work as it may; [`Optimality`] says which.
//! - [`curve`] gives the slowdown for every budget of the fastest tier, [`least_fast`] the budget for a slowdown.
//!
//! Everything is deterministic: limits are counts of steps, never of time, and ties go by size and then by name.
//!
//! **What it does not do.** It predicts nothing: costs come from outside, and so does what a *set* of objects in slow
//! memory costs ([`Forecast`]), since intervals of a set are narrower than the sum of its members'. Optimisation itself
//! takes costs as adding up. Objects are not divided between tiers and do not move while the program runs.

mod curve;
mod exact;
mod greedy;
mod improve;
mod multipliers;
mod plan;
mod problem;
mod timeline;
mod usage;

pub use curve::{Bound, CurvePoint, curve, least_fast};
pub use greedy::by_density;
pub use plan::{Additive, Forecast, Limits, Optimality, Plan, best, in_order};
pub use problem::{Cost, Object, PlacementError, Problem, Span, Tier};
