//! Many rows through the same trees at once.
//!
//! A walk from the root to a leaf is a chain: which node is loaded next hangs on a comparison, and a processor that guesses it is wrong often.
//! So rows walk abreast, one step each in turn, and a comparison is added to an index instead of branched on: the chains do not
//! wait for one another. A row that has come to its leaf steps in place until the tree's deepest leaf could have been reached.
//!
//! **The same, bit for bit.** Of a row the trees are added up in their order and the splits of a walk in theirs, whatever rows walk beside it;
//! a step in place moves nothing.

use super::Member;
use super::trees::{Forest, Tree};

/// Rows that are asked about together: what they and a tree need stays in the first cache.
pub(crate) const BLOCK: usize = 32;

/// Rows that walk abreast: enough to be busy while one waits, few enough for registers.
pub(super) const ABREAST: usize = 8;

/// A number for each row of a block; those beyond its rows mean nothing.
pub(super) type Values = [f64; BLOCK];

/// The rows of a block, one after the other, in a multiple of [`ABREAST`] and at most [`BLOCK`].
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) values: &'a [f64],
    /// From a row to the next; not 0.
    pub(super) stride: usize,
}

/// A split; where `below` is its own number, a leaf, above whose threshold nothing is.
struct Step {
    threshold: f64,
    column: u32,
    /// The next node for values up to the threshold; the one after it for those above.
    below: u32,
}

/// A tree to walk.
struct Walk {
    steps: Vec<Step>,
    /// By node.
    values: Vec<f64>,
    /// Steps to the deepest leaf.
    depth: usize,
}

/// A forest to walk.
pub(super) struct Walks {
    trees: Vec<Walk>,
    scale: f64,
    offset: f64,
}

/// A member to ask about blocks of rows.
pub(super) enum Walker<'a> {
    Trees(Walks),
    Linear { weights: &'a [f64], centres: &'a [f64], offset: f64 },
    Mean(Vec<Walker<'a>>),
}

impl Walk {
    fn new(tree: &Tree) -> Self {
        let mut depths = vec![0usize; tree.nodes.len()];
        let mut steps = Vec::with_capacity(tree.nodes.len());
        for (number, node) in tree.nodes.iter().enumerate() {
            if node.below == 0 {
                let own = u32::try_from(number).unwrap_or(u32::MAX);
                steps.push(Step { threshold: f64::INFINITY, column: 0, below: own });
                continue;
            }
            steps.push(Step { threshold: node.threshold, column: node.column, below: node.below });
            let next = depths.get(number).map_or(0, |depth| depth + 1);
            for child in [node.below, node.above] {
                if let Some(depth) = depths.get_mut(child as usize) {
                    *depth = next;
                }
            }
        }
        let values = tree.nodes.iter().map(|node| node.value).collect();
        Self { steps, values, depth: depths.into_iter().max().unwrap_or(0) }
    }

    /// The leaves that rows abreast come to. `moves` is told of each step: row, column, and the nodes it goes from and to.
    #[inline(always)]
    fn leaves(&self, rows: Rows, mut moves: impl FnMut(usize, u32, u32, u32)) -> [u32; ABREAST] {
        let mut at = [0u32; ABREAST];
        for _ in 0..self.depth {
            for (row, at) in at.iter_mut().enumerate() {
                let Some(step) = self.steps.get(*at as usize) else { continue };
                let place = row * rows.stride + step.column as usize;
                let value = rows.values.get(place).copied().unwrap_or(0.0);
                let next = step.below + u32::from(value > step.threshold);
                moves(row, step.column, *at, next);
                *at = next;
            }
        }
        at
    }

    fn value(&self, node: u32) -> f64 {
        self.values.get(node as usize).copied().unwrap_or(0.0)
    }
}

impl Walks {
    pub(super) fn new(forest: &Forest) -> Self {
        let trees = forest.trees.iter().map(Walk::new).collect();
        Self { trees, scale: forest.scale, offset: forest.offset }
    }

