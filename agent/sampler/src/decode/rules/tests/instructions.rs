//! Instructions with ways of their own: strings, pushes, calls, thread-local data, gathers, faults, tables of jumps.

use std::collections::HashMap;

use iced_x86::code_asm::*;

use super::{BASE, RAX, RBP, RBX, RCX, RDI, RDX, RSI, STACK, Snippet, assert_access};
use crate::decode::{AccessKind, Quality, Rule};
use crate::perf::RawSample;

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
