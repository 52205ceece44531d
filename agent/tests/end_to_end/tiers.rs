//! `tierscope tiers`: what this machine has, what publications say, and files of both.

use std::path::Path;

use serde_json::Value;
use tierscope_tiers::{Backend, Quantity, Tiers};

use crate::harness::{Outcome, read, run, tierscope};

fn tiers(options: &[&str]) -> Outcome {
    run(tierscope().arg("tiers").args(options).env("COLUMNS", "80"))
}

#[test]
fn this_machine_is_shown_as_text_and_as_json() {
    let text = tiers(&[]).expect(0).stdout;
    assert!(text.contains("TIER") && text.contains("LATENCY"), "{text}");
    let value: Value = serde_json::from_str(&tiers(&["--json"]).expect(0).stdout).unwrap();
    assert_eq!(value["schema"], "tierscope.tiers/1");
    assert!(value["machine"]["nodes"].is_array() && value["failures"] == serde_json::json!([]));
    for tier in value["tiers"].as_array().unwrap() {
        assert!(text.contains(tier["name"].as_str().unwrap()), "{tier} is not in\n{text}");
    }
}

#[test]
fn presets_are_listed_printed_and_put_together() {
    let listed = tiers(&["--presets"]).expect(0).stdout;
    assert!(listed.lines().all(|line| line.chars().count() <= 80), "{listed}");
    for name in tierscope_tiers::names() {
        assert!(listed.lines().any(|line| line.starts_with(&format!("{name} "))), "{name} is not in\n{listed}");
    }
    let one = tiers(&["--preset", "optane-100x6"]).expect(0).stdout;
    assert_eq!(one, tierscope_tiers::text("optane-100x6").unwrap());
    let pair = Tiers::parse(&tiers(&["--preset", "ddr5,cxl-asic"]).expect(0).stdout).unwrap();
    assert_eq!(pair, Tiers::of_presets("ddr5,cxl-asic").unwrap());
    let outcome = tiers(&["--preset", "ddr6"]).expect(2);
    assert!(outcome.stderr.contains("did you mean"), "{}", outcome.stderr);
}

#[test]
fn a_file_is_written_once_and_replaced_when_asked() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("planned.toml").display().to_string();
    let outcome = tiers(&["--preset", "ddr5,cxl-asic", "-o", &file]).expect(0);
    assert!(outcome.stderr.contains("tierscope advise PROFILE --fast 25% --tiers"), "{}", outcome.stderr);
    let refused = tiers(&["--preset", "z-nand", "-o", &file]).expect(3);
    assert!(refused.stderr.contains("it is there already") && refused.stderr.contains("-f"), "{}", refused.stderr);
    assert_eq!(Tiers::parse(&read(Path::new(&file))).unwrap().as_slice().len(), 2);
    tiers(&["--preset", "z-nand", "-f", "-o", &file]).expect(0);
    assert_eq!(Tiers::parse(&read(Path::new(&file))).unwrap().as_slice().len(), 1);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn a_file_is_checked_and_what_of_it_is_not_here_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("mine.toml");
    let shown = file.display().to_string();
    let text = "schema = \"tierscope.tiers/1\"\n[tiers.near]\nread_latency_ns = 100\n\
                [tiers.far]\nread_latency_ns = 300\nbackend = \"numa\"\nnodes = [777]\n";
    std::fs::write(&file, text).unwrap();
    let outcome = tiers(&["--tiers", &shown]).expect(0);
    assert!(outcome.stdout.contains("far: node 777 has no memory here"), "{}", outcome.stdout);
    let value: Value = serde_json::from_str(&tiers(&["--tiers", &shown, "--json"]).expect(0).stdout).unwrap();
    assert_eq!((value["missing"][0]["tier"].as_str(), value["tiers"][0]["name"].as_str()), (Some("far"), Some("near")));
    std::fs::write(&file, text.replace("nodes = [777]", "nodes = 777")).unwrap();
    let outcome = tiers(&["--tiers", &shown]).expect(3);
    assert!(outcome.stderr.contains("line 7, column"), "{}", outcome.stderr);
    let outcome = tiers(&["--tiers", "/nonexistent/mine.toml"]).expect(3);
    assert!(outcome.stderr.contains("/nonexistent/mine.toml"), "{}", outcome.stderr);
}

#[test]
fn a_directory_is_measured_into_a_file_with_its_back_end() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().canonicalize().unwrap().display().to_string();
    let file = directory.path().join("here.toml");
    let outcome = tiers(&["--measure", "--dir", &place, "-o", &file.display().to_string()]).expect(0);
    assert!(!outcome.stderr.contains('%') || outcome.stderr.contains("--fast 25%"), "no progress without a terminal");
    let found = Tiers::parse(&read(&file)).unwrap();
    let files = found.as_slice().iter().find(|tier| tier.backend == Some(Backend::File { dir: place.clone() }));
    let files = files.unwrap_or_else(|| panic!("{place} is not in {}", found.to_toml()));
    // A disk that is full or a machine that is busy may not be measured; then it is said.
    let latency = files.figures.get(&Quantity::ReadLatencyNs);
    let measured = latency.is_some_and(|figure| figure.origin.source.as_deref() == Some("measured on this machine"));
    assert!(measured || outcome.stdout.contains(&format!("{} not measured", files.name)), "{}", outcome.stdout);
}

#[test]
fn options_that_do_not_go_together_and_places_that_are_not_there_are_refused() {
    for line in [&["--dir", "/tmp"][..], &["--measure", "--presets"], &["-f"], &["--presets", "-o", "x"]] {
        tiers(line).expect(2);
    }
    let outcome = tiers(&["--measure", "--dir", "/nonexistent"]).expect(3);
    assert!(outcome.stderr.contains("cannot measure /nonexistent: No such file"), "{}", outcome.stderr);
}
