//! What a thread that records keeps: its ring, its unwinder's cache, room to work in.
//!
//! None of it is on the thread's stack, which may be a coroutine's few kilobytes. It comes from a mapping of its own and
//! is never freed, because nobody tells us when a thread ends without allocating; instead a new thread looks whether
//! one of a few earlier ones is dead (`tgkill` with signal 0 says so) and takes its place, its ring going to the agent
//! to be drained. A program that starts thousands of threads in turn thus needs memory for those alive at once.
//!
//! `Own` is touched by its thread alone, under the guard that keeps a signal handler from recording in between.

use crate::memo::Memo;
use crate::modules::Snapshot;
use crate::segment::Segment;
use crate::{arch, marked, sys};
use core::cell::UnsafeCell;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering};
use framehop::MustNotAllocateDuringUnwind;
use framehop::x86_64::CacheX86_64;
use tierscope_wire::event::SHORT_EVENT_WORDS;
use tierscope_wire::{Event, LossKind, MAX_EVENT_WORDS, MAX_FRAMES, Producer, RingHeader};

/// Bytes of other stacks copied at a time.
pub(crate) const WINDOW_BYTES: usize = 4096;
/// Addresses known to be code, remembered per thread.
pub(crate) const KNOWN_CODE: usize = 256;
/// Dead threads looked for by a new one.
const CANDIDATES: usize = 8;
/// A thread without a ring looks for one again after so many events.
const EVENTS_BETWEEN_CLAIMS: u32 = 256;

/// A thread's record, in a list of all.
#[derive(Debug)]
pub(crate) struct Thread {
    next: AtomicPtr<Thread>,
    tid: AtomicU32,
    /// The snapshot being used: it must not be freed.
    pub(crate) hazard: AtomicPtr<Snapshot>,
    own: UnsafeCell<Own>,
}

/// The part that belongs to the thread alone.
pub(crate) struct Own {
    /// The generation of the recorder that `ring` belongs to; 0 before the first.
    generation: u32,
    ring: Option<(&'static RingHeader, Producer<'static>)>,
    without_ring: u32,
    /// Unwind rules already worked out.
    pub(crate) cache: Option<CacheX86_64<MustNotAllocateDuringUnwind>>,
    /// The stack being taken.
    pub(crate) frames: [u64; MAX_FRAMES],
    /// Code addresses seen before, and the snapshot in which they were.
    pub(crate) known_code: [u64; KNOWN_CODE],
    /// Its serial number.
    pub(crate) known_in: u64,
    /// Stacks taken before, by what for; null until needed.
    memos: [*mut Memo; 2],
    /// A copied piece of a stack that may not be read directly.
    pub(crate) window: [u8; WINDOW_BYTES],
    event: [u64; MAX_EVENT_WORDS],
    /// The top of a stack to work on where the thread's own has little room; null until needed.
    work_stack: *mut u8,
}

/// Bytes of a stack to work on, a page without access below them.
const WORK_STACK_BYTES: usize = 64 << 10;

impl core::fmt::Debug for Own {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Own").field("generation", &self.generation).finish_non_exhaustive()
    }
}

static ALL: AtomicPtr<Thread> = AtomicPtr::new(null_mut());
/// Where the next new thread looks for dead ones.
static CANDIDATE: AtomicPtr<Thread> = AtomicPtr::new(null_mut());
static COUNT: AtomicUsize = AtomicUsize::new(0);

fn all() -> impl Iterator<Item = &'static Thread> {
    // SAFETY: records are never freed.
    let at = |pointer: &AtomicPtr<Thread>| unsafe { pointer.load(Ordering::Acquire).as_ref() };
    core::iter::successors(at(&ALL), move |thread: &&Thread| at(&thread.next))
}

/// Whether some thread announces that it uses `snapshot`.
pub(crate) fn uses(snapshot: *mut Snapshot) -> bool {
    all().any(|thread| thread.hazard.load(Ordering::SeqCst) == snapshot)
}

/// A forked child has none of its parent's other threads; their records may be taken over.
pub(crate) fn forget_others(survivor: Option<&Thread>) {
    for thread in all() {
        thread.hazard.store(null_mut(), Ordering::SeqCst);
        if !survivor.is_some_and(|survivor| core::ptr::eq(survivor, thread)) {
            thread.tid.store(u32::MAX, Ordering::Release);
        }
    }
}

