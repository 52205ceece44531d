//! A model of a machine's memory: what every object of a program costs in every tier.
//!
//! Someone else runs the program and hands over what it executes: translated blocks ([`Block`]), the addresses each execution of
//! one touched ([`Access`]), and what happened to its memory ([`Event`]), each with the number of the thread that did it. The
//! [`Config`] says which machine is modelled ([`Machine`]), with which tiers ([`Tier`]), and which placements are compared. The
//! [`Outcome`] has exact counts for every object.
//!
//! **What it is.** A pure library: no files, no threads, no clock, no randomness. The same calls give the same outcome.
//!
//! **What it is not.** Cycle-accurate. `docs/simulator.md` says for each part what is modelled, after which source, and what
//! is left out.
//!
//! **What the caller must do.** Call in the order the program did things, as far as there is one order: what one thread does in
//! program order, and an [`Event`] before the first access that depends on it. Several threads need one lock around it.

mod array;
pub mod block;
pub mod config;
pub mod counts;
pub mod event;
mod extent;
mod first_level;
mod hierarchy;
mod line;
pub mod machine;
pub mod memory_mode;
pub mod objects;
pub mod outcome;
mod placing;
mod prefetch;
mod private;
pub mod processors;
mod recency;
pub mod served;
mod simulator;
pub mod steps;
mod streamer;
mod stretches;
mod timed;
mod times;
pub mod timing;
mod tlb;
pub mod windows;

pub use block::{Access, Block, Class, Op, Registers};
pub use config::{AtMark, Config, ConfigError, Detail, Placement, Tier, TierSet, Windows};
pub use counts::{Counts, Totals};
pub use event::{Backing, Event, Frame, Rule, Target};
pub use machine::{Machine, MachineError};
pub use objects::{LAST_SLOT, ObjectId, ObjectKey, Place, SLOTTED_BYTES, Slots};
pub use outcome::{Allocation, Lane, LaneKind, Outcome, ROW_BYTES, Sample, Stretch};
pub use served::{Level, Served, Tlb, Traffic, TrafficKind};
pub use simulator::{Next, Progress, Simulator};
pub use steps::{Packed, Step, Steps};
