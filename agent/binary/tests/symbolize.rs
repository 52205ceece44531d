//! Names of addresses, with the file in place, moved, stripped and replaced.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{address_of, compile, run};
use tierscope_binary::{AddressKind, DebugDirs, Module, ModuleRef, Origin, SymbolFrame, Symbolizer};

fn symbolize(symbolizer: &mut Symbolizer, path: &Path, addresses: &[u64]) -> Vec<Vec<SymbolFrame>> {
    symbolizer.symbolize(ModuleRef { path, build_id: None }, addresses, AddressKind::Instruction)
}

/// A program whose `outer` has two levels of inlined code, and the address of `outer`.
fn inlined(folder: &Path, flags: &[&str]) -> Option<(PathBuf, u64)> {
    let path = compile(folder, "inlined.cc", "inlined", &[&["-O2", "-g"], flags].concat())?;
    let outer = address_of(&path, "gapbs::Graph<int>::outer(long) const");
    Some((path, outer))
}

fn functions(frames: &[SymbolFrame]) -> Vec<&str> {
    frames.iter().map(|frame| frame.function.as_str()).collect()
}

#[test]
fn inlined_frames_come_innermost_first_with_their_lines() {
    let folder = tempfile::tempdir().unwrap();
    let Some((path, outer)) = inlined(folder.path(), &[]) else { return };
    let bounds = Module::open(&path).unwrap().function(outer).unwrap();
    let addresses: Vec<u64> = bounds.collect();
    let all = symbolize(&mut Symbolizer::default(), &path, &addresses);
    let deepest = all.iter().max_by_key(|frames| frames.len()).unwrap();
    let names = functions(deepest);
    let inner = names.iter().position(|name| name.contains("innermost")).unwrap();
    let middle = names.iter().position(|name| name.contains("middle")).unwrap();
    assert!(inner < middle && names.last().unwrap().starts_with("gapbs::Graph<int>::outer"), "{names:?}");
    for frame in &deepest[inner..] {
        assert!(frame.file.as_deref().is_some_and(|file| file.ends_with("inlined.cc") || file.contains("/c++/")));
        assert!(frame.line.is_some());
    }
    assert_eq!(deepest[middle].line, Some(14), "the line in middle() that calls innermost()");
    assert_eq!(deepest.last().unwrap().line, Some(15), "the line in outer() that calls middle()");
}

#[test]
fn a_return_address_belongs_to_the_call_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let Some((path, outer)) = inlined(folder.path(), &[]) else { return };
    let end = Module::open(&path).unwrap().function(outer).unwrap().end;
    let module = ModuleRef { path: &path, build_id: None };
    let frames = Symbolizer::default().symbolize(module, &[end], AddressKind::Return);
    assert!(frames[0].last().unwrap().function.contains("outer"), "{frames:?}");
}

#[test]
fn rust_names_have_no_hash() {
    let folder = tempfile::tempdir().unwrap();
    let Some(path) = compile(folder.path(), "names.rs", "names", &["-O", "-g"]) else { return };
    let address = address_of(&path, "::total");
    let frames = symbolize(&mut Symbolizer::default(), &path, &[address + 4]);
    let outer = frames[0].last().unwrap();
    assert!(outer.function.contains("Pool<") && outer.function.ends_with("::total"), "{outer:?}");
    assert!(outer.file.as_deref().is_some_and(|file| file.ends_with("names.rs")));
}

#[test]
fn what_has_no_name_gets_its_module_and_offset() {
    let folder = tempfile::tempdir().unwrap();
    let Some((path, outer)) = inlined(folder.path(), &["-Wl,--build-id=0x11223344"]) else { return };
    run(Command::new("strip").arg(&path));
    let frames = symbolize(&mut Symbolizer::default(), &path, &[outer + 4, 0, u64::MAX]);
    assert_eq!(functions(&frames[0]), [format!("inlined+{:#x}", outer + 4)]);
    assert_eq!(functions(&frames[1]), ["inlined+0x0"]);
    assert_eq!(functions(&frames[2]), ["inlined+0xffffffffffffffff"]);
}

#[test]
fn only_files_of_the_recorded_build_are_used() {
    let folder = tempfile::tempdir().unwrap();
    let Some((path, outer)) = inlined(folder.path(), &["-Wl,--build-id=0x1122334455667788"]) else { return };
    let recorded: &[u8] = &[0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88];
    let elsewhere = tempfile::tempdir().unwrap();

    // In place.
    let named = |dirs: DebugDirs, build_id: &[u8]| {
        let mut symbolizer = Symbolizer::new(dirs);
        let module = ModuleRef { path: &path, build_id: Some(build_id) };
        let frames = symbolizer.symbolize(module, &[outer + 4], AddressKind::Instruction);
        (symbolizer.origin(module).clone(), frames[0].last().unwrap().function.contains("outer"))
    };
    let dirs = || DebugDirs::with([elsewhere.path().to_path_buf()]);
    assert_eq!(named(dirs(), recorded), (Origin::File(path.clone()), true));
    // Rebuilt since.
    assert_eq!(named(dirs(), &[9; 8]), (Origin::Mismatch(path.clone()), false));
    // Gone: this is another machine.
    let copy = elsewhere.path().join("inlined");
    std::fs::rename(&path, &copy).unwrap();
    assert_eq!(named(DebugDirs::none(), recorded), (Origin::Missing, false));
    // A directory with copies, by name.
    assert_eq!(named(dirs(), recorded), (Origin::File(copy.clone()), true));
    // A directory of debug files by build-id, while at its path is another build.
    let by_id = elsewhere.path().join(".build-id/11");
    std::fs::create_dir_all(&by_id).unwrap();
    let debug = by_id.join("22334455667788.debug");
    run(Command::new("objcopy").arg("--only-keep-debug").args([&copy, &debug]));
    std::fs::rename(&copy, &path).unwrap();
    run(Command::new("strip").arg(&path));
    assert_eq!(named(dirs(), recorded), (Origin::File(debug.clone()), true));
    std::fs::write(&path, "not an ELF file any more").unwrap();
    assert_eq!(named(dirs(), recorded), (Origin::File(debug), true));
}

#[test]
fn stripped_libraries_name_exported_functions() {
    let own = std::fs::read_to_string("/proc/self/maps").unwrap();
    let Some(libc) =
        own.lines().filter_map(|line| line.split_ascii_whitespace().nth(5)).find(|p| p.contains("libc.so"))
    else {
        return;
    };
    let address = run(Command::new("nm").args(["-D", libc]))
        .lines()
        .find_map(|line| line.split_once(" T qsort@").map(|(address, _)| u64::from_str_radix(address, 16).unwrap()))
        .unwrap();
    let frames = symbolize(&mut Symbolizer::default(), Path::new(libc), &[address, address + 1]);
    assert_eq!((functions(&frames[0]), functions(&frames[1])), (vec!["qsort"], vec!["qsort"]));
}
