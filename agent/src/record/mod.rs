//! `tierscope record`: run or attach to a program, and write a profile of where its memory time goes.
//!
//! ```text
//!  target ── shim ──> rings in a memfd ──┐
//!                                        ├─> sequence ──> process ──> rows ──> profile (in parts)
//!  kernel ── perf ──> rings per cpu ─────┘   (time order)  (state: address space, blocks, modules)
//! ```
//!
//! What is here is called by the command line, by the demo and by tests through [`Props`]: what is to be done, with
//! nothing of how it was typed.

mod address_space;
mod attribute;
mod blocks;
mod host;
mod modules;
mod objects;
mod output;
mod process;
mod recorder;
mod segment;
mod sequence;
mod session;
mod symbols;

use crate::failure::Failure;
use crate::launch::{self, Ended, Launched};
use crate::private;
use crate::signals::Signals;
pub(crate) use host::describe as describe_host;
use recorder::Recorder;
use serde::Serialize;
use session::Session;
use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;
pub use symbols::look_up_again as look_up_symbols_again;
use tierscope_binary::{NotLoadable, PreloadVerdict, Program};
use tierscope_sampler::{Kind, Sampler, SamplerConfig, SamplerError, Target};
use tierscope_wire::options::{self, Options, StackMode};

/// What to record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A program to start, with its arguments.
    Command(Vec<OsString>),
    /// A process that runs already.
    Pid(u32),
}

/// Which sampler to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SamplerChoice {
    /// The best that works here.
    Auto,
    /// Ticks of a CPU clock.
    Clock,
    /// Page faults.
    Fault,
}

/// Everything a recording needs to know.
#[derive(Debug, Clone)]
pub struct Props {
    /// Whom.
    pub subject: Subject,
    /// Where the profile goes; `None` for `NAME.PID.tsp` in the current directory.
    pub output: Option<PathBuf>,
    /// Replace a profile that is there.
    pub force: bool,
    /// Samples per second and thread.
    pub rate_hz: u32,
    /// How long to record, from the end of the delay; `None` until the program ends.
    pub duration: Option<Duration>,
    /// Samples of the first so many seconds are not kept.
    pub delay: Duration,
    /// How to sample.
    pub sampler: SamplerChoice,
    /// Record children and what they execute, too.
    pub follow_fork: bool,
    /// Load the shim.
    pub shim: bool,
    /// Mean bytes between two recorded small blocks.
    pub mean_bytes: u64,
    /// Blocks of this size and more are always recorded.
    pub large_bytes: u64,
    /// How call stacks are taken.
    pub stacks: StackMode,
    /// Look up functions and lines after recording.
    pub symbols: bool,
    /// Say nothing but errors.
    pub quiet: bool,
    /// Sleep this long between two visits of the rings. Only tests that need a slow agent change it.
    pub round: Duration,
}

impl Props {
    /// The defaults for a subject.
    pub fn new(subject: Subject) -> Self {
        Props {
            subject,
            output: None,
            force: false,
            rate_hz: 997,
            duration: None,
            delay: Duration::ZERO,
            sampler: SamplerChoice::Auto,
            follow_fork: true,
            shim: true,
            mean_bytes: options::DEFAULT_MEAN_BYTES,
            large_bytes: options::DEFAULT_LARGE_BYTES,
            stacks: StackMode::Unwind,
            symbols: true,
            quiet: false,
            round: Duration::from_millis(20),
        }
    }
}

/// One profile that was written.
#[derive(Debug, Clone, Serialize)]
pub struct Written {
    /// Its directory.
    pub path: PathBuf,
    /// Of this process.
    pub pid: u32,
    /// Name of the program.
    pub name: String,
    /// Samples in it.
    pub samples: u64,
    /// Share of the samples taken in user code that have an address.
    pub addressed: f64,
    /// Share of all samples that have an object.
    pub attributed: f64,
    /// Samples the kernel had no room for.
    pub lost_samples: u64,
    /// Allocation events that were lost.
    pub lost_allocations: u64,
    /// Free events that were lost.
    pub lost_frees: u64,
    /// Events taken from the shim.
    pub events: u64,
}

/// What a recording came to.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// The profiles, the one with the most samples first.
    pub profiles: Vec<Written>,
    /// `clock` or `fault`.
    pub sampler: &'static str,
    /// Why that one.
    pub chosen_because: String,
    /// Exit status of the program, by the shell's convention; `None` when attached.
    pub exit_status: Option<u8>,
    /// Wall-clock seconds that were sampled.
    pub duration_s: f64,
}

