//! Steps are the same as executions, whatever is simulated of them and wherever they pause.

use crate::support::{prefetchers, second_level, small};
use proptest::prelude::*;
use tierscope_sim::machine::{Cache, PageSize, Translations};
use tierscope_sim::steps::{Entered, Gathered, Left, Turns};
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
    /// The same without an end before the last instruction, several blocks in turn.
    Loop {
        cpu: u16,
        blocks: Vec<(usize, Vec<u64>)>,
        turns: usize,
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
    let executed = (0..5_usize, proptest::collection::vec(any::<u64>(), 0..4));
    let turns = (0_u16..3, proptest::collection::vec(executed, 1..4), 1..8_usize);
    let turns = turns.prop_map(|(cpu, blocks, turns)| Act::Loop { cpu, blocks, turns });
    let place = prop_oneof![2 => 0_u64..40, 1 => 256_u64..260, 1 => 0x3000_u64..0x3040].prop_map(|at| BASE + at * 16);
    let allocate = (place.clone(), prop_oneof![4 => 1_u64..200, 1 => 5000_u64..90_000], 0_u64..5);
    let act = prop_oneof![
        12 => execute,
        4 => turns,
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

/// An access of a loop in a later turn: elsewhere, so that it misses again.
fn later(access: Packed, turn: usize) -> Packed {
    Packed::from_word(access.word() + turn as u64 * 0x1040)
}

/// What a thread does in one go.
#[derive(Debug, Default)]
struct Run<'a> {
    accesses: Vec<Packed>,
    items: Vec<Item<'a>>,
    left: Vec<Left>,
}

#[derive(Debug)]
enum Item<'a> {
    Enter(&'a Block),
    /// So many accesses through the caches.
    Plain(usize),
    Around,
    Left,
    /// Blocks with so many accesses each, so many times.
    Loop(Vec<(&'a Block, usize)>, usize),
}

impl<'a> Run<'a> {
    fn execute(&mut self, block: &'a Block, accesses: &[Packed]) {
        self.items.push(Item::Enter(block));
        let around = |access: &Packed| if access.may_go_around() { Item::Around } else { Item::Plain(1) };
        self.items.extend(accesses.iter().map(around));
        self.accesses.extend(accesses);
    }

    fn turns(&mut self, blocks: &[(&'a Block, Vec<Packed>)], turns: usize) {
        if blocks.iter().any(|(_, accesses)| accesses.iter().any(|access| access.may_go_around())) {
            for (turn, (block, accesses)) in (0..turns).flat_map(|turn| blocks.iter().map(move |of| (turn, of))) {
                self.execute(block, &accesses.iter().map(|access| later(*access, turn)).collect::<Vec<_>>());
            }
            return;
        }
        self.items.push(Item::Loop(blocks.iter().map(|(block, accesses)| (*block, accesses.len())).collect(), turns));
        for turn in 0..turns {
            let accesses = blocks.iter().flat_map(|(_, accesses)| accesses);
            self.accesses.extend(accesses.map(|access| later(*access, turn)));
        }
    }
}

fn steps<'a>(items: &[Item<'a>], accesses: &[Packed]) -> Vec<Step<'a>> {
    let mut accesses = accesses.iter().map(|access| Step::Access(*access));
    let mut steps = Vec::new();
    for item in items {
        match item {
            Item::Enter(block) => steps.push(Step::Block(block)),
            Item::Plain(count) => steps.extend(accesses.by_ref().take(*count)),
            Item::Around => steps.extend(accesses.next()),
            Item::Left => steps.push(Step::Left),
            Item::Loop(blocks, turns) => {
                for (block, count) in (0..*turns).flat_map(|_| blocks) {
                    steps.push(Step::Block(block));
                    steps.extend(accesses.by_ref().take(*count));
                }
            }
        }
    }
    steps
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

/// The same with accesses that are lent, and turns.
#[derive(Clone)]
struct Lent<'a> {
    drawn: Drawn<'a>,
    items: &'a [Item<'a>],
    accesses: &'a [Packed],
}

impl<'a> Steps<'a> for Lent<'a> {
    fn next(&mut self) -> Step<'a> {
        self.drawn.next()
    }

    fn left(&mut self) -> Left {
        self.drawn.left()
    }

    fn gather(&mut self, into: &mut Gathered<'a>) -> Option<Step<'a>> {
        let mut taken = 0;
        let end = loop {
            let Some((item, rest)) = self.items.split_first() else { break Some(Step::End) };
            let count = match item {
                Item::Plain(count) => *count,
                Item::Loop(blocks, turns) => blocks.iter().map(|(_, count)| count * turns).sum(),
                _ => 0,
            };
            // Far less than there is room for, so that stretches end where they might.
            if taken + count > 120 && taken > 0 {
                break None;
            }
            self.items = rest;
            match item {
                Item::Enter(block) => into.entered.push(Entered { block, before: taken as u32 }),
                Item::Plain(_) => {}
                Item::Around => break Some(Step::Access(self.accesses[taken])),
                Item::Left => break Some(Step::Left),
                Item::Loop(blocks, turns) => {
                    let (first, each) = (into.entered.len() as u32, (count / turns) as u32);
                    let mut before = taken;
                    for (block, count) in blocks {
                        into.entered.push(Entered { block, before: before as u32 });
                        before += count;
                    }
                    into.turns.push(Turns { first, blocks: blocks.len() as u32, more: *turns as u32 - 1, each });
                }
            }
            taken += count;
        };
        into.lend(&self.accesses[..taken]);
        let around = usize::from(matches!(end, Some(Step::Access(_))));
        self.accesses = &self.accesses[taken + around..];
        end
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
        Act::Execute { .. } | Act::Loop { .. } => {}
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
    let mut execute = |simulator: &mut Simulator, cpu, block: &Block, packed: Vec<Packed>, is_left| {
        let executed = if is_left { left(block, &packed).executed.into() } else { block.ops.len() };
        let accesses: Vec<Access> = packed.into_iter().map(Packed::access).collect();
        let part = Block { ops: block.ops[..executed].into(), number: 0, ..*block };
        stops |= simulator.execute(cpu, &part, &accesses) == Next::Stop;
    };
    for act in acts {
        event(&mut simulator, act);
        match act {
            Act::Execute { cpu, block, accesses, left } => {
                let block = &blocks[*block];
                execute(&mut simulator, *cpu, block, self::accesses(accesses, block), *left);
            }
            Act::Loop { cpu, blocks: several, turns } => {
                for (turn, (block, words)) in (0..*turns).flat_map(|turn| several.iter().map(move |of| (turn, of))) {
                    let block = &blocks[*block];
                    let accesses = accesses(words, block).into_iter().map(|access| later(access, turn));
                    execute(&mut simulator, *cpu, block, accesses.collect(), false);
                }
            }
            _ => {}
        }
    }
    let (outcome, samples) = finish(simulator);
    (outcome, samples, stops)
}

fn by_steps(config: &Config, acts: &[Act], lent: bool) -> (Outcome, Vec<Sample>, bool) {
    let (mut simulator, blocks) = (Simulator::new(config).unwrap(), blocks());
    let mut stops = false;
    let (mut under_way, mut of) = (Run::default(), 0);
    let mut run = |simulator: &mut Simulator, of: u16, run: &mut Run<'_>| {
        let Run { accesses, items, left } = &std::mem::take(run);
        if items.is_empty() {
            return;
        }
        let mut drawn = Drawn { steps: steps(items, accesses).into_iter(), left: left.clone().into_iter() };
        let next =
            if lent { simulator.run(of, &mut Lent { drawn, items, accesses }) } else { simulator.run(of, &mut drawn) };
        stops |= next == Next::Stop;
    };
    for act in acts {
        let cpu = match act {
            Act::Execute { cpu, .. } | Act::Loop { cpu, .. } => *cpu,
            _ => {
                run(&mut simulator, of, &mut under_way);
                event(&mut simulator, act);
                continue;
            }
        };
        if cpu != of {
            run(&mut simulator, of, &mut under_way);
            of = cpu;
        }
        match act {
            Act::Execute { block, accesses, left: is_left, .. } => {
                let block = &blocks[*block];
                let accesses = self::accesses(accesses, block);
                under_way.execute(block, &accesses);
                if *is_left {
                    under_way.items.push(Item::Left);
                    under_way.left.push(left(block, &accesses));
                }
            }
            Act::Loop { blocks: several, turns, .. } => {
                let several = several.iter().map(|(block, words)| (&blocks[*block], accesses(words, &blocks[*block])));
                under_way.turns(&several.collect::<Vec<_>>(), *turns);
            }
            _ => {}
        }
    }
    run(&mut simulator, of, &mut under_way);
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
            if let Act::Execute { cpu, .. } | Act::Loop { cpu, .. } = act {
                *cpu %= threads;
            }
        }
        let max_instructions = Some(400);
        let config =
            Config { machine, sample_every: Some(3), fast_forward: skipped, max_instructions, ..Config::default() };
        let (outcome, samples, stops) = by_executions(&config, &acts);
        for lent in [false, true] {
            let got = by_steps(&config, &acts, lent);
            prop_assert_eq!((&samples, stops), (&got.1, got.2));
            prop_assert_eq!(&outcome, &got.0);
        }
    }
}
