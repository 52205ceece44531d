//! The instructions of a function and which of them can have come before which.
//!
//! Only instructions that something other than their neighbour can lead to need a list of predecessors; for the
//! rest it is the neighbour. Lists are sorted by how likely each way in is for a *sample* (which is not how likely it is
//! for a run: time is spent in loops):
//!
//! 1. the ends of loops, innermost first;
//! 2. the instruction above, if control falls through it;
//! 3. jumps forward, nearest first, then jumps back from code moved out of the way;
//! 4. where nothing leads directly, jumps to computed addresses, nearest first.
//!
//! Nothing comes out of the padding that aligns a loop behind a jump, nor back from a function that does not return.

use std::ops::Range;

use iced_x86::{Decoder, DecoderOptions, Instruction as Decoded};
use rustc_hash::FxHashSet;

use super::dominators::Dominators;
use super::instruction::{Arithmetic, Describer, Effect, Instruction, Next, RSP};

/// A decoded stretch of code.
#[derive(Debug)]
pub(super) struct Flow {
    instructions: Vec<Instruction>,
    /// Where blocks begin, ascending.
    blocks: Vec<Block>,
    predecessors: Vec<Predecessor>,
}

#[derive(Debug)]
struct Block {
    first: u32,
    predecessors: Range<u32>,
}

/// A way into an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Predecessor {
    /// Index of the instruction before.
    pub index: u32,
    pub way: Way,
}

/// How control came from there. The order is that of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    LoopEnd,
    Fall,
    Forward,
    Detour,
    /// By a jump to a computed address: one of several, as likely as not another.
    Computed,
}

impl Flow {
    /// Decodes all of `code`, which starts at `address` and is `whole` if it ends where a function does.
    pub(super) fn decode(code: &[u8], address: u64, whole: bool) -> Flow {
        let mut describer = Describer::new();
        let mut decoder = Decoder::with_ip(64, code, address, DecoderOptions::NONE);
        let mut instructions = Vec::with_capacity(code.len() / 4);
        let mut decoded = Decoded::default();
        while decoder.can_decode() {
            decoder.decode_out(&mut decoded);
            instructions.push(describer.describe(&decoded));
        }
        end_at_last_calls(&mut instructions, whole);
        let (blocks, predecessors) = connect(&instructions);
        Flow { instructions, blocks, predecessors }
    }

    pub(super) fn len(&self) -> usize {
        self.instructions.len()
    }

    pub(super) fn get(&self, index: u32) -> Option<&Instruction> {
        self.instructions.get(index as usize)
    }

    /// The instruction that begins at `address`.
    pub(super) fn at(&self, address: u64) -> Option<u32> {
        index_at(&self.instructions, address)
    }

    /// What can have come before instruction `index`, likeliest first.
    pub(super) fn before(&self, index: u32) -> Before<'_> {
        if let Ok(block) = self.blocks.binary_search_by_key(&index, |block| block.first) {
            let Range { start, end } = self.blocks[block].predecessors;
            return Before { listed: &self.predecessors[start as usize..end as usize], neighbour: None };
        }
        let neighbour = index.checked_sub(1).map(|index| Predecessor { index, way: Way::Fall });
        Before { listed: &[], neighbour }
    }
}

/// The predecessors of one instruction.
pub(super) struct Before<'a> {
    listed: &'a [Predecessor],
    neighbour: Option<Predecessor>,
}

impl Iterator for Before<'_> {
    type Item = Predecessor;

    fn next(&mut self) -> Option<Predecessor> {
        match self.listed.split_first() {
            Some((first, rest)) => {
                self.listed = rest;
                Some(*first)
            }
            None => self.neighbour.take(),
        }
    }
}

fn index_at(instructions: &[Instruction], address: u64) -> Option<u32> {
    instructions.binary_search_by_key(&address, |instruction| instruction.address).ok().map(|index| index as u32)
}

fn target(instruction: &Instruction) -> Option<u64> {
    match instruction.next {
        Next::Branches { target, .. } | Next::Jumps { target } => Some(target),
        _ => None,
    }
}

fn falls(instruction: &Instruction) -> bool {
    matches!(instruction.next, Next::Falls | Next::Branches { .. } | Next::Calls { .. })
}

/// Finds the calls that do not return.
///
/// A compiler has nothing follow such a call; where that shows, by a trap or the end of the function, all calls of
/// the same target are such calls.
fn end_at_last_calls(instructions: &mut [Instruction], whole: bool) {
    let mut last = FxHashSet::default();
    for (index, instruction) in instructions.iter().enumerate() {
        let Next::Calls { target: Some(target) } = instruction.next else { continue };
        if instructions.get(index + 1).map_or(whole, |next| next.traps) {
            last.insert(target);
        }
    }
    for instruction in instructions {
        if let Next::Calls { target: Some(target) } = instruction.next
            && last.contains(&target)
        {
            instruction.next = Next::Ends;
        }
    }
}

