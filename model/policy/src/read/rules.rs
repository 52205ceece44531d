//! The rules of a policy file, and whether they contradict each other.

use std::collections::HashMap;
use std::ops::Range;

use tierscope_wire::MAX_FRAMES;
use tierscope_wire::policy::MAX_RULES;
use toml_edit::TableLike;

use super::section::Section;
use super::tier_name;
use crate::error::clipped;
use crate::parts::{FrameName, SiteEntry, Sizes, is_module_name};
use crate::policy::{By, Rule};

/// Every key of a rule.
const KEYS: &[&str] =
    &["tier", "site", "frames", "size", "ordinal", "symbol", "module", "bytes", "why", "by", "ranges", "phase"];

const SITE_EXAMPLE: &str = "[\"bc+0x1a2b\", \"bc+0x3344\"]";

pub(super) fn read(file: &Section<'_>, tiers: &[String]) -> Vec<Rule> {
    let mut rules = Vec::new();
    let mut first = HashMap::new();
    for (index, section) in sections(file).into_iter().enumerate() {
        if index == MAX_RULES {
            let reason = format!("there are more than {MAX_RULES} rules");
            file.reader.error(section.span.clone(), reason, Some("leave out those of the smallest objects".into()));
            break;
        }
        if let Some(rule) = rule(&section, tiers) {
            agree(&section, &rule, &mut first);
            rules.push(rule);
        }
    }
    rules
}

/// The rules as tables, whether written as `[[rule]]` or as one list.
fn sections<'a>(file: &Section<'a>) -> Vec<Section<'a>> {
    let Some(item) = file.table.get("rule") else { return Vec::new() };
    let called = || "`[[rule]]`".to_owned();
    if let Some(tables) = item.as_array_of_tables() {
        let section = |table: &'a toml_edit::Table| Section {
            reader: file.reader,
            span: table.span().unwrap_or_else(|| file.key_span("rule")),
            table: table as &dyn TableLike,
            called: called(),
        };
        return tables.iter().map(section).collect();
    }
    let wrong = |span| {
        let instead = "write a table `[[rule]]`, in two pairs of brackets, for each rule";
        file.reader.error(span, "this is no rule".into(), Some(instead.into()));
    };
    let Some(list) = item.as_array() else {
        wrong(file.value_span("rule"));
        return Vec::new();
    };
    let mut sections = Vec::new();
    for value in list {
        let span = value.span().unwrap_or_else(|| file.value_span("rule"));
        match value.as_inline_table() {
            Some(table) => sections.push(Section { reader: file.reader, table, span, called: called() }),
            None => wrong(span),
        }
    }
    sections
}

/// One rule; none where so much is wrong that comparing it with others would mislead.
fn rule(section: &Section<'_>, tiers: &[String]) -> Option<Rule> {
    section.only(KEYS);
    let reader = section.reader;
    if !section.has("tier") {
        reader.error(section.span.clone(), "the rule names no `tier`".into(), Some("write `tier = \"NAME\"`".into()));
    }
    not_carried_out(section);
    let tier = tier_name(section, tiers);
    let sizes = match section.text("size") {
        None => (!section.has("size")).then_some(Sizes::ALL),
        Some((text, span)) => {
            let parsed = Sizes::parse(&text);
            if let Err(why) = parsed {
                let instead = "write \"64 MiB..128 MiB\" (the second not included), \">= 16 KiB\" or \"< 4 KiB\"";
                reader.error(span, format!("`{}` {why}", clipped(&text)), Some(instead.into()));
            }
            parsed.ok()
        }
    };
    let ordinal = section.whole("ordinal", u64::from(u16::MAX)).map(|ordinal| ordinal as u16);
    let site = site(section);
    let frames = frames(section);
    let symbol = section.text("symbol").map(|(symbol, _)| symbol);
    let module = module(section);
    let text = |key| section.text(key).map(|(text, _)| text);
    let (bytes, why, by) = (section.bytes("bytes"), text("why"), text("by"));
    fits_its_kind(section);
    let mut rule = Rule {
        tier: tier?,
        site: site?,
        frames: frames?,
        sizes: sizes?,
        ordinal,
        symbol,
        module,
        bytes,
        why,
        by: By::Person(None),
    };
    rule.by = if by.as_deref() == Some(rule.mark().as_str()) { By::Tierscope } else { By::Person(by) };
    Some(rule)
}

