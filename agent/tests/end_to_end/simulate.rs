//! `tierscope simulate` on a program whose cost in slow memory is known without a simulator: what is chased pays the latency of
//! every step, what is streamed pays its bytes, what is in the cache pays nothing.

use std::path::Path;
use std::sync::OnceLock;

use serde_json::Value;

use crate::harness::{Outcome, Program, read, run, tierscope};
use crate::needs::{Need, have};

/// Fast: 100 ns, 100 GB/s. Slow: 300 ns, 5 GB/s. At 3 GHz that is 300 and 900 cycles, and 2 and 38 cycles a line.
const TIERS: &str = r#"
schema = "tierscope.tiers/1"
[tiers.near]
read_latency_ns = 100
read_bandwidth_gbs = 100
write_bandwidth_gbs = 100
[tiers.far]
read_latency_ns = 300
read_bandwidth_gbs = 5
write_bandwidth_gbs = 5
"#;

/// The slow tier of a stream: twenty lines, as far as prefetchers run ahead, take longer than the latency, so that bandwidth is what binds.
const NARROW: f64 = 2.0;

/// The latency ratio, less one.
const LATENCY: f64 = 2.0;
const LINES: f64 = 65536.0;

/// The program, compiled once for all tests.
fn patterns() -> &'static Program {
    static PROGRAM: OnceLock<Program> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let include = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ld_preload/include");
        let include = format!("-I{}", include.display());
        let program = Program::compile("gcc", &["-O1", "-g", "-Wall", "-Wextra", "-Werror", &include], "patterns.c");
        std::fs::write(program.directory.path().join("tiers.toml"), TIERS).unwrap();
        let narrow = TIERS.replace("bandwidth_gbs = 5", &format!("bandwidth_gbs = {NARROW}"));
        std::fs::write(program.directory.path().join("narrow.toml"), narrow).unwrap();
        program
    })
}

/// Simulates one pattern on a machine of known shape; its statistics are written to a file of that name.
fn simulate(name: &str, options: &[&str], work: &[&str]) -> Outcome {
    let program = patterns();
    let mut command = tierscope();
    command.current_dir(program.directory.path()).args(["simulate", "--ghz", "3"]);
    if !options.contains(&"--tiers") {
        command.args(["--tiers", "tiers.toml"]);
    }
    command.args([
        "--l1d",
        "32KiB/8",
        "--l2",
        "none",
        "--llc",
        "256KiB/16",
        "--from-mark",
        "work",
        "--to-mark",
        "done",
    ]);
    command.args(["-o", &format!("{name}.tsp"), "--stats", &format!("{name}.json")]).args(options);
    run(command.arg("--").args(program.line()).args(work))
}

#[track_caller]
fn statistics(name: &str) -> Value {
    let text = read(&patterns().directory.path().join(format!("{name}.json")));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[track_caller]
fn simulated(name: &str, options: &[&str], work: &[&str]) -> Value {
    simulate(name, options, work).expect(0);
    statistics(name)
}

/// The object that a function of the program allocated.
#[track_caller]
fn object<'a>(statistics: &'a Value, function: &str) -> &'a Value {
    let mut objects = statistics["objects"].as_array().unwrap().iter();
    let found = objects.find(|object| object["site"].to_string().contains(function));
    found.unwrap_or_else(|| panic!("no {function} in {statistics:#}"))
}

#[track_caller]
fn criticality(statistics: &Value, function: &str) -> f64 {
    object(statistics, function)["criticality"].as_f64().unwrap_or_else(|| panic!("{:#}", object(statistics, function)))
}

#[test]
fn what_is_chased_is_slower_by_the_latency_and_nothing_else_is() {
    if !have(&[Need::Qemu]) {
        return;
    }
    let found = simulated("chain", &[], &["chain", "100000"]);
    let chain = criticality(&found, "allocate_chain");
    assert!((0.9 * LATENCY..=LATENCY).contains(&chain), "{chain}");
    for other in ["allocate_scatter", "allocate_stream", "allocate_small"] {
        assert!(criticality(&found, other).abs() < 0.01, "{other}: {:#}", object(&found, other));
    }
    let chain = object(&found, "allocate_chain");
    assert_eq!(
        (chain["loads"].as_u64(), chain["stores"].as_u64()),
        (Some(100_000), Some(0)),
        "every access is counted"
    );
    // Of its 65536 lines no more than 4096 are in the cache when the work begins, and a full period passes between two visits
    // of one.
    let misses = chain["llc_misses"].as_u64().unwrap();
    assert!((100_000 - 4096..=100_000).contains(&misses), "{misses}");
    assert!(chain["bytes_read"].as_u64().unwrap() >= misses * 64);
    let profile = &found["profile"];
    let ratio = profile["cycles"].as_f64().unwrap() / profile["cycles_all_fast"].as_f64().unwrap();
    assert!((ratio - 1.0 - profile["slowdown"].as_f64().unwrap()).abs() < 1e-9);
    assert!(profile["instructions"].as_u64().unwrap() > 100_000);
}

