//! Which accesses of a block follow from others of it.
//!
//! What a callback costs decides how fast counting is, and most accesses need none: the second word that is pushed lies eight bytes
//! below the first, and a field lies where the one before it does, plus a constant. Where two operands of a block differ by a
//! constant, because they use the same registers and these changed by constants only, the callback of the first *leads*: it writes
//! the accesses that *follow*, up to the next that leads, in the order of the program. What is written is the same, word for
//! word, as if each had a callback of its own.
//!
//! It is written when the leading access is made, thus before those that follow are. A fault between them, after which the block is not
//! gone on with, would leave them written. So only what lies within [`REACH`] bytes follows: it is on the page of what was just
//! accessed, or on the one beside it.
//!
//! What is not understood in full leads nothing and follows nothing, and what was known before it is forgotten: instructions that
//! access conditionally, repeatedly or two places, compute their address otherwise (`bt`), or are executed by the emulator in a block of their
//! own now and then (locked ones).

use super::tag::MemoryTag;
use iced_x86::{CodeSize, Instruction, InstructionInfo, Mnemonic, OpKind, Register, UsedMemory};

/// Bytes within which an access follows from another.
const REACH: i64 = 4096;

/// Words back within which the access lies from which another follows.
pub(crate) const MOST_BACK: usize = 64;

/// An access that is written together with the one that leads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Follower {
    /// How many words before it that word is from which it follows: at least 1.
    pub back: u32,
    /// What is added to that.
    pub add: u64,
}

/// How the accesses of an instruction come to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// Each by its own callback; or there are none.
    Each,
    /// With those that follow it.
    Leading {
        /// It is the first of its block, and sure to be made once the block is entered, so that it may say so, too.
        enters: bool,
        /// In order.
        followers: Box<[Follower]>,
    },
    /// With another that leads it.
    Following,
}

/// A register and how often it had become something unknown.
type Version = (u8, u16);

/// What an address is made of but for a constant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Base {
    /// Where it has a base of its own.
    segment: Option<Register>,
    base: Option<Version>,
    index: Option<(Version, u32)>,
}

/// An access that was written.
#[derive(Debug, Clone, Copy)]
struct Known {
    base: Base,
    constant: i64,
    /// Which word it is.
    position: u32,
    tag: MemoryTag,
}

/// What is known on the way through a block.
#[derive(Debug, Default)]
pub(super) struct Following {
    /// Of each general register.
    versions: [u16; 16],
    /// What was added to each since then.
    added: [i64; 16],
    known: Vec<Known>,
    /// Words that the block has written, as far as they are known.
    words: u32,
    /// Something was accessed.
    accessed: bool,
    /// The last that leads, and what follows it.
    leading: Option<usize>,
    followers: Vec<Follower>,
    written: Vec<Written>,
}

/// An instruction's accesses.
#[derive(Debug, Clone, Copy)]
pub(super) struct Accesses {
    pub(super) loads: bool,
    pub(super) stores: bool,
    pub(super) tags: [MemoryTag; 2],
    /// There is one operand, which is surely accessed, once.
    pub(super) plain: bool,
}

impl Following {
    /// Goes over an instruction.
    pub(super) fn instruction(&mut self, instruction: &Instruction, info: &InstructionInfo, accesses: Accesses) {
        let written = match (accesses.loads || accesses.stores, operand(instruction, info)) {
            (false, _) => Written::Each,
            (true, Some(memory)) if accesses.plain => self.access(memory, accesses),
            (true, _) => {
                self.forget();
                Written::Each
            }
        };
        self.accessed |= accesses.loads || accesses.stores;
        self.written.push(written);
        self.registers(instruction, info);
    }

    /// How the accesses of each instruction are written.
    pub(super) fn finish(mut self) -> Vec<Written> {
        self.end_leading();
        self.written
    }

    fn access(&mut self, memory: &UsedMemory, accesses: Accesses) -> Written {
        let Some((base, constant)) = self.address(memory) else {
            self.forget();
            return Written::Each;
        };
        let [load, store] = accesses.tags;
        let first = if accesses.loads { load } else { store };
        let from = self.known.iter().rev().find(|known| {
            known.base == base
                && constant.wrapping_sub(known.constant).checked_abs().is_some_and(|far| far < REACH)
                && ((self.words - known.position) as usize) < MOST_BACK
        });
        let written = match from {
            Some(known) => {
                let far = constant.wrapping_sub(known.constant) as u64;
                let add = first.to_word().wrapping_sub(known.tag.to_word()).wrapping_add(far);
                self.followers.push(Follower { back: self.words - known.position, add });
                Written::Following
            }
            None => {
                self.end_leading();
                self.leading = Some(self.written.len());
                // Its pieces would enter the block once more each.
                let enters = !self.accessed && !first.is_in_pieces();
                Written::Leading { enters, followers: Box::default() }
            }
        };
        self.known.push(Known { base, constant, position: self.words, tag: first });
        self.words += 1;
        if accesses.loads && accesses.stores {
            self.followers.push(Follower { back: 1, add: store.to_word().wrapping_sub(load.to_word()) });
            self.words += 1;
        }
        written
    }

