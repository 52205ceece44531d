//! What must be so on any correct simulator of caches, by programs whose misses can be counted by hand.

use crate::support::model::Model;
use crate::support::{Machinery, second_level, small};
use tierscope_sim::machine::{Cache, PageSize, Prefetch, Replacement, Translations};
use tierscope_sim::{Access, AtMark, Block, Config, Detail, Event, Machine, Next, ObjectId, Op, Sample};

const A: u64 = 0x10_0000;
const B: u64 = 0x20_0000;

#[test]
fn a_working_set_that_fits_has_no_misses_after_the_first_round() {
    let mut machinery = Machinery::new(small());
    machinery.allocate(A, 64 * 64, 1);
    for _ in 0..10 {
        (0..64).for_each(|line| machinery.load(A + line * 64));
    }
    let counts = machinery.finish().objects[0].counts;
    assert_eq!((counts.loads, counts.l1_misses, counts.llc_load_misses, counts.bytes_read), (640, 640, 64, 64 * 64));
}

#[test]
fn a_cycle_one_line_larger_than_a_set_always_misses_with_lru() {
    let mut machinery = Machinery::new(small());
    // The last level has 16 sets of 4 ways: lines 16 apart share one.
    for _ in 0..20 {
        (0..5).for_each(|n| machinery.load(A + n * 16 * 64));
    }
    assert_eq!(machinery.finish().totals.data.llc_load_misses, 100);
}

#[test]
fn a_tree_of_the_same_size_saves_some_of_them() {
    let mut machine = small();
    machine.llc.replacement = Replacement::TreePlru;
    let mut machinery = Machinery::new(machine);
    for _ in 0..20 {
        (0..5).for_each(|n| machinery.load(A + n * 16 * 64));
    }
    assert!(machinery.finish().totals.data.llc_load_misses < 100);
}

#[test]
fn every_dirty_line_is_written_back_once_and_clean_ones_never() {
    for (l2, inclusive) in [(None, false), (second_level(true), false), (second_level(false), true)] {
        let mut machine = Machine { l2, ..small() };
        machine.llc.inclusive = inclusive;
        let mut machinery = Machinery::new(machine);
        machinery.allocate(A, 1000 * 64, 1);
        machinery.allocate(B, 1000 * 64, 2);
        for round in 0..3 {
            (0..1000).for_each(|line| machinery.store(A + line * 64 + round * 8));
            (0..1000).for_each(|line| machinery.load(B + line * 64));
        }
        let outcome = machinery.finish();
        assert_eq!(outcome.objects[0].counts.bytes_written, 3 * 1000 * 64);
        assert_eq!((outcome.objects[1].counts.bytes_written, outcome.objects[1].counts.stores), (0, 0));
    }
}

#[test]
fn a_freed_blocks_dirty_lines_are_still_its_own() {
    let mut machinery = Machinery::new(small());
    machinery.allocate(A, 8 * 64, 1);
    (0..8).for_each(|line| machinery.store(A + line * 64));
    machinery.free(A);
    machinery.allocate(A, 8 * 64, 2);
    (0..1000).for_each(|line| machinery.load(B + line * 64));
    let objects = machinery.finish().objects;
    assert_eq!((objects[0].counts.bytes_written, objects[1].counts.bytes_written), (8 * 64, 0));
}

#[test]
fn a_line_is_charged_to_the_object_that_wrote_it_last() {
    let mut machinery = Machinery::new(small());
    machinery.allocate(A, 32, 1);
    machinery.allocate(A + 32, 32, 2);
    machinery.store(A);
    machinery.store(A + 32);
    (0..1000).for_each(|line| machinery.load(B + line * 64));
    let objects = machinery.finish().objects;
    assert_eq!((objects[0].counts.bytes_written, objects[1].counts.bytes_written), (0, 64));
}

fn streamed(prefetch: Prefetch, step: u64, l2: bool) -> tierscope_sim::Outcome {
    let machine = Machine { prefetch, ..Machine::default() };
    let machine = if l2 { machine } else { Machine { l2: None, ..machine } };
    let mut machinery = Machinery::new(machine);
    machinery.allocate(A, 1 << 20, 1);
    (0..(1 << 20) / step).for_each(|n| machinery.load(A + n * step));
    machinery.finish()
}

