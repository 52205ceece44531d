//! `meta.json`: what a profile says about itself.
//!
//! Every field but the schema may be missing and reads as "not known" (an empty string, zero, `null`, an empty list), so
//! that profiles from other sources need to claim only what they know. Fields this version does not know are ignored.
//! The schema is checked before anything else is looked at: see [`parse`].

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::TracesError;

/// The schema that this crate writes.
pub const SCHEMA: &str = "tierscope.profile/1";
/// Its number: newer ones are refused.
pub const SCHEMA_MAJOR: u32 = 1;
const FAMILY: &str = "tierscope.profile/";

/// `meta.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Meta {
    /// [`SCHEMA`]; set by the writer.
    pub schema: String,
    /// Whether the recording ended in good order; set by the writer.
    pub complete: bool,
    /// Version of Tierscope that wrote it.
    pub tierscope_version: String,
    /// When the recording started, RFC 3339: the instant of [`Clock::monotonic_start_ns`].
    pub created: String,
    /// The machine.
    pub host: Host,
    /// The program.
    pub program: Program,
    /// Where the samples come from.
    pub sampler: Sampler,
    /// How allocations were observed.
    pub allocator: Allocator,
    /// Times.
    pub clock: Clock,
    /// What is known to be missing.
    pub losses: Losses,
    /// Rows written; set by the writer.
    pub totals: Totals,
    /// What was modelled; null for what was recorded.
    pub simulation: Option<Simulation>,
    /// The options of the recording as they were understood, for people.
    pub options: serde_json::Map<String, serde_json::Value>,
}

/// The machine of a recording.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Host {
    /// Kernel release.
    pub kernel: String,
    /// As `/proc/cpuinfo` names it.
    pub cpu_model: String,
    /// `AuthenticAMD`, `GenuineIntel`, ...
    pub vendor: String,
    /// Processors online.
    pub cpus: u32,
    /// Caches of one processor.
    pub caches: Vec<Cache>,
    /// Memory of the machine.
    pub memory_bytes: u64,
    /// NUMA nodes.
    pub nodes: u32,
    /// Name of the hypervisor; null on bare metal or where unknown.
    pub virtual_machine: Option<String>,
    /// Name of the container runtime; null outside one or where unknown.
    pub container: Option<String>,
}

/// One cache.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cache {
    /// 1, 2, 3.
    pub level: u8,
    /// `data`, `instruction`, `unified`.
    pub kind: String,
    /// Capacity.
    pub bytes: u64,
    /// Line size in bytes.
    pub line: u32,
    /// Associativity.
    pub ways: u32,
    /// How many processors share it.
    pub shared_cpus: u32,
}

/// The program that was recorded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Program {
    /// Command line.
    pub command: Vec<String>,
    /// Path of the executable.
    pub exe: String,
    /// Its GNU build-id in lower-case hex.
    pub build_id: Option<String>,
    /// Process id.
    pub pid: u32,
    /// Process id of the parent.
    pub parent_pid: Option<u32>,
    /// How it ended; null while it runs, or where the recording ended first.
    pub exit: Option<Exit>,
}

/// How a program ended: `{"code": 0}` or `{"signal": 9}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Exit {
    /// It returned this.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

/// Where samples come from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sampler {
    /// What a sample means: see [`SamplerKind`].
    pub kind: SamplerKind,
    /// Samples per second and running thread that were asked for; 0 where that has no meaning.
    pub rate_hz: f64,
    /// Why this sampler: "asked for", "no PMU in this virtual machine", ...
    pub chosen_because: String,
    /// Whether only user mode was sampled.
    pub user_only: bool,
    /// Where addresses come from: "hardware", "decoded instruction and registers", "page fault", "simulated".
    pub address_source: String,
}

/// What a sample means. Profiles of different kinds are never mixed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SamplerKind {
    /// Hardware memory samples: address, level, latency.
    Pmu,
    /// Time: a sample is stall time, not a miss; no level.
    Clock,
    /// Page faults: page granularity.
    Fault,
    /// Read from another tool's recording.
    Import,
    /// Simulated: every access of the modelled machine.
    Sim,
    /// A word this version does not know.
    #[default]
    #[serde(other)]
    Unknown,
}

impl SamplerKind {
    /// The word it is stored and shown as.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pmu => "pmu",
            Self::Clock => "clock",
            Self::Fault => "fault",
            Self::Import => "import",
            Self::Sim => "sim",
            Self::Unknown => "unknown",
        }
    }

    /// Whether a sample can say which level served it.
    #[must_use]
    pub const fn knows_levels(self) -> bool {
        matches!(self, Self::Pmu | Self::Import | Self::Sim)
    }
}

/// How allocations were observed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Allocator {
    /// Mean distance in bytes between sampled small blocks.
    pub mean_bytes: u64,
    /// Blocks of this size and more are always recorded.
    pub large_bytes: u64,
    /// How call stacks were walked: "unwind tables", "frame pointers", "none".
    pub stack_mode: String,
    /// "loaded", or why the shim was not.
    pub shim: String,
}

/// Times of a recording.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Clock {
    /// `CLOCK_MONOTONIC` when the recording started: the instant of [`Meta::created`].
    pub monotonic_start_ns: u64,
    /// How long was sampled.
    pub duration_ns: u64,
    /// How long after the start sampling began (`--delay`).
    pub delay_ns: u64,
}

