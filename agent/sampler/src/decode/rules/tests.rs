//! Each rule and each trap on a snippet of code, as compilers emit it.

use std::collections::HashMap;
use std::ops::Range;

use iced_x86::code_asm::*;
use iced_x86::{Decoder, DecoderOptions};
use proptest::prelude::*;

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

#[test]
fn the_instruction_before_is_blamed() {
    let mut code = Snippet::of(|a| {
        a.mov(rax, qword_ptr(rdi + rsi * 8 + 16))?;
        a.add(rcx, rdx)
    });
    let access = code.sampled(1, &[(RDI, 0x10_0000), (RSI, 3)]);
    assert_access(access, Rule::Predecessor, Quality::Exact, AccessKind::Load, 0x10_0028);
    assert_eq!((access.bytes, access.instruction), (8, BASE));
}

#[test]
fn instructions_without_memory_are_walked_over() {
    let mut code = Snippet::of(|a| {
        a.mov(dword_ptr(rdi), eax)?;
        a.lea(rcx, qword_ptr(rdi + 64))?;
        a.prefetcht0(byte_ptr(rsi))?;
        a.nop_1(dword_ptr(rsi))?;
        a.imul_2(rdx, rdx)
    });
    let access = code.sampled(4, &[(RDI, 0x10_0000)]);
    assert_access(access, Rule::Predecessor, Quality::Exact, AccessKind::Store, 0x10_0000);
}

#[test]
fn a_read_modify_write_is_an_update() {
    let mut code = Snippet::of(|a| {
        a.add(dword_ptr(rdi), 1)?;
        a.lock().xadd(qword_ptr(rsi), rax)?;
        a.nop()
    });
    let access = code.sampled(1, &[(RDI, 0x10_0040)]);
    assert_access(access, Rule::Predecessor, Quality::Exact, AccessKind::Update, 0x10_0040);
    let access = code.sampled(2, &[(RSI, 0x10_0080)]);
    assert_access(access, Rule::Predecessor, Quality::Exact, AccessKind::Update, 0x10_0080);
}

/// 0: mov ecx, [rsi]; 1 (head): mov rax, [rdi]; 2: add rdi, 8; 3: mov [rbx], rax; 4: dec rcx; 5: jne head
fn counted_loop() -> Snippet {
    Snippet::of(|a| {
        let mut head = a.create_label();
        a.mov(ecx, dword_ptr(rsi))?;
        a.set_label(&mut head)?;
        a.mov(rax, qword_ptr(rdi))?;
        a.add(rdi, 8)?;
        a.mov(qword_ptr(rbx), rax)?;
        a.dec(rcx)?;
        a.jne(head)?;
        a.ret()
    })
}

#[test]
fn at_the_head_of_a_loop_its_end_came_before() {
    let access = counted_loop().sampled(1, &[(RBX, 0x10_0100), (RSI, 0x11_0000)]);
    assert_access(access, Rule::Predecessor, Quality::Exact, AccessKind::Store, 0x10_0100);
}

#[test]
fn unless_the_flags_say_that_the_loop_was_entered() {
    let access = counted_loop().sampled_with_flags(1, &[(RBX, 0x10_0100), (RSI, 0x11_0000)], ZERO_FLAG);
    assert_access(access, Rule::Predecessor, Quality::Exact, AccessKind::Load, 0x11_0000);
}

#[test]
fn a_stepped_pointer_is_stepped_back() {
    let access = counted_loop().sampled(3, &[(RDI, 0x10_0008)]);
    // The sample is on the store; before it comes the step, and before that the load.
    assert_access(access, Rule::Predecessor, Quality::Exact, AccessKind::Load, 0x10_0000);
}

#[test]
fn a_detour_behind_the_function_is_no_loop() {
    let mut code = Snippet::of(|a| {
        let (mut back, mut unlikely) = (a.create_label(), a.create_label());
        a.mov(rax, qword_ptr(rdi))?; // 0
        a.test(rax, rax)?; // 1
        a.je(unlikely)?; // 2
        a.set_label(&mut back)?;
        a.add(rax, 1)?; // 3
        a.ret()?; // 4
        a.set_label(&mut unlikely)?;
        a.mov(rax, qword_ptr(rsi))?; // 5
        a.jmp(back) // 6
    });
    let registers = [(RDI, 0x10_0000), (RSI, 0x11_0000)];
    let access = code.sampled(3, &registers);
    assert_access(access, Rule::Predecessor, Quality::Exact, AccessKind::Load, 0x10_0000);
    let access = code.sampled_with_flags(3, &registers, ZERO_FLAG);
    assert_access(access, Rule::Predecessor, Quality::Exact, AccessKind::Load, 0x11_0000);
}

