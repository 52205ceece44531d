//! Reading a table: checked once, then walked without copies.

use super::layout::{
    FLAG_DEFAULT_TIER, FLAG_FOLLOW, FRAME_WORDS, GLOBAL_WORDS, HEADER_WORDS, Layout, MODULE_WORDS, RANGE_WORDS,
    RULE_HAS_ORDINAL, RULE_WORDS, TIER_WORDS, halves, short, words,
};
use super::stats::statistics_words;
use super::{Backend, Counts, MAGIC, MAX_NODES, MAX_RANGES, TableError};
use crate::{MAX_FRAMES, WIRE_VERSION};
use core::ffi::CStr;

/// A table whose every record is known to make sense.
#[derive(Debug, Clone, Copy)]
pub struct Table<'a> {
    layout: Layout,
    flags: u32,
    default_tier: u16,
    tiers: &'a [[[u8; 8]; TIER_WORDS]],
    modules: &'a [[[u8; 8]; MODULE_WORDS]],
    rules: &'a [[[u8; 8]; RULE_WORDS]],
    frames: &'a [[[u8; 8]; FRAME_WORDS]],
    ranges: &'a [[[u8; 8]; RANGE_WORDS]],
    globals: &'a [[[u8; 8]; GLOBAL_WORDS]],
    text: &'a [u8],
}

/// A kind of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tier<'a> {
    /// Its name in the policy file.
    pub name: &'a str,
    /// How it gets its memory.
    pub backend: Backend,
    /// Bytes it may hold; `None` for no limit.
    pub capacity: Option<u64>,
    /// Directory of a [`Backend::File`], device of a [`Backend::Dax`]; else empty.
    pub path: &'a CStr,
    /// One for each node, for a [`Backend::WeightedInterleave`] alone; each at least 1.
    pub weights: &'a [u8],
    nodes: &'a [[u8; 2]],
}

impl<'a> Tier<'a> {
    /// The NUMA nodes, each below [`MAX_NODES`].
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = u16> + Clone + use<'a> {
        self.nodes.iter().map(|node| u16::from_le_bytes(*node))
    }
}

/// An ELF file that rules speak of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Module<'a> {
    /// File name without directories; empty for the main program.
    pub name: &'a str,
    /// The build-id it must have; empty when that is not checked.
    pub build_id: &'a [u8],
}

/// Blocks that belong in a tier. Rules are tried in order; the first that matches decides.
#[derive(Debug, Clone, Copy)]
pub struct Rule<'a> {
    /// Index of the tier.
    pub tier: u16,
    /// Smallest size in bytes.
    pub min_bytes: u64,
    /// Largest size in bytes, itself included.
    pub max_bytes: u64,
    /// The slot: smallest number not live among the blocks of this site and size class (`floor(log2(bytes))`).
    pub ordinal: Option<u16>,
    /// Its number in the policy file, for messages.
    pub number: u32,
    frames: &'a [[[u8; 8]; FRAME_WORDS]],
    ranges: &'a [[[u8; 8]; RANGE_WORDS]],
}

impl<'a> Rule<'a> {
    /// The frames a stack must begin with, innermost first; none where any stack will do.
    pub fn frames(&self) -> impl ExactSizeIterator<Item = Frame<'a>> + Clone + use<'a> {
        let ranges = self.ranges;
        self.frames.iter().map(move |record| Frame::read(record, ranges))
    }
}

/// Where the return address of a frame must lie.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// Index of the module.
    pub module: u16,
    ranges: &'a [[[u8; 8]; RANGE_WORDS]],
    /// Ranges the record asks for; more than there are in `ranges` in a damaged table alone.
    wanted: usize,
}

