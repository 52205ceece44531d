//! What is typed to be advised, and to know what memory there is to place in.

use crate::units::{parse_bytes, parse_percent};
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Arg, Args};
use std::ffi::OsStr;
use std::path::PathBuf;
use tierscope_model::advice::Ranker;

/// The least that is placed.
const PAGE: u64 = 4096;

/// Arguments of `advise`.
#[derive(Debug, Args)]
#[command(
    group = clap::ArgGroup::new("goal").required(true).args(["fast", "max_slowdown"]),
    after_help = "Examples:\n  tierscope advise app.4711.tsp --fast 25%\n  \
                  tierscope advise app.4711.tsp --fast 4GiB --slow-node 1 -o app.policy.toml\n  \
                  tierscope advise app.4711.tsp --max-slowdown 5% --tiers ddr5,optane-100x6\n  \
                  tierscope tiers --measure --dir /mnt/tier -o here.tiers.toml && \
                  tierscope advise app.4711.tsp --fast 25% --tiers here.tiers.toml"
)]
pub struct AdviseArguments {
    /// A profile, `NAME.tsp`.
    pub profile: PathBuf,
    /// How much fast memory there is: bytes (4GiB) or a part of what can be placed (25%).
    #[arg(long, value_name = "BYTES|PERCENT", value_parser = parse_fast)]
    pub fast: Option<Fast>,
    /// Find the least fast memory that keeps the upper end of the predicted slowdown to this.
    #[arg(long, value_name = "PERCENT", value_parser = parse_slowdown)]
    pub max_slowdown: Option<f64>,
    /// Which kinds of memory there are, the fastest first: a tier file, or names of presets (see tierscope tiers --presets)
    /// [default: those of this machine].
    #[arg(long, value_name = "FILE|PRESET,..")]
    pub tiers: Option<String>,
    /// The NUMA nodes that are the fastest tier [default: those with CPUs].
    #[arg(long, value_name = "N,..", value_delimiter = ',')]
    pub fast_node: Vec<u16>,
    /// The NUMA nodes that are the slowest tier [default: those without CPUs].
    #[arg(long, value_name = "N,..", value_delimiter = ',', conflicts_with = "slow_dir")]
    pub slow_node: Vec<u16>,
    /// Files in this directory are the slowest tier.
    #[arg(long, value_name = "DIR")]
    pub slow_dir: Option<PathBuf>,
    /// This DAX device is the slowest tier.
    #[arg(long, value_name = "DEVICE", conflicts_with_all = ["slow_dir", "slow_node"])]
    pub slow_dax: Option<PathBuf>,
    /// What orders the objects; random:SEED is by lot.
    #[arg(long, value_name = "NAME", value_parser = Rankers, default_value = Ranker::Model.as_str())]
    pub ranker: Ranker,
    /// Write the policy that tierscope run carries out.
    #[arg(short, long, value_name = "POLICY")]
    pub output: Option<PathBuf>,
    /// Bring the advice into a policy that is there; rules and comments that a person wrote stay.
    #[arg(short, long, requires = "output")]
    pub force: bool,
    /// Write the advice as JSON (schema tierscope.advice/1) to standard output.
    #[arg(long)]
    pub json: bool,
    /// Show so many objects.
    #[arg(short = 'n', long, value_name = "N")]
    pub top: Option<usize>,
    /// Write the policy and say nothing but errors.
    #[arg(short, long, requires = "output", conflicts_with = "json")]
    pub quiet: bool,
}

/// Arguments of `tiers`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  tierscope tiers --measure --dir /mnt/tier -o here.tiers.toml\n  \
                  tierscope tiers --preset ddr5,cxl-asic -o planned.tiers.toml\n  \
                  tierscope tiers --tiers planned.tiers.toml")]
pub struct TiersArguments {
    /// Write what was found as JSON (schema tierscope.tiers/1) to standard output.
    #[arg(long)]
    pub json: bool,
    /// Measure latency and bandwidth of every node, some five seconds for each.
    #[arg(long, conflicts_with_all = ["tiers", "preset", "presets"])]
    pub measure: bool,
    /// Measure files in this directory, too (repeatable).
    #[arg(long, value_name = "DIR", requires = "measure")]
    pub dir: Vec<PathBuf>,
    /// Read a tier file instead, check it, and say what of it this machine has not.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["preset", "presets", "output"])]
    pub tiers: Option<PathBuf>,
    /// Print a preset as a tier file; several make one file, the fastest first.
    #[arg(long, value_name = "NAME,..", conflicts_with = "presets")]
    pub preset: Option<String>,
    /// List the presets with what is known of each and from where.
    #[arg(long, conflicts_with = "output")]
    pub presets: bool,
    /// Write a tier file, for tierscope advise --tiers.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Replace a file that is there.
    #[arg(short, long, requires = "output")]
    pub force: bool,
}

