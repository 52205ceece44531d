//! Caches and time together: whole simulations of small programs.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests")]

use tierscope_sim::machine::Prefetch;
use tierscope_sim::{
    Access, Block, Class, Config, Event, Lane, LaneKind, Level, Machine, ObjectId, Op, Outcome, Placement, Registers,
    Sample, Simulator, Stretch, Tier, TierSet, Windows,
};

const RAX: Registers = Registers::general(0);
const RBX: Registers = Registers::general(3);

fn tier(name: &str, read_latency_ns: f64, gbs: f64) -> Tier {
    Tier {
        name: name.into(),
        read_latency_ns,
        sequential_read_latency_ns: None,
        write_latency_ns: None,
        read_bandwidth_gbs: gbs,
        write_bandwidth_gbs: gbs,
        granule_bytes: 64,
        write_buffer_bytes: 0,
    }
}

fn config() -> Config {
    let machine = Machine { prefetch: Prefetch::OFF, ghz: 1.0, ..Machine::default() };
    Config {
        machine: Machine {
            llc: tierscope_sim::machine::Cache { bytes: 1 << 20, ..machine.llc.clone() },
            l2: None,
            ..machine
        },
        tiers: vec![tier("fast", 100.0, 1e3), tier("slow", 400.0, 1e3)],
        sets: vec![TierSet { name: "far".into(), fast: 0, slow: 1, memory_mode_bytes: None }],
        timing: true,
        ..Config::default()
    }
}

fn load(address_sources: Registers, destinations: Registers) -> Op {
    Op { class: Class::Move, loads: 1, address_sources, destinations, ..Op::default() }
}

/// Two objects of 16 MiB: one chased through, the other read at random without anybody waiting.
struct Program {
    chased: ObjectId,
    random: ObjectId,
    simulator: Simulator,
}

impl Program {
    fn run(config: &Config, steps: u64) -> Self {
        let mut simulator = Simulator::new(config).expect("a valid configuration");
        let mut allocate =
            |address, site| simulator.event(0, Event::Allocated { address, bytes: 16 << 20, site }).expect("an object");
        let (chased, random) = (allocate(0x1000_0000, 1), allocate(0x4000_0000, 2));
        let ops = [load(RAX, RAX), load(RBX, Registers::general(1)), Op { offset: 8, ..Op::default() }];
        let block = Block { address: 0x40_0000, bytes: 12, ops: ops.into(), number: 0 };
        let mut state = 1u64;
        let mut line = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) % (16 << 14) * 64
        };
        for _ in 0..steps {
            let access = |op, address| Access { address, op, bytes: 8, store: false };
            let accesses = [access(0, 0x1000_0000 + line()), access(1, 0x4000_0000 + line())];
            let _ = simulator.execute(0, &block, &accesses);
        }
        Self { chased, random, simulator }
    }

    fn finish(mut self) -> (Outcome, Vec<Sample>) {
        self.simulator.record_live();
        let mut samples = Vec::new();
        self.simulator.take_samples(&mut samples);
        (self.simulator.finish(), samples)
    }
}

fn lane(outcome: &Outcome, kind: LaneKind) -> &Lane {
    outcome.lanes.iter().find(|lane| lane.kind == kind).expect("a lane")
}

const STEPS: u64 = 20_000;

#[test]
fn misses_say_the_two_are_alike_and_time_says_they_are_not() {
    let program = Program::run(&config(), STEPS);
    let (chased, random) = (program.chased, program.random);
    let (outcome, _) = program.finish();
    let misses = |object: ObjectId| outcome.objects[object.index() - 1].counts.llc_load_misses as f64;
    assert!((misses(chased) / misses(random) - 1.0).abs() < 0.05);
    let fast = outcome.lanes[0].cycles as f64;
    assert_eq!(outcome.lanes[0].kind, LaneKind::AllFast { set: 0 });
    let slowdown = |kind| lane(&outcome, kind).cycles as f64 / fast;
    // Nearly every step of the chase misses, at a page walk and a hundred cycles each.
    assert!(slowdown(LaneKind::ObjectSlow { set: 0, object: chased }) > 2.5);
    assert!(slowdown(LaneKind::ObjectSlow { set: 0, object: random }) < 1.3);
    assert!(slowdown(LaneKind::AllSlow { set: 0 }) < 4.1);
    let stalls = |object: ObjectId| outcome.objects[object.index() - 1].counts.stall_cycles as f64;
    assert!(stalls(chased) > 0.9 * fast && stalls(random) < 0.1 * fast, "{} {}", stalls(chased), stalls(random));
}

