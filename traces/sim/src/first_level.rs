//! A first-level cache, which every access asks.
//!
//! A table by the lowest bits of a line's number says in which place the line is, so that nearly all accesses find it after one
//! comparison, whichever of its set it is, and no host mispredicts which that is. Beside the line lies what object it is in, so
//! that most accesses need not ask the map for it.
//!
//! The table knows nothing of its own: a line may be there and not in the table, but not the other way round. What is done to a line
//! elsewhere, or could be, takes it out of the table.

use crate::array::{Found, turn_away, victim};
use crate::block::Block;
use crate::line::{DIRTY, EMPTY, LINE_SHIFT, PREFETCHED, SHARED, line, line_of, word_at};
use crate::machine::{Cache, Replacement};
use crate::objects::{Changed, ObjectId, Shadow, Within};
use crate::private::ends;
use crate::steps::Packed;
use crate::times::Times;

/// Lines found at once.
const NEAR: usize = 2048;

/// In a word of the table below the line's number: set if a store must be told to others; then the place.
const TOLD: u64 = 1 << (LINE_SHIFT - 1);
const PLACE: u64 = TOLD - 1;

/// Nothing in a word of the table: a line that would be in another.
fn nothing(at: usize) -> u64 {
    !(at as u64) << LINE_SHIFT
}

/// Bytes of a change up to which its lines are looked for one by one.
const SMALL_CHANGE: u64 = 4096;

/// Which line of a set is given up.
#[derive(Debug, Clone)]
enum Order {
    Lru(Times),
    /// A tree for each set.
    Tree(Box<[u64]>),
}

/// The cache.
#[derive(Debug, Clone)]
pub(crate) struct FirstLevel {
    near: Box<[u64; NEAR]>,
    /// By place: the line's word. Places of a set follow each other, a power of two apart from those of the next.
    words: Box<[u64]>,
    /// By place: what lies in the line.
    within: Box<[Within]>,
    order: Order,
    ways: usize,
    /// Binary logarithm of how far sets are apart.
    set_shift: u32,
    set_mask: u64,
    /// Of the map of objects that `within` was made from.
    changes: u64,
}

impl FirstLevel {
    pub(crate) fn new(cache: &Cache) -> Self {
        let (sets, ways) = (cache.sets() as usize, cache.ways as usize);
        let step = ways.next_power_of_two();
        let order = match cache.replacement {
            Replacement::Lru => Order::Lru(Times::new(sets, ways)),
            Replacement::TreePlru => Order::Tree(vec![0; sets].into()),
        };
        Self {
            near: Box::new(std::array::from_fn(nothing)),
            words: vec![EMPTY; sets * step].into(),
            within: vec![Within::UNKNOWN; sets * step].into(),
            order,
            ways,
            set_shift: step.trailing_zeros(),
            set_mask: sets as u64 - 1,
            changes: 0,
        }
    }

    /// To be called before accesses, and with the same map as they are.
    #[inline]
    pub(crate) fn meet(&mut self, map: &Shadow) {
        if self.changes != map.changes() {
            self.learn(map);
        }
    }

    #[inline(never)]
    fn learn(&mut self, map: &Shadow) {
        let before = std::mem::replace(&mut self.changes, map.changes());
        match map.changed(before) {
            Changed::In(ranges) if ranges.iter().all(|range| range.end - range.start <= SMALL_CHANGE) => {
                for range in ranges.iter().filter(|range| !range.is_empty()) {
                    for line in line_of(range.start)..=line_of(range.end - 1) {
                        if let Some(place) = self.place(line) {
                            self.within[place] = Within::UNKNOWN;
                        }
                    }
                }
            }
            _ => self.within.fill(Within::UNKNOWN),
        }
    }

    /// Serves an access within a line, if the line is near and nobody else need know. Its object.
    #[inline(always)]
    pub(crate) fn access_near(&mut self, address: u64, store: bool, map: &Shadow) -> Option<ObjectId> {
        let place = find_near(&self.near, address, store)?;
        Some(self.serve(place, address, store, map))
    }

