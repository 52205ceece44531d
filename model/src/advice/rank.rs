//! Orders of objects.
//!
//! | ranker | order |
//! |---|---|
//! | `model` | cost in the slowest tier per byte, as a model trained on other programs predicts it |
//! | `stall-density` | the same, as shares of samples say it; needs no training |
//! | `oracle` | the same, as a simulation timed it |
//! | `latency-weighted` | sampled latencies of misses, added up, per byte (PACT) |
//! | `soar-aol` | stalls divided by samples, corrected for how far misses overlap, per byte (Soar) |
//! | `misses-per-byte` | sampled misses of the last-level cache per byte (as ecoHMEM orders) |
//! | `llc-misses` | sampled misses of the last-level cache |
//! | `hotness` | how recently and often pages are touched, as tiering kernels decide |
//! | `first-touch` | who came first: what a first-come-first-served allocation leaves in fast memory |
//! | `random` | by lot, from a seed: what no knowledge at all would give |
//!
//! The first three know costs, so the optimiser works on their orders.
//!
//! **Hotness.** A tiering kernel looks at pages, not at objects: it notices whether a page was touched since it last
//! looked, and old touches fade. Here time is cut into [`SCANS`] looks; a touch counts half for every look after it, and an
//! object is as hot as the mean of its touched pages. Samples see few of the touches, so pages of a large object that is
//! touched evenly look colder than they are: the same weakness the kernel's sampling has.

use std::fmt;
use std::str::FromStr;

use rustc_hash::{FxHashMap, FxHashSet};
use tierscope_placement::{Problem, by_density};
use tierscope_traces::{SamplerKind, Tables};

use super::baseline;
use super::error::AdviceError;
use crate::features::Window;
use crate::summary::{ObjectSummary, Summary, plausible};

/// How often a kernel would have looked at the pages during the run.
const SCANS: u32 = 16;
const PAGE_SHIFT: u32 = 12;

/// What orders objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ranker {
    /// Cost per byte as a trained model predicts it.
    #[default]
    Model,
    /// Cost per byte by shares of samples.
    StallDensity,
    /// Misses of the last-level cache per byte.
    MissesPerByte,
    /// Misses of the last-level cache.
    LlcMisses,
    /// Latencies of misses, added up, per byte.
    LatencyWeighted,
    /// Soar's score per byte.
    SoarAol,
    /// Recency and frequency of touched pages.
    Hotness,
    /// Order of appearance.
    FirstTouch,
    /// By lot, from this seed.
    Random(u64),
    /// Cost per byte as a simulation timed it.
    Oracle,
}

impl Ranker {
    /// All of them, with seed 0.
    pub const ALL: [Self; 10] = [
        Self::Model,
        Self::StallDensity,
        Self::MissesPerByte,
        Self::LlcMisses,
        Self::LatencyWeighted,
        Self::SoarAol,
        Self::Hotness,
        Self::FirstTouch,
        Self::Random(0),
        Self::Oracle,
    ];

    /// The word on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::StallDensity => "stall-density",
            Self::MissesPerByte => "misses-per-byte",
            Self::LlcMisses => "llc-misses",
            Self::LatencyWeighted => "latency-weighted",
            Self::SoarAol => "soar-aol",
            Self::Hotness => "hotness",
            Self::FirstTouch => "first-touch",
            Self::Random(_) => "random",
            Self::Oracle => "oracle",
        }
    }

    /// What it goes by, in a few words.
    #[must_use]
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Model => "cost as learnt from other programs, then the best placement by search",
            Self::StallDensity => "cost by shares of samples, then the best placement by search",
            Self::MissesPerByte => "misses of the last-level cache per byte; needs samples with levels",
            Self::LlcMisses => "misses of the last-level cache; needs samples with levels",
            Self::LatencyWeighted => "latencies of misses per byte, as PACT; needs samples with latencies",
            Self::SoarAol => "Soar's score per byte; needs counters, which a simulation writes",
            Self::Hotness => "how recently and often pages are touched, as tiering kernels go by",
            Self::FirstTouch => "who came first",
            Self::Random(_) => "by lot",
            Self::Oracle => "cost as a simulation timed it, then the best placement by search; needs one",
        }
    }

    /// Whether it orders by predicted cost, so that the optimiser may improve on its order.
    #[must_use]
    pub const fn knows_costs(self) -> bool {
        matches!(self, Self::Model | Self::StallDensity | Self::Oracle)
    }

    /// Whether it can rank samples of this kind.
    pub(super) fn check(self, sampler: SamplerKind) -> Result<(), AdviceError> {
        let needs_levels = matches!(self, Self::MissesPerByte | Self::LlcMisses | Self::LatencyWeighted);
        if needs_levels && !sampler.knows_levels() {
            return Err(AdviceError::NeedsLevels { ranker: self, sampler });
        }
        Ok(())
    }
}

