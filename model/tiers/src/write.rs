//! From tiers to text: what [`Tiers::parse`] reads back to the same.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::SCHEMA;
use crate::quantity::Quantity;
use crate::size::exact_bytes;
use crate::tier::{Amplification, Backend, Figure, Origin, Tier, Tiers};

impl Tiers {
    /// The set as a tier file. What most figures of a tier share is said once, at its head.
    pub fn to_toml(&self) -> String {
        let mut text = format!("schema = {}\n", quoted(SCHEMA));
        for tier in &self.0 {
            write_tier(tier, &mut text);
        }
        text
    }
}

fn write_tier(tier: &Tier, text: &mut String) {
    let default = shared_origin(tier);
    // A name with a dot would be two keys.
    let name = if tier.name.contains('.') { quoted(&tier.name) } else { tier.name.clone() };
    // Writing to a String cannot fail, here and below.
    let _ = writeln!(text, "\n[tiers.{name}]");
    let mut line = |key: &str, value: &str| {
        let _ = writeln!(text, "{key} = {value}");
    };
    if let Some(description) = &tier.description {
        line("description", &quoted(description));
    }
    for (key, value) in [("source", &default.source), ("date", &default.date)] {
        if let Some(value) = value {
            line(key, &quoted(value));
        }
    }
    for (quantity, figure) in &tier.figures {
        line(quantity.key(), &figure_text(figure, *quantity, &default));
    }
    for (key, list) in
        [("read_amplification", &tier.read_amplification), ("write_amplification", &tier.write_amplification)]
    {
        if !list.is_empty() {
            line(key, &amplification_text(list, &default));
        }
    }
    let Some(backend) = &tier.backend else { return };
    line("backend", &quoted(backend.name()));
    match backend {
        Backend::Numa { nodes, strict } => {
            line("nodes", &format!("{nodes:?}"));
            if *strict {
                line("strict", "true");
            }
        }
        Backend::Interleave { nodes, weights } => {
            line("nodes", &format!("{nodes:?}"));
            if !weights.is_empty() {
                line("weights", &format!("{weights:?}"));
            }
        }
        Backend::File { dir } => line("dir", &quoted(dir)),
        Backend::Dax { device } => line("device", &quoted(device)),
        Backend::Swap => {}
    }
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// The origin to state once. A figure without a source would inherit it, so there is none where one has no source.
fn shared_origin(tier: &Tier) -> Origin {
    let mut uses: BTreeMap<&Origin, usize> = BTreeMap::new();
    for figure in figures(tier) {
        if figure.origin.source.is_none() {
            return Origin::default();
        }
        *uses.entry(&figure.origin).or_default() += 1;
    }
    uses.into_iter().max_by_key(|(_, count)| *count).map(|(origin, _)| origin.clone()).unwrap_or_default()
}

fn figures(tier: &Tier) -> impl Iterator<Item = &Figure> {
    let amplified = tier.read_amplification.iter().chain(&tier.write_amplification).map(|entry| &entry.ratio);
    tier.figures.values().chain(amplified)
}

fn figure_text(figure: &Figure, quantity: Quantity, default: &Origin) -> String {
    let number = |value: f64| if quantity.is_bytes() { quoted(&exact_bytes(value as u64)) } else { value.to_string() };
    let parts = figure_parts(figure, number, default);
    match parts.as_slice() {
        [_] => number(figure.value),
        _ => format!("{{ {} }}", parts.join(", ")),
    }
}

fn amplification_text(list: &[Amplification], default: &Origin) -> String {
    let entry = |entry: &Amplification| {
        let parts = figure_parts(&entry.ratio, |value| value.to_string(), default);
        format!("{{ bytes = {}, {} }}", entry.bytes, parts.join(", "))
    };
    format!("[{}]", list.iter().map(entry).collect::<Vec<_>>().join(", "))
}

fn figure_parts(figure: &Figure, number: impl Fn(f64) -> String, default: &Origin) -> Vec<String> {
    let mut parts = vec![format!("value = {}", number(figure.value))];
    if let Some((low, high)) = figure.range {
        parts.push(format!("low = {}, high = {}", number(low), number(high)));
    }
    if figure.origin != *default {
        for (key, value) in [("source", &figure.origin.source), ("date", &figure.origin.date)] {
            parts.extend(value.as_ref().map(|value| format!("{key} = {}", quoted(value))));
        }
    }
    parts.extend(figure.note.as_ref().map(|note| format!("note = {}", quoted(note))));
    parts
}
