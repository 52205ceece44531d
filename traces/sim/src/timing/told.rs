//! What is told of a run: how long it took in each placement, what was observed, and what counters of the cores would say.

use super::lanes::Place;
use super::run::Report;
use super::{Core, Timing};
use crate::outcome::LaneKind;

/// When an access that was to be observed was issued, and how long it took, with everything fast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observed {
    /// Its number.
    pub number: u32,
    /// Cycles since the start.
    pub time: u64,
    /// Cycles until its data could be used.
    pub latency: u32,
}

/// How long the run took in one placement.
#[derive(Debug, Clone, PartialEq)]
pub struct LaneTime {
    /// Which placement.
    pub kind: LaneKind,
    /// Cycles of the whole run.
    pub cycles: u64,
    /// Half of the 95 % interval around `cycles`, where only windows were timed.
    pub half: Option<f64>,
    /// Half of the 95 % interval around the difference to the all-fast lane of its set, in cycles, where only windows were timed.
    pub half_difference: Option<f64>,
    /// Instructions after which it was last without a lane, so that its difference is approximate.
    pub missed: Option<u64>,
    /// Granules read from and written to each tier of the configuration while it had a lane.
    pub moved: Vec<(u64, u64)>,
}

/// What counters of the cores say since the start, with everything fast: of all cores together, and of the instructions that were timed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Cycles in which cores ran.
    pub cycles: u64,
    /// Loads that left the private caches.
    pub reads: u64,
    /// Cycles in which at least one such load of a core was outstanding.
    pub read_cycles: u64,
    /// Cycles that retirement waited for lines from memory.
    pub stall_cycles: u64,
}

/// What is told of the all-fast lane.
#[derive(Default)]
pub(super) struct Told {
    pub(super) report: Report,
    pub(super) observed: Vec<Observed>,
}

impl Timing {
    /// What was observed since the last call, in the order of execution.
    pub fn observed(&mut self) -> std::vec::Drain<'_, Observed> {
        self.told.observed.drain(..)
    }

    /// Cycles since the start on a cpu with everything fast; those of blocks still in its batch are missing.
    pub fn now(&self, cpu: usize) -> u64 {
        let pipeline = self.cores.get(cpu).and_then(|core| core.pipelines.first());
        pipeline.map_or(0, |pipeline| self.common.scale.cycles(pipeline.clock(0)))
    }

    /// Cycles that retirement waited for loads of each object with everything fast, by [`ObjectId::index`](crate::ObjectId::index). Where only windows were
    /// timed, scaled to the whole run.
    pub fn stalls(&self) -> Vec<u64> {
        let share = match &self.sampling {
            Some(_) if self.timed > 0 => self.instructions as f64 / self.timed as f64,
            _ => 1.0,
        };
        let cycle = f64::from(self.common.scale.cycle);
        self.told.report.stalls.iter().map(|ticks| (*ticks as f64 / cycle * share).round() as u64).collect()
    }

    /// Instructions that were timed.
    pub fn timed(&self) -> u64 {
        self.timed
    }

    /// Cycles that have passed with everything fast, by the latest clock, batches not included.
    pub fn latest_cycles(&self) -> u64 {
        self.common.scale.cycles(self.clock(Place { group: 0, lane: 0 }))
    }

    /// What counters say; batches are done first.
    pub fn counters(&mut self) -> Counters {
        self.flush();
        let sum = |of: fn(&Core) -> u64| self.common.scale.cycles(self.cores.iter().map(of).sum());
        Counters {
            cycles: sum(Core::busy),
            reads: self.cores.iter().map(|core| core.outstanding.reads).sum(),
            read_cycles: sum(|core| core.outstanding.ticks),
            stall_cycles: self.common.scale.cycles(self.told.report.memory_stalls),
        }
    }

    /// How often a lane was closed for another.
    pub fn closed_lanes(&self) -> u64 {
        self.lanes.closed
    }

    /// Ends the run, and says how long it took in each placement. The first is the all-fast lane of the first set.
    pub fn finish(&mut self) -> Vec<LaneTime> {
        self.flush();
        self.cores.iter_mut().for_each(|core| core.outstanding.finish());
        self.end_window();
        (0..self.lanes.entries.len()).filter_map(|number| self.lane_time(number)).collect()
    }

    fn lane_time(&self, number: usize) -> Option<LaneTime> {
        let entry = self.lanes.entries.get(number).filter(|entry| entry.opened)?;
        let set = set_of(entry.kind);
        let fast = self.all_fast.get(set).map_or(0, |number| self.clock_of(*number));
        let own = entry.at.map_or(fast, |place| self.clock(place));
        let mut time = LaneTime {
            kind: entry.kind,
            cycles: self.common.scale.cycles(own.saturating_add_signed(entry.kept)),
            half: None,
            half_difference: None,
            missed: entry.missed,
            moved: Vec::new(),
        };
        if let Some(place) = entry.at {
            let tiers = self.groups.get(place.group).into_iter().flat_map(|group| &group.memory.tiers);
            time.moved = tiers.filter_map(|tier| tier.moved.get(place.lane).copied()).collect();
        }
        self.estimate(entry, &mut time);
        Some(time)
    }
}

pub(super) fn set_of(kind: LaneKind) -> usize {
    match kind {
        LaneKind::AllFast { set }
        | LaneKind::AllSlow { set }
        | LaneKind::ObjectSlow { set, .. }
        | LaneKind::MemoryMode { set } => usize::from(set),
        LaneKind::Placement { .. } => 0,
    }
}
