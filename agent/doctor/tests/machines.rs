//! Judgements on machines that are not on the desk, from trees of their files.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tierscope_doctor::{
    DirectoryProbe, Errno, Machine, Probes, Report, Root, Status, Subject, TargetProbes, examine_machine,
};

const DENIED: Result<(), Errno> = Err(Errno(13));
const NOT_PERMITTED: Result<(), Errno> = Err(Errno(1));
const INVALID: Result<(), Errno> = Err(Errno(22));
const ABSENT: Result<(), Errno> = Err(Errno(2));

/// All calls succeed.
fn all_well() -> Probes {
    Probes {
        clock: Ok(()),
        clock_kernel: Ok(()),
        fault: Ok(()),
        cycles: Ok(()),
        precise: Ok(()),
        ring: Ok(()),
        read_child: Ok(()),
        userfaultfd: Ok(()),
        write_tracking: Ok(()),
        pagemap_scan: Ok(()),
        soft_dirty: true,
        process_madvise: Ok(()),
        move_pages: Ok(()),
        mbind: Ok(()),
        mapping_names: Ok(()),
        directory: DirectoryProbe::Usable("/run/user/1000".into()),
    }
}

/// Write a tree: `== /path` begins a file, its content follows.
fn plant(name: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/machines").join(name).with_extension("tree");
    for file in std::fs::read_to_string(tree).unwrap().split("== /").skip(1) {
        let (path, content) = file.split_once('\n').unwrap();
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    folder
}

fn examine_tree(name: &str, probes: Probes, subject: &Subject) -> Report {
    let folder = plant(name);
    let try_target = |pid, readable: Option<u64>| TargetProbes {
        clock: if pid == 4712 { DENIED } else { Ok(()) },
        read: if pid == 4712 { Err(Errno(1)) } else { readable.map(|_| ()).ok_or(Errno(1)) },
    };
    let report = examine_machine(&Machine { root: Root::at(folder.path()), probes, try_target }, subject);
    for check in &report.checks {
        assert!(check.title.len() <= 18, "{}", check.title);
        assert_eq!(check.status == Status::Ok, check.meaning.is_empty(), "{check:?}");
        assert!(check.meaning.is_empty() || check.meaning.ends_with('.'), "{check:?}");
        assert!(check.status != Status::Ok || check.mend.is_none(), "{check:?}");
    }
    report
}

#[test]
fn bare_metal_that_forbids_perf_to_users() {
    let probes = Probes {
        clock: DENIED,
        clock_kernel: DENIED,
        fault: DENIED,
        cycles: DENIED,
        precise: DENIED,
        ring: DENIED,
        userfaultfd: Ok(()),
        ..all_well()
    };
    let report = examine_tree("intel", probes, &Subject::Machine);
    assert_eq!(report.exit_status(), 3);
    insta::assert_snapshot!(report.render(80, false));
}

#[test]
fn amd_with_ibs_and_tight_limits() {
    let probes = Probes { precise: DENIED, ring: NOT_PERMITTED, ..all_well() };
    let report = examine_tree("amd", probes, &Subject::Machine);
    assert_eq!(report.exit_status(), 0);
    insta::assert_snapshot!(report.render(80, false));
}

#[test]
fn a_container_whose_filter_denies_perf() {
    let probes = Probes {
        clock: NOT_PERMITTED,
        clock_kernel: NOT_PERMITTED,
        fault: NOT_PERMITTED,
        cycles: NOT_PERMITTED,
        precise: NOT_PERMITTED,
        ring: NOT_PERMITTED,
        read_child: NOT_PERMITTED,
        userfaultfd: NOT_PERMITTED,
        write_tracking: NOT_PERMITTED,
        pagemap_scan: Err(Errno(25)),
        soft_dirty: false,
        process_madvise: Err(Errno(38)),
        move_pages: NOT_PERMITTED,
        mbind: NOT_PERMITTED,
        mapping_names: INVALID,
        directory: DirectoryProbe::Refused(vec![
            (PathBuf::from("/run/user/0"), "does not exist"),
            (PathBuf::from("/tmp"), "mounted noexec"),
        ]),
    };
    let report = examine_tree("docker", probes, &Subject::Machine);
    assert_eq!(report.exit_status(), 3);
    insta::assert_snapshot!(report.render(80, false));
}

#[test]
fn a_machine_with_cxl_memory() {
    let report = examine_tree("cxl", all_well(), &Subject::Machine);
    assert!(report.checks.iter().all(|check| check.status == Status::Ok));
    insta::assert_snapshot!(report.render(80, false));
    // Wide and coloured, the same words.
    let plain: String = report.render(80, false).split_whitespace().collect();
    let mut painted = report.render(200, true);
    for code in ["0", "1", "31", "32", "33", "36"] {
        painted = painted.replace(&format!("\x1b[{code}m"), "");
    }
    assert_eq!(painted.split_whitespace().collect::<String>(), plain);
}

#[test]
fn a_machine_without_proc_and_sys() {
    let folder = tempfile::tempdir().unwrap();
    let try_target = |_, _| TargetProbes { clock: ABSENT, read: ABSENT };
    let machine = Machine { root: Root::at(folder.path()), probes: all_well(), try_target };
    assert_eq!(examine_machine(&machine, &Subject::Process(1)).exit_status(), 3);
    insta::assert_snapshot!(examine_machine(&machine, &Subject::Machine).render(80, false));
}

/// The part of a report about the subject.
fn about(subject: &Subject) -> (u8, String) {
    let report = examine_tree("cxl", all_well(), subject);
    let text = report.render(80, false);
    (report.exit_status(), text.split("\n\n").take(2).collect::<Vec<_>>().join("\n\n"))
}

#[test]
fn processes_one_may_record_and_processes_one_may_not() {
    let texts = [4711, 4712, 12, 13, 14].map(|pid| {
        let (status, text) = about(&Subject::Process(pid));
        format!("exit {status}\n{text}")
    });
    insta::assert_snapshot!(texts.join("\n\n"));
}

#[test]
fn commands_that_run_and_commands_that_do_not() {
    let command = |word: &str| Subject::Command(vec![OsString::from(word)]);
    let (status, text) = about(&command("/bin/sh"));
    assert_eq!(status, 0);
    assert!(text.contains("ok       shim                can be preloaded"), "{text}");
    let (status, text) = about(&command("/no/such/program"));
    assert_eq!(status, 3);
    assert!(text.contains("It cannot be run: /no/such/program does not exist: check the path."), "{text}");
    assert_eq!(about(&Subject::Command(Vec::new())).0, 3);
}

#[test]
fn json_has_the_documented_shape() {
    let report = examine_tree("cxl", Probes { soft_dirty: false, ..all_well() }, &Subject::Machine);
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["schema"], "tierscope.doctor/1");
    assert_eq!((&json["can_record"], &json["samplers"]), (&true.into(), &serde_json::json!(["clock", "fault"])));
    let check = json["checks"].as_array().unwrap().iter().find(|check| check["id"] == "pages.dirty").unwrap();
    insta::assert_json_snapshot!(check);
    let mut ids: Vec<_> = report.checks.iter().map(|check| check.id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), report.checks.len(), "ids are unique");
}
