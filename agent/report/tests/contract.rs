//! `report --json` against its published schema.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod fixture;
mod schema;

use fixture::{hostile, meta, report, simulated, summary, tables};
use schema::{check, described};
use serde_json::{Value, json};
use tierscope_model::explain::notes;
use tierscope_report::{Report, to_json};
use tierscope_traces::{Meta, SamplerKind, Tables};

const SCHEMA: &str = include_str!("../../../docs/report.schema.json");
const DOCUMENT: &str = include_str!("../../../docs/report-json.md");

fn conforms(meta: &Meta, tables: &Tables) -> Value {
    let root: Value = serde_json::from_str(SCHEMA).unwrap();
    let summary = summary(meta, tables);
    let notes = notes(meta, tables, &summary);
    let value = to_json(&Report { notes: &notes, ..report(meta, &summary) });
    check(&root, &root, &value, "report");
    described(&root, &root, DOCUMENT, &value, "");
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
    let (simulated_meta, simulated_tables) = simulated();
    conforms(&simulated_meta, &simulated_tables);
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
fn a_simulated_profile_has_what_was_counted_and_timed() {
    let (meta, tables) = simulated();
    let json = conforms(&meta, &tables);
    assert_eq!(json["profile"]["instructions"], json!(1_200_000_000));
    assert_eq!((&json["profile"]["slowdown"], &json["profile"]["cycles"]), (&json!(0.875), &json!(1.5e9)));
    assert_eq!(json["profile"]["outside_objects"]["loads"], json!(10_000_000));
    let object = &json["objects"][0];
    assert_eq!(object["accesses"], json!(object["loads"].as_u64().unwrap() + object["stores"].as_u64().unwrap()));
    assert!(object["criticality"].as_f64() > json["objects"][1]["criticality"].as_f64());
    assert!(object["criticality_interval"][0].as_f64() < object["criticality"].as_f64());
}

#[test]
fn shares_add_up_to_one() {
    let json = conforms(&meta(), &tables());
    let sum = |rows: &str| json[rows].as_array().unwrap().iter().map(|row| row["share"].as_f64().unwrap()).sum::<f64>();
    assert!((sum("objects") + sum("unattributed") - 1.0).abs() < 1e-9);
}
