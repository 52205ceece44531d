//! `report --json` against its published schema.
//!
//! The validator below knows the keywords the schema uses and stops at any other, so a schema that grows past it fails
//! here rather than being half checked.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod fixture;

use fixture::{hostile, meta, report, summary, tables};
use serde_json::{Value, json};
use tierscope_report::to_json;
use tierscope_traces::{Meta, SamplerKind, Tables};

const SCHEMA: &str = include_str!("../../../docs/report.schema.json");
const DOCUMENT: &str = include_str!("../../../docs/report-json.md");

fn check(root: &Value, schema: &Value, value: &Value, path: &str) {
    for (keyword, wanted) in schema.as_object().unwrap() {
        match keyword.as_str() {
            "$schema" | "$id" | "title" | "description" | "$defs" => {}
            "$ref" => {
                let pointer = wanted.as_str().unwrap().trim_start_matches('#');
                check(root, root.pointer(pointer).unwrap(), value, path);
            }
            "type" => assert!(is_type(wanted, value), "{path}: {value} is not {wanted}"),
            "enum" => assert!(wanted.as_array().unwrap().contains(value), "{path}: {value} is not of {wanted}"),
            "required" => {
                for name in wanted.as_array().unwrap() {
                    let there = value.as_object().is_none_or(|object| object.contains_key(name.as_str().unwrap()));
                    assert!(there, "{path} lacks {name}");
                }
            }
            "properties" => {
                for (name, schema) in wanted.as_object().unwrap() {
                    if let Some(value) = value.get(name) {
                        check(root, schema, value, &format!("{path}.{name}"));
                    }
                }
            }
            "items" => {
                for (place, item) in value.as_array().into_iter().flatten().enumerate() {
                    check(root, wanted, item, &format!("{path}[{place}]"));
                }
            }
            "minItems" => {
                assert!(value.as_array().is_none_or(|v| v.len() as u64 >= wanted.as_u64().unwrap()), "{path}")
            }
            "maxItems" => {
                assert!(value.as_array().is_none_or(|v| v.len() as u64 <= wanted.as_u64().unwrap()), "{path}")
            }
            "minimum" => assert!(value.as_f64().is_none_or(|v| v >= wanted.as_f64().unwrap()), "{path}: {value}"),
            "maximum" => {
                assert!(value.as_f64().is_none_or(|v| v <= wanted.as_f64().unwrap() + 1e-9), "{path}: {value}")
            }
            other => panic!("the schema uses {other}, which this test does not know"),
        }
    }
}

fn is_type(wanted: &Value, value: &Value) -> bool {
    match wanted {
        Value::Array(any) => any.iter().any(|wanted| is_type(wanted, value)),
        Value::String(wanted) => match wanted.as_str() {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "number" => value.is_number(),
            "integer" => value.is_u64() || value.is_i64(),
            "boolean" => value.is_boolean(),
            "null" => value.is_null(),
            _ => false,
        },
        _ => false,
    }
}

/// Every field that is written is in the schema: nothing is published without being described.
fn described(root: &Value, schema: &Value, value: &Value, path: &str) {
    let schema = match schema.get("$ref") {
        Some(pointer) => root.pointer(pointer.as_str().unwrap().trim_start_matches('#')).unwrap(),
        None => schema,
    };
    for (name, value) in value.as_object().into_iter().flatten() {
        let property = &schema["properties"][name];
        assert!(property.is_object(), "{path}.{name} is not in the schema");
        assert!(path.matches('.').count() > 1 || DOCUMENT.contains(&format!("`{name}`")), "{name} is not documented");
        described(root, property, value, &format!("{path}.{name}"));
    }
    for item in value.as_array().into_iter().flatten() {
        described(root, &schema["items"], item, path);
    }
}

fn conforms(meta: &Meta, tables: &Tables) -> Value {
    let root: Value = serde_json::from_str(SCHEMA).unwrap();
    let value = to_json(&report(meta, &summary(meta, tables)));
    check(&root, &root, &value, "report");
    described(&root, &root, &value, "");
    // And so does what a script reads from the text.
    let again: Value = serde_json::from_str(&value.to_string()).unwrap();
    assert_eq!(again["objects"].as_array().unwrap().len(), value["objects"].as_array().unwrap().len());
    value
}

#[test]
fn every_profile_gives_a_report_by_the_contract() {
    conforms(&meta(), &tables());
    let (hostile_meta, hostile_tables) = hostile();
    conforms(&hostile_meta, &hostile_tables);
    conforms(&Meta::default(), &Tables::default());
    conforms(&meta(), &Tables { samples: Vec::new(), ..tables() });
    conforms(&meta(), &Tables { samples: tables().samples, ..Tables::default() });
}

#[test]
fn the_strings_of_a_site_are_as_the_contract_has_them() {
    let json = conforms(&meta(), &tables());
    let site = &json["objects"][1]["site"];
    assert_eq!(site[1], "bc+0x1b00 make_tables tables.cc:31");
    assert_eq!(site[3], "libc.so.6+0x27f10");
    assert_eq!(json["objects"][1]["user_frame"], 1);
}

#[test]
fn what_is_not_known_is_null() {
    let json = conforms(&meta(), &Tables { samples: Vec::new(), ..tables() });
    assert_eq!(json["profile"]["attributed"], json!(null));
    assert_eq!(json["objects"][0]["llc_misses"], json!(null));
    assert_eq!(json["objects"][0]["criticality"], json!(null));
    let mut simulated = meta();
    simulated.sampler.kind = SamplerKind::Sim;
    assert_eq!(conforms(&simulated, &tables())["objects"][0]["llc_misses"], json!(0));
}

#[test]
fn shares_add_up_to_one() {
    let json = conforms(&meta(), &tables());
    let sum = |rows: &str| json[rows].as_array().unwrap().iter().map(|row| row["share"].as_f64().unwrap()).sum::<f64>();
    assert!((sum("objects") + sum("unattributed") - 1.0).abs() < 1e-9);
}
