//! Chunks of 128 KiB for the heaps of small blocks.
//!
//! A segment belongs to one heap, so that an address alone says which heap frees it. Of its 32 chunks one word says
//! which are used and which are committed. A heap grows first where its last growth ended, because there its allocator
//! merges old and new; then in the segments it has; then by fresh segments. Chunks given back stay committed as long as
//! the tier retains little, and serve the next growth of the same heap without a system call.

use crate::arena::Arena;
use crate::extents::LONGEST_WALK;
use crate::pages::Pages;
use crate::segments::{Head, Kind, State};
use crate::{CHUNK, CHUNKS_PER_SEGMENT, SEGMENT};

/// The chunks of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chunks {
    used: u32,
    committed: u32,
}

impl Chunks {
    pub(crate) fn unpack(detail: u64) -> Self {
        Chunks { used: detail as u32, committed: (detail >> 32) as u32 }
    }

    fn pack(self) -> u64 {
        u64::from(self.used) | u64::from(self.committed) << 32
    }

    /// Whether chunk `at` is in use.
    pub(crate) fn uses(self, at: usize) -> bool {
        at < CHUNKS_PER_SEGMENT && self.used >> at & 1 != 0
    }

    /// How many chunks from `at` on are free.
    fn room(self, at: usize) -> usize {
        if at < CHUNKS_PER_SEGMENT {
            ((!self.used >> at).trailing_ones() as usize).min(CHUNKS_PER_SEGMENT - at)
        } else {
            0
        }
    }

    /// The first run of at least `need` free chunks.
    fn find(self, need: usize) -> Option<usize> {
        (0..CHUNKS_PER_SEGMENT).find(|at| self.room(*at) >= need)
    }
}

fn mask(start: usize, count: usize) -> u32 {
    debug_assert!(count <= CHUNKS_PER_SEGMENT && start + count <= CHUNKS_PER_SEGMENT);
    (((1_u64 << count) - 1) << start) as u32
}

/// The runs of ones of a word, as start and length.
fn runs(mut word: u32) -> impl Iterator<Item = (usize, usize)> {
    core::iter::from_fn(move || {
        if word == 0 {
            return None;
        }
        let start = word.trailing_zeros() as usize;
        let count = (word >> start).trailing_ones() as usize;
        word &= !mask(start, count);
        Some((start, count))
    })
}

/// What a heap asks for, in chunks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Growth {
    /// Where it ended the last time.
    pub(crate) after: usize,
    /// Less is of no use.
    pub(crate) need: usize,
    /// More is not taken.
    pub(crate) wanted: usize,
}

