//! From an executed block to steps: everything that is the same in all lanes, once.
//!
//! Which branch was mispredicted, which line was fetched a moment ago, which store a load overlaps, what the caches said: none of it
//! depends on where objects lie. The lanes get it as a batch of steps.

use super::Execution;
use super::lines::{Arriving, Rows, Stored, Walking};
use super::plan::{Plan, Planned, Templates, addresses, ending, loading, operation, plain};
use super::predictor::{Ending, Predictor};
use super::scale::Scale;
use super::step::{Batch, Kind, Line, Move, Place, Reference, Step, Translation, UNOBSERVED, Why};
use super::units::{Port, REPEAT_BYTES};
use crate::block::{Access, Block, Class, Op};
use crate::machine::LINE_BYTES;
use crate::memory_mode::MemoryMode;
use crate::served::{Level, Served, Tlb, TrafficKind};
use std::ops::Range;

/// Steps that are done together: enough that starting the lanes costs little beside them.
const STEPS: usize = 256;

/// Ticks by which the times of a lane may grow in one batch.
const GROWTH: u64 = 1 << 30;

/// Numbers of blocks of which a plan is kept.
const MOST_PLANS: usize = 1 << 22;

/// What all fronts share.
#[derive(Debug)]
pub(crate) struct Common {
    pub(crate) scale: Scale,
    pub(crate) templates: Templates,
    pub(crate) modes: Vec<MemoryMode>,
    /// Longest a line of memory can take besides waiting for others.
    pub(crate) worst_line: u64,
    /// By number of the block.
    pub(crate) plans: Vec<Option<Box<Plan>>>,
}

impl Common {
    /// The plan of a block, to be given back with [`Self::keep`].
    #[inline]
    fn plan(&mut self, block: &Block) -> Box<Plan> {
        match self.plans.get_mut(block.number as usize).and_then(Option::take) {
            Some(plan) if plan.ops.len() == block.ops.len() => plan,
            _ => Box::new(Plan::new(block, &self.templates, &self.scale)),
        }
    }

    #[inline]
    fn keep(&mut self, block: &Block, plan: Box<Plan>) {
        let number = block.number as usize;
        if let Some(place) = self.plans.get_mut(number) {
            *place = (number != 0).then_some(plan);
        } else if number < MOST_PLANS {
            self.plans.resize(number + 1, None);
            self.plans[number] = Some(plan);
        }
    }
}

/// The part of a core that looks at instructions.
#[derive(Debug, Clone)]
pub(crate) struct Front {
    predictor: Predictor,
    arriving: Arriving,
    walking: Walking,
    stored: Stored,
    rows: Rows,
    /// Operations so far that took a place in the reorder buffer.
    operations: u64,
    /// The branch that ended the last block: its kind, its address, and what follows it.
    branch: Option<(Ending, u64, u64)>,
    /// Operations since a jump was last taken, and by how many ticks the next is late for that.
    since_jump: u64,
    late: u8,
    /// The line last stored to.
    stored_line: u64,
    pub(crate) batch: Batch,
}

const GENERAL: u64 = 0xffff;

/// The accesses, traffic and observations of an execution that are still to be looked at.
struct Rest<'a> {
    all: Execution<'a>,
    access: usize,
    traffic: usize,
    observed: usize,
}

impl Front {
    pub(crate) fn new(scale: &Scale) -> Self {
        Self {
            predictor: Predictor::new(),
            arriving: Arriving::new(),
            walking: Walking::new(),
            stored: Stored::new(scale.store_buffer),
            rows: Rows::new(),
            operations: 0,
            branch: None,
            since_jump: 0,
            late: 0,
            stored_line: u64::MAX,
            batch: Batch::default(),
        }
    }

    /// Learns from a block that is not timed: branch prediction only.
    pub(crate) fn warm(&mut self, block: &Block) {
        self.resolve(block, ending(block));
    }

