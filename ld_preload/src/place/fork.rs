//! What happens to placed memory when the program forks.
//!
//! A thread of the program may be inside an arena when another forks; the child would find its locks taken for ever. So
//! the C library is asked to call us around every fork: before, all locks are taken; after, they are given back on both
//! sides. Our handlers are registered before the program's own (the loader initialises us first), so they run last
//! before the fork, when the program's handlers have stopped what they stop, and first after it.
//!
//! Memory of nodes is the child's own by copy-on-write. A file is copied (`memory`).
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

fn each_file(placing: &Placing, mut each: impl FnMut(&super::memory::TierFile, usize)) {
    for arena in placing.arenas() {
        let pages = arena.pages();
        if let Source::File(file) = &pages.source {
            each(file, pages.tier);
        }
    }
}

extern "C" fn before() {
    let Some(placing) = placing() else { return };
    for arena in placing.arenas() {
        arena.prepare_fork();
    }
    // SAFETY: this thread forks, and holds the locks.
    each_file(placing, |file, _| unsafe { file.prepare_fork() });
}

extern "C" fn in_parent() {
    let Some(placing) = placing() else { return };
    // SAFETY: as above.
    each_file(placing, |file, _| unsafe { file.parent_after_fork() });
    for arena in placing.arenas() {
        // SAFETY: this thread prepared it.
        unsafe { arena.parent_after_fork() };
    }
}

extern "C" fn in_child() {
    let Some(placing) = placing() else { return };
    // SAFETY: as above.
    each_file(placing, |file, tier| unsafe {
        if let Err(error) = file.child_after_fork()
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
