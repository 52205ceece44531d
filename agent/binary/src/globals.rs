//! Global variables, and a name for every other byte of a module's data.
//!
//! A sample must fall into exactly one object, so globals are a partition: first of the address space of the data
//! segments into sections (and what lies between them), then of each section into symbols (and what lies between them).
//! Where symbols overlap, the one that starts first wins, of two that start together the larger, and the rest is cut to
//! what is left: an alias or a field named apart does not become an object of its own. Gaps shorter than a cache line
//! are alignment and belong to the object before them; longer ones are objects called `.bss+0x1c40`, after their
//! section. A module with no symbols has one object per section, with no section headers one per segment.

use std::sync::Arc;

use object::elf;

use crate::demangle::demangled;
use crate::headers::{ProgramHeader, SectionHeader};
use crate::module::Module;
use crate::symbols::{Symbol, Symbols};

/// Gaps below a cache line cannot be told from padding, and cannot be placed apart either.
const PADDING: u64 = 64;
/// Bytes of names kept for one module; past this, objects are named by section. Real modules stay far below.
const NAMES_LIMIT: usize = 256 << 20;

/// A contiguous part of a module's data that is placed as one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Global {
    /// The demangled symbol (`u0`, `Grid::cells`), or `SECTION+0xOFFSET` where no symbol says. Not unique: two files
    /// may each have a static `buffer`.
    pub name: String,
    /// ELF address of the first byte.
    pub vaddr: u64,
    /// Length in memory, padding up to the next global included.
    pub bytes: u64,
    /// `.data`, `.bss`, `.rodata`, ...; of a module without section headers `segment`.
    pub section: Arc<str>,
    /// Whether the segment is mapped writable.
    pub writable: bool,
    /// Whether the name is a symbol's.
    pub named: bool,
}

/// All globals of a module, sorted by address, without overlap.
pub(crate) fn partition(module: &Module, symbols: &Symbols) -> Vec<Global> {
    let headers = module.headers();
    let mut sections: Vec<&SectionHeader> = headers.sections.iter().filter(|section| is_data(section)).collect();
    sections.sort_by_key(|section| section.vaddr);
    let mut objects: Vec<&Symbol> = symbols.objects().filter(|symbol| symbol.bytes > 0).collect();
    objects.sort_by(|left, right| {
        let order = |symbol: &Symbol| (symbol.vaddr, u64::MAX - symbol.bytes, rank(symbol.binding), symbol.section);
        order(left).cmp(&order(right))
    });
    let mut builder = Builder { globals: Vec::new(), names: 0 };
    let mut segments: Vec<&ProgramHeader> = headers.programs.iter().filter(|p| p.kind == elf::PT_LOAD).collect();
    segments.sort_by_key(|segment| segment.vaddr);
    let mut cursor = 0;
    for segment in segments {
        let executable = segment.flags & elf::PF_X != 0;
        let end = segment.vaddr.saturating_add(segment.memory_bytes);
        let mut writer = SegmentWriter {
            builder: &mut builder,
            writable: segment.flags & elf::PF_W != 0,
            cursor: cursor.max(segment.vaddr),
            end,
            executable,
        };
        let inside = sections.partition_point(|section| section.vaddr < writer.cursor);
        for section in sections[inside..].iter().take_while(|section| section.vaddr < end) {
            // Never behind the cursor: with overlapping sections every symbol would be met once for each.
            let start = section.vaddr.max(writer.cursor);
            let first = objects.partition_point(|symbol| symbol.vaddr < start);
            writer.section(section, &objects[first..], symbols);
        }
        writer.finish();
        cursor = cursor.max(end);
    }
    builder.globals
}

/// In memory at run time, data, and not the initial image of thread-locals (.tbss has an address but no memory).
fn is_data(section: &SectionHeader) -> bool {
    let flags = |flag: u32| section.flags & u64::from(flag) != 0;
    let only_reserved = flags(elf::SHF_TLS) && section.kind == elf::SHT_NOBITS;
    flags(elf::SHF_ALLOC) && !flags(elf::SHF_EXECINSTR) && section.bytes > 0 && !only_reserved
}

