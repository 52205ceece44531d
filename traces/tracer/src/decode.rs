//! From machine code to what the simulator's timing needs, once for each translated block.
//!
//! What an instruction reads and writes is iced-x86's knowledge; here it is put into the simulator's terms:
//!
//! * Registers that addresses are computed from are told apart from those that data come from: a store's address is known
//!   before its data, and a chase is a chase because an address waits.
//! * The stack pointer's own changes by `push`, `pop`, `call` and `ret` are no results: every core since the Pentium M computes them as
//!   it decodes (Fog, Microarchitecture, "stack engine"), so that a chain of pops is no chain of loads.
//! * A partial write keeps the rest, so that it also reads what it writes: 8 and 16 bit results, and the scalar instructions
//!   that leave the upper part of a vector register alone.
//! * An instruction whose result does not depend on its operands (`xor eax, eax`) reads none; those that clear and moves between
//!   whole registers are done when they are renamed (Intel Optimization Manual 3.5.1.7; AMD 19h guide 2.9.2).
//!
//! [`MemoryTag`] says of each access that can follow what a mem callback cannot know for itself: which instruction, how many bytes.

mod class;
mod follow;
mod tag;

use class::{Traits, classify};
pub(crate) use follow::MOST_BACK;
use follow::{Accesses, Following};
pub use follow::{Follower, Written};
use iced_x86::{
    ConditionCode, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfo, InstructionInfoFactory,
    Mnemonic, OpAccess, OpKind, Register, RflagsBits,
};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
pub use tag::{MemoryTag, Pieces};
use tierscope_sim::{Block, Class, Op, Registers};

/// The most instructions of a block: QEMU's own limit.
pub const MAX_OPS: usize = 512;

/// The flags that results go through; the direction flag and such are not waited for.
const ARITHMETIC: u32 =
    RflagsBits::OF | RflagsBits::SF | RflagsBits::ZF | RflagsBits::AF | RflagsBits::CF | RflagsBits::PF;

/// A block, and what its accesses are to be called. In one line of a host's cache, since every execution looks at it.
#[derive(Debug)]
#[repr(align(64))]
pub struct Decoded {
    /// For the simulator.
    pub block: Block,
    /// Of each instruction.
    pub asked: Box<[Asked]>,
    /// One more than the last instruction that is certain to access memory when it is executed; 0 for none. An execution that
    /// shows no access of it was left before its end.
    pub last_certain: u16,
    /// Every whole execution shows equally many accesses, one for each operand that is read or written.
    pub is_steady: bool,
}

/// What is to be asked of an instruction that accesses memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Its loads' and its stores' tag.
    pub tags: [MemoryTag; 2],
    /// How its accesses come to be written.
    pub written: Written,
}

/// The next block's number.
static BLOCKS: AtomicU32 = AtomicU32::new(1);

/// The block of `code` at `address`. Bytes that are no instruction end it.
pub fn decode(address: u64, code: &[u8]) -> Decoded {
    let mut factory = InstructionInfoFactory::new();
    let mut decoder = Decoder::with_ip(64, code, address, DecoderOptions::NONE);
    let (mut ops, mut tags, mut last_certain, mut is_steady) = (Vec::new(), Vec::new(), 0, true);
    let mut instruction = Instruction::default();
    let mut before: Option<Instruction> = None;
    let mut following = Following::default();
    while decoder.can_decode() && ops.len() < MAX_OPS {
        let offset = decoder.position();
        decoder.decode_out(&mut instruction);
        if instruction.is_invalid() {
            break;
        }
        let info = factory.info(&instruction);
        let mut one = decode_one(&instruction, info, offset as u16, ops.len() as u16);
        let (loads, stores) = (one.op.loads > 0, one.op.stores > 0);
        following.instruction(&instruction, info, Accesses { loads, stores, tags: one.tags, plain: one.plain });
        one.op.fused = before.is_some_and(|before| is_fused(&before, &instruction));
        before = Some(instruction);
        ops.push(one.op);
        tags.push(one.tags);
        is_steady &= one.steady;
        if one.certain {
            last_certain = ops.len() as u16;
        }
    }
    let number = BLOCKS.fetch_add(1, Relaxed);
    let block = Block { address, bytes: code.len() as u32, ops: ops.into(), number };
    let asked = tags.into_iter().zip(following.finish()).map(|(tags, written)| Asked { tags, written }).collect();
    Decoded { block, asked, last_certain, is_steady }
}

