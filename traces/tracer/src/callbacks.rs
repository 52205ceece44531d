//! What QEMU calls, on the guest's threads.
//!
//! The callbacks that run for each block and each access that others do not lead write a word or a few, and nothing else. None of them can panic but those that
//! translate and look at system calls, which are contained: a panic there ends the recording, is said on standard error, and the
//! program goes on.
//!
//! A forked child has no simulation: it forgets the logs and runs on unrecorded. (QEMU's `vfork` is a fork.)

use crate::decode::{Decoded, Follower, MemoryTag};
use crate::happening::{Happening, Loaded};
use crate::link;
use crate::log::{self, Log};
use crate::outcome::Ended;
use crate::qemu::{self, BOTH, Interface, LOADS, OnAccess, PluginId, STORES, Tb};
use crate::system_calls;
use crate::{loaded, translate};
use std::cell::Cell;
#[cfg(feature = "plugin")]
use std::ffi::c_int;
use std::ffi::{c_uint, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, Once, OnceLock, PoisonError};
use tierscope_sim::Op;

static QEMU: OnceLock<Interface> = OnceLock::new();
/// What was loaded, until the first thread's log takes it along.
static LOADED: Mutex<Option<Loaded>> = Mutex::new(None);
static LOOKED: OnceLock<()> = OnceLock::new();
static TOO_MANY: Once = Once::new();

thread_local! {
    /// The virtual cpu of this thread.
    static CPU: Cell<Option<u32>> = const { Cell::new(None) };
}

/// Registers everything.
///
/// # Safety
///
/// Called by QEMU's install, with its id.
pub(crate) unsafe fn install(id: PluginId, qemu: Interface) {
    let qemu = QEMU.get_or_init(|| qemu);
    // SAFETY: the caller's promise; the handler touches atomics only.
    unsafe {
        libc::pthread_atfork(None, None, Some(forked));
        qemu.register(id, on_translated, on_cpu_exit, on_call, on_return, on_exit);
    }
}

fn contained(f: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(f)).is_err() {
        link::set_over();
        log::forget_all();
        eprintln!("tierscope: the tracer failed (see above); the program goes on without being simulated");
    }
}

unsafe extern "C" fn forked() {
    link::set_over();
    log::forget_all();
}

/// The log of the thread that calls, made when it has none.
#[inline(always)]
fn log_of(cpu: c_uint) -> Option<&'static mut Log> {
    // SAFETY: QEMU calls on the cpu's own thread, and callbacks do not nest.
    unsafe { log::of_cpu(cpu) }.or_else(|| begin(cpu))
}

#[cold]
#[inline(never)]
fn begin(cpu: c_uint) -> Option<&'static mut Log> {
    if link::is_over() {
        return None;
    }
    // SAFETY: as above.
    let Some(log) = (unsafe { log::insert(cpu, link::words()) }) else {
        TOO_MANY.call_once(|| {
            let most = log::MAX_CPUS;
            eprintln!("tierscope: more than {most} threads at a time; what those beyond do is not simulated");
        });
        return None;
    };
    CPU.set(Some(cpu));
    let loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner).take();
    // SAFETY: no memory involved.
    let tid = unsafe { libc::gettid() } as u32;
    log.happened(Happening::Started { tid, loaded });
    Some(log)
}

/// A block is entered.
pub(crate) unsafe extern "C" fn on_block(cpu: c_uint, block: *mut c_void) {
    // SAFETY: QEMU calls on the cpu's own thread, and callbacks do not nest.
    match unsafe { log::of_first(cpu) } {
        Some(log) if !log.is_enough() => log.block(block.cast()),
        _ => on_block_anew(cpu, block.cast()),
    }
}

/// The same for other threads than the first, and where there is no log or it is full.
#[inline(never)]
fn on_block_anew(cpu: c_uint, block: *const Decoded) {
    if let Some(log) = log_with_room(cpu) {
        log.block(block);
    }
}

