//! Whether an instruction's address comes from a value loaded shortly before, so that its load had to wait for that one.
//!
//! This is what a sampler that decodes the program's instructions can see, too, and it is found the same way: backwards from the
//! instruction, along the registers its address was computed from. Values that lie on the stack meanwhile are spilled
//! registers, not links, and what a loop loads from the same place in each turn (an array's address) is no link either. Only the block itself is looked at, and, where it ends in a conditional jump, once
//! around from its end: most chains are loops of one block. What reaches further back is missed, and a block that is no
//! loop but reloads the register after using it is taken for one.

use crate::block::{Block, Class, Registers};

const STACK_POINTER: Registers = Registers::general(4);
const FRAME_POINTER: Registers = Registers::general(5);

impl Block {
    /// Whether the address of an access by instruction `op` waits for another load.
    pub fn waits_for_load(&self, op: usize) -> bool {
        let (Some(before), Some(this)) = (self.ops.get(..op), self.ops.get(op)) else { return false };
        let loops = self.ops.last().is_some_and(|last| last.class == Class::BranchConditional);
        let around = if loops { self.ops.get(op..).unwrap_or_default() } else { &[] };
        let written = self.ops.iter().fold(Registers::NONE, |written, op| written | op.destinations);
        let mut wanted = this.address_sources.without(STACK_POINTER | FRAME_POINTER);
        for earlier in before.iter().rev().chain(around.iter().rev()) {
            if wanted.is_empty() {
                return false;
            }
            if wanted.and(earlier.destinations).is_empty() {
                continue;
            }
            if earlier.loads > 0 {
                let from = earlier.address_sources.without(STACK_POINTER | FRAME_POINTER);
                let is_same_each_time = loops && from.and(written).is_empty();
                if from == earlier.address_sources && !is_same_each_time {
                    return true;
                }
                wanted = wanted.without(earlier.destinations);
                continue;
            }
            wanted = wanted.without(earlier.destinations) | earlier.sources | earlier.address_sources;
            wanted = wanted.without(Registers::FLAGS | STACK_POINTER | FRAME_POINTER);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::Op;

    const RAX: Registers = Registers::general(0);
    const RCX: Registers = Registers::general(1);
    const RDI: Registers = Registers::general(7);

    fn load(to: Registers, from: Registers) -> Op {
        Op { class: Class::Move, loads: 1, address_sources: from, destinations: to, ..Op::default() }
    }

    fn count_up(register: Registers) -> Op {
        let destinations = register | Registers::FLAGS;
        Op { class: Class::Integer, sources: register, destinations, ..Op::default() }
    }

    fn jump() -> Op {
        Op { class: Class::BranchConditional, sources: Registers::FLAGS, ..Op::default() }
    }

    fn block(ops: &[Op]) -> Block {
        Block { ops: ops.into(), ..Block::default() }
    }

    #[test]
    fn a_chain_waits_for_itself_and_a_stream_does_not() {
        assert!(block(&[load(RAX, RAX), count_up(RCX), jump()]).waits_for_load(0));
        assert!(!block(&[load(RAX, RDI), count_up(RDI), jump()]).waits_for_load(0));
    }

    #[test]
    fn an_index_that_was_just_loaded_is_waited_for_through_arithmetic() {
        let scaled = Op { class: Class::Integer, sources: RAX | RDI, destinations: RCX, ..Op::default() };
        let gather = block(&[load(RAX, RDI), scaled, load(RAX, RCX), count_up(RDI), jump()]);
        assert!(gather.waits_for_load(2));
        assert!(!gather.waits_for_load(0));
    }

    #[test]
    fn a_spilled_register_is_no_link() {
        assert!(!block(&[load(RAX, STACK_POINTER), load(RCX, RAX)]).waits_for_load(1));
        assert!(!block(&[load(RAX, FRAME_POINTER), load(RCX, RAX)]).waits_for_load(1));
    }

    #[test]
    fn a_pointer_to_an_array_that_is_loaded_in_each_turn_is_no_link() {
        let index = Op { class: Class::Integer, sources: RCX, destinations: RCX, ..Op::default() };
        let lookup = load(RAX, RAX | RCX);
        assert!(!block(&[load(RAX, RDI), lookup, index, jump()]).waits_for_load(1));
        assert!(block(&[load(RAX, RDI), lookup, count_up(RDI), jump()]).waits_for_load(1));
    }

    #[test]
    fn what_is_no_loop_is_not_gone_around() {
        let straight = block(&[load(RCX, RAX), load(RAX, RDI)]);
        assert!(!straight.waits_for_load(0));
        assert!(!straight.waits_for_load(9));
    }
}
