//! The whole simulation: what comes in, in which order it is looked at, and what is counted of it.
//!
//! [`Simulator::execute`] lets each access go its way through the caches and notes how it was served; counts are made from those
//! notes, and so is time. Nothing a placement could change is decided before that point, which is why one pass serves all of
//! them.

mod ahead;
mod run;

use crate::block::{Access, Block};
use crate::config::{Config, ConfigError, Detail};
use crate::counts::{Counts, Totals};
use crate::event::{Event, Mark};
use crate::extent::Extent;
use crate::hierarchy::{Effects, Hierarchy};
use crate::machine::LINE_BYTES;
use crate::objects::{Now, ObjectId, Shadow, Space};
use crate::outcome::{Allocation, Module, Outcome, Sample, Site, Thread};
use crate::placing::Placing;
use crate::private::{Private, straddles};
use crate::served::{Level, Served, Tlb, TrafficKind};
use crate::timed::{Names, Timed, Times};

/// Whether to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Next {
    /// Go on.
    GoOn,
    /// As many instructions as were asked for are counted.
    Stop,
}

/// How far a simulation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Instructions executed.
    pub instructions: u64,
    /// Instructions that are in the counts.
    pub counted_instructions: u64,
}

/// A simulation.
#[derive(Debug)]
pub struct Simulator {
    hierarchy: Hierarchy,
    space: Space,
    placing: Placing,
    extent: Extent,
    has_l2: bool,
    /// By number of object; the first is what lies in none. Without loads and stores.
    counts: Vec<Counts>,
    /// Those: apart from what is counted less often, so that they lie close together.
    touches: Vec<run::Touches>,
    totals: Totals,
    /// By number of cpu; None where no thread runs.
    running: Vec<Option<Running>>,
    threads: Vec<Thread>,
    modules: Vec<Module>,
    sites: Vec<Site>,
    marks: Vec<Mark>,
    max_instructions: u64,
    sampler: Option<Sampler>,
    samples: Vec<Sample>,
    timed: Option<Timed>,
    names: Names,
    effects: Effects,
    /// How the accesses of the block under way were served.
    served: Vec<Served>,
    /// Those of them that are to be samples.
    sampled: Vec<u32>,
    /// Accesses that are put side by side for `execute`.
    accesses: Vec<Access>,
    ahead: ahead::Ahead,
}

/// A thread on a cpu: which of all threads, and on which core.
#[derive(Debug, Clone, Copy)]
struct Running {
    thread: usize,
    core: usize,
}

/// Chooses every so many of the loads that miss the last-level cache.
#[derive(Debug, Clone, Copy)]
struct Sampler {
    every: u64,
    left: u64,
}

impl Simulator {
    /// A simulation in which nothing has happened yet.
    ///
    /// # Errors
    /// Names the field of the configuration that makes no sense.
    pub fn new(config: &Config) -> Result<Self, ConfigError> {
        config.check()?;
        Ok(Self {
            hierarchy: Hierarchy::new(&config.machine),
            space: Space::new(config.record_blocks_of),
            placing: Placing::new(&config.placements, config.tiers.len()),
            extent: Extent::new(config),
            has_l2: config.machine.l2.is_some(),
            counts: vec![Counts::default()],
            touches: vec![[0; 2]],
            totals: Totals::default(),
            running: Vec::new(),
            threads: Vec::new(),
            modules: Vec::new(),
            sites: Vec::new(),
            marks: Vec::new(),
            max_instructions: config.max_instructions.unwrap_or(u64::MAX),
            sampler: config.sample_every.map(|every| Sampler { every, left: every }),
            samples: Vec::new(),
            timed: Timed::new(config),
            names: Names::new(config),
            effects: Effects::default(),
            served: Vec::new(),
            sampled: Vec::new(),
            accesses: Vec::new(),
            ahead: ahead::Ahead::default(),
        })
    }

