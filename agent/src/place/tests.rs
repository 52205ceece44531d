//! What is told of a run, from counts made by hand.

use super::kernel::Moves;
use super::outcome::{End, Outcome, RuleOutcome, objects as objects_of};
use super::*;
use crate::launch::Ended;
use serde_json::Value;
use tierscope_policy::{ModuleFile, Resolve};
use tierscope_wire::policy::stats::{FLAG_GAVE_UP, Snapshot};

#[path = "../../report/tests/schema/mod.rs"]
mod schema;

const SCHEMA: &str = include_str!("../../../docs/run.schema.json");
const DOCUMENT: &str = include_str!("../../../docs/run-json.md");
const MIB: u64 = 1 << 20;

/// A rebuilt program with two calls of `make_index` and a global.
struct Rebuilt;

impl Resolve for Rebuilt {
    fn module(&self, name: &str) -> Option<ModuleFile> {
        (name == "app").then(|| ModuleFile { build_id: vec![2], is_program: true, real_name: None })
    }
    fn return_addresses(&self, _: &str, function: &str, _: Option<(&str, u32)>) -> Vec<(u64, u64)> {
        let addresses = if function == "make_index" { vec![0x10, 0x20] } else { Vec::new() };
        addresses.into_iter().map(|address| (address, address + 1)).collect()
    }
    fn globals(&self, _: &str, symbol: &str) -> Vec<(u64, u64)> {
        vec![(0x4000, 8 * MIB); usize::from(symbol == "weights")]
    }
    fn program(&self) -> Option<String> {
        Some("app".into())
    }
}

const POLICY: &str = r#"
schema = "tierscope.policy/1"
[program]
name = "app"
build_id = "01"
[program.modules]
"plugin.so" = "09"
[tiers.fast]
backend = "numa"
nodes = [0, 1]
capacity = "64 MiB"
[tiers.slow]
backend = "file"
dir = "/mnt/tier"
[default]
tier = "slow"
[[rule]]
tier = "fast"
site = ["app+0x1", "app+0x2", "app+0x3"]
frames = ["make_index index.c:14", "make_index index.c:20", "make_index index.c:30"]
[[rule]]
tier = "fast"
site = ["app+0x4"]
frames = ["gone app.c:99"]
[[rule]]
tier = "fast"
symbol = "weights"
[[rule]]
tier = "fast"
site = ["plugin.so+0x4"]
[[rule]]
tier = "slow"
size = "1 MiB..2 MiB"
"#;

fn prepared() -> Prepared {
    let policy = Policy::parse(POLICY).unwrap_or_else(|errors| panic!("{errors}"));
    let compiled = compile(&policy, &Rebuilt);
    let table = compiled.spec.encode().unwrap();
    let program = Program::find("true").unwrap();
    Prepared { policy, program, compiled, table, warnings: vec!["the disk is slow".into()] }
}

fn counts() -> Snapshot {
    let mut counts = Snapshot {
        tiers: vec![Default::default(); 2],
        rules: vec![Default::default(); 3],
        globals: vec![Default::default(); 1],
        ..Snapshot::default()
    };
    counts.general.processes = 3;
    counts.general.unmatched_blocks = 7;
    counts.general.unmatched_bytes = 3 * MIB;
    counts.general.modules_differing = 2;
    counts.general.lookups = 40;
    counts.general.lookup_hits = 30;
    counts.general.no_stack = 1;
    let fast = &mut counts.tiers[0];
    (fast.blocks, fast.bytes_total, fast.bytes_peak) = (12, 192 * MIB, 64 * MIB);
    (fast.spilled_blocks, fast.spilled_bytes) = (2, 32 * MIB);
    let slow = &mut counts.tiers[1];
    (slow.blocks, slow.bytes_total, slow.bytes_peak) = (1, 5, 5);
    (slow.failures, slow.last_errno) = (3, 28);
    let first = &mut counts.rules[0];
    (first.blocks, first.bytes_total, first.bytes_peak, first.spilled_blocks, first.spilled_bytes) =
        (12, 192 * MIB, 64 * MIB, 2, 32 * MIB);
    counts.globals[0].bytes_moved = 8 * MIB;
    counts
}

fn outcome(counts: &Snapshot, ended: Ended, kernel: Option<Moves>) -> Outcome {
    let end = End { ended, duration_s: 1.5, kernel };
    Outcome::new(Path::new("app.policy.toml"), vec!["./app".into(), "-x".into()], &prepared(), counts, &end)
}

