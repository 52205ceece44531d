//! What is the same for all objects of a run: totals, and what the program as a whole is like.

use rustc_hash::FxHashMap;
use tierscope_rank::{Family, Name};
use tierscope_traces::{Access, Meta, Tlb};

use super::collect::{Collected, Seen};
use super::estimate::{Blocks, Cut, Estimate, Ratio, at, floor};
use super::latency;
use super::order::Order;

/// Samples' worth of what an instruction does everywhere, for what it does in one object.
const POOLED_SAMPLES: f64 = 8.0;

/// The program as a whole.
pub(super) struct Program {
    /// All samples, the movable objects' as hits.
    pub(super) all: Ratio,
    /// The samples of movable objects.
    pub(super) movable: Ratio,
    /// All misses.
    pub(super) misses: Ratio,
    /// All misses, weighed by their latencies.
    pub(super) latencies: Ratio,
    pub(super) miss_latency: Estimate,
    /// Nanoseconds.
    pub(super) miss_gap: Estimate,
    pub(super) store_share: Estimate,
    /// Whether the sampler takes stores at all.
    pub(super) sees_stores: bool,
    pub(super) update_share: f64,
    pub(super) kernel_share: f64,
    pub(super) approximate_share: f64,
    pub(super) neighbour_share: f64,
    pub(super) dtlb_share: f64,
    pub(super) walk_share: f64,
    dependent_share: Estimate,
    /// By code address: dependent samples, and samples of which it is known.
    dependence: FxHashMap<(Option<u32>, u64), (f64, f64)>,
    sequentiality: Estimate,
    threads: Estimate,
    memory_share: Estimate,
    miss_rate: Estimate,
}

/// Where an address was translated.
#[derive(Clone, Copy)]
pub(super) struct Translation {
    pub(super) missed_first: bool,
    pub(super) walked: bool,
}

/// `None` where the sampler does not say.
pub(super) fn translation(seen: &Seen<'_>) -> Option<Translation> {
    match seen.row.tlb? {
        Tlb::L1 => Some(Translation { missed_first: false, walked: false }),
        Tlb::L2 => Some(Translation { missed_first: true, walked: false }),
        Tlb::Walk => Some(Translation { missed_first: true, walked: true }),
        Tlb::Unknown => None,
    }
}

