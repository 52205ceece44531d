//! What the kernel moved by itself while a program ran.
//!
//! A kernel with memory tiering demotes pages that rest and promotes pages that are used, whatever a policy said of them.
//! It counts that for the whole machine only (`/proc/vmstat`), so the counts are of everything that ran meanwhile.

use serde::Serialize;
use tierscope_machine::Root;

/// Pages moved, on the whole machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Moves {
    /// To slower nodes (`pgdemote_*`).
    pub(super) pages_demoted: u64,
    /// To faster nodes (`pgpromote_success`).
    pub(super) pages_promoted: u64,
    /// Between nodes by automatic NUMA balancing (`numa_pages_migrated`), promotions included.
    pub(super) pages_balanced: u64,
}

impl Moves {
    /// The counters as they are; `None` where the kernel has none of them.
    pub(super) fn now(root: &Root) -> Option<Moves> {
        let text = root.text("/proc/vmstat")?;
        let mut moves = Moves::default();
        let mut any = false;
        for (name, value) in text.lines().filter_map(|line| line.split_once(' ')) {
            let counter = match name {
                "pgpromote_success" => &mut moves.pages_promoted,
                "numa_pages_migrated" => &mut moves.pages_balanced,
                name if name.starts_with("pgdemote_") => &mut moves.pages_demoted,
                _ => continue,
            };
            any = true;
            *counter = counter.saturating_add(value.trim().parse().unwrap_or(0));
        }
        any.then_some(moves)
    }

    /// What was moved between two times.
    pub(super) fn since(self, before: Moves) -> Moves {
        Moves {
            pages_demoted: self.pages_demoted.saturating_sub(before.pages_demoted),
            pages_promoted: self.pages_promoted.saturating_sub(before.pages_promoted),
            pages_balanced: self.pages_balanced.saturating_sub(before.pages_balanced),
        }
    }

    /// Whether nothing was moved.
    pub(super) fn is_none(self) -> bool {
        self == Moves::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(vmstat: &str) -> tempfile::TempDir {
        let tree = tempfile::tempdir().unwrap();
        std::fs::create_dir(tree.path().join("proc")).unwrap();
        std::fs::write(tree.path().join("proc/vmstat"), vmstat).unwrap();
        tree
    }

    #[test]
    fn all_ways_down_are_summed_and_the_difference_is_told() {
        let before = machine("nr_free_pages 7\npgdemote_kswapd 10\npgdemote_direct 5\npgpromote_success 3\n");
        let after = machine("pgdemote_kswapd 20\npgdemote_direct 5\npgdemote_proactive 4\npgpromote_success 3\n");
        let before = Moves::now(&Root::at(before.path())).unwrap();
        let moves = Moves::now(&Root::at(after.path())).unwrap().since(before);
        assert_eq!(moves, Moves { pages_demoted: 14, pages_promoted: 0, pages_balanced: 0 });
        assert!(!moves.is_none() && before.since(before).is_none());
    }

    #[test]
    fn a_kernel_without_such_counters_moved_nothing_we_know_of() {
        assert_eq!(Moves::now(&Root::at(machine("nr_free_pages 7\n").path())), None);
        assert_eq!(Moves::now(&Root::at("/nonexistent")), None);
    }
}
