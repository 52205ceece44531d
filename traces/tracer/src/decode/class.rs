//! Which unit an instruction needs, by what it is called.
//!
//! Instruction names are regular where sets of units are: `mulps` is a multiplication of floats as `vmulpd` is. The rules below go by
//! the name without its `v`, in order; what none names is an integer operation, or one of vectors if a vector is an operand.
//! Unit by instruction after Abel and Reineke, uops.info, and Fog, Instruction tables.

use iced_x86::{FlowControl, Instruction, Mnemonic, OpKind, Register};
use tierscope_sim::Class;

/// What an instruction is, beside its operands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Traits {
    pub(super) class: Class,
    pub(super) non_temporal: bool,
    /// Keeps part of its first operand, whatever that register is written as.
    pub(super) merges: bool,
    /// Its result depends on no register.
    pub(super) independent: bool,
}

pub(super) fn classify(instruction: &Instruction) -> Traits {
    let spelled = format!("{:?}", instruction.mnemonic()).to_ascii_lowercase();
    let name = Name { whole: &spelled, base: base_of(&spelled), instruction };
    let clears = name.clears();
    let class = if clears && !name.is("pcmpeq") { Class::Eliminated } else { name.class() };
    Traits { class, non_temporal: name.is("movnt") && !name.is("movntdqa"), merges: name.merges(), independent: clears }
}

/// Without the `v` of what has a form with three operands.
fn base_of(name: &str) -> &str {
    match name {
        "verr" | "verw" | "vmcall" | "vmfunc" => name,
        _ => name.strip_prefix('v').unwrap_or(name),
    }
}

struct Name<'a> {
    whole: &'a str,
    base: &'a str,
    instruction: &'a Instruction,
}

