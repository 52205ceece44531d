//! The command line as it is typed. One definition per flag yields parsing, `--help`, man pages and completions; what it
//! means is worked out in [`crate::commands`].

mod advise;
mod label;
mod place;
mod ranking;
mod simulate;

pub use advise::{AdviseArguments, Fast, TiersArguments};
pub use label::LabelArguments;
pub use place::{CompileArguments, RunArguments, ShimArguments, Strictness};
pub use ranking::{EvalArguments, FamilyName, MeasuredArguments, TrainArguments};
pub use simulate::{Shape, SimulateArguments, Windows};

use crate::units::{parse_bytes, parse_duration};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;
use tierscope_model::summary::SortKey;

/// Finds the few data objects of a program that deserve fast memory.
#[derive(Debug, Parser)]
#[command(name = "tierscope", version, max_term_width = 100, propagate_version = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run or attach to a program and write a profile of where its memory time goes.
    Record(RecordArguments),
    /// Show which objects a profile's memory time goes to.
    Report(ReportArguments),
    /// Say which objects belong in fast memory, what that is predicted to cost, and write the policy that places them.
    Advise(AdviseArguments),
    /// Run a program with its objects placed as a policy says, and tell what came of it.
    Run(RunArguments),
    /// Run a program on a model of memory it does not have, and say exactly what every object costs in every tier.
    Simulate(Box<SimulateArguments>),
    /// Make the table that rankers learn from: record and simulate the shipped workloads.
    Label(Box<LabelArguments>),
    /// Train a ranker on the table, and show what was chosen from what.
    Train(TrainArguments),
    /// Show how good every ranker is on programs that nothing was learnt from.
    Eval(Box<EvalArguments>),
    /// Write a policy as the table the preload library reads, for runs without tierscope.
    Compile(CompileArguments),
    /// Write the preload library to a file.
    Shim(ShimArguments),
    /// Say what kinds of memory this machine has, and measure them.
    Tiers(TiersArguments),
    /// Say what works on this machine, and the command that mends what does not.
    Doctor(DoctorArguments),
    /// Record the shipped workload, report, advise and run it placed: what all this is about, in about a minute.
    Demo(DemoArguments),
    /// Write a shell's completions to standard output.
    Completions {
        /// For which shell.
        shell: clap_complete::Shell,
    },
    /// Write the manual pages to a directory.
    Man {
        /// An existing directory.
        directory: PathBuf,
    },
}