impl<'a> Frame<'a> {
    fn read(record: &[[u8; 8]; FRAME_WORDS], all: &'a [[[u8; 8]; RANGE_WORDS]]) -> Frame<'a> {
        let [word] = words(record);
        let (_, at) = halves(word);
        let wanted = usize::from(short(word, 16));
        let ranges = all.get(at as usize..).and_then(|rest| rest.get(..wanted)).unwrap_or_default();
        Frame { module: short(word, 0), ranges, wanted }
    }

    /// ELF return addresses, `(first, one past the last)`; any of the ranges will do.
    pub fn ranges(&self) -> impl ExactSizeIterator<Item = (u64, u64)> + Clone + use<'a> {
        self.ranges.iter().map(|record| {
            let [low, high] = words(record);
            (low, high)
        })
    }

    /// Whether an ELF return address of the frame's module lies in one of the ranges.
    pub fn holds(&self, address: u64) -> bool {
        self.ranges().any(|(low, high)| (low..high).contains(&address))
    }
}

/// A global that belongs in a tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Global {
    /// Index of the tier.
    pub tier: u16,
    /// Index of the module.
    pub module: u16,
    /// ELF address of its first byte.
    pub address: u64,
    /// Size in bytes, at least 1.
    pub bytes: u64,
    /// Its number in the policy file, for messages.
    pub number: u32,
}

/// Takes `count` records of `N` words off the front.
fn section<'a, const N: usize>(rest: &mut &'a [[u8; 8]], count: usize) -> Option<&'a [[[u8; 8]; N]]> {
    let (taken, left) = rest.split_at_checked(count.checked_mul(N)?)?;
    *rest = left;
    Some(taken.as_chunks().0)
}

