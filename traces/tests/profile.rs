//! What is written is read back; what is under way can be read; what exists is not lost.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod support;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use support::{allocation, fill, part, profile, sample};
use tierscope_traces::{
    AllocationRow, FULL_ROWS, MarkRow, Meta, ModuleRow, Profile, ProfileWriter, SampleRow, SymbolRow, Table,
    TracesError,
};

fn place() -> (tempfile::TempDir, PathBuf) {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("app.tsp");
    (root, path)
}

fn refusal(directory: &Path, force: bool) -> TracesError {
    ProfileWriter::create(directory, force, Meta::default()).map(drop).unwrap_err()
}

#[test]
fn every_row_comes_back_as_it_was() {
    let (_root, path) = place();
    profile(&path, 1000);
    let opened = Profile::open(&path).unwrap();
    assert!(opened.meta().complete && !opened.is_being_written());
    let tables = opened.tables();
    assert_eq!(tables.samples, (0..1000).map(sample).collect::<Vec<_>>());
    assert_eq!(tables.allocations.len(), 20);
    assert_eq!(tables.sites.len(), 3);
    assert_eq!(tables.modules[0].path, "/usr/bin/größe");
    assert_eq!(tables.symbols[0].line, Some(3));
    assert_eq!(opened.frame::<SampleRow>().height(), 1000);
    assert_eq!(opened.warnings(), Vec::<String>::new());
}

#[test]
fn only_the_owner_can_read_it() {
    let (_root, path) = place();
    profile(&path, 3);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    assert_eq!(mode(&path.join("samples.parquet")), 0o700);
    assert_eq!(mode(&part(&path, Table::Samples)), 0o600);
    assert_eq!(mode(&path.join("meta.json")), 0o600);
}

#[test]
fn a_recording_under_way_can_be_read_up_to_its_last_flush() {
    let (_root, path) = place();
    let mut writer = ProfileWriter::create(&path, false, Meta::default()).unwrap();
    assert!(Profile::open(&path).unwrap().is_being_written());
    fill(&mut writer, 10);
    writer.flush().unwrap();
    fill(&mut writer, 10);
    let opened = Profile::open(&path).unwrap();
    assert!(opened.is_being_written() && !opened.meta().complete);
    assert_eq!(opened.rows::<SampleRow>().len(), 10);
    assert_eq!(opened.meta().totals.samples, 10);
    // The recorder is gone without finishing, with half a part under a hidden name.
    drop(writer);
    fs::write(path.join("samples.parquet/.part-00001.parquet.tmp"), b"PAR1 half").unwrap();
    let opened = Profile::open(&path).unwrap();
    assert!(!opened.is_being_written() && !opened.meta().complete);
    assert_eq!(opened.rows::<SampleRow>().len(), 10);
    assert_eq!(opened.warnings(), Vec::<String>::new());
}

#[test]
fn rows_written_again_replace_what_they_said_before() {
    let (_root, path) = place();
    let mut writer = ProfileWriter::create(&path, false, Meta::default()).unwrap();
    fill(&mut writer, 1);
    writer.flush().unwrap();
    writer.allocations().push(allocation(1, Some(500)));
    writer.allocations().push(allocation(0, None));
    let unloaded = ModuleRow { unloaded_ns: Some(9), ..Profile::open(&path).unwrap().rows::<ModuleRow>()[0].clone() };
    writer.modules().push(unloaded);
    writer.finish().unwrap();
    let tables = Profile::open(&path).unwrap().tables();
    let freed = |wanted: u64| -> Vec<Option<u64>> {
        let of = |row: &&AllocationRow| row.allocation == wanted;
        tables.allocations.iter().filter(of).map(|row| row.freed_ns).collect()
    };
    assert_eq!(freed(0), [Some(100)]);
    assert_eq!(freed(1), [Some(500)]);
    assert_eq!(freed(3), [None]);
    assert_eq!(tables.modules.iter().map(|row| row.unloaded_ns).collect::<Vec<_>>(), [Some(9)]);
}

#[test]
fn symbols_can_be_added_and_replaced_later() {
    let (_root, path) = place();
    profile(&path, 5);
    let symbol = |function: &str| SymbolRow {
        module: 1,
        offset: 1,
        inline_depth: 0,
        function: function.into(),
        file: None,
        line: None,
    };
    for (clear, expected) in [(false, vec!["main", "late"]), (true, vec!["late"])] {
        let mut writer = ProfileWriter::append(&path).unwrap();
        if clear {
            writer.clear(Table::Symbols).unwrap();
        }
        writer.symbols().push(symbol("late"));
        writer.finish().unwrap();
        let opened = Profile::open(&path).unwrap();
        let names: Vec<String> = opened.rows::<SymbolRow>().into_iter().map(|row| row.function).collect();
        assert_eq!(names, expected);
        assert_eq!(opened.meta().totals.symbols, expected.len() as u64);
        assert_eq!(opened.rows::<SampleRow>().len(), 5);
        assert_eq!(opened.warnings(), Vec::<String>::new());
    }
}

