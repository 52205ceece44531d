//! Policy files: what is read, what is refused and with which words.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::fmt::Write as _;

use tierscope_policy::{By, Policy};

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
        let policy = Policy::parse(&text).unwrap_or_else(|errors| panic!("{name}: {errors}"));
        let written = policy.to_toml();
        assert_eq!(Policy::parse(&written).unwrap_or_else(|errors| panic!("{name}: {errors}")), policy, "{name}");
        writeln!(shown, "======== {name}\n{written}").unwrap();
    }
    insta::assert_snapshot!(shown);
}

#[test]
fn invalid_files_are_refused_with_every_place_and_what_to_write() {
    let mut shown = String::new();
    for (name, text) in corpus("invalid") {
        let errors = Policy::parse(&text).expect_err(&name);
        assert!(!errors.errors.is_empty(), "{name}");
        let lines: Vec<usize> = errors.errors.iter().map(|error| error.line).collect();
        assert!(lines.is_sorted(), "{name}: in the order of the file");
        writeln!(shown, "======== {name}\n{errors}\n").unwrap();
    }
    insta::assert_snapshot!(shown);
}

#[test]
fn a_rule_of_ours_that_was_changed_is_the_persons() {
    let mut policy = Policy::parse(&corpus("valid")["design"]).unwrap();
    assert_eq!(policy.rules[0].by, By::Person(None));
    policy.rules[0].by = By::Tierscope;
    let written = policy.to_toml();
    assert_eq!(Policy::parse(&written).unwrap().rules[0].by, By::Tierscope);
    let reworded = written.replace("41 % of stall time", "much of the time");
    assert_eq!(Policy::parse(&reworded).unwrap().rules[0].by, By::Tierscope, "evidence is not what a rule does");
    let changed = written.replace("tier = \"fast\"", "tier = \"slow\"");
    assert!(matches!(Policy::parse(&changed).unwrap().rules[0].by, By::Person(Some(_))));
}

#[test]
fn of_very_many_mistakes_the_first_are_told_and_the_rest_counted() {
    let mut text = corpus("valid")["minimal"].clone();
    for number in 0..60 {
        writeln!(text, "[[rule]]\ntier = \"none{number}\"\nsymbol = \"u{number}\"").unwrap();
    }
    let errors = Policy::parse(&text).unwrap_err();
    assert_eq!((errors.errors.len(), errors.more), (50, 10));
    assert!(errors.to_string().ends_with("\nand 10 more"));
}
