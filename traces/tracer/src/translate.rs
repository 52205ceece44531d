//! What is done when QEMU translates a block: decode it once, and ask for its callbacks.
//!
//! QEMU translates the same code more than once: when its cache is full, when the first thread is started, when a page of it is
//! written to. A block is known by its address and its bytes, and decoded again only where these are new, as in code that
//! is made or changed at run time. What is decoded is kept for good: callbacks point at it.

use crate::callbacks::{Leader, both, on_access, on_block, on_load, on_nothing, on_store, one};
use crate::decode::{Asked, Decoded, Written, decode};
use crate::log::ROOM;
use crate::qemu::{Interface, OnAccess, Tb};
use rustc_hash::FxHashMap;
use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use tierscope_sim::{Block, Class, Op};

type Known = FxHashMap<u64, Vec<(Box<[u8]>, &'static Translated)>>;

static KNOWN: Mutex<Option<Known>> = Mutex::new(None);

/// Every access is to have a callback of its own.
static EACH: AtomicBool = AtomicBool::new(false);

/// From now on every access has a callback of its own, and none is written with another: what comes out must be the same.
pub(crate) fn ask_for_each() {
    EACH.store(true, Ordering::Relaxed);
}

/// What is to be called for a block that was translated.
struct Translated {
    decoded: &'static Decoded,
    bounded: bool,
    /// Whether accesses are written together with others.
    together: bool,
    /// Of each instruction whose callback does more than to write one access.
    leaders: Box<[Option<Leader>]>,
}

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

fn translated(address: u64, code: &[u8]) -> &'static Translated {
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let versions = known.get_or_insert_default().entry(address).or_default();
    if let Some((_, translated)) = versions.iter().find(|(bytes, _)| **bytes == *code) {
        return translated;
    }
    let translated: &'static Translated = Box::leak(Box::new(Translated::new(decode(address, code))));
    versions.push((code.into(), translated));
    translated
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

impl Translated {
    fn new(decoded: Decoded) -> Translated {
        let decoded: &'static Decoded = Box::leak(Box::new(decoded));
        let bounded = is_bounded(&decoded.block);
        let together = bounded && !EACH.load(Ordering::Relaxed);
        let leader = |(asked, op): (&Asked, &Op)| match &asked.written {
            Written::Leading { enters, followers } if together && (*enters || !followers.is_empty()) => {
                let [load, store] = asked.tags;
                let tags = if op.loads > 0 { one(load, store) } else { one(store, load) };
                Some(Leader { tags, enters: enters.then_some(decoded), followers: followers.clone() })
            }
            _ => None,
        };
        let leaders = decoded.asked.iter().zip(&decoded.block.ops).map(leader).collect();
        Translated { decoded, bounded, together, leaders }
    }

    /// Whether none of its accesses says that it is entered.
    fn is_to_be_entered(&self) -> bool {
        !self.leaders.iter().flatten().any(|leader| leader.enters.is_some())
    }

    /// What is called for the accesses of an instruction, and what it is called with.
    fn callback(&'static self, index: usize) -> Option<(OnAccess, *mut c_void)> {
        let (op, asked) = (self.decoded.block.ops.get(index)?, self.decoded.asked.get(index)?);
        if let Some(Some(leader)) = self.leaders.get(index) {
            return Some((leader.callback(op), std::ptr::from_ref(leader).cast_mut().cast()));
        }
        let ([load, store], bounded) = (asked.tags, self.bounded);
        match (op.loads > 0, op.stores > 0) {
            // What saves a whole state touches more than its operands say.
            (false, false) if op.class != Class::X87 => None,
            _ if self.together && asked.written == Written::Following => None,
            (true, false) if bounded => {
                let callback = if load.is_in_pieces() { on_load::<true> } else { on_load::<false> };
                Some((callback, one(load, store) as *mut _))
            }
            (false, true) if bounded => {
                let callback = if store.is_in_pieces() { on_store::<true> } else { on_store::<false> };
                Some((callback, one(store, load) as *mut _))
            }
            _ => Some((on_access, both(load, store) as *mut _)),
        }
    }
}

/// Whether the emulator may call a function of its own that accesses memory. Such an access is told to whoever was to be called for the last
/// instruction that called a function and had a callback, even of another block, unless the instruction has one itself (QEMU before 8.0
/// does not forget the last one when it leaves a block).
fn is_by_helper(op: &Op) -> bool {
    matches!(op.class, Class::Atomic | Class::X87)
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
        let mut code = Vec::with_capacity(8 * count);
        for index in 0..count {
            qemu.append_bytes(qemu.instruction(tb, index), &mut code);
        }
        if is_left_out(address) {
            for (index, _) in decode(address, &code).block.ops.iter().enumerate().filter(|(_, op)| is_by_helper(op)) {
                qemu.on_access(qemu.instruction(tb, index), on_nothing, std::ptr::null_mut());
            }
            return first;
        }
        let translated = translated(address, &code);
        if translated.is_to_be_entered() {
            qemu.on_block(tb, on_block, std::ptr::from_ref(translated.decoded).cast_mut().cast());
        }
        for index in 0..count {
            if let Some((callback, data)) = translated.callback(index) {
                qemu.on_access(qemu.instruction(tb, index), callback, data);
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
