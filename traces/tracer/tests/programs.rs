//! Small programs under QEMU: what is counted of them is what they did.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by them")]

mod support;

use std::path::Path;
use support::{Run, Setting, accesses, global, heap, program, run};
use tierscope_sim::{Config, ObjectKey};
use tierscope_tracer::{ALLOCATIONS_FILE, Ended, PROGRESS_FILE, Progress, SAMPLES_FILE, TracerOutcome, rows};

const N: u64 = 100_000;

#[test]
fn every_access_of_a_block_and_of_a_global_is_counted() {
    if support::left_out() {
        return;
    }
    let config = Config { sample_every: Some(10), record_blocks_of: Some(1), ..Config::default() };
    let run = run(&program("counts", "counts", &[]), &[], Setting { config, ..Setting::default() });
    assert_eq!(run.output.status.code(), Some(7), "the program's own status");
    let outcome = run.outcome();
    assert_eq!((outcome.ended, outcome.shim), (Ended::Exited, true));
    assert_eq!(accesses(global(&outcome, "table")), (N / 2, N));
    let blocks = heap(&outcome, N * 8);
    assert_eq!(blocks.len(), 1);
    assert_eq!(accesses(blocks[0].counts), (3 * N, N));
    assert_eq!(outcome.losses, Default::default());
    // The files beside it.
    let samples = rows::read_samples(&run.directory.path().join(SAMPLES_FILE)).unwrap();
    assert_eq!(samples.len() as u64, outcome.outcome.totals.data.llc_load_misses / 10);
    let allocations = rows::read_allocations(&run.directory.path().join(ALLOCATIONS_FILE)).unwrap();
    assert_eq!(allocations.iter().filter(|block| block.bytes == N * 8 && block.freed != u64::MAX).count(), 1);
    let progress = Progress::read(&run.directory.path().join(PROGRESS_FILE)).unwrap();
    assert_eq!(progress.instructions, outcome.outcome.totals.instructions);
}

#[test]
fn sites_are_the_same_in_another_run_and_name_their_module() {
    if support::left_out() {
        return;
    }
    let path = program("counts", "counts_sites", &[]);
    let sites = || {
        let outcome = run(&path, &[], Setting::default()).outcome();
        let block = heap(&outcome, N * 8)[0];
        let ObjectKey::Heap { site, .. } = block.key else { unreachable!() };
        let site = outcome.outcome.sites.iter().find(|known| known.site == site).unwrap();
        let (module, address) = site.frames[0];
        let module = &outcome.outcome.modules[module.unwrap() as usize];
        assert!(module.path.ends_with("counts_sites") && module.build_id.is_some(), "{module:?}");
        (block.identity, address, outcome.outcome.totals.data.llc_misses())
    };
    assert_eq!(sites(), sites());
}

#[test]
fn two_threads_lose_no_access_and_two_runs_agree() {
    if support::left_out() {
        return;
    }
    const N: u64 = 200_000;
    let path = program("threads", "threads", &[]);
    for _ in 0..2 {
        let run = run(&path, &[], Setting::default());
        assert_eq!(run.stdout(), format!("{}\n", N / 2));
        let outcome = run.outcome();
        let blocks = heap(&outcome, N * 8);
        assert_eq!(blocks.len(), 2, "one for each site");
        for block in blocks {
            assert_eq!(accesses(block.counts), (N, N));
        }
        // Each addition reads and writes, and it is printed once.
        assert_eq!(accesses(global(&outcome, "shared_counter")), (N / 2 + 1, N / 2));
        assert_eq!(outcome.outcome.threads.len(), 2);
        assert!(outcome.outcome.threads.iter().all(|thread| thread.tid != 0 && thread.instructions > N));
        let stacks = outcome.outcome.objects.iter().filter(|object| matches!(object.key, ObjectKey::Stack { .. }));
        assert_eq!(stacks.filter(|stack| stack.counts.loads > 0).count(), 2);
    }
}

#[test]
fn a_reused_address_and_a_block_that_moved_belong_to_whoever_has_them_then() {
    if support::left_out() {
        return;
    }
    let run = run(&program("reuse", "reuse", &[]), &[], Setting::default());
    assert_eq!(run.stdout(), "1\n", "the C library hands the address out again");
    let outcome = run.outcome();
    let mut small: Vec<u64> = heap(&outcome, 4096 * 8).iter().map(|object| object.counts.stores).collect();
    small.sort_unstable();
    // While `realloc` frees the old block the C library writes into it, and it is still the old site's.
    assert!(small.len() == 2 && small[0] == 10_000 && (20_000..20_010).contains(&small[1]), "{small:?}");
    let large: Vec<u64> = heap(&outcome, 64 * 4096 * 8).iter().map(|object| object.counts.stores).collect();
    assert!(large.len() == 1 && (40_000..40_000 + 4096 + 64).contains(&large[0]), "copied and then written: {large:?}");
}

