//! What is blamed: the instruction that came before, whichever way control came.

use iced_x86::code_asm::*;

use super::{BASE, RBX, RDI, RSI, Snippet, ZERO_FLAG, assert_access};
use crate::decode::{AccessKind, Quality, Rule};

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
