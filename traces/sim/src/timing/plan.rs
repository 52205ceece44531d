//! What is the same in all executions of a block: its steps, worked out once.
//!
//! Most operations of most executions have no access, or one that the first-level cache serves: for those the steps are copied as
//! they are. What an access changes of its operation's step is put in afterwards (`front.rs`).
//!
//! A result that a later operation of the block replaces before anything reads it is not written: blocks are straight code, so
//! nobody can tell. Flags are the most of these.

use super::predictor::Ending;
use super::scale::Scale;
use super::step::{Batch, Kind, Order, Step, register};
use super::units::{ALL_CLASSES, CLASSES, Port, cost};
use crate::block::{Block, Class, Op, Registers};
use crate::machine::Units;

const GENERAL: u64 = 0xffff;
const VECTORS: u64 = ((1 << 56) - 1) & !GENERAL;
const STACK_POINTER: u64 = 1 << 4;

/// An operation of a plan.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Planned {
    /// Its step, from the first of the block; others of the same operation lie around it.
    pub(crate) step: u16,
    /// Operations of the block up to and with it that take a place in the reorder buffer.
    pub(crate) rank: u16,
    /// Ticks that its result is later when it loads.
    pub(crate) loading: u32,
}

/// A block, planned.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) steps: Box<[Step]>,
    pub(crate) ops: Box<[Planned]>,
    /// Operations that take a place in the reorder buffer.
    pub(crate) operations: u64,
    /// By how much its operations can let times grow, without their references.
    pub(crate) growth: u64,
    /// Its last operation as a branch: the kind, its address, and what follows it.
    pub(crate) ending: Option<(Ending, u64, u64)>,
    /// It has a string instruction, whose steps depend on its accesses.
    pub(crate) repeats: bool,
}

/// The step of an operation of each class, without its registers.
pub(crate) type Templates = [Step; CLASSES];

impl Plan {
    pub(crate) fn new(block: &Block, templates: &Templates, scale: &Scale) -> Self {
        let mut batch = Batch::default();
        let mut ops = Vec::with_capacity(block.ops.len());
        let mut rank = 0;
        for (index, op) in block.ops.iter().enumerate() {
            rank += u16::from(!op.fused);
            let accesses = op.loads > 0 || op.stores > 0;
            let (step, destinations) = operation(block, index, op, accesses, templates, scale);
            let step = batch.push(step, op.sources.0, destinations) as u16;
            ops.push(Planned { step, rank, loading: loading(op, destinations, scale) });
        }
        forget_dead(&mut batch.steps);
        Self {
            steps: batch.steps.into(),
            ops: ops.into(),
            operations: u64::from(rank),
            growth: u64::from(scale.worst_operation) * block.ops.len() as u64,
            ending: ending(block),
            repeats: block.ops.iter().any(|op| op.class == Class::Repeat),
        }
    }
}

/// How a block ends, if by a branch that can be guessed wrong.
pub(crate) fn ending(block: &Block) -> Option<(Ending, u64, u64)> {
    let op = block.ops.last()?;
    let ending = match op.class {
        Class::BranchConditional => Ending::Conditional,
        Class::BranchIndirect => Ending::Indirect,
        Class::CallIndirect => Ending::CallIndirect,
        Class::CallDirect => Ending::Call,
        Class::Return => Ending::Return,
        _ => return None,
    };
    let follows = block.address.wrapping_add(u64::from(block.bytes));
    Some((ending, block.address.wrapping_add(u64::from(op.offset)), follows))
}

/// An operation's step, and what it writes, if it accesses memory or if it does not.
pub(crate) fn operation(
    block: &Block,
    index: usize,
    op: &Op,
    accesses: bool,
    templates: &Templates,
    scale: &Scale,
) -> (Step, u64) {
    if op.fused && !accesses {
        // Executed with the comparison before it.
        return (plain(Kind::Merge), op.destinations.0 | register::BRANCH);
    }
    let mut step = templates[class_on(scale.units, op) as usize];
    if block.ops.get(index + 1).is_some_and(|next| next.fused) {
        (step.port, step.busy) = (Port::Branch, scale.interval[Port::Branch as usize]);
    }
    step.addresses = addresses(op);
    let mut destinations = op.destinations.0 | if step.branches { register::BRANCH } else { 0 };
    if accesses && op.address_sources.0 & STACK_POINTER != 0 && stack(op.class) {
        // The stack engine knows the stack pointer when the operation is renamed (Fog, Microarchitecture, 2023, on all cores).
        destinations &= !STACK_POINTER;
    }
    (step, destinations)
}

/// What an operation is where moves between general registers are not done by renaming: Intel switched that off in Ice Lake (erratum
/// ICL065).
fn class_on(units: Units, op: &Op) -> Class {
    let moves = op.class == Class::Eliminated && op.sources.0 & GENERAL != 0;
    if moves && units == Units::SunnyCove { Class::Integer } else { op.class }
}

/// Whether the stack engine handles an operation's stack pointer, if it changes it.
fn stack(class: Class) -> bool {
    matches!(class, Class::Move | Class::CallDirect | Class::CallIndirect | Class::Return)
}

/// Registers that an operation's addresses are computed from.
pub(crate) fn addresses(op: &Op) -> [u8; 3] {
    lowest(op.address_sources.0).0
}

/// Ticks that the result of an operation that writes these is later when it loads.
pub(crate) fn loading(op: &Op, destinations: u64, scale: &Scale) -> u32 {
    if destinations & VECTORS != 0 && op.loads > 0 { scale.vector_load } else { 0 }
}

