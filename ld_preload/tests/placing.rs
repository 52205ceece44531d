//! Policies carried out by the shim, without an agent: tables from a file, programs, and the statistics they leave.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by them")]

#[path = "support/table.rs"]
mod table;
#[path = "support/build.rs"]
mod tools;

use std::path::{Path, PathBuf};
use std::process::Command;
use table::{Ran, all_in, file, nodes, run, run_with, scratch, tier};
use tierscope_wire::policy::{Backend, FrameSpec, GlobalSpec, ModuleSpec, RuleSpec, TableSpec, TierSpec, VARIABLE};

/// Address and size of a symbol of a program.
fn symbol(program: &Path, name: &str) -> (u64, u64) {
    assert!(tools::have_command("nm"));
    let output = Command::new("nm").arg("-S").arg(program).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().find(|line| line.ends_with(&format!(" {name}"))).expect(name);
    let number = |at: usize| u64::from_str_radix(line.split(' ').nth(at).unwrap(), 16).unwrap();
    (number(0), number(1))
}

/// Where the calls of a function of a program return to.
fn calls_in(program: &Path, function: &str) -> FrameSpec {
    let (start, bytes) = symbol(program, function);
    FrameSpec { module: 0, ranges: vec![(start + 1, start + bytes + 1)] }
}

fn done(ran: &Ran) {
    assert_eq!((ran.stdout().as_str(), ran.output.status.code()), ("done\n", Some(0)), "{:?}", ran.output);
}

fn program() -> PathBuf {
    tools::program("placed")
}

#[test]
fn a_program_with_every_block_in_a_tier_of_nodes_does_what_it_did() {
    for part in ["sizes", "growing", "alignments", "threads", "forks", "others"] {
        let ran = run(&all_in(nodes("other")), &program(), &[part]);
        done(&ran);
        let tier = &ran.stats.tiers[0];
        assert!(tier.blocks > 0 && tier.bytes_peak > 0, "{part}: {tier:?}");
        assert_eq!(
            (tier.failures, tier.spilled_blocks),
            (0, if part == "growing" { 1 } else { 0 }),
            "{part}: {tier:?}"
        );
        assert_eq!(ran.stats.rules[0].blocks, tier.blocks, "{part}");
    }
}

#[test]
fn a_program_with_every_block_in_a_file_does_what_it_did() {
    let directory = scratch();
    for part in ["sizes", "growing", "alignments", "threads", "forks", "others"] {
        let ran = run(&all_in(file("disk", directory.path())), &program(), &[part]);
        done(&ran);
        let tier = &ran.stats.tiers[0];
        assert!(tier.blocks > 0 && tier.failures == 0, "{part}: {tier:?}");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "nothing is left behind");
    }
}

#[test]
fn what_a_tier_cannot_hold_goes_elsewhere_and_is_counted() {
    let full = TierSpec { capacity: Some(1 << 20), ..nodes("small") };
    for part in ["sizes", "growing", "alignments", "threads"] {
        let ran = run(&all_in(full.clone()), &program(), &[part]);
        done(&ran);
        let counted = &ran.stats.tiers[0];
        assert!(counted.spilled_blocks > 0 && counted.spilled_bytes > 1 << 20, "{part}: {counted:?}");
        assert!(counted.bytes_peak <= 1 << 20, "{part}: {counted:?}");
    }
}

#[test]
fn what_a_tier_cannot_hold_goes_to_the_default_tier() {
    let directory = scratch();
    let small = TierSpec { capacity: Some(2 << 20), ..nodes("small") };
    let mut spec = for_program(vec![small, file("disk", directory.path())], vec![of(&program(), "one", 0)]);
    spec.default_tier = Some(1);
    let ran = run(&spec, &program(), &["sizes"]);
    done(&ran);
    let [small, disk] = &ran.stats.tiers[..] else { panic!("{:?}", ran.stats.tiers) };
    // Of the sizes, two do not fit, and are made twice.
    assert_eq!((small.blocks, small.spilled_blocks, ran.stats.rules[0].spilled_blocks), (26, 4, 4), "{small:?}");
    assert!(disk.blocks >= 15 + 4 && disk.bytes_peak > 7_000_000 && disk.spilled_blocks == 0, "{disk:?}");
}

