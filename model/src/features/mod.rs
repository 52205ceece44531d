//! What a profile says of each object, as numbers with errors: what a ranker learns from and a lint looks at.
//!
//! The list of features is `tierscope_rank::FEATURES`; `docs/features.md` tells it to people. Three things make a feature one:
//!
//! - **It is of the program, not of the run.** Addresses move under ASLR, samplers have rates. Numbers of samples enter as shares,
//!   agreements of pairs and steadiness (`spread`, `order`), which twice the samples make surer and not larger. The
//!   tests thin samples to half and move every address.
//! - **It has an error** (`estimate`), and few samples make it large, never the value extreme.
//! - **It is seen by a sampler.** Exact counts of a simulation are in no feature, nor is anything a model of time said: a
//!   simulated profile is read for its samples alone.
//!
//! A clock's samples are time, a PMU's (real, or emulated by the simulator) are loads that missed the last-level cache: two families
//! ([`Family`]), which are never mixed. Page faults are neither.

mod collect;
mod estimate;
mod latency;
mod order;
mod phases;
mod program;
mod sizes;
mod spread;
mod window;

use rustc_hash::FxHashMap;
use thiserror::Error;
use tierscope_rank::{Family, Features, Name};
use tierscope_traces::{Access, Meta, SamplerKind, Tables};

pub use window::Window;

use crate::advice::Fixed;
use crate::summary::Summary;
use collect::Seen;
use estimate::{Estimate, Ratio};
use order::Order;
use program::Program;
use sizes::Size;

/// What was seen of all objects of a profile.
#[derive(Clone, Debug)]
pub struct Observed {
    /// What a sample is.
    pub family: Family,
    /// In the order of the summary; every object of it.
    pub objects: Vec<ObservedObject>,
}

/// What was seen of one object.
#[derive(Clone, Debug)]
pub struct ObservedObject {
    /// Its place in [`Summary::objects`].
    pub object: usize,
    /// Whether a policy can place it: the rule of advice ([`Fixed::of`]).
    pub movable: bool,
    /// Its features, and those of the program; those of tiers and of formulas are not in yet.
    pub features: Features,
}

/// Why a profile has no features.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FeaturesError {
    /// Samples are neither time nor misses.
    #[error(
        "samples of kind {} are neither time nor cache misses, so nothing can be learned from them: record with --sampler clock \
         (works everywhere) or --sampler pmu",
        sampler.as_str()
    )]
    NoFamily {
        /// The kind.
        sampler: SamplerKind,
    },
    /// Samples should say what served them, and none does.
    #[error(
        "no sample of this {} profile says what served it, so misses are not known: import a recording with data sources \
         (`perf mem record`), or record with --sampler clock",
        sampler.as_str()
    )]
    NoLevels {
        /// The kind.
        sampler: SamplerKind,
    },
    /// Nothing was sampled.
    #[error(
        "no samples between {start_ns} ns and {end_ns} ns of the profile's clock: record for longer or with a higher rate (-r), or look \
         at the whole run"
    )]
    NoSamples {
        /// From here.
        start_ns: u64,
        /// To there.
        end_ns: u64,
    },
}

/// The family of a profile's samples.
///
/// # Errors
/// [`FeaturesError::NoFamily`], [`FeaturesError::NoLevels`].
pub fn family(meta: &Meta, tables: &Tables) -> Result<Family, FeaturesError> {
    let sampler = meta.sampler.kind;
    match sampler {
        SamplerKind::Clock => Ok(Family::Clock),
        SamplerKind::Fault | SamplerKind::Unknown => Err(FeaturesError::NoFamily { sampler }),
        SamplerKind::Pmu | SamplerKind::Import | SamplerKind::Sim => {
            let known = tables.samples.is_empty() || tables.samples.iter().any(|sample| sample.level.is_some());
            if known { Ok(Family::Levels) } else { Err(FeaturesError::NoLevels { sampler }) }
        }
    }
}

