//! The policy file: which object belongs in which tier, read, written, and compiled for the shim.
//!
//! A policy is a TOML file (`docs/policy.md`) that people read and edit. Three things follow:
//!
//! * [`Policy::parse`] reads a file completely or refuses it, and then says *everything* that is wrong with it, each with
//!   its place and with what to write instead: a mistyped key would silently place memory elsewhere.
//! * [`Policy::to_toml`] writes a file that explains itself, and [`update`] brings a new advice into a file without touching
//!   what a person wrote: their rules, their changes to ours, their comments.
//! * [`compile`] never fails. What cannot be found in the program as it is now (a site after a rebuild, a symbol that is
//!   gone) is left out and listed; the rest holds.
//!
//! # What the caller does
//!
//! Files and programs are not known here. Reading and writing files is the caller's, and so is looking into ELF files and
//! debug information, which it offers as [`Resolve`].
//!
//! ```
//! use tierscope_policy::Policy;
//! let policy = Policy::parse(
//!     "schema = \"tierscope.policy/1\"\n\
//!      [tiers.fast]\nbackend = \"numa\"\nnodes = [0]\n\
//!      [default]\ntier = \"fast\"\n",
//! )?;
//! assert_eq!(policy.tiers[0].name, "fast");
//! # Ok::<(), tierscope_policy::PolicyErrors>(())
//! ```

mod compile;
mod error;
mod parts;
mod policy;
mod read;
mod update;
mod write;

pub use compile::{Compiled, How, ModuleFile, Resolve, Unresolved, compile};
pub use error::{PolicyError, PolicyErrors};
pub use parts::{FrameName, SiteEntry, Sizes};
pub use policy::{By, Match, Origin, Policy, Program, Rule, Tier};
pub use tierscope_tiers::Backend;
pub use tierscope_wire::policy::room::{SLACK_BYTES, room};
pub use update::{Updated, update};

/// What a policy file says in its first line.
pub const SCHEMA: &str = "tierscope.policy/1";
