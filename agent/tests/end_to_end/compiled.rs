//! Compiled programs whose most expensive object is known because they were written to have it.

use crate::harness::Program;
use crate::needs::{Need, have};
use crate::profile::Report;
use tierscope_traces::{Access, Profile};

/// Debug information for lines, so that frames can be told apart by name even where functions are inlined.
const FLAGS: [&str; 2] = ["-O2", "-g"];

/// In compiled code nearly every sample can be given an address.
#[track_caller]
fn expect_attributed(report: &Report, at_least: f64) {
    let attributed = report.header["attributed"].as_f64().unwrap();
    assert!(attributed >= at_least, "{attributed} attributed of\n{}", report.summary());
}

/// Expected: the map's nodes and buckets, then the vector, then the array. A look-up in the map waits for three reads
/// in turn, one in the vector for none; the array is read in order, once.
#[test]
fn cxx_containers_rank_by_what_their_accesses_wait_for() {
    if !have(&[Need::Cxx]) {
        return;
    }
    let (_, report) = Program::compile("g++", &FLAGS, "containers.cc").compare(&[]);
    report.expect_on_top("heap", "build_index");
    let (index, haystack) = (report.share("build_index"), report.share("build_haystack"));
    assert!(index > haystack && haystack > report.share("make_weights"), "{}", report.summary());
    expect_attributed(&report, 0.9);
}

/// Expected: the ring, with well over half of the time. Its steps wait for memory one after the other; the ledger is
/// streamed.
#[test]
fn a_rust_program_is_named_by_its_functions() {
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let flags = ["-O", "-Cdebuginfo=line-tables-only", "--edition=2024"];
    let (_, report) = Program::compile(&rustc, &flags, "ledger.rs").compare(&[]);
    report.expect_on_top("heap", "allocate_ring");
    // The library's own functions, inlined into the program's, are no name for its object.
    assert!(report.objects[0].name.contains("allocate_ring"), "named {}", report.objects[0].name);
    assert!(report.objects[0].share > 0.5, "{}", report.summary());
    assert!(report.share("allocate_ledger") < 0.3, "{}", report.summary());
    expect_attributed(&report, 0.9);
}

/// Expected: the field, which both threads read at random; the index is read in order and the output stays in cache.
#[test]
fn two_openmp_threads_share_one_profile() {
    if !have(&[Need::OpenMp]) {
        return;
    }
    let (_, report) = Program::compile("gcc", &["-O2", "-g", "-fopenmp"], "gather.c").compare(&[]);
    report.expect_on_top("heap", "allocate_field");
    expect_attributed(&report, 0.9);
}

/// Expected: `u0`, as a global, by its name: 64 MiB in .bss read at random, where `u1` is read in order.
#[test]
fn an_array_in_bss_is_an_object() {
    if !have(&[Need::C]) {
        return;
    }
    let (_, report) = Program::compile("gcc", &FLAGS, "globals.c").compare(&[]);
    report.expect_on_top("global", "u0");
    assert!(report.share("u0") > report.share("u1"), "{}", report.summary());
    expect_attributed(&report, 0.9);
}

/// Expected: `u0`'s section. Without symbols nothing better is known.
#[test]
fn a_stripped_array_is_its_section() {
    if !have(&[Need::C]) {
        return;
    }
    let (_, report) = Program::compile("gcc", &["-O2", "-s"], "globals.c").compare(&[]);
    report.expect_on_top("global", ".bss");
}

/// Expected: the ring, in the profile of the program and not in that of its wrapper. `timeout` is a process too, which
/// starts the program as its child.
#[test]
fn a_program_under_timeout_has_its_own_profile() {
    if !have(&[Need::C]) {
        return;
    }
    let program = Program::compile("gcc", &FLAGS, "chase.c").through(&["timeout", "200"]);
    let alone = crate::harness::run(&mut program.command()).expect(0);
    let recorded = program.record(&[]).expect(0);
    assert_eq!(alone.stdout, recorded.stdout);
    let reports: Vec<Report> = program.profiles().iter().map(|path| Report::of(path)).collect();
    let of_program = reports.iter().max_by(|a, b| a.samples().total_cmp(&b.samples())).unwrap();
    of_program.expect_on_top("heap", "allocate_ring");
}

/// Expected: nearly every read of the ring waits for the read before it, and no read of the log does.
#[test]
fn a_chase_is_told_from_a_stream() {
    if !have(&[Need::C]) {
        return;
    }
    let program = Program::compile("gcc", &FLAGS, "chase.c").arguments(&["8000000"]);
    program.record(&[]).expect(0);
    let tables = Profile::open(&program.profile()).unwrap().tables();
    let dependent_share = |bytes: u64| {
        let object = tables.objects.iter().find(|object| object.bytes == bytes).unwrap().object;
        let reads =
            tables.samples.iter().filter(|sample| sample.object == Some(object) && sample.access == Access::Load);
        let dependent = reads.clone().filter(|sample| sample.dependent == Some(true)).count();
        (dependent as f64 / reads.clone().count().max(1) as f64, reads.count())
    };
    let (ring, ring_reads) = dependent_share(64 << 20);
    let (log, log_reads) = dependent_share(16 << 20);
    assert!(ring_reads > 200 && ring > 0.9, "{ring_reads} reads of the ring, {ring:.3} dependent");
    assert!(log < 0.1, "{log_reads} reads of the log, {log:.3} dependent");
}

/// Expected: the ring, under the same id both times. Sites are modules and offsets, which the loader does not change.
#[test]
fn recording_twice_gives_the_same_objects_although_addresses_differ() {
    if !have(&[Need::C]) {
        return;
    }
    let program = Program::compile("gcc", &FLAGS, "chase.c").arguments(&["4000000"]);
    let [first, second] = [(); 2].map(|()| {
        program.record(&["--force"]).expect(0);
        Report::of(&program.profile())
    });
    first.expect_on_top("heap", "allocate_ring");
    assert_eq!((&first.objects[0].id, &first.objects[0].site), (&second.objects[0].id, &second.objects[0].site));
}