/// How much fast memory there is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fast {
    /// Bytes.
    Bytes(u64),
    /// A part of what can be placed, 0 to 1.
    Part(f64),
}

/// Names of rankers, offered by help and completions; `random` takes a seed.
#[derive(Debug, Clone)]
struct Rankers;

impl TypedValueParser for Rankers {
    type Value = Ranker;

    fn parse_ref(&self, command: &clap::Command, argument: Option<&Arg>, value: &OsStr) -> Result<Ranker, clap::Error> {
        if let Some(word) = value.to_str().filter(|word| word.starts_with("random:")) {
            return word.parse().map_err(|why: String| {
                clap::Error::raw(ErrorKind::ValueValidation, format!("--ranker {word}: {why}\n")).with_cmd(command)
            });
        }
        let names = PossibleValuesParser::new(Ranker::ALL.map(Ranker::as_str));
        names.try_map(|word| word.parse::<Ranker>()).parse_ref(command, argument, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(
            Ranker::ALL.map(|ranker| PossibleValue::new(ranker.as_str()).help(ranker.describe())).into_iter(),
        ))
    }
}

fn parse_fast(text: &str) -> Result<Fast, String> {
    if text.contains('%') {
        return match parse_percent(text)? {
            part if part <= 1.0 => Ok(Fast::Part(part)),
            _ => Err("more than everything; write 0% to 100%, or bytes (4GiB)".into()),
        };
    }
    match parse_bytes(text).map_err(|_| format!("{text:?} is no budget; write bytes (4GiB) or a part (25%)"))? {
        // Nobody has so little memory to give: it was meant as a part.
        bytes @ 1..PAGE => {
            Err(format!("{bytes} bytes hold nothing; write a part as {bytes}%, or a size with its unit (4GiB)"))
        }
        bytes => Ok(Fast::Bytes(bytes)),
    }
}

fn parse_slowdown(text: &str) -> Result<f64, String> {
    if text.contains('%') {
        return parse_percent(text);
    }
    Err(format!("{text:?} is no slowdown; write it in per cent, as 5%"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;

    #[test]
    fn a_budget_is_bytes_or_a_part_and_a_slowdown_is_in_per_cent() {
        assert_eq!(parse_fast("25%"), Ok(Fast::Part(0.25)));
        assert_eq!(parse_fast("4GiB"), Ok(Fast::Bytes(4 << 30)));
        assert_eq!(parse_fast("0"), Ok(Fast::Bytes(0)));
        assert_eq!(parse_slowdown("5%"), Ok(0.05));
        for (wrong, instead) in [("101%", "0% to 100%"), ("-1%", "25%"), ("25", "25%"), ("much", "4GiB"), ("%", "25%")]
        {
            let said = parse_fast(wrong).unwrap_err();
            assert!(said.contains(instead), "{wrong}: {said}");
        }
        for wrong in ["5", "-5%", "0.05", "", "x%"] {
            assert!(parse_slowdown(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_ranker_is_one_of_those_there_are_or_a_lot_with_its_seed() {
        let ranker = |word: &str| -> Result<Ranker, String> {
            let line = ["tierscope", "advise", "a.tsp", "--fast", "25%", "--ranker", word];
            match Cli::try_parse_from(line).map_err(|error| error.to_string())?.command {
                Command::Advise(arguments) => Ok(arguments.ranker),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(ranker("hotness"), Ok(Ranker::Hotness));
        assert_eq!(ranker("random:7"), Ok(Ranker::Random(7)));
        assert!(ranker("random:x").unwrap_err().contains("write random:7"));
        let said = ranker("hottness").unwrap_err();
        assert!(said.contains("possible values") && said.contains("first-touch"), "{said}");
    }

    #[test]
    fn an_advice_is_for_a_budget_or_for_a_slowdown() {
        let parsed = |words: &[&str]| Cli::try_parse_from(["tierscope", "advise", "a.tsp"].iter().chain(words));
        assert!(parsed(&[]).is_err());
        assert!(parsed(&["--fast", "25%", "--max-slowdown", "5%"]).is_err());
        assert!(parsed(&["--fast", "25%", "--slow-node", "1", "--slow-dir", "/"]).is_err());
        assert!(parsed(&["--fast", "25%", "-f"]).is_err(), "nothing to overwrite");
        assert!(parsed(&["--max-slowdown", "5%", "--fast-node", "0,1"]).is_ok());
    }
}
