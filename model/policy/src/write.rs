//! From a policy to a text that reads back to the same policy and explains itself.
//!
//! Comments that follow from a value stand behind it, and [`remark`] alone makes them, so that an update can tell ours
//! from a person's.

use std::fmt::Write as _;

use tierscope_tiers::{Backend, exact_bytes, human_bytes};
use toml_edit::{Key, Value};

use crate::SCHEMA;
use crate::policy::{By, Origin, Policy, Program, Rule, Tier};

const HEADER: &str = "\
# Which objects of a program belong in which kind of memory. `tierscope run --policy FILE -- CMD` carries it out; every
# key is explained in docs/policy.md.
#
# Rules are tried from the top: the first that matches a block decides, and [default] has the rest. Edit what you like:
# rules you add, and rules you change, stay when the advice is updated. The mark in `by` tells which are unchanged.
";

/// A list longer than this gets a line for each member.
const LINE: usize = 100;

/// Bytes of a size that is written as text.
const KIB: u64 = 1 << 10;

impl Policy {
    /// The text of a new policy file. What [`Policy::parse`] could have given reads back as it was.
    pub fn to_toml(&self) -> String {
        let mut out = format!("{HEADER}\nschema = \"{SCHEMA}\"\n");
        program(&mut out, &self.program);
        origin(&mut out, &self.origin);
        for each in &self.tiers {
            tier(&mut out, each);
        }
        header(&mut out, "[default]");
        pair(&mut out, "tier", self.default_tier.as_str().into());
        for each in &self.rules {
            rule(&mut out, each);
        }
        out
    }
}

fn header(out: &mut String, header: &str) {
    let _ = write!(out, "\n{header}\n");
}

fn pair(out: &mut String, key: &str, value: Value) {
    let remark = remark(key, &value).map(|remark| format!("  # {remark}")).unwrap_or_default();
    let _ = writeln!(out, "{} = {value}{remark}", Key::new(key).display_repr());
}

/// A text; an empty one says nothing and is left out.
fn text(out: &mut String, key: &str, value: Option<&str>) {
    if let Some(value) = value.filter(|value| !value.trim().is_empty()) {
        pair(out, key, value.into());
    }
}

fn bytes(out: &mut String, key: &str, value: Option<u64>) {
    let Some(bytes) = value else { return };
    let value = match i64::try_from(bytes) {
        Ok(number) if !bytes.is_multiple_of(KIB) || bytes == 0 => number.into(),
        _ => exact_bytes(bytes).into(),
    };
    pair(out, key, value);
}

fn texts(out: &mut String, key: &str, list: impl Iterator<Item = String>) {
    let list: Vec<String> = list.map(|text| Value::from(text).to_string()).collect();
    let whole = list.join(", ");
    let _ = if key.len() + whole.len() + 5 > LINE {
        writeln!(out, "{key} = [\n    {},\n]", list.join(",\n    "))
    } else {
        writeln!(out, "{key} = [{whole}]")
    };
}

fn numbers(out: &mut String, key: &str, list: impl Iterator<Item = i64>) {
    let list: Vec<String> = list.map(|number| number.to_string()).collect();
    let _ = writeln!(out, "{key} = [{}]", list.join(", "));
}

/// What is said behind a value of ours.
pub(crate) fn remark(key: &str, value: &Value) -> Option<String> {
    match key {
        "match" => Some(
            match value.as_str()? {
                "exact" => "a rebuilt module's sites match nothing",
                "function" => "a rebuilt module's sites are found by function",
                _ => "a rebuilt module's sites are found by function, file and line",
            }
            .into(),
        ),
        "predicted_slowdown" => {
            let percent = value.as_float()? * 100.0;
            percent.is_finite().then(|| format!("{percent:.1} % slower than with everything in fast memory"))
        }
        "bytes" | "fast" | "capacity" => {
            let bytes = u64::try_from(value.as_integer()?).ok()?;
            (bytes >= KIB).then(|| human_bytes(bytes))
        }
        _ => None,
    }
}

fn program(out: &mut String, program: &Program) {
    if *program == Program::default() {
        return;
    }
    header(out, "[program]");
    text(out, "name", program.name.as_deref());
    text(out, "build_id", program.build_id.as_deref());
    pair(out, "match", program.matching.name().into());
    if !program.modules.is_empty() {
        header(out, "[program.modules]");
        for (name, id) in &program.modules {
            pair(out, name, id.as_str().into());
        }
    }
}

fn origin(out: &mut String, origin: &Origin) {
    if *origin == Origin::default() {
        return;
    }
    header(out, "[origin]");
    text(out, "profile", origin.profile.as_deref());
    text(out, "sampler", origin.sampler.as_deref());
    if let Some(samples) = origin.samples.and_then(|samples| i64::try_from(samples).ok()) {
        pair(out, "samples", samples.into());
    }
    text(out, "ranker", origin.ranker.as_deref());
    bytes(out, "fast", origin.fast);
    if let Some(slowdown) = origin.predicted_slowdown.filter(|slowdown| slowdown.is_finite()) {
        pair(out, "predicted_slowdown", slowdown.into());
    }
    if let Some((low, high)) = origin.interval.filter(|(low, high)| low.is_finite() && high.is_finite()) {
        let _ = writeln!(out, "interval = [{}, {}]", Value::from(low), Value::from(high));
    }
    text(out, "created", origin.created.as_deref());
    text(out, "tierscope", origin.tierscope.as_deref());
}

fn tier(out: &mut String, tier: &Tier) {
    header(out, &format!("[tiers.{}]", Key::new(&tier.name).display_repr()));
    pair(out, "backend", tier.backend.as_ref().map_or("default", Backend::name).into());
    let nodes = |out: &mut String, nodes: &[u16]| numbers(out, "nodes", nodes.iter().map(|node| i64::from(*node)));
    match &tier.backend {
        None | Some(Backend::Swap) => {}
        Some(Backend::Numa { nodes: list, strict }) => {
            nodes(out, list);
            if *strict {
                pair(out, "strict", true.into());
            }
        }
        Some(Backend::Interleave { nodes: list, weights }) => {
            nodes(out, list);
            if !weights.is_empty() {
                numbers(out, "weights", weights.iter().map(|weight| i64::from(*weight)));
            }
        }
        Some(Backend::File { dir }) => pair(out, "dir", dir.as_str().into()),
        Some(Backend::Dax { device }) => pair(out, "device", device.as_str().into()),
    }
    bytes(out, "capacity", tier.capacity);
}

fn rule(out: &mut String, rule: &Rule) {
    header(out, "[[rule]]");
    pair(out, "tier", rule.tier.as_str().into());
    text(out, "symbol", rule.symbol.as_deref());
    text(out, "module", rule.module.as_deref());
    if !rule.site.is_empty() {
        texts(out, "site", rule.site.iter().map(ToString::to_string));
    }
    if !rule.frames.is_empty() {
        texts(out, "frames", rule.frames.iter().map(ToString::to_string));
    }
    // A rule for blocks needs something to narrow it by.
    if rule.sizes != Default::default() || rule.symbol.is_none() && rule.site.is_empty() {
        pair(out, "size", rule.sizes.to_string().into());
    }
    if let Some(ordinal) = rule.ordinal {
        pair(out, "ordinal", i64::from(ordinal).into());
    }
    bytes(out, "bytes", rule.bytes);
    text(out, "why", rule.why.as_deref());
    match &rule.by {
        By::Tierscope => pair(out, "by", rule.mark().into()),
        By::Person(by) => text(out, "by", by.as_deref()),
    }
}