/// 0: xor eax, eax; 1: jmp test; 2: nop; 3 (step): add rcx, 1; 4: jmp test; 5 (test): test [rdi], rcx; 6: jne step;
/// 7: pop rbp; 8: a tail jump; 9: ret
fn padded_loop(leave: impl FnOnce(&mut CodeAssembler) -> Result<(), IcedError>) -> Snippet {
    Snippet::of(|a| {
        let (mut step, mut test) = (a.create_label(), a.create_label());
        a.xor(eax, eax)?;
        a.jmp(test)?;
        a.nop()?;
        a.set_label(&mut step)?;
        a.add(rcx, 1)?;
        a.jmp(test)?;
        a.set_label(&mut test)?;
        a.test(qword_ptr(rdi), rcx)?;
        a.jne(step)?;
        a.pop(rbp)?;
        leave(a)?;
        a.ret()
    })
}

#[test]
fn nothing_comes_out_of_padding() {
    // Neither by a pointer that the linker filled in, nor by one in a table of methods.
    let slot = |a: &mut CodeAssembler| a.jmp(qword_ptr(0x10_0000));
    let method = |a: &mut CodeAssembler| a.jmp(qword_ptr(rbx + 24));
    for mut code in [padded_loop(slot), padded_loop(method)] {
        for at in [3, 4, 5] {
            let access = code.sampled(at, &[(RDI, 0x10_0040), (RBX, 0x10_0080)]);
            assert_access(access, Rule::Predecessor, Quality::Exact, AccessKind::Load, 0x10_0040);
        }
        // What the tail jump is followed by, only an unwinder can enter.
        let access = code.sampled(9, &[(RDI, 0x10_0040), (RBX, 0x10_0080)]);
        assert_ne!(access.rule, Rule::Predecessor, "{access:x?}");
    }
}

#[test]
fn a_function_that_does_not_return_is_not_come_back_from() {
    let mut code = Snippet::of(|a| {
        let (mut fine, mut panics, mut out) = (a.create_label(), a.create_label(), a.create_label());
        a.mov(rax, qword_ptr(rdi))?; // 0
        a.cmp(rax, rcx)?; // 1
        a.jb(fine)?; // 2
        a.call(panics)?; // 3
        a.set_label(&mut fine)?;
        a.add(rax, 1)?; // 4
        a.cmp(rax, rdx)?; // 5
        a.jae(out)?; // 6
        a.ret()?; // 7
        a.set_label(&mut panics)?;
        a.ud2()?; // 8
        a.set_label(&mut out)?;
        a.call(panics) // 9
    });
    let access = code.sampled_with_flags(4, &[(RDI, 0x10_0000)], 1);
    assert_access(access, Rule::Predecessor, Quality::Exact, AccessKind::Load, 0x10_0000);
    // Not by a truncated piece of code, though.
    code.bounds = false;
    assert_eq!(code.sampled_with_flags(4, &[(RDI, 0x10_0000)], 1).rule, Rule::CallOrReturn);
}

#[test]
fn a_pointer_chase_is_placed_at_the_next_node() {
    let mut code = Snippet::of(|a| {
        let mut head = a.create_label();
        a.set_label(&mut head)?;
        a.mov(rax, qword_ptr(rax + 8))?;
        a.dec(rcx)?;
        a.jne(head)
    });
    let access = code.sampled(1, &[(RAX, 0x10_2000)]);
    assert_access(access, Rule::NextNode, Quality::Approximate, AccessKind::Load, 0x10_2008);
    assert!(access.dependent);
}

#[test]
fn a_load_over_its_own_index_is_placed_at_its_base() {
    let mut code = Snippet::of(|a| {
        a.mov(eax, dword_ptr(rbx + rax * 4))?;
        a.nop()
    });
    let access = code.sampled(1, &[(RAX, 77), (RBX, 0x10_3000)]);
    assert_access(access, Rule::SurvivingRegister, Quality::Approximate, AccessKind::Load, 0x10_3000);
}

