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

/// No access: what a word of one is not.
const NOTHING: u64 = u64::MAX;

/// Words being read.
pub(crate) struct Words<'a> {
    words: &'a [u64],
    /// Index of the next.
    at: usize,
    /// The last access of the block under way.
    last: u64,
    /// [`Decoded::last_certain`] of the block under way.
    certain: u16,
    /// First address and bytes of instructions that are no steps of the program.
    pub(crate) left_out: (u64, u64),
    /// Steps end after one block.
    pub(crate) one_by_one: bool,
    begun: bool,
    pub(crate) left_early: u64,
}

/// What is next but for accesses.
pub(crate) enum Next {
    /// A block, which is to be executed or skipped.
    Block(&'static Decoded),
    /// Something that happened.
    Happened(Box<Happening>),
}

/// Whether a word is a further piece of the operand whose first was `last`.
#[inline(always)]
fn is_further_piece(word: u64, last: u64) -> bool {
    let tag = MemoryTag::from_word(word);
    if !tag.is_in_pieces() || MemoryTag::from_word(last) != tag {
        return false;
    }
    let distance = Packed::from_word(word).address().wrapping_sub(Packed::from_word(last).address());
    distance != 0 && distance < u64::from(tag.bytes())
}

impl<'a> Words<'a> {
    /// Of a batch, from its start.
    ///
    /// # Safety
    ///
    /// The batch was made by [`crate::log::Log::take`], and nobody else reads it.
    pub(crate) unsafe fn new(batch: &'a Batch) -> Self {
        Self {
            words: batch.words(),
            at: 0,
            last: NOTHING,
            certain: 0,
            left_out: (0, 0),
            one_by_one: false,
            begun: false,
            left_early: 0,
        }
    }

    /// The next thing but accesses, which are passed over. A block stays the next until it is executed or skipped.
    pub(crate) fn next_but_accesses(&mut self) -> Option<Next> {
        while self.words.get(self.at).is_some_and(|word| is_access(*word)) {
            self.at += 1;
        }
        (self.last, self.certain, self.begun) = (NOTHING, 0, false);
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

    /// One more than the instruction of the last access of the block under way; 0 for no access.
    #[inline(always)]
    fn shown(&self) -> u16 {
        if self.last == NOTHING { 0 } else { Packed::from_word(self.last).op() + 1 }
    }

    /// The block under way was left before its end.
    #[cold]
    #[inline(never)]
    fn left(&mut self) -> Step<'static> {
        self.left_early += 1;
        self.certain = 0;
        let before = self.words.get(..self.at).unwrap_or_default();
        let entered = before.iter().rposition(|word| !is_access(*word)).unwrap_or_default();
        let Some((block, accesses)) = before.get(entered..).and_then(<[u64]>::split_first) else { return Step::End };
        let Entry::Block(decoded) = entry(*block) else { return Step::End };
        // SAFETY: blocks are never freed.
        let ops = unsafe { &(*decoded).block.ops };
        // The first instruction after the last access that would have had to show one is where it was left.
        let done = usize::from(self.shown());
        let after = ops.get(done..).unwrap_or_default();
        let executed = after.iter().position(|op| op.loads + op.stores > 0).map_or(ops.len(), |at| done + at) as u16;
        let (mut last, mut beyond) = (NOTHING, 0);
        for word in accesses {
            if !is_further_piece(*word, last) {
                last = *word;
                beyond += u32::from(Packed::from_word(*word).op() >= executed);
            }
        }
        Step::Left(Left { executed, beyond })
    }

    /// What is there instead of an access: another block, or the end of steps.
    #[inline(always)]
    fn enter(&mut self, word: u64) -> Step<'static> {
        if self.shown() < self.certain {
            return self.left();
        }
        let Entry::Block(decoded) = entry(word) else { return Step::End };
        // SAFETY: blocks are never freed.
        let decoded = unsafe { &*decoded };
        let (start, bytes) = self.left_out;
        if decoded.block.address.wrapping_sub(start) < bytes || self.begun && self.one_by_one {
            return Step::End;
        }
        self.at += 1;
        (self.last, self.certain, self.begun) = (NOTHING, decoded.last_certain, true);
        Step::Block(&decoded.block)
    }
}

impl Steps<'static> for Words<'_> {
    #[inline(always)]
    fn next(&mut self) -> Step<'static> {
        loop {
            let Some(word) = self.words.get(self.at).copied() else {
                return if self.shown() < self.certain { self.left() } else { Step::End };
            };
            if !is_access(word) {
                return self.enter(word);
            }
            self.at += 1;
            if !is_further_piece(word, self.last) {
                self.last = word;
                return Step::Access(Packed::from_word(word));
            }
        }
    }
}
