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
use crate::served::{Level, Served, Traffic, TrafficKind};
use front::{Common, Front};
use lanes::{Lanes, Place};
use medium::Medium;
use memory::{GroupTier, Memory, ModeLanes};
use outstanding::Outstanding;
use pipeline::Pipeline;
use run::Report;
use sampling::Sampling;
use scale::Scale;
use step::Batch;
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
struct Told {
    report: Report,
    observed: Vec<Observed>,
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

    fn settle(&mut self, number: usize, place: Option<Place>) {
        if let Some(entry) = self.lanes.entries.get_mut(number) {
            (entry.at, entry.opened) = (place, true);
        }
    }

    /// Takes a lane in a group of a set, with everything in one tier.
    fn place(&mut self, set: usize, default: Option<u16>) -> Place {
        let free = |group: &Group| group.set == set && group.used != u16::MAX;
        let group = match self.groups.iter().position(free) {
            Some(group) => group,
            None => self.new_group(set),
        };
        self.open += 1;
        let Some(there) = self.groups.get_mut(group) else { return Place { group, lane: 0 } };
        let lane = there.used.trailing_ones() as usize;
        there.used |= 1 << lane;
        if let Some(tier) = default.and_then(|tier| there.memory.tiers.get_mut(usize::from(tier))) {
            tier.set_default(lane, true);
        }
        Place { group, lane }
    }

    fn new_group(&mut self, set: usize) -> usize {
        let mut tiers: Vec<GroupTier> = self.media.iter().cloned().map(GroupTier::new).collect();
        if self.cores.len() > 1 {
            tiers.iter_mut().for_each(|tier| tier.share(self.common.scale.cycle));
        }
        self.groups.push(Group { memory: Memory { tiers, modes: Vec::new() }, used: 0, set });
        for core in &mut self.cores {
            // At the same step as the others; its lanes are filled when they are taken.
            if let Some(pipeline) = core.pipelines.first().cloned() {
                core.pipelines.push(pipeline);
            }
        }
        self.groups.len() - 1
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

    /// Objects of which a line comes from memory or goes there, for the first time perhaps.
    fn admit_all(&mut self, execution: &Execution<'_>) {
        let served = execution.served.iter().filter(|served| served.level == Level::Memory).map(|served| served.object);
        let moved = execution.traffic.iter().filter(|t| t.kind != TrafficKind::Fetch).map(|traffic| traffic.object);
        for object in served.chain(moved) {
            if !self.lanes.is_open(object.0) {
                self.admit(object);
            }
        }
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

    /// Gives an object its lanes, if there are some or if it has more claim to them than others.
    fn admit(&mut self, object: ObjectId) {
        let mut all = true;
        for set in 0..self.sets.len() {
            let number = self.lanes.of_object(object, set);
            let gap = self.gaps.get(set).copied().unwrap_or(1);
            let Some(entry) = self.lanes.entries.get_mut(number) else { continue };
            if entry.at.is_some() {
                continue;
            }
            entry.claim = entry.claim.saturating_add(gap);
            let claim = entry.claim;
            let Some(place) = self.room(set, claim) else {
                all = false;
                if let Some(entry) = self.lanes.entries.get_mut(number) {
                    entry.missed = Some(self.instructions);
                }
                continue;
            };
            self.open_lane(number, set, object, place);
        }
        self.lanes.set_open(object.0, all);
    }

    /// A lane that is free, or that of the object with the least difference.
    fn room(&mut self, set: usize, claim: u64) -> Option<Place> {
        if self.open < self.most || self.groups.iter().any(|group| group.set == set && group.used != u16::MAX) {
            let place = self.place(set, None);
            self.measure();
            return Some(place);
        }
        let fast = self.all_fast.get(set).map_or(0, |number| self.clock_of(*number));
        let mut lanes = std::mem::take(&mut self.lanes);
        let least = lanes.least(set, claim, |entry| {
            entry.kept + entry.at.map_or(0, |place| self.clock(place).wrapping_sub(fast).cast_signed())
        });
        self.lanes = lanes;
        let (number, made) = least?;
        let entry = self.lanes.entries.get_mut(number)?;
        let place = entry.at.take()?;
        (entry.kept, entry.claim) = (made, u64::try_from(made).unwrap_or(0));
        entry.missed = Some(self.instructions);
        self.lanes.closed += 1;
        if let LaneKind::ObjectSlow { object, .. } = entry.kind {
            self.lanes.set_open(object.0, false);
        }
        for tier in self.groups.get_mut(place.group).into_iter().flat_map(|group| &mut group.memory.tiers) {
            tier.set_default(place.lane, false);
        }
        Some(place)
    }

    /// Makes a lane a copy of the all-fast one, but for one object.
    fn open_lane(&mut self, number: usize, set: usize, object: ObjectId, place: Place) {
        let Some(tiers) = self.sets.get(set).map(|set| (usize::from(set.fast), usize::from(set.slow))) else { return };
        let reference = self.all_fast.get(set).and_then(|number| self.lanes.entries.get(*number));
        let Some((from, window)) = reference.and_then(|entry| Some((entry.at?, entry.window))) else { return };
        for core in &mut self.cores {
            let Some(state) = core.pipelines.get_mut(from.group).map(|pipeline| pipeline.lane(from.lane)) else {
                continue;
            };
            if let Some(pipeline) = core.pipelines.get_mut(place.group) {
                pipeline.set_lane(place.lane, &state);
            }
        }
        for index in 0..self.media.len() {
            let tier = |group: usize, groups: &mut Vec<Group>| -> Option<memory::TierLane> {
                Some(groups.get_mut(group)?.memory.tiers.get_mut(index)?.lane(from.lane))
            };
            let Some(state) = tier(from.group, &mut self.groups) else { continue };
            let Some(tier) = self.groups.get_mut(place.group).and_then(|group| group.memory.tiers.get_mut(index))
            else {
                continue;
            };
            tier.set_lane(place.lane, &state);
            tier.set_default(place.lane, index == tiers.0);
            if index == tiers.0 || index == tiers.1 {
                tier.set(object.0, place.lane, index == tiers.1);
            }
        }
        if let Some(entry) = self.lanes.entries.get_mut(number) {
            (entry.at, entry.opened, entry.window) = (Some(place), true, window);
        }
    }

    /// What was observed since the last call, in the order of execution.
    pub fn observed(&mut self) -> std::vec::Drain<'_, Observed> {
        self.told.observed.drain(..)
    }

    /// Cycles since the start on a cpu with everything fast; those of blocks still in its batch are missing.
    pub fn now(&self, cpu: usize) -> u64 {
        let pipeline = self.cores.get(cpu).and_then(|core| core.pipelines.first());
        pipeline.map_or(0, |pipeline| self.common.scale.cycles(pipeline.clock(0)))
    }

    /// Cycles that retirement waited for loads of each object with everything fast, by [`ObjectId::index`]. Where only windows were
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

fn set_of(kind: LaneKind) -> usize {
    match kind {
        LaneKind::AllFast { set }
        | LaneKind::AllSlow { set }
        | LaneKind::ObjectSlow { set, .. }
        | LaneKind::MemoryMode { set } => usize::from(set),
        LaneKind::Placement { .. } => 0,
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