    /// Serves accesses, all within a line each, as long as they are near. How many; `translate` says of each address whether its
    /// page is, `served` is told of each.
    #[inline(never)]
    pub(crate) fn serve_near(
        &mut self,
        accesses: &[Packed],
        map: &Shadow,
        mut translate: impl FnMut(u64) -> bool,
        mut served: impl FnMut(ObjectId, bool),
    ) -> usize {
        let Self { near, words, within, order: Order::Lru(times), .. } = self else { return 0 };
        // What nothing else points at can be in registers meanwhile.
        let (near, words, within) = (&**near, &mut **words, &mut **within);
        let (mut now, mut done) = (times.now(), accesses.len());
        for (index, packed) in accesses.iter().enumerate() {
            let (address, store) = (packed.address(), packed.is_store());
            let Some(place) = find_near(near, address, store).filter(|_| packed.is_plain() && translate(address))
            else {
                done = index;
                break;
            };
            let Some(within) = within.get_mut(place) else {
                done = index;
                break;
            };
            let object = within.object().unwrap_or_else(|| ask(within, address, map));
            now = times.touch_at(place, now);
            if store && let Some(word) = words.get_mut(place) {
                *word = word_at(address, object) | DIRTY;
            }
            served(object, store);
        }
        times.go_on_at(now);
        done
    }