    /// Timing was interrupted: nothing that was on its way still is.
    pub(crate) fn interrupt(&mut self) {
        self.arriving.forget();
        self.walking.forget();
    }

    /// Adds what a block does to the batch. Calls `flush` to have a batch done, and emptied, when it is full.
    pub(crate) fn execute(
        &mut self,
        execution: Execution<'_>,
        common: &mut Common,
        flush: &mut dyn FnMut(&mut Batch, &Common),
    ) {
        let plan = common.plan(execution.block);
        self.jumped(execution.block, &common.scale);
        self.since_jump += plan.operations;
        if !self.resolve(execution.block, plan.ending) {
            self.batch.steps.push(plain(Kind::Restart));
            self.batch.worst += common.scale.worst_operation as u64;
        }
        if !execution.traffic.is_empty() {
            self.fetches(execution, common);
        }
        let mut rest = Rest { all: execution, access: 0, traffic: 0, observed: 0 };
        self.batch.worst += plan.growth;
        let references = (execution.accesses.len() + execution.traffic.len()) as u64;
        let worst = references * (common.worst_line + u64::from(common.scale.worst_reference));
        if plan.repeats || worst > GROWTH {
            for (index, op) in execution.block.ops.iter().enumerate() {
                self.operation(index, op, &mut rest, common, flush);
            }
        } else {
            self.planned(&plan, &mut rest, common);
        }
        common.keep(execution.block, plan);
        if self.is_full() {
            flush(&mut self.batch, common);
        }
    }

    fn is_full(&self) -> bool {
        self.batch.steps.len() >= STEPS || self.batch.worst >= GROWTH
    }

    /// If the block was jumped to, what was fetched since the jump before came in whole cycles.
    #[inline]
    fn jumped(&mut self, block: &Block, scale: &Scale) {
        if self.branch.is_some_and(|(_, _, follows)| follows != block.address) {
            let cycles = self.since_jump.div_ceil(u64::from(scale.fetched)) * u64::from(scale.cycle);
            self.late = cycles.saturating_sub(self.since_jump * u64::from(scale.dispatch)).min(100) as u8;
            self.since_jump = 0;
        }
    }

    /// Whether it had been predicted that this block comes next.
    #[inline]
    fn resolve(&mut self, block: &Block, ending: Option<(Ending, u64, u64)>) -> bool {
        let before = std::mem::replace(&mut self.branch, ending);
        before.is_none_or(|(ending, address, follows)| self.predictor.resolve(ending, address, follows, block.address))
    }

    /// Adds the steps of a block's plan, and to them what its accesses change.
    fn planned(&mut self, plan: &Plan, rest: &mut Rest<'_>, common: &mut Common) {
        let (base, before) = (self.batch.steps.len(), self.operations);
        self.batch.steps.extend_from_slice(&plan.steps);
        if let Some(first) = plan.ops.first().and_then(|op| self.batch.steps.get_mut(base + usize::from(op.step))) {
            first.dispatch = first.dispatch.saturating_add(std::mem::take(&mut self.late));
        }
        let all = rest.all;
        while let Some(access) = all.accesses.get(rest.access) {
            let from = rest.access;
            rest.access += 1;
            while all.accesses.get(rest.access).is_some_and(|next| next.op == access.op) {
                rest.access += 1;
            }
            let index = usize::from(access.op);
            let (Some(op), Some(planned)) = (all.block.ops.get(index), plan.ops.get(index)) else { break };
            let at = base + usize::from(planned.step);
            self.operations = before + u64::from(planned.rank);
            if rest.access == from + 1 && self.near(at, planned, op, from, &all, &common.scale) {
                continue;
            }
            let Some(step) = self.batch.steps.get(at) else { break };
            let step = Step { kind: Kind::Memory, latency: step.latency + planned.loading, ..*step };
            let step = self.referring(step, op, from..rest.access, rest, common);
            self.batch.steps[at] = step;
        }
        self.operations = before + plan.operations;
    }

