//! From text to tiers.
//!
//! A file is read completely or refused: one wrong key in one tier would silently change what an advisor concludes.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::SCHEMA;
use crate::error::{TiersError, did_you_mean};
use crate::quantity::Quantity;
use crate::tier::{Amplification, Backend, Figure, Origin, Tier, Tiers, is_name};
use crate::value::{Item, Table, clipped, is_date, number};

const FIGURE_KEYS: [&str; 6] = ["value", "low", "high", "source", "date", "note"];
const OTHER_KEYS: [&str; 11] = [
    "description",
    "source",
    "date",
    "read_amplification",
    "write_amplification",
    "backend",
    "nodes",
    "strict",
    "weights",
    "dir",
    "device",
];

impl Tiers {
    /// Read a tier file.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong, with its line and column and what to write instead.
    pub fn parse(text: &str) -> Result<Self, TiersError> {
        let document = DeTable::parse(text).map_err(|error| {
            let message = format!("this is not TOML: {}", error.message().trim().replace('\n', "; "));
            TiersError::at(text, error.span().unwrap_or_default(), message)
        })?;
        let root = Table { text, table: document.get_ref() };
        root.only(&["schema", "tiers"], "a tier file")?;
        match root.get("schema") {
            Some(item) if item.get_ref().as_str() == Some(SCHEMA) => {}
            Some(item) => {
                return Err(root.error(item.span(), format!("this version reads schema = \"{SCHEMA}\" and no other")));
            }
            None => {
                return Err(root.error(0..0, format!("no schema: write `schema = \"{SCHEMA}\"` as the first line")));
            }
        }
        let none = || root.error(0..0, "no tiers: write a table `[tiers.NAME]` for each, the fastest first");
        let item = root.get("tiers").ok_or_else(none)?;
        let tables = root.inner(item).ok_or_else(|| root.mistyped(item, "tiers", "tables `[tiers.NAME]`"))?;
        let mut tiers = Vec::new();
        for (name, span, item) in tables.in_order() {
            if !is_name(name) {
                let message = format!(
                    "`{}` cannot name a tier: use letters, digits, `.`, `_` and `-`, 64 at most, a letter or digit first",
                    clipped(name)
                );
                return Err(root.error(span, message));
            }
            let Some(table) = root.inner(item) else {
                return Err(root.mistyped(item, name, &format!("a table `[tiers.{name}]`")));
            };
            tiers.push(tier(name, table)?);
        }
        if tiers.is_empty() {
            return Err(none());
        }
        Ok(Self(tiers))
    }
}

fn tier(name: &str, table: Table<'_>) -> Result<Tier, TiersError> {
    let known: Vec<&str> = Quantity::ALL.into_iter().map(Quantity::key).chain(OTHER_KEYS).collect();
    table.only(&known, "a tier")?;
    let default = origin(table)?;
    let mut tier = Tier::named(name);
    tier.description = table.string("description")?;
    for quantity in Quantity::ALL {
        if let Some(item) = table.get(quantity.key()) {
            tier.set(quantity, figure(table, item, quantity.key(), quantity.bounds(), quantity.is_bytes(), &default)?);
        }
    }
    tier.read_amplification = amplification(table, "read_amplification", &default)?;
    tier.write_amplification = amplification(table, "write_amplification", &default)?;
    tier.backend = backend(table)?;
    agree(&tier, table)?;
    Ok(tier)
}

fn origin(table: Table<'_>) -> Result<Origin, TiersError> {
    let source = table.string("source")?;
    let Some(item) = table.get("date") else { return Ok(Origin { source, date: None }) };
    match item.get_ref().as_str() {
        Some(date) if is_date(date) => Ok(Origin { source, date: Some(date.to_owned()) }),
        _ => Err(table.mistyped_date(item)),
    }
}

impl Table<'_> {
    fn mistyped_date(&self, item: &Item<'_>) -> TiersError {
        self.error(
            item.span(),
            "`date` must be a year, month or day in quotes: \"2020\", \"2020-02\" or \"2020-02-24\"",
        )
    }
}

