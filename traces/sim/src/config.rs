//! What is simulated: machine, tiers, placements, and which part of the run.
//!
//! A configuration comes from a file, so [`Config::check`] refuses what cannot be meant, naming the field.

use crate::machine::{Machine, MachineError};
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

/// Most tiers, sets and placements.
const MOST: usize = 256;

/// Most lanes: each costs time for every instruction.
const MOST_LANES: u16 = 4096;

/// A kind of memory, as far as timing needs it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tier {
    /// How reports call it.
    pub name: String,
    /// Nanoseconds from a load's issue until its data can be used, for a random line, with nothing else running. The way
    /// through the caches is part of it, as in what is measured.
    pub read_latency_ns: f64,
    /// The same for the line after the one read before.
    #[serde(default)]
    pub sequential_read_latency_ns: Option<f64>,
    /// Nanoseconds until a written line is out of the way.
    #[serde(default)]
    pub write_latency_ns: Option<f64>,
    /// 10^9 bytes a second that can be read, all threads together.
    pub read_bandwidth_gbs: f64,
    /// 10^9 bytes a second that can be written, all threads together.
    pub write_bandwidth_gbs: f64,
    /// Bytes the medium moves at least; a power of two, 64 or more.
    #[serde(default = "line")]
    pub granule_bytes: u64,
    /// Bytes of writes a device gathers before it writes its medium; 0 for none.
    #[serde(default)]
    pub write_buffer_bytes: u64,
}

fn line() -> u64 {
    crate::machine::LINE_BYTES
}

/// A pair of tiers that is compared: everything fast, everything slow, each object alone slow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TierSet {
    /// How reports call it.
    pub name: String,
    /// Index of the fast tier in [`Config::tiers`].
    pub fast: u16,
    /// Index of the slow tier.
    pub slow: u16,
    /// Memory Mode: this many bytes of the fast tier are a direct-mapped cache in front of the slow one. It is one lane more.
    #[serde(default)]
    pub memory_mode_bytes: Option<u64>,
}

/// A placement to be evaluated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// How reports call it.
    pub name: String,
    /// Index of the tier of all that is not said otherwise.
    pub default: u16,
    /// Tier of objects, by their identity ([`crate::ObjectKey::identity`]).
    #[serde(default)]
    pub objects: FxHashMap<u64, u16>,
}

/// How much of what is executed is simulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Detail {
    /// Events only.
    Off,
    /// Caches and TLBs learn; nothing is counted or timed.
    Warm,
    /// Everything is simulated and counted.
    #[default]
    Full,
}

/// Timing in windows, at regular distances; between them caches are simulated and counted without timing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Windows {
    /// Instructions from the start of one window to that of the next.
    pub every: u64,
    /// Instructions of a window that are timed and kept.
    pub length: u64,
    /// Instructions before them that are timed and not kept, so that queues are as full as they would be.
    pub warm_up: u64,
}

/// From which mark on how much is simulated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AtMark {
    /// Name of the mark.
    pub mark: String,
    /// What holds from there on.
    pub detail: Detail,
}