    /// Makes the step of an operation one whose only access takes no longer than the first-level cache or the store buffer do, and
    /// moves nothing. False if it is not such a one.
    #[inline]
    fn near(
        &mut self,
        at: usize,
        planned: &Planned,
        op: &Op,
        index: usize,
        all: &Execution<'_>,
        scale: &Scale,
    ) -> bool {
        let (Some(access), Some(served)) = (all.accesses.get(index), all.served.get(index)) else { return false };
        let (Some(step), true) = (self.batch.steps.get_mut(at), all.traffic.is_empty() && all.observed.is_empty())
        else {
            return false;
        };
        if step.kind != Kind::Plain || served.tlb != Tlb::L1 || served.straddles || access.store && op.non_temporal {
            return false;
        }
        if self.walking.awaited(access.address, self.operations).is_some() {
            return false;
        }
        if access.store {
            if served.level != Level::L1 || self.arriving.is_awaited(access.address, self.operations) {
                return false;
            }
            self.stored.store(access.address, access.bytes);
            let same =
                std::mem::replace(&mut self.stored_line, access.address / LINE_BYTES) == access.address / LINE_BYTES;
            (step.kind, step.stores) = (Kind::Store, 1);
            step.first = if same { scale.interval[Port::Store as usize] } else { scale.commit };
            return true;
        }
        match self.stored.load(access.address, access.bytes) {
            Some((Place::Forwarded, ring)) => (step.kind, step.first) = (Kind::Forwarded, u32::from(ring)),
            Some(_) => return false,
            None => {
                if served.level != Level::L1 || self.arriving.is_awaited(access.address, self.operations) {
                    return false;
                }
                step.kind = Kind::Load;
            }
        }
        step.loads = 1;
        step.latency += planned.loading;
        true
    }

    /// Lines of instructions that come from memory.
    fn fetches(&mut self, execution: Execution<'_>, common: &mut Common) {
        for traffic in execution.traffic.iter().filter(|traffic| traffic.kind == TrafficKind::Fetch) {
            let line = self.line(traffic.address, traffic.object.0, false, common);
            let first = self.batch.references.len() as u32;
            self.batch.references.push(Reference { line, ..nearby(line) });
            self.batch.steps.push(Step { first, ..plain(Kind::Fetch) });
        }
    }

    /// Adds an operation as its accesses say, looking at no plan.
    fn operation(
        &mut self,
        index: usize,
        op: &Op,
        rest: &mut Rest<'_>,
        common: &mut Common,
        flush: &mut dyn FnMut(&mut Batch, &Common),
    ) {
        let from = rest.access;
        while rest.all.accesses.get(rest.access).is_some_and(|access| usize::from(access.op) <= index) {
            rest.access += 1;
        }
        let to = rest.access;
        if op.class == Class::Repeat {
            // One iteration after the other, each with as many accesses as the instruction says.
            let each = (usize::from(op.loads) + usize::from(op.stores)).max(1);
            for start in (from..to).step_by(each) {
                self.iteration(op, start..to.min(start + each), rest, common);
                self.flush_full(rest, common, flush);
            }
            return;
        }
        self.operations += u64::from(!op.fused);
        let block = rest.all.block;
        let accesses = op.loads > 0 || op.stores > 0;
        let (mut step, destinations) = operation(block, index, op, accesses, &common.templates, &common.scale);
        step.dispatch = step.dispatch.saturating_add(std::mem::take(&mut self.late));
        if from != to {
            (step.kind, step.latency) = (Kind::Memory, step.latency + loading(op, destinations, &common.scale));
            step = self.referring(step, op, from..to, rest, common);
        }
        self.batch.push(step, op.sources.0, destinations);
        self.flush_full(rest, common, flush);
    }

    fn flush_full(&mut self, rest: &Rest<'_>, common: &Common, flush: &mut dyn FnMut(&mut Batch, &Common)) {
        if self.is_full() {
            flush(&mut self.batch, common);
            self.batch.worst += u64::from(common.scale.worst_operation) * rest.all.block.ops.len() as u64;
        }
    }

