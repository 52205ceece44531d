//! What a register held some steps before the sample.
//!
//! The sample has the registers as they were *after* the access, and the code in between may have changed them. Two ways
//! lead back to a value:
//!
//! * forwards: nothing since then changed the register, or only changes that can be undone (adding and subtracting
//!   what is known, pushing and popping);
//! * backwards: the instruction that last set it, further back still, computed it from registers whose values then can be
//!   found in turn. A compiler's address arithmetic is short, so this ends soon or not at all. Which way a conditional
//!   copy went the sampled flags say, if they are still the same; else it is for the caller to try both.
//!
//! A loaded value can be followed through a stack slot to the register that was stored there. Beyond that it takes
//! reading memory, which is no longer what it was at the time of the sample: allowed only if asked for, and
//! noted in `reread`.

use super::access::AccessKind;
use super::code::Code;
use super::instruction::{Arithmetic, Effect, Extension, Gpr, Instruction, Operand, RBP, RSP, Right};
use super::path::{Path, holds};
use crate::perf::Registers;

/// Nesting of values computed from values.
const MOST_DEPTH: u32 = 8;
/// Instructions looked at for one address.
const MOST_WORK: u32 = 1000;
/// A frame pointer is no further above the stack pointer than this; a general register in its place mostly is.
pub(super) const LARGEST_FRAME_BYTES: u64 = 1 << 20;

pub(super) struct Slice<'a, 'p, 'c> {
    path: &'p mut Path<'a>,
    registers: &'p Registers,
    /// The base of `fs`, where known.
    thread_pointer: Option<u64>,
    /// Where to read data from, if that is allowed.
    data: Option<&'c mut dyn Code>,
    work: u32,
    /// What a slot of the stack frame held when it was read again; it may be another frame's by now.
    pub(super) frame_value: Option<u64>,
    /// Which way a conditional copy is taken to have gone where the flags no longer say.
    pub(super) guess: Option<bool>,
    /// To be taken for what the slot held.
    pub(super) substitute: Option<u64>,
}

impl<'a, 'p, 'c> Slice<'a, 'p, 'c> {
    pub(super) fn new(
        path: &'p mut Path<'a>,
        registers: &'p Registers,
        thread_pointer: Option<u64>,
        data: Option<&'c mut dyn Code>,
    ) -> Self {
        Slice { path, registers, thread_pointer, data, work: 0, frame_value: None, guess: None, substitute: None }
    }

    /// The address of `operand` of the instruction at `step`, as that computed it.
    pub(super) fn address(&mut self, operand: &Operand, step: usize) -> Option<u64> {
        self.address_within(operand, step, 0)
    }

    /// The parts of the address that can be had: base, and index times scale.
    pub(super) fn parts(&mut self, operand: &Operand, step: usize) -> (Option<u64>, Option<u64>) {
        let base = operand.base.map(|base| self.before(base, step, 0));
        let index = operand.index.map(|index| self.before(index, step, 0));
        (base.flatten(), index.flatten())
    }

    /// What `register` held right after the instruction at `step`.
    pub(super) fn after(&mut self, register: Gpr, step: usize) -> Option<u64> {
        match step.checked_sub(1) {
            Some(later) => self.undo(register, later, 0),
            None => Some(self.registers.general[usize::from(register & 15)]),
        }
    }

    /// Whether the operand lies in the stack frame, as far as its registers tell.
    pub(super) fn on_stack(&self, operand: &Operand) -> bool {
        let [rsp, rbp] = [RSP, RBP].map(|register| self.registers.general[usize::from(register)]);
        let frame_pointer = rbp.wrapping_sub(rsp) < LARGEST_FRAME_BYTES;
        operand.index.is_none() && (operand.base == Some(RSP) || operand.base == Some(RBP) && frame_pointer)
    }

    fn address_within(&mut self, operand: &Operand, step: usize, depth: u32) -> Option<u64> {
        if operand.gathers {
            return None;
        }
        let segment = if operand.thread_local { self.thread_pointer? } else { 0 };
        let base = operand.base.map_or(Some(0), |base| self.before(base, step, depth))?;
        let index = operand.index.map_or(Some(0), |index| self.before(index, step, depth))?;
        Some(operand.address(base, index).wrapping_add(segment))
    }

    /// What `register` held right before the instruction at `step`.
    fn before(&mut self, register: Gpr, step: usize, depth: u32) -> Option<u64> {
        if depth > MOST_DEPTH || self.work > MOST_WORK {
            return None;
        }
        self.undo(register, step, depth).or_else(|| self.computed(register, step + 1, depth))
    }

    /// Forwards: from the sampled value back over the instructions `0..=step`.
    fn undo(&mut self, register: Gpr, step: usize, depth: u32) -> Option<u64> {
        let mut value = self.registers.general[usize::from(register & 15)];
        for at in 0..=step {
            self.work += 1;
            let instruction = self.path.step(at)?;
            if !instruction.changes(register) {
                continue;
            }
            if instruction.writes & 1 << register == 0 {
                value = value.wrapping_sub(i64::from(instruction.stack_delta).cast_unsigned());
            } else {
                value = self.undo_effect(instruction, register, value, at, depth)?;
            }
        }
        Some(value)
    }

