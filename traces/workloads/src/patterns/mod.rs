//! Plain access patterns, each of which slows down in slow memory for one reason of its own.
//!
//! They stand for no published system. Each has several objects that differ in why, and in how much, they need fast
//! memory, and says which order is expected and from what reason: what a ranking gets wrong here, it gets wrong for a
//! reason that can be named.

mod blocked;
mod btree;
mod chase;
mod hash_join;
mod histogram;
mod random_access;
mod sort;
mod stencil;
mod stream;

use serde_json::{Map, Value, json};

use crate::command_line::{Scale, Settings};
use crate::run::Run;
use crate::workload::Workload;

/// The kernels of this family.
pub(crate) static WORKLOADS: &[Workload] = &[
    pattern("stream", "bandwidth", "triad over three arrays, sum of a fourth", 250, stream::run),
    pattern("random", "misses that overlap", "independent random reads and updates", 25, random_access::run),
    pattern(
        "chase",
        "misses that wait for each other",
        "one chain of pointers, eight at once, a small one",
        50,
        chase::run,
    ),
    pattern("blocked", "reuse", "blocked matrix product beside sums down columns", 10, blocked::run),
    pattern("stencil", "planes kept in the cache", "seven-point stencil in three dimensions", 150, stencil::run),
    pattern("histogram", "stream in, scatter out", "counting into large and small tables", 6, histogram::run),
    pattern(
        "hash-join",
        "dependent look-ups",
        "hash join: build, then probe with twice as many keys",
        6,
        hash_join::run,
    ),
    pattern("btree", "levels of a tree", "look-ups in a B+-tree", 30, btree::run),
    pattern("sort", "scatter to many streams", "radix sort of keys with payloads", 10, sort::run),
];

/// A row of the table of workloads.
const fn pattern(
    name: &'static str,
    system: &'static str,
    summary: &'static str,
    iterations: u32,
    run: fn(&Settings, &mut Run) -> Map<String, Value>,
) -> Workload {
    Workload { name, row: 0, system, summary, iterations, options: &[], run }
}

/// The size for a scale.
fn size(scale: Scale, [tiny, small, medium, large]: [usize; 4]) -> usize {
    match scale {
        Scale::Tiny => tiny,
        Scale::Small => small,
        Scale::Medium => medium,
        Scale::Large => large,
    }
}

/// What every pattern reports.
fn result(checksum: String) -> Map<String, Value> {
    let mut result = Map::new();
    result.insert("checksum".into(), json!(checksum));
    result
}
