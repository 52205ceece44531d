//! A first-level cache, which every access asks.
//!
//! Most accesses are to the line that was the last one used in its set. Using it again changes nothing, whatever the replacement:
//! it is the newest already, and a tree's bits point away from it already. So the words of those lines are kept once more, in a
//! small table, and an access that finds its line there is done after one comparison: a load if the line's number is equal, a store
//! if the whole word is what it would become.
//!
//! The table has as many places as there are sets, or fewer: then the last line used of several sets is kept, to which the same
//! applies. Whatever else is done to a line, or could be, clears its place.

use crate::array::{Array, Found};
use crate::line::{DIRTY, EMPTY, LINE_SHIFT, PREFETCHED, SHARED, word_at};
use crate::machine::Cache;
use crate::objects::ObjectId;

/// Most sets whose newest line is kept.
const NEWEST: usize = 64;

/// The cache.
#[derive(Debug, Clone)]
pub(crate) struct FirstLevel {
    array: Array,
    /// By set: the word of the last line used, as it is in the array, without [`PREFETCHED`]; [`EMPTY`] for none.
    newest: [u64; NEWEST],
    mask: u64,
}

impl FirstLevel {
    pub(crate) fn new(cache: &Cache) -> Self {
        let array = Array::new(cache.sets(), cache.ways, cache.replacement);
        Self { array, newest: [EMPTY; NEWEST], mask: cache.sets() - 1 }
    }

    #[inline(always)]
    fn place(&self, line: u64) -> usize {
        (line & self.mask) as usize % NEWEST
    }

    /// Whether the line of an address is the newest, so that loading it changes nothing.
    #[inline(always)]
    pub(crate) fn load_again(&self, address: u64) -> bool {
        (self.newest[self.place(address >> 6)] ^ word_at(address, ObjectId::NONE)) >> LINE_SHIFT == 0
    }

    /// Whether the line of an address is the newest and was last written by this object, so that storing to it changes nothing.
    #[inline(always)]
    pub(crate) fn store_again(&self, address: u64, object: ObjectId) -> bool {
        self.newest[self.place(address >> 6)] == word_at(address, object) | DIRTY
    }

    /// Loads a line, or stores `stored` to it, if it is there and nobody else need know. False where it is not so, and then nothing
    /// has happened but that the line, if it is there, was used.
    #[inline(always)]
    pub(crate) fn access_near(&mut self, wanted: u64, stored: Option<u64>) -> bool {
        let place = self.place(wanted);
        let Some(near) = self.array.access_near(wanted) else { return false };
        let heard = if stored.is_some() { SHARED | PREFETCHED } else { PREFETCHED };
        if *near & heard != 0 {
            self.newest[place] = EMPTY;
            return false;
        }
        *near = stored.unwrap_or(*near);
        self.newest[place] = *near;
        true
    }