#[test]
fn a_tier_that_cannot_be_had_costs_nothing_but_itself() {
    let directory = scratch();
    for (name, tier, errno) in [
        ("a node that is not there", TierSpec { nodes: vec![1023], ..tier("far", Backend::Numa) }, libc::EINVAL),
        ("a directory that is not there", file("gone", &directory.path().join("gone")), libc::ENOENT),
        ("a file in place of a directory", file("file", Path::new("/etc/hostname")), libc::ENOTDIR),
        ("a device of no memory", TierSpec { path: "/dev/null".into(), ..tier("dax", Backend::Dax) }, libc::ENODEV),
        (
            "a device that is not there",
            TierSpec { path: "/dev/dax7.7".into(), ..tier("dax", Backend::Dax) },
            libc::ENOENT,
        ),
    ] {
        let ran = run(&all_in(tier), &program(), &["sizes"]);
        done(&ran);
        let counted = &ran.stats.tiers[0];
        assert_eq!((counted.blocks, counted.last_errno), (0, errno as u64), "{name}: {counted:?}");
        assert!(counted.spilled_blocks >= 45, "{name}: {counted:?}");
    }
}

#[test]
fn a_default_of_nodes_has_the_heap_and_neither_stack_nor_variables() {
    let spec = TableSpec { tiers: vec![nodes("all")], default_tier: Some(0), follow: true, ..TableSpec::default() };
    let ran = run_with(&spec, Command::new("cat").arg("/proc/self/numa_maps"));
    let text = ran.stdout();
    let policy_of = |what: &str| -> Vec<&str> {
        text.lines()
            .filter(|line| line.split(' ').any(|word| word == what))
            .filter_map(|l| l.split(' ').nth(1))
            .collect()
    };
    assert_eq!(policy_of("stack"), ["local"], "{text}");
    assert!(policy_of("heap").first().is_some_and(|policy| policy.starts_with("prefer")), "{text}");
    let written = text.lines().filter(|line| line.contains("/libc") && line.contains(" anon="));
    let policies: Vec<_> = written.filter_map(|line| line.split(' ').nth(1)).collect();
    assert!(policies.contains(&"local"), "{text}");
    assert_eq!((ran.stats.tiers[0].failures, ran.output.status.code()), (0, Some(0)), "{:?}", ran.output);
}

#[test]
fn rules_hold_for_the_stacks_they_name() {
    let program = program();
    let rule = |tier, function: &str, least, most| RuleSpec {
        tier,
        frames: vec![calls_in(&program, function), calls_in(&program, "sizes")],
        min_bytes: least,
        max_bytes: most,
        ordinal: None,
        number: 1,
    };
    let spec = TableSpec {
        tiers: vec![nodes("a"), nodes("b")],
        modules: vec![ModuleSpec { name: "placed".into(), build_id: vec![] }],
        rules: vec![rule(0, "one", 4096, u64::MAX), rule(1, "zeroed", 0, 5000), rule(1, "aligned", 0, u64::MAX)],
        follow: true,
        ..TableSpec::default()
    };
    let ran = run(&spec, &program, &[]);
    done(&ran);
    // Of the fifteen sizes, eight are 4096 or more and nine at most 5000; `sizes` calls `one` in two of three rounds.
    let blocks = |at: usize| ran.stats.rules[at].blocks;
    assert_eq!((blocks(0), blocks(1), blocks(2)), (16, 9, 0), "{:?}", ran.stats);
    assert_eq!(ran.stats.tiers.iter().map(|tier| tier.bytes_now()).sum::<u64>(), 0);
    assert!(ran.stats.general.unmatched_blocks > 1000);
    assert!(ran.stats.general.lookup_hits > 0);
}

