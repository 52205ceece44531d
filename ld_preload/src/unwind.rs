//! Takes the call stack of a hook's caller.
//!
//! Unwinding starts in the caller's frame, from the return address and registers its entry stub saw; our own frames are
//! never walked. The thread's own stack is read directly between the caller's stack pointer and the stack's top, which
//! is all mapped. Any other stack is read through a copy the kernel makes, which cannot fault.
//!
//! The unwinder's tables take some twenty kilobytes of stack while it works. A thread with less left, or on a stack of
//! which we do not know what is left (a coroutine's, a signal's), does this work on a stack of ours.
//!
//! A frame counts only when it lies in something executable. The first that does not ends the stack: past it an
//! unwinder led astray would produce a new nonsense stack each time, and fill the table with them. It is also the sign
//! that a module was loaded since, so that the modules are looked at again, as far as their ration goes.

use crate::arch::{Caller, Local};
use crate::modules::{self, Snapshot};
use crate::recorder::{self, Session};
use crate::thread::{KNOWN_CODE, Own, Thread, WINDOW_BYTES};
use crate::{bounds, sys};
use core::sync::atomic::Ordering;
use framehop::x86_64::{CacheX86_64, UnwindRegsX86_64};
use framehop::{FrameAddress, Unwinder};
use tierscope_wire::options::StackMode;
use tierscope_wire::{Event, MAX_FRAMES, StackId};

/// Reads words of a stack.
struct Reader<'w> {
    pid: u32,
    /// May be read directly.
    low: u64,
    high: u64,
    window: &'w mut [u8; WINDOW_BYTES],
    /// Address of the window's first byte; 0 for an empty one.
    window_start: u64,
}

impl Reader<'_> {
    fn read(&mut self, address: u64) -> Result<u64, ()> {
        if address >= self.low && address <= self.high.wrapping_sub(8) && address < self.high {
            // SAFETY: between the caller's stack pointer and the top of this thread's stack.
            return Ok(unsafe { (address as *const u64).read_unaligned() });
        }
        let page = address & !(WINDOW_BYTES as u64 - 1);
        if page != self.window_start || page == 0 {
            self.window_start = 0;
            if page == 0 || sys::peek(self.pid, page as usize, self.window) != WINDOW_BYTES {
                return Err(());
            }
            self.window_start = page;
        }
        let at = (address - page) as usize;
        let word = self.window.get(at..).and_then(|rest| rest.first_chunk::<8>()).ok_or(())?;
        Ok(u64::from_ne_bytes(*word))
    }
}

/// Whether `address` is code, remembering those that are.
fn is_code(known: &mut [u64; KNOWN_CODE], snapshot: &Snapshot, address: u64) -> bool {
    let place = &mut known[(address ^ address >> 8) as usize % KNOWN_CODE];
    if *place == address {
        return true;
    }
    let code = snapshot.is_code(address.wrapping_sub(1));
    if code {
        *place = address;
    }
    code
}

/// A stack as far as it went, and whether it ended where nothing executable is known to be.
struct Walk {
    depth: usize,
    strayed: bool,
}

/// Fills `own.frames` from the caller outwards.
fn walk(own: &mut Own, snapshot: &Snapshot, mode: StackMode, caller: Caller, bounds: (usize, usize), pid: u32) -> Walk {
    let sp = caller.sp as u64;
    let inside = (bounds.0..bounds.1).contains(&caller.sp);
    let (low, high) = if inside { (sp, bounds.1 as u64) } else { (1, 0) };
    let mut reader = Reader { pid, low, high, window: &mut own.window, window_start: 0 };
    let cache = own.cache.get_or_insert_with(CacheX86_64::new_in);
    let mut registers = UnwindRegsX86_64::new(caller.return_address(), sp + 8, caller.bp as u64);
    let mut address = caller.return_address();
    let mut depth = 0;
    loop {
        let Some(frame) = own.frames.get_mut(depth) else { return Walk { depth, strayed: false } };
        let code = is_code(&mut own.known_code, snapshot, address);
        if code || depth == 0 {
            *frame = address;
            depth += 1;
        }
        if !code || mode == StackMode::Caller {
            return Walk { depth, strayed: !code };
        }
        let next = match mode {
            StackMode::FramePointer => next_by_frame_pointer(&mut registers, &mut reader),
            _ => FrameAddress::from_return_address(address).and_then(|address| {
                let mut read = |address| reader.read(address);
                snapshot.unwinder.unwind_frame(address, &mut registers, cache, &mut read).ok().flatten()
            }),
        };
        match next {
            Some(next) if next != 0 => address = next,
            _ => return Walk { depth, strayed: false },
        }
    }
}

