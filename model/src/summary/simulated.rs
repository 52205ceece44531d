//! What a simulation counted and timed, by shown object.
//!
//! Counts of the recorded objects that are one to a person add up exactly: they are of disjoint accesses. Slowdowns do not: two
//! members alone in slow memory cost less, or more, than both together. Where an object has several members its
//! criticality is the sum of theirs and marked as an estimate; with one member it is what the model says.

use rustc_hash::FxHashMap;
use tierscope_traces::{CountRow, Meta, PlacementKind, PlacementRow, Tables};

use crate::interval::Interval;

/// What was counted of an object: every access.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Reads.
    pub loads: u64,
    /// Writes.
    pub stores: u64,
    /// Accesses that missed the first-level data cache.
    pub l1_misses: u64,
    /// Those that missed the second level.
    pub l2_misses: u64,
    /// Those that missed the last level.
    pub llc_misses: u64,
    /// Accesses for which page tables were walked.
    pub tlb_misses: u64,
    /// Bytes read from memory.
    pub bytes_read: u64,
    /// Bytes written back to memory.
    pub bytes_written: u64,
    /// Cycles the oldest instruction waited for a load of it, everything in fast memory; `None` without timing.
    pub stall_cycles: Option<u64>,
}

impl Counted {
    fn add(&mut self, row: &CountRow) {
        let into = [
            (&mut self.loads, row.loads),
            (&mut self.stores, row.stores),
            (&mut self.l1_misses, row.l1_misses),
            (&mut self.l2_misses, row.l2_misses),
            (&mut self.llc_misses, row.llc_load_misses.saturating_add(row.llc_store_misses)),
            (&mut self.tlb_misses, row.tlb_walks),
            (&mut self.bytes_read, row.bytes_read),
            (&mut self.bytes_written, row.bytes_written),
        ];
        for (sum, value) in into {
            *sum = sum.saturating_add(value);
        }
        self.stall_cycles = match (self.stall_cycles, row.stall_cycles) {
            (None, other) | (other, None) => other,
            (Some(a), Some(b)) => Some(a.saturating_add(b)),
        };
    }

    /// Reads and writes.
    #[must_use]
    pub fn accesses(&self) -> u64 {
        self.loads.saturating_add(self.stores)
    }
}

/// Predicted slowdown of the run if this object alone is in slow memory: 0.05 is 5 %.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Criticality {
    /// The value.
    pub point: f64,
    /// What it lies in with 95 % confidence; no wider than the point where every instruction was timed.
    pub interval: Interval,
    /// Whether it is put together from placements that were not timed as one, or not to the end.
    pub is_estimate: bool,
}

/// A placement of everything that was timed.
#[derive(Clone, Debug, PartialEq)]
pub struct TimedPlacement {
    /// What kind of placement.
    pub kind: PlacementKind,
    /// Its name, where it has one.
    pub name: String,
    /// Which pair of tiers.
    pub tiers: String,
    /// Cycles of the run.
    pub cycles: f64,
    /// How much longer that is than with everything in the pair's fast tier: 0.05 is 5 %.
    pub slowdown: f64,
}

/// The run as a whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Simulation {
    /// Instructions that were executed.
    pub instructions: u64,
    /// The pair of tiers that `cycles` and criticalities are of: the first that was asked for.
    pub tiers: String,
    /// Which placement `cycles` is of: the name of the one given, else `all-slow`.
    pub placement: String,
    /// Cycles of the run in that placement; `None` without timing.
    pub cycles: Option<f64>,
    /// Cycles with everything in fast memory.
    pub cycles_all_fast: Option<f64>,
    /// How much longer the run takes in that placement: 0.05 is 5 %.
    pub slowdown: Option<f64>,
    /// Its 95 % interval.
    pub slowdown_interval: Option<Interval>,
    /// Everything that was counted outside all objects.
    pub outside: Counted,
    /// Placements of everything that were timed, in the order of the profile; those of single objects are the objects' criticality.
    pub placements: Vec<TimedPlacement>,
}

/// The simulation of a profile; `None` where nothing was simulated.
pub(super) struct Simulated {
    pub(super) run: Simulation,
    counts: Vec<Counted>,
    criticalities: Vec<Option<Criticality>>,
}

