//! What one instruction does, as far as finding an address takes.
//!
//! Decoding a function yields one [`Instruction`] per machine instruction, with everything about it that a sample may
//! need worked out once: the memory operand, where control goes next, which general registers change, and, for the
//! few instructions that compilers compute addresses with, how. What is not described is a register that changed in
//! an unknown way, so leaving an instruction out can cost an address but never yield a wrong one.
//!
//! Registers are numbered as instructions encode them (rax 0 to r15 15); a part of a register stands for the whole.

use iced_x86::{
    CodeSize, ConditionCode, FlowControl, Instruction as Decoded, InstructionInfo, InstructionInfoFactory,
    InstructionInfoOptions, Mnemonic, OpAccess, OpKind, Register, RflagsBits, UsedMemory,
};

use super::access::AccessKind;

/// Number of a general register in instruction encodings.
pub(super) type Gpr = u8;

/// The stack pointer.
pub(super) const RSP: Gpr = 4;
/// The frame pointer, in code that keeps one.
pub(super) const RBP: Gpr = 5;

/// Registers that a called function may change: rax rcx rdx rsi rdi r8 to r11.
const CALLER_SAVED: u16 = 0b0000_1111_1100_0111;

#[derive(Clone, Debug)]
pub(super) struct Instruction {
    pub address: u64,
    pub next: Next,
    /// The operand in memory; of two, the one that is not the stack.
    pub memory: Option<Operand>,
    /// For string moves and compares, the other operand.
    pub second: Option<Operand>,
    /// Steps its address registers by itself.
    pub string: bool,
    /// Repeated under `rep`: interrupted between repetitions, with the ip still on it.
    pub repeated: bool,
    /// General registers that change, one bit each, `rsp` only where `stack_delta` does not say how.
    pub writes: u16,
    /// How one of them changes.
    pub effect: Effect,
    /// Added to `rsp` by pushes and pops.
    pub stack_delta: i32,
    /// The general register that is stored to `memory`, whole.
    pub stores: Option<Gpr>,
    pub writes_flags: bool,
    /// Enters the kernel.
    pub system_call: bool,
    /// Does nothing.
    pub padding: bool,
    /// Is there to never be executed.
    pub traps: bool,
}

/// Where control goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Falls,
    /// Jumps there if `condition` (the low four bits of the opcode) holds; `None` for `loop` and `jrcxz`.
    Branches {
        target: u64,
        condition: Option<u8>,
    },
    Jumps {
        target: u64,
    },
    /// To an address in a register, or in memory at an address in a register: of a switch, or out of the function.
    JumpsAnywhere,
    Calls {
        /// The function, or the fixed place of the pointer to it.
        target: Option<u64>,
    },
    /// Returns, traps, calls what does not return, jumps to another function by a pointer at a fixed place (as
    /// linkers fill in), or is no instruction.
    Ends,
}

/// A memory operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Operand {
    pub base: Option<Gpr>,
    pub index: Option<Gpr>,
    pub scale: u8,
    pub displacement: u64,
    pub kind: AccessKind,
    pub bytes: u16,
    /// Relative to `fs`; `gs` is not used in user space on x86-64 Linux and treated alike.
    pub thread_local: bool,
    /// One address per vector lane.
    pub gathers: bool,
    /// Addresses of 32 bits.
    pub narrow: bool,
}

impl Operand {
    /// The address, given the values of base and index.
    pub(super) fn address(&self, base: u64, index: u64) -> u64 {
        let address = base.wrapping_add(index.wrapping_mul(u64::from(self.scale))).wrapping_add(self.displacement);
        if self.narrow { address & 0xffff_ffff } else { address }
    }
}

/// The right operand of an arithmetic instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Right {
    Register(Gpr),
    Constant(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arithmetic {
    Add,
    Subtract,
    And,
    Or,
    Xor,
    ShiftLeft,
    ShiftRight,
    ShiftRightSigned,
    Multiply,
}

/// How a narrow value becomes a whole register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extension {
    pub bytes: u8,
    /// To so many bytes by sign; the rest is zero.
    pub signed_to: Option<u8>,
}

impl Extension {
    pub(super) fn apply(self, value: u64) -> u64 {
        let unused = 64 - 8 * u32::from(self.bytes.clamp(1, 8));
        let zero_extended = value << unused >> unused;
        match self.signed_to {
            None => zero_extended,
            Some(to) => {
                let signed = ((value << unused).cast_signed() >> unused).cast_unsigned();
                if to == 8 { signed } else { signed & 0xffff_ffff }
            }
        }
    }
}

