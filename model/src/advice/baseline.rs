//! Scores of published placement systems, from samples: what a ranker of ours is compared with.
//!
//! Both are written from their papers' formulas. They are scores, not predictions: only their order means something.
//!
//! **PACT** (ASPLOS'26) divides the stall time of a run among objects in proportion to accesses times sampled latency: with one latency to
//! a sample, the sum of an object's latencies ([`latency_weighted`]).
//!
//! **Soar** (OSDI'25) knows, second by second, how far misses overlap: the amortised offcore latency, AOL, is the cycles in which any
//! demand read was outstanding over the number of such reads, so it is short where many are in flight. A second's cost is
//! `S = stall share / (24.67 / AOL + 0.87)`, and is divided by samples ([`soar`]): an object with the share `r` of a second's samples
//! gets `r S`, where misses hardly overlap (AOL over 80). Where they overlap more, an object with many of the samples is taken for one
//! whose misses overlap, and gets less; one with few of them for one that waits, and gets more:
//!
//! | AOL, cycles | factor f | `r S / f` from | `r S f` below |
//! |---|---|---|---|
//! | over 60 | 2 | 0.6 | 0.4 |
//! | over 45 | 4 | 0.7 | 0.03 |
//! | over 40 | 8 | 0.7 | 0.03 |
//! | else | 12 | 0.7 | 0.03 |
//!
//! Objects are ordered by the sum over the most bytes that lived at once. Where one multiplies by f shares are smallest and their noise is
//! largest: an object with a single sample in a second can come before one with half of them.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;
use tierscope_traces::{SampleRow, Tables, series};

use crate::features::Window;
use crate::summary::{Summary, plausible};

/// Cycles of AOL from which on misses do not overlap.
const SERIAL_AOL: f64 = 80.0;

/// A stretch of time, a second in the paper, for [`soar`].
#[derive(Clone, Debug, PartialEq)]
pub struct SoarWindow {
    /// Cycles with a demand read outstanding over demand reads
    /// (`OFFCORE_REQUESTS_OUTSTANDING.CYCLES_WITH_DEMAND_DATA_RD` / `OFFCORE_REQUESTS.DEMAND_DATA_RD`).
    pub aol_cycles: f64,
    /// Part of the cycles that stalled on a miss of the last-level cache (`CYCLE_ACTIVITY.STALLS_L3_MISS` / cycles), 0 to 1.
    pub stall_share: f64,
    /// Each object's part of the samples of the window, 0 to 1.
    pub shares: Vec<f64>,
}

impl SoarWindow {
    /// What an object with the share `r` of the samples adds to its score.
    fn score(&self, r: f64) -> f64 {
        let aol = self.aol_cycles;
        let cost = self.stall_share / (24.67 / aol + 0.87);
        let score = if aol > SERIAL_AOL {
            r * cost
        } else {
            let (factor, few, many) = match aol {
                _ if aol > 60.0 => (2.0, 0.4, 0.6),
                _ if aol > 45.0 => (4.0, 0.03, 0.7),
                _ if aol > 40.0 => (8.0, 0.03, 0.7),
                _ => (12.0, 0.03, 0.7),
            };
            match r {
                _ if r >= many => r * cost / factor,
                _ if r >= few => r * cost,
                _ => r * cost * factor,
            }
        };
        if score.is_finite() && score > 0.0 { score } else { 0.0 }
    }
}

/// Soar's score of each of `objects` objects: the larger per byte, the more it should be in fast memory. Windows without reads or
/// stalls add nothing.
#[must_use]
pub fn soar(windows: &[SoarWindow], objects: usize) -> Vec<f64> {
    let mut scores = vec![0.0; objects];
    for window in windows {
        for (score, &r) in scores.iter_mut().zip(&window.shares) {
            *score += window.score(r);
        }
    }
    scores
}

