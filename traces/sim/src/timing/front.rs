//! From an executed block to steps: everything that is the same in all lanes, once.
//!
//! Which branch was mispredicted, which line was fetched a moment ago, which store a load overlaps, what the caches said: none of it
//! depends on where objects lie. The lanes get it as a batch of steps.

use super::Execution;
use super::lines::{Arriving, Rows, Stored};
use super::predictor::{Ending, Predictor};
use super::scale::Scale;
use super::step::{Batch, Kind, Line, Move, Order, Place, Reference, Step, Translation, UNOBSERVED, Why, register};
use super::units::{ALL_CLASSES, CLASSES, Port, REPEAT_BYTES, VECTOR_LOAD_CYCLES, cost};
use crate::block::{Access, Block, Class, Op, Registers};
use crate::memory_mode::MemoryMode;
use crate::served::{Level, Served, Tlb, TrafficKind};
use std::ops::Range;

/// Steps that are done together: enough that starting the lanes costs little beside them.
const STEPS: usize = 256;

/// Ticks by which the times of a lane may grow in one batch.
const GROWTH: u64 = 1 << 30;

/// What all fronts share.
#[derive(Debug)]
pub(crate) struct Common {
    pub(crate) scale: Scale,
    pub(crate) templates: [Step; CLASSES],
    pub(crate) modes: Vec<MemoryMode>,
    /// Longest a line of memory can take besides waiting for others.
    pub(crate) worst_line: u64,
}

/// The part of a core that looks at instructions.
#[derive(Debug, Clone)]
pub(crate) struct Front {
    predictor: Predictor,
    arriving: Arriving,
    stored: Stored,
    rows: Rows,
    /// Operations so far that took a place in the reorder buffer.
    operations: u64,
    /// The branch that ended the last block: its kind, its address, and what follows it.
    branch: Option<(Ending, u64, u64)>,
    pub(crate) batch: Batch,
}

