//! One tier: its account, its segments with room, and the runs it keeps for the next block.

use crate::budget::Budget;
use crate::lock::Locked;
use crate::segments::Head;

/// How many runs of segments a tier keeps. A program that alternates between more sizes of 2 MiB and more than this
/// pays the system calls.
const KEPT: usize = 16;

/// A run of segments that is committed and holds no block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) segment: usize,
    pub(crate) pages: usize,
}

/// Runs kept for the next block, oldest first.
#[derive(Debug)]
pub(crate) struct KeptRuns {
    runs: [Run; KEPT],
    count: usize,
}

impl KeptRuns {
    pub(crate) fn new() -> Self {
        KeptRuns { runs: [Run { segment: 0, pages: 0 }; KEPT], count: 0 }
    }

    /// Keeps a run. The oldest makes room if there are too many, or if `pages` together would be more than `most`.
    pub(crate) fn put(&mut self, run: Run, most: usize) -> Option<Run> {
        let kept: usize = self.runs.iter().take(self.count).map(|run| run.pages).sum();
        if self.count == KEPT || (self.count > 0 && kept.saturating_add(run.pages) > most) {
            return self.take(|_| true);
        }
        if let Some(slot) = self.runs.get_mut(self.count) {
            *slot = run;
            self.count += 1;
        }
        None
    }

    /// Takes the oldest run that is `wanted`.
    pub(crate) fn take(&mut self, wanted: impl Fn(&Run) -> bool) -> Option<Run> {
        let at = self.runs.iter().take(self.count).position(wanted)?;
        let run = self.runs.get(at).copied()?;
        self.runs.copy_within(at + 1..self.count, at);
        self.count -= 1;
        Some(run)
    }
}

/// One tier.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Tier {
    pub(crate) budget: Budget,
    /// Segments of medium blocks with room for another.
    pub(crate) medium: Head,
    pub(crate) kept: Locked<KeptRuns>,
}

impl Tier {
    pub(crate) fn new() -> Self {
        Tier { budget: Budget::new(), medium: Head::new(0), kept: Locked::new(KeptRuns::new()) }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_run_makes_room() {
        let mut kept = KeptRuns::new();
        let run = |segment, pages| Run { segment, pages };
        assert_eq!((kept.put(run(1, 600), 1000), kept.put(run(2, 300), 1000)), (None, None));
        assert_eq!(kept.put(run(3, 200), 1000), Some(run(1, 600)), "asked again, it is kept");
        assert_eq!(kept.put(run(3, 200), 1000), None);
        assert_eq!(kept.take(|run| run.pages >= 250), Some(run(2, 300)));
        assert_eq!((kept.take(|_| true), kept.take(|_| true)), (Some(run(3, 200)), None));
    }

    #[test]
    fn no_more_runs_are_kept_than_there_are_places() {
        let mut kept = KeptRuns::new();
        for segment in 0..KEPT {
            assert_eq!(kept.put(Run { segment, pages: 1 }, usize::MAX), None);
        }
        assert_eq!(kept.put(Run { segment: 99, pages: 1 }, usize::MAX).map(|run| run.segment), Some(0));
    }
}
