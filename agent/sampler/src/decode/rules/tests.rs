//! Each rule and each trap on a snippet of code, as compilers emit it.

mod before;
mod decoding;
mod dependence;
mod instructions;
mod recovered;

use std::collections::HashMap;
use std::ops::Range;

use iced_x86::IcedError;
use iced_x86::code_asm::CodeAssembler;
use iced_x86::{Decoder, DecoderOptions};

use super::super::{Access, AccessKind, Code, Quality, Resolver, Rule};
use crate::perf::{RawSample, Registers};

const BASE: u64 = 0x40_0000;
/// Where the tests keep their objects.
const HEAP: Range<u64> = 0x10_0000..0x20_0000;
const STACK: u64 = 0x7ffd_0000_0000;

const RAX: usize = 0;
const RCX: usize = 1;
const RDX: usize = 2;
const RBX: usize = 3;
const RSP: usize = 4;
const RBP: usize = 5;
const RSI: usize = 6;
const RDI: usize = 7;
const R8: usize = 8;

const ZERO_FLAG: u64 = 1 << 6;

struct Snippet {
    bytes: Vec<u8>,
    addresses: Vec<u64>,
    bounds: bool,
    memory: HashMap<u64, u64>,
    thread_pointer: Option<u64>,
}

impl Code for Snippet {
    fn read(&mut self, address: u64, buffer: &mut [u8]) -> usize {
        let Some(bytes) = address.checked_sub(BASE).and_then(|at| self.bytes.get(at as usize..)) else { return 0 };
        let length = bytes.len().min(buffer.len());
        buffer[..length].copy_from_slice(&bytes[..length]);
        length
    }

    fn function(&mut self, _address: u64) -> Option<Range<u64>> {
        self.bounds.then(|| BASE..BASE + self.bytes.len() as u64)
    }

    fn read_data(&mut self, address: u64, buffer: &mut [u8]) -> usize {
        let Some(value) = self.memory.get(&address) else { return 0 };
        buffer.copy_from_slice(&value.to_le_bytes()[..buffer.len()]);
        buffer.len()
    }

    fn thread_pointer(&mut self, _tid: u32) -> Option<u64> {
        self.thread_pointer
    }
}

impl Snippet {
    fn of(write: impl FnOnce(&mut CodeAssembler) -> Result<(), IcedError>) -> Snippet {
        let mut assembler = CodeAssembler::new(64).unwrap();
        write(&mut assembler).unwrap();
        let bytes = assembler.assemble(BASE).unwrap();
        let addresses = Decoder::with_ip(64, &bytes, BASE, DecoderOptions::NONE).iter().map(|code| code.ip()).collect();
        Snippet { bytes, addresses, bounds: true, memory: HashMap::new(), thread_pointer: None }
    }

    /// The access of a sample on the instruction number `at`, with these registers and the stack pointer.
    fn sampled(&mut self, at: usize, registers: &[(usize, u64)]) -> Access {
        let sample = self.sample(at, registers, 0);
        self.resolve(&sample)
    }

    fn sampled_with_flags(&mut self, at: usize, registers: &[(usize, u64)], flags: u64) -> Access {
        let sample = self.sample(at, registers, flags);
        self.resolve(&sample)
    }

    fn sample(&self, at: usize, registers: &[(usize, u64)], flags: u64) -> RawSample {
        let ip = self.addresses[at];
        let mut general = [0; 16];
        general[RSP] = STACK;
        for &(register, value) in registers {
            general[register] = value;
        }
        let registers = Some(Registers { general, ip, flags });
        RawSample { time_ns: 0, pid: 1, tid: 1, cpu: 0, ip, kernel: false, registers, address: None }
    }

    fn resolve(&mut self, sample: &RawSample) -> Access {
        Resolver::new().resolve(sample, self, &|address| HEAP.contains(&address))
    }
}

#[track_caller]
fn assert_access(access: Access, rule: Rule, quality: Quality, kind: AccessKind, address: u64) {
    assert_eq!(
        (access.rule, access.quality, access.kind, access.address),
        (rule, quality, kind, Some(address)),
        "{access:x?}"
    );
}