impl Simulated {
    pub(super) fn new(meta: &Meta, tables: &Tables, of_object: &FxHashMap<u32, usize>, groups: usize) -> Option<Self> {
        let simulation = meta.simulation.as_ref()?;
        let mut counts = vec![Counted::default(); groups];
        let mut outside = Counted::default();
        for row in &tables.counts {
            let group = row.object.and_then(|object| of_object.get(&object));
            group.and_then(|&group| counts.get_mut(group)).unwrap_or(&mut outside).add(row);
        }
        let tiers = simulation.tiers.first().map(|tiers| tiers.name.clone()).unwrap_or_default();
        let all_fast = simulation.cycles_all_fast.filter(|cycles| cycles.is_finite() && *cycles > 0.0);
        let of_tiers: Vec<&PlacementRow> = tables.placements.iter().filter(|row| row.tiers == tiers).collect();
        let kind = |kind| of_tiers.iter().find(|row| row.kind == kind).copied();
        let shown = kind(PlacementKind::Given).or_else(|| kind(PlacementKind::AllSlow));
        let relative = |row: &PlacementRow| {
            let (all_fast, extra, error) = (all_fast?, row.extra_cycles, row.extra_cycles_error.abs());
            let criticality = Criticality {
                point: extra / all_fast,
                interval: Interval { low: (extra - error) / all_fast, high: (extra + error) / all_fast },
                is_estimate: row.is_bound,
            };
            (extra.is_finite() && error.is_finite()).then_some(criticality)
        };
        let mut criticalities: Vec<Option<Criticality>> = vec![None; groups];
        for row in of_tiers.iter().filter(|row| row.kind == PlacementKind::Alone) {
            let group = row.object.and_then(|object| of_object.get(&object));
            let (Some(sum), Some(one)) = (group.and_then(|&group| criticalities.get_mut(group)), relative(row)) else {
                continue;
            };
            *sum = Some(sum.map_or(one, |sum| sum.and(one)));
        }
        let slowdown = shown.and_then(relative);
        let run = Simulation {
            instructions: simulation.instructions,
            placement: shown.map_or_else(String::new, |row| {
                if row.kind == PlacementKind::Given { row.name.clone() } else { row.kind.as_str().to_owned() }
            }),
            tiers,
            cycles: shown.map(|row| row.cycles).filter(|cycles| cycles.is_finite()),
            cycles_all_fast: all_fast,
            slowdown: slowdown.map(|slowdown| slowdown.point),
            slowdown_interval: slowdown.map(|slowdown| slowdown.interval),
            outside,
            placements: tables.placements.iter().filter_map(timed).collect(),
        };
        // What never reached memory costs the same anywhere.
        if all_fast.is_some() && kind(PlacementKind::AllSlow).is_some() {
            for (criticality, counted) in criticalities.iter_mut().zip(&counts) {
                if counted.bytes_read == 0 && counted.bytes_written == 0 {
                    criticality.get_or_insert(Criticality {
                        point: 0.0,
                        interval: Interval { low: 0.0, high: 0.0 },
                        is_estimate: false,
                    });
                }
            }
        }
        Some(Self { run, counts, criticalities })
    }

    pub(super) fn counted(&self, group: usize) -> Option<Counted> {
        self.counts.get(group).copied()
    }

    pub(super) fn criticality(&self, group: usize) -> Option<Criticality> {
        self.criticalities.get(group).copied().flatten()
    }
}

/// `None` for a single object's, and for nonsense.
fn timed(row: &PlacementRow) -> Option<TimedPlacement> {
    let slowdown = row.extra_cycles / (row.cycles - row.extra_cycles);
    (row.kind != PlacementKind::Alone && slowdown.is_finite()).then(|| TimedPlacement {
        kind: row.kind,
        name: row.name.clone(),
        tiers: row.tiers.clone(),
        cycles: row.cycles,
        slowdown,
    })
}

