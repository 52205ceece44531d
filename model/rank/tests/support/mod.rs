//! Made-up programs on a made-up machine, for tests only: streams, chases, random accesses and objects that fit the cache, with overlap,
//! bandwidth, and features as noisy as so many samples make them. The physics is not that of the formula: each object has its own
//! overlap and caching, of which features tell only part.

#![allow(unreachable_pub, dead_code, reason = "each test takes what it needs")]

use tierscope_rank::{Case, Counted, Family, Features, Name, Row, Set, Table, TierPair};

/// Numbers from a seed (xorshift).
pub struct Lot(u64);

impl Lot {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn unit(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }
}

/// An object as it is: what features see through samples.
struct Truth {
    mib: f64,
    accesses: f64,
    sequential: f64,
    dependent: f64,
    overlap: f64,
    stores: f64,
}

struct Tier {
    name: &'static str,
    pair: TierPair,
    fast_ns: f64,
}

fn tiers() -> [Tier; 3] {
    let pair = |latency_x, bandwidth_x, write_bandwidth_x, granule_bytes, slow_read_gbs, slow_write_gbs| TierPair {
        latency_x,
        bandwidth_x,
        write_bandwidth_x,
        granule_bytes,
        slow_read_gbs,
        slow_write_gbs,
    };
    [
        Tier { name: "optane-100x6", pair: pair(3.0, 2.8, 7.0, 256.0, 37.6, 11.0), fast_ns: 101.0 },
        Tier { name: "cxl-asic", pair: pair(2.4, 8.4, 8.4, 64.0, 26.0, 26.0), fast_ns: 114.0 },
        Tier { name: "optane-100x1", pair: pair(3.0, 16.0, 35.0, 256.0, 6.5, 2.2), fast_ns: 101.0 },
    ]
}

fn truths(lot: &mut Lot) -> Vec<Truth> {
    let count = 3 + (lot.unit() * 6.0) as usize;
    // What programs differ in and no feature shows.
    let habit = lot.between(0.7, 1.4);
    (0..count)
        .map(|_| {
            let kind = (lot.unit() * 5.0) as usize;
            let mib = lot.between(0.0, 8.0).exp2();
            let accesses = lot.between(-3.0, 3.0).exp2() * 1e6;
            let (sequential, dependent, overlap, stores) = match kind {
                0 => (lot.between(0.85, 1.0), 0.0, lot.between(8.0, 14.0), lot.between(0.0, 0.3)),
                1 => (lot.between(0.0, 0.1), lot.between(0.7, 1.0), lot.between(1.0, 1.4), 0.05),
                2 => (lot.between(0.0, 0.2), lot.between(0.0, 0.3), lot.between(3.0, 8.0), lot.between(0.0, 0.5)),
                3 => (lot.between(0.7, 1.0), 0.0, 10.0, lot.between(0.7, 1.0)),
                _ => (lot.between(0.2, 0.8), lot.between(0.0, 0.6), lot.between(2.0, 5.0), 0.2),
            };
            let mib = if lot.unit() < 0.15 { mib / 64.0 } else { mib };
            let accesses = if kind == 0 || kind == 3 { accesses * 8.0 } else { accesses };
            Truth { mib, accesses, sequential, dependent, overlap: (overlap * habit).max(1.0), stores }
        })
        .collect()
}

/// Part of the accesses that reach memory.
fn misses(truth: &Truth, footprint_mib: f64, llc_mib: f64) -> f64 {
    let kept = (llc_mib / footprint_mib.max(truth.mib)).min(1.0);
    let lines = truth.sequential * 0.125 + (1.0 - truth.sequential);
    (1.0 - kept).max(0.002) * lines
}

/// Milliseconds that an object makes the run wait.
fn waits(truth: &Truth, missed: f64, ns: f64, gbs: f64, write_gbs: f64, granule: f64) -> f64 {
    let loads = missed * (1.0 - truth.stores);
    let stores = missed * truth.stores;
    let prefetched = truth.sequential * truth.sequential;
    let latency = loads * (1.0 - 0.9 * prefetched) * ns / truth.overlap;
    let moved = 64.0 * (truth.sequential + (1.0 - truth.sequential) * granule / 64.0);
    let bandwidth = loads * moved / gbs.min(14.0) + stores * moved / write_gbs.min(14.0);
    (latency.powi(2) + bandwidth.powi(2)).sqrt() / 1e6
}

