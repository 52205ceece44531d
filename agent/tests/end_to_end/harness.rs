//! Running programs, alone and under Tierscope.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::profile::Report;

/// Longer than any command here takes, on any machine that is not stuck.
const PATIENCE: Duration = Duration::from_secs(240);

/// How a command ended and what it said.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Outcome {
    /// Fails the test unless it ended with this status, and without a panic whatever the status.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert!(!self.stderr.contains("panicked"), "{self:?}");
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }
}

/// A command that runs, with its output going to files so that no pipe can fill.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    output: TempDir,
    line: String,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        let output = tempfile::tempdir().unwrap();
        let line = format!("{command:?}");
        command.stdout(File::create(output.path().join("stdout")).unwrap());
        command.stderr(File::create(output.path().join("stderr")).unwrap());
        heed_signals(command);
        let child = command.spawn().unwrap_or_else(|error| panic!("{line}: {error}"));
        Running { child, output, line }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// What it has written to stderr so far.
    pub(crate) fn stderr(&self) -> String {
        read(&self.output.path().join("stderr"))
    }

    /// Waits until it ends; kills it and fails the test if that takes too long.
    pub(crate) fn wait(mut self) -> Outcome {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > deadline {
                let _ = self.child.kill();
                panic!("{} did not end; stderr: {}", self.line, self.stderr());
            }
            sleep(Duration::from_millis(5));
        };
        let stdout = read(&self.output.path().join("stdout"));
        Outcome { code: status.code(), signal: status.signal(), stdout, stderr: self.stderr() }
    }
}

/// Whoever started the tests may have told them to ignore signals, as shells do for what runs behind them; a program that is
/// started so ignores them as well, and so would the programs it starts.
fn heed_signals(command: &mut Command) {
    // SAFETY: between fork and exec, system calls only.
    unsafe {
        command.pre_exec(|| {
            for signal in [libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGHUP, libc::SIGUSR1, libc::SIGUSR2] {
                libc::signal(signal, libc::SIG_DFL);
            }
            Ok(())
        });
    }
}

/// Files are text here; what is not is shown as such.
pub(crate) fn read(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

/// Waits until a condition holds; fails the test if that takes too long.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        sleep(Duration::from_millis(10));
    }
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command) -> Outcome {
    Running::start(command.stdin(Stdio::null())).wait()
}

/// The executable under test. What it keeps for later is kept with what is built, not in a person's cache.
pub(crate) fn tierscope() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tierscope"));
    command.env("XDG_CACHE_HOME", concat!(env!("CARGO_TARGET_TMPDIR"), "/cache"));
    command
}

/// A file of `tests/programs`.
pub(crate) fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs").join(name)
}

/// A program that can be run again and again with the same result, and a directory of its own.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) directory: TempDir,
    line: Vec<OsString>,
    stdin: Option<PathBuf>,
    variables: Vec<(&'static str, &'static str)>,
}

impl Program {
    /// A program of the system.
    pub(crate) fn new(line: &[impl AsRef<OsStr>]) -> Self {
        let line = line.iter().map(|word| word.as_ref().to_owned()).collect();
        Program { directory: tempfile::tempdir().unwrap(), line, stdin: None, variables: Vec::new() }
    }

    /// A program of `tests/programs`, compiled by `compiler` with `flags`.
    pub(crate) fn compile(compiler: &str, flags: &[&str], file: &str) -> Self {
        let stem = Path::new(file).file_stem().unwrap();
        let mut program = Program::new(&[stem]);
        let binary = program.directory.path().join(stem);
        let outcome = run(Command::new(compiler).args(flags).arg("-o").arg(&binary).arg(source(file)));
        assert_eq!(outcome.code, Some(0), "{compiler} {flags:?} {file}: {}", outcome.stderr);
        program.line = vec![binary.into()];
        program
    }

    pub(crate) fn arguments(mut self, arguments: &[impl AsRef<OsStr>]) -> Self {
        self.line.extend(arguments.iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// Runs it through another program, as `timeout 60 PROGRAM`.
    pub(crate) fn through(mut self, wrapper: &[&str]) -> Self {
        self.line.splice(0..0, wrapper.iter().map(OsString::from));
        self
    }

    pub(crate) fn stdin(mut self, file: PathBuf) -> Self {
        self.stdin = Some(file);
        self
    }

    pub(crate) fn variable(mut self, name: &'static str, value: &'static str) -> Self {
        self.variables.push((name, value));
        self
    }

    /// Where its profiles go, unless another place is asked for.
    pub(crate) fn profile(&self) -> PathBuf {
        self.directory.path().join("profile.tsp")
    }

    /// What is typed to run it.
    pub(crate) fn line(&self) -> &[OsString] {
        &self.line
    }

    /// Every profile there is: one per process, all beside the first.
    pub(crate) fn profiles(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.directory.path()).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.extension().is_some_and(|extension| extension == "tsp")).collect()
    }

    fn dress<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let stdin = self.stdin.as_ref().map_or_else(Stdio::null, |file| File::open(file).unwrap().into());
        command.stdin(stdin).envs(self.variables.iter().copied()).current_dir(self.directory.path())
    }

    /// The command that runs it alone.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.line[0]);
        self.dress(command.args(&self.line[1..]));
        command
    }

    /// The command that records it.
    pub(crate) fn recording_command(&self, options: &[&str]) -> Command {
        let mut command = tierscope();
        command.arg("record").arg("-o").arg(self.profile()).args(options).arg("--").args(&self.line);
        self.dress(&mut command);
        command
    }

    /// Records it.
    pub(crate) fn record(&self, options: &[&str]) -> Outcome {
        Running::start(&mut self.recording_command(options)).wait()
    }

    /// Runs it alone and under record, fails the test if it can tell the difference, and reports on the profile.
    #[track_caller]
    pub(crate) fn compare(&self, options: &[&str]) -> (Outcome, Report) {
        let alone = Running::start(&mut self.command()).wait();
        let recorded = self.record(options);
        assert!(!recorded.stderr.contains("panicked"), "{}", recorded.stderr);
        assert_eq!(alone.stdout, recorded.stdout, "stdout differs; {}", recorded.stderr);
        assert_eq!((alone.code, alone.signal), (recorded.code, recorded.signal), "status differs: {recorded:?}");
        let report = Report::of(&self.profile());
        (recorded, report)
    }
}
