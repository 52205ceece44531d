//! Trees in a form of our own: taken out of smartcore, made monotone, checked when read. `walk.rs` walks them.
//!
//! **Monotone.** A learner splits where the data says so, noise among it. In a tree in which every split on a rising column has all
//! values below it at most some bound, and all values above it at least that bound, a point whose rising column grows can only leave
//! a walk for a branch with larger values. [`Tree::rise`] makes the bound the middle of both sides' means and cuts what is
//! beyond, from the root down; a sum of such trees rises as well.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A split, or a leaf where `below` is 0 (no child is the root); `above` is the node after `below`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Node {
    pub(crate) column: u32,
    pub(crate) below: u32,
    pub(crate) above: u32,
    pub(crate) threshold: f64,
    pub(crate) value: f64,
}

/// A tree: its root is node 0, children come after their parents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Tree {
    pub(crate) nodes: Vec<Node>,
}

/// A sum of trees, each times `scale`, and `offset`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Forest {
    pub(crate) trees: Vec<Tree>,
    pub(crate) scale: f64,
    pub(crate) offset: f64,
}

impl Forest {
    pub(crate) fn is_sound(&self, columns: usize) -> bool {
        self.scale.is_finite() && self.offset.is_finite() && self.trees.iter().all(|tree| tree.is_sound(columns))
    }
}

impl Tree {
    /// Cuts values so that none falls when a rising column grows.
    pub(crate) fn rise(&mut self, rising: &[bool]) {
        let mut open = vec![(0usize, f64::NEG_INFINITY, f64::INFINITY)];
        while let Some((at, low, high)) = open.pop() {
            let value = |child: u32| self.nodes.get(child as usize).map_or(0.0, |node| node.value);
            let Some(&Node { column, below, above, .. }) = self.nodes.get(at) else { continue };
            let middle = f64::midpoint(value(below), value(above)).clamp(low, high);
            if let Some(node) = self.nodes.get_mut(at) {
                node.value = node.value.clamp(low, high);
            }
            if below == 0 {
                continue;
            }
            if rising.get(column as usize).copied().unwrap_or(false) {
                open.extend([(below as usize, low, middle), (above as usize, middle, high)]);
            } else {
                open.extend([(below as usize, low, high), (above as usize, low, high)]);
            }
        }
    }

    /// Whether every walk ends, at a number.
    fn is_sound(&self, columns: usize) -> bool {
        let count = self.nodes.len();
        let child = |at: usize, child: u32| child as usize > at && (child as usize) < count;
        count > 0
            && self.nodes.iter().enumerate().all(|(at, node)| {
                let leaf = node.below == 0 && node.above == 0;
                let children = child(at, node.below) && child(at, node.above) && node.above == node.below + 1;
                let split = children && (node.column as usize) < columns;
                node.value.is_finite() && (leaf || (split && node.threshold.is_finite()))
            })
    }

    /// A tree of smartcore's forests, from its serialised form: a list of nodes with children by number.
    pub(crate) fn of_list(value: &Value) -> Option<Self> {
        let nodes = value.get("nodes")?.as_array()?;
        let mut tree = Self { nodes: Vec::with_capacity(nodes.len()) };
        tree.grow(&|number: usize| {
            let node = nodes.get(number)?;
            let child = |name: &str| node.get(name).and_then(Value::as_u64).map(|child| child as usize);
            let split = child("true_child").zip(child("false_child"));
            Some(Found {
                value: node.get("output")?.as_f64()?,
                column: node.get("split_feature")?.as_u64()?,
                threshold: node.get("split_value").and_then(Value::as_f64),
                children: split,
            })
        })?;
        Some(tree)
    }

    /// A tree of smartcore's boosting, from its serialised form: nodes within nodes.
    pub(crate) fn of_nested(value: &Value) -> Option<Self> {
        let mut flat = vec![value];
        let mut children = Vec::new();
        let mut at = 0;
        while let Some(&node) = flat.get(at) {
            let pair =
                node.get("left").zip(node.get("right")).filter(|(left, right)| left.is_object() && right.is_object());
            children.push(pair.map(|(left, right)| {
                flat.extend([left, right]);
                (flat.len() - 2, flat.len() - 1)
            }));
            at += 1;
        }
        let mut tree = Self { nodes: Vec::with_capacity(flat.len()) };
        tree.grow(&|number: usize| {
            let node = flat.get(number)?;
            Some(Found {
                value: node.get("value")?.as_f64()?,
                column: node.get("split_feature_idx")?.as_u64()?,
                threshold: node.get("threshold").and_then(Value::as_f64),
                children: children.get(number).copied().flatten(),
            })
        })?;
        Some(tree)
    }

