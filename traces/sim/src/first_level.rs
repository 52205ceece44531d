//! A first-level cache, which every access asks.
//!
//! A table by the lowest bits of a line's number says in which place the line may be, so that nearly all accesses find it after one
//! comparison, whichever of its set it is, and no host mispredicts which that is. Beside the line lies what object it is in, so
//! that most accesses need not ask the map for it.
//!
//! The table is only a guess, and small: what lies in the place says whether it is right. So nothing that is done to a line need
//! tell the table.

use crate::array::{Found, turn_away, victim};
use crate::block::Block;
use crate::line::{DIRTY, EMPTY, LINE_SHIFT, PREFETCHED, SHARED, line, line_of, word, word_at};
use crate::machine::{Cache, Replacement};
use crate::objects::{Changed, ObjectId, Shadow, Within};
use crate::private::ends;
use crate::steps::Packed;
use crate::times::Clock;

/// Lines found at once.
const NEAR: usize = 4096;

/// Bytes of a change up to which its lines are looked for one by one.
const SMALL_CHANGE: u64 = 4096;

/// What is in a place. All that an access reads and writes of it lies side by side.
#[derive(Debug, Clone, Copy)]
#[repr(align(16))]
struct Place {
    word: u64,
    /// What lies in the line.
    within: Within,
    /// When it was used last, for LRU.
    time: i32,
}

/// Which line of a set is given up.
#[derive(Debug, Clone)]
enum Order {
    Lru(Clock),
    /// A tree for each set.
    Tree(Box<[u64]>),
}

/// A line that came in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Brought {
    /// Where it is now.
    pub(crate) place: u32,
    /// As it came in.
    pub(crate) new: u64,
    /// What left for it.
    pub(crate) victim: u64,
}