    fn undo_effect(
        &mut self,
        instruction: &Instruction,
        register: Gpr,
        value: u64,
        at: usize,
        depth: u32,
    ) -> Option<u64> {
        let (previous, wide) = match instruction.effect {
            Effect::Arithmetic { to, operation, right, wide } if to == register => {
                let right = match right {
                    Right::Constant(constant) => constant,
                    Right::Register(other) if other != register => self.before(other, at, depth + 1)?,
                    Right::Register(_) => return None,
                };
                let previous = match operation {
                    Arithmetic::Add => value.wrapping_sub(right),
                    Arithmetic::Subtract => value.wrapping_add(right),
                    Arithmetic::Xor => value ^ right,
                    _ => return None,
                };
                (previous, wide)
            }
            Effect::Address { to, operand, wide } if to == register => {
                let other = match (operand.base, operand.index) {
                    (Some(base), None) if base == register => Some(0),
                    (Some(base), Some(index)) if base == register && index != register => {
                        let index = self.before(index, at, depth + 1)?;
                        Some(index.wrapping_mul(u64::from(operand.scale)))
                    }
                    (Some(base), Some(index)) if index == register && base != register && operand.scale == 1 => {
                        Some(self.before(base, at, depth + 1)?)
                    }
                    _ => None,
                };
                (value.wrapping_sub(operand.displacement).wrapping_sub(other?), wide)
            }
            _ => return None,
        };
        Some(if wide { previous } else { previous & 0xffff_ffff })
    }

    /// Backwards: what the last instruction to set `register`, at `step` or further back, made it.
    fn computed(&mut self, register: Gpr, step: usize, depth: u32) -> Option<u64> {
        let mut at = step;
        let mut pushed = 0u64;
        loop {
            self.work += 1;
            let instruction = self.path.step(at)?;
            if instruction.writes & 1 << register != 0 {
                let value = self.result(instruction, register, at, depth)?;
                return Some(value.wrapping_add(pushed));
            }
            if instruction.changes(register) {
                pushed = pushed.wrapping_add(i64::from(instruction.stack_delta).cast_unsigned());
            }
            at += 1;
        }
    }

    /// The value that the instruction at `at` gave to `register`.
    fn result(&mut self, instruction: &Instruction, register: Gpr, at: usize, depth: u32) -> Option<u64> {
        if instruction.effect.to() != Some(register) {
            return None;
        }
        match instruction.effect {
            Effect::None => None,
            Effect::Constant { value, .. } => Some(value),
            Effect::Copy { from, extension, .. } => Some(extension.apply(self.before(from, at, depth + 1)?)),
            Effect::Address { operand, wide, .. } => {
                let address = self.address_within(&operand, at, depth + 1)?;
                Some(if wide { address } else { address & 0xffff_ffff })
            }
            Effect::Arithmetic { to, operation, right, wide } => {
                let left = self.before(to, at, depth + 1)?;
                let right = match right {
                    Right::Constant(constant) => constant,
                    Right::Register(other) => self.before(other, at, depth + 1)?,
                };
                Some(calculate(operation, left, right, wide))
            }
            Effect::Choice { to, from, condition, wide } => {
                let copied = self.holds(condition, at).or(self.guess)?;
                let value = self.before(if copied { from } else { to }, at, depth + 1)?;
                Some(if wide { value } else { value & 0xffff_ffff })
            }
            Effect::Load { extension, .. } => self.loaded(instruction.memory?, extension, at, depth),
        }
    }

    /// Whether the condition held at step `at`; the sampled flags tell if they are still those of then.
    fn holds(&mut self, condition: u8, at: usize) -> Option<bool> {
        for later in 0..at {
            self.work += 1;
            if self.path.step(later)?.writes_flags {
                return None;
            }
        }
        Some(holds(condition, self.registers.flags))
    }

    /// What a load got: from the register stored to the same stack slot, or read again.
    fn loaded(&mut self, operand: Operand, extension: Extension, at: usize, depth: u32) -> Option<u64> {
        if self.on_stack(&operand)
            && let Some((register, store)) = self.stored(&operand, extension, at)
        {
            return self.before(register, store, depth + 1).map(|value| extension.apply(value));
        }
        self.data.as_ref()?;
        let address = self.address_within(&operand, at, depth + 1)?;
        if !self.on_stack(&operand) {
            return self.read(address, extension);
        }
        let value = match self.substitute {
            Some(value) => Some(extension.apply(value)),
            None => self.read(address, extension),
        };
        self.frame_value = value;
        value
    }

    /// What memory holds now, as a load would see it.
    pub(super) fn read(&mut self, address: u64, extension: Extension) -> Option<u64> {
        let mut bytes = [0; 8];
        let wanted = usize::from(extension.bytes.min(8));
        let read = self.data.as_deref_mut()?.read_data(address, &mut bytes[..wanted]);
        (read == wanted).then(|| extension.apply(u64::from_le_bytes(bytes)))
    }

