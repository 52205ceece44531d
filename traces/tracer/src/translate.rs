//! What is done when QEMU translates a block: decode it once, and ask for its callbacks.
//!
//! QEMU translates the same code more than once: when its cache is full, when the first thread is started, when a page of it is
//! written to. A block is known by its address and its bytes, and decoded again only where these are new, as in code that
//! is made or changed at run time. What is decoded is kept for good: callbacks point at it.

use crate::callbacks::{both, on_access, on_block, on_load, on_store, one};
use crate::decode::{Decoded, decode};
use crate::log::ROOM;
use crate::qemu::{Interface, Tb};
use rustc_hash::FxHashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use tierscope_sim::{Block, Class};

type Known = FxHashMap<u64, Vec<(Box<[u8]>, &'static Decoded)>>;

static KNOWN: Mutex<Option<Known>> = Mutex::new(None);

/// The shim's own instructions: nothing the program does.
static SHIM: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

/// Leaves the instructions from `start` to `end` out from now on.
pub(crate) fn leave_out(start: u64, end: u64) {
    let [low, high] = &SHIM;
    low.store(start, Ordering::Relaxed);
    high.store(end, Ordering::Relaxed);
}

fn is_left_out(address: u64) -> bool {
    let [low, high] = &SHIM;
    (low.load(Ordering::Relaxed)..high.load(Ordering::Relaxed)).contains(&address)
}

fn decoded(address: u64, code: &[u8]) -> &'static Decoded {
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let versions = known.get_or_insert_default().entry(address).or_default();
    if let Some((_, decoded)) = versions.iter().find(|(bytes, _)| **bytes == *code) {
        return decoded;
    }
    let decoded: &'static Decoded = Box::leak(Box::new(decode(address, code)));
    versions.push((code.into(), decoded));
    decoded
}

/// Accesses that the emulator may make for one of an instruction: 64 bytes one by one.
const MOST_PIECES: usize = 64;

/// Whether there is room in a log for all that one execution of a block can access, so that nobody need look for each access. What
/// saves a state or repeats itself has no bound.
fn is_bounded(block: &Block) -> bool {
    let accesses: usize = block.ops.iter().map(|op| usize::from(op.loads) + usize::from(op.stores)).sum();
    let endless = block.ops.iter().any(|op| matches!(op.class, Class::X87 | Class::Repeat));
    // Two are what both kinds of an unexpected access are.
    !endless && 2 * accesses * MOST_PIECES < ROOM
}

/// Asks for the callbacks of a block. Its first instruction's place in QEMU's address space.
///
/// # Safety
///
/// Called by QEMU while it translates `tb`.
pub(crate) unsafe fn translate(qemu: &Interface, tb: *mut Tb) -> Option<(u64, u64)> {
    // SAFETY: the caller's promise, for all of it; what is decoded is never freed.
    unsafe {
        let (count, address) = qemu.block(tb);
        let first = (count > 0).then(|| (address, qemu.host_address(qemu.instruction(tb, 0))));
        if is_left_out(address) {
            return first;
        }
        let mut code = Vec::with_capacity(8 * count);
        for index in 0..count {
            qemu.append_bytes(qemu.instruction(tb, index), &mut code);
        }
        let decoded = decoded(address, &code);
        qemu.on_block(tb, on_block, std::ptr::from_ref(decoded).cast_mut().cast());
        let bounded = is_bounded(&decoded.block);
        for (index, (op, [load, store])) in decoded.block.ops.iter().zip(&decoded.tags).take(count).enumerate() {
            // What saves a whole state touches more than its operands say.
            let any = op.class == Class::X87;
            let instruction = qemu.instruction(tb, index);
            match (op.loads > 0, op.stores > 0) {
                (false, false) if !any => {}
                (true, false) if bounded => {
                    let callback = if load.is_in_pieces() { on_load::<true> } else { on_load::<false> };
                    qemu.on_access(instruction, callback, one(*load, *store) as *mut _);
                }
                (false, true) if bounded => {
                    let callback = if store.is_in_pieces() { on_store::<true> } else { on_store::<false> };
                    qemu.on_access(instruction, callback, one(*store, *load) as *mut _);
                }
                _ => qemu.on_access(instruction, on_access, both(*load, *store) as *mut _),
            }
        }
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_many_accesses_or_of_any_number_are_not_bounded() {
        let of = |code: &[u8]| is_bounded(&decode(0x1000, code).block);
        let load = [0x48, 0x8b, 0x03];
        assert!(of(&[0x90]) && of(&load) && of(&load.repeat(15)));
        assert!(!of(&load.repeat(16)));
        assert!(!of(&[0xf3, 0xa4]), "rep movsb");
        assert!(!of(&[0x0f, 0xae, 0x00]), "fxsave [rax]");
    }
}