/// The last-level cache of the machine that was recorded, or of the one that was modelled, in bytes; `None` where the profile does not say.
#[must_use]
pub fn llc_bytes(meta: &Meta) -> Option<u64> {
    if let Some(simulation) = &meta.simulation {
        return simulation.machine.pointer("/llc/bytes")?.as_u64().filter(|bytes| *bytes > 0);
    }
    let caches = meta.host.caches.iter().filter(|cache| cache.kind != "instruction" && cache.bytes > 0);
    caches.max_by_key(|cache| cache.level).map(|cache| cache.bytes)
}

/// Features of every object of a profile within a window. `summary` is that of the same tables; `llc_bytes` is the last-level cache
/// of the machine that the samples are of, 0 where it is not known.
///
/// Takes O(n log n) for n samples and allocations.
///
/// # Errors
/// See [`FeaturesError`].
pub fn features(
    meta: &Meta,
    tables: &Tables,
    summary: &Summary,
    window: Window,
    llc_bytes: u64,
) -> Result<Observed, FeaturesError> {
    let family = family(meta, tables)?;
    let none = FeaturesError::NoSamples { start_ns: window.start_ns, end_ns: window.end_ns };
    let observed = window.observed(tables).ok_or(none)?;
    let recorded = crate::summary::recorded(tables);
    let mut places: FxHashMap<u32, usize> = FxHashMap::default();
    for (place, object) in summary.objects.iter().enumerate() {
        places.extend(recorded.get(&object.id).into_iter().flatten().map(|&number| (number, place)));
    }
    let movable: Vec<bool> = summary.objects.iter().map(|object| Fixed::of(object).is_none()).collect();
    let sizes = sizes::measure(tables, summary, &places, &movable, observed);
    let collected = collect::collect(tables, &places, summary.objects.len(), observed);
    let orders = order::measure(&collected.of_object);
    let program = Program::measure(meta, family, &collected, &movable, &orders);

    let context = Context { family, llc: llc_bytes as f64, footprint: sizes.footprint, program: &program };
    let objects = sizes.objects.iter().zip(&collected.of_object).zip(orders).zip(movable).enumerate();
    let objects = objects.map(|(object, (((size, samples), order), movable))| ObservedObject {
        object,
        movable,
        features: context.of(size, samples, order, movable),
    });
    Ok(Observed { family, objects: objects.collect() })
}

/// What all objects have in common.
struct Context<'a> {
    family: Family,
    llc: f64,
    footprint: f64,
    program: &'a Program,
}

