//! One core: what costs how much.

use super::*;

const N: u64 = 2000;

/// The address of line n, far from its neighbours.
fn far(n: u64) -> u64 {
    0x10_0000 + n * 4096 * 3
}

#[test]
fn a_chase_costs_its_latency_at_every_step() {
    let mut lab = Lab::new(&config());
    let chase = block(&[load(RAX, RAX)]);
    (0..N).for_each(|n| lab.run(&chase, &[touch(0, far(n), Level::Memory, 1)]));
    near(lab.fast(), 100.0 * N as f64, 0.001);
    near(lab.slow(), 300.0 * N as f64, 0.001);
    assert_eq!(lab.alone(1), lab.slow());
}

#[test]
fn independent_misses_overlap_as_far_as_fill_buffers_go() {
    let mut lab = Lab::new(&config());
    let random = block(&[load(RBX, RAX)]);
    (0..N).for_each(|n| lab.run(&random, &[touch(0, far(n), Level::Memory, 1)]));
    // 24 of them.
    near(lab.fast(), 100.0 * N as f64 / 24.0, 0.02);
    near(lab.slow(), 300.0 * N as f64 / 24.0, 0.02);
}

#[test]
fn counters_say_that_the_reads_of_a_chase_come_one_after_the_other() {
    let mut lab = Lab::new(&config());
    let chase = block(&[load(RAX, RAX)]);
    (0..N).for_each(|n| lab.run(&chase, &[touch(0, far(n), Level::Memory, 1)]));
    lab.lanes();
    let counters = lab.0.counters();
    assert_eq!(counters.reads, N);
    near(counters.read_cycles, 100.0 * N as f64, 0.001);
    near(counters.stall_cycles, counters.cycles as f64, 0.01);
}

#[test]
fn counters_say_how_far_reads_overlap() {
    let mut lab = Lab::new(&config());
    let random = block(&[load(RBX, RAX)]);
    (0..N).for_each(|n| lab.run(&random, &[touch(0, far(n), Level::Memory, 1)]));
    let fast = lab.fast();
    let counters = lab.0.counters();
    // 24 at a time: a read's latency over that for each.
    assert_eq!((counters.reads, counters.cycles), (N, fast));
    near(counters.read_cycles, 100.0 * N as f64 / 24.0, 0.02);
    near(counters.stall_cycles, fast as f64, 0.05);
}

#[test]
fn counters_see_no_reads_that_private_caches_serve_and_no_stores() {
    let mut lab = Lab::new(&config());
    let body = block(&[load(RAX, RAX), store(RBX, RAX)]);
    for n in 0..N {
        lab.run(&body, &[touch(0, far(n), Level::L2, 1), put(1, far(N + n), Level::Memory, 1)]);
    }
    lab.lanes();
    let counters = lab.0.counters();
    assert_eq!((counters.reads, counters.read_cycles), (0, 0));
    assert!(counters.stall_cycles == 0 && counters.cycles > 0);
}

#[test]
fn independent_misses_overlap_as_far_as_the_reorder_buffer_goes() {
    let mut lab = Lab::new(&with_core(|core| core.rob = 64));
    let mut ops = vec![load(RBX, RAX)];
    ops.extend([op(Class::Nop, NONE, NONE); 15]);
    let random = block(&ops);
    (0..N).for_each(|n| lab.run(&random, &[touch(0, far(n), Level::Memory, 1)]));
    // 64 entries hold four of them with what is between.
    near(lab.fast(), 100.0 * N as f64 / 4.0, 0.05);
}

#[test]
fn a_stream_costs_bandwidth() {
    let mut config = config();
    config.tiers = vec![tier("fast", 20.0, 10.0), tier("slow", 40.0, 2.5)];
    let mut lab = Lab::new(&config);
    let stream = block(&[load(RBX, RAX)]);
    (0..N).for_each(|n| lab.run(&stream, &[touch(0, 0x10_0000 + n * 64, Level::Memory, 1)]));
    near(lab.fast(), 6.4 * N as f64, 0.01);
    near(lab.slow(), 25.6 * N as f64, 0.01);
}

