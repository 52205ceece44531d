//! Profiles that were damaged after they were written: everything that is left opens, and nothing ever panics.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::harness::{Outcome, Program, run, tierscope};
use crate::profile::{Report, json};

/// A small profile with every table, and room for its copies.
fn recorded() -> Program {
    let line = [env!("TIERSCOPE_WORKLOADS"), "bc", "--no-cache", "--scale", "tiny", "--iterations", "40"];
    let program = Program::new(&line);
    program.record(&["-r", "2000"]).expect(0);
    program
}

/// Every file of a profile.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            found.extend(files(&entry));
        } else {
            found.push(entry);
        }
    }
    found.sort();
    found
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(|entry| entry.unwrap()) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Reports on a damaged profile: it opens, or it is refused with status 3 and a reason; there is no third way.
#[track_caller]
fn expect_sense(profile: &Path, what: &str) -> Outcome {
    let [as_json, as_text] = [json(profile), run(tierscope().arg("report").arg(profile))];
    for outcome in [&as_json, &as_text] {
        assert!(!outcome.stderr.contains("panicked"), "{what}: {outcome:?}");
        match outcome.code {
            Some(0) => {}
            Some(3) => assert!(!outcome.stderr.trim().is_empty(), "{what}: refused without a reason"),
            _ => panic!("{what}: {outcome:?}"),
        }
    }
    as_json
}

#[test]
fn a_file_cut_short_anywhere_costs_no_more_than_its_own_rows() {
    let program = recorded();
    for file in files(&program.profile()) {
        let name = file.strip_prefix(program.profile()).unwrap().to_owned();
        let whole = fs::read(&file).unwrap();
        let length = whole.len();
        assert!(length > 16, "{} is nearly empty", name.display());
        for kept in [0, 1, 4, length / 4, length / 2, length - 9, length - 1] {
            let scratch = TempDir::new().unwrap();
            let damaged = scratch.path().join("damaged.tsp");
            copy(&program.profile(), &damaged);
            fs::write(damaged.join(&name), &whole[..kept]).unwrap();
            let what = format!("{} cut to {kept} of {length} bytes", name.display());
            let outcome = expect_sense(&damaged, &what);
            if name != Path::new("meta.json") {
                assert_eq!(outcome.code, Some(0), "{what}: {outcome:?}");
                let warnings = Report::parse(&outcome.stdout).header["warnings"].to_string();
                assert!(warnings.contains(name.to_str().unwrap()), "{what}: no warning in {warnings}");
            }
        }
    }
}

#[test]
fn a_file_that_is_gone_or_garbage_costs_no_more_than_its_own_rows() {
    let program = recorded();
    for file in files(&program.profile()) {
        let name = file.strip_prefix(program.profile()).unwrap().to_owned();
        let whole = fs::read(&file).unwrap();
        let inverted: Vec<u8> = whole.iter().map(|byte| !byte).collect();
        let mut flipped = whole.clone();
        flipped.iter_mut().step_by(97).for_each(|byte| *byte ^= 0x10);
        for (how, content) in [("gone", None), ("inverted", Some(inverted)), ("flipped", Some(flipped))] {
            let scratch = TempDir::new().unwrap();
            let damaged = scratch.path().join("damaged.tsp");
            copy(&program.profile(), &damaged);
            match content {
                Some(content) => fs::write(damaged.join(&name), content).unwrap(),
                None => fs::remove_file(damaged.join(&name)).unwrap(),
            }
            expect_sense(&damaged, &format!("{} {how}", name.display()));
        }
    }
}

/// A profile of a later version is refused as such, whatever else it holds.
#[test]
fn a_newer_schema_is_named() {
    let program = recorded();
    let path = program.profile().join("meta.json");
    let mut meta: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let newer = "tierscope.profile/999";
    meta["schema"] = newer.into();
    fs::write(&path, meta.to_string()).unwrap();
    let outcome = json(&program.profile()).expect(3);
    assert!(outcome.stderr.contains(newer), "{}", outcome.stderr);
    assert_eq!(outcome.stdout, "");
}
