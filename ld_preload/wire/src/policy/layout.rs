//! Where the sections of a table lie, and how words are taken apart.

use super::{
    MAX_ALL_RANGES, MAX_GLOBALS, MAX_MODULES, MAX_RULES, MAX_TEXT_BYTES, MAX_TIERS, TableError, stats::statistics_words,
};
use crate::MAX_FRAMES;
use crate::segment::PAGE;

/// Words of the header.
pub(super) const HEADER_WORDS: usize = 8;
/// Words of a tier: backend, nodes and weights; capacity; name; path; places of nodes and weights.
pub(super) const TIER_WORDS: usize = 5;
/// Words of a module: name; build-id.
pub(super) const MODULE_WORDS: usize = 2;
/// Words of a rule: tier, ordinal, frames; place of frames and number; smallest and largest size.
pub(super) const RULE_WORDS: usize = 4;
/// Words of a frame: module, ranges and their place.
pub(super) const FRAME_WORDS: usize = 1;
/// Words of a range: first address and the one after the last.
pub(super) const RANGE_WORDS: usize = 2;
/// Words of a global: tier, module, number; address; bytes.
pub(super) const GLOBAL_WORDS: usize = 3;

/// Bit of the header's flags: children and programs they become are placed too.
pub(super) const FLAG_FOLLOW: u32 = 1;
/// Bit of the header's flags: there is a default tier.
pub(super) const FLAG_DEFAULT_TIER: u32 = 2;
/// Bit of a rule's first word: it has an ordinal.
pub(super) const RULE_HAS_ORDINAL: u64 = 1 << 48;

/// How many records of each kind a table has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Tiers.
    pub tiers: usize,
    /// Modules.
    pub modules: usize,
    /// Rules.
    pub rules: usize,
    /// Globals.
    pub globals: usize,
}

/// The sizes from which every place follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) counts: Counts,
    pub(super) frames: usize,
    pub(super) ranges: usize,
    /// Bytes of text, a multiple of 8.
    pub(super) text_bytes: usize,
}

impl Layout {
    /// Holds every count to its limit; what passes cannot wrap below.
    pub(super) fn check(&self) -> Result<(), TableError> {
        let limits = [
            ("tiers", self.counts.tiers, MAX_TIERS),
            ("modules", self.counts.modules, MAX_MODULES),
            ("rules", self.counts.rules, MAX_RULES),
            ("frames", self.frames, MAX_RULES * MAX_FRAMES),
            ("address ranges", self.ranges, MAX_ALL_RANGES),
            ("globals", self.counts.globals, MAX_GLOBALS),
            ("bytes of text", self.text_bytes, MAX_TEXT_BYTES),
        ];
        match limits.into_iter().find(|(_, count, limit)| count > limit) {
            Some((what, _, limit)) => Err(TableError::TooMany { what, limit }),
            None => Ok(()),
        }
    }

    /// Byte offset of the statistics, a multiple of [`PAGE`].
    pub(super) fn statistics_offset(&self) -> u64 {
        let words = HEADER_WORDS
            + self.counts.tiers * TIER_WORDS
            + self.counts.modules * MODULE_WORDS
            + self.counts.rules * RULE_WORDS
            + self.frames * FRAME_WORDS
            + self.ranges * RANGE_WORDS
            + self.counts.globals * GLOBAL_WORDS;
        ((words * 8 + self.text_bytes) as u64).next_multiple_of(PAGE)
    }

    /// Bytes of the whole file.
    pub(super) fn total_bytes(&self) -> u64 {
        self.statistics_offset() + statistics_words(self.counts) as u64 * 8
    }
}

/// The little-endian words of a record.
pub(super) fn words<const N: usize>(record: &[[u8; 8]; N]) -> [u64; N] {
    record.map(u64::from_le_bytes)
}

/// The 16 bits of a word that begin at `bit`.
pub(super) fn short(word: u64, bit: u32) -> u16 {
    (word >> bit) as u16
}

/// The lower and upper half of a word.
pub(super) fn halves(word: u64) -> (u32, u32) {
    (word as u32, (word >> 32) as u32)
}
