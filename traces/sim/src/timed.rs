//! Time in a simulation: what goes to [`Timing`], and what comes back for samples and the outcome.

use crate::block::{Access, Block};
use crate::config::Config;
use crate::counts::Counts;
use crate::objects::ObjectId;
use crate::outcome::{Lane, LaneKind, Sample, Stretch};
use crate::served::{Served, Traffic};
use crate::stretches::Stretches;
use crate::timing::{Execution, Timing};
use std::collections::VecDeque;

/// A simulation's clock.
#[derive(Debug)]
pub(crate) struct Timed {
    timing: Timing,
    /// Whether the whole run is timed, so that its cycles are a clock.
    is_clock: bool,
    /// Samples whose latency is not known yet or that come after one of those, in order, with whether it is.
    waiting: VecDeque<(Sample, bool)>,
    /// Number of the first of them.
    first: u32,
    /// Of the block under way: which accesses are samples, and their numbers.
    observed: Vec<(u32, u32)>,
    stretches: Stretches,
}

/// What a simulation's clock found.
#[derive(Debug, Default)]
pub(crate) struct Times {
    pub(crate) lanes: Vec<Lane>,
    pub(crate) stretches: Vec<Stretch>,
    pub(crate) closed_lanes: u64,
}

impl Timed {
    /// None where no time is asked for.
    pub(crate) fn new(config: &Config) -> Option<Self> {
        config.timing.then(|| Self {
            timing: Timing::new(config),
            is_clock: config.sampling.is_none(),
            waiting: VecDeque::new(),
            first: 0,
            observed: Vec::new(),
            stretches: Stretches::new(),
        })
    }

    /// A thread executed a block, the `instructions`-th of the run among it. `samples` are those among its accesses, by index, without
    /// their latencies.
    pub(crate) fn execute(
        &mut self,
        (cpu, instructions): (u16, u64),
        block: &Block,
        accesses: &[Access],
        served: &[Served],
        traffic: &[Traffic],
        samples: impl Iterator<Item = (u32, Sample)>,
    ) {
        self.observed.clear();
        let before = self.waiting.len();
        for (access, sample) in samples {
            let number = self.first.wrapping_add(self.waiting.len() as u32);
            self.observed.push((access, number));
            self.waiting.push_back((sample, false));
        }
        let execution = Execution { block, accesses, served, traffic, observed: &self.observed };
        if !self.timing.execute(usize::from(cpu), execution) {
            self.waiting.iter_mut().skip(before).for_each(|(_, known)| *known = true);
        }
        let timed = self.timing.timed();
        if self.stretches.ends(timed) {
            let counters = self.timing.counters();
            self.stretches.end(timed, self.until(instructions), counters);
        }
    }

    /// The time on the clock of samples when so many instructions were executed.
    fn until(&self, instructions: u64) -> u64 {
        if self.is_clock { self.timing.latest_cycles() } else { instructions }
    }

    /// A thread executed a block that is not counted.
    pub(crate) fn warm(&mut self, cpu: u16, block: &Block) {
        self.timing.warm(usize::from(cpu), block);
    }

    pub(crate) fn waited(&mut self, cpu: u16) {
        self.timing.waited(usize::from(cpu));
    }

    /// Where an object lies from now on, by placement.
    pub(crate) fn object(&mut self, object: ObjectId, tiers: impl Iterator<Item = u16>) {
        self.timing.object(object, tiers);
    }

    /// Cycles of the all-fast lane, where they are a clock.
    pub(crate) fn now(&self, cpu: u16) -> Option<u64> {
        self.is_clock.then(|| self.timing.now(usize::from(cpu)))
    }

    /// Moves samples that are complete to the end of `into`.
    pub(crate) fn take_samples(&mut self, into: &mut Vec<Sample>) {
        for observed in self.timing.observed() {
            let index = observed.number.wrapping_sub(self.first) as usize;
            if let Some((sample, known)) = self.waiting.get_mut(index) {
                (sample.latency, *known) = (observed.latency, true);
                if self.is_clock {
                    sample.time = observed.time;
                }
            }
        }
        let known = self.waiting.iter().take_while(|(_, known)| *known).count();
        self.first = self.first.wrapping_add(known as u32);
        into.extend(self.waiting.drain(..known).map(|(sample, _)| sample));
    }

    /// All that was executed is timed; every sample is complete then.
    pub(crate) fn flush(&mut self) {
        self.timing.flush();
    }

    /// The placements and their times, of a run of so many instructions. Stalls go to the counts of objects.
    pub(crate) fn finish(mut self, instructions: u64, config: &Names, counts: &mut [Counts]) -> Times {
        let lanes = self.timing.finish();
        let (until, timed, counters) = (self.until(instructions), self.timing.timed(), self.timing.counters());
        for (counts, stalled) in counts.iter_mut().zip(self.timing.stalls()) {
            counts.stall_cycles = stalled;
        }
        let lane = |lane: crate::timing::LaneTime| Lane {
            name: config.of(lane.kind),
            kind: lane.kind,
            cycles: lane.cycles,
            half_interval_cycles: lane.half,
            half_difference_cycles: lane.half_difference,
            closed_at: lane.missed,
        };
        Times {
            lanes: lanes.into_iter().map(lane).collect(),
            stretches: self.stretches.finish(timed, until, counters),
            closed_lanes: self.timing.closed_lanes(),
        }
    }
}

/// What sets and placements are called.
#[derive(Debug)]
pub(crate) struct Names {
    sets: Vec<String>,
    placements: Vec<String>,
}

impl Names {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            sets: config.sets.iter().map(|set| set.name.clone()).collect(),
            placements: config.placements.iter().map(|placement| placement.name.clone()).collect(),
        }
    }

    fn of(&self, kind: LaneKind) -> String {
        let set = |set: u16| self.sets.get(usize::from(set)).map_or("", String::as_str);
        match kind {
            LaneKind::AllFast { set: of } => format!("{}: all fast", set(of)),
            LaneKind::AllSlow { set: of } => format!("{}: all slow", set(of)),
            LaneKind::ObjectSlow { set: of, object } => format!("{}: object {} slow", set(of), object.0),
            LaneKind::MemoryMode { set: of } => format!("{}: memory mode", set(of)),
            LaneKind::Placement { placement } => {
                self.placements.get(usize::from(placement)).cloned().unwrap_or_default()
            }
        }
    }
}
