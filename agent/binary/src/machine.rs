//! Processors, by the names people use for them.

use std::fmt;

use object::elf;

use crate::headers::{Class, Headers};

/// The processor a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Machine {
    /// x86-64.
    X86_64,
    /// 64-bit ARM.
    Aarch64,
    /// 32-bit x86, or x32.
    X86,
    /// 64-bit RISC-V.
    Riscv64,
    /// Any other: its ELF number.
    Other(u16),
}

impl Machine {
    pub(crate) fn of(headers: &Headers) -> Self {
        match (headers.machine, headers.class) {
            (elf::EM_X86_64, Class::Bits64) => Self::X86_64,
            (elf::EM_X86_64, Class::Bits32) | (elf::EM_386, _) => Self::X86,
            (elf::EM_AARCH64, Class::Bits64) => Self::Aarch64,
            (elf::EM_RISCV, Class::Bits64) => Self::Riscv64,
            (other, _) => Self::Other(other),
        }
    }

    /// The processor this program was compiled for; `None` where Tierscope has no name for it.
    pub fn host() -> Option<Self> {
        match std::env::consts::ARCH {
            "x86_64" => Some(Self::X86_64),
            "aarch64" => Some(Self::Aarch64),
            "riscv64" => Some(Self::Riscv64),
            "x86" => Some(Self::X86),
            _ => None,
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::X86_64 => "x86-64",
            Self::Aarch64 => "aarch64",
            Self::X86 => "32-bit x86",
            Self::Riscv64 => "riscv64",
            Self::Other(number) => return write!(formatter, "machine {number}"),
        })
    }
}
