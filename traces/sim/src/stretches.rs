//! Counters of the cores over the run: a bounded number of stretches, however long it is.
//!
//! A stretch is so many timed instructions. When there are too many stretches each two of them become one, and from then on a stretch is
//! twice as long: so they are always of one length, but for the last, and between half as many as may be and as many.

use crate::outcome::Stretch;
use crate::timing::Counters;

/// Timed instructions of the first stretches: thousands of misses, where a program has any.
const FIRST: u64 = 1 << 16;

/// Stretches that are kept at most. Soar looks at seconds of runs that take minutes.
const MOST: usize = 128;

/// Stretches of a run.
#[derive(Debug)]
pub(crate) struct Stretches {
    length: u64,
    /// Timed instructions, and what was counted, when the last one ended.
    timed: u64,
    before: Counters,
    done: Vec<Stretch>,
}

impl Stretches {
    pub(crate) fn new() -> Self {
        Self { length: FIRST, timed: 0, before: Counters::default(), done: Vec::new() }
    }

    /// Whether a stretch ends when so many instructions have been timed.
    #[inline]
    pub(crate) fn ends(&self, timed: u64) -> bool {
        timed - self.timed >= self.length
    }

    /// One ends now, `timed` instructions being timed.
    pub(crate) fn end(&mut self, timed: u64, until: u64, counters: Counters) {
        let before = std::mem::replace(&mut self.before, counters);
        self.timed = timed;
        self.done.push(Stretch {
            until,
            cycles: counters.cycles.saturating_sub(before.cycles),
            reads: counters.reads.saturating_sub(before.reads),
            read_cycles: counters.read_cycles.saturating_sub(before.read_cycles),
            stall_cycles: counters.stall_cycles.saturating_sub(before.stall_cycles),
        });
        if self.done.len() == MOST {
            self.done = self.done.chunks(2).map(|pair| pair.iter().copied().reduce(both).unwrap_or_default()).collect();
            self.length *= 2;
        }
    }

    /// Those there are; what is left at the end is one as well.
    pub(crate) fn finish(mut self, timed: u64, until: u64, counters: Counters) -> Vec<Stretch> {
        if timed > self.timed {
            self.end(timed, until, counters);
        }
        self.done
    }
}

fn both(one: Stretch, next: Stretch) -> Stretch {
    Stretch {
        until: next.until,
        cycles: one.cycles + next.cycles,
        reads: one.reads + next.reads,
        read_cycles: one.read_cycles + next.read_cycles,
        stall_cycles: one.stall_cycles + next.stall_cycles,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(n: u64) -> Counters {
        Counters { cycles: 7 * n, reads: n, read_cycles: 5 * n, stall_cycles: 3 * n }
    }

    #[test]
    fn there_are_never_too_many_and_nothing_is_lost() {
        let mut stretches = Stretches::new();
        let mut timed = 0;
        for n in 1..=10_000 {
            timed += FIRST / 2;
            if stretches.ends(timed) {
                stretches.end(timed, 2 * n, counters(n));
            }
        }
        let found = stretches.finish(timed + 1, 20_002, counters(10_001));
        assert!((MOST / 2..MOST).contains(&found.len()), "{}", found.len());
        assert!(found.is_sorted_by_key(|stretch| stretch.until));
        let all = found.into_iter().reduce(both).unwrap();
        let expected =
            Stretch { until: 20_002, cycles: 70_007, reads: 10_001, read_cycles: 50_005, stall_cycles: 30_003 };
        assert_eq!(all, expected);
    }

    #[test]
    fn a_run_of_nothing_has_none() {
        assert_eq!(Stretches::new().finish(0, 5, Counters::default()), []);
    }
}
