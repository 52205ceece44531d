//! The 16 bits that go with an access's address through the log.
//!
//! ```text
//! 0..9    index of the instruction in its block
//! 9       store
//! 10..14  how the operand's bytes arrive
//! ```

use tierscope_sim::Packed;

/// How the bytes of an operand arrive. The numbers are those of [`Packed::BYTES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Pieces {
    /// One byte.
    B1 = 0,
    /// Two bytes.
    B2 = 1,
    /// Four bytes.
    B4 = 2,
    /// Eight bytes.
    B8 = 3,
    /// 16 bytes, perhaps in pieces.
    B16 = 4,
    /// 32 bytes, perhaps in pieces.
    B32 = 5,
    /// 64 bytes, perhaps in pieces.
    B64 = 6,
    /// 10 bytes, in pieces.
    B10 = 7,
    /// 6 bytes, in pieces.
    B6 = 8,
    /// Each callback is an access of its own: an element of a gather, a part of a state that is saved.
    Separate = 9,
    /// Four bytes around the caches, as all that follow.
    Around4 = 10,
    /// Eight bytes.
    Around8 = 11,
    /// 16 bytes, perhaps in pieces.
    Around16 = 12,
    /// 32 bytes, perhaps in pieces.
    Around32 = 13,
    /// 64 bytes, perhaps in pieces.
    Around64 = 14,
    /// Each callback is an access of its own.
    AroundSeparate = 15,
}

impl Pieces {
    /// For an operand of so many bytes.
    pub fn of(bytes: usize) -> Pieces {
        match bytes {
            1 => Pieces::B1,
            2 => Pieces::B2,
            4 => Pieces::B4,
            8 => Pieces::B8,
            16 => Pieces::B16,
            32 => Pieces::B32,
            64 => Pieces::B64,
            10 => Pieces::B10,
            6 => Pieces::B6,
            _ => Pieces::Separate,
        }
    }

    /// The same for a store around the caches.
    #[must_use]
    pub fn around(self) -> Pieces {
        match self {
            Pieces::B4 => Pieces::Around4,
            Pieces::B8 => Pieces::Around8,
            Pieces::B16 => Pieces::Around16,
            Pieces::B32 => Pieces::Around32,
            Pieces::B64 => Pieces::Around64,
            _ => Pieces::AroundSeparate,
        }
    }
}

/// For each of [`Pieces`] a bit: whether more may follow the first.
const PIECES: u16 = 0b0111_0001_1111_0000;

/// What a callback adds to an address: the upper half of a [`Packed`] access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryTag(u16);

impl MemoryTag {
    /// Bits of an address that are kept; those above are sign.
    pub const ADDRESS_BITS: u32 = Packed::ADDRESS_BITS;

    /// The tag of instruction `op`'s loads or stores.
    pub fn new(op: u16, store: bool, pieces: Pieces) -> MemoryTag {
        MemoryTag(op & 511 | u16::from(store) << 9 | (pieces as u16) << 10)
    }

    /// From the upper bits of a word of the log.
    pub fn from_word(word: u64) -> MemoryTag {
        MemoryTag((word >> Self::ADDRESS_BITS) as u16)
    }

    /// As the upper bits of a word.
    pub fn to_word(self) -> u64 {
        u64::from(self.0) << Self::ADDRESS_BITS
    }

    /// Index of the instruction.
    pub fn op(self) -> u16 {
        self.0 & 511
    }

    /// Whether it writes.
    pub fn is_store(self) -> bool {
        self.0 & 1 << 9 != 0
    }

    /// Bytes of the operand.
    pub fn bytes(self) -> u8 {
        Packed::BYTES[usize::from(self.0 >> 10 & 15)]
    }

    /// Whether more pieces of one operand may follow the first.
    pub fn is_in_pieces(self) -> bool {
        PIECES >> (self.0 >> 10 & 15) & 1 != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_survives_beside_an_address() {
        for (pieces, bytes, in_pieces) in [
            (Pieces::B1, 1, false),
            (Pieces::B8, 8, false),
            (Pieces::B10, 10, true),
            (Pieces::B32, 32, true),
            (Pieces::Separate, 8, false),
            (Pieces::B6, 6, true),
            (Pieces::Around4, 4, false),
            (Pieces::Around64, 64, true),
            (Pieces::AroundSeparate, 8, false),
        ] {
            let tag = MemoryTag::new(511, true, pieces);
            let word = tag.to_word() | 0x7fff_ffff_ffff;
            assert_eq!(MemoryTag::from_word(word), tag);
            assert_eq!(word >> 62, 0, "control words have a bit there");
            assert_eq!((tag.op(), tag.is_store()), (511, true));
            assert_eq!((tag.bytes(), tag.is_in_pieces()), (bytes, in_pieces));
            let packed = Packed::from_word(word).access();
            assert_eq!((packed.op, packed.store, packed.bytes), (511, true, bytes));
        }
        for bytes in [4, 8, 16, 32, 64, 512] {
            let (through, around) = (Pieces::of(bytes), Pieces::of(bytes).around());
            assert!(around as usize >= Packed::AROUND && (through as usize) < Packed::AROUND);
            assert_eq!(Packed::BYTES[around as usize], Packed::BYTES[through as usize]);
        }
        assert_eq!(Pieces::of(6) as u8, 8);
        assert_eq!(Pieces::of(512), Pieces::Separate);
    }
}
