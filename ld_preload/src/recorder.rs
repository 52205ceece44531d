//! Whether and what this process records.
//!
//! Recording starts with the program's first call of any hook, or our constructor, whichever is earlier; only one
//! thread starts it, and others meanwhile pass their calls on unrecorded. From then on a process has a *generation*: 1,
//! and one more for each fork in its line. A forked child notices that it is one by a word in a page that the kernel
//! wipes on fork; it then makes a segment of its own, or falls silent, and never touches its parent's. A child of
//! `vfork` shares all memory with its parent, the word included, and what it does counts as its parent's doing.
//!
//! Everything that is recorded runs inside `arch::contain`: should it panic, the call comes back, the program goes on,
//! and recording is over.

use crate::arch::{self, Caller, Local};
use crate::environment::{AT_SECURE, AT_SYSINFO_EHDR, Environment};
use crate::intern::Interner;
use crate::segment::Segment;
use crate::thread::{self, Own, Thread};
use crate::tracked::Tracked;
use crate::{elf, marked, modules, place, sampling, sys, unwind};
use alloc::boxed::Box;
use alloc::string::String;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use tierscope_wire::event::Recorded;
use tierscope_wire::options::{Options, StackMode, VARIABLE};
use tierscope_wire::segment::CONTROL_STOP;
use tierscope_wire::{Event, Header, LossKind, StackId};

/// The recorded blocks that are alive.
pub(crate) static TRACKED: Tracked = Tracked::new();
/// The stacks known to the segment.
pub(crate) static INTERNER: Interner = Interner::new();
/// Blocks of this size and more take the slow path: 0 until started, then the threshold, or everything off.
static LARGE_BYTES: AtomicUsize = AtomicUsize::new(0);

static STATE: AtomicU32 = AtomicU32::new(NEW);
const NEW: u32 = 0;
const STARTING: u32 = 1;
const RECORDING: u32 = 2;
/// Nothing is recorded (any more).
const PASSIVE: u32 = 3;

/// The page that the kernel wipes on fork: its first word is `ALIVE`, 0 in a child, or `BUSY` while that is handled.
static FORK_WORD: AtomicPtr<AtomicU32> = AtomicPtr::new(null_mut());
const ALIVE: u32 = 1;
const BUSY: u32 = 2;
/// What other threads of a forked child could not record while its segment was being made.
static PENDING_LOSSES: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];

static SESSION: AtomicPtr<Session> = AtomicPtr::new(null_mut());
/// `__vdso_clock_gettime`, or 0.
static CLOCK: AtomicUsize = AtomicUsize::new(0);

/// What one process needs to record. Replaced as a whole in a forked child.
#[derive(Debug)]
pub(crate) struct Session {
    /// Where events go.
    pub(crate) segment: Segment,
    /// This process.
    pub(crate) pid: u32,
    /// 1, and one more per fork.
    pub(crate) generation: u32,
    /// How stacks are taken.
    pub(crate) mode: StackMode,
    /// The process this one was forked from, 0 for none; to be told once.
    forked_from: AtomicU32,
    socket: String,
    mean_bytes: u64,
    large_bytes: u64,
    follow: bool,
}

impl Session {
    fn options(&self) -> Options<'_> {
        Options {
            socket: &self.socket,
            mean_bytes: self.mean_bytes,
            large_bytes: self.large_bytes,
            stacks: self.mode,
            follow: self.follow,
            trace: self.segment.is_traced(),
        }
    }
}

/// Blocks of this size and more are recorded always; smaller ones count down.
#[inline(always)]
pub(crate) fn large_bytes() -> usize {
    LARGE_BYTES.load(Ordering::Relaxed)
}

/// `CLOCK_MONOTONIC` in nanoseconds.
pub(crate) fn now_ns() -> u64 {
    let clock = CLOCK.load(Ordering::Relaxed);
    if clock == 0 {
        return sys::monotonic_ns();
    }
    let mut time = [0_u64; 2];
    // SAFETY: the kernel's function, of this type.
    unsafe {
        let clock: extern "C" fn(i32, *mut u64) -> i32 = core::mem::transmute(clock);
        if clock(1, time.as_mut_ptr()) != 0 {
            return sys::monotonic_ns();
        }
    }
    time[0].wrapping_mul(1_000_000_000).wrapping_add(time[1])
}

/// Counts an event of a thread that has no ring.
pub(crate) fn lose(header: &Header, kind: LossKind) {
    let [allocations, frees, others] = &header.ringless_losses;
    match kind {
        LossKind::Allocation => allocations,
        LossKind::Free => frees,
        LossKind::Other => others,
    }
    .fetch_add(1, Ordering::Relaxed);
}

