//! The orders an object table can have. Every order is total and the same from run to run: ties go by share, then by
//! bytes, then by identity, and values that are no numbers sort as numbers do under `total_cmp`.

use std::cmp::Ordering;
use std::str::FromStr;

use tierscope_traces::Meta;

use super::ObjectSummary;

/// What to order objects by: the most first, except for names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SortKey {
    /// Share of samples.
    #[default]
    Share,
    /// Slowdown of the run if the object alone is in slow memory; without one, share.
    Criticality,
    /// Most bytes live at once.
    Bytes,
    /// Share per byte.
    Density,
    /// Blocks allocated.
    Allocations,
    /// Samples that read.
    Loads,
    /// Samples that wrote.
    Stores,
    /// Name, alphabetically.
    Name,
}

impl SortKey {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Share,
        Self::Criticality,
        Self::Bytes,
        Self::Density,
        Self::Allocations,
        Self::Loads,
        Self::Stores,
        Self::Name,
    ];

    /// The word on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Share => "share",
            Self::Criticality => "criticality",
            Self::Bytes => "bytes",
            Self::Density => "density",
            Self::Allocations => "allocations",
            Self::Loads => "loads",
            Self::Stores => "stores",
            Self::Name => "name",
        }
    }

    /// What a profile's objects are ordered by where nothing else is asked for.
    #[must_use]
    pub fn natural(meta: &Meta) -> Self {
        let timed = meta.simulation.as_ref().is_some_and(|simulation| simulation.cycles_all_fast.is_some());
        if timed { Self::Criticality } else { Self::Share }
    }

    /// Orders objects.
    pub fn sort(self, objects: &mut [ObjectSummary]) {
        let most = |value: fn(&ObjectSummary) -> f64| {
            move |a: &ObjectSummary, b: &ObjectSummary| value(b).total_cmp(&value(a)).then_with(|| by_share(a, b))
        };
        match self {
            Self::Share => objects.sort_by(by_share),
            Self::Criticality => objects.sort_by(by_criticality),
            Self::Bytes => objects.sort_by(most(|o| o.live_bytes_max)),
            Self::Density => objects.sort_by(most(ObjectSummary::density)),
            Self::Allocations => objects.sort_by(most(|o| o.allocations)),
            Self::Loads => objects.sort_by(most(|o| o.loads)),
            Self::Stores => objects.sort_by(most(|o| o.stores)),
            Self::Name => objects.sort_by(|a, b| a.name.cmp(&b.name).then_with(|| by_share(a, b))),
        }
    }
}

impl FromStr for SortKey {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|key| key.as_str() == word).ok_or_else(|| {
            let known: Vec<&str> = Self::ALL.iter().map(|key| key.as_str()).collect();
            format!("no such sort key; there are {}", known.join(", "))
        })
    }
}

fn by_share(a: &ObjectSummary, b: &ObjectSummary) -> Ordering {
    b.share
        .total_cmp(&a.share)
        .then_with(|| b.live_bytes_max.total_cmp(&a.live_bytes_max))
        .then_with(|| a.id.cmp(&b.id))
}

/// Where none is known, nothing is claimed: last, by share.
fn by_criticality(a: &ObjectSummary, b: &ObjectSummary) -> Ordering {
    let point = |object: &ObjectSummary| object.criticality.map_or(f64::NEG_INFINITY, |criticality| criticality.point);
    point(b).total_cmp(&point(a)).then_with(|| by_share(a, b))
}

/// Gives every object its place: by criticality where it is known, else by share.
pub(super) fn rank(objects: &mut [ObjectSummary]) {
    objects.sort_by(by_criticality);
    for (place, object) in objects.iter_mut().enumerate() {
        object.rank = place + 1;
    }
}