/// The cache.
#[derive(Debug, Clone)]
pub(crate) struct FirstLevel {
    /// By the lowest bits of a line's number: the place it may be in.
    near: Box<[u16; NEAR]>,
    /// Places of a set follow each other, a power of two apart from those of the next.
    places: Box<[Place]>,
    /// By place: the lowest bits of the line's number, so that a search looks at little.
    tags: Box<[u32]>,
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
        let clock = Clock::new(ways);
        let step = clock.apart();
        let order = match cache.replacement {
            Replacement::Lru => Order::Lru(clock),
            Replacement::TreePlru => Order::Tree(vec![0; sets].into()),
        };
        let place = |place| Place { word: EMPTY, within: Within::UNKNOWN, time: clock.never(place) };
        Self {
            near: Box::new([0; NEAR]),
            places: (0..sets * step).map(place).collect(),
            tags: vec![tag(line(EMPTY)); sets * step].into(),
            order,
            ways,
            set_shift: step.trailing_zeros(),
            set_mask: sets as u64 - 1,
            changes: 0,
        }
    }

    /// How many places there are, those between sets included.
    pub(crate) fn places(&self) -> usize {
        self.places.len()
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
                            self.places[place].within = Within::UNKNOWN;
                        }
                    }
                }
            }
            _ => self.places.iter_mut().for_each(|place| place.within = Within::UNKNOWN),
        }
    }

    /// Serves an access within a line, if the line is near and nobody else need know. Its object.
    #[inline(always)]
    pub(crate) fn access_near(&mut self, address: u64, store: bool, map: &Shadow) -> Option<ObjectId> {
        let place = find_near(&self.near, &self.places, address, store)?;
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
        let Self { near, places, order: Order::Lru(kept), .. } = self else { return 0 };
        // What nothing else points at can be in registers meanwhile.
        let (near, places, mut clock) = (&**near, &mut **places, *kept);
        // Where times are about to end, one that is not served here begins them anew.
        let accesses = accesses.get(..clock.left()).unwrap_or(accesses);
        let mut done = accesses.len();
        for (index, packed) in accesses.iter().enumerate() {
            let store = packed.is_store();
            let at = guess(near, packed.word());
            let place = places.get_mut(at).filter(|place| place.is_near(packed.word(), store));
            let Some(place) = place.filter(|_| packed.is_plain() && translate(packed.address())) else {
                done = index;
                break;
            };
            let object = place.within.object().unwrap_or_else(|| ask(&mut place.within, packed.address(), map));
            place.time = clock.tick(at);
            if store {
                place.word = word_at(packed.word(), object) | DIRTY;
            }
            served(object, store);
        }
        *kept = clock;
        done
    }

    /// Fetches blocks as long as their lines are near. How many.
    #[inline(always)]
    pub(crate) fn fetch_many<'a>(&mut self, blocks: impl Iterator<Item = &'a Block>) -> usize {
        let Self { near, places, order: Order::Lru(kept), .. } = self else { return 0 };
        let (near, places, mut clock) = (&**near, &mut **places, *kept);
        let (mut left, mut done) = (clock.left(), 0);
        let (mut before, mut line_before) = (std::ptr::null(), u64::MAX);
        for block in blocks {
            let (first, last) = ends(block);
            // The same again, as in a loop, or more of the line that was used last: to use it again changes no order.
            let is_again = std::ptr::eq(block, before) | ((first >> 6 ^ line_before) | (last >> 6 ^ line_before) == 0);
            if is_again {
                done += 1;
                continue;
            }
            let find = |address| find_near(near, places, address, false);
            let (Some(one), Some(other)) = (find(first), find(last)) else { break };
            if (last >> 6).wrapping_sub(first >> 6) >= 2 || left < 2 {
                break;
            }
            left -= 2;
            for at in [one, other] {
                if let Some(place) = places.get_mut(at) {
                    place.time = clock.tick(at);
                }
            }
            (before, line_before) = (block, last >> 6);
            done += 1;
        }
        *kept = clock;
        done
    }

    /// Uses a line by an access.
    #[inline(always)]
    fn serve(&mut self, at: usize, address: u64, store: bool, map: &Shadow) -> ObjectId {
        self.touch(at);
        let Some(place) = self.places.get_mut(at) else { return ObjectId::NONE };
        let object = place.within.object().unwrap_or_else(|| ask(&mut place.within, address, map));
        if store {
            place.word = word_at(address, object) | DIRTY;
        }
        object
    }

    /// Uses a line.
    #[inline(always)]
    fn touch(&mut self, at: usize) {
        let Self { places, order, ways, set_shift, .. } = self;
        match order {
            Order::Lru(clock) => {
                if clock.is_over() {
                    clock.begin_anew(places, *ways, |place| &mut place.time);
                }
                if let Some(place) = places.get_mut(at) {
                    place.time = clock.tick(at);
                }
            }
            Order::Tree(trees) => {
                if let Some(tree) = trees.get_mut(at >> *set_shift) {
                    turn_away(tree, at & ((1 << *set_shift) - 1), *ways);
                }
            }
        }
    }

    /// Fetches from a line that is near.
    #[inline(always)]
    pub(crate) fn fetch_near(&mut self, address: u64) -> bool {
        let place = find_near(&self.near, &self.places, address, false);
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

    /// Serves an access to a line of which nobody else need know, near or not. Its object, and what came in if it was not there.
    #[inline(always)]
    pub(crate) fn access_alone(&mut self, address: u64, store: bool, map: &Shadow) -> (ObjectId, Option<Brought>) {
        let wanted = line_of(address);
        if let Some(at) = self.place(wanted) {
            self.remember(at, wanted);
            return (self.serve(at, address, store, map), None);
        }
        let (object, within) = map.find_line(address);
        let new = word(wanted, object) | if store { DIRTY } else { 0 };
        let (at, victim) = self.bring_here(wanted, new, within);
        (object, Some(Brought { place: at as u32, new, victim }))
    }

    /// The place of a line, which the table has afterwards, unless somebody else need know.
    fn come_near(&mut self, wanted: u64, store: bool) -> Option<usize> {
        let place = self.place(wanted)?;
        let word = self.places[place].word;
        if word & PREFETCHED != 0 || store && word & SHARED != 0 {
            self.touch(place);
            return None;
        }
        self.remember(place, wanted);
        Some(place)
    }

    #[inline(always)]
    fn remember(&mut self, place: usize, line: u64) {
        if let Ok(place) = u16::try_from(place) {
            self.near[line as usize % NEAR] = place;
        }
    }

    /// The place of a line.
    #[inline(always)]
    fn place(&self, wanted: u64) -> Option<usize> {
        let start = ((wanted & self.set_mask) as usize) << self.set_shift;
        let tags = self.tags.get(start..start + self.ways)?;
        // Eight, as often as not, without a loop.
        let equal = match <&[u32; 8]>::try_from(tags) {
            Ok(tags) => any_equal(tags, tag(wanted)),
            Err(_) => any_equal(tags, tag(wanted)),
        };
        let place = start + equal.checked_sub(1)? as usize;
        let is_it = self.places.get(place).is_some_and(|place| line(place.word) == wanted);
        if is_it { Some(place) } else { self.search(start, wanted) }
    }

    /// The same, where another line has the same tag.
    #[cold]
    #[inline(never)]
    fn search(&self, start: usize, wanted: u64) -> Option<usize> {
        let places = self.places.get(start..start + self.ways)?;
        places.iter().position(|place| line(place.word) == wanted).map(|way| start + way)
    }

    /// Looks for a line, using it; one that is not there comes in as `new`, whose line it must be.
    pub(crate) fn access(&mut self, wanted: u64, new: u64, within: Within) -> Found<'_> {
        match self.place(wanted) {
            Some(place) => {
                self.touch(place);
                Found::Hit(&mut self.places[place].word)
            }
            None => Found::Miss(self.bring(wanted, new, within).1),
        }
    }

    /// Brings a line in that is not there. Its place, and what left for it.
    pub(crate) fn bring(&mut self, wanted: u64, new: u64, within: Within) -> (usize, u64) {
        self.bring_here(wanted, new, within)
    }

    /// The same where it is called, for who misses often.
    #[inline(always)]
    fn bring_here(&mut self, wanted: u64, new: u64, within: Within) -> (usize, u64) {
        let set = (wanted & self.set_mask) as usize;
        let start = set << self.set_shift;
        let at = match &mut self.order {
            Order::Lru(clock) => {
                if clock.is_over() {
                    clock.begin_anew(&mut self.places, self.ways, |place| &mut place.time);
                }
                let places = self.places.get(start..start + self.ways).unwrap_or_default();
                start
                    + clock
                        .way(<&[Place; 8]>::try_from(places).map_or_else(|_| oldest(places), |places| oldest(places)))
            }
            Order::Tree(trees) => {
                let places = self.places.get(start..start + self.ways).unwrap_or_default();
                let empty = places.iter().position(|place| place.word == EMPTY);
                let Some(tree) = trees.get_mut(set) else { return (start, EMPTY) };
                let way = empty.unwrap_or_else(|| victim(*tree, self.ways));
                turn_away(tree, way, self.ways);
                start + way
            }
        };
        let (Some(place), Some(of_line)) = (self.places.get_mut(at), self.tags.get_mut(at)) else { return (at, EMPTY) };
        let time = if let Order::Lru(clock) = &mut self.order { clock.tick(at) } else { 0 };
        let gone = std::mem::replace(place, Place { word: new, within, time }).word;
        *of_line = tag(wanted);
        self.remember(at, wanted);
        (at, gone)
    }

    /// The word of a line, which is not used by this, to be changed.
    pub(crate) fn find(&mut self, wanted: u64) -> Option<&mut u64> {
        let place = self.place(wanted)?;
        self.places.get_mut(place).map(|place| &mut place.word)
    }

    /// Whether a line is there.
    pub(crate) fn has(&self, wanted: u64) -> bool {
        self.place(wanted).is_some()
    }

    /// Takes a line out.
    pub(crate) fn remove(&mut self, wanted: u64) -> Option<u64> {
        let at = self.place(wanted)?;
        let place = self.places.get_mut(at)?;
        if let Order::Lru(clock) = &self.order {
            place.time = clock.never(at);
        }
        // Its tag may stay: what it is compared with says that no line is there.
        Some(std::mem::replace(&mut place.word, EMPTY))
    }
}

