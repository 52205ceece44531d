//! What is known of a placed block, in the bytes before it.
//!
//! A block of the arena begins with sixteen bytes (or as many as its alignment) that the program does not see: how much
//! was asked for, which rule placed it, and its slot. So whoever has the block has its accounts, without a table that
//! all threads would share; the C library keeps its own the same way. A program that writes before its blocks may
//! change them: a check byte finds most of that, and what goes wrong then is a count, or a block that is not given back.

use super::matching::Choice;
use core::ptr::NonNull;

/// Of a block that no rule placed.
pub(super) const NO_RULE: u16 = u16::MAX;
/// Of a block whose place among its site's is not asked for.
pub(super) const NO_SLOT: u16 = u16::MAX;

/// Bytes it takes.
const BYTES: usize = tierscope_wire::policy::room::HEADER_BYTES as usize;

/// What is known of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// What was asked for.
    pub(super) bytes: u64,
    /// The rule's place in the table, or [`NO_RULE`].
    pub(super) rule: u16,
    /// Its slot, or [`NO_SLOT`].
    pub(super) slot: u16,
    /// What the slot is one of.
    pub(super) group: u16,
    /// Binary logarithm of the bytes before the block.
    shift: u8,
}

fn check(bytes: u64, rest: u64) -> u64 {
    ((bytes ^ rest.rotate_left(29)).wrapping_mul(0x9E37_79B9_7F4A_7C15)) >> 56
}

impl Header {
    /// How many bytes go before a block of that alignment, and how many that makes in all.
    pub(super) fn room(bytes: usize, alignment: usize) -> Option<(usize, usize)> {
        let before = alignment.max(BYTES);
        Some((before, bytes.checked_add(before)?))
    }

    /// Writes the header of a block that begins `before` bytes after `inner`, and returns that block.
    ///
    /// # Safety
    ///
    /// So many bytes from `inner` on are the caller's; `before` is a power of two, 16 at least.
    pub(super) unsafe fn write(inner: NonNull<u8>, before: usize, bytes: u64, choice: Choice) -> NonNull<u8> {
        let rest = u64::from(choice.rule)
            | u64::from(choice.slot) << 16
            | u64::from(choice.group) << 32
            | u64::from(before.trailing_zeros()) << 48;
        // SAFETY: the caller's promise; `inner` is aligned to 16.
        unsafe {
            let block = inner.add(before);
            let words = block.cast::<u64>().sub(2);
            words.write(bytes);
            words.add(1).write(rest | check(bytes, rest) << 56);
            block
        }
    }

    /// The header of a block and where the arena's block begins; `None` if it is not one we wrote.
    ///
    /// # Safety
    ///
    /// The sixteen bytes before `block` are readable.
    pub(super) unsafe fn before(block: NonNull<u8>) -> Option<(Header, NonNull<u8>)> {
        if !block.addr().get().is_multiple_of(BYTES) {
            return None;
        }
        // SAFETY: the caller's promise.
        let (bytes, second) = unsafe {
            let words = block.cast::<u64>().sub(2);
            (words.read(), words.add(1).read())
        };
        let rest = second & (u64::MAX >> 8);
        let shift = (rest >> 48) as u8;
        if check(bytes, rest) != second >> 56 || !(4..=46).contains(&shift) {
            return None;
        }
        let header = Header { bytes, rule: rest as u16, slot: (rest >> 16) as u16, group: (rest >> 32) as u16, shift };
        let inner = block.addr().get().checked_sub(1 << shift)?;
        Some((header, block.with_addr(core::num::NonZero::new(inner)?)))
    }

    /// Whether the block has no more before it than the header, so that both move together.
    pub(super) fn is_plain(&self) -> bool {
        1 << self.shift == BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(rule: u16, slot: u16, group: u16) -> Choice {
        Choice { tier: Some(0), rule, slot, group }
    }

    #[test]
    fn a_header_reads_back_at_every_alignment() {
        for before in [16_usize, 32, 64, 4096, 1 << 16] {
            let mut memory = vec![0_u128; before / 16 + 4];
            let inner = NonNull::new(memory.as_mut_ptr().cast::<u8>()).unwrap();
            // SAFETY: the vector is long enough.
            let (header, found) = unsafe {
                let block = Header::write(inner, before, 48, choice(7, 3, 9));
                assert_eq!(block.addr().get() - inner.addr().get(), before);
                Header::before(block).unwrap()
            };
            assert_eq!((header.bytes, header.rule, header.slot, header.group), (48, 7, 3, 9));
            assert_eq!((header.is_plain(), found), (before == 16, inner));
        }
    }

    #[test]
    fn a_header_written_over_is_seen() {
        let mut memory = [0_u128; 4];
        let inner = NonNull::new(memory.as_mut_ptr().cast::<u8>()).unwrap();
        // SAFETY: within the array.
        let block = unsafe { Header::write(inner, 16, 32, choice(NO_RULE, NO_SLOT, 0)) };
        let mut seen = 0;
        for byte in 0..16 {
            for bit in 0..8 {
                // SAFETY: the header's own bytes.
                unsafe {
                    *inner.as_ptr().add(byte) ^= 1 << bit;
                    seen += u32::from(Header::before(block).is_none());
                    *inner.as_ptr().add(byte) ^= 1 << bit;
                }
            }
        }
        // A check of eight bits misses one change in 256, by its nature.
        assert!(seen >= 124, "{seen} of 128 seen");
        // SAFETY: nothing but a header there.
        assert!(unsafe { Header::before(block) }.is_some());
    }
}
