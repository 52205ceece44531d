//! Cycles: a dataflow model of out-of-order cores, for many placements at once.
//!
//! An operation is ready when its sources are, and the model is little more than that: a time for each register, and a few limits on how
//! far operations may run ahead (`run.rs`). A pointer chase then costs the latency of every step, independent misses overlap as far
//! as buffers allow, a stream costs bandwidth, and a loop that only computes costs the same wherever its data lies: none of
//! it is put in, all of it comes out.
//!
//! What differs between placements are the times, and nothing else: which instructions run, what the caches hold and what was predicted
//! wrong is the same. So that is found once (`front.rs`), and the times of sixteen placements are the sixteen words of a
//! vector. Each placement is a *lane*; `lanes.rs` says which there are.
//!
//! Each thread has a core and a clock of its own. Threads share the bandwidth of tiers (`calendar.rs`). A thread that waited for another
//! continues at the latest clock of all, and the run takes until the latest clock.

mod admission;
mod calendar;
mod front;
mod granules;
mod lanes;
mod lines;
mod medium;
mod memory;
mod outstanding;
mod pipeline;
mod plan;
mod predictor;
mod run;
mod sampling;
mod scale;
mod servers;
mod step;
mod told;
mod units;
mod vector;
mod width;

#[cfg(test)]
mod tests;

use crate::block::{Access, Block};
use crate::config::{Config, TierSet};
use crate::memory_mode::MemoryMode;
use crate::objects::ObjectId;
use crate::outcome::LaneKind;
use crate::served::{Served, Traffic};
use front::{Common, Front};
use lanes::{Lanes, Place};
use medium::Medium;
use memory::{GroupTier, Memory, ModeLanes};
use outstanding::Outstanding;
use pipeline::Pipeline;
use sampling::Sampling;
use scale::Scale;
use step::Batch;
use told::Told;
pub use told::{Counters, LaneTime, Observed};
use vector::WIDTH;
use width::Width;

/// One execution of a block: what it touched and what the caches said of it.
#[derive(Debug, Clone, Copy)]
pub struct Execution<'a> {
    /// The block.
    pub block: &'a Block,
    /// Its accesses, in program order.
    pub accesses: &'a [Access],
    /// How each was served.
    pub served: &'a [Served],
    /// Lines moved besides, by the access that caused them.
    pub traffic: &'a [Traffic],
    /// Accesses (their indices, ascending) whose time and latency are to be told, each with a number to tell it by.
    pub observed: &'a [(u32, u32)],
}

struct Group {
    memory: Memory,
    used: u16,
    set: usize,
}

struct Core {
    front: Front,
    pipelines: Vec<Pipeline>,
    /// Reads of the all-fast lane.
    outstanding: Outstanding,
    /// Ticks of the all-fast lane in which it had nothing to do.
    idle: u64,
}

impl Core {
    /// It has nothing to do until these times of each group.
    fn wait_until(&mut self, latest: &[[u64; WIDTH]]) {
        let before = self.busy();
        for (pipeline, latest) in self.pipelines.iter_mut().zip(latest) {
            for (lane, clock) in latest.iter().enumerate() {
                pipeline.wait_until(lane, *clock);
            }
        }
        self.idle += self.busy() - before;
    }

    /// Ticks in which it ran, with everything fast.
    fn busy(&self) -> u64 {
        self.pipelines.first().map_or(0, |pipeline| pipeline.clock(0)).saturating_sub(self.idle)
    }
}

/// All cores in all lanes.
pub struct Timing {
    common: Common,
    media: Vec<Medium>,
    sets: Vec<TierSet>,
    /// By set: what a line takes longer in the slow tier, in ticks.
    gaps: Vec<u64>,
    groups: Vec<Group>,
    cores: Vec<Core>,
    lanes: Lanes,
    /// Numbers of the all-fast lane of each set, and of each placement.
    all_fast: Vec<usize>,
    placements: Vec<usize>,
    /// Whether objects get lanes.
    singles: bool,
    most: usize,
    open: usize,
    told: Told,
    sampling: Option<Sampling>,
    /// Instructions that were timed.
    timed: u64,
    /// Instructions in all, timed or not.
    instructions: u64,
    width: Width,
}

impl std::fmt::Debug for Timing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (cores, lanes) = (self.cores.len(), self.lanes.entries.len());
        f.debug_struct("Timing").field("cores", &cores).field("lanes", &lanes).finish_non_exhaustive()
    }
}