impl<P: Pages> Arena<'_, P> {
    /// Memory for the heap `owner`: address and bytes.
    pub(crate) fn take_chunks(&self, owner: State, partial: &Head, growth: Growth) -> Option<(usize, usize)> {
        let budget = &self.tiers.get(owner.tier)?.budget;
        if budget.retained() == 0 && budget.would_refuse(growth.need * CHUNK) {
            return None;
        }
        let _extents = self.extents.lock(self.relax());
        if let Some(segment) = self.segment_of(growth.after) {
            let chunk = (growth.after - self.address_of(segment)) / CHUNK;
            if self.map.state(segment) == owner {
                if Chunks::unpack(self.map.detail(segment)).room(chunk) >= growth.need {
                    return self.use_chunks(owner, partial, segment, chunk, growth);
                }
            } else if chunk == 0 && growth.need <= CHUNKS_PER_SEGMENT && self.map.claim_at(segment, 1) {
                return self.use_fresh(owner, partial, segment, growth.wanted.min(CHUNKS_PER_SEGMENT), growth.need);
            }
        }
        let mut at = self.map.first(partial);
        for _ in 0..LONGEST_WALK {
            let Some(segment) = at else { break };
            if let Some(chunk) = Chunks::unpack(self.map.detail(segment)).find(growth.need) {
                return self.use_chunks(owner, partial, segment, chunk, growth);
            }
            at = self.map.after(segment);
        }
        for count in [growth.wanted, growth.need] {
            if let Some(segment) = self.map.claim(count.div_ceil(CHUNKS_PER_SEGMENT), 1) {
                return self.use_fresh(owner, partial, segment, count, growth.need);
            }
        }
        None
    }

    /// Begins to use chunks of a segment the heap has.
    fn use_chunks(
        &self,
        owner: State,
        partial: &Head,
        segment: usize,
        start: usize,
        growth: Growth,
    ) -> Option<(usize, usize)> {
        let budget = &self.tiers.get(owner.tier)?.budget;
        let mut chunks = Chunks::unpack(self.map.detail(segment));
        let base = self.address_of(segment);
        let most = growth.wanted.min(chunks.room(start));
        let missing_of = |count: usize| mask(start, count) & !chunks.committed;
        let count = [most, growth.need]
            .into_iter()
            .find(|count| budget.charge(missing_of(*count).count_ones() as usize * CHUNK))?;
        let missing = missing_of(count);
        for (first, length) in runs(missing) {
            if !self.pages.commit(owner.tier, base + first * CHUNK, length * CHUNK) {
                // What was committed before this run stays, and serves nobody.
                let done = missing & (mask(0, first));
                budget.discharge((missing & !done).count_ones() as usize * CHUNK);
                budget.retain(done.count_ones() as usize * CHUNK);
                chunks.committed |= done;
                self.map.set_detail(segment, chunks.pack());
                return None;
            }
        }
        budget.release((count - missing.count_ones() as usize) * CHUNK);
        chunks.used |= mask(start, count);
        chunks.committed |= chunks.used;
        self.map.set_detail(segment, chunks.pack());
        if chunks.used == u32::MAX {
            self.map.unlink(partial, segment);
        }
        Some((base + start * CHUNK, count * CHUNK))
    }

    /// Begins to use `count` chunks of segments claimed for it, or only `need` of them if there is no more.
    fn use_fresh(
        &self,
        owner: State,
        partial: &Head,
        segment: usize,
        count: usize,
        need: usize,
    ) -> Option<(usize, usize)> {
        let claimed = count.div_ceil(CHUNKS_PER_SEGMENT);
        let budget = &self.tiers.get(owner.tier)?.budget;
        let base = self.address_of(segment);
        let got = [count, need].into_iter().find(|count| budget.charge(count * CHUNK)).filter(|count| {
            let committed = self.pages.commit(owner.tier, base, count * CHUNK);
            if !committed {
                budget.discharge(count * CHUNK);
            }
            committed
        });
        let used = got.map_or(0, |count| count.div_ceil(CHUNKS_PER_SEGMENT));
        self.map.free(segment + used, claimed - used);
        let mut left = got?;
        for segment in segment..segment + used {
            let here = left.min(CHUNKS_PER_SEGMENT);
            left -= here;
            self.map.set_detail(segment, Chunks { used: mask(0, here), committed: mask(0, here) }.pack());
            self.map.set_state(segment, owner);
            if here < CHUNKS_PER_SEGMENT {
                self.map.push(partial, segment);
            }
        }
        got.map(|count| (base, count * CHUNK))
    }

    /// Takes back chunks a heap no longer uses.
    pub(crate) fn give_chunks(&self, owner: State, partial: &Head, address: usize, bytes: usize) {
        let _extents = self.extents.lock(self.relax());
        let end = address + bytes;
        let mut at = address;
        while at < end {
            let (Some(segment), Some(tier)) = (self.segment_of(at), self.tiers.get(owner.tier)) else { return };
            let base = self.address_of(segment);
            let stop = end.min(base + SEGMENT);
            let here = mask((at - base) / CHUNK, (stop - at) / CHUNK);
            let mut chunks = Chunks::unpack(self.map.detail(segment));
            let was_full = chunks.used == u32::MAX;
            chunks.used &= !here;
            if tier.budget.retained() + (stop - at) <= self.settings.retained_bytes {
                tier.budget.retain(stop - at);
            } else {
                self.pages.decommit(owner.tier, at, stop - at);
                tier.budget.discharge(stop - at);
                chunks.committed &= !here;
            }
            self.map.set_detail(segment, chunks.pack());
            if was_full {
                self.map.push(partial, segment);
            }
            self.drop_small_if_empty(partial, segment, chunks);
            at = stop;
        }
    }

    fn drop_small_if_empty(&self, partial: &Head, segment: usize, chunks: Chunks) {
        if chunks.used == 0 && chunks.committed == 0 {
            self.map.unlink(partial, segment);
            self.map.free(segment, 1);
        }
    }

    /// Decommits the chunks a heap has committed and does not use. The extents' lock is held.
    pub(crate) fn flush_chunks(&self, tier: usize, partial: &Head) {
        let Some(budget) = self.tiers.get(tier).map(|tier| &tier.budget) else { return };
        let mut at = self.map.first(partial);
        while let Some(segment) = at {
            at = self.map.after(segment);
            let mut chunks = Chunks::unpack(self.map.detail(segment));
            for (first, count) in runs(chunks.committed & !chunks.used) {
                budget.release(count * CHUNK);
                self.pages.decommit(tier, self.address_of(segment) + first * CHUNK, count * CHUNK);
                budget.discharge(count * CHUNK);
            }
            chunks.committed = chunks.used;
            self.map.set_detail(segment, chunks.pack());
            self.drop_small_if_empty(partial, segment, chunks);
        }
    }

    /// Whether the byte at `address` lies in a chunk that `owner` uses.
    pub(crate) fn is_in_chunk_of(&self, owner: State, address: usize) -> bool {
        owner.kind == Kind::Small
            && self.segment_of(address).is_some_and(|segment| {
                self.map.state(segment) == owner
                    && Chunks::unpack(self.map.detail(segment)).uses(address % SEGMENT / CHUNK)
            })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn runs_of_chunks_are_counted_to_the_end_of_the_segment() {
        let chunks = Chunks { used: 0b1011, committed: 0 };
        assert_eq!((chunks.room(0), chunks.room(2), chunks.room(4), chunks.room(32)), (0, 1, 28, 0));
        assert_eq!(
            (chunks.find(1), chunks.find(2), chunks.find(28), chunks.find(29)),
            (Some(2), Some(4), Some(4), None)
        );
        assert_eq!((Chunks { used: 0, committed: 0 }).find(32), Some(0));
        assert_eq!((mask(0, 32), mask(31, 1), mask(5, 0)), (u32::MAX, 1 << 31, 0));
        assert_eq!(runs(0b1100_1011).collect::<Vec<_>>(), [(0, 2), (3, 1), (6, 2)]);
        assert_eq!(runs(u32::MAX).collect::<Vec<_>>(), [(0, 32)]);
        assert_eq!(Chunks::unpack(chunks.pack()), chunks);
    }
}