    /// A thread executes a block and touches these addresses, in program order.
    pub fn execute(&mut self, cpu: u16, block: &Block, accesses: &[Access]) -> Next {
        let instructions = block.ops.len() as u64;
        self.extent.advance(self.totals.instructions);
        self.totals.instructions += instructions;
        let Running { thread, core } = self.running(cpu);
        self.threads[thread].instructions += instructions;
        match self.extent.detail {
            Detail::Off => {}
            Detail::Warm => {
                self.touch::<false>(core, block, accesses);
                if let Some(timed) = &mut self.timed {
                    timed.warm(cpu, block);
                }
            }
            Detail::Full => {
                self.touch::<true>(core, block, accesses);
                self.totals.counted_instructions += instructions;
                self.totals.blocks += 1;
                self.count_effects();
                self.time(cpu, block, accesses);
            }
        }
        if self.totals.counted_instructions >= self.max_instructions { Next::Stop } else { Next::GoOn }
    }

    /// Accesses go their way through the caches; how they were served is noted and, if wanted, counted.
    fn touch<const COUNTED: bool>(&mut self, core: usize, block: &Block, accesses: &[Access]) {
        let Self { hierarchy, space, effects, served, counts, touches, totals, has_l2, sampler, sampled, .. } = self;
        effects.clear();
        sampled.clear();
        served.resize(accesses.len(), Served::default());
        let map = space.map();
        hierarchy.private(core).meet(map);
        hierarchy.fetch(core, block, map, effects);
        let mut senseless = 0;
        let mut index = 0;
        loop {
            let private = hierarchy.private(core);
            let (rest, room) = (accesses.get(index..).unwrap_or_default(), served.get_mut(index..).unwrap_or_default());
            index += serve_near::<COUNTED>(private, map, touches, block, rest, room, &mut senseless);
            let (Some(access), Some(served)) = (accesses.get(index), served.get_mut(index)) else { break };
            let op = block.ops.get(usize::from(access.op));
            senseless += u64::from(op.is_none());
            effects.access = index as u32;
            *served = if access.store && op.is_some_and(|op| op.non_temporal) {
                hierarchy.around(core, access, map, effects)
            } else {
                let ip = block.address.wrapping_add(op.map_or(0, |op| u64::from(op.offset)));
                hierarchy.access((core, ip), access, map, effects)
            };
            if COUNTED {
                touches[served.object.index()][usize::from(access.store)] += 1;
                count_far(&mut counts[served.object.index()], served, access.store, *has_l2);
                totals.straddling += u64::from(served.straddles);
                if served.level == Level::Memory && !access.store && sampler.as_mut().is_some_and(Sampler::chooses) {
                    sampled.push(index as u32);
                }
            }
            index += 1;
        }
        space.approximations.senseless_accesses += senseless;
    }

    /// What accesses caused besides being served is counted.
    fn count_effects(&mut self) {
        let Self { counts, totals, effects, .. } = self;
        totals.l1i_misses += effects.l1i_misses;
        totals.llc_fetch_misses += effects.llc_fetch_misses;
        totals.invalidations += effects.invalidations;
        for traffic in &effects.traffic {
            let counts = &mut counts[traffic.object.index()];
            match traffic.kind {
                TrafficKind::Prefetch => {
                    counts.prefetched += 1;
                    counts.bytes_read += LINE_BYTES;
                }
                TrafficKind::Half | TrafficKind::Fetch => counts.bytes_read += LINE_BYTES,
                TrafficKind::Writeback | TrafficKind::NonTemporal => counts.bytes_written += LINE_BYTES,
            }
        }
    }

    /// What was counted is timed, and chosen accesses become samples.
    fn time(&mut self, cpu: u16, block: &Block, accesses: &[Access]) {
        if self.sampled.is_empty() && self.timed.is_none() {
            return;
        }
        let (now, weight) = (self.now(cpu), self.weight());
        let Self { timed, samples, sampled, served, effects, .. } = self;
        let chosen = sampled.drain(..).filter_map(|index| {
            let (access, served) = (accesses.get(index as usize)?, served.get(index as usize)?);
            Some((index, sample(cpu, now, weight, block, access, served)))
        });
        match timed {
            Some(timed) => {
                timed.execute(cpu, block, accesses, served, &effects.traffic, chosen);
            }
            None => samples.extend(chosen.map(|(_, sample)| sample)),
        }
    }

    /// Loads that a sample stands for.
    fn weight(&self) -> u32 {
        self.sampler.map_or(1, |sampler| u32::try_from(sampler.every).unwrap_or(u32::MAX))
    }