#[test]
fn what_is_read_in_no_order_overlaps_and_costs_less_than_a_chain() {
    if !have(&[Need::Qemu]) {
        return;
    }
    let found = simulated("scatter", &["--no-prefetch"], &["scatter", "100000"]);
    let scatter = criticality(&found, "allocate_scatter");
    // Forty cycles of arithmetic a step hide the fast latency. Of the slow one's 900 cycles as many steps as the reorder buffer reaches
    // ahead, at 48 instructions each, hide all but 93 a step on Sunny Cove (352 operations) and 102 on Zen 4 (320); fill buffers would
    // decide only beyond those.
    assert!((0.2 * LATENCY..0.85 * LATENCY).contains(&scatter), "{scatter}");
}

#[test]
fn what_is_streamed_costs_its_bytes() {
    if !have(&[Need::Qemu]) {
        return;
    }
    // In small pages the prefetchers begin anew every 64 lines.
    let found = simulated("stream", &["--pages", "2MiB", "--tiers", "narrow.toml"], &["stream", "2"]);
    let cycles = found["profile"]["cycles"].as_f64().unwrap();
    // Each line's 64 bytes at 3 GHz.
    let bound = 2.0 * LINES * 64.0 / NARROW * 3.0;
    assert!((bound..1.1 * bound).contains(&cycles), "{cycles} of {bound}");
}

#[test]
fn what_fits_in_the_cache_and_what_only_computes_costs_nothing() {
    if !have(&[Need::Qemu]) {
        return;
    }
    // The first time, even what fits comes from memory.
    for (name, work) in [("small", ["small", "3000"]), ("compute", ["compute", "3000000"])] {
        let found = simulated(name, &[], &work);
        let slowdown = found["profile"]["slowdown"].as_f64().unwrap();
        assert!((0.0..0.01).contains(&slowdown), "{name}: {slowdown}");
    }
}

#[test]
fn a_simulated_profile_is_a_profile() {
    if !have(&[Need::Qemu]) {
        return;
    }
    simulate("profile", &["-f"], &["chain", "20000"]).expect(0);
    let directory = patterns().directory.path();
    let profile = directory.join("profile.tsp");
    let report = run(tierscope().arg("report").arg(&profile)).expect(0).stdout;
    assert!(report.contains("sim: accesses of a simulated machine") && report.contains("alone slow"), "{report}");
    let advice = run(tierscope().arg("advise").arg(&profile).args(["--fast", "40%", "--json"])).expect(0).stdout;
    let advice: Value = serde_json::from_str(&advice).unwrap();
    assert_eq!((&advice["basis"], &advice["tiers"][1]["name"]), (&"simulated".into(), &"far".into()), "{advice:#}");
    let first = &advice["objects"][0];
    assert!(first["site"].to_string().contains("allocate_chain") && first["tier"] == "near", "{first:#}");

    // And what is advised can be simulated.
    let policy = directory.join("app.policy.toml");
    run(tierscope().arg("advise").arg(&profile).args(["--fast", "40%", "-q", "-o"]).arg(&policy)).expect(0);
    let found = simulated("placed", &["--policy", "app.policy.toml"], &["chain", "20000"]);
    assert_eq!(found["profile"]["simulated_placement"], "app");
    assert!(found["profile"]["slowdown"].as_f64().unwrap() < 0.02, "{:#}", found["profile"]);
}

#[test]
fn two_runs_agree() {
    if !have(&[Need::Qemu]) {
        return;
    }
    let first = simulated("first", &[], &["scatter", "30000"]);
    let second = simulated("second", &[], &["scatter", "30000"]);
    for count in ["loads", "stores", "llc_misses", "stall_cycles"] {
        let of = |found: &Value| object(found, "allocate_scatter")[count].as_f64().unwrap();
        let (first, second) = (of(&first), of(&second));
        assert!((first - second).abs() <= 1e-4 * first.max(1.0), "{count}: {first} and {second}");
    }
}

