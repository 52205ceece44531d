//! What a report looks like, as snapshots, and what it promises whatever the profile holds.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod fixture;

use std::path::Path;

use fixture::{chased, hostile, meta, report, simulated, summary, tables};
use tierscope_model::explain::notes;
use tierscope_model::summary::{SortKey, summarise};
use tierscope_report::{RenderOptions, Report, render_html, render_table, to_json};
use tierscope_traces::{SampleRow, Tables};
use unicode_width::UnicodeWidthStr;

fn options(width: usize) -> RenderOptions {
    RenderOptions { width: Some(width), ..RenderOptions::default() }
}

#[test]
fn at_80_columns() {
    let (meta, tables) = (meta(), tables());
    insta::assert_snapshot!(render_table(&report(&meta, &summary(&meta, &tables)), &options(80)));
}

#[test]
fn at_120_columns() {
    let (meta, tables) = (meta(), tables());
    insta::assert_snapshot!(render_table(&report(&meta, &summary(&meta, &tables)), &options(120)));
}

#[test]
fn simulated_at_80_and_120_columns() {
    let (meta, tables) = simulated();
    let summary = summary(&meta, &tables);
    for width in [80, 120] {
        let options = RenderOptions { sort: SortKey::natural(&meta), ..options(width) };
        insta::assert_snapshot!(format!("simulated_{width}"), render_table(&report(&meta, &summary), &options));
    }
}

#[test]
fn by_density_and_only_the_first() {
    let (meta, tables) = (meta(), tables());
    let summary = summarise(&meta, &tables, SortKey::Density);
    let options = RenderOptions { sort: SortKey::Density, top: 2, stacks: 0, ..options(80) };
    insta::assert_snapshot!(render_table(&report(&meta, &summary), &options));
}

#[test]
fn as_json() {
    let (meta, tables) = (meta(), tables());
    let json = to_json(&report(&meta, &summary(&meta, &tables)));
    insta::assert_json_snapshot!(json);
}

#[test]
fn incomplete() {
    let (mut meta, tables) = (meta(), tables());
    meta.complete = false;
    meta.losses.samples = 1234;
    meta.allocator.shim = "the program is statically linked".into();
    let warnings = ["samples.parquet/part-00003.parquet is left out: File out of specification".to_owned()];
    let summary = summary(&meta, &tables);
    let report = Report { warnings: &warnings, ..report(&meta, &summary) };
    insta::assert_snapshot!(render_table(&report, &RenderOptions { stacks: 0, ..options(80) }));
}

#[test]
fn what_was_noticed_is_told_by_its_name_of_the_objects_that_are_shown() {
    let (meta, tables) = (meta(), chased());
    let summary = summary(&meta, &tables);
    let notes = notes(&meta, &tables, &summary);
    let report = Report { notes: &notes, ..report(&meta, &summary) };
    insta::assert_snapshot!(render_table(&report, &RenderOptions { stacks: 0, ..options(80) }));
    let document = include_str!("../../../docs/lints.md");
    let json = to_json(&report);
    let lints: Vec<&serde_json::Value> =
        json["objects"].as_array().unwrap().iter().flat_map(|object| object["lints"].as_array().unwrap()).collect();
    assert!(!lints.is_empty());
    for lint in lints {
        assert!(document.contains(&format!("`{}`", lint["name"].as_str().unwrap())), "{lint}");
    }
    assert!(json["objects"][0]["why"].as_str().unwrap().contains("of the time in"));
    let none = render_table(&report, &RenderOptions { top: 0, stacks: 0, ..options(80) });
    assert!(!none.contains("noticed"), "{none}");
}

#[test]
fn no_samples() {
    let (meta, mut tables) = (meta(), tables());
    tables.samples.clear();
    insta::assert_snapshot!(render_table(&report(&meta, &summary(&meta, &tables)), &options(80)));
}

#[test]
fn everything_unattributed() {
    let meta = meta();
    let samples: Vec<SampleRow> =
        tables().samples.into_iter().map(|row| SampleRow { object: None, ..row }).take(3000).collect();
    let tables = Tables { samples, ..Tables::default() };
    insta::assert_snapshot!(render_table(&report(&meta, &summary(&meta, &tables)), &options(80)));
}

#[test]
fn hostile_names() {
    let (meta, tables) = hostile();
    insta::assert_snapshot!(render_table(&report(&meta, &summary(&meta, &tables)), &options(80)));
}

#[test]
fn no_line_is_wider_than_asked_and_no_control_character_gets_out() {
    let (meta, tables) = hostile();
    let summary = summary(&meta, &tables);
    for width in [60, 61, 79, 80, 95, 96, 115, 116, 120, 160] {
        let text = render_table(&report(&meta, &summary), &options(width));
        for line in text.lines() {
            assert!(line.width() <= width, "{} > {width}: {line}", line.width());
            assert!(!line.chars().any(char::is_control), "{line:?}");
        }
    }
}

#[test]
fn colours_change_nothing_but_colours() {
    let (meta, tables) = (meta(), tables());
    let summary = summary(&meta, &tables);
    let plain = render_table(&report(&meta, &summary), &options(80));
    let coloured = render_table(&report(&meta, &summary), &RenderOptions { color: true, ..options(80) });
    assert!(coloured.contains("\u{1b}["));
    let mut stripped = coloured;
    for code in ["\u{1b}[0m", "\u{1b}[1m", "\u{1b}[2m", "\u{1b}[33m"] {
        stripped = stripped.replace(code, "");
    }
    let trimmed = |text: &str| text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
    assert_eq!(trimmed(&stripped), trimmed(&plain));
}

#[test]
fn the_page_loads_nothing_and_escapes_everything() {
    let (meta, tables) = hostile();
    let summary = summary(&meta, &tables);
    let page = render_html(&Report { path: Path::new("a/<i>.tsp"), ..report(&meta, &summary) }, 50);
    assert!(!page.contains("<script") && !page.contains("<b>\"") && !page.contains("<i>.tsp"));
    assert!(page.contains("&lt;script&gt;") && page.contains("<title>&lt;i&gt;.tsp"));
    assert!(!page.contains("http:") && !page.contains("https:") && !page.contains("src=") && !page.contains("url("));
    assert!(!page.chars().any(|c| c.is_control() && c != '\n'));
}