impl Criticality {
    /// Both together, as far as singles add up; their errors are independent.
    fn and(self, other: Self) -> Self {
        let half = |one: Self| (one.interval.high - one.interval.low) / 2.0;
        let (point, error) = (self.point + other.point, half(self).hypot(half(other)));
        Self { point, interval: Interval { low: point - error, high: point + error }, is_estimate: true }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tierscope_traces::{SimulatedTiers, Simulation as Modelled};

    fn meta() -> Meta {
        let tiers = SimulatedTiers { name: "optane".into(), ..SimulatedTiers::default() };
        let simulation =
            Modelled { instructions: 7, cycles_all_fast: Some(1000.0), tiers: vec![tiers], ..Modelled::default() };
        Meta { simulation: Some(simulation), ..Meta::default() }
    }

    fn count(object: Option<u32>, loads: u64, bytes_read: u64) -> CountRow {
        CountRow {
            object,
            loads,
            stores: 1,
            l1_misses: 0,
            l2_misses: 0,
            llc_load_misses: 2,
            llc_store_misses: 1,
            tlb_walks: 0,
            bytes_read,
            bytes_written: 0,
            stall_cycles: Some(5),
        }
    }

    fn placement(kind: PlacementKind, object: Option<u32>, extra_cycles: f64) -> PlacementRow {
        PlacementRow {
            placement: 0,
            kind,
            tiers: "optane".into(),
            name: String::new(),
            object,
            cycles: 1000.0 + extra_cycles,
            extra_cycles,
            extra_cycles_error: 30.0,
            is_bound: false,
        }
    }

    fn simulate(tables: &Tables) -> Simulated {
        let of_object = [(0, 0), (1, 0), (2, 1)].into_iter().collect();
        Simulated::new(&meta(), tables, &of_object, 2).unwrap()
    }

    #[test]
    fn counts_of_members_add_up_and_what_has_no_object_is_kept() {
        let counts = vec![count(Some(0), 10, 64), count(Some(1), 20, 64), count(None, 3, 0), count(Some(99), 4, 0)];
        let simulated = simulate(&Tables { counts, ..Tables::default() });
        let counted = simulated.counted(0).unwrap();
        assert_eq!((counted.loads, counted.stores, counted.llc_misses, counted.stall_cycles), (30, 2, 6, Some(10)));
        assert_eq!((simulated.run.outside.loads, simulated.run.outside.accesses()), (7, 9));
    }

    #[test]
    fn a_single_member_has_the_models_criticality_and_several_have_an_estimate() {
        let placements = vec![
            placement(PlacementKind::AllSlow, None, 900.0),
            placement(PlacementKind::Alone, Some(0), 300.0),
            placement(PlacementKind::Alone, Some(1), 100.0),
            placement(PlacementKind::Alone, Some(2), 50.0),
        ];
        let simulated = simulate(&Tables { placements, ..Tables::default() });
        let both = simulated.criticality(0).unwrap();
        assert!(both.is_estimate && (both.point - 0.4).abs() < 1e-12);
        assert!((both.interval.high - both.point - 0.03 * 2f64.sqrt()).abs() < 1e-12);
        let one = simulated.criticality(1).unwrap();
        assert!(!one.is_estimate && (one.point - 0.05).abs() < 1e-12 && (one.interval.low - 0.02).abs() < 1e-12);
        assert_eq!((simulated.run.slowdown, simulated.run.placement.as_str()), (Some(0.9), "all-slow"));
    }

    #[test]
    fn what_never_reached_memory_costs_nothing_and_what_was_not_followed_is_unknown() {
        let counts = vec![count(Some(0), 10, 0), count(Some(2), 10, 64)];
        let placements = vec![placement(PlacementKind::AllSlow, None, 900.0)];
        let simulated = simulate(&Tables { counts, placements, ..Tables::default() });
        assert_eq!(simulated.criticality(0).map(|criticality| criticality.point), Some(0.0));
        assert_eq!(simulated.criticality(1), None);
    }

    #[test]
    fn nonsense_in_a_profile_is_no_criticality() {
        let placements = vec![
            placement(PlacementKind::Alone, Some(0), f64::NAN),
            placement(PlacementKind::AllSlow, None, f64::INFINITY),
        ];
        let counts = vec![count(Some(0), 10, 64)];
        let simulated = simulate(&Tables { counts, placements, ..Tables::default() });
        assert_eq!((simulated.criticality(0), simulated.run.slowdown), (None, None));
        assert!(Simulated::new(&Meta::default(), &Tables::default(), &FxHashMap::default(), 0).is_none());
    }
}