/// Counts an event that cannot even be tried: the ring may be in the middle of being written.
pub(crate) fn lose_at_once(kind: LossKind) {
    // SAFETY: words and sessions are never freed.
    unsafe {
        let alive =
            FORK_WORD.load(Ordering::Acquire).as_ref().is_some_and(|word| word.load(Ordering::Acquire) == ALIVE);
        if alive
            && STATE.load(Ordering::Acquire) == RECORDING
            && let Some(session) = SESSION.load(Ordering::Acquire).as_ref()
        {
            lose(session.segment.header(), kind);
        }
    }
}

/// Starts recording, if nobody has. Cheap when somebody has.
#[cold]
pub(crate) fn start() {
    if STATE.load(Ordering::Acquire) != NEW
        || STATE.compare_exchange(NEW, STARTING, Ordering::AcqRel, Ordering::Relaxed).is_err()
    {
        return;
    }
    // What we map for ourselves is not the program's, and a signal handler is not to find us half started.
    let local = arch::local();
    let guard = local.guard.load(Ordering::Relaxed);
    local.guard.store(1, Ordering::Relaxed);
    let mut started = false;
    contained(local, || {
        let environment = Environment::of_this_process();
        let secure = |environment: Environment| environment.auxiliary(AT_SECURE).is_some_and(|secure| secure != 0);
        let Some(environment) = environment.filter(|environment| !secure(*environment)) else { return };
        find_clock(environment);
        // Before the environment may be changed.
        place::start(environment);
        started = try_start(environment).is_some();
    });
    local.guard.store(guard, Ordering::Relaxed);
    if !started {
        go_passive();
    }
}

fn go_passive() {
    LARGE_BYTES.store(usize::MAX, Ordering::Release);
    STATE.store(PASSIVE, Ordering::Release);
}

fn try_start(environment: Environment) -> Option<()> {
    let value = environment.get(VARIABLE)?;
    let options = Options::parse(value.to_str().ok()?);
    let pid = sys::process_id();
    if options.trace {
        marked::hello();
    }
    let segment = match (options.trace, options.socket) {
        (true, _) => Segment::create_traced(pid, &options),
        (false, "") => None,
        (false, _) => Segment::create(pid, 0, now_ns(), &options),
    };
    let session = segment.map(|segment| Session {
        segment,
        pid,
        generation: 1,
        mode: options.stacks,
        forked_from: AtomicU32::new(0),
        socket: String::from(options.socket),
        mean_bytes: options.mean_bytes,
        large_bytes: options.large_bytes,
        follow: options.follow,
    });
    // Last, because it moves the text that the options were read from.
    if !options.follow {
        environment.forget_us();
    }
    let session = session?;
    watch_for_forks()?;
    // Every block, with a mean of one byte: no draw could do better.
    let every = session.mean_bytes <= 1 || session.segment.is_traced();
    let threshold = if every { 0 } else { session.large_bytes as usize };
    SESSION.store(Box::into_raw(Box::new(session)), Ordering::Release);
    STATE.store(RECORDING, Ordering::Release);
    LARGE_BYTES.store(threshold, Ordering::Release);
    Some(())
}

fn find_clock(environment: Environment) {
    let Some(base) = environment.auxiliary(AT_SYSINFO_EHDR) else { return };
    // SAFETY: the kernel maps the vdso there for the life of the process: an ELF image of at least a page.
    unsafe {
        let head = core::slice::from_raw_parts(base as *const u8, elf::HEAD_BYTES);
        let address_of = |kind| elf::segments(head).find(|segment| segment.kind == kind).map(|segment| segment.address);
        let (Some(first), Some(dynamic)) = (address_of(elf::LOAD), address_of(elf::DYNAMIC)) else { return };
        let bias = base.wrapping_sub(first as usize);
        let section = bias.wrapping_add(dynamic as usize) as *const [usize; 2];
        let clock = elf::Dynamic::new(bias, section).and_then(|vdso| vdso.function(c"__vdso_clock_gettime"));
        CLOCK.store(clock.unwrap_or(0), Ordering::Relaxed);
    }
}

fn watch_for_forks() -> Option<()> {
    let page = sys::map_private(4096)?;
    // SAFETY: a page of our own.
    unsafe {
        if !sys::advise(page, 4096, sys::MADV_WIPEONFORK) {
            // Before Linux 4.14: no way to tell a child cheaply; better not to record than to write as one's parent.
            sys::unmap(page, 4096);
            return None;
        }
        let word = page.cast::<AtomicU32>();
        (*word).store(ALIVE, Ordering::Relaxed);
        FORK_WORD.store(word, Ordering::Release);
    }
    Some(())
}

