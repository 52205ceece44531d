//! Which pages of one segment belong to which block: three bits a page, outside the memory they speak of.
//!
//! A page is *used* (belongs to a block) or not, is *committed* (readable, charged to the tier) or not, and may be the
//! *first* of its block. Every used page is committed once its block is handed out; a page committed and not used is
//! retained: given back by its block, kept for the next. A block reaches from its first page to the page before the
//! next first page or the next page not used, so lengths need not be stored, neighbours that are free are one run
//! without any merging, and a run is looked for from the lowest address on. Everything is bounded by the 16 words.

use crate::PAGES_PER_SEGMENT;
use core::ops::Range;

const WORDS: usize = PAGES_PER_SEGMENT / 64;

/// One bit a page.
#[derive(Debug, Clone)]
pub(crate) struct Bits([u64; WORDS]);

/// The bits `from..to` of word `word`, where the range meets that word.
fn mask_in(word: usize, range: &Range<usize>) -> u64 {
    let low = range.start.saturating_sub(word * 64).min(64);
    let high = range.end.saturating_sub(word * 64).min(64);
    if low >= high {
        return 0;
    }
    (u64::MAX >> (64 - (high - low))) << low
}

impl Bits {
    pub(crate) fn get(&self, at: usize) -> bool {
        self.0.get(at / 64).is_some_and(|word| word >> (at % 64) & 1 != 0)
    }

    pub(crate) fn set(&mut self, range: Range<usize>, value: bool) {
        for (index, word) in self.0.iter_mut().enumerate().take(range.end.div_ceil(64)).skip(range.start / 64) {
            let mask = mask_in(index, &range);
            *word = if value { *word | mask } else { *word & !mask };
        }
    }

    /// The first bit from `at` on that equals `value`; the number of pages if there is none.
    pub(crate) fn next(&self, at: usize, value: bool) -> usize {
        for (index, word) in self.0.iter().enumerate().skip(at / 64) {
            let wanted = if value { *word } else { !*word };
            let wanted = if index == at / 64 { wanted & (u64::MAX << (at % 64)) } else { wanted };
            if wanted != 0 {
                return index * 64 + wanted.trailing_zeros() as usize;
            }
        }
        PAGES_PER_SEGMENT
    }

    pub(crate) fn count(&self, range: Range<usize>) -> usize {
        let words = self.0.iter().enumerate().take(range.end.div_ceil(64)).skip(range.start / 64);
        words.map(|(index, word)| (word & mask_in(index, &range)).count_ones() as usize).sum()
    }

    /// The runs of bits that equal `value` within `range`.
    pub(crate) fn runs(&self, range: Range<usize>, value: bool) -> impl Iterator<Item = Range<usize>> + '_ {
        let mut at = range.start;
        core::iter::from_fn(move || {
            let start = self.next(at, value);
            if start >= range.end {
                return None;
            }
            at = self.next(start, !value).min(range.end);
            Some(start..at)
        })
    }
}

/// The pages of one segment. All zeros is an empty segment.
#[derive(Debug, Clone)]
#[repr(C)]
pub(crate) struct PageRuns {
    pub(crate) used: Bits,
    pub(crate) committed: Bits,
    first: Bits,
    /// No run of this many pages or more is free; 0 where nobody has looked since the last block was freed.
    no_run_of: u32,
    /// Link of the list of descriptors not in use, as index + 1.
    pub(crate) next_unused: u32,
}

impl PageRuns {
    /// An empty segment.
    pub(crate) const EMPTY: PageRuns = PageRuns {
        used: Bits([0; WORDS]),
        committed: Bits([0; WORDS]),
        first: Bits([0; WORDS]),
        no_run_of: 0,
        next_unused: 0,
    };

    /// The lowest run of `pages` free pages that begins at a multiple of `alignment` pages.
    pub(crate) fn find(&mut self, pages: usize, alignment: usize) -> Option<usize> {
        if self.no_run_of != 0 && pages >= self.no_run_of as usize {
            return None;
        }
        let mut at = 0;
        while at + pages <= PAGES_PER_SEGMENT {
            let start = self.used.next(at, false).next_multiple_of(alignment.max(1));
            if start + pages > PAGES_PER_SEGMENT {
                break;
            }
            let end = self.used.next(start, true);
            if end >= start + pages {
                return Some(start);
            }
            at = end;
        }
        if alignment <= 1 {
            self.no_run_of = u32::try_from(pages).unwrap_or(0);
        }
        None
    }

    /// Marks a block of `pages` pages at `start`.
    pub(crate) fn mark(&mut self, start: usize, pages: usize) {
        self.used.set(start..start + pages, true);
        self.committed.set(start..start + pages, true);
        self.first.set(start..start + 1, true);
    }

