//! Bringing a new advice into a policy file that a person has edited.
//!
//! What is whose: a rule whose mark fits (see [`crate::By`]) is ours, and is replaced, refreshed or removed; every other
//! rule is the person's and stays as it is, to the letter. Where both speak of the same objects, the person's holds.
//! `[program]`, `[origin]`, `[default]` and the tiers that the new policy names say what the new policy says, but for
//! `match`, which the file decides; tiers it does not name stay. A value that already says the same is not rewritten.
//! Comments stay with what they are about; those above a rule that goes move down to what comes next.
//!
//! Order decides which rule matches first. Ours are brought into the order of the new policy, and a person's rule stays
//! behind the rule of ours it stood behind, or at the top. Doing all this twice changes nothing more.

use std::collections::BTreeSet;

use tierscope_tiers::bytes_of;
use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, TableLike, Value};

use crate::error::PolicyErrors;
use crate::parts::Sizes;
use crate::policy::{By, Policy, Program};
use crate::read::document;
use crate::write::remark;

/// A file with a new advice in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Updated {
    /// The file's new text.
    pub text: String,
    /// Numbers, in the new text and from 1, of a person's rules whose addresses are of another build of a module than the
    /// file now says. They match nothing, or something else, until their `site` is written anew.
    pub stale: Vec<u32>,
}

/// Brings `new` into the text of an existing file.
///
/// # Errors
///
/// What is wrong with the existing text; also what would be wrong with the result, such as more tiers than there may be.
pub fn update(existing: &str, new: &Policy) -> Result<Updated, PolicyErrors> {
    let old = Policy::parse(existing)?;
    let fresh = new.to_toml();
    let mut file = document(existing)?.into_mut();
    let mut fresh = document(&fresh)?.into_mut();
    let kept: Vec<&crate::Rule> = old.rules.iter().filter(|rule| rule.by != By::Tierscope).collect();
    let mentioned: BTreeSet<&str> = kept
        .iter()
        .flat_map(|rule| rule.site.iter().map(|entry| entry.module.as_str()).chain(rule.module.as_deref()))
        .collect();

    section(&mut file, &mut fresh, "program", &["match", "modules"]);
    if let (Some(into), Some(from)) = (table(&mut file, "program"), table(&mut fresh, "program")) {
        match (into.get_mut("modules").and_then(Item::as_table_like_mut), from.get("modules")) {
            (Some(into), from) => {
                let none = Table::new();
                let from = from.and_then(Item::as_table_like).unwrap_or(&none);
                merge(into, from, |module| mentioned.contains(module) && !from.contains_key(module));
            }
            (None, Some(Item::Table(modules))) => {
                let mut modules = modules.clone();
                modules.set_position(None);
                into.insert("modules", Item::Table(modules));
            }
            _ => {}
        }
    }
    section(&mut file, &mut fresh, "origin", &[]);
    section(&mut file, &mut fresh, "default", &[]);
    tiers(&mut file, &mut fresh);
    rules(&mut file, fresh, &old, new);

    let text = file.to_string();
    let result = Policy::parse(&text)?;
    Ok(Updated { stale: stale(&result, &old.program), text })
}

fn table<'a>(document: &'a mut DocumentMut, key: &str) -> Option<&'a mut dyn TableLike> {
    document.get_mut(key).and_then(Item::as_table_like_mut)
}

/// A top-level table becomes what the new one is, but for the keys in `keep`.
fn section(file: &mut DocumentMut, fresh: &mut DocumentMut, key: &str, keep: &[&str]) {
    match (table(file, key), table(fresh, key)) {
        (Some(into), Some(from)) => merge(into, from, |key| keep.contains(&key)),
        (None, Some(_)) => {
            if let Some(mut item) = fresh.remove(key) {
                place(&mut item, Some(0));
                file.insert(key, item);
            }
        }
        (Some(into), None) => {
            merge(into, &Table::new(), |key| keep.contains(&key));
        }
        (None, None) => {}
    }
}