/// Soar's score of each object, in the order of the summary, from the counters that a simulation writes for each stretch of the run
/// ([`series`]): [`soar`] with a stretch for a second. `None` where the profile has no such counters, or no samples.
#[must_use]
pub fn soar_scores(tables: &Tables, summary: &Summary) -> Option<Vec<f64>> {
    let stretches = stretches(tables);
    let windows: Vec<Window> = stretches.iter().map(|stretch| stretch.window).collect();
    let shares = shares(tables, summary, &windows);
    let seen = shares.iter().flatten().any(|share| *share > 0.0);
    let windows = stretches.iter().zip(shares).map(|(stretch, shares)| SoarWindow {
        aol_cycles: stretch.read_cycles / stretch.reads,
        stall_share: (stretch.stall_cycles / stretch.cycles).clamp(0.0, 1.0),
        shares,
    });
    let windows: Vec<SoarWindow> = windows.collect();
    seen.then(|| soar(&windows, summary.objects.len()))
}

/// What counters said of a stretch of the run.
struct Stretch {
    window: Window,
    cycles: f64,
    reads: f64,
    read_cycles: f64,
    stall_cycles: f64,
}

fn stretches(tables: &Tables) -> Vec<Stretch> {
    let mut by_end: BTreeMap<u64, [f64; 4]> = BTreeMap::new();
    let names = [series::CORE_CYCLES, series::OFFCORE_READS, series::OFFCORE_READ_CYCLES, series::MEMORY_STALL_CYCLES];
    for row in &tables.counters {
        let place = names.iter().position(|name| *name == row.name);
        if let Some(value) = place.and_then(|place| by_end.entry(row.time_ns).or_default().get_mut(place)) {
            *value += row.value;
        }
    }
    let mut start_ns = 0;
    let stretch = |(end_ns, [cycles, reads, read_cycles, stall_cycles]): (u64, [f64; 4])| {
        let window = Window { start_ns: std::mem::replace(&mut start_ns, end_ns), end_ns };
        Stretch { window, cycles, reads, read_cycles, stall_cycles }
    };
    let mut stretches: Vec<Stretch> = by_end.into_iter().map(stretch).collect();
    // What is sampled at the very end is in the last.
    if let Some(last) = stretches.last_mut() {
        last.window.end_ns = u64::MAX;
    }
    stretches
}

/// Each object's part of the samples of each window, in the order of the summary: the `r` of [`SoarWindow`]. Samples of no object count
/// for the whole. All zero where a window has no samples.
#[must_use]
pub fn shares(tables: &Tables, summary: &Summary, windows: &[Window]) -> Vec<Vec<f64>> {
    let mut found = vec![vec![0.0; summary.objects.len()]; windows.len()];
    let mut totals = vec![0.0; windows.len()];
    let places = places(tables, summary);
    let mut order: Vec<usize> = (0..windows.len()).collect();
    order.sort_by_key(|&n| windows.get(n).map(|window| window.start_ns));
    for sample in &tables.samples {
        // The last window that began before: windows do not overlap.
        let after = order.partition_point(|&n| windows.get(n).is_some_and(|one| one.start_ns <= sample.time_ns));
        let number = after.checked_sub(1).and_then(|place| order.get(place)).copied();
        let Some(number) = number.filter(|&n| windows.get(n).is_some_and(|one| one.holds(sample.time_ns))) else {
            continue;
        };
        let weight = plausible(f64::from(sample.weight));
        if let Some(total) = totals.get_mut(number) {
            *total += weight;
        }
        let place = place_of(sample, &places);
        if let Some(share) = found.get_mut(number).zip(place).and_then(|(shares, place)| shares.get_mut(place)) {
            *share += weight;
        }
    }
    for (shares, total) in found.iter_mut().zip(totals).filter(|(_, total)| *total > 0.0) {
        shares.iter_mut().for_each(|share| *share /= total);
    }
    found
}

