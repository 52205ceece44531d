//! What is typed to simulate a program.

use crate::units::{parse_bytes, parse_count};
use clap::{Args, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;
use tierscope_sim::machine::{PageSize, Replacement};

pub(super) const DEFAULT_TIERS: &str = "ddr5,cxl-asic";
const DEFAULT_SAMPLE_EVERY: u64 = 1000;
const DEFAULT_LANES: u16 = 64;
const DEFAULT_SWEEP_RUNS: u8 = 3;

/// Arguments of `simulate`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  tierscope simulate -- ./app --its-own args\n  \
                  tierscope simulate --tiers ddr5,cxl-asic,optane-100x6 --llc 8MiB -- ./app\n  \
                  tierscope simulate --policy app.policy.toml --stats app.sim.json -- ./app\n\n\
                  Needs qemu-x86_64 (Debian and Ubuntu: apt-get install qemu-user). Everything that is modelled, and\n\
                  what is not, is in docs/simulator.md.")]
pub struct SimulateArguments {
    /// Where the profile goes [default: NAME.sim.tsp].
    #[arg(short, long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// Replace a profile that is there.
    #[arg(short, long)]
    pub force: bool,
    /// Presets with commas between them, or a tier file: the fastest first, each of the others is compared with it.
    #[arg(long, value_name = "FILE|PRESET,PRESET", default_value = DEFAULT_TIERS)]
    pub tiers: String,
    /// Time this placement, too.
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// Time Memory Mode, too: this much of the fastest tier as a cache of each slower one.
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub memory_mode: Option<u64>,
    /// Count only: no cycles, several times as fast.
    #[arg(long, conflicts_with_all = ["policy", "memory_mode", "sample", "lanes"])]
    pub no_timing: bool,
    /// Last-level cache [default: this machine's].
    #[arg(long, value_name = "BYTES[/WAYS]")]
    pub llc: Option<Shape>,
    /// Second-level cache of each core, or none [default: this machine's].
    #[arg(long, value_name = "BYTES[/WAYS]|none")]
    pub l2: Option<Shape>,
    /// First-level data cache of each core [default: this machine's].
    #[arg(long, value_name = "BYTES[/WAYS]")]
    pub l1d: Option<Shape>,
    /// First-level instruction cache of each core; without one fetching instructions touches nothing [default: none].
    #[arg(long, value_name = "BYTES[/WAYS]")]
    pub l1i: Option<Shape>,
    /// Which line of a set is given up.
    #[arg(long, value_enum, value_name = "POLICY", default_value_t = ReplacementName::Lru)]
    pub replacement: ReplacementName,
    /// Whether the last-level cache holds all that smaller ones hold.
    #[arg(long)]
    pub inclusive: bool,
    /// Size of the pages the TLBs translate.
    #[arg(long, value_enum, value_name = "SIZE", default_value_t = PageName::Small)]
    pub pages: PageName,
    /// Simulate no TLB: translating takes no time and is not counted.
    #[arg(long)]
    pub no_tlb: bool,
    /// Simulate no prefetcher.
    #[arg(long)]
    pub no_prefetch: bool,
    /// Cycles in a nanosecond [default: this machine's].
    #[arg(long, value_name = "GHZ")]
    pub ghz: Option<f64>,
    /// Follow only what is allocated in the first so many instructions (100M).
    #[arg(long, value_name = "N", value_parser = parse_count, default_value = "0")]
    pub fast_forward: u64,
    /// Only warm the caches in so many instructions after that.
    #[arg(long, value_name = "N", value_parser = parse_count, default_value = "0")]
    pub warm_up: u64,
    /// End the program after so many instructions were simulated.
    #[arg(long, value_name = "N", value_parser = parse_count)]
    pub max_instructions: Option<u64>,
    /// Simulate from this mark on (tierscope_mark); repeat for several.
    #[arg(long, value_name = "MARK")]
    pub from_mark: Vec<String>,
    /// Simulate until this mark; repeat for several.
    #[arg(long, value_name = "MARK")]
    pub to_mark: Vec<String>,
    /// Time only windows, at regular distances: instructions from one to the next, of a window, and before it to fill
    /// the queues.
    #[arg(long, value_name = "EVERY[,LENGTH[,WARM-UP]]", num_args = 0..=1, require_equals = true,
          default_missing_value = "10M,100k,100k")]
    pub sample: Option<Windows>,
    /// Keep every so many-th load that missed the last-level cache as a sample; 0 keeps none.
    #[arg(long, value_name = "N", value_parser = parse_count, default_value_t = DEFAULT_SAMPLE_EVERY)]
    pub sample_every: u64,
    /// Time at most so many placements at once; those of objects that matter least are given up for others.
    #[arg(long, value_name = "N", default_value_t = DEFAULT_LANES, value_parser = clap::value_parser!(u16).range(2..=4096))]
    pub lanes: u16,
    /// Run the program again to search the best placement for 10, 20 ... 90 % of its memory, and time it beside greedy ones.
    #[arg(long, conflicts_with = "no_timing")]
    pub budget_sweep: bool,
    /// Runs that the search may take, after the first.
    #[arg(long, value_name = "N", default_value_t = DEFAULT_SWEEP_RUNS, requires = "budget_sweep", value_parser = clap::value_parser!(u8).range(1..=100))]
    pub sweep_runs: u8,
    /// The emulator [default: qemu-x86_64 in PATH].
    #[arg(long, value_name = "FILE", env = "TIERSCOPE_QEMU")]
    pub qemu: Option<PathBuf>,
    /// Do not look up functions and lines afterwards (report does it then).
    #[arg(long)]
    pub no_symbols: bool,
    /// Write what was found, as JSON (schema tierscope.report/1), to a file.
    #[arg(long, value_name = "FILE")]
    pub stats: Option<PathBuf>,
    /// Say nothing but errors.
    #[arg(short, long)]
    pub quiet: bool,
    /// The program and its arguments.
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

