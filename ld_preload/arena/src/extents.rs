//! Medium blocks: runs of pages in segments shared by blocks of one tier.
//!
//! A block takes the lowest run that is long enough, in one of the tier's segments with room; so blocks of 132 KiB lie
//! 31 to a segment. The descriptions of such segments are as many as [`Layout`](crate::layout::Layout) made room for;
//! when they are used up, a block takes a segment of its own, which wastes addresses and no memory.
//!
//! Commits happen under the lock: they are of less than 2 MiB, and whoever waits needs their outcome.

use crate::arena::Arena;
use crate::pages::Pages;
use crate::runs::PageRuns;
use crate::segments::{Kind, State};
use crate::{PAGE, PAGES_PER_SEGMENT};
use core::ops::Range;

/// How many segments with room are looked at before a fresh one is taken: what bounds the time of an allocation.
pub(crate) const LONGEST_WALK: usize = 64;

/// What the lock of the extents guards, beside the segment map.
#[derive(Debug)]
pub(crate) struct Extents<'m> {
    runs: &'m mut [PageRuns],
    /// How many descriptions were ever used.
    begun: usize,
    /// The first of those no longer used, as index + 1.
    unused: u32,
}

impl<'m> Extents<'m> {
    /// `runs` are all zero.
    pub(crate) fn new(runs: &'m mut [PageRuns]) -> Self {
        Extents { runs, begun: 0, unused: 0 }
    }

    fn take(&mut self) -> Option<usize> {
        let index = if let Some(index) = (self.unused as usize).checked_sub(1) {
            self.unused = self.runs.get(index)?.next_unused;
            index
        } else if self.begun < self.runs.len() {
            self.begun += 1;
            self.begun - 1
        } else {
            return None;
        };
        *self.runs.get_mut(index)? = PageRuns::EMPTY;
        Some(index)
    }

    fn give(&mut self, index: usize) {
        if let (Some(runs), Ok(link)) = (self.runs.get_mut(index), u32::try_from(index + 1)) {
            runs.next_unused = self.unused;
            self.unused = link;
        }
    }
}

/// A block as it was given out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fresh {
    pub(crate) address: usize,
    /// Every byte was committed for this block, so is zero.
    pub(crate) zero: bool,
}

impl<'m, P: Pages> Arena<'m, P> {
    fn runs_of<'e>(&self, extents: &'e mut Extents<'m>, segment: usize) -> Option<&'e mut PageRuns> {
        let index = usize::try_from(self.map.detail(segment)).ok()?;
        extents.runs.get_mut(index).filter(|_| self.map.state(segment).kind == Kind::Medium)
    }

    /// A block of `pages` pages, its address a multiple of `alignment` pages (at most a segment).
    pub(crate) fn allocate_medium(&self, tier: usize, pages: usize, alignment: usize) -> Option<Fresh> {
        let of = self.tiers.get(tier)?;
        if of.budget.retained() == 0 && of.budget.would_refuse(pages * PAGE) {
            return None;
        }
        let mut extents = self.extents.lock(self.relax());
        let mut at = self.map.first(&of.medium);
        for _ in 0..LONGEST_WALK {
            let Some(segment) = at else { break };
            let found = self.runs_of(&mut extents, segment).and_then(|runs| runs.find(pages, alignment));
            if let Some(start) = found {
                return self.use_pages(&mut extents, tier, segment, start..start + pages, true);
            }
            at = self.map.after(segment);
        }
        let index = extents.take()?;
        let Some(segment) = self.map.claim(1, 1) else {
            extents.give(index);
            return None;
        };
        self.map.set_detail(segment, index as u64);
        self.map.set_state(segment, State::of(Kind::Medium, tier));
        self.map.push(&of.medium, segment);
        self.use_pages(&mut extents, tier, segment, 0..pages, true)
    }

    /// Gives free pages of a segment to a block: a new one, or the one that ends where they begin.
    fn use_pages(
        &self,
        extents: &mut Extents<'m>,
        tier: usize,
        segment: usize,
        pages: Range<usize>,
        new: bool,
    ) -> Option<Fresh> {
        let of = self.tiers.get(tier)?;
        let base = self.address_of(segment);
        let runs = self.runs_of(extents, segment)?;
        let missing = pages.len() - runs.committed.count(pages.clone());
        let mut committed = 0;
        if missing > 0 && of.budget.charge(missing * PAGE) {
            for run in runs.committed.clone().runs(pages.clone(), false) {
                if !self.pages.commit(tier, base + run.start * PAGE, run.len() * PAGE) {
                    break;
                }
                committed += run.len();
                runs.committed.set(run, true);
            }
            if committed < missing {
                of.budget.discharge((missing - committed) * PAGE);
                of.budget.retain(committed * PAGE);
            }
        }
        if committed < missing {
            self.drop_medium_if_empty(extents, tier, segment);
            return None;
        }
        of.budget.release((pages.len() - missing) * PAGE);
        let start = pages.start;
        if new {
            runs.mark(start, pages.len());
        } else {
            runs.extend(pages.clone());
        }
        if runs.is_full() {
            self.map.unlink(&of.medium, segment);
        }
        Some(Fresh { address: base + start * PAGE, zero: missing == pages.len() })
    }

