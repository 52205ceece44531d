//! Tier files: what is read, what is refused and with which words, and that nothing is lost in writing.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::fmt::Write as _;

use proptest::prelude::*;
use tierscope_tiers::{Amplification, Backend, Figure, Origin, Quantity, Tier, Tiers, TiersError};

fn corpus(kind: &str) -> BTreeMap<String, String> {
    let folder = format!("{}/tests/corpus/{kind}", env!("CARGO_MANIFEST_DIR"));
    let files: BTreeMap<String, String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            (path.file_stem().unwrap().to_string_lossy().into_owned(), std::fs::read_to_string(&path).unwrap())
        })
        .collect();
    assert!(!files.is_empty());
    files
}

#[test]
fn valid_files_are_read_and_written_again_to_the_same() {
    let mut shown = String::new();
    for (name, text) in corpus("valid") {
        let tiers = Tiers::parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let written = tiers.to_toml();
        assert_eq!(Tiers::parse(&written).unwrap(), tiers, "{name}");
        writeln!(shown, "# {name}\n{written}").unwrap();
    }
    insta::assert_snapshot!(shown);
}

#[test]
fn invalid_files_are_refused_with_the_place_and_what_to_write() {
    let mut shown = String::new();
    for (name, text) in corpus("invalid") {
        let error = Tiers::parse(&text).expect_err(&name);
        assert!(matches!(error, TiersError::File { .. }), "{name}");
        writeln!(shown, "{name}: {error}").unwrap();
    }
    insta::assert_snapshot!(shown);
}

#[test]
fn tiers_keep_the_order_of_the_file() {
    let text = "schema = \"tierscope.tiers/1\"\n[tiers.z]\n[tiers.a]\n[tiers.m]\n";
    let tiers = Tiers::parse(text).unwrap();
    assert_eq!(tiers.as_slice().iter().map(|tier| tier.name.as_str()).collect::<Vec<_>>(), ["z", "a", "m"]);
}

#[test]
fn every_preset_is_the_tier_of_its_name_and_survives_writing() {
    for name in tierscope_tiers::names() {
        let parsed =
            Tiers::parse(tierscope_tiers::text(name).unwrap()).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(parsed.as_slice().len(), 1, "{name}");
        assert_eq!(parsed.as_slice()[0].name, name);
        assert_eq!(Tiers::parse(&parsed.to_toml()).unwrap(), parsed, "{name}");
        let tier = tierscope_tiers::preset(name).unwrap();
        assert_eq!(tier, parsed.as_slice()[0]);
        for (quantity, figure) in &tier.figures {
            assert!(figure.origin.source.is_some(), "{name}: {} has no source", quantity.key());
        }
    }
}

#[test]
fn a_list_of_presets_is_a_set_and_a_wrong_one_says_what_there_is() {
    let set = Tiers::of_presets("ddr4, optane-100x6").unwrap();
    assert_eq!(set.get("optane-100x6").unwrap().value(Quantity::ReadLatencyNs), Some(305.0));
    assert_eq!(set.as_slice()[0].value(Quantity::ReadLatencyNs), Some(101.0));
    let messages = ["ddr4,optane-100x", "ddr4,,ddr5", "ddr4,ddr4", "", "tape"];
    let messages = messages.map(|list| format!("{list:?}: {}", Tiers::of_presets(list).unwrap_err()));
    insta::assert_snapshot!(messages.join("\n"));
}

#[test]
fn the_documentation_has_every_key_and_its_example_is_valid() {
    let text = include_str!("../../../docs/tiers.md");
    for quantity in Quantity::ALL {
        assert!(text.contains(&format!("`{}`", quantity.key())), "{} is not documented", quantity.key());
    }
    for name in tierscope_tiers::names() {
        assert!(text.contains(&format!("`{name}`")), "preset {name} is not documented");
    }
    let example = text.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    assert_eq!(Tiers::parse(example).unwrap().as_slice().len(), 3);
}

fn words() -> impl Strategy<Value = Option<String>> {
    proptest::option::of("[ -~é\n\t\"'\\\\]{0,20}[a-z]")
}

fn origins() -> impl Strategy<Value = Origin> {
    let date = proptest::option::of((1990_u32..2100, 1_u32..13).prop_map(|(year, month)| format!("{year}-{month:02}")));
    (words(), date).prop_map(|(source, date)| Origin { source, date })
}