    /// Something happens to memory or threads. Returns the object that it gave an address to.
    pub fn event(&mut self, cpu: u16, event: Event) -> Option<ObjectId> {
        let now = self.now(cpu);
        let object = match event {
            Event::Module { module, path, build_id, start, end, bias } => {
                let row = Module { path: path.into(), build_id: build_id.map(Into::into), start, end, bias };
                self.module(module, row);
                None
            }
            Event::Global { module, name, address, bytes, elf_address } => {
                Some(self.space.global((module, elf_address), name, (address, bytes), &self.modules, &now))
            }
            Event::Site { site, frames } => {
                self.sites.push(Site { site, frames: frames.into() });
                None
            }
            Event::Rule(rule) => {
                self.space.approximations.senseless_events += u64::from(!self.placing.learn(rule));
                None
            }
            Event::Allocated { address, bytes, site } => Some(self.space.allocated(address, bytes, site, &now)),
            Event::Freed { address } => {
                self.space.freed(address, &now);
                None
            }
            Event::Reallocated { old_address, address, bytes, site } => {
                self.space.freed(old_address, &now);
                (address != 0).then(|| self.space.allocated(address, bytes, site, &now))
            }
            Event::Mapped { address, bytes, site, backing } => {
                Some(self.space.mapped(address, bytes, site, backing, &now))
            }
            Event::Unmapped { address, bytes } => {
                self.space.unmapped(address, bytes, &now);
                None
            }
            Event::Remapped { old_address, old_bytes, address, bytes, site } => {
                Some(self.space.remapped((old_address, old_bytes), (address, bytes), site, &now))
            }
            Event::ThreadStarted { tid } => {
                self.start_thread(cpu, tid);
                // On a cpu that another thread had before, the clock stands where that one ended.
                if let Some(timed) = &mut self.timed {
                    timed.waited(cpu);
                }
                None
            }
            Event::Stack { tid, low, high } => Some(self.space.stack(tid, low, high, &now)),
            Event::ThreadEnded => {
                if let Some(running) = self.running.get_mut(usize::from(cpu)) {
                    *running = None;
                }
                None
            }
            Event::Waited => {
                if let Some(timed) = &mut self.timed {
                    timed.waited(cpu);
                }
                None
            }
            Event::Mark { name } => {
                self.extent.mark(&name);
                let Now { time, instructions, tid } = now;
                self.marks.push(Mark { name: name.into(), tid, instructions, time });
                None
            }
        };
        self.counts.resize(self.space.table.len() + 1, Counts::default());
        self.touches.resize(self.space.table.len() + 1, [0; 2]);
        let object = object.filter(|object| *object != ObjectId::NONE);
        if let Some(object) = object {
            self.place(object);
        }
        object
    }

    /// An object is new or has grown: placements may say something else of it.
    fn place(&mut self, object: ObjectId) {
        let Self { timed: Some(timed), placing, space, .. } = self else { return };
        if let Some((key, identity, bytes)) = space.table.get(object) {
            timed.object(object, (0..placing.len()).map(|placement| placing.tier(placement, key, identity, bytes)));
        }
    }

    fn module(&mut self, number: u32, row: Module) {
        let number = number as usize;
        if let Some(module) = self.modules.get_mut(number) {
            *module = row;
        } else if number == self.modules.len() {
            self.modules.push(row);
        } else {
            self.space.approximations.senseless_events += 1;
        }
    }

    /// What runs on a cpu. A thread that did not say that it started has number 0 in the kernel.
    #[inline]
    fn running(&mut self, cpu: u16) -> Running {
        match self.running.get(usize::from(cpu)) {
            Some(Some(running)) => *running,
            _ => self.start_thread(cpu, 0),
        }
    }

    fn start_thread(&mut self, cpu: u16, tid: u32) -> Running {
        let running = Running { thread: self.threads.len(), core: self.hierarchy.core(cpu) };
        self.threads.push(Thread { tid, instructions: 0 });
        let cpu = usize::from(cpu);
        if self.running.len() <= cpu {
            self.running.resize(cpu + 1, None);
        }
        self.running[cpu] = Some(running);
        running
    }

    fn now(&self, cpu: u16) -> Now {
        let running = self.running.get(usize::from(cpu)).copied().flatten();
        let thread = running.and_then(|running| self.threads.get(running.thread));
        let instructions = self.totals.instructions;
        let time = self.timed.as_ref().map_or(instructions, |timed| timed.now(cpu));
        Now { time, instructions, tid: thread.map_or(0, |thread| thread.tid) }
    }