/// The log of the thread that calls, as it is to be when a block is entered.
#[inline(always)]
fn log_with_room(cpu: c_uint) -> Option<&'static mut Log> {
    let Some(log) = log_of(cpu) else {
        // SAFETY: as in `log_of`.
        unsafe { log::write_nowhere(cpu) };
        return None;
    };
    if log.is_enough() {
        link::hand_over(log);
    }
    Some(log)
}

/// A tag as the upper bits of a word, with another in the lowest.
pub(crate) fn one(tag: MemoryTag, other: MemoryTag) -> u64 {
    tag.to_word() | other.to_word() >> MemoryTag::ADDRESS_BITS
}

/// An access that is what its instruction is known to do; or, with `PIECES`, perhaps a piece of one.
///
/// # Safety
///
/// As for those that call it.
#[inline(always)]
unsafe fn on_one<const KIND: u32, const PIECES: bool>(cpu: c_uint, description: u32, address: u64, tags: *mut c_void) {
    let (kind, tags) = (qemu::kind(description), tags as u64);
    // SAFETY: QEMU calls on the cpu's own thread, and callbacks do not nest.
    match unsafe { log::of_first(cpu) } {
        // SAFETY: the block was entered before, and is one whose accesses there is room for.
        Some(log) if !PIECES && kind == KIND => unsafe { log.access_with_room(address, tag_of(tags)) },
        _ => on_one_otherwise::<KIND>(cpu, kind, address, tags),
    }
}

/// The same for other threads than the first, for pieces, and for what its instruction was not known to do.
#[inline(never)]
fn on_one_otherwise<const KIND: u32>(cpu: c_uint, kind: u32, address: u64, tags: u64) {
    let Some(log) = log_of(cpu) else { return };
    if kind == KIND { log.access(address, tag_of(tags)) } else { unexpected(log, kind, address, tags, KIND) }
}

/// What accesses lead: what their callbacks write besides themselves.
#[derive(Debug)]
pub(crate) struct Leader {
    /// Its tags, as [`one`].
    pub(crate) tags: u64,
    /// The block, if it is entered with this access.
    pub(crate) enters: Option<&'static Decoded>,
    /// What follows it.
    pub(crate) followers: Box<[Follower]>,
}

impl Leader {
    /// What is to be called when it is accessed.
    pub(crate) fn callback(&self, op: &Op) -> OnAccess {
        let pieces = MemoryTag::from_word(self.tags).is_in_pieces();
        match (op.loads > 0, op.stores > 0, self.enters.is_some(), pieces) {
            (true, false, false, false) => lead::<LOADS, false, false>,
            (true, false, false, true) => lead::<LOADS, false, true>,
            (true, false, true, _) => lead::<LOADS, true, false>,
            (true, true, false, false) => lead::<BOTH, false, false>,
            (true, true, false, true) => lead::<BOTH, false, true>,
            (true, true, true, _) => lead::<BOTH, true, false>,
            (false, _, false, false) => lead::<STORES, false, false>,
            (false, _, false, true) => lead::<STORES, false, true>,
            (false, _, true, _) => lead::<STORES, true, false>,
        }
    }

    /// Writes it and what follows it.
    ///
    /// # Safety
    ///
    /// The block was entered before, and is one whose accesses there is room for.
    #[inline(always)]
    unsafe fn write<const PIECES: bool>(&self, log: &mut Log, address: u64) {
        let tag = tag_of(self.tags);
        if PIECES && log.is_piece_of(address, tag, self.followers.len()) {
            return;
        }
        // SAFETY: the caller's promise.
        unsafe { log.lead(address, tag, &self.followers) }
    }
}