impl Context<'_> {
    fn of(&self, size: &Size, samples: &[Seen<'_>], order: Order, movable: bool) -> Features {
        let mut features = Features::default();
        let mut set = |name, estimate: Estimate| features.set(name, estimate.value, estimate.error);
        // What cannot be moved has no part of what can be.
        let bytes_share = if movable { size.bytes / self.footprint } else { f64::NAN };
        set(Name::Log2Bytes, size.log2_over(1.0));
        set(Name::Log2BytesToLlc, size.log2_over(self.llc));
        set(Name::Log2FootprintToLlc, exactly((self.footprint / self.llc).log2()));
        set(Name::BytesShare, exactly(bytes_share));
        set(Name::Log2Allocations, exactly(size.blocks.log2()));
        set(Name::Lifetime, exactly(size.lifetime));
        set(Name::Log2BlockBytes, exactly(size.block_bytes.log2()));
        self.shares(samples, bytes_share, &mut set);
        self.kinds(samples, size, &mut set);

        let spread = spread::measure(samples, size);
        set(Name::Sequentiality, order.sequentiality);
        set(Name::StrideEntropy, order.stride_entropy);
        set(Name::PageConcentration, spread.page_concentration);
        set(Name::Instructions, spread.instructions);
        set(Name::Threads, spread.threads);
        set(Name::SharedShare, spread.shared_share);
        if self.family == Family::Levels {
            self.levels(samples, bytes_share, &mut set);
        }
        self.program.put_into(&mut set);
        features
    }

    /// Its parts of everything.
    fn shares(&self, samples: &[Seen<'_>], bytes_share: f64, set: &mut impl FnMut(Name, Estimate)) {
        let mut own = Ratio::default();
        samples.iter().for_each(|seen| own.add(seen.batch, seen.weight, true));
        let share = Ratio::of(&own, &self.program.all);
        let of_movable = Ratio::of(&own, &self.program.movable);
        set(Name::Samples, exactly(own.samples()));
        set(Name::Share, share.plain());
        if bytes_share.is_finite() {
            set(Name::ShareOfAttributed, of_movable.plain());
            set(Name::Log2Density, of_movable.log2_over(bytes_share));
        }
        set(Name::PhaseVariance, phases::variance(&share));
    }

    /// Parts of its samples.
    fn kinds(&self, samples: &[Seen<'_>], size: &Size, set: &mut impl FnMut(Name, Estimate)) {
        let part = |counts: &dyn Fn(&Seen<'_>) -> Option<bool>| {
            let mut part = Ratio::default();
            for seen in samples {
                if let Some(hit) = counts(seen) {
                    part.add(seen.batch, seen.weight, hit);
                }
            }
            part
        };
        let program = self.program;
        if program.sees_stores {
            set(Name::StoreShare, part(&|seen| Some(seen.stores())).towards(program.store_share.value));
            let updates = part(&|seen| Some(seen.row.access == Access::Update));
            set(Name::UpdateShare, updates.towards(program.update_share));
        }
        set(Name::KernelShare, part(&|seen| Some(seen.row.kernel)).towards(program.kernel_share));
        set(Name::ApproximateShare, part(&|seen| Some(seen.is_approximate())).towards(program.approximate_share));
        set(Name::NeighbourShare, part(&|seen| Some(seen.is_neighbour())).towards(program.neighbour_share));
        // What is early is decided by time, so batches of time could not say how sure it is.
        let mut early = Ratio::default();
        samples.iter().for_each(|seen| early.add(0, seen.weight, size.is_early(seen.row.time_ns)));
        set(Name::EarlyShare, early.towards(0.25));

        // Whether an instruction waits for a load is written in the code around it: of an instruction with few samples here,
        // those elsewhere say more.
        // If what they say differs, it is no surer than that.
        let own = part(&|seen| seen.row.dependent).plain();
        let value = program.pooled_dependence(samples);
        set(Name::DependentShare, Estimate { value, ..own }.at_least((value - own.value).abs()));
    }

    /// What only a sampler with levels knows.
    fn levels(&self, samples: &[Seen<'_>], bytes_share: f64, set: &mut impl FnMut(Name, Estimate)) {
        let program = self.program;
        let (mut misses, mut latencies) = (Ratio::default(), Ratio::default());
        for seen in samples.iter().filter(|seen| seen.misses()) {
            misses.add(seen.batch, seen.weight, true);
            if let Some(latency) = seen.row.latency {
                latencies.add(seen.batch, seen.weight * f64::from(latency), true);
            }
        }
        let misses = Ratio::of(&misses, &program.misses);
        set(Name::MissShare, misses.plain());
        set(Name::Log2MissDensity, misses.log2_over(bytes_share));
        set(Name::LatencyShare, Ratio::of(&latencies, &program.latencies).plain());
        let latency = latency::measure(samples, program.miss_latency);
        set(Name::LatencyRatio, latency.ratio);
        set(Name::LatencyP90Ratio, latency.p90_ratio);
        set(Name::GapRatio, latency::gap_ratio(samples, program.miss_gap));
        let (mut beyond_first, mut walks) = (Ratio::default(), Ratio::default());
        for (seen, tlb) in samples.iter().filter_map(|seen| Some((seen, program::translation(seen)?))) {
            beyond_first.add(seen.batch, seen.weight, tlb.missed_first);
            walks.add(seen.batch, seen.weight, tlb.walked);
        }
        set(Name::DtlbShare, beyond_first.towards(program.dtlb_share));
        set(Name::WalkShare, walks.towards(program.walk_share));
    }
}

/// Known without error; no number is not known.
fn exactly(value: f64) -> Estimate {
    Estimate { value, error: 0.0 }
}
