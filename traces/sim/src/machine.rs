//! The machine that is modelled: core, caches, TLBs, prefetchers.
//!
//! A machine is outside data (a file, flags, what a host says of itself), so [`Machine::check`] stands between it and everything
//! that computes with it: sizes there are bounded so that no product overflows and no table is absurd, and its messages name
//! the field.
//!
//! [`Machine::default`] is AMD's Zen 4 as far as its makers and measurements say; each figure has its source beside it, or says
//! that it is assumed:
//!
//! * `[SOG]` "Software Optimization Guide for the AMD Zen4 Microarchitecture", publication 57647.
//! * `[C&C]` Chips and Cheese, "AMD's Zen 4, Part 2: Memory Subsystem and Conclusion", 2022.

use serde::{Deserialize, Serialize};

/// Bytes of a cache line. Every x86-64 processor has this.
pub const LINE_BYTES: u64 = 64;

/// Most cores a machine may have: lines keep a bit for each.
pub const MAX_CORES: u16 = 64;

/// Largest cache, in bytes: a model of a larger one would need more memory than it is worth.
const LARGEST_CACHE: u64 = 8 << 30;

/// Most ways: beyond, a search of a set takes longer than what it models.
const MOST_WAYS: u32 = 64;

/// Most entries of a TLB.
const MOST_ENTRIES: u32 = 1 << 20;

/// Longest latency of something inside the processor, in cycles.
const LONGEST_CYCLES: u32 = 100_000;

/// How the line to be given up is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Replacement {
    /// The one least recently used.
    #[default]
    Lru,
    /// A binary tree of bits that point away from what was used last: what hardware builds instead of LRU.
    TreePlru,
}

/// One cache. Lines have [`LINE_BYTES`] bytes; writes allocate; dirty lines are written back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cache {
    /// Bytes it holds: `ways` times a power of two of lines.
    pub bytes: u64,
    /// Lines of a set.
    pub ways: u32,
    /// Which line of a set is given up.
    #[serde(default)]
    pub replacement: Replacement,
    /// Cycles from a load's issue until its data can be used, when this cache serves it.
    pub latency_cycles: u32,
    /// Holds every line that a smaller cache above it holds: giving one up takes it from those, too.
    #[serde(default)]
    pub inclusive: bool,
}

impl Cache {
    /// Sets of lines.
    pub fn sets(&self) -> u64 {
        self.bytes / LINE_BYTES / u64::from(self.ways.max(1))
    }
}

/// One level of the data TLB. LRU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Translations {
    /// Pages whose translations it holds: `ways` times a power of two.
    pub entries: u32,
    /// Entries of a set; as many as entries for a fully associative one.
    pub ways: u32,
    /// Cycles that a hit here adds to a load; 0 for the first level, which is looked up beside the cache.
    pub latency_cycles: u32,
}

/// Bytes of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub enum PageSize {
    /// 4 KiB.
    #[default]
    #[serde(rename = "4KiB")]
    Small,
    /// 2 MiB: as if all memory were in transparent huge pages.
    #[serde(rename = "2MiB")]
    Huge,
}

impl PageSize {
    /// Its binary logarithm.
    pub fn shift(self) -> u32 {
        match self {
            Self::Small => 12,
            Self::Huge => 21,
        }
    }
}

/// Which prefetchers there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prefetch {
    /// The line after one that missed the first-level cache.
    pub next_line: bool,
    /// Lines ahead of a load or store instruction that moves by a constant step.
    pub stride: bool,
    /// How many steps ahead of the instruction the stride prefetcher runs.
    pub stride_degree: u8,
    /// Pages in which a streamer follows what the second-level cache is asked for, be it by one instruction or many; 0 for none. Where
    /// there is one, the stride prefetcher is that of the first level: it watches loads only, and fills that.
    #[serde(default)]
    pub streams: u16,
}

/// Most pages that a streamer follows: each request looks at all.
const MOST_STREAMS: u16 = 1024;

impl Prefetch {
    /// None at all.
    pub const OFF: Self = Self { next_line: false, stride: false, stride_degree: 0, streams: 0 };
}