/// Of two names for one variable the one that other modules see.
fn rank(binding: u8) -> u8 {
    match binding {
        elf::STB_GLOBAL => 0,
        elf::STB_WEAK => 1,
        _ => 2,
    }
}

struct Builder {
    globals: Vec<Global>,
    names: usize,
}

struct SegmentWriter<'a> {
    builder: &'a mut Builder,
    writable: bool,
    executable: bool,
    /// Everything before it has its object.
    cursor: u64,
    end: u64,
}

impl SegmentWriter<'_> {
    fn section(&mut self, section: &SectionHeader, symbols: &[&Symbol], table: &Symbols) {
        let end = section.vaddr.saturating_add(section.bytes).min(self.end);
        if end <= self.cursor {
            return;
        }
        self.between_sections(section.vaddr);
        self.cursor = self.cursor.max(section.vaddr);
        let name: Arc<str> = match section.name.as_str() {
            "" => "unnamed section".into(),
            name => name.into(),
        };
        for symbol in symbols.iter().take_while(|symbol| symbol.vaddr < end) {
            let (start, symbol_end) = (symbol.vaddr.max(self.cursor), symbol.end().min(end));
            let Some(symbol_name) = table.name(symbol).filter(|_| start < symbol_end) else { continue };
            self.gap(start, section.vaddr, &name);
            let spelled = self.builder.spell(symbol_name);
            self.push(spelled, symbol_end, &name);
        }
        self.gap(end, section.vaddr, &name);
    }

    /// Bytes of a section that no symbol claims, up to `end`.
    fn gap(&mut self, end: u64, section_start: u64, section: &Arc<str>) {
        if end <= self.cursor || (end - self.cursor < PADDING && self.extend(end)) {
            return;
        }
        let name = match self.cursor.saturating_sub(section_start) {
            0 => section.to_string(),
            offset => format!("{section}+{offset:#x}"),
        };
        self.push_as(name, end, section, false);
    }

    /// Bytes of a segment that no section claims, up to `end`. In code segments they are code's.
    fn between_sections(&mut self, end: u64) {
        if end <= self.cursor || self.executable || (end - self.cursor < PADDING && self.extend(end)) {
            return;
        }
        self.push_as(format!("segment+{:#x}", self.cursor), end, &"segment".into(), false);
    }

    fn finish(mut self) {
        self.between_sections(self.end);
    }

    /// Give padding to the object that ends where it begins.
    fn extend(&mut self, end: u64) -> bool {
        let Some(last) = self.builder.globals.last_mut() else { return false };
        let adjacent = last.vaddr + last.bytes == self.cursor && last.writable == self.writable;
        if adjacent {
            last.bytes = end - last.vaddr;
            self.cursor = end;
        }
        adjacent
    }

    fn push(&mut self, name: Option<String>, end: u64, section: &Arc<str>) {
        match name {
            Some(name) => self.push_as(name, end, section, true),
            None => self.push_as(format!("{section}+{:#x}", self.cursor), end, section, false),
        }
    }

    fn push_as(&mut self, name: String, end: u64, section: &Arc<str>, named: bool) {
        let (vaddr, bytes) = (self.cursor, end - self.cursor);
        let section = Arc::clone(section);
        self.builder.globals.push(Global { name, vaddr, bytes, section, writable: self.writable, named });
        self.cursor = end;
    }
}

impl Builder {
    /// The demangled name, unless this module has used up its share of names.
    fn spell(&mut self, symbol: &str) -> Option<String> {
        if self.names.saturating_add(symbol.len()) > NAMES_LIMIT {
            return None;
        }
        let name = demangled(symbol).into_owned();
        self.names += name.len();
        Some(name)
    }
}
