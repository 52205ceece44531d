//! Modules against what compilers, the loader and `nm` say about the same files.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod common;

use std::path::PathBuf;
use std::process::Command;

use common::{address_of, compile, run, tool};
use tierscope_binary::{BinaryError, Class, DebugDirs, Global, Machine, Module};

/// Every way to link a C program that changes what is in the file.
const LINKS: [(&str, &[&str]); 6] = [
    ("pie", &["-pie", "-fPIE"]),
    ("fixed", &["-no-pie", "-fno-pie"]),
    ("static", &["-static"]),
    ("static-pie", &["-static-pie", "-fPIE"]),
    ("no-build-id", &["-Wl,--build-id=none"]),
    ("one-segment", &["-Wl,-z,noseparate-code"]),
];

fn named<'a>(module: &'a Module, name: &str) -> Option<&'a Global> {
    module.globals().iter().find(|global| global.name == name)
}

/// Sorted, no overlap, and every address of every data segment in exactly one.
fn assert_partition(module: &Module) {
    let globals = module.globals();
    for pair in globals.windows(2) {
        assert!(pair[0].vaddr + pair[0].bytes <= pair[1].vaddr, "{pair:x?} overlap in {}", module.path().display());
    }
    assert!(globals.iter().all(|global| global.bytes > 0));
    for segment in module.segments().filter(|segment| !segment.executable) {
        let mut at = segment.vaddrs.start;
        while at < segment.vaddrs.end {
            let global =
                module.global(at).unwrap_or_else(|| panic!("{at:#x} of {} is in none", module.path().display()));
            assert!(global.vaddr <= at && at < global.vaddr + global.bytes);
            at = global.vaddr + global.bytes;
        }
    }
}

#[test]
fn globals_of_every_kind_of_link() {
    let folder = tempfile::tempdir().unwrap();
    for (name, flags) in LINKS {
        let Some(path) = compile(folder.path(), "globals.c", name, &[&["-O2"], flags].concat()) else { return };
        let module = Module::open(&path).unwrap();
        assert_eq!((module.class(), Some(module.machine())), (Class::Bits64, Machine::host()));
        assert_eq!(module.build_id().is_none(), name == "no-build-id");
        assert_eq!(module.is_fixed(), matches!(name, "fixed" | "static"));
        assert_partition(&module);
        let size = |symbol: &str| named(&module, symbol).map_or(0, |global| global.bytes);
        for (symbol, bytes) in [("u0", 320_000_000), ("table", 2000), ("hidden", 800), ("record", 1248)] {
            assert!((bytes..bytes + 64).contains(&size(symbol)), "{name}: {symbol} has {}", size(symbol));
        }
        assert_eq!(named(&module, "u0").unwrap().section.as_ref(), ".bss");
        assert!(named(&module, "u0").unwrap().writable && !named(&module, "table").unwrap().writable);
        // One of two names for the same bytes; thread-locals are not at a fixed address.
        assert_eq!(size("initialised").min(size("initialised_alias")), 0);
        assert!(size("initialised").max(size("initialised_alias")) >= 4000);
        assert_eq!(named(&module, "per_thread"), None);
        assert_eq!(module.global(address_of(&path, "u0") + 319_999_999).unwrap().name, "u0");
    }
}

#[test]
fn a_stripped_program_has_one_object_per_section() {
    let folder = tempfile::tempdir().unwrap();
    let Some(path) = compile(folder.path(), "globals.c", "stripped", &["-O2", "-s"]) else { return };
    let module = Module::open(&path).unwrap();
    assert_partition(&module);
    let bss: Vec<_> = module.globals().iter().filter(|global| global.section.as_ref() == ".bss").collect();
    let large: Vec<_> = bss.iter().filter(|global| global.bytes > 1000).collect();
    assert_eq!(large.len(), 1, "{bss:#x?}");
    assert!(large[0].name.starts_with(".bss") && !large[0].named && large[0].bytes >= 320_000_000);
}

#[test]
fn a_program_without_section_headers_has_one_object_per_segment() {
    let folder = tempfile::tempdir().unwrap();
    let Some(path) = compile(folder.path(), "globals.c", "bare", &["-O2", "-s"]) else { return };
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[0x28..0x30].fill(0);
    bytes[0x3c..0x40].fill(0);
    let module = Module::from_bytes("bare", bytes).unwrap();
    assert_partition(&module);
    assert!(module.build_id().is_some(), "from the PT_NOTE segment");
    assert!(module.globals().iter().all(|global| global.section.as_ref() == "segment"));
    assert_eq!(module.globals().iter().filter(|global| global.writable).count(), 1);
}