/// What is known to be missing, by kind. Zero means none, not "not counted".
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Losses {
    /// Samples the kernel could not deliver.
    pub samples: u64,
    /// Allocations the shim could not deliver.
    pub allocations: u64,
    /// Frees the shim could not deliver.
    pub frees: u64,
    /// Other events (mappings, modules, threads, marks) the shim could not deliver.
    pub other_events: u64,
    /// Call stacks that could not be walked or kept.
    pub stacks: u64,
    /// Events that arrived damaged.
    pub corrupt: u64,
    /// Rows that could not be written (a full disk); counted by the writer.
    pub unwritten: u64,
}

/// Rows written, by table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "named as the tables are")]
pub struct Totals {
    pub modules: u64,
    pub sites: u64,
    pub objects: u64,
    pub allocations: u64,
    pub samples: u64,
    pub counters: u64,
    pub marks: u64,
    pub counts: u64,
    pub placements: u64,
    pub symbols: u64,
}

impl Totals {
    /// The rows of one table.
    #[must_use]
    pub fn of(&self, table: crate::Table) -> u64 {
        *self.clone().of_mut(table)
    }

    pub(crate) fn of_mut(&mut self, table: crate::Table) -> &mut u64 {
        match table {
            crate::Table::Modules => &mut self.modules,
            crate::Table::Sites => &mut self.sites,
            crate::Table::Objects => &mut self.objects,
            crate::Table::Allocations => &mut self.allocations,
            crate::Table::Samples => &mut self.samples,
            crate::Table::Counters => &mut self.counters,
            crate::Table::Marks => &mut self.marks,
            crate::Table::Counts => &mut self.counts,
            crate::Table::Placements => &mut self.placements,
            crate::Table::Symbols => &mut self.symbols,
        }
    }
}

/// What a simulated profile is of. Its times are those of the modelled machine with everything in fast memory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Simulation {
    /// What executed the program: "qemu-x86_64 7.2.22".
    pub emulator: String,
    /// Instructions of the program that were executed.
    pub instructions: u64,
    /// Those of them that are in the counts; the others only warmed the caches, or went through nothing. With timing in windows
    /// fewer were timed.
    pub counted_instructions: u64,
    /// Cycles with everything in fast memory; null where only caches were modelled.
    pub cycles_all_fast: Option<f64>,
    /// Cycles in a nanosecond.
    pub ghz: f64,
    /// The tiers of each of the comparisons that were asked for.
    pub tiers: Vec<SimulatedTiers>,
    /// Caches, TLBs and core of the modelled machine, as the simulator describes them.
    pub machine: serde_json::Value,
    /// What was not exact, one sentence each.
    pub approximations: Vec<String>,
}

/// A fast and a slow tier that were compared.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SimulatedTiers {
    /// What placements call the pair.
    pub name: String,
    /// Name of the fast tier.
    pub fast: String,
    /// Name of the slow tier.
    pub slow: String,
    /// The fast tier's figures as they were modelled.
    pub fast_figures: serde_json::Value,
    /// The slow tier's.
    pub slow_figures: serde_json::Value,
}

/// Whether these bytes are a `meta.json` of ours, whatever its version.
pub(crate) fn is_ours(bytes: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Stamp {
        schema: String,
    }
    serde_json::from_slice::<Stamp>(bytes).is_ok_and(|stamp| stamp.schema.starts_with(FAMILY))
}

/// Reads `meta.json`, the schema first: a newer schema is named as such even where its fields mean something else.
///
/// `file` is named in errors about its content, its directory in errors about what the directory is.
///
/// # Errors
/// [`TracesError::Damaged`], [`TracesError::NotAProfile`], [`TracesError::Newer`].
pub(crate) fn parse(bytes: &[u8], file: &Path) -> Result<Meta, TracesError> {
    let directory = file.parent().unwrap_or(file);
    let damaged = |e: serde_json::Error| TracesError::Damaged { path: file.to_owned(), reason: e.to_string() };
    let value: serde_json::Value = serde_json::from_slice(bytes).map_err(damaged)?;
    let not_ours = |reason: &str| TracesError::NotAProfile { path: directory.to_owned(), reason: reason.to_owned() };
    let schema = value.get("schema").and_then(|s| s.as_str()).ok_or_else(|| not_ours("its meta.json has no schema"))?;
    let number = schema.strip_prefix(FAMILY).ok_or_else(|| not_ours("its meta.json has another schema"))?;
    match number.parse::<u32>() {
        Ok(SCHEMA_MAJOR) => serde_json::from_value(value).map_err(damaged),
        Ok(newer) if newer > SCHEMA_MAJOR => Err(TracesError::Newer {
            path: directory.to_owned(),
            found: FAMILY.to_owned() + &newer.to_string(),
            known: SCHEMA,
            written_by: printable(value.get("tierscope_version").and_then(|v| v.as_str()).unwrap_or_default()),
        }),
        _ => Err(not_ours("its meta.json has a schema that never was")),
    }
}

/// A version is shown in an error message: only what a version is made of, and not much of it.
fn printable(version: &str) -> String {
    let kept: String = version.chars().filter(|c| c.is_ascii_alphanumeric() || ".-+".contains(*c)).take(32).collect();
    if kept.is_empty() { "of its own version".to_owned() } else { kept }
}