/// Everything that is asked of a simulation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// The machine.
    pub machine: Machine,
    /// The tiers that sets and placements speak of.
    pub tiers: Vec<Tier>,
    /// Pairs of tiers to compare. The fast tier of the first is where everything is in the all-fast lane that gives times.
    pub sets: Vec<TierSet>,
    /// Whether a pair is also compared with each object alone in the slow tier.
    pub singles: bool,
    /// Placements to evaluate besides.
    pub placements: Vec<Placement>,
    /// Whether cycles are computed; else only counts.
    pub timing: bool,
    /// Timing in windows only.
    pub sampling: Option<Windows>,
    /// Every so many loads that miss the last-level cache make a [`crate::Sample`].
    pub sample_every: Option<u64>,
    /// Blocks of at least this many bytes make an [`crate::Allocation`]; none do without it.
    pub record_blocks_of: Option<u64>,
    /// Most lanes.
    pub max_lanes: u16,
    /// How much is simulated until a mark says otherwise.
    pub detail: Detail,
    /// What marks change.
    pub at_marks: Vec<AtMark>,
    /// Instructions of all threads at the start of which only events are followed.
    pub fast_forward: u64,
    /// Instructions after those which only warm the caches.
    pub warm_up: u64,
    /// Instructions to count; then [`crate::Simulator::execute`] says to stop.
    pub max_instructions: Option<u64>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            machine: Machine::default(),
            tiers: Vec::new(),
            sets: Vec::new(),
            singles: true,
            placements: Vec::new(),
            timing: false,
            sampling: None,
            sample_every: None,
            record_blocks_of: None,
            max_lanes: 256,
            detail: Detail::Full,
            at_marks: Vec::new(),
            fast_forward: 0,
            warm_up: 0,
            max_instructions: None,
        }
    }
}

/// A configuration that cannot be simulated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigError {
    /// The machine cannot be.
    Machine(MachineError),
    /// Another field: which, and what is wrong with it.
    Field(String, String),
}

impl std::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Machine(error) => error.fmt(f),
            Self::Field(field, problem) => write!(f, "{field}: {problem}"),
        }
    }
}

impl std::error::Error for ConfigError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Machine(error) => Some(error),
            Self::Field(..) => None,
        }
    }
}

impl From<MachineError> for ConfigError {
    fn from(error: MachineError) -> Self {
        Self::Machine(error)
    }
}

fn refuse<T>(field: impl Into<String>, problem: impl Into<String>) -> Result<T, ConfigError> {
    Err(ConfigError::Field(field.into(), problem.into()))
}

impl Tier {
    fn check(&self, field: &str) -> Result<(), ConfigError> {
        let figures = [
            ("read_latency_ns", Some(self.read_latency_ns), 0.1, 1e9),
            ("sequential_read_latency_ns", self.sequential_read_latency_ns, 0.1, 1e9),
            ("write_latency_ns", self.write_latency_ns, 0.1, 1e9),
            ("read_bandwidth_gbs", Some(self.read_bandwidth_gbs), 1e-6, 1e6),
            ("write_bandwidth_gbs", Some(self.write_bandwidth_gbs), 1e-6, 1e6),
        ];
        for (name, value, least, most) in figures {
            if let Some(value) = value.filter(|value| !(least..=most).contains(value)) {
                return refuse(format!("{field}.{name}"), format!("{value} is not within {least} to {most}"));
            }
        }
        if !self.granule_bytes.is_power_of_two() || !(line()..=1 << 30).contains(&self.granule_bytes) {
            let problem = format!("{} is no power of two within {} to 1073741824", self.granule_bytes, line());
            return refuse(format!("{field}.granule_bytes"), problem);
        }
        if self.write_buffer_bytes > 1 << 40 {
            return refuse(format!("{field}.write_buffer_bytes"), format!("{} is absurd", self.write_buffer_bytes));
        }
        Ok(())
    }
}

