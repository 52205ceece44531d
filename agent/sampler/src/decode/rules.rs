//! The rules that turn a sample into an access, in order.
//!
//! A timer interrupt is taken between instructions, and the processor retires them in order. While a load waits for memory,
//! it is the oldest that has not retired; the interrupt is taken right after it does. So the sampled ip is that of the
//! *next* instruction, and the one waited for is the one executed before: measured, 97 to 99.9 % of the samples of
//! a hot loop. Hence:
//!
//! 1. A sample in the kernel says nothing of retirement: the instruction at the user ip caused the fault, if it was one.
//! 2. A repeated string instruction is interrupted with the ip still on it.
//! 3. Otherwise it is the instruction before, along the control flow; at the head of a loop that is the loop's end. One
//!    without memory operand did not wait for memory itself, and the walk goes on, but not past a call.
//!    A store is not waited for, it goes to a buffer; when stores that miss have filled that, the next store waits, and
//!    if that is one to the stack frame, which never misses, the store before it is to blame.
//! 4. If the address cannot be had from the registers because the access itself overwrote them, then from
//!    what survived: either side of a conditional copy, or the other register, if that points into a known object;
//!    what can be read again from memory; the loaded pointer, which is the next node of the structure that is being
//!    followed.
//! 5. Failing all that, the sampled instruction itself, unless it is a store and a load came before it; or the call or
//!    return that led to it.

use rustc_hash::FxHashMap;

use super::access::{Access, AccessKind, Quality, Rule};
use super::code::Code;
use super::flow::Flow;
use super::instruction::{Effect, Instruction, Operand, RSP};
use super::path::Path;
use super::slice::Slice;
use crate::perf::{RawSample, Registers};

/// Instructions walked back in search of an access.
const MOST_BACK: usize = 24;
/// Instructions between a store that fills the store buffer and the one that waits for room in it.
const MOST_BUFFERED: usize = 8;

/// What the rules look at.
pub(super) struct Question<'s, 'c, 'k> {
    pub(super) sample: &'s RawSample,
    pub(super) registers: &'s Registers,
    pub(super) code: &'c mut dyn Code,
    pub(super) known: &'k dyn Fn(u64) -> bool,
    pub(super) recollection: &'k mut Recollection,
}

/// Pointers that were found in stack frames and proved right, by the instruction that went through them.
///
/// A frame is soon another function's, but when the function runs again its variables mostly point to the same things.
#[derive(Default)]
pub(super) struct Recollection(FxHashMap<u64, Vec<u64>>);

impl Recollection {
    /// Threads and objects that one instruction alternates between.
    const MOST_POINTERS: usize = 8;
    const MOST_INSTRUCTIONS: usize = 1 << 16;

    fn of(&self, instruction: u64) -> Vec<u64> {
        self.0.get(&instruction).cloned().unwrap_or_default()
    }

    /// The latest comes first.
    fn add(&mut self, instruction: u64, pointer: u64) {
        if self.0.len() >= Self::MOST_INSTRUCTIONS {
            self.0.clear();
        }
        let pointers = self.0.entry(instruction).or_default();
        pointers.retain(|&known| known != pointer);
        pointers.insert(0, pointer);
        pointers.truncate(Self::MOST_POINTERS);
    }
}

/// Without code or registers only a fault has an address.
pub(super) fn unreadable(sample: &RawSample) -> Access {
    match sample.address {
        Some(address) => {
            Access { address: Some(address), quality: Quality::Exact, rule: Rule::Fault, ..Access::nothing(sample.ip) }
        }
        None => Access::nothing(sample.ip),
    }
}

