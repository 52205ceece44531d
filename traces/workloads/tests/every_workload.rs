//! What every workload promises, whatever it computes: checked on all that `list` names, in its smallest size.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

/// Workloads whose result does not depend on the seed, with the reason.
const SAME_FOR_EVERY_SEED: &[(&str, &str)] = &[];

/// Workloads that have phases instead of one kernel, with the one that their steady state begins with.
const STEADY: &[(&str, &str)] = &[("gnn-recsys", "forward"), ("dynamic-gnn", "snapshot")];

/// Objects that matter are at least this large.
const LARGE: u64 = 64 << 10;

fn workloads(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tierscope-workloads")).args(arguments).output().unwrap()
}

#[track_caller]
fn stdout(output: Output) -> String {
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The columns of the table, without its headings.
fn list() -> Vec<Vec<String>> {
    let columns = |line: &str| line.split("  ").map(|c| c.trim().to_owned()).filter(|c| !c.is_empty()).collect();
    stdout(workloads(&["list"])).lines().skip(1).map(columns).collect()
}

#[track_caller]
fn run(name: &str, more: &[&str]) -> Value {
    let line = [&[name, "--scale", "tiny", "--iterations", "2", "--no-cache"], more].concat();
    let text = stdout(workloads(&line));
    assert_eq!(text.lines().count(), 1, "{name}: {text}");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}: {text}"))
}

/// A path of this test's own.
fn path(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("tierscope-every-workload-{}-{name}", std::process::id()))
}

#[test]
fn the_result_depends_on_the_seed_and_not_on_the_threads() {
    for name in list().iter().map(|columns| columns[0].as_str()) {
        let checksum = |more: &[&str]| {
            let result = run(name, more);
            result["checksum"].as_str().unwrap_or_else(|| panic!("{name} has no checksum: {result}")).to_owned()
        };
        let one = checksum(&["--threads", "1"]);
        assert_eq!(one, checksum(&["--threads", "2"]), "{name} with two threads");
        let other = checksum(&["--seed", "2", "--threads", "2"]);
        let same = SAME_FOR_EVERY_SEED.iter().any(|&(known, _)| known == name);
        assert_eq!(same, one == other, "{name} with another seed");
    }
}

#[test]
fn every_run_has_a_kernel_and_at_least_two_large_objects_that_were_noted_when_they_were_made() {
    for name in list().iter().map(|columns| columns[0].as_str()) {
        let file = path(name);
        let result = run(name, &["--objects", file.to_str().unwrap()]);
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::remove_file(&file).unwrap();

        assert_eq!((&result["schema"], &result["workload"]), (&"tierscope.workload/1".into(), &name.into()));
        let phases: Vec<_> = result["phases"].as_array().unwrap().iter().map(|phase| &phase["name"]).collect();
        let steady = STEADY.iter().find(|(known, _)| *known == name).map_or("kernel", |(_, phase)| phase);
        assert!(phases.len() >= 2 && phases[1..].contains(&&steady.into()), "{name}: {phases:?}");

        let blocks: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let number = |block: &Value, field: &str| block[field].as_u64().unwrap_or_else(|| panic!("{name}: {block}"));
        let mut large: Vec<_> = blocks.iter().filter(|block| number(block, "bytes") >= LARGE).collect();
        assert!(large.iter().all(|block| number(block, "address") != 0 && number(block, "allocated_ns") != 0));
        large.dedup_by_key(|block| block["name"].clone());
        assert!(large.len() >= 2, "{name}: {text}");
        let resident = result["peak_resident_bytes"].as_u64().unwrap();
        let noted: u64 =
            result["object_bytes"].as_object().unwrap().values().map(|bytes| bytes.as_u64().unwrap()).sum();
        assert!(noted <= resident + resident / 4, "{name}: {noted} bytes noted, {resident} resident");
        assert!((2 << 20..128 << 20).contains(&noted), "{name}: tiny is {noted} bytes");
    }
}

#[test]
fn graphs_are_taken_from_the_cache_where_there_is_one_and_made_anew_if_damaged() {
    let directory = path("cache");
    let run = || {
        let cache = directory.to_str().unwrap();
        let output = workloads(&["cc", "--scale", "tiny", "--iterations", "1", "--cache", cache]);
        let note = String::from_utf8_lossy(&output.stderr).into_owned();
        let result: Value = serde_json::from_str(&stdout(output)).unwrap();
        let phases =
            result["phases"].as_array().unwrap().iter().map(|phase| phase["name"].as_str().unwrap().to_owned());
        (phases.collect::<Vec<_>>(), result["checksum"].clone(), note)
    };
    let made = run();
    assert_eq!((made.0, made.2.as_str()), (vec!["generate".into(), "store".into(), "kernel".into()], ""));
    let loaded = run();
    assert_eq!((loaded.0, &loaded.1, loaded.2.as_str()), (vec!["load".into(), "kernel".into()], &made.1, ""));

    let file = std::fs::read_dir(&directory).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    let mended = run();
    assert_eq!(mended.0, ["load", "generate", "store", "kernel"]);
    assert!(mended.1 == made.1 && mended.2.contains("damaged; it is made anew"), "{}", mended.2);
    assert_eq!(run().0, ["load", "kernel"]);
    std::fs::remove_dir_all(&directory).unwrap();
}

/// What the table of systems asks for: each workload with its row.
const ROWS: [(&str, &str); 20] = [
    ("dlrm", "1"),
    ("dlrm-train", "2"),
    ("dlrm-sessions", "3"),
    ("hnsw", "4"),
    ("transformer-stream", "6"),
    ("bc", "7"),
    ("bfs", "7"),
    ("cc", "7"),
    ("pr", "7"),
    ("sssp", "7"),
    ("tc", "7"),
    ("attention-pruned", "8"),
    ("gnn-recsys", "11"),
    ("video-analytics", "13"),
    ("moe", "14"),
    ("winograd", "15"),
    ("early-exit", "17"),
    ("dynamic-gnn", "18"),
    ("colocate", "19"),
    ("input-pipeline", "20"),
];

#[test]
fn every_row_of_the_table_of_systems_that_names_a_workload_has_it() {
    let list = list();
    assert!(list.iter().all(|columns| columns.len() == 4), "{list:?}");
    let rows: Vec<_> = list.iter().map(|columns| (columns[0].as_str(), columns[1].as_str())).collect();
    for row in ROWS {
        assert!(rows.contains(&row), "{row:?}");
    }
    let patterns = rows.iter().filter(|(_, row)| *row == "-").count();
    assert_eq!(rows.len(), ROWS.len() + patterns);
}

#[test]
fn a_command_line_that_makes_no_sense_is_refused_with_a_way_on() {
    let output = workloads(&["nosuch"]);
    assert_eq!(output.status.code(), Some(2));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("no workload 'nosuch'") && message.contains("tierscope-workloads list"), "{message}");
}
