//! What happens to the program's memory and threads, in program order.
//!
//! Every event comes with the number of the thread (cpu) that did it. Addresses and sizes are outside data: what makes no sense
//! (an empty range, a free of nothing) is counted in [`crate::outcome::Approximations`] and otherwise passed over.

use serde::{Deserialize, Serialize};

/// A frame of a call stack: module and ELF address of the return address, or no module and the absolute one.
pub type Frame = (Option<u32>, u64);

/// What a mapping shows.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Backing {
    /// A file, by its path.
    File(Box<str>),
    /// `[heap]`, `[vdso]`, or a name the program gave.
    Named(Box<str>),
    /// Memory of no file and no name.
    Anonymous,
}

/// What a placement's rule speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Target {
    /// Blocks of a site.
    Site {
        /// Its identity.
        site: u64,
        /// Smallest block, in bytes.
        low: u64,
        /// One more than the largest block; `u64::MAX` for no limit.
        high: u64,
        /// Only blocks with this slot.
        slot: Option<u16>,
    },
    /// A global.
    Global {
        /// Number of its module.
        module: u32,
        /// ELF address.
        elf_address: u64,
    },
}

/// A rule of a placement that became known while the program ran. Rules hold for objects that are first seen after them; the
/// first that fits counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rule {
    /// Index in [`crate::Config::placements`].
    pub placement: u16,
    /// What it speaks of.
    pub target: Target,
    /// Index in [`crate::Config::tiers`].
    pub tier: u16,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A module is mapped: executable, library. Sent before its globals and before frames that name it. One that was mapped
    /// before keeps its number.
    Module {
        /// Its number: 0, 1, 2... in the order they are first seen.
        module: u32,
        /// Path.
        path: Box<str>,
        /// Build-id, lower-case hex.
        build_id: Option<Box<str>>,
        /// First mapped address.
        start: u64,
        /// One past the last mapped address.
        end: u64,
        /// What is added to an ELF address to get a mapped one.
        bias: u64,
    },
    /// A variable of a module, or a section where there are no symbols.
    Global {
        /// Number of its module.
        module: u32,
        /// Symbol or section.
        name: Box<str>,
        /// Where it lies now.
        address: u64,
        /// Its size.
        bytes: u64,
        /// ELF address.
        elf_address: u64,
    },
    /// A call stack that allocates, sent before its first block.
    Site {
        /// Its identity: a hash of the frames as module file names and ELF addresses, equal between runs.
        site: u64,
        /// Innermost first.
        frames: Box<[Frame]>,
    },
    /// A rule of a placement.
    Rule(Rule),
    /// A block was handed out by an allocator.
    Allocated {
        /// First byte.
        address: u64,
        /// Size asked for.
        bytes: u64,
        /// Its site.
        site: u64,
    },
    /// A block is given back.
    Freed {
        /// First byte.
        address: u64,
    },
    /// A block was replaced by another, which may have the same address.
    Reallocated {
        /// First byte of the old one; 0 for none.
        old_address: u64,
        /// First byte of the new one; 0 for none.
        address: u64,
        /// Size of the new one.
        bytes: u64,
        /// Site of the new one.
        site: u64,
    },
    /// Memory was mapped.
    Mapped {
        /// First byte.
        address: u64,
        /// Size.
        bytes: u64,
        /// The site that asked for it, when the program and not its allocator or loader did: then it is a heap object.
        site: Option<u64>,
        /// What it shows.
        backing: Backing,
    },
    /// Memory is unmapped.
    Unmapped {
        /// First byte.
        address: u64,
        /// Size.
        bytes: u64,
    },
    /// A mapping moved or changed its size. With a site it is a new block of that site, as in a recording; without, it still shows
    /// what it showed.
    Remapped {
        /// First byte before.
        old_address: u64,
        /// Size before.
        old_bytes: u64,
        /// First byte after.
        address: u64,
        /// Size after.
        bytes: u64,
        /// The site that asked for it.
        site: Option<u64>,
    },
    /// A thread began on this cpu.
    ThreadStarted {
        /// The kernel's number of it.
        tid: u32,
    },
    /// The stack of a thread.
    Stack {
        /// The kernel's number of the thread.
        tid: u32,
        /// Lowest byte.
        low: u64,
        /// One past the highest byte.
        high: u64,
    },
    /// The thread of this cpu ended.
    ThreadEnded,
    /// The thread of this cpu waited in the kernel for another: its clock catches up with the others.
    Waited,
    /// The program announced a phase.
    Mark {
        /// Its name.
        name: Box<str>,
    },
}

/// A phase that the program announced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Its name.
    pub name: String,
    /// By which thread.
    pub tid: u32,
    /// Instructions that all threads had executed.
    pub instructions: u64,
    /// Cycles of the all-fast lane; instructions, in functional mode.
    pub time: u64,
}
