//! What an object costs in a slower tier: from samples, unless a simulation timed it (`timed`) or a model predicts it (`learned`).
//!
//! For a sampler of time the samples of an object are the time its accesses took, waiting included. In a tier whose
//! latency is *r* times the fastest's, that time is at most *r* times as long: the run grows by share x (r - 1). Loads and
//! stores are told apart where a tier knows its latency of stores; an update waits like a load.
//!
//! For a sampler that knows levels only accesses that left the caches get slower, so only their time counts: the sum of
//! their latencies over that of all samples (as PACT, ASPLOS'26, divides stall time by sampled latency). Where samples carry
//! levels without latencies, each level stands for what it typically takes (`NOMINAL_NS`).
//!
//! **Why it is an upper bound.** Under a clock sampler the share holds computing as well as waiting. And it takes all time as
//! in proportion to latency: misses that overlap are slowed once, not each. What it leaves out is a tier whose bandwidth
//! ends before its latency counts.
//!
//! **Intervals.** What a set of objects costs is a weighted share of samples, so it has an interval as any share has
//! ([`crate::interval`]): weights are scaled to 0..=1 by the largest ratio in use, which makes the binomial variance an
//! upper bound of theirs. The interval of a set is made from the samples of the set, not from its members' intervals.

use rustc_hash::FxHashMap;
use tierscope_placement::{Cost, Forecast, Problem};
use tierscope_traces::{Access, Level, Meta, SampleRow, SamplerKind, Tables};

use super::learned::Learned;
use super::place::Fixed;
use super::tier::Tier;
use super::timed::Timed;
use crate::interval::{BATCHES, share_interval};
use crate::summary::{Summary, plausible};

/// What a cost rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// Time, in which waiting is not told from computing.
    Time,
    /// Latencies of accesses that left the caches, against those of all samples.
    MissLatency,
    /// The same with typical latencies of levels.
    MissLevels,
    /// First touches or events of an unknown kind: an order, not a time.
    Touches,
    /// Times of a simulation.
    Simulated,
    /// What a model predicts that was trained on other programs.
    Learned,
}

impl Basis {
    /// The word for scripts.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Time => "time",
            Self::MissLatency => "miss-latency",
            Self::MissLevels => "miss-levels",
            Self::Touches => "touches",
            Self::Simulated => "simulated",
            Self::Learned => "learned",
        }
    }

    /// What a share of it is a share of.
    #[must_use]
    pub const fn of_what(self) -> &'static str {
        match self {
            Self::Time => "of the time",
            Self::Learned => "of the samples",
            Self::MissLatency => "of the sampled latency",
            Self::MissLevels => "of the estimated latency",
            Self::Touches => "of the first touches",
            Self::Simulated => "of what all cost alone",
        }
    }
}

/// Nanoseconds of an access served by L1, L2, L3: 5, 14 and 60 cycles at 3 GHz, about what server processors since 2017
/// take (Intel, *Optimization Reference Manual*, tables of cache parameters). A pending miss waits half a memory access.
const NOMINAL_NS: [f64; 3] = [1.7, 4.7, 20.0];

/// Parts of a run's weight, batch by batch.
type Batches = [f64; BATCHES];

/// The costly weight of one object.
#[derive(Clone)]
struct Hits {
    reads: Batches,
    writes: Batches,
}

/// What every object of a summary costs in every tier.
pub(super) struct Costs {
    basis: Basis,
    hits: Vec<Hits>,
    totals: Batches,
    effective: f64,
    /// By tier: how much longer reads and writes take, less one.
    rates: Vec<(f64, f64)>,
    source: Source,
}

/// What knows costs better than shares of samples do.
pub(super) enum Source {
    /// Nothing: shares it is.
    Samples,
    /// A simulation that timed the tiers.
    Timed(Timed),
    /// A model.
    Learned(Box<Learned>),
}

