//! What is typed to train a ranker and to see how good it is.

use clap::{Args, ValueEnum};
use std::path::PathBuf;
use tierscope_rank::Family;

/// Arguments of `train`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tierscope train --table model/data\n  tierscope train --table model/data -o clock.model.json --family clock\n\n\
                  The same table gives the same model, bit for bit."
)]
pub struct TrainArguments {
    /// The directory of objects.csv and sets.csv, which tierscope label makes.
    #[arg(long, value_name = "DIR")]
    pub table: PathBuf,
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
#[command(
    after_help = "Examples:\n  tierscope eval --table model/data\n  tierscope eval --table model/data --family clock --json\n\n\
                  Every program is ranked by a model that was trained without it. What the figures are is in docs/ranking.md."
)]
pub struct EvalArguments {
    /// The directory of objects.csv and sets.csv, which tierscope label makes.
    #[arg(long, value_name = "DIR")]
    pub table: PathBuf,
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