/// Takes results away that nobody can read: those that the same steps write again before they read them.
fn forget_dead(steps: &mut [Step]) {
    let mut dead = 0_u128;
    for step in steps.iter_mut().rev() {
        for destination in &mut step.destinations {
            let bit = 1 << *destination;
            if *destination < register::SINK && dead & bit != 0 {
                *destination = register::SINK;
            } else {
                dead |= bit;
            }
        }
        step.destinations.sort_unstable();
        for source in step.sources.into_iter().chain(step.addresses) {
            dead &= !(1 << source);
        }
    }
}

impl Batch {
    /// Adds the step of an operation with its registers. Returns its place among the steps.
    #[inline]
    pub(crate) fn push(&mut self, step: Step, sources: u64, destinations: u64) -> usize {
        let (four, more_sources) = lowest::<4>(sources);
        let (three, more_destinations) = written(destinations);
        if more_sources | more_destinations != 0 {
            return self.push_wide(step, sources, destinations);
        }
        self.steps.push(Step { sources: four, destinations: three, ..step });
        self.steps.len() - 1
    }

    /// Adds a step with others before and after it, as it has more registers than fit.
    #[cold]
    fn push_wide(&mut self, mut step: Step, mut sources: u64, destinations: u64) -> usize {
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
            self.steps.push(Step { sources: merged, destinations: written(between).0, ..plain(Kind::Merge) });
        }
        step.sources = lowest(sources | between).0;
        let at = self.steps.len();
        if destinations.count_ones() <= 3 {
            step.destinations = written(destinations).0;
            self.steps.push(step);
            return at;
        }
        step.destinations = written(register::BETWEEN).0;
        self.steps.push(step);
        let mut left = destinations;
        while left != 0 {
            let (destinations, rest) = written(left);
            left = rest;
            let sources = lowest(register::BETWEEN).0;
            self.steps.push(Step { sources, destinations, ..plain(Kind::Merge) });
        }
        at
    }
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

/// The same for what is written, [`register::SINK`] where there are fewer.
#[inline(always)]
fn written(set: u64) -> ([u8; 3], u64) {
    let (numbers, rest) = lowest(set);
    (numbers.map(|number| if number == register::NONE { register::SINK } else { number }), rest)
}

/// The step of an operation of each class, without its registers.
pub(crate) fn templates(scale: &Scale) -> Templates {
    ALL_CLASSES.map(|class| {
        let cost = cost(scale.units, class);
        let (kind, order) = match class {
            Class::Atomic => (Kind::Ordered, Order::Stores),
            Class::Fence | Class::Serialising => (Kind::Ordered, Order::All),
            _ => (Kind::Plain, Order::Free),
        };
        Step {
            order,
            port: cost.port,
            dispatch: scale.dispatch.min(255) as u8,
            latency: u32::from(cost.latency) * scale.cycle,
            busy: scale.interval[cost.port as usize] * u32::from(cost.busy),
            branches: class.is_branch(),
            ..plain(kind)
        }
    })
}

/// A step that does nothing.
pub(crate) fn plain(kind: Kind) -> Step {
    Step {
        kind,
        order: Order::Free,
        port: Port::None,
        dispatch: 0,
        sources: [register::NONE; 4],
        addresses: [register::NONE; 3],
        destinations: [register::SINK; 3],
        loads: 0,
        stores: 0,
        latency: 0,
        busy: 0,
        branches: false,
        first: 0,
    }
}

/// So that the sets above are those of the blocks.
const _: () = assert!(Registers::general(4).0 == STACK_POINTER && Registers::COUNT <= 59);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Machine;

    fn planned(ops: &[Op]) -> Plan {
        let scale = Scale::new(&Machine::default());
        Plan::new(&Block { ops: ops.into(), ..Block::default() }, &templates(&scale), &scale)
    }

    fn op(class: Class, sources: Registers, destinations: Registers) -> Op {
        Op { class, sources, destinations, ..Op::default() }
    }

    #[test]
    fn what_is_written_again_before_it_is_read_is_written_once() {
        let (a, b) = (Registers::general(0), Registers::general(1));
        let adds = op(Class::Integer, a, a | Registers::FLAGS);
        let jumps = op(Class::BranchConditional, Registers::FLAGS, Registers::NONE);
        let plan = planned(&[adds, op(Class::Integer, b, b), adds, jumps, op(Class::Integer, a, b)]);
        let written = |step: &Step| step.destinations.into_iter().filter(|n| *n != register::SINK).collect::<Vec<_>>();
        let all: Vec<Vec<u8>> = plan.steps.iter().map(written).collect();
        assert_eq!(all, [vec![0], vec![], vec![0, 56], vec![59], vec![1]]);
    }

    #[test]
    fn a_comparison_and_its_jump_are_one_operation() {
        let compares = op(Class::Integer, Registers::general(0), Registers::FLAGS);
        let jumps = Op { fused: true, ..op(Class::BranchConditional, Registers::FLAGS, Registers::NONE) };
        let plan = planned(&[compares, jumps]);
        assert_eq!((plan.operations, plan.steps[0].port, plan.steps[1].kind), (1, Port::Branch, Kind::Merge));
        assert_eq!(plan.steps[1].destinations[0], register::BRANCH_NUMBER as u8);
    }

    #[test]
    fn operations_with_many_registers_take_several_steps() {
        let many = Registers((1 << 9) - 1);
        let plan = planned(&[op(Class::Integer, many, many), op(Class::Integer, many, Registers::NONE)]);
        let at: Vec<u16> = plan.ops.iter().map(|op| op.step).collect();
        assert!(at[0] > 0 && at[1] > at[0] + 1);
        assert!(at.iter().all(|at| plan.steps[usize::from(*at)].kind == Kind::Plain));
    }
}