/// PACT's score of each object, in the order of the summary: the latencies of its sampled misses in cycles, added up, each as often as
/// its sample counts. `None` where no sample of the window has a latency.
#[must_use]
pub fn latency_weighted(tables: &Tables, summary: &Summary, window: Window) -> Option<Vec<f64>> {
    let places = places(tables, summary);
    let mut sums = vec![0.0; summary.objects.len()];
    let mut known = false;
    let misses = tables.samples.iter().filter(|sample| sample.level.is_some_and(|level| level.misses_llc()));
    for sample in misses.filter(|sample| window.holds(sample.time_ns)) {
        let Some(latency) = sample.latency else { continue };
        known = true;
        if let Some(sum) = place_of(sample, &places).and_then(|place| sums.get_mut(place)) {
            *sum += plausible(f64::from(sample.weight)) * f64::from(latency);
        }
    }
    known.then_some(sums)
}

/// The place in the summary of each recorded object.
fn places(tables: &Tables, summary: &Summary) -> FxHashMap<u32, usize> {
    let recorded = crate::summary::recorded(tables);
    let objects = summary.objects.iter().enumerate();
    objects
        .flat_map(|(place, object)| recorded.get(&object.id).into_iter().flatten().map(move |&number| (number, place)))
        .collect()
}