/// What becomes of a general register, where that can be computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    None,
    Constant {
        to: Gpr,
        value: u64,
    },
    Copy {
        to: Gpr,
        from: Gpr,
        extension: Extension,
    },
    /// `to = to op right`, in 64 bits if `wide`, else in 32.
    Arithmetic {
        to: Gpr,
        operation: Arithmetic,
        right: Right,
        wide: bool,
    },
    /// `lea`.
    Address {
        to: Gpr,
        operand: Operand,
        wide: bool,
    },
    /// Loaded from the memory operand.
    Load {
        to: Gpr,
        extension: Extension,
    },
    /// Copied if `condition` (numbered as in opcodes) holds, else left as it was.
    Choice {
        to: Gpr,
        from: Gpr,
        condition: u8,
        wide: bool,
    },
}

impl Effect {
    pub(super) fn to(&self) -> Option<Gpr> {
        match *self {
            Effect::None => None,
            Effect::Constant { to, .. }
            | Effect::Copy { to, .. }
            | Effect::Arithmetic { to, .. }
            | Effect::Address { to, .. }
            | Effect::Load { to, .. }
            | Effect::Choice { to, .. } => Some(to),
        }
    }
}

impl Instruction {
    pub(super) fn is_call(&self) -> bool {
        matches!(self.next, Next::Calls { .. })
    }

    pub(super) fn changes(&self, register: Gpr) -> bool {
        self.writes & 1 << register != 0 || (register == RSP && self.stack_delta != 0)
    }
}

/// Turns decoded instructions into [`Instruction`]s.
pub(super) struct Describer {
    factory: InstructionInfoFactory,
}

impl Describer {
    pub(super) fn new() -> Self {
        Describer { factory: InstructionInfoFactory::new() }
    }

    pub(super) fn describe(&mut self, decoded: &Decoded) -> Instruction {
        let next = next(decoded);
        let calls = matches!(next, Next::Calls { .. });
        let info = self.factory.info_options(decoded, InstructionInfoOptions::NONE);
        let (memory, second) = operands(info, decoded);
        let mut writes = written(info);
        let mut stack_delta = decoded.stack_pointer_increment();
        if calls {
            // Seen from the caller, the return has undone the push.
            writes |= CALLER_SAVED;
            stack_delta = 0;
        }
        if stack_delta != 0 {
            writes &= !(1 << RSP);
        }
        Instruction {
            address: decoded.ip(),
            next,
            memory,
            second,
            string: decoded.is_string_instruction(),
            repeated: (decoded.has_rep_prefix() || decoded.has_repne_prefix()) && decoded.is_string_instruction(),
            writes,
            effect: if calls { Effect::None } else { effect(decoded) },
            stack_delta,
            stores: stored(decoded),
            writes_flags: decoded.rflags_modified() & RflagsBits::ALL_STATUS != 0 || calls,
            system_call: matches!(decoded.mnemonic(), Mnemonic::Syscall | Mnemonic::Sysenter | Mnemonic::Int),
            traps: matches!(decoded.mnemonic(), Mnemonic::Ud2 | Mnemonic::Int3 | Mnemonic::Hlt),
            padding: decoded.mnemonic() == Mnemonic::Nop,
        }
    }
}

trait StatusFlags {
    const ALL_STATUS: u32;
}

impl StatusFlags for RflagsBits {
    const ALL_STATUS: u32 = RflagsBits::OF | RflagsBits::SF | RflagsBits::ZF | RflagsBits::CF | RflagsBits::PF;
}

fn next(decoded: &Decoded) -> Next {
    match decoded.flow_control() {
        FlowControl::Next | FlowControl::XbeginXabortXend => Next::Falls,
        FlowControl::ConditionalBranch => {
            let condition = decoded.is_jcc_short_or_near().then(|| condition(decoded));
            Next::Branches { target: decoded.near_branch_target(), condition }
        }
        FlowControl::UnconditionalBranch => Next::Jumps { target: decoded.near_branch_target() },
        FlowControl::IndirectBranch => match fixed_place(decoded) {
            Some(_) => Next::Ends,
            None => Next::JumpsAnywhere,
        },
        FlowControl::Call | FlowControl::IndirectCall => match decoded.mnemonic() {
            Mnemonic::Syscall | Mnemonic::Sysenter => Next::Falls,
            Mnemonic::Call if decoded.flow_control() == FlowControl::Call => {
                Next::Calls { target: Some(decoded.near_branch_target()) }
            }
            _ => Next::Calls { target: fixed_place(decoded) },
        },
        FlowControl::Interrupt => match decoded.mnemonic() {
            Mnemonic::Int => Next::Falls,
            _ => Next::Ends,
        },
        FlowControl::Return | FlowControl::Exception => Next::Ends,
    }
}