#[test]
fn the_stride_prefetcher_covers_a_stream_and_reads_nothing_twice() {
    let stride = Prefetch { stride: true, stride_degree: 8, ..Prefetch::OFF };
    for l2 in [true, false] {
        let counts = streamed(stride, 8, l2).objects[0].counts;
        let lines = (1 << 20) / 64;
        assert_eq!(counts.bytes_read, 1 << 20, "each line once");
        // A page has 64 lines; the first of each is not known before, and three are needed to begin.
        assert!(counts.llc_load_misses <= 256 + 3, "{counts:?}");
        assert_eq!(counts.prefetched + counts.llc_load_misses, lines);
    }
    assert_eq!(streamed(Prefetch::OFF, 8, true).objects[0].counts.llc_load_misses, (1 << 20) / 64);
}

#[test]
fn the_next_line_prefetcher_halves_the_misses_of_a_stream_and_leaves_random_alone() {
    let next_line = Prefetch { next_line: true, ..Prefetch::OFF };
    let counts = streamed(next_line, 8, true).objects[0].counts;
    assert_eq!(counts.bytes_read, 1 << 20);
    assert!(counts.llc_load_misses < 600, "{counts:?}");
    let counts = streamed(next_line, 256, true).objects[0].counts;
    assert_eq!((counts.prefetched, counts.llc_load_misses), (0, (1 << 20) / 256));
}

/// Lines of 256 pages, each by an instruction of its own, in rounds over so many pages at a time.
fn by_many(prefetch: Prefetch, together: u64, store: bool) -> tierscope_sim::Outcome {
    let mut machinery = Machinery::new(Machine { prefetch, ..Machine::default() });
    machinery.allocate(A, 1 << 20, 1);
    for first in (0..256).step_by(together as usize) {
        for line in 0..64 {
            for page in first..first + together {
                machinery.access(0, (line + page * 7) as u16 % 60, A + page * 4096 + line * 64, 8, store);
            }
        }
    }
    machinery.finish()
}

#[test]
fn the_streamer_learns_each_page_anew_whatever_asks_and_reads_nothing_twice() {
    let streamer = Prefetch { streams: 64, ..Prefetch::OFF };
    for (together, store) in [(1, false), (64, false), (64, true)] {
        let counts = by_many(streamer, together, store).objects[0].counts;
        assert_eq!((counts.llc_misses(), counts.prefetched), (256 * 10, 256 * 54), "ten requests, then the rest");
        assert_eq!(counts.bytes_read, 1 << 20, "each line once");
        assert_eq!(counts.l1_misses, 256 * 64, "it fills the second level");
    }
}

#[test]
fn the_streamer_follows_no_more_pages_than_it_has_places() {
    let streamer = Prefetch { streams: 64, ..Prefetch::OFF };
    let counts = by_many(streamer, 128, false).objects[0].counts;
    assert_eq!((counts.llc_misses(), counts.prefetched), (256 * 64, 0));
}

#[test]
fn with_a_streamer_the_stride_prefetcher_fills_the_first_level_and_watches_loads_only() {
    let stepped = |store, l2| {
        let prefetch = Prefetch { stride: true, stride_degree: 1, streams: 64, ..Prefetch::OFF };
        let machine = Machine { prefetch, ..Machine::default() };
        let mut machinery = Machinery::new(if l2 { machine } else { Machine { l2: None, ..machine } });
        machinery.allocate(A, 1 << 20, 1);
        // Eight steps in a page: too few for the streamer.
        (0..2048).for_each(|n| machinery.access(0, 0, A + n * 512, 8, store));
        machinery.finish().objects[0].counts
    };
    for l2 in [true, false] {
        let counts = stepped(false, l2);
        // The first of each page, and two of the first page to learn the step.
        assert_eq!((counts.l1_misses, counts.llc_misses(), counts.prefetched), (258, 258, 2048 - 258));
        assert_eq!(counts.bytes_read, 2048 * 64);
        assert_eq!((stepped(true, l2).l1_misses, stepped(true, l2).prefetched), (2048, 0));
    }
}

