//! From guest threads to the simulation's thread: a bounded queue of batches, and the end.
//!
//! The simulation runs beside the program, on a thread of its own, so that both go on at once where there are two cores. The queue
//! is short: a program that runs ahead waits, and what waits between them stays in the cache.
//!
//! When the simulation is over, for whatever reason, guest threads go on without it: they find no log and record nothing.

use crate::log::{self, Batch, Log};
use crate::outcome::Ended;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use tierscope_sim::Packed;

/// Batches on their way.
const QUEUE: usize = 6;

/// What the simulation receives.
pub(crate) enum Delivery {
    /// What a thread did.
    Batch(Batch),
    /// The program ended so; answer when everything is written.
    End(Ended, SyncSender<()>),
}

struct Link {
    sender: SyncSender<Delivery>,
    spare: Mutex<Vec<Vec<Packed>>>,
}

static LINK: OnceLock<Link> = OnceLock::new();
static OVER: AtomicBool = AtomicBool::new(false);

/// Opens the queue; `None` if it is open.
pub(crate) fn open() -> Option<Receiver<Delivery>> {
    let (sender, receiver) = sync_channel(QUEUE);
    LINK.set(Link { sender, spare: Mutex::new(Vec::new()) }).ok()?;
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
    let spare = LINK.get().map(|link| link.spare.lock().unwrap_or_else(PoisonError::into_inner).pop());
    spare.flatten().unwrap_or_default()
}

/// A batch was read; its memory may be used again.
pub(crate) fn give_back(batch: Batch) {
    if let Some(link) = LINK.get() {
        let mut spare = link.spare.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() <= 2 * QUEUE {
            spare.push(batch.into_words());
        }
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
    if link.sender.send(Delivery::Batch(batch)).is_err() {
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