#[test]
fn counters_of_the_stretches_add_up_to_the_run() {
    let (outcome, samples) = Program::run(&Config { sample_every: Some(100), ..config() }, 4 * STEPS).finish();
    let sum = |of: fn(&Stretch) -> u64| outcome.stretches.iter().map(of).sum::<u64>();
    assert!(outcome.stretches.len() > 2 && outcome.stretches.is_sorted_by_key(|stretch| stretch.until));
    assert_eq!(sum(|stretch| stretch.cycles), outcome.lanes[0].cycles);
    assert_eq!(outcome.stretches.last().map(|stretch| stretch.until), Some(outcome.lanes[0].cycles));
    assert!(samples.iter().all(|sample| sample.time <= outcome.lanes[0].cycles));
    // Without a second level every miss of the first is a read.
    assert_eq!(sum(|stretch| stretch.reads), outcome.totals.data.l1_misses);
    let aol = sum(|stretch| stretch.read_cycles) as f64 / sum(|stretch| stretch.reads) as f64;
    // Two reads to a step, of which one waits for the step before.
    assert!((60.0..110.0).contains(&aol), "{aol}");
}

#[test]
fn counters_of_windows_are_of_what_was_timed_in_them() {
    let sampling = Some(Windows { every: 10_000, length: 1000, warm_up: 1000 });
    let (outcome, _) = Program::run(&Config { sampling, ..config() }, 5 * STEPS).finish();
    let timed: u64 = outcome.stretches.iter().map(|stretch| stretch.cycles).sum();
    let share = timed as f64 / outcome.lanes[0].cycles as f64;
    assert!((share / 0.2 - 1.0).abs() < 0.05, "{share}");
    let until = outcome.stretches.last().unwrap().until as f64 / outcome.lanes[0].cycles as f64;
    assert!((until - 1.0).abs() < 0.05, "{until}");
}

#[test]
fn a_placement_is_evaluated_like_the_lane_of_its_object() {
    let site = Program::run(&config(), 1).finish().0.objects[0].identity;
    let placement = |name: &str, default, tier| Placement {
        name: name.into(),
        default,
        objects: [(site, tier)].into_iter().collect(),
    };
    let placements = vec![placement("the chased one slow", 0, 1), placement("the chased one fast", 1, 0)];
    let (outcome, _) = Program::run(&Config { placements, ..config() }, STEPS).finish();
    let cycles = |kind| lane(&outcome, kind).cycles;
    assert_eq!(lane(&outcome, LaneKind::Placement { placement: 0 }).name, "the chased one slow");
    let alone = |object| cycles(LaneKind::ObjectSlow { set: 0, object: ObjectId(object) });
    assert_eq!(cycles(LaneKind::Placement { placement: 0 }), alone(1));
    assert_eq!(cycles(LaneKind::Placement { placement: 1 }), alone(2));
}

#[test]
fn samples_carry_the_latency_of_their_load() {
    let (outcome, samples) = Program::run(&Config { sample_every: Some(100), ..config() }, STEPS).finish();
    let misses = outcome.totals.data.llc_load_misses;
    assert_eq!(samples.len() as u64, misses / 100);
    assert!(
        samples.iter().all(|sample| sample.level == Level::Memory && sample.latency >= 100 && sample.weight == 100)
    );
    assert!(samples.windows(2).all(|pair| pair[0].time <= pair[1].time + 1000));
    assert!(samples.last().unwrap().time <= outcome.lanes[0].cycles);
}

#[test]
fn windows_estimate_what_the_whole_run_takes() {
    let (whole, _) = Program::run(&config(), 5 * STEPS).finish();
    let sampling = Some(Windows { every: 3000, length: 300, warm_up: 300 });
    let (sampled, samples) =
        Program::run(&Config { sampling, sample_every: Some(100), ..config() }, 5 * STEPS).finish();
    for lane in &whole.lanes {
        let estimate = sampled.lanes.iter().find(|other| other.kind == lane.kind).expect("the same lanes");
        let error = estimate.cycles as f64 / lane.cycles as f64 - 1.0;
        assert!(error.abs() < 0.03, "{}: {error}", lane.name);
        assert!(estimate.half_interval_cycles.unwrap() < 0.1 * lane.cycles as f64);
    }
    // Samples do not wait for a window.
    assert_eq!(samples.len() as u64, sampled.totals.data.llc_load_misses / 100);
    assert_eq!(sampled.totals.data.llc_load_misses, whole.totals.data.llc_load_misses);
}