/// What is compared first of a line.
#[inline(always)]
fn tag(line: u64) -> u32 {
    line as u32
}

/// One more than the index of a tag that is the wanted one; 0 for none, anything else for several.
#[inline(always)]
fn any_equal(tags: &[u32], wanted: u32) -> u32 {
    (1..).zip(tags).fold(0, |equal, (index, tag)| equal | if *tag == wanted { index } else { 0 })
}

/// The time of the place that was used longest ago.
#[inline(always)]
fn oldest(places: &[Place]) -> i32 {
    places.iter().fold(i32::MAX, |oldest, place| oldest.min(place.time))
}

impl Place {
    /// Whether the line of an address is here, nothing is to be learnt of its being used, and, for a store, nobody else need know. Bits
    /// of the address beyond user space make no difference.
    #[inline(always)]
    fn is_near(&self, address: u64, store: bool) -> bool {
        const { assert!(SHARED == 1 << 2) };
        let compared = !0 << LINE_SHIFT | PREFETCHED | u64::from(store) << 2;
        (self.word ^ word_at(address, ObjectId::NONE)) & compared == 0
    }
}

/// The place that the line of an address may be in. Bits beyond user space make no difference.
#[inline(always)]
fn guess(near: &[u16; NEAR], address: u64) -> usize {
    usize::from(near[(address >> 6) as usize % NEAR])
}

/// The place of an address's line, if it is near.
#[inline(always)]
fn find_near(near: &[u16; NEAR], places: &[Place], address: u64, store: bool) -> Option<usize> {
    let at = guess(near, address);
    places.get(at)?.is_near(address, store).then_some(at)
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
            prop_assert_eq!(sorted(&mut level.places.iter().map(|place| place.word)), sorted(&mut array.words()));
        }
    }
}
