//! The agent: everything that knows perf_event, `/proc` and other processes, and the command line over all of it.
//!
//! **Invariant:** profiles are the only way out. The model and the views work from a profile and cannot tell where it
//! came from but by its meta data; nothing they need is handed to them on the side.

mod advise;
pub mod cli;
pub mod commands;
mod demo;
pub mod embedded;
mod examine;
pub mod failure;
mod label;
mod launch;
mod output;
mod place;
mod private;
mod ranking;
pub mod record;
mod report;
mod signals;
mod simulate;
mod tiers;
pub mod units;