    /// The pages of the block at `address`, if one begins there.
    fn medium_block(&self, extents: &mut Extents<'m>, segment: usize, address: usize) -> Option<Range<usize>> {
        let offset = address - self.address_of(segment);
        self.runs_of(extents, segment)?.block(offset / PAGE).filter(|_| offset.is_multiple_of(PAGE))
    }

    /// Frees the block at `address`; false if none begins there.
    pub(crate) fn free_medium(&self, segment: usize, address: usize) -> bool {
        let mut extents = self.extents.lock(self.relax());
        let Some(pages) = self.medium_block(&mut extents, segment, address) else { return false };
        let tier = self.map.state(segment).tier;
        self.give_pages(&mut extents, tier, segment, pages);
        self.drop_medium_if_empty(&mut extents, tier, segment);
        true
    }

    /// Takes pages from a block: all, or its end.
    fn give_pages(&self, extents: &mut Extents<'m>, tier: usize, segment: usize, pages: Range<usize>) {
        let (Some(of), Some(runs)) = (self.tiers.get(tier), self.runs_of(extents, segment)) else { return };
        if runs.is_full() {
            self.map.push(&of.medium, segment);
        }
        let bytes = pages.len() * PAGE;
        runs.unmark(pages.clone());
        if of.budget.retained() + bytes <= self.settings.retained_bytes {
            of.budget.retain(bytes);
        } else {
            self.pages.decommit(tier, self.address_of(segment) + pages.start * PAGE, bytes);
            of.budget.discharge(bytes);
            runs.committed.set(pages, false);
        }
    }

    fn drop_medium_if_empty(&self, extents: &mut Extents<'m>, tier: usize, segment: usize) {
        let (Some(of), Some(runs)) = (self.tiers.get(tier), self.runs_of(extents, segment)) else { return };
        if runs.is_unused() && runs.committed.next(0, true) == PAGES_PER_SEGMENT {
            if let Ok(index) = usize::try_from(self.map.detail(segment)) {
                extents.give(index);
            }
            self.map.unlink(&of.medium, segment);
            self.map.free(segment, 1);
        }
    }

    /// The bytes of the block at `address`.
    pub(crate) fn medium_bytes(&self, segment: usize, address: usize) -> Option<usize> {
        let mut extents = self.extents.lock(self.relax());
        self.medium_block(&mut extents, segment, address).map(|pages| pages.len() * PAGE)
    }

    /// Makes the block at `address` `wanted` pages long, where it is. Less than an eighth is not given back.
    pub(crate) fn resize_medium(&self, segment: usize, address: usize, wanted: usize) -> bool {
        let mut extents = self.extents.lock(self.relax());
        let Some(pages) = self.medium_block(&mut extents, segment, address) else { return false };
        let tier = self.map.state(segment).tier;
        let end = pages.start + wanted;
        if wanted <= pages.len() {
            if is_worth_shrinking(pages.len(), wanted) {
                self.give_pages(&mut extents, tier, segment, end..pages.end);
            }
            return true;
        }
        let room = self.runs_of(&mut extents, segment).map_or(0, |runs| runs.used.next(pages.end, true));
        end <= room && self.use_pages(&mut extents, tier, segment, pages.end..end, false).is_some()
    }

    /// Decommits the pages no block uses. The extents' lock is held.
    pub(crate) fn flush_medium(&self, extents: &mut Extents<'m>, tier: usize) {
        let Some(of) = self.tiers.get(tier) else { return };
        let mut at = self.map.first(&of.medium);
        while let Some(segment) = at {
            at = self.map.after(segment);
            let base = self.address_of(segment);
            if let Some(runs) = self.runs_of(extents, segment) {
                for run in runs.retained().runs(0..PAGES_PER_SEGMENT, true) {
                    let bytes = run.len() * PAGE;
                    of.budget.release(bytes);
                    self.pages.decommit(tier, base + run.start * PAGE, bytes);
                    of.budget.discharge(bytes);
                    runs.committed.set(run, false);
                }
            }
            self.drop_medium_if_empty(extents, tier, segment);
        }
    }
}

/// Whether giving back the end of a block is worth a system call and a hole.
pub(crate) fn is_worth_shrinking(pages: usize, wanted: usize) -> bool {
    wanted < pages && pages - wanted >= pages.div_ceil(8)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::vec;

    #[test]
    fn descriptions_are_used_again_and_come_clean() {
        let mut memory = vec![PageRuns::EMPTY; 2];
        let mut extents = Extents::new(&mut memory);
        assert_eq!((extents.take(), extents.take(), extents.take()), (Some(0), Some(1), None));
        if let Some(runs) = extents.runs.get_mut(0) {
            runs.mark(0, 7);
        }
        extents.give(1);
        extents.give(0);
        assert_eq!(extents.take(), Some(0));
        assert!(extents.runs[0].is_unused());
        assert_eq!((extents.take(), extents.take()), (Some(1), None));
    }

    #[test]
    fn an_end_of_less_than_an_eighth_is_kept() {
        assert!(!is_worth_shrinking(64, 57) && is_worth_shrinking(64, 56) && !is_worth_shrinking(1, 1));
        assert!(is_worth_shrinking(2, 1) && !is_worth_shrinking(2, 3));
    }
}
