//! What is compared: the model, and what others rank by.
//!
//! Scores come from exact counts where a ranker's authors count, which is more than any sampler would give them: what the model is ahead
//! by is not owed to their samples.

use serde::{Serialize, Serializer};

use crate::feature::{Family, Name};
use crate::formula;
use crate::table::Row;

/// Something that ranks objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ranker {
    /// The trained model; places by predicted costs.
    Model,
    /// The formula; places by predicted costs.
    StallDensity,
    /// Misses of the last-level cache.
    LlcMisses,
    /// Those per byte, as ecoHMEM.
    MissesPerByte,
    /// The sum of sampled latencies per byte: PACT (ASPLOS'26) ranks pages, which are equally large.
    LatencyWeighted,
    /// Soar's score per byte (OSDI'25).
    SoarAol,
    /// How hot pages are.
    Hotness,
    /// Who came first.
    FirstTouch,
    /// By lot; the mean of several.
    Random,
    /// The best there is, by what was timed.
    Oracle,
}

impl Ranker {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Model,
        Self::StallDensity,
        Self::LlcMisses,
        Self::MissesPerByte,
        Self::LatencyWeighted,
        Self::SoarAol,
        Self::Hotness,
        Self::FirstTouch,
        Self::Random,
        Self::Oracle,
    ];

    /// The word on command lines and in tables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::StallDensity => "stall-density",
            Self::LlcMisses => "llc-misses",
            Self::MissesPerByte => "misses-per-byte",
            Self::LatencyWeighted => "latency-weighted",
            Self::SoarAol => "soar-aol",
            Self::Hotness => "hotness",
            Self::FirstTouch => "first-touch",
            Self::Random => "random",
            Self::Oracle => "oracle",
        }
    }

    /// What it predicts of an object that it need not be trained for, by which the object is placed, largest first; `None` where the row
    /// does not say, and for rankers that are not a score.
    pub(super) fn score(self, family: Family, row: &Row) -> Option<f64> {
        let per_byte = |value: f64| value / row.bytes.max(1) as f64;
        let score = match self {
            Self::StallDensity => return Some(formula::estimate(family, &row.features(family)?)?.sum()),
            Self::LlcMisses => row.counted.llc_misses,
            Self::MissesPerByte => per_byte(row.counted.llc_misses),
            Self::LatencyWeighted => per_byte(row.levels.as_ref()?.known(Name::LatencyShare)?),
            Self::SoarAol => per_byte(row.counted.soar_score),
            Self::Hotness => row.counted.hotness,
            Self::FirstTouch => -row.counted.first_seen,
            Self::Model | Self::Random | Self::Oracle => return None,
        };
        score.is_finite().then_some(score)
    }
}

impl Serialize for Ranker {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}
