//! What each segment of the region is used for, outside the memory it speaks of.
//!
//! Five arrays, one entry a segment: a state that may be read without a lock, because whoever asks holds a block there
//! and a segment with a block does not change its state; a detail whose meaning the state gives; the two links of the
//! one list a segment can be on; and a bit that says whether it is taken, by which a run of free ones is found 64 at a
//! time. All zeros is a region nobody uses, so that memory for a terabyte costs what is touched of it.
//!
//! The bits and the links change under the lock of the extents only.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// What a segment holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Kind {
    /// Nothing.
    Free = 0,
    /// Chunks of one heap; the detail has a bit for each chunk in use (low half) and committed (high half).
    Small = 1,
    /// Blocks in runs of pages; the detail is the number of the [`PageRuns`](crate::runs::PageRuns).
    Medium = 2,
    /// The first segment of one block; the detail is its length in pages.
    Huge = 3,
    /// A further segment of the block, or of the run, that starts before.
    Tail = 4,
    /// The first segment of a run that is being committed or given back.
    Busy = 5,
    /// The first segment of a run that is kept committed for the next block; the detail is its length in pages.
    Retained = 6,
}

/// Who owns a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) kind: Kind,
    pub(crate) tier: usize,
    /// The heap among those of the tier, for [`Kind::Small`].
    pub(crate) shard: usize,
}

pub(crate) const MAX_SHARDS: usize = 1 << 12;
pub(crate) const MAX_TIERS: usize = 1 << 12;

impl State {
    pub(crate) const FREE: State = State { kind: Kind::Free, tier: 0, shard: 0 };

    pub(crate) fn of(kind: Kind, tier: usize) -> Self {
        State { kind, tier, shard: 0 }
    }

    fn pack(self) -> u32 {
        self.kind as u32 | (self.shard as u32) << 4 | (self.tier as u32) << 16
    }

    fn unpack(word: u32) -> Self {
        let kind = match word & 15 {
            1 => Kind::Small,
            2 => Kind::Medium,
            3 => Kind::Huge,
            4 => Kind::Tail,
            5 => Kind::Busy,
            6 => Kind::Retained,
            _ => Kind::Free,
        };
        State { kind, tier: (word >> 16) as usize, shard: (word >> 4 & 0xfff) as usize }
    }
}

/// The first segment of a list, as index + 1.
pub(crate) type Head = AtomicU32;

/// The map.
#[derive(Debug)]
pub(crate) struct SegmentMap<'m> {
    pub(crate) states: &'m [AtomicU32],
    pub(crate) details: &'m [AtomicU64],
    /// Pairs of next and previous, as index + 1.
    pub(crate) links: &'m [[AtomicU32; 2]],
    pub(crate) taken: &'m [AtomicU64],
    /// The number of the region's first segment, counted from address 0.
    pub(crate) origin: usize,
}

fn load(word: Option<&AtomicU32>) -> u32 {
    word.map_or(0, |word| word.load(Ordering::Relaxed))
}

fn store(word: Option<&AtomicU32>, value: u32) {
    if let Some(word) = word {
        word.store(value, Ordering::Relaxed);
    }
}

fn number(segment: usize) -> u32 {
    u32::try_from(segment + 1).unwrap_or(0)
}