impl SimulateArguments {
    /// What is simulated where nothing else is said than the program and its arguments.
    pub(crate) fn of(command: Vec<OsString>) -> Self {
        Self {
            output: None,
            force: false,
            tiers: DEFAULT_TIERS.to_owned(),
            policy: None,
            memory_mode: None,
            no_timing: false,
            llc: None,
            l2: None,
            l1d: None,
            l1i: None,
            replacement: ReplacementName::Lru,
            inclusive: false,
            pages: PageName::Small,
            no_tlb: false,
            no_prefetch: false,
            ghz: None,
            fast_forward: 0,
            warm_up: 0,
            max_instructions: None,
            from_mark: Vec::new(),
            to_mark: Vec::new(),
            sample: None,
            sample_every: DEFAULT_SAMPLE_EVERY,
            lanes: DEFAULT_LANES,
            budget_sweep: false,
            sweep_runs: DEFAULT_SWEEP_RUNS,
            qemu: None,
            no_symbols: false,
            stats: None,
            quiet: false,
            command,
        }
    }
}

/// Replacement policies by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReplacementName {
    /// The least recently used.
    Lru,
    /// A binary tree of bits, as hardware approximates it.
    TreePlru,
}

impl From<ReplacementName> for Replacement {
    fn from(name: ReplacementName) -> Self {
        match name {
            ReplacementName::Lru => Self::Lru,
            ReplacementName::TreePlru => Self::TreePlru,
        }
    }
}

/// Page sizes by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PageName {
    /// 4 KiB.
    #[value(name = "4KiB")]
    Small,
    /// 2 MiB, as if all memory were in huge pages.
    #[value(name = "2MiB")]
    Huge,
}

impl From<PageName> for PageSize {
    fn from(name: PageName) -> Self {
        match name {
            PageName::Small => Self::Small,
            PageName::Huge => Self::Huge,
        }
    }
}

/// A cache as it is typed: `1MiB`, `1MiB/16`, `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// There is none.
    None,
    /// Of so many bytes; of so many ways, where they are given.
    Of {
        /// Bytes.
        bytes: u64,
        /// Ways.
        ways: Option<u32>,
    },
}

impl FromStr for Shape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self::None);
        }
        let (bytes, ways) = text.split_once('/').map_or((text, None), |(bytes, ways)| (bytes, Some(ways)));
        let wrong = |_| format!("{text:?} is no cache; write its size, 1MiB, or its size and ways, 1MiB/16");
        let ways = ways.map(str::parse).transpose().map_err(|_| wrong(()))?;
        Ok(Self::Of { bytes: parse_bytes(bytes).map_err(|_| wrong(()))?, ways })
    }
}

/// Windows as they are typed: `10M`, `10M,100k`, `10M,100k,50k`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Windows {
    every: u64,
    length: u64,
    warm_up: u64,
}

impl FromStr for Windows {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text.split(',').map(parse_count).collect::<Result<Vec<u64>, _>>()?;
        let (every, length, warm_up) = match *numbers.as_slice() {
            [every] => (every, every / 100, every / 100),
            [every, length] => (every, length, length),
            [every, length, warm_up] => (every, length, warm_up),
            _ => return Err(format!("{text:?} is more than EVERY,LENGTH,WARM-UP")),
        };
        if length == 0 || length.checked_add(warm_up).is_none_or(|timed| timed > every) {
            return Err(format!("windows of {length} instructions after {warm_up} do not fit into {every}"));
        }
        Ok(Self { every, length, warm_up })
    }
}

impl From<Windows> for tierscope_sim::Windows {
    fn from(Windows { every, length, warm_up }: Windows) -> Self {
        Self { every, length, warm_up }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_and_windows_are_read() {
        assert_eq!("1MiB/16".parse(), Ok(Shape::Of { bytes: 1 << 20, ways: Some(16) }));
        assert_eq!("8M".parse(), Ok(Shape::Of { bytes: 8 << 20, ways: None }));
        assert_eq!("none".parse(), Ok(Shape::None));
        for nonsense in ["", "big", "1MiB/", "1MiB/x"] {
            assert!(nonsense.parse::<Shape>().unwrap_err().contains("is no cache"), "{nonsense:?}");
        }
        assert_eq!("10M".parse(), Ok(Windows { every: 10_000_000, length: 100_000, warm_up: 100_000 }));
        assert!("100,90,20".parse::<Windows>().unwrap_err().contains("do not fit"));
        assert!("1,2,3,4".parse::<Windows>().is_err());
    }
}
