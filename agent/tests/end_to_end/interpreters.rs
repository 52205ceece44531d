//! Interpreters and engines: programs whose objects are allocated by code that the user did not write.

use crate::harness::{Program, source};
use crate::needs::{Need, have, say};
use crate::profile::Report;

/// The distribution's own, which its numpy belongs to.
pub(crate) const PYTHON: &str = "/usr/bin/python3";

/// Prints how many samples could be addressed and attributed.
pub(crate) fn say_addressed(what: &str, profile: &std::path::Path, report: &Report) {
    let addressed = crate::attribution::addressed_share(profile);
    let attributed = report.header["attributed"].as_f64().unwrap();
    let samples = report.samples();
    say(format_args!(
        "{what}: {:.1} % of user samples addressed, {:.1} % of all attributed ({samples} samples)",
        addressed * 100.0,
        attributed * 100.0
    ));
}

/// Expected: the table, a heap object of 96 MiB, first: it alone is read at random. All arrays come from one line of C in
/// numpy, so that only the size tells them apart.
#[test]
fn numpy_arrays_are_told_apart() {
    if !have(&[Need::Numpy]) {
        return;
    }
    let script = source("gather.py");
    let program = Program::new(&[PYTHON.as_ref(), script.as_os_str()])
        .variable("PYTHONHASHSEED", "0")
        .variable("OPENBLAS_NUM_THREADS", "1");
    let (_, report) = program.compare(&[]);
    say_addressed("python3 with numpy", &program.profile(), &report);
    let top = &report.objects[0];
    assert!(top.kind == "heap" && top.live_bytes_max >> 20 == 96, "{}", report.summary());
    assert!(top.share > 0.3, "{}", report.summary());
}

/// Expected: the pages of the database, which the library allocates one by one from one place: the first heap object,
/// and nearly as large as the database (90 MiB).
#[test]
fn sqlite_pages_are_one_object() {
    if !have(&[Need::Sqlite]) {
        return;
    }
    let program = Program::new(&["sqlite3", ":memory:"]).stdin(source("lookups.sql"));
    let (_, report) = program.compare(&[]);
    say_addressed("sqlite3", &program.profile(), &report);
    let top = report.top("heap");
    assert!(top.mentions("sqlite3"), "{}", report.summary());
    assert!((60 << 20..200 << 20).contains(&top.live_bytes_max), "{}", report.summary());
}