#[test]
fn a_loop_that_computes_costs_the_same_anywhere() {
    let mut lab = Lab::new(&config());
    let body = block(&[load(RBX, RAX), op(Class::Multiply, RAX, RAX), op(Class::Integer, RAX, RBX)]);
    (0..N).for_each(|_| lab.run(&body, &[touch(0, 0x1000, Level::L1, 1)]));
    assert_eq!(lab.fast(), lab.slow());
    assert!(!lab.lanes().iter().any(|lane| lane.kind == alone(1)));
}

#[test]
fn what_fits_into_the_last_level_cache_costs_the_same_anywhere() {
    let mut lab = Lab::new(&config());
    let chase = block(&[load(RAX, RAX)]);
    (0..N).for_each(|n| lab.run(&chase, &[touch(0, far(n), Level::Llc, 1)]));
    near(lab.fast(), 50.0 * N as f64, 0.001);
    assert_eq!(lab.fast(), lab.slow());
}

#[test]
fn what_single_objects_cost_does_not_add_up() {
    let mut lab = Lab::new(&config());
    // Each step needs one line of either object, and takes as long as the slower.
    let step =
        block(&[load(RAX, RAX), load(RBX, RBX), op(Class::Integer, RAX | RBX, RAX), op(Class::Eliminated, RAX, RBX)]);
    (0..N).for_each(|n| {
        lab.run(&step, &[touch(0, far(2 * n), Level::Memory, 1), touch(1, far(2 * n + 1), Level::Memory, 2)]);
    });
    let fast = lab.fast();
    let over = |cycles: u64| (cycles - fast) as f64;
    let (one, two, both) = (over(lab.alone(1)), over(lab.alone(2)), over(lab.slow()));
    near(both as u64, 200.0 * N as f64, 0.01);
    assert!(one + two > 1.9 * both, "{one} + {two} against {both}");
}

#[test]
fn a_chain_of_multiplications_costs_their_latency() {
    let mut lab = Lab::new(&config());
    let chain = block(&[op(Class::Multiply, RAX, RAX); 10]);
    (0..N).for_each(|_| lab.run(&chain, &[]));
    near(lab.fast(), 30.0 * N as f64, 0.001);
}

#[test]
fn divisions_wait_for_the_divider_and_multiplications_do_not() {
    for (class, each) in [(Class::DivideLong, 18.0), (Class::Multiply, 1.0)] {
        let mut lab = Lab::new(&config());
        let body = block(&[op(class, RBX, RAX); 10]);
        (0..N).for_each(|_| lab.run(&body, &[]));
        near(lab.fast(), 10.0 * each * N as f64, 0.01);
    }
}

#[test]
fn independent_operations_are_bound_by_width_and_ports() {
    for (class, each) in [(Class::Nop, 1.0 / 6.0), (Class::Integer, 1.0 / 4.0), (Class::FloatAdd, 1.0 / 2.0)] {
        let mut lab = Lab::new(&config());
        let body = block(&[op(class, NONE, RAX); 12]);
        (0..N).for_each(|_| lab.run(&body, &[]));
        near(lab.fast(), 12.0 * each * N as f64, 0.01);
    }
}

/// A load, and a branch on what it read that goes one way or the other by `taken`.
fn branches(taken: impl FnMut() -> bool) -> u64 {
    let mut taken = taken;
    let mut lab = Lab::new(&config());
    let ops = [
        load(RBX, RAX),
        op(Class::Integer, RAX, Registers::FLAGS),
        op(Class::BranchConditional, Registers::FLAGS, NONE),
    ];
    let (one, other) = (block_at(0x1000, &ops), block_at(0x100c, &ops));
    for n in 0..N {
        // Where the branch of the block before went: to the instruction behind it, or to itself.
        let body = if n % 2 == 0 || taken() { &one } else { &other };
        lab.run(body, &[touch(0, far(n), Level::Memory, 1)]);
    }
    lab.fast()
}

#[test]
fn a_branch_guessed_wrong_costs_the_latency_of_what_it_waits_for() {
    let steady = branches(|| true);
    near(steady, 100.0 * N as f64 / 24.0, 0.1);
    let mut random = Random(5);
    let mut other = false;
    let coin = branches(|| {
        other = random.below(2) == 0;
        other
    });
    // Of every two branches one goes by a coin, and half of those are wrong: a quarter of the misses in sequence at least.
    assert!(coin as f64 > 100.0 * N as f64 * 0.22, "{coin}");
    assert!(coin > 4 * steady);
}