#[test]
fn the_summary_tells_tiers_rules_and_everything_that_did_not_go_as_meant() {
    let moves = Moves { pages_demoted: 1, pages_promoted: 300, pages_balanced: 350 };
    insta::assert_snapshot!(summary::render(&outcome(&counts(), Ended::Exited(0), Some(moves))));
}

#[test]
fn of_a_run_without_the_library_it_is_said_what_may_be_the_reason() {
    let kernel = Some(Moves::default());
    insta::assert_snapshot!(summary::render(&outcome(&Snapshot::default(), Ended::Exited(0), kernel)));
}

#[test]
fn a_site_is_shown_by_its_names_or_by_the_end_of_its_addresses() {
    let objects = |site: &str, frames: &str, more: &str| {
        let text = format!(
            "schema = \"tierscope.policy/1\"\n[tiers.a]\nbackend = \"default\"\n[default]\ntier = \"a\"\n\
             [[rule]]\ntier = \"a\"\nsite = {site}\nframes = {frames}\n{more}"
        );
        objects_of(&Policy::parse(&text).unwrap_or_else(|errors| panic!("{errors}")).rules[0])
    };
    assert_eq!(objects(r#"["a+0x1"]"#, r#"["f(int) a.c:3"]"#, "size = \"< 4 KiB\""), "f(int) a.c:3, < 4 KiB");
    assert_eq!(objects(r#"["a+0x1", "a+0x2"]"#, r#"["", "a+0x2"]"#, "ordinal = 2"), "a+0x1 < a+0x2, slot 2");
    let long = objects(r#"["a_library_with_a_very_long_name.cpython-311.so+0xde138"]"#, "[]", "");
    assert_eq!((long.as_str(), long.chars().count()), ("…a_very_long_name.cpython-311.so+0xde138", 40));
}

#[test]
fn what_did_not_happen_is_not_mentioned() {
    let mut quiet = counts();
    quiet.general = Default::default();
    quiet.general.processes = 1;
    quiet.tiers[0].spilled_blocks = 0;
    quiet.tiers[1].failures = 0;
    let text = summary::render(&outcome(&quiet, Ended::Exited(0), None));
    for absent in ["kernel", "no rule matched", "than the policy's", "could not be had", "processes", "left alone"] {
        assert!(!text.contains(absent), "{absent}: {text}");
    }
    assert!(text.starts_with("tierscope: placed 13 blocks by app.policy.toml\n"), "{text}");
}

#[test]
fn many_rules_are_told_by_the_largest_and_counted() {
    let mut outcome = outcome(&counts(), Ended::Exited(0), None);
    let one = RuleOutcome { spilled_bytes: 0, ..outcome.rules[0].clone() };
    outcome.rules = (1..=15).map(|rule| RuleOutcome { rule, bytes: u64::from(rule), ..one.clone() }).collect();
    outcome.rules.extend((16..=37).map(|rule| RuleOutcome { rule, blocks: 0, spilled_blocks: 0, ..one.clone() }));
    let text = summary::render(&outcome);
    assert!(text.contains("rule 15 ->") && !text.contains("rule 3 ->"), "{text}");
    assert!(text.contains("and 3 smaller rules (--stats FILE has all)"), "{text}");
    assert!(text.contains("rule 35 ->") && !text.contains("rule 36 ->"), "{text}");
    assert!(text.contains("and 2 more rules that matched nothing (--stats FILE has all)"), "{text}");
}

#[test]
fn the_json_is_as_it_is_published() {
    let root: Value = serde_json::from_str(SCHEMA).unwrap();
    let mut failed = counts();
    failed.general.flags = FLAG_GAVE_UP;
    failed.general.last_errno = 12;
    failed.globals[0].errno = 95;
    let moves = Some(Moves::default());
    for outcome in [
        outcome(&counts(), Ended::Exited(3), moves),
        outcome(&failed, Ended::Killed(9), None),
        outcome(&Snapshot::default(), Ended::Exited(0), moves),
    ] {
        let value = serde_json::to_value(&outcome).unwrap();
        schema::check(&root, &root, &value, "run");
        schema::described(&root, &root, DOCUMENT, &value, "");
    }
    let value = serde_json::to_value(outcome(&failed, Ended::Killed(9), None)).unwrap();
    assert_eq!((&value["exit_status"], &value["signal"], &value["gave_up"]), (&137.into(), &9.into(), &true.into()));
    assert_eq!(value["rules"][2]["bytes_moved"], 8 * MIB);
    assert_eq!(value["rules"][2]["error"], "Operation not supported (os error 95)");
    assert_eq!(value["rules"][1]["found"], Value::Null);
    assert_eq!(value["rules"][3]["found"], "later");
}