/// Calls the closure that `f` points to.
unsafe extern "C" fn run<F: FnMut()>(f: *mut u8) {
    // SAFETY: the pointer that `contain` or `on_stack` was given.
    unsafe { (*f.cast::<F>())() }
}

/// Calls `f` so that a panic in it ends recording instead of the program.
pub(crate) fn contained<F: FnMut()>(local: &Local, mut f: F) {
    let outer = local.escape.load(Ordering::Relaxed);
    // SAFETY: `run::<F>` fits `f`. What a panic leaves half done is memory of ours that is used no more.
    unsafe { arch::contain(run::<F>, (&raw mut f).cast(), &raw const local.escape) };
    local.escape.store(outer, Ordering::Relaxed);
}

/// Calls `f` on another stack, with signals held back: a handler must find itself on a stack that the program knows.
pub(crate) fn on_work_stack<F: FnMut()>(local: &Local, top: *mut u8, mut f: F) {
    let mask = sys::block_signals();
    // SAFETY: the thread's own work stack; nothing else runs on it while signals are held back.
    contained(local, || unsafe { arch::on_stack(run::<F>, (&raw mut f).cast(), top) });
    sys::restore_signals(mask);
}

/// Ends recording for good: something is wrong with us.
pub(crate) fn give_up() {
    go_passive();
    TRACKED.clear();
}

/// The session, made anew in a forked child.
fn session(local: &Local, lost: LossKind) -> Option<&'static Session> {
    // SAFETY: set before the state said `RECORDING`, never unmapped.
    let word = unsafe { FORK_WORD.load(Ordering::Relaxed).as_ref() }?;
    match word.load(Ordering::Acquire) {
        ALIVE => {}
        0 if word.compare_exchange(0, BUSY, Ordering::AcqRel, Ordering::Relaxed).is_ok() => {
            forked(local);
            word.store(ALIVE, Ordering::Release);
        }
        _ => {
            let [allocations, frees, others] = &PENDING_LOSSES;
            match lost {
                LossKind::Allocation => allocations,
                LossKind::Free => frees,
                LossKind::Other => others,
            }
            .fetch_add(1, Ordering::Relaxed);
            return None;
        }
    }
    if STATE.load(Ordering::Acquire) != RECORDING {
        return None;
    }
    // SAFETY: sessions are never freed.
    unsafe { SESSION.load(Ordering::Acquire).as_ref() }
}

/// The session, if this process records; what a fork left is dealt with.
pub(crate) fn present_session(local: &Local) -> Option<&'static Session> {
    if STATE.load(Ordering::Acquire) == RECORDING { session(local, LossKind::Other) } else { None }
}

/// Sees to it that the thread has a ring, as far as there is one.
pub(crate) fn attach(session: &Session, own: &mut Own, local: &Local, caller: Caller) {
    if own.attach(&session.segment, session.generation) {
        greet(session, own, local, caller);
    }
}

/// Brings the known modules up to date. To be called under the guard.
pub(crate) fn look_at_modules(local: &Local, caller: Caller) {
    if STATE.load(Ordering::Acquire) == RECORDING {
        record(local, caller, LossKind::Other, |recording| unwind::look_again(recording.session, recording.own));
    } else {
        modules::refresh(now_ns(), now_ns, thread::uses);
    }
}

/// First event in a forked child: leaves the parent's segment, and makes one of its own if children are followed.
fn forked(local: &Local) {
    // SAFETY: sessions are never freed, and only the one thread that noticed the fork is here.
    let Some(parent) = (unsafe { SESSION.load(Ordering::Acquire).as_ref() }) else { return };
    // SAFETY: records are never freed.
    let survivor = unsafe { (local.thread.load(Ordering::Relaxed) as *const Thread).as_ref() };
    thread::forget_others(survivor);
    modules::reset_after_fork();
    if let Some(survivor) = survivor {
        // SAFETY: this thread's own, under the guard.
        unsafe { survivor.own().drop_ring() };
    }
    parent.segment.unmap();
    let pid = sys::process_id();
    // A tracer follows one process.
    let follow = parent.follow && !parent.segment.is_traced();
    let child = if follow { Segment::create(pid, parent.pid, now_ns(), &parent.options()) } else { None };
    let Some(segment) = child else {
        give_up();
        return;
    };
    INTERNER.clear();
    let session = Session {
        segment,
        pid,
        generation: parent.generation.wrapping_add(1),
        mode: parent.mode,
        forked_from: AtomicU32::new(parent.pid),
        socket: parent.socket.clone(),
        mean_bytes: parent.mean_bytes,
        large_bytes: parent.large_bytes,
        follow: parent.follow,
    };
    for (pending, total) in PENDING_LOSSES.iter().zip(&session.segment.header().ringless_losses) {
        total.fetch_add(pending.swap(0, Ordering::AcqRel), Ordering::Relaxed);
    }
    SESSION.store(Box::into_raw(Box::new(session)), Ordering::Release);
}

