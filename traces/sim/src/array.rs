//! Sets of ways: the tags of a cache or a TLB, and which of them is given up next.
//!
//! **LRU**, exact. Sets of up to 16 ways keep their order of use as a permutation, 4 bits for each way in one word, the most recent
//! lowest, and a byte of each line's number in one or two more. A use finds the way by comparing eight bytes at a time and moves
//! its 4 bits down with a few shifts: no loop whose end depends on data, which is what a host mispredicts. The line itself is
//! compared last, since a byte may be another's. Larger sets keep their lines in order of use instead.
//!
//! **Tree-PLRU** leaves lines in their ways and keeps a binary tree of bits for each set; a use turns the bits on its path away
//! from it, and the victim is found by following them (Al-Zoubi, Milenkovic, Milenkovic, "Performance evaluation of cache
//! replacement policies for the SPEC CPU2000 benchmark suite", ACMSE 2004). Empty ways are filled first.

use crate::line::{EMPTY, line};
use crate::machine::Replacement;

/// Most ways whose order fits into a word.
const ORDERED_WAYS: u32 = 16;

/// One in every 4 bits, and in every byte.
const NIBBLES: u64 = 0x1111_1111_1111_1111;
const BYTES: u64 = 0x0101_0101_0101_0101;

/// The order of a new set: way n is the nth most recent.
const IN_ORDER: u64 = 0xfedc_ba98_7654_3210;

/// The order of use of a set of up to 16 ways, and where to look for a line.
#[derive(Debug, Clone, Copy)]
struct Order {
    order: u64,
    /// A byte of the line number in each way; anything where there is no line.
    bytes: [u64; 2],
}

impl Order {
    fn new() -> Self {
        Self { order: IN_ORDER, bytes: [0; 2] }
    }

    fn oldest(self, ways: usize) -> usize {
        (self.order >> (4 * (ways - 1)) & 0xf) as usize
    }

    /// The lowest bit of a way's 4 in the order.
    fn place(self, way: usize) -> u32 {
        let other = self.order ^ (way as u64 * NIBBLES);
        // The lowest zero among the fours is found exactly; above it there may be false ones.
        let zeros = other.wrapping_sub(NIBBLES) & !other & (NIBBLES << 3);
        zeros.trailing_zeros() & !3 & 63
    }

    /// Makes a way the most recent.
    fn use_way(&mut self, way: usize) {
        let place = self.place(way);
        let newer = self.order & !(u64::MAX << place);
        let older = self.order & (u64::MAX << place << 4);
        self.order = older | newer << 4 | way as u64;
    }

    /// Makes a way the least recent of the first `ways`.
    fn forget_way(&mut self, way: usize, ways: usize) {
        let place = self.place(way);
        let last = 4 * (ways as u32 - 1);
        let newer = self.order & !(u64::MAX << place);
        let older = (self.order >> 4) & (u64::MAX << place) & !(u64::MAX << last);
        let beyond = self.order & (u64::MAX << last << 4);
        self.order = newer | older | (way as u64) << last | beyond;
    }

    fn set_byte(&mut self, way: usize, line: u64) {
        let shift = 8 * (way % 8);
        let bytes = &mut self.bytes[way / 8];
        *bytes = *bytes & !(0xff << shift) | (line_byte(line)) << shift;
    }

    /// The way of a line.
    #[inline]
    fn find(self, words: &[u64], wanted: u64) -> Option<usize> {
        let pattern = line_byte(wanted) * BYTES;
        let zeros = |bytes: u64| {
            let other = bytes ^ pattern;
            other.wrapping_sub(BYTES) & !other & (BYTES << 7)
        };
        // The highest bit of a byte is for the first eight ways, the one below it for the others: one loop for both, which mostly
        // ends after one turn.
        let mut found = zeros(self.bytes[0]) | zeros(self.bytes[1]) >> 1;
        while found != 0 {
            let bit = found.trailing_zeros() as usize;
            let way = bit / 8 + 8 * (!bit & 1);
            if words.get(way).is_some_and(|word| line(*word) == wanted) {
                return Some(way);
            }
            found &= found - 1;
        }
        None
    }
}

