//! Sets of ways: the tags of a cache or a TLB, and which of them is given up next.
//!
//! **LRU** keeps each set in order of use, the most recent first. A hit on the first, which most hits are, moves nothing; a miss
//! pushes the last out. That is exact, needs no ages, and is as fast as counters for the few ways that caches have.
//!
//! **Tree-PLRU** leaves lines in their ways and keeps a binary tree of bits for each set; a use turns the bits on its path away
//! from it, and the victim is found by following them (Al-Zoubi, Milenkovic, Milenkovic, "Performance evaluation of cache
//! replacement policies for the SPEC CPU2000 benchmark suite", ACMSE 2004). Empty ways are filled first.

use crate::line::{EMPTY, line};
use crate::machine::Replacement;

/// A set-associative array of words (`line.rs`).
#[derive(Debug, Clone)]
pub(crate) struct Array {
    words: Box<[u64]>,
    /// Bits of the tree of each set; empty for LRU.
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
        let trees = if replacement == Replacement::TreePlru { sets as usize } else { 0 };
        Self {
            words: vec![EMPTY; sets as usize * ways as usize].into(),
            trees: vec![0; trees].into(),
            ways: ways as usize,
            set_mask: sets - 1,
        }
    }

    /// Looks for a line, using it; one that is not there comes in as `new`, whose line it must be.
    #[inline]
    pub(crate) fn access(&mut self, wanted: u64, new: u64) -> Found<'_> {
        let set = (wanted & self.set_mask) as usize;
        let start = set * self.ways;
        let ways = &mut self.words[start..start + self.ways];
        if !self.trees.is_empty() {
            return access_tree(ways, &mut self.trees[set], wanted, new);
        }
        if line(ways[0]) == wanted {
            return Found::Hit(&mut ways[0]);
        }
        access_list(ways, wanted, new)
    }

    /// The word of a line, which is not used by this.
    pub(crate) fn find(&mut self, wanted: u64) -> Option<&mut u64> {
        let start = (wanted & self.set_mask) as usize * self.ways;
        self.words[start..start + self.ways].iter_mut().find(|word| line(**word) == wanted && **word != EMPTY)
    }

    /// Takes a line out.
    pub(crate) fn remove(&mut self, wanted: u64) -> Option<u64> {
        let start = (wanted & self.set_mask) as usize * self.ways;
        let ways = &mut self.words[start..start + self.ways];
        let way = ways.iter().position(|word| line(*word) == wanted && *word != EMPTY)?;
        let word = ways[way];
        if self.trees.is_empty() {
            ways.copy_within(way + 1.., way);
            ways[self.ways - 1] = EMPTY;
        } else {
            ways[way] = EMPTY;
        }
        Some(word)
    }

    /// Every word that holds a line.
    #[cfg(test)]
    pub(crate) fn words(&self) -> impl Iterator<Item = u64> {
        self.words.iter().copied().filter(|word| *word != EMPTY)
    }
}

/// The first way is known not to be it.
fn access_list(ways: &mut [u64], wanted: u64, new: u64) -> Found<'_> {
    let mut previous = ways[0];
    for way in 1..ways.len() {
        let word = std::mem::replace(&mut ways[way], previous);
        if line(word) == wanted {
            ways[0] = word;
            return Found::Hit(&mut ways[0]);
        }
        previous = word;
    }
    ways[0] = new;
    Found::Miss(previous)
}

fn access_tree<'a>(ways: &'a mut [u64], tree: &mut u64, wanted: u64, new: u64) -> Found<'a> {
    let hit = ways.iter().position(|word| line(*word) == wanted);
    let way = hit.or_else(|| ways.iter().position(|word| *word == EMPTY)).unwrap_or_else(|| victim(*tree, ways.len()));
    turn_away(tree, way, ways.len());
    if hit.is_some() {
        return Found::Hit(&mut ways[way]);
    }
    Found::Miss(std::mem::replace(&mut ways[way], new))
}

/// Node n of a tree has the children 2n and 2n + 1, and bit n says which of them is to be given up next; the root is 1.
fn victim(tree: u64, ways: usize) -> usize {
    let mut node = 1;
    while node < ways {
        node = node * 2 + (tree >> node & 1) as usize;
    }
    node - ways
}

fn turn_away(tree: &mut u64, way: usize, ways: usize) {
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
            8 => (0_u64..40).prop_map(Step::Access),
            1 => (0_u64..40).prop_map(Step::Find),
            1 => (0_u64..40).prop_map(Step::Remove),
        ];
        proptest::collection::vec(step, 0..400)
    }

    proptest! {
        /// Against the obvious model: a queue for each set.
        #[test]
        fn lru_gives_up_the_least_recently_used(steps in steps(), sets_shift in 0_u32..3, ways in 1_u32..6) {
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
