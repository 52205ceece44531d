//! Lanes: made late or from the start, wide or narrow, closed and opened.

use proptest::prelude::*;

use super::super::pipeline::Pipeline;
use super::*;
use crate::config::{Placement, Windows};

/// A program of random blocks over a few objects, each of which begins to be used at some time.
#[derive(Debug, Clone)]
struct Program {
    seed: u64,
    blocks: u64,
    objects: u64,
    cpus: u64,
}

impl Program {
    fn run(&self, lab: &mut Lab) {
        self.run_and(lab, |_| ());
    }

    fn run_and(&self, lab: &mut Lab, mut then: impl FnMut(&mut Lab)) {
        let mut random = Random(self.seed);
        let classes = [Class::Integer, Class::Multiply, Class::Divide, Class::Atomic, Class::Fence, Class::FloatAdd];
        for n in 0..self.blocks {
            let mut ops = Vec::new();
            let mut touches = Vec::new();
            let mut traffic = Vec::new();
            for index in 0..1 + random.below(6) {
                let registers = |random: &mut Random| Registers::general(random.below(8) as u8);
                let kind = random.below(3);
                let (a, b) = (registers(&mut random), registers(&mut random));
                if kind == 0 {
                    ops.push(op(classes[random.below(6) as usize], a, b));
                    continue;
                }
                // Objects begin to be used one after the other.
                let object = 1 + random.below(1 + n * self.objects / self.blocks);
                let level = [Level::L1, Level::L1, Level::L2, Level::Llc, Level::Memory, Level::Memory]
                    [random.below(6) as usize];
                let address = object * 0x100_0000 + random.below(4000) * 64;
                ops.push(if kind == 1 { load(a, b) } else { store(a, b) });
                touches.push(Touch { store: kind == 2, ..touch(index as u16, address, level, object as u32) });
                let kinds = [TrafficKind::Prefetch, TrafficKind::Writeback, TrafficKind::Half];
                if let Some(kind) = kinds.get(random.below(8) as usize) {
                    let access = touches.len() as u32 - 1;
                    traffic.push(moved(*kind, access, address + 64 * random.below(3), object as u32));
                }
            }
            ops.push(op(Class::BranchConditional, Registers::general(1), NONE));
            let body = block_at(0x1000 + 0x40 * random.below(4), &ops);
            let cpu = random.below(self.cpus) as usize;
            lab.run_on(cpu, &body, &touches, &traffic);
            if self.cpus > 1 && random.below(50) == 0 {
                lab.0.waited(cpu);
            }
            then(lab);
        }
    }
}

fn two_sets(granule: u64) -> Config {
    let mut config = config();
    config.tiers[0] = tier("fast", 90.0, 20.0);
    config.tiers[1] = Tier { granule_bytes: granule, write_buffer_bytes: 4096, ..tier("slow", 305.0, 5.0) };
    config.tiers.push(tier("flash", 20_000.0, 1.0));
    config.sets.push(TierSet { name: "flash".into(), fast: 0, slow: 2, memory_mode_bytes: None });
    config
}

fn programs() -> impl Strategy<Value = Program> {
    (any::<u64>(), 50u64..600, 1u64..9, 1u64..4).prop_map(|(seed, blocks, objects, cpus)| Program {
        seed,
        blocks,
        objects,
        cpus,
    })
}