/// Where a table and those inside it are written.
fn place(item: &mut Item, position: Option<isize>) {
    let Some(table) = item.as_table_mut() else { return };
    table.set_position(position);
    for (_, inner) in table.iter_mut() {
        place(inner, position);
    }
}

/// Makes the values of a table what another's are, but for those it has and that `keep` names.
fn merge(into: &mut dyn TableLike, from: &dyn TableLike, keep: impl Fn(&str) -> bool) {
    let gone: Vec<String> =
        into.iter().map(|(key, _)| key.to_owned()).filter(|key| !from.contains_key(key) && !keep(key)).collect();
    for key in gone {
        into.remove(&key);
    }
    for (key, item) in from.iter() {
        let Some(new) = item.as_value() else { continue };
        match into.get_mut(key) {
            Some(Item::Value(old)) if keep(key) || says_the_same(key, old, new) => {}
            Some(Item::Value(old)) => {
                let suffix = old.decor().suffix().and_then(|suffix| suffix.as_str()).unwrap_or_default();
                let ours = remark(key, old).map(|remark| format!("# {remark}"));
                let generated = suffix.trim().is_empty() || ours.as_deref() == Some(suffix.trim());
                let mut value = new.clone();
                let prefix = old.decor().prefix().cloned();
                let suffix = if generated { new.decor().suffix() } else { old.decor().suffix() }.cloned();
                if let Some(prefix) = prefix {
                    value.decor_mut().set_prefix(prefix);
                }
                if let Some(suffix) = suffix {
                    value.decor_mut().set_suffix(suffix);
                }
                *old = value;
            }
            _ => {
                into.insert(key, item.clone());
            }
        }
    }
}

/// Whether two values of a key mean the same, however they are written.
fn says_the_same(key: &str, a: &Value, b: &Value) -> bool {
    let bytes = |value: &Value| match value.as_str() {
        Some(text) => bytes_of(text),
        None => value.as_integer().and_then(|number| u64::try_from(number).ok()),
    };
    match (key, a, b) {
        ("bytes" | "fast" | "capacity", a, b) => bytes(a).is_some() && bytes(a) == bytes(b),
        ("size", Value::String(a), Value::String(b)) => Sizes::parse(a.value()) == Sizes::parse(b.value()),
        ("build_id", Value::String(a), Value::String(b)) => a.value().eq_ignore_ascii_case(b.value()),
        (_, Value::String(a), Value::String(b)) => a.value() == b.value(),
        (_, Value::Integer(a), Value::Integer(b)) => a.value() == b.value(),
        (_, Value::Float(a), Value::Float(b)) => a.value() == b.value(),
        (_, Value::Boolean(a), Value::Boolean(b)) => a.value() == b.value(),
        (key, Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| says_the_same(key, a, b))
        }
        _ => false,
    }
}

fn tiers(file: &mut DocumentMut, fresh: &mut DocumentMut) {
    let Some(into) = table(file, "tiers") else { return };
    let last = into.iter().filter_map(|(_, item)| item.as_table()?.position()).max();
    for (name, item) in table(fresh, "tiers").into_iter().flat_map(|from| from.iter()) {
        match (into.get_mut(name).and_then(Item::as_table_like_mut), item.as_table_like()) {
            (Some(into), Some(from)) => merge(into, from, |_| false),
            _ => {
                let mut item = item.clone();
                place(&mut item, last);
                into.insert(name, item);
            }
        }
    }
}

/// The rules of the file, as tables.
fn take_rules(file: &mut DocumentMut) -> Vec<Table> {
    let tables = file.remove("rule").and_then(|item| item.into_array_of_tables().ok());
    tables.into_iter().flatten().collect()
}

/// Puts a person's comments in front of a table.
fn prepend(table: &mut Table, comments: &str) {
    let own = table.decor().prefix().and_then(|prefix| prefix.as_str()).unwrap_or_default();
    let prefix = format!("{comments}{own}");
    table.decor_mut().set_prefix(prefix);
}

/// The comments above a table, with the line feeds around them; empty where there are none.
fn comments(table: &Table) -> String {
    let prefix = table.decor().prefix().and_then(|prefix| prefix.as_str()).unwrap_or_default();
    if prefix.contains('#') { prefix.to_owned() } else { String::new() }
}