impl Thread {
    /// The record of the calling thread, made when there is none; only then is it asked which process this is.
    pub(crate) fn of(local: &arch::Local, process: impl FnOnce() -> u32, generation: u32) -> Option<&'static Thread> {
        let pointer = local.thread.load(Ordering::Relaxed) as *const Thread;
        // SAFETY: the word holds nothing else, and records are never freed.
        if let Some(thread) = unsafe { pointer.as_ref() } {
            return Some(thread);
        }
        let tid = sys::thread_id();
        let thread = Thread::take_over(process(), tid, generation).or_else(|| Thread::make(tid))?;
        local.thread.store(core::ptr::from_ref(thread) as usize, Ordering::Relaxed);
        Some(thread)
    }

    fn take_over(pid: u32, tid: u32, generation: u32) -> Option<&'static Thread> {
        if COUNT.load(Ordering::Relaxed) < CANDIDATES {
            return None;
        }
        // SAFETY: records are never freed.
        let mut at = unsafe { CANDIDATE.load(Ordering::Acquire).as_ref() };
        for _ in 0..CANDIDATES {
            let candidate = at.or_else(|| all().next())?;
            // SAFETY: as above.
            at = unsafe { candidate.next.load(Ordering::Acquire).as_ref() };
            CANDIDATE.store(at.map_or(null_mut(), |next| core::ptr::from_ref(next).cast_mut()), Ordering::Release);
            let theirs = candidate.tid.load(Ordering::Acquire);
            let dead = theirs == tid || theirs > i32::MAX as u32 || sys::is_dead(pid, theirs);
            if dead && candidate.tid.compare_exchange(theirs, tid, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                candidate.hazard.store(null_mut(), Ordering::SeqCst);
                // SAFETY: its thread is dead and we alone won the exchange.
                unsafe { (*candidate.own.get()).leave_ring(generation) };
                return Some(candidate);
            }
        }
        None
    }

    fn make(tid: u32) -> Option<&'static Thread> {
        let memory = sys::map_private(size_of::<Thread>())?.cast::<Thread>();
        // SAFETY: fresh zeroed memory, large and aligned enough. The parts not written are plain numbers.
        let thread = unsafe {
            (&raw mut (*memory).tid).write(AtomicU32::new(tid));
            let own = (&raw mut (*memory).own).cast::<Own>();
            (&raw mut (*own).ring).write(None);
            (&raw mut (*own).cache).write(None);
            &*memory
        };
        let mut first = ALL.load(Ordering::Relaxed);
        loop {
            thread.next.store(first, Ordering::Relaxed);
            match ALL.compare_exchange(first, memory, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => break,
                Err(other) => first = other,
            }
        }
        COUNT.fetch_add(1, Ordering::Relaxed);
        Some(thread)
    }

    /// The thread's own part.
    ///
    /// # Safety
    ///
    /// The caller runs on this thread, under the guard, and holds no other reference to it.
    #[allow(clippy::mut_from_ref, reason = "exclusive by the caller's promise")]
    pub(crate) unsafe fn own(&self) -> &mut Own {
        // SAFETY: the caller's promise.
        unsafe { &mut *self.own.get() }
    }
}

impl Own {
    /// Sees to it that the ring is one of the recorder's present `generation`; true when it just got one, or where there are none,
    /// the first time.
    pub(crate) fn attach(&mut self, segment: &Segment, generation: u32) -> bool {
        if self.generation == generation {
            if self.ring.is_some() || segment.is_traced() {
                return false;
            }
            self.without_ring = self.without_ring.wrapping_add(1);
            if !self.without_ring.is_multiple_of(EVENTS_BETWEEN_CLAIMS) {
                return false;
            }
        }
        self.generation = generation;
        if segment.is_traced() {
            return true;
        }
        self.ring = claim(segment, sys::thread_id());
        self.ring.is_some()
    }

    /// One of the thread's memos of stacks, never freed; null when there is no memory for it.
    pub(crate) fn memo(&mut self, which: usize) -> *mut Memo {
        let Some(memo) = self.memos.get_mut(which) else { return null_mut() };
        if memo.is_null() {
            *memo = Memo::map().unwrap_or(null_mut());
        }
        *memo
    }

    /// The top of this thread's work stack.
    pub(crate) fn work_stack(&mut self) -> Option<*mut u8> {
        if self.work_stack.is_null() {
            let base = sys::map_private(WORK_STACK_BYTES + 4096)?;
            // SAFETY: fresh memory of ours; the top is its end.
            unsafe {
                sys::protect(base, 4096, sys::PROT_NONE);
                self.work_stack = base.add(WORK_STACK_BYTES + 4096);
            }
        }
        Some(self.work_stack)
    }

    /// Gives up a ring of the present `generation`; one of an earlier is not mapped any more.
    fn leave_ring(&mut self, generation: u32) {
        if let Some((header, _)) = self.ring.take().filter(|_| self.generation == generation) {
            header.orphan();
        }
        self.generation = 0;
    }

    /// Forgets a ring that is no longer mapped.
    pub(crate) fn drop_ring(&mut self) {
        self.ring = None;
        self.generation = 0;
    }

    /// Whether the thread's ring takes one more short event; if not, it is counted as lost.
    pub(crate) fn has_room(&self, segment: &Segment, kind: LossKind) -> bool {
        match &self.ring {
            _ if segment.is_traced() => return true,
            Some((_, ring)) if ring.has_room(SHORT_EVENT_WORDS) => return true,
            Some((_, ring)) => ring.lose(kind),
            None => crate::recorder::lose(segment.header(), kind),
        }
        false
    }

    /// Writes an event, or counts it as lost.
    pub(crate) fn push(&mut self, segment: &Segment, event: &Event<'_>) {
        let kind = event.loss_kind();
        match &self.ring {
            _ if segment.is_traced() => marked::tell(event),
            Some((_, ring)) => {
                let words = event.encode(&mut self.event);
                ring.push(self.event.get(..words).unwrap_or(&[]), kind);
            }
            None => crate::recorder::lose(segment.header(), kind),
        }
    }
}

/// Claims a free ring, and gives up those a dead thread of the same number left behind.
fn claim(segment: &Segment, tid: u32) -> Option<(&'static RingHeader, Producer<'static>)> {
    use tierscope_wire::RingState;
    let mut claimed = None;
    for (index, header) in segment.rings().iter().enumerate() {
        match header.state() {
            Some(RingState::Active) if header.tid() == tid => header.orphan(),
            Some(RingState::Free) if claimed.is_none() && header.claim(tid) => claimed = Some((index, header)),
            // Rings are claimed in order: the first never used ends what there is to see.
            Some(RingState::Free) if header.generation() == 0 => break,
            _ => {}
        }
    }
    let (index, header) = claimed?;
    match segment.ring_words(index).and_then(|words| Producer::new(header, words)) {
        Some(producer) => Some((header, producer)),
        None => {
            header.orphan();
            None
        }
    }
}
