//! Steps are the same as executions, whatever is simulated of them and wherever they pause.

use crate::support::{prefetchers, second_level, small};
use proptest::prelude::*;
use tierscope_sim::machine::{Cache, PageSize, Translations};
use tierscope_sim::steps::Left;
use tierscope_sim::{Access, Block, Config, Event, Machine, Next, Op, Outcome, Packed, Sample, Simulator, Step, Steps};

/// The first byte of what blocks are allocated from.
const BASE: u64 = 0x10_0000;

#[derive(Debug, Clone)]
enum Act {
    /// Of a thread: a block and what it accesses; perhaps it is left after some instructions.
    Execute {
        cpu: u16,
        block: usize,
        accesses: Vec<u64>,
        left: bool,
    },
    Allocate {
        at: u64,
        bytes: u64,
        site: u64,
    },
    Free {
        at: u64,
    },
}

/// Blocks of 1 to 24 instructions, the last of which stores around the caches.
fn blocks() -> Vec<Block> {
    let block = |n: u64| {
        let last = n * 5 + 3;
        let op = |index: u64| Op { offset: index as u16 * 4, non_temporal: index == last, ..Op::default() };
        Block {
            address: 0x40_0000 + n * 0x1234,
            bytes: last as u32 * 4 + 4,
            ops: (0..=last).map(op).collect(),
            number: 0,
        }
    };
    (0..5).map(block).collect()
}

/// An access of a block as a word: whatever comes is made to fit.
fn packed(random: u64, block: &Block) -> u64 {
    let op = (random >> 32) % block.ops.len() as u64;
    let (store, around) = (random >> 40 & 1, block.ops[op as usize].non_temporal);
    let size = if around && store == 1 { 10 + (random >> 48) % 6 } else { (random >> 48) % 10 };
    // Near one of a few places, so that lines are met again.
    let place = [0, 64, 200, 4096, 0x3_0000, 1 << 21][(random >> 56) as usize % 6];
    size << 58 | store << 57 | op << 48 | (BASE + place + random % 300)
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let execute = (0_u16..3, 0..5_usize, proptest::collection::vec(any::<u64>(), 0..12), 0..10_u32);
    let execute =
        execute.prop_map(|(cpu, block, accesses, left)| Act::Execute { cpu, block, accesses, left: left == 0 });
    let place = prop_oneof![2 => 0_u64..40, 1 => 256_u64..260, 1 => 0x3000_u64..0x3040].prop_map(|at| BASE + at * 16);
    let allocate = (place.clone(), prop_oneof![4 => 1_u64..200, 1 => 5000_u64..90_000], 0_u64..5);
    let act = prop_oneof![
        12 => execute,
        1 => allocate.prop_map(|(at, bytes, site)| Act::Allocate { at, bytes, site }),
        1 => place.prop_map(|at| Act::Free { at }),
    ];
    proptest::collection::vec(act, 0..200)
}

fn machines() -> impl Strategy<Value = Machine> {
    let shape = (0..3_usize, any::<bool>(), prefetchers(), any::<bool>(), any::<bool>(), 0..4_u32);
    shape.prop_map(|(second, inclusive, prefetch, huge, instructions, stlb)| {
        let mut machine = small();
        machine.l2 = [None, second_level(false), second_level(true)][second].clone();
        machine.llc.inclusive = inclusive;
        machine.prefetch = prefetch;
        machine.page = if huge { PageSize::Huge } else { PageSize::Small };
        let translations = |entries, ways| Some(Translations { entries, ways, latency_cycles: 0 });
        // None, one, or two of different sizes.
        machine.dtlb = if stlb > 0 { translations(3, 3) } else { None };
        machine.stlb = if stlb > 1 { translations(4 << stlb, 4) } else { None };
        machine.l1i = instructions.then(|| Cache { bytes: 8 * 64, ways: 2, ..small().l1d });
        machine
    })
}

/// The accesses of an execution, in program order.
fn accesses(random: &[u64], block: &Block) -> Vec<Packed> {
    let mut accesses: Vec<Packed> = random.iter().map(|random| Packed::from_word(packed(*random, block))).collect();
    accesses.sort_by_key(|access| access.op());
    accesses
}

/// Steps, and where blocks are left among them.
#[derive(Clone)]
struct Drawn<'a> {
    steps: std::vec::IntoIter<Step<'a>>,
    left: std::vec::IntoIter<Left>,
}

