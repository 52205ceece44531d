//! The probes themselves, on the machine the tests run on. One test, so that nothing else in this process opens files
//! or starts children meanwhile.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use tierscope_doctor::{Status, Subject, examine};

#[test]
fn examining_this_machine_leaves_no_trace() {
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let children = || std::fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    let mappings = || std::fs::read_to_string("/proc/self/maps").unwrap().matches("perf_event").count();
    let traces = || (descriptors(), children(), mappings());
    let own = Subject::Process(std::process::id());
    examine(&own);
    let before = traces();
    let report = examine(&own);
    assert_eq!(traces(), before);
    let exists = report.checks.iter().find(|check| check.id == "target.exists").unwrap();
    assert_eq!(exists.status, Status::Ok);
    assert_eq!(report.exit_status() == 0, report.can_record);
}
