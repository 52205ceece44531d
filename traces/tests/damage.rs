//! Every kind of damage a file can have, and no panic: truncation at any byte, flipped bits, foreign content.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod support;

use std::fs;
use std::path::PathBuf;

use support::{part, profile};
use tierscope_traces::{MarkRow, Profile, SampleRow, Table, TracesError};

const SAMPLES: u64 = 40;

fn place() -> (tempfile::TempDir, PathBuf) {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("app.tsp");
    profile(&path, SAMPLES);
    (root, path)
}

#[test]
fn a_part_truncated_at_any_byte_costs_its_own_rows_and_is_named() {
    let (_root, path) = place();
    let file = part(&path, Table::Samples);
    let whole = fs::read(&file).unwrap();
    for length in 0..whole.len() {
        fs::write(&file, &whole[..length]).unwrap();
        let opened = Profile::open(&path).unwrap();
        assert_eq!(opened.rows::<SampleRow>(), [], "cut to {length}");
        let warnings = opened.warnings();
        assert!(warnings.iter().any(|text| text.contains("samples.parquet/part-00000-")), "{warnings:?}");
    }
    assert_eq!(Profile::open(&path).unwrap().tables().allocations.len(), 20);
}

#[test]
fn meta_truncated_at_any_byte_is_an_error() {
    let (_root, path) = place();
    let file = path.join("meta.json");
    let whole = fs::read(&file).unwrap();
    // The last byte is a newline, which JSON can do without.
    for length in 0..whole.len() - 1 {
        fs::write(&file, &whole[..length]).unwrap();
        assert!(matches!(Profile::open(&path), Err(TracesError::Damaged { .. })), "cut to {length}");
    }
}

#[test]
fn a_flipped_bit_anywhere_is_noticed() {
    let (_root, path) = place();
    let file = part(&path, Table::Samples);
    let whole = fs::read(&file).unwrap();
    for byte in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[byte] ^= 1 << (byte % 8);
        fs::write(&file, &flipped).unwrap();
        let opened = Profile::open(&path).unwrap();
        assert_eq!(opened.rows::<SampleRow>(), []);
        assert!(opened.warnings().iter().any(|text| text.contains("it is damaged")), "byte {byte}");
    }
    let file = path.join("meta.json");
    let whole = fs::read(&file).unwrap();
    for byte in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[byte] ^= 1 << (byte % 8);
        fs::write(&file, &flipped).unwrap();
        // A digit that became another is a valid file; anything else is an error. Neither panics.
        let _ = Profile::open(&path);
    }
}

#[test]
fn a_part_without_a_checksum_is_read_and_its_panics_are_held() {
    let (_root, path) = place();
    let file = part(&path, Table::Marks);
    let whole = fs::read(&file).unwrap();
    let foreign = file.with_file_name("part-00000.parquet");
    fs::rename(&file, &foreign).unwrap();
    assert_eq!(Profile::open(&path).unwrap().rows::<MarkRow>().len(), 1);
    for length in 0..whole.len() {
        fs::write(&foreign, &whole[..length]).unwrap();
        let opened = Profile::open(&path).unwrap();
        assert_eq!(opened.rows::<MarkRow>(), [], "cut to {length}");
        assert!(!opened.warnings().is_empty());
    }
}

#[test]
fn a_part_that_vanished_is_noticed() {
    let (_root, path) = place();
    fs::remove_file(part(&path, Table::Samples)).unwrap();
    let opened = Profile::open(&path).unwrap();
    assert_eq!(opened.rows::<SampleRow>().len(), 0);
    assert!(opened.warnings()[0].contains("0 of 40 samples"), "{:?}", opened.warnings());
}

#[test]
fn a_part_of_another_table_is_refused_by_the_column_it_lacks() {
    let (_root, path) = place();
    let samples = part(&path, Table::Samples);
    fs::copy(part(&path, Table::Marks), samples.with_file_name("part-00000.parquet")).unwrap();
    fs::remove_file(samples).unwrap();
    let opened = Profile::open(&path).unwrap();
    assert_eq!(opened.rows::<SampleRow>().len(), 0);
    assert!(opened.warnings().iter().any(|text| text.contains("column ip is missing")), "{:?}", opened.warnings());
}