/// The execution core: what bounds how many accesses overlap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Core {
    /// Entries of the reorder buffer, in operations.
    pub rob: u32,
    /// Operations that enter the reorder buffer in a cycle.
    pub issue_width: u32,
    /// Operations that leave it in a cycle.
    pub retire_width: u32,
    /// Operations that wait for their sources at the same time, all schedulers together.
    pub scheduler: u32,
    /// Integer operations started in a cycle.
    pub integer_ports: u32,
    /// Floating-point and vector operations started in a cycle.
    pub vector_ports: u32,
    /// Loads started in a cycle.
    pub load_ports: u32,
    /// Stores started in a cycle.
    pub store_ports: u32,
    /// Loads in flight.
    pub load_queue: u32,
    /// Stores between their execution and the first-level cache.
    pub store_buffer: u32,
    /// Lines the first-level cache waits for at the same time (fill buffers, MSHRs).
    pub mshrs: u32,
    /// Lines a core waits for at the same time beyond its last private cache.
    pub llc_mshrs: u32,
    /// Cycles from a mispredicted branch's execution to the first operation of the right path.
    pub mispredict_cycles: u32,
    /// Page walks at the same time.
    #[serde(default = "six")]
    pub walkers: u32,
    /// Whose units it has: latencies, and which units do what.
    #[serde(default)]
    pub units: Units,
}

/// Page walkers of Zen 4 ([SOG] 2.7.2).
fn six() -> u32 {
    6
}

/// Cores whose units differ in latency and kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Units {
    /// AMD Zen 4.
    #[default]
    Zen4,
    /// Intel Sunny Cove, in Ice Lake.
    SunnyCove,
}

impl Default for Core {
    fn default() -> Self {
        Self {
            // [SOG] Retire control unit of 320 entries; 6 macro-ops dispatched, 8 retired in a cycle.
            rob: 320,
            issue_width: 6,
            retire_width: 8,
            // [SOG] Four integer schedulers of 24 entries (AGUs share three of them), two of 32 for vectors.
            scheduler: 160,
            // [SOG] Four ALUs, four vector pipes for arithmetic.
            integer_ports: 4,
            vector_ports: 4,
            // [SOG] Three loads (two of vectors), two stores in a cycle.
            load_ports: 3,
            store_ports: 2,
            // [SOG] 88 loads, 64 stores, 24 miss address buffers. Assumed: 48 misses of the L2 in flight.
            load_queue: 88,
            store_buffer: 64,
            mshrs: 24,
            llc_mshrs: 48,
            // [SOG] 11 to 18 cycles, commonly 13.
            mispredict_cycles: 13,
            walkers: six(),
            units: Units::Zen4,
        }
    }
}

/// A machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Cores, each with its own first- and second-level caches and TLBs. A thread stays on core `cpu % cores`.
    pub cores: u16,
    /// The execution core.
    pub core: Core,
    /// First-level instruction cache; without one, fetching costs nothing and touches nothing.
    pub l1i: Option<Cache>,
    /// First-level data cache.
    pub l1d: Cache,
    /// Second-level cache, for data and instructions.
    pub l2: Option<Cache>,
    /// Last-level cache, shared by all cores.
    pub llc: Cache,
    /// First-level data TLB; without one, translating costs nothing and misses nothing.
    pub dtlb: Option<Translations>,
    /// Second-level TLB; not without a first.
    pub stlb: Option<Translations>,
    /// Cycles of a page walk: what a miss in all TLBs adds to a load.
    pub walk_cycles: u32,
    /// Bytes of all pages.
    pub page: PageSize,
    /// The prefetchers.
    pub prefetch: Prefetch,
    /// Cycles of a nanosecond: what turns the nanoseconds of tiers into cycles.
    pub ghz: f64,
}

impl Default for Machine {
    fn default() -> Self {
        let cache = |bytes, ways, latency_cycles| Cache {
            bytes,
            ways,
            replacement: Replacement::Lru,
            latency_cycles,
            inclusive: false,
        };
        Self {
            cores: 16,
            core: Core::default(),
            // [SOG] L1D 32 KiB, 8 ways, 4 cycles; L2 1 MiB, 8 ways, 14 cycles, inclusive of L1.
            l1i: None,
            l1d: cache(32 << 10, 8, 4),
            l2: Some(Cache { inclusive: true, ..cache(1 << 20, 8, 14) }),
            // [SOG] 32 MiB shared by 8 cores, 16 ways, 50 cycles on average. (Filled by what L2 gives up, which is not modelled.)
            llc: cache(32 << 20, 16, 50),
            // [SOG] 72 entries, fully associative; 3072 entries. Assumed: 12 ways, 7 cycles more for a hit in the second.
            dtlb: Some(Translations { entries: 72, ways: 72, latency_cycles: 0 }),
            stlb: Some(Translations { entries: 3072, ways: 12, latency_cycles: 7 }),
            // Assumed; no vendor says. A walk whose upper levels are in the walk cache reads one entry, mostly from L2 or LLC.
            walk_cycles: 30,
            page: PageSize::Small,
            // Intel's manual: the streamer runs up to 20 lines ahead. AMD's says nothing.
            prefetch: Prefetch { next_line: true, stride: true, stride_degree: 20, streams: 0 },
            ghz: 3.7,
        }
    }
}

