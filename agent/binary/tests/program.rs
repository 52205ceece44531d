//! What commands run, whether the shim gets in, and what is said when it does not.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use common::{compile, tool};
use tierscope_binary::{Libc, Linkage, NotLoadable, PreloadVerdict, Program, ProgramError};

fn write(folder: &Path, name: &str, content: &str, mode: u32) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, content).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    path
}

#[test]
fn a_name_is_found_in_path_and_is_loadable() {
    let program = Program::find("sh").unwrap();
    assert!(program.path.is_absolute() && program.scripts.is_empty());
    assert!(matches!(program.linkage, Linkage::Dynamic { libc: Libc::Glibc | Libc::Musl, .. }));
    assert_eq!(program.preload_verdict(), PreloadVerdict::Loadable);
}

#[test]
fn scripts_are_followed_to_what_runs() {
    let folder = tempfile::tempdir().unwrap();
    let sh = Program::find("sh").unwrap().path;
    let direct = write(folder.path(), "direct", "#!/bin/sh -e\ntrue\n", 0o755);
    let program = Program::find(&direct).unwrap();
    assert_eq!((program.command, program.scripts), (direct.clone(), vec![PathBuf::from("/bin/sh")]));
    let by_env = write(folder.path(), "by-env", "#! /usr/bin/env -S X=1 sh -e\n", 0o755);
    let program = Program::find(&by_env).unwrap();
    assert_eq!((program.path, program.scripts), (sh.clone(), vec![PathBuf::from("/usr/bin/env"), sh]));
    let nested = write(folder.path(), "nested", &format!("#!{}\n", direct.display()), 0o755);
    let program = Program::find(&nested).unwrap();
    assert_eq!(program.scripts, [direct, PathBuf::from("/bin/sh")]);
    let endless = folder.path().join("endless");
    write(folder.path(), "endless", &format!("#!{}\n", endless.display()), 0o755);
    let mut error = &Program::find(&endless).unwrap_err();
    while let ProgramError::Interpreter { source, .. } = error {
        error = source;
    }
    assert!(matches!(error, ProgramError::TooManyScripts(_)));
}

#[test]
fn static_programs_have_no_loader() {
    let folder = tempfile::tempdir().unwrap();
    for (name, flag) in [("static", "-static"), ("static-pie", "-static-pie")] {
        let Some(path) = compile(folder.path(), "globals.c", name, &[flag]) else { return };
        let program = Program::find(&path).unwrap();
        assert_eq!(program.linkage, Linkage::Static);
        let PreloadVerdict::NotLoadable(reason) = program.preload_verdict() else { panic!("{name} is loadable") };
        assert_eq!(reason, NotLoadable::Static);
        assert!(reason.to_string().contains("statically linked") && reason.advice().starts_with("Link it"));
    }
}

#[test]
fn musl_programs_are_loadable() {
    let Some(_) = tool("musl-gcc") else { return };
    let folder = tempfile::tempdir().unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/globals.c");
    let path = folder.path().join("musl");
    common::run(std::process::Command::new("musl-gcc").arg(source).arg("-o").arg(&path));
    let program = Program::find(&path).unwrap();
    assert!(matches!(program.linkage, Linkage::Dynamic { libc: Libc::Musl, .. }));
    assert_eq!(program.preload_verdict(), PreloadVerdict::Loadable);
}

#[test]
fn other_machines_are_not_loadable() {
    let folder = tempfile::tempdir().unwrap();
    let Some(path) = compile(folder.path(), "globals.c", "foreign", &["-static"]) else { return };
    let mut bytes = std::fs::read(&path).unwrap();
    // e_machine: PowerPC 64.
    bytes[18..20].copy_from_slice(&21_u16.to_le_bytes());
    std::fs::write(&path, bytes).unwrap();
    let verdict = Program::find(&path).unwrap().preload_verdict();
    let PreloadVerdict::NotLoadable(reason) = verdict else { panic!("loadable") };
    assert!(reason.to_string().starts_with("the program is for machine 21, the shim for "), "{reason}");
}

#[test]
fn each_failure_says_what_why_and_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let text = |command: &str| Program::find(command).unwrap_err().to_string().replace(&at(""), "DIR/");
    assert_eq!(text(&at("none")), "DIR/none does not exist: check the path.");
    assert_eq!(
        text("no-such-program"),
        "no program called no-such-program is in PATH: give its path, for example ./no-such-program."
    );
    assert!(text(&folder.path().display().to_string()).ends_with("is a directory: name the program in it."));
    write(folder.path(), "plain", "#!/bin/sh\n", 0o644);
    assert_eq!(text(&at("plain")), "DIR/plain is not executable: run `chmod +x DIR/plain`.");
    write(folder.path(), "text", "hello\n", 0o755);
    assert_eq!(
        text(&at("text")),
        "DIR/text is neither a program nor a script that starts with #!: run it by its interpreter."
    );
    write(folder.path(), "orphan", "#!/no/such/interpreter\n", 0o755);
    assert_eq!(
        text(&at("orphan")),
        "the interpreter of the script DIR/orphan cannot be run: /no/such/interpreter does not exist: check the path."
    );
    write(folder.path(), "cut", "\x7fELF", 0o755);
    assert!(text(&at("cut")).contains("neither a program"));
    let Some(object) = compile(folder.path(), "globals.c", "globals.o", &["-c"]) else { return };
    std::fs::set_permissions(&object, std::fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(text(&at("globals.o")), "DIR/globals.o cannot be run: it is an object file, not yet linked.");
    let Some(_) = compile(folder.path(), "globals.c", "orphan", &["-Wl,--dynamic-linker=/lib/none.so"]) else { return };
    assert!(text(&at("orphan")).contains("asks for the loader /lib/none.so, which does not exist here"));
}

#[test]
fn the_executable_of_a_process_can_be_inspected() {
    let program = Program::inspect("/proc/self/exe").unwrap();
    assert_eq!(program.preload_verdict(), PreloadVerdict::Loadable);
}
