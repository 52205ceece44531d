//! The profile dataset: a directory `NAME.tsp/` of Parquet tables and one `meta.json`.
//!
//! ```text
//! bc.4711.tsp/                        0700
//!   meta.json                         schema, host, program, sampler, losses, totals; "complete": false until the end
//!   samples.parquet/                  one directory per table: what Spark, DuckDB and polars read as one table
//!     part-00000-9f86d081884c7d65.parquet   0600; number and checksum
//!     part-00001-60303ae22b998861.parquet
//!   objects.parquet/ ...
//! ```
//!
//! **What holds at every instant.** A part is written under a hidden temporary name in its own directory, synced, and
//! renamed; `meta.json` likewise. A rename is atomic and there is no other write, so whoever opens the directory, and
//! whenever the recorder is killed, sees whole parts and a whole `meta.json`: at most the rows that were still in
//! memory are lost, and `complete` says whether there were any. The directory itself appears under its name only once
//! it holds a `meta.json`.
//!
//! **What the reader promises.** A profile is outside data: it may be truncated, flipped, of another version, or
//! made by someone else. [`Profile::open`] fails only for what leaves nothing to show; a damaged part costs its
//! own rows and is named in [`Profile::warnings`]. Nothing in here panics on what a file holds (see [`contain`] for
//! the one library that might, and how that is held).
//!
//! **What it is not.** No queries, no statistics, no symbolisation: tables in and out. The writing side shows no type
//! of the Parquet library, so that recorders do not depend on it.
//!
//! All times are nanoseconds of `CLOCK_MONOTONIC`; [`Clock::monotonic_start_ns`] and [`Meta::created`] are the same
//! instant on both clocks. In a simulated profile they are nanoseconds of the modelled machine since the program's start.

mod calendar;
mod cell;
pub mod contain;
mod directory;
mod error;
mod meta;
mod part;
mod read;
mod row;
mod rows;
pub mod series;
mod words;
mod write;

pub use calendar::rfc3339;
pub use error::TracesError;
pub use meta::{
    Allocator, Cache, Clock, Exit, Host, Losses, Meta, Program, SCHEMA, SCHEMA_MAJOR, Sampler, SamplerKind,
    SimulatedTiers, Simulation, Totals,
};
#[cfg(fuzzing)]
pub use read::rows_of_part;
pub use read::{Profile, Tables};
pub use row::{Row, Table};
pub use rows::{
    AllocationRow, CountRow, CounterRow, MarkRow, ModuleRow, ObjectRow, PlacementRow, SampleRow, SiteRow, SymbolRow,
};
pub use words::{Access, AddressQuality, Attribution, Level, ObjectKind, PlacementKind, Tlb};
pub use write::{Buffer, FLUSH_ROWS, FULL_ROWS, ProfileWriter};
