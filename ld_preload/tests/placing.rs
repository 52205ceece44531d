//! Policies carried out by the shim, without an agent: tables from a file, programs, and the statistics they leave.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by them")]

#[path = "support/build.rs"]
mod tools;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tierscope_wire::policy::stats::Snapshot;
use tierscope_wire::policy::{Backend, FrameSpec, ModuleSpec, RuleSpec, Table, TableSpec, TierSpec, VARIABLE};

fn tier(name: &str, backend: Backend) -> TierSpec {
    TierSpec { name: name.into(), backend, capacity: None, nodes: vec![], weights: vec![], path: String::new() }
}

fn nodes(name: &str) -> TierSpec {
    TierSpec { nodes: vec![0], ..tier(name, Backend::Numa) }
}

fn file(name: &str, directory: &Path) -> TierSpec {
    TierSpec { path: directory.to_str().unwrap().into(), ..tier(name, Backend::File) }
}

/// A rule for every block of these sizes.
fn anywhere(tier: u16, least: u64, most: u64) -> RuleSpec {
    RuleSpec { tier, frames: vec![], min_bytes: least, max_bytes: most, ordinal: None, number: 1 }
}

/// Where the calls of a function of a program return to.
fn calls_in(program: &Path, function: &str) -> FrameSpec {
    assert!(tools::have_command("nm"));
    let output = Command::new("nm").arg("-S").arg(program).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().find(|line| line.ends_with(&format!(" {function}"))).expect(function);
    let number = |at: usize| u64::from_str_radix(line.split(' ').nth(at).unwrap(), 16).unwrap();
    FrameSpec { module: 0, ranges: vec![(number(0) + 1, number(0) + number(1) + 1)] }
}

struct Ran {
    output: Output,
    stats: Snapshot,
}

impl Ran {
    fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.output.stdout).into_owned()
    }
}

fn run_with(spec: &TableSpec, command: &mut Command) -> Ran {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("table");
    let bytes = spec.encode().unwrap();
    std::fs::write(&path, &bytes).unwrap();
    let output = command.env("LD_PRELOAD", tools::shim()).env(VARIABLE, &path).stdin(Stdio::null()).output().unwrap();
    let after = std::fs::read(&path).unwrap();
    let stats = Snapshot::read(&Table::parse(&bytes).unwrap(), &after).unwrap();
    Ran { output, stats }
}

fn run(spec: &TableSpec, program: &Path, arguments: &[&str]) -> Ran {
    run_with(spec, Command::new(program).args(arguments))
}

/// Everything a program allocates, in one tier.
fn all_in(tier: TierSpec) -> TableSpec {
    TableSpec { tiers: vec![tier], rules: vec![anywhere(0, 0, u64::MAX)], follow: true, ..TableSpec::default() }
}

fn scratch() -> tempfile::TempDir {
    // Not the temporary directory, which may be memory.
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn done(ran: &Ran) {
    assert_eq!((ran.stdout().as_str(), ran.output.status.code()), ("done\n", Some(0)), "{:?}", ran.output);
}

fn program() -> PathBuf {
    tools::program("placed")
}

#[test]
fn a_program_with_every_block_in_a_tier_of_nodes_does_what_it_did() {
    for part in ["sizes", "growing", "alignments", "threads", "forks", "others"] {
        let ran = run(&all_in(nodes("other")), &program(), &[part]);
        done(&ran);
        let tier = &ran.stats.tiers[0];
        assert!(tier.blocks > 0 && tier.bytes_peak > 0, "{part}: {tier:?}");
        assert_eq!(
            (tier.failures, tier.spilled_blocks),
            (0, if part == "growing" { 1 } else { 0 }),
            "{part}: {tier:?}"
        );
        assert_eq!(ran.stats.rules[0].blocks, tier.blocks, "{part}");
    }
}

#[test]
fn a_program_with_every_block_in_a_file_does_what_it_did() {
    let directory = scratch();
    for part in ["sizes", "growing", "alignments", "threads", "forks", "others"] {
        let ran = run(&all_in(file("disk", directory.path())), &program(), &[part]);
        done(&ran);
        let tier = &ran.stats.tiers[0];
        assert!(tier.blocks > 0 && tier.failures == 0, "{part}: {tier:?}");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "nothing is left behind");
    }
}

