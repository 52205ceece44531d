//! A validator of JSON against a published schema.
//!
//! It knows the keywords the schemas use and stops at any other, so a schema that grows past it fails here rather than
//! being half checked.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

use serde_json::Value;

/// The value is as the schema says.
pub(crate) fn check(root: &Value, schema: &Value, value: &Value, path: &str) {
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

/// Every field that is written is in the schema, and the outer ones in the document: nothing is published without being described.
pub(crate) fn described(root: &Value, schema: &Value, document: &str, value: &Value, path: &str) {
    let schema = match schema.get("$ref") {
        Some(pointer) => root.pointer(pointer.as_str().unwrap().trim_start_matches('#')).unwrap(),
        None => schema,
    };
    for (name, value) in value.as_object().into_iter().flatten() {
        let property = &schema["properties"][name];
        assert!(property.is_object(), "{path}.{name} is not in the schema");
        assert!(path.matches('.').count() > 1 || document.contains(&format!("`{name}`")), "{name} is not documented");
        described(root, property, document, value, &format!("{path}.{name}"));
    }
    for item in value.as_array().into_iter().flatten() {
        described(root, &schema["items"], document, item, path);
    }
}