#[test]
fn time_passes_between_windows_as_in_the_window_before() {
    let config = Config { sample_every: Some(100), ..config() };
    let sampling = Some(Windows { every: 3000, length: 300, warm_up: 300 });
    let (whole, timed) = Program::run(&config, 5 * STEPS).finish();
    let (_, sampled) = Program::run(&Config { sampling, ..config }, 5 * STEPS).finish();
    let cycles = whole.lanes[0].cycles as f64;
    // The same loads are samples, and the first of a hundred windows comes late.
    for (timed, sampled) in timed.iter().zip(&sampled) {
        assert_eq!((timed.ip, timed.address), (sampled.ip, sampled.address));
        let apart = (timed.time as f64 - sampled.time as f64) / cycles;
        assert!(apart.abs() < 0.03, "{} {}", timed.time, sampled.time);
    }
    assert!(sampled.windows(2).all(|pair| pair[0].time <= pair[1].time + 1000));
}

#[test]
fn nothing_is_timed_that_is_not_counted() {
    let warm_up = 3 * STEPS / 2;
    let (outcome, _) = Program::run(&Config { warm_up, ..config() }, STEPS).finish();
    let (whole, _) = Program::run(&config(), STEPS).finish();
    let share = outcome.lanes[0].cycles as f64 / whole.lanes[0].cycles as f64;
    assert!((share - 0.5).abs() < 0.02, "{share}");
}

#[test]
fn a_thread_begins_at_the_latest_clock_wherever_it_runs() {
    let mut simulator = Simulator::new(&config()).expect("a valid configuration");
    let block = Block { address: 0x40_0000, bytes: 4, ops: [load(RAX, RAX)].into(), number: 0 };
    let mut line = 0;
    let mut chase = |simulator: &mut Simulator, cpu, steps| {
        for _ in 0..steps {
            line += 1;
            let access = Access { address: 0x1000_0000 + line * 64, op: 0, bytes: 8, store: false };
            let _ = simulator.execute(cpu, &block, &[access]);
        }
    };
    simulator.event(0, Event::ThreadStarted { tid: 1 });
    chase(&mut simulator, 0, 1000);
    simulator.event(1, Event::ThreadStarted { tid: 2 });
    chase(&mut simulator, 1, 1000);
    simulator.event(1, Event::ThreadEnded);
    chase(&mut simulator, 0, 3000);
    // The first is at 4000 steps by now; the cpu of the third last ran something at 2000.
    simulator.event(1, Event::ThreadStarted { tid: 3 });
    chase(&mut simulator, 1, 1000);
    let cycles = simulator.finish().lanes[0].cycles as f64;
    assert!((cycles / 5000.0 - 100.0).abs() < 2.0, "{cycles}");
}

#[test]
fn who_comes_to_a_page_that_is_looked_for_waits_for_the_same_walk() {
    // Each step loads a line of a new page, and at the same time another line, which the next step waits for.
    let cycles = |walk_cycles, shares| {
        let config = config();
        let machine = Machine { walk_cycles, ..config.machine };
        let mut simulator = Simulator::new(&Config { machine, ..config }).expect("a valid configuration");
        let ops = [load(RAX, RBX), Op { offset: 4, ..load(RAX, RAX) }];
        let block = Block { address: 0x40_0000, bytes: 8, ops: ops.into(), number: 0 };
        for step in 0..2000_u64 {
            let access = |op, address: u64| Access { address: 0x1000_0000 + address, op, bytes: 8, store: false };
            let other = if shares { 2 * step * 4096 } else { 64 << 20 };
            let accesses = [access(0, 2 * step * 4096), access(1, other + 640 + step % 32 * 64)];
            let _ = simulator.execute(0, &block, &accesses);
        }
        simulator.finish().lanes[0].cycles as f64 / 2000.0
    };
    let without = cycles(0, true);
    assert!((without - 100.0).abs() < 10.0, "{without}");
    let shared = cycles(400, true);
    assert!((shared - without - 400.0).abs() < 10.0, "{shared}");
    // One that stays in a page of its own waits for nobody's walk.
    assert!(cycles(400, false) < 100.0);
}

#[test]
fn two_runs_are_equal() {
    assert_eq!(Program::run(&config(), STEPS).finish(), Program::run(&config(), STEPS).finish());
}
