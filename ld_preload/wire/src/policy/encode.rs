//! Writing a table: plain values in, the bytes of the file out.
//!
//! What is written is read again before it is given out: a table the shim would refuse is an error here.

extern crate alloc;

use super::layout::{FLAG_DEFAULT_TIER, FLAG_FOLLOW, Layout, RULE_HAS_ORDINAL};
use super::{Backend, Counts, MAGIC, MAX_RANGES, Table, TableError};
use crate::{MAX_FRAMES, WIRE_VERSION};
use alloc::string::String;
use alloc::vec::Vec;

/// A whole table, before it is encoded.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TableSpec {
    /// The tiers; others name them by their index.
    pub tiers: Vec<TierSpec>,
    /// The modules; others name them by their index.
    pub modules: Vec<ModuleSpec>,
    /// The rules, in the order in which they are tried.
    pub rules: Vec<RuleSpec>,
    /// The globals.
    pub globals: Vec<GlobalSpec>,
    /// See [`Table::default_tier`].
    pub default_tier: Option<u16>,
    /// See [`Table::follow`].
    pub follow: bool,
}

/// A tier; see [`super::Tier`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TierSpec {
    /// Its name in the policy file.
    pub name: String,
    /// How it gets its memory.
    pub backend: Backend,
    /// Bytes it may hold; `None` for no limit.
    pub capacity: Option<u64>,
    /// NUMA nodes, where the backend takes them.
    pub nodes: Vec<u16>,
    /// One for each node of a weighted interleave, at least 1; else none.
    pub weights: Vec<u8>,
    /// Absolute path of a directory or device, where the backend takes one; else empty.
    pub path: String,
}

/// A module; see [`super::Module`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleSpec {
    /// File name without directories; empty for the main program.
    pub name: String,
    /// The build-id it must have; empty when that is not checked.
    pub build_id: Vec<u8>,
}

/// A rule; see [`super::Rule`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleSpec {
    /// Index of the tier.
    pub tier: u16,
    /// Frames the stack must begin with, innermost first; none where any stack will do.
    pub frames: Vec<FrameSpec>,
    /// Smallest size in bytes.
    pub min_bytes: u64,
    /// Largest size in bytes, itself included.
    pub max_bytes: u64,
    /// The slot it is narrowed to.
    pub ordinal: Option<u16>,
    /// Its number in the policy file, for messages.
    pub number: u32,
}

/// A frame; see [`super::Frame`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameSpec {
    /// Index of the module.
    pub module: u16,
    /// ELF return addresses, `[low, high)`; one exact address `a` is `(a, a + 1)`.
    pub ranges: Vec<(u64, u64)>,
}

/// A global; see [`super::Global`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GlobalSpec {
    /// Index of the tier.
    pub tier: u16,
    /// Index of the module.
    pub module: u16,
    /// ELF address of its first byte.
    pub address: u64,
    /// Size in bytes.
    pub bytes: u64,
    /// Its number in the policy file, for messages.
    pub number: u32,
}

/// The sections as they grow.
#[derive(Default)]
struct Writer {
    tiers: Vec<u64>,
    modules: Vec<u64>,
    rules: Vec<u64>,
    frames: Vec<u64>,
    ranges: Vec<u64>,
    globals: Vec<u64>,
    text: Vec<u8>,
}

fn join(low: usize, high: usize) -> u64 {
    low as u64 & 0xffff_ffff | (high as u64) << 32
}

impl Writer {
    /// Appends text and returns its place and length as one word.
    fn text(&mut self, bytes: &[u8]) -> u64 {
        let at = self.text.len();
        self.text.extend_from_slice(bytes);
        join(at, bytes.len())
    }

    fn tier(&mut self, tier: &TierSpec) {
        let name = self.text(tier.name.as_bytes());
        let path_at = self.text.len();
        self.text(tier.path.as_bytes());
        self.text.push(0);
        let path = join(path_at, tier.path.len() + 1);
        let nodes_at = self.text.len();
        self.text.extend(tier.nodes.iter().flat_map(|node| node.to_le_bytes()));
        let weights_at = self.text.len();
        self.text(&tier.weights);
        self.tiers.extend([
            tier.backend as u64 | (tier.nodes.len() as u64) << 16 | (tier.weights.len() as u64) << 32,
            tier.capacity.unwrap_or(u64::MAX),
            name,
            path,
            join(nodes_at, weights_at),
        ]);
    }