/// Opens the sampler that was asked for, or the best that opens. Says which and why.
fn open_sampler(target: Target, props: &Props) -> Result<(Sampler, Kind, String), Failure> {
    let open = |kind| {
        let config = SamplerConfig {
            kind,
            rate_hz: props.rate_hz,
            follow_children: props.follow_fork,
            ..SamplerConfig::default()
        };
        Sampler::open(target, &config)
    };
    let failure = |error: SamplerError| Failure::from_error("cannot sample", &error);
    match props.sampler {
        SamplerChoice::Clock => open(Kind::Clock).map(|s| (s, Kind::Clock, "asked for".into())).map_err(failure),
        SamplerChoice::Fault => open(Kind::Fault).map(|s| (s, Kind::Fault, "asked for".into())).map_err(failure),
        SamplerChoice::Auto => match open(Kind::Clock) {
            Ok(sampler) => {
                let because = "it works everywhere and weighs accesses by the time they take".into();
                Ok((sampler, Kind::Clock, because))
            }
            Err(clock) => match open(Kind::Fault) {
                Ok(sampler) => Ok((sampler, Kind::Fault, format!("the clock cannot be used: {clock}"))),
                Err(_) => Err(failure(clock)),
            },
        },
    }
}

/// The name a profile gets when none is given.
fn default_output(name: &str, pid: u32) -> PathBuf {
    PathBuf::from(format!("{}.{pid}.tsp", file_name_of(name)))
}

/// A program's name as the beginning of a file's.
pub(crate) fn file_name_of(name: &str) -> String {
    let clean: String = name.chars().map(|c| if c.is_alphanumeric() || "._-+".contains(c) { c } else { '_' }).collect();
    let clean = clean.trim_start_matches('.');
    if clean.is_empty() { "program".to_owned() } else { clean.to_owned() }
}

fn say(props: &Props, line: &str) {
    if !props.quiet {
        // Where standard error is closed there is nobody to tell.
        let _ = writeln!(std::io::stderr(), "tierscope: {line}");
    }
}

/// Records, and returns what was written. The program's own exit status is in the outcome, not an error.
///
/// # Errors
///
/// When nothing could be recorded, or the profile could not be written to its end; what was written stays.
pub fn run(props: &Props) -> Result<Outcome, Failure> {
    match &props.subject {
        Subject::Command(command) => run_command(props, command),
        Subject::Pid(pid) => run_attached(props, *pid),
    }
}

fn run_attached(props: &Props, pid: u32) -> Result<Outcome, Failure> {
    let process = Path::new("/proc").join(pid.to_string());
    if pid == 0 || !process.exists() {
        return Err(Failure::cannot(format!("there is no process {pid}")).mend("pgrep -a NAME lists processes by name"));
    }
    let signals = Signals::watch()?;
    let (sampler, kind, because) = open_sampler(Target::Attach { pid }, props)?;
    let name = std::fs::read_to_string(process.join("comm")).unwrap_or_default();
    let output = props.output.clone().unwrap_or_else(|| default_output(name.trim_end(), pid));
    let shim = "attached to a running program: its blocks were allocated before; their sites are not known".to_string();
    let mut recorder = Recorder::new(props, sampler, kind, because, None)?;
    recorder.adopt(pid, output, host::command_of(pid), shim)?;
    let progress = (!props.quiet).then(|| {
        let bar = indicatif::ProgressBar::new_spinner();
        bar.enable_steady_tick(Duration::from_millis(200));
        bar
    });
    while is_running(pid) && !recorder.time_is_up() {
        if signals.interrupt.load(Ordering::Relaxed) || signals.terminate.load(Ordering::Relaxed) {
            break;
        }
        recorder.round(props.round)?;
        if let Some(bar) = &progress {
            bar.set_message(recorder.progress());
        }
    }
    if let Some(bar) = progress {
        bar.finish_and_clear();
    }
    recorder.finish(None)
}

/// A process that has ended stays in `/proc` until its parent asks for its status: it does not run.
fn is_running(pid: u32) -> bool {
    let stat = i32::try_from(pid).ok().and_then(|pid| procfs::process::Process::new(pid).ok()?.stat().ok());
    stat.is_some_and(|stat| !matches!(stat.state, 'Z' | 'X' | 'x'))
}