impl Name<'_> {
    fn is(&self, prefix: &str) -> bool {
        self.base.starts_with(prefix)
    }

    fn any(&self, prefixes: &[&str]) -> bool {
        prefixes.iter().any(|prefix| self.is(prefix))
    }

    /// One of packed or scalar floats.
    fn is_float(&self) -> bool {
        ["ps", "pd", "ss", "sd", "ph", "sh"].iter().any(|suffix| self.base.ends_with(suffix)) && self.has_vector()
    }

    fn registers(&self) -> impl Iterator<Item = Register> {
        (0..self.instruction.op_count())
            .filter(|operand| self.instruction.op_kind(*operand) == OpKind::Register)
            .map(|operand| self.instruction.op_register(operand))
    }

    fn has(&self, which: fn(Register) -> bool) -> bool {
        self.registers().any(which)
    }

    fn has_vector(&self) -> bool {
        self.has(|register| register.is_vector_register() || register.is_mm())
    }

    fn has_memory(&self) -> bool {
        (0..self.instruction.op_count()).any(|operand| self.instruction.op_kind(operand) == OpKind::Memory)
    }

    /// All operands are registers, two at least.
    fn is_between_registers(&self) -> bool {
        let count = self.instruction.op_count();
        count >= 2 && self.registers().count() == count as usize
    }

    /// A result that is always the same: `xor eax, eax`, and all ones by `pcmpeq`.
    fn clears(&self) -> bool {
        let integer = matches!(self.instruction.mnemonic(), Mnemonic::Xor | Mnemonic::Sub);
        let vector = self.any(&["pxor", "xorps", "xorpd", "psub", "pcmpgt", "pcmpeq", "pandn", "andnps", "andnpd"])
            && self.has_vector()
            && !self.is("psubs")
            && !self.is("psubus");
        if !(integer || vector) || self.has_memory() {
            return false;
        }
        let mut operands = self.registers();
        let Some(first) = operands.next() else { return false };
        let rest: Vec<Register> = operands.collect();
        match rest.as_slice() {
            [second] if integer => first == *second && (first.is_gpr32() || first.is_gpr64()),
            [second] => first == *second,
            [second, third] => second == third,
            _ => false,
        }
    }

    /// Keeps the upper part of its first operand without saying so.
    fn merges(&self) -> bool {
        let legacy = self.whole == self.base;
        let scalar = ["cvtsi2s", "cvtss2sd", "cvtsd2ss", "sqrtss", "sqrtsd", "rcpss", "rsqrtss", "roundss", "roundsd"];
        let half = ["movlps", "movhps", "movlpd", "movhpd", "movlhps", "movhlps"];
        let moves = ["movss", "movsd"].contains(&self.base) && self.has_vector() && self.is_between_registers();
        let into_register = self.instruction.op0_kind() == OpKind::Register;
        legacy && into_register && (self.any(&scalar) || self.any(&half) || moves)
    }

    fn class(&self) -> Class {
        self.control().or_else(|| self.special()).unwrap_or_else(|| {
            if self.has(Register::is_st) || self.is_x87() {
                Class::X87
            } else if self.has_vector() {
                self.vector()
            } else if self.has(Register::is_k) {
                if self.has(Register::is_gpr) { Class::Transfer } else { Class::Vector }
            } else {
                self.integer()
            }
        })
    }

    fn control(&self) -> Option<Class> {
        if matches!(
            self.instruction.mnemonic(),
            Mnemonic::Syscall | Mnemonic::Sysenter | Mnemonic::Sysret | Mnemonic::Xbegin | Mnemonic::Xabort
        ) {
            return Some(Class::Serialising);
        }
        Some(match self.instruction.flow_control() {
            FlowControl::Next => return None,
            FlowControl::ConditionalBranch => Class::BranchConditional,
            FlowControl::UnconditionalBranch => Class::BranchDirect,
            FlowControl::IndirectBranch => Class::BranchIndirect,
            FlowControl::Call => Class::CallDirect,
            FlowControl::IndirectCall => Class::CallIndirect,
            FlowControl::Return => Class::Return,
            FlowControl::Interrupt | FlowControl::XbeginXabortXend | FlowControl::Exception => Class::Serialising,
        })
    }

    fn special(&self) -> Option<Class> {
        use Mnemonic as M;
        let instruction = self.instruction;
        let repeats = instruction.has_rep_prefix() || instruction.has_repne_prefix();
        if instruction.is_string_instruction() && repeats {
            return Some(Class::Repeat);
        }
        if instruction.has_lock_prefix() || instruction.mnemonic() == M::Xchg && self.has_memory() {
            return Some(Class::Atomic);
        }
        Some(match instruction.mnemonic() {
            M::Mfence | M::Lfence | M::Sfence => Class::Fence,
            M::Cpuid | M::Rdtscp | M::Serialize | M::In | M::Out | M::Hlt | M::Wrmsr | M::Rdmsr => Class::Serialising,
            M::Nop | M::Pause | M::Endbr64 | M::Endbr32 | M::Reservednop | M::Clflush | M::Clflushopt | M::Clwb => {
                Class::Nop
            }
            M::Enter | M::Pcmpestri | M::Pcmpestrm | M::Pcmpistri | M::Pcmpistrm => Class::X87,
            M::Crc32 => Class::Cryptographic,
            _ if self.is("prefetch") => Class::Nop,
            _ if self.any(&["fxsave", "fxrstor", "xsave", "xrstor"]) => Class::X87,
            _ if self.any(&["aes", "sha1", "sha256", "pclmul", "gf2p8"]) => Class::Cryptographic,
            _ => return None,
        })
    }

    fn is_x87(&self) -> bool {
        let increment = self.instruction.fpu_stack_increment_info();
        increment.increment() != 0
            || self.whole.starts_with('f')
                && !self.whole.starts_with("fx")
                && self.whole != "femms"
                && !self.has_vector()
    }

    fn vector(&self) -> Class {
        if let Some(class) = self.vector_move() {
            return class;
        }
        if self.any(&["fmadd", "fmsub", "fnmadd", "fnmsub"]) {
            return Class::FloatFused;
        }
        if self.is("cvt") {
            return Class::Convert;
        }
        if self.is_float() {
            if self.is("sqrt") {
                return Class::FloatSqrt;
            }
            if self.is("div") {
                return Class::FloatDivide;
            }
            if self.any(&["mul", "dpp", "rcp", "rsqrt", "scalef", "range", "reduce"]) {
                return Class::FloatMultiply;
            }
            if self.any(&[
                "add", "sub", "hadd", "hsub", "min", "max", "cmp", "comi", "ucomi", "round", "getexp", "getmant",
            ]) {
                return Class::FloatAdd;
            }
        }
        if self.any(&["comis", "ucomis"]) {
            return Class::FloatAdd;
        }
        if self.any(&["pmul", "pmadd", "psadbw", "mpsadbw", "dbpsadbw"]) {
            return Class::VectorMultiply;
        }
        let shuffles = [
            "pshuf",
            "shuf",
            "unpck",
            "punpck",
            "pack",
            "palignr",
            "perm",
            "pmovzx",
            "pmovsx",
            "broadcast",
            "pbroadcast",
            "extractf",
            "extracti",
            "insertf",
            "inserti",
            "insertps",
            "extractps",
            "pslldq",
            "psrldq",
            "align",
            "valign",
            "compress",
            "expand",
            "pcompress",
            "pexpand",
            "movsldup",
            "movshdup",
            "movddup",
        ];
        if self.any(&["pextr", "pinsr", "extractps", "ptest", "testp"]) {
            return if self.has(Register::is_gpr) || self.is("ptest") { Class::Transfer } else { Class::Shuffle };
        }
        if self.any(&shuffles) {
            return if self.is_load_of_whole() { Class::Move } else { Class::Shuffle };
        }
        Class::Vector
    }

    /// Broadcasts from memory need no unit but the load's.
    fn is_load_of_whole(&self) -> bool {
        self.has_memory() && self.any(&["broadcast", "pbroadcast", "movddup", "movsldup", "movshdup"])
    }

    fn vector_move(&self) -> Option<Class> {
        if self.any(&["gather", "pgather", "scatter", "pscatter", "maskmov", "pmaskmov", "lddqu", "movnt"]) {
            return Some(Class::Move);
        }
        if self.any(&["movmsk", "pmovmskb", "pmovm2", "pmov2m"]) {
            return Some(Class::Transfer);
        }
        if self.any(&["movd", "movq"])
            && !self.any(&["movdq", "movddup", "movdir", "movq2dq"])
            && self.has(Register::is_gpr)
        {
            return Some(Class::Transfer);
        }
        if !self.is("mov") || self.any(&["movsldup", "movshdup", "movddup"]) {
            return None;
        }
        if self.has_memory() {
            let half =
                self.any(&["movlps", "movhps", "movlpd", "movhpd"]) && self.instruction.op0_kind() == OpKind::Register;
            return Some(if half { Class::Shuffle } else { Class::Move });
        }
        let masked = self.instruction.has_op_mask();
        let whole = self.any(&["movaps", "movups", "movapd", "movupd", "movdqa", "movdqu"]) && !masked;
        Some(if whole { Class::Eliminated } else { Class::Shuffle })
    }

    fn integer(&self) -> Class {
        use Mnemonic as M;
        let wide = || self.instruction.op0_register().is_gpr64() || self.instruction.memory_size().size() == 8;
        match self.instruction.mnemonic() {
            M::Mul | M::Imul | M::Mulx => Class::Multiply,
            M::Div | M::Idiv if wide() => Class::DivideLong,
            M::Div | M::Idiv => Class::Divide,
            M::Mov if self.has_memory() => Class::Move,
            M::Mov if self.is_between_registers() => {
                if self.has(|register| register.is_gpr8() || register.is_gpr16() || !register.is_gpr()) {
                    Class::Integer
                } else {
                    Class::Eliminated
                }
            }
            M::Movzx | M::Movsx | M::Movsxd | M::Movbe if self.has_memory() => Class::Move,
            M::Movnti | M::Leave => Class::Move,
            M::Movsb | M::Movsw | M::Movsd | M::Movsq => Class::Move,
            M::Stosb | M::Stosw | M::Stosd | M::Stosq | M::Lodsb | M::Lodsw | M::Lodsd | M::Lodsq => Class::Move,
            _ if self.any(&["push", "pop"]) && self.base != "popcnt" => Class::Move,
            _ => Class::Integer,
        }
    }
}
