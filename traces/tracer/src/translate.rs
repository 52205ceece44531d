//! What is done when QEMU translates a block: decode it once, and ask for its callbacks.
//!
//! QEMU translates the same code more than once: when its cache is full, when the first thread is started, when a page of it is
//! written to. A block is known by its address and its bytes, and decoded again only where these are new, as in code that
//! is made or changed at run time. What is decoded is kept for good: callbacks point at it.

use crate::callbacks::{both, on_access, on_block};
use crate::decode::{Decoded, decode};
use crate::qemu::{Interface, Tb};
use rustc_hash::FxHashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use tierscope_sim::Class;

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
        for (index, (op, [load, store])) in decoded.block.ops.iter().zip(&decoded.tags).take(count).enumerate() {
            // What saves a whole state touches more than its operands say.
            let any = op.class == Class::X87;
            let instruction = qemu.instruction(tb, index);
            if op.loads > 0 || op.stores > 0 || any {
                qemu.on_access(instruction, on_access, both(*load, *store) as *mut _);
            }
        }
        first
    }
}
