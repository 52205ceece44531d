//! What is typed to train a ranker and to see how good it is.

use super::simulate::{DEFAULT_TIERS, Shape, Windows};
use crate::units::{parse_count, parse_duration};
use clap::{Args, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;
use tierscope_rank::Family;

/// Arguments of `train`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tierscope train\n  tierscope train --table model/data -o clock.model.json --family clock\n\n\
                  The same table gives the same model, bit for bit."
)]
pub struct TrainArguments {
    /// The directory of objects.csv and sets.csv, which tierscope label makes [default: the table of this version].
    #[arg(long, value_name = "DIR")]
    pub table: Option<PathBuf>,
    /// Which samples the model is to rank.
    #[arg(long, value_enum, default_value_t = FamilyName::Both)]
    pub family: FamilyName,
    /// Write the model (of one family) to a file.
    #[arg(short, long, value_name = "FILE", requires = "family")]
    pub output: Option<PathBuf>,
    /// Replace a file that is there.
    #[arg(short, long)]
    pub force: bool,
    /// Write what was trained as JSON (schema tierscope.train/1) to standard output.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `eval`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  tierscope eval\n  tierscope eval --table model/data --family clock --json\n  \
                  tierscope eval --program --max-instructions 300M -- ./app --its-own args\n\n\
                  Every program is ranked by a model that was trained without it. What the figures are is in docs/ranking.md.")]
pub struct EvalArguments {
    /// The directory of objects.csv and sets.csv, which tierscope label makes [default: the table of this version].
    #[arg(long, value_name = "DIR")]
    pub table: Option<PathBuf>,
    /// Which samples are ranked.
    #[arg(long, value_enum, default_value_t = FamilyName::Both)]
    pub family: FamilyName,
    /// Try each group of features alone, and all without it, too.
    #[arg(long)]
    pub ablation: bool,
    /// Write the evaluation as JSON (schema tierscope.eval/1) to standard output.
    #[arg(long)]
    pub json: bool,
    /// Show no progress.
    #[arg(short, long)]
    pub quiet: bool,
    /// Evaluate this program, which is recorded and then simulated twice, instead of those in the table.
    #[arg(long, requires = "command", conflicts_with = "ablation")]
    pub program: bool,
    /// How it is recorded and simulated.
    #[command(flatten)]
    pub measured: MeasuredArguments,
    /// The program and its arguments. Its standard input, where it has one, is a file, which each run reads from the start.
    #[arg(last = true, requires = "program", value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// How a program is recorded and simulated to be evaluated.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of --program")]
pub struct MeasuredArguments {
    /// What it is called: rows of a program of this name are not trained on [default: the name of its file].
    #[arg(long, value_name = "NAME", requires = "program")]
    pub name: Option<String>,
    /// The fast tier, and the slow ones to compare it with.
    #[arg(long, value_name = "FILE|PRESET,PRESET", default_value = DEFAULT_TIERS, requires = "program")]
    pub tiers: String,
    /// Last-level cache [default: this machine's].
    #[arg(long, value_name = "BYTES[/WAYS]", requires = "program")]
    pub llc: Option<Shape>,
    /// Second-level cache of each core, or none [default: this machine's].
    #[arg(long, value_name = "BYTES[/WAYS]|none", requires = "program")]
    pub l2: Option<Shape>,
    /// Simulate only what is allocated in the first so many instructions (100M).
    #[arg(long, value_name = "N", value_parser = parse_count, default_value = "0", requires = "program")]
    pub fast_forward: u64,
    /// Only warm the simulated caches in so many instructions after that.
    #[arg(long, value_name = "N", value_parser = parse_count, default_value = "0", requires = "program")]
    pub warm_up: u64,
    /// Keep no native samples of so long from the start: what --fast-forward is to the simulation.
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "0s", requires = "program")]
    pub delay: Duration,
    /// End the simulation after so many instructions.
    #[arg(long, value_name = "N", value_parser = parse_count, requires = "program")]
    pub max_instructions: Option<u64>,
    /// Only what comes after this mark counts (tierscope_mark), natively and in the simulation.
    #[arg(long, value_name = "MARK", requires = "program")]
    pub from_mark: Option<String>,
    /// Only what comes before this mark counts.
    #[arg(long, value_name = "MARK", requires = "program")]
    pub to_mark: Option<String>,
    /// Time only windows, at regular distances: instructions from one to the next, of a window, and before it to fill the queues.
    #[arg(long, value_name = "EVERY[,LENGTH[,WARM-UP]]", default_value = "1M,150k,50k", requires = "program")]
    pub sample: Windows,
    /// One in so many loads that miss the simulated last-level cache is a sample.
    #[arg(long, value_name = "N", default_value_t = 499, value_parser = clap::value_parser!(u64).range(1..), requires = "program")]
    pub sample_every: u64,
    /// Samples per second of the recording.
    #[arg(long, value_name = "HZ", default_value_t = 997, requires = "program")]
    pub rate: u32,
    /// Keep recording and simulation here, and go on from what is here already.
    #[arg(long, value_name = "DIR", requires = "program")]
    pub keep: Option<PathBuf>,
}

/// Families of features by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FamilyName {
    /// Samples of time.
    Clock,
    /// Samples of misses with latencies: a PMU's, or the simulator's.
    Levels,
    /// One after the other.
    Both,
}

impl FamilyName {
    /// The families it names.
    #[must_use]
    pub fn families(self) -> &'static [Family] {
        match self {
            Self::Clock => &[Family::Clock],
            Self::Levels => &[Family::Levels],
            Self::Both => &Family::ALL,
        }
    }
}
