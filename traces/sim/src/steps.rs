//! What a thread does, step by step, as whoever traces it has it at hand: for [`Simulator::run`](crate::Simulator::run).
//!
//! [`Simulator::execute`](crate::Simulator::execute) wants the accesses of an execution side by side. Where only counts are wanted,
//! nobody needs them so, and to put them there costs as much as to simulate them. So steps are drawn one by one instead, and
//! accesses stay packed in a word, most of which is never looked at.

use crate::block::{Access, Block};
use crate::machine::LINE_BYTES;

/// What a thread does next.
#[derive(Debug, Clone, Copy)]
pub enum Step<'a> {
    /// It enters a block.
    Block(&'a Block),
    /// The block it is in accesses memory.
    Access(Packed),
    /// It has left the block it is in before its end: where, [`Steps::left`] says, which is asked before the next step. Of each
    /// execution at most once, after its accesses.
    Left,
    /// It does nothing more for now: the block it is in is over.
    End,
}

/// How much of a block was executed that was left before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    /// Instructions, from the first on.
    pub executed: u16,
    /// Accesses by instructions beyond those. They are counted as what makes no sense.
    pub beyond: u32,
}

/// Where steps come from. The first is [`Step::Block`] or [`Step::End`]. Copied into a loop and back, so that its state can be in
/// registers: it should be small.
pub trait Steps<'a>: Clone {
    /// The next step. After [`Step::End`] it is not asked again.
    fn next(&mut self) -> Step<'a>;

    /// After [`Step::Left`]: where.
    fn left(&mut self) -> Left;

    /// Takes steps as long as there is room and they are blocks, or accesses that go through the caches, into what was empty. Returns
    /// the first that is neither, which is taken, too; None where there is no more room. The same as taking them one by one, if
    /// perhaps faster: who has accesses apart from blocks as it is lends them.
    #[inline]
    fn gather(&mut self, into: &mut Gathered<'a>) -> Option<Step<'a>> {
        while into.room() > 0 {
            match self.next() {
                Step::Block(block) => into.enter(block),
                Step::Access(access) if !access.may_go_around() => into.own.push(access),
                other => return Some(other),
            }
        }
        None
    }
}

/// Steps, the accesses apart from the blocks.
#[derive(Debug, Default)]
pub struct Gathered<'a> {
    /// Accesses that were taken one by one.
    own: Vec<Packed>,
    /// Accesses that are elsewhere, instead.
    lent: Option<&'a [Packed]>,
    /// What is entered, in order.
    pub entered: Vec<Entered<'a>>,
    /// Which of them take turns, in order; each at most once.
    pub turns: Vec<Turns>,
}

/// A block among gathered steps.
#[derive(Debug, Clone, Copy)]
pub struct Entered<'a> {
    /// The block.
    pub block: &'a Block,
    /// How many of the accesses come before it is entered; for the first time, where it takes turns with others.
    pub before: u32,
}

/// Blocks that take turns, as those of a loop do: in each turn all of them are entered once more, in the same order, with equally many
/// accesses of each.
#[derive(Debug, Clone, Copy)]
pub struct Turns {
    /// Index of the first of them in [`Gathered::entered`], where they follow each other as in the first turn.
    pub first: u32,
    /// How many they are.
    pub blocks: u32,
    /// How many turns come after the first.
    pub more: u32,
    /// Accesses of a turn.
    pub each: u32,
}

impl Turns {
    /// How many of the turns come before an access of a block that is entered for the first time after `before` accesses, that first
    /// time not included; it comes before the access.
    pub(crate) fn more_before(&self, before: u32, access: u32) -> u32 {
        let after = access.saturating_sub(before);
        after.checked_div(self.each).map_or(self.more, |turns| self.more.min(turns))
    }

    /// Index after the last of the blocks.
    pub(crate) fn end(&self) -> usize {
        self.first as usize + self.blocks as usize
    }

    /// Those of what is entered that take turns.
    pub(crate) fn of<'e, 'a>(&self, entered: &'e [Entered<'a>]) -> &'e [Entered<'a>] {
        entered.get(self.first as usize..self.end()).unwrap_or_default()
    }
}

impl<'a> Gathered<'a> {
    /// Accesses and entries there is room for, of either kind where accesses are lent: few enough to stay in a host's first-level cache, many
    /// enough that each loop over them learns.
    pub const ROOM: usize = 1024;