/// A number alone, or a table with its origin. A source of its own brings its own date; without one both are the tier's.
fn figure(
    parent: Table<'_>,
    item: &Item<'_>,
    key: &str,
    bounds: (f64, f64),
    sizes: bool,
    default: &Origin,
) -> Result<Figure, TiersError> {
    let example = if sizes { "\"4 GiB\"" } else { "81" };
    let wanted =
        format!("a number, such as {example}, or {{ value = {example}, source = \"...\", date = \"2020-02\" }}");
    let checked = |item: &Item<'_>| {
        let read = number(item.get_ref(), sizes).ok_or_else(|| parent.mistyped(item, key, &wanted))?;
        let (least, largest) = bounds;
        if (least..=largest).contains(&read) {
            return Ok(read);
        }
        let message =
            format!("{read} is outside what `{key}` can be ({least} to {largest}): check the unit in its name");
        Err(parent.error(item.span(), message))
    };
    let Some(table) = item.get_ref().as_table().map(|table| Table { text: parent.text, table }) else {
        return Ok(Figure::new(checked(item)?, default.clone()));
    };
    table.only(&FIGURE_KEYS, &format!("`{key}`"))?;
    let part = |name: &str| table.get(name).map(&checked).transpose();
    let (value, low, high) = (part("value")?, part("low")?, part("high")?);
    let (value, range) = match (value, low, high) {
        (Some(value), None, None) => (value, None),
        (Some(value), Some(low), Some(high)) => (value, Some((low, high))),
        (None, Some(low), Some(high)) => (f64::midpoint(low, high), Some((low, high))),
        (None, None, None) => return Err(parent.error(item.span(), format!("`{key}` has no `value`: write {wanted}"))),
        _ => return Err(parent.error(item.span(), format!("`{key}` needs both `low` and `high`, or neither"))),
    };
    if let Some((low, high)) = range
        && !(low <= value && value <= high)
    {
        let message = format!("`{key}`: low <= value <= high must hold, but they are {low}, {value}, {high}");
        return Err(parent.error(item.span(), message));
    }
    let own = origin(table)?;
    let origin = match own.source {
        Some(_) => own,
        None => Origin { source: default.source.clone(), date: own.date.or_else(|| default.date.clone()) },
    };
    Ok(Figure { value, range, origin, note: table.string("note")? })
}

fn amplification(table: Table<'_>, key: &str, default: &Origin) -> Result<Vec<Amplification>, TiersError> {
    let Some(item) = table.get(key) else { return Ok(Vec::new()) };
    let wanted = "a list with one entry for each size of access, such as [{ bytes = 64, value = 4.1 }]";
    let list = item.get_ref().as_array().ok_or_else(|| table.mistyped(item, key, wanted))?;
    let mut all: Vec<Amplification> = Vec::new();
    for member in list.iter() {
        let Some(entry) = member.get_ref().as_table() else { return Err(table.mistyped(member, key, wanted)) };
        let Some(bytes) = entry.get("bytes") else {
            return Err(table.error(member.span(), format!("an entry of `{key}` needs `bytes`, the size of an access")));
        };
        let size = number(bytes.get_ref(), true).filter(|size| (1.0..=1e9).contains(size) && size.fract() == 0.0);
        let Some(size) = size else {
            return Err(table.error(bytes.span(), format!("`bytes` of `{key}` must be a whole number from 1 to 10^9")));
        };
        let mut rest = entry.clone();
        rest.remove("bytes");
        let rest = Spanned::new(member.span(), DeValue::Table(rest));
        let ratio = figure(table, &rest, key, (0.01, 1e6), false, default)?;
        if all.last().is_some_and(|last| last.bytes >= size as u64) {
            return Err(table.error(bytes.span(), format!("sizes of `{key}` must ascend, each once")));
        }
        all.push(Amplification { bytes: size as u64, ratio });
    }
    Ok(all)
}

/// The keys each back end takes; the first is required.
const BACKENDS: [(&str, &[&str]); 5] = [
    ("numa", &["nodes", "strict"]),
    ("interleave", &["nodes", "weights"]),
    ("file", &["dir"]),
    ("dax", &["device"]),
    ("swap", &[]),
];

fn backend(table: Table<'_>) -> Result<Option<Backend>, TiersError> {
    let parts = ["nodes", "strict", "weights", "dir", "device"];
    let Some(item) = table.get("backend") else {
        return match table.in_order().into_iter().find(|(key, ..)| parts.contains(key)) {
            Some((key, span, _)) => {
                let fitting = BACKENDS.iter().find(|(_, keys)| keys.contains(&key)).map_or("numa", |(name, _)| name);
                Err(table
                    .error(span, format!("`{key}` belongs to a back end: write backend = \"{fitting}\" before it")))
            }
            None => Ok(None),
        };
    };
    let names = BACKENDS.map(|(name, _)| name);
    let Some(said) = item.get_ref().as_str() else {
        return Err(table.mistyped(item, "backend", &format!("one of {}, in quotes", names.join(", "))));
    };
    let Some((name, takes)) = BACKENDS.into_iter().find(|(name, _)| *name == said) else {
        let near = did_you_mean(said, names);
        let all = if near.is_empty() { format!("; there are: {}", names.join(", ")) } else { near };
        return Err(table.error(item.span(), format!("`{}` is no back end{all}", clipped(said))));
    };
    if let Some((key, span, _)) =
        table.in_order().into_iter().find(|(key, ..)| parts.contains(key) && !takes.contains(key))
    {
        return Err(table.error(span, format!("backend \"{name}\" takes no `{key}`: leave it out")));
    }
    let missing =
        |key: &str, example: &str| table.error(item.span(), format!("backend \"{name}\" needs `{key} = {example}`"));
    Ok(Some(match name {
        "numa" => {
            let nodes = nodes(table, 1)?.ok_or_else(|| missing("nodes", "[0]"))?;
            Backend::Numa { nodes, strict: table.boolean("strict")?.unwrap_or(false) }
        }
        "interleave" => {
            let nodes = nodes(table, 2)?.ok_or_else(|| missing("nodes", "[0, 1]"))?;
            let weights = table.numbers("weights", 255)?.unwrap_or_default();
            if (!weights.is_empty() && weights.len() != nodes.len()) || weights.contains(&0) {
                let message = format!("`weights` must be {} numbers from 1 to 255, one for each node", nodes.len());
                return Err(table.error(table.get("weights").unwrap_or(item).span(), message));
            }
            Backend::Interleave { nodes, weights: weights.into_iter().map(|weight| weight as u8).collect() }
        }
        "file" => Backend::File { dir: path(table, "dir")?.ok_or_else(|| missing("dir", "\"/mnt/tier\""))? },
        "dax" => Backend::Dax { device: path(table, "device")?.ok_or_else(|| missing("device", "\"/dev/dax0.0\""))? },
        _ => Backend::Swap,
    }))
}

