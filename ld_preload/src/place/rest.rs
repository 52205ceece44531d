//! Tiers of swap: the kernel is told that their memory is cold, so that it is the first to go when memory is short.
//!
//! Nothing of ours runs but what the program calls. So this is done from calls that place or free a block, once a second
//! at most: all pages of the tier are marked as not used; those used again before the kernel looks for pages to give up
//! are spared, as any page is. A program that stops allocating has its memory marked no more, and what it used last
//! counts as used. Without swap space, or with memory to spare, nothing happens at all.

use super::load::Placing;
use crate::{recorder, sys};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Between two times.
const PAUSE_NS: u64 = 1_000_000_000;

static LAST_NS: AtomicU64 = AtomicU64::new(0);

/// Marks the memory of tiers of swap, if it is time to.
#[inline]
pub(super) fn mark(placing: &Placing) {
    if placing.has_swap {
        mark_slowly(placing);
    }
}

#[cold]
fn mark_slowly(placing: &Placing) {
    let (now, last) = (recorder::now_ns(), LAST_NS.load(Relaxed));
    if now.saturating_sub(last) < PAUSE_NS || LAST_NS.compare_exchange(last, now, Relaxed, Relaxed).is_err() {
        return;
    }
    for (tier, region) in placing.regions().filter(|(tier, _)| placing.is_swap(*tier)) {
        // SAFETY: a region of ours; what is not accessible has no pages, and no page's contents change.
        let marked = unsafe { sys::advise(region.start as *mut u8, region.len(), sys::MADV_COLD) };
        if !marked && let Some(counters) = placing.statistics.tier(tier) {
            // Kernels before 5.4 do not know it.
            counters.fail(sys::EINVAL.unsigned_abs());
        }
    }
}