impl<'a> Steps<'a> for Drawn<'a> {
    fn next(&mut self) -> Step<'a> {
        self.steps.next().unwrap_or(Step::End)
    }

    fn left(&mut self) -> Left {
        self.left.next().unwrap()
    }
}

/// How much of a block is executed that is left: what its last access is by, and one instruction more if there is one.
fn left(block: &Block, accesses: &[Packed]) -> Left {
    let last = accesses.last().map_or(0, |access| access.op());
    Left { executed: (last + 2).min(block.ops.len() as u16), beyond: 0 }
}

fn event(simulator: &mut Simulator, act: &Act) {
    match act {
        Act::Allocate { at, bytes, site } => {
            simulator.event(0, Event::Allocated { address: *at, bytes: *bytes, site: *site });
        }
        Act::Free { at } => {
            simulator.event(0, Event::Freed { address: *at });
        }
        Act::Execute { .. } => {}
    }
}

fn finish(mut simulator: Simulator) -> (Outcome, Vec<Sample>) {
    let mut samples = Vec::new();
    simulator.take_samples(&mut samples);
    (simulator.finish(), samples)
}

fn by_executions(config: &Config, acts: &[Act]) -> (Outcome, Vec<Sample>, bool) {
    let (mut simulator, blocks) = (Simulator::new(config).unwrap(), blocks());
    let mut stops = false;
    for act in acts {
        event(&mut simulator, act);
        let Act::Execute { cpu, block, accesses, left: is_left } = act else { continue };
        let block = &blocks[*block];
        let packed = self::accesses(accesses, block);
        let executed = if *is_left { left(block, &packed).executed.into() } else { block.ops.len() };
        let accesses: Vec<Access> = packed.into_iter().map(Packed::access).collect();
        let part = Block { ops: block.ops[..executed].into(), number: 0, ..*block };
        stops |= simulator.execute(*cpu, &part, &accesses) == Next::Stop;
    }
    let (outcome, samples) = finish(simulator);
    (outcome, samples, stops)
}

fn by_steps(config: &Config, acts: &[Act]) -> (Outcome, Vec<Sample>, bool) {
    let (mut simulator, blocks) = (Simulator::new(config).unwrap(), blocks());
    let mut stops = false;
    let (mut steps, mut lefts, mut of) = (Vec::new(), Vec::new(), 0);
    let mut run = |simulator: &mut Simulator, of: u16, steps: &mut Vec<Step<'_>>, lefts: &mut Vec<Left>| {
        if !steps.is_empty() {
            let (steps, left) = (std::mem::take(steps).into_iter(), std::mem::take(lefts).into_iter());
            stops |= simulator.run(of, &mut Drawn { steps, left }) == Next::Stop;
        }
    };
    for act in acts {
        let Act::Execute { cpu, block, accesses, left: is_left } = act else {
            run(&mut simulator, of, &mut steps, &mut lefts);
            event(&mut simulator, act);
            continue;
        };
        if *cpu != of {
            run(&mut simulator, of, &mut steps, &mut lefts);
            of = *cpu;
        }
        let block = &blocks[*block];
        let accesses = self::accesses(accesses, block);
        steps.push(Step::Block(block));
        steps.extend(accesses.iter().map(|access| Step::Access(*access)));
        if *is_left {
            steps.push(Step::Left);
            lefts.push(left(block, &accesses));
        }
    }
    run(&mut simulator, of, &mut steps, &mut lefts);
    let (outcome, samples) = finish(simulator);
    (outcome, samples, stops)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn steps_are_executions(
        mut acts in acts(),
        machine in machines(),
        skipped in prop_oneof![2 => Just(0_u64), 1 => 0_u64..300],
        threads in prop_oneof![Just(1_u16), Just(3)],
    ) {
        for act in &mut acts {
            if let Act::Execute { cpu, .. } = act {
                *cpu %= threads;
            }
        }
        let max_instructions = Some(400);
        let config =
            Config { machine, sample_every: Some(3), fast_forward: skipped, max_instructions, ..Config::default() };
        let (outcome, samples, stops) = by_executions(&config, &acts);
        let (expected, got) = ((samples, stops), by_steps(&config, &acts));
        prop_assert_eq!(expected, (got.1, got.2));
        prop_assert_eq!(outcome, got.0);
    }
}