/// Ticks of each lane.
fn clocks(lab: &mut Lab) -> Vec<(LaneKind, u64)> {
    lab.0.flush();
    (0..lab.0.lanes.entries.len()).map(|number| (lab.0.lanes.entries[number].kind, lab.0.clock_of(number))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// A placement given from the start says the same, tick by tick, as the lane that is made when its object first reaches memory.
    #[test]
    fn lanes_made_late_equal_lanes_made_at_the_start(program in programs(), large in any::<bool>()) {
        let mut config = two_sets(if large { 256 } else { 64 });
        for tier in [1, 2] {
            for object in 1..=program.objects {
                let objects = [(object, tier)].into_iter().collect();
                config.placements.push(Placement { name: format!("{object} in {tier}"), default: 0, objects });
            }
        }
        let mut lab = Lab::new(&config);
        for object in 1..=program.objects {
            let tiers = config.placements.iter().map(|placement| placement.objects.get(&object).copied().unwrap_or(0));
            lab.0.object(ObjectId(object as u32), tiers);
        }
        program.run(&mut lab);
        let clocks = clocks(&mut lab);
        let of = |kind| clocks.iter().find(|(k, _)| *k == kind).map(|(_, clock)| *clock);
        for set in 0..2u16 {
            for object in 1..=program.objects {
                let placement = u16::try_from(u64::from(set) * program.objects + object - 1).unwrap();
                let late = of(LaneKind::ObjectSlow { set, object: ObjectId(object as u32) });
                // One that never reached memory has no lane, and costs nothing.
                let late = late.unwrap_or_else(|| of(LaneKind::AllFast { set }).unwrap());
                prop_assert_eq!(of(LaneKind::Placement { placement }), Some(late), "object {} of {}", object, set);
            }
        }
    }

    /// However wide the vectors are, and whatever else is in them.
    #[test]
    fn all_widths_say_the_same(program in programs()) {
        let config = two_sets(256);
        let mut told = Vec::new();
        for width in Width::available() {
            let mut lab = Lab::with(&config, width);
            program.run(&mut lab);
            told.push((clocks(&mut lab), lab.0.stalls()));
        }
        prop_assert!(told.windows(2).all(|pair| pair[0] == pair[1]));
    }

    /// Moving the epoch changes nothing.
    #[test]
    fn epochs_make_no_difference(program in programs()) {
        let config = two_sets(256);
        let (mut plain, mut moving) = (Lab::new(&config), Lab::new(&config));
        program.run_and(&mut plain, |lab| lab.0.flush());
        program.run_and(&mut moving, |lab| {
            lab.0.flush();
            lab.0.cores.iter_mut().flat_map(|core| &mut core.pipelines).for_each(Pipeline::move_epoch);
        });
        prop_assert_eq!(clocks(&mut plain), clocks(&mut moving));
    }
}

#[test]
fn the_same_program_takes_the_same_time() {
    let program = Program { seed: 11, blocks: 3000, objects: 6, cpus: 2 };
    let run = || {
        let mut lab = Lab::new(&two_sets(256));
        program.run(&mut lab);
        (lab.lanes(), lab.0.stalls())
    };
    assert_eq!(run(), run());
}

#[test]
fn sets_with_one_fast_tier_share_its_lane() {
    let mut lab = Lab::new(&two_sets(64));
    Program { seed: 3, blocks: 500, objects: 3, cpus: 1 }.run(&mut lab);
    assert_eq!(lab.fast(), lab.cycles(LaneKind::AllFast { set: 1 }));
    assert!(lab.cycles(LaneKind::AllSlow { set: 1 }) > 10 * lab.slow());
}

#[test]
fn objects_that_matter_keep_their_lanes() {
    let mut config = config();
    config.max_lanes = 1;
    let mut lab = Lab::new(&config);
    let chase = block(&[load(RAX, RAX)]);
    // One object is chased through all the time; forty others are touched now and then.
    for n in 0..20_000u64 {
        let object = if n % 10 == 0 { 2 + n / 10 % 40 } else { 1 };
        lab.run(&chase, &[touch(0, n * 4096, Level::Memory, object as u32)]);
    }
    let fast = lab.fast();
    let lanes = lab.lanes();
    let lane = lanes.iter().find(|lane| lane.kind == alone(1)).unwrap();
    near(lane.cycles - fast, 18_000.0 * 200.0, 0.01);
    assert!(lab.0.closed_lanes() > 0);
    assert!(lanes.iter().any(|lane| lane.missed.is_some() && matches!(lane.kind, LaneKind::ObjectSlow { .. })));
    // What a closed lane kept is no more than its object's lines can cost.
    for lane in lanes.iter().filter(|lane| matches!(lane.kind, LaneKind::ObjectSlow { .. }) && lane.kind != alone(1)) {
        assert!(lane.cycles - fast <= 50 * 200 + 200, "{lane:?}");
    }
}

#[test]
fn windows_say_what_the_whole_run_takes_within_their_interval() {
    let run = |sampling: Option<Windows>| {
        let mut lab = Lab::new(&Config { sampling, ..config() });
        let mut random = Random(9);
        let chase = block(&[load(RAX, RAX), op(Class::Multiply, RBX, RBX), op(Class::Integer, RBX, RBX)]);
        for n in 0..200_000u64 {
            // Phases with more and fewer misses, and two objects.
            let level = if random.below(100) < 5 + n / 10_000 { Level::Memory } else { Level::L1 };
            lab.run(&chase, &[touch(0, n * 4096, level, 1 + random.below(2) as u32)]);
        }
        let mut lanes = lab.lanes();
        lanes.sort_by_key(|lane| format!("{:?}", lane.kind));
        lanes
    };
    let whole = run(None);
    let sampled = run(Some(Windows { every: 5000, length: 400, warm_up: 400 }));
    assert_eq!(whole.len(), sampled.len());
    for (whole, sampled) in whole.iter().zip(&sampled) {
        assert_eq!(whole.kind, sampled.kind);
        let half = sampled.half.unwrap();
        assert!((whole.cycles as f64 - sampled.cycles as f64).abs() < half, "{whole:?} {sampled:?}");
        assert!(half < 0.2 * whole.cycles as f64, "{sampled:?}");
    }
    let more = |lanes: &[LaneTime], lane: usize| lanes[lane].cycles as f64 / lanes[0].cycles as f64 - 1.0;
    for lane in 1..whole.len() {
        let half = sampled[lane].half_difference.unwrap() / sampled[0].cycles as f64;
        assert!((more(&whole, lane) - more(&sampled, lane)).abs() < 1.5 * half, "{lane} {half}");
        // Both in the same windows: surer than either.
        assert!(sampled[lane].half_difference < sampled[lane].half);
    }
}
