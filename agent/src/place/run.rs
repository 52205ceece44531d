//! `tierscope run`: checks, starts, waits, tells.

use super::checks::{Finding, check};
use super::kernel::Moves;
use super::outcome::{End, Outcome};
use super::{Prepared, prepare, summary};
use crate::cli::RunArguments;
use crate::embedded;
use crate::failure::Failure;
use crate::launch;
use crate::output::Stats;
use crate::private;
use crate::signals::PassedOn;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;
use tierscope_machine::{Root, detect};
use tierscope_wire::policy::stats::Snapshot;
use tierscope_wire::policy::{Table, VARIABLE};

/// Runs a program under a policy, and returns its exit status.
///
/// # Errors
///
/// When the policy cannot be carried out, before the program starts; and when the program cannot be started.
pub(crate) fn run(arguments: &RunArguments) -> Result<u8, Failure> {
    run_timed(arguments).map(|(status, _)| status)
}

/// As [`run`]; and how many seconds the program took.
pub(crate) fn run_timed(arguments: &RunArguments) -> Result<(u8, f64), Failure> {
    let mut prepared = prepare(&arguments.policy, arguments.strict.map(Into::into), &arguments.command)?;
    let root = Root::default();
    let findings = check(&prepared.policy, &root, &detect(&root));
    refuse(&arguments.policy, &findings)?;
    prepared.warnings.extend(findings.into_iter().map(|finding| finding.text));
    let mut stats = arguments.stats.as_deref().map(Stats::open).transpose()?;
    if !arguments.quiet {
        prepared.warnings.iter().for_each(|warning| say(&format!("tierscope: warning: {warning}\n")));
    }

    let (directory, files) = private::directory(|directory| lay_out(directory, &prepared.table))?;
    let changes = environment(&files);
    let signals = PassedOn::watch()?;
    let before = Moves::now(&root);
    let start = Instant::now();
    let mut launched = launch::prepare(&prepared.program.command, &arguments.command, &changes)?;
    launched.start(&prepared.program.command)?;
    let ended = signals.wait_for(&mut launched);
    let kernel = Moves::now(&root).zip(before).map(|(after, before)| after.since(before));
    let end = End { ended, duration_s: start.elapsed().as_secs_f64(), kernel };

    let outcome = tell(arguments, &prepared, &files.table, &end)?;
    if !arguments.quiet {
        say(&summary::render(&outcome));
    }
    // Programs that go on need both files: the table to count in, the library for what they execute.
    if in_use(directory.path()) {
        let kept = directory.keep();
        if !arguments.quiet {
            say(&format!("tierscope: processes of it go on; what they place is counted in {}\n", kept.display()));
        }
    }
    if let Some(stats) = &mut stats {
        stats.write(&outcome)?;
    }
    Ok((ended.as_status(), end.duration_s))
}

/// Where standard error is closed there is nobody to tell.
fn say(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// An error of everything that is fatal.
fn refuse(policy: &Path, findings: &[Finding]) -> Result<(), Failure> {
    let fatal: Vec<&Finding> = findings.iter().filter(|finding| finding.is_fatal).collect();
    let what = |text: &str| format!("{} cannot be carried out here: {text}", policy.display());
    match fatal.as_slice() {
        [] => Ok(()),
        [only] => Err(Failure::cannot(what(&only.text)).mend(only.mend.as_deref().unwrap_or("edit the policy"))),
        several => {
            let line = |finding: &&Finding| {
                let mend = finding.mend.as_ref().map(|mend| format!("\n    way out: {mend}")).unwrap_or_default();
                format!("\n  {}{mend}", finding.text)
            };
            Err(Failure::cannot(what(&several.iter().map(line).collect::<String>())))
        }
    }
}

/// What the program is given.
struct Given {
    table: PathBuf,
    /// `None` where the user preloads the very library already.
    shim: Option<PathBuf>,
}

fn lay_out(directory: &Path, table: &[u8]) -> std::io::Result<Given> {
    let path = directory.join("table");
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?.write_all(table)?;
    // Two copies of it in one process (`tierscope record -- tierscope run ...`) would be two libraries.
    let there = private::theirs().is_some_and(|list| private::has_shim(&list, embedded::SHIM));
    let shim = if there { None } else { Some(private::extract_shim(directory, embedded::SHIM)?) };
    Ok(Given { table: path, shim })
}

fn environment(files: &Given) -> Vec<(&'static str, OsString)> {
    let preload = files.shim.as_deref().map(|shim| ("LD_PRELOAD", private::preload_list(shim)));
    preload.into_iter().chain([(VARIABLE, files.table.clone().into_os_string())]).collect()
}

/// Reads the counts.
fn tell(arguments: &RunArguments, prepared: &Prepared, path: &Path, end: &End) -> Result<Outcome, Failure> {
    let parsed = Table::parse(&prepared.table).map_err(|error| Failure::from_error("the table is damaged", &error))?;
    // A program may do anything to a file of its user's; then nothing is known.
    let counts = std::fs::read(path).ok().and_then(|bytes| Snapshot::read(&parsed, &bytes)).unwrap_or_default();
    let command = arguments.command.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    Ok(Outcome::new(&arguments.policy, command, prepared, &counts, end))
}

/// Whether a process has a file of the directory mapped, or will hand its path on.
fn in_use(directory: &Path) -> bool {
    let Some(name) = directory.file_name().map(|name| name.as_encoded_bytes().to_vec()) else { return false };
    let ours = std::process::id().to_string();
    let mentions =
        |file: PathBuf| std::fs::read(file).is_ok_and(|bytes| bytes.windows(name.len()).any(|window| window == name));
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.path());
    processes
        .filter(|path| path.file_name().is_some_and(|pid| pid != ours.as_str()))
        .filter(|path| path.file_name().is_some_and(|pid| pid.as_encoded_bytes().iter().all(u8::is_ascii_digit)))
        .any(|path| mentions(path.join("environ")) || mentions(path.join("maps")))
}