fn place_of(sample: &SampleRow, places: &FxHashMap<u32, usize>) -> Option<usize> {
    sample.object.and_then(|object| places.get(&object)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::{SortKey, summarise};
    use tierscope_traces::{Access, AddressQuality, Attribution, CounterRow, Level, Meta, ObjectKind, ObjectRow};

    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-12, "{found} is not {expected}");
    }

    fn window(aol_cycles: f64, shares: &[f64]) -> SoarWindow {
        SoarWindow { aol_cycles, stall_share: 0.5, shares: shares.to_vec() }
    }

    /// A second's cost by the formula.
    fn cost(aol: f64) -> f64 {
        0.5 / (24.67 / aol + 0.87)
    }

    #[test]
    fn where_misses_do_not_overlap_a_share_is_what_counts() {
        close(cost(100.0), 0.5 / 1.1167);
        let found = soar(&[window(100.0, &[0.9, 0.1, 0.0])], 3);
        found.iter().zip([0.9, 0.1, 0.0]).for_each(|(found, r)| close(*found, r * cost(100.0)));
        // At 80 they begin to.
        close(soar(&[window(80.0, &[0.9])], 1)[0], 0.9 * cost(80.0) / 2.0);
    }

    #[test]
    fn where_they_overlap_many_samples_count_less_and_few_count_more() {
        for (aol, factor, few, many) in
            [(70.0, 2.0, 0.4, 0.6), (50.0, 4.0, 0.03, 0.7), (42.0, 8.0, 0.03, 0.7), (30.0, 12.0, 0.03, 0.7)]
        {
            let shares = [many, many - 0.01, few, few - 0.01];
            let found = soar(&[window(aol, &shares)], 4);
            close(found[0], many * cost(aol) / factor);
            close(found[1], (many - 0.01) * cost(aol));
            close(found[2], few * cost(aol));
            close(found[3], (few - 0.01) * cost(aol) * factor);
        }
        for (at, next) in [(60.0, 4.0), (45.0, 8.0), (40.0, 12.0)] {
            close(soar(&[window(at, &[0.01])], 1)[0], 0.01 * cost(at) * next);
        }
    }

    #[test]
    fn windows_add_up_and_nonsense_adds_nothing() {
        let windows = [window(100.0, &[0.5]), window(100.0, &[0.25]), window(f64::NAN, &[0.5]), window(0.0, &[1.0])];
        close(soar(&windows, 1)[0], 0.75 * cost(100.0));
        assert_eq!(soar(&[SoarWindow { stall_share: f64::NAN, ..window(100.0, &[1.0]) }], 2), [0.0, 0.0]);
    }

    fn tables() -> Tables {
        let object = |object: u32| ObjectRow {
            object,
            kind: ObjectKind::Anon,
            site: None,
            size_class: None,
            slot: None,
            module: None,
            name: format!("mapping {object}"),
            start: 0,
            bytes: 4096,
            tid: None,
            first_seen_ns: 0,
        };
        let sample = |time_ns, object, level, latency| SampleRow {
            time_ns,
            tid: 1,
            cpu: 0,
            ip: 0,
            module: None,
            offset: 0,
            kernel: false,
            address: Some(1),
            access: Access::Load,
            address_quality: AddressQuality::Exact,
            attribution: Attribution::Exact,
            level: Some(level),
            latency: Some(latency),
            dependent: None,
            tlb: None,
            weight: 2.0,
            object,
        };
        let samples = vec![
            sample(1, Some(0), Level::LocalMemory, 300),
            sample(2, Some(1), Level::LocalMemory, 900),
            sample(3, Some(1), Level::L3, 50),
            sample(14, Some(0), Level::LocalMemory, 100),
            sample(15, None, Level::LocalMemory, 100),
        ];
        Tables { objects: vec![object(0), object(1)], samples, ..Tables::default() }
    }

    #[test]
    fn latencies_of_misses_add_up_by_object() {
        let tables = tables();
        let summary = summarise(&Meta::default(), &tables, SortKey::Name);
        assert_eq!(latency_weighted(&tables, &summary, Window::WHOLE), Some(vec![800.0, 1800.0]));
        let early = Window { start_ns: 0, end_ns: 2 };
        assert_eq!(latency_weighted(&tables, &summary, early), Some(vec![600.0, 0.0]));
        let late = Window { start_ns: 16, end_ns: 20 };
        assert_eq!(latency_weighted(&tables, &summary, late), None);
    }

    #[test]
    fn shares_are_of_all_samples_of_their_window() {
        let tables = tables();
        let summary = summarise(&Meta::default(), &tables, SortKey::Name);
        let window = |start_ns, end_ns| Window { start_ns, end_ns };
        let found = shares(&tables, &summary, &[window(10, 20), window(0, 10), window(20, 30)]);
        assert_eq!(found, [vec![0.5, 0.0], vec![1.0 / 3.0, 2.0 / 3.0], vec![0.0, 0.0]]);
    }

    fn counted(time_ns: u64, values: [f64; 4]) -> impl Iterator<Item = CounterRow> {
        let names = ["core_cycles", "offcore_reads", "offcore_read_cycles", "memory_stall_cycles"];
        names.into_iter().zip(values).map(move |(name, value)| CounterRow { time_ns, name: name.to_owned(), value })
    }

    #[test]
    fn counters_of_a_stretch_score_what_was_sampled_in_it() {
        let mut tables = tables();
        let summary = summarise(&Meta::default(), &tables, SortKey::Name);
        assert_eq!(soar_scores(&tables, &summary), None);
        // The later stretch first: a read takes 100 cycles in it, and one in five cycles waits.
        tables.counters.extend(counted(20, [1000.0, 4.0, 400.0, 200.0]));
        tables.counters.extend(counted(10, [1000.0, 10.0, 500.0, 500.0]));
        tables.counters.push(CounterRow { time_ns: 12, name: "rss_bytes".into(), value: 1e9 });
        let found = soar_scores(&tables, &summary).unwrap();
        let late = 0.2 / (24.67 / 100.0 + 0.87);
        // Where reads overlap, a share between few and many counts as it is.
        close(found[0], cost(50.0) / 3.0 + 0.5 * late);
        close(found[1], cost(50.0) * 2.0 / 3.0);
        tables.samples.clear();
        assert_eq!(soar_scores(&tables, &summary), None);
    }

    #[test]
    fn counters_that_say_nothing_score_nothing() {
        let mut tables = tables();
        let summary = summarise(&Meta::default(), &tables, SortKey::Name);
        tables.counters.extend(counted(20, [0.0, 0.0, 0.0, f64::NAN]));
        assert_eq!(soar_scores(&tables, &summary), Some(vec![0.0, 0.0]));
    }
}