fn rules(file: &mut DocumentMut, mut fresh: DocumentMut, old: &Policy, new: &Policy) {
    let mut before: Vec<Option<Table>> = take_rules(file).into_iter().map(Some).collect();
    let position = before.iter().flatten().find_map(Table::position).or_else(|| {
        let inner = file.iter().flat_map(|(_, item)| item.as_table_like().into_iter().flat_map(|table| table.iter()));
        let all = file.iter().map(|(_, item)| item).chain(inner.map(|(_, item)| item));
        all.filter_map(|item| item.as_table()?.position()).max()
    });
    let is_ours = |index: usize| old.rules.get(index).is_some_and(|rule| rule.by == By::Tierscope);

    // Which old rule of ours each new one goes on with; a person's rule for the same objects leaves the new one out.
    let mut taken = vec![false; before.len()];
    let mut planned: Vec<(usize, Option<usize>)> = Vec::new();
    for (index, rule) in new.rules.iter().enumerate() {
        let same = |(at, other): &(usize, &crate::Rule)| other.same_objects(rule) && taken.get(*at) == Some(&false);
        let mut matching = old.rules.iter().enumerate().filter(same).map(|(at, _)| at);
        if old.rules.iter().any(|other| other.by != By::Tierscope && other.same_objects(rule)) {
            continue;
        }
        let at = matching.find(|at| is_ours(*at));
        if let Some(slot) = at.and_then(|at| taken.get_mut(at)) {
            *slot = true;
        }
        planned.push((index, at));
    }

    // Comments above rules that go move to the next that stays, in the order of the file.
    let mut moved = String::new();
    let mut anchor = None;
    let mut persons: Vec<(Option<usize>, Table)> = Vec::new();
    for (index, slot) in before.iter_mut().enumerate() {
        let goes_on = taken.get(index) == Some(&true);
        if is_ours(index) && !goes_on {
            moved.push_str(&slot.take().map(|table| comments(&table)).unwrap_or_default());
            continue;
        }
        if let Some(table) = slot.as_mut().filter(|_| !moved.is_empty()) {
            prepend(table, &std::mem::take(&mut moved));
        }
        if goes_on {
            anchor = Some(index);
        } else if let Some(table) = slot.take() {
            persons.push((anchor, table));
        }
    }

    let mut made: Vec<Option<Table>> = take_rules(&mut fresh).into_iter().map(Some).collect();
    let mut after = ArrayOfTables::new();
    let persons_behind = |anchor: Option<usize>, after: &mut ArrayOfTables| {
        for (_, table) in persons.iter().filter(|(at, _)| *at == anchor) {
            after.push(table.clone());
        }
    };
    persons_behind(None, &mut after);
    for (index, at) in planned {
        let Some(mut table) = made.get_mut(index).and_then(Option::take) else { continue };
        if let Some(mut own) = at.and_then(|at| before.get_mut(at)).and_then(Option::take) {
            merge(&mut own, &table, |_| false);
            table = own;
        }
        after.push(table);
        if at.is_some() {
            persons_behind(at, &mut after);
        }
    }
    for table in after.iter_mut() {
        table.set_position(position);
    }
    if !moved.is_empty() {
        let trailing = file.trailing().as_str().unwrap_or_default().to_owned();
        file.set_trailing(format!("{moved}{trailing}"));
    }
    if !after.is_empty() {
        file.insert("rule", Item::ArrayOfTables(after));
    }
}

/// Rules of a person that speak of modules whose build-id has changed.
fn stale(result: &Policy, old: &Program) -> Vec<u32> {
    let changed = |module: &str| {
        old.build_id_of(module).is_some_and(|id| result.program.build_id_of(module).is_some_and(|now| now != id))
    };
    let numbered = (1_u32..).zip(&result.rules);
    numbered
        .filter(|(_, rule)| rule.by != By::Tierscope && rule.site.iter().any(|entry| changed(&entry.module)))
        .map(|(number, _)| number)
        .collect()
}
