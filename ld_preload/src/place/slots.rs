//! Slots: the smallest number not in use among the living blocks of a site and size class.
//!
//! Profiles tell the few large blocks of one site apart by their slot, so a rule may ask for one. A group (what the slots
//! are counted in) has a bitmap; taking the lowest free bit and giving it back are one atomic operation each. Blocks
//! beyond the last bit have no slot, which no rule asks for.

use super::header::NO_SLOT;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Groups there can be. One that finds no room has no slots.
const GROUPS: usize = if cfg!(miri) { 8 } else { 1024 };
const WORDS: usize = 16;

#[derive(Debug)]
struct Group {
    /// The key plus 1; 0 for none.
    key: AtomicU32,
    taken: [AtomicU64; WORDS],
}

/// The groups. All zeros is an empty table.
#[derive(Debug)]
pub(super) struct Slots {
    groups: [Group; GROUPS],
}

impl Slots {
    /// Takes the lowest free slot of a group: the group's place, and the slot.
    pub(super) fn take(&self, key: u32) -> Option<(u16, u16)> {
        let (place, group) = self.group(key)?;
        let (word, bit) = group.taken.iter().enumerate().find_map(|(index, word)| Some((index, lowest_free(word)?)))?;
        Some((place, (word * 64) as u16 + bit))
    }

    /// Gives a slot back.
    pub(super) fn give_back(&self, group: u16, slot: u16) {
        if slot != NO_SLOT
            && let Some(group) = self.groups.get(usize::from(group))
            && let Some(word) = group.taken.get(usize::from(slot / 64))
        {
            word.fetch_and(!(1 << (slot % 64)), Ordering::AcqRel);
        }
    }

    fn group(&self, key: u32) -> Option<(u16, &Group)> {
        let wanted = key.checked_add(1)?;
        let start = (key.wrapping_mul(0x9E37_79B9) >> 20) as usize % GROUPS;
        for step in 0..GROUPS {
            let place = (start + step) % GROUPS;
            let group = self.groups.get(place)?;
            let found = group.key.compare_exchange(0, wanted, Ordering::AcqRel, Ordering::Acquire);
            if found.is_ok() || found == Err(wanted) {
                return Some((place as u16, group));
            }
        }
        None
    }
}

fn lowest_free(word: &AtomicU64) -> Option<u16> {
    let mut taken = word.load(Ordering::Acquire);
    while taken != u64::MAX {
        let bit = taken.trailing_ones();
        match word.compare_exchange_weak(taken, taken | 1 << bit, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return Some(bit as u16),
            Err(now) => taken = now,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots() -> Box<Slots> {
        // SAFETY: all zeros is an empty table.
        unsafe { Box::<Slots>::new_zeroed().assume_init() }
    }

    #[test]
    fn the_lowest_number_not_in_use_is_next() {
        let slots = slots();
        let taken: Vec<_> = (0..70).map(|_| slots.take(5).unwrap()).collect();
        assert_eq!(taken.iter().map(|(_, slot)| *slot).collect::<Vec<_>>(), (0..70).collect::<Vec<_>>());
        slots.give_back(taken[3].0, 3);
        slots.give_back(taken[3].0, 66);
        assert_eq!([5, 5, 5].map(|key| slots.take(key).unwrap().1), [3, 66, 70]);
        assert_eq!(slots.take(6).unwrap().1, 0);
    }

    #[test]
    fn a_full_group_and_a_full_table_have_no_slots() {
        let slots = slots();
        for slot in 0..1024 {
            assert_eq!(slots.take(0).unwrap().1, slot);
        }
        assert_eq!(slots.take(0), None);
        for key in 1..GROUPS as u32 {
            assert_eq!(slots.take(key).unwrap().1, 0);
        }
        assert_eq!(slots.take(u32::MAX - 1), None);
        slots.give_back(u16::MAX, 0);
        slots.give_back(0, NO_SLOT);
    }

    #[test]
    fn threads_get_different_slots() {
        let slots = slots();
        let of_thread = || (0..20).map(|_| slots.take(1).unwrap().1).collect::<Vec<_>>();
        let mut all: Vec<u16> = std::thread::scope(|scope| {
            [scope.spawn(of_thread), scope.spawn(of_thread)].map(|thread| thread.join().unwrap()).concat()
        });
        all.sort_unstable();
        assert_eq!(all, (0..40).collect::<Vec<_>>());
    }
}