#[test]
fn a_rule_for_another_build_does_not_hold() {
    let program = program();
    let frames = vec![calls_in(&program, "one")];
    let rule = RuleSpec { tier: 0, frames, min_bytes: 0, max_bytes: u64::MAX, ordinal: None, number: 1 };
    let spec = |build_id: Vec<u8>| TableSpec {
        tiers: vec![nodes("a")],
        modules: vec![ModuleSpec { name: String::new(), build_id }],
        rules: vec![rule.clone()],
        follow: true,
        ..TableSpec::default()
    };
    let ran = run(&spec(vec![1; 20]), &program, &["sizes"]);
    done(&ran);
    assert_eq!((ran.stats.rules[0].blocks, ran.stats.general.modules_differing), (0, 1));
    let ran = run(&spec(vec![]), &program, &["sizes"]);
    done(&ran);
    assert_eq!((ran.stats.rules[0].blocks, ran.stats.general.modules_differing), (30, 0));
}

#[test]
fn nonsense_in_place_of_a_table_changes_nothing() {
    let directory = scratch();
    for bytes in [&b""[..], b"tierplcy", &[0; 4096]] {
        let path = directory.path().join("table");
        std::fs::write(&path, bytes).unwrap();
        let output = Command::new(program())
            .arg("sizes")
            .env("LD_PRELOAD", tools::shim())
            .env(VARIABLE, &path)
            .output()
            .unwrap();
        assert_eq!((&*output.stdout, output.status.code()), (&b"done\n"[..], Some(0)));
    }
}

/// A rule for the blocks of a function.
fn of(program: &Path, function: &str, tier: u16) -> RuleSpec {
    let frames = vec![calls_in(program, function)];
    RuleSpec { tier, frames, min_bytes: 0, max_bytes: u64::MAX, ordinal: None, number: 1 }
}

/// What `placed_where` says of its objects.
fn places(ran: &Ran) -> Vec<(String, String)> {
    assert_eq!(ran.output.status.code(), Some(0), "{:?}", ran.output);
    ran.stdout().lines().map(|line| line.split_once(' ').unwrap()).map(|(a, b)| (a.into(), b.into())).collect()
}

fn interleaved(name: &str) -> TierSpec {
    TierSpec { nodes: vec![0], ..tier(name, Backend::Interleave) }
}

fn for_program(tiers: Vec<TierSpec>, rules: Vec<RuleSpec>) -> TableSpec {
    let modules = vec![ModuleSpec { name: String::new(), build_id: vec![] }];
    TableSpec { tiers, modules, rules, follow: true, ..TableSpec::default() }
}

#[test]
fn slots_globals_and_mappings_go_where_they_are_told() {
    let program = tools::program("placed_where");
    let (address, bytes) = symbol(&program, "global_array");
    let table = RuleSpec { ordinal: Some(2), ..of(&program, "table", 1) };
    let mut spec = for_program(vec![nodes("a"), interleaved("b")], vec![table, of(&program, "mapping", 1)]);
    spec.globals = vec![GlobalSpec { tier: 0, module: 0, address, bytes, number: 3 }];
    let ran = run(&spec, &program, &[]);
    let places = places(&ran);
    let policies: Vec<_> = places.iter().map(|(name, policy)| (name.as_str(), policy.as_str())).collect();
    let expected = [
        ("table", "default"),
        ("table", "default"),
        ("table", "interleave:0"),
        ("table", "default"),
        // The lowest free number of its size is another's; then the one that was freed.
        ("again", "default"),
        ("freed", "interleave:0"),
        ("global", "prefer"),
        ("other", "default"),
        ("mapping", "interleave:0"),
        ("elsewhere", "default"),
    ];
    assert_eq!(policies, expected);
    let rules = &ran.stats.rules;
    assert_eq!((rules[0].blocks, rules[0].bytes_total, rules[0].bytes_now()), (2, 600_000, 0));
    assert_eq!((rules[1].blocks, rules[1].bytes_total, rules[1].bytes_now()), (1, 1 << 20, 0));
    assert_eq!((ran.stats.globals[0].bytes_moved, ran.stats.globals[0].errno), (1 << 20, 0));
    assert_eq!(ran.stats.tiers[1].blocks, 3);
}