/// One step along the chain of frame pointers, which must lead upwards.
fn next_by_frame_pointer(registers: &mut UnwindRegsX86_64, reader: &mut Reader<'_>) -> Option<u64> {
    let bp = registers.bp();
    if bp < registers.sp() || bp & 7 != 0 {
        return None;
    }
    let next_bp = reader.read(bp).ok()?;
    let address = reader.read(bp.checked_add(8)?).ok()?;
    registers.set_sp(bp + 16);
    registers.set_bp(next_bp);
    Some(address)
}

/// The current snapshot, announced so that it stays.
fn announce(thread: &Thread) -> *mut Snapshot {
    loop {
        let snapshot = modules::current();
        thread.hazard.store(snapshot, Ordering::SeqCst);
        if modules::current() == snapshot {
            return snapshot;
        }
    }
}

/// Stack left to a thread that unwinds where it is.
const ROOM_BYTES: usize = 64 << 10;

/// Takes and interns the stack of `caller`; [`StackId::NONE`] when that cannot be.
pub(crate) fn take(session: &Session, thread: &Thread, own: &mut Own, local: &Local, caller: Caller) -> StackId {
    let bounds = bounds::of_thread(local, caller.sp, &mut own.window);
    let roomy = (bounds.0.saturating_add(ROOM_BYTES)..bounds.1).contains(&caller.sp);
    if roomy || session.mode == StackMode::Caller {
        return take_here(session, thread, own, bounds, caller);
    }
    let Some(top) = own.work_stack() else { return StackId::NONE };
    let mut id = StackId::NONE;
    recorder::on_work_stack(local, top, || id = take_here(session, thread, own, bounds, caller));
    id
}

fn take_here(session: &Session, thread: &Thread, own: &mut Own, bounds: (usize, usize), caller: Caller) -> StackId {
    let mut looked = false;
    if modules::is_stale() || modules::current().is_null() {
        looked = true;
        look_again(session, own);
    }
    let id = loop {
        let snapshot_pointer = announce(thread);
        // SAFETY: announced, so not freed until we withdraw.
        let Some(snapshot) = (unsafe { snapshot_pointer.as_ref() }) else {
            break intern(session, &[caller.return_address()], 0);
        };
        tell_all(session, own, snapshot);
        if own.known_in != snapshot_pointer {
            own.known_in = snapshot_pointer;
            own.known_code = [0; KNOWN_CODE];
        }
        let walk = walk(own, snapshot, session.mode, caller, bounds, session.pid);
        if walk.strayed && !looked && modules::may_look(recorder::now_ns()) {
            looked = true;
            thread.hazard.store(core::ptr::null_mut(), Ordering::SeqCst);
            look_again(session, own);
            continue;
        }
        let frames = own.frames.get(..walk.depth.min(MAX_FRAMES)).unwrap_or(&[]);
        break intern(session, frames, snapshot.epoch);
    };
    thread.hazard.store(core::ptr::null_mut(), Ordering::SeqCst);
    id
}

fn intern(session: &Session, frames: &[u64], epoch: u32) -> StackId {
    recorder::INTERNER.intern(&session.segment.stacks(), frames, epoch).unwrap_or_else(|| {
        session.segment.header().lost_stacks.fetch_add(1, Ordering::Relaxed);
        StackId::NONE
    })
}

/// Refreshes the modules and tells the agent of those that came and went.
pub(crate) fn look_again(session: &Session, own: &mut Own) {
    let Some(change) = modules::refresh(recorder::now_ns(), recorder::now_ns, crate::thread::uses) else { return };
    let time_ns = recorder::now_ns();
    for module in &change.unloaded {
        own.push(&session.segment, &Event::ModuleUnloaded { time_ns, start: module.start });
    }
    for module in &change.loaded {
        tell(session, own, module, time_ns);
    }
}

fn tell(session: &Session, own: &mut Own, module: &modules::Module, time_ns: u64) {
    own.push(
        &session.segment,
        &Event::ModuleLoaded {
            time_ns,
            start: module.start,
            end: module.end,
            bias: module.bias,
            build_id: module.build_id(),
            path: &module.path,
        },
    );
}

/// Tells the agent of every module, once per process: after a fork it has another segment.
fn tell_all(session: &Session, own: &mut Own, snapshot: &Snapshot) {
    let told = snapshot.announced.load(Ordering::Relaxed);
    if told == session.generation
        || snapshot.announced.compare_exchange(told, session.generation, Ordering::AcqRel, Ordering::Relaxed).is_err()
    {
        return;
    }
    // The first snapshot's modules were told as they were found.
    if told != 0 {
        let time_ns = recorder::now_ns();
        for module in &snapshot.modules {
            tell(session, own, module, time_ns);
        }
    }
}