#[test]
fn a_load_over_its_own_base_is_computed_again_from_registers() {
    let mut code = Snippet::of(|a| {
        a.mov(rax, rdx)?;
        a.shl(rax, 3)?;
        a.add(rax, rbx)?;
        a.mov(rax, qword_ptr(rax))?;
        a.nop()
    });
    let access = code.sampled(4, &[(RAX, 0xdead), (RBX, 0x10_3000), (RDX, 5)]);
    assert_access(access, Rule::Predecessor, Quality::Exact, AccessKind::Load, 0x10_3028);
}

/// 0: lea rdx, [rbx+rcx*8]; 1: cmp rsi, rcx; 2: cmovle rdx, rdi; 3: mov rdx, [rdx]; 4: add rcx, 1 or not;
/// 5: mov [rbp+rax*8], rdx
fn clamped(step: bool) -> Snippet {
    Snippet::of(|a| {
        a.lea(rdx, qword_ptr(rbx + rcx * 8))?;
        a.cmp(rsi, rcx)?;
        a.cmovle(rdx, rdi)?;
        a.mov(rdx, qword_ptr(rdx))?;
        if step { a.add(rcx, 1) } else { a.nop() }?;
        a.mov(qword_ptr(rbp + rax * 8), rdx)
    })
}

#[test]
fn a_conditional_copy_went_where_the_flags_say() {
    let registers = [(RDX, 7), (RBX, 0x10_0000), (RCX, 4), (RDI, 0x11_0000), (RBP, 0x12_0000)];
    let access = clamped(false).sampled(5, &registers);
    assert_access(access, Rule::Predecessor, Quality::Exact, AccessKind::Load, 0x10_0020);
    let access = clamped(false).sampled_with_flags(5, &registers, ZERO_FLAG);
    assert_access(access, Rule::Predecessor, Quality::Exact, AccessKind::Load, 0x11_0000);
}

#[test]
fn and_where_the_flags_are_gone_to_a_known_object() {
    let table = [(RDX, 7), (RBX, 0x10_0000), (RCX, 5), (RDI, 0x30_0000), (RBP, 0x12_0000)];
    let access = clamped(true).sampled(5, &table);
    assert_access(access, Rule::Predecessor, Quality::Approximate, AccessKind::Load, 0x10_0020);
    let limit = [(RDX, 7), (RBX, 0x30_0000), (RCX, 5), (RDI, 0x11_0000), (RBP, 0x12_0000)];
    let access = clamped(true).sampled(5, &limit);
    assert_access(access, Rule::Predecessor, Quality::Approximate, AccessKind::Load, 0x11_0000);
}

#[test]
fn a_store_is_not_blamed_for_a_load_that_cannot_be_placed() {
    let neither = [(RDX, 7), (RBX, 0x30_0000), (RCX, 5), (RDI, 0x30_0000), (RBP, 0x12_0000)];
    let mut code = clamped(true);
    let access = code.sampled(5, &neither);
    assert_eq!((access.address, access.kind, access.quality), (None, AccessKind::Load, Quality::None));
    assert_eq!(access.instruction, code.addresses[3]);
}

/// As compiled without optimisation: base and index come from the frame, and the load overwrites both.
fn unoptimised() -> Snippet {
    Snippet::of(|a| {
        a.mov(rax, qword_ptr(rbp - 16))?;
        a.lea(rdx, qword_ptr(rax * 8))?;
        a.mov(rax, qword_ptr(rbp - 24))?;
        a.add(rax, rdx)?;
        a.mov(rax, qword_ptr(rax))?;
        a.add(qword_ptr(rbp - 32), rax)
    })
}

#[test]
fn what_the_frame_holds_is_read_again_and_proved_by_what_was_loaded() {
    let registers = [(RAX, 0xabcd), (RDX, 0x40), (RBP, STACK + 0x40)];
    let mut code = unoptimised();
    code.memory = HashMap::from([(STACK + 0x40 - 24, 0x10_4000), (0x10_4040, 0xabcd)]);
    let access = code.sampled(5, &registers);
    assert_access(access, Rule::Reread, Quality::Approximate, AccessKind::Load, 0x10_4040);
    assert!(!access.stack_relative);

    // Another function's frame by now, with a pointer of its own in the same place.
    code.memory = HashMap::from([(STACK + 0x40 - 24, 0x10_8000), (0x10_8040, 0x1111)]);
    assert_ne!(code.sampled(5, &registers).rule, Rule::Reread);
}