#[test]
fn what_no_rule_names_follows_the_default_tier() {
    let program = tools::program("placed_where");
    let mut spec = for_program(vec![nodes("a"), interleaved("b")], vec![of(&program, "table", 0)]);
    spec.default_tier = Some(1);
    let places = places(&run(&spec, &program, &[]));
    let of = |name: &str| places.iter().find(|(found, _)| found == name).unwrap().1.as_str();
    // numa_maps shows a thread's policy where a mapping has none of its own.
    assert_eq!((of("table"), of("mapping"), of("elsewhere")), ("prefer", "interleave:0", "interleave:0"));
}

#[test]
fn a_default_tier_of_a_file_takes_what_no_rule_names() {
    let program = program();
    let directory = scratch();
    let mut spec = for_program(vec![nodes("a"), file("disk", directory.path())], vec![of(&program, "one", 0)]);
    spec.default_tier = Some(1);
    let ran = run(&spec, &program, &["sizes"]);
    done(&ran);
    assert_eq!(ran.stats.tiers[0].blocks, 30);
    assert!(ran.stats.tiers[1].blocks >= 15, "{:?}", ran.stats.tiers);
}

#[test]
fn a_library_loaded_late_is_found() {
    let program = tools::compile("cc", "placed_where.c", "placed_where_dl", &["-ldl"]);
    let library = tools::compile("cc", "placed_plugin.c", "libplaced_plugin.so", &["-shared", "-fPIC"]);
    let (start, bytes) = symbol(&library, "plugin_block");
    let frame = FrameSpec { module: 0, ranges: vec![(start + 1, start + bytes + 1)] };
    let rule = RuleSpec { frames: vec![frame], ..of(&program, "table", 0) };
    let mut spec = for_program(vec![interleaved("b")], vec![rule]);
    spec.modules[0].name = "libplaced_plugin.so".into();
    let ran = run(&spec, &program, &[library.to_str().unwrap()]);
    let places = places(&ran);
    assert_eq!(places.last().unwrap(), &("plugin".to_owned(), "interleave:0".to_owned()), "{:?}", ran.stats);
    assert!(places.iter().all(|(name, policy)| name == "plugin" || policy == "default"));
}

/// The programs that break a careless library, with everything placed.
#[test]
fn hazards_are_none_where_everything_is_placed() {
    let directory = scratch();
    let programs: Vec<(PathBuf, &[&str])> = [
        ("plain", &[][..]),
        ("entry_points", &[]),
        ("realloc_edges", &[]),
        ("threads", &["8", "50"]),
        ("fork", &[]),
        ("vfork_exec", &[]),
        ("descriptors", &[]),
        ("mappings", &[]),
        ("signals", &[]),
        ("coroutines", &[]),
        ("mlocked", &[]),
        ("errno_kept", &[]),
        ("killed", &[]),
    ]
    .into_iter()
    .map(|(name, arguments)| (tools::program(name), arguments))
    .chain([(tools::compile("c++", "operators.cpp", "operators_placed", &["-std=c++17"]), &[][..])])
    .collect();
    let sandboxed = (tools::compile("cc", "seccomp.c", "seccomp_mprotect", &["-DWITH_MPROTECT"]), &[][..]);
    for tier in [nodes("other"), file("disk", directory.path())] {
        // A file needs system calls that no sandbox allows for the sake of an allocator.
        for (program, arguments) in programs.iter().chain((tier.backend == Backend::Numa).then_some(&sandboxed)) {
            if tier.backend == Backend::File && program.ends_with("descriptors") {
                // It lists all there are, and a tier of a file needs one.
                continue;
            }
            let expected = Command::new(program).args(*arguments).output().unwrap();
            let ran = run(&all_in(tier.clone()), program, arguments);
            let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            assert_eq!(shown(&ran.output.stdout), shown(&expected.stdout), "{} {program:?}", tier.name);
            assert_eq!(shown(&ran.output.stderr), shown(&expected.stderr), "{} {program:?}", tier.name);
            assert_eq!(ran.output.status, expected.status, "{} {program:?}", tier.name);
            assert!(ran.stats.tiers[0].blocks > 0, "{program:?}");
        }
    }
}

