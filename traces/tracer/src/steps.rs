//! A batch as the steps that the simulator wants.
//!
//! The emulator says that a block is entered, not how much of it is executed: one that was left early, by a fault, is known by an
//! access that did not come although its instruction cannot do without.

use crate::decode::{Decoded, MemoryTag};
use crate::happening::Happening;
use crate::log::{Batch, Entry, accesses_before, entry};
use tierscope_sim::steps::{Entered, Gathered, Left, Turns};
use tierscope_sim::{Packed, Step, Steps};

/// A batch being read.
#[derive(Clone)]
pub(crate) struct Words<'a> {
    accesses: &'a [Packed],
    /// What is not, the next last.
    others: &'a [Packed],
    /// Index of the next access.
    at: usize,
    /// Accesses that come before the next of the others.
    until: usize,
    /// Accesses that came before the last of the others.
    position: usize,
    /// Index of the first access of the block under way.
    began: usize,
    /// That block.
    under_way: Option<&'static Decoded>,
    /// Its [`Decoded::last_certain`].
    certain: u16,
    /// First address and bytes of instructions that are no steps of the program.
    pub(crate) left_out: (u64, u64),
    /// Blocks that were left before their end.
    pub(crate) left_early: u64,
}

/// Most blocks of a loop whose turns are not looked at one by one.
const LONGEST_PERIOD: usize = 4;

/// After so many blocks in a row a loop is looked for.
const LOOP_EVERY: usize = 32;

/// What is next but for accesses.
pub(crate) enum Next {
    /// A block, which is to be executed or skipped.
    Block(&'static Decoded),
    /// Something that happened.
    Happened(Box<Happening>),
}

impl<'a> Words<'a> {
    /// Of a batch, from its start.
    ///
    /// # Safety
    ///
    /// The batch was made by [`crate::log::Log::take`], and nobody else reads it.
    pub(crate) unsafe fn new(batch: &'a Batch) -> Self {
        Self::of(batch.accesses(), batch.others())
    }

    fn of(accesses: &'a [Packed], others: &'a [Packed]) -> Self {
        let mut words = Self {
            accesses,
            others,
            at: 0,
            until: 0,
            position: 0,
            began: 0,
            under_way: None,
            certain: 0,
            left_out: (0, 0),
            left_early: 0,
        };
        words.look_ahead();
        words
    }

    /// Finds where the next of the others is.
    #[inline(always)]
    fn look_ahead(&mut self) {
        let next = self.others.last().map(|word| accesses_before(*word, self.position));
        self.until = next.unwrap_or(self.accesses.len()).min(self.accesses.len());
    }

    /// Passes over the next of the others.
    #[inline(always)]
    fn pass(&mut self) {
        self.position = self.until;
        self.others = self.others.split_last().map_or(&[], |(_, rest)| rest);
        self.look_ahead();
    }

    /// Enters the block that is next.
    #[inline(always)]
    fn enter(&mut self, decoded: &'static Decoded) {
        self.began = self.until;
        self.under_way = Some(decoded);
        self.certain = decoded.last_certain;
        self.pass();
    }

    /// The next thing but accesses, which are passed over. A block stays the next until it is executed or skipped.
    pub(crate) fn next_but_accesses(&mut self) -> Option<Next> {
        loop {
            self.at = self.until;
            self.certain = 0;
            match entry(*self.others.last()?) {
                // SAFETY: blocks are never freed.
                Entry::Block(decoded) => return Some(Next::Block(unsafe { &*decoded })),
                Entry::Happened(happening) => {
                    self.pass();
                    // SAFETY: from `Box::into_raw`; passed only once, since nothing goes back.
                    return Some(Next::Happened(unsafe { Box::from_raw(happening) }));
                }
                Entry::Nothing => self.pass(),
            }
        }
    }

    /// The accesses of the block that is next.
    pub(crate) fn accesses_ahead(&self) -> impl Iterator<Item = Packed> {
        self.accesses_of_next().iter().copied()
    }

    fn accesses_of_next(&self) -> &'a [Packed] {
        let mut after = self.clone();
        after.pass();
        while after.others.last().is_some_and(|word| matches!(entry(*word), Entry::Nothing)) {
            after.pass();
        }
        self.accesses.get(self.until..after.until).unwrap_or_default()
    }

    /// Passes over the block that is next.
    pub(crate) fn skip(&mut self) {
        self.pass();
    }

    /// The block that is next and nothing after it.
    pub(crate) fn one_block(&self) -> Self {
        let end = self.until + self.accesses_of_next().len();
        let accesses = self.accesses.get(..end).unwrap_or(self.accesses);
        let others = self.others.get(self.others.len().saturating_sub(1)..).unwrap_or_default();
        Self { accesses, others, ..self.clone() }
    }