impl<'a> Table<'a> {
    /// Reads the whole file and checks every record of it.
    ///
    /// # Errors
    ///
    /// [`TableError`] for anything this version's `TableSpec::encode` does not write.
    pub fn parse(bytes: &'a [u8]) -> Result<Table<'a>, TableError> {
        let found = bytes.len() as u64;
        let short_file = |needed| TableError::Length { needed, found };
        let (all, _) = bytes.as_chunks::<8>();
        let Some((header, mut rest)) = all.split_first_chunk::<HEADER_WORDS>() else {
            return Err(TableError::NotATable);
        };
        let [magic, version, total, tiers_modules, rules_globals, frames_ranges, text_default, statistics] =
            words(header);
        if magic != MAGIC {
            return Err(TableError::NotATable);
        }
        let (version, flags) = halves(version);
        if version != WIRE_VERSION {
            return Err(TableError::Version(version));
        }
        let pair = |word| {
            let (low, high) = halves(word);
            (low as usize, high as usize)
        };
        let ((tiers, modules), (rules, globals)) = (pair(tiers_modules), pair(rules_globals));
        let ((frames, ranges), (text_bytes, default_tier)) = (pair(frames_ranges), pair(text_default));
        let layout = Layout { counts: Counts { tiers, modules, rules, globals }, frames, ranges, text_bytes };
        layout.check()?;
        if flags & !(FLAG_FOLLOW | FLAG_DEFAULT_TIER) != 0
            || !text_bytes.is_multiple_of(8)
            || total != layout.total_bytes()
            || statistics != layout.statistics_offset()
        {
            return Err(TableError::Header);
        }
        if found != total {
            return Err(short_file(total));
        }
        let table = (|| {
            Some(Table {
                layout,
                flags,
                default_tier: default_tier as u16,
                tiers: section(&mut rest, tiers)?,
                modules: section(&mut rest, modules)?,
                rules: section(&mut rest, rules)?,
                frames: section(&mut rest, frames)?,
                ranges: section(&mut rest, ranges)?,
                globals: section(&mut rest, globals)?,
                text: rest.get(..text_bytes / 8)?.as_flattened(),
            })
        })()
        .ok_or(short_file(total))?;
        let has_default = flags & FLAG_DEFAULT_TIER != 0;
        if default_tier != 0 && !has_default || has_default && default_tier >= tiers {
            return Err(TableError::Header);
        }
        table.check()?;
        Ok(table)
    }

    /// Every record on its own.
    fn check(&self) -> Result<(), TableError> {
        let record = |what, index| move |why| TableError::Record { what, index, why };
        for (index, words) in self.tiers.iter().enumerate() {
            self.read_tier(words).and_then(check_tier).map_err(record("tier", index))?;
        }
        for (index, words) in self.modules.iter().enumerate() {
            self.read_module(words).map_err(record("module", index))?;
        }
        for (index, words) in self.rules.iter().enumerate() {
            self.read_rule(words).and_then(|rule| self.check_rule(&rule)).map_err(record("rule", index))?;
        }
        for (index, words) in self.globals.iter().enumerate() {
            self.check_global(&read_global(words)).map_err(record("global", index))?;
        }
        Ok(())
    }

    fn text(&self, at: u32, length: usize) -> Result<&'a [u8], &'static str> {
        self.text.get(at as usize..).and_then(|rest| rest.get(..length)).ok_or("points outside the text")
    }

    fn name(&self, word: u64) -> Result<&'a str, &'static str> {
        let (at, length) = halves(word);
        str::from_utf8(self.text(at, length as usize)?).map_err(|_| "has a name that is not UTF-8")
    }

    fn read_tier(&self, record: &[[u8; 8]; TIER_WORDS]) -> Result<Tier<'a>, &'static str> {
        let [first, capacity, name, path, lists] = words(record);
        let backend = Backend::ALL.into_iter().find(|backend| *backend as u16 == short(first, 0));
        let (path_at, path_length) = halves(path);
        let (nodes_at, weights_at) = halves(lists);
        Ok(Tier {
            name: self.name(name)?,
            backend: backend.ok_or("has an unknown backend")?,
            capacity: (capacity != u64::MAX).then_some(capacity),
            path: CStr::from_bytes_with_nul(self.text(path_at, path_length as usize)?)
                .map_err(|_| "has a path with a zero byte in it")?,
            weights: self.text(weights_at, usize::from(short(first, 32)))?,
            nodes: self.text(nodes_at, usize::from(short(first, 16)) * 2)?.as_chunks().0,
        })
    }

    fn read_module(&self, record: &[[u8; 8]; MODULE_WORDS]) -> Result<Module<'a>, &'static str> {
        let [name, id] = words(record);
        let (id_at, id_length) = halves(id);
        Ok(Module { name: self.name(name)?, build_id: self.text(id_at, id_length as usize)? })
    }

    fn read_rule(&self, record: &[[u8; 8]; RULE_WORDS]) -> Result<Rule<'a>, &'static str> {
        let [first, second, min_bytes, max_bytes] = words(record);
        let (frames_at, number) = halves(second);
        let frames = self.frames.get(frames_at as usize..).and_then(|rest| rest.get(..usize::from(short(first, 32))));
        Ok(Rule {
            tier: short(first, 0),
            min_bytes,
            max_bytes,
            ordinal: (first & RULE_HAS_ORDINAL != 0).then_some(short(first, 16)),
            number,
            frames: frames.ok_or("points outside the frames")?,
            ranges: self.ranges,
        })
    }

    fn check_rule(&self, rule: &Rule<'_>) -> Result<(), &'static str> {
        if usize::from(rule.tier) >= self.tiers.len() {
            return Err("names a tier that is not there");
        }
        if rule.min_bytes > rule.max_bytes {
            return Err("has a smallest size above its largest");
        }
        if rule.frames.len() > MAX_FRAMES {
            return Err("has more frames than a stack is taken of");
        }
        for frame in rule.frames() {
            if usize::from(frame.module) >= self.modules.len() {
                return Err("names a module that is not there");
            }
            if frame.wanted == 0 || frame.wanted > MAX_RANGES {
                return Err("has a frame with no address range or too many");
            }
            if frame.ranges.len() != frame.wanted {
                return Err("points outside the address ranges");
            }
            if frame.ranges().any(|(low, high)| low >= high) {
                return Err("has an empty address range");
            }
        }
        Ok(())
    }

    fn check_global(&self, global: &Global) -> Result<(), &'static str> {
        if usize::from(global.tier) >= self.tiers.len() {
            return Err("names a tier that is not there");
        }
        if usize::from(global.module) >= self.modules.len() {
            return Err("names a module that is not there");
        }
        if global.bytes == 0 || global.address.checked_add(global.bytes).is_none() {
            return Err("is empty or ends beyond the address space");
        }
        Ok(())
    }

    /// How many records of each kind there are.
    pub fn counts(&self) -> Counts {
        self.layout.counts
    }

    /// The tier of blocks no rule matches, of failed and of spilled ones; `None` where those are left to the program's
    /// own allocator.
    pub fn default_tier(&self) -> Option<u16> {
        (self.flags & FLAG_DEFAULT_TIER != 0).then_some(self.default_tier)
    }

    /// Whether children (fork) are placed too, and programs they or we become (exec) inherit the shim.
    pub fn follow(&self) -> bool {
        self.flags & FLAG_FOLLOW != 0
    }

    /// The tiers, in the order of their indexes.
    pub fn tiers(&self) -> impl Iterator<Item = Tier<'a>> + Clone + use<'a> {
        let table = *self;
        self.tiers.iter().filter_map(move |record| table.read_tier(record).ok())
    }

    /// The modules, in the order of their indexes.
    pub fn modules(&self) -> impl Iterator<Item = Module<'a>> + Clone + use<'a> {
        let table = *self;
        self.modules.iter().filter_map(move |record| table.read_module(record).ok())
    }

    /// The rules, in the order in which they are tried.
    pub fn rules(&self) -> impl Iterator<Item = Rule<'a>> + Clone + use<'a> {
        let table = *self;
        self.rules.iter().filter_map(move |record| table.read_rule(record).ok())
    }

    /// The rule that alone places blocks in a tier: no other does, nor do blocks without a rule go there.
    pub fn only_rule_of(&self, tier: usize) -> Option<usize> {
        if self.default_tier().map(usize::from) == Some(tier) {
            return None;
        }
        let mut rules = self.rules().enumerate().filter(|(_, rule)| usize::from(rule.tier) == tier);
        let (first, _) = rules.next()?;
        rules.next().is_none().then_some(first)
    }

    /// The globals, in the order of their indexes.
    pub fn globals(&self) -> impl ExactSizeIterator<Item = Global> + Clone + use<'a> {
        self.globals.iter().map(read_global)
    }