/// The condition, numbered as in opcodes: o no b ae e ne be a s ns p np l ge le g, which iced counts from 1.
fn condition(decoded: &Decoded) -> u8 {
    (decoded.condition_code() as u8).wrapping_sub(1)
}

/// The address of the memory operand of a jump or call, if no register has a part in it.
fn fixed_place(decoded: &Decoded) -> Option<u64> {
    let relative = matches!(decoded.memory_base(), Register::None | Register::RIP | Register::EIP);
    let fixed = decoded.op0_kind() == OpKind::Memory && relative && decoded.memory_index() == Register::None;
    fixed.then(|| decoded.memory_displacement64())
}

fn general(register: Register) -> Option<Gpr> {
    let full = register.full_register();
    full.is_gpr64().then(|| u8::try_from(full.number()).unwrap_or(0) & 15)
}

/// The operands in memory, the stack last.
fn operands(info: &InstructionInfo, decoded: &Decoded) -> (Option<Operand>, Option<Operand>) {
    let mut found = info.used_memory().iter().filter_map(|memory| operand(memory, decoded));
    let (Some(first), second) = (found.next(), found.next()) else { return (None, None) };
    match second {
        Some(second) if !decoded.is_string_instruction() => {
            let implicit = decoded.is_stack_instruction() && first.base == Some(RSP) && first.index.is_none();
            (Some(if implicit { second } else { first }), None)
        }
        _ => (Some(first), second),
    }
}

fn operand(memory: &UsedMemory, decoded: &Decoded) -> Option<Operand> {
    let kind = match memory.access() {
        OpAccess::Read | OpAccess::CondRead => AccessKind::Load,
        OpAccess::Write | OpAccess::CondWrite => AccessKind::Store,
        OpAccess::ReadWrite | OpAccess::ReadCondWrite => AccessKind::Update,
        OpAccess::None | OpAccess::NoMemAccess => return None,
    };
    // Of repeated instructions the whole is not known, so that the width of an element stands for it.
    let bytes = match memory.memory_size().size() {
        0 => decoded.memory_size().size(),
        bytes => bytes,
    };
    let register = |register: Register| if register == Register::None { None } else { general(register) };
    Some(Operand {
        base: register(memory.base()),
        index: register(memory.index()),
        scale: u8::try_from(memory.scale()).unwrap_or(1),
        displacement: memory.displacement(),
        kind,
        bytes: u16::try_from(bytes).unwrap_or(0),
        thread_local: matches!(memory.segment(), Register::FS | Register::GS),
        gathers: memory.index().is_vector_register() || decoded.is_vsib(),
        narrow: memory.address_size() == CodeSize::Code32,
    })
}

fn written(info: &InstructionInfo) -> u16 {
    let mut writes = 0;
    for used in info.used_registers() {
        let write = !matches!(used.access(), OpAccess::Read | OpAccess::CondRead | OpAccess::None);
        if let (true, Some(register)) = (write, general(used.register())) {
            writes |= 1 << register;
        }
    }
    writes
}

fn stored(decoded: &Decoded) -> Option<Gpr> {
    let whole = decoded.mnemonic() == Mnemonic::Mov
        && decoded.op0_kind() == OpKind::Memory
        && decoded.op1_kind() == OpKind::Register
        && (decoded.op1_register().is_gpr64() || decoded.op1_register().is_gpr32());
    if whole { general(decoded.op1_register()) } else { None }
}

