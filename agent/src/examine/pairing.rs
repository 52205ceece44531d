//! Which object of one run is which of another, where the input was of another size.
//!
//! The code is the same, so an object is allocated by the same call stack in both runs: its frames are compared, not its identity,
//! in which the size class has a part. Where one call stack has several objects they are told apart by their order of size: the
//! largest table of one run is the largest of the other. Where a run has more of them, the smallest are left without a partner.

use rustc_hash::FxHashMap;
use tierscope_model::summary::{ObjectSummary, Summary};

/// What both runs call the same.
fn key(object: &ObjectSummary) -> String {
    let file = |path: &str| path.rsplit('/').next().unwrap_or(path).to_owned();
    let frames: Vec<String> = object
        .site
        .iter()
        .map(|frame| format!("{}+{:x}", frame.module.as_deref().map(file).unwrap_or_default(), frame.offset))
        .collect();
    let name = if frames.is_empty() { object.name.as_str() } else { "" };
    let module = object.module.as_deref().map(file).unwrap_or_default();
    format!("{:?} {module} {name} {}", object.kind, frames.join(" "))
}

/// For each object of `one`, its place in `other`.
pub(super) fn pair(one: &Summary, other: &Summary) -> Vec<Option<usize>> {
    let groups = |summary: &Summary| {
        let mut groups: FxHashMap<String, Vec<usize>> = FxHashMap::default();
        for (place, object) in summary.objects.iter().enumerate() {
            groups.entry(key(object)).or_default().push(place);
        }
        for places in groups.values_mut() {
            let bytes = |place: &usize| summary.objects.get(*place).map_or(0.0, |object| object.live_bytes_max);
            places.sort_by(|a, b| bytes(b).total_cmp(&bytes(a)).then(a.cmp(b)));
        }
        groups
    };
    let others = groups(other);
    let mut found = vec![None; one.objects.len()];
    for (key, places) in groups(one) {
        for (place, partner) in places.iter().zip(others.get(&key).into_iter().flatten()) {
            if let Some(slot) = found.get_mut(*place) {
                *slot = Some(*partner);
            }
        }
    }
    found
}
