//! The physically grounded estimate: what waiting and moving grow by when an object goes to the slow tier.
//!
//! Criticality is the time a run waits for an object's memory times how much longer it would wait. Waiting has two parts. A miss
//! that nothing hides takes the latency, so it grows by (latency ratio - 1); lines that are moved faster than the slow tier can move
//! them queue, whatever the latency. The two are estimated apart, added, and left to a learner to correct.
//!
//! **Clock.** A share of samples is a share of time, in which hits and computing are counted too. What is touched often stays in
//! the cache: a line that is touched at random, d times as often as the mean, misses with probability exp(-d t), where t is what fills the
//! cache with all objects' lines (Che, Tung, Wang, "Hierarchical Web Caching Systems", JSAC 2002), here -ln(1 - cache / footprint). Lines
//! of an object are not alike; if their rates are exponentially distributed, the mean is 1 / (1 + d t). What is read in order comes again
//! when all of it went by: r / (1 + r) of it misses, with r the geometric mean of object and footprint over the cache; so
//! it is taken where the density is not known.
//! Stores count as loads do: they retire without waiting until the store buffer is full, and samples fall on them when it is.
//! Prefetchers hide three quarters of the latency of what goes forward evenly.
//!
//! **Levels.** Loads that missed per cycle times their latency is how many are outstanding on average (Little's law). Those whose
//! address had to be loaded first come one at a time; of the others four wait together. A share of the latencies
//! (PACT, ASPLOS'26) divides this among objects. None of them waits longer than the time between its misses, whatever depends on what: eight
//! chains that are walked at once wait together.
//!
//! **Monotone.** Both parts grow with every share of samples and with every ratio of the tiers, or stay; more time in the same bytes,
//! too, which makes them denser.
//!
//! **Limits.** Nothing is known of overlap with other objects' misses, of what computing hides, of sockets or of the queue of
//! several programs; a run whose clock samples were taken on one machine may wait elsewhere on another. Where a share or the ratio of latencies
//! is unknown there is no estimate.

use crate::feature::{Family, Features, Name};

/// Part of the latency that prefetchers hide of a perfectly sequential object.
const HIDDEN: f64 = 0.75;

/// Independent misses that wait together: well under the 10 to 16 fill buffers of a core, since they seldom are all used.
const OVERLAP: f64 = 4.0;

/// What one core can move from memory, 10^9 bytes a second: 12 fill buffers of 64 bytes over some 64 ns.
const CORE_GBS: f64 = 12.0;

/// Cycles of a nanosecond where nothing says how many.
const NOMINAL_GHZ: f64 = 3.0;

const LINE_BYTES: f64 = 64.0;

/// How often a line of mean density is touched, at most, before a cache was filled: what nearly fits still misses a little.
const LONGEST_FILL: f64 = 10.0;

/// Both parts of the estimate: by how much the run grows; 0.05 is 5 %.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// Waiting for misses that nothing hides.
    pub latency: f64,
    /// Waiting for lines to be moved.
    pub bandwidth: f64,
}

impl Estimate {
    /// What both cost together.
    #[must_use]
    pub fn sum(&self) -> f64 {
        self.latency + self.bandwidth
    }
}

/// The estimate from what is known of an object and of the tiers; `None` without a share or the ratio of latencies.
#[must_use]
pub fn estimate(family: Family, features: &Features) -> Option<Estimate> {
    let waiting = (features.known(Name::LatencyX)? - 1.0).max(0.0);
    match family {
        Family::Clock => Some(clock(features, features.known(Name::Share)?.clamp(0.0, 1.0), waiting)),
        Family::Levels => {
            let share = features.known(Name::LatencyShare).or_else(|| features.known(Name::MissShare));
            Some(levels(features, share.or_else(|| features.known(Name::Share))?.clamp(0.0, 1.0), waiting))
        }
    }
}

/// Writes the estimate among the features, with the error that the share's own error gives it.
pub fn put(family: Family, features: &mut Features) {
    let Some(estimate) = estimate(family, features) else { return };
    let share = match family {
        Family::Clock => Name::Share,
        Family::Levels => Name::LatencyShare,
    };
    let relative = features.error(share) / features.get(share);
    let error = |part: f64| if part == 0.0 { 0.0 } else { part * relative };
    features.set(Name::FormulaLatency, estimate.latency, error(estimate.latency));
    features.set(Name::FormulaBandwidth, estimate.bandwidth, error(estimate.bandwidth));
}

fn unit(features: &Features, name: Name, otherwise: f64) -> f64 {
    features.known(name).unwrap_or(otherwise).clamp(0.0, 1.0)
}

fn clock(features: &Features, share: f64, waiting: f64) -> Estimate {
    let sequential = unit(features, Name::Sequentiality, 0.0);
    let stores = unit(features, Name::StoreShare, 0.0);
    let time = share * beyond_cache(features, sequential);
    let latency = time * (1.0 - HIDDEN * sequential) * waiting;
    let threads = features.known(Name::ProgramThreads).unwrap_or(1.0).max(1.0);
    // Moving takes as long as the slower of core and tier; it cannot grow by more than the tiers differ.
    let grows = |gbs: Name, ratio: Name| {
        let slower = features.known(gbs).filter(|gbs| *gbs > 0.0).map_or(0.0, |gbs| CORE_GBS * threads / gbs - 1.0);
        slower.clamp(0.0, (features.known(ratio).unwrap_or(1.0) - 1.0).max(0.0))
    };
    let reads = (1.0 - stores) * sequential * grows(Name::SlowReadGbs, Name::BandwidthX);
    let writes = stores * grows(Name::SlowWriteGbs, Name::WriteBandwidthX);
    Estimate { latency, bandwidth: time * (reads + writes) }
}

