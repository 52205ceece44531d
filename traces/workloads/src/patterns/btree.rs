//! `btree`: look-ups in a B+-tree, whose levels are the hotter the smaller they are.
//!
//! The tree is loaded from sorted keys: full leaves of 16 keys, and above them inner nodes of 16 children. A leaf holds where
//! each value lies, in a table in random order, as that of a database is. A look-up waits for one line after the other:
//! a node of each inner level, the leaf, the value. There are 2^16, 2^23, 2^25 or 2^27 keys by scale, with values of 32
//! bytes: 2.8 MiB, 359 MiB, 1.4 GiB or 5.6 GiB in all. An iteration makes 2^18 look-ups.
//!
//! Expected order: by what is lost, all about equal: `leaves` and `values` are one miss each, in sequence; of
//! `inner_nodes` the upper levels stay in the cache, the lowest does not. By the byte, `inner_nodes` far ahead: they are a
//! fortieth of the size of `values`, and every look-up passes five of them. Whoever ranks by size puts them last
//! although they cost next to nothing to place. (Tierscope's clock sampler, `small`: `values` 35 %, `leaves` 33 %,
//! `inner_nodes` 29 % of the samples.)

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde_json::{Map, Value};

use super::{result, size};
use crate::command_line::Settings;
use crate::registry::Registry;
use crate::run::Run;
use crate::shared::for_each_piece;
use crate::{checksum, random};

/// Keys of a leaf, and children of an inner node.
const FANOUT: usize = 16;

/// Look-ups of an iteration, and those a thread takes at a time.
const LOOKUPS: usize = 1 << 18;
const PIECE: usize = 1 << 10;

/// Keys are this far apart on average.
const GAP_BITS: u32 = 8;

/// Three cache lines.
#[derive(Debug, Clone)]
#[repr(align(64))]
struct Node {
    /// In a leaf the keys; in an inner node the smallest key below each child.
    keys: [u64; FANOUT],
    /// In a leaf where the values lie; in an inner node the children's numbers in the level below.
    below: [u32; FANOUT],
}

/// Runs the workload.
pub(crate) fn run(settings: &Settings, run: &mut Run) -> Map<String, Value> {
    let bits = size(settings.scale, [16, 23, 25, 27]) as u32;
    let threads = run.threads();
    let tree = run.phase(c"build", |run| Tree::load(bits, settings.seed, &mut run.registry));
    let total = run.phase(c"kernel", |_| {
        let seed = |iteration| random::derive(settings.seed, 1 + u64::from(iteration));
        let totals = (0..settings.iterations).map(|iteration| tree.look_up_many(seed(iteration), LOOKUPS, threads));
        totals.fold(0, u64::wrapping_add)
    });
    result(checksum::of([total]))
}

struct Tree {
    seed: u64,
    bits: u32,
    /// All inner levels, the root first.
    inner: Vec<Node>,
    /// Where each inner level begins, the root's first.
    levels: Vec<usize>,
    leaves: Vec<Node>,
    values: Vec<[u64; 4]>,
}

impl Tree {
    /// A tree of 2^`bits` keys, 16 at least.
    fn load(bits: u32, seed: u64, registry: &mut Registry) -> Self {
        let seed = random::derive(seed, 0);
        let leaf_count = (1usize << bits) / FANOUT;
        let counts: Vec<usize> =
            std::iter::successors(Some(leaf_count), |&count| (count > 1).then(|| count.div_ceil(FANOUT)))
                .skip(1)
                .collect();
        let levels: Vec<usize> = counts
            .iter()
            .rev()
            .scan(0, |begin, &count| {
                *begin += count;
                Some(*begin - count)
            })
            .collect();
        let mut leaves = allocate_leaves(registry, leaf_count);
        let mut inner = allocate_inner_nodes(registry, counts.iter().sum());
        let mut values = allocate_values(registry, 1 << bits);
        for (number, leaf) in leaves.iter_mut().enumerate() {
            for slot in 0..FANOUT {
                let index = (number * FANOUT + slot) as u32;
                let place = scatter(index, bits);
                leaf.keys[slot] = key(index, seed);
                leaf.below[slot] = place;
                values[place as usize] = [value(index, seed), 0, 0, 0];
            }
        }
        let mut tree = Tree { seed, bits, inner: Vec::new(), levels, leaves, values };
        // From the lowest level up: the smallest key below a child is its own first.
        for level in (0..tree.levels.len()).rev() {
            let begin = tree.levels[level];
            let end = tree.levels.get(level + 1).copied().unwrap_or(inner.len());
            let children = tree.levels.get(level + 2).copied().unwrap_or(inner.len()).saturating_sub(end);
            for number in 0..end - begin {
                for slot in 0..FANOUT {
                    let child = number * FANOUT + slot;
                    let first = if level + 1 == tree.levels.len() {
                        tree.leaves.get(child).map(|leaf| leaf.keys[0])
                    } else {
                        (child < children).then(|| inner[end + child].keys[0])
                    };
                    let node = &mut inner[begin + number];
                    // Places without a child are never chosen: no key is as large.
                    node.keys[slot] = first.unwrap_or(u64::MAX);
                    node.below[slot] = child as u32;
                }
            }
        }
        tree.inner = inner;
        tree
    }