impl Program {
    pub(super) fn measure(
        meta: &Meta,
        family: Family,
        collected: &Collected<'_>,
        movable: &[bool],
        orders: &[Order],
    ) -> Self {
        let is_movable = |seen: &Seen<'_>| seen.object.and_then(|object| movable.get(object)).copied().unwrap_or(false);
        let part = |of: &dyn Fn(&Seen<'_>) -> bool, hit: &dyn Fn(&Seen<'_>) -> Option<bool>| {
            let mut part = Ratio::default();
            for seen in collected.all.iter().filter(|seen| of(seen)) {
                if let Some(hit) = hit(seen) {
                    part.add(seen.batch, seen.weight, hit);
                }
            }
            part
        };
        let of_movable = |hit: &dyn Fn(&Seen<'_>) -> Option<bool>| part(&is_movable, hit);
        let of_attributed = |hit: &dyn Fn(&Seen<'_>) -> Option<bool>| part(&|seen| seen.object.is_some(), hit).part();
        let mut latencies = Ratio::default();
        for seen in collected.all.iter().filter(|seen| seen.misses()) {
            if let Some(latency) = seen.row.latency {
                latencies.add(seen.batch, seen.weight * f64::from(latency), true);
            }
        }
        let mut dependence: FxHashMap<(Option<u32>, u64), (f64, f64)> = FxHashMap::default();
        for seen in &collected.all {
            if let Some(dependent) = seen.row.dependent {
                let (hits, all) = dependence.entry(seen.code()).or_default();
                *hits += if dependent { seen.weight } else { 0.0 };
                *all += seen.weight;
            }
        }
        let misses = part(&|seen| seen.misses(), &|_| Some(true));
        let memory = part(&|_| true, &|seen| Some(seen.row.address.is_some()));
        let is_clock = family == Family::Clock;
        Self {
            all: part(&|_| true, &|seen| Some(is_movable(seen))),
            movable: of_movable(&|_| Some(true)),
            miss_latency: latency::mean(collected.all.iter()),
            miss_gap: latency::mean_gap(collected.all.iter()),
            miss_rate: miss_rate(meta, family, collected, &misses),
            misses,
            latencies,
            store_share: of_movable(&|seen| Some(seen.stores())).plain(),
            sees_stores: is_clock || collected.all.iter().any(Seen::stores),
            update_share: of_attributed(&|seen| Some(seen.row.access == Access::Update)),
            kernel_share: of_attributed(&|seen| Some(seen.row.kernel)),
            approximate_share: of_attributed(&|seen| Some(seen.is_approximate())),
            neighbour_share: of_attributed(&|seen| Some(seen.is_neighbour())),
            dtlb_share: of_attributed(&|seen| Some(translation(seen)?.missed_first)),
            walk_share: of_attributed(&|seen| Some(translation(seen)?.walked)),
            dependent_share: of_movable(&|seen| seen.row.dependent).plain(),
            dependence,
            sequentiality: sequentiality(orders, movable),
            threads: threads(&collected.all),
            memory_share: if is_clock { memory.plain() } else { Estimate::UNKNOWN },
        }
    }

    /// Part of these samples whose address had to wait for a load, each instruction's drawn towards what it does everywhere.
    pub(super) fn pooled_dependence(&self, samples: &[Seen<'_>]) -> f64 {
        let mut by_code: FxHashMap<(Option<u32>, u64), (f64, f64, f64)> = FxHashMap::default();
        for seen in samples {
            if let Some(dependent) = seen.row.dependent {
                let (hits, all, squares) = by_code.entry(seen.code()).or_default();
                *hits += if dependent { seen.weight } else { 0.0 };
                *all += seen.weight;
                *squares += seen.weight * seen.weight;
            }
        }
        let mut codes: Vec<_> = by_code.into_iter().collect();
        // Sums in one order, so that they are the same to the last bit.
        codes.sort_unstable_by_key(|(code, _)| *code);
        let (mut sum, mut weights) = (0.0, 0.0);
        for (code, (hits, all, squares)) in codes {
            let (everywhere, of) = self.dependence.get(&code).copied().unwrap_or((hits, all));
            let samples = all * all / squares;
            let part = (samples * (hits / all) + POOLED_SAMPLES * (everywhere / of)) / (samples + POOLED_SAMPLES);
            sum += part * all;
            weights += all;
        }
        sum / weights
    }

    /// Says what every object has in common.
    pub(super) fn put_into(&self, set: &mut impl FnMut(Name, Estimate)) {
        set(Name::ProgramMovableShare, self.all.plain());
        set(Name::ProgramDependentShare, self.dependent_share);
        set(Name::ProgramSequentiality, self.sequentiality);
        set(Name::ProgramStoreShare, if self.sees_stores { self.store_share } else { Estimate::UNKNOWN });
        set(Name::ProgramThreads, self.threads);
        set(Name::ProgramMemoryShare, self.memory_share);
        set(Name::ProgramMissLatency, self.miss_latency);
        set(Name::ProgramMissRate, self.miss_rate);
    }
}

/// The movable objects' sequentiality by steps; errors of different objects are independent as far as they are of sampling.
fn sequentiality(orders: &[Order], movable: &[bool]) -> Estimate {
    let known = || {
        let of_movable = orders.iter().zip(movable).filter(|(_, movable)| **movable).map(|(order, _)| order);
        of_movable.filter(|order| order.sequentiality.value.is_finite())
    };
    let steps: f64 = known().map(|order| order.steps).sum();
    let value = known().map(|order| order.sequentiality.value * order.steps).sum::<f64>() / steps;
    let square: f64 = known().map(|order| (order.sequentiality.error * order.steps).powi(2)).sum();
    Estimate { value, error: square.sqrt() / steps }
}

/// Effective number of threads: one over the probability that two samples are of the same.
fn threads(all: &[Seen<'_>]) -> Estimate {
    let mut by_thread: FxHashMap<u32, Blocks> = FxHashMap::default();
    let cut = Cut::new(all.len());
    let mut blocks = Blocks::NONE;
    let (mut sum, mut squares) = (0.0, 0.0);
    for (place, seen) in all.iter().enumerate() {
        by_thread.entry(seen.row.tid).or_insert(Blocks::NONE).add(cut.of(place), seen.weight);
        blocks.add(cut.of(place), seen.weight);
        (sum, squares) = (sum + seen.weight, squares + seen.weight * seen.weight);
    }
    let mut threads: Vec<_> = by_thread.into_iter().collect();
    threads.sort_unstable_by_key(|(tid, _)| *tid);
    let threads: Vec<_> = threads.into_iter().map(|(_, blocks)| blocks.folds()).collect();
    let all = blocks.folds();
    let number =
        cut.jackknife(|fold| at(&all, fold).powi(2) / threads.iter().map(|one| at(one, fold).powi(2)).sum::<f64>());
    number.at_least(floor(number.value, sum * sum / squares))
}

/// Misses per thousand cycles that threads ran, where the length of a cycle is known: in a simulation. A thread ran from its first
/// sample to its last. The error is that of the number of samples.
fn miss_rate(meta: &Meta, family: Family, collected: &Collected<'_>, misses: &Ratio) -> Estimate {
    let ghz = meta.simulation.as_ref().map(|simulation| simulation.ghz).filter(|ghz| ghz.is_finite() && *ghz > 0.0);
    let (Family::Levels, Some(ghz)) = (family, ghz) else { return Estimate::UNKNOWN };
    let mut spans: FxHashMap<u32, (u64, u64)> = FxHashMap::default();
    for seen in &collected.all {
        let span = spans.entry(seen.row.tid).or_insert((seen.row.time_ns, seen.row.time_ns));
        span.1 = seen.row.time_ns;
    }
    let ran: u64 = spans.values().map(|(first, last)| last - first).fold(0, u64::saturating_add);
    let rate = misses.weight() / (ran as f64 * ghz / 1e3);
    Estimate { value: rate, error: rate / misses.samples().max(1.0).sqrt() }
}
