//! What is documented in tables is what there is, in the same order.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

use std::path::Path;

use tierscope_model::explain::LintKind;
use tierscope_rank::FEATURES;

/// The rows of the table of a page, cell by cell, of rows that begin with a name in code.
fn rows(page: &str) -> Vec<Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(page);
    let text = std::fs::read_to_string(&path).unwrap();
    let cells = |line: &str| line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect();
    text.lines().filter(|line| line.starts_with("| `")).map(cells).collect()
}

#[test]
fn every_feature_is_documented_as_it_is() {
    let rows = rows("features.md");
    assert_eq!(rows.len(), FEATURES.len());
    for (row, feature) in rows.iter().zip(&FEATURES) {
        let samplers: Vec<&str> = feature.families.iter().map(|family| family.as_str()).collect();
        let expected =
            [format!("`{}`", feature.text), feature.unit.to_owned(), samplers.join(", "), feature.what.to_owned()];
        assert_eq!([&row[0], &row[1], &row[3], &row[4]], expected.each_ref(), "docs/features.md");
        assert!(row.len() == 6 && !row[2].is_empty() && row[5].ends_with('.'), "{row:?}");
    }
}

#[test]
fn every_lint_is_documented_as_it_is() {
    let rows = rows("lints.md");
    assert_eq!(rows.len(), LintKind::ALL.len());
    for (row, kind) in rows.iter().zip(LintKind::ALL) {
        let expected =
            [format!("`{}`", kind.id()), kind.meaning().to_owned(), kind.threshold(), kind.reason().to_owned()];
        assert_eq!(row[..4], expected, "docs/lints.md");
        assert!(row.len() == 5 && row[4].ends_with('.'), "{row:?}");
    }
}