    /// One iteration of a string instruction. Its counters and pointers are advanced by the string unit.
    fn iteration(&mut self, op: &Op, accesses: Range<usize>, rest: &mut Rest<'_>, common: &mut Common) {
        let bytes =
            rest.all.accesses.get(accesses.clone()).unwrap_or_default().iter().map(|a| u32::from(a.bytes)).max();
        let dispatch = (bytes.unwrap_or(1) * common.scale.cycle / REPEAT_BYTES).clamp(1, 255) as u8;
        self.batch.worst += u64::from(common.scale.worst_operation);
        let step = common.templates[op.class as usize];
        let step = Step { kind: Kind::Iteration, dispatch, addresses: addresses(op), ..step };
        let step = self.referring(step, op, accesses, rest, common);
        self.batch.push(step, op.sources.0, op.destinations.0 & !GENERAL);
    }

    /// The step of an operation with these accesses.
    fn referring(
        &mut self,
        mut step: Step,
        op: &Op,
        accesses: Range<usize>,
        rest: &mut Rest<'_>,
        common: &mut Common,
    ) -> Step {
        step.first = self.batch.references.len() as u32;
        let all = rest.all.accesses.get(accesses.clone()).unwrap_or_default();
        if let [access] = all {
            let stored = access.store;
            let known = u16::from(self.reference(op, accesses.start, rest, common));
            (step.loads, step.stores) = if stored { (0, known) } else { (known, 0) };
        } else {
            for n in accesses.clone().zip(all).filter(|(_, access)| !access.store).map(|(n, _)| n) {
                step.loads += u16::from(self.reference(op, n, rest, common));
            }
            for n in accesses.zip(all).filter(|(_, access)| access.store).map(|(n, _)| n) {
                step.stores += u16::from(self.reference(op, n, rest, common));
            }
        }
        step
    }

    /// Adds one reference; false where there is no such access.
    fn reference(&mut self, op: &Op, index: usize, rest: &mut Rest<'_>, common: &mut Common) -> bool {
        let all = rest.all;
        let (Some(access), Some(served)) = (all.accesses.get(index), all.served.get(index)) else { return false };
        let line = Line { address: access.address, object: served.object.0, near: false, modes: 0 };
        let mut reference = nearby(line);
        reference.translation = match served.tlb {
            Tlb::L1 => Translation::Near,
            Tlb::L2 => Translation::Second,
            Tlb::Walk => Translation::Walk,
        };
        if served.tlb == Tlb::Walk {
            reference.walk = self.walking.begin(access.address, self.operations + common.scale.rob as u64);
        } else if let Some(walk) = self.walking.awaited(access.address, self.operations) {
            (reference.translation, reference.walk) = (Translation::Awaited, walk);
        }
        self.batch.worst += u64::from(common.scale.worst_reference);
        self.place(op, access, served, &mut reference, common);
        self.moved(index, &mut reference, rest, common);
        if let Some((access, number)) = all.observed.get(rest.observed)
            && *access as usize == index
        {
            reference.observed = *number;
            rest.observed += 1;
        }
        reference.straddles = served.straddles;
        if access.store {
            self.stored.store(access.address, access.bytes);
            let line = access.address / LINE_BYTES;
            reference.same_line = std::mem::replace(&mut self.stored_line, line) == line;
        }
        self.batch.references.push(reference);
        true
    }

