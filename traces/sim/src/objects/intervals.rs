//! Disjoint ranges of addresses with something to each, cut where a later one overlaps an earlier, as the kernel cuts mappings.

use std::collections::BTreeMap;
use std::ops::Range;

/// Ranges by their start.
#[derive(Debug, Clone)]
pub(crate) struct Intervals<T> {
    by_start: BTreeMap<u64, (u64, T)>,
}

impl<T> Default for Intervals<T> {
    fn default() -> Self {
        Self { by_start: BTreeMap::new() }
    }
}

impl<T: Clone> Intervals<T> {
    /// Enters a range that is not empty. Returns what it took the place of.
    pub(crate) fn insert(&mut self, range: Range<u64>, value: T) -> Vec<(Range<u64>, T)> {
        let removed = self.remove(range.clone());
        if !range.is_empty() {
            self.by_start.insert(range.start, (range.end, value));
        }
        removed
    }

    /// Removes a range. Returns the parts of ranges that were in it.
    pub(crate) fn remove(&mut self, range: Range<u64>) -> Vec<(Range<u64>, T)> {
        let starts: Vec<u64> = self.overlapping(range.clone()).map(|(found, _)| found.start).collect();
        let mut removed = Vec::with_capacity(starts.len());
        for start in starts {
            let Some((end, value)) = self.by_start.remove(&start) else { continue };
            if end > range.end {
                self.by_start.insert(range.end, (end, value.clone()));
            }
            if start < range.start {
                self.by_start.insert(start, (range.start, value.clone()));
            }
            removed.push((start.max(range.start)..end.min(range.end), value));
        }
        removed
    }

    /// The ranges that overlap one, ascending and whole.
    pub(crate) fn overlapping(&self, range: Range<u64>) -> impl Iterator<Item = (Range<u64>, &T)> {
        // Only the last one that starts below can reach in.
        let below = self.by_start.range(..range.start).next_back().filter(|(_, (end, _))| *end > range.start);
        let inside = self.by_start.range(range.start..range.end.max(range.start));
        let found = below.filter(|_| !range.is_empty()).into_iter().chain(inside);
        found.map(|(start, (end, value))| (*start..*end, value))
    }

    /// The range that ends where this address is, and the one that begins there.
    pub(crate) fn beside(&self, start: u64, end: u64) -> [Option<&T>; 2] {
        let before = self.by_start.range(..start).next_back().filter(|(_, (end, _))| *end == start);
        [before.map(|(_, (_, value))| value), self.by_start.get(&end).map(|(_, value)| value)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against the obvious model: an array that says what is at each address.
        #[test]
        fn overlaps_are_cut(steps in proptest::collection::vec((0_u64..64, 0_u64..16, any::<bool>()), 0..40)) {
            let mut intervals = Intervals::default();
            let mut model = [None; 80];
            for (step, (start, length, insert)) in steps.into_iter().enumerate() {
                let range = start..start + length;
                let removed = if insert { intervals.insert(range.clone(), step) } else { intervals.remove(range.clone()) };
                let mut gone = [None; 80];
                for (range, value) in removed {
                    range.for_each(|at| gone[at as usize] = Some(value));
                }
                for at in 0..80 {
                    let inside = range.contains(&at);
                    let at = at as usize;
                    prop_assert_eq!(gone[at], if inside { model[at] } else { None });
                    if inside {
                        model[at] = insert.then_some(step);
                    }
                }
                let mut found = [None; 80];
                for (range, value) in intervals.overlapping(0..80) {
                    range.for_each(|at| found[at as usize] = Some(*value));
                }
                prop_assert_eq!(found, model);
            }
        }
    }

    #[test]
    fn neighbours_are_those_that_touch() {
        let mut intervals = Intervals::default();
        intervals.insert(10..20, "a");
        intervals.insert(30..40, "b");
        assert_eq!(intervals.beside(20, 30), [Some(&"a"), Some(&"b")]);
        assert_eq!(intervals.beside(21, 29), [None, None]);
        assert_eq!(intervals.overlapping(15..31).map(|(range, _)| range).collect::<Vec<_>>(), [10..20, 30..40]);
        assert_eq!(intervals.overlapping(15..15).count(), 0);
    }
}