impl Timing {
    /// A machine that has done nothing yet. The configuration must have been checked ([`Config::check`]).
    pub fn new(config: &Config) -> Self {
        let mut widths = Width::available();
        Self::with(config, widths.remove(widths.len() - 1))
    }

    fn with(config: &Config, width: Width) -> Self {
        let scale = Scale::new(&config.machine);
        let media: Vec<Medium> = config.tiers.iter().map(|tier| Medium::new(tier, &scale)).collect();
        let far = |tier: u16| media.get(usize::from(tier)).map_or(0, |medium| u64::from(medium.far));
        let gaps = config.sets.iter().map(|set| far(set.slow).saturating_sub(far(set.fast)).max(1)).collect();
        let sampling = config.sampling.map(|windows| Sampling::new(windows, config.sets.len()));
        let mut timing = Self {
            common: Common {
                templates: plan::templates(&scale),
                scale,
                modes: Vec::new(),
                worst_line: 0,
                plans: Vec::new(),
            },
            media,
            sets: config.sets.clone(),
            gaps,
            groups: Vec::new(),
            cores: Vec::new(),
            lanes: Lanes::new(config.sets.len()),
            all_fast: Vec::new(),
            placements: Vec::new(),
            singles: config.singles,
            most: usize::from(config.max_lanes),
            open: 0,
            told: Told::default(),
            sampling,
            timed: 0,
            instructions: 0,
            width,
        };
        timing.fixed(config);
        timing
    }

    /// The lanes there are from the start.
    fn fixed(&mut self, config: &Config) {
        for (index, set) in config.sets.iter().enumerate() {
            let number = self.lanes.add(LaneKind::AllFast { set: index as u16 });
            let same = config.sets.iter().take(index).position(|other| other.fast == set.fast);
            let place = match same.and_then(|other| self.all_fast.get(other)).and_then(|n| self.lanes.entries.get(*n)) {
                Some(entry) => entry.at,
                None => Some(self.place(index, Some(set.fast))),
            };
            self.all_fast.push(number);
            self.settle(number, place);
            let number = self.lanes.add(LaneKind::AllSlow { set: index as u16 });
            let place = self.place(index, Some(set.slow));
            self.settle(number, Some(place));
            if let Some(bytes) = set.memory_mode_bytes {
                let number = self.lanes.add(LaneKind::MemoryMode { set: index as u16 });
                let place = self.place(index, None);
                self.settle(number, Some(place));
                let mode = self.common.modes.len();
                self.common.modes.push(MemoryMode::new(bytes));
                if let Some(group) = self.groups.get_mut(place.group) {
                    let (fast, slow) = (usize::from(set.fast), usize::from(set.slow));
                    group.memory.modes.push(ModeLanes { mode, lanes: 1 << place.lane, fast, slow });
                }
            }
        }
        for (index, placement) in config.placements.iter().enumerate() {
            let number = self.lanes.add(LaneKind::Placement { placement: index as u16 });
            let place = self.place(0, Some(placement.default));
            self.settle(number, Some(place));
            self.placements.push(number);
        }
        self.measure();
    }

    fn measure(&mut self) {
        self.common.worst_line = self.groups.iter().map(|group| group.memory.worst()).max().unwrap_or(0);
    }

    /// Where an object lies from now on, by placement: index of its tier. One of which nothing is said is in the placement's default.
    pub fn object(&mut self, object: ObjectId, tiers: impl Iterator<Item = u16>) {
        let mut flushed = false;
        for (placement, tier) in tiers.enumerate() {
            let Some(number) = self.placements.get(placement) else { continue };
            let Some(place) = self.lanes.entries.get(*number).and_then(|entry| entry.at) else { continue };
            let holds = |group: &Group| {
                group.memory.tiers.get(usize::from(tier)).is_some_and(|t| t.holds(object.0, place.lane))
            };
            if self.groups.get(place.group).is_none_or(holds) {
                continue;
            }
            if !flushed {
                // What was executed before found it where it was.
                self.flush();
                flushed = true;
            }
            let tiers = self.groups.get_mut(place.group).map(|group| &mut group.memory.tiers);
            for (index, of_group) in tiers.into_iter().flatten().enumerate() {
                of_group.set(object.0, place.lane, index == usize::from(tier));
            }
        }
    }