    /// Looks for a line, using it; one that is not there comes in as `new`, whose line it must be.
    pub(crate) fn access(&mut self, wanted: u64, new: u64) -> Found<'_> {
        let place = self.place(wanted);
        let found = self.array.access(wanted, new);
        let is_new = matches!(found, Found::Miss(_)) && new & PREFETCHED == 0;
        self.newest[place] = if is_new { new } else { EMPTY };
        found
    }

    /// The word of a line, which is not used by this, to be changed.
    pub(crate) fn find(&mut self, wanted: u64) -> Option<&mut u64> {
        self.newest[self.place(wanted)] = EMPTY;
        self.array.find(wanted)
    }

    /// Whether a line is there.
    pub(crate) fn has(&self, wanted: u64) -> bool {
        self.array.has(wanted)
    }

    /// Takes a line out.
    pub(crate) fn remove(&mut self, wanted: u64) -> Option<u64> {
        self.newest[self.place(wanted)] = EMPTY;
        self.array.remove(wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line::{address_of, line, word};
    use crate::machine::{Machine, Replacement};
    use proptest::prelude::*;

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Load(u64),
        Store(u64, u32),
        Prefetch(u64),
        Share(u64),
        Remove(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let line = || prop_oneof![3 => 0_u64..6, 1 => 0_u64..300];
        let step = prop_oneof![
            8 => line().prop_map(Step::Load),
            8 => (line(), 0_u32..3).prop_map(|(line, object)| Step::Store(line, object)),
            1 => line().prop_map(Step::Prefetch),
            1 => line().prop_map(Step::Share),
            1 => line().prop_map(Step::Remove),
        ];
        proptest::collection::vec(step, 0..400)
    }

    /// A load or a store the long way, as the hierarchy does it when nobody else has the line.
    fn far(array: &mut Array, wanted: u64, stored: Option<u64>) -> Option<u64> {
        match array.access(wanted, stored.unwrap_or(word(wanted, ObjectId::NONE))) {
            Found::Hit(near) => {
                *near = stored.unwrap_or(*near & !PREFETCHED);
                None
            }
            Found::Miss(victim) => Some(victim),
        }
    }

    proptest! {
        /// Against the array alone.
        #[test]
        fn what_is_done_at_once_leaves_what_the_long_way_would(
            steps in steps(), sets_shift in 0_u32..8, ways_shift in 0_u32..5, tree: bool,
        ) {
            let (sets, ways) = (1_u64 << sets_shift, 1_u32 << ways_shift);
            let replacement = if tree { Replacement::TreePlru } else { Replacement::Lru };
            let cache = Cache { bytes: sets * u64::from(ways) * 64, ways, replacement, ..Machine::default().l1d };
            let mut level = FirstLevel::new(&cache);
            let mut array = Array::new(sets, ways, replacement);
            for step in steps {
                match step {
                    Step::Load(wanted) => {
                        let left = far(&mut array, wanted, None);
                        if level.load_again(address_of(wanted)) || level.access_near(wanted, None) {
                            prop_assert_eq!(left, None);
                        } else {
                            let found = match level.access(wanted, word(wanted, ObjectId::NONE)) {
                                Found::Hit(near) => {
                                    *near &= !PREFETCHED;
                                    None
                                }
                                Found::Miss(victim) => Some(victim),
                            };
                            prop_assert_eq!(found, left);
                        }
                    }
                    Step::Store(wanted, object) => {
                        let stored = word(wanted, ObjectId(object)) | DIRTY;
                        let left = far(&mut array, wanted, Some(stored));
                        if level.store_again(address_of(wanted), ObjectId(object)) || level.access_near(wanted, Some(stored)) {
                            prop_assert_eq!(left, None);
                        } else {
                            let found = match level.access(wanted, stored) {
                                Found::Hit(near) => {
                                    *near = stored;
                                    None
                                }
                                Found::Miss(victim) => Some(victim),
                            };
                            prop_assert_eq!(found, left);
                        }
                    }
                    Step::Prefetch(wanted) => {
                        let new = word(wanted, ObjectId(9)) | PREFETCHED;
                        if array.has(wanted) {
                            prop_assert!(level.has(wanted));
                            continue;
                        }
                        let left = [level.access(wanted, new), array.access(wanted, new)].map(|found| match found {
                            Found::Hit(_) => None,
                            Found::Miss(victim) => Some(victim),
                        });
                        prop_assert_eq!(left[0], left[1]);
                    }
                    Step::Share(wanted) => {
                        let share = |word: &mut u64| {
                            *word = *word & !DIRTY | SHARED;
                            *word
                        };
                        prop_assert_eq!(level.find(wanted).map(share), array.find(wanted).map(share));
                    }
                    Step::Remove(wanted) => prop_assert_eq!(level.remove(wanted), array.remove(wanted)),
                }
            }
            let words = |array: &Array| array.words().collect::<Vec<_>>();
            prop_assert_eq!(words(&level.array), words(&array));
            prop_assert!(level.newest.iter().all(|word| *word == EMPTY || level.array.has(line(*word))));
        }
    }
}
