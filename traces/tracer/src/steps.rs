//! A batch of words as the steps that the simulator wants.
//!
//! The emulator moves wide operands in pieces; here those that follow the first are left out. And it says that a block is entered, not
//! how much of it is executed: one that was left early, by a fault, is known by an access that did not come although its
//! instruction cannot do without.

use crate::decode::{Decoded, MemoryTag};
use crate::happening::Happening;
use crate::log::{Batch, Entry, entry, is_access, is_block};
use tierscope_sim::steps::{Entered, Gathered, Left};
use tierscope_sim::{Packed, Step, Steps};

/// Words looked at before what is done next depends on them.
const AT_ONCE: usize = 256;

/// Words being read.
#[derive(Clone)]
pub(crate) struct Words<'a> {
    words: &'a [u64],
    /// Index of the next.
    at: usize,
    /// The last access in pieces that was none of a further piece.
    first_piece: u64,
    /// [`Decoded::last_certain`] of the block under way.
    certain: u16,
    /// First address and bytes of instructions that are no steps of the program.
    pub(crate) left_out: (u64, u64),
    /// Blocks that were left before their end.
    pub(crate) left_early: u64,
}

/// What is next but for accesses.
pub(crate) enum Next {
    /// A block, which is to be executed or skipped.
    Block(&'static Decoded),
    /// Something that happened.
    Happened(Box<Happening>),
}

/// Whether the word after `previous` is a further piece of the operand whose first was `first`.
fn is_further_piece(word: u64, previous: u64, first: u64) -> bool {
    let tag = MemoryTag::from_word(word);
    if !tag.is_in_pieces() || MemoryTag::from_word(previous) != tag {
        return false;
    }
    let distance = Packed::from_word(word).address().wrapping_sub(Packed::from_word(first).address());
    distance != 0 && distance < u64::from(tag.bytes())
}

impl<'a> Words<'a> {
    /// Of a batch, from its start.
    ///
    /// # Safety
    ///
    /// The batch was made by [`crate::log::Log::take`], and nobody else reads it.
    pub(crate) unsafe fn new(batch: &'a Batch) -> Self {
        Self { words: batch.words(), at: 0, first_piece: 0, certain: 0, left_out: (0, 0), left_early: 0 }
    }

    /// The next thing but accesses, which are passed over. A block stays the next until it is executed or skipped.
    pub(crate) fn next_but_accesses(&mut self) -> Option<Next> {
        while self.words.get(self.at).is_some_and(|word| is_access(*word)) {
            self.at += 1;
        }
        self.certain = 0;
        match entry(*self.words.get(self.at)?) {
            // SAFETY: blocks are never freed.
            Entry::Block(decoded) => Some(Next::Block(unsafe { &*decoded })),
            Entry::Happened(happening) => {
                self.at += 1;
                // SAFETY: from `Box::into_raw`; passed only once, since nothing goes back.
                Some(Next::Happened(unsafe { Box::from_raw(happening) }))
            }
        }
    }

    /// The accesses of the block that is next.
    pub(crate) fn accesses_ahead(&self) -> impl Iterator<Item = Packed> {
        let after = self.words.get(self.at + 1..).unwrap_or_default();
        after.iter().take_while(|word| is_access(**word)).map(|word| Packed::from_word(*word))
    }

    /// Passes over the block that is next.
    pub(crate) fn skip(&mut self) {
        self.at += 1;
    }

    /// The block that is next and nothing after it.
    pub(crate) fn one_block(&self) -> Self {
        let end = self.at + 1 + self.accesses_ahead().count();
        Self { words: self.words.get(..end).unwrap_or(self.words), ..self.clone() }
    }

    /// Goes on where another, of the same batch, has ended.
    pub(crate) fn go_on_after(&mut self, other: &Self) {
        (self.at, self.left_early) = (other.at, other.left_early);
    }

    /// The word before the next.
    #[inline(always)]
    fn previous(&self) -> u64 {
        self.words.get(self.at.wrapping_sub(1)).copied().unwrap_or(u64::MAX)
    }

    /// Whether the block under way showed fewer accesses than it would have had, had it come to its end.
    #[inline(always)]
    fn was_left(&self) -> bool {
        self.was_left_at(self.previous())
    }

