//! From guest threads to the simulation's thread: a bounded queue of batches, and the end.
//!
//! The simulation runs beside the program, on a thread of its own, so that both go on at once where there are two cores. The queue
//! is short: a program that runs ahead waits. It waits until little is left, and not for each batch: to wake a thread costs as much as
//! to simulate a thousand accesses.
//!
//! What was read is not written to again until much else was: a core that writes to lines which another's own caches hold must take
//! each from there first. (On a Zen 4 server the program's thread took a fifth to a quarter longer by it.)
//!
//! When the simulation is over, for whatever reason, guest threads go on without it: they find no log and record nothing.

use crate::log::{self, Batch, Log};
use crate::outcome::Ended;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use tierscope_sim::Packed;

/// Batches on their way, from which on guest threads wait.
const QUEUE: usize = 8;

/// Batches on their way, at which they go on.
const FEW: usize = 2;

/// Logs that were read and are kept before the first of them is written to again: 4 MiB, more than a core's own caches hold.
const AT_REST: usize = 32;

/// What the simulation receives.
pub(crate) enum Delivery {
    /// What a thread did.
    Batch(Batch),
    /// The program ended so; answer when everything is written.
    End(Ended, SyncSender<()>),
}

struct Link {
    sender: Sender<Delivery>,
    /// Batches on their way. Fewer only while `spare` is locked.
    under_way: AtomicUsize,
    /// What was read, the latest last.
    spare: Mutex<VecDeque<Vec<Packed>>>,
    /// Few are on their way, or the simulation is over.
    few: Condvar,
}

impl Link {
    fn new() -> (Self, Receiver<Delivery>) {
        let (sender, receiver) = channel();
        let (under_way, spare) = (AtomicUsize::new(0), Mutex::new(VecDeque::new()));
        (Self { sender, under_way, spare, few: Condvar::new() }, receiver)
    }

    /// Sends a batch, and waits while too much is on its way. False where nobody receives it.
    fn send(&self, batch: Batch) -> bool {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        let is_sent = self.sender.send(Delivery::Batch(batch)).is_ok();
        if is_sent {
            self.wait();
        }
        is_sent
    }

    /// A batch was read.
    fn take_back(&self, words: Vec<Packed>) {
        let mut spare = self.spare();
        if spare.len() <= AT_REST + 2 * QUEUE {
            spare.push_back(words);
        }
        if self.under_way.fetch_sub(1, Ordering::Relaxed) == FEW + 1 {
            drop(spare);
            self.few.notify_all();
        }
    }

    /// Memory that has rested enough.
    fn rested(&self) -> Option<Vec<Packed>> {
        let mut spare = self.spare();
        if spare.len() > AT_REST { spare.pop_front() } else { None }
    }

    fn spare(&self) -> MutexGuard<'_, VecDeque<Vec<Packed>>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self) {
        if self.under_way.load(Ordering::Relaxed) <= QUEUE {
            return;
        }
        let mut spare = self.spare();
        while self.under_way.load(Ordering::Relaxed) > FEW && !is_over() {
            spare = self.few.wait(spare).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

static LINK: OnceLock<Link> = OnceLock::new();
static OVER: AtomicBool = AtomicBool::new(false);

/// Opens the queue; `None` if it is open.
pub(crate) fn open() -> Option<Receiver<Delivery>> {
    let (link, receiver) = Link::new();
    LINK.set(link).ok()?;
    Some(receiver)
}

/// Whether nothing is recorded any more.
pub(crate) fn is_over() -> bool {
    OVER.load(Ordering::Relaxed)
}

/// Records nothing any more, from wherever this is called. True for the first caller.
pub(crate) fn set_over() -> bool {
    !OVER.swap(true, Ordering::AcqRel)
}

/// Memory for a log.
pub(crate) fn words() -> Vec<Packed> {
    LINK.get().and_then(Link::rested).unwrap_or_default()
}

/// A batch was read; its memory may be used again.
pub(crate) fn give_back(batch: Batch) {
    if let Some(link) = LINK.get() {
        link.take_back(batch.into_words());
    }
}

/// The simulation's thread ends: nobody waits for it any more. Called when nothing is recorded any more.
pub(crate) fn let_go() {
    if let Some(link) = LINK.get() {
        drop(link.spare());
        link.few.notify_all();
    }
}

/// Hands a log over.
#[cold]
#[inline(never)]
pub(crate) fn hand_over(log: &mut Log) {
    if log.is_empty() {
        return;
    }
    let batch = log.take(words());
    let Some(link) = LINK.get() else { return };
    if !link.send(batch) {
        set_over();
        log::forget_all();
    }
}

/// Hands the logs of `cpus` over, has the simulation write its results, and waits until it has. Only the first caller does.
///
/// # Safety
///
/// No thread writes to these logs meanwhile.
pub(crate) unsafe fn end(ended: Ended, cpus: impl Iterator<Item = u32>) {
    if !set_over() {
        return;
    }
    let Some(link) = LINK.get() else { return };
    for cpu in cpus {
        // SAFETY: the caller's promise.
        if let Some(log) = unsafe { log::of_cpu(cpu) } {
            hand_over(log);
        }
    }
    let (answer, answered) = sync_channel(1);
    if link.sender.send(Delivery::End(ended, answer)).is_ok() {
        // An error is an answer too: nobody is there any more.
        let _ = answered.recv();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_rests_before_it_is_written_to_again() {
        let (link, _receiver) = Link::new();
        link.under_way.store(1000, Ordering::Relaxed);
        let numbered = |number: u64| vec![Packed::from_word(number)];
        for number in 0..AT_REST as u64 {
            link.take_back(numbered(number));
        }
        assert_eq!(link.rested(), None);
        link.take_back(numbered(500));
        assert_eq!(link.rested(), Some(numbered(0)), "the one that has rested longest");
        assert_eq!(link.rested(), None);
        for number in 0..500 {
            link.take_back(numbered(number));
        }
        assert!(link.spare().len() <= AT_REST + 2 * QUEUE + 1, "not without bound");
    }

    #[test]
    fn threads_that_run_ahead_wait_and_every_batch_arrives() {
        const CPU: u32 = log::MAX_CPUS as u32 - 5;
        const THREADS: usize = 3;
        const BATCHES: usize = 200;
        let (link, receiver) = Link::new();
        let most = AtomicUsize::new(0);
        // SAFETY: no other test has this cpu; the reference is the only one.
        let log = unsafe { log::insert(CPU, Vec::new()) }.unwrap();
        let mut batches: Vec<Vec<Batch>> =
            (0..THREADS).map(|_| (0..BATCHES).map(|_| log.take(Vec::new())).collect()).collect();
        std::thread::scope(|scope| {
            for batches in batches.drain(..) {
                let (link, most) = (&link, &most);
                scope.spawn(move || {
                    for batch in batches {
                        assert!(link.send(batch));
                        most.fetch_max(link.under_way.load(Ordering::Relaxed), Ordering::Relaxed);
                    }
                });
            }
            for _ in 0..THREADS * BATCHES {
                let Ok(Delivery::Batch(batch)) = receiver.recv() else { panic!("only batches were sent") };
                link.take_back(batch.into_words());
            }
        });
        assert_eq!(link.under_way.load(Ordering::Relaxed), 0);
        assert!(most.into_inner() <= QUEUE + THREADS);
        drop(receiver);
        assert!(!link.send(log.take(Vec::new())), "nobody receives it, and nobody waits");
        // SAFETY: as above; the reference is not used any more.
        unsafe { log::remove(CPU) };
    }
}
