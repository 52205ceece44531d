//! Which blocks every way to a block passes through.
//!
//! A jump backwards is the end of a loop only if its target dominates it. Compilers also move the unlikely part of
//! a function behind the likely one and jump back from there; taken for a loop, such a jump would attribute the samples
//! of the likely path to code that hardly ever runs.
//!
//! The algorithm is Cooper, Harvey and Kennedy's ("A Simple, Fast Dominance Algorithm", 2001): iterate over the
//! blocks in reverse postorder, intersecting the dominators of the predecessors, until nothing changes. Blocks that are
//! only entered from outside what was decoded (switch cases, landing pads) hang under a virtual root, as the entry does.

/// Immediate dominators of a graph, and the order that makes following them cheap.
pub(super) struct Dominators {
    /// For each block, its immediate dominator; `ROOT` under the virtual root.
    immediate: Vec<u32>,
    /// Position in reverse postorder.
    order: Vec<u32>,
}

const ROOT: u32 = u32::MAX;
const UNKNOWN: u32 = u32::MAX - 1;

impl Dominators {
    /// Of the graph with `successors[b]` the blocks after block `b`; block 0 is the entry.
    pub(super) fn of(successors: &[Vec<u32>]) -> Dominators {
        let mut predecessors = vec![Vec::new(); successors.len()];
        for (block, after) in successors.iter().enumerate() {
            for &next in after {
                predecessors[next as usize].push(block as u32);
            }
        }
        let (postorder, roots) = postorder(successors, &predecessors);
        let mut order = vec![0; successors.len()];
        for (position, &block) in postorder.iter().rev().enumerate() {
            order[block as usize] = position as u32;
        }
        let mut dominators = Dominators { immediate: vec![UNKNOWN; successors.len()], order };
        for root in &roots {
            dominators.immediate[*root as usize] = ROOT;
        }
        let mut changed = true;
        while changed {
            changed = false;
            for &block in postorder.iter().rev() {
                if roots.binary_search(&block).is_ok() {
                    continue;
                }
                let mut known = predecessors[block as usize]
                    .iter()
                    .copied()
                    .filter(|&before| dominators.immediate[before as usize] != UNKNOWN);
                let Some(first) = known.next() else { continue };
                let common = known.fold(first, |common, before| dominators.intersect(common, before));
                if dominators.immediate[block as usize] != common {
                    dominators.immediate[block as usize] = common;
                    changed = true;
                }
            }
        }
        dominators
    }

    /// Whether every way to `block` passes through `dominator`.
    pub(super) fn dominates(&self, dominator: u32, mut block: u32) -> bool {
        while block != dominator {
            match self.immediate.get(block as usize) {
                Some(&above) if above < UNKNOWN => block = above,
                _ => return false,
            }
        }
        true
    }

    fn intersect(&self, mut left: u32, mut right: u32) -> u32 {
        while left != right {
            if left == ROOT || right == ROOT {
                return ROOT;
            }
            if self.order[left as usize] > self.order[right as usize] {
                left = self.immediate[left as usize];
            } else {
                right = self.immediate[right as usize];
            }
        }
        left
    }
}

/// The blocks in postorder, and the roots they were reached from in ascending order: block 0, the blocks without
/// predecessors, and one for each part that only such parts of it lead to.
fn postorder(successors: &[Vec<u32>], predecessors: &[Vec<u32>]) -> (Vec<u32>, Vec<u32>) {
    let mut visited = vec![false; successors.len()];
    let (mut order, mut roots) = (Vec::with_capacity(successors.len()), Vec::new());
    let blocks = 0..successors.len() as u32;
    let without_predecessor = blocks.clone().filter(|&block| block == 0 || predecessors[block as usize].is_empty());
    for root in without_predecessor.chain(blocks) {
        if visited[root as usize] {
            continue;
        }
        roots.push(root);
        visited[root as usize] = true;
        let mut stack = vec![(root, 0)];
        while let Some((block, at)) = stack.last_mut() {
            match successors[*block as usize].get(*at) {
                Some(&next) => {
                    *at += 1;
                    if !visited[next as usize] {
                        visited[next as usize] = true;
                        stack.push((next, 0));
                    }
                }
                None => {
                    order.push(*block);
                    stack.pop();
                }
            }
        }
    }
    roots.sort_unstable();
    (order, roots)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_loop_head_dominates_its_latch() {
        // 0 -> 1 -> 2 -> 1, 2 -> 3
        let dominators = Dominators::of(&[vec![1], vec![2], vec![1, 3], vec![]]);
        assert!(dominators.dominates(1, 2));
        assert!(!dominators.dominates(2, 1));
        assert!(dominators.dominates(0, 3));
    }

    #[test]
    fn a_detour_does_not_dominate_and_is_not_dominated() {
        // 0 -> 1 -> 2, 0 -> 3 -> 1: block 3 was moved behind and jumps back.
        let dominators = Dominators::of(&[vec![1, 3], vec![2], vec![], vec![1]]);
        assert!(!dominators.dominates(1, 3));
    }

    #[test]
    fn blocks_entered_from_elsewhere_hang_under_the_root() {
        // 0 ends; 1 -> 2 -> 1 is only reached by a jump table.
        let dominators = Dominators::of(&[vec![], vec![2], vec![1]]);
        assert!(dominators.dominates(1, 2));
        assert!(!dominators.dominates(0, 2));
    }

    proptest! {
        /// Against the definition: d dominates b if b cannot be reached from the entry without d.
        #[test]
        fn agrees_with_the_definition(edges in proptest::collection::vec((0u32..8, 0u32..8), 0..20)) {
            let mut successors = vec![Vec::new(); 8];
            for (from, to) in edges {
                successors[from as usize].push(to);
            }
            let dominators = Dominators::of(&successors);
            let reachable = |without: Option<u32>| {
                let mut seen = [false; 8];
                let mut stack = vec![0u32];
                while let Some(block) = stack.pop() {
                    if Some(block) == without || std::mem::replace(&mut seen[block as usize], true) {
                        continue;
                    }
                    stack.extend(&successors[block as usize]);
                }
                seen
            };
            let from_entry = reachable(None);
            let incoming: std::collections::BTreeSet<u32> = successors.iter().flatten().copied().collect();
            let single_root = (1..8).all(|block| from_entry[block as usize]) && incoming.len() <= 8;
            for dominator in 0..8u32 {
                let without = reachable(Some(dominator));
                for block in 0..8u32 {
                    if single_root {
                        let expected = dominator == block || !without[block as usize];
                        prop_assert_eq!(dominators.dominates(dominator, block), expected, "{} {}", dominator, block);
                    } else {
                        // Only that it ends.
                        let _ = dominators.dominates(dominator, block);
                    }
                }
            }
        }
    }
}