    /// The same if `previous` is the last word of it.
    #[inline(always)]
    fn was_left_at(&self, previous: u64) -> bool {
        self.certain != 0 && shown(previous) < self.certain
    }

    /// Whether a block is no step of the program.
    #[inline(always)]
    fn is_left_out(&self, decoded: &Decoded) -> bool {
        let (start, bytes) = self.left_out;
        decoded.block.address.wrapping_sub(start) < bytes
    }

    /// Takes small accesses and blocks as long as there is nothing else, by a loop that a host cannot mispredict: what a word is
    /// decides where it is kept, and not what is done next.
    #[inline]
    fn gather_ordinary(&mut self, into: &mut Gathered<'static>) {
        let words = self.words.get(self.at..).unwrap_or_default();
        let words = words.get(..AT_ONCE.min(into.room())).unwrap_or(words);
        let (mut accesses, mut blocks) = ([0_u64; AT_ONCE], [(0_u64, 0_u32); AT_ONCE]);
        let (mut accessed, mut entered) = (0, 0);
        for word in words {
            let (is_access, is_block) = (Packed::is_small(*word), is_block(*word));
            if !(is_access | is_block) {
                break;
            }
            accesses[accessed % AT_ONCE] = *word;
            blocks[entered % AT_ONCE] = (*word, accessed as u32);
            accessed += usize::from(is_access);
            entered += usize::from(is_block);
        }
        let mut taken = accessed + entered;
        let base = into.accesses.len() as u32;
        for (index, (word, before)) in blocks.iter().take(entered).enumerate() {
            let position = index + *before as usize;
            let previous = position.checked_sub(1).map_or_else(|| self.previous(), |at| words[at]);
            let decoded = match entry(*word) {
                // SAFETY: blocks are never freed.
                Entry::Block(decoded) if !self.was_left_at(previous) => unsafe { &*decoded },
                _ => {
                    (accessed, taken) = (*before as usize, position);
                    break;
                }
            };
            if self.is_left_out(decoded) {
                (accessed, taken) = (*before as usize, position);
                break;
            }
            self.certain = decoded.last_certain;
            into.entered.push(Entered { block: &decoded.block, before: base + before });
        }
        into.accesses.extend(accesses.iter().take(accessed).map(|word| Packed::from_word(*word)));
        self.at += taken;
    }

    /// What is there instead of a small access.
    #[inline(always)]
    fn other(&mut self, word: u64) -> Option<Step<'static>> {
        if is_access(word) {
            let previous = self.previous();
            self.at += 1;
            if is_further_piece(word, previous, self.first_piece) {
                return None;
            }
            self.first_piece = word;
            return Some(Step::Access(Packed::from_word(word)));
        }
        if self.was_left() {
            return Some(Step::Left);
        }
        let Entry::Block(decoded) = entry(word) else { return Some(Step::End) };
        // SAFETY: blocks are never freed.
        let decoded = unsafe { &*decoded };
        if self.is_left_out(decoded) {
            return Some(Step::End);
        }
        self.at += 1;
        self.certain = decoded.last_certain;
        Some(Step::Block(&decoded.block))
    }
}

/// One more than the instruction of the last access of a block, which the word before the next is; 0 for no access.
#[inline(always)]
fn shown(previous: u64) -> u16 {
    if is_access(previous) { Packed::from_word(previous).op() + 1 } else { 0 }
}

