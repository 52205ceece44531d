//! What the preload shim and the agent say to each other, byte for byte.
//!
//! The shim runs inside a program that owes us nothing, and the agent must survive whatever that program does to the
//! memory they share. Both sides therefore agree on exactly this crate:
//!
//! * [`segment`]: one sealed memfd per process holds a header, a table of rings and the table of stacks. The shim
//!   creates it and hands it over with one non-blocking message ([`hello`]); nothing is ever answered, so a shim whose
//!   agent is stopped, dead or absent carries on.
//! * [`ring`]: one single-producer single-consumer ring per thread. A full ring costs the event, never time: the loss
//!   is counted by kind, so that *attempted = consumed + lost* holds exactly.
//! * [`event`]: the events, encoded in whole 64-bit words.
//! * [`stacks`]: an append-only table of interned call stacks; an event carries a 32-bit id.
//! * [`options`]: the environment variables by which the agent configures the shim.
//! * [`trace`]: what the shim tells a tracer instead, by system calls that do nothing.
//! * [`policy`]: the table of what to place where, and the counts of what came of it.
//!
//! # Trust
//!
//! The agent treats every word of the segment as hostile input: offsets are checked against the file's size, lengths
//! against what is left, and the memfd must be sealed against shrinking, or the target could make the agent fault by
//! truncating it. Nothing here panics on any content; fuzz targets hold it to that.
//!
//! # Non-goals
//!
//! No allocation (but in writing a policy table, feature `encode`), no system calls, no knowledge of how either side
//! obtained its mapping.

#![no_std]
#![cfg_attr(not(test), warn(clippy::indexing_slicing))]

#[cfg(test)]
extern crate std;

pub mod event;
pub mod hello;
pub mod options;
pub mod policy;
pub mod ring;
pub mod segment;
pub mod stacks;
mod sync;
pub mod trace;

pub use event::{DecodeError, Event, MAX_EVENT_WORDS};
pub use ring::{Consumer, Corrupt, LossKind, Losses, Producer, RingHeader, RingState};
pub use segment::{Geometry, GeometryError, Header};
pub use stacks::{MAX_FRAMES, StackId, StackTable};

/// Version of everything in this crate. Shim and agent are built together; a mismatch is refused, not guessed at.
pub const WIRE_VERSION: u32 = 1;