fn levels(features: &Features, share: f64, waiting: f64) -> Estimate {
    let dependent = unit(features, Name::DependentShare, 0.5);
    let sequential = unit(features, Name::Sequentiality, 0.0);
    let rate = features.known(Name::ProgramMissRate).map(|rate| rate.max(0.0) / 1000.0);
    let outstanding = match (rate, features.known(Name::ProgramMissLatency)) {
        (Some(rate), Some(cycles)) => rate * cycles.max(0.0),
        _ => 1.0,
    };
    let alone = dependent + (1.0 - dependent) / OVERLAP;
    let between = match (features.known(Name::MissShare), features.known(Name::GapRatio)) {
        (Some(misses), Some(gap)) => (misses * gap).clamp(0.0, 1.0),
        _ => 1.0,
    };
    let latency = (share * outstanding * alone).min(between) * waiting;
    let granule = (features.known(Name::GranuleBytes).unwrap_or(LINE_BYTES) / LINE_BYTES).max(1.0);
    let moved = LINE_BYTES * (1.0 + (1.0 - sequential) * (granule - 1.0));
    let asked_gbs = rate.unwrap_or(0.0) * share * moved * NOMINAL_GHZ;
    let busy = features.known(Name::SlowReadGbs).filter(|gbs| *gbs > 0.0).map_or(0.0, |gbs| asked_gbs / gbs);
    let ratio = features.known(Name::BandwidthX).unwrap_or(1.0).max(1.0);
    // A tier that is busy little queues little.
    Estimate { latency, bandwidth: busy * busy / (0.5 + busy) * (1.0 - 1.0 / ratio) }
}

/// The part of accesses that leave the caches.
fn beyond_cache(features: &Features, sequential: f64) -> f64 {
    let object = features.known(Name::Log2BytesToLlc);
    let footprint = features.known(Name::Log2FootprintToLlc);
    let log2 = match (object, footprint) {
        (Some(object), Some(footprint)) => f64::midpoint(object, footprint),
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => return 1.0,
    };
    let ratio = log2.clamp(-60.0, 60.0).exp2();
    let in_order = ratio / (1.0 + ratio);
    let (Some(density), Some(footprint)) = (features.known(Name::Log2Density), footprint) else { return in_order };
    let footprint = footprint.clamp(-60.0, 60.0).exp2();
    // What fits is touched first, and then not from memory again.
    let fills = if footprint > 1.0 { -(-1.0 / footprint).ln_1p() } else { LONGEST_FILL };
    let at_random = 1.0 / (1.0 + density.clamp(-60.0, 60.0).exp2() * fills.min(LONGEST_FILL));
    sequential * in_order + (1.0 - sequential) * at_random
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chase() -> Features {
        let mut features = Features::default();
        for (name, value) in [
            (Name::Share, 0.5),
            (Name::LatencyShare, 0.5),
            (Name::Log2BytesToLlc, 10.0),
            (Name::DependentShare, 1.0),
            (Name::ProgramMissRate, 4.0),
            (Name::ProgramMissLatency, 250.0),
            (Name::LatencyX, 3.0),
            (Name::BandwidthX, 3.0),
            (Name::SlowReadGbs, 30.0),
        ] {
            features.set(name, value, 0.0);
        }
        features
    }

    #[test]
    fn a_chase_through_half_of_the_time_costs_half_of_what_the_latency_grows_by() {
        for family in Family::ALL {
            let estimate = estimate(family, &chase()).unwrap();
            assert!((estimate.latency - 1.0).abs() < 0.01, "{family}: {estimate:?}");
        }
    }

    #[test]
    fn a_stream_costs_less_than_a_chase_and_what_fits_the_cache_next_to_nothing() {
        let of = |name, value| {
            let mut features = chase();
            features.set_exact(name, value);
            estimate(Family::Clock, &features).unwrap().sum()
        };
        assert!(of(Name::Sequentiality, 1.0) < 0.3);
        assert!(of(Name::Log2BytesToLlc, -8.0) < 0.01);
        assert!(of(Name::StoreShare, 1.0) >= of(Name::StoreShare, 0.0), "stores that time goes into wait");
    }

    #[test]
    fn of_two_objects_that_take_the_same_time_the_denser_stays_in_the_cache() {
        let of = |density| {
            let mut features = chase();
            features.set_exact(Name::Log2FootprintToLlc, 3.0);
            features.set_exact(Name::Log2Density, density);
            estimate(Family::Clock, &features).unwrap().sum()
        };
        assert!(of(4.0) < 0.5 * of(0.0) && of(0.0) > 0.8);
    }

    #[test]
    fn what_waits_together_waits_no_longer_than_the_time_between_its_misses() {
        let mut features = chase();
        features.set_exact(Name::MissShare, 0.8);
        features.set_exact(Name::GapRatio, 0.125);
        let estimate = estimate(Family::Levels, &features).unwrap();
        assert!((estimate.latency - 0.2).abs() < 1e-9, "{estimate:?}");
    }

    #[test]
    fn without_a_share_or_a_ratio_there_is_no_estimate() {
        let mut features = chase();
        features.set(Name::LatencyX, f64::NAN, 0.0);
        assert_eq!(estimate(Family::Clock, &features), None);
        put(Family::Clock, &mut features);
        assert_eq!(features.known(Name::FormulaLatency), None);
        assert_eq!(estimate(Family::Levels, &Features::UNKNOWN), None);
    }
}