/// What of a line number is compared first. Its lowest bits choose the set and are the same in all ways.
fn line_byte(line: u64) -> u64 {
    (line ^ line >> 8 ^ line >> 16) & 0xff
}

/// A set-associative array of words (`line.rs`).
#[derive(Debug, Clone)]
pub(crate) struct Array {
    words: Box<[u64]>,
    /// For LRU of few ways; else empty.
    orders: Box<[Order]>,
    /// For tree-PLRU; else empty. Where both are empty, words are in order of use.
    trees: Box<[u64]>,
    ways: usize,
    set_mask: u64,
}

/// What looking for a line found.
#[derive(Debug)]
pub(crate) enum Found<'a> {
    /// The line was there.
    Hit(&'a mut u64),
    /// It was not, and is now; this word left for it ([`EMPTY`] for none).
    Miss(u64),
}

impl Array {
    /// `sets` must be a power of two; with [`Replacement::TreePlru`] so must `ways`, and at most 64.
    pub(crate) fn new(sets: u64, ways: u32, replacement: Replacement) -> Self {
        let is_tree = replacement == Replacement::TreePlru;
        let orders = if !is_tree && ways <= ORDERED_WAYS { sets as usize } else { 0 };
        let trees = if is_tree { sets as usize } else { 0 };
        Self {
            words: vec![EMPTY; sets as usize * ways as usize].into(),
            orders: vec![Order::new(); orders].into(),
            trees: vec![0; trees].into(),
            ways: ways as usize,
            set_mask: sets - 1,
        }
    }

    /// Looks for a line, using it; one that is not there comes in as `new`, whose line it must be.
    pub(crate) fn access(&mut self, wanted: u64, new: u64) -> Found<'_> {
        match self.access_at(wanted, new) {
            (_, Some(victim)) => Found::Miss(victim),
            (at, None) => Found::Hit(&mut self.words[at as usize]),
        }
    }

    /// The same: where the line is now, and what left for it ([`EMPTY`] for none) if it was not there.
    #[inline]
    pub(crate) fn access_at(&mut self, wanted: u64, new: u64) -> (u32, Option<u64>) {
        let set = (wanted & self.set_mask) as usize;
        let start = set * self.ways;
        let words = &mut self.words[start..start + self.ways];
        let (way, victim) = if let Some(order) = self.orders.get_mut(set) {
            access_ordered(words, order, wanted, new)
        } else if let Some(tree) = self.trees.get_mut(set) {
            access_tree(words, tree, wanted, new)
        } else {
            access_in_place(words, wanted, new)
        };
        ((start + way) as u32, victim)
    }

    /// The word that is somewhere, if it is of a line.
    #[inline(always)]
    pub(crate) fn at(&mut self, at: u32, wanted: u64) -> Option<&mut u64> {
        self.words.get_mut(at as usize).filter(|word| line(**word) == wanted)
    }

    /// Set and way of a line.
    fn locate(&self, wanted: u64) -> Option<(usize, usize)> {
        let set = (wanted & self.set_mask) as usize;
        let words = &self.words[set * self.ways..(set + 1) * self.ways];
        let way = match self.orders.get(set) {
            Some(order) => order.find(words, wanted),
            None => words.iter().position(|word| line(*word) == wanted),
        };
        way.filter(|way| words[*way] != EMPTY).map(|way| (set, way))
    }

    /// The word of a line, which is not used by this.
    pub(crate) fn find(&mut self, wanted: u64) -> Option<&mut u64> {
        let (set, way) = self.locate(wanted)?;
        self.words.get_mut(set * self.ways + way)
    }

    /// Whether a line is there.
    pub(crate) fn has(&self, wanted: u64) -> bool {
        self.locate(wanted).is_some()
    }

    /// Takes a line out.
    pub(crate) fn remove(&mut self, wanted: u64) -> Option<u64> {
        let (set, way) = self.locate(wanted)?;
        let words = &mut self.words[set * self.ways..(set + 1) * self.ways];
        let word = std::mem::replace(&mut words[way], EMPTY);
        if let Some(order) = self.orders.get_mut(set) {
            order.forget_way(way, self.ways);
        } else if self.trees.is_empty() {
            words[way..].rotate_left(1);
        }
        Some(word)
    }

    /// Every word that holds a line.
    #[cfg(test)]
    pub(crate) fn words(&self) -> impl Iterator<Item = u64> {
        self.words.iter().copied().filter(|word| *word != EMPTY)
    }
}

