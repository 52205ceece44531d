//! Where the calling thread's own stack lies, so that its words may be read without asking the kernel for each.
//!
//! A range counts only when it stays mapped while the thread runs on it: the kernel's `[stack]` for the first thread,
//! and for any other the mapping that holds its thread pointer, up to the thread pointer (C libraries place a thread's
//! control block at the top of its stack mapping). Above the current stack pointer such a range is always mapped.
//! Other stacks (signal stacks, coroutines) have no bounds here; they are read by copying.

use crate::arch::{self, Local};
use crate::{maps, sys};
use core::sync::atomic::Ordering::Relaxed;

/// Stands for "looked for in vain".
const NOWHERE: (usize, usize) = (1, 1);

/// The range, looked up once per thread; empty when there is none. `buffer` is scratch.
pub(crate) fn of_thread(local: &Local, sp: usize, buffer: &mut [u8]) -> (usize, usize) {
    let high = local.stack_high.load(Relaxed);
    if high != 0 {
        return (local.stack_low.load(Relaxed), high);
    }
    let (low, high) = look_up(sp, buffer);
    local.stack_low.store(low, Relaxed);
    local.stack_high.store(high, Relaxed);
    (low, high)
}

/// The usual case of a thread that is not the first, without reading through all mappings, where the kernel answers.
fn ask(sp: usize, thread_pointer: usize) -> Option<(usize, usize)> {
    if sys::thread_id() == sys::process_id() {
        return None;
    }
    let maps = sys::open(b"/proc/self/maps\0").map(sys::raise)?;
    let (low, _) = sys::mapping_of(&maps, thread_pointer)?;
    (low..thread_pointer).contains(&sp).then_some((low, thread_pointer))
}

fn look_up(sp: usize, buffer: &mut [u8]) -> (usize, usize) {
    let thread_pointer = arch::thread_pointer();
    if let Some(own) = ask(sp, thread_pointer) {
        return own;
    }
    let mut own = None;
    let mut first = None;
    maps::for_each(buffer, |mapping| {
        let range = (mapping.start as usize, mapping.end as usize);
        if mapping.path == b"[stack]" {
            first = Some(range);
        } else if mapping.readable && (range.0..range.1).contains(&thread_pointer) {
            own = Some((range.0, thread_pointer));
        }
        own.is_none() || first.is_none()
    });
    let holds = |range: &(usize, usize)| (range.0..range.1).contains(&sp);
    // The first thread's stack grows: it may reach as far down as its limit allows.
    let first = first.map(|(low, high)| {
        let most = match sys::limit(sys::RLIMIT_STACK) {
            sys::RLIM_INFINITY => 8 << 20,
            limit => limit as usize,
        };
        (low.min(high.saturating_sub(most)), high)
    });
    first
        .filter(holds)
        .or(own.filter(holds))
        .or(if sys::thread_id() == sys::process_id() { first } else { own })
        .unwrap_or(NOWHERE)
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;

    fn here_is_inside() {
        let variable = 0_u8;
        let sp = (&raw const variable) as usize;
        let (low, high) = of_thread(arch::local(), sp, &mut [0; 4096]);
        assert!((low..high).contains(&sp), "{sp:x} {low:x} {high:x}");
    }

    #[test]
    fn a_thread_knows_its_stack() {
        std::thread::spawn(here_is_inside).join().unwrap();
        here_is_inside();
    }
}
