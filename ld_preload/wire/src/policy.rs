//! The policy table: what the shim is to place where, and what came of it.
//!
//! The agent compiles a policy file into one table file and names it in the environment ([`VARIABLE`]); a table written
//! once needs no agent to be used. The shim reads the table, copies what it needs, and maps the file's last part, the
//! statistics ([`stats`]), shared: whoever holds the file can read what is happening.
//!
//! ```text
//! 0      header                       64 bytes
//! 64     tiers, modules, rules, frames, ranges, globals: records of whole little-endian 64-bit words
//!        text                         names, build-ids, paths, node numbers; records point into it
//! S      statistics                   64-bit words, S a multiple of a page
//! ```
//!
//! # Why reading it is safe
//!
//! Sections follow each other in this order and their places follow from the counts in the header, so there is no
//! offset to lie about; the counts are bounded, so their sum cannot wrap. What a record points to (text, frames, ranges,
//! modules, tiers) is checked once, by [`Table::parse`], for every record; after that every iterator is total. No bytes
//! make any of it panic: a fuzz target and a property test hold it to that. The bytes must not change under the reader:
//! copy the file, or map it private and trust whoever may write to it.
//!
//! # Non-goals
//!
//! Names are not resolved here: a rule is addresses in modules, and modules are known by file name and build-id.

#[cfg(any(feature = "encode", test))]
mod encode;
mod layout;
pub mod room;
pub mod stats;
mod table;
#[cfg(all(test, not(loom)))]
mod tests;

#[cfg(any(feature = "encode", test))]
pub use encode::{FrameSpec, GlobalSpec, ModuleSpec, RuleSpec, TableSpec, TierSpec};
pub use layout::Counts;
pub use table::{Frame, Global, Module, Rule, Table, Tier};

/// Name of the environment variable whose value is the path of the table file.
pub const VARIABLE: &str = "TIERSCOPE_POLICY";

/// First eight bytes of a table.
pub const MAGIC: u64 = u64::from_le_bytes(*b"tierplcy");

/// The most tiers of one table.
pub const MAX_TIERS: usize = 16;
/// The most modules of one table.
pub const MAX_MODULES: usize = 1 << 12;
/// The most rules of one table.
pub const MAX_RULES: usize = 1 << 14;
/// The most globals of one table.
pub const MAX_GLOBALS: usize = 1 << 14;
/// NUMA nodes are numbered below this.
pub const MAX_NODES: usize = 1 << 10;
/// The most address ranges of one frame.
pub const MAX_RANGES: usize = 1 << 12;
/// The most address ranges of all frames together.
const MAX_ALL_RANGES: usize = 1 << 20;
/// The most bytes of text.
const MAX_TEXT_BYTES: usize = 1 << 24;

/// How a tier gets its memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Backend {
    /// The program's own allocator, untouched.
    Default = 0,
    /// Preferably on these nodes (`MPOL_PREFERRED_MANY`); elsewhere when they are full.
    Numa = 1,
    /// On these nodes and nowhere else (`MPOL_BIND`).
    NumaStrict = 2,
    /// Page by page round these nodes.
    Interleave = 3,
    /// Round these nodes, as many pages on each as its weight says.
    WeightedInterleave = 4,
    /// A file in this directory, mapped.
    File = 5,
    /// This DAX device, mapped.
    Dax = 6,
    /// Memory given up to swap as soon as it rests.
    Swap = 7,
}

impl Backend {
    /// Every backend, in the order of their numbers.
    pub const ALL: [Backend; 8] = [
        Backend::Default,
        Backend::Numa,
        Backend::NumaStrict,
        Backend::Interleave,
        Backend::WeightedInterleave,
        Backend::File,
        Backend::Dax,
        Backend::Swap,
    ];

    /// Whether it takes a list of nodes.
    pub fn has_nodes(self) -> bool {
        matches!(self, Backend::Numa | Backend::NumaStrict | Backend::Interleave | Backend::WeightedInterleave)
    }

    /// Whether it takes a path.
    pub fn has_path(self) -> bool {
        matches!(self, Backend::File | Backend::Dax)
    }
}

/// Bytes that are no table, or a table that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableError {
    /// The file does not start with [`MAGIC`].
    NotATable,
    /// Written for another version of the shim.
    Version(u32),
    /// The header has bits this version gives no meaning.
    Header,
    /// The file is longer or shorter than its header says.
    Length {
        /// Bytes the header asks for.
        needed: u64,
        /// Bytes there are.
        found: u64,
    },
    /// More records of a kind than this version allows.
    TooMany {
        /// The kind, in the plural.
        what: &'static str,
        /// How many there may be.
        limit: usize,
    },
    /// A record that makes no sense.
    Record {
        /// The kind.
        what: &'static str,
        /// Its place among those of its kind, from 0.
        index: usize,
        /// What is wrong with it, as the end of a sentence that began with the record.
        why: &'static str,
    },
}

impl core::fmt::Display for TableError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            TableError::NotATable => f.write_str("not a tierscope policy table"),
            TableError::Version(version) => {
                write!(f, "policy table of wire version {version}, this is version {}", crate::WIRE_VERSION)
            }
            TableError::Header => f.write_str("policy table with an unknown header"),
            TableError::Length { needed, found } => {
                write!(f, "policy table of {found} bytes where its header needs {needed}")
            }
            TableError::TooMany { what, limit } => write!(f, "policy table with more than {limit} {what}"),
            TableError::Record { what, index, why } => write!(f, "policy table whose {what} {index} {why}"),
        }
    }
}

impl core::error::Error for TableError {}
