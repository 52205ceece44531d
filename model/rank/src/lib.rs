//! Features and labels in; a ranking with intervals, and its evaluation, out.
//!
//! - [`feature`]: what a ranker may know of an object, by name, with unit and source.
//! - [`table`]: the labelled table, one row per object that some run had, read from and written to CSV; [`Table::shipped`] is the one
//!   that comes with this version.
//! - [`formula`]: the physically grounded estimate.
//! - [`Model`]: a learnt correction of it, chosen by programs that were left out, with intervals and explanations.
//! - [`evaluate()`]: every ranker on programs that nothing was learnt from.
//! - [`Lattice`]: what any placement of a case costs, from the sets that were timed.
//!
//! **What it does not do.** It reads no profile and places nothing: features come from outside, and so do labels.

mod conformal;
mod data;
pub mod evaluate;
pub mod feature;
pub mod formula;
pub mod judge;
mod lattice;
mod learn;
mod model;
mod random;
mod shipped;
pub mod table;

pub use conformal::COVERAGE;
pub use evaluate::{Ablation, Evaluation, Ranker, evaluate, evaluate_model};
pub use feature::{FEATURES, Family, Feature, Features, Group, Name};
pub use lattice::{Lattice, Slowdown};
pub use learn::inputs::Target;
pub use learn::{Kind, LearnError};
pub use model::{
    Compared, Comparison, Contribution, Forecast, LEAST_PROGRAMS, Model, Predicted, StoreError, TrainError,
    WrongFamily, key,
};
pub use shipped::shipped_key;
pub use table::{Case, Counted, Row, Set, Table, TableError, TierFigures, TierPair};