    /// Goes on after a part, which has ended.
    pub(crate) fn go_on_after(&mut self, part: &Self) {
        self.pass();
        (self.at, self.left_early) = (part.at, part.left_early);
    }

    /// Whether the block under way showed fewer accesses than it would have had, had it come to its end.
    #[inline(always)]
    fn was_left(&self) -> bool {
        self.certain != 0 && shown(self.accesses, self.began, self.at) < self.certain
    }

    /// Whether a block is no step of the program.
    #[inline(always)]
    fn is_left_out(&self, decoded: &Decoded) -> bool {
        let (start, bytes) = self.left_out;
        decoded.block.address.wrapping_sub(start) < bytes
    }

    /// What is there instead of an access.
    #[inline(always)]
    fn other(&mut self) -> Option<Step<'a>> {
        if self.was_left() {
            return Some(Step::Left);
        }
        let Some(word) = self.others.last() else { return Some(Step::End) };
        match entry(*word) {
            Entry::Block(decoded) => {
                // SAFETY: blocks are never freed.
                let decoded = unsafe { &*decoded };
                if self.is_left_out(decoded) {
                    return Some(Step::End);
                }
                self.enter(decoded);
                Some(Step::Block(&decoded.block))
            }
            Entry::Happened(_) => Some(Step::End),
            Entry::Nothing => {
                self.pass();
                None
            }
        }
    }
}

/// One more than the instruction of the last of the accesses from `began` to `end`; 0 for none.
#[inline(always)]
fn shown(accesses: &[Packed], began: usize, end: usize) -> u16 {
    match accesses.get(end.wrapping_sub(1)) {
        Some(last) if began < end => last.op() + 1,
        _ => 0,
    }
}

/// Blocks that go on taking turns.
struct Loop {
    /// How many blocks do.
    period: usize,
    /// Turns, at least one.
    turns: usize,
    /// Accesses of a turn.
    each: usize,
}

/// How the last blocks that were entered, at least [`LONGEST_PERIOD`] and each once, take turns again in the words up to `left`, with as
/// many accesses of each as before; if they do. At most `accesses` come before the last of them.
#[inline(never)]
fn find_loop(all: &[Packed], left: usize, accesses: usize) -> Option<Loop> {
    let next = all.get(left.checked_sub(1)?)?;
    let before = |period: usize| all.get(left - 1 + period);
    let is_same = |period: &usize| before(*period).is_some_and(|word| word.address() == next.address());
    let period = (1..=LONGEST_PERIOD).find(is_same)?;
    let is_steady = |word: &Packed| match entry(*word) {
        // SAFETY: blocks are never freed.
        Entry::Block(decoded) => unsafe { (*decoded).is_steady },
        _ => false,
    };
    if !all.get(left..left + period)?.iter().all(is_steady) {
        return None;
    }
    // The same pointers again: what differs are the accesses before them.
    let step = next.word().wrapping_sub(before(period)?.word());
    let each = (step >> MemoryTag::ADDRESS_BITS) as usize;
    let most = accesses.checked_div(each).unwrap_or(left / period);
    // One more than they are: where the last begins is only where that before it ended.
    let (ahead, behind) = (all.get(..left)?, all.get(..left + period)?);
    let pairs = ahead.iter().rev().zip(behind.iter().rev()).take(most * period + 1);
    let equal = pairs.take_while(|(word, before)| word.word().wrapping_sub(before.word()) == step).count();
    let turns = equal.saturating_sub(1) / period;
    (turns > 0).then_some(Loop { period, turns, each })
}