impl SegmentMap<'_> {
    pub(crate) fn len(&self) -> usize {
        self.states.len()
    }

    pub(crate) fn state(&self, segment: usize) -> State {
        self.states.get(segment).map_or(State::FREE, |word| State::unpack(word.load(Ordering::Acquire)))
    }

    pub(crate) fn set_state(&self, segment: usize, state: State) {
        if let Some(word) = self.states.get(segment) {
            word.store(state.pack(), Ordering::Release);
        }
    }

    /// Changes the state if it is `from`; of two threads that try, one succeeds.
    pub(crate) fn exchange(&self, segment: usize, from: State, to: State) -> bool {
        self.states.get(segment).is_some_and(|word| {
            word.compare_exchange(from.pack(), to.pack(), Ordering::AcqRel, Ordering::Relaxed).is_ok()
        })
    }

    pub(crate) fn detail(&self, segment: usize) -> u64 {
        self.details.get(segment).map_or(0, |word| word.load(Ordering::Relaxed))
    }

    pub(crate) fn set_detail(&self, segment: usize, detail: u64) {
        if let Some(word) = self.details.get(segment) {
            word.store(detail, Ordering::Relaxed);
        }
    }

    /// The first segment from `at` on that is free, or that is taken; the number of segments if there is none.
    fn next(&self, at: usize, taken: bool) -> usize {
        for (index, word) in self.taken.iter().enumerate().skip(at / 64) {
            let word = word.load(Ordering::Relaxed);
            let wanted = if taken { word } else { !word };
            let wanted = if index == at / 64 { wanted & (u64::MAX << (at % 64)) } else { wanted };
            if wanted != 0 {
                return (index * 64 + wanted.trailing_zeros() as usize).min(self.len());
            }
        }
        self.len()
    }

    fn mark(&self, start: usize, count: usize, taken: bool) {
        let end = start + count;
        if count == 0 {
            return;
        }
        for (index, word) in self.taken.iter().enumerate().take(end.div_ceil(64)).skip(start / 64) {
            let low = start.saturating_sub(index * 64);
            let high = (end - index * 64).min(64);
            let mask = (u64::MAX >> (64 - (high - low))) << low;
            let before = word.load(Ordering::Relaxed);
            word.store(if taken { before | mask } else { before & !mask }, Ordering::Relaxed);
        }
    }

    /// Takes the lowest run of `count` free segments whose address is a multiple of `alignment` segments.
    pub(crate) fn claim(&self, count: usize, alignment: usize) -> Option<usize> {
        let mut at = 0;
        loop {
            let start = (self.next(at, false) + self.origin).checked_next_multiple_of(alignment.max(1))? - self.origin;
            let wanted = start.checked_add(count).filter(|end| *end <= self.len())?;
            at = self.next(start, true);
            if at >= wanted {
                self.mark(start, count, true);
                return Some(start);
            }
        }
    }

    /// Takes the `count` segments from `start` on, if they are free.
    pub(crate) fn claim_at(&self, start: usize, count: usize) -> bool {
        let fits = start.checked_add(count).is_some_and(|end| end <= self.len() && self.next(start, true) >= end);
        if fits {
            self.mark(start, count, true);
        }
        fits
    }

    /// Gives segments back, whose memory was decommitted before.
    pub(crate) fn free(&self, start: usize, count: usize) {
        for segment in start..start + count {
            self.set_state(segment, State::FREE);
            self.set_detail(segment, 0);
        }
        self.mark(start, count, false);
    }

    /// How many segments are taken.
    pub(crate) fn taken(&self) -> usize {
        self.taken.iter().map(|word| word.load(Ordering::Relaxed).count_ones() as usize).sum()
    }

    /// The list's first segment.
    pub(crate) fn first(&self, head: &Head) -> Option<usize> {
        (head.load(Ordering::Relaxed) as usize).checked_sub(1)
    }

    /// The segment after this one on its list.
    pub(crate) fn after(&self, segment: usize) -> Option<usize> {
        (load(self.links.get(segment).map(|[next, _]| next)) as usize).checked_sub(1)
    }

    /// Puts a segment on a list; it must be on none.
    pub(crate) fn push(&self, head: &Head, segment: usize) {
        let next = head.load(Ordering::Relaxed);
        if let Some(links) = self.links.get(segment) {
            store(links.first(), next);
            store(links.get(1), 0);
        }
        if let Some(next) = (next as usize).checked_sub(1) {
            store(self.links.get(next).map(|[_, previous]| previous), number(segment));
        }
        head.store(number(segment), Ordering::Relaxed);
    }

    /// Takes a segment off the list it is on.
    pub(crate) fn unlink(&self, head: &Head, segment: usize) {
        let next = load(self.links.get(segment).map(|[next, _]| next));
        let previous = load(self.links.get(segment).map(|[_, previous]| previous));
        match (previous as usize).checked_sub(1) {
            Some(previous) => store(self.links.get(previous).map(|[next, _]| next), next),
            None => head.store(next, Ordering::Relaxed),
        }
        if let Some(next) = (next as usize).checked_sub(1) {
            store(self.links.get(next).map(|[_, before]| before), previous);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    struct Owned {
        states: Vec<AtomicU32>,
        details: Vec<AtomicU64>,
        links: Vec<[AtomicU32; 2]>,
        taken: Vec<AtomicU64>,
    }

    impl Owned {
        fn of(segments: usize) -> Self {
            Owned {
                states: (0..segments).map(|_| AtomicU32::new(0)).collect(),
                details: (0..segments).map(|_| AtomicU64::new(0)).collect(),
                links: (0..segments).map(|_| Default::default()).collect(),
                taken: (0..segments.div_ceil(64)).map(|_| AtomicU64::new(0)).collect(),
            }
        }

        fn map(&self, origin: usize) -> SegmentMap<'_> {
            SegmentMap { states: &self.states, details: &self.details, links: &self.links, taken: &self.taken, origin }
        }
    }

    #[test]
    fn states_survive_packing() {
        for word in 0..7 {
            let state = State { tier: 4095, shard: 4095 - word as usize, ..State::unpack(word) };
            assert_eq!(State::unpack(state.pack()), state);
        }
    }

    #[test]
    fn runs_do_not_reach_beyond_the_region() {
        let owned = Owned::of(70);
        let map = owned.map(0);
        assert_eq!((map.claim(71, 1), map.claim(70, 1), map.claim(1, 1)), (None, Some(0), None));
        map.free(64, 6);
        assert!(!map.claim_at(69, 2) && map.claim_at(69, 1) && !map.claim_at(69, 1));
        assert_eq!((map.claim(6, 1), map.claim(5, 1), map.claim(usize::MAX, 1)), (None, Some(64), None));
    }

    #[test]
    fn alignment_is_of_addresses_and_not_of_numbers() {
        let owned = Owned::of(64);
        let map = owned.map(1001);
        assert_eq!((map.claim(1, 8), map.claim(2, 8)), (Some(7), Some(15)));
        assert_eq!(map.claim(1, usize::MAX), None);
    }

    #[test]
    fn a_list_gives_up_any_of_its_members() {
        let owned = Owned::of(8);
        let (map, head) = (owned.map(0), Head::new(0));
        let members = |map: &SegmentMap<'_>| {
            let mut list = Vec::new();
            let mut at = map.first(&head);
            while let Some(segment) = at {
                list.push(segment);
                at = map.after(segment);
            }
            list
        };
        for segment in [1, 3, 5, 7] {
            map.push(&head, segment);
        }
        assert_eq!(members(&map), [7, 5, 3, 1]);
        map.unlink(&head, 3);
        map.unlink(&head, 7);
        assert_eq!(members(&map), [5, 1]);
        map.unlink(&head, 1);
        map.unlink(&head, 5);
        assert_eq!(members(&map), [] as [usize; 0]);
    }

    proptest! {
        #[test]
        fn runs_are_the_lowest_that_fit(
            origin in 0_usize..9,
            steps in proptest::collection::vec((0_usize..300, 1_usize..90, 0_u32..5, any::<bool>()), 1..60)
        ) {
            let owned = Owned::of(300);
            let map = owned.map(origin);
            let mut model = [false; 300];
            let mut live: Vec<(usize, usize)> = Vec::new();
            for (pick, count, alignment, free) in steps {
                if free && !live.is_empty() {
                    let (start, count) = live.swap_remove(pick % live.len());
                    map.free(start, count);
                    model[start..start + count].fill(false);
                    continue;
                }
                let alignment = 1 << alignment;
                let expected = (0..=300 - count)
                    .filter(|start| (start + origin).is_multiple_of(alignment))
                    .find(|start| model[*start..start + count].iter().all(|taken| !taken));
                let found = map.claim(count, alignment);
                prop_assert_eq!(found, expected);
                if let Some(start) = found {
                    model[start..start + count].fill(true);
                    live.push((start, count));
                }
            }
            prop_assert_eq!(map.taken(), model.iter().filter(|taken| **taken).count());
        }
    }
}
