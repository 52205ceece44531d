//! One pass over the samples: each is counted for exactly one object, or for the reason why it has none.

use rustc_hash::FxHashMap;
use tierscope_traces::{Access, AddressQuality, Attribution, SampleRow, Tables};

use super::frames::Symbols;
use super::live::plausible;
use super::{AccessSite, AttributionShares, Phase, Reason, TOP_ACCESS_SITES};
use crate::interval::{BATCHES, Interval, share_interval};

/// Distinct phases that are kept apart; a program that names every iteration gets the rest as one.
const MOST_PHASES: usize = 64;

/// Everything that was counted.
pub(super) struct Tally {
    /// One per group, in order.
    pub(super) groups: Vec<Count>,
    /// One per [`Reason::ALL`].
    pub(super) reasons: Vec<Count>,
    pub(super) phases: Vec<Phase>,
    totals: [f64; BATCHES],
    squares: f64,
}

/// The samples of one object or reason.
#[derive(Clone)]
pub(super) struct Count {
    pub(super) samples: f64,
    pub(super) loads: f64,
    pub(super) stores: f64,
    pub(super) llc_misses: f64,
    pub(super) approximate: f64,
    pub(super) neighbour: f64,
    pub(super) first_ns: u64,
    pub(super) last_ns: u64,
    batches: [f64; BATCHES],
    phases: Vec<f64>,
    code: FxHashMap<(Option<u32>, u64), f64>,
}

impl Count {
    fn new() -> Self {
        Self {
            samples: 0.0,
            loads: 0.0,
            stores: 0.0,
            llc_misses: 0.0,
            approximate: 0.0,
            neighbour: 0.0,
            first_ns: u64::MAX,
            last_ns: 0,
            batches: [0.0; BATCHES],
            phases: Vec::new(),
            code: FxHashMap::default(),
        }
    }

    fn add(&mut self, sample: &SampleRow, weight: f64, batch: usize, phase: Option<usize>) {
        self.samples += weight;
        if matches!(sample.access, Access::Load | Access::Update) {
            self.loads += weight;
        }
        if matches!(sample.access, Access::Store | Access::Update) {
            self.stores += weight;
        }
        if sample.level.is_some_and(|level| level.misses_llc()) {
            self.llc_misses += weight;
        }
        match guess(sample) {
            Guess::Exact => {}
            Guess::Approximate => self.approximate += weight,
            Guess::Neighbour => self.neighbour += weight,
        }
        self.first_ns = self.first_ns.min(sample.time_ns);
        self.last_ns = self.last_ns.max(sample.time_ns);
        if let Some(slot) = self.batches.get_mut(batch) {
            *slot += weight;
        }
        if let Some(phase) = phase {
            if self.phases.len() <= phase {
                self.phases.resize(phase + 1, 0.0);
            }
            if let Some(slot) = self.phases.get_mut(phase) {
                *slot += weight;
            }
        }
        *self.code.entry((sample.module, sample.offset)).or_default() += weight;
    }
}

/// How much of a guess a sample's object is; the worse of two guesses counts.
enum Guess {
    Exact,
    Approximate,
    Neighbour,
}

fn guess(sample: &SampleRow) -> Guess {
    match (sample.attribution, sample.address_quality) {
        (Attribution::Neighbour, _) => Guess::Neighbour,
        (_, AddressQuality::Approximate) => Guess::Approximate,
        _ => Guess::Exact,
    }
}

fn reason(sample: &SampleRow) -> Reason {
    match (sample.address, sample.kernel) {
        (Some(_), _) => Reason::OutsideObjects,
        (None, true) => Reason::KernelNoAddress,
        (None, false) => Reason::NoAddress,
    }
}

/// Counts every sample.
pub(super) fn count(tables: &Tables, of_object: &FxHashMap<u32, usize>, groups: usize) -> Tally {
    let marks = Marks::new(tables);
    let mut tally = Tally {
        groups: vec![Count::new(); groups],
        reasons: vec![Count::new(); Reason::ALL.len()],
        phases: marks.names.iter().map(|name| Phase { name: name.clone(), samples: 0.0 }).collect(),
        totals: [0.0; BATCHES],
        squares: 0.0,
    };
    let start = tables.samples.iter().map(|sample| sample.time_ns).min().unwrap_or(0);
    let end = tables.samples.iter().map(|sample| sample.time_ns).max().unwrap_or(0);
    let length = (end - start) as f64 + 1.0;
    for sample in &tables.samples {
        let weight = plausible(f64::from(sample.weight));
        let batch = ((sample.time_ns - start) as f64 / length * BATCHES as f64) as usize;
        let batch = batch.min(BATCHES - 1);
        let phase = marks.phase_at(sample.time_ns);
        tally.squares += weight * weight;
        if let Some(slot) = tally.totals.get_mut(batch) {
            *slot += weight;
        }
        if let Some(phase) = phase.and_then(|phase| tally.phases.get_mut(phase)) {
            phase.samples += weight;
        }
        let group = sample.object.and_then(|object| of_object.get(&object)).copied();
        let count = match group {
            Some(group) => tally.groups.get_mut(group),
            None => {
                let wanted = reason(sample);
                Reason::ALL.iter().zip(&mut tally.reasons).find(|(known, _)| **known == wanted).map(|(_, count)| count)
            }
        };
        if let Some(count) = count {
            count.add(sample, weight, batch, phase);
        }
    }
    tally
}