fn run_command(props: &Props, command: &[OsString]) -> Result<Outcome, Failure> {
    let Some((name, _)) = command.split_first() else {
        return Err(Failure::usage("no program to record"));
    };
    let program = Program::find(name).map_err(|error| Failure::from_error("cannot record", &error))?;
    let verdict = program.preload_verdict();
    let (session, shim) = match (&verdict, props.shim) {
        (_, false) => (None, "not asked for (--no-shim)".to_string()),
        (PreloadVerdict::Loadable, true) => (Some(Session::open(crate::embedded::SHIM)?), "loaded".to_string()),
        (PreloadVerdict::NotLoadable(reason), true) => {
            say(props, &format!("without the shim: {reason}"));
            say(
                props,
                &format!("  globals, stacks and mappings are recorded, heap sites are not. {}", reason.advice()),
            );
            (None, reason.to_string())
        }
    };
    let changes = match &session {
        Some(session) => preload_environment(props, session)?,
        None => Vec::new(),
    };
    let signals = Signals::watch()?;
    let mut launched = launch::prepare(&program.command, command, &changes)?;
    let pid = launched.pid();
    let base = Path::new(name).file_name().unwrap_or(name).to_string_lossy().into_owned();
    let output = props.output.clone().unwrap_or_else(|| default_output(&base, pid));
    let prepared = open_sampler(Target::Launch { pid }, props).and_then(|(sampler, kind, because)| {
        let mut recorder = Recorder::new(props, sampler, kind, because, session)?;
        let words = command.iter().map(|word| word.to_string_lossy().into_owned()).collect();
        recorder.begin(pid, output, words, shim)?;
        Ok(recorder)
    });
    let mut recorder = match prepared {
        Ok(recorder) => recorder,
        Err(failure) => {
            // Dropping its pipe lets the child end without having executed anything.
            drop(launched);
            return Err(failure);
        }
    };
    if let Err(failure) = launched.start(&program.command) {
        recorder.discard();
        return Err(failure);
    }
    if matches!(verdict, PreloadVerdict::NotLoadable(NotLoadable::Secure(_))) {
        // The kernel takes a task's events away when it gains privileges by exec; whoever may look gets new ones.
        match open_sampler(Target::Attach { pid }, props) {
            Ok((sampler, ..)) => recorder.attach_again(sampler),
            Err(failure) => say(props, &format!("nothing can be sampled of a privileged program: {failure}")),
        }
    }
    let outcome = record_until_end(props, &mut launched, &mut recorder, &signals);
    let ended = launched.poll();
    let finished = outcome.and_then(|()| recorder.finish(ended));
    // The program goes on when only the recording is over; its end is still ours to report.
    let ended = wait_for_end(&mut launched, &signals);
    recorder.close_session();
    finished.map(|mut outcome| {
        outcome.exit_status = Some(ended.as_status());
        outcome
    })
}

/// Rounds until the program or the time is over, or somebody asks for the end.
fn record_until_end(
    props: &Props,
    launched: &mut Launched,
    recorder: &mut Recorder<'_>,
    signals: &Signals,
) -> Result<(), Failure> {
    // An interrupt from the terminal reaches the program as well: it is given time to end by itself.
    const GRACE_ROUNDS: u32 = 50;
    let mut interrupted_rounds = 0;
    while launched.poll().is_none() && !recorder.time_is_up() && interrupted_rounds < GRACE_ROUNDS {
        if signals.terminate.swap(false, Ordering::Relaxed) {
            launched.signal(libc::SIGTERM);
            interrupted_rounds += 1;
        }
        interrupted_rounds += u32::from(interrupted_rounds > 0 || signals.interrupt.load(Ordering::Relaxed));
        recorder.round(props.round)?;
    }
    Ok(())
}

fn wait_for_end(launched: &mut Launched, signals: &Signals) -> Ended {
    loop {
        if let Some(ended) = launched.poll() {
            return ended;
        }
        if signals.terminate.swap(false, Ordering::Relaxed) {
            launched.signal(libc::SIGTERM);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The environment that loads and configures the shim.
fn preload_environment(props: &Props, session: &Session) -> Result<Vec<(&'static str, OsString)>, Failure> {
    let socket = session.socket();
    let socket = socket.to_str().ok_or_else(|| Failure::cannot("the private directory's name is no text"))?;
    let options = Options {
        socket,
        mean_bytes: props.mean_bytes,
        large_bytes: props.large_bytes,
        stacks: props.stacks,
        follow: props.follow_fork,
        trace: false,
    };
    Ok(vec![
        ("LD_PRELOAD", private::preload_list(session.shim())),
        (options::VARIABLE, OsString::from(options.to_string())),
    ])
}
