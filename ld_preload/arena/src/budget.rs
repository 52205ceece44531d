//! What each tier holds, to the byte, and how much it may.
//!
//! A byte is charged before it is committed and given back after it was decommitted, so the sum of what is readable
//! never exceeds the limit, at no moment and whatever threads do. The compare-and-swap in [`Budget::charge`] is what
//! makes two threads at the limit share what is left instead of both taking it.

use core::sync::atomic::{AtomicUsize, Ordering};

/// The account of one tier, in bytes.
#[derive(Debug)]
pub(crate) struct Budget {
    committed: AtomicUsize,
    /// The most that was ever committed.
    peak: AtomicUsize,
    limit: AtomicUsize,
    /// Of the committed bytes, those of pages and chunks that no block and no heap holds.
    retained: AtomicUsize,
    /// Of the committed bytes, those of whole runs of segments kept for the next block.
    kept: AtomicUsize,
}

/// What a tier holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Bytes that are readable and writable: blocks, the free memory of heaps, and what is retained.
    pub committed: usize,
    /// The most `committed` has been.
    pub peak: usize,
    /// Of `committed`, bytes kept for the next block; they are given back where the limit is in the way.
    pub retained: usize,
    /// The limit of `committed`, if there is one.
    pub limit: Option<usize>,
}

impl Budget {
    pub(crate) fn new() -> Self {
        Budget {
            committed: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            limit: AtomicUsize::new(usize::MAX),
            retained: AtomicUsize::new(0),
            kept: AtomicUsize::new(0),
        }
    }

    /// Sets the limit; what is committed above it stays until it is freed.
    pub(crate) fn set_limit(&self, limit: Option<usize>) {
        self.limit.store(limit.unwrap_or(usize::MAX), Ordering::Relaxed);
    }

    /// Whether `bytes` more would be too much now.
    pub(crate) fn would_refuse(&self, bytes: usize) -> bool {
        let after = self.committed.load(Ordering::Relaxed).checked_add(bytes);
        after.is_none_or(|after| after > self.limit.load(Ordering::Relaxed))
    }

    /// Charges `bytes`, or nothing if that were more than the limit.
    pub(crate) fn charge(&self, bytes: usize) -> bool {
        if bytes == 0 {
            return true;
        }
        let limit = self.limit.load(Ordering::Relaxed);
        let added = self.committed.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |committed| {
            committed.checked_add(bytes).filter(|after| *after <= limit)
        });
        if let Ok(before) = added {
            self.peak.fetch_max(before.wrapping_add(bytes), Ordering::Relaxed);
        }
        added.is_ok()
    }

    /// Takes a charge back.
    pub(crate) fn discharge(&self, bytes: usize) {
        self.committed.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Counts bytes of pages and chunks that are committed and now serve nobody.
    pub(crate) fn retain(&self, bytes: usize) {
        self.retained.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts retained bytes that serve again, or are about to be decommitted.
    pub(crate) fn release(&self, bytes: usize) {
        self.retained.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Bytes of pages and chunks retained.
    pub(crate) fn retained(&self) -> usize {
        self.retained.load(Ordering::Relaxed)
    }

    /// Counts the bytes of a run that is kept.
    pub(crate) fn keep(&self, bytes: usize) {
        self.kept.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts kept bytes that serve again, or are about to be decommitted.
    pub(crate) fn unkeep(&self, bytes: usize) {
        self.kept.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Whether nothing is committed that serves nobody.
    pub(crate) fn is_tight(&self) -> bool {
        self.retained() == 0 && self.kept.load(Ordering::Relaxed) == 0
    }

    pub(crate) fn usage(&self) -> Usage {
        let limit = self.limit.load(Ordering::Relaxed);
        Usage {
            committed: self.committed.load(Ordering::Relaxed),
            peak: self.peak.load(Ordering::Relaxed),
            retained: self.retained() + self.kept.load(Ordering::Relaxed),
            limit: (limit != usize::MAX).then_some(limit),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_charge_over_the_limit_changes_nothing() {
        let budget = Budget::new();
        assert!(budget.charge(usize::MAX - 1) && !budget.charge(2));
        budget.discharge(usize::MAX - 1);
        budget.set_limit(Some(100));
        assert!(budget.charge(60) && !budget.charge(41) && budget.charge(40));
        assert!(budget.would_refuse(1) && !budget.would_refuse(0));
        budget.discharge(100);
        budget.set_limit(None);
        let usage = budget.usage();
        assert_eq!((usage.committed, usage.limit), (0, None));
    }

    #[test]
    fn threads_at_the_limit_share_what_is_left() {
        let budget = Budget::new();
        budget.set_limit(Some(1000));
        let granted: usize = std::thread::scope(|scope| {
            let mut threads = Vec::new();
            for _ in 0..4 {
                threads.push(scope.spawn(|| (0..400).filter(|_| budget.charge(3)).count()));
            }
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!((granted, budget.usage().committed, budget.usage().peak), (333, 999, 999));
    }
}