#[test]
fn nothing_is_replaced_unless_it_is_a_profile_and_asked_for() {
    let (root, path) = place();
    profile(&path, 5);
    assert!(matches!(refusal(&path, false), TracesError::Exists(_)));
    assert_eq!(Profile::open(&path).unwrap().rows::<SampleRow>().len(), 5);

    fs::write(path.join("notes.txt"), "mine").unwrap();
    let refused = refusal(&path, true);
    assert!(matches!(refused, TracesError::NotReplaceable { .. }) && refused.to_string().contains("notes.txt"));
    fs::remove_file(path.join("notes.txt")).unwrap();

    let foreign = root.path().join("photos");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("meta.json"), r#"{"schema":"photos/1"}"#).unwrap();
    assert!(matches!(refusal(&foreign, true), TracesError::NotReplaceable { .. }));
    let file = root.path().join("file");
    fs::write(&file, "x").unwrap();
    assert!(matches!(refusal(&file, true), TracesError::NotReplaceable { .. }));
    let link = root.path().join("link");
    symlink(&path, &link).unwrap();
    assert!(matches!(refusal(&link, true), TracesError::NotReplaceable { .. }));

    let mut writer = ProfileWriter::create(&path, true, Meta::default()).unwrap();
    assert!(matches!(refusal(&path, true), TracesError::Busy(_)));
    assert!(matches!(ProfileWriter::append(&path), Err(TracesError::Busy(_))));
    writer.marks().push(MarkRow { time_ns: 1, tid: 1, name: "new".into() });
    writer.finish().unwrap();
    assert_eq!(Profile::open(&path).unwrap().rows::<SampleRow>().len(), 0);
    let mut left: Vec<_> = fs::read_dir(root.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["app.tsp", "file", "link", "photos"]);
}

#[test]
fn what_cannot_be_written_is_kept_then_counted() {
    let (_root, path) = place();
    let mut writer = ProfileWriter::create(&path, false, Meta::default()).unwrap();
    fill(&mut writer, 10);
    // A file where the directory of the table should be.
    fs::write(path.join("samples.parquet"), "").unwrap();
    let error = writer.flush().unwrap_err();
    assert!(error.to_string().contains("samples.parquet"), "{error}");
    assert_eq!(writer.samples().len(), 10);
    assert_eq!(Profile::open(&path).unwrap().rows::<AllocationRow>().len(), 20);

    fs::remove_file(path.join("samples.parquet")).unwrap();
    writer.flush().unwrap();
    assert_eq!(Profile::open(&path).unwrap().rows::<SampleRow>().len(), 10);

    fill(&mut writer, 4);
    let waiting = 1 + 3 + 3 + 20 + 4 + 1 + 1 + 1 + 1 + 1;
    writer.discard();
    writer.finish().unwrap();
    assert_eq!(Profile::open(&path).unwrap().meta().losses.unwritten, waiting);
}

#[test]
fn memory_is_bounded_when_no_one_flushes() {
    let (_root, path) = place();
    let mut writer = ProfileWriter::create(&path, false, Meta::default()).unwrap();
    let mark = MarkRow { time_ns: 0, tid: 0, name: String::new() };
    for _ in 0..FULL_ROWS + 5 {
        writer.marks().push(mark.clone());
    }
    assert!(writer.needs_flush());
    assert_eq!(writer.marks().len(), FULL_ROWS);
    writer.discard();
    writer.flush().unwrap();
    assert_eq!(writer.meta().losses.unwritten, FULL_ROWS as u64 + 5);
}

#[test]
fn what_is_no_profile_is_said_to_be_none() {
    let root = tempfile::tempdir().unwrap();
    let open = |name: &str| Profile::open(&root.path().join(name)).unwrap_err();
    assert!(matches!(open("missing"), TracesError::Missing(_)));
    fs::write(root.path().join("file"), "x").unwrap();
    assert!(matches!(open("file"), TracesError::NotADirectory(_)));
    fs::create_dir(root.path().join("empty")).unwrap();
    assert!(matches!(open("empty"), TracesError::NotAProfile { .. }));
    for (name, text) in [
        ("other", r#"{"schema":"other/1"}"#),
        ("none", "{}"),
        ("zero", r#"{"schema":"tierscope.profile/0"}"#),
        ("list", "[]"),
    ] {
        fs::create_dir(root.path().join(name)).unwrap();
        fs::write(root.path().join(name).join("meta.json"), text).unwrap();
        assert!(matches!(open(name), TracesError::NotAProfile { .. }), "{name}");
    }
    fs::create_dir(root.path().join("newer")).unwrap();
    let newer = r#"{"schema":"tierscope.profile/12","tierscope_version":"9.1\u001b[31m","program":[1]}"#;
    fs::write(root.path().join("newer/meta.json"), newer).unwrap();
    let error = open("newer");
    assert!(matches!(error, TracesError::Newer { .. }));
    let text = error.to_string();
    assert!(text.contains("tierscope.profile/12") && text.contains("tierscope.profile/1:") && text.contains("9.1"));
    assert!(!text.contains('\u{1b}'));
}
