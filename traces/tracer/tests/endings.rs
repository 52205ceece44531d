//! However a program ends, there is an outcome, and the program ends as it would have.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by them")]

mod support;

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use support::{Run, Setting, accesses, global, program, qemu, run};
use tierscope_sim::Config;
use tierscope_tracer::{Ended, STOPPED_STATUS};

fn ends(how: &str) -> Run {
    run(&program("ends", "ends", &[]), &[how], Setting::default())
}

#[test]
fn by_exit_and_without_destructors() {
    if support::left_out() {
        return;
    }
    let run = ends("_exit");
    assert_eq!((run.output.status.code(), run.outcome().ended), (Some(9), Ended::Exited));
    assert_eq!(accesses(global(&run.outcome(), "table")), (0, 1000));
}

#[test]
fn by_a_signal() {
    if support::left_out() {
        return;
    }
    for (how, signal) in [("segv", libc::SIGSEGV), ("term", libc::SIGTERM)] {
        let run = ends(how);
        assert_eq!(run.output.status.signal(), Some(signal), "{how}");
        assert_eq!(run.outcome().ended, Ended::Killed { signal }, "{how}");
        assert_eq!(accesses(global(&run.outcome(), "table")), (0, 1000));
    }
}

#[test]
fn by_becoming_another_program() {
    if support::left_out() {
        return;
    }
    let run = ends("exec");
    assert_eq!((run.output.status.code(), run.outcome().ended), (Some(0), Ended::Replaced));
    assert_eq!(accesses(global(&run.outcome(), "table")), (0, 1000));
}

#[test]
fn a_child_is_not_counted_and_writes_nothing() {
    if support::left_out() {
        return;
    }
    let run = ends("fork");
    assert_eq!((run.output.status.code(), run.outcome().ended), (Some(0), Ended::Exited));
    assert_eq!(accesses(global(&run.outcome(), "table")), (0, 2000));
}

#[test]
fn by_having_counted_enough() {
    if support::left_out() {
        return;
    }
    let config = Config { max_instructions: Some(5_000_000), ..Config::default() };
    let run = run(&program("ends", "ends", &[]), &["loop"], Setting { config, ..Setting::default() });
    assert_eq!(run.output.status.code(), Some(STOPPED_STATUS));
    let outcome = run.outcome();
    assert_eq!(outcome.ended, Ended::Stopped);
    let counted = outcome.outcome.totals.counted_instructions;
    assert!((5_000_000..5_100_000).contains(&counted), "{counted}");
}

#[test]
fn a_configuration_that_makes_no_sense_is_refused_before_the_program_starts() {
    if support::left_out() {
        return;
    }
    let refused = |argument: String| {
        let output = Command::new(qemu())
            .arg("-plugin")
            .arg(format!("{}{argument}", support::plugin().display()))
            .arg("/bin/true")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(refused(String::new()).contains("tierscope: the plugin takes one argument, config=FILE"));
    let missing = refused(",config=/nonexistent/config.json".into());
    assert!(missing.contains("tierscope: cannot read the configuration /nonexistent/config.json"), "{missing}");
}
