//! What stays near where the rest goes to a default tier of memory nodes.
//!
//! Such a default is a choice of the whole thread's (`set_mempolicy`): all its pages come from there that no rule
//! placed, those of its stack and of the program's variables among them. But a policy speaks of blocks and of the
//! globals it names, and an advice counts on the rest to stay in fast memory. So what is mapped when the program starts,
//! its modules' data and the first stack, is told to come from the node its user runs on, as without a policy. The heap
//! alone follows the default. A stack keeps what it was told as it grows.
//!
//! Page tables are memory as well, made by whoever touches a range first, and a walk through far ones makes near blocks
//! far. So the first page of what an entry of the second level covers is touched under no choice at all, wherever a
//! rule's memory begins to be used.
//!
//! Stacks of other threads and data of modules loaded later are mapped by the C library, past us: they follow the default.

use super::load::Placing;
use super::memory::{self, NodeMask};
use crate::{maps, sys};
use core::sync::atomic::{AtomicBool, Ordering};
use tierscope_arena::PAGE;

/// What one page table of the lowest level covers, in bytes, on every processor we know with pages of 4 KiB.
const TABLE: usize = 2 << 20;

/// Whether what no rule placed comes from chosen nodes.
static FAR: AtomicBool = AtomicBool::new(false);

/// From now on it does.
pub(super) fn is_called_for() {
    FAR.store(true, Ordering::Relaxed);
}

/// Tells what is mapped now, but for the heap and our own regions, to stay near. Best done before any of it is placed.
pub(super) fn keep(placing: &Placing) {
    if !FAR.load(Ordering::Relaxed) {
        return;
    }
    maps::for_each(&mut [0; 4096], |mapping| {
        let range = mapping.start as usize..mapping.end as usize;
        if mapping.writable && mapping.private && mapping.path != b"[heap]" && !placing.region().contains(&range.start)
        {
            // What cannot be bound (a device's memory) is no memory of a node's.
            let _ = memory::bind_near(range.start, range.len());
        }
        true
    });
}

/// Makes the page tables of an accessible, anonymous range of whole pages, near. Where the kernel is too old for it, they
/// come when the range is used, from the default's nodes.
pub(super) fn make_tables(address: usize, bytes: usize) {
    let mut chosen: NodeMask = [0; 16];
    if !FAR.load(Ordering::Relaxed) {
        return;
    }
    // A program may have chosen anew for this thread; it keeps what it has.
    let Some(mode) = sys::memory_policy(&mut chosen).filter(|mode| *mode != memory::MPOL_DEFAULT) else { return };
    if sys::set_memory_policy(memory::MPOL_DEFAULT, &[]).is_err() {
        return;
    }
    let mut at = address;
    while at.saturating_sub(address) < bytes {
        // SAFETY: makes a page that is there anyhow, with what it would contain.
        if !unsafe { sys::advise(at as *mut u8, PAGE, sys::MADV_POPULATE_WRITE) } {
            break;
        }
        at = (at + TABLE) & !(TABLE - 1);
    }
    let _ = sys::set_memory_policy(mode, &chosen);
}