    /// The thread of a cpu did something. False if it fell between windows and was not timed; then nothing is observed.
    pub fn execute(&mut self, cpu: usize, execution: Execution<'_>) -> bool {
        self.begin(cpu);
        let instructions = execution.block.ops.len() as u64;
        self.instructions += instructions;
        if !self.is_timed(cpu, execution.block, instructions) {
            return false;
        }
        self.timed += instructions;
        if self.singles {
            self.admit_all(&execution);
        }
        let Self { common, groups, cores, told, width, .. } = self;
        let Some(Core { front, pipelines, outstanding, .. }) = cores.get_mut(cpu) else { return true };
        front.execute(execution, common, &mut |batch, common| {
            flush(batch, common, (pipelines, outstanding), groups, told, *width);
        });
        true
    }

    /// The thread of a cpu did something that is not part of what is timed: only branches are learnt.
    pub fn warm(&mut self, cpu: usize, block: &Block) {
        self.begin(cpu);
        if let Some(core) = self.cores.get_mut(cpu) {
            core.front.warm(block);
        }
    }

    /// Makes cores up to this one.
    fn begin(&mut self, cpu: usize) {
        while self.cores.len() <= cpu {
            let several = !self.cores.is_empty();
            if several {
                self.flush();
            }
            let bases: Vec<[u64; WIDTH]> = self.latest();
            let tiers = self.media.len();
            let idle = bases.first().map_or(0, |base| base[0]);
            let pipelines = bases.into_iter().map(|base| Pipeline::new(&self.common.scale, tiers, base)).collect();
            // Positions in queues must be those of a core that did nothing, in every group: they are, as all are new.
            let (front, outstanding) = (Front::new(&self.common.scale), Outstanding::default());
            self.cores.push(Core { front, pipelines, outstanding, idle });
            if several {
                for tier in self.groups.iter_mut().flat_map(|group| &mut group.memory.tiers) {
                    tier.share(self.common.scale.cycle);
                }
                self.measure();
            }
        }
    }

    /// The latest clock of all cores, by group and lane.
    fn latest(&self) -> Vec<[u64; WIDTH]> {
        let of_group = |group: usize| std::array::from_fn(|lane| self.clock(Place { group, lane }));
        (0..self.groups.len()).map(of_group).collect()
    }

    fn clock(&self, place: Place) -> u64 {
        let clocks = self.cores.iter().filter_map(|core| core.pipelines.get(place.group));
        clocks.map(|pipeline| pipeline.clock(place.lane)).max().unwrap_or(0)
    }

    fn clock_of(&self, number: usize) -> u64 {
        self.lanes.entries.get(number).and_then(|entry| entry.at).map_or(0, |place| self.clock(place))
    }

    /// The thread of a cpu waited for another: its clock is that of the latest.
    pub fn waited(&mut self, cpu: usize) {
        self.begin(cpu);
        self.flush();
        let latest = self.latest();
        if let Some(core) = self.cores.get_mut(cpu) {
            core.wait_until(&latest);
        }
    }

    /// Does all that is in batches.
    pub fn flush(&mut self) {
        let Self { common, groups, cores, told, width, .. } = self;
        for Core { front, pipelines, outstanding, .. } in cores {
            flush(&mut front.batch, common, (pipelines, outstanding), groups, told, *width);
        }
    }
}

/// Does a batch in all groups, and empties it.
fn flush(
    batch: &mut Batch,
    common: &Common,
    (pipelines, outstanding): (&mut [Pipeline], &mut Outstanding),
    groups: &mut [Group],
    told: &mut Told,
    width: Width,
) {
    if batch.steps.is_empty() {
        return;
    }
    for (index, (pipeline, group)) in pipelines.iter_mut().zip(groups).enumerate() {
        pipeline.make_room(batch.worst);
        let report = (index == 0).then_some(&mut told.report);
        run::run(width, pipeline, &mut group.memory, batch, &common.scale, report);
        group.memory.tiers.iter_mut().for_each(GroupTier::collect);
    }
    let (base, dispatched) =
        pipelines.first().map_or((0, 0), |pipeline| (pipeline.base[0], u64::from(pipeline.dispatch.0[0])));
    let reads = told.report.reads.drain(..).map(|(issued, there)| (base + u64::from(issued), base + u64::from(there)));
    outstanding.add(reads, base + dispatched);
    told.observed.extend(told.report.observations.drain(..).map(|observation| Observed {
        number: observation.number,
        time: common.scale.cycles(base + u64::from(observation.issued)),
        latency: u32::try_from(common.scale.cycles(u64::from(observation.took))).unwrap_or(u32::MAX),
    }));
    batch.clear();
}
