//! A lock of one word that asks nothing of a C library, and data behind it.
//!
//! Taking it swaps 0 for 1 with acquire, giving it back stores 0 with release; so everything written by one holder is
//! seen by the next. A waiter looks at the word a bounded number of times and then lets its caller give the processor
//! away ([`Pages::relax`](crate::Pages::relax)), again and again: the holder is then on its way through a few hundred
//! instructions or one system call, unless it was scheduled out.
//!
//! A holder cannot die alone. Threads end by returning, by `pthread_exit` or by cancellation, none of which happens in
//! an allocator that calls no cancellation point; `SIGKILL` takes the whole process. A thread cancelled asynchronously
//! inside `malloc` breaks this allocator as it breaks any other (POSIX allows that only around functions made for it).
//! The one exception is `fork`, which is why [`Lock::release`] may be called by the child for a lock its parent's thread
//! took: see [`Arena::prepare_fork`](crate::Arena::prepare_fork).

use crate::sync::{AtomicU32, Ordering};
use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};

/// How often a waiter looks before it lets its caller wait. Some hundred nanoseconds: longer than a small block takes.
#[cfg(not(loom))]
const LOOKS: u32 = 64;
#[cfg(loom)]
const LOOKS: u32 = 1;

/// One word: 0 free, 1 taken.
#[derive(Debug)]
pub(crate) struct Lock {
    taken: AtomicU32,
}

impl Lock {
    /// A free lock.
    pub(crate) fn new() -> Self {
        Lock { taken: AtomicU32::new(0) }
    }

    /// Takes the lock if it is free.
    pub(crate) fn try_acquire(&self) -> bool {
        self.taken.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Takes the lock. `relax` gets the number of times it was called before by this waiter.
    pub(crate) fn acquire(&self, relax: impl Fn(u32)) {
        if self.try_acquire() {
            return;
        }
        let mut rounds = 0_u32;
        loop {
            for _ in 0..LOOKS {
                if self.taken.load(Ordering::Relaxed) == 0 && self.try_acquire() {
                    return;
                }
                core::hint::spin_loop();
            }
            relax(rounds);
            rounds = rounds.saturating_add(1);
        }
    }

    /// Gives the lock back.
    pub(crate) fn release(&self) {
        self.taken.store(0, Ordering::Release);
    }
}

/// A value behind a lock.
#[derive(Debug)]
pub(crate) struct Locked<T> {
    lock: Lock,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached by one thread at a time, through the lock.
unsafe impl<T: Send> Sync for Locked<T> {}

impl<T> Locked<T> {
    pub(crate) fn new(value: T) -> Self {
        Locked { lock: Lock::new(), value: UnsafeCell::new(value) }
    }

    /// The value, when the lock is had.
    pub(crate) fn lock(&self, relax: impl Fn(u32)) -> Guard<'_, T> {
        self.lock.acquire(relax);
        Guard { of: self }
    }

    /// The lock alone, for what takes it in one function and gives it back in another.
    pub(crate) fn raw(&self) -> &Lock {
        &self.lock
    }
}

/// Gives the lock back when dropped.
#[derive(Debug)]
pub(crate) struct Guard<'a, T> {
    of: &'a Locked<T>,
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: we hold the lock.
        unsafe { &*self.of.value.get() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: we hold the lock.
        unsafe { &mut *self.of.value.get() }
    }
}

impl<T> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        self.of.lock.release();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn threads_count_one_after_the_other() {
        let count = Locked::new(0_u64);
        let (threads, rounds) = if cfg!(miri) { (3, 20) } else { (8, 20_000) };
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    for _ in 0..rounds {
                        *count.lock(|_| std::thread::yield_now()) += 1;
                    }
                });
            }
        });
        assert_eq!(*count.lock(|_| ()), threads * rounds);
    }

    #[test]
    fn a_waiter_is_told_how_long_it_has_waited() {
        let value = Locked::new(());
        let held = value.lock(|_| ());
        std::thread::scope(|scope| {
            let (tell, told) = std::sync::mpsc::channel();
            let value = &value;
            scope.spawn(move || {
                value.lock(|rounds| {
                    tell.send(rounds).ok();
                    std::thread::yield_now();
                });
            });
            assert_eq!((told.recv().unwrap(), told.recv().unwrap()), (0, 1));
            drop(held);
        });
    }
}

/// `RUSTFLAGS="--cfg loom" cargo test -p tierscope-arena --lib --release` explores every interleaving of two holders.
#[cfg(all(test, loom))]
mod model {
    use super::*;
    use loom::sync::Arc;

    #[test]
    fn holders_exclude_each_other_and_see_what_the_last_one_wrote() {
        loom::model(|| {
            let shared = Arc::new((Lock::new(), loom::cell::UnsafeCell::new(0_u32)));
            let add = |shared: &(Lock, loom::cell::UnsafeCell<u32>)| {
                shared.0.acquire(|_| loom::thread::yield_now());
                // SAFETY: loom itself fails the test if another thread is at the cell.
                shared.1.with_mut(|value| unsafe { *value += 1 });
                shared.0.release();
            };
            let theirs = shared.clone();
            let other = loom::thread::spawn(move || {
                add(&theirs);
                add(&theirs);
            });
            add(&shared);
            other.join().unwrap();
            // SAFETY: nobody else is left.
            assert_eq!(shared.1.with(|value| unsafe { *value }), 3);
        });
    }
}
