//! How many bytes were live, per object and in all.
//!
//! Every recorded block adds its bytes, times the blocks it stands for, when it is allocated, and takes them away when
//! it is freed. Sweeping over those steps in order of time gives each object's own highest level and, at the moment the
//! sum over all objects is highest, the level each had then. At equal times frees go first: a block that is moved counts
//! once.
//!
//! Heap blocks and globals make up the program's peak. Stacks and mappings report their size, which is address
//! space rather than memory, and stay out of it. With sampled small blocks the levels are unbiased estimates, not counts.

use rustc_hash::FxHashMap;
use tierscope_traces::{ObjectKind, Tables};

use super::merge::Group;

/// What the sweep found.
pub(super) struct Live {
    /// One per group, in order.
    pub(super) groups: Vec<GroupLive>,
    /// The most bytes live at once.
    pub(super) peak: f64,
}

/// What the sweep found about one object.
#[derive(Clone)]
pub(super) struct GroupLive {
    pub(super) allocations: f64,
    pub(super) bytes_max: f64,
    pub(super) bytes_at_peak: f64,
    pub(super) first_ns: u64,
    pub(super) last_ns: u64,
    now: f64,
}

struct Step {
    time_ns: u64,
    /// Frees (false) sort before allocations (true).
    allocates: bool,
    group: Option<usize>,
    bytes: f64,
}

pub(super) fn measure(tables: &Tables, groups: &[Group], of_object: &FxHashMap<u32, usize>) -> Live {
    let nothing =
        GroupLive { allocations: 0.0, bytes_max: 0.0, bytes_at_peak: 0.0, first_ns: u64::MAX, last_ns: 0, now: 0.0 };
    let mut found = vec![nothing; groups.len()];
    let steps = steps(tables, of_object, &mut found);
    let standing: f64 = groups.iter().filter(|group| group.kind == ObjectKind::Global).map(|g| g.bytes as f64).sum();

    let (mut total, mut peak, mut peak_step) = (0.0f64, 0.0f64, 0usize);
    for (index, step) in steps.iter().enumerate() {
        total += if step.allocates { step.bytes } else { -step.bytes };
        if total > peak {
            (peak, peak_step) = (total, index);
        }
        if let Some(live) = step.group.and_then(|group| found.get_mut(group)) {
            live.now += if step.allocates { step.bytes } else { -step.bytes };
            live.bytes_max = live.bytes_max.max(live.now);
        }
    }
    for step in steps.iter().take(peak_step + 1) {
        if let Some(live) = step.group.and_then(|group| found.get_mut(group)) {
            live.bytes_at_peak += if step.allocates { step.bytes } else { -step.bytes };
        }
    }
    for (live, group) in found.iter_mut().zip(groups) {
        // Rounding may leave a trace below zero.
        live.bytes_at_peak = live.bytes_at_peak.max(0.0);
        if live.bytes_max == 0.0 {
            // Not allocated, or its allocations were lost: what its row says.
            live.bytes_max = group.bytes as f64;
            live.bytes_at_peak = group.bytes as f64;
        }
    }
    Live { groups: found, peak: peak + standing }
}

fn steps(tables: &Tables, of_object: &FxHashMap<u32, usize>, found: &mut [GroupLive]) -> Vec<Step> {
    let mut steps = Vec::with_capacity(tables.allocations.len() * 2);
    for row in &tables.allocations {
        let group = of_object.get(&row.object).copied();
        let weight = plausible(row.weight);
        let bytes = row.bytes as f64 * weight;
        // A block freed at the instant it was allocated was live all the same.
        let freed = row.freed_ns.map(|freed| freed.max(row.time_ns.saturating_add(1)));
        steps.push(Step { time_ns: row.time_ns, allocates: true, group, bytes });
        if let Some(time_ns) = freed {
            steps.push(Step { time_ns, allocates: false, group, bytes });
        }
        if let Some(live) = group.and_then(|group| found.get_mut(group)) {
            live.allocations += weight;
            live.first_ns = live.first_ns.min(row.time_ns);
            live.last_ns = live.last_ns.max(freed.unwrap_or(row.time_ns));
        }
    }
    steps.sort_by_key(|step| (step.time_ns, step.allocates));
    steps
}

/// A weight as it should be: a positive number that sums stay finite with.
pub(crate) fn plausible(weight: f64) -> f64 {
    if weight.is_finite() && weight > 0.0 { weight.min(1e15) } else { 0.0 }
}