    /// The register last stored to this stack slot before `at`, and the step of the store.
    fn stored(&mut self, slot: &Operand, extension: Extension, at: usize) -> Option<(Gpr, usize)> {
        let base = slot.base?;
        let mut step = at;
        loop {
            step += 1;
            self.work += 1;
            let instruction = self.path.step(step)?;
            if instruction.is_call() || instruction.changes(base) {
                return None;
            }
            let Some(memory) = instruction.memory else { continue };
            if memory.base != Some(base) || memory.index.is_some() || memory.kind == AccessKind::Load {
                continue;
            }
            if memory.displacement == slot.displacement {
                let register = instruction.stores?;
                return (memory.bytes >= u16::from(extension.bytes)).then_some((register, step));
            }
        }
    }

    /// Whether `register`, after the instruction at step `from`, came from a load other than of a stack slot or a constant.
    ///
    /// `own` is the register that the access itself loads: where nothing on the way sets that one, its last execution
    /// did, and the access chases its own result.
    pub(super) fn dependent(&mut self, register: Gpr, own: Option<Gpr>, from: usize, depth: u32) -> bool {
        for at in from.. {
            self.work += 1;
            if depth > MOST_DEPTH || self.work > MOST_WORK {
                break;
            }
            let Some(instruction) = self.path.step(at) else { return own == Some(register) };
            if instruction.is_call() {
                return false;
            }
            if instruction.writes & 1 << register == 0 {
                continue;
            }
            let loads = |memory: &Operand| memory.kind == AccessKind::Load && !self.on_stack(memory);
            if instruction.effect.to() != Some(register) {
                return instruction.memory.as_ref().is_some_and(loads);
            }
            return match instruction.effect {
                Effect::None | Effect::Constant { .. } => false,
                Effect::Copy { from, .. } => self.dependent(from, own, at + 1, depth + 1),
                Effect::Choice { to, from, .. } => {
                    self.dependent(from, own, at + 1, depth + 1) || self.dependent(to, own, at + 1, depth + 1)
                }
                Effect::Address { operand, .. } => [operand.base, operand.index]
                    .into_iter()
                    .flatten()
                    .any(|part| self.dependent(part, own, at + 1, depth + 1)),
                Effect::Arithmetic { to, right, .. } => {
                    let right = match right {
                        Right::Register(other) => self.dependent(other, own, at + 1, depth + 1),
                        Right::Constant(_) => false,
                    };
                    right || self.dependent(to, own, at + 1, depth + 1)
                }
                Effect::Load { extension, .. } => match instruction.memory {
                    Some(slot) if self.on_stack(&slot) => match self.stored(&slot, extension, at) {
                        Some((register, store)) => self.dependent(register, own, store + 1, depth + 1),
                        None => false,
                    },
                    // What lies at a fixed address is a variable, not a node that was just reached.
                    memory => memory.is_some_and(|memory| {
                        (memory.base.is_some() || memory.index.is_some()) && !self.is_same_each_time(&memory, at)
                    }),
                },
            };
        }
        false
    }

    /// Whether the load at `step` is in a loop that does not change what its address is made of: a pointer to an array that is
    /// loaded again in each turn, not a node that was just reached.
    fn is_same_each_time(&mut self, memory: &Operand, step: usize) -> bool {
        let Some(load) = self.path.step(step) else { return false };
        let mut instruction = load;
        for at in step + 1.. {
            let parts = [memory.base, memory.index];
            if instruction.is_call() || parts.into_iter().flatten().any(|part| instruction.changes(part)) {
                return false;
            }
            self.work += 1;
            instruction = match self.path.step(at) {
                Some(earlier) if self.work <= MOST_WORK => earlier,
                _ => return false,
            };
            // Both are of the same flow: one address, one instruction.
            if std::ptr::eq(instruction, load) {
                return true;
            }
        }
        false
    }
}

fn calculate(operation: Arithmetic, left: u64, right: u64, wide: bool) -> u64 {
    let count = (right & if wide { 63 } else { 31 }) as u32;
    let narrow = |value: u64| value & 0xffff_ffff;
    let value = match operation {
        Arithmetic::Add => left.wrapping_add(right),
        Arithmetic::Subtract => left.wrapping_sub(right),
        Arithmetic::And => left & right,
        Arithmetic::Or => left | right,
        Arithmetic::Xor => left ^ right,
        Arithmetic::Multiply => left.wrapping_mul(right),
        Arithmetic::ShiftLeft => left << count,
        Arithmetic::ShiftRight if wide => left >> count,
        Arithmetic::ShiftRight => narrow(left) >> count,
        Arithmetic::ShiftRightSigned if wide => (left.cast_signed() >> count).cast_unsigned(),
        Arithmetic::ShiftRightSigned => u64::from(((left as u32).cast_signed() >> count).cast_unsigned()),
    };
    if wide { value } else { narrow(value) }
}