/// Whether a jump is decoded as one with what comes before it: a comparison, or simple arithmetic of registers whose flags are enough
/// for the jump (Intel Optimization Manual 3.4.2.2; AMD 19h guide 2.9.3, which allows some more).
fn is_fused(before: &Instruction, jump: &Instruction) -> bool {
    use ConditionCode as C;
    if jump.flow_control() != FlowControl::ConditionalBranch {
        return false;
    }
    let of_all =
        matches!(jump.condition_code(), C::e | C::ne | C::b | C::ae | C::be | C::a | C::l | C::ge | C::le | C::g);
    let without_carry = matches!(jump.condition_code(), C::e | C::ne | C::l | C::ge | C::le | C::g);
    let enough = match before.mnemonic() {
        Mnemonic::Test | Mnemonic::And => jump.condition_code() != C::None,
        Mnemonic::Cmp | Mnemonic::Add | Mnemonic::Sub => of_all,
        Mnemonic::Inc | Mnemonic::Dec => without_carry,
        _ => false,
    };
    let compares = matches!(before.mnemonic(), Mnemonic::Cmp | Mnemonic::Test);
    let has = |kind: fn(OpKind) -> bool| (0..before.op_count()).any(|operand| kind(before.op_kind(operand)));
    let memory = has(|kind| kind == OpKind::Memory);
    let immediate = has(|kind| !matches!(kind, OpKind::Memory | OpKind::Register));
    enough && !(memory && (immediate || !compares && before.op0_kind() == OpKind::Memory))
}

struct One {
    op: Op,
    tags: [MemoryTag; 2],
    certain: bool,
    /// Each of its operands is surely accessed, and at once.
    steady: bool,
    /// It has one operand in memory, which is surely accessed, and shows one access for a load and one for a store.
    plain: bool,
}

fn decode_one(instruction: &Instruction, info: &InstructionInfo, offset: u16, index: u16) -> One {
    let traits = classify(instruction);
    let mut op = Op { offset, class: traits.class, non_temporal: traits.non_temporal, ..Op::default() };
    let mut pieces = [Pieces::Separate, Pieces::Separate];
    let (mut certain, mut steady, mut plain) = (false, true, traits.class != Class::X87);
    for memory in info.used_memory() {
        let (reads, writes, sure) = access(memory.access());
        op.address_sources |= register(memory.base()) | register(memory.index());
        let count = if instruction.is_vsib() { elements(instruction) } else { 1 };
        let of_operand = if instruction.is_vsib() { Pieces::Separate } else { Pieces::of(memory.memory_size().size()) };
        if reads {
            op.loads = op.loads.saturating_add(count);
            pieces[0] = of_operand;
        }
        if writes {
            op.stores = op.stores.saturating_add(count);
            pieces[1] = of_operand;
        }
        let is_certain = sure && traits.class != Class::Repeat && !instruction.is_vsib();
        certain |= (reads || writes) && is_certain;
        steady &=
            !(reads || writes) || is_certain && matches!(of_operand, Pieces::B1 | Pieces::B2 | Pieces::B4 | Pieces::B8);
        plain &= is_certain && !matches!(of_operand, Pieces::B6 | Pieces::B10 | Pieces::Separate);
    }
    registers(instruction, info, traits, &mut op);
    let [load, store] = pieces;
    let store = if op.non_temporal { store.around() } else { store };
    let tags = [MemoryTag::new(index, false, load), MemoryTag::new(index, true, store)];
    One { op, tags, certain, steady, plain }
}

