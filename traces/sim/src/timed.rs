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

/// A simulation's clock: cycles of the all-fast lane, those between windows estimated.
#[derive(Debug)]
pub(crate) struct Timed {
    timing: Timing,
    between: Between,
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
            between: Between::default(),
            waiting: VecDeque::new(),
            first: 0,
            observed: Vec::new(),
            stretches: Stretches::new(),
        })
    }

    /// A thread executed a block. `samples` are those among its accesses, by index, without their latencies.
    pub(crate) fn execute(
        &mut self,
        cpu: u16,
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
        let is_timed = self.timing.execute(usize::from(cpu), execution);
        let added = self.waiting.iter_mut().skip(before);
        if is_timed {
            // What passed between windows; what was timed is added when it is known.
            self.between.end();
            let between = self.between.cycles();
            added.for_each(|(sample, _)| sample.time = between);
        } else {
            added.for_each(|(_, known)| *known = true);
            self.between.pass(block.ops.len() as u64, &self.timing);
        }
        let timed = self.timing.timed();
        if self.stretches.ends(timed) {
            let counters = self.timing.counters();
            self.stretches.end(timed, self.until(), counters);
        }
    }

    /// The latest time on the clock of samples.
    fn until(&self) -> u64 {
        self.timing.latest_cycles() + self.between.cycles()
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

    /// Cycles of the all-fast lane on a cpu.
    pub(crate) fn now(&self, cpu: u16) -> u64 {
        self.timing.now(usize::from(cpu)) + self.between.cycles()
    }

    /// Moves samples that are complete to the end of `into`.
    pub(crate) fn take_samples(&mut self, into: &mut Vec<Sample>) {
        for observed in self.timing.observed() {
            let index = observed.number.wrapping_sub(self.first) as usize;
            if let Some((sample, known)) = self.waiting.get_mut(index) {
                (sample.latency, *known) = (observed.latency, true);
                sample.time += observed.time;
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

    /// The placements and their times. Stalls go to the counts of objects.
    pub(crate) fn finish(mut self, config: &Names, counts: &mut [Counts]) -> Times {
        let lanes = self.timing.finish();
        let (until, timed, counters) = (self.until(), self.timing.timed(), self.timing.counters());
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

/// The time that passes between windows: their instructions take as long as those of the window before. Before the first an instruction
/// is a cycle.
#[derive(Debug, Default)]
struct Between {
    /// Cycles until the last window.
    before: f64,
    /// Instructions since.
    instructions: u64,
    /// Cycles of an instruction in the window before them; none where the first is still to come.
    each: Option<f64>,
    /// Cycles and timed instructions when that window began.
    began: (u64, u64),
    is_open: bool,
}

impl Between {
    /// Cycles that have passed between windows.
    fn cycles(&self) -> u64 {
        (self.before + self.instructions as f64 * self.each.unwrap_or(1.0)) as u64
    }

    /// So many instructions are not timed. The first of them end the window.
    fn pass(&mut self, instructions: u64, timing: &Timing) {
        if !self.is_open {
            self.is_open = true;
            let now = (timing.latest_cycles(), timing.timed());
            let (cycles, timed) = (now.0.saturating_sub(self.began.0), now.1.saturating_sub(self.began.1));
            if timed > 0 {
                self.each = Some(cycles as f64 / timed as f64);
            }
            self.began = now;
        }
        self.instructions += instructions;
    }

    /// A window begins, or goes on.
    fn end(&mut self) {
        if self.is_open {
            self.before += self.instructions as f64 * self.each.unwrap_or(1.0);
            (self.instructions, self.is_open) = (0, false);
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
