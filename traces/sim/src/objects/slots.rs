//! The numbering of a site's simultaneous blocks.
//!
//! One call stack is not one logical object: every embedding table of a model comes from one site, and so does every array of an
//! interpreter. Nor is one block one object: a loop that allocates a buffer in each iteration has one object, a thousand times.
//! Both are told apart by a block's *slot*: the smallest number that no live block of its site and size class has when it is
//! born. Tables that live together get slots 0, 1, 2...; the buffer of the loop is slot 0 each time. Small blocks have no slot: they
//! are one object per site.

use rustc_hash::FxHashMap;
use std::hash::Hash;

/// Blocks of at least this many bytes are objects by slot.
pub const SLOTTED_BYTES: u64 = 64 << 10;

/// Slots beyond this one are not told apart: such a site has too many blocks to place one by one.
pub const LAST_SLOT: u16 = 16;

/// Size class and slot of a large block.
pub type Place = (u8, u16);

/// The slots in use, by site and size class. `Site` is whatever tells sites apart.
#[derive(Debug, Clone)]
pub struct Slots<Site> {
    /// Bit n is set while a live block has slot n.
    live: FxHashMap<(Site, u8), u32>,
}

impl<Site> Default for Slots<Site> {
    fn default() -> Self {
        Self { live: FxHashMap::default() }
    }
}

impl<Site: Hash + Eq> Slots<Site> {
    /// Size class and slot for a block about to be born; None when it is too small to have one.
    pub fn take(&mut self, site: Site, bytes: u64) -> Option<Place> {
        if bytes < SLOTTED_BYTES {
            return None;
        }
        let class = bytes.ilog2() as u8;
        let live = self.live.entry((site, class)).or_default();
        let slot = (live.trailing_ones() as u16).min(LAST_SLOT);
        if slot < LAST_SLOT {
            *live |= 1 << slot;
        }
        Some((class, slot))
    }

    /// Gives back what a block had, when it dies.
    pub fn give_back(&mut self, site: Site, place: Option<Place>) {
        if let Some((class, slot)) = place
            && slot < LAST_SLOT
            && let Some(live) = self.live.get_mut(&(site, class))
        {
            *live &= !(1 << slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_that_live_together_are_told_apart_and_a_loops_buffer_is_one_object() {
        let mut slots = Slots::default();
        let tables: Vec<_> = (0..3).map(|_| slots.take(1, 1 << 20)).collect();
        assert_eq!(tables, [Some((20, 0)), Some((20, 1)), Some((20, 2))]);
        for _ in 0..5 {
            let buffer = slots.take(2, 1 << 20);
            assert_eq!(buffer, Some((20, 0)));
            slots.give_back(2, buffer);
        }
        slots.give_back(1, tables[1]);
        assert_eq!(slots.take(1, (1 << 20) + 5), Some((20, 1)), "the freed table's slot is the smallest");
        assert_eq!(slots.take(1, 1 << 21), Some((21, 0)));
    }

    #[test]
    fn small_blocks_have_no_slot_and_large_ones_stop_being_numbered() {
        let mut slots = Slots::default();
        assert_eq!(slots.take(1, SLOTTED_BYTES - 1), None);
        let last = (0..100).map(|_| slots.take(1, SLOTTED_BYTES)).last().flatten();
        assert_eq!(last, Some((16, LAST_SLOT)));
        slots.give_back(1, last);
        assert_eq!(slots.take(1, SLOTTED_BYTES), Some((16, LAST_SLOT)));
        slots.give_back(7, Some((16, 0)));
    }
}
