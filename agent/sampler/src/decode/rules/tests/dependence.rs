//! Which loads wait for another load.

use iced_x86::code_asm::*;

use super::{RAX, RDI, RDX, RSI, Snippet};

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
