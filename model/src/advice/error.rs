//! Why there is no advice.

use thiserror::Error;
use tierscope_placement::PlacementError;
use tierscope_traces::SamplerKind;

use super::rank::Ranker;

/// Why a profile cannot be advised on as asked; each says what to do.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum AdviceError {
    /// One tier or none.
    #[error("{tiers} tier(s) leave nothing to decide: name at least two with --tiers, the fastest first")]
    TooFewTiers {
        /// How many there are.
        tiers: usize,
    },
    /// A tier has a latency, bandwidth or granule that nothing has.
    #[error("tier {name} has a latency, bandwidth or granule of {figure}, which no memory has: correct the tier file")]
    BadTier {
        /// The tier.
        name: String,
        /// The figure.
        figure: f64,
    },
    /// The tiers are not ordered by latency.
    #[error(
        "tier {first} comes before {second} but answers later: list the fastest first. Predictions are by latency only, so a \
         tier that is chosen for its bandwidth (HBM) cannot be advised on"
    )]
    TierOrder {
        /// The tier that comes first.
        first: String,
        /// The tier that is faster.
        second: String,
    },
    /// The ranker needs cache levels, and the sampler does not know them.
    #[error(
        "--ranker {ranker} counts cache misses, which {} samples do not show: record with --sampler pmu where there is one \
         (see `tierscope doctor`), or use --ranker stall-density",
        sampler.as_str()
    )]
    NeedsLevels {
        /// The ranker.
        ranker: Ranker,
        /// The sampler of the profile.
        sampler: SamplerKind,
    },
    /// The ranker needs latencies of misses, and no sample has one.
    #[error(
        "--ranker {} adds up sampled latencies of cache misses, and no {} sample has one: `tierscope simulate --tiers FAST,SLOW` and \
         samplers of a PMU give them, or use --ranker model",
        Ranker::LatencyWeighted,
        sampler.as_str()
    )]
    NeedsLatencies {
        /// The sampler of the profile.
        sampler: SamplerKind,
    },
    /// The ranker needs counters of the cores, and the profile has none.
    #[error(
        "--ranker {} divides stalls by counters of the cores (reads outstanding, stalls), which this {} profile has not: \
         `tierscope simulate -- CMD` writes them with its samples, or use --ranker model",
        Ranker::SoarAol,
        sampler.as_str()
    )]
    NeedsCounters {
        /// The sampler of the profile.
        sampler: SamplerKind,
    },
    /// The ranker searches what a simulation timed, and none timed these tiers.
    #[error(
        "--ranker {} searches placements by what a simulation timed, and this profile has no times of {fast} beside {slow}: \
         `tierscope simulate --tiers {fast},{slow} -- CMD` makes one that has, where these are presets or of a tier file; or use \
         --ranker model",
        Ranker::Oracle
    )]
    NeedsTimes {
        /// The fastest tier.
        fast: String,
        /// The slowest.
        slow: String,
    },
    /// A slowdown is asked for, and the samples are no time.
    #[error(
        "--max-slowdown needs samples of time, and {} samples count events: record with --sampler clock, or give a budget \
         (--fast 25%)",
        sampler.as_str()
    )]
    NoSlowdown {
        /// The sampler of the profile.
        sampler: SamplerKind,
    },
    /// There are no samples.
    #[error(
        "the profile has no samples, so nothing says which object is worth fast memory: record for longer or with -r"
    )]
    NoSamples,
    /// There is no object a policy could name.
    #[error(
        "the profile has no object that can be placed: heap objects need the shim, which is {}; see `tierscope report`",
        if shim.is_empty() { "not there" } else { shim }
    )]
    NothingToPlace {
        /// What the profile says of the shim.
        shim: String,
    },
    /// A budget that is no part of a whole.
    #[error("a budget of {:.1} % is none: give 0 to 100 %, or bytes (--fast 4GiB)", part * 100.0)]
    BadFraction {
        /// What was asked for.
        part: f64,
    },
    /// A slowdown that is none.
    #[error("a slowdown of {limit} is no limit: give one of 0 % or more (--max-slowdown 5%)")]
    BadLimit {
        /// What was asked for.
        limit: f64,
    },
    /// The placement failed.
    #[error(transparent)]
    Placement(#[from] PlacementError),
}