    /// Byte offset of the statistics in the file, a multiple of 4096.
    pub fn statistics_offset(&self) -> u64 {
        self.layout.statistics_offset()
    }

    /// Number of 64-bit words of the statistics, to the end of the file.
    pub fn statistics_words(&self) -> usize {
        statistics_words(self.layout.counts)
    }
}

fn read_global(record: &[[u8; 8]; GLOBAL_WORDS]) -> Global {
    let [first, address, bytes] = words(record);
    let (_, number) = halves(first);
    Global { tier: short(first, 0), module: short(first, 16), address, bytes, number }
}

fn check_tier(tier: Tier<'_>) -> Result<(), &'static str> {
    let backend = tier.backend;
    if backend.has_nodes() == (tier.nodes.is_empty()) {
        return Err("has nodes its backend does not take, or none where it needs some");
    }
    if tier.nodes().any(|node| usize::from(node) >= MAX_NODES) {
        return Err("has a node number beyond the largest");
    }
    let weights = if backend == Backend::WeightedInterleave { tier.nodes.len() } else { 0 };
    if tier.weights.len() != weights || tier.weights.contains(&0) {
        return Err("needs a weight of at least 1 for each node it interleaves, and none otherwise");
    }
    let absolute = tier.path.to_bytes().starts_with(b"/");
    if backend.has_path() != absolute || !backend.has_path() && !tier.path.is_empty() {
        return Err("has a path its backend does not take, or no absolute one where it needs it");
    }
    Ok(())
}
