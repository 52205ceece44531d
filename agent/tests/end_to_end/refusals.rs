//! What cannot be done is refused: with a reason, the way out, and status 3, or 2 where the command line makes no sense.

use std::process::Command;

use crate::harness::{Outcome, Program, Running, run, tierscope};
use crate::needs::{Need, have};

/// Fails the test unless it ended with status 3, and says each of these.
#[track_caller]
fn expect_refusal(outcome: Outcome, words: &[&str]) {
    let outcome = outcome.expect(3);
    for word in words {
        assert!(outcome.stderr.contains(word), "'{word}' is not in: {}", outcome.stderr);
    }
}

#[test]
fn a_missing_program_is_named() {
    for name in ["nosuchprogram", "./nosuchprogram", "/nonexistent/nosuchprogram"] {
        let program = Program::new(&[name]);
        expect_refusal(program.record(&[]), &["nosuchprogram"]);
        assert!(!program.profile().exists(), "a profile of nothing was left behind");
    }
}

#[test]
fn a_file_that_is_no_program_is_named() {
    let program = Program::new(&["./notes.txt"]);
    std::fs::write(program.directory.path().join("notes.txt"), "not a program\n").unwrap();
    expect_refusal(program.record(&[]), &["notes.txt"]);
    expect_refusal(Program::new(&["/"]).record(&[]), &["/"]);
}

#[test]
fn a_process_that_is_gone_is_named() {
    let mut child = Command::new("true").spawn().unwrap();
    let pid = child.id().to_string();
    child.wait().unwrap();
    let program = Program::new(&["true"]);
    expect_refusal(run(tierscope().args(["record", "-p", &pid, "-o"]).arg(program.profile())), &[&pid]);
    assert!(!program.profile().exists());
}

#[test]
fn a_process_of_another_user_is_refused_with_the_way_out() {
    if !have(&[Need::Root]) {
        return;
    }
    let target = Running::start(Command::new("sleep").arg("60"));
    let pid = target.pid().to_string();
    let place = world_writable();
    let outcome = run(as_nobody(&place).args(["record", "-d", "1", "-p", &pid, "-o"]).arg(place.path().join("p.tsp")));
    target.signal(rustix::process::Signal::KILL);
    target.wait();
    expect_refusal(outcome, &[&pid]);
}

/// Where the user may not write, the program is not even started.
#[test]
fn a_directory_that_cannot_be_written_is_named() {
    if !have(&[Need::Root]) {
        return;
    }
    let place = world_writable();
    let closed = place.path().join("closed");
    std::fs::create_dir(&closed).unwrap();
    let outcome =
        run(as_nobody(&place).args(["record", "-o"]).arg(closed.join("p.tsp")).args(["--", "echo", "started"]));
    assert_eq!(outcome.stdout, "");
    expect_refusal(outcome, &["closed"]);
}

#[test]
fn a_directory_that_does_not_exist_is_named() {
    let outcome = run(tierscope().args(["record", "-o", "/nonexistent/p.tsp", "--", "echo", "started"]));
    assert_eq!(outcome.stdout, "");
    expect_refusal(outcome, &["/nonexistent"]);
}

#[test]
fn what_is_no_profile_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file.tsp");
    std::fs::write(&file, "no profile").unwrap();
    let empty = directory.path().join("empty.tsp");
    std::fs::create_dir(&empty).unwrap();
    for path in [&directory.path().join("missing.tsp"), &file, &empty] {
        let name = path.file_name().unwrap().to_str().unwrap();
        expect_refusal(run(tierscope().arg("report").arg(path)), &[name]);
        expect_refusal(run(tierscope().arg("report").arg(path).arg("--json")), &[name]);
    }
}

#[test]
fn a_command_line_that_makes_no_sense_is_refused_as_such() {
    let lines: [&[&str]; 7] = [
        &["nosuchcommand"],
        &["record"],
        &["record", "--nosuchoption", "--", "true"],
        &["record", "-p", "1", "--", "true"],
        &["record", "-r", "fast", "--", "true"],
        &["record", "-d", "soon", "--", "true"],
        &["report"],
    ];
    for line in lines {
        let outcome = run(tierscope().args(line)).expect(2);
        assert!(!outcome.stderr.is_empty(), "{line:?}");
    }
}

/// The executable, copied to where everyone may run it, as a user without rights.
fn as_nobody(place: &tempfile::TempDir) -> Command {
    let executable = place.path().join("tierscope");
    std::fs::copy(env!("CARGO_BIN_EXE_tierscope"), &executable).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"]);
    command.arg(executable).current_dir(place.path());
    command
}

fn world_writable() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let place = tempfile::tempdir().unwrap();
    std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    place
}
