//! A disk that fills up while recording: the program does not notice, what was written can be read, and it is said.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::harness::{Outcome, Program, Running, run, tierscope};
use crate::needs::{Need, have};
use crate::profile::Report;

/// Room for the beginning of a profile and not for the rest.
const ROOM: &str = "size=192k";

/// Room for a profile's description of itself and not for its samples.
const LARGEST_FILE: u64 = 16 << 10;

/// Samples per second, to write far more in some seconds than there is room for.
const HIGH_RATE: &str = "10000";

/// A small file system; gone when this is dropped.
#[derive(Debug)]
pub(crate) struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// None where the system does not let us mount one.
    pub(crate) fn mount() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let mounted =
            run(Command::new("mount").args(["-t", "tmpfs", "-o", ROOM, "tmpfs"]).arg(directory.path())).code == Some(0);
        mounted.then(|| SmallDisk(directory))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        run(Command::new("umount").arg(self.path()));
    }
}

/// The recording ended in an error that says why, and the profile opens with what was written before.
#[track_caller]
fn expect_kept_and_said(recorded: Outcome, profile: &Path) -> Report {
    let recorded = recorded.expect(3);
    let said = recorded.stderr.to_lowercase();
    assert!(said.contains("space") || said.contains("full") || said.contains("too large"), "{}", recorded.stderr);
    let report = Report::of(profile);
    assert!(!report.is_complete(), "{}", report.header);
    report
}

#[test]
fn a_full_disk_stops_the_recording_and_not_the_program() {
    if !have(&[Need::C, Need::Mount]) {
        return;
    }
    let program = Program::compile("gcc", &["-O2", "-g"], "chase.c").arguments(&["40000000"]);
    let alone = run(&mut program.command()).expect(0);
    let disk = SmallDisk::mount().unwrap();
    let profile = disk.path().join("profile.tsp");
    let options = ["-r", HIGH_RATE, "-o"];
    let recorded = run(tierscope().arg("record").args(options).arg(&profile).arg("--").args(program.line()));
    assert_eq!(alone.stdout, recorded.stdout, "{}", recorded.stderr);
    let report = expect_kept_and_said(recorded, &profile);
    assert!(report.samples() > 0.0, "{}", report.header);
}

/// A limit on the size of files stands in where nothing can be mounted. Only the recorder has it, being attached, and its
/// writes fail instead of ending it.
#[test]
fn a_limited_file_size_stops_the_recording_and_not_the_program() {
    if !have(&[Need::C]) {
        return;
    }
    let program = Program::compile("gcc", &["-O2", "-g"], "phases.c").arguments(&["8", "0"]);
    let target = Running::start(&mut program.command());
    let pid = target.pid().to_string();
    let mut command = tierscope();
    command.args(["record", "-d", "6s", "-r", HIGH_RATE, "-p", &pid, "-o"]).arg(program.profile());
    // SAFETY: between fork and exec only async-signal-safe calls are made: signal and setrlimit.
    unsafe {
        command.pre_exec(|| {
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
            let limit = Rlimit { current: Some(LARGEST_FILE), ..getrlimit(Resource::Fsize) };
            setrlimit(Resource::Fsize, limit).map_err(Into::into)
        });
    }
    let recorded = run(&mut command);
    assert_eq!(target.wait().expect(0).stdout, "both phases done\n");
    expect_kept_and_said(recorded, &program.profile());
}
