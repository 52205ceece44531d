//! One run of the program under the emulator, and what the tracer left of it.

use super::emulator::Emulator;
use crate::embedded;
use crate::failure::Failure;
use crate::launch::{self, Ended};
use crate::place::Policied;
use crate::private;
use crate::signals::PassedOn;
use indicatif::ProgressBar;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tierscope_sim::{Allocation, Config, Outcome, Sample};
use tierscope_tracer::rows::{read_allocations, read_samples};
use tierscope_tracer::{
    ALLOCATIONS_FILE, CONFIG_FILE, Ended as Stopped, Losses, PROGRESS_FILE, PolicyConfig, Progress, SAMPLES_FILE,
    STOPPED_STATUS, TracerConfig, TracerOutcome, plugin_file,
};

const TRACER_NAME: &str = "libtierscope_tracer.so";
const TABLE_NAME: &str = "table";

/// What does not change between runs.
pub(super) struct Runner<'a> {
    pub(super) emulator: &'a Emulator,
    /// The program's ELF file and its arguments.
    pub(super) words: &'a [OsString],
    /// Whether the shim can be loaded into it.
    pub(super) with_shim: bool,
    pub(super) quiet: bool,
}

/// A run that has ended.
pub(crate) struct Finished {
    pub(crate) outcome: Outcome,
    pub(crate) samples: Vec<Sample>,
    pub(crate) allocations: Vec<Allocation>,
    pub(crate) ended: Ended,
    pub(crate) pid: u32,
    pub(crate) seconds: f64,
    /// What a person should know, in sentences.
    pub(crate) remarks: Vec<String>,
}

impl Runner<'_> {
    /// Runs the program once.
    pub(super) fn run(&self, config: &Config, policy: Option<(&Policied, &[u16])>) -> Result<Finished, Failure> {
        let (directory, files) = private::directory(|directory| self.lay_out(directory, config, policy))?;
        let plugin = format!("{},config={}", files.tracer.display(), files.config.display());
        let mut command: Vec<OsString> = vec![self.emulator.path.clone().into(), "-cpu".into(), "max".into()];
        command.extend(["-plugin".into(), plugin.into()]);
        for (name, value) in &files.environment {
            let mut assignment = OsString::from(format!("{name}="));
            assignment.push(value);
            command.extend(["-E".into(), assignment]);
        }
        command.extend(self.words.iter().cloned());
        // What the user preloads is for the program, not for the emulator, which is given the tracer itself: QEMU does not tell
        // plugins of a signal that kills the program, and so the tracer hears of it.
        let changes = [("LD_PRELOAD", files.tracer.clone().into_os_string())];

        let signals = PassedOn::watch()?;
        let start = Instant::now();
        let mut launched = launch::prepare(&self.emulator.path, &command, &changes)?;
        launched.start(&self.emulator.path)?;
        let bar = (!self.quiet).then(|| {
            let bar = ProgressBar::new_spinner();
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        let progress = directory.path().join(PROGRESS_FILE);
        let ended = signals.wait_for_with(&mut launched, || {
            if let (Some(bar), Some(progress)) = (&bar, Progress::read(&progress)) {
                bar.set_message(told(&progress, start.elapsed(), config.max_instructions));
            }
        });
        if let Some(bar) = bar {
            bar.finish_and_clear();
        }
        let seconds = start.elapsed().as_secs_f64();
        collect(&directory, ended, launched.pid(), seconds)
    }

    fn lay_out(
        &self,
        directory: &Path,
        config: &Config,
        policy: Option<(&Policied, &[u16])>,
    ) -> std::io::Result<Files> {
        let create = |name: &str, mode: u32, bytes: &[u8]| {
            let path = directory.join(name);
            let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&path)?;
            file.write_all(bytes).map(|()| path)
        };
        let (major, minor) = self.emulator.version;
        let version = plugin_file::interface_version(major, minor);
        let tracer = plugin_file::with_version(embedded::TRACER, version);
        let tracer = tracer.ok_or_else(|| std::io::Error::other("this executable was built with a damaged tracer"))?;
        let tracer = create(TRACER_NAME, 0o700, &tracer)?;
        let table = policy.map(|(policy, tiers)| create(TABLE_NAME, 0o600, &policy.table).map(|path| (path, tiers)));
        let table = table.transpose()?;
        let tracer_config = TracerConfig {
            simulator: config.clone(),
            directory: directory.to_path_buf(),
            policies: table
                .map(|(table, tiers)| PolicyConfig { table, placement: 0, tiers: tiers.to_vec() })
                .into_iter()
                .collect(),
            ask_for_each: false,
        };
        let text = serde_json::to_vec(&tracer_config)?;
        let config = create(CONFIG_FILE, 0o600, &text)?;
        let mut environment = Vec::new();
        if self.with_shim {
            let shim = private::extract_shim(directory, embedded::SHIM)?;
            environment.push(("LD_PRELOAD", private::preload_list(&shim)));
            environment.push((tierscope_wire::options::VARIABLE, "trace=1;follow=0".into()));
        } else if let Some(theirs) = private::theirs() {
            environment.push(("LD_PRELOAD", theirs));
        }
        Ok(Files { tracer, config, environment })
    }
}