    fn rule(&mut self, rule: &RuleSpec) {
        let frames_at = self.frames.len();
        for frame in &rule.frames {
            let ranges_at = self.ranges.len() / 2;
            self.ranges.extend(frame.ranges.iter().flat_map(|(low, high)| [*low, *high]));
            self.frames.push(u64::from(frame.module) | (frame.ranges.len() as u64) << 16 | (ranges_at as u64) << 32);
        }
        let ordinal = rule.ordinal.map_or(0, |ordinal| RULE_HAS_ORDINAL | u64::from(ordinal) << 16);
        self.rules.extend([
            u64::from(rule.tier) | ordinal | (rule.frames.len() as u64) << 32,
            join(frames_at, rule.number as usize),
            rule.min_bytes,
            rule.max_bytes,
        ]);
    }

    fn global(&mut self, global: &GlobalSpec) {
        self.globals.extend([
            u64::from(global.tier) | u64::from(global.module) << 16 | u64::from(global.number) << 32,
            global.address,
            global.bytes,
        ]);
    }
}

impl TableSpec {
    /// The file's bytes, its statistics all zero.
    ///
    /// # Errors
    ///
    /// [`TableError::TooMany`] and [`TableError::Record`] for what [`Table::parse`] would refuse.
    pub fn encode(&self) -> Result<Vec<u8>, TableError> {
        self.check_widths()?;
        let mut writer = Writer::default();
        self.tiers.iter().for_each(|tier| writer.tier(tier));
        for module in &self.modules {
            let words = [writer.text(module.name.as_bytes()), writer.text(&module.build_id)];
            writer.modules.extend(words);
        }
        self.rules.iter().for_each(|rule| writer.rule(rule));
        self.globals.iter().for_each(|global| writer.global(global));
        writer.text.resize(writer.text.len().next_multiple_of(8), 0);
        let layout = Layout {
            counts: Counts {
                tiers: self.tiers.len(),
                modules: self.modules.len(),
                rules: self.rules.len(),
                globals: self.globals.len(),
            },
            frames: writer.frames.len(),
            ranges: writer.ranges.len() / 2,
            text_bytes: writer.text.len(),
        };
        layout.check()?;

        let follow = if self.follow { FLAG_FOLLOW } else { 0 };
        let flags = follow | if self.default_tier.is_some() { FLAG_DEFAULT_TIER } else { 0 };
        let header = [
            MAGIC,
            join(WIRE_VERSION as usize, flags as usize),
            layout.total_bytes(),
            join(layout.counts.tiers, layout.counts.modules),
            join(layout.counts.rules, layout.counts.globals),
            join(layout.frames, layout.ranges),
            join(layout.text_bytes, usize::from(self.default_tier.unwrap_or(0))),
            layout.statistics_offset(),
        ];
        let sections = [
            &header[..],
            &writer.tiers,
            &writer.modules,
            &writer.rules,
            &writer.frames,
            &writer.ranges,
            &writer.globals,
        ];
        let mut bytes: Vec<u8> = sections.into_iter().flatten().flat_map(|word| word.to_le_bytes()).collect();
        bytes.extend_from_slice(&writer.text);
        bytes.resize(layout.total_bytes() as usize, 0);
        Table::parse(&bytes)?;
        Ok(bytes)
    }

    /// Holds every count that is written in 16 bits to what these hold.
    fn check_widths(&self) -> Result<(), TableError> {
        for (index, tier) in self.tiers.iter().enumerate() {
            if tier.nodes.len().max(tier.weights.len()) > super::MAX_NODES {
                return Err(TableError::Record { what: "tier", index, why: "has more nodes than there can be" });
            }
        }
        for (index, rule) in self.rules.iter().enumerate() {
            if rule.frames.len() > MAX_FRAMES {
                let why = "has more frames than a stack is taken of";
                return Err(TableError::Record { what: "rule", index, why });
            }
            if rule.frames.iter().any(|frame| frame.ranges.len() > MAX_RANGES) {
                let why = "has a frame with no address range or too many";
                return Err(TableError::Record { what: "rule", index, why });
            }
        }
        Ok(())
    }
}
