//! Everything that depends on the processor, behind names that do not.

mod x86_64;

pub(crate) use x86_64::*;

use core::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize};

/// What each thread has without asking anyone: zeroed memory in the static thread-local block.
///
/// A signal handler may run in the middle of any use of it, on the same thread; relaxed atomics make that a defined
/// thing and cost what plain loads and stores cost.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Local {
    /// 0, or the stack pointer at entry of the hook that is running: the guard against recording our own doings.
    pub(crate) guard: AtomicUsize,
    /// Bytes of small blocks until the next one is sampled.
    pub(crate) countdown: AtomicI64,
    /// State of the random numbers; 0 until the first.
    pub(crate) random: AtomicU64,
    /// The `thread::Thread` of this thread, once it has recorded something.
    pub(crate) thread: AtomicUsize,
    /// Where `contain` resumes after a panic.
    pub(crate) escape: AtomicUsize,
    /// Calls that came in under the guard since last told.
    pub(crate) reentered: AtomicU64,
    /// This thread's own stack, zeros until looked up.
    pub(crate) stack_low: AtomicUsize,
    /// One past its highest byte that may be read.
    pub(crate) stack_high: AtomicUsize,
}

/// How a hook was entered: enough to go on from the caller's frame.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller {
    /// Stack pointer at entry: the address of the return address.
    pub(crate) sp: usize,
    /// Frame pointer register at entry.
    pub(crate) bp: usize,
}

impl Caller {
    /// The address the hook will return to.
    pub(crate) fn return_address(self) -> u64 {
        // SAFETY: an entry stub took `sp` while the word it points to held the return address, and the hook has not
        // returned yet.
        unsafe { (self.sp as *const u64).read() }
    }
}
