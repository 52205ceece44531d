//! What happens to placed memory when the program forks.
//!
//! A thread of the program may be inside an arena when another forks; the child would find its locks taken for ever. So
//! the C library is asked to call us around every fork: before, all locks are taken; after, they are given back on both
//! sides. Our handlers are registered before the program's own (the loader initialises us first), so they run last
//! before the fork, when the program's handlers have stopped what they stop, and first after it.
//!
//! Memory of nodes is the child's own by copy-on-write. A file is copied (`memory`), and so is a device (`device`).
//!
//! A child made by `vfork` or `posix_spawn` shares its parent's memory until it executes something else; no handlers run,
//! and none are needed. One made by the system call itself must do what its author knows it may.

use super::load::Placing;
use super::memory::Source;
use super::placing;
use crate::arch::weak_symbol;
use crate::modules;
use core::sync::atomic::Ordering::Relaxed;

type Handler = extern "C" fn();

/// Asks to be called. False where the C library has no way to.
pub(super) fn register() -> bool {
    // glibc since 2.3.2; what its pthread_atfork is made of.
    let glibc = weak_symbol!("__register_atfork");
    // musl.
    let posix = weak_symbol!("pthread_atfork");
    // SAFETY: C functions of these names have these types.
    unsafe {
        if glibc != 0 {
            let register: extern "C" fn(Handler, Handler, Handler, usize) -> i32 = core::mem::transmute(glibc);
            register(before, in_parent, in_child, 0) == 0
        } else if posix != 0 {
            let register: extern "C" fn(Handler, Handler, Handler) -> i32 = core::mem::transmute(posix);
            register(before, in_parent, in_child) == 0
        } else {
            false
        }
    }
}

/// Calls `each` for what is not the child's own by itself.
fn each_shared(placing: &Placing, mut each: impl FnMut(&Source, usize)) {
    for arena in placing.arenas() {
        let pages = arena.pages();
        if matches!(pages.source, Source::File(_) | Source::Device(_)) {
            each(&pages.source, pages.tier);
        }
    }
}

extern "C" fn before() {
    let Some(placing) = placing() else { return };
    for arena in placing.arenas() {
        arena.prepare_fork();
    }
    // SAFETY: this thread forks, and holds the locks.
    each_shared(placing, |source, _| unsafe {
        match source {
            Source::File(file) => file.prepare_fork(),
            Source::Device(device) => device.prepare_fork(),
            _ => {}
        }
    });
}

extern "C" fn in_parent() {
    let Some(placing) = placing() else { return };
    // SAFETY: as above.
    each_shared(placing, |source, _| unsafe {
        match source {
            Source::File(file) => file.parent_after_fork(),
            Source::Device(device) => device.parent_after_fork(),
            _ => {}
        }
    });
    for arena in placing.arenas() {
        // SAFETY: this thread prepared it.
        unsafe { arena.parent_after_fork() };
    }
}

extern "C" fn in_child() {
    let Some(placing) = placing() else { return };
    // SAFETY: as above.
    each_shared(placing, |source, tier| unsafe {
        let result = match source {
            Source::File(file) => file.child_after_fork(),
            Source::Device(device) => device.child_after_fork().inspect_err(|_| placing.lose(tier)),
            _ => Ok(()),
        };
        if let Err(error) = result
            && let Some(counters) = placing.statistics.tier(tier)
        {
            counters.fail(error.unsigned_abs());
        }
    });
    for arena in placing.arenas() {
        // SAFETY: this thread prepared it, and is the only one.
        unsafe { arena.child_after_fork() };
    }
    placing.statistics.general().processes.fetch_add(1, Relaxed);
    modules::reset_after_fork();
}
