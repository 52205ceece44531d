//! One order of time out of many rings.
//!
//! # When an item may be released
//!
//! Samples and allocation events come from different rings, drained one after the other, and must be handled in the
//! order in which they happened: a sample belongs to the block that was alive at its time. Say round *k* begins at time
//! `b(k)` and drains every ring once. An item that happened at `t` is published a little later, at `p`. If
//! `p <= b(k)`, round *k* takes it, for every ring is drained after `b(k)`. So after round *k* all items with
//! `p <= b(k)` are here, and releasing those with `t <= b(k-1)` keeps the order as long as no item takes longer than a
//! round to be published. One that does (its thread lost the CPU between taking the time and publishing) is released
//! as soon as it comes and counted as late; it is never dropped.

/// Items held back until their turn.
#[derive(Debug)]
pub(super) struct Sequencer<T> {
    held: Vec<(u64, T)>,
    previous_round_ns: u64,
    released_up_to_ns: u64,
    late: u64,
}

impl<T> Sequencer<T> {
    pub(super) fn new() -> Self {
        Sequencer { held: Vec::new(), previous_round_ns: 0, released_up_to_ns: 0, late: 0 }
    }

    /// Adds an item that happened at `time_ns`.
    pub(super) fn push(&mut self, time_ns: u64, item: T) {
        self.late += u64::from(time_ns < self.released_up_to_ns);
        self.held.push((time_ns, item));
    }

    /// Ends the round that began at `round_began_ns`, and releases what is due, in order.
    pub(super) fn release(&mut self, round_began_ns: u64) -> impl Iterator<Item = (u64, T)> {
        let horizon = std::mem::replace(&mut self.previous_round_ns, round_began_ns);
        self.release_until(horizon)
    }

    /// Releases everything: nothing more will come.
    pub(super) fn release_all(&mut self) -> impl Iterator<Item = (u64, T)> {
        self.release_until(u64::MAX)
    }

    fn release_until(&mut self, horizon_ns: u64) -> impl Iterator<Item = (u64, T)> {
        // Stable, and fast on runs that are sorted already: each ring is one.
        self.held.sort_by_key(|(time_ns, _)| *time_ns);
        let due = self.held.partition_point(|(time_ns, _)| *time_ns <= horizon_ns);
        self.released_up_to_ns = self.released_up_to_ns.max(horizon_ns);
        self.held.drain(..due)
    }

    /// Items that came after their turn.
    pub(super) fn late(&self) -> u64 {
        self.late
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Items published within one round of happening come out sorted, all of them.
        #[test]
        fn order_is_kept_when_publication_is_prompt(
            items in proptest::collection::vec((0_u64..1000, 0_u64..50), 0..200),
        ) {
            const ROUND: u64 = 50;
            let mut sequencer = Sequencer::new();
            let mut out = Vec::new();
            let mut waiting: Vec<_> = items.iter().map(|(t, delay)| (t + delay, *t)).collect();
            for round in 1..=30 {
                let began = round * ROUND;
                waiting.retain(|(published, happened)| {
                    let here = *published <= began;
                    if here {
                        sequencer.push(*happened, *happened);
                    }
                    !here
                });
                out.extend(sequencer.release(began).map(|(time, _)| time));
            }
            prop_assert!(waiting.is_empty());
            out.extend(sequencer.release_all().map(|(time, _)| time));
            prop_assert_eq!(sequencer.late(), 0);
            prop_assert_eq!(out.len(), items.len());
            prop_assert!(out.is_sorted());
        }
    }

    #[test]
    fn a_late_item_is_counted_and_not_lost() {
        let mut sequencer = Sequencer::new();
        sequencer.push(10, "early");
        assert_eq!(sequencer.release(20).count(), 0, "released before its round was over");
        assert_eq!(sequencer.release(30).map(|(_, item)| item).collect::<Vec<_>>(), ["early"]);
        sequencer.push(5, "late");
        assert_eq!(sequencer.release(40).map(|(_, item)| item).collect::<Vec<_>>(), ["late"]);
        assert_eq!(sequencer.late(), 1);
    }
}