impl Question<'_, '_, '_> {
    pub(super) fn answer(&mut self, flow: &Flow, at: u32, sampled: &Instruction) -> Access {
        if let Some(address) = self.sample.address {
            let kind = sampled.memory.map_or(AccessKind::Unknown, |operand| operand.kind);
            let kind = if self.sample.kernel { AccessKind::Unknown } else { kind };
            let bytes = sampled.memory.map_or(0, |operand| operand.bytes);
            let access = Access { kind, bytes, rule: Rule::Fault, ..Access::nothing(sampled.address) };
            return Access { address: Some(address), quality: Quality::Exact, ..access };
        }
        if self.sample.kernel {
            let before = at.checked_sub(1).and_then(|before| flow.get(before));
            let in_system_call = before.is_some_and(|before| before.system_call);
            return match sampled.memory {
                Some(_) if !in_system_call => self.at_sample(sampled, Rule::Kernel, Quality::Exact),
                _ => Access::nothing(sampled.address),
            };
        }
        if sampled.repeated {
            return self.at_sample(sampled, Rule::RepeatedString, Quality::Exact);
        }
        let mut path = Path::new(flow, at, self.registers.flags);
        let (mut unaddressed, mut called) = (None, false);
        for step in 0..MOST_BACK {
            let Some(instruction) = path.step(step) else { break };
            if instruction.is_call() || instruction.system_call {
                called = instruction.is_call();
                break;
            }
            let Some(operand) = self.choose(instruction, |question, operand| {
                question.evaluate(&mut path, operand, step, instruction, false).0
            }) else {
                continue;
            };
            let access = match self.buffered_store(&mut path, &operand, step) {
                Some((instruction, operand, step)) => {
                    let access = self.predecessor(&mut path, instruction, operand, step);
                    Access { quality: access.quality.max(Quality::Approximate), rule: Rule::StoreBuffer, ..access }
                }
                None => self.predecessor(&mut path, instruction, operand, step),
            };
            let out_of_reach = operand.thread_local && access.address.is_none();
            if access.address.is_some() {
                return access;
            }
            unaddressed.get_or_insert(access);
            if !out_of_reach {
                break;
            }
        }
        // A store is not waited for, the less so where there was a load to wait for, wherever that was from.
        let waited_to_load = unaddressed.is_some_and(|access| access.kind == AccessKind::Load);
        if sampled.memory.is_some_and(|operand| !waited_to_load || operand.kind == AccessKind::Load) {
            let access = self.at_sample(sampled, Rule::Sampled, Quality::Approximate);
            if access.address.is_some() {
                return access;
            }
        }
        let entered = path.step(0).is_none() && at == 0;
        if unaddressed.is_none() && (called || entered) {
            return self.call_or_return(sampled, called);
        }
        unaddressed.unwrap_or_else(|| Access::nothing(sampled.address))
    }

    /// The operand of an instruction that accesses memory: of two, that which lies in a known object, and if both do,
    /// one for half of the samples and the other for the rest.
    fn choose(
        &mut self,
        instruction: &Instruction,
        mut address: impl FnMut(&mut Self, &Operand) -> Option<u64>,
    ) -> Option<Operand> {
        let first = instruction.memory?;
        let Some(second) = instruction.second else { return Some(first) };
        let [first_known, second_known] =
            [first, second].map(|operand| address(self, &operand).is_some_and(|address| (self.known)(address)));
        // The parity of all bits of the time: its lowest alone need not be fair on a coarse clock.
        let coin = self.sample.time_ns.count_ones().is_multiple_of(2);
        let take_first = if first_known == second_known { coin } else { first_known };
        Some(if take_first { first } else { second })
    }

    /// The access of the sampled instruction, in the sampled registers.
    fn at_sample(&mut self, sampled: &Instruction, rule: Rule, quality: Quality) -> Access {
        let registers = self.registers;
        let thread_pointer = self.code.thread_pointer(self.sample.tid);
        let evaluate = |operand: &Operand| {
            let value = |part: Option<u8>| part.map_or(0, |part| registers.general[usize::from(part & 15)]);
            let segment = if operand.thread_local { thread_pointer? } else { 0 };
            let address = operand.address(value(operand.base), value(operand.index)).wrapping_add(segment);
            (!operand.gathers).then_some(address)
        };
        let Some(operand) = self.choose(sampled, |_, operand| evaluate(operand)) else {
            return Access::nothing(sampled.address);
        };
        let address = evaluate(&operand);
        let mut access = described(sampled, &operand, operand.base == Some(RSP));
        access.rule = rule;
        access.address = address;
        if address.is_some() {
            access.quality = quality;
        }
        access
    }

    /// The access of the instruction `step` steps back.
    fn predecessor(&mut self, path: &mut Path<'_>, instruction: &Instruction, operand: Operand, step: usize) -> Access {
        let (exact, on_stack, dependent) = self.evaluate(path, &operand, step, instruction, true);
        let mut access = described(instruction, &operand, on_stack);
        access.dependent = dependent;
        let found = match exact {
            Some(address) => {
                let certain = !path.guessed && !instruction.repeated;
                let quality = if certain { Quality::Exact } else { Quality::Approximate };
                Some((address, quality, Rule::Predecessor))
            }
            None => self
                .either(path, &operand, step)
                .map(|address| (address, Rule::Predecessor))
                .or_else(|| Some((self.surviving(path, &operand, step)?, Rule::SurvivingRegister)))
                .or_else(|| Some((self.reread(path, instruction, &operand, step)?, Rule::Reread)))
                .or_else(|| Some((self.next_node(path, instruction, &operand, step)?, Rule::NextNode)))
                .map(|(address, rule)| (address, Quality::Approximate, rule)),
        };
        if let Some((address, quality, rule)) = found {
            access.address = Some(address);
            access.quality = quality;
            access.rule = rule;
        }
        access
    }

    /// The address from registers alone; whether it is in the stack frame; and, if asked, whether it depends on a load.
    fn evaluate(
        &mut self,
        path: &mut Path<'_>,
        operand: &Operand,
        step: usize,
        instruction: &Instruction,
        dependence: bool,
    ) -> (Option<u64>, bool, bool) {
        let thread_pointer = self.code.thread_pointer(self.sample.tid);
        let mut slice = Slice::new(path, self.registers, thread_pointer, None);
        let address = match operand.base {
            // String instructions step their registers: what was accessed last lies one element before.
            Some(base) if instruction.string => {
                slice.after(base, step).map(|after| after.wrapping_sub(u64::from(operand.bytes)))
            }
            _ => slice.address(operand, step),
        };
        let on_stack = slice.on_stack(operand);
        let own = matches!(instruction.effect, Effect::Load { .. }).then(|| instruction.effect.to()).flatten();
        let dependent = dependence
            && [operand.base, operand.index].into_iter().flatten().any(|part| slice.dependent(part, own, step + 1, 0));
        (address, on_stack, dependent)
    }

    /// The address by one or the other side of a conditional copy, whichever is known.
    fn either(&mut self, path: &mut Path<'_>, operand: &Operand, step: usize) -> Option<u64> {
        let thread_pointer = self.code.thread_pointer(self.sample.tid);
        [false, true].into_iter().find_map(|guess| {
            let mut slice = Slice::new(path, self.registers, thread_pointer, None);
            slice.guess = Some(guess);
            slice.address(operand, step).filter(|&address| (self.known)(address))
        })
    }

    /// Where one of base and index is lost, or the index is a vector: the other may do.
    fn surviving(&mut self, path: &mut Path<'_>, operand: &Operand, step: usize) -> Option<u64> {
        let (base, index) = Slice::new(path, self.registers, None, None).parts(operand, step);
        let index = index.filter(|_| operand.scale == 1);
        let fixed = (operand.base.is_none() && operand.displacement != 0).then_some(0);
        let candidates = [base, index, fixed].into_iter().flatten();
        candidates.map(|part| part.wrapping_add(operand.displacement)).find(|&address| (self.known)(address))
    }

    /// If the access at `step` is a store to the stack frame: the store to elsewhere before it.
    fn buffered_store<'f>(
        &self,
        path: &mut Path<'f>,
        operand: &Operand,
        step: usize,
    ) -> Option<(&'f Instruction, Operand, usize)> {
        let on_stack =
            |path: &mut Path<'_>, operand: &Operand| Slice::new(path, self.registers, None, None).on_stack(operand);
        let is_store = |operand: &Operand| operand.kind != AccessKind::Load;
        if path.step(step)?.stack_delta != 0 || !is_store(operand) || !on_stack(path, operand) {
            return None;
        }
        for earlier in step + 1..=step + MOST_BUFFERED {
            let instruction = path.step(earlier)?;
            if instruction.is_call() {
                return None;
            }
            if let Some(operand) = instruction.memory
                && instruction.second.is_none()
                && is_store(&operand)
                && !operand.thread_local
                && !on_stack(path, &operand)
            {
                return Some((instruction, operand, earlier));
            }
        }
        None
    }

    /// The address computed again with what memory holds now.
    ///
    /// If that includes the stack frame, which soon is another function's, then only if the address still holds what
    /// the sampled access loaded from it; and if it does not, the pointers that proved right before are tried.
    fn reread(
        &mut self,
        path: &mut Path<'_>,
        instruction: &Instruction,
        operand: &Operand,
        step: usize,
    ) -> Option<u64> {
        let thread_pointer = self.code.thread_pointer(self.sample.tid);
        let mut slice = Slice::new(path, self.registers, thread_pointer, Some(&mut *self.code));
        let fresh = slice.address(operand, step).filter(|&address| (self.known)(address));
        let Some(frame_value) = slice.frame_value else { return fresh };
        let Effect::Load { to, extension } = instruction.effect else { return fresh };
        let Some(loaded) = slice.after(to, step) else { return fresh };
        if let Some(address) = fresh
            && slice.read(address, extension) == Some(loaded)
        {
            self.recollection.add(instruction.address, frame_value);
            return fresh;
        }
        for pointer in self.recollection.of(instruction.address) {
            slice.substitute = Some(pointer);
            if let Some(address) = slice.address(operand, step)
                && (self.known)(address)
                && slice.read(address, extension) == Some(loaded)
            {
                self.recollection.add(instruction.address, pointer);
                return Some(address);
            }
        }
        None
    }

    /// If the access replaced the pointer that it went through by the one it found there: that one.
    fn next_node(
        &mut self,
        path: &mut Path<'_>,
        instruction: &Instruction,
        operand: &Operand,
        step: usize,
    ) -> Option<u64> {
        let Effect::Load { to, .. } = instruction.effect else { return None };
        if operand.base != Some(to) && operand.index != Some(to) {
            return None;
        }
        let loaded = Slice::new(path, self.registers, None, None).after(to, step)?;
        [loaded.wrapping_add(operand.displacement), loaded].into_iter().find(|&address| (self.known)(address))
    }

    /// The first instruction of a function comes after a call, which pushed the return address; an instruction after
    /// a call comes after a return, which popped it.
    fn call_or_return(&self, sampled: &Instruction, returned: bool) -> Access {
        let stack_pointer = self.registers.general[usize::from(RSP)];
        let (address, kind) = match returned {
            true => (stack_pointer.wrapping_sub(8), AccessKind::Load),
            false => (stack_pointer, AccessKind::Store),
        };
        Access {
            address: Some(address),
            kind,
            bytes: 8,
            quality: Quality::Approximate,
            rule: Rule::CallOrReturn,
            stack_relative: true,
            ..Access::nothing(sampled.address)
        }
    }
}

fn described(instruction: &Instruction, operand: &Operand, stack_relative: bool) -> Access {
    Access {
        kind: operand.kind,
        bytes: operand.bytes,
        stack_relative,
        thread_local: operand.thread_local,
        ..Access::nothing(instruction.address)
    }
}

#[cfg(test)]
mod tests;