const GENERAL: u64 = 0xffff;
const VECTORS: u64 = ((1 << 56) - 1) & !GENERAL;
const STACK_POINTER: u64 = 1 << 4;

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
            stored: Stored::new(scale.store_buffer),
            rows: Rows::new(),
            operations: 0,
            branch: None,
            batch: Batch::default(),
        }
    }

    /// Learns from a block that is not timed: branch prediction only.
    pub(crate) fn warm(&mut self, block: &Block) {
        self.resolve(block);
    }

    /// Timing was interrupted: nothing that was on its way still is.
    pub(crate) fn interrupt(&mut self) {
        self.arriving.forget();
    }

    /// Adds what a block does to the batch. Calls `flush` to have a batch done, and emptied, when it is full.
    pub(crate) fn execute(
        &mut self,
        execution: Execution<'_>,
        common: &mut Common,
        flush: &mut dyn FnMut(&mut Batch, &Common),
    ) {
        if !self.resolve(execution.block) {
            self.batch.steps.push(plain(Kind::Restart));
            self.batch.worst += common.scale.worst_operation as u64;
        }
        self.fetches(execution, common);
        let mut rest = Rest { all: execution, access: 0, traffic: 0, observed: 0 };
        self.batch.worst += growth(execution.block, common);
        for (index, op) in execution.block.ops.iter().enumerate() {
            self.operation(index, op, &mut rest, common, flush);
        }
        if self.is_full() {
            flush(&mut self.batch, common);
        }
    }

    fn is_full(&self) -> bool {
        self.batch.steps.len() >= STEPS || self.batch.worst >= GROWTH
    }

    /// Whether it had been predicted that this block comes next.
    fn resolve(&mut self, block: &Block) -> bool {
        let right = match self.branch.take() {
            Some((ending, address, follows)) => self.predictor.resolve(ending, address, follows, block.address),
            None => true,
        };
        let ending = |op: &Op| match op.class {
            Class::BranchConditional => Some(Ending::Conditional),
            Class::BranchIndirect => Some(Ending::Indirect),
            Class::CallIndirect => Some(Ending::CallIndirect),
            Class::CallDirect => Some(Ending::Call),
            Class::Return => Some(Ending::Return),
            _ => None,
        };
        self.branch = block.ops.last().and_then(|op| {
            let follows = block.address.wrapping_add(u64::from(block.bytes));
            ending(op).map(|ending| (ending, block.address.wrapping_add(u64::from(op.offset)), follows))
        });
        right
    }

    /// Lines of instructions that come from memory.
    fn fetches(&mut self, execution: Execution<'_>, common: &mut Common) {
        for traffic in execution.traffic.iter().filter(|traffic| traffic.kind == TrafficKind::Fetch) {
            let line = self.line(traffic.address, traffic.object.0, false, common);
            let first = self.batch.references.len() as u32;
            self.batch.references.push(Reference { line, ..near(line) });
            self.batch.steps.push(Step { first, ..plain(Kind::Fetch) });
        }
    }

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
                if self.is_full() {
                    flush(&mut self.batch, common);
                    self.batch.worst += growth(rest.all.block, common);
                }
            }
            return;
        }
        self.operations += 1;
        let step = common.templates[op.class as usize];
        let mut destinations = op.destinations.0 | step.resolves();
        if from == to {
            self.push(step, op.sources.0, destinations);
            return;
        }
        if destinations & op.address_sources.0 & STACK_POINTER != 0 && stack(op.class) {
            // The stack engine knows the stack pointer when the operation is renamed (Fog, Microarchitecture, 2023, on all cores).
            destinations &= !STACK_POINTER;
        }
        let into_vector = destinations & VECTORS != 0 && op.loads > 0;
        let extra = if into_vector { VECTOR_LOAD_CYCLES * common.scale.cycle } else { 0 };
        let step = Step { kind: Kind::Memory, latency: step.latency + extra, ..step };
        self.referring(step, op, destinations, from..to, rest, common);
        if self.is_full() {
            flush(&mut self.batch, common);
            self.batch.worst += growth(rest.all.block, common);
        }
    }

    /// One iteration of a string instruction. Its counters and pointers are advanced by the string unit.
    fn iteration(&mut self, op: &Op, accesses: Range<usize>, rest: &mut Rest<'_>, common: &mut Common) {
        let bytes =
            rest.all.accesses.get(accesses.clone()).unwrap_or_default().iter().map(|a| u32::from(a.bytes)).max();
        let dispatch = (bytes.unwrap_or(1) * common.scale.cycle / REPEAT_BYTES).clamp(1, 255) as u8;
        self.batch.worst += u64::from(common.scale.worst_operation);
        let step = Step { kind: Kind::Iteration, dispatch, ..common.templates[op.class as usize] };
        self.referring(step, op, op.destinations.0 & !GENERAL, accesses, rest, common);
    }

    /// An operation with these accesses.
    fn referring(
        &mut self,
        mut step: Step,
        op: &Op,
        destinations: u64,
        accesses: Range<usize>,
        rest: &mut Rest<'_>,
        common: &mut Common,
    ) {
        step.addresses = lowest(op.address_sources.0).0;
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
        self.push(step, op.sources.0, destinations);
    }

    /// Adds a step.
    #[inline]
    fn push(&mut self, step: Step, sources: u64, destinations: u64) {
        let (four, more_sources) = lowest::<4>(sources);
        let (three, more_destinations) = lowest::<3>(destinations);
        if more_sources | more_destinations != 0 {
            self.push_wide(step, sources, destinations);
            return;
        }
        // Written where it is, byte by byte: put together before, it would be read back before the bytes have arrived.
        self.batch.steps.push(step);
        if let Some(step) = self.batch.steps.last_mut() {
            step.sources = four;
            step.destinations = three;
        }
    }

    /// Adds a step with others before and after it, as it has more registers than fit.
    #[cold]
    fn push_wide(&mut self, mut step: Step, mut sources: u64, destinations: u64) {
        let mut between = 0;
        while (sources | between).count_ones() > 4 {
            let (mut merged, rest) = lowest::<4>(sources);
            if between == 0 {
                sources = rest;
            } else {
                let (three, rest) = lowest::<3>(sources);
                sources = rest;
                merged = [three[0], three[1], three[2], register::BETWEEN_NUMBER];
            }
            between = register::BETWEEN;
            self.batch.steps.push(Step { sources: merged, destinations: lowest(between).0, ..plain(Kind::Merge) });
        }
        step.sources = lowest(sources | between).0;
        if destinations.count_ones() <= 3 {
            step.destinations = lowest(destinations).0;
            self.batch.steps.push(step);
            return;
        }
        step.destinations = lowest(register::BETWEEN).0;
        self.batch.steps.push(step);
        let mut left = destinations;
        while left != 0 {
            let (destinations, rest) = lowest(left);
            left = rest;
            let sources = lowest(register::BETWEEN).0;
            self.batch.steps.push(Step { sources, destinations, ..plain(Kind::Merge) });
        }
    }

    /// Adds one reference; false where there is no such access.
    fn reference(&mut self, op: &Op, index: usize, rest: &mut Rest<'_>, common: &mut Common) -> bool {
        let all = rest.all;
        let (Some(access), Some(served)) = (all.accesses.get(index), all.served.get(index)) else { return false };
        let line = Line { address: access.address, object: served.object.0, near: false, modes: 0 };
        let mut reference = near(line);
        reference.translation = match served.tlb {
            Tlb::L1 => Translation::Near,
            Tlb::L2 => Translation::Second,
            Tlb::Walk => Translation::Walk,
        };
        self.batch.worst += u64::from(common.scale.worst_reference);
        self.place(op, access, served, &mut reference, common);
        self.moved(index, &mut reference, rest, common);
        if let Some((access, number)) = all.observed.get(rest.observed)
            && *access as usize == index
        {
            reference.observed = *number;
            rest.observed += 1;
        }
        if access.store {
            self.stored.store(access.address, access.bytes);
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

/// By how much the operations of a block can let times grow, without their references.
fn growth(block: &Block, common: &Common) -> u64 {
    u64::from(common.scale.worst_operation) * block.ops.len() as u64
}

/// Whether the stack engine handles an operation's stack pointer, if it changes it.
fn stack(class: Class) -> bool {
    matches!(class, Class::Move | Class::CallDirect | Class::CallIndirect | Class::Return)
}

/// The numbers of the lowest registers of a set, [`register::NONE`] where there are fewer; and the set without them.
#[inline(always)]
fn lowest<const N: usize>(mut set: u64) -> ([u8; N], u64) {
    let mut numbers = [0; N];
    for number in &mut numbers {
        *number = set.trailing_zeros() as u8;
        set &= set.wrapping_sub(1);
    }
    (numbers, set)
}

/// The step of an operation of each class, without its registers.
pub(crate) fn templates(scale: &Scale) -> [Step; CLASSES] {
    ALL_CLASSES.map(|class| {
        let cost = cost(class);
        Step {
            order: match class {
                Class::Atomic => Order::Stores,
                Class::Fence | Class::Serialising => Order::All,
                _ => Order::Free,
            },
            port: cost.port,
            dispatch: scale.dispatch.min(255) as u8,
            latency: u32::from(cost.latency) * scale.cycle,
            busy: scale.interval[cost.port as usize] * u32::from(cost.busy),
            branches: class.is_branch(),
            ..plain(Kind::Plain)
        }
    })
}

fn plain(kind: Kind) -> Step {
    Step {
        kind,
        order: Order::Free,
        port: Port::None,
        dispatch: 0,
        sources: [register::NONE; 4],
        addresses: [register::NONE; 3],
        destinations: [register::NONE; 3],
        loads: 0,
        stores: 0,
        latency: 0,
        busy: 0,
        branches: false,
        first: 0,
    }
}

fn near(line: Line) -> Reference {
    Reference {
        place: Place::Near,
        translation: Translation::Near,
        awaited: false,
        fetched: false,
        observed: UNOBSERVED,
        slot: 0,
        ring: 0,
        moves: 0,
        first_move: 0,
        line,
    }
}

/// So that the sets above are those of the blocks.
const _: () = assert!(Registers::general(4).0 == STACK_POINTER && Registers::COUNT <= 59);