impl Costs {
    pub(super) fn measure(
        meta: &Meta,
        tables: &Tables,
        summary: &Summary,
        recorded: &FxHashMap<String, Vec<u32>>,
        tiers: &[Tier],
        source: Source,
    ) -> Self {
        let basis = match source {
            Source::Timed(_) => Basis::Simulated,
            Source::Learned(_) => Basis::Learned,
            Source::Samples => basis(meta.sampler.kind, tables),
        };
        let fastest_ns = tiers.first().map_or(1.0, |tier| tier.latency_ns);
        let mut places: FxHashMap<u32, usize> = FxHashMap::default();
        for (place, object) in summary.objects.iter().enumerate() {
            places.extend(recorded.get(&object.id).into_iter().flatten().map(|&number| (number, place)));
        }
        let none = Hits { reads: [0.0; BATCHES], writes: [0.0; BATCHES] };
        let mut hits = vec![none; summary.objects.len()];
        let (mut totals, mut sum, mut squares) = ([0.0; BATCHES], 0.0, 0.0);
        let start = tables.samples.iter().map(|sample| sample.time_ns).min().unwrap_or(0);
        let end = tables.samples.iter().map(|sample| sample.time_ns).max().unwrap_or(0);
        let length = (end - start) as f64 + 1.0;
        for sample in &tables.samples {
            let batch = ((sample.time_ns - start) as f64 / length * BATCHES as f64) as usize;
            let batch = batch.min(BATCHES - 1);
            let weight = plausible(f64::from(sample.weight)) * time(basis, sample, fastest_ns);
            (sum, squares) = (sum + weight, squares + weight * weight);
            add(&mut totals, batch, weight);
            let counts = matches!(basis, Basis::Time | Basis::Touches | Basis::Learned)
                || sample.level.is_some_and(Level::misses_llc);
            let place = sample.object.and_then(|object| places.get(&object));
            if let Some(hits) = place.and_then(|&place| hits.get_mut(place)).filter(|_| counts) {
                let stores = sample.access == Access::Store;
                add(if stores { &mut hits.writes } else { &mut hits.reads }, batch, weight);
            }
        }
        let rates = tiers
            .iter()
            .map(|tier| match tiers.first() {
                Some(fastest) => {
                    ((tier.latency_ratio(fastest) - 1.0).max(0.0), (tier.write_latency_ratio(fastest) - 1.0).max(0.0))
                }
                None => (0.0, 0.0),
            })
            .collect();
        let effective = if squares > 0.0 { sum * sum / squares } else { 0.0 };
        Self { basis, hits, totals, effective, rates, source }
    }

    pub(super) fn basis(&self) -> Basis {
        self.basis
    }

    /// The model, where costs are its.
    pub(super) fn learned(&self) -> Option<&Learned> {
        match &self.source {
            Source::Learned(learned) => Some(learned),
            Source::Samples | Source::Timed(_) => None,
        }
    }

    /// What a placement should weigh an object of the summary by in a tier.
    pub(super) fn weight(&self, object: usize, tier: usize) -> Cost {
        self.learned().map_or_else(|| self.of(object, tier), |learned| learned.weight(object, tier))
    }

    /// The share of every object of the summary in what the basis counts.
    pub(super) fn shares(&self) -> Vec<f64> {
        if let Source::Timed(timed) = &self.source {
            return timed.shares(self.hits.len());
        }
        let total: f64 = self.totals.iter().sum();
        let share = |hits: &Hits| hits.reads.iter().chain(&hits.writes).sum::<f64>() / total;
        self.hits.iter().map(share).map(|share| if share.is_finite() { share } else { 0.0 }).collect()
    }

    /// What an object of the summary adds to the run in a tier.
    pub(super) fn of(&self, object: usize, tier: usize) -> Cost {
        match &self.source {
            Source::Timed(timed) => return timed.of(object, tier),
            Source::Learned(learned) => return learned.of(object, tier),
            Source::Samples => {}
        }
        let mut sum = [0.0; BATCHES];
        self.charge(object, tier, &mut sum);
        let (reads, writes) = self.rates.get(tier).copied().unwrap_or_default();
        self.cost(&sum, if tier == 0 { 0.0 } else { reads.max(writes) })
    }

    fn charge(&self, object: usize, tier: usize, sum: &mut Batches) {
        let (Some(hits), Some(&(reads, writes))) = (self.hits.get(object), self.rates.get(tier)) else { return };
        for ((sum, read), write) in sum.iter_mut().zip(&hits.reads).zip(&hits.writes) {
            *sum += read * reads + write * writes;
        }
    }