/// An instruction of a bounded block accessed what others follow from, or its block is entered with it. Of one that reads and writes, what is
/// written follows from what is read.
unsafe extern "C" fn lead<const KIND: u32, const ENTERS: bool, const PIECES: bool>(
    cpu: c_uint,
    description: u32,
    address: u64,
    leader: *mut c_void,
) {
    let kind = qemu::kind(description);
    if KIND == BOTH && kind == STORES {
        return;
    }
    // SAFETY: never freed; see `translate`.
    let leader = unsafe { &*leader.cast::<Leader>() };
    // SAFETY: QEMU calls on the cpu's own thread, and callbacks do not nest.
    match unsafe { log::of_first(cpu) } {
        Some(log) if is_expected::<KIND>(kind) && !(ENTERS && log.is_enough()) => {
            if ENTERS && let Some(block) = leader.enters {
                log.block(block);
            }
            // SAFETY: the block was entered, and is bounded.
            unsafe { leader.write::<PIECES>(log, address) }
        }
        _ => lead_otherwise::<KIND, PIECES>(cpu, kind, address, leader),
    }
}

/// The same for other threads than the first, and where there is no log or it is full.
#[inline(never)]
fn lead_otherwise<const KIND: u32, const PIECES: bool>(cpu: c_uint, kind: u32, address: u64, leader: &Leader) {
    let log = if leader.enters.is_some() { log_with_room(cpu) } else { log_of(cpu) };
    let Some(log) = log else { return };
    if let Some(block) = leader.enters {
        log.block(block);
    }
    if is_expected::<KIND>(kind) {
        // SAFETY: as in `lead`.
        unsafe { leader.write::<PIECES>(log, address) }
    } else {
        unexpected(log, kind, address, leader.tags, if KIND == BOTH { LOADS } else { KIND });
    }
}

/// Whether an access is of the kind that its instruction begins with.
#[inline(always)]
fn is_expected<const KIND: u32>(kind: u32) -> bool {
    if KIND == BOTH { kind & LOADS != 0 } else { kind == KIND }
}

/// The tag that [`one`] put first.
#[inline(always)]
fn tag_of(tags: u64) -> u64 {
    tags & !u64::from(u16::MAX)
}

/// An access that its instruction was not known to make.
#[cold]
#[inline(never)]
fn unexpected(log: &mut Log, kind: u32, address: u64, tags: u64, expected: u32) {
    for this in [LOADS, STORES] {
        if kind & this != 0 {
            log.access(address, if this == expected { tag_of(tags) } else { tags << MemoryTag::ADDRESS_BITS });
        }
    }
}

/// An instruction of a bounded block that only reads did so; its tags are [`one`].
pub(crate) unsafe extern "C" fn on_load<const PIECES: bool>(
    cpu: c_uint,
    description: u32,
    address: u64,
    tags: *mut c_void,
) {
    // SAFETY: the callback is asked for in bounded blocks only.
    unsafe { on_one::<LOADS, PIECES>(cpu, description, address, tags) }
}

/// An instruction of a bounded block that only writes did so; its tags are [`one`].
pub(crate) unsafe extern "C" fn on_store<const PIECES: bool>(
    cpu: c_uint,
    description: u32,
    address: u64,
    tags: *mut c_void,
) {
    // SAFETY: as above.
    unsafe { on_one::<STORES, PIECES>(cpu, description, address, tags) }
}

/// An instruction's tags in one word: that of its loads, and above it that of its stores.
pub(crate) fn both(load: MemoryTag, store: MemoryTag) -> u64 {
    load.to_word() >> MemoryTag::ADDRESS_BITS | store.to_word() >> (MemoryTag::ADDRESS_BITS - 16)
}

/// An instruction read or wrote.
pub(crate) unsafe extern "C" fn on_access(cpu: c_uint, description: u32, address: u64, tags: *mut c_void) {
    let Some(log) = log_of(cpu) else { return };
    let (kind, tags) = (qemu::kind(description), tags as u64);
    if kind & LOADS != 0 {
        log.access(address, tags << MemoryTag::ADDRESS_BITS);
    }
    if kind & STORES != 0 {
        log.access(address, tags >> 16 << MemoryTag::ADDRESS_BITS);
    }
}