#[test]
fn an_allocator_of_the_users_and_musl_are_served_too() {
    let spec = all_in(nodes("other"));
    let jemalloc = "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2";
    if tools::have("libjemalloc2", Path::new(jemalloc).exists()) {
        let both = format!("{}:{jemalloc}", tools::shim().display());
        for part in ["sizes", "growing", "alignments", "threads", "forks"] {
            let ran = table::run_as(&spec, Command::new(program()).arg(part), &both);
            done(&ran);
            assert!(ran.stats.tiers[0].blocks > 0);
        }
        let operators = tools::compile("c++", "operators.cpp", "operators_jemalloc", &["-std=c++17"]);
        let expected = Command::new(&operators).env("LD_PRELOAD", jemalloc).output().unwrap();
        let ran = table::run_as(&spec, &mut Command::new(&operators), &both);
        assert_eq!((ran.output.status, &ran.output.stdout), (expected.status, &expected.stdout));
        assert!(ran.stats.tiers[0].blocks > 0);
    }
    if tools::have_command("musl-gcc") {
        let musl = tools::compile("musl-gcc", "placed.c", "placed-musl", &["-pthread"]);
        for part in ["growing", "threads", "forks", "others"] {
            let ran = run(&spec, &musl, &[part]);
            done(&ran);
            assert!(ran.stats.tiers[0].blocks > 0);
        }
    }
}

#[test]
fn memory_of_swap_is_cold_once_it_rests() {
    let program = tools::program("placed_resting");
    let ran = run(&all_in(tier("swap", Backend::Swap)), &program, &[]);
    assert_eq!((ran.stdout().as_str(), ran.output.status.code()), ("used idle\n", Some(0)), "{:?}", ran.output);
    assert_eq!(ran.stats.tiers[0].failures, 0);
    // It is the shim that says so: where the tier is another, nothing is cold.
    let ran = run(&all_in(nodes("other")), &program, &[]);
    assert_eq!(ran.stdout(), "used used\n");
}

#[test]
fn a_placed_block_has_huge_pages_where_the_programs_own_has() {
    let program = tools::program("placed_huge");
    let huge =
        |output: &std::process::Output| String::from_utf8_lossy(&output.stdout).trim().parse::<u64>().unwrap() > 0;
    let own = huge(&Command::new(&program).output().unwrap());
    let setting = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled");
    assert_eq!(own, setting.is_ok_and(|setting| !setting.contains("[never]")));
    let ran = run(&all_in(nodes("other")), &program, &[]);
    assert_eq!((huge(&ran.output), ran.stats.tiers[0].spilled_blocks), (own, 0), "{:?}", ran.output);
}

/// A kernel that dumps a program which crashed goes through every page of what it dumps.
#[test]
fn address_space_that_is_not_used_is_in_no_dump() {
    let spec = all_in(nodes("other"));
    // It gives large blocks back, so that there is memory that was used and is not.
    let ran = run_with(&spec, Command::new("sh").args(["-c", "exec cat /proc/self/smaps"]));
    let text = ran.stdout();
    let mut mappings = Vec::new();
    for line in text.lines() {
        let word = line.split(' ').next().unwrap_or_default();
        if let Some((start, end)) = word.split_once('-').filter(|_| !word.ends_with(':')) {
            let bytes = u64::from_str_radix(end, 16).unwrap() - u64::from_str_radix(start, 16).unwrap();
            mappings.push((bytes, line.contains("---p"), false));
        } else if line.starts_with("VmFlags:") {
            mappings.last_mut().unwrap().2 = line.contains(" dd ");
        }
    }
    let large: Vec<_> = mappings.iter().filter(|(bytes, ..)| *bytes >= 256 << 20).collect();
    assert!(!large.is_empty() && large.iter().all(|(_, closed, left_out)| *closed && *left_out), "{mappings:?}");
    let placed = text.lines().filter(|line| line.contains("rw-p")).count();
    let open_left_out = mappings.iter().filter(|(_, closed, left_out)| !closed && *left_out).count();
    assert!(placed > 3 && open_left_out <= 2, "what is used is in it: {mappings:?}");
}
