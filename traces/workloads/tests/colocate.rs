//! Several workloads at once, as the program runs them.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn workloads(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tierscope-workloads")).args(arguments).output().unwrap()
}

#[track_caller]
fn result(arguments: &[&str]) -> Value {
    let output = workloads(&[arguments, &["--scale", "tiny", "--no-cache"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn each_job_gives_the_result_it_gives_by_itself() {
    let jobs = "jobs=cc:2,gnn-recsys:1,dynamic-gnn:2,stream:3";
    let together = result(&["colocate", "--iterations", "10", "--set", jobs, "--set", "alone=yes"]);
    for (number, (name, iterations)) in
        [("cc", 2), ("gnn-recsys", 1), ("dynamic-gnn", 2), ("stream", 3)].into_iter().enumerate()
    {
        let job = &together["jobs"][number];
        let alone = result(&[name, "--iterations", &iterations.to_string()]);
        assert_eq!((&job["workload"], &job["iterations"]), (&name.into(), &iterations.into()));
        assert_eq!(job["checksum"], alone["checksum"], "{name}");
        assert!(job["slowdown"].as_f64().unwrap() > 0.0 && job["steady_seconds"].as_f64().unwrap() > 0.0, "{job}");
        let bytes = alone["object_bytes"].as_object().unwrap();
        for (object, bytes) in bytes {
            assert_eq!(&together["object_bytes"][format!("{number}.{name}/{object}")], bytes);
        }
    }
    assert!(together["throughput_gain"].as_f64().unwrap() > 0.0);
}

#[test]
fn a_job_that_fails_fails_the_run_with_its_name_and_leaves_nothing_behind() {
    let output = workloads(&["colocate", "--scale", "tiny", "--no-cache", "--objects", "/nonexistent/objects"]);
    assert_eq!(output.status.code(), Some(3));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("pr failed") && message.contains("/nonexistent/objects.0"), "{message}");
    assert!(output.stdout.is_empty());
}

#[test]
fn a_run_that_is_to_meet_others_waits_for_them_and_ends_when_nobody_will_come() {
    let run = ["stream", "--scale", "tiny", "--iterations", "1", "--meet"];
    let mut command = Command::new(env!("CARGO_BIN_EXE_tierscope-workloads"));
    let output = command.args(run).stdin(Stdio::null()).output().unwrap();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(3), &b"ready\n"[..]));
}

#[test]
fn jobs_that_are_none_are_refused_with_the_form() {
    let output = workloads(&["colocate", "--set", "jobs=pr,colocate"]);
    assert_eq!(output.status.code(), Some(2));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("NAME:ITERATIONS") && message.contains("none of them colocate"), "{message}");
}