#[test]
fn pages_of_two_mebibytes_need_fewer_walks() {
    let walks = |page| {
        let mut machinery = Machinery::new(Machine { page, ..small() });
        (0..10).for_each(|_| (0..512).for_each(|n| machinery.load(B + n * 4096)));
        let data = machinery.finish().totals.data;
        assert_eq!(data.dtlb_misses, data.tlb_walks);
        data.tlb_walks
    };
    assert_eq!((walks(PageSize::Small), walks(PageSize::Huge)), (5120, 1));
}

#[test]
fn the_second_level_tlb_saves_walks() {
    let stlb = Some(Translations { entries: 1024, ways: 8, latency_cycles: 7 });
    let mut machinery = Machinery::new(Machine { stlb, ..small() });
    (0..10).for_each(|_| (0..512).for_each(|n| machinery.load(B + n * 4096)));
    let data = machinery.finish().totals.data;
    assert_eq!((data.dtlb_misses, data.tlb_walks), (5120, 512));
}

#[test]
fn a_straddling_access_is_one_and_misses_if_either_half_does() {
    let mut machinery = Machinery::new(small());
    machinery.allocate(A, 4096, 1);
    machinery.load(A);
    machinery.access(0, 0, A + 60, 8, false);
    machinery.access(0, 0, A + 60, 8, false);
    machinery.access(0, 0, A + 4096 - 4, 8, true);
    let outcome = machinery.finish();
    let counts = outcome.objects[0].counts;
    assert_eq!((counts.loads, counts.stores, counts.l1_misses), (3, 1, 3));
    assert_eq!((counts.llc_load_misses, counts.llc_store_misses, outcome.totals.straddling), (2, 1, 3));
    assert_eq!((counts.bytes_read, outcome.unattributed.bytes_read), (3 * 64, 64), "each half to its own object");
    assert_eq!(counts.tlb_walks, 2, "the last one needs the next page, too");
}

#[test]
fn a_store_makes_other_cores_copies_void_and_their_next_access_goes_to_the_last_level() {
    let mut machinery = Machinery::new(small());
    machinery.access(0, 0, A, 8, false);
    machinery.access(1, 0, A, 8, false);
    machinery.access(2, 0, A, 8, false);
    machinery.access(0, 0, A, 8, true);
    machinery.access(1, 0, A, 8, false);
    machinery.access(1, 0, A, 8, false);
    let totals = machinery.finish().totals;
    assert_eq!((totals.invalidations, totals.data.l1_misses, totals.data.llc_misses()), (2, 4, 1));
}

#[test]
fn threads_on_one_core_share_its_caches() {
    let mut machinery = Machinery::new(Machine { cores: 2, ..small() });
    machinery.access(0, 0, A, 8, true);
    machinery.access(2, 0, A, 8, true);
    let outcome = machinery.finish();
    assert_eq!((outcome.totals.data.l1_misses, outcome.totals.invalidations, outcome.threads.len()), (1, 0, 2));
}

#[test]
fn non_temporal_stores_write_each_line_once_and_read_nothing() {
    let mut machinery = Machinery::new(small());
    machinery.allocate(A, 100 * 64, 1);
    machinery.store(A + 64);
    (0..800).for_each(|n| machinery.access(0, 63, A + n * 8, 8, true));
    machinery.load(A);
    let counts = machinery.finish().objects[0].counts;
    // The line that was dirty before is written once more.
    assert_eq!((counts.bytes_written, counts.bytes_read, counts.stores), (101 * 64, 2 * 64, 801));
    assert_eq!((counts.llc_store_misses, counts.llc_load_misses), (1, 1));
}

