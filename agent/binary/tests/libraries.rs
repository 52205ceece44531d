//! Libraries against what the loader itself says (`ldd`).

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{run, tool};
use tierscope_binary::{Library, LoaderEnvironment, Program};

/// The files ldd names, links followed, without the loader itself and the vdso.
fn by_ldd(path: &Path, library_path: &str) -> BTreeSet<PathBuf> {
    let listing = run(Command::new("ldd").arg(path).env("LD_LIBRARY_PATH", library_path));
    let file = |line: &str| Some(PathBuf::from(line.split(" => ").nth(1)?.split(" (").next()?.trim()));
    listing.lines().filter_map(file).map(|path| path.canonicalize().unwrap()).collect()
}

fn ours(path: &Path, library_path: &str) -> BTreeSet<PathBuf> {
    let environment = LoaderEnvironment { library_path: Some(library_path.as_ref()), preload: None };
    let (found, missing) = Program::find(path).unwrap().libraries(environment);
    assert!(missing.is_empty(), "{missing:?}");
    let loader = |library: &Library| library.name.starts_with("ld-linux");
    found.into_iter().filter(|library| !loader(library)).map(|library| library.path).collect()
}

/// Builds `lib{name}.so` with a soname and a version, as packages do.
fn library(folder: &Path, name: &str, flags: &[&str]) -> Option<()> {
    let source = folder.join(format!("{name}.c"));
    std::fs::write(&source, format!("int {name}(void) {{ return 1; }}")).unwrap();
    let real = folder.join(format!("lib{name}.so.1.2"));
    let soname = format!("-Wl,-soname,lib{name}.so.1");
    run(tool("cc")?.args(["-shared", "-fPIC", &soname, "-o"]).arg(&real).arg(&source).args(flags));
    for link in [format!("lib{name}.so.1"), format!("lib{name}.so")] {
        std::os::unix::fs::symlink(&real, folder.join(link)).unwrap();
    }
    Some(())
}

#[test]
fn libraries_are_those_the_loader_takes() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    for (name, inner) in [("near", "inner"), ("far", "outer")] {
        std::fs::create_dir(folder.join(name)).unwrap();
        if library(&folder.join(name), inner, &[]).is_none() {
            return;
        }
    }
    // One that is needed by another, found by that one's own RUNPATH.
    let search = format!("-L{}", folder.join("near").display());
    library(folder, "middle", &[&search, "-Wl,--no-as-needed", "-linner", "-Wl,-rpath,$ORIGIN/near"]).unwrap();
    let main = folder.join("main.c");
    std::fs::write(&main, "int main(void) { return 0; }").unwrap();
    for tag in ["--enable-new-dtags", "--disable-new-dtags"] {
        let program = folder.join("program");
        let (here, far) = (format!("-L{}", folder.display()), format!("-L{}", folder.join("far").display()));
        let tag = format!("-Wl,{tag}");
        let flags = [&here, &far, "-Wl,--no-as-needed", "-lmiddle", "-louter", "-lm", &tag, "-Wl,-rpath,${ORIGIN}:."];
        run(tool("cc").unwrap().arg("-o").arg(&program).arg(&main).args(flags).arg("-Wl,--allow-shlib-undefined"));
        let library_path = folder.join("far");
        let (ours, theirs) =
            (ours(&program, library_path.to_str().unwrap()), by_ldd(&program, library_path.to_str().unwrap()));
        assert_eq!(ours, theirs);
        assert!(ours.iter().any(|path| path.ends_with("near/libinner.so.1.2")), "{ours:?}");
    }
    // A library that is nowhere is named.
    let environment = LoaderEnvironment::default();
    let (found, missing) = Program::find(folder.join("program")).unwrap().libraries(environment);
    assert_eq!(missing, ["libouter.so.1"]);
    let middle = found.iter().find(|library| library.name == "libmiddle.so.1").unwrap();
    assert!(middle.path.ends_with("libmiddle.so.1.2"));
}

#[test]
fn programs_of_the_system_agree_with_the_loader() {
    for name in ["bash", "python3", "git", "gdb", "curl"] {
        let Ok(program) = Program::find(name) else { continue };
        assert_eq!(ours(&program.path, ""), by_ldd(&program.path, ""), "{name}");
    }
    // At least the shell is there.
    assert!(!ours(&Program::find("sh").unwrap().path, "").is_empty());
}

#[test]
fn preloaded_libraries_are_among_them() {
    let folder = tempfile::tempdir().unwrap();
    if library(folder.path(), "early", &[]).is_none() {
        return;
    }
    let early = folder.path().join("libearly.so");
    let preload = format!("{}:/nonexistent.so", early.display());
    let environment = LoaderEnvironment { library_path: None, preload: Some(preload.as_ref()) };
    let (found, missing) = Program::find("sh").unwrap().libraries(environment);
    assert!(found.iter().any(|library| library.path == early.canonicalize().unwrap()));
    assert_eq!(missing, ["/nonexistent.so"]);
}