    /// Where the access finds its line.
    fn place(&mut self, op: &Op, access: &Access, served: &Served, reference: &mut Reference, common: &mut Common) {
        if access.store && op.non_temporal {
            reference.place = Place::Around;
            return;
        }
        if !access.store
            && let Some((place, ring)) = self.stored.load(access.address, access.bytes)
        {
            (reference.place, reference.ring) = (place, ring);
            return;
        }
        // What a load waits for is there when it retires, and then everything behind it in the buffer is dispatched.
        let retired = self.operations + common.scale.rob as u64;
        let until = if access.store || op.class == Class::Repeat { None } else { Some(retired) };
        if let Some(slot) = self.arriving.awaited(access.address, self.operations, until) {
            (reference.slot, reference.awaited) = (slot, true);
        }
        reference.place = match served.level {
            Level::L1 => return,
            Level::L2 => Place::L2,
            Level::Llc => Place::Llc,
            Level::Memory => {
                reference.line = self.line(access.address, served.object.0, false, common);
                reference.awaited = false;
                Place::Memory
            }
        };
        reference.slot = self.arriving.ask(access.address, until.unwrap_or(u64::MAX));
        reference.fetched = true;
    }

    /// What moved because of the access.
    fn moved(&mut self, index: usize, reference: &mut Reference, rest: &mut Rest<'_>, common: &mut Common) {
        reference.first_move = self.batch.moves.len() as u32;
        // Stores of an operation come after its loads here, so what was passed over may be theirs.
        while rest.all.traffic.get(rest.traffic).is_some_and(|traffic| traffic.access as usize <= index) {
            let traffic = rest.all.traffic[rest.traffic];
            rest.traffic += 1;
            let why = match traffic.kind {
                TrafficKind::Fetch => continue,
                TrafficKind::Prefetch => Why::Ahead(self.arriving.ask(traffic.address, u64::MAX)),
                TrafficKind::Half => Why::Half,
                TrafficKind::Writeback | TrafficKind::NonTemporal => Why::Back,
            };
            let line = self.line(traffic.address, traffic.object.0, why == Why::Back, common);
            self.batch.moves.push(Move { why, line });
            reference.moves = reference.moves.saturating_add(1);
        }
    }

    /// A line that moves between memory and caches.
    fn line(&mut self, address: u64, object: u32, write: bool, common: &mut Common) -> Line {
        self.batch.worst += common.worst_line;
        let modes = self.batch.modes.len() as u32;
        let found = common.modes.iter_mut().map(|mode| mode.access(address, write));
        self.batch.modes.extend(found);
        Line { address, object, near: !write && self.rows.near(address), modes }
    }
}

fn nearby(line: Line) -> Reference {
    Reference {
        place: Place::Near,
        translation: Translation::Near,
        awaited: false,
        fetched: false,
        straddles: false,
        same_line: false,
        observed: UNOBSERVED,
        walk: 0,
        slot: 0,
        ring: 0,
        moves: 0,
        first_move: 0,
        line,
    }
}

#[cfg(test)]
mod tests {
    use super::super::medium::Medium;
    use super::super::memory::{GroupTier, Memory};
    use super::super::pipeline::Pipeline;
    use super::super::plan::templates;
    use super::super::run::run;
    use super::super::width::Width;
    use super::*;
    use crate::block::Registers;
    use crate::config::Tier;
    use crate::machine::{Core, Machine};
    use crate::objects::ObjectId;

    /// Numbers by chance.
    struct Chance(u64);

    impl Chance {
        fn below(&mut self, end: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % end
        }

        fn registers(&mut self) -> Registers {
            (0..self.below(4)).fold(Registers::NONE, |set, _| set | Registers(1 << self.below(57)))
        }

        fn block(&mut self, number: u32) -> Block {
            let classes =
                [Class::Integer, Class::Move, Class::Multiply, Class::Vector, Class::Eliminated, Class::Atomic];
            let mut ops: Vec<Op> = (0..1 + self.below(9))
                .map(|at| Op {
                    offset: at as u16,
                    class: classes[self.below(6) as usize],
                    loads: u8::from(self.below(3) == 0),
                    stores: u8::from(self.below(4) == 0),
                    sources: self.registers() | self.registers(),
                    address_sources: self.registers(),
                    destinations: self.registers() | self.registers(),
                    ..Op::default()
                })
                .collect();
            let fused = self.below(2) == 0;
            ops.push(Op { class: Class::BranchConditional, sources: Registers::FLAGS, fused, ..Op::default() });
            Block { address: u64::from(number) * 64, bytes: ops.len() as u32, ops: ops.into(), number }
        }