/// A machine that cannot be modelled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineError {
    field: String,
    problem: String,
}

impl MachineError {
    fn new(field: &str, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }

    /// The field that must change, as `machine.llc.ways`.
    pub fn field(&self) -> &str {
        &self.field
    }
}

impl std::fmt::Display for MachineError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "machine.{}: {}", self.field, self.problem)
    }
}

impl std::error::Error for MachineError {}

fn within(field: &str, value: u32, least: u32, most: u32) -> Result<(), MachineError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(MachineError::new(field, format!("{value} is not within {least} to {most}")))
}

fn check_cache(name: &str, cache: &Cache) -> Result<(), MachineError> {
    let field = |part: &str| format!("{name}.{part}");
    within(&field("ways"), cache.ways, 1, MOST_WAYS)?;
    within(&field("latency_cycles"), cache.latency_cycles, 1, LONGEST_CYCLES)?;
    if cache.replacement == Replacement::TreePlru && !cache.ways.is_power_of_two() {
        let problem = format!("{} ways cannot be a binary tree; use a power of two, or lru", cache.ways);
        return Err(MachineError::new(&field("ways"), problem));
    }
    let least = LINE_BYTES * u64::from(cache.ways);
    let fault = if cache.bytes < least {
        format!("{} bytes cannot hold {} ways of {LINE_BYTES}-byte lines; at least {least}", cache.bytes, cache.ways)
    } else if cache.bytes > LARGEST_CACHE {
        format!("{} bytes; the largest cache modelled has {LARGEST_CACHE}", cache.bytes)
    } else if !cache.bytes.is_multiple_of(least) || !cache.sets().is_power_of_two() {
        let (low, high) = powers_around(cache.bytes / least);
        format!(
            "{} bytes of {} ways make no power of two of sets; {} or {} would",
            cache.bytes,
            cache.ways,
            low * least,
            high * least
        )
    } else {
        return Ok(());
    };
    Err(MachineError::new(&field("bytes"), fault))
}

/// The powers of two at and above a number.
fn powers_around(number: u64) -> (u64, u64) {
    let low = 1 << number.max(1).ilog2();
    (low, low * 2)
}

fn check_tlb(name: &str, tlb: &Translations) -> Result<(), MachineError> {
    let field = |part: &str| format!("{name}.{part}");
    within(&field("entries"), tlb.entries, 1, MOST_ENTRIES)?;
    within(&field("ways"), tlb.ways, 1, tlb.entries.min(1024))?;
    within(&field("latency_cycles"), tlb.latency_cycles, 0, LONGEST_CYCLES)?;
    if !tlb.entries.is_multiple_of(tlb.ways) || !(tlb.entries / tlb.ways).is_power_of_two() {
        let problem = format!("{} entries of {} ways make no power of two of sets", tlb.entries, tlb.ways);
        return Err(MachineError::new(&field("entries"), problem));
    }
    Ok(())
}

impl Machine {
    /// Whether it can be modelled.
    ///
    /// # Errors
    /// Names the field and says what it may be.
    pub fn check(&self) -> Result<(), MachineError> {
        within("cores", u32::from(self.cores), 1, u32::from(MAX_CORES))?;
        if let Some(cache) = &self.l1i {
            check_cache("l1i", cache)?;
        }
        check_cache("l1d", &self.l1d)?;
        if let Some(cache) = &self.l2 {
            check_cache("l2", cache)?;
        }
        check_cache("llc", &self.llc)?;
        if let Some(tlb) = &self.dtlb {
            check_tlb("dtlb", tlb)?;
        }
        if let Some(tlb) = &self.stlb {
            check_tlb("stlb", tlb)?;
            if self.dtlb.is_none() {
                return Err(MachineError::new("stlb", "a second level without a first; leave both out"));
            }
        }
        within("walk_cycles", self.walk_cycles, 0, LONGEST_CYCLES)?;
        within("prefetch.stride_degree", u32::from(self.prefetch.stride_degree), 0, 32)?;
        if self.prefetch.stride && self.prefetch.stride_degree == 0 {
            return Err(MachineError::new(
                "prefetch.stride_degree",
                "0 steps ahead is no prefetcher; say stride = false",
            ));
        }
        within("prefetch.streams", u32::from(self.prefetch.streams), 0, u32::from(MOST_STREAMS))?;
        if !(0.01..=20.0).contains(&self.ghz) {
            return Err(MachineError::new("ghz", format!("{} is not within 0.01 to 20", self.ghz)));
        }
        self.core.check()
    }
}