    /// Takes nodes over from the root on, so that children come after parents.
    fn grow(&mut self, find: &dyn Fn(usize) -> Option<Found>) -> Option<()> {
        let mut theirs = vec![0usize];
        let mut at = 0;
        while let Some(&number) = theirs.get(at) {
            let found = find(number)?;
            let leaf = Node { column: 0, below: 0, above: 0, threshold: 0.0, value: found.value };
            let node = match found.children {
                Some((below, above)) => {
                    theirs.extend([below, above]);
                    let last = u32::try_from(theirs.len() - 1).ok()?;
                    let column = u32::try_from(found.column).ok()?;
                    Node { column, below: last - 1, above: last, threshold: found.threshold?, ..leaf }
                }
                None => leaf,
            };
            self.nodes.push(node);
            at += 1;
        }
        Some(())
    }
}

/// A node of somebody else's tree.
struct Found {
    value: f64,
    column: u64,
    threshold: Option<f64>,
    children: Option<(usize, usize)>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learn::Member;
    use crate::learn::walk::one;
    use serde_json::json;

    fn said(tree: &Tree, row: &[f64]) -> f64 {
        one(&Member::Trees(Forest { trees: vec![tree.clone()], scale: 1.0, offset: 0.0 }), row)
    }

    fn split(column: u32, below: u32, above: u32, threshold: f64, value: f64) -> Node {
        Node { column, below, above, threshold, value }
    }

    fn leaf(value: f64) -> Node {
        split(0, 0, 0, 0.0, value)
    }

    #[test]
    fn a_tree_that_falls_is_cut_until_it_rises() {
        let falls = Tree {
            nodes: vec![
                split(0, 1, 2, 0.5, 0.0),
                split(1, 3, 4, 0.5, 1.0),
                split(0, 5, 6, 0.8, -1.0),
                leaf(0.5),
                leaf(3.0),
                leaf(-3.0),
                leaf(1.0),
            ],
        };
        let mut rises = falls.clone();
        rises.rise(&[true, false]);
        assert!(rises.is_sound(2));
        for other in [0.0, 1.0] {
            let values: Vec<f64> = (0..=10).map(|tenth| said(&rises, &[f64::from(tenth) / 10.0, other])).collect();
            assert!(values.windows(2).all(|pair| pair[0] <= pair[1]), "{values:?}");
        }
        assert!(said(&falls, &[0.6, 1.0]) < said(&falls, &[0.4, 1.0]));
        let mut free = falls.clone();
        free.rise(&[false, false]);
        assert_eq!(free, falls);
    }

    #[test]
    fn a_tree_that_cannot_be_walked_is_not_sound() {
        for nodes in [
            vec![],
            vec![split(0, 0, 1, 0.5, 0.0), leaf(0.0)],
            vec![split(0, 1, 9, 0.5, 0.0), leaf(0.0)],
            vec![split(0, 1, 3, 0.5, 0.0), leaf(0.0), leaf(0.0), leaf(0.0)],
            vec![split(0, 2, 1, 0.5, 0.0), leaf(0.0), leaf(0.0)],
            vec![leaf(f64::NAN)],
            vec![split(7, 1, 2, 0.5, 0.0), leaf(0.0), leaf(0.0)],
            vec![split(0, 1, 2, 0.5, 0.0), split(0, 1, 2, 0.5, 0.0), leaf(0.0)],
        ] {
            assert!(!Tree { nodes }.is_sound(2));
        }
    }

    #[test]
    fn a_form_that_is_not_known_is_no_tree() {
        for value in [
            json!(null),
            json!({}),
            json!({"nodes": [{}]}),
            json!({"nodes": [{"output": 1.0, "split_feature": 0, "true_child": 5, "false_child": 6, "split_value": 0.0}]}),
        ] {
            assert_eq!(Tree::of_list(&value), None, "{value}");
            assert_eq!(Tree::of_nested(&value), None, "{value}");
        }
    }
}
