//! What a run leaves in its directory, and how to read it back.
//!
//! | file | what |
//! |---|---|
//! | [`CONFIG_FILE`] | [`TracerConfig`](crate::TracerConfig), written by whoever starts QEMU |
//! | [`OUTCOME_FILE`] | [`TracerOutcome`] as JSON, put there by rename when everything is over |
//! | [`SAMPLES_FILE`], [`ALLOCATIONS_FILE`] | rows, see [`rows`](crate::rows) |
//! | [`PROGRESS_FILE`] | how far it is, see [`Progress`](crate::Progress) |

use serde::{Deserialize, Serialize};
use std::path::Path;
use tierscope_sim::Outcome;

/// Name of the configuration.
pub const CONFIG_FILE: &str = "config.json";
/// Name of the outcome.
pub const OUTCOME_FILE: &str = "outcome.json";
/// Name of the emulated samples.
pub const SAMPLES_FILE: &str = "samples.bin";
/// Name of the allocations.
pub const ALLOCATIONS_FILE: &str = "allocations.bin";
/// Name of the progress words.
pub const PROGRESS_FILE: &str = "progress.bin";

/// QEMU's exit status when the simulation stopped the program because it had counted
/// [`max_instructions`](tierscope_sim::Config::max_instructions).
pub const STOPPED_STATUS: i32 = 125;

/// Why the simulation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// The program exited.
    Exited,
    /// A signal is killing it. What other threads did in their last few thousand instructions is missing.
    Killed {
        /// The signal.
        signal: i32,
    },
    /// It became another program (`execve`), which is not followed.
    Replaced,
    /// Enough was counted; the program was stopped with [`STOPPED_STATUS`].
    Stopped,
}

/// What the tracer could not see or tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Losses {
    /// Marked system calls that made no sense.
    pub senseless_messages: u64,
    /// Blocks, of which the call stack was not known.
    pub unknown_stacks: u64,
    /// Executions of blocks that were left before their end (a fault, a signal handler).
    pub blocks_left_early: u64,
    /// Samples and allocations that could not be written.
    pub rows_not_written: u64,
}

/// Everything that came of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TracerOutcome {
    /// Why it ended.
    pub ended: Ended,
    /// Whether the shim was in the program: without it there are no heap objects.
    pub shim: bool,
    /// Wall-clock seconds from the first block to the end.
    pub seconds: f64,
    /// What is missing.
    pub losses: Losses,
    /// What the simulation found.
    pub outcome: Outcome,
}

/// An outcome that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum OutcomeError {
    /// The file is not there or cannot be read.
    #[error("{path}: {error}; the tracer writes it when the program ends")]
    Read {
        /// The file.
        path: String,
        /// Why.
        error: std::io::Error,
    },
    /// It is not what the tracer writes.
    #[error("{path} is no outcome of this version: {error}")]
    Parse {
        /// The file.
        path: String,
        /// Why.
        error: serde_json::Error,
    },
}

impl TracerOutcome {
    /// Reads the outcome of a run.
    ///
    /// # Errors
    ///
    /// [`OutcomeError`].
    pub fn read(directory: &Path) -> Result<TracerOutcome, OutcomeError> {
        let file = directory.join(OUTCOME_FILE);
        let path = || file.display().to_string();
        let text = std::fs::read(&file).map_err(|error| OutcomeError::Read { path: path(), error })?;
        serde_json::from_slice(&text).map_err(|error| OutcomeError::Parse { path: path(), error })
    }
}
