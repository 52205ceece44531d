//! `tierscope eval --program`: a program that is worth placing, and programs that are not.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Outcome, Program, read, run, tierscope};
use crate::needs::{Need, have};

/// A part of the table that is shipped: little is learnt from it, soon.
fn table() -> &'static Path {
    static TABLE: OnceLock<TempDir> = OnceLock::new();
    let table = TABLE.get_or_init(|| {
        let directory = tempfile::tempdir().unwrap();
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/data");
        for name in ["objects.csv", "sets.csv"] {
            let text = read(&shipped.join(name));
            let wanted = |line: &&str| {
                ["program,", "chase,", "pr,", "random,", "stream,"].iter().any(|start| line.starts_with(start))
            };
            let part: String = text.lines().filter(wanted).flat_map(|line| [line, "\n"]).collect();
            std::fs::write(directory.path().join(name), part).unwrap();
        }
        directory
    });
    table.path()
}

/// The program, compiled once for all tests.
fn tables() -> &'static Program {
    static PROGRAM: OnceLock<Program> = OnceLock::new();
    PROGRAM.get_or_init(|| Program::compile("gcc", &["-O1", "-g", "-Wall", "-Wextra", "-Werror"], "two_tables.c"))
}

fn eval(options: &[&str]) -> Command {
    let mut command = tierscope();
    command.arg("eval").arg("--table").arg(table()).args(["--program", "--llc", "256KiB/16", "--l2", "none"]);
    command.args(options).arg("--");
    command
}

fn json(outcome: &Outcome) -> Value {
    serde_json::from_str(&outcome.stdout).unwrap_or_else(|error| panic!("{error}: {outcome:?}"))
}

#[test]
fn a_program_is_evaluated_from_scratch_and_goes_on_from_what_was_kept() {
    if !have(&[Need::C, Need::Qemu]) {
        return;
    }
    let kept = tempfile::tempdir().unwrap();
    let kept = kept.path().join("kept");
    let options = ["--max-instructions", "20M", "--sample-every", "13", "--keep", kept.to_str().unwrap()];
    let outcome = run(eval(&options).args(tables().line()).arg("large")).expect(0);
    for words in ["two_tables: ", "allocate_chased", "ranker", "soar-aol", "oracle", "nominally 90 %"] {
        assert!(outcome.stdout.contains(words), "{words}: {outcome:?}");
    }
    assert!(!outcome.stdout.contains("chased to"), "what the program prints is for nobody: {outcome:?}");
    assert!(outcome.stderr.contains("3/3: simulating"), "{outcome:?}");

    let with_json = [&options[..], &["--json"]].concat();
    let again = run(eval(&with_json).args(tables().line()).arg("large")).expect(0);
    let found = json(&again);
    assert!(found["abstains"].is_null() && found["program"] == "two_tables", "{found:#}");
    let pair = &found["pairs"][0];
    let object = |name: &str| {
        let mut objects = pair["objects"].as_array().unwrap().iter();
        objects.find(|object| object["name"].as_str().unwrap().contains(name)).unwrap().clone()
    };
    let cost = |name: &str| object(name)["criticality"].as_f64().unwrap();
    // As many lines of either are read; only those of one wait for each other.
    assert!(cost("allocate_chased") > 3.0 * cost("allocate_scattered"), "{pair:#}");
    // Blocks that are too small to be recorded count with what they are together.
    let nodes = object("allocate_node")["bytes"].as_u64().unwrap();
    assert!((39_000 * 48..40_000 * 64).contains(&nodes), "{pair:#}");
    assert!(found["paired_objects"].as_u64() >= Some(2), "{found:#}");
    for family in pair["families"].as_array().unwrap() {
        let slowdown = |ranker: &str| {
            let mut rows = family["rows"].as_array().unwrap().iter();
            let half = |row: &&Value| row["ranker"] == ranker && row["budget"] == 0.5;
            rows.find(half).unwrap_or_else(|| panic!("{ranker}: {family:#}"))["slowdown"].as_f64().unwrap()
        };
        assert!(slowdown("oracle") < 0.8 * slowdown("random"), "{family:#}");
        // Soar has its counters.
        assert!(slowdown("soar-aol") >= slowdown("oracle"), "{family:#}");
    }

    let other = run(eval(&options).args(tables().line()).arg("small")).expect(3);
    assert!(other.stderr.contains("has the runs of another command"), "{other:?}");
}

#[test]
fn a_program_without_anything_to_place_is_told_so() {
    if !have(&[Need::C, Need::Qemu]) {
        return;
    }
    // What is read first is in the caches when counting begins.
    let options = ["--fast-forward", "2M", "--warm-up", "5M", "--max-instructions", "10M"];
    let outcome = run(eval(&options).args(tables().line()).arg("small")).expect(0);
    assert!(outcome.stdout.starts_with("two_tables: abstains: "), "{outcome:?}");
    assert!(outcome.stdout.contains("none of them reaches memory") && outcome.stdout.contains("32 KiB"), "{outcome:?}");
    let with_json = [&options[..], &["--json"]].concat();
    let found = json(&run(eval(&with_json).args(tables().line()).arg("small")).expect(0));
    assert!(found["abstains"]["reason"] == "no-misses" && found["pairs"].as_array().unwrap().is_empty(), "{found:#}");
}

#[test]
fn a_run_that_says_nothing_is_no_reason_to_abstain() {
    if !have(&[Need::C, Need::Qemu]) {
        return;
    }
    let options = ["--from-mark", "never", "--max-instructions", "10M"];
    let refused = run(eval(&options).args(tables().line()).arg("large")).expect(3);
    assert!(refused.stderr.contains("instructions none were simulated"), "{refused:?}");
    let failed = run(eval(&[]).args(["sh", "-c", "exit 4"])).expect(3);
    assert!(failed.stderr.contains("failed (exit status 4)"), "{failed:?}");
}

#[test]
fn what_cannot_be_evaluated_is_refused_before_anything_is_run() {
    let mut command = tierscope();
    let refused =
        run(command.args(["eval", "--table", "nowhere", "--program", "--", "/nonexistent/program"])).expect(3);
    assert!(refused.stderr.contains("/nonexistent/program"), "{refused:?}");
    let mut command = tierscope();
    let refused = run(command.args(["eval", "--table", "nowhere", "--program"])).expect(2);
    assert!(refused.stderr.contains("CMD"), "{refused:?}");
    let mut command = tierscope();
    let refused = run(command.args(["eval", "--table", "nowhere", "--llc", "1MiB"])).expect(2);
    assert!(refused.stderr.contains("--program"), "{refused:?}");
}