/// Keys that only some rules have.
fn fits_its_kind(section: &Section<'_>) {
    let (global, site) = (section.has("symbol"), section.has("site"));
    let wrong = |key: &str, reason: &str, instead: &str| {
        if section.has(key) {
            section.reader.error(section.key_span(key), format!("`{key}` {reason}"), Some(instead.into()));
        }
    };
    if global {
        for key in ["site", "frames", "size", "ordinal"] {
            wrong(key, "means nothing beside `symbol`", "a rule is for a global or for blocks: make two of it");
        }
        return;
    }
    wrong("module", "says where a `symbol` is, and there is none", "the module of a site is in its entries");
    if !site {
        wrong("frames", "says what the entries of `site` are called, and there are none", "write `site` beside it");
        wrong("ordinal", "counts the blocks of a `site`, and there is none", "write `site` beside it");
        if !section.has("size") {
            let reason = "the rule matches every block";
            let instead = "narrow it by `site`, `symbol` or `size`; everything else is what `[default]` is for";
            section.reader.error(section.span.clone(), reason.into(), Some(instead.into()));
        }
    }
}

/// The entries of `site`: empty where there is no such key, none where it is wrong.
fn site(section: &Section<'_>) -> Option<Vec<SiteEntry>> {
    if !section.has("site") {
        return Some(Vec::new());
    }
    let texts = section.texts("site", SITE_EXAMPLE)?;
    let mut right = section.list("site", SITE_EXAMPLE).is_some_and(|list| list.len() == texts.len());
    if right && (texts.is_empty() || texts.len() > MAX_FRAMES) {
        let instead = format!("write {SITE_EXAMPLE}: the call of the allocator first, then its callers");
        let reason = format!("a site has 1 to {MAX_FRAMES} entries");
        section.reader.error(section.value_span("site"), reason, Some(instead));
        right = false;
    }
    let mut entries = Vec::new();
    for (text, span) in texts {
        match text.parse::<SiteEntry>() {
            Ok(entry) => entries.push(entry),
            Err(why) => {
                let instead = "write MODULE+0xADDRESS, the file name and the ELF return address: \"bc+0x1a2b\"";
                section.reader.error(span, format!("`{}` {why}", clipped(text)), Some(instead.into()));
                right = false;
            }
        }
    }
    right.then_some(entries)
}

fn frames(section: &Section<'_>) -> Option<Vec<FrameName>> {
    if !section.has("frames") {
        return Some(Vec::new());
    }
    let texts = section.texts("frames", "[\"BrandesBC bc.cc:88\"]")?;
    let entries = section.table.get("site").and_then(|item| item.as_array()).map_or(0, |list| list.len());
    if entries > 0 && texts.len() > entries {
        let reason = format!("there are {} names for {entries} entries of `site`", texts.len());
        let instead = "the first name is that of the first entry; leave a name out by \"\"";
        section.reader.error(section.value_span("frames"), reason, Some(instead.into()));
    }
    Some(texts.into_iter().map(|(text, _)| FrameName::parse(text)).collect())
}

fn module(section: &Section<'_>) -> Option<String> {
    let (module, span) = section.text("module")?;
    if !is_module_name(&module) {
        let instead = "write the file name alone, such as \"libfoo.so.1\"";
        section.reader.error(span, "a module is named without directories".into(), Some(instead.into()));
        return None;
    }
    Some(module)
}

/// What the format has and this version does not do: its notation is checked, then it is refused.
fn not_carried_out(section: &Section<'_>) {
    let refuse = |key: &str, what: &str| {
        let reason = format!("`{key}` is not carried out by this version");
        section.reader.error(
            section.key_span(key),
            reason,
            Some(format!("leave it out: the rule then holds for {what}")),
        );
    };
    const EXAMPLE: &str = "[\"0 B..64 MiB\"]";
    if let Some(ranges) = section.texts("ranges", EXAMPLE) {
        for (text, span) in &ranges {
            if !text.contains("..") || Sizes::parse(text).is_err() {
                let reason = format!("`{}` is no part of an object", clipped(text));
                section.reader.error(span.clone(), reason, Some(format!("write offsets in it: {EXAMPLE}")));
            }
        }
        refuse("ranges", "the whole object");
    }
    if section.text("phase").is_some() {
        refuse("phase", "the whole run");
    }
}

/// What a rule speaks of.
type Objects = (Vec<SiteEntry>, Sizes, Option<u16>, Option<String>, Option<String>);

/// Reports a rule that sends the same objects elsewhere than an earlier one.
fn agree(section: &Section<'_>, rule: &Rule, first: &mut HashMap<Objects, (String, Range<usize>)>) {
    let objects = (rule.site.clone(), rule.sizes, rule.ordinal, rule.symbol.clone(), rule.module.clone());
    match first.get(&objects) {
        None => {
            first.insert(objects, (rule.tier.clone(), section.span.clone()));
        }
        Some((tier, span)) if *tier != rule.tier => {
            let (here, there) = (section.reader.line(section.span.start), section.reader.line(span.start));
            let what = if rule.symbol.is_some() { "global" } else { "blocks" };
            let reason = format!(
                "the rules of lines {there} and {here} send the same {what} to `{tier}` and to `{}`",
                rule.tier
            );
            section.reader.error(section.span.clone(), reason, Some("delete one of them".into()));
        }
        Some(_) => {}
    }
}