fn collect(directory: &TempDir, ended: Ended, pid: u32, seconds: f64) -> Result<Finished, Failure> {
    let path = directory.path();
    let left = TracerOutcome::read(path).map_err(|_| nothing_left(ended))?;
    let rows = |error| Failure::from_error("cannot read what was simulated", &error);
    let mut remarks = remarks(&left.losses);
    let mut ended = ended;
    match left.ended {
        Stopped::Exited => {}
        Stopped::Stopped if ended == Ended::Exited(STOPPED_STATUS) => ended = Ended::Exited(0),
        Stopped::Stopped => {}
        Stopped::Replaced => remarks.push(
            "The program became another one (execve), which was not simulated: name that one itself.".to_owned(),
        ),
        Stopped::Killed { signal: libc::SIGILL } => remarks.push(
            "The program was ended by an instruction that the emulator does not have. AVX-512 is one such: a program built \
             for it is built again with -march=x86-64-v3."
                .to_owned(),
        ),
        Stopped::Killed { signal } => remarks.push(format!(
            "Signal {signal} ended the program; of other threads their last few thousand instructions are missing."
        )),
    }
    Ok(Finished {
        outcome: left.outcome,
        samples: read_samples(&path.join(SAMPLES_FILE)).map_err(rows)?,
        allocations: read_allocations(&path.join(ALLOCATIONS_FILE)).map_err(rows)?,
        ended,
        pid,
        seconds,
        remarks,
    })
}

/// What the tracer could not see or tell, in sentences.
fn remarks(losses: &Losses) -> Vec<String> {
    let counts = [
        (losses.senseless_messages, "messages of the shim made no sense."),
        (losses.unknown_stacks, "blocks have no call stack: they are in no object."),
        (losses.rows_not_written, "samples and allocations could not be written (a full disk?); counts are whole."),
    ];
    counts.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect()
}

struct Files {
    tracer: PathBuf,
    config: PathBuf,
    environment: Vec<(&'static str, OsString)>,
}

/// The emulator ended without a word from the tracer.
fn nothing_left(ended: Ended) -> Failure {
    let how = match ended {
        Ended::Exited(status) => format!("with exit status {status}"),
        Ended::Killed(signal) => format!("by signal {signal}"),
    };
    Failure::cannot(format!("the emulator ended {how}, and the simulation left no result"))
        .mend("what it printed above says why; a program that kills itself (SIGKILL) leaves none")
}

/// `1.20 G instructions, 31 M/s, 40 s left`.
fn told(progress: &Progress, since: Duration, max_instructions: Option<u64>) -> String {
    let seconds = since.as_secs_f64().max(1e-3);
    let instructions = progress.instructions as f64;
    let speed = instructions / seconds;
    let left = max_instructions.filter(|_| speed > 0.0).map(|most| (most as f64 - instructions).max(0.0) / speed);
    let left = left.map(|seconds| format!(", at most {seconds:.0} s left")).unwrap_or_default();
    format!("{} instructions, {:.0} M/s{left}", tierscope_report::count(instructions), speed / 1e6)
}