    /// Fetches blocks as long as their lines are near. How many.
    #[inline(always)]
    pub(crate) fn fetch_many<'a>(&mut self, blocks: impl Iterator<Item = &'a Block>) -> usize {
        let Self { near, order: Order::Lru(times), .. } = self else { return 0 };
        let near = &**near;
        let (mut now, mut done) = (times.now(), 0);
        let (mut before, mut line_before) = (std::ptr::null(), u64::MAX);
        for block in blocks {
            let (first, last) = ends(block);
            // The same again, as in a loop, or more of the line that was used last: to use it again changes no order.
            let is_again = std::ptr::eq(block, before) | ((first >> 6 ^ line_before) | (last >> 6 ^ line_before) == 0);
            if is_again {
                done += 1;
                continue;
            }
            let (Some(one), Some(other)) = (find_near(near, first, false), find_near(near, last, false)) else { break };
            if (last >> 6).wrapping_sub(first >> 6) >= 2 {
                break;
            }
            now = times.touch_at(one, now);
            now = times.touch_at(other, now);
            (before, line_before) = (block, last >> 6);
            done += 1;
        }
        times.go_on_at(now);
        done
    }

    /// Uses a line by an access.
    #[inline(always)]
    fn serve(&mut self, place: usize, address: u64, store: bool, map: &Shadow) -> ObjectId {
        let within = &mut self.within[place];
        let object = within.object().unwrap_or_else(|| ask(within, address, map));
        self.touch(place);
        if store && let Some(word) = self.words.get_mut(place) {
            *word = word_at(address, object) | DIRTY;
        }
        object
    }

    /// Uses a line.
    #[inline(always)]
    fn touch(&mut self, place: usize) {
        match &mut self.order {
            Order::Lru(times) => times.touch(place),
            Order::Tree(trees) => {
                if let Some(tree) = trees.get_mut(place >> self.set_shift) {
                    turn_away(tree, place & ((1 << self.set_shift) - 1), self.ways);
                }
            }
        }
    }

    /// Fetches from a line that is near.
    #[inline(always)]
    pub(crate) fn fetch_near(&mut self, address: u64) -> bool {
        let place = find_near(&self.near, address, false);
        if let Some(place) = place {
            self.touch(place);
        }
        place.is_some()
    }

    /// The same as [`FirstLevel::access_near`] if the line is there, but not in the table. Where it says None, nothing has happened but
    /// that the line, if it is there, was used.
    #[inline(always)]
    pub(crate) fn access_close(&mut self, address: u64, store: bool, map: &Shadow) -> Option<ObjectId> {
        let place = self.come_near(line_of(address), store)?;
        Some(self.serve(place, address, store, map))
    }

    /// The same as [`FirstLevel::fetch_near`] if the line is there, but not in the table.
    pub(crate) fn fetch_close(&mut self, wanted: u64) -> bool {
        let place = self.come_near(wanted, false);
        if let Some(place) = place {
            self.touch(place);
        }
        place.is_some()
    }

    /// The place of a line, which the table has afterwards, unless somebody else need know.
    fn come_near(&mut self, wanted: u64, store: bool) -> Option<usize> {
        let place = self.place(wanted)?;
        let word = self.words[place];
        if word & PREFETCHED != 0 || store && word & SHARED != 0 {
            self.touch(place);
            return None;
        }
        self.remember(place, word);
        Some(place)
    }

    fn remember(&mut self, place: usize, word: u64) {
        if place as u64 <= PLACE {
            let told = if word & SHARED == 0 { 0 } else { TOLD };
            self.near[line(word) as usize % NEAR] = line(word) << LINE_SHIFT | told | place as u64;
        }
    }

    /// Takes a line out of the table.
    fn depart(&mut self, wanted: u64) {
        let at = wanted as usize % NEAR;
        if self.near[at] >> LINE_SHIFT == wanted {
            self.near[at] = nothing(at);
        }
    }

    /// The place of a line: all of its set are compared, and then it is asked whether one was equal.
    #[inline]
    fn place(&self, wanted: u64) -> Option<usize> {
        let start = ((wanted & self.set_mask) as usize) << self.set_shift;
        let words = self.words.get(start..start + self.ways)?;
        // Eight, as often as not, without a loop.
        let eight = <&[u64; 8]>::try_from(words);
        let equal = eight.map_or_else(|_| equal(words, wanted), |words| equal(words, wanted));
        (equal != 0).then(|| start + equal.trailing_zeros() as usize)
    }

    /// Looks for a line, using it; one that is not there comes in as `new`, whose line it must be.
    pub(crate) fn access(&mut self, wanted: u64, new: u64, within: Within) -> Found<'_> {
        match self.place(wanted) {
            Some(place) => {
                self.depart(wanted);
                self.touch(place);
                Found::Hit(&mut self.words[place])
            }
            None => Found::Miss(self.bring(wanted, new, within)),
        }
    }

    /// Brings a line in that is not there. What left for it.
    #[inline]
    pub(crate) fn bring(&mut self, wanted: u64, new: u64, within: Within) -> u64 {
        let set = (wanted & self.set_mask) as usize;
        let start = set << self.set_shift;
        let place = match &self.order {
            Order::Lru(times) => times.oldest(set),
            Order::Tree(trees) => {
                let empty = self.words[start..start + self.ways].iter().position(|word| *word == EMPTY);
                start + empty.unwrap_or_else(|| victim(trees[set], self.ways))
            }
        };
        let gone = std::mem::replace(&mut self.words[place], new);
        self.within[place] = within;
        self.touch(place);
        if gone != EMPTY {
            self.depart(line(gone));
        }
        if new & PREFETCHED == 0 {
            self.remember(place, new);
        }
        gone
    }

    /// The word of a line, which is not used by this, to be changed.
    pub(crate) fn find(&mut self, wanted: u64) -> Option<&mut u64> {
        let place = self.place(wanted)?;
        self.depart(wanted);
        self.words.get_mut(place)
    }

    /// Whether a line is there.
    pub(crate) fn has(&self, wanted: u64) -> bool {
        self.place(wanted).is_some()
    }

    /// Takes a line out.
    pub(crate) fn remove(&mut self, wanted: u64) -> Option<u64> {
        let place = self.place(wanted)?;
        self.depart(wanted);
        if let Order::Lru(times) = &mut self.order {
            times.forget(place);
        }
        Some(std::mem::replace(&mut self.words[place], EMPTY))
    }
}

/// A bit for each word that is of a line.
#[inline(always)]
fn equal(words: &[u64], wanted: u64) -> u64 {
    words.iter().rev().fold(0, |equal, word| equal << 1 | u64::from(line(*word) == wanted))
}

/// The place of an address's line, if the table has it and, for a store, nobody else need know.
#[inline(always)]
fn find_near(near: &[u64; NEAR], address: u64, store: bool) -> Option<usize> {
    let line = address >> 6;
    let near = near[line as usize % NEAR];
    let other = near ^ line << LINE_SHIFT;
    (other >> (LINE_SHIFT - u32::from(store)) == 0).then_some((near & PLACE) as usize)
}