#[test]
fn stripped_symbols_come_back_from_debug_files() {
    let folder = tempfile::tempdir().unwrap();
    let Some(path) = compile(folder.path(), "globals.c", "app", &["-O2", "-g", "-Wl,--build-id=0xabcdef0123456789"])
    else {
        return;
    };
    let debug = folder.path().join("app.debug");
    let objcopy = |arguments: &[&str]| run(Command::new("objcopy").args(arguments).arg(&path).arg(&debug));
    objcopy(&["--only-keep-debug"]);
    run(Command::new("strip").arg(&path));
    assert_eq!(named(&Module::open(&path).unwrap(), "hidden"), None);

    let by_id = folder.path().join("debug/.build-id/ab");
    std::fs::create_dir_all(&by_id).unwrap();
    std::fs::copy(&debug, by_id.join("cdef0123456789.debug")).unwrap();
    let dirs = DebugDirs::with([folder.path().join("debug")]);
    let module = Module::open_with(&path, &dirs).unwrap();
    assert_eq!(module.build_id(), Some(&[0xab, 0xcd, 0xef, 0x01, 0x23, 0x45, 0x67, 0x89][..]));
    assert!(named(&module, "hidden").is_some());
    assert_partition(&module);

    // By name and checksum, for a module without a build-id.
    let Some(path) = compile(folder.path(), "globals.c", "old", &["-O2", "-g", "-Wl,--build-id=none"]) else { return };
    let debug = folder.path().join("old.debug");
    run(Command::new("objcopy").arg("--only-keep-debug").args([&path, &debug]));
    run(Command::new("strip").arg(&path));
    run(Command::new("objcopy").arg(format!("--add-gnu-debuglink={}", debug.display())).arg(&path));
    assert!(named(&Module::open(&path).unwrap(), "hidden").is_some());
    let mut other = std::fs::read(&debug).unwrap();
    other.push(0);
    std::fs::write(&debug, other).unwrap();
    assert_eq!(named(&Module::open(&path).unwrap(), "hidden"), None, "the checksum must decide");
}

#[test]
fn c_plus_plus_and_rust_globals_are_demangled() {
    let folder = tempfile::tempdir().unwrap();
    let Some(path) = compile(folder.path(), "inlined.cc", "cc", &["-O2"]) else { return };
    let module = Module::open(&path).unwrap();
    assert!(named(&module, "gapbs::ranks").is_some_and(|ranks| ranks.bytes >= 524_288));
    let Some(path) = compile(folder.path(), "names.rs", "rs", &["-O"]) else { return };
    let module = Module::open(&path).unwrap();
    assert_partition(&module);
    assert!(named(&module, "names::TABLE").is_some_and(|table| table.bytes >= 32_768));
}

/// (start, offset, executable, path) of the file mappings of this process.
fn own_mappings() -> Vec<(u64, u64, bool, PathBuf)> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let mapping = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let (range, protection, offset) = (words.next()?, words.next()?, words.next()?);
        let path = words.nth(2).filter(|path| path.starts_with('/'))?;
        let hex = |text| u64::from_str_radix(text, 16).ok();
        Some((hex(range.split('-').next()?)?, hex(offset)?, protection.contains('x'), PathBuf::from(path)))
    };
    maps.lines().filter_map(mapping).collect()
}

#[test]
fn all_mappings_of_a_module_give_one_bias_and_its_code() {
    let mappings = own_mappings();
    let mut seen = 0;
    for (start, offset, executable, path) in &mappings {
        let Ok(module) = Module::open(path) else { continue };
        let bias = module.bias(*start, *offset, *executable);
        assert!(bias.is_some(), "{start:#x} {offset:#x} of {}", path.display());
        let first = mappings.iter().find(|mapping| mapping.3 == *path).unwrap();
        assert_eq!(bias, module.bias(first.0, first.1, first.2), "{start:#x} {offset:#x} of {}", path.display());
        seen += 1;
        if *executable {
            let mut code = [0; 64];
            assert_eq!(module.code(start.wrapping_sub(bias.unwrap()) + 4096, &mut code), 64);
            // SAFETY: 64 bytes inside an executable mapping of this process that holds more than two pages.
            let memory = unsafe { std::slice::from_raw_parts((start + 4096) as *const u8, 64) };
            assert_eq!(code, memory);
        }
    }
    assert!(seen >= 8, "{mappings:?}");
}