    /// What is accessed, in order.
    #[inline]
    pub fn accesses(&self) -> &[Packed] {
        self.lent.unwrap_or(&self.own)
    }

    /// These are what is accessed. Not more than there is room for.
    #[inline]
    pub fn lend(&mut self, accesses: &'a [Packed]) {
        self.lent = Some(accesses);
    }

    /// How many more there is room for.
    #[inline]
    fn room(&self) -> usize {
        Self::ROOM.saturating_sub(self.own.len() + self.entered.len())
    }

    /// A block is entered after the accesses that are there.
    #[inline]
    fn enter(&mut self, block: &'a Block) {
        self.entered.push(Entered { block, before: self.own.len() as u32 });
    }

    /// Makes room.
    pub(crate) fn clear(&mut self) {
        self.own.clear();
        self.lent = None;
        self.entered.clear();
        self.turns.clear();
    }
}

/// An access in a word.
///
/// ```text
/// 0..48   address; bits beyond user space are its sign
/// 48..57  index of the instruction in its block
/// 57      store
/// 58..62  how many bytes: index into [`Packed::BYTES`]
/// 62..64  anything
/// ```
///
/// A store by an instruction that is [`non_temporal`](crate::Op::non_temporal) must have one of the sizes from
/// [`Packed::AROUND`] on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Packed(u64);

/// For each size: the last place in a line where such an access ends in the same line; -1 where it takes a closer look.
const LAST_INSIDE: [i8; 16] = {
    let mut last = [-1_i8; 16];
    let mut size = 0;
    while size < Packed::AROUND {
        last[size] = (LINE_BYTES as u8 - Packed::BYTES[size]) as i8;
        size += 1;
    }
    last
};

impl Packed {
    /// Sizes, in bytes.
    pub const BYTES: [u8; 16] = [1, 2, 4, 8, 16, 32, 64, 10, 6, 8, 4, 8, 16, 32, 64, 8];

    /// The first size of stores that may go around the caches.
    pub const AROUND: usize = 10;

    /// Bits of an address.
    pub const ADDRESS_BITS: u32 = 48;

    /// From its word.
    #[inline(always)]
    pub const fn from_word(word: u64) -> Self {
        Self(word)
    }

    /// Its word.
    #[inline(always)]
    pub const fn word(self) -> u64 {
        self.0
    }

    /// First byte.
    #[inline(always)]
    pub const fn address(self) -> u64 {
        self.0 & ((1 << Self::ADDRESS_BITS) - 1)
    }

    /// Whether it writes.
    #[inline(always)]
    pub const fn is_store(self) -> bool {
        self.0 & 1 << 57 != 0
    }

    /// Index of the instruction.
    #[inline(always)]
    pub const fn op(self) -> u16 {
        (self.0 >> Self::ADDRESS_BITS) as u16 & 511
    }

    /// Whether it may be a store around the caches: its size says so.
    #[inline(always)]
    pub const fn may_go_around(self) -> bool {
        (self.0 >> 58) as usize % 16 >= Self::AROUND
    }

    fn size(self) -> usize {
        (self.0 >> 58) as usize % 16
    }

    /// Whether it lies in one line and goes through the caches.
    #[inline(always)]
    pub(crate) fn is_plain(self) -> bool {
        (self.0 % LINE_BYTES) as i32 <= i32::from(LAST_INSIDE[self.size()])
    }

    /// With its parts apart.
    pub fn access(self) -> Access {
        Access { address: self.address(), op: self.op(), bytes: Self::BYTES[self.size()], store: self.is_store() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::private::straddles;

    #[test]
    fn what_is_packed_comes_out_and_plain_is_what_stays_in_a_line() {
        for size in 0..16_u64 {
            for offset in 0..64 {
                let packed =
                    Packed::from_word(3 << 62 | size << 58 | 1 << 57 | 300 << 48 | (0x7fff_1234_5000 + offset));
                let access = packed.access();
                let bytes = Packed::BYTES[size as usize];
                assert_eq!(access, Access { address: 0x7fff_1234_5000 + offset, op: 300, bytes, store: true });
                let plain = !straddles(&access) && size < Packed::AROUND as u64;
                assert_eq!(packed.is_plain(), plain, "{bytes} at {offset}");
            }
        }
    }
}