#[test]
fn stores_that_miss_are_bound_by_the_fill_buffers_and_leave_in_order() {
    let mut lab = Lab::new(&config());
    let body = block(&[store(RBX, RAX)]);
    (0..N).for_each(|n| lab.run(&body, &[put(0, far(n), Level::Memory, 1)]));
    near(lab.fast(), 100.0 * N as f64 / 24.0, 0.05);
    near(lab.slow(), 300.0 * N as f64 / 24.0, 0.05);
    let mut lab = Lab::new(&with_core(|core| core.store_buffer = 4));
    (0..N).for_each(|n| lab.run(&body, &[put(0, far(n), Level::Memory, 1)]));
    near(lab.fast(), 100.0 * N as f64 / 4.0, 0.05);
}

#[test]
fn a_few_stores_that_miss_cost_nothing_and_many_fill_the_buffer() {
    let mut ops = vec![store(RBX, RAX)];
    ops.extend([op(Class::Nop, NONE, NONE); 599]);
    let mut lab = Lab::new(&config());
    let body = block(&ops);
    (0..100).for_each(|n| lab.run(&body, &[put(0, far(n), Level::Memory, 1)]));
    near(lab.slow(), 100.0 * 100.0, 0.01);
}

#[test]
fn a_load_is_given_what_a_store_before_it_wrote() {
    let mut lab = Lab::new(&config());
    // Through memory, but never to it: the line is on its way all the time.
    let body = block(&[store(RBX, RAX), load(RBX, RAX)]);
    let level = |n| if n == 0 { Level::Memory } else { Level::L1 };
    (0..N).for_each(|n| lab.run(&body, &[put(0, 0x5000, level(n), 1), touch(1, 0x5000, Level::L1, 1)]));
    // Seven cycles from data to data.
    near(lab.fast(), 7.0 * N as f64, 0.02);
}

#[test]
fn a_line_on_its_way_is_waited_for_once() {
    let mut lab = Lab::new(&config());
    let miss = block(&[load(RAX, RAX)]);
    for n in 0..N {
        lab.run(&miss, &[touch(0, far(n / 8) + n % 8 * 8, if n % 8 == 0 { Level::Memory } else { Level::L1 }, 1)]);
    }
    // A chase through the words of each line: one miss, then seven hits.
    near(lab.fast(), (100.0 + 7.0 * 4.0) * N as f64 / 8.0, 0.01);
    let mut lab = Lab::new(&config());
    let both = block(&[load(RBX, RAX), load(RBX, RBX), load(RBX, RBX)]);
    for n in 0..N {
        let touches = [0, 8, 16]
            .map(|word| touch(word as u16 / 8, far(n) + word, if word == 0 { Level::Memory } else { Level::L1 }, 1));
        lab.run(&both, &touches);
    }
    near(lab.fast(), 104.0 * N as f64, 0.01);
}

#[test]
fn a_late_prefetch_hides_as_much_as_it_was_early() {
    let mut lab = Lab::new(&config());
    // Sixty cycles of multiplications between the prefetch and the load that needs it.
    let mut ops = vec![op(Class::Multiply, RAX, RAX); 20];
    ops.insert(0, load(RAX, RAX));
    let body = block(&ops);
    for n in 0..N {
        let traffic = moved(TrafficKind::Prefetch, 0, far(n + 1), 1);
        lab.run_on(0, &body, &[touch(0, far(n), if n == 0 { Level::Memory } else { Level::L1 }, 1)], &[traffic]);
    }
    // Each prefetch starts with a load, and the load after that begins sixty cycles after this one ended, and ends when the
    // prefetch does: two steps take a latency and sixty cycles.
    near(lab.fast(), (100.0 + 60.0) / 2.0 * N as f64, 0.01);
    near(lab.slow(), (300.0 + 60.0) / 2.0 * N as f64, 0.01);
}

#[test]
fn what_is_waited_for_is_the_oldest_load() {
    let mut lab = Lab::new(&config());
    let body = block(&[load(RAX, RAX), load(RBX, RBX)]);
    (0..N).for_each(|n| {
        lab.run(&body, &[touch(0, far(n), Level::Memory, 1), touch(1, far(5000 + n), Level::Llc, 2)]);
    });
    let stalls = {
        lab.0.flush();
        lab.0.stalls()
    };
    near(stalls[1], 100.0 * N as f64, 0.01);
    assert!(stalls[2] < N / 10, "{stalls:?}");
}