/// A table of so many programs.
pub fn table(programs: usize, seed: u64) -> Table {
    let mut table = Table::default();
    for program in 0..programs {
        let mut lot = Lot::new(seed * 1000 + program as u64 + 1);
        lot.unit();
        let truths = truths(&mut lot);
        let compute = lot.between(0.2, 2.0);
        for (scale, grows) in [("small", 0.25), ("large", 1.0)] {
            for llc_mib in [1.0, 8.0] {
                let truths: Vec<Truth> = truths
                    .iter()
                    .map(|truth| Truth { mib: truth.mib * grows, accesses: truth.accesses * grows, ..*truth })
                    .collect();
                cases(&mut table, &format!("program-{program:02}"), scale, llc_mib, &truths, compute, &mut lot);
            }
        }
    }
    let mut sorted = Table::default();
    sorted.merge(table);
    sorted
}

fn cases(table: &mut Table, program: &str, scale: &str, llc_mib: f64, truths: &[Truth], compute: f64, lot: &mut Lot) {
    let footprint: f64 = truths.iter().map(|truth| truth.mib).sum();
    let missed: Vec<f64> = truths.iter().map(|truth| truth.accesses * misses(truth, footprint, llc_mib)).collect();
    // The clock recorded on another machine, with another cache.
    let host: Vec<f64> = truths
        .iter()
        .map(|truth| waits(truth, truth.accesses * misses(truth, footprint, 16.0), 90.0, 14.0, 14.0, 64.0))
        .collect();
    let busy: Vec<f64> = truths.iter().map(|truth| truth.accesses * 1.5 / 1e6).collect();
    let idle = compute * busy.iter().sum::<f64>();
    let host_all = idle + host.iter().sum::<f64>() + busy.iter().sum::<f64>();
    let clock: Vec<f64> = host.iter().zip(&busy).map(|(wait, busy)| (wait + busy) / host_all).collect();
    let all_missed: f64 = missed.iter().sum();
    for tier in tiers() {
        let fast = |number: usize| waits(&truths[number], missed[number], tier.fast_ns, 100.0, 80.0, 64.0);
        let run = idle + busy.iter().sum::<f64>() + (0..truths.len()).map(fast).sum::<f64>();
        let pair = tier.pair;
        let cost = |number: usize| {
            let truth = &truths[number];
            let ns = tier.fast_ns * pair.latency_x;
            let slow = waits(truth, missed[number], ns, pair.slow_read_gbs, pair.slow_write_gbs, pair.granule_bytes);
            (slow - fast(number)).max(0.0) / run
        };
        let costs: Vec<f64> = (0..truths.len()).map(cost).collect();
        let case = Case {
            program: program.into(),
            scale: scale.into(),
            seed: 1,
            llc_bytes: (llc_mib * 1_048_576.0) as u64,
            tiers: tier.name.into(),
            machine: "sim".into(),
        };
        let latency = |number: usize| missed[number] * tier.fast_ns * 3.0 * (1.0 + 0.2 / truths[number].overlap);
        let latencies: f64 = (0..truths.len()).map(latency).sum();
        for (number, truth) in truths.iter().enumerate() {
            let mut features = Features::default();
            sizes(&mut features, truth, footprint, llc_mib);
            let mut of_clock = features.clone();
            sampled(&mut of_clock, truth, clock[number], clock.iter().sum(), 4000.0, lot);
            of_clock.set(Name::ProgramMemoryShare, 0.6, 0.01);
            let mut of_levels = features;
            let share = missed[number] / all_missed;
            sampled(&mut of_levels, truth, share, 1.0, 1500.0, lot);
            of_levels.set(Name::MissShare, share, (share / 1500.0).sqrt());
            of_levels.set(Name::LatencyShare, latency(number) / latencies, (share / 1500.0).sqrt());
            of_levels.set(Name::LatencyRatio, lot.between(0.9, 1.1), 0.05);
            of_levels.set(Name::ProgramMissRate, all_missed * 0.9 / (run * 3e6) * 1000.0, 0.01);
            of_levels.set(Name::ProgramMissLatency, latencies / all_missed, 1.0);
            table.rows.push(Row {
                case: case.clone(),
                tier_pair: pair,
                object: format!("heap-{number:02}"),
                name: format!("object {number}"),
                kind: "heap".into(),
                bytes: (truth.mib * 1_048_576.0) as u64 + 1,
                movable: true,
                clock: Some(of_clock),
                levels: Some(of_levels),
                counted: Counted {
                    llc_misses: missed[number],
                    bytes_read: missed[number] * 64.0,
                    bytes_written: missed[number] * 64.0 * truth.stores,
                    stall_cycles: fast(number) * 3e6,
                    first_seen: lot.unit(),
                    soar_score: missed[number] * lot.between(0.5, 1.5),
                    hotness: truth.accesses / truth.mib,
                },
                criticality: costs[number] + 0.0005 * lot.normal(),
                criticality_error: 0.001,
            });
        }
        sets(table, &case, &costs);
    }
}

