//! For how long a core had reads outstanding: the length of the union of their times.
//!
//! Reads come in program order and start in any, so a union cannot be made as they come. But no read starts before it is dispatched,
//! and dispatch never goes back: what started before the last dispatch is final, and is added in the order of its start; the rest,
//! never more than a core can have on its way, waits for the next batch. So the sum is exact.

/// Reads of one core that left its private caches.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outstanding {
    /// How many there were.
    pub(crate) reads: u64,
    /// Ticks in which one of those that are final was outstanding.
    pub(crate) ticks: u64,
    /// When the last of those was there.
    until: u64,
    /// Those that are not final: when they started and when they were there.
    pending: Vec<(u64, u64)>,
}

impl Outstanding {
    /// Adds reads. All that come later start at `dispatched` or after it.
    pub(crate) fn add(&mut self, reads: impl Iterator<Item = (u64, u64)>, dispatched: u64) {
        self.pending.extend(reads);
        if self.pending.is_empty() {
            return;
        }
        self.pending.sort_unstable();
        let last = self.pending.partition_point(|(issued, _)| *issued < dispatched);
        for (issued, there) in self.pending.drain(..last) {
            self.reads += 1;
            self.ticks += there.saturating_sub(issued.max(self.until));
            self.until = self.until.max(there);
        }
    }

    /// None come later.
    pub(crate) fn finish(&mut self) {
        self.add(std::iter::empty(), u64::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_that_overlap_count_once_in_whatever_order_they_come() {
        let mut both = Outstanding::default();
        both.add([(30, 50), (10, 40), (60, 70)].into_iter(), 100);
        assert_eq!((both.reads, both.ticks), (3, 50));
    }

    #[test]
    fn one_that_starts_earlier_may_come_in_the_next_batch() {
        let mut outstanding = Outstanding::default();
        outstanding.add([(90, 120)].into_iter(), 20);
        assert_eq!(outstanding.ticks, 0);
        outstanding.add([(20, 100)].into_iter(), 200);
        assert_eq!((outstanding.reads, outstanding.ticks), (2, 100));
    }

    proptest! {
        #[test]
        fn the_union_is_that_of_all_ticks(
            reads in prop::collection::vec((0..40_u64, 1..30_u64), 1..60),
            each in 1..8_usize,
        ) {
            // Dispatch goes forward by 5 with every batch, and reads start up to 40 later.
            let mut found = Outstanding::default();
            let mut ticks = std::collections::BTreeSet::new();
            for (number, batch) in (0..).zip(reads.chunks(each)) {
                let started: Vec<(u64, u64)> =
                    batch.iter().map(|(late, took)| (5 * number + late, 5 * number + late + took)).collect();
                ticks.extend(started.iter().flat_map(|(issued, there)| *issued..*there));
                found.add(started.into_iter(), 5 * (number + 1));
            }
            found.finish();
            prop_assert_eq!((found.reads, found.ticks), (reads.len() as u64, ticks.len() as u64));
        }
    }
}
