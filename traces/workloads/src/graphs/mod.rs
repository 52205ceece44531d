//! Kernels on graphs in compressed rows: row 7 of the table of systems.
//!
//! All of them run on the same graphs, of 2^16, 2^20, 2^22 or 2^25 vertices by scale and sixteen times as many generated
//! edges: 8 MiB, 130 MiB, 0.5 GiB or 4 GiB of rows.

mod bc;
mod bfs;
mod cache;
mod cc;
pub(crate) mod graph;
mod pr;
mod sssp;
mod tc;

use serde_json::{Map, Value, json};

use crate::command_line::{Scale, Settings};
use crate::run::Run;
use crate::workload::Workload;
use cache::{Cached, Key};
use graph::Graph;

/// The kernels of this family.
pub(crate) static WORKLOADS: &[Workload] = &[
    kernel("bc", "betweenness centrality (Brandes), one source per iteration", 16, bc::run),
    kernel("bfs", "breadth-first search (direction-optimising), one source per iteration", 200, bfs::run),
    kernel("cc", "connected components (Afforest), all anew in each iteration", 200, cc::run),
    kernel("pr", "PageRank (pull), one step per iteration", 100, pr::run),
    kernel("sssp", "shortest paths (delta-stepping), one source per iteration", 10, sssp::run),
    kernel("tc", "triangle counting (ordered by degree), all anew in each iteration", 1, tc::run),
];

/// A row of the table of workloads.
const fn kernel(
    name: &'static str,
    summary: &'static str,
    iterations: u32,
    run: fn(&Settings, &mut Run) -> Map<String, Value>,
) -> Workload {
    Workload { name, row: 7, system: "ranking graph objects on Optane", summary, iterations, options: &[], run }
}

/// The graph of a run: from the cache in a phase `load`, or else made in a phase `generate` and, if there is a cache, kept
/// in a phase `store`. What goes wrong with the cache is said on stderr and costs no more than time.
fn obtain(settings: &Settings, run: &mut Run) -> Graph {
    let bits = match settings.scale {
        Scale::Tiny => 16,
        Scale::Small => 20,
        Scale::Medium => 22,
        Scale::Large => 25,
    };
    let key = Key { kind: settings.graph, bits, seed: settings.seed };
    let threads = run.threads();
    let cached = settings.cache.as_deref().map(|directory| Cached::new(directory, key));
    if let Some(cached) = &cached
        && cached.exists()
    {
        match run.phase(c"load", |run| cached.load(&mut run.registry)) {
            Ok(graph) => return graph,
            Err(error) => eprintln!("tierscope-workloads: {error}; it is made anew"),
        }
    }
    let graph = run.phase(c"generate", |run| Graph::generate(key.kind, key.bits, key.seed, threads, &mut run.registry));
    if let Some(cached) = &cached
        && let Err(error) = run.phase(c"store", |_| cached.store(&graph))
    {
        eprintln!("tierscope-workloads: {error}; the next run will make it again (--no-cache says so beforehand)");
    }
    graph
}

/// What every graph kernel reports.
fn result(settings: &Settings, graph: &Graph, checksum: String) -> Map<String, Value> {
    let mut result = Map::new();
    result.insert("graph".into(), json!(settings.graph.name()));
    result.insert("vertices".into(), json!(graph.vertices()));
    result.insert("edges".into(), json!(graph.neighbours.len() / 2));
    result.insert("checksum".into(), json!(checksum));
    result
}
