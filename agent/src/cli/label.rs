//! What is typed to make the table that rankers learn from.

use super::simulate::Windows;
use crate::units::parse_count;
use clap::Args;
use std::ffi::OsString;
use std::path::PathBuf;

/// Arguments of `label`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  tierscope label --table model/data\n  \
                  tierscope label --table mine --programs bc,pr --seeds 1,2,3\n  \
                  tierscope label --table mine --tiers here.tiers.toml -- ./app --its-own args\n\n\
                  Each case is a native recording and two simulations: a minute or two. Cases that are in the table are\n\
                  left out, so that a run that was cut off goes on where it was; two runs with --part 1/2 and --part 2/2\n\
                  may work on one table. Needs qemu-x86_64 (Debian and Ubuntu: apt-get install qemu-user).\n\n\
                  With a command, that program is timed on this machine's own tiers, each object alone in the slow one;\n\
                  tierscope tiers --measure --dir DIR -o FILE makes the tier file.")]
pub struct LabelArguments {
    /// The directory of objects.csv and sets.csv, which are made or added to.
    #[arg(long, value_name = "DIR")]
    pub table: PathBuf,
    /// Workloads, with commas between them [default: all].
    #[arg(long, value_name = "NAME,NAME", value_delimiter = ',')]
    pub programs: Vec<String>,
    /// Sizes of the native run.
    #[arg(long, value_name = "SCALE,SCALE", value_delimiter = ',', default_value = "small",
          value_parser = ["tiny", "small", "medium", "large"])]
    pub scales: Vec<String>,
    /// Seeds of the data.
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_value = "1")]
    pub seeds: Vec<u64>,
    /// The fast tier, and the slow ones to compare it with.
    #[arg(long, value_name = "FILE|PRESET,PRESET", default_value = "ddr5,cxl-asic,optane-100x6")]
    pub tiers: String,
    /// Instructions of the steady phase that are simulated.
    #[arg(long, value_name = "N", value_parser = parse_count, default_value = "100M")]
    pub instructions: u64,
    /// Time only windows, at regular distances: instructions from one to the next, of a window, and before it to fill the queues.
    #[arg(long, value_name = "EVERY[,OF[,BEFORE]]", default_value = "1M,150k,50k")]
    pub sample: Windows,
    /// One in so many loads that miss the simulated last-level cache is a sample.
    #[arg(long, value_name = "N", default_value_t = 19, value_parser = clap::value_parser!(u64).range(1..))]
    pub sample_every: u64,
    /// Samples per second of the native recording.
    #[arg(short, long, value_name = "HZ", default_value_t = 997)]
    pub rate: u32,
    /// Do only this part of the cases: 1/2, 2/2.
    #[arg(long, value_name = "K/N", value_parser = parse_part, default_value = "1/1")]
    pub part: (usize, usize),
    /// Keep recordings and simulations here, and use those that are here instead of making them anew.
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
    /// Label cases again that are in the table.
    #[arg(short, long)]
    pub force: bool,
    /// Of a command: run each placement so many times, in turns.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(2..=1000))]
    pub passes: u16,
    /// Of a command: time the so many objects in which most of the run is.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = parse_objects)]
    pub objects: usize,
    /// Say nothing but errors.
    #[arg(short, long)]
    pub quiet: bool,
    /// A program to measure on this machine's tiers, and its arguments.
    #[arg(last = true, value_name = "CMD", requires = "tiers",
          conflicts_with_all = ["programs", "scales", "seeds", "part", "keep", "force"])]
    pub command: Vec<OsString>,
}

fn parse_objects(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|objects| (1..=1000).contains(objects)).ok_or_else(|| "write a number, 1 to 1000".into())
}

fn parse_part(text: &str) -> Result<(usize, usize), String> {
    let parts = text.split_once('/').and_then(|(part, of)| Some((part.parse().ok()?, of.parse().ok()?)));
    parts.filter(|(part, of)| (1..=*of).contains(part)).ok_or_else(|| "write 1/2 or 2/2".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_one_of_those_there_are() {
        assert_eq!(parse_part("2/3"), Ok((2, 3)));
        for nonsense in ["0/2", "3/2", "1", "a/b", "1/0"] {
            assert!(parse_part(nonsense).is_err(), "{nonsense}");
        }
    }
}
