//! When how many bytes of each object live, for objects whose blocks were recorded.
//!
//! Counted is the room a block takes where it is placed: its allocator adds to it, and a small block takes half as much again
//! or more.
//!
//! A sampled block stands for many, so it counts with its bytes times its weight for as long as it lives itself: the level
//! is right on average. A block that was never seen freed lives for ever. An object without recorded blocks (a global,
//! or one whose allocations were lost) is there all the time.

use rustc_hash::FxHashMap;
use tierscope_placement::Span;
use tierscope_policy::room;
use tierscope_traces::Tables;

use crate::summary::{Summary, plausible};

/// The lives of each object of a summary, in its order.
pub(super) fn of(tables: &Tables, summary: &Summary, recorded: &FxHashMap<String, Vec<u32>>) -> Vec<Option<Vec<Span>>> {
    let mut places: FxHashMap<u32, usize> = FxHashMap::default();
    for (place, object) in summary.objects.iter().enumerate() {
        places.extend(recorded.get(&object.id).into_iter().flatten().map(|&number| (number, place)));
    }
    let mut lives: Vec<Option<Vec<Span>>> = vec![None; summary.objects.len()];
    for row in &tables.allocations {
        let Some(spans) = places.get(&row.object).and_then(|&place| lives.get_mut(place)) else { continue };
        spans.get_or_insert_default().push(Span {
            start_ns: row.time_ns,
            end_ns: row.freed_ns.unwrap_or(u64::MAX),
            bytes: (room(row.bytes) as f64 * plausible(row.weight)) as u64,
        });
    }
    lives
}
