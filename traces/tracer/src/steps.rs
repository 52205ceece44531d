//! A batch of words as the steps that the simulator wants.
//!
//! The emulator moves wide operands in pieces; here those that follow the first are left out. And it says that a block is entered, not
//! how much of it is executed: one that was left early, by a fault, is known by an access that did not come although its
//! instruction cannot do without.

use crate::decode::{Decoded, MemoryTag};
use crate::happening::Happening;
use crate::log::{Batch, Entry, entry, is_access};
use tierscope_sim::steps::Left;
use tierscope_sim::{Packed, Step, Steps};

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
        self.certain != 0 && shown(self.previous()) < self.certain
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
        let (start, bytes) = self.left_out;
        if decoded.block.address.wrapping_sub(start) < bytes {
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