/// The value an instruction gives to its first operand, where that is a general register of 32 or 64 bits.
fn effect(decoded: &Decoded) -> Effect {
    match decoded.mnemonic() {
        Mnemonic::Cdqe => {
            let extension = Extension { bytes: 4, signed_to: Some(8) };
            return Effect::Copy { to: 0, from: 0, extension };
        }
        Mnemonic::Cwde => {
            let extension = Extension { bytes: 2, signed_to: Some(4) };
            return Effect::Copy { to: 0, from: 0, extension };
        }
        _ => {}
    }
    let target = decoded.op0_register();
    let wide = target.is_gpr64();
    if decoded.op0_kind() != OpKind::Register || !(wide || target.is_gpr32()) {
        return Effect::None;
    }
    let Some(to) = general(target) else { return Effect::None };
    // Of all that have a condition, only conditional moves have such a target.
    if decoded.condition_code() != ConditionCode::None {
        let from = if decoded.op1_kind() == OpKind::Register { general(decoded.op1_register()) } else { None };
        return from.map_or(Effect::None, |from| Effect::Choice { to, from, condition: condition(decoded), wide });
    }
    match decoded.mnemonic() {
        Mnemonic::Mov | Mnemonic::Movzx | Mnemonic::Movsx | Mnemonic::Movsxd => moved(decoded, to, wide),
        Mnemonic::Lea => match lea_operand(decoded) {
            Some(operand) => Effect::Address { to, operand, wide },
            None => Effect::None,
        },
        Mnemonic::Inc => arithmetic(to, Arithmetic::Add, Right::Constant(1), wide),
        Mnemonic::Dec => arithmetic(to, Arithmetic::Subtract, Right::Constant(1), wide),
        Mnemonic::Xor | Mnemonic::Sub if same_registers(decoded) => Effect::Constant { to, value: 0 },
        Mnemonic::Add => two_operands(decoded, to, Arithmetic::Add, wide),
        Mnemonic::Sub => two_operands(decoded, to, Arithmetic::Subtract, wide),
        Mnemonic::And => two_operands(decoded, to, Arithmetic::And, wide),
        Mnemonic::Or => two_operands(decoded, to, Arithmetic::Or, wide),
        Mnemonic::Xor => two_operands(decoded, to, Arithmetic::Xor, wide),
        Mnemonic::Shl => two_operands(decoded, to, Arithmetic::ShiftLeft, wide),
        Mnemonic::Shr => two_operands(decoded, to, Arithmetic::ShiftRight, wide),
        Mnemonic::Sar => two_operands(decoded, to, Arithmetic::ShiftRightSigned, wide),
        Mnemonic::Imul if decoded.op_count() == 2 => two_operands(decoded, to, Arithmetic::Multiply, wide),
        _ => Effect::None,
    }
}

fn arithmetic(to: Gpr, operation: Arithmetic, right: Right, wide: bool) -> Effect {
    Effect::Arithmetic { to, operation, right, wide }
}

fn same_registers(decoded: &Decoded) -> bool {
    decoded.op1_kind() == OpKind::Register && decoded.op0_register() == decoded.op1_register()
}

fn two_operands(decoded: &Decoded, to: Gpr, operation: Arithmetic, wide: bool) -> Effect {
    let right = match decoded.op1_kind() {
        OpKind::Register => match general(decoded.op1_register()) {
            // A shift by cl counts in a part of rcx, as the shift itself does.
            Some(register) => Right::Register(register),
            None => return Effect::None,
        },
        _ => match decoded.try_immediate(1) {
            Ok(value) => Right::Constant(value),
            Err(_) => return Effect::None,
        },
    };
    arithmetic(to, operation, right, wide)
}

fn moved(decoded: &Decoded, to: Gpr, wide: bool) -> Effect {
    let signed = matches!(decoded.mnemonic(), Mnemonic::Movsx | Mnemonic::Movsxd);
    let signed_to = signed.then_some(if wide { 8 } else { 4 });
    match decoded.op1_kind() {
        OpKind::Memory => {
            let bytes = u8::try_from(decoded.memory_size().size()).unwrap_or(8);
            Effect::Load { to, extension: Extension { bytes, signed_to } }
        }
        OpKind::Register => {
            let source = decoded.op1_register();
            let high_byte = matches!(source, Register::AH | Register::BH | Register::CH | Register::DH);
            match (general(source), u8::try_from(source.size())) {
                (Some(from), Ok(bytes)) if !high_byte => {
                    Effect::Copy { to, from, extension: Extension { bytes, signed_to } }
                }
                _ => Effect::None,
            }
        }
        _ => match decoded.try_immediate(1) {
            Ok(value) => Effect::Constant { to, value: if wide { value } else { value & 0xffff_ffff } },
            Err(_) => Effect::None,
        },
    }
}

fn lea_operand(decoded: &Decoded) -> Option<Operand> {
    let register = |register: Register| match register {
        Register::None | Register::RIP | Register::EIP => Some(None),
        register => general(register).map(Some),
    };
    Some(Operand {
        base: register(decoded.memory_base())?,
        index: register(decoded.memory_index())?,
        scale: u8::try_from(decoded.memory_index_scale()).unwrap_or(1),
        displacement: decoded.memory_displacement64(),
        kind: AccessKind::Unknown,
        bytes: 0,
        thread_local: false,
        gathers: false,
        narrow: decoded.memory_base().is_gpr32() || decoded.memory_index().is_gpr32(),
    })
}
