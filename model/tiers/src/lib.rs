//! What a memory tier is: latency, bandwidth, granule, capacity, cost, power and carbon, as files with sources.
//!
//! A set of tiers ([`Tiers`]) is what a simulation models, what an advisor prices and what a machine was measured to have.
//! It is written as a TOML file (`docs/tiers.md`) that people edit, so three things hold: every figure carries its unit in
//! its key and where it came from beside it; a file that says something else than what its author meant is refused with the
//! place and with what to write instead; and what is not known is absent, never zero.
//!
//! This crate is pure: text in, types out. Finding and measuring tiers is `tierscope-machine`.
//!
//! ```
//! use tierscope_tiers::{Quantity, Tiers};
//! let tiers = Tiers::of_presets("ddr4,optane-100x6")?;
//! let slow = &tiers.as_slice()[1];
//! assert_eq!(slow.value(Quantity::ReadLatencyNs), Some(305.0));
//! # Ok::<(), tierscope_tiers::TiersError>(())
//! ```

mod error;
mod parse;
mod presets;
mod quantity;
mod size;
mod tier;
mod value;
mod write;

pub use error::TiersError;
pub use presets::{names, preset, text};
pub use quantity::Quantity;
pub use size::{bytes_of, exact_bytes, human_bytes};
pub use tier::{Amplification, Backend, Figure, Origin, Tier, Tiers, is_name};

/// What a tier file says in its first line.
pub const SCHEMA: &str = "tierscope.tiers/1";
