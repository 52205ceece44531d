//! What the program executes: blocks decoded once, and the accesses of each execution.
//!
//! An operation here is one instruction. What it depends on is said in whole registers: a write of `al` or of the upper half of a
//! vector register counts as one that also reads the old value, which whoever decodes puts among the sources.

/// A set of registers, one bit each.
///
/// 0 to 15 are the general registers in encoding order, 16 to 47 the vector registers, 48 to 55 the mask registers, 56 the
/// flags, 57 the x87 stack and MMX as one, 58 everything else (MXCSR, segments) as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Registers(pub u64);

impl Registers {
    /// None.
    pub const NONE: Self = Self(0);
    /// The arithmetic flags.
    pub const FLAGS: Self = Self(1 << 56);
    /// The x87 stack and the MMX registers.
    pub const X87: Self = Self(1 << 57);
    /// All that has no number of its own.
    pub const OTHER: Self = Self(1 << 58);
    /// How many numbers there are.
    pub const COUNT: usize = 59;

    /// General register `number`, 0 (rax) to 15; none for other numbers.
    pub const fn general(number: u8) -> Self {
        if number < 16 { Self(1 << number) } else { Self::NONE }
    }

    /// Vector register `number`, 0 to 31; none for other numbers.
    pub const fn vector(number: u8) -> Self {
        if number < 32 { Self(1 << (16 + number)) } else { Self::NONE }
    }

    /// Mask register `number`, 0 to 7; none for other numbers.
    pub const fn mask(number: u8) -> Self {
        if number < 8 { Self(1 << (48 + number)) } else { Self::NONE }
    }

    /// Both sets together.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` are in it.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Those in both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Those that are not in `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether it is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The numbers in it, ascending.
    pub fn numbers(self) -> impl Iterator<Item = usize> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let number = rest.trailing_zeros() as usize;
            rest &= rest.wrapping_sub(1);
            (number < 64).then_some(number)
        })
    }
}

impl std::ops::BitOr for Registers {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        self.union(other)
    }
}

impl std::ops::BitOrAssign for Registers {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

/// What an operation does besides its loads and stores: which unit it needs and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum Class {
    /// Takes a place in the reorder buffer and nothing else: `nop`, `endbr64`, prefetch hints.
    #[default]
    Nop,
    /// Done when it is renamed: zero idioms, moves between registers. Its results are its sources.
    Eliminated,
    /// Only loads or stores: `mov` from and to memory, `push`, `pop`.
    Move,
    /// One cycle of an integer unit: additions, logic, shifts, comparisons, `lea`, `setcc`, `cmov`.
    Integer,
    /// Integer multiplication.
    Multiply,
    /// Integer division of 32 bits or fewer.
    Divide,
    /// Integer division of 64 bits.
    DivideLong,
    /// Addition, subtraction, comparison, minimum of floats, scalar or vector.
    FloatAdd,
    /// Multiplication of floats.
    FloatMultiply,
    /// Fused multiplication and addition of floats.
    FloatFused,
    /// Division of floats.
    FloatDivide,
    /// Square root of floats.
    FloatSqrt,
    /// Conversion between float and integer, or between floats.
    Convert,
    /// Integer arithmetic, logic and comparisons of vectors.
    Vector,
    /// Integer multiplication of vectors.
    VectorMultiply,
    /// Permutations, unpacking, inserts and extracts of vectors.
    Shuffle,
    /// Between a vector or mask register and a general one.
    Transfer,
    /// The x87 unit, and what it takes many steps for.
    X87,
    /// AES, SHA, CRC, carry-less multiplication.
    Cryptographic,
    /// A jump taken or not.
    BranchConditional,
    /// A jump to a place in the instruction.
    BranchDirect,
    /// A jump through a register or memory.
    BranchIndirect,
    /// A call of a place in the instruction.
    CallDirect,
    /// A call through a register or memory.
    CallIndirect,
    /// A return.
    Return,
    /// A `rep` string instruction: one iteration for each of its accesses.
    Repeat,
    /// A locked read-modify-write, `xchg` with memory: the store buffer drains before it.
    Atomic,
    /// A fence: `mfence`, `lfence`, `sfence`.
    Fence,
    /// Nothing overlaps with it: `cpuid`, `syscall`, `rdtscp`.
    Serialising,
}

impl Class {
    /// Whether it ends a block by choosing what is next.
    pub const fn is_branch(self) -> bool {
        matches!(
            self,
            Self::BranchConditional
                | Self::BranchDirect
                | Self::BranchIndirect
                | Self::CallDirect
                | Self::CallIndirect
                | Self::Return
        )
    }
}

/// One instruction of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Op {
    /// Bytes from the start of the block to this instruction.
    pub offset: u16,
    /// Accesses that read, in one execution (for [`Class::Repeat`]: in one iteration).
    pub loads: u8,
    /// Accesses that write.
    pub stores: u8,
    /// What it does besides.
    pub class: Class,
    /// Stores around the caches (`movnti`, `vmovntdq`): full lines go to memory without being read first.
    pub non_temporal: bool,
    /// A jump that is decoded and executed as one with the comparison before it.
    pub fused: bool,
    /// Registers its result depends on, other than by an address.
    pub sources: Registers,
    /// Registers its addresses are computed from.
    pub address_sources: Registers,
    /// Registers it writes.
    pub destinations: Registers,
}

/// A translated block: straight code with one entry, decoded once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Block {
    /// Where it lies in the program.
    pub address: u64,
    /// Bytes of code.
    pub bytes: u32,
    /// Its instructions, in order.
    pub ops: Box<[Op]>,
    /// Another for each different block that is executed again, so that what was found out of it is remembered; 0 for none.
    pub number: u32,
}

/// One access of one execution of a block. Accesses come in program order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// First byte.
    pub address: u64,
    /// Index of the instruction in [`Block::ops`].
    pub op: u16,
    /// How many bytes, at least 1.
    pub bytes: u8,
    /// Writes; an instruction that reads and writes has two accesses.
    pub store: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_register_has_its_own_number() {
        let all = (0..16).map(Registers::general);
        let all = all.chain((0..32).map(Registers::vector)).chain((0..8).map(Registers::mask));
        let all: Vec<_> = all.chain([Registers::FLAGS, Registers::X87, Registers::OTHER]).collect();
        let union = all.iter().fold(Registers::NONE, |sum, one| sum | *one);
        assert_eq!((all.len(), union.numbers().count()), (Registers::COUNT, Registers::COUNT));
        assert!(union.contains(Registers::FLAGS) && !Registers::X87.contains(Registers::FLAGS));
        assert_eq!(union.numbers().last(), Some(Registers::COUNT - 1));
        assert!(Registers::general(16).is_empty() && Registers::vector(32).is_empty() && Registers::mask(8).is_empty());
    }

    #[test]
    fn accesses_are_small() {
        assert_eq!(size_of::<Access>(), 16);
    }
}