/// Whether a jump to a computed address leaves the function: what is done right before is to give up the frame.
fn is_tail_jump(instructions: &[Instruction], index: u32) -> bool {
    let before = index.checked_sub(1).and_then(|before| instructions.get(before as usize));
    before.is_some_and(|before| {
        let adds = matches!(before.effect, Effect::Arithmetic { to: RSP, operation: Arithmetic::Add, .. });
        adds || (before.stack_delta > 0 && before.next == Next::Falls)
    })
}

/// Cuts the instructions into blocks and finds the ways into each.
fn connect(instructions: &[Instruction]) -> (Vec<Block>, Vec<Predecessor>) {
    if instructions.is_empty() {
        return (Vec::new(), Vec::new());
    }
    let jumps: Vec<(u32, u32)> = instructions
        .iter()
        .enumerate()
        .filter_map(|(from, instruction)| Some((from as u32, index_at(instructions, target(instruction)?)?)))
        .collect();
    let mut starts: Vec<u32> = jumps.iter().map(|&(_, to)| to).collect();
    starts.push(0);
    // A block also ends after every instruction that goes anywhere but on.
    let ends = instructions.iter().enumerate().filter(|(_, instruction)| {
        target(instruction).is_some() || matches!(instruction.next, Next::JumpsAnywhere | Next::Ends)
    });
    starts.extend(ends.map(|(index, _)| index as u32 + 1).filter(|&start| (start as usize) < instructions.len()));
    starts.sort_unstable();
    starts.dedup();
    let mut entered = vec![false; starts.len()];
    for &(_, to) in &jumps {
        entered[starts.partition_point(|&start| start <= to) - 1] = true;
    }
    // Nothing but padding, behind a jump and before the target of another.
    let is_padding = |block: usize| {
        let start = starts[block] as usize;
        let end = starts.get(block + 1).map_or(instructions.len(), |&end| end as usize);
        start > 0
            && !entered[block]
            && !falls(&instructions[start - 1])
            && instructions[start..end].iter().all(|instruction| instruction.padding)
    };
    let block_of = |index: u32| (starts.partition_point(|&start| start <= index) - 1) as u32;

    let mut successors = vec![Vec::new(); starts.len()];
    let mut ways: Vec<(u32, Predecessor)> = Vec::with_capacity(jumps.len() + starts.len());
    for (block, &start) in starts.iter().enumerate().skip(1) {
        if falls(&instructions[start as usize - 1]) && !is_padding(block - 1) {
            successors[block - 1].push(block as u32);
            ways.push((block as u32, Predecessor { index: start - 1, way: Way::Fall }));
        }
    }
    for &(from, to) in &jumps {
        successors[block_of(from) as usize].push(block_of(to));
    }
    let dominators = Dominators::of(&successors);
    for &(from, to) in &jumps {
        let (source, block) = (block_of(from), block_of(to));
        let way = match () {
            () if dominators.dominates(block, source) => Way::LoopEnd,
            () if from < to => Way::Forward,
            () => Way::Detour,
        };
        ways.push((block, Predecessor { index: from, way }));
    }
    add_computed_jumps(instructions, &starts, &mut ways);

    let distance = |block: u32, before: &Predecessor| before.index.abs_diff(starts[block as usize]);
    ways.sort_by_key(|(block, before)| (*block, before.way, distance(*block, before)));
    let mut blocks = Vec::with_capacity(starts.len());
    let mut at = 0;
    for (block, &first) in starts.iter().enumerate() {
        let end = at + ways[at..].iter().take_while(|(of, _)| *of == block as u32).count();
        blocks.push(Block { first, predecessors: at as u32..end as u32 });
        at = end;
    }
    (blocks, ways.into_iter().map(|(_, before)| before).collect())
}

/// Blocks that nothing leads to, other than the entry, are taken for targets of the computed jumps.
fn add_computed_jumps(instructions: &[Instruction], starts: &[u32], ways: &mut Vec<(u32, Predecessor)>) {
    /// Of an interpreter's hundreds, so many are kept for each target.
    const MOST_SOURCES: usize = 4;
    let computed: Vec<u32> = (0..instructions.len() as u32)
        .filter(|&index| instructions[index as usize].next == Next::JumpsAnywhere && !is_tail_jump(instructions, index))
        .collect();
    if computed.is_empty() {
        return;
    }
    let mut reached = vec![false; starts.len()];
    for (block, _) in ways.iter() {
        reached[*block as usize] = true;
    }
    for block in (1..starts.len()).filter(|&block| !reached[block]) {
        let after = computed.partition_point(|&index| index < starts[block]);
        let nearest = after.saturating_sub(MOST_SOURCES / 2)..computed.len().min(after + MOST_SOURCES / 2);
        ways.extend(computed[nearest].iter().map(|&index| {
            let before = Predecessor { index, way: Way::Computed };
            (block as u32, before)
        }));
    }
}