impl fmt::Display for Ranker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Random(seed) if *seed != 0 => write!(f, "random:{seed}"),
            _ => f.write_str(self.as_str()),
        }
    }
}

impl FromStr for Ranker {
    type Err = String;

    /// Reads a name; `random:7` is by lot from seed 7.
    fn from_str(word: &str) -> Result<Self, String> {
        if let Some(seed) = word.strip_prefix("random:") {
            return seed.parse().map(Self::Random).map_err(|_| format!("{seed:?} is no seed; write random:7"));
        }
        Self::ALL.into_iter().find(|ranker| ranker.as_str() == word).ok_or_else(|| {
            let known: Vec<&str> = Self::ALL.iter().map(|ranker| ranker.as_str()).collect();
            format!("no such ranker; there are {}", known.join(", "))
        })
    }
}

/// The movable objects, as numbers of the problem's objects, the best first.
///
/// # Errors
/// [`AdviceError::NeedsLatencies`], [`AdviceError::NeedsCounters`].
pub(super) fn order(
    ranker: Ranker,
    problem: &Problem,
    summary: &Summary,
    tables: &Tables,
    recorded: &FxHashMap<String, Vec<u32>>,
    movable: &[usize],
    sampler: SamplerKind,
) -> Result<Vec<usize>, AdviceError> {
    let most_first = |value: &dyn Fn(usize, &ObjectSummary) -> f64| {
        let mut keyed: Vec<(f64, &str, usize)> = movable
            .iter()
            .enumerate()
            .filter_map(|(number, &place)| Some((number, summary.objects.get(place)?)))
            .map(|(number, object)| (value(number, object), object.id.as_str(), number))
            .collect();
        keyed.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(b.1)));
        keyed.into_iter().map(|(_, _, number)| number).collect()
    };
    let misses = |object: &ObjectSummary| object.llc_misses.unwrap_or(0.0);
    let per_byte = |value: f64, number: usize| if value > 0.0 { value / problem.peak(number) as f64 } else { 0.0 };
    Ok(match ranker {
        Ranker::Model | Ranker::StallDensity | Ranker::Oracle => by_density(problem),
        Ranker::LlcMisses => most_first(&|_, object| misses(object)),
        Ranker::MissesPerByte => most_first(&|number, object| per_byte(misses(object), number)),
        Ranker::LatencyWeighted => {
            let scores = baseline::latency_weighted(tables, summary, Window::WHOLE)
                .ok_or(AdviceError::NeedsLatencies { sampler })?;
            let score = |number: usize| movable.get(number).and_then(|&place| scores.get(place)).copied();
            most_first(&|number, _| per_byte(score(number).unwrap_or(0.0), number))
        }
        Ranker::SoarAol => {
            let scores = baseline::soar_scores(tables, summary).ok_or(AdviceError::NeedsCounters { sampler })?;
            let score = |number: usize| movable.get(number).and_then(|&place| scores.get(place)).copied();
            most_first(&|number, _| per_byte(score(number).unwrap_or(0.0), number))
        }
        Ranker::FirstTouch => most_first(&|_, object| -(object.first_seen_ns as f64)),
        Ranker::Hotness => {
            let heat = heat(tables, recorded);
            most_first(&|_, object| heat.get(object.id.as_str()).copied().unwrap_or(0.0))
        }
        Ranker::Random(seed) => most_first(&|_, object| lot(seed, &object.id)),
    })
}

/// How hot the touched pages of each object are on average, by identity.
pub(super) fn heat<'a>(tables: &Tables, recorded: &'a FxHashMap<String, Vec<u32>>) -> FxHashMap<&'a str, f64> {
    let owners: FxHashMap<u32, &str> =
        recorded.iter().flat_map(|(id, numbers)| numbers.iter().map(move |&number| (number, id.as_str()))).collect();
    let start = tables.samples.iter().map(|sample| sample.time_ns).min().unwrap_or(0);
    let end = tables.samples.iter().map(|sample| sample.time_ns).max().unwrap_or(0);
    let length = (end - start) as f64 + 1.0;
    let mut found: FxHashMap<&str, (f64, FxHashSet<u64>)> = FxHashMap::default();
    for sample in &tables.samples {
        let owner = sample.object.and_then(|object| owners.get(&object));
        let (Some(&owner), Some(address)) = (owner, sample.address) else { continue };
        let looks_since = (end - sample.time_ns) as f64 / length * f64::from(SCANS);
        let (heat, pages) = found.entry(owner).or_default();
        *heat += plausible(f64::from(sample.weight)) * 0.5f64.powi(looks_since as i32);
        pages.insert(address >> PAGE_SHIFT);
    }
    found.into_iter().map(|(owner, (heat, pages))| (owner, heat / pages.len().max(1) as f64)).collect()
}

/// A number from 0 to 1 that only the seed and the object decide.
fn lot(seed: u64, id: &str) -> f64 {
    let mixed = id
        .bytes()
        .fold(seed ^ 0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}