/// What an event's construction has at hand.
pub(crate) struct Recording<'r> {
    session: &'r Session,
    thread: &'r Thread,
    own: &'r mut Own,
    local: &'r Local,
    caller: Caller,
}

impl Recording<'_> {
    /// The caller's stack.
    pub(crate) fn stack(&mut self) -> StackId {
        unwind::take(self.session, self.thread, self.own, self.local, self.caller)
    }

    /// Writes an event.
    pub(crate) fn push(&mut self, event: &Event<'_>) {
        self.own.push(&self.session.segment, event);
    }
}

/// Lets `f` write an event, if this process records. To be called under the guard. `lost` is what is counted where
/// nothing can be written.
#[cold]
pub(crate) fn record(local: &Local, caller: Caller, lost: LossKind, mut f: impl FnMut(&mut Recording<'_>)) {
    if STATE.load(Ordering::Acquire) != RECORDING {
        return;
    }
    contained(local, || {
        let Some(session) = session(local, lost) else { return };
        let header = session.segment.header();
        if header.control.load(Ordering::Relaxed) & CONTROL_STOP != 0 {
            return;
        }
        let reentered = local.reentered.swap(0, Ordering::Relaxed);
        if reentered != 0 {
            header.reentered.fetch_add(reentered, Ordering::Relaxed);
        }
        let Some(thread) = Thread::of(local, || session.pid, session.generation) else {
            lose(header, lost);
            return;
        };
        // SAFETY: this thread's own, under the guard, and used here only.
        let own = unsafe { thread.own() };
        attach(session, own, local, caller);
        if !own.has_room(&session.segment, lost) {
            return;
        }
        f(&mut Recording { session, thread, own, local, caller });
    });
}

/// The first events in a ring.
fn greet(session: &Session, own: &mut Own, local: &Local, caller: Caller) {
    let (low, high) = crate::bounds::of_thread(local, caller.sp, &mut own.window);
    let known = if high > low { (low as u64, high as u64) } else { (0, 0) };
    let time_ns = now_ns();
    let tid = sys::thread_id();
    let parent = session.forked_from.swap(0, Ordering::Relaxed);
    if parent != 0 {
        own.push(&session.segment, &Event::Forked { time_ns, parent, child: session.pid });
    }
    own.push(&session.segment, &Event::ThreadStarted { time_ns, tid, stack_low: known.0, stack_high: known.1 });
}

/// Decides whether a block of `bytes` about to be allocated is recorded, and counts it down.
#[cold]
pub(crate) fn decide(local: &Local, bytes: usize) -> Option<Recorded> {
    start();
    let state = STATE.load(Ordering::Acquire);
    if state != RECORDING {
        if state == PASSIVE {
            local.countdown.store(i64::MAX, Ordering::Relaxed);
        }
        return None;
    }
    if bytes >= large_bytes() {
        return Some(Recorded::Always);
    }
    // SAFETY: sessions are never freed, and there is one while recording.
    let mean = unsafe { SESSION.load(Ordering::Acquire).as_ref() }?.mean_bytes;
    let draw = || {
        let state = match local.random.load(Ordering::Relaxed) {
            0 => sampling::seed(arch::ticks() ^ core::ptr::from_ref(local) as u64),
            state => state,
        };
        let (state, random) = sampling::next_random(state);
        local.random.store(state, Ordering::Relaxed);
        sampling::gap(random, mean)
    };
    if local.random.load(Ordering::Relaxed) == 0 {
        local.countdown.store(draw(), Ordering::Relaxed);
    }
    let left = local.countdown.load(Ordering::Relaxed).wrapping_sub(bytes as i64);
    if left >= 0 {
        local.countdown.store(left, Ordering::Relaxed);
        return None;
    }
    local.countdown.store(draw(), Ordering::Relaxed);
    Some(Recorded::Sampled)
}

/// A panic in the shim: recording ends and the program goes on. Returns only when there is nowhere to go.
#[cfg_attr(any(test, not(feature = "export")), allow(dead_code, reason = "called by the panic handler"))]
pub(crate) fn panicked() {
    give_up();
    place::stop();
    let stack = arch::local().escape.load(Ordering::Relaxed);
    if stack != 0 {
        // SAFETY: the word is set exactly while a `contain` of this thread is in progress.
        unsafe { arch::escape(stack) }
    }
}