        /// What an execution touches, and how that is served.
        fn touches(&mut self, block: &Block) -> (Vec<Access>, Vec<Served>) {
            let mut accesses = Vec::new();
            for (op, of) in block.ops.iter().enumerate() {
                let kinds = (0..of.loads).map(|_| false).chain((0..of.stores).map(|_| true));
                for store in kinds.collect::<Vec<_>>() {
                    let address = self.below(512) * 4;
                    accesses.push(Access { address, op: op as u16, bytes: 1 << self.below(4), store });
                }
            }
            let level = |n| [Level::L1, Level::L1, Level::L1, Level::L2, Level::Llc, Level::Memory][n as usize];
            let served = |tlb| Served { object: ObjectId(1), tlb, ..Served::default() };
            let tlb = |n| if n == 0 { Tlb::Walk } else { Tlb::L1 };
            let served = accesses.iter().map(|access| {
                let straddles = access.address % 64 + u64::from(access.bytes) > 64;
                Served { level: level(self.below(6)), straddles, ..served(tlb(self.below(9))) }
            });
            let served = served.collect();
            (accesses, served)
        }
    }

    #[test]
    fn plans_change_no_time() {
        for core in [Core::default(), Core::sunny_cove()] {
            let scale = Scale::new(&Machine { core, ..Machine::default() });
            let tier: Tier = serde_json::from_str(
                r#"{"name": "t", "read_latency_ns": 100, "read_bandwidth_gbs": 20, "write_bandwidth_gbs": 20}"#,
            )
            .unwrap();
            let medium = Medium::new(&tier, &scale);
            let worst_line = medium.worst();
            let new = || {
                let mut group = GroupTier::new(medium.clone());
                group.set_default(0, true);
                let common = Common {
                    templates: templates(&scale),
                    scale: scale.clone(),
                    modes: Vec::new(),
                    worst_line,
                    plans: Vec::new(),
                };
                let memory = Memory { tiers: vec![group], modes: Vec::new() };
                (Front::new(&scale), common, memory, Pipeline::new(&scale, 1, [0; 16]))
            };
            let (mut planned, mut alone) = (new(), new());
            let mut chance = Chance(7);
            let blocks: Vec<Block> = (1..20).map(|number| chance.block(number)).collect();
            for round in 0..3000 {
                let block = &blocks[chance.below(19) as usize];
                let (accesses, served) = chance.touches(block);
                let execution = Execution { block, accesses: &accesses, served: &served, traffic: &[], observed: &[] };
                planned.0.execute(execution, &mut planned.1, &mut |_, _| {});
                alone.0.jumped(block, &alone.1.scale);
                alone.0.since_jump += block.ops.iter().map(|op| u64::from(!op.fused)).sum::<u64>();
                if !alone.0.resolve(block, ending(block)) {
                    alone.0.batch.steps.push(plain(Kind::Restart));
                }
                let mut rest = Rest { all: execution, access: 0, traffic: 0, observed: 0 };
                for (index, op) in block.ops.iter().enumerate() {
                    alone.0.operation(index, op, &mut rest, &mut alone.1, &mut |_, _| {});
                }
                for (front, common, memory, pipeline) in [&mut planned, &mut alone] {
                    pipeline.make_room(1 << 20);
                    run(Width::available()[0], pipeline, memory, &front.batch, &common.scale, None);
                    front.batch.clear();
                }
                assert_eq!(planned.3.clock(0), alone.3.clock(0), "after {round} blocks");
                assert_eq!(planned.3.dispatch, alone.3.dispatch);
            }
            assert!(planned.3.clock(0) > 0);
        }
    }
}
