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
use crate::bounds;
use crate::marked;
use crate::memo::{Entry, Key};
use crate::modules::{self, Snapshot};
use crate::recorder::{self, Session};
use crate::thread::{KNOWN_CODE, Own, Thread};
use crate::trace::{Reader, Trace};
use core::sync::atomic::Ordering;
use framehop::x86_64::{CacheX86_64, UnwindRegsX86_64};
use framehop::{FrameAddress, Unwinder};
use tierscope_wire::options::StackMode;
use tierscope_wire::{Event, MAX_FRAMES, StackId};

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
struct Walk<'m> {
    depth: usize,
    strayed: bool,
    trace: Option<Trace<'m>>,
}

/// The part of the stack from the caller upwards that may be read directly, first address and one past the last.
fn direct(caller: Caller, bounds: (usize, usize)) -> Option<(u64, u64)> {
    (bounds.0..bounds.1).contains(&caller.sp).then_some((caller.sp as u64, bounds.1 as u64))
}

/// Fills `own.frames` from the caller outwards, `most` at most.
#[allow(clippy::too_many_arguments, reason = "each is a fact of its own about one walk")]
fn walk<'m>(
    own: &mut Own,
    snapshot: &Snapshot,
    mode: StackMode,
    caller: Caller,
    bounds: (usize, usize),
    pid: u32,
    most: usize,
    entry: Option<&'m mut Entry>,
) -> Walk<'m> {
    let sp = caller.sp as u64;
    let (low, high) = direct(caller, bounds).unwrap_or((1, 0));
    let mut reader = Reader { pid, low, high, window: &mut own.window, window_start: 0 };
    let cache = own.cache.get_or_insert_with(CacheX86_64::new_in);
    let mut registers = UnwindRegsX86_64::new(caller.return_address(), sp + 8, caller.bp as u64);
    let mut trace = entry.map(|entry| Trace::new(entry, sp, &mut registers));
    let mut address = caller.return_address();
    let mut depth = 0;
    loop {
        let room = own.frames.get_mut(depth).filter(|_| depth < most);
        let Some(frame) = room else { return Walk { depth, strayed: false, trace } };
        let code = is_code(&mut own.known_code, snapshot, address);
        if code || depth == 0 {
            *frame = address;
            depth += 1;
        }
        if !code || mode == StackMode::Caller {
            return Walk { depth, strayed: !code, trace };
        }
        let next = match mode {
            StackMode::FramePointer => next_by_frame_pointer(&mut registers, &mut reader),
            _ => FrameAddress::from_return_address(address).and_then(|address| {
                let mut unwind = |registers: &mut _, mut read: &mut dyn FnMut(u64) -> Result<u64, ()>| {
                    snapshot.unwinder.unwind_frame(address, registers, cache, &mut read).ok().flatten()
                };
                match &mut trace {
                    Some(trace) => trace.step(&mut registers, &mut reader, unwind),
                    None => unwind(&mut registers, &mut |address| reader.read(address)),
                }
            }),
        };
        match next {
            Some(next) if next != 0 => address = next,
            _ => return Walk { depth, strayed: false, trace },
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

/// What a stack is taken for.
pub(crate) trait Purpose {
    /// Which of a thread's memos it uses.
    const MEMO: usize;

    /// How the stack is taken.
    fn mode(&self) -> StackMode;
    /// What ids are good for: those of another generation are not found in the memo.
    fn generation(&self) -> u32;
    /// This process.
    fn process(&self) -> u32;
    /// Frames needed at most.
    fn depth(&self) -> usize;
    /// Whether a stack that left known code after `depth` frames is worth a look at the modules.
    fn may_look(&self, _depth: usize) -> bool {
        modules::may_look(recorder::now_ns())
    }
    /// Brings the known modules up to date.
    fn look_again(&mut self, local: &Local, own: &mut Own);
    /// These are the modules; they stay for now.
    fn meet(&mut self, _own: &mut Own, _snapshot: &Snapshot) {}
    /// The id of a stack that was walked, without a snapshot if there are no modules known: then it is the caller alone.
    fn value(&mut self, frames: &[u64], snapshot: Option<&Snapshot>) -> StackId;
}

/// Stacks for events: interned in the session's table.
struct ForEvents<'s>(&'s Session);

impl Purpose for ForEvents<'_> {
    const MEMO: usize = 0;

    fn mode(&self) -> StackMode {
        self.0.mode
    }

    fn generation(&self) -> u32 {
        self.0.generation
    }

    fn process(&self) -> u32 {
        self.0.pid
    }

    fn depth(&self) -> usize {
        MAX_FRAMES
    }

    fn look_again(&mut self, _local: &Local, own: &mut Own) {
        look_again(self.0, own);
    }

    fn meet(&mut self, own: &mut Own, snapshot: &Snapshot) {
        tell_all(self.0, own, snapshot);
    }

    fn value(&mut self, frames: &[u64], snapshot: Option<&Snapshot>) -> StackId {
        intern(self.0, frames, snapshot.map_or(0, |snapshot| snapshot.epoch))
    }
}

