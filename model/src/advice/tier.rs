//! What a cost model needs to know of a tier.

use tierscope_rank::{TierFigures, TierPair};

use super::AdviceError;

/// A kind of memory, as far as predictions depend on it.
#[derive(Clone, Debug, PartialEq)]
pub struct Tier {
    /// What it is called.
    pub name: String,
    /// Nanoseconds of a random read that the next one waits for.
    pub latency_ns: f64,
    /// Nanoseconds until a store is done with, where known; stores are priced like reads otherwise.
    pub write_latency_ns: Option<f64>,
    /// 10^9 bytes a second that all threads read together, where known.
    pub bandwidth_gbs: Option<f64>,
    /// The same of writing.
    pub write_bandwidth_gbs: Option<f64>,
    /// Bytes that it moves at once, where known.
    pub granule_bytes: Option<f64>,
    /// Bytes it holds; `None`: as many as there are.
    pub capacity: Option<u64>,
    /// Whether its data comes into memory page by page when it is touched (files, swap), so that only a page that is not
    /// there costs the latency.
    pub paged: bool,
}

impl Tier {
    /// How many times longer a read takes than in `fastest`.
    #[must_use]
    pub fn latency_ratio(&self, fastest: &Self) -> f64 {
        self.latency_ns / fastest.latency_ns
    }

    /// The same of a store.
    #[must_use]
    pub fn write_latency_ratio(&self, fastest: &Self) -> f64 {
        match (self.write_latency_ns, fastest.write_latency_ns) {
            (Some(own), Some(fastest)) => own / fastest,
            _ => self.latency_ratio(fastest),
        }
    }

    /// How many times longer moving the same bytes takes than in `fastest`, where both are known.
    #[must_use]
    pub fn bandwidth_ratio(&self, fastest: &Self) -> Option<f64> {
        Some(fastest.bandwidth_gbs? / self.bandwidth_gbs?)
    }
}

/// A slower tier beside the fastest, as models see them; what is not known of them is no number.
pub(super) fn pair(fastest: &Tier, slower: &Tier) -> TierPair {
    let known = |figure: Option<f64>| figure.unwrap_or(f64::NAN);
    let [fast, slow] = [fastest, slower].map(|tier| TierFigures {
        latency_ns: tier.latency_ns,
        read_gbs: known(tier.bandwidth_gbs),
        write_gbs: known(tier.write_bandwidth_gbs),
        granule_bytes: known(tier.granule_bytes),
    });
    TierPair::between(&fast, &slow)
}

/// Whether tiers can be compared: at least two, with sound figures, the fastest first.
pub(super) fn check(tiers: &[Tier]) -> Result<(), AdviceError> {
    if tiers.len() < 2 {
        return Err(AdviceError::TooFewTiers { tiers: tiers.len() });
    }
    for tier in tiers {
        let figures = [
            Some(tier.latency_ns),
            tier.write_latency_ns,
            tier.bandwidth_gbs,
            tier.write_bandwidth_gbs,
            tier.granule_bytes,
        ];
        // Latencies between a register and a tape; beyond them sums lose their meaning.
        if let Some(&figure) = figures.iter().flatten().find(|figure| !(1e-3..=1e12).contains(*figure)) {
            return Err(AdviceError::BadTier { name: tier.name.clone(), figure });
        }
    }
    for pair in tiers.windows(2) {
        if let [faster, slower] = pair
            && faster.latency_ns > slower.latency_ns
        {
            return Err(AdviceError::TierOrder { first: faster.name.clone(), second: slower.name.clone() });
        }
    }
    Ok(())
}
