//! Tables for tests, and programs run by them.

#![allow(dead_code, unreachable_pub, missing_docs, reason = "each user needs a part of it")]

use std::path::Path;
use std::process::{Command, Output, Stdio};
use tierscope_wire::policy::stats::Snapshot;
use tierscope_wire::policy::{Backend, RuleSpec, Table, TableSpec, TierSpec, VARIABLE};

pub fn tier(name: &str, backend: Backend) -> TierSpec {
    TierSpec { name: name.into(), backend, capacity: None, nodes: vec![], weights: vec![], path: String::new() }
}

pub fn nodes(name: &str) -> TierSpec {
    TierSpec { nodes: vec![0], ..tier(name, Backend::Numa) }
}

pub fn file(name: &str, directory: &Path) -> TierSpec {
    TierSpec { path: directory.to_str().unwrap().into(), ..tier(name, Backend::File) }
}

/// A rule for every block of these sizes.
pub fn anywhere(tier: u16, least: u64, most: u64) -> RuleSpec {
    RuleSpec { tier, frames: vec![], min_bytes: least, max_bytes: most, ordinal: None, number: 1 }
}

pub struct Ran {
    /// What the program printed, and how it ended.
    pub output: Output,
    /// What came of the policy.
    pub stats: Snapshot,
}

impl Ran {
    /// As text.
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.output.stdout).into_owned()
    }
}

pub fn run_with(spec: &TableSpec, command: &mut Command) -> Ran {
    run_as(spec, command, super::tools::shim().to_str().unwrap())
}

/// With `preload` for `LD_PRELOAD`.
pub fn run_as(spec: &TableSpec, command: &mut Command, preload: &str) -> Ran {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("table");
    let bytes = spec.encode().unwrap();
    std::fs::write(&path, &bytes).unwrap();
    let output = command.env("LD_PRELOAD", preload).env(VARIABLE, &path).stdin(Stdio::null()).output().unwrap();
    let after = std::fs::read(&path).unwrap();
    let stats = Snapshot::read(&Table::parse(&bytes).unwrap(), &after).unwrap();
    Ran { output, stats }
}

pub fn run(spec: &TableSpec, program: &Path, arguments: &[&str]) -> Ran {
    run_with(spec, Command::new(program).args(arguments))
}

/// Everything a program allocates, in one tier.
pub fn all_in(tier: TierSpec) -> TableSpec {
    TableSpec { tiers: vec![tier], rules: vec![anywhere(0, 0, u64::MAX)], follow: true, ..TableSpec::default() }
}

pub fn scratch() -> tempfile::TempDir {
    // Not the temporary directory, which may be memory.
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}