    /// What the forest says of each row.
    pub(super) fn values(&self, rows: Rows) -> Values {
        let mut sums = [0.0; BLOCK];
        for tree in &self.trees {
            for (sums, values) in sums.chunks_exact_mut(ABREAST).zip(rows.values.chunks_exact(ABREAST * rows.stride)) {
                let leaves = tree.leaves(Rows { values, ..rows }, |_, _, _, _| {});
                for (sum, leaf) in sums.iter_mut().zip(leaves) {
                    *sum += tree.value(leaf);
                }
            }
        }
        sums.map(|sum| self.offset + self.scale * sum)
    }

    /// The same, adding to `moved`, of each row by column, `part` of what each split moved.
    pub(super) fn explain(&self, rows: Rows, part: f64, moved: &mut [f64]) -> Values {
        let part = part * self.scale;
        let group = ABREAST * rows.stride;
        let mut sums = [0.0; BLOCK];
        for tree in &self.trees {
            let groups = rows.values.chunks_exact(group).zip(moved.chunks_exact_mut(group));
            for (sums, (values, moved)) in sums.chunks_exact_mut(ABREAST).zip(groups) {
                let leaves = tree.leaves(Rows { values, ..rows }, |row, column, from, to| {
                    if let Some(slot) = moved.get_mut(row * rows.stride + column as usize) {
                        *slot += part * (tree.value(to) - tree.value(from));
                    }
                });
                for (sum, leaf) in sums.iter_mut().zip(leaves) {
                    *sum += tree.value(leaf);
                }
            }
        }
        sums.map(|sum| self.offset + self.scale * sum)
    }
}

impl<'a> Walker<'a> {
    pub(super) fn new(member: &'a Member) -> Self {
        match member {
            Member::Trees(forest) => Self::Trees(Walks::new(forest)),
            Member::Linear { weights, centres, offset } => Self::Linear { weights, centres, offset: *offset },
            Member::Mean(members) => Self::Mean(members.iter().map(Self::new).collect()),
        }
    }

    /// What the member says of each row.
    pub(super) fn values(&self, rows: Rows) -> Values {
        match self {
            Self::Trees(walks) => walks.values(rows),
            Self::Linear { weights, centres, offset } => {
                let mut values = [0.0; BLOCK];
                for (value, row) in values.iter_mut().zip(rows.values.chunks_exact(rows.stride)) {
                    let terms = weights.iter().zip(*centres).zip(row);
                    *value = offset + terms.map(|((weight, centre), value)| weight * (value - centre)).sum::<f64>();
                }
                values
            }
            Self::Mean(walkers) => {
                let count = walkers.len().max(1) as f64;
                added(walkers.iter().map(|walker| walker.values(rows))).map(|sum| sum / count)
            }
        }
    }

    /// The same, adding to `moved`, of each row by column, `part` of what each column moved it.
    pub(super) fn explain(&self, rows: Rows, part: f64, moved: &mut [f64]) -> Values {
        match self {
            Self::Trees(walks) => walks.explain(rows, part, moved),
            Self::Linear { weights, centres, .. } => {
                let groups = rows.values.chunks_exact(rows.stride).zip(moved.chunks_exact_mut(rows.stride));
                for (row, moved) in groups {
                    for (((slot, weight), centre), value) in moved.iter_mut().zip(*weights).zip(*centres).zip(row) {
                        *slot += part * weight * (value - centre);
                    }
                }
                self.values(rows)
            }
            Self::Mean(walkers) => {
                let own = 1.0 / walkers.len().max(1) as f64;
                added(walkers.iter().map(|walker| walker.explain(rows, part * own, moved))).map(|sum| sum * own)
            }
        }
    }
}

/// The sums of what several say of each row.
fn added(all: impl Iterator<Item = Values>) -> Values {
    all.fold([0.0; BLOCK], |mut sums, values| {
        for (sum, value) in sums.iter_mut().zip(values) {
            *sum += value;
        }
        sums
    })
}