    /// Index of the tier that an object has under a placement; None if there is no such object.
    pub fn tier(&self, placement: u16, object: ObjectId) -> Option<u16> {
        let (key, identity, bytes) = self.space.table.get(object)?;
        Some(self.placing.tier(placement, key, identity, bytes))
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        let Totals { instructions, counted_instructions, .. } = self.totals;
        Progress { instructions, counted_instructions }
    }

    /// Moves the samples taken since the last call to the end of `into`.
    pub fn take_samples(&mut self, into: &mut Vec<Sample>) {
        into.append(&mut self.samples);
        if let Some(timed) = &mut self.timed {
            timed.take_samples(into);
        }
    }

    /// Moves the blocks that died since the last call to the end of `into`.
    pub fn take_allocations(&mut self, into: &mut Vec<Allocation>) {
        into.append(&mut self.space.recorded);
    }

    /// The program ended: blocks that still live become [`Allocation`]s to take. To be called once.
    pub fn record_live(&mut self) {
        self.space.record_live();
        if let Some(timed) = &mut self.timed {
            timed.flush();
        }
    }

    /// What was found.
    pub fn finish(self) -> Outcome {
        let Self { mut totals, mut counts, space, .. } = self;
        let names = &self.names;
        let Times { lanes, stretches, closed_lanes } =
            self.timed.map_or_else(Times::default, |timed| timed.finish(names, &mut counts));
        for (counts, [loads, stores]) in counts.iter_mut().zip(self.touches) {
            (counts.loads, counts.stores) = (loads, stores);
        }
        totals.data = Counts::default();
        counts.iter().for_each(|counts| totals.data.add(counts));
        let mut approximations = space.approximations;
        approximations.closed_lanes = closed_lanes;
        approximations.objects_without_room = space.table.without_room;
        Outcome {
            totals,
            unattributed: counts.first().copied().unwrap_or_default(),
            lanes,
            stretches,
            modules: self.modules,
            sites: self.sites,
            objects: space.table.into_objects(&counts),
            threads: self.threads,
            marks: self.marks,
            approximations,
        }
    }
}

fn sample(cpu: u16, now: Now, weight: u32, block: &Block, access: &Access, served: &Served) -> Sample {
    let offset = block.ops.get(usize::from(access.op)).map_or(0, |op| op.offset);
    Sample {
        time: now.time,
        ip: block.address.wrapping_add(u64::from(offset)),
        address: access.address,
        object: served.object,
        tid: now.tid,
        latency: 0,
        weight,
        cpu,
        level: served.level,
        tlb: served.tlb,
    }
}

impl Sampler {
    fn chooses(&mut self) -> bool {
        self.left -= 1;
        if self.left == 0 {
            self.left = self.every;
            return true;
        }
        false
    }
}

/// Serves accesses as long as the first levels do. Returns how many.
#[inline(always)]
fn serve_near<const COUNTED: bool>(
    private: &mut Private,
    map: &Shadow,
    touches: &mut [run::Touches],
    block: &Block,
    accesses: &[Access],
    served: &mut [Served],
    senseless: &mut u64,
) -> usize {
    let mut done = 0;
    for (access, served) in accesses.iter().zip(served) {
        let op = usize::from(access.op);
        let around = access.store && block.ops.get(op).is_some_and(|op| op.non_temporal);
        if around || straddles(access) {
            break;
        }
        let Some(object) = private.access_near(access.address, access.store, map) else { break };
        *served = Served { object, ..Served::default() };
        *senseless += u64::from(op >= block.ops.len());
        if COUNTED {
            touches[object.index()][usize::from(access.store)] += 1;
        }
        done += 1;
    }
    done
}

fn count_far(counts: &mut Counts, served: &Served, store: bool, has_l2: bool) {
    counts.l1_misses += u64::from(served.level > Level::L1);
    counts.l2_misses += u64::from(has_l2 && served.level > Level::L2);
    if served.level == Level::Memory {
        counts.bytes_read += LINE_BYTES;
        if store {
            counts.llc_store_misses += 1;
        } else {
            counts.llc_load_misses += 1;
        }
    }
    counts.dtlb_misses += u64::from(served.tlb > Tlb::L1);
    counts.tlb_walks += u64::from(served.tlb == Tlb::Walk);
}
