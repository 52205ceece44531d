//! The tiers of a policy file.

use tierscope_tiers::{Backend, is_name};
use tierscope_wire::policy::{MAX_NODES, MAX_TIERS};

use super::section::Section;
use crate::policy::Tier;

/// The keys each backend takes besides `backend` and `capacity`; the first is required.
const BACKENDS: [(&str, &[&str]); 6] = [
    ("numa", &["nodes", "strict"]),
    ("interleave", &["nodes", "weights"]),
    ("file", &["dir"]),
    ("dax", &["device"]),
    ("swap", &[]),
    ("default", &[]),
];

/// Every key of a tier.
const KEYS: &[&str] = &["backend", "capacity", "nodes", "strict", "weights", "dir", "device"];

/// What was read: the tiers that make sense, and the names of all.
pub(super) struct Tiers {
    pub(super) tiers: Vec<Tier>,
    pub(super) names: Vec<String>,
}

pub(super) fn read(file: &Section<'_>) -> Tiers {
    let mut read = Tiers { tiers: Vec::new(), names: Vec::new() };
    let Some(section) = file.section("tiers", "[tiers.NAME]") else {
        if !file.has("tiers") {
            let instead = "write a table `[tiers.NAME]` for each, with its `backend`";
            file.reader.error(0..0, "there are no tiers".into(), Some(instead.into()));
        }
        return read;
    };
    for (name, span) in section.keys() {
        if !is_name(&name) {
            let instead = "use letters, digits, `.`, `_` and `-`, 64 at most, a letter or digit first";
            section.reader.error(span.clone(), "this cannot name a tier".into(), Some(instead.into()));
        }
        if let Some(table) = section.section(&name, &format!("[tiers.{name}]")) {
            read.tiers.extend(tier(&name, &table));
        }
        if read.names.len() == MAX_TIERS {
            let reason = format!("there are more than {MAX_TIERS} tiers");
            section.reader.error(span, reason, Some("leave out those no rule uses".into()));
            break;
        }
        read.names.push(name);
    }
    read
}

fn tier(name: &str, table: &Section<'_>) -> Option<Tier> {
    table.only(KEYS);
    let names = BACKENDS.map(|(name, _)| name);
    let capacity = table.bytes("capacity");
    if !table.has("backend") {
        let reason = format!("tier `{name}` has no `backend`");
        table.reader.error(table.span.clone(), reason, Some(format!("write one of {}", names.join(", "))));
        return None;
    }
    let (word, span) = table.text("backend")?;
    let Some((_, keys)) = BACKENDS.iter().find(|(known, _)| *known == word) else {
        table.reader.unknown(span, "backend", &word, &names);
        return None;
    };
    for key in KEYS.iter().skip(2).filter(|key| table.has(key) && !keys.contains(key)) {
        let fitting = BACKENDS.iter().find(|(_, keys)| keys.contains(key)).map_or("numa", |(name, _)| name);
        let reason = format!("`{key}` means nothing for `backend = \"{word}\"`");
        let instead = format!("leave it out, or write `backend = \"{fitting}\"`");
        table.reader.error(table.key_span(key), reason, Some(instead));
    }
    if let Some(required) = keys.first().filter(|key| !table.has(key)) {
        let example = match *required {
            "nodes" => "nodes = [0]",
            "dir" => "dir = \"/mnt/tier\"",
            _ => "device = \"/dev/dax0.0\"",
        };
        let reason = format!("tier `{name}` has no `{required}`");
        table.reader.error(table.span.clone(), reason, Some(format!("write `{example}`")));
        return None;
    }
    if word == "default" && table.has("capacity") {
        let reason = "the program's own allocator keeps to no capacity".to_owned();
        table.reader.error(table.key_span("capacity"), reason, Some("leave it out".into()));
    }
    let backend = match word.as_str() {
        "numa" => {
            let strict = table.boolean("strict").unwrap_or(false);
            Some(Backend::Numa { nodes: nodes(table, 1)?, strict })
        }
        "interleave" => {
            let (nodes, weights) = (nodes(table, 2), weights(table));
            Some(Backend::Interleave { nodes: nodes?, weights: weights? })
        }
        "file" => Some(Backend::File { dir: path(table, "dir")? }),
        "dax" => Some(Backend::Dax { device: path(table, "device")? }),
        "swap" => Some(Backend::Swap),
        _ => None,
    };
    Some(Tier { name: name.to_owned(), backend, capacity })
}

fn nodes(table: &Section<'_>, least: usize) -> Option<Vec<u16>> {
    let nodes = table.numbers("nodes", 0..=MAX_NODES as u16 - 1)?;
    let length = table.table.get("nodes").and_then(|item| item.as_array()).map(|list| list.len());
    let mut sorted = nodes.clone();
    sorted.sort_unstable();
    sorted.dedup();
    if sorted.len() < nodes.len() {
        let reason = "a node is named twice".to_owned();
        table.reader.error(table.value_span("nodes"), reason, Some("name each node once".into()));
    } else if length.is_some_and(|length| length < least) {
        let (reason, instead) = if least == 1 {
            ("a NUMA tier has at least one node", "write `nodes = [0]`")
        } else {
            ("pages are interleaved over at least two nodes", "write `nodes = [0, 1]`, or `backend = \"numa\"`")
        };
        table.reader.error(table.value_span("nodes"), reason.into(), Some(instead.into()));
    }
    Some(nodes)
}

fn weights(table: &Section<'_>) -> Option<Vec<u8>> {
    if !table.has("weights") {
        return Some(Vec::new());
    }
    let weights = table.numbers("weights", 1..=255)?;
    let length = |key| table.table.get(key).and_then(|item| item.as_array()).map(|list| list.len());
    if let Some(nodes) = length("nodes").filter(|nodes| length("weights") != Some(*nodes)) {
        let instead = format!("write as many weights as nodes, {nodes}, or leave them out for one page each in turn");
        table.reader.error(table.value_span("weights"), "weights do not fit the nodes".into(), Some(instead));
    }
    // Of 1 to 255, as was checked.
    Some(weights.into_iter().map(|weight| weight as u8).collect())
}

fn path(table: &Section<'_>, key: &str) -> Option<String> {
    let (path, span) = table.text(key)?;
    if !path.starts_with('/') {
        let reason = format!("`{key}` does not begin at the root");
        table.reader.error(span, reason, Some(format!("write an absolute path, such as \"/mnt/{}\"", path.trim())));
        return None;
    }
    Some(path)
}