#[test]
fn a_walk_adds_to_the_latency() {
    let mut lab = Lab::new(&config());
    let chase = block(&[load(RAX, RAX)]);
    for n in 0..N {
        let accesses = [Access { address: far(n), op: 0, bytes: 8, store: false }];
        let served = [Served { level: Level::Llc, tlb: Tlb::Walk, ..Served::default() }];
        let (traffic, observed) = (&[], &[]);
        lab.0.execute(0, Execution { block: &chase, accesses: &accesses, served: &served, traffic, observed });
    }
    near(lab.fast(), (50.0 + 7.0 + 30.0) * N as f64, 0.001);
}

#[test]
fn a_fence_lets_nothing_overlap() {
    let mut lab = Lab::new(&config());
    let body = block(&[load(RBX, RAX), op(Class::Fence, NONE, NONE)]);
    (0..N).for_each(|n| lab.run(&body, &[touch(0, far(n), Level::Memory, 1)]));
    near(lab.fast(), 101.0 * N as f64, 0.01);
}

#[test]
fn the_stack_pointer_waits_for_no_load() {
    let rsp = Registers::general(4);
    let mut lab = Lab::new(&config());
    let body = block(&[Op { destinations: RAX | rsp, sources: rsp, ..load(rsp, NONE) }]);
    (0..N).for_each(|n| lab.run(&body, &[touch(0, 0x7000 + n * 8, Level::L1, 1)]));
    near(lab.fast(), N as f64 / 3.0, 0.02);
}

#[test]
fn repeated_strings_move_many_bytes_in_a_cycle() {
    let registers = Registers::general(1) | Registers::general(6) | Registers::general(7);
    let body = block(&[Op {
        class: Class::Repeat,
        loads: 1,
        stores: 1,
        sources: registers,
        destinations: registers,
        address_sources: registers,
        ..Op::default()
    }]);
    let mut lab = Lab::new(&config());
    (0..N).for_each(|n| {
        lab.run(&body, &[touch(0, 0x8000 + n * 8, Level::L1, 1), put(0, 0x10_0000 + n * 8, Level::L1, 2)])
    });
    near(lab.fast(), N as f64 / 2.0, 0.05);
}

#[test]
fn any_number_of_registers_is_followed() {
    let many = Registers(0x0fff);
    let mut lab = Lab::new(&config());
    // One that reads and writes twelve, of which a chase goes through the last.
    let body = block(&[load(Registers::general(11), Registers::general(11)), op(Class::Integer, many, many)]);
    (0..N).for_each(|n| lab.run(&body, &[touch(0, far(n), Level::Memory, 1)]));
    near(lab.fast(), 101.0 * N as f64, 0.01);
}

fn optane() -> Config {
    let mut config = config();
    config.tiers[1] = Tier {
        sequential_read_latency_ns: Some(169.0),
        granule_bytes: 256,
        write_buffer_bytes: 16 << 10,
        write_bandwidth_gbs: 2.0,
        ..tier("optane", 305.0, 6.4)
    };
    config
}

fn slow_bytes(lab: &mut Lab) -> (u64, u64) {
    let lanes = lab.lanes();
    let (read, written) = lanes.iter().find(|lane| lane.kind == SLOW).unwrap().moved[1];
    (read * 256, written * 256)
}

#[test]
fn a_random_line_of_optane_moves_four_and_a_stream_moves_one() {
    let body = block(&[load(RBX, RAX)]);
    for (step, amplification) in [(4096 * 3, 4.0), (64, 1.0)] {
        let mut lab = Lab::new(&optane());
        (0..4 * N).for_each(|n| lab.run(&body, &[touch(0, 0x10_0000 + n * step, Level::Memory, 1)]));
        let (read, _) = slow_bytes(&mut lab);
        near(read, amplification * 64.0 * 4.0 * N as f64, 0.001);
        // 6.4 bytes of the medium in a nanosecond.
        near(lab.slow(), read as f64 / 6.4, 0.03);
    }
}