fn figures(least: f64, most: f64, whole: bool) -> impl Strategy<Value = Figure> {
    (least..most, 0.0..0.5_f64, any::<bool>(), origins(), words()).prop_map(
        move |(value, part, ranged, origin, note)| {
            let round = |value: f64| if whole { value.round() } else { value };
            let (value, low, high) =
                (round(value), round(value * (1.0 - part)).max(least), round(value * (1.0 + part)).min(most));
            Figure { value, range: ranged.then_some((low.min(value), high.max(value))), origin, note }
        },
    )
}

fn a_tier() -> impl Strategy<Value = Tier> {
    let nodes =
        || proptest::collection::btree_set(0_u16..1024, 2..5).prop_map(|set| set.into_iter().collect::<Vec<_>>());
    let backend = prop_oneof![
        (nodes(), any::<bool>()).prop_map(|(nodes, strict)| Backend::Numa { nodes, strict }),
        nodes().prop_map(|nodes| Backend::Interleave { weights: vec![7; nodes.len()], nodes }),
        nodes().prop_map(|nodes| Backend::Interleave { weights: Vec::new(), nodes }),
        "/[ -~é]{0,20}".prop_map(|dir| Backend::File { dir }),
        "/dev/dax[0-9]".prop_map(|device| Backend::Dax { device }),
        Just(Backend::Swap),
    ];
    let some = |least, most, whole| proptest::option::of(figures(least, most, whole));
    (
        "[a-z0-9][a-z0-9._-]{0,8}",
        words(),
        (some(1.0, 1e6, false), some(1e-3, 1e3, false), some(4096.0, 1e15, true), some(0.0, 10.0, false)),
        proptest::collection::btree_map(1_u64..4096, figures(1.0, 100.0, false), 0..3),
        proptest::option::of(backend),
    )
        .prop_map(|(name, description, (latency, bandwidth, capacity, cost), amplified, backend)| {
            let mut tier = Tier { description, backend, ..Tier::named(name) };
            let keys =
                [Quantity::ReadLatencyNs, Quantity::ReadBandwidthGbs, Quantity::Capacity, Quantity::CostUsdPerGb];
            for (quantity, figure) in keys.into_iter().zip([latency, bandwidth, capacity, cost]) {
                if let Some(figure) = figure {
                    tier.set(quantity, figure);
                }
            }
            tier.write_amplification =
                amplified.into_iter().map(|(bytes, ratio)| Amplification { bytes, ratio }).collect();
            tier
        })
}

/// A text that is nearly a tier file: its pieces in any order.
fn nearly() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("schema = \"tierscope.tiers/1\"\n".to_owned()),
        Just("[tiers.a]\n".to_owned()),
        Just("[tiers.\"b.c\"]\n".to_owned()),
        "(backend|nodes|dir|capacity|read_latency_ns|granule_bytes|write_amplification|date|strict|weights) = "
            .prop_map(|key| key),
        "(\\[[0-9, ]{0,8}\\]|\"[a-z/ 0-9]{0,8}\"|-?[0-9]{1,20}|0x[0-9a-f]{1,20}|nan|inf|true|2020-01-01)\n",
        "\\[?\\{ ?(value|bytes|low|high|source) = [0-9\"]{1,5} ?\\}\\]?\n",
        "[ -~\n]{0,6}",
    ];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in prop_oneof![any::<String>(), nearly()]) {
        if let Ok(tiers) = Tiers::parse(&text) {
            prop_assert_eq!(Tiers::parse(&tiers.to_toml()), Ok(tiers));
        }
        let _ = Tiers::of_presets(&text);
        let _ = tierscope_tiers::bytes_of(&text);
    }

    #[test]
    fn what_is_written_reads_back_to_the_same(list in proptest::collection::vec(a_tier(), 1..4)) {
        let mut names = std::collections::BTreeSet::new();
        let tiers = Tiers::new(list.into_iter().filter(|tier| names.insert(tier.name.clone())).collect());
        let text = tiers.to_toml();
        match Tiers::parse(&text) {
            Ok(read) => prop_assert_eq!(read, tiers, "{}", text),
            Err(error) => prop_assert!(false, "{}\n{}", error, text),
        }
    }
}
