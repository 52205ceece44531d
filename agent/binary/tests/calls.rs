//! Return addresses against the disassembler of binutils, and functions found again after a rebuild.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod common;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::process::Command;

use common::{compile, run, tool};
use tierscope_binary::{AddressKind, CallSite, Module, ModuleRef, Symbolizer};

/// Return addresses by objdump: the address of what follows each call.
fn by_objdump(path: &Path) -> BTreeSet<u64> {
    let listing = run(Command::new("objdump").args(["-d", "--no-show-raw-insn"]).arg(path));
    let line = |line: &str| {
        let (address, text) = line.split_once(":\t")?;
        Some((u64::from_str_radix(address.trim(), 16).ok()?, text.trim_start().starts_with("call")))
    };
    let lines: Vec<(u64, bool)> = listing.lines().filter_map(line).collect();
    lines.windows(2).filter(|pair| pair[0].1).map(|pair| pair[1].0).collect()
}

#[test]
fn every_call_is_found_and_nothing_else() {
    if tool("objdump").is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for flags in [["-O2", "-g"], ["-O0", "-g"], ["-O2", "-s"]] {
        let Some(path) = compile(folder.path(), "sites.cc", "calls", &flags) else { return };
        let module = Module::open(&path).unwrap();
        let ours: BTreeSet<u64> = module.return_addresses().into_iter().collect();
        let theirs = by_objdump(&path);
        assert!(ours.is_subset(&theirs), "{:x?}", ours.difference(&theirs).collect::<Vec<_>>());
        // Calls of the C runtime's own start and end lie in no function that a table of a stripped file knows.
        assert!(theirs.difference(&ours).count() <= 3, "{:x?}", theirs.difference(&ours).collect::<Vec<_>>());
        assert!(ours.len() > 3, "{ours:x?}");
    }
}

fn sites(path: &Path, functions: &[&str]) -> HashMap<String, Vec<CallSite>> {
    let wanted: HashSet<String> = functions.iter().map(|&name| name.to_owned()).collect();
    Symbolizer::default().call_sites(&Module::open(path).unwrap(), &wanted)
}

/// Return addresses of the calls at a line of a function.
fn at(sites: &HashMap<String, Vec<CallSite>>, function: &str, line: u32) -> Vec<u64> {
    let all = sites.get(function).into_iter().flatten();
    all.filter(|site| site.line == Some(line) && site.file.as_deref().is_some_and(|file| file.ends_with("sites.cc")))
        .map(|site| site.return_address)
        .collect()
}

const SPREAD: &str = "shop::Shelf<int>::spread(unsigned long)";
const ALONE: &str = "shop::Shelf<int>::alone(unsigned long)";

#[test]
fn an_inlined_function_is_found_wherever_it_went() {
    let folder = tempfile::tempdir().unwrap();
    let Some(path) = compile(folder.path(), "sites.cc", "inlined", &["-O2", "-g", "-fno-optimize-sibling-calls"])
    else {
        return;
    };
    let found = sites(&path, &[SPREAD, ALONE, "first", "second"]);
    assert_eq!(at(&found, SPREAD, 15).len(), 2, "once in first, once in second");
    assert_eq!(at(&found, ALONE, 12).len(), 1);
    // The same calls belong to the functions around them, at the line that calls what was inlined.
    assert_eq!(at(&found, "first", 20).len(), 1);
    assert_eq!(at(&found, "second", 23).len(), 1);
    assert_eq!(at(&found, SPREAD, 20), [0_u64; 0]);
}

/// The names of an address of one build lead to the same call in another.
#[test]
fn a_site_of_one_build_is_found_in_another() {
    let folder = tempfile::tempdir().unwrap();
    let flags = ["-O2", "-g", "-fno-optimize-sibling-calls"];
    let Some(old) = compile(folder.path(), "sites.cc", "old", &flags) else { return };
    let new = compile(folder.path(), "sites.cc", "new", &[&flags[..], &["-DMORE"]].concat()).unwrap();
    let module = Module::open(&old).unwrap();
    assert_ne!(module.build_id(), Module::open(&new).unwrap().build_id());
    let mut symbolizer = Symbolizer::default();
    let mut moved = 0;
    for function in [ALONE, "first", "twice"] {
        let before = sites(&old, &[function]).remove(function).unwrap();
        let after = sites(&new, &[function]).remove(function).unwrap();
        assert_eq!(before.len(), after.len(), "{function}");
        for site in &before {
            let reference = ModuleRef { path: &old, build_id: module.build_id() };
            let frames = symbolizer.symbolize(reference, &[site.return_address], AddressKind::Return);
            let frame = frames[0].iter().find(|frame| frame.function == function).unwrap();
            let again = after.iter().filter(|other| other.line == frame.line).count();
            assert!(again >= 1, "{function}: {frame:?} in {after:?}");
        }
        moved += usize::from(before[0].return_address != after[0].return_address);
    }
    assert!(moved > 0, "the rebuild moved nothing: the test shows nothing");
}

#[test]
fn functions_are_found_by_symbol_without_debug_information() {
    let folder = tempfile::tempdir().unwrap();
    let Some(path) = compile(folder.path(), "sites.cc", "plain", &["-O2", "-fno-optimize-sibling-calls"]) else {
        return;
    };
    let wanted: HashSet<String> = [ALONE, "first", "nothing"].map(str::to_owned).into();
    let module = Module::open(&path).unwrap();
    let found = module.functions_named(&wanted);
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(module.function(found[ALONE][0].start).unwrap().start, found[ALONE][0].start);
    let sites = Symbolizer::default().call_sites(&module, &wanted);
    let inside = |site: &CallSite| found[ALONE][0].contains(&(site.return_address - 1)) && site.line.is_none();
    assert!(sites[ALONE].iter().all(inside), "{sites:?}");
}
