//! What a module asks of its loader: the libraries it needs and where it says they are.
//!
//! Read through the program headers, as the loader does, so that it works without section headers. Addresses become
//! places in the file by the loadable segments alone; whatever points outside the file, or is no text, is absent.

use object::elf;

use crate::headers::{Class, Headers, ProgramHeader, string_at};
use crate::source::Source;

/// More entries than any linker writes; a module with more has been made to keep us busy.
const ENTRIES_LIMIT: u64 = 1 << 16;
/// Longer than any path the kernel takes.
const NAME_LIMIT: usize = 4096;

/// The dynamic section of a module, as far as libraries go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Dynamic {
    /// `DT_NEEDED`, in order.
    pub(crate) needed: Vec<String>,
    /// `DT_SONAME`.
    pub(crate) soname: Option<String>,
    /// Directories of `DT_RPATH`, as written; the loader ignores them where there is a `DT_RUNPATH`.
    pub(crate) rpath: Vec<String>,
    /// Directories of `DT_RUNPATH`, as written.
    pub(crate) runpath: Vec<String>,
}

impl Dynamic {
    pub(crate) fn read(source: &Source, headers: &Headers) -> Self {
        Self::try_read(source, headers).unwrap_or_default()
    }

    fn try_read(source: &Source, headers: &Headers) -> Option<Self> {
        let entries = entries(source, headers)?;
        let value = |wanted: i64| entries.iter().find(|(tag, _)| *tag == wanted).map(|(_, value)| *value);
        let (at, bytes) = (value(elf::DT_STRTAB)?, value(elf::DT_STRSZ)?);
        let strings = source.table(file_offset(headers, at)?, bytes, "names of its dynamic section").ok()?;
        let string = |offset: u64| {
            let text = string_at(&strings, u32::try_from(offset).ok()?)?;
            (!text.is_empty() && text.len() <= NAME_LIMIT).then(|| text.to_owned())
        };
        let path = |tag| -> Vec<String> {
            let joined = value(tag).and_then(string).unwrap_or_default();
            joined.split(':').filter(|directory| !directory.is_empty()).map(str::to_owned).collect()
        };
        let needed = entries.iter().filter(|(tag, _)| *tag == elf::DT_NEEDED);
        Some(Self {
            needed: needed.filter_map(|(_, offset)| string(*offset)).collect(),
            soname: value(elf::DT_SONAME).and_then(string),
            rpath: path(elf::DT_RPATH),
            runpath: path(elf::DT_RUNPATH),
        })
    }
}

/// Tags and values, up to the one that ends them.
fn entries(source: &Source, headers: &Headers) -> Option<Vec<(i64, u64)>> {
    let section = headers.programs.iter().find(|program| program.kind == elf::PT_DYNAMIC)?;
    let word = usize::from(headers.address_bytes());
    let bytes = section.file_bytes.min(ENTRIES_LIMIT * 2 * word as u64);
    let table = source.table(section.offset, bytes, "its dynamic section").ok()?;
    let number = |bytes: &[u8]| -> u64 {
        match (headers.class, headers.is_little_endian()) {
            (Class::Bits64, true) => bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes)),
            (Class::Bits64, false) => bytes.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes)),
            (Class::Bits32, _) => bytes.first_chunk().map_or(0, |bytes| u64::from(headers.word(*bytes))),
        }
    };
    let pairs = table.chunks_exact(2 * word).map(|pair| {
        let (tag, value) = pair.split_at(word);
        (number(tag).cast_signed(), number(value))
    });
    Some(pairs.take_while(|(tag, _)| *tag != elf::DT_NULL).collect())
}

/// Where in the file the byte at an ELF address lies.
fn file_offset(headers: &Headers, vaddr: u64) -> Option<u64> {
    let into = |load: &ProgramHeader| {
        let into = vaddr.checked_sub(load.vaddr).filter(|into| *into < load.file_bytes)?;
        load.offset.checked_add(into)
    };
    headers.programs.iter().filter(|program| program.kind == elf::PT_LOAD).find_map(into)
}