#[test]
fn a_pointer_once_proved_is_remembered() {
    let mut code = unoptimised();
    let mut resolver = Resolver::new();
    let known = |address: u64| HEAP.contains(&address);
    code.memory = HashMap::from([(STACK + 0x40 - 24, 0x10_4000), (0x10_4040, 0xabcd), (0x10_4048, 0xef)]);
    let first = code.sample(5, &[(RAX, 0xabcd), (RDX, 0x40), (RBP, STACK + 0x40)], 0);
    assert_eq!(resolver.resolve(&first, &mut code, &known).address, Some(0x10_4040));
    code.memory.insert(STACK + 0x40 - 24, 0);
    let second = code.sample(5, &[(RAX, 0xef), (RDX, 0x48), (RBP, STACK + 0x40)], 0);
    assert_eq!(resolver.resolve(&second, &mut code, &known).address, Some(0x10_4048));
}

#[test]
fn a_value_is_followed_through_its_stack_slot() {
    let mut code = Snippet::of(|a| {
        a.mov(qword_ptr(rsp + 8), rbx)?;
        a.xor(ecx, ecx)?;
        a.mov(rax, qword_ptr(rsp + 8))?;
        a.mov(rax, qword_ptr(rax + 24))?;
        a.nop()
    });
    let access = code.sampled(4, &[(RAX, 1), (RBX, 0x10_5000)]);
    assert_access(access, Rule::Predecessor, Quality::Exact, AccessKind::Load, 0x10_5018);
}

#[test]
fn a_repeated_string_instruction_is_blamed_while_it_runs() {
    let mut code = Snippet::of(|a| {
        a.mov(rax, qword_ptr(rbx))?;
        a.rep().stosq()?;
        a.rep().movsb()?;
        a.ret()
    });
    let access = code.sampled(1, &[(RDI, 0x10_6000), (RCX, 10)]);
    assert_access(access, Rule::RepeatedString, Quality::Exact, AccessKind::Store, 0x10_6000);
    // Of source and destination, the one that is an object.
    let access = code.sampled(2, &[(RDI, 0x30_0000), (RSI, 0x10_6000), (RCX, 10)]);
    assert_access(access, Rule::RepeatedString, Quality::Exact, AccessKind::Load, 0x10_6000);
    // After it, what it accessed last.
    let access = code.sampled(3, &[(RDI, 0x10_6000), (RSI, 0x30_0000)]);
    assert_access(access, Rule::Predecessor, Quality::Approximate, AccessKind::Store, 0x10_5fff);
}

#[test]
fn a_copy_between_objects_counts_for_both() {
    let mut code = Snippet::of(|a| {
        a.rep().movsb()?;
        a.ret()
    });
    let mut kinds = HashMap::new();
    for time_ns in 0..1000 {
        let sample = code.sample(0, &[(RDI, 0x10_0000), (RSI, 0x18_0000)], 0);
        *kinds.entry(code.resolve(&RawSample { time_ns, ..sample }).kind).or_insert(0) += 1;
    }
    assert!(kinds[&AccessKind::Load] > 450 && kinds[&AccessKind::Store] > 450, "{kinds:?}");
}

#[test]
fn pushes_and_pops_are_accesses_of_the_stack() {
    let mut code = Snippet::of(|a| {
        a.push(rbx)?;
        a.push(qword_ptr(rdi))?;
        a.pop(rbx)?;
        a.nop()
    });
    let access = code.sampled(1, &[]);
    assert_access(access, Rule::Predecessor, Quality::Exact, AccessKind::Store, STACK);
    assert!(access.stack_relative);
    // Of a push from memory, the memory.
    let access = code.sampled(2, &[(RDI, 0x10_0000)]);
    assert_access(access, Rule::Predecessor, Quality::Exact, AccessKind::Load, 0x10_0000);
    let access = code.sampled(3, &[]);
    assert_access(access, Rule::Predecessor, Quality::Exact, AccessKind::Load, STACK - 8);
}

#[test]
fn a_frame_slot_is_found_under_pushes() {
    let mut code = Snippet::of(|a| {
        a.mov(rax, qword_ptr(rsp + 32))?;
        a.sub(rsp, 64)?;
        a.nop()
    });
    let access = code.sampled(2, &[]);
    assert_access(access, Rule::Predecessor, Quality::Exact, AccessKind::Load, STACK + 96);
}