#[test]
fn functions_of_this_program_hold_their_own_addresses() {
    let own = std::env::current_exe().unwrap();
    let module = Module::open(&own).unwrap();
    let (start, offset, executable, _) = own_mappings().into_iter().find(|mapping| mapping.3 == own).unwrap();
    let bias = module.bias(start, offset, executable).unwrap();
    let address = (assert_partition as fn(&Module) as usize as u64).wrapping_sub(bias);
    let bounds = module.function(address + 3).unwrap();
    assert_eq!(bounds.start, address);
    assert!(bounds.end > address + 100);
    assert_eq!(module.function(address - 1).filter(|before| before.contains(&address)), None);
    assert_eq!(module.function(0), None);
    assert_eq!(module.function(u64::MAX), None);
}

/// Unwind information against the sizes the compiler wrote into symbols, for a whole library.
#[test]
fn unwind_information_agrees_with_symbols() {
    let Some(libc) = own_mappings()
        .into_iter()
        .map(|mapping| mapping.3)
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("libc.so")))
    else {
        return;
    };
    let module = Module::open(&libc).unwrap();
    let listing = run(Command::new("nm").args(["-D", "-S", "--defined-only"]).arg(&libc));
    let (mut agree, mut all) = (0, 0);
    for line in listing.lines() {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let [address, size, "T" | "W", _] = words[..] else { continue };
        let [address, size] = [address, size].map(|text| u64::from_str_radix(text, 16).unwrap());
        // System call wrappers are assembler and may have no size to compare.
        if size == 0 {
            continue;
        }
        all += 1;
        let bounds = module.function(address + size / 2);
        agree += usize::from(bounds.is_some_and(|bounds| bounds.start == address && bounds.end <= address + size));
    }
    assert!(all > 1000 && agree * 100 >= all * 97, "{agree} of {all}");
}

#[test]
fn bounds_survive_stripping() {
    let folder = tempfile::tempdir().unwrap();
    let Some(path) = compile(folder.path(), "globals.c", "app", &["-O2"]) else { return };
    let address = address_of(&path, "sum");
    let before = Module::open(&path).unwrap().function(address).unwrap();
    run(Command::new("strip").arg(&path));
    assert_eq!(Module::open(&path).unwrap().function(address + 1), Some(before));
}

#[test]
fn functions_without_unwind_information_come_from_symbols() {
    let folder = tempfile::tempdir().unwrap();
    let flags = ["-O2", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables"];
    let Some(path) = compile(folder.path(), "globals.c", "app", &flags) else { return };
    let address = address_of(&path, "sum");
    assert_eq!(Module::open(&path).unwrap().function(address + 4).unwrap().start, address);
}

#[test]
fn code_outside_executable_segments_is_none() {
    let Some(_) = tool("cc") else { return };
    let folder = tempfile::tempdir().unwrap();
    let Some(path) = compile(folder.path(), "globals.c", "app", &["-O2"]) else { return };
    let module = Module::open(&path).unwrap();
    let mut buffer = [0; 16];
    for vaddr in [address_of(&path, "u0"), address_of(&path, "table"), u64::MAX, 0] {
        assert_eq!(module.code(vaddr, &mut buffer), 0);
    }
    let text = module.segments().find(|segment| segment.executable).unwrap();
    assert_eq!(module.code(text.vaddrs.end - 5, &mut buffer), 5, "cut at the end of the segment");
}

#[test]
fn what_is_not_a_module_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text");
    std::fs::write(&text, "#!/bin/sh\n").unwrap();
    assert!(matches!(Module::open(&text), Err(BinaryError::NotElf(_))));
    assert!(matches!(Module::open(folder.path()), Err(BinaryError::NotAFile(_))));
    let missing = Module::open(folder.path().join("none")).unwrap_err();
    assert!(missing.to_string().contains("No such file"), "{missing}");
    assert!(matches!(Module::from_bytes("empty", Vec::new()), Err(BinaryError::NotElf(_))));
}

#[test]
fn a_module_is_shared_between_threads() {
    fn shared<T: Send + Sync>(_: &T) {}
    let module = Module::open("/proc/self/exe").unwrap();
    shared(&module);
    let text = module.segments().find(|segment| segment.executable).unwrap().vaddrs;
    std::thread::scope(|scope| {
        let find = || text.clone().step_by(64).filter(|&vaddr| module.function(vaddr).is_some()).count();
        let (one, two) = (scope.spawn(find), scope.spawn(find));
        assert_eq!(one.join().unwrap(), two.join().unwrap());
    });
}