/// Arguments of `record`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tierscope record -- ./app --its-own args\n  tierscope record -d 30s -p $(pidof redis-server)"
)]
pub struct RecordArguments {
    /// Where the profile goes [default: NAME.PID.tsp].
    #[arg(short, long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// Replace a profile that is there.
    #[arg(short, long)]
    pub force: bool,
    /// Samples per second of CPU time of each thread.
    #[arg(short, long, value_name = "HZ", default_value_t = 997)]
    pub rate: u32,
    /// Stop recording after this time; the program goes on.
    #[arg(short, long, value_name = "SECS", value_parser = parse_duration)]
    pub duration: Option<Duration>,
    /// Keep no samples of the first this long (start-up); allocations are recorded from the start.
    #[arg(long, value_name = "SECS", value_parser = parse_duration, default_value = "0")]
    pub delay: Duration,
    /// Where samples come from.
    #[arg(long, value_enum, default_value_t = SamplerName::Auto)]
    pub sampler: SamplerName,
    /// Record a process that runs already.
    #[arg(short, long, value_name = "PID", conflicts_with = "command", required_unless_present = "command")]
    pub pid: Option<u32>,
    /// Record the children and what they execute, each into a profile of its own.
    #[arg(long, value_name = "yes|no", default_value = "yes", value_parser = parse_yes_no, action = clap::ArgAction::Set)]
    pub follow_fork: bool,
    /// Mean bytes of small blocks between two that are recorded; 1 records each.
    #[arg(long, value_name = "BYTES", value_parser = parse_positive_bytes, default_value = "256KiB")]
    pub sample_bytes: u64,
    /// Blocks of this size and more are always recorded.
    #[arg(long, value_name = "BYTES", value_parser = parse_positive_bytes, default_value = "16KiB")]
    pub large_bytes: u64,
    /// How call stacks are taken.
    #[arg(long, value_enum, default_value_t = StackName::Unwind)]
    pub stacks: StackName,
    /// Do not preload the shim: no heap sites, nothing of ours in the program.
    #[arg(long)]
    pub no_shim: bool,
    /// Do not look up functions and lines after recording (report does it then).
    #[arg(long)]
    pub no_symbols: bool,
    /// Write what was recorded, as JSON, to a file.
    #[arg(long, value_name = "FILE")]
    pub stats: Option<PathBuf>,
    /// Say nothing but errors.
    #[arg(short, long)]
    pub quiet: bool,
    /// Milliseconds between two visits of the rings; for tests that need a slow agent.
    #[arg(long, hide = true, default_value_t = 20)]
    pub round_ms: u64,
    /// The program and its arguments.
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// Arguments of `report`.
#[derive(Debug, Args)]
pub struct ReportArguments {
    /// A profile, `NAME.tsp`.
    pub profile: PathBuf,
    /// Write the report as JSON (schema tierscope.report/1) to standard output.
    #[arg(long, conflicts_with = "html")]
    pub json: bool,
    /// Show so many objects.
    #[arg(short = 'n', long, value_name = "N")]
    pub top: Option<usize>,
    /// Sort by this [default: share; criticality where time was simulated].
    #[arg(short, long, value_name = "KEY", value_parser = sort_keys())]
    pub sort: Option<SortKey>,
    /// Write the report as one self-contained page to a file.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Look for programs and their debug files here, too (repeatable), and look up symbols anew.
    #[arg(long, value_name = "DIR")]
    pub debug_dir: Vec<PathBuf>,
    /// Show call stacks of every object shown.
    #[arg(short, long)]
    pub verbose: bool,
}

/// Arguments of `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArguments {
    /// Write the findings as JSON (schema tierscope.doctor/1) to standard output.
    #[arg(long)]
    pub json: bool,
    /// Examine this process, too.
    #[arg(short, long, value_name = "PID", conflicts_with = "command")]
    pub pid: Option<u32>,
    /// Examine this command, too.
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// Arguments of `demo`.
#[derive(Debug, Args)]
pub struct DemoArguments {
    /// Where the profile goes.
    #[arg(short, long, value_name = "DIR", default_value = "demo.tsp")]
    pub output: PathBuf,
    /// How large a graph: tiny runs in a second, small in a quarter of a minute.
    #[arg(long, default_value = "small", value_parser = ["tiny", "small", "medium", "large"])]
    pub scale: String,
}

/// Samplers by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SamplerName {
    /// The best that works here; the profile says which and why.
    Auto,
    /// A processor's performance-monitoring unit.
    Pmu,
    /// Ticks of a CPU clock: works without a PMU, weighs accesses by their time.
    Clock,
    /// Page faults.
    Fault,
}

/// Ways to take a stack, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StackName {
    /// From .eh_frame: works for code without frame pointers.
    Unwind,
    /// Along frame pointers: cheaper, for code compiled with -fno-omit-frame-pointer.
    FramePointer,
    /// The caller of the allocator only.
    Caller,
}

/// The words [`SortKey`] knows, offered by help and completions.
fn sort_keys() -> impl TypedValueParser<Value = SortKey> {
    PossibleValuesParser::new(SortKey::ALL.map(SortKey::as_str)).try_map(|word| word.parse::<SortKey>())
}

fn parse_yes_no(text: &str) -> Result<bool, String> {
    match text {
        "yes" | "true" | "1" => Ok(true),
        "no" | "false" | "0" => Ok(false),
        _ => Err("write yes or no".into()),
    }
}

fn parse_positive_bytes(text: &str) -> Result<u64, String> {
    match parse_bytes(text)? {
        0 => Err("must be at least 1".into()),
        bytes if bytes > 1 << 40 => Err("must be at most 1TiB".into()),
        bytes => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_programs_flags_are_its_own() {
        let cli = Cli::try_parse_from(["tierscope", "record", "-d", "2m", "--", "app", "-d", "x", "--"]).unwrap();
        let Command::Record(arguments) = cli.command else { panic!("not record") };
        assert_eq!(arguments.command, ["app", "-d", "x", "--"]);
        assert_eq!(arguments.duration, Some(Duration::from_secs(120)));
    }

    #[test]
    fn a_subject_is_needed_and_one_is_enough() {
        assert!(Cli::try_parse_from(["tierscope", "record"]).is_err());
        assert!(Cli::try_parse_from(["tierscope", "record", "-p", "1", "--", "x"]).is_err());
        assert!(Cli::try_parse_from(["tierscope", "record", "-p", "1"]).is_ok());
    }
}