#[test]
fn without_timing_there_are_counts_and_no_cycles() {
    if !have(&[Need::Qemu]) {
        return;
    }
    let found = simulated("counted", &["--no-timing"], &["chain", "20000"]);
    assert!(object(&found, "allocate_chain")["llc_misses"].as_u64().unwrap() > 15_000);
    assert_eq!(found["profile"]["cycles"], Value::Null);
    assert_eq!(object(&found, "allocate_chain")["criticality"], Value::Null);
}

#[test]
fn a_search_of_sets_finds_the_chain() {
    if !have(&[Need::Qemu]) {
        return;
    }
    let options = ["--budget-sweep", "--sweep-runs", "1"];
    let outcome = simulate("sweep", &options, &["chain", "20000"]).expect(0);
    assert!(outcome.stderr.contains("oracle"), "{}", outcome.stderr);
    let found = statistics("sweep");
    let placements = found["placements"].as_array().unwrap();
    let slowdown = |name: &str| {
        let of = placements.iter().find(|placement| placement["name"] == name);
        of.unwrap_or_else(|| panic!("no {name} in {placements:#?}"))["slowdown"].as_f64().unwrap()
    };
    // A third of the bytes hold the chain.
    assert!(slowdown("oracle 40%") < 0.01 && slowdown("oracle 10%") > 1.0, "{placements:#?}");
    assert!(slowdown("stall-density 40%") < 0.01);
}

#[test]
fn the_programs_own_ways_are_kept() {
    if !have(&[Need::Qemu]) {
        return;
    }
    let outcome = simulate("status", &[], &["compute", "10", "7"]).expect(7);
    let alone = run(patterns().command().args(["compute", "10", "7"]));
    assert_eq!(outcome.stdout, alone.stdout);
    assert!(outcome.stderr.contains("next: tierscope report"), "{}", outcome.stderr);
    // What is there is not replaced unasked.
    let again = simulate("status", &[], &["compute", "10"]).expect(3);
    assert!(again.stderr.contains("there already") && again.stderr.contains("-f"), "{}", again.stderr);
}

#[test]
fn what_cannot_be_simulated_is_refused_with_the_way_out() {
    if !have(&[Need::Qemu]) {
        return;
    }
    let refused = |options: &[&str], code: i32, words: &[&str]| {
        let outcome = run(tierscope().arg("simulate").args(options)).expect(code);
        assert!(words.iter().all(|word| outcome.stderr.contains(word)), "{options:?}: {}", outcome.stderr);
    };
    let none = run(tierscope().args(["simulate", "--", "/bin/true"]).env("PATH", "/nowhere")).expect(3);
    assert!(
        none.stderr.contains("qemu-x86_64") && none.stderr.contains("apt-get install qemu-user"),
        "{}",
        none.stderr
    );
    refused(&["--qemu", "/bin/true", "--", "/bin/true"], 3, &["cannot be used"]);
    refused(&["--tiers", "ddr5", "--", "/bin/true"], 2, &["one tier"]);
    refused(&["--tiers", "ddr5,cxl-ddr5", "--", "/bin/true"], 3, &["read_latency_ns"]);
    refused(&["--llc", "100", "--", "/bin/true"], 2, &["machine.llc.bytes"]);
    refused(&["--sample=5,9", "--", "/bin/true"], 2, &["do not fit"]);
    refused(&["--", "/no/such/program"], 3, &["/no/such/program"]);
}

/// Identities of the program's own objects, by the function that allocates each.
fn identities(report: &Value) -> Vec<(String, String)> {
    let objects = report["objects"].as_array().unwrap().iter();
    let mut found: Vec<(String, String)> = objects
        .filter(|object| object["site"].to_string().contains("allocate_"))
        .map(|object| (object["site"][0].to_string(), object["id"].as_str().unwrap().to_owned()))
        .collect();
    found.sort();
    found
}

#[test]
fn an_object_has_one_identity_recorded_and_simulated() {
    if !have(&[Need::Qemu]) {
        return;
    }
    // The whole call stack is in it, the C library's frames before main too, which no frame pointer leads through.
    let simulated = simulated("identity", &["--no-timing"], &["chain", "1000"]);
    let program = patterns();
    let mut record = tierscope();
    record.current_dir(program.directory.path()).args(["record", "-q", "-o", "recorded.tsp", "--"]);
    run(record.args(program.line()).args(["chain", "1000"])).expect(0);
    let mut report = tierscope();
    let report = run(report.current_dir(program.directory.path()).args(["report", "--json", "recorded.tsp"])).expect(0);
    let recorded = identities(&serde_json::from_str(&report.stdout).unwrap());
    assert!(recorded.len() >= 4, "{recorded:#?}");
    assert_eq!(identities(&simulated), recorded);
}
