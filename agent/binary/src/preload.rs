//! Whether the preload shim can get into a program, and what to do where it cannot.
//!
//! A program without the shim is still recorded (globals, stacks, file and anonymous mappings are seen from outside);
//! what is lost is the sites of its heap. So a verdict is never an error: it is a sentence that says what is missing,
//! why, and the way out.

use std::fmt;

use crate::program::{Libc, Linkage, Program};
use crate::secure::SecureReason;
use crate::{Class, Machine};

/// Whether LD_PRELOAD of the shim works for a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PreloadVerdict {
    /// The shim will be loaded.
    Loadable,
    /// It will not.
    NotLoadable(NotLoadable),
}

/// Why the shim cannot be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotLoadable {
    /// No dynamic loader takes part.
    Static,
    /// The loader ignores LD_PRELOAD.
    Secure(SecureReason),
    /// Another processor or word size than the shim's.
    Machine(Machine),
    /// A loader of neither glibc nor musl.
    Loader(String),
}

impl Program {
    /// Whether the shim (which is for this processor, glibc and musl) can be preloaded.
    pub fn preload_verdict(&self) -> PreloadVerdict {
        let reason = if self.class != Class::Bits64 || Machine::host().is_some_and(|host| host != self.machine) {
            Some(NotLoadable::Machine(self.machine))
        } else {
            match &self.linkage {
                Linkage::Static => Some(NotLoadable::Static),
                Linkage::Dynamic { interpreter, libc: Libc::Other } => {
                    Some(NotLoadable::Loader(interpreter.display().to_string()))
                }
                Linkage::Dynamic { .. } => self.secure.map(NotLoadable::Secure),
            }
        };
        reason.map_or(PreloadVerdict::Loadable, PreloadVerdict::NotLoadable)
    }
}

impl NotLoadable {
    /// What can be done about it: a full sentence.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Static => {
                "Link it dynamically (drop -static; for Rust on musl: -C target-feature=-crt-static) to see its heap \
                 by site."
            }
            Self::Secure(_) => {
                "Run a copy without the privilege (`cp` drops the bits and the capabilities), or run as the user it \
                 changes to."
            }
            Self::Machine(_) => "Use a 64-bit build of the program for this machine.",
            Self::Loader(_) => "Use a build of the program for glibc or musl.",
        }
    }
}

impl fmt::Display for NotLoadable {
    /// The reason, as a fragment that follows "The shim cannot be loaded:".
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Static => formatter.write_str("the program is statically linked, so no loader reads LD_PRELOAD"),
            Self::Secure(reason) => write!(formatter, "{reason}, and the loader ignores LD_PRELOAD for such programs"),
            Self::Machine(machine) => {
                let host = Machine::host().map_or(std::env::consts::ARCH.to_owned(), |host| host.to_string());
                write!(formatter, "the program is for {machine}, the shim for {host}")
            }
            Self::Loader(loader) => write!(formatter, "{loader} is the loader of neither glibc nor musl"),
        }
    }
}