impl Steps<'static> for Words<'_> {
    #[inline(always)]
    fn next(&mut self) -> Step<'static> {
        loop {
            let Some(word) = self.words.get(self.at).copied() else {
                return if self.was_left() { Step::Left } else { Step::End };
            };
            if Packed::is_small(word) {
                self.at += 1;
                return Step::Access(Packed::from_word(word));
            }
            if let Some(step) = self.other(word) {
                return step;
            }
        }
    }

    fn gather(&mut self, into: &mut Gathered<'static>) -> Option<Step<'static>> {
        loop {
            self.gather_ordinary(into);
            if into.room() == 0 {
                return None;
            }
            match self.next() {
                Step::Block(block) => into.enter(block),
                Step::Access(access) if !access.may_go_around() => into.accesses.push(access),
                other => return Some(other),
            }
        }
    }

    #[cold]
    fn left(&mut self) -> Left {
        self.left_early += 1;
        self.certain = 0;
        let before = self.words.get(..self.at).unwrap_or_default();
        let entered = before.iter().rposition(|word| !is_access(*word)).unwrap_or_default();
        let execution = before.get(entered..).unwrap_or_default();
        let Some(Entry::Block(decoded)) = execution.first().map(|word| entry(*word)) else {
            return Left { executed: u16::MAX, beyond: 0 };
        };
        // SAFETY: blocks are never freed.
        let ops = unsafe { &(*decoded).block.ops };
        // The first instruction after the last access that would have had to show one is where it was left.
        let done = usize::from(shown(self.previous()));
        let after = ops.get(done..).unwrap_or_default();
        let executed = after.iter().position(|op| op.loads + op.stores > 0).map_or(ops.len(), |at| done + at) as u16;
        let (mut first, mut beyond) = (0, 0);
        for (previous, word) in execution.iter().zip(execution.iter().skip(1)) {
            if !is_further_piece(*word, *previous, first) {
                first = *word;
                beyond += u32::from(Packed::from_word(*word).op() >= executed);
            }
        }
        Left { executed, beyond }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::{Pieces, decode};

    /// A step as something to compare.
    #[derive(Debug, PartialEq)]
    enum Seen {
        Block(u64),
        Access(Packed),
        Left(Left),
    }

    fn seen(step: Step<'static>, words: &mut Words<'_>) -> Option<Seen> {
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
            assert!(gathered.accesses.len() + gathered.entered.len() <= Gathered::ROOM);
            let mut entered = gathered.entered.iter().peekable();
            for (index, access) in gathered.accesses.iter().enumerate() {
                while let Some(entered) = entered.next_if(|entered| entered.before as usize <= index) {
                    all.push(Seen::Block(entered.block.address));
                }
                all.push(Seen::Access(*access));
            }
            all.extend(entered.map(|entered| Seen::Block(entered.block.address)));
            let Some(step) = end else { continue };
            match seen(step, &mut words) {
                Some(seen) => all.push(seen),
                None => return (all, words.at, words.left_early),
            }
        }
    }

    #[test]
    fn steps_are_the_same_one_by_one_and_gathered() {
        // Nothing; a load; a load, something and a store; a load of 32 bytes.
        let codes: [&[u8]; 4] =
            [&[0x90], &[0x48, 0x8b, 0x03], &[0x48, 0x8b, 0x03, 0x90, 0x48, 0x89, 0x03], &[0xc5, 0xfe, 0x6f, 0x03]];
        let blocks: Vec<&'static Decoded> =
            (1..).zip(codes).map(|(n, code)| &*Box::leak(Box::new(decode(0x1000 * n, code)))).collect();
        let mut random = 1_u64;
        let mut below = |bound: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % bound
        };
        let mut left_early = 0;
        for round in 0..300 {
            let mut log = Vec::new();
            for _ in 0..below(1500) {
                let chosen = below(100);
                let block = blocks[if chosen < 90 { chosen as usize % 3 } else { 3 }];
                log.push(std::ptr::from_ref(block) as u64 | 0b10 << 62);
                let address = 0x7000 + below(64) * 8;
                let tag = |op, store, pieces| MemoryTag::new(op, store, pieces).to_word();
                let whole = [0, 1, 2, 4][block.block.address as usize / 0x1000 - 1];
                // Now and then a fault, and now and then what nobody expected.
                let shown = if below(200) == 0 { whole.min(1) * below(2) as usize } else { whole };
                for piece in 0..shown {
                    log.push(match whole {
                        4 => (address + piece as u64 * 8) | tag(0, false, Pieces::B32),
                        _ if piece == 1 => address | tag(2, true, Pieces::B8),
                        _ => address | tag(0, false, Pieces::B8),
                    });
                }
                if below(300) == 0 {
                    log.push(address | tag(0, true, Pieces::Around8));
                }
            }
            if below(2) == 0 {
                log.push(u64::MAX);
            }
            let left_out = if round % 5 == 0 { (0x2000, 1) } else { (0, 0) };
            let words = Words { words: &log, at: 0, first_piece: 0, certain: 0, left_out, left_early: 0 };
            let expected = one_by_one(words.clone());
            left_early += expected.2;
            assert_eq!(gathered(words), expected);
        }
        assert!(left_early > 100);
    }
}