impl Config {
    /// Whether it can be simulated.
    ///
    /// # Errors
    /// Names the field and says what is wrong with it.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.machine.check()?;
        for (field, length) in
            [("tiers", self.tiers.len()), ("sets", self.sets.len()), ("placements", self.placements.len())]
        {
            if length > MOST {
                return refuse(field, format!("{length}; at most {MOST}"));
            }
        }
        for (index, tier) in self.tiers.iter().enumerate() {
            tier.check(&format!("tiers[{index}]"))?;
        }
        let known = |field: String, tier: u16| {
            if usize::from(tier) < self.tiers.len() {
                return Ok(());
            }
            refuse(field, format!("there is no tier {tier}, only {} from 0", self.tiers.len()))
        };
        for (index, set) in self.sets.iter().enumerate() {
            known(format!("sets[{index}].fast"), set.fast)?;
            known(format!("sets[{index}].slow"), set.slow)?;
            if let Some(bytes) = set.memory_mode_bytes.filter(|bytes| !(4096..=1 << 50).contains(bytes)) {
                return refuse(format!("sets[{index}].memory_mode_bytes"), format!("{bytes} is no size of memory"));
            }
        }
        for (index, placement) in self.placements.iter().enumerate() {
            known(format!("placements[{index}].default"), placement.default)?;
            for tier in placement.objects.values() {
                known(format!("placements[{index}].objects"), *tier)?;
            }
        }
        if self.timing && self.sets.is_empty() {
            return refuse("sets", "timing needs at least one pair of tiers");
        }
        if !(1..=MOST_LANES).contains(&self.max_lanes) {
            return refuse("max_lanes", format!("{} is not within 1 to {MOST_LANES}", self.max_lanes));
        }
        if self.sample_every == Some(0) {
            return refuse("sample_every", "0; say null for no samples");
        }
        if let Some(Windows { every, length, warm_up }) = self.sampling
            && (length == 0 || length.checked_add(warm_up).is_none_or(|timed| timed > every))
        {
            let problem = format!("a window of {warm_up} + {length} instructions does not fit into {every}");
            return refuse("sampling", problem);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_tiers() -> Config {
        let tier = |name: &str, read_latency_ns| Tier {
            name: name.into(),
            read_latency_ns,
            sequential_read_latency_ns: None,
            write_latency_ns: None,
            read_bandwidth_gbs: 100.0,
            write_bandwidth_gbs: 50.0,
            granule_bytes: 64,
            write_buffer_bytes: 0,
        };
        let set = TierSet { name: "cxl".into(), fast: 0, slow: 1, memory_mode_bytes: None };
        Config {
            tiers: vec![tier("ddr5", 110.0), tier("cxl", 271.0)],
            sets: vec![set],
            timing: true,
            ..Config::default()
        }
    }

    fn refused(change: impl FnOnce(&mut Config)) -> String {
        let mut config = two_tiers();
        change(&mut config);
        config.check().expect_err("refused").to_string()
    }

    #[test]
    fn a_file_needs_to_say_only_what_differs() {
        let config: Config = serde_json::from_str(r#"{"fast_forward": 1000}"#).unwrap();
        assert_eq!(config, Config { fast_forward: 1000, ..Config::default() });
        config.check().expect("valid");
        two_tiers().check().expect("valid");
        let text = serde_json::to_string(&two_tiers()).unwrap();
        assert_eq!(serde_json::from_str::<Config>(&text).unwrap(), two_tiers());
    }

    #[test]
    fn nonsense_is_refused_and_the_field_named() {
        assert_eq!(refused(|c| c.sets[0].slow = 2), "sets[0].slow: there is no tier 2, only 2 from 0");
        assert!(refused(|c| c.tiers[1].read_latency_ns = -1.0).starts_with("tiers[1].read_latency_ns: -1"));
        assert!(refused(|c| c.tiers[1].read_bandwidth_gbs = f64::NAN).starts_with("tiers[1].read_bandwidth_gbs"));
        assert!(refused(|c| c.tiers[0].granule_bytes = 100).starts_with("tiers[0].granule_bytes: 100"));
        assert!(refused(|c| c.machine.l1d.ways = 0).starts_with("machine.l1d.ways"));
        assert!(refused(|c| c.sets.clear()).starts_with("sets: timing needs"));
        assert!(refused(|c| c.max_lanes = 0).starts_with("max_lanes"));
        assert!(refused(|c| c.sample_every = Some(0)).starts_with("sample_every"));
        let windows = Windows { every: 100, length: 90, warm_up: u64::MAX };
        assert!(refused(|c| c.sampling = Some(windows)).starts_with("sampling"));
        let placement = Placement { name: "p".into(), default: 0, objects: [(7, 9)].into_iter().collect() };
        assert!(refused(|c| c.placements.push(placement)).starts_with("placements[0].objects: there is no tier 9"));
    }
}
