//! Writes a policy table to try and to time the shim with, without a policy file and without resolving anything.
//!
//! ```text
//! table FILE all                 every block in one tier of node 0
//! table FILE sizes N             N rules for sizes that no program asks for
//! table FILE callers N MODULE    N rules for any size, for callers in MODULE that do not exist
//! ```

use std::process::ExitCode;
use tierscope_wire::policy::{Backend, FrameSpec, ModuleSpec, RuleSpec, TableSpec, TierSpec};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (path, rules, module) = match words[..] {
        [path, "all"] => (path, vec![rule(vec![], 0, u64::MAX, 1)], ""),
        [path, "sizes", count] => (path, many(count, |number| rule(vec![], 1 << 50, 1 << 51, number)), ""),
        [path, "callers", count, module] => (path, many(count, caller), module),
        _ => return failed("table FILE all | sizes N | callers N MODULE"),
    };
    let node = TierSpec {
        name: "node".into(),
        backend: Backend::Numa,
        capacity: None,
        nodes: vec![0],
        weights: vec![],
        path: String::new(),
    };
    let spec = TableSpec {
        tiers: vec![node],
        modules: vec![ModuleSpec { name: module.into(), build_id: vec![] }],
        rules,
        follow: true,
        ..TableSpec::default()
    };
    let written = spec
        .encode()
        .map_err(|error| error.to_string())
        .and_then(|bytes| std::fs::write(path, bytes).map_err(|error| format!("cannot write {path}: {error}")));
    written.map_or_else(|error| failed(&error), |()| ExitCode::SUCCESS)
}

fn many(count: &str, make: impl Fn(u32) -> RuleSpec) -> Vec<RuleSpec> {
    (1..=count.parse().unwrap_or(100)).map(make).collect()
}

fn rule(frames: Vec<FrameSpec>, min_bytes: u64, max_bytes: u64, number: u32) -> RuleSpec {
    RuleSpec { tier: 0, frames, min_bytes, max_bytes, ordinal: None, number }
}

/// A rule of three frames, as one of a large program would be. The addresses are far from any code.
fn caller(number: u32) -> RuleSpec {
    let frame = |at: u64| FrameSpec { module: 0, ranges: vec![(at, at + 1)] };
    let first = (1 << 40) + u64::from(number) * 0x1235;
    rule(vec![frame(first), frame(first + 999), frame(first + 5555)], 0, u64::MAX, number)
}

fn failed(why: &str) -> ExitCode {
    eprintln!("{why}");
    ExitCode::from(2)
}