/// Takes and interns the stack of `caller`; [`StackId::NONE`] when that cannot be.
pub(crate) fn take(session: &Session, thread: &Thread, own: &mut Own, local: &Local, caller: Caller) -> StackId {
    take_for(&mut ForEvents(session), thread, own, local, caller)
}

/// The id that `purpose` has for the stack of `caller`; [`StackId::NONE`] when there is none.
pub(crate) fn take_for<P: Purpose>(
    purpose: &mut P,
    thread: &Thread,
    own: &mut Own,
    local: &Local,
    caller: Caller,
) -> StackId {
    let bounds = bounds::of_thread(local, caller.sp, &mut own.window);
    let roomy = (bounds.0.saturating_add(ROOM_BYTES)..bounds.1).contains(&caller.sp);
    if roomy || purpose.mode() == StackMode::Caller {
        return take_here(purpose, thread, own, local, bounds, caller);
    }
    let Some(top) = own.work_stack() else { return StackId::NONE };
    let mut id = StackId::NONE;
    recorder::on_work_stack(local, top, || id = take_here(purpose, thread, own, local, bounds, caller));
    id
}

/// The id of the stack, if it was taken before; else, where it may be remembered, the entry to do that in.
fn recall<'m>(
    own: &mut Own,
    memo: usize,
    mode: StackMode,
    caller: Caller,
    bounds: (usize, usize),
    key: &Key,
) -> Result<StackId, Option<&'m mut Entry>> {
    // Other modes cost no more than the comparison.
    let (_, high) = direct(caller, bounds).filter(|_| mode == StackMode::Unwind).ok_or(None)?;
    // SAFETY: this thread's own, never freed; of an earlier stack's entry nothing is left in use. The thread's own stack
    // is mapped from the caller's stack pointer to its top.
    unsafe {
        let memo = own.memo(memo).as_mut().ok_or(None)?;
        memo.find(key, caller.bp as u64, high).ok_or_else(|| memo.vacate(key))
    }
}

fn take_here<P: Purpose>(
    purpose: &mut P,
    thread: &Thread,
    own: &mut Own,
    local: &Local,
    bounds: (usize, usize),
    caller: Caller,
) -> StackId {
    let mut looked = false;
    if modules::is_stale() || modules::current().is_null() {
        looked = true;
        purpose.look_again(local, own);
    }
    let id = loop {
        let snapshot_pointer = announce(thread);
        // SAFETY: announced, so not freed until we withdraw.
        let Some(snapshot) = (unsafe { snapshot_pointer.as_ref() }) else {
            break purpose.value(&[caller.return_address()], None);
        };
        purpose.meet(own, snapshot);
        if own.known_in != snapshot.serial {
            own.known_in = snapshot.serial;
            own.known_code = [0; KNOWN_CODE];
        }
        let key = Key {
            address: caller.return_address(),
            sp: caller.sp as u64,
            serial: snapshot.serial,
            generation: purpose.generation(),
        };
        let entry = match recall(own, P::MEMO, purpose.mode(), caller, bounds, &key) {
            Ok(id) => break id,
            Err(entry) => entry,
        };
        let walk = walk(own, snapshot, purpose.mode(), caller, bounds, purpose.process(), purpose.depth(), entry);
        if walk.strayed && !looked && purpose.may_look(walk.depth) {
            looked = true;
            thread.hazard.store(core::ptr::null_mut(), Ordering::SeqCst);
            purpose.look_again(local, own);
            continue;
        }
        let frames = own.frames.get(..walk.depth.min(MAX_FRAMES)).unwrap_or(&[]);
        let id = purpose.value(frames, Some(snapshot));
        if let Some(trace) = walk.trace.filter(|_| !walk.strayed && id != StackId::NONE) {
            trace.keep(key, id);
        }
        break id;
    };
    thread.hazard.store(core::ptr::null_mut(), Ordering::SeqCst);
    id
}

