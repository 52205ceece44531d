//! `tierscope doctor`: what works here, what that means, and the command that mends what does not.
//!
//! Evidence and judgement are kept apart. Evidence is the files of `/proc` and `/sys` below a [`Root`], and [`Probes`]:
//! system calls that are really made, because knobs lie (a seccomp filter denies what `perf_event_paranoid` allows, a
//! kernel has the soft-dirty interface and no soft-dirty bits). Judgement is pure, so the machines that are not on the
//! desk (a container, a machine with CXL memory, an AMD server) are fixture trees in the tests.
//!
//! Nothing is disturbed: no setting is written, every probe acts on memory, descriptors and a child of this process
//! alone, and is undone before it returns. DAMON is not looked at.

mod attach;
mod capability;
mod check;
mod host;
mod machine;
mod pages;
mod probes;
mod render;
mod sampling;
mod target;
mod tiers;

use std::ffi::OsString;

pub use check::{Area, Check, Report, Status};
pub use machine::Machine;
pub use probes::{DirectoryProbe, Errno, Probes, TargetProbes};
pub use tierscope_machine::Root;

/// What to examine besides the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// Nothing.
    Machine,
    /// A running process.
    Process(u32),
    /// A command that would be started: its program, then its arguments.
    Command(Vec<OsString>),
}

/// Examine the machine this runs on, and the subject.
pub fn examine(subject: &Subject) -> Report {
    examine_machine(&Machine::here(), subject)
}

/// Examine a machine as described, and the subject on it.
pub fn examine_machine(machine: &Machine, subject: &Subject) -> Report {
    let mut checks = match subject {
        Subject::Machine => Vec::new(),
        Subject::Process(pid) => target::process(machine, *pid),
        Subject::Command(command) => target::command(command),
    };
    checks.extend(sampling::checks(machine));
    checks.extend(attach::checks(machine));
    checks.extend(tiers::checks(machine));
    checks.extend(pages::checks(machine));
    checks.extend(host::checks(machine));
    Report::new(checks)
}
