//! From a profile to what can be said about it. Pure: tables in, rows out; no files, no clocks, no terminal.
//!
//! A profile is the same here whatever made it (hardware samples, the clock, page faults, a simulation, another tool's
//! recording): what differs is in its meta, and what is not known is `None`, never a guess.

pub mod advice;
pub mod explain;
pub mod features;
pub mod interval;
pub mod summary;

pub use summary::{Summary, summarise};
