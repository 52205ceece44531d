//! Programs that the preload library cannot be loaded into, or only just: they are recorded all the same.

use crate::harness::{Outcome, Program, run};
use crate::needs::{Need, have};
use crate::profile::Report;

/// Records a program that cannot be preloaded: it is told in words that contain `reason`, and nothing else changes.
#[track_caller]
fn expect_recorded_without(program: &Program, reason: &str) -> (Outcome, Report) {
    let (outcome, report) = program.compare(&[]);
    let said = outcome.stderr.to_lowercase();
    assert!(said.contains(reason), "'{reason}' is not in: {}", outcome.stderr);
    (outcome, report)
}

/// Expected: no heap objects, since nobody saw the allocations, but the ring's memory all the same: 64 MiB from malloc are
/// an anonymous mapping, and it is on top.
#[test]
fn a_static_program_is_recorded_without_its_allocations() {
    if !have(&[Need::StaticLibc]) {
        return;
    }
    let program = Program::compile("gcc", &["-O2", "-g", "-static"], "chase.c");
    let (_, report) = expect_recorded_without(&program, "static");
    assert!(report.samples() > 50.0, "{}", report.header);
    assert_eq!(report.objects[0].kind, "anon", "{}", report.summary());
    assert!(report.objects.iter().all(|object| object.kind != "heap"), "{}", report.summary());
}

/// Expected: `u0`, although the program is static: a global needs no allocator.
#[test]
fn a_static_program_has_its_globals() {
    if !have(&[Need::StaticLibc]) {
        return;
    }
    let program = Program::compile("gcc", &["-O2", "-g", "-static"], "globals.c");
    let (_, report) = expect_recorded_without(&program, "static");
    report.expect_on_top("global", "u0");
}

/// Expected: the ring, as a heap object. The library needs nothing of glibc's, so that musl's loader takes it.
#[test]
fn a_musl_program_has_its_allocations() {
    if !have(&[Need::Musl]) {
        return;
    }
    let (_, report) = Program::compile("musl-gcc", &["-O2", "-g"], "chase.c").compare(&[]);
    report.expect_on_top("heap", "allocate_ring");
}

/// A program with another user's rights ignores the library: the loader's rule, not ours.
#[test]
fn a_setuid_program_is_recorded_without_its_allocations() {
    if !have(&[Need::C, Need::Root]) {
        return;
    }
    let program = Program::compile("gcc", &["-O2", "-g"], "chase.c");
    let binary = program.directory.path().join("chase");
    let outcome = run(std::process::Command::new("sh")
        .arg("-c")
        .arg(format!("chown 65534 '{0}' && chmod 4755 '{0}'", binary.display())));
    outcome.expect(0);
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&binary).unwrap());
    assert_eq!(mode & 0o4000, 0o4000, "this file system keeps no setuid bit");
    let (_, report) = expect_recorded_without(&program, "set-user-id");
    assert!(report.samples() > 50.0, "{}", report.header);
}

/// A script is run by its interpreter, which is what gets preloaded.
#[test]
fn a_script_is_recorded_through_its_interpreter() {
    use std::os::unix::fs::PermissionsExt;
    let program = Program::new(&["./script"]);
    let script = program.directory.path().join("script");
    std::fs::write(&script, "#!/bin/sh\necho from a script\n").unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let (outcome, _) = program.compare(&[]);
    assert_eq!(outcome.stdout, "from a script\n");
}
