//! What is published about policy files: the schema and the documentation, held against the reader.
//!
//! The validator below knows the keywords the schema uses and stops at any other, so a schema that grows past it fails
//! here rather than being half checked.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

use serde_json::{Value, json};
use tierscope_policy::Policy;
use toml_edit::{Document, Item};

const SCHEMA: &str = include_str!("../../../docs/policy.schema.json");
const DOCUMENT: &str = include_str!("../../../docs/policy.md");

fn file(kind: &str, name: &str) -> String {
    std::fs::read_to_string(format!("{}/tests/corpus/{kind}/{name}.toml", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// A TOML file as JSON has it.
fn as_json(text: &str) -> Value {
    fn value(of: &toml_edit::Value) -> Value {
        match of {
            toml_edit::Value::String(text) => json!(text.value()),
            toml_edit::Value::Integer(number) => json!(number.value()),
            toml_edit::Value::Float(number) => json!(number.value()),
            toml_edit::Value::Boolean(boolean) => json!(boolean.value()),
            toml_edit::Value::Datetime(time) => json!(time.value().to_string()),
            toml_edit::Value::Array(list) => list.iter().map(value).collect(),
            toml_edit::Value::InlineTable(table) => {
                table.iter().map(|(key, inner)| (key.to_owned(), value(inner))).collect()
            }
        }
    }
    fn item(of: &Item) -> Value {
        match of {
            Item::None => Value::Null,
            Item::Value(inner) => value(inner),
            Item::Table(table) => table.iter().map(|(key, inner)| (key.to_owned(), item(inner))).collect(),
            Item::ArrayOfTables(list) => list.iter().map(|table| item(&Item::Table(table.clone()))).collect(),
        }
    }
    item(Document::parse(text).unwrap().as_item())
}

/// What of a value is against the schema, if anything.
fn against(root: &Value, schema: &Value, value: &Value, path: &str) -> Result<(), String> {
    let object = value.as_object();
    let length = value.as_array().map(|list| list.len() as u64);
    let letters = value.as_str().map(|text| text.chars().count() as u64);
    let at_least = |found: Option<u64>, wanted: &Value| found.is_none_or(|found| found >= wanted.as_u64().unwrap());
    let at_most = |found: Option<u64>, wanted: &Value| found.is_none_or(|found| found <= wanted.as_u64().unwrap());
    for (keyword, wanted) in schema.as_object().unwrap() {
        let holds = match keyword.as_str() {
            // A pattern is what the reader's own tests are about.
            "$schema" | "$id" | "$defs" | "title" | "description" | "default" | "pattern" => true,
            "$ref" => {
                let pointer = wanted.as_str().unwrap().trim_start_matches('#');
                against(root, root.pointer(pointer).unwrap(), value, path)?;
                true
            }
            "type" => match wanted.as_str().unwrap() {
                "object" => value.is_object(),
                "array" => value.is_array(),
                "string" => value.is_string(),
                "number" => value.is_number(),
                "integer" => value.is_u64() || value.is_i64(),
                "boolean" => value.is_boolean(),
                other => panic!("the schema has the type {other}, which this test does not know"),
            },
            "const" => value == wanted,
            "enum" => wanted.as_array().unwrap().contains(value),
            "anyOf" => wanted.as_array().unwrap().iter().any(|schema| against(root, schema, value, path).is_ok()),
            "required" => {
                let names = wanted.as_array().unwrap();
                names.iter().all(|name| object.is_none_or(|object| object.contains_key(name.as_str().unwrap())))
            }
            "properties" => {
                for (name, schema) in wanted.as_object().unwrap() {
                    if let Some(value) = value.get(name) {
                        against(root, schema, value, &format!("{path}.{name}"))?;
                    }
                }
                true
            }
            "additionalProperties" => {
                for (name, value) in object.into_iter().flatten() {
                    if schema["properties"].get(name).is_some() {
                        continue;
                    }
                    if wanted == &json!(false) {
                        return Err(format!("{path}.{name} is not in the schema"));
                    }
                    against(root, wanted, value, &format!("{path}.{name}"))?;
                }
                true
            }
            "items" => {
                for (place, item) in value.as_array().into_iter().flatten().enumerate() {
                    against(root, wanted, item, &format!("{path}[{place}]"))?;
                }
                true
            }
            "minItems" => at_least(length, wanted),
            "maxItems" => at_most(length, wanted),
            "minLength" => at_least(letters, wanted),
            "maxLength" => at_most(letters, wanted),
            "maxProperties" => at_most(object.map(|object| object.len() as u64), wanted),
            "minimum" => value.as_f64().is_none_or(|value| value >= wanted.as_f64().unwrap()),
            "maximum" => value.as_f64().is_none_or(|value| value <= wanted.as_f64().unwrap()),
            other => panic!("the schema uses {other}, which this test does not know"),
        };
        if !holds {
            return Err(format!("{path}: {value} is against {keyword}: {wanted}"));
        }
    }
    Ok(())
}

fn by_the_schema(text: &str) -> Result<(), String> {
    let root: Value = serde_json::from_str(SCHEMA).unwrap();
    against(&root, &root, &as_json(text), "policy")
}

#[test]
fn what_is_read_and_what_is_written_is_by_the_schema() {
    for name in ["minimal", "design", "everything", "rules_in_one_list"] {
        let text = file("valid", name);
        by_the_schema(&text).unwrap_or_else(|why| panic!("{name}: {why}"));
        let written = Policy::parse(&text).unwrap().to_toml();
        by_the_schema(&written).unwrap_or_else(|why| panic!("{name}: {why}"));
    }
}

#[test]
fn the_schema_refuses_what_has_the_wrong_shape() {
    for name in [
        "backends",
        "empty",
        "kinds_of_rule",
        "newer_version",
        "no_default",
        "no_tiers",
        "nodes",
        "not_carried_out",
        "origin",
        "program",
        "rule_is_a_list_of_texts",
        "rule_is_one_table",
        "schema_is_a_number",
        "sites",
        "sizes_and_ordinals",
        "tables_that_are_none",
        "unknown_key_in_each_table",
        "unknown_keys",
    ] {
        assert!(by_the_schema(&file("invalid", name)).is_err(), "{name}");
    }
}

/// The keys of every table of a schema.
fn keys(schema: &Value, found: &mut Vec<String>) {
    found.extend(schema["properties"].as_object().into_iter().flatten().map(|(name, _)| name.clone()));
    for inner in schema.as_object().into_iter().flatten().map(|(_, inner)| inner) {
        keys(inner, found);
    }
    for inner in schema.as_array().into_iter().flatten() {
        keys(inner, found);
    }
}

#[test]
fn every_key_is_documented() {
    let mut found = Vec::new();
    keys(&serde_json::from_str(SCHEMA).unwrap(), &mut found);
    assert!(found.len() > 30);
    for key in found {
        let forms =
            [format!("`{key}`"), format!("`{key} ="), format!("[{key}]"), format!("[{key}."), format!(".{key}]")];
        assert!(forms.iter().any(|form| DOCUMENT.contains(form)), "{key} is not documented");
    }
}

#[test]
fn the_example_is_a_policy() {
    let example = DOCUMENT.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let policy = Policy::parse(example).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!((policy.tiers.len(), policy.rules.len()), (2, 3));
    by_the_schema(example).unwrap();
}
