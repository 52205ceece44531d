//! From text to a policy.
//!
//! A mistake does not end the reading: what depends on it is left out, the rest is looked at, and all mistakes are told
//! at once. A policy is given out only when there were none.

mod rules;
mod section;
mod tiers;

use std::collections::BTreeMap;

use toml_edit::Document;

use self::section::{Reader, Section};
use crate::parts::is_module_name;
use crate::policy::{Match, Origin, Policy, Program};
use crate::{PolicyErrors, SCHEMA};

/// Keys of the whole file.
const FILE: &[&str] = &["schema", "program", "origin", "tiers", "default", "rule"];
/// Keys of `[program]`.
const PROGRAM: &[&str] = &["name", "build_id", "match", "modules"];
/// Keys of `[origin]`.
const ORIGIN: &[&str] =
    &["profile", "sampler", "samples", "ranker", "fast", "predicted_slowdown", "interval", "created", "tierscope"];

impl Policy {
    /// Reads a policy file.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it, up to a bound.
    pub fn parse(text: &str) -> Result<Policy, PolicyErrors> {
        let document = document(text)?;
        let reader = Reader::new(text);
        let file = Section { reader: &reader, table: document.as_table(), span: 0..0, called: "a policy file".into() };
        let policy = schema(&file).then(|| read(&file));
        match policy {
            Some(policy) if reader.is_clean() => Ok(policy),
            _ => Err(reader.finish()),
        }
    }
}

/// The text as TOML.
pub(crate) fn document(text: &str) -> Result<Document<&str>, PolicyErrors> {
    Document::parse(text).map_err(|error| {
        let reader = Reader::new(text);
        let message = error.message().trim().replace('\n', "; ");
        let twice = message.contains("duplicate key");
        let instead = twice.then(|| "a table or key stands once: rename the second, or make one of the two".to_owned());
        reader.error(error.span().unwrap_or_default(), format!("this is not TOML: {message}"), instead);
        reader.finish()
    })
}

/// Whether the rest of the file can be expected to mean what it says.
fn schema(file: &Section<'_>) -> bool {
    let instead = Some(format!("write `schema = \"{SCHEMA}\"` as the first line"));
    if !file.has("schema") {
        file.reader.error(0..0, "the file has no `schema`".into(), instead);
        return true;
    }
    let Some((schema, span)) = file.text("schema") else { return true };
    if schema == SCHEMA {
        return true;
    }
    let reason = match schema.strip_prefix("tierscope.policy/") {
        Some(version) if version.bytes().all(|digit| digit.is_ascii_digit()) && !version.is_empty() => {
            format!("the file is of version {version}; this tierscope reads version 1")
        }
        _ => "the file is no policy, or of no known version; this tierscope reads version 1".into(),
    };
    let instead = "write `schema = \"tierscope.policy/1\"`, or use the tierscope that the file was written for";
    file.reader.error(span, reason, Some(instead.into()));
    false
}

fn read(file: &Section<'_>) -> Policy {
    file.only(FILE);
    let program = file.section("program", "[program]").map(|section| program(&section)).unwrap_or_default();
    let origin = file.section("origin", "[origin]").map(|section| origin(&section)).unwrap_or_default();
    let tiers = tiers::read(file);
    let default_tier = default(file, &tiers.names);
    let rules = rules::read(file, &tiers.names);
    Policy { program, origin, tiers: tiers.tiers, default_tier: default_tier.unwrap_or_default(), rules }
}

fn program(section: &Section<'_>) -> Program {
    section.only(PROGRAM);
    let matching = section.text("match").and_then(|(text, span)| {
        let found = Match::ALL.into_iter().find(|matching| matching.name() == text);
        if found.is_none() {
            let names: Vec<&str> = Match::ALL.into_iter().map(Match::name).collect();
            section.reader.unknown(span, "way to match", &text, &names);
        }
        found
    });
    let mut modules = BTreeMap::new();
    if let Some(table) = section.section("modules", "[program.modules]") {
        for (name, span) in table.keys() {
            if !is_module_name(&name) {
                let instead = "write the file name alone, as sites have it: \"libm.so.6\" = \"5f2c...\"";
                section.reader.error(span, "a module is named without directories".into(), Some(instead.into()));
            } else if let Some(id) = build_id(&table, &name) {
                modules.insert(name, id);
            }
        }
    }
    Program {
        name: section.text("name").map(|(name, _)| name),
        build_id: build_id(section, "build_id"),
        matching: matching.unwrap_or_default(),
        modules,
    }
}

fn build_id(section: &Section<'_>, key: &str) -> Option<String> {
    let (text, span) = section.text(key)?;
    let whole = text.len() % 2 == 0 && text.len() <= 128 && text.bytes().all(|digit| digit.is_ascii_hexdigit());
    if !whole {
        let instead = "write what `file` or `readelf -n` show, such as \"5f2c91aa\"";
        section.reader.error(span, "a build-id is an even number of hexadecimal digits".into(), Some(instead.into()));
        return None;
    }
    Some(text.to_ascii_lowercase())
}

fn origin(section: &Section<'_>) -> Origin {
    section.only(ORIGIN);
    let text = |key| section.text(key).map(|(text, _)| text);
    let interval = section.list("interval", "[0.02, 0.07]").and_then(|list| {
        let numbers: Vec<f64> = list.iter().filter_map(|value| section::number(value)).collect();
        match *numbers.as_slice() {
            [low, high] if list.len() == 2 && low <= high => Some((low, high)),
            _ => {
                let instead = "write two numbers, the lower first: [0.02, 0.07]";
                section.reader.error(
                    section.value_span("interval"),
                    "this is no interval".into(),
                    Some(instead.into()),
                );
                None
            }
        }
    });
    Origin {
        profile: text("profile"),
        sampler: text("sampler"),
        samples: section.whole("samples", i64::MAX as u64),
        ranker: text("ranker"),
        fast: section.bytes("fast"),
        predicted_slowdown: section.number("predicted_slowdown"),
        interval,
        created: text("created"),
        tierscope: text("tierscope"),
    }
}

fn default(file: &Section<'_>, tiers: &[String]) -> Option<String> {
    let instead = "write `[default]` and `tier = \"NAME\"`: the tier of everything no rule matches";
    let Some(section) = file.section("default", "[default]") else {
        if !file.has("default") {
            file.reader.error(0..0, "there is no default tier".into(), Some(instead.into()));
        }
        return None;
    };
    section.only(&["tier"]);
    if !section.has("tier") {
        section.reader.error(section.span.clone(), "there is no default tier".into(), Some(instead.into()));
    }
    tier_name(&section, tiers)
}

/// The `tier` of a section, which must be one of the file's.
fn tier_name(section: &Section<'_>, tiers: &[String]) -> Option<String> {
    let (name, span) = section.text("tier")?;
    if !tiers.contains(&name) {
        let names: Vec<&str> = tiers.iter().map(String::as_str).collect();
        section.reader.unknown(span, "tier", &name, &names);
        return None;
    }
    Some(name)
}
