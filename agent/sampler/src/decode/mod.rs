//! From a sample to the address it waited for.
//!
//! `instruction` says what one instruction does to memory and registers, `flow` and `dominators` which instruction can
//! have come before which, `path` walks back along that, `slice` recovers what a register held along the way,
//! `rules` applies the rules in order, `dependence` applies one of them where there are no registers, and `resolver` keeps what was decoded.

mod access;
mod code;
mod dependence;
mod dominators;
mod flow;
mod instruction;
mod path;
mod resolver;
mod rules;
mod slice;
mod sweep;

pub use access::{Access, AccessKind, Quality, Rule};
pub use code::{Code, ProcessCode};
pub use resolver::Resolver;
