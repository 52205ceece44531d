//! From an executed block to steps: everything that is the same in all lanes, once.
//!
//! Which branch was mispredicted, which line was fetched a moment ago, which store a load overlaps, what the caches said: none of it
//! depends on where objects lie. The lanes get it as a batch of steps.

use super::Execution;
use super::lines::{Arriving, Rows, Stored};
use super::predictor::{Ending, Predictor};
use super::scale::Scale;
use super::step::{Batch, Kind, Line, Move, Order, Place, Reference, Step, Translation, UNOBSERVED, Why, register};
use super::units::{Port, REPEAT_BYTES, VECTOR_LOAD_CYCLES, cost};
use crate::block::{Access, Block, Class, Op, Registers};
use crate::memory_mode::MemoryMode;
use crate::served::{Level, Served, Tlb, TrafficKind};

/// Steps that are done together: enough that starting the lanes costs little beside them.
const STEPS: usize = 256;

/// Ticks by which the times of a lane may grow in one batch.
const GROWTH: u64 = 1 << 30;

/// What all fronts share.
#[derive(Debug)]
pub(crate) struct Common {
    pub(crate) scale: Scale,
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
        for (index, op) in execution.block.ops.iter().enumerate() {
            self.operation(index, op, &mut rest, common, flush);
            if self.batch.steps.len() >= STEPS || self.batch.worst >= GROWTH {
                flush(&mut self.batch, common);
            }
        }
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
        if op.class != Class::Repeat {
            self.one(op, from..to, rest, common);
            return;
        }
        // One iteration after the other, each with as many accesses as the instruction says.
        let each = (usize::from(op.loads) + usize::from(op.stores)).max(1);
        for start in (from..to).step_by(each) {
            self.one(op, start..to.min(start + each), rest, common);
            if self.batch.steps.len() >= STEPS || self.batch.worst >= GROWTH {
                flush(&mut self.batch, common);
            }
        }
    }

    /// An operation, or one iteration of it, with these accesses.
    fn one(&mut self, op: &Op, accesses: std::ops::Range<usize>, rest: &mut Rest<'_>, common: &mut Common) {
        let scale = &common.scale;
        let repeated = op.class == Class::Repeat;
        let cost = cost(op.class);
        let units = scale.interval[cost.port as usize];
        let mut destinations = op.destinations.0;
        let mut latency = u32::from(cost.latency) * scale.cycle;
        if repeated {
            // Counters and pointers are advanced by the string unit.
            destinations &= !GENERAL;
        } else if !accesses.is_empty() {
            if destinations & op.address_sources.0 & STACK_POINTER != 0 && stack(op.class) {
                // The stack engine knows the stack pointer when the operation is renamed (Fog, Microarchitecture, 2023, on all cores).
                destinations &= !STACK_POINTER;
            }
            if destinations & VECTORS != 0 && op.loads > 0 {
                latency += VECTOR_LOAD_CYCLES * scale.cycle;
            }
        }
        if op.class.is_branch() {
            destinations |= register::BRANCH;
        }
        let bytes = accesses.clone().filter_map(|n| rest.all.accesses.get(n)).map(|a| u32::from(a.bytes)).max();
        let dispatch = match bytes {
            Some(bytes) if repeated => (bytes * scale.cycle / REPEAT_BYTES).max(1),
            _ => scale.dispatch,
        };
        let mut step = Step {
            kind: match (accesses.is_empty(), repeated) {
                (true, _) => Kind::Plain,
                (false, false) => Kind::Memory,
                (false, true) => Kind::Iteration,
            },
            order: match op.class {
                Class::Atomic => Order::Stores,
                Class::Fence | Class::Serialising => Order::All,
                _ => Order::Free,
            },
            port: cost.port,
            dispatch: dispatch.min(255) as u8,
            latency,
            busy: units * u32::from(cost.busy),
            addresses: lowest(op.address_sources.0),
            first: self.batch.references.len() as u32,
            ..plain(Kind::Plain)
        };
        self.batch.worst += u64::from(scale.worst_operation);
        self.operations += u64::from(!repeated);
        if !accesses.is_empty() {
            let loads = accesses.clone().filter(|n| rest.all.accesses.get(*n).is_some_and(|access| !access.store));
            for n in loads {
                step.loads += u16::from(self.reference(op, n, rest, common));
            }
            for n in accesses.filter(|n| rest.all.accesses.get(*n).is_some_and(|access| access.store)) {
                step.stores += u16::from(self.reference(op, n, rest, common));
            }
        }
        self.push(step, op.sources.0, destinations);
    }

    /// Adds a step, with others before and after it if it has more registers than fit.
    fn push(&mut self, mut step: Step, mut sources: u64, destinations: u64) {
        let mut between = false;
        while sources.count_ones() + u32::from(between) > 4 {
            let mut merged = lowest::<4>(sources);
            if between {
                merged[3] = register::BETWEEN_NUMBER;
            }
            sources = without(sources, &merged);
            between = true;
            let destinations = written(register::BETWEEN);
            self.batch.steps.push(Step { sources: merged, destinations, ..plain(Kind::Merge) });
        }
        step.sources = lowest(sources | if between { register::BETWEEN } else { 0 });
        if destinations.count_ones() <= 3 {
            step.destinations = written(destinations);
            self.batch.steps.push(step);
            return;
        }
        step.destinations = written(register::BETWEEN);
        self.batch.steps.push(step);
        let mut rest = destinations;
        while rest != 0 {
            let destinations = written(rest);
            rest = without(rest, &destinations);
            let sources = lowest(register::BETWEEN);
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

/// Whether the stack engine handles an operation's stack pointer, if it changes it.
fn stack(class: Class) -> bool {
    matches!(class, Class::Move | Class::CallDirect | Class::CallIndirect | Class::Return)
}

/// The numbers of the lowest registers of a set; [`register::NONE`] where there are fewer.
fn lowest<const N: usize>(mut set: u64) -> [u8; N] {
    std::array::from_fn(|_| {
        let number = set.trailing_zeros() as u8;
        set &= set.wrapping_sub(1);
        number
    })
}

/// The same for what is written, [`register::UNREAD`] where there are fewer.
fn written(set: u64) -> [u8; 3] {
    lowest(set).map(|number| if number == register::NONE { register::UNREAD } else { number })
}

/// A set without these.
fn without(set: u64, numbers: &[u8]) -> u64 {
    numbers.iter().filter(|number| **number < 64).fold(set, |set, number| set & !(1 << number))
}

fn plain(kind: Kind) -> Step {
    Step {
        kind,
        order: Order::Free,
        port: Port::None,
        dispatch: 0,
        sources: [register::NONE; 4],
        addresses: [register::NONE; 3],
        destinations: written(0),
        loads: 0,
        stores: 0,
        latency: 0,
        busy: 0,
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