    /// The cost of weights that were charged at most `rate` each.
    fn cost(&self, charged: &Batches, rate: f64) -> Cost {
        let total: f64 = self.totals.iter().sum();
        if rate <= 0.0 || total <= 0.0 {
            return Cost::NONE;
        }
        let hits = charged.map(|charge| charge / rate);
        let share = (hits.iter().sum::<f64>() / total).clamp(0.0, 1.0);
        let interval = share_interval(&hits, &self.totals, self.effective);
        Cost { point: share * rate, low: interval.low * rate, high: interval.high * rate }
    }

    /// Forecasts for sets of the `movable` objects of the summary, beside what the fixed ones cost.
    pub(super) fn forecast<'a>(&'a self, movable: &'a [usize], found: &[Option<Fixed>]) -> SetCosts<'a> {
        let mut fixed = [0.0; BATCHES];
        let mut fixed_placed = Vec::new();
        let slowest = self.rates.len().saturating_sub(1);
        for (object, reason) in found.iter().enumerate() {
            let Some(tier) = reason.map(|reason| reason.tier(slowest)).filter(|&tier| tier > 0) else { continue };
            self.charge(object, tier, &mut fixed);
            fixed_placed.push((object, tier));
        }
        SetCosts { costs: self, movable, fixed, fixed_placed }
    }
}

/// What sets of objects cost together.
pub(super) struct SetCosts<'a> {
    costs: &'a Costs,
    /// By object of the problem: its place in the summary.
    movable: &'a [usize],
    fixed: Batches,
    /// Fixed objects that are not in the fastest tier, each with its tier.
    fixed_placed: Vec<(usize, usize)>,
}

impl Forecast for SetCosts<'_> {
    fn forecast(&self, _: &Problem, placed: &[usize]) -> Cost {
        let all = || self.movable.iter().copied().zip(placed.iter().copied()).chain(self.fixed_placed.iter().copied());
        match &self.costs.source {
            Source::Timed(timed) => return timed.together(all()),
            Source::Learned(learned) => return learned.together(all()),
            Source::Samples => {}
        }
        let mut sum = self.fixed;
        for (&object, &tier) in self.movable.iter().zip(placed) {
            self.costs.charge(object, tier, &mut sum);
        }
        let fixed_tiers = self.fixed_placed.iter().map(|(_, tier)| tier);
        let used = placed.iter().chain(fixed_tiers).filter(|&&tier| tier > 0);
        let rates = used.filter_map(|&tier| self.costs.rates.get(tier));
        self.costs.cost(&sum, rates.map(|&(reads, writes)| reads.max(writes)).fold(0.0, f64::max))
    }
}

fn add(batches: &mut Batches, batch: usize, weight: f64) {
    if let Some(slot) = batches.get_mut(batch) {
        *slot += weight;
    }
}

/// What samples of this kind can say; latencies count where nine in ten samples have one.
fn basis(kind: SamplerKind, tables: &Tables) -> Basis {
    match kind {
        SamplerKind::Clock => Basis::Time,
        SamplerKind::Fault | SamplerKind::Unknown => Basis::Touches,
        SamplerKind::Pmu | SamplerKind::Import | SamplerKind::Sim => {
            let timed = tables.samples.iter().filter(|sample| sample.latency.is_some()).count();
            if timed * 10 >= tables.samples.len() * 9 { Basis::MissLatency } else { Basis::MissLevels }
        }
    }
}

/// How much of the run a sample stands for.
fn time(basis: Basis, sample: &SampleRow, memory_ns: f64) -> f64 {
    let [l1, l2, l3] = NOMINAL_NS;
    match basis {
        Basis::Time | Basis::Touches | Basis::Simulated | Basis::Learned => 1.0,
        Basis::MissLatency => f64::from(sample.latency.unwrap_or(0)),
        Basis::MissLevels => match sample.level {
            Some(Level::L1 | Level::Unknown) | None => l1,
            Some(Level::L2) => l2,
            Some(Level::L3) => l3,
            Some(Level::FillBuffer) => memory_ns / 2.0,
            Some(_) => memory_ns,
        },
    }
}