impl<'a> Steps<'a> for Words<'a> {
    #[inline(always)]
    fn next(&mut self) -> Step<'a> {
        loop {
            if self.at < self.until
                && let Some(access) = self.accesses.get(self.at)
            {
                self.at += 1;
                return Step::Access(*access);
            }
            if let Some(step) = self.other() {
                return step;
            }
        }
    }

    fn gather(&mut self, into: &mut Gathered<'a>) -> Option<Step<'a>> {
        let from = self.at;
        let ahead = self.accesses.get(from..).unwrap_or_default();
        let ahead = ahead.get(..Gathered::ROOM).unwrap_or(ahead);
        let plain = if ahead.iter().fold(false, |any, access| any | access.may_go_around()) {
            ahead.iter().position(|access| access.may_go_around()).unwrap_or(ahead.len())
        } else {
            ahead.len()
        };
        let mut end = from + plain;
        let mut is_over = self.accesses.get(end).is_none_or(|access| access.may_go_around());
        // A copy, which nothing else points at, can be in registers meanwhile.
        let Self { mut position, mut began, mut under_way, mut certain, .. } = *self;
        let all = self.others;
        let mut left = all.len();
        let mut going = true;
        while going {
            let entered = into.entered.len();
            let room = (Gathered::ROOM - entered).min(LOOP_EVERY);
            let words = all.get(left.saturating_sub(room)..left).unwrap_or_default();
            going = !words.is_empty();
            let mut taken = words.len();
            for (index, word) in words.iter().rev().enumerate() {
                let before = accesses_before(*word, position);
                let is_left = certain != 0 && shown(self.accesses, began, before) < certain;
                let decoded = match entry(*word) {
                    // SAFETY: blocks are never freed.
                    Entry::Block(decoded) if before <= end && !is_left => unsafe { &*decoded },
                    Entry::Nothing if before <= end && !is_left => {
                        (position, taken) = (before, index + 1);
                        break;
                    }
                    _ => {
                        (taken, going) = (index, false);
                        if before <= end {
                            (end, is_over) = (before, true);
                        }
                        break;
                    }
                };
                if self.is_left_out(decoded) {
                    (end, is_over, taken, going) = (before, true, index, false);
                    break;
                }
                into.entered.push(Entered { block: &decoded.block, before: (before - from) as u32 });
                (position, began, under_way, certain) = (before, before, Some(decoded), decoded.last_certain);
            }
            left -= taken;
            let Some(next) = all.get(left.wrapping_sub(1)).map(|word| accesses_before(*word, position)) else { break };
            if into.entered.len() == Gathered::ROOM {
                if going && next <= end {
                    (end, is_over) = (next, false);
                }
                break;
            }
            // Only blocks, each entered once, and the last of them whole?
            let is_whole = shown(self.accesses, began, next) >= certain;
            if going && into.entered.len() == entered + LOOP_EVERY && is_whole && next <= end {
                let Some(Loop { period, turns, each }) = find_loop(all, left, end - next) else { continue };
                let first = (into.entered.len() - period) as u32;
                into.turns.push(Turns { first, blocks: period as u32, more: turns as u32, each: each as u32 });
                position += turns * each;
                began = position;
                left -= turns * period;
            }
        }
        self.others = all.get(..left).unwrap_or_default();
        (self.position, self.began, self.under_way, self.certain) = (position, began, under_way, certain);
        self.look_ahead();
        into.lend(self.accesses.get(from..end).unwrap_or_default());
        self.at = end;
        is_over.then(|| self.next())
    }

    #[cold]
    fn left(&mut self) -> Left {
        self.left_early += 1;
        self.certain = 0;
        let Some(decoded) = self.under_way else { return Left { executed: u16::MAX, beyond: 0 } };
        let ops = &decoded.block.ops;
        // The first instruction after the last access that would have had to show one is where it was left.
        let done = usize::from(shown(self.accesses, self.began, self.at));
        let after = ops.get(done..).unwrap_or_default();
        let executed = after.iter().position(|op| op.loads + op.stores > 0).map_or(ops.len(), |at| done + at) as u16;
        let execution = self.accesses.get(self.began..self.at).unwrap_or_default();
        let beyond = execution.iter().filter(|access| access.op() >= executed).count() as u32;
        Left { executed, beyond }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::{MemoryTag, Pieces, decode};
    use crate::log::{self, Log};

    /// A step as something to compare.
    #[derive(Debug, PartialEq)]
    enum Seen {
        Block(u64),
        Access(Packed),
        Left(Left),
    }

    fn seen(step: Step<'_>, words: &mut Words<'_>) -> Option<Seen> {
        match step {
            Step::Block(block) => Some(Seen::Block(block.address)),
            Step::Access(access) => Some(Seen::Access(access)),
            Step::Left => Some(Seen::Left(words.left())),
            Step::End => None,
        }
    }

    fn one_by_one(mut words: Words<'_>) -> (Vec<Seen>, usize, u64) {
        let mut all = Vec::new();
        loop {
            let step = words.next();
            match seen(step, &mut words) {
                Some(seen) => all.push(seen),
                None => return (all, words.at, words.left_early),
            }
        }
    }

    fn gathered(mut words: Words<'_>) -> (Vec<Seen>, usize, u64) {
        let mut all = Vec::new();
        loop {
            let mut gathered = Gathered::default();
            let end = words.gather(&mut gathered);
            assert!(gathered.accesses().len().max(gathered.entered.len()) <= Gathered::ROOM);
            let mut turns = gathered.turns.iter().peekable();
            let (mut entered, mut index) = (Vec::new(), 0);
            while let Some(Entered { block, before }) = gathered.entered.get(index) {
                entered.push((*before, block.address));
                index += 1;
                while let Some(turns) = turns.next_if(|turns| (turns.first + turns.blocks) as usize == index) {
                    let all = &gathered.entered[turns.first as usize..index];
                    for turn in 1..=turns.more {
                        entered.extend(all.iter().map(|one| (one.before + turns.each * turn, one.block.address)));
                    }
                }
            }
            assert!(turns.next().is_none());
            let mut entered = entered.into_iter().peekable();
            for (index, access) in gathered.accesses().iter().enumerate() {
                while let Some((_, address)) = entered.next_if(|(before, _)| *before as usize <= index) {
                    all.push(Seen::Block(address));
                }
                all.push(Seen::Access(*access));
            }
            all.extend(entered.map(|(_, address)| Seen::Block(address)));
            let Some(step) = end else { continue };
            match seen(step, &mut words) {
                Some(seen) => all.push(seen),
                None => return (all, words.at, words.left_early),
            }
        }
    }

    /// Nothing; a load; a load, something and a store; a load of 32 bytes.
    fn blocks() -> Vec<&'static Decoded> {
        let codes: [&[u8]; 4] =
            [&[0x90], &[0x48, 0x8b, 0x03], &[0x48, 0x8b, 0x03, 0x90, 0x48, 0x89, 0x03], &[0xc5, 0xfe, 0x6f, 0x03]];
        (1..).zip(codes).map(|(n, code)| &*Box::leak(Box::new(decode(0x1000 * n, code)))).collect()
    }

    /// What `write` writes into the log of a cpu that no other test has.
    fn batch(cpu: u32, write: impl FnOnce(&mut Log)) -> Batch {
        // SAFETY: the reference is the only one.
        let log = unsafe { log::insert(cpu, Vec::new()) }.unwrap();
        write(log);
        let batch = log.take(Vec::new());
        // SAFETY: the reference is not used any more.
        unsafe { log::remove(cpu) };
        batch
    }

    fn tag(op: u16, store: bool, pieces: Pieces) -> u64 {
        MemoryTag::new(op, store, pieces).to_word()
    }

    #[test]
    fn steps_are_the_same_one_by_one_and_gathered() {
        let blocks = blocks();
        let mut random = 1_u64;
        let mut below = |bound: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % bound
        };
        let mut left_early = 0;
        for round in 0..300 {
            let batch = batch(log::MAX_CPUS as u32 - 2, |log| {
                let mut lately = [0; 5];
                for turn in 0..below(2500) as usize {
                    // Most are loops of up to five.
                    if below(16) == 0 {
                        lately = std::array::from_fn(|_| below(100));
                    }
                    let chosen = lately[turn % (round % 5 + 1)];
                    let block = blocks[if chosen < 90 { chosen as usize % 3 } else { 3 }];
                    log.block(block);
                    let address = 0x7000 + below(64) * 8;
                    let whole = [0, 1, 2, 4][block.block.address as usize / 0x1000 - 1];
                    // Now and then a fault, and now and then what nobody expected.
                    let shown = if below(200) == 0 { whole.min(1) * below(2) as usize } else { whole };
                    for piece in 0..shown {
                        match whole {
                            4 => log.access(address + piece as u64 * 8, tag(0, false, Pieces::B32)),
                            _ if piece == 1 => log.access(address, tag(2, true, Pieces::B8)),
                            _ => log.access(address, tag(0, false, Pieces::B8)),
                        }
                    }
                    if below(300) == 0 {
                        log.access(address, tag(0, true, Pieces::Around8));
                    }
                }
                if below(2) == 0 {
                    log.happened(Happening::Ended);
                }
            });
            let left_out = if round % 5 == 0 { (0x2000, 1) } else { (0, 0) };
            // SAFETY: what happened is not looked at.
            let words = Words { left_out, ..unsafe { Words::new(&batch) } };
            let expected = one_by_one(words.clone());
            left_early += expected.2;
            assert_eq!(gathered(words), expected);
        }
        assert!(left_early > 100);
    }

    #[test]
    fn an_execution_too_long_for_a_log_stays_one() {
        const ACCESSES: u64 = 100_000;
        let [first, second, ..] = blocks()[1..] else { panic!("four blocks") };
        let batch = batch(log::MAX_CPUS as u32 - 3, |log| {
            log.block(first);
            (0..ACCESSES).for_each(|n| log.access(n * 8, tag(0, false, Pieces::B8)));
            log.block(second);
            log.access(0, tag(0, false, Pieces::B8));
            log.access(0, tag(2, true, Pieces::B8));
        });
        // SAFETY: nothing happened.
        let mut words = unsafe { Words::new(&batch) };
        let expected = one_by_one(words.clone());
        assert_eq!((expected.0.len() as u64, expected.2), (ACCESSES + 4, 0));
        assert_eq!(gathered(words.clone()), expected);
        let mut one = words.one_block();
        assert_eq!(words.accesses_ahead().count() as u64, ACCESSES);
        assert_eq!(one_by_one(one.clone()).0.len() as u64, ACCESSES + 1);
        while !matches!(one.next(), Step::End) {}
        words.go_on_after(&one);
        assert!(matches!(words.next_but_accesses(), Some(Next::Block(block)) if std::ptr::eq(block, second)));
    }
}