#[test]
fn instructions_are_fetched_through_the_same_last_level() {
    let l1i = Some(Cache { bytes: 4 * 64, ways: 4, ..small().l1d });
    let config = Config { machine: Machine { l1i, ..small() }, ..Config::default() };
    let mut simulator = tierscope_sim::Simulator::new(&config).unwrap();
    let block = |address| Block { address, bytes: 128, ops: vec![Op::default(); 32].into(), number: 0 };
    for _ in 0..10 {
        let _ = simulator.execute(0, &block(0x1000), &[]);
    }
    let _ = simulator.execute(0, &block(0x2000), &[Access { address: 0x1000, op: 0, bytes: 8, store: false }]);
    let _ = simulator.execute(0, &block(0x3000), &[]);
    let _ = simulator.execute(0, &block(0x1000), &[]);
    let totals = simulator.finish().totals;
    assert_eq!((totals.instructions, totals.blocks, totals.l1i_misses, totals.llc_fetch_misses), (13 * 32, 13, 8, 6));
    assert_eq!((totals.data.l1_misses, totals.data.llc_misses()), (1, 0), "data that is code is in the last level");
}

#[test]
fn what_is_not_wanted_is_not_counted_and_the_end_is_announced() {
    let machine = small();
    let at_marks = vec![AtMark { mark: "solve".into(), detail: Detail::Full }];
    let detail = Detail::Warm;
    let max_instructions = Some(640);
    let config = Config { machine, at_marks, detail, fast_forward: 640, max_instructions, ..Config::default() };
    let mut machinery = Machinery::of(&config);
    machinery.allocate(A, 4096, 1);
    (0..10).for_each(|line| machinery.load(A + line * 64));
    (0..10).for_each(|line| machinery.load(A + line * 64));
    machinery.simulator.event(0, Event::Mark { name: "solve".into() });
    (0..9).for_each(|line| machinery.load(A + line * 64));
    let block = Block { ops: vec![Op::default(); 64].into(), ..Block::default() };
    assert_eq!(machinery.simulator.progress().counted_instructions, 9 * 64);
    assert_eq!(machinery.simulator.execute(0, &block, &[]), Next::Stop);
    let outcome = machinery.finish();
    let counts = outcome.objects[0].counts;
    assert_eq!((counts.loads, counts.llc_load_misses, counts.tlb_walks), (9, 0, 0), "warm");
    assert_eq!((outcome.totals.instructions, outcome.totals.counted_instructions), (30 * 64, 10 * 64));
    assert_eq!(outcome.marks[0].instructions, 20 * 64);
}

#[test]
fn every_third_missing_load_is_a_sample() {
    let config = Config { machine: small(), sample_every: Some(3), ..Config::default() };
    let mut machinery = Machinery::of(&config);
    machinery.simulator.event(0, Event::ThreadStarted { tid: 77 });
    machinery.allocate(A, 100 * 64, 1);
    for line in 0..10 {
        machinery.load(A + line * 64);
        machinery.load(A + line * 64);
        machinery.store(B + line * 64);
    }
    let mut samples = Vec::new();
    machinery.simulator.take_samples(&mut samples);
    assert_eq!(samples.iter().map(|s| s.address).collect::<Vec<_>>(), [2, 5, 8].map(|line| A + line * 64));
    let Sample { ip, object, tid, weight, cpu, .. } = samples[0];
    assert_eq!((ip, object, tid, weight, cpu), (0x40_0000, ObjectId(1), 77, 3, 0));
    machinery.simulator.take_samples(&mut samples);
    assert_eq!(samples.len(), 3);
}

#[test]
fn an_access_of_an_instruction_that_is_not_there_is_counted_all_the_same() {
    let mut machinery = Machinery::new(small());
    machinery.access(0, 1000, A, 8, true);
    machinery.access(0, 0, A, 0, true);
    machinery.access(0, 0, u64::MAX, 255, false);
    let outcome = machinery.finish();
    assert_eq!((outcome.approximations.senseless_accesses, outcome.unattributed.accesses()), (1, 3));
}

#[test]
fn the_model_these_are_checked_against_agrees_on_a_case_counted_by_hand() {
    let mut model = Model::new(&small(), 1);
    (0..10).for_each(|_| (0..5).for_each(|n| model.access(0, A + n * 16 * 64, 8, true, 1)));
    assert_eq!(model.rows[1], [0, 50, 50, 0, 0, 50, 2, 50, 46]);
}