impl Tally {
    pub(super) fn samples(&self) -> f64 {
        self.totals.iter().sum()
    }

    pub(super) fn share(&self, count: &Count) -> (f64, Interval) {
        let total = self.samples();
        let share = if total > 0.0 { count.samples / total } else { 0.0 };
        let effective = if self.squares > 0.0 { total * total / self.squares } else { 0.0 };
        (share, share_interval(&count.batches, &self.totals, effective))
    }

    pub(super) fn phase_shares(&self, count: &Count) -> Vec<f64> {
        let of = |place: usize| count.phases.get(place).copied().unwrap_or(0.0);
        self.phases
            .iter()
            .enumerate()
            .map(|(place, phase)| if phase.samples > 0.0 { of(place) / phase.samples } else { 0.0 })
            .collect()
    }

    pub(super) fn attribution(&self, groups: &[super::ObjectSummary]) -> AttributionShares {
        let total = self.samples();
        if total <= 0.0 {
            return AttributionShares::default();
        }
        let sum =
            |part: fn(&super::ObjectSummary) -> f64| groups.iter().map(part).fold(0.0, |sum, part| sum + part) / total;
        let approximate = sum(|object| object.approximate * object.samples);
        let neighbour = sum(|object| object.neighbour * object.samples);
        let none = self.reasons.iter().map(|count| count.samples).sum::<f64>() / total;
        AttributionShares { exact: (1.0 - none - approximate - neighbour).max(0.0), approximate, neighbour, none }
    }
}

/// The functions that access an object most; instructions without a known function stand for themselves.
pub(super) fn access_sites(count: &Count, symbols: &Symbols<'_>) -> Vec<AccessSite> {
    let mut code: Vec<((Option<u32>, u64), f64)> = count.code.iter().map(|(&at, &samples)| (at, samples)).collect();
    code.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let mut places: FxHashMap<String, usize> = FxHashMap::default();
    let mut sites: Vec<AccessSite> = Vec::new();
    for ((module, offset), samples) in code {
        let frame = symbols.frame(module, offset);
        let key = frame.function().map_or_else(|| frame.location(), |function| function.name.clone());
        match places.get(&key).and_then(|&place| sites.get_mut(place)) {
            Some(site) => site.samples += samples,
            None => {
                places.insert(key, sites.len());
                sites.push(AccessSite { frame, samples });
            }
        }
    }
    sites.sort_by(|a, b| b.samples.total_cmp(&a.samples));
    sites.truncate(TOP_ACCESS_SITES);
    sites
}

/// The phases that marks announce, by time.
struct Marks {
    names: Vec<String>,
    /// When a phase begins, and which.
    starts: Vec<(u64, usize)>,
}

impl Marks {
    fn new(tables: &Tables) -> Self {
        let mut marks: Vec<_> = tables.marks.iter().collect();
        marks.sort_by_key(|mark| mark.time_ns);
        let mut found = Self { names: Vec::new(), starts: Vec::new() };
        if marks.is_empty() {
            return found;
        }
        let before = found.phase("before the first mark");
        found.starts.push((0, before));
        for mark in marks {
            let phase = found.phase(&mark.name);
            found.starts.push((mark.time_ns, phase));
        }
        found
    }

    fn phase(&mut self, name: &str) -> usize {
        let known = |names: &[String], name: &str| names.iter().position(|known| known == name);
        if let Some(place) = known(&self.names, name) {
            return place;
        }
        let name = if self.names.len() < MOST_PHASES { name } else { "all further phases" };
        known(&self.names, name).unwrap_or_else(|| {
            self.names.push(name.to_owned());
            self.names.len() - 1
        })
    }

    fn phase_at(&self, time_ns: u64) -> Option<usize> {
        let after = self.starts.partition_point(|&(start, _)| start <= time_ns);
        self.starts.get(after.checked_sub(1)?).map(|&(_, phase)| phase)
    }
}
