//! Whether a load had to wait for another one, where its own instruction is known and registers are not: samples of a PMU without
//! skid, or of a simulator.
//!
//! It is the rule that clock samples go by (`slice`), along the same ways back through the code, so that what two samplers say of one
//! loop is the same. Registers only serve to tell the stack from other memory there; without them that is told by whether the
//! function sets up a frame pointer.

use super::code::Code;
use super::flow::Flow;
use super::instruction::{Effect, RBP, RSP};
use super::path::Path;
use super::resolver::Resolver;
use super::slice::{LARGEST_FRAME_BYTES, Slice};
use crate::perf::Registers;

impl Resolver {
    /// Whether the address of the access by the instruction at `ip` was computed from a value loaded shortly before. `None` where
    /// there is no such instruction, or it has no address.
    pub fn waits_for_load(&mut self, ip: u64, code: &mut dyn Code) -> Option<bool> {
        let flow = self.flow(ip, code)?;
        let at = flow.at(ip)?;
        let instruction = flow.get(at)?;
        let operand = instruction.memory?;
        let mut registers = Registers::default();
        if !has_frame_pointer(&flow) {
            registers.general[usize::from(RBP)] = LARGEST_FRAME_BYTES;
        }
        let mut path = Path::without_flags(&flow, at);
        let mut slice = Slice::new(&mut path, &registers, None, None);
        let own = matches!(instruction.effect, Effect::Load { .. }).then(|| instruction.effect.to()).flatten();
        Some([operand.base, operand.index].into_iter().flatten().any(|part| slice.dependent(part, own, 0, 0)))
    }
}

fn has_frame_pointer(flow: &Flow) -> bool {
    let sets = |index| matches!(flow.get(index)?.effect, Effect::Copy { to: RBP, from: RSP, .. }).then_some(());
    (0..flow.len() as u32).any(|index| sets(index).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use iced_x86::code_asm::*;
    use std::ops::Range;

    const BASE: u64 = 0x40_0000;

    struct Snippet(Vec<u8>);

    impl Code for Snippet {
        fn read(&mut self, address: u64, buffer: &mut [u8]) -> usize {
            let Some(bytes) = address.checked_sub(BASE).and_then(|at| self.0.get(at as usize..)) else { return 0 };
            let length = bytes.len().min(buffer.len());
            buffer[..length].copy_from_slice(&bytes[..length]);
            length
        }

        fn function(&mut self, _: u64) -> Option<Range<u64>> {
            Some(BASE..BASE + self.0.len() as u64)
        }
    }

    /// Of each instruction.
    fn waits(write: impl FnOnce(&mut CodeAssembler) -> Result<(), IcedError>) -> Vec<Option<bool>> {
        let mut assembler = CodeAssembler::new(64).unwrap();
        write(&mut assembler).unwrap();
        let mut code = Snippet(assembler.assemble(BASE).unwrap());
        let bytes = code.0.clone();
        let decoder = iced_x86::Decoder::with_ip(64, &bytes, BASE, iced_x86::DecoderOptions::NONE);
        let mut resolver = Resolver::new();
        decoder.into_iter().map(|one| resolver.waits_for_load(one.ip(), &mut code)).collect()
    }

    #[test]
    fn a_chain_waits_for_itself_across_blocks_and_a_stream_does_not() {
        let chain = waits(|code| {
            let (mut next, mut out) = (code.create_label(), code.create_label());
            code.set_label(&mut next)?;
            code.mov(rax, qword_ptr(rdi + rax * 8))?;
            code.cmp(rax, rsi)?;
            code.jae(out)?;
            code.dec(rcx)?;
            code.jne(next)?;
            code.set_label(&mut out)?;
            code.ret()
        });
        assert_eq!(chain[0], Some(true));
        assert_eq!(chain[1], None, "it has no address");
        let stream = waits(|code| {
            let mut next = code.create_label();
            code.set_label(&mut next)?;
            code.add(rax, qword_ptr(rdi))?;
            code.add(rdi, 8)?;
            code.dec(rcx)?;
            code.jne(next)?;
            code.ret()
        });
        assert_eq!(stream[0], Some(false));
    }

    #[test]
    fn an_index_that_was_just_loaded_is_waited_for() {
        let gather = waits(|code| {
            let mut next = code.create_label();
            code.set_label(&mut next)?;
            code.mov(eax, dword_ptr(rdi))?;
            code.movsd_2(xmm0, qword_ptr(rsi + rax * 8))?;
            code.add(rdi, 4)?;
            code.dec(rcx)?;
            code.jne(next)?;
            code.ret()
        });
        assert_eq!(gather[..2], [Some(false), Some(true)]);
    }

    #[test]
    fn a_base_pointer_is_the_stacks_only_where_it_is_set_up() {
        let spilled = |sets_up: bool| {
            waits(|code| {
                if sets_up {
                    code.push(rbp)?;
                    code.mov(rbp, rsp)?;
                } else {
                    code.push(rbp)?;
                    code.mov(rbp, rdi)?;
                }
                code.mov(rax, qword_ptr(rbp - 8))?;
                code.mov(rcx, qword_ptr(rax))?;
                code.ret()
            })[3]
        };
        assert_eq!((spilled(true), spilled(false)), (Some(false), Some(true)));
    }
}
