//! Huge blocks: whole segments, of which only the block's own pages are committed.
//!
//! From 2 MiB on, or aligned to more than that, a block begins at a multiple of 4 MiB, so that transparent huge pages
//! serve it as they would have served the program's own mapping. Addresses are wasted, memory is not.
//!
//! Committing and giving back gigabytes takes the kernel a while, so it happens without a lock: the run's first segment
//! is [`Kind::Busy`] meanwhile, which nobody else touches. `fork` waits for such calls to end, see [`Arena::begin`].

use crate::arena::Arena;
use crate::extents::{Fresh, is_worth_shrinking};
use crate::pages::Pages;
use crate::segments::{Kind, State};
use crate::tier::Run;
use crate::{PAGE, PAGES_PER_SEGMENT, SEGMENT};
use core::sync::atomic::Ordering;

/// A call that holds no lock and yet is in the middle of something.
#[derive(Debug)]
pub(crate) struct InFlight<'a>(&'a core::sync::atomic::AtomicUsize);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn segments_of(pages: usize) -> usize {
    pages.div_ceil(PAGES_PER_SEGMENT)
}

impl<P: Pages> Arena<'_, P> {
    /// Announces a call that `fork` must wait for; waits while a fork is under way.
    ///
    /// Both sides first say what they are about and then look at the other (sequentially consistent), so at least one
    /// of them sees the other: a fork that finds nobody in flight is seen by all who come later.
    pub(crate) fn begin(&self) -> InFlight<'_> {
        let mut rounds = 0_u32;
        loop {
            self.in_flight.fetch_add(1, Ordering::SeqCst);
            let announced = InFlight(&self.in_flight);
            if !self.forking.load(Ordering::SeqCst) {
                return announced;
            }
            drop(announced);
            self.pages.relax(rounds);
            rounds = rounds.saturating_add(1);
        }
    }

    /// A block of `pages` pages whose address is a multiple of `alignment` segments.
    pub(crate) fn allocate_huge(&self, tier: usize, pages: usize, alignment: usize) -> Option<Fresh> {
        let of = self.tiers.get(tier)?;
        let _call = self.begin();
        let fits = |run: &Run| {
            run.pages >= pages
                && run.pages - pages <= pages / 4
                && (self.address_of(run.segment) / SEGMENT).is_multiple_of(alignment.max(1))
        };
        // A statement of its own: the lock is given back at its end.
        let kept = of.kept.lock(self.relax()).take(fits);
        if let Some(run) = kept {
            of.budget.unkeep(run.pages * PAGE);
            self.map.set_state(run.segment, State::of(Kind::Huge, tier));
            return Some(Fresh { address: self.address_of(run.segment), zero: false });
        }
        let bytes = pages.checked_mul(PAGE)?;
        if !of.budget.charge(bytes) {
            return None;
        }
        let claimed = self.claim_run(tier, pages, alignment);
        let committed = claimed.filter(|segment| {
            let committed = self.pages.commit(tier, self.address_of(*segment), bytes);
            if !committed {
                self.free_segments(*segment, segments_of(pages));
            }
            committed
        });
        let Some(segment) = committed else {
            of.budget.discharge(bytes);
            return None;
        };
        self.map.set_detail(segment, pages as u64);
        self.map.set_state(segment, State::of(Kind::Huge, tier));
        Some(Fresh { address: self.address_of(segment), zero: true })
    }

    fn claim_run(&self, tier: usize, pages: usize, alignment: usize) -> Option<usize> {
        let _extents = self.extents.lock(self.relax());
        let count = segments_of(pages);
        let segment = self.map.claim(count, alignment)?;
        self.map.set_state(segment, State::of(Kind::Busy, tier));
        for tail in segment + 1..segment + count {
            self.map.set_state(tail, State::of(Kind::Tail, tier));
        }
        Some(segment)
    }

    fn free_segments(&self, segment: usize, count: usize) {
        let _extents = self.extents.lock(self.relax());
        self.map.free(segment, count);
    }

    /// The pages of the huge block at `address`, if one begins there.
    fn huge_pages(&self, segment: usize, address: usize) -> Option<usize> {
        if self.map.state(segment).kind != Kind::Huge || address != self.address_of(segment) {
            return None;
        }
        usize::try_from(self.map.detail(segment)).ok()
    }

    /// The bytes of the block at `address`.
    pub(crate) fn huge_bytes(&self, segment: usize, address: usize) -> Option<usize> {
        self.huge_pages(segment, address).map(|pages| pages * PAGE)
    }

    /// Frees the block at `address`; false if none begins there, also where another thread frees it just now.
    pub(crate) fn free_huge(&self, segment: usize, address: usize) -> bool {
        let _call = self.begin();
        let Some(pages) = self.huge_pages(segment, address) else { return false };
        let state = self.map.state(segment);
        if !self.map.exchange(segment, state, State::of(Kind::Busy, state.tier)) {
            return false;
        }
        let run = Run { segment, pages };
        let (Some(of), most) = (self.tiers.get(state.tier), self.settings.retained_bytes / PAGE) else { return false };
        if pages > most {
            self.drop_run(state.tier, run);
            return true;
        }
        self.map.set_state(segment, State::of(Kind::Retained, state.tier));
        of.budget.keep(pages * PAGE);
        loop {
            let oldest = of.kept.lock(self.relax()).put(run, most);
            let Some(oldest) = oldest else { return true };
            of.budget.unkeep(oldest.pages * PAGE);
            self.drop_run(state.tier, oldest);
        }
    }

    /// Gives a run back.
    fn drop_run(&self, tier: usize, run: Run) {
        self.pages.decommit(tier, self.address_of(run.segment), run.pages * PAGE);
        if let Some(of) = self.tiers.get(tier) {
            of.budget.discharge(run.pages * PAGE);
        }
        self.free_segments(run.segment, segments_of(run.pages));
    }

    /// Gives back all runs kept for the next block.
    pub(crate) fn flush_huge(&self, tier: usize) {
        let Some(of) = self.tiers.get(tier) else { return };
        let _call = self.begin();
        loop {
            let oldest = of.kept.lock(self.relax()).take(|_| true);
            let Some(oldest) = oldest else { return };
            of.budget.unkeep(oldest.pages * PAGE);
            self.drop_run(tier, oldest);
        }
    }

    /// Makes the block at `address` `wanted` pages long, where it is. Less than an eighth is not given back.
    pub(crate) fn resize_huge(&self, segment: usize, address: usize, wanted: usize) -> bool {
        let _call = self.begin();
        let Some(pages) = self.huge_pages(segment, address) else { return false };
        let tier = self.map.state(segment).tier;
        let Some(of) = self.tiers.get(tier) else { return false };
        let (had, has) = (segments_of(pages), segments_of(wanted));
        if wanted <= pages {
            if is_worth_shrinking(pages, wanted) {
                let bytes = (pages - wanted) * PAGE;
                self.pages.decommit(tier, address + wanted * PAGE, bytes);
                of.budget.discharge(bytes);
                self.map.set_detail(segment, wanted as u64);
                self.free_segments(segment + has, had - has);
            }
            return true;
        }
        let Some(bytes) = (wanted - pages).checked_mul(PAGE).filter(|bytes| of.budget.charge(*bytes)) else {
            return false;
        };
        let claimed = {
            let _extents = self.extents.lock(self.relax());
            self.map.claim_at(segment + had, has - had)
        };
        if claimed && self.pages.commit(tier, address + pages * PAGE, bytes) {
            for tail in segment + had..segment + has {
                self.map.set_state(tail, State::of(Kind::Tail, tier));
            }
            self.map.set_detail(segment, wanted as u64);
            return true;
        }
        if claimed {
            self.free_segments(segment + had, has - had);
        }
        of.budget.discharge(bytes);
        false
    }
}
