//! Addresses whose registers were overwritten: computed again, read again, or taken as near as can be.

use std::collections::HashMap;

use iced_x86::code_asm::*;

use super::{HEAP, RAX, RBP, RBX, RCX, RDI, RDX, STACK, Snippet, ZERO_FLAG, assert_access};
use crate::decode::{AccessKind, Quality, Resolver, Rule};

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
