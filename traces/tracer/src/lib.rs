//! A QEMU plugin that feeds the simulator from a running program.
//!
//! `qemu-x86_64` runs the program; the plugin sees each block that is executed, each address that is accessed and each system call, and
//! hands them to [`tierscope_sim`] on a thread of its own. The preload shim, inside the program, tells it of allocations by system
//! calls that do nothing ([`tierscope_wire::trace`]). Nothing is written to disk but results.
//!
//! ```text
//! guest thread ── callbacks ──> log (a word per block, access, event) ── batches ──┐
//! guest thread ── callbacks ──> log ─────────────────────────── batches ──> link ──> simulation ──> simulator
//!                                                                                      └ guest: modules, sites, mappings
//! ```
//!
//! # How it is started
//!
//! ```text
//! LD_PRELOAD=/priv/tracer.so qemu-x86_64 -plugin /priv/tracer.so,config=/priv/config.json \
//!     -E LD_PRELOAD=/priv/shim.so -E 'TIERSCOPE_PRELOAD=trace=1;follow=0' /absolute/program arguments
//! ```
//!
//! `tracer.so` is [`plugin_file::with_version`] of the built library. The first `LD_PRELOAD` is QEMU's own: by it the plugin hears
//! that a signal is about to kill the guest, of which QEMU tells plugins nothing; without it there is no outcome in that case. The
//! second is the guest's; statically linked programs run without (`-U LD_PRELOAD`), and then have globals, stacks and mappings but
//! no blocks. The library is built by
//!
//! ```text
//! cargo build -p tierscope-tracer --lib --profile plugin --features plugin
//! ```
//!
//! Without the feature this crate is what writes its configuration and reads its results: [`TracerConfig`], [`TracerOutcome`],
//! [`rows`], [`Progress`].
//!
//! # What is not followed
//!
//! Child processes (they run natively or unrecorded) and programs the process becomes by `execve`. Of shared memory of System V
//! (`shmat`) it is not known where it lies. With several threads, what one does is seen in order, and before a system call of it
//! takes effect; between system calls their order is that of batches of some thousand instructions.

#![cfg_attr(not(feature = "plugin"), allow(dead_code, reason = "the plugin's own"))]

mod callbacks;
mod config;
pub mod decode;
mod guest;
mod happening;
mod link;
mod loaded;
mod log;
mod modules;
mod outcome;
mod output;
#[cfg(feature = "plugin")]
mod plugin;
pub mod plugin_file;
mod policy;
mod progress;
mod qemu;
pub mod rows;
mod simulation;
mod sites;
mod steps;
mod system_calls;
mod translate;

pub use config::{ConfigError, PolicyConfig, TracerConfig};
pub use outcome::{
    ALLOCATIONS_FILE, CONFIG_FILE, Ended, Losses, OUTCOME_FILE, OutcomeError, PROGRESS_FILE, SAMPLES_FILE,
    STOPPED_STATUS, TracerOutcome,
};
pub use progress::Progress;