#[test]
fn what_a_tier_cannot_hold_goes_elsewhere_and_is_counted() {
    let full = TierSpec { capacity: Some(1 << 20), ..nodes("small") };
    for part in ["sizes", "growing", "alignments", "threads"] {
        let ran = run(&all_in(full.clone()), &program(), &[part]);
        done(&ran);
        let counted = &ran.stats.tiers[0];
        assert!(counted.spilled_blocks > 0 && counted.spilled_bytes > 1 << 20, "{part}: {counted:?}");
        assert!(counted.bytes_peak <= 1 << 20, "{part}: {counted:?}");
    }
}

#[test]
fn a_tier_that_cannot_be_had_costs_nothing_but_itself() {
    let directory = scratch();
    for (name, tier, errno) in [
        ("a node that is not there", TierSpec { nodes: vec![1023], ..tier("far", Backend::Numa) }, libc::EINVAL),
        ("a directory that is not there", file("gone", &directory.path().join("gone")), libc::ENOENT),
        ("a file in place of a directory", file("file", Path::new("/etc/hostname")), libc::ENOTDIR),
        ("a device", TierSpec { path: "/dev/null".into(), ..tier("dax", Backend::Dax) }, libc::EOPNOTSUPP),
    ] {
        let ran = run(&all_in(tier), &program(), &["sizes"]);
        done(&ran);
        let counted = &ran.stats.tiers[0];
        assert_eq!((counted.blocks, counted.last_errno), (0, errno as u64), "{name}: {counted:?}");
        assert!(counted.spilled_blocks >= 45, "{name}: {counted:?}");
    }
}

#[test]
fn rules_hold_for_the_stacks_they_name() {
    let program = program();
    let rule = |tier, function: &str, least, most| RuleSpec {
        tier,
        frames: vec![calls_in(&program, function), calls_in(&program, "sizes")],
        min_bytes: least,
        max_bytes: most,
        ordinal: None,
        number: 1,
    };
    let spec = TableSpec {
        tiers: vec![nodes("a"), nodes("b")],
        modules: vec![ModuleSpec { name: "placed".into(), build_id: vec![] }],
        rules: vec![rule(0, "one", 4096, u64::MAX), rule(1, "zeroed", 0, 5000), rule(1, "aligned", 0, u64::MAX)],
        follow: true,
        ..TableSpec::default()
    };
    let ran = run(&spec, &program, &[]);
    done(&ran);
    // Of the fifteen sizes, eight are 4096 or more and nine at most 5000; `sizes` calls `one` in two of three rounds.
    let blocks = |at: usize| ran.stats.rules[at].blocks;
    assert_eq!((blocks(0), blocks(1), blocks(2)), (16, 9, 0), "{:?}", ran.stats);
    assert_eq!(ran.stats.tiers.iter().map(|tier| tier.bytes_now()).sum::<u64>(), 0);
    assert!(ran.stats.general.unmatched_blocks > 1000);
    assert!(ran.stats.general.lookup_hits > 0);
}

#[test]
fn a_rule_for_another_build_does_not_hold() {
    let program = program();
    let frames = vec![calls_in(&program, "one")];
    let rule = RuleSpec { tier: 0, frames, min_bytes: 0, max_bytes: u64::MAX, ordinal: None, number: 1 };
    let spec = |build_id: Vec<u8>| TableSpec {
        tiers: vec![nodes("a")],
        modules: vec![ModuleSpec { name: String::new(), build_id }],
        rules: vec![rule.clone()],
        follow: true,
        ..TableSpec::default()
    };
    let ran = run(&spec(vec![1; 20]), &program, &["sizes"]);
    done(&ran);
    assert_eq!((ran.stats.rules[0].blocks, ran.stats.general.modules_differing), (0, 1));
    let ran = run(&spec(vec![]), &program, &["sizes"]);
    done(&ran);
    assert_eq!((ran.stats.rules[0].blocks, ran.stats.general.modules_differing), (30, 0));
}

#[test]
fn nonsense_in_place_of_a_table_changes_nothing() {
    let directory = scratch();
    for bytes in [&b""[..], b"tierplcy", &[0; 4096]] {
        let path = directory.path().join("table");
        std::fs::write(&path, bytes).unwrap();
        let output = Command::new(program())
            .arg("sizes")
            .env("LD_PRELOAD", tools::shim())
            .env(VARIABLE, &path)
            .output()
            .unwrap();
        assert_eq!((&*output.stdout, output.status.code()), (&b"done\n"[..], Some(0)));
    }
}
