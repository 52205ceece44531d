//! A program measured twice, and the rows of the labelled table that come of it.
//!
//! ```text
//! program ──record (clock)─> features of time ───────────────────────────────┐
//!                                                                            ├─> a row for each object and pair of tiers
//! program ──simulate───────> samples with levels ─> features of misses       │
//!                    │  └──> each object alone slow: labels ─────────────────┘
//!                    └─────> all subsets of the dearest ─────────────────────> a row for each set
//! ```
//!
//! `label` does it with workloads at two sizes, for others to learn from; `eval --program` with any program, for what was learnt to
//! be judged by. `native` records, `simulated` simulates, `pairing` finds the objects of one run in the other, `rows` makes rows.

pub(crate) mod native;
mod pairing;
pub(crate) mod rows;
pub(crate) mod simulated;

use crate::failure::Failure;
use std::os::fd::OwnedFd;

/// The runs of a program read the same input, where it is a file: each from its start.
fn rewind_input() {
    // A terminal or a pipe is read on: it cannot be read again.
    let _ = rustix::fs::seek(rustix::stdio::stdin(), rustix::fs::SeekFrom::Start(0));
}

/// While it lives, what programs that are started print goes nowhere; afterwards standard output is what it was.
pub(crate) struct Silence(OwnedFd);

impl Silence {
    pub(crate) fn begin() -> Result<Self, Failure> {
        let cannot = |error: std::io::Error| Failure::cannot(format!("cannot put standard output aside: {error}"));
        let kept = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3).map_err(|e| cannot(e.into()))?;
        let null = std::fs::OpenOptions::new().write(true).open("/dev/null").map_err(cannot)?;
        rustix::stdio::dup2_stdout(&null).map_err(|error| cannot(error.into()))?;
        Ok(Self(kept))
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        // It worked the other way round.
        let _ = rustix::stdio::dup2_stdout(&self.0);
    }
}