    /// The pages of the block that begins at `start`; `None` if none does.
    pub(crate) fn block(&self, start: usize) -> Option<Range<usize>> {
        if !self.used.get(start) || !self.first.get(start) {
            return None;
        }
        Some(start..self.used.next(start, false).min(self.first.next(start + 1, true)))
    }

    /// Takes `pages` from their block: all of it, or its end. They stay committed.
    pub(crate) fn unmark(&mut self, pages: Range<usize>) {
        self.used.set(pages.clone(), false);
        self.first.set(pages, false);
        self.no_run_of = 0;
    }

    /// Lets the block that ends at `pages.start` have `pages` too.
    pub(crate) fn extend(&mut self, pages: Range<usize>) {
        self.used.set(pages.clone(), true);
        self.committed.set(pages, true);
    }

    /// No block is left.
    pub(crate) fn is_unused(&self) -> bool {
        self.used.next(0, true) == PAGES_PER_SEGMENT
    }

    /// Every page belongs to a block.
    pub(crate) fn is_full(&self) -> bool {
        self.used.next(0, false) == PAGES_PER_SEGMENT
    }

    /// The runs of pages that are committed and belong to no block.
    pub(crate) fn retained(&self) -> Bits {
        let mut bits = self.committed.clone();
        for (bits, used) in bits.0.iter_mut().zip(self.used.0) {
            *bits &= !used;
        }
        bits
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    #[test]
    fn runs_are_found_from_the_lowest_address_and_aligned() {
        let mut runs = PageRuns::EMPTY;
        runs.mark(0, 33);
        runs.mark(40, 100);
        assert_eq!(runs.find(7, 1), Some(33));
        assert_eq!(runs.find(8, 1), Some(140));
        assert_eq!(runs.find(8, 64), Some(192));
        assert_eq!(runs.find(PAGES_PER_SEGMENT - 140, 1), Some(140));
        assert_eq!(runs.find(PAGES_PER_SEGMENT - 139, 1), None);
        assert_eq!(runs.find(PAGES_PER_SEGMENT - 139, 1), None, "remembered");
        runs.unmark(40..140);
        assert_eq!(runs.find(PAGES_PER_SEGMENT - 33, 1), Some(33), "what was free on both sides is one run");
    }

    #[test]
    fn blocks_that_touch_are_told_apart() {
        let mut runs = PageRuns::EMPTY;
        runs.mark(10, 5);
        runs.mark(15, 100);
        assert_eq!(runs.block(10), Some(10..15));
        assert_eq!(runs.block(15), Some(15..115));
        assert_eq!((runs.block(11), runs.block(9), runs.block(115)), (None, None, None));
        runs.unmark(10..15);
        assert_eq!(runs.block(10), None, "a block freed twice");
        let retained: Vec<_> =
            runs.retained().runs(0..PAGES_PER_SEGMENT, true).map(|run| (run.start, run.end)).collect();
        assert_eq!(retained, [(10, 15)]);
    }

    proptest! {
        #[test]
        fn pages_are_as_in_a_list_of_booleans(
            steps in proptest::collection::vec((0_usize..PAGES_PER_SEGMENT, 1_usize..400, 0_u32..4, any::<bool>()), 1..40)
        ) {
            let mut runs = PageRuns::EMPTY;
            let mut model = [0_usize; PAGES_PER_SEGMENT];
            let mut live: Vec<(usize, usize)> = Vec::new();
            for (number, (pick, pages, alignment, free)) in steps.into_iter().enumerate() {
                if free && !live.is_empty() {
                    let (start, pages) = live.swap_remove(pick % live.len());
                    prop_assert_eq!(runs.block(start), Some(start..start + pages));
                    runs.unmark(start..start + pages);
                    model[start..start + pages].fill(0);
                    continue;
                }
                let alignment = 1 << alignment;
                let expected = (0..=PAGES_PER_SEGMENT - pages)
                    .step_by(alignment)
                    .find(|start| model[*start..start + pages].iter().all(|owner| *owner == 0));
                let found = runs.find(pages, alignment);
                prop_assert_eq!(found, expected);
                if let Some(start) = found {
                    runs.mark(start, pages);
                    model[start..start + pages].fill(number + 1);
                    live.push((start, pages));
                }
            }
            for (at, owner) in model.iter().enumerate() {
                prop_assert_eq!(runs.used.get(at), *owner != 0);
            }
            prop_assert_eq!(runs.used.count(100..900), model[100..900].iter().filter(|owner| **owner != 0).count());
            prop_assert_eq!(runs.is_unused(), model.iter().all(|owner| *owner == 0));
        }
    }
}
