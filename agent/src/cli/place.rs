//! What is typed to carry a policy out.

use clap::{Args, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;
use tierscope_policy::Match;

/// Arguments of `run`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  tierscope run --policy app.policy.toml -- ./app --its-own args\n  \
                  tierscope run --policy app.policy.toml --stats app.run.json --strict function -- ./app")]
pub struct RunArguments {
    /// The policy, as tierscope advise writes it.
    #[arg(long, value_name = "FILE")]
    pub policy: PathBuf,
    /// Write what was placed where, as JSON (schema tierscope.run/1), to a file.
    #[arg(long, value_name = "FILE")]
    pub stats: Option<PathBuf>,
    /// How the sites of a module that was rebuilt are found [default: as the policy says].
    #[arg(long, value_enum, value_name = "HOW")]
    pub strict: Option<Strictness>,
    /// Say nothing but errors.
    #[arg(short, long)]
    pub quiet: bool,
    /// The program and its arguments.
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// Arguments of `compile`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tierscope compile app.policy.toml -o app.table -- ./app")]
pub struct CompileArguments {
    /// The policy, as tierscope advise writes it.
    pub policy: PathBuf,
    /// Where the table goes.
    #[arg(short, long, value_name = "TABLE")]
    pub output: PathBuf,
    /// Replace a file that is there.
    #[arg(short, long)]
    pub force: bool,
    /// How the sites of a module that was rebuilt are found [default: as the policy says].
    #[arg(long, value_enum, value_name = "HOW")]
    pub strict: Option<Strictness>,
    /// Say nothing but errors.
    #[arg(short, long)]
    pub quiet: bool,
    /// The program it is for, and its arguments; it is not run.
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// Arguments of `shim`.
#[derive(Debug, Args)]
pub struct ShimArguments {
    /// Where the library goes.
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Replace a file that is there.
    #[arg(short, long)]
    pub force: bool,
}

/// How the sites of a rebuilt module are found, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Strictness {
    /// Not at all: its rules are left out.
    Exact,
    /// By function, file and line.
    Line,
    /// By function alone.
    Function,
}

impl From<Strictness> for Match {
    fn from(strictness: Strictness) -> Match {
        match strictness {
            Strictness::Exact => Match::Exact,
            Strictness::Line => Match::Line,
            Strictness::Function => Match::Function,
        }
    }
}