fn intern(session: &Session, frames: &[u64], epoch: u32) -> StackId {
    let announce = |id| {
        if session.segment.is_traced() {
            marked::tell_stack(id, frames);
        }
    };
    recorder::INTERNER.intern(&session.segment.stacks(), frames, epoch, announce).unwrap_or_else(|| {
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

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;
    use crate::arch;

    /// Calls `f(sp, bp, data)` as an entry stub would: with the caller's frame as it is.
    #[unsafe(naked)]
    unsafe extern "C" fn enter(f: extern "C" fn(usize, usize, *mut Taken), data: *mut Taken) {
        core::arch::naked_asm!("mov rax, rdi", "mov rdx, rsi", "mov rdi, rsp", "mov rsi, rbp", "jmp rax");
    }

    /// Stacks by id, from 1, and how many were remembered.
    struct Taken {
        stacks: Vec<Vec<u64>>,
        hits: usize,
    }

    /// Takes the stack afresh and by way of the memo.
    #[allow(clippy::unwrap_used, reason = "a test's")]
    extern "C" fn take_both(sp: usize, bp: usize, taken: *mut Taken) {
        // SAFETY: a local of the test.
        let taken = unsafe { &mut *taken };
        let (local, caller, pid) = (arch::local(), Caller { sp, bp }, std::process::id());
        let thread = Thread::of(local, || pid, 1).unwrap();
        // SAFETY: hooks are not exported here, so nothing else records on this thread.
        let own = unsafe { thread.own() };
        let bounds = bounds::of_thread(local, sp, &mut own.window);
        // SAFETY: announced.
        let snapshot = unsafe { announce(thread).as_ref() }.unwrap();
        let walked = walk(own, snapshot, StackMode::Unwind, caller, bounds, pid, MAX_FRAMES, None);
        assert!(!walked.strayed);
        let fresh = own.frames[..walked.depth].to_vec();
        let key = Key { address: caller.return_address(), sp: sp as u64, serial: snapshot.serial, generation: 1 };
        match recall(own, 0, StackMode::Unwind, caller, bounds, &key) {
            Ok(id) => {
                taken.hits += 1;
                assert_eq!(taken.stacks[id.0 as usize - 1], fresh);
            }
            Err(entry) => {
                let walked = walk(own, snapshot, StackMode::Unwind, caller, bounds, pid, MAX_FRAMES, entry);
                assert_eq!(own.frames[..walked.depth], fresh);
                taken.stacks.push(fresh);
                walked.trace.unwrap().keep(key, StackId(taken.stacks.len() as u32));
            }
        }
        thread.hazard.store(core::ptr::null_mut(), Ordering::SeqCst);
    }

    #[inline(never)]
    fn left(depth: u32, path: u32, taken: &mut Taken) {
        branch(core::hint::black_box(depth), path, taken);
        core::hint::black_box(depth);
    }

    /// As `left`, with a frame of the same size.
    #[inline(never)]
    fn right(depth: u32, path: u32, taken: &mut Taken) {
        branch(core::hint::black_box(depth), path, taken);
        core::hint::black_box(path);
    }

    #[inline(never)]
    fn branch(depth: u32, path: u32, taken: &mut Taken) {
        if depth == 0 {
            // SAFETY: `take_both` fits, and `taken` outlives the call.
            unsafe { enter(take_both, taken) };
        } else if path & 1 == 0 {
            left(depth - 1, path >> 1, taken);
        } else {
            right(depth - 1, path >> 1, taken);
        }
        core::hint::black_box(depth);
    }

    #[test]
    fn a_remembered_stack_is_the_one_a_walk_would_find() {
        // On a thread of its own, whose record no other test uses.
        let taken = std::thread::spawn(|| {
            modules::refresh(1, || 2, |_| true);
            let mut taken = Taken { stacks: Vec::new(), hits: 0 };
            for _ in 0..5 {
                for depth in [0, 1, 2, 7, 20, 40] {
                    for path in [0, 1, 5, 0] {
                        branch(depth, path, &mut taken);
                    }
                }
            }
            taken
        })
        .join()
        .unwrap();
        assert!(taken.stacks.iter().any(|stack| stack.len() >= 40));
        assert!(taken.stacks.len() >= 10, "{}", taken.stacks.len());
        assert!(taken.hits >= 60, "{} remembered, {} not", taken.hits, taken.stacks.len());
    }
}