impl Core {
    fn check(&self) -> Result<(), MachineError> {
        let bounds = [
            ("core.rob", self.rob, 8192),
            ("core.issue_width", self.issue_width, 64),
            ("core.retire_width", self.retire_width, 64),
            ("core.scheduler", self.scheduler, 8192),
            ("core.integer_ports", self.integer_ports, 64),
            ("core.vector_ports", self.vector_ports, 64),
            ("core.load_ports", self.load_ports, 64),
            ("core.store_ports", self.store_ports, 64),
            ("core.load_queue", self.load_queue, 8192),
            ("core.store_buffer", self.store_buffer, 8192),
            ("core.mshrs", self.mshrs, 1024),
            ("core.llc_mshrs", self.llc_mshrs, 1024),
            ("core.mispredict_cycles", self.mispredict_cycles, 1000),
            ("core.walkers", self.walkers, 64),
        ];
        bounds.into_iter().try_for_each(|(field, value, most)| within(field, value, 1, most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut Machine)) -> String {
        let mut machine = Machine::default();
        change(&mut machine);
        machine.check().expect_err("refused").to_string()
    }

    #[test]
    fn the_default_can_be_modelled_and_survives_a_file() {
        let machine = Machine::default();
        machine.check().expect("valid");
        let text = serde_json::to_string(&machine).unwrap();
        assert_eq!(serde_json::from_str::<Machine>(&text).unwrap(), machine);
    }

    #[test]
    fn a_file_from_before_there_were_streamers_has_none() {
        let text = r#"{"next_line": true, "stride": true, "stride_degree": 20}"#;
        assert_eq!(serde_json::from_str::<Prefetch>(text).unwrap(), Machine::default().prefetch);
    }

    #[test]
    fn nonsense_is_refused_and_the_field_named() {
        assert_eq!(refused(|m| m.l1d.ways = 0), "machine.l1d.ways: 0 is not within 1 to 64");
        assert!(refused(|m| m.llc.bytes = 3 << 20).contains("machine.llc.bytes: 3145728 bytes of 16 ways"));
        assert!(refused(|m| m.llc.bytes = 3 << 20).ends_with("2097152 or 4194304 would"));
        assert!(refused(|m| m.llc.bytes = 1 << 60).starts_with("machine.llc.bytes"));
        assert!(refused(|m| m.llc.bytes = 0).starts_with("machine.llc.bytes"));
        let ways = |ways| move |m: &mut Machine| m.dtlb = m.dtlb.take().map(|tlb| Translations { ways, ..tlb });
        assert!(refused(ways(7)).starts_with("machine.dtlb.entries"));
        assert!(refused(ways(0)).starts_with("machine.dtlb.ways"));
        assert!(refused(|m| m.dtlb = None).starts_with("machine.stlb"));
        assert!(refused(|m| m.core.rob = 0).starts_with("machine.core.rob"));
        assert!(refused(|m| m.cores = 65).starts_with("machine.cores"));
        assert!(refused(|m| m.ghz = f64::NAN).starts_with("machine.ghz"));
        assert!(refused(|m| m.prefetch.stride_degree = 0).starts_with("machine.prefetch"));
        assert_eq!(refused(|m| m.prefetch.streams = 1025), "machine.prefetch.streams: 1025 is not within 0 to 1024");
        let plru = |m: &mut Machine| {
            m.llc = Cache { bytes: 12 * 64 * 1024, ways: 12, replacement: Replacement::TreePlru, ..m.llc.clone() };
        };
        assert!(refused(plru).contains("use a power of two, or lru"));
    }
}