#[test]
fn lines_written_back_to_optane_one_by_one_cost_four() {
    let body = block(&[store(RBX, RAX)]);
    for (step, amplification) in [(4096 * 3, 4.0), (64, 1.0)] {
        let mut lab = Lab::new(&optane());
        for n in 0..4 * N {
            let traffic = moved(TrafficKind::Writeback, 0, 0x10_0000 + n * step, 1);
            lab.run_on(0, &body, &[put(0, 0x8000_0000 + n * 4096, Level::Memory, 2)], &[traffic]);
        }
        // What is still in the buffer was not written; the lines of the other object were read.
        let (_, written) = slow_bytes(&mut lab);
        near(written, amplification * 64.0 * 4.0 * N as f64, 0.05);
        // Object 1 alone there: nobody reads it, yet its writes hold up who displaces it.
        assert!(lab.alone(1) as f64 > 0.9 * written as f64 / 2.0, "{} for {written}", lab.alone(1));
    }
}

#[test]
fn memory_mode_is_fast_while_all_fits_and_slower_than_slow_when_nothing_does() {
    let chase = block(&[load(RAX, RAX)]);
    for (lines, rounds) in [(4096, 50), (4 * 16384, 4)] {
        let mut config = config();
        config.sets[0].memory_mode_bytes = Some(1 << 20);
        let mut lab = Lab::new(&config);
        for n in 0..lines * rounds {
            lab.run(&chase, &[touch(0, n % lines * 64, Level::Memory, 1)]);
        }
        let (fast, slow) = (lab.fast(), lab.slow());
        let mode = lab.cycles(LaneKind::MemoryMode { set: 0 });
        if lines == 4096 {
            near(mode, fast as f64 + 300.0 * lines as f64, 0.01);
        } else {
            near(mode, (fast + slow) as f64, 0.01);
        }
    }
}

#[test]
fn stores_around_the_caches_are_bound_by_write_bandwidth() {
    let mut config = config();
    config.tiers[0].write_bandwidth_gbs = 8.0;
    let mut lab = Lab::new(&config);
    let body = block(&[Op { non_temporal: true, ..store(RBX, RAX) }]);
    for n in 0..8 * N {
        let full = moved(TrafficKind::NonTemporal, 0, n * 8, 1);
        let traffic = if n % 8 == 7 { vec![full] } else { vec![] };
        lab.run_on(0, &body, &[put(0, n * 8, Level::L1, 1)], &traffic);
    }
    near(lab.fast(), 8.0 * N as f64, 0.05);
}

#[test]
fn what_is_observed_is_told_with_its_latency() {
    let mut lab = Lab::new(&config());
    let chase = block(&[load(RAX, RAX)]);
    for n in 0..N {
        let accesses = [Access { address: far(n), op: 0, bytes: 8, store: false }];
        let served = [Served { level: Level::Memory, object: ObjectId(1), ..Served::default() }];
        let observed: &[(u32, u32)] = if n % 100 == 0 { &[(0, n as u32)] } else { &[] };
        lab.0.execute(0, Execution { block: &chase, accesses: &accesses, served: &served, traffic: &[], observed });
    }
    lab.0.flush();
    let observed: Vec<_> = lab.0.observed().collect();
    assert_eq!(observed.len(), 20);
    for (index, sample) in observed.iter().enumerate() {
        assert_eq!((sample.number, sample.latency), (100 * index as u32, 100));
        assert!(sample.time.abs_diff(10_000 * index as u64) <= 2, "{sample:?}");
    }
}

#[test]
fn long_runs_on_slow_media_do_not_overflow() {
    let mut config = config();
    config.tiers[1] = Tier { granule_bytes: 4096, ..tier("flash", 80_000.0, 3.0) };
    let mut lab = Lab::new(&config);
    let mut ops = vec![load(RAX, RAX)];
    ops.extend([op(Class::Integer, RBX, RBX); 20]);
    let chase = block(&ops);
    (0..10 * N).for_each(|n| lab.run(&chase, &[touch(0, far(n), Level::Memory, 1)]));
    // In ticks, nine times what fits into 32 bits.
    near(lab.slow(), 80_000.0 * 10.0 * N as f64, 0.001);
    near(lab.fast(), 100.0 * 10.0 * N as f64, 0.001);
    assert_eq!(lab.alone(1), lab.slow());
}