/// Whether it reads, whether it writes, and whether it surely does.
fn access(access: OpAccess) -> (bool, bool, bool) {
    match access {
        OpAccess::None | OpAccess::NoMemAccess => (false, false, false),
        OpAccess::Read => (true, false, true),
        OpAccess::CondRead => (true, false, false),
        OpAccess::Write => (false, true, true),
        OpAccess::CondWrite => (false, true, false),
        OpAccess::ReadWrite => (true, true, true),
        // The read happens in any case, and cores write back what they read.
        OpAccess::ReadCondWrite => (true, true, true),
    }
}

/// Elements a gather or scatter accesses.
fn elements(instruction: &Instruction) -> u8 {
    let element = instruction.memory_size().size().max(1);
    let whole = (0..instruction.op_count())
        .map(|operand| instruction.op_register(operand))
        .filter(|register| register.is_vector_register())
        .map(|register| register.size())
        .max()
        .unwrap_or(16);
    let index = if instruction.is_vsib64() { 8 } else { 4 };
    u8::try_from(whole / element.max(index)).unwrap_or(1).max(1)
}

/// The simulator's register that holds `register`.
fn register(register: Register) -> Registers {
    if register == Register::None || register.is_ip() {
        return Registers::NONE;
    }
    let full = register.full_register();
    let number = full.number() as u8;
    if full.is_gpr() {
        Registers::general(number)
    } else if full.is_vector_register() {
        Registers::vector(number)
    } else if full.is_k() {
        Registers::mask(number)
    } else if full.is_st() || full.is_mm() {
        Registers::X87
    } else if full.is_segment_register() {
        // Flat: their bases do not change.
        Registers::NONE
    } else {
        Registers::OTHER
    }
}

fn is_partial(register: Register) -> bool {
    register.is_gpr8() || register.is_gpr16()
}

fn registers(instruction: &Instruction, info: &InstructionInfo, traits: Traits, op: &mut Op) {
    let stack_engine = instruction.is_stack_instruction();
    for used in info.used_registers() {
        let name = used.register();
        let set = register(name);
        if stack_engine && set == register(Register::RSP) {
            continue;
        }
        let (reads, writes) = match used.access() {
            OpAccess::Read | OpAccess::CondRead => (true, false),
            // A result that may stay away keeps the old value.
            OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite => (true, true),
            OpAccess::Write => (is_partial(name), true),
            OpAccess::None | OpAccess::NoMemAccess => (false, false),
        };
        // What serves as an address is data only where an operand or a result says so.
        if reads && (writes || !op.address_sources.contains(set) || is_explicit(instruction, info, set)) {
            op.sources |= set;
        }
        if writes {
            op.destinations |= set;
        }
    }
    if instruction.rflags_read() & ARITHMETIC != 0 {
        op.sources |= Registers::FLAGS;
    }
    if instruction.rflags_modified() & ARITHMETIC != 0 {
        op.destinations |= Registers::FLAGS;
    }
    if instruction.fpu_stack_increment_info().increment() != 0 || instruction.fpu_stack_increment_info().writes_top() {
        op.sources |= Registers::X87;
        op.destinations |= Registers::X87;
    }
    if traits.merges {
        op.sources |= first_operand(instruction);
    }
    // Hints wait for nothing.
    if traits.independent || traits.class == Class::Nop {
        op.sources = Registers::NONE;
    }
    if instruction.mnemonic() == Mnemonic::Leave {
        op.sources = Registers::NONE;
    }
}

fn first_operand(instruction: &Instruction) -> Registers {
    if instruction.op0_kind() == OpKind::Register { register(instruction.op0_register()) } else { Registers::NONE }
}

/// Whether some register operand that is read is in `set`.
fn is_explicit(instruction: &Instruction, info: &InstructionInfo, set: Registers) -> bool {
    (0..instruction.op_count()).any(|operand| {
        instruction.op_kind(operand) == OpKind::Register
            && register(instruction.op_register(operand)) == set
            && matches!(
                info.op_access(operand),
                OpAccess::Read | OpAccess::CondRead | OpAccess::ReadWrite | OpAccess::ReadCondWrite
            )
    })
}

#[cfg(test)]
mod tests;
