//! The samples of a window, in order of time, with the object of each.

use rustc_hash::FxHashMap;
use tierscope_traces::{Access, AddressQuality, Attribution, SampleRow, Tables};

use super::window::Window;
use crate::interval::BATCHES;
use crate::summary::plausible;

/// One sample of the window.
#[derive(Clone, Copy)]
pub(super) struct Seen<'a> {
    pub(super) row: &'a SampleRow,
    pub(super) weight: f64,
    /// Which of the stretches of the window it falls into.
    pub(super) batch: usize,
    /// Place of its object in the summary.
    pub(super) object: Option<usize>,
    /// Of a miss: nanoseconds since the sampled miss before it, of the same thread.
    pub(super) gap_ns: Option<u64>,
}

impl Seen<'_> {
    /// Its code address: the same in every run.
    pub(super) fn code(&self) -> (Option<u32>, u64) {
        (self.row.module, self.row.offset)
    }

    pub(super) fn stores(&self) -> bool {
        matches!(self.row.access, Access::Store | Access::Update)
    }

    pub(super) fn is_neighbour(&self) -> bool {
        self.row.attribution == Attribution::Neighbour
    }

    /// A sample that is a neighbour's counts as that: the worse of two guesses.
    pub(super) fn is_approximate(&self) -> bool {
        self.row.address_quality == AddressQuality::Approximate && !self.is_neighbour()
    }

    pub(super) fn misses(&self) -> bool {
        self.row.level.is_some_and(|level| level.misses_llc())
    }
}

/// The samples of a window in order of time, and those of each object. Samples without a plausible weight are left out.
pub(super) struct Collected<'a> {
    pub(super) all: Vec<Seen<'a>>,
    pub(super) of_object: Vec<Vec<Seen<'a>>>,
}

pub(super) fn collect<'a>(
    tables: &'a Tables,
    places: &FxHashMap<u32, usize>,
    objects: usize,
    observed: Window,
) -> Collected<'a> {
    let mut all: Vec<Seen<'a>> = tables
        .samples
        .iter()
        .filter(|row| observed.holds(row.time_ns))
        .map(|row| Seen {
            row,
            weight: plausible(f64::from(row.weight)),
            batch: observed.stretch(row.time_ns, BATCHES),
            object: row.object.and_then(|object| places.get(&object)).copied(),
            gap_ns: None,
        })
        .filter(|seen| seen.weight > 0.0)
        .collect();
    all.sort_by_key(|seen| seen.row.time_ns);
    let mut before: FxHashMap<u32, u64> = FxHashMap::default();
    for seen in all.iter_mut().filter(|seen| seen.misses()) {
        seen.gap_ns =
            before.insert(seen.row.tid, seen.row.time_ns).map(|before| seen.row.time_ns.saturating_sub(before));
    }
    let mut of_object = vec![Vec::new(); objects];
    for seen in &all {
        if let Some(samples) = seen.object.and_then(|object| of_object.get_mut(object)) {
            samples.push(*seen);
        }
    }
    Collected { all, of_object }
}