#[test]
fn globals_of_a_library_that_comes_and_goes_are_counted() {
    if support::left_out() {
        return;
    }
    let library = program("library", "liblibrary.so", &["-shared", "-fPIC"]);
    let path = program("loads_library", "loads_library", &["-ldl"]);
    let outcome = run(&path, &[library.to_str().unwrap()], Setting::default()).outcome();
    assert_eq!(accesses(global(&outcome, "of_library")), (0, 10_000));
    assert_eq!(outcome.outcome.modules.iter().filter(|module| module.path.ends_with("liblibrary.so")).count(), 1);
}

#[test]
fn what_a_fault_cut_off_is_not_counted() {
    if support::left_out() {
        return;
    }
    let run = run(&program("faults", "faults", &["-no-pie"]), &[], Setting::default());
    assert_eq!(run.stdout(), "100\n");
    let outcome = run.outcome();
    assert_eq!(accesses(global(&outcome, "before")), (100, 0));
    assert_eq!(accesses(global(&outcome, "after")), (0, 0));
    assert_eq!(outcome.losses.blocks_left_early, 100);
}

#[test]
fn code_made_anew_is_decoded_anew() {
    if support::left_out() {
        return;
    }
    let run = run(&program("generated", "generated", &[]), &[], Setting::default());
    assert_eq!(run.stdout(), "0\n");
    let outcome = run.outcome();
    assert_eq!(accesses(global(&outcome, "one")), (1000, 0));
    assert_eq!(accesses(global(&outcome, "two")), (2000, 0));
}

#[test]
fn an_operand_counts_once_however_wide() {
    if support::left_out() {
        return;
    }
    let outcome = run(&program("wide", "wide", &[]), &[], Setting::default()).outcome();
    assert_eq!(accesses(global(&outcome, "wide")), (200, 100));
    assert_eq!(accesses(global(&outcome, "tens")), (100, 100));
    assert_eq!(accesses(global(&outcome, "copied")), (300, 300));
}

#[test]
fn marks_are_heard() {
    if support::left_out() {
        return;
    }
    let outcome = run(&program("marks", "marks", &[]), &[], Setting::default()).outcome();
    let names: Vec<&str> = outcome.outcome.marks.iter().map(|mark| mark.name.as_str()).collect();
    assert_eq!(names, ["build", "a name of more than thirty-two b"]);
}

#[test]
fn a_static_program_has_globals_a_stack_and_mappings() {
    if support::left_out() {
        return;
    }
    let path = program("counts", "counts_static", &["-static"]);
    let run = run(&path, &[], Setting { shim: false, ..Setting::default() });
    assert_eq!(run.output.status.code(), Some(7));
    let outcome = run.outcome();
    assert!(!outcome.shim);
    assert_eq!(accesses(global(&outcome, "table")), (N / 2, N));
    let of = |kind: fn(&ObjectKey) -> bool| {
        let objects = outcome.outcome.objects.iter().filter(|object| kind(&object.key));
        objects.map(|object| object.counts.loads).sum::<u64>()
    };
    assert!(of(|key| matches!(key, ObjectKey::Stack { .. })) > 0);
    let block = of(|key| matches!(key, ObjectKey::Anonymous { .. }));
    assert!((3 * N..3 * N + 1000).contains(&block), "the block is in a mapping: {block}");
    assert!(!outcome.outcome.objects.iter().any(|object| matches!(object.key, ObjectKey::Heap { .. })));
}

/// What must not depend on who wrote an access.
fn compared(run: &Run) -> impl PartialEq + std::fmt::Debug + use<> {
    let TracerOutcome { outcome, losses, .. } = run.outcome();
    let objects = outcome.objects.iter().map(|object| (object.name.clone(), object.bytes, object.counts));
    (losses, outcome.totals, outcome.unattributed, objects.collect::<Vec<_>>(), outcome.approximations)
}

#[test]
fn what_follows_is_what_the_emulator_would_have_told() {
    if support::left_out() {
        return;
    }
    let python = Path::new("/usr/bin/python3");
    let script =
        "import json, re, zlib; print(len(zlib.compress(re.sub('1', 'one', json.dumps(list(range(5000)))).encode())))";
    let follows = program("follows", "follows", &["-no-pie", "-mno-red-zone"]);
    let programs: [(&Path, &[&str]); 2] = [(&follows, &[]), (python, &["-S", "-c", script])];
    for (program, arguments) in programs {
        let [together, each] =
            [false, true].map(|ask_for_each| run(program, arguments, Setting { ask_for_each, ..Setting::default() }));
        assert!(together.output.status.success(), "{}", String::from_utf8_lossy(&together.output.stderr));
        assert_eq!(together.stdout(), each.stdout());
        let (together, each) = (compared(&together), compared(&each));
        assert!(together == each, "{}:\n{together:?}\n{each:?}", program.display());
    }
}