#[test]
fn the_walk_ends_at_a_call() {
    let mut code = Snippet::of(|a| {
        let mut callee = a.create_label();
        a.mov(rax, qword_ptr(rdi))?; // 0
        a.call(callee)?; // 1
        a.add(rax, rcx)?; // 2
        a.mov(rcx, qword_ptr(rbx))?; // 3
        a.ret()?; // 4
        a.set_label(&mut callee)?;
        a.nop()
    });
    let access = code.sampled(2, &[(RDI, 0x10_0000)]);
    assert_access(access, Rule::CallOrReturn, Quality::Approximate, AccessKind::Load, STACK - 8);
    // Across the call only what a callee must preserve is still known.
    let access = code.sampled(4, &[(RBX, 0x10_0100)]);
    assert_access(access, Rule::Predecessor, Quality::Exact, AccessKind::Load, 0x10_0100);
}

#[test]
fn at_the_entry_the_sampled_instruction_is_all_there_is() {
    let mut code = Snippet::of(|a| {
        a.mov(rax, qword_ptr(rdi))?;
        a.ret()
    });
    let access = code.sampled(0, &[(RDI, 0x10_0000)]);
    assert_access(access, Rule::Sampled, Quality::Approximate, AccessKind::Load, 0x10_0000);
    let mut code = Snippet::of(|a| {
        a.xor(eax, eax)?;
        a.ret()
    });
    let access = code.sampled(0, &[]);
    assert_access(access, Rule::CallOrReturn, Quality::Approximate, AccessKind::Store, STACK);
}

#[test]
fn thread_local_data_has_an_address_only_with_a_thread_pointer() {
    let mut code = Snippet::of(|a| {
        a.mov(rax, qword_ptr(0x28).fs())?;
        a.nop()
    });
    let access = code.sampled(1, &[]);
    assert_eq!((access.address, access.quality, access.thread_local), (None, Quality::None, true));
    assert_eq!((access.kind, access.instruction), (AccessKind::Load, BASE));
    code.thread_pointer = Some(0x7000);
    assert_eq!(code.sampled(1, &[]).address, Some(0x7028));
}

#[test]
fn thread_local_data_out_of_reach_is_walked_over() {
    let mut code = Snippet::of(|a| {
        a.mov(rcx, qword_ptr(rdi))?;
        a.mov(rax, qword_ptr(0x28).fs())?;
        a.nop()
    });
    let access = code.sampled(2, &[(RDI, 0x10_0000)]);
    assert_access(access, Rule::Predecessor, Quality::Exact, AccessKind::Load, 0x10_0000);
}

#[test]
fn a_gather_is_placed_at_its_base() {
    let mut code = Snippet::of(|a| {
        a.vpgatherdd(zmm0.k1(), dword_ptr(rdi + zmm1 * 4))?;
        a.nop()
    });
    let access = code.sampled(1, &[(RDI, 0x10_0000)]);
    assert_access(access, Rule::SurvivingRegister, Quality::Approximate, AccessKind::Load, 0x10_0000);
    assert_eq!(code.sampled(1, &[(RDI, 1)]).address, None, "no object: no address");
}

#[test]
fn a_store_to_the_frame_waits_for_the_store_before_it() {
    let mut code = Snippet::of(|a| {
        a.mov(qword_ptr(rdx), rax)?;
        a.add(qword_ptr(rbp - 40), 1)?;
        a.mov(rax, qword_ptr(rbp - 16))
    });
    let access = code.sampled(2, &[(RDX, 0x10_0000), (RBP, STACK + 64)]);
    assert_access(access, Rule::StoreBuffer, Quality::Approximate, AccessKind::Store, 0x10_0000);
}

#[test]
fn in_the_kernel_the_sampled_instruction_faulted() {
    let mut code = Snippet::of(|a| {
        a.mov(rax, qword_ptr(rsi))?;
        a.mov(qword_ptr(rdi), rax)?;
        a.syscall()?;
        a.mov(rax, qword_ptr(rdi))
    });
    let registers = [(RDI, 0x10_0000), (RSI, 0x11_0000)];
    let in_kernel = |code: &mut Snippet, at| {
        let sample = RawSample { kernel: true, ..code.sample(at, &registers, 0) };
        code.resolve(&sample)
    };
    assert_access(in_kernel(&mut code, 1), Rule::Kernel, Quality::Exact, AccessKind::Store, 0x10_0000);
    let in_system_call = in_kernel(&mut code, 3);
    assert_eq!((in_system_call.address, in_system_call.rule), (None, Rule::Nothing));
}

