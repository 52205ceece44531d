//! The exported functions, one file per family, and what they have in common: the guard.
//!
//! The guard is the stack pointer at entry of the hook a thread is in. It is held around the real call as well, so
//! that what an allocator does for itself (its own mappings, an operator `new` that calls `malloc`) is not taken for
//! the program's doing. A call that finds it set passes straight through and is counted. That count covers signal
//! handlers and allocators' internals alike: from here they look the same.
//!
//! A signal handler may leave a hook for good with `longjmp`, and an exception may pass through one; the guard then
//! stays set. But what a hook calls lies deeper on the same stack than the hook itself. A call that enters no deeper
//! than the guard, both lying in the thread's own stack, proves that the hook is gone, and takes the guard down.

mod heap;
mod mapping;
mod mark;
mod operators;

use crate::arch::{self, Caller, Local};
use crate::bounds;
use crate::recorder::{self, Recording};
use core::sync::atomic::Ordering::Relaxed;
use tierscope_wire::LossKind;

/// Before `main`, unless an earlier call did it.
#[cfg_attr(any(test, not(feature = "export")), allow(dead_code, reason = "called by the constructor"))]
pub(crate) fn start() {
    recorder::start();
    operators::resolve();
    let (local, here) = (arch::local(), 0_usize);
    guarded(local, (&raw const here) as usize, || crate::place::finish(local));
}

/// Whether a call that entered at `sp` is the program's own, and not made from inside a hook.
#[inline(always)]
fn is_outermost(local: &Local, sp: usize) -> bool {
    local.guard.load(Relaxed) == 0 || hook_is_gone(local, sp)
}

#[cold]
fn hook_is_gone(local: &Local, sp: usize) -> bool {
    let guard = local.guard.load(Relaxed);
    if sp >= guard {
        let (low, high) = bounds::of_thread(local, sp, &mut [0; 1024]);
        let own = low..high;
        if own.contains(&sp) && own.contains(&guard) {
            local.guard.store(0, Relaxed);
            return true;
        }
    }
    local.reentered.store(local.reentered.load(Relaxed).wrapping_add(1), Relaxed);
    false
}

/// Runs `f` under the guard.
#[inline(always)]
fn guarded<R>(local: &Local, sp: usize, f: impl FnOnce() -> R) -> R {
    local.guard.store(sp, Relaxed);
    let result = f();
    local.guard.store(0, Relaxed);
    result
}

/// Lets `f` write an event; under the guard.
fn record(local: &Local, caller: Caller, lost: LossKind, f: impl FnMut(&mut Recording<'_>)) {
    recorder::record(local, caller, lost, f);
}
