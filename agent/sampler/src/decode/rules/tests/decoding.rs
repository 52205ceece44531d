//! Code that is cut off, changed, missing, or anything at all.

use std::collections::HashMap;

use iced_x86::code_asm::*;
use proptest::prelude::*;

use super::{BASE, R8, RDI, RSI, Snippet, assert_access};
use crate::decode::{Access, AccessKind, Quality, Resolver, Rule};
use crate::perf::{RawSample, Registers};

#[test]
fn without_bounds_decoding_falls_into_step() {
    let mut code = Snippet::of(|a| {
        for _ in 0..40 {
            a.mov(r8, 0x1122_3344_5566_7788u64)?;
        }
        a.mov(rax, qword_ptr(r8 + 8))?;
        a.add(rcx, rdx)?;
        a.ret()
    });
    code.bounds = false;
    let access = code.sampled(41, &[(R8, 0x10_0000)]);
    assert_access(access, Rule::Predecessor, Quality::Exact, AccessKind::Load, 0x10_0008);
}

#[test]
fn code_that_changed_is_decoded_anew() {
    let mut code = Snippet::of(|a| {
        a.mov(rax, qword_ptr(rdi))?;
        a.nop()
    });
    let sample = code.sample(1, &[(RDI, 0x10_0000), (RSI, 0x11_0000)], 0);
    let known = |_: u64| false;
    let replaced = |code: &mut Snippet| code.bytes[2] = 0x06; // mov rax, [rsi]

    let mut resolver = Resolver::new();
    assert_eq!(resolver.resolve(&sample, &mut code, &known).address, Some(0x10_0000));
    replaced(&mut code);
    resolver.invalidate(BASE..BASE + 1);
    assert_eq!(resolver.resolve(&sample, &mut code, &known).address, Some(0x11_0000));

    // Without bounds it is taken for generated code, and nobody need say so.
    let mut code = Snippet::of(|a| {
        a.mov(rax, qword_ptr(rdi))?;
        a.nop()
    });
    code.bounds = false;
    assert_eq!(resolver.resolve(&sample, &mut code, &known).address, Some(0x11_0000), "cached with bounds");
    let mut resolver = Resolver::new();
    assert_eq!(resolver.resolve(&sample, &mut code, &known).address, Some(0x10_0000));
    replaced(&mut code);
    assert_eq!(resolver.resolve(&sample, &mut code, &known).address, Some(0x11_0000));
}

#[test]
fn without_code_or_registers_there_is_no_address() {
    let mut code = Snippet::of(|a| a.nop());
    let mut sample = code.sample(0, &[], 0);
    sample.ip = 0x1000;
    assert_eq!(code.resolve(&sample), Access::nothing(0x1000));
    let sample = RawSample { registers: None, ..code.sample(0, &[], 0) };
    assert_eq!(code.resolve(&sample).quality, Quality::None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_bytes_and_registers_yield_an_answer(
        bytes in proptest::collection::vec(any::<u8>(), 1..400),
        general: [u64; 16],
        flags: u64,
        at: prop::sample::Index,
        bounds: bool,
        kernel: bool,
        everything_known: bool,
    ) {
        let ip = BASE + at.index(bytes.len()) as u64;
        let memory = general.iter().map(|&address| (address, address ^ 0x55)).collect();
        let mut code = Snippet { bytes, addresses: Vec::new(), bounds, memory, thread_pointer: None };
        let registers = Some(Registers { general, ip, flags });
        let sample = RawSample { time_ns: 1, pid: 1, tid: 1, cpu: 0, ip, kernel, registers, address: None };
        let access = Resolver::new().resolve(&sample, &mut code, &|_| everything_known);
        prop_assert_eq!(access.address.is_none(), access.quality == Quality::None);
    }

    /// Loops of dense short jumps are the worst case for the walk.
    #[test]
    fn any_jumps_end(offsets in proptest::collection::vec(any::<i8>(), 1..200), general: [u64; 16]) {
        let bytes: Vec<u8> = offsets.iter().flat_map(|&offset| [0x70 | (offset as u8 & 15), offset as u8]).collect();
        let mut code = Snippet { bytes, addresses: Vec::new(), bounds: true, memory: HashMap::new(), thread_pointer: None };
        let registers = Some(Registers { general, ip: BASE, flags: 0 });
        let sample = RawSample { time_ns: 1, pid: 1, tid: 1, cpu: 0, ip: BASE, kernel: false, registers, address: None };
        code.resolve(&sample);
    }
}