fn sizes(features: &mut Features, truth: &Truth, footprint: f64, llc_mib: f64) {
    features.set_exact(Name::Log2Bytes, truth.mib.log2() + 20.0);
    features.set_exact(Name::Log2BytesToLlc, (truth.mib / llc_mib).log2());
    features.set_exact(Name::Log2FootprintToLlc, (footprint / llc_mib).log2());
    features.set_exact(Name::BytesShare, truth.mib / footprint);
    features.set_exact(Name::Lifetime, 1.0);
}

fn sampled(features: &mut Features, truth: &Truth, share: f64, movable: f64, samples: f64, lot: &mut Lot) {
    let noisy = |share: f64, of: f64, lot: &mut Lot| {
        let error = (share.clamp(0.001, 0.999) * (1.0 - share.clamp(0.001, 0.999)) / of.max(1.0)).sqrt();
        ((share + error * lot.normal()).clamp(0.0, 1.0), error)
    };
    let (seen, error) = noisy(share, samples, lot);
    features.set(Name::Share, seen, error);
    features.set(Name::ShareOfAttributed, seen / movable, error / movable);
    let density = seen.max(1e-4) / movable / features.get(Name::BytesShare);
    features.set(Name::Log2Density, density.log2(), error / seen.max(1e-4));
    let own = (seen * samples).round();
    features.set_exact(Name::Samples, own);
    if own < 1.0 {
        return;
    }
    for (name, value) in [
        (Name::StoreShare, truth.stores),
        (Name::DependentShare, truth.dependent * 0.9),
        (Name::Sequentiality, truth.sequential * 0.95),
    ] {
        let (value, error) = noisy(value, own, lot);
        features.set(name, value, error);
    }
    features.set(Name::StrideEntropy, (1.0 - truth.sequential).max(0.05), 0.1);
    features.set(Name::Threads, 1.0, 0.0);
    features.set(Name::PhaseVariance, lot.unit() * 0.3, 0.1);
}

/// Every combination of the five objects that cost most, and everything.
fn sets(table: &mut Table, case: &Case, costs: &[f64]) {
    let mut order: Vec<usize> = (0..costs.len()).collect();
    order.sort_by(|&a, &b| costs[b].total_cmp(&costs[a]));
    order.truncate(5);
    let together = |set: &[usize]| {
        let sum: f64 = set.iter().map(|&object| costs[object]).sum();
        let largest = set.iter().map(|&object| costs[object]).fold(0.0, f64::max);
        if sum > 0.0 { sum * (1.0 - 0.25 * (1.0 - largest / sum)) } else { 0.0 }
    };
    let chosen = (1u32..1 << order.len()).map(|bits| {
        order.iter().enumerate().filter(|(place, _)| bits >> place & 1 == 1).map(|(_, &object)| object).collect()
    });
    let everything: Vec<usize> = (0..costs.len()).collect();
    let mut sets: Vec<Vec<usize>> = chosen.filter(|set: &Vec<usize>| set.len() > 1).chain([everything]).collect();
    sets.iter_mut().for_each(|set| set.sort_unstable());
    sets.sort();
    sets.dedup();
    for set in sets {
        let slow: Vec<String> = set.iter().map(|object| format!("heap-{object:02}")).collect();
        table.sets.push(Set { case: case.clone(), slow, slowdown: together(&set), error: 0.001 });
    }
}

/// The features of a row, as one asks a model.
pub fn question(row: &Row, family: Family) -> (Features, TierPair) {
    (row.features(family).unwrap_or_default(), row.tier_pair)
}
