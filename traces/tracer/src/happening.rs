//! What a guest thread tells the simulation besides what it executes: made on that thread, understood on the other.

use std::path::PathBuf;
use tierscope_wire::trace::{Message, MessageError};

/// A file's mapping in QEMU's own list of mappings, guest addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mapping {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) offset: u64,
    pub(crate) executable: bool,
    pub(crate) path: PathBuf,
}

/// Something that happened.
#[derive(Debug)]
pub(crate) enum Happening {
    /// A thread's first words: its number, and for the first what the program was loaded as.
    Started { tid: u32, loaded: Option<Loaded> },
    /// The thread is over.
    Ended,
    /// It waited in the kernel for others.
    Waited,
    /// The shim said something.
    Said(Result<Message, MessageError>),
    /// Memory was mapped; a file by its path and offset.
    Mapped { address: u64, bytes: u64, file: Option<(PathBuf, u64)>, executable: bool },
    /// Memory is about to be unmapped.
    Unmapped { address: u64, bytes: u64 },
    /// A mapping moved.
    Remapped { old: u64, old_bytes: u64, address: u64, bytes: u64 },
    /// The data segment ends here.
    Break(u64),
    /// Whoever mapped code has done so.
    CodeMapped,
}

/// What was there before the first instruction.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// Mapped files that are not QEMU's own.
    pub(crate) files: Vec<Mapping>,
}
