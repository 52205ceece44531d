//! The way a thread came to the sampled instruction, walked backwards.
//!
//! A step back is forced inside a block and a choice at its start. The choice is by the order `flow` gives, but the
//! sample also tells something about it: as long as nothing on the way changed the flags, they still decide the
//! conditional jump that a way in depends on, and a way that they contradict was not taken.

use super::flow::{Flow, Way};
use super::instruction::{Instruction, Next};

/// Steps that are walked for finding an access and for recovering its registers.
const MOST_STEPS: usize = 64;

/// The instructions executed before the sampled one, the last executed first.
pub(super) struct Path<'a> {
    flow: &'a Flow,
    steps: Vec<u32>,
    start: u32,
    /// The sampled flags, as long as they say something about the way.
    flags: Option<u64>,
    complete: bool,
    /// A computed jump was followed that need not have been the one.
    pub(super) guessed: bool,
}

impl<'a> Path<'a> {
    /// Starts before instruction `start`, reached with `flags`.
    pub(super) fn new(flow: &'a Flow, start: u32, flags: u64) -> Self {
        Path { flags: Some(flags), ..Self::without_flags(flow, start) }
    }

    /// Starts before instruction `start`, whatever the flags were.
    pub(super) fn without_flags(flow: &'a Flow, start: u32) -> Self {
        Path { flow, steps: Vec::with_capacity(16), start, flags: None, complete: false, guessed: false }
    }

    /// The instruction `step` steps back; 0 is the one before the sampled one.
    pub(super) fn step(&mut self, step: usize) -> Option<&'a Instruction> {
        while self.steps.len() <= step {
            if self.complete || !self.extend() {
                self.complete = true;
                return None;
            }
        }
        self.flow.get(self.steps[step])
    }

    fn extend(&mut self) -> bool {
        if self.steps.len() >= MOST_STEPS {
            return false;
        }
        let from = self.steps.last().copied().unwrap_or(self.start);
        let mut ways = self.flow.before(from).filter(|way| self.possible(way.index, way.way)).peekable();
        let Some(way) = ways.next() else { return false };
        self.guessed |= way.way == Way::Computed && ways.peek().is_some();
        let Some(instruction) = self.flow.get(way.index) else { return false };
        if instruction.writes_flags {
            self.flags = None;
        }
        self.steps.push(way.index);
        true
    }

    /// Whether the flags allow that control came from there.
    fn possible(&self, index: u32, way: Way) -> bool {
        let (Some(flags), Some(instruction)) = (self.flags, self.flow.get(index)) else { return true };
        match instruction.next {
            Next::Branches { condition: Some(condition), .. } => holds(condition, flags) == (way != Way::Fall),
            _ => true,
        }
    }
}

/// Whether a condition, numbered as in opcodes, holds under these flags.
pub(super) fn holds(condition: u8, flags: u64) -> bool {
    let flag = |bit: u32| flags >> bit & 1 != 0;
    let (carry, parity, zero, sign, overflow) = (flag(0), flag(2), flag(6), flag(7), flag(11));
    let base = match condition >> 1 {
        0 => overflow,
        1 => carry,
        2 => zero,
        3 => carry || zero,
        4 => sign,
        5 => parity,
        6 => sign != overflow,
        _ => zero || sign != overflow,
    };
    base == (condition & 1 == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZERO: u64 = 1 << 6;
    const CARRY: u64 = 1;

    #[test]
    fn conditions_are_those_of_the_opcodes() {
        assert!(holds(4, ZERO) && !holds(5, ZERO), "e and ne");
        assert!(holds(2, CARRY) && holds(6, CARRY) && holds(6, ZERO) && !holds(7, CARRY), "b, be and a");
        assert!(holds(12, 1 << 7) && holds(12, 1 << 11) && holds(13, 1 << 7 | 1 << 11), "l and ge");
        assert!(holds(15, 0) && !holds(15, ZERO), "g");
    }
}