/// What a member says of a single row.
#[cfg(test)]
pub(super) fn one(member: &Member, row: &[f64]) -> f64 {
    let values = row.repeat(ABREAST);
    Walker::new(member).values(Rows { values: &values, stride: row.len() })[0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learn::trees::Node;
    use crate::random::Random;

    const COLUMNS: usize = 5;

    /// A tree of any shape: every node but the root is split or not by lot.
    fn tree(random: &mut Random) -> Tree {
        let leaf = |value| Node { column: 0, below: 0, above: 0, threshold: 0.0, value };
        let mut nodes = vec![leaf(random.unit())];
        let mut at = 0;
        while at < nodes.len() {
            if nodes.len() < 60 && random.unit() < 0.7 {
                let below = nodes.len() as u32;
                let column = random.below(COLUMNS) as u32;
                nodes[at] = Node { column, below, above: below + 1, threshold: random.unit(), ..nodes[at] };
                nodes.extend([leaf(random.unit() - 0.5), leaf(random.unit() - 0.5)]);
            }
            at += 1;
        }
        Tree { nodes }
    }

    /// The walk of one row as one would write it.
    fn plainly(forest: &Forest, row: &[f64], part: f64, moved: &mut [f64]) -> f64 {
        let mut sum = 0.0;
        for tree in &forest.trees {
            let mut node = tree.nodes[0];
            while node.below > 0 {
                let column = node.column as usize;
                let next = if row[column] <= node.threshold { node.below } else { node.above };
                let child = tree.nodes[next as usize];
                moved[column] += part * forest.scale * (child.value - node.value);
                node = child;
            }
            sum += node.value;
        }
        forest.offset + forest.scale * sum
    }

    #[test]
    fn a_row_among_others_comes_to_the_same_numbers_as_alone_bit_for_bit() {
        let mut random = Random::new(1);
        for trees in [0, 1, 2, 30] {
            let trees = (0..trees).map(|_| tree(&mut random)).collect();
            let forest = Forest { trees, scale: 0.3, offset: -0.1 };
            for groups in 1..=BLOCK / ABREAST {
                // Some values are thresholds of splits themselves.
                let mut values: Vec<f64> = (0..groups * ABREAST * COLUMNS).map(|_| random.unit()).collect();
                let thresholds = forest.trees.iter().flat_map(|tree| &tree.nodes).map(|node| node.threshold);
                values.iter_mut().step_by(3).zip(thresholds).for_each(|(value, threshold)| *value = threshold);
                let rows = Rows { values: &values, stride: COLUMNS };
                let walks = Walks::new(&forest);
                let mut moved = vec![0.0; values.len()];
                let (said, explained) = (walks.values(rows), walks.explain(rows, 0.7, &mut moved));
                for (row, values) in values.chunks_exact(COLUMNS).enumerate() {
                    let mut expected = [0.0; COLUMNS];
                    let value = plainly(&forest, values, 0.7, &mut expected);
                    assert_eq!(said[row].to_bits(), value.to_bits());
                    assert_eq!(explained[row].to_bits(), value.to_bits());
                    let own = &moved[row * COLUMNS..(row + 1) * COLUMNS];
                    for (moved, expected) in own.iter().zip(expected) {
                        assert_eq!(moved.to_bits(), expected.to_bits());
                    }
                }
            }
        }
    }

    #[test]
    fn what_moved_a_value_adds_up_to_it() {
        let leaf = |value| Node { column: 0, below: 0, above: 0, threshold: 0.0, value };
        let split = Node { column: 1, below: 1, above: 2, threshold: 0.5, value: 1.0 };
        let forest =
            Forest { trees: vec![Tree { nodes: vec![split, leaf(0.25), leaf(4.0)] }], scale: 1.0, offset: 0.0 };
        let member = Member::Mean(vec![Member::Trees(forest.clone()), Member::Trees(forest)]);
        let values = [0.0, 0.9].repeat(ABREAST);
        let mut moved = vec![0.0; values.len()];
        let said = Walker::new(&member).explain(Rows { values: &values, stride: 2 }, 1.0, &mut moved);
        assert_eq!((said[0], said[ABREAST - 1]), (4.0, 4.0));
        assert!(moved.chunks_exact(2).all(|moved| moved == [0.0, 3.0]), "{moved:?}");
    }

    #[test]
    fn a_tree_of_one_leaf_says_what_the_leaf_says() {
        let leaf = Node { column: 0, below: 0, above: 0, threshold: 0.0, value: 2.5 };
        let member = Member::Trees(Forest { trees: vec![Tree { nodes: vec![leaf] }], scale: 1.0, offset: 0.5 });
        assert_eq!(one(&member, &[0.0]), 3.0);
    }
}