    fn end_leading(&mut self) {
        let of_it = std::mem::take(&mut self.followers);
        if let Some(Written::Leading { followers, .. }) = self.leading.take().and_then(|at| self.written.get_mut(at)) {
            *followers = of_it.into();
        }
    }

    fn forget(&mut self) {
        self.end_leading();
        self.known.clear();
    }

    fn address(&self, memory: &UsedMemory) -> Option<(Base, i64)> {
        if memory.address_size() != CodeSize::Code64 || memory.vsib_size() != 0 {
            return None;
        }
        let part = |register: Register| match register {
            Register::None => Some((None, 0)),
            register if register.is_gpr64() => {
                let number = register.number();
                let version = (number as u8, *self.versions.get(number)?);
                Some((Some(version), *self.added.get(number)?))
            }
            _ => None,
        };
        let ((base, of_base), (index, of_index)) = (part(memory.base())?, part(memory.index())?);
        let segment = Some(memory.segment()).filter(|segment| matches!(segment, Register::FS | Register::GS));
        let scaled = of_index.wrapping_mul(i64::from(memory.scale()));
        let constant = (memory.displacement() as i64).wrapping_add(of_base).wrapping_add(scaled);
        Some((Base { segment, base, index: index.map(|index| (index, memory.scale())) }, constant))
    }

    /// What the instruction does to registers.
    fn registers(&mut self, instruction: &Instruction, info: &InstructionInfo) {
        if matches!(instruction.mnemonic(), Mnemonic::Wrfsbase | Mnemonic::Wrgsbase) {
            self.forget();
        }
        let change = change(instruction);
        for used in info.used_registers() {
            let register = used.register().full_register();
            let (_, writes, _) = super::access(used.access());
            if !writes || !register.is_gpr64() {
                continue;
            }
            let number = register.number();
            let (Some(version), Some(added)) = (self.versions.get_mut(number), self.added.get_mut(number)) else {
                continue;
            };
            match change {
                Some((changed, by)) if changed == register => *added = added.wrapping_add(by),
                _ => (*version, *added) = (version.wrapping_add(1), 0),
            }
        }
    }
}

/// The operand in memory, if there is one and its address is what its parts add up to.
fn operand<'i>(instruction: &Instruction, info: &'i InstructionInfo) -> Option<&'i UsedMemory> {
    use Mnemonic::{Bndldx, Bndmov, Bndstx, Bt, Btc, Btr, Bts, Cmpxchg, Cmpxchg8b, Cmpxchg16b, Xchg};
    let [memory] = info.used_memory() else { return None };
    let otherwise = matches!(
        instruction.mnemonic(),
        Bt | Btc | Btr | Bts | Bndldx | Bndmov | Bndstx | Cmpxchg | Cmpxchg8b | Cmpxchg16b | Xchg
    );
    let explicit = (0..instruction.op_count()).any(|operand| instruction.op_kind(operand) == OpKind::Memory);
    let understood = explicit || by_stack_pointer(instruction);
    (understood && !otherwise && !instruction.has_lock_prefix()).then_some(memory)
}

/// Whether it pushes or pops.
fn by_stack_pointer(instruction: &Instruction) -> bool {
    use Mnemonic::{Call, Pop, Push, Ret};
    matches!(instruction.mnemonic(), Push | Pop | Call | Ret)
}

/// The register that an instruction adds a constant to, and the constant.
fn change(instruction: &Instruction) -> Option<(Register, i64)> {
    let first = || {
        let register = instruction.op0_register();
        (instruction.op0_kind() == OpKind::Register && register.is_gpr64()).then_some(register)
    };
    let constant = || instruction.try_immediate(1).ok().map(|immediate| immediate as i64);
    match instruction.mnemonic() {
        // What is popped into the stack pointer is not what it was.
        Mnemonic::Pop if first() == Some(Register::RSP) => None,
        _ if by_stack_pointer(instruction) => Some((Register::RSP, i64::from(instruction.stack_pointer_increment()))),
        Mnemonic::Add => Some((first()?, constant()?)),
        Mnemonic::Sub => Some((first()?, constant()?.wrapping_neg())),
        Mnemonic::Inc => Some((first()?, 1)),
        Mnemonic::Dec => Some((first()?, -1)),
        Mnemonic::Lea if instruction.memory_index() == Register::None && Some(instruction.memory_base()) == first() => {
            Some((first()?, instruction.memory_displacement64() as i64))
        }
        _ => None,
    }
}