    /// The value of a key.
    #[inline]
    fn look_up(&self, key: u64) -> Option<u64> {
        let mut number = 0;
        for &begin in &self.levels {
            let node = &self.inner[begin + number as usize];
            number = node.below[last_not_above(&node.keys, key)];
        }
        let leaf = &self.leaves[number as usize];
        let slot = last_not_above(&leaf.keys, key);
        (leaf.keys[slot] == key).then(|| self.values[leaf.below[slot] as usize][0])
    }

    /// Looks that many keys up, by chance, and returns the sum of their values.
    fn look_up_many(&self, seed: u64, lookups: usize, threads: u32) -> u64 {
        let total = AtomicU64::new(0);
        for_each_piece(0..lookups, PIECE, threads, |piece| {
            let keys =
                piece.map(|lookup| key(random::below(random::at(seed, lookup as u64), 1 << self.bits), self.seed));
            let sum = keys.filter_map(|key| self.look_up(key)).fold(0, u64::wrapping_add);
            total.fetch_add(sum, Relaxed);
        });
        total.into_inner()
    }
}

/// The place of the largest key that is not above `key`, or the first; found by counting, without a branch to be guessed.
#[inline]
fn last_not_above(keys: &[u64; FANOUT], key: u64) -> usize {
    keys.iter().skip(1).map(|&other| usize::from(other <= key)).sum()
}

/// The keys in ascending order, with gaps.
#[inline]
fn key(index: u32, seed: u64) -> u64 {
    u64::from(index) << GAP_BITS | random::at(seed, u64::from(index)) >> (64 - GAP_BITS)
}

fn value(index: u32, seed: u64) -> u64 {
    random::at(!seed, u64::from(index))
}

/// Where the value of a key lies: a bijection of the numbers below 2^`bits`.
fn scatter(index: u32, bits: u32) -> u32 {
    let mask = ((1u64 << bits) - 1) as u32;
    let number = index.wrapping_mul(0x9e37_79b1) & mask;
    (number ^ number >> (bits / 2)).wrapping_mul(0x85eb_ca6b) & mask
}

#[inline(never)]
fn allocate_inner_nodes(registry: &mut Registry, nodes: usize) -> Vec<Node> {
    registry.add("inner_nodes", vec![Node { keys: [0; FANOUT], below: [0; FANOUT] }; nodes])
}

#[inline(never)]
fn allocate_leaves(registry: &mut Registry, nodes: usize) -> Vec<Node> {
    registry.add("leaves", vec![Node { keys: [0; FANOUT], below: [0; FANOUT] }; nodes])
}

#[inline(never)]
fn allocate_values(registry: &mut Registry, values: usize) -> Vec<[u64; 4]> {
    registry.add("values", vec![[0; 4]; values])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_leads_to_its_value_and_no_other_does() {
        for bits in [4, 5, 8, 9, 13] {
            let tree = Tree::load(bits, 3, &mut Registry::default());
            let mut before = None;
            for index in 0..1 << bits {
                let key = key(index, tree.seed);
                assert!(Some(key) > before);
                assert_eq!(tree.look_up(key), Some(value(index, tree.seed)), "key {index} of 2^{bits}");
                if before.is_none_or(|before| before + 1 < key) && key > 0 {
                    assert_eq!(tree.look_up(key - 1), None);
                }
                before = Some(key);
            }
        }
    }

    #[test]
    fn many_look_ups_add_up_and_threads_change_nothing() {
        let tree = Tree::load(10, 3, &mut Registry::default());
        let index = |lookup| random::below(random::at(9, lookup), 1 << 10);
        let expected = (0..5000).map(|lookup| value(index(lookup), tree.seed)).fold(0, u64::wrapping_add);
        assert_eq!([tree.look_up_many(9, 5000, 1), tree.look_up_many(9, 5000, 3)], [expected; 2]);
    }

    #[test]
    fn values_lie_scattered_each_in_a_place_of_its_own() {
        let mut places: Vec<u32> = (0..1 << 10).map(|index| scatter(index, 10)).collect();
        assert!(!places.is_sorted());
        places.sort_unstable();
        assert!(places.into_iter().eq(0..1 << 10));
    }
}
