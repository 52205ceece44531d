//! `tiers --json`, schema `tierscope.tiers/1`; its fields are in `docs/tiers.md`.

use serde_json::{Map, Value, json};
use tierscope_tiers::{Amplification, Backend, Figure, SCHEMA, Tier, Tiers};

use crate::detect::Machine;
use crate::measure::Failure;

/// What was found, the tiers made of it, and what could not be measured. What is not known is left out of `figures`.
pub fn to_json(machine: &Machine, tiers: &Tiers, failures: &[Failure]) -> Value {
    json!({
        "schema": SCHEMA,
        "machine": machine,
        "tiers": tiers.as_slice().iter().map(tier).collect::<Vec<_>>(),
        "failures": failures,
    })
}

fn tier(tier: &Tier) -> Value {
    let figures: Map<String, Value> =
        tier.figures.iter().map(|(quantity, found)| (quantity.key().to_owned(), figure(found))).collect();
    let amplified = |list: &[Amplification]| {
        let entry = |entry: &Amplification| json!({ "bytes": entry.bytes, "ratio": figure(&entry.ratio) });
        list.iter().map(entry).collect::<Vec<_>>()
    };
    json!({
        "name": tier.name,
        "description": tier.description,
        "backend": tier.backend.as_ref().map(backend),
        "figures": figures,
        "read_amplification": amplified(&tier.read_amplification),
        "write_amplification": amplified(&tier.write_amplification),
    })
}

fn figure(figure: &Figure) -> Value {
    json!({
        "value": figure.value,
        "low": figure.range.map(|(low, _)| low),
        "high": figure.range.map(|(_, high)| high),
        "source": figure.origin.source,
        "date": figure.origin.date,
        "note": figure.note,
    })
}

fn backend(backend: &Backend) -> Value {
    let kind = backend.name();
    match backend {
        Backend::Numa { nodes, strict } => json!({ "kind": kind, "nodes": nodes, "strict": strict }),
        Backend::Interleave { nodes, weights } => json!({ "kind": kind, "nodes": nodes, "weights": weights }),
        Backend::File { dir } => json!({ "kind": kind, "dir": dir }),
        Backend::Dax { device } => json!({ "kind": kind, "device": device }),
        Backend::Swap => json!({ "kind": kind }),
    }
}
