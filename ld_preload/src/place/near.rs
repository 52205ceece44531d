//! What stays near where the rest goes to a default tier of memory nodes.
//!
//! Such a default is a choice of the whole thread's (`set_mempolicy`): all its pages come from there that no rule
//! placed, those of its stack and of the program's variables among them. But a policy speaks of blocks and of the
//! globals it names, and an advice counts on the rest to stay in fast memory. So what is mapped when the program starts,
//! its modules' data and the first stack, is told to come from the node its user runs on, as without a policy. The heap
//! alone follows the default. A stack keeps what it was told as it grows.
//!
//! Stacks of other threads and data of modules loaded later are mapped by the C library, past us: they follow the default.

use super::load::Placing;
use super::memory;
use crate::maps;

/// Tells what is mapped now, but for the heap and our own regions, to stay near. Best done before any of it is placed.
pub(super) fn keep(placing: &Placing) {
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
