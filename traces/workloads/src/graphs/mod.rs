//! Kernels on graphs in compressed rows: row 7 of the table of systems.

mod bc;
mod graph;

use crate::workload::Workload;

/// The kernels of this family.
pub(crate) static WORKLOADS: &[Workload] = &[Workload {
    name: "bc",
    row: 7,
    system: "ranking graph objects on Optane",
    summary: "betweenness centrality (Brandes), one source per iteration",
    iterations: 16,
    run: bc::run,
}];