/// Something was accessed that is not simulated.
pub(crate) unsafe extern "C" fn on_nothing(_: c_uint, _: u32, _: u64, _: *mut c_void) {}

unsafe extern "C" fn on_translated(_id: PluginId, tb: *mut Tb) {
    if link::is_over() {
        return;
    }
    let Some(qemu) = QEMU.get() else { return };
    contained(|| {
        // SAFETY: QEMU is translating it.
        let first = unsafe { translate::translate(qemu, tb) };
        if let Some((address, host)) = first {
            LOOKED.get_or_init(|| {
                let base = host.wrapping_sub(address);
                let loaded = loaded::look(base, qemu.program().as_deref());
                *LOADED.lock().unwrap_or_else(PoisonError::into_inner) = Some(loaded);
            });
        }
    });
}

#[allow(clippy::too_many_arguments, reason = "QEMU's")]
unsafe extern "C" fn on_call(
    _id: PluginId,
    cpu: c_uint,
    number: i64,
    a: u64,
    b: u64,
    c: u64,
    d: u64,
    e: u64,
    f: u64,
    _: u64,
    _: u64,
) {
    if let Some(log) = log_of(cpu) {
        contained(|| system_calls::begins(log, number, [a, b, c, d, e, f]));
    }
}

unsafe extern "C" fn on_return(_id: PluginId, cpu: c_uint, number: i64, result: i64) {
    if let Some(log) = log_of(cpu) {
        contained(|| system_calls::ends(log, number, result));
    }
}

unsafe extern "C" fn on_cpu_exit(_id: PluginId, cpu: c_uint) {
    // SAFETY: QEMU calls on the cpu's own thread.
    let Some(log) = (unsafe { log::of_cpu(cpu) }) else { return };
    log.happened(Happening::Ended);
    link::hand_over(log);
    // SAFETY: as above; the reference is not used any more.
    unsafe { log::remove(cpu) };
}

unsafe extern "C" fn on_exit(_id: PluginId, _data: *mut c_void) {
    // SAFETY: QEMU stopped every thread and took their callbacks away before it calls this.
    contained(|| unsafe { link::end(Ended::Exited, log::cpus()) });
}

/// The program is about to be killed by a signal, or to become another, on this thread: what it did until now is all there will be.
/// What other threads had not handed over is lost.
pub(crate) fn end_here(ended: Ended) {
    // SAFETY: this thread's own.
    contained(|| unsafe { link::end(ended, CPU.get().into_iter()) });
}

/// QEMU kills itself by this once the guest died of a signal. Only where this library is preloaded into QEMU.
#[cfg(feature = "plugin")]
#[unsafe(no_mangle)]
extern "C" fn kill(pid: libc::pid_t, signal: c_int) -> c_int {
    // SAFETY: `sigaction` writes to the local; the system call is what was asked for.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        let by_default =
            libc::sigaction(signal, std::ptr::null(), &raw mut action) == 0 && action.sa_sigaction == libc::SIG_DFL;
        let ignored = [0, libc::SIGCHLD, libc::SIGCONT, libc::SIGURG, libc::SIGWINCH, libc::SIGSTOP, libc::SIGTSTP];
        if pid == libc::getpid() && by_default && !ignored.contains(&signal) {
            end_here(Ended::Killed { signal });
        }
        libc::syscall(libc::SYS_kill, pid, signal) as c_int
    }
}

/// Holds all signals back on this thread, for one it is about to start; the mask as it was.
pub(crate) fn hold_signals() -> libc::sigset_t {
    // SAFETY: both sets are ours.
    unsafe {
        let (mut all, mut before): (libc::sigset_t, libc::sigset_t) = (std::mem::zeroed(), std::mem::zeroed());
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
        before
    }
}

/// Sets the mask to what [`hold_signals`] returned.
pub(crate) fn release_signals(mask: &libc::sigset_t) {
    // SAFETY: a valid set.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, mask, std::ptr::null_mut()) };
}