/// Node numbers, each once, at least so many. The kernel knows at most 1024 nodes.
fn nodes(table: Table<'_>, least: usize) -> Result<Option<Vec<u16>>, TiersError> {
    let Some(list) = table.numbers("nodes", 1023)? else { return Ok(None) };
    let mut nodes: Vec<u16> = list.iter().map(|&node| node as u16).collect();
    let span = table.get("nodes").map(Item::span).unwrap_or_default();
    if nodes.len() < least {
        return Err(
            table.error(span, format!("`nodes` needs at least {least}, such as {:?}", (0..least).collect::<Vec<_>>()))
        );
    }
    nodes.sort_unstable();
    nodes.dedup();
    if nodes.len() != list.len() {
        return Err(table.error(span, "`nodes` names a node twice"));
    }
    Ok(Some(list.into_iter().map(|node| node as u16).collect()))
}

fn path(table: Table<'_>, key: &str) -> Result<Option<String>, TiersError> {
    let Some(path) = table.string(key)? else { return Ok(None) };
    if path.starts_with('/') && !path.contains('\0') && path.len() < 4096 {
        return Ok(Some(path));
    }
    let span = table.get(key).map(Item::span).unwrap_or_default();
    Err(table.error(span, format!("`{key}` must be an absolute path, such as \"/mnt/tier\"")))
}

/// What single figures cannot say of each other.
fn agree(tier: &Tier, table: Table<'_>) -> Result<(), TiersError> {
    let span = |quantity: Quantity| table.get(quantity.key()).map(Item::span).unwrap_or_default();
    for quantity in Quantity::ALL.into_iter().filter(|quantity| quantity.is_bytes()) {
        let fractional = |figure: &Figure| {
            let (low, high) = figure.range.unwrap_or((figure.value, figure.value));
            [figure.value, low, high].iter().any(|bytes| bytes.fract() != 0.0)
        };
        if tier.figures.get(&quantity).is_some_and(fractional) {
            return Err(table.error(span(quantity), format!("`{}` must be a whole number of bytes", quantity.key())));
        }
    }
    if tier.value(Quantity::GranuleBytes).is_some_and(|bytes| !(bytes as u64).is_power_of_two()) {
        return Err(
            table.error(span(Quantity::GranuleBytes), "`granule_bytes` must be a power of two, such as 64 or 4096")
        );
    }
    let pairs = [
        (Quantity::IdleWattsPerGb, Quantity::ActiveWattsPerGb),
        (Quantity::IdleWattsPerDevice, Quantity::ActiveWattsPerDevice),
    ];
    for (idle, active) in pairs {
        if let (Some(less), Some(more)) = (tier.value(idle), tier.value(active))
            && less > more
        {
            let message = format!("`{}` ({less}) is more than `{}` ({more}): swap them?", idle.key(), active.key());
            return Err(table.error(span(idle), message));
        }
    }
    let per_gb = [Quantity::IdleWattsPerGb, Quantity::ActiveWattsPerGb];
    let per_device = [Quantity::IdleWattsPerDevice, Quantity::ActiveWattsPerDevice];
    let given = |both: [Quantity; 2]| both.into_iter().find(|quantity| tier.figures.contains_key(quantity));
    if let (Some(gb), Some(device)) = (given(per_gb), given(per_device)) {
        let message = format!("power is given twice, as `{}` and as `{}`: keep one of the two", gb.key(), device.key());
        return Err(table.error(span(device), message));
    }
    Ok(())
}
