//! Features and labels in; a ranking with intervals, and its evaluation, out.
//!
//! - [`feature`]: what a ranker may know of an object, by name, with unit and source.
//! - [`table`]: the labelled table, one row per object that some run had, read from and written to CSV.
//!
//! **What it does not do.** It reads no profile and places nothing: features come from outside, and so do labels.

pub mod feature;
pub mod table;

pub use feature::{FEATURES, Family, Feature, Features, Group, Name};
pub use table::{Case, Counted, Row, Set, Table, TableError, TierPair};