#[inline]
fn access_ordered(words: &mut [u64], order: &mut Order, wanted: u64, new: u64) -> (usize, Option<u64>) {
    if let Some(way) = order.find(words, wanted) {
        order.use_way(way);
        return (way, None);
    }
    let way = order.oldest(words.len());
    order.use_way(way);
    order.set_byte(way, wanted);
    (way, Some(std::mem::replace(&mut words[way], new)))
}

/// One pass finds, moves, and makes room.
fn access_in_place(words: &mut [u64], wanted: u64, new: u64) -> (usize, Option<u64>) {
    let mut previous = new;
    for way in 0..words.len() {
        let word = std::mem::replace(&mut words[way], previous);
        if line(word) == wanted {
            words[0] = word;
            return (0, None);
        }
        previous = word;
    }
    (0, Some(previous))
}

fn access_tree(ways: &mut [u64], tree: &mut u64, wanted: u64, new: u64) -> (usize, Option<u64>) {
    let hit = ways.iter().position(|word| line(*word) == wanted);
    let way = hit.or_else(|| ways.iter().position(|word| *word == EMPTY)).unwrap_or_else(|| victim(*tree, ways.len()));
    turn_away(tree, way, ways.len());
    let victim = if hit.is_none() { Some(std::mem::replace(&mut ways[way], new)) } else { None };
    (way, victim)
}

/// The way that a tree gives up. Node n of it has the children 2n and 2n + 1, and bit n says which of them is to be given up next; the root is 1.
pub(crate) fn victim(tree: u64, ways: usize) -> usize {
    let mut node = 1;
    while node < ways {
        node = node * 2 + (tree >> node & 1) as usize;
    }
    node - ways
}

