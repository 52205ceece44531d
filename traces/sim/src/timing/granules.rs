//! What a device with large granules holds of them: one buffer for each lane, since lanes differ in what they put there.
//!
//! Optane's modules have one of 16 KiB, which merges writes to an XPLine and serves reads of one just read (Yang et al., FAST 2020,
//! sections 3.2 and 5.1; Wang et al., "Characterizing and Modeling Non-Volatile Memory Systems", MICRO 2020). Modelled: four ways, LRU. Which
//! set an address falls into is the same in all lanes, what the set holds is not: so a set is four vectors of tags, and sixteen
//! buffers are searched at once.

use super::vector::{V, WIDTH};
use super::width::{Width, wide};
use crate::machine::LINE_BYTES;

const WAYS: usize = 4;

/// Parts of a granule that are known to be written or not: as many as bits.
const SECTORS: u32 = 32;

/// One buffer for each lane of a group.
#[derive(Debug, Clone)]
pub(crate) struct Granules {
    /// `WAYS` for each set, most recently used first. 0 is empty.
    tags: Vec<V>,
    /// Which sectors were written and are not on the medium yet.
    dirty: Vec<V>,
    sets: u64,
    granule_shift: u32,
    sector_shift: u32,
    sectors: u64,
    /// All sectors of a granule.
    whole: u32,
}

/// What an access found, all ones in the lanes where it is so.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    pub(crate) hit: V,
    /// A granule had to be written to make room.
    pub(crate) written: V,
    /// It was not written whole, so that the rest had to be read first.
    pub(crate) partial: V,
}

wide! { fn access(granules: &mut Granules, address: u64, write: bool, mask: V) -> Found = Granules::search }

impl Granules {
    pub(crate) fn new(granules: usize, granule_shift: u32) -> Self {
        let sets = (granules / WAYS).max(1).next_power_of_two();
        let line_shift = LINE_BYTES.trailing_zeros();
        let sector_shift = line_shift.max(granule_shift.saturating_sub(SECTORS.trailing_zeros()));
        let sectors = 1u32 << (granule_shift - sector_shift).min(5);
        Self {
            tags: vec![V::ZERO; sets * WAYS],
            dirty: vec![V::ZERO; sets * WAYS],
            sets: sets as u64,
            granule_shift,
            sector_shift,
            sectors: u64::from(sectors),
            whole: u32::MAX >> (SECTORS - sectors),
        }
    }

    /// Reads or writes a line in the lanes of `mask`.
    #[inline]
    pub(crate) fn access(&mut self, width: Width, address: u64, write: bool, mask: V) -> Found {
        access(width, self, address, write, mask)
    }

    #[inline(always)]
    fn search(&mut self, address: u64, write: bool, mask: V) -> Found {
        let granule = address >> self.granule_shift;
        // Neighbouring granules fall into neighbouring sets; the tag is a hash of 32 bits that is never 0.
        let first = (granule % self.sets) as usize * WAYS;
        let tag = V::splat((granule.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32 | 1);
        let sector = V::splat(if write { 1 << ((address >> self.sector_shift) % self.sectors) } else { 0 });
        let (Some(tags), Some(dirty)) =
            (self.tags.get_mut(first..first + WAYS), self.dirty.get_mut(first..first + WAYS))
        else {
            return Found { hit: V::ZERO, written: V::ZERO, partial: V::ZERO };
        };
        let (old_tags, old_dirty): ([V; WAYS], [V; WAYS]) =
            (std::array::from_fn(|w| tags[w]), std::array::from_fn(|w| dirty[w]));
        let mut hit = V::ZERO;
        let mut held = V::ZERO;
        for w in 0..WAYS {
            // The ways before the one found move down by one; the last is lost where none was found.
            if w > 0 {
                let stays = hit.or(mask.not());
                tags[w] = V::select(stays, old_tags[w], old_tags[w - 1]);
                dirty[w] = V::select(stays, old_dirty[w], old_dirty[w - 1]);
            }
            let here = old_tags[w].equals(tag);
            held = held.or(here.and(old_dirty[w]));
            hit = hit.or(here);
        }
        tags[0] = V::select(mask, tag, old_tags[0]);
        dirty[0] = V::select(mask, held.or(sector), old_dirty[0]);
        let lost = V::select(hit.or(mask.not()), V::ZERO, old_dirty[WAYS - 1]);
        let written = V::ZERO.below(lost);
        let partial = written.and(lost.equals(V::splat(self.whole)).not());
        Found { hit: hit.and(mask), written, partial }
    }

    /// The state of lane `from` becomes that of `to` in another group's buffer, or in this one's.
    pub(crate) fn copy_lane(from: &[u32], to: &mut Self, lane: usize) {
        let words = to.tags.iter_mut().chain(to.dirty.iter_mut());
        for (word, value) in words.zip(from) {
            word.0[lane] = *value;
        }
    }

    /// Everything of one lane, for [`Granules::copy_lane`].
    pub(crate) fn lane(&self, lane: usize) -> Vec<u32> {
        debug_assert!(lane < WIDTH);
        self.tags.iter().chain(&self.dirty).map(|word| word.0[lane]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain() -> Width {
        Width::available()[0]
    }

    fn all() -> V {
        V::splat(u32::MAX)
    }

    #[test]
    fn lines_of_one_granule_are_read_once() {
        let mut buffer = Granules::new(64, 8);
        let hits: Vec<bool> =
            (0..8).map(|line| !buffer.access(plain(), 0x4000 + line * 64, false, all()).hit.is_zero()).collect();
        assert_eq!(hits, [false, true, true, true, false, true, true, true]);
    }

    #[test]
    fn granules_written_whole_are_written_once_and_others_read_first() {
        for (lines, partial) in [(4, false), (1, true)] {
            let mut buffer = Granules::new(64, 8);
            let (mut written, mut read) = (0, 0);
            for granule in 0..1000u64 {
                for line in 0..lines {
                    let found = buffer.access(plain(), granule * 256 + line * 64, true, all());
                    written += u32::from(!found.written.is_zero());
                    read += u32::from(!found.partial.is_zero());
                }
            }
            // All but those still in the buffer.
            assert_eq!(written, 1000 - 64);
            assert_eq!(read, if partial { written } else { 0 });
        }
    }

    #[test]
    fn lanes_hold_what_they_were_given() {
        let mut buffer = Granules::new(64, 8);
        buffer.access(plain(), 0x1000, false, V::mask(0b01));
        assert_eq!(buffer.access(plain(), 0x1000, false, V::mask(0b11)).hit, V::mask(0b01));
        let lane = buffer.lane(0);
        Granules::copy_lane(&lane, &mut buffer, 7);
        assert_eq!(buffer.access(plain(), 0x1040, false, all()).hit, V::mask(0b1000_0011));
    }

    #[test]
    fn large_granules_have_sectors_of_more_than_a_line() {
        let mut buffer = Granules::new(16, 12);
        for line in 0..64 {
            buffer.access(plain(), line * 64, true, all());
        }
        // Sixteen sets would be one for each; with four ways there are four sets, so the fifth granule of a set ends the first.
        let found: Vec<Found> = (1..=4).map(|n| buffer.access(plain(), n * 4 * 4096, true, all())).collect();
        assert!(found[2].written.is_zero());
        assert!(!found[3].written.is_zero() && found[3].partial.is_zero());
    }
}
