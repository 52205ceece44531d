//! The table of workloads: one row per kernel, in the order in which they are listed.

use serde_json::{Map, Value};

use crate::command_line::Settings;
use crate::run::Run;

/// One kernel that can be run.
#[derive(Debug)]
pub(crate) struct Workload {
    /// What it is called on the command line.
    pub(crate) name: &'static str,
    /// Row of the table of systems (`LITERATURE.md`) it stands for.
    pub(crate) row: u32,
    /// The system of that row, in a few words.
    pub(crate) system: &'static str,
    /// What it computes, in one line.
    pub(crate) summary: &'static str,
    /// `--iterations` when none is given: enough at `small` for 10 to 20 seconds on one thread.
    pub(crate) iterations: u32,
    /// Runs it; what it returns is put into the result.
    pub(crate) run: fn(&Settings, &mut Run) -> Map<String, Value>,
}

/// Every workload.
pub(crate) static WORKLOADS: &[Workload] = &[Workload {
    name: "bc",
    row: 7,
    system: "ranking graph objects on Optane",
    summary: "betweenness centrality (Brandes), one source per iteration",
    iterations: 16,
    run: crate::bc::run,
}];

/// The workload of that name.
pub(crate) fn find(name: &str) -> Option<&'static Workload> {
    WORKLOADS.iter().find(|workload| workload.name == name)
}

/// The table, for people.
pub(crate) fn list() -> String {
    let mut text = format!("{:<20} {:>3}  {:<34} {}\n", "NAME", "ROW", "SYSTEM", "WHAT IT RUNS");
    for workload in WORKLOADS {
        text += &format!("{:<20} {:>3}  {:<34} {}\n", workload.name, workload.row, workload.system, workload.summary);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_listed() {
        let list = list();
        for (index, workload) in WORKLOADS.iter().enumerate() {
            assert!(list.contains(workload.name));
            assert!(WORKLOADS[index + 1..].iter().all(|other| other.name != workload.name));
        }
    }
}