#[test]
fn a_fault_has_its_address_from_the_kernel_and_its_kind_from_the_code() {
    let mut code = Snippet::of(|a| a.mov(dword_ptr(rdi), eax));
    let sample = RawSample { address: Some(0x12_3456), ..code.sample(0, &[], 0) };
    let access = code.resolve(&sample);
    assert_access(access, Rule::Fault, Quality::Exact, AccessKind::Store, 0x12_3456);
    let unreadable = RawSample { ip: 0x1000, ..sample };
    assert_access(code.resolve(&unreadable), Rule::Fault, Quality::Exact, AccessKind::Unknown, 0x12_3456);
}

#[test]
fn switch_cases_follow_the_computed_jump() {
    let mut code = Snippet::of(|a| {
        a.jmp(qword_ptr(rdi + rax * 8))?;
        a.add(rcx, 1)?;
        a.ret()
    });
    let access = code.sampled(1, &[(RDI, 0x10_0000), (RAX, 2)]);
    assert_access(access, Rule::Predecessor, Quality::Exact, AccessKind::Load, 0x10_0010);
}

#[test]
fn dependence_is_on_loads_other_than_of_variables() {
    let mut code = Snippet::of(|a| {
        a.mov(rdx, qword_ptr(rsi + rcx * 8))?;
        a.mov(rax, qword_ptr(rdi + rdx * 8))?;
        a.nop()
    });
    assert!(code.sampled(2, &[(RDI, 0x10_0000)]).dependent, "an index that was just loaded");
    assert!(!code.sampled(1, &[(RSI, 0x10_0000)]).dependent, "a counter");
    let mut code = Snippet::of(|a| {
        a.mov(rdx, qword_ptr(rsp + 8))?;
        a.mov(rax, qword_ptr(rdi + rdx * 8))?;
        a.nop()
    });
    assert!(!code.sampled(2, &[(RDI, 0x10_0000)]).dependent, "a spilled counter");
}

#[test]
fn a_pointer_to_an_array_that_is_loaded_in_each_turn_is_no_node() {
    let mut code = Snippet::of(|a| {
        let mut top = a.create_label();
        a.set_label(&mut top)?;
        a.mov(rax, qword_ptr(rdi + 8))?;
        a.mov(rcx, qword_ptr(rax + rdx * 8))?;
        a.add(rdx, rsi)?;
        a.cmp(rdx, r8)?;
        a.jne(top)
    });
    assert!(!code.sampled(2, &[(RAX, 0x10_0000)]).dependent, "an array of an unchanged structure");
    let mut code = Snippet::of(|a| {
        let mut top = a.create_label();
        a.set_label(&mut top)?;
        a.mov(rax, qword_ptr(rdi + 8))?;
        a.mov(rcx, qword_ptr(rax + rdx * 8))?;
        a.add(rdi, 16)?;
        a.cmp(rdi, r8)?;
        a.jne(top)
    });
    assert!(code.sampled(2, &[(RAX, 0x10_0000)]).dependent, "a pointer out of each element");
}

#[test]
fn a_chase_depends_on_its_own_last_step_whichever_way_it_was_reached() {
    let mut code = Snippet::of(|a| {
        let (mut top, mut rare, mut enter) = (a.create_label(), a.create_label(), a.create_label());
        a.jmp(enter)?;
        a.set_label(&mut top)?;
        a.add(rcx, 1)?;
        a.cmp(rbx, rcx)?;
        a.set_label(&mut enter)?;
        a.mov(esi, esi)?;
        a.mov(esi, dword_ptr(rdi + rsi * 4))?;
        a.test(ecx, 0x3f_ffff)?;
        a.jne(top)?;
        a.set_label(&mut rare)?;
        a.add(rax, qword_ptr(rdx))?;
        a.add(rdx, 8)?;
        a.cmp(rdx, r8)?;
        a.jne(rare)?;
        a.jmp(enter)
    });
    assert!(code.sampled(5, &[(RDI, 0x10_0000)]).dependent, "by the longer way back, which never meets the load");
    assert!(!code.sampled(8, &[(RDX, 0x10_0000)]).dependent, "a pointer that is counted up");
}

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