/// A way of a tree is used.
#[inline]
pub(crate) fn turn_away(tree: &mut u64, way: usize, ways: usize) {
    let mut node = ways + way;
    while node > 1 {
        let right = node & 1;
        node /= 2;
        *tree = *tree & !(1 << node) | (1 - right as u64) << node;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line::word;
    use crate::objects::ObjectId;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    fn new(line: u64) -> u64 {
        word(line, ObjectId::NONE)
    }

    fn misses(array: &mut Array, wanted: u64) -> bool {
        matches!(array.access(wanted, new(wanted)), Found::Miss(_))
    }

    #[derive(Debug, Clone)]
    enum Step {
        Access(u64),
        Find(u64),
        Remove(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            8 => (0_u64..70).prop_map(Step::Access),
            1 => (0_u64..70).prop_map(Step::Find),
            1 => (0_u64..70).prop_map(Step::Remove),
        ];
        proptest::collection::vec(step, 0..400)
    }

    proptest! {
        /// Against the obvious model: a queue for each set.
        #[test]
        fn lru_gives_up_the_least_recently_used(steps in steps(), sets_shift in 0_u32..3, ways in 1_u32..20) {
            let sets = 1_u64 << sets_shift;
            let mut array = Array::new(sets, ways, Replacement::Lru);
            let mut model = vec![VecDeque::new(); sets as usize];
            for step in steps {
                let (Step::Access(line_number) | Step::Find(line_number) | Step::Remove(line_number)) = step;
                let queue = &mut model[(line_number % sets) as usize];
                let there = queue.iter().position(|line| *line == line_number);
                match step {
                    Step::Access(_) => {
                        let evicted = match there {
                            Some(place) => queue.remove(place).and(None),
                            None if queue.len() == ways as usize => queue.pop_back(),
                            None => None,
                        };
                        queue.push_front(line_number);
                        match array.access(line_number, new(line_number)) {
                            Found::Hit(word) => {
                                prop_assert_eq!(line(*word), line_number);
                                prop_assert!(there.is_some());
                            }
                            Found::Miss(victim) => {
                                prop_assert!(there.is_none());
                                prop_assert_eq!((victim != EMPTY).then(|| line(victim)), evicted);
                            }
                        }
                    }
                    Step::Find(_) => prop_assert_eq!(array.find(line_number).is_some(), there.is_some()),
                    Step::Remove(_) => {
                        prop_assert_eq!(array.remove(line_number).map(line), there.and_then(|place| queue.remove(place)));
                    }
                }
            }
        }

        /// What every replacement must keep: no line twice, no more than ways, nothing lost, the last one used kept.
        #[test]
        fn a_tree_keeps_what_was_used_last_and_loses_nothing(steps in steps(), ways_shift in 0_u32..5) {
            let ways = 1_u32 << ways_shift;
            let mut array = Array::new(2, ways, Replacement::TreePlru);
            let mut model = std::collections::BTreeSet::new();
            for step in steps {
                match step {
                    Step::Access(line_number) => {
                        let full = model.iter().filter(|line| *line % 2 == line_number % 2).count() == ways as usize;
                        match array.access(line_number, new(line_number)) {
                            Found::Hit(_) => prop_assert!(model.contains(&line_number)),
                            Found::Miss(EMPTY) => prop_assert!(!full),
                            Found::Miss(victim) => prop_assert!(full && model.remove(&line(victim))),
                        }
                        model.insert(line_number);
                        prop_assert!(array.find(line_number).is_some());
                    }
                    Step::Find(line_number) => prop_assert_eq!(array.find(line_number).is_some(), model.contains(&line_number)),
                    Step::Remove(line_number) => prop_assert_eq!(array.remove(line_number).is_some(), model.remove(&line_number)),
                }
                let mut held: Vec<u64> = array.words().map(line).collect();
                held.sort_unstable();
                prop_assert_eq!(held, model.iter().copied().collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn a_set_that_fits_never_misses_again() {
        for replacement in [Replacement::Lru, Replacement::TreePlru] {
            let mut array = Array::new(4, 8, replacement);
            let missed: usize = (0..10).map(|_| (0..32).filter(|line| misses(&mut array, *line)).count()).sum();
            assert_eq!(missed, 32);
        }
    }

    #[test]
    fn a_cycle_one_line_larger_than_lru_always_misses_and_a_tree_saves_some() {
        let cycle = |replacement| {
            let mut array = Array::new(1, 8, replacement);
            (0..100).map(|_| (0..9).filter(|line| misses(&mut array, *line)).count()).sum::<usize>()
        };
        assert_eq!(cycle(Replacement::Lru), 900);
        assert!((100..900).contains(&cycle(Replacement::TreePlru)));
    }

    #[test]
    fn with_two_ways_a_tree_is_lru() {
        let (mut list, mut tree) = (Array::new(1, 2, Replacement::Lru), Array::new(1, 2, Replacement::TreePlru));
        for line in [1, 2, 1, 3, 1, 2, 3, 3, 2, 1, 1, 2, 3] {
            assert_eq!(misses(&mut list, line), misses(&mut tree, line));
        }
    }

    #[test]
    fn a_tree_of_four_gives_up_what_its_bits_point_at() {
        let mut array = Array::new(1, 4, Replacement::TreePlru);
        for line in [0, 1, 2, 3, 0] {
            array.access(line, new(line));
        }
        // The root points right after 0, and there the bit points at 2, which was used before 3.
        assert!(matches!(array.access(9, new(9)), Found::Miss(victim) if line(victim) == 2));
    }
}
