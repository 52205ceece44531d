//! The table of workloads: one row per kernel, in the order in which they are listed. Each family of kernels has its own
//! part of the table beside its code.

use serde_json::{Map, Value};

use crate::command_line::Settings;
use crate::options::Declared;
use crate::run::Run;

/// One kernel that can be run.
#[derive(Debug)]
pub(crate) struct Workload {
    /// What it is called on the command line.
    pub(crate) name: &'static str,
    /// Row of the table of systems (`LITERATURE.md`) it stands for; 0 where it stands for none.
    pub(crate) row: u32,
    /// The system of that row, in a few words.
    pub(crate) system: &'static str,
    /// What it computes, in one line.
    pub(crate) summary: &'static str,
    /// `--iterations` when none is given: enough at `small` for 5 to 20 seconds on one thread.
    pub(crate) iterations: u32,
    /// What `--set` may change about it, beyond what all workloads have.
    pub(crate) options: &'static [Declared],
    /// Runs it; what it returns is put into the result.
    pub(crate) run: fn(&Settings, &mut Run) -> Map<String, Value>,
}

/// Every workload, by family.
static FAMILIES: &[&[Workload]] =
    &[crate::graphs::WORKLOADS, crate::inference::WORKLOADS, crate::pipelines::WORKLOADS, crate::patterns::WORKLOADS];

/// Every workload, in the order in which they are listed.
pub(crate) fn all() -> impl Iterator<Item = &'static Workload> {
    FAMILIES.iter().copied().flatten()
}

/// The workload of that name.
pub(crate) fn find(name: &str) -> Option<&'static Workload> {
    all().find(|workload| workload.name == name)
}

/// The table: a line of headings, then one line per workload with its name, its row (`-` for none), the system it
/// stands for and what it runs. Columns are apart by two blanks at least, and names hold none.
pub(crate) fn list() -> String {
    let line =
        |name: &str, row: &str, system: &str, summary: &str| format!("{name:<18}  {row:>3}  {system:<44}  {summary}\n");
    let mut text = line("NAME", "ROW", "SYSTEM", "WHAT IT RUNS");
    for Workload { name, row, system, summary, .. } in all() {
        let row = if *row == 0 { "-".to_owned() } else { row.to_string() };
        text += &line(name, &row, system, summary);
    }
    text
}

/// What `help NAME` says: the workload and what can be set about it.
pub(crate) fn describe(workload: &Workload) -> String {
    let Workload { name, row, system, summary, iterations, options, .. } = workload;
    let stands_for = match row {
        0 => format!("A plain pattern: {system}"),
        row => format!("Row {row} of the table of systems: {system}"),
    };
    let mut text = format!("{name}: {summary}\n\n{stands_for}. By default {iterations} iterations.\n");
    if !options.is_empty() {
        text += "\nSettings (--set KEY=VALUE):\n";
    }
    for option in *options {
        let Declared { name, default, values, help } = option;
        text += &format!("  {name:<12} {help}\n  {:<12} {} [default: {default}]\n", "", values.form());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_listed() {
        let list = list();
        for (index, workload) in all().enumerate() {
            assert!(list.contains(workload.name));
            assert!(workload.options.iter().all(|option| describe(workload).contains(option.name)));
            assert!(all().skip(index + 1).all(|other| other.name != workload.name));
        }
    }

    #[test]
    fn the_list_has_four_columns_two_blanks_apart() {
        for (line, workload) in list().lines().skip(1).zip(all()) {
            let columns: Vec<_> = line.split("  ").map(str::trim).filter(|column| !column.is_empty()).collect();
            let row = if workload.row == 0 { "-".to_owned() } else { workload.row.to_string() };
            assert_eq!(columns, [workload.name, &row, workload.system, workload.summary]);
        }
    }
}