/// The object at an address whose line's is not known; it is afterwards, if it is one.
#[inline(never)]
fn ask(within: &mut Within, address: u64, map: &Shadow) -> ObjectId {
    let object;
    (object, *within) = map.find_line(address);
    object
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::array::Array;
    use crate::line::{address_of, word};
    use crate::machine::Machine;
    use proptest::prelude::*;

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Load(u64),
        Store(u64),
        /// An object is entered in the map: first granule, granules, which.
        Enter(u64, u64, u32),
        Prefetch(u64),
        Share(u64),
        Remove(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        // Some share a place of the table.
        let line = || prop_oneof![6 => 0_u64..6, 2 => 0_u64..300, 1 => (0_u64..4).prop_map(|n| n * NEAR as u64)];
        let address = || (line(), 0_u64..64).prop_map(|(line, offset)| address_of(line) + offset);
        let enter = (0_u64..40, prop_oneof![4 => 1_u64..9, 1 => 200_u64..400], 0_u32..4);
        let step = prop_oneof![
            8 => address().prop_map(Step::Load),
            8 => address().prop_map(Step::Store),
            2 => enter.prop_map(|(first, count, object)| Step::Enter(first, count, object)),
            1 => line().prop_map(Step::Prefetch),
            1 => line().prop_map(Step::Share),
            1 => line().prop_map(Step::Remove),
        ];
        proptest::collection::vec(step, 0..400)
    }

    /// What the hierarchy does with a line that was found, when nobody else has it.
    fn settle(found: Found<'_>, stored: Option<u64>) -> Option<u64> {
        match found {
            Found::Hit(word) => {
                *word = stored.unwrap_or(*word & !PREFETCHED);
                None
            }
            Found::Miss(victim) => Some(victim),
        }
    }

    proptest! {
        /// Against the array alone.
        #[test]
        fn what_is_done_at_once_leaves_what_the_long_way_would(
            steps in steps(), sets_shift in 0_u32..8, ways in 1_u32..20, tree: bool,
        ) {
            let (sets, ways) = (1_u64 << sets_shift, if tree { ways.next_power_of_two() } else { ways });
            let replacement = if tree { Replacement::TreePlru } else { Replacement::Lru };
            let cache = Cache { bytes: sets * u64::from(ways) * 64, ways, replacement, ..Machine::default().l1d };
            let (mut level, mut map) = (FirstLevel::new(&cache), Shadow::default());
            let mut array = Array::new(sets, ways, replacement);
            for step in steps {
                match step {
                    Step::Load(address) | Step::Store(address) => {
                        let store = matches!(step, Step::Store(_));
                        let (wanted, (object, within)) = (line_of(address), map.find_line(address));
                        let stored = store.then(|| word(wanted, object) | DIRTY);
                        let new = stored.unwrap_or(word(wanted, object));
                        let left = settle(array.access(wanted, new), stored);
                        level.meet(&map);
                        let near = level.access_near(address, store, &map);
                        match near.or_else(|| level.access_close(address, store, &map)) {
                            Some(found) => prop_assert_eq!((found, None), (object, left)),
                            None => prop_assert_eq!(settle(level.access(wanted, new, within), stored), left),
                        }
                    }
                    Step::Enter(first, count, object) => map.set(first * 16..(first + count) * 16, ObjectId(object)),
                    Step::Prefetch(wanted) => {
                        let new = word(wanted, ObjectId(9)) | PREFETCHED;
                        prop_assert_eq!(level.has(wanted), array.has(wanted));
                        if !array.has(wanted) {
                            let left = settle(array.access(wanted, new), None);
                            prop_assert_eq!(settle(level.access(wanted, new, Within::UNKNOWN), None), left);
                        }
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
            let sorted = |words: &mut dyn Iterator<Item = u64>| {
                let mut words: Vec<u64> = words.filter(|word| *word != EMPTY).collect();
                words.sort_unstable();
                words
            };
            prop_assert_eq!(sorted(&mut level.words.iter().copied()), sorted(&mut array.words()));
            let mut near = level.near.iter().enumerate();
            prop_assert!(near.all(|(at, near)| *near == nothing(at) || array.has(*near >> LINE_SHIFT)));
        }
    }
}
