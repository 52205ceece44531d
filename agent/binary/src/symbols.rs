//! Defined symbols of a module: `.symtab` where there is one, else that of its separate debug file, else `.dynsym`.
//!
//! Names stay in the string table they came in and are sliced out on demand: a large module has a million of them and
//! a profile names a few hundred.

use object::Endianness;
use object::elf::{self, FileHeader32, FileHeader64};
use object::read::elf::{FileHeader, Sym};

use crate::headers::{Class, Headers, string_at};
use crate::source::{Source, Table};

#[derive(Debug, Clone, Copy)]
pub(crate) struct Symbol {
    pub(crate) vaddr: u64,
    pub(crate) bytes: u64,
    /// Index of the section header the symbol is defined in.
    pub(crate) section: u16,
    /// STT_*.
    pub(crate) kind: u8,
    /// STB_*.
    pub(crate) binding: u8,
    name: u32,
}

impl Symbol {
    pub(crate) fn is_function(&self) -> bool {
        matches!(self.kind, elf::STT_FUNC | elf::STT_GNU_IFUNC)
    }

    /// The address one past the symbol; never wraps.
    pub(crate) fn end(&self) -> u64 {
        self.vaddr.saturating_add(self.bytes)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Symbols {
    /// Defined functions and data, sorted by address.
    pub(crate) list: Vec<Symbol>,
    /// Whether they come from a full table, local symbols included.
    pub(crate) full: bool,
    strings: Table,
}

impl Symbols {
    /// Read `.symtab`, or `.dynsym` in its absence. A broken table is as good as none.
    pub(crate) fn read(source: &Source, headers: &Headers) -> Self {
        let table = |kind| match headers.class {
            Class::Bits32 => Self::of_kind::<FileHeader32<Endianness>>(source, headers, kind),
            Class::Bits64 => Self::of_kind::<FileHeader64<Endianness>>(source, headers, kind),
        };
        table(elf::SHT_SYMTAB).or_else(|| table(elf::SHT_DYNSYM)).unwrap_or_default()
    }

    fn of_kind<Elf: FileHeader<Endian = Endianness>>(source: &Source, headers: &Headers, kind: u32) -> Option<Self> {
        let section = headers.sections.iter().find(|section| section.kind == kind)?;
        let strings = headers.sections.get(section.link as usize)?;
        let strings = source.table(strings.offset, strings.bytes, "symbol names").ok()?;
        let table = source.table(section.offset, section.bytes, "symbols").ok()?;
        let count = table.len() / size_of::<Elf::Sym>();
        let (raw, _) = object::pod::slice_from_bytes::<Elf::Sym>(&table, count).ok()?;
        // The thumb bit of 32-bit ARM functions is not part of the address.
        let thumb = headers.machine == elf::EM_ARM;
        let mut list: Vec<Symbol> = raw
            .iter()
            .map(|raw| Symbol {
                vaddr: raw.st_value(headers.endian).into(),
                bytes: raw.st_size(headers.endian).into(),
                section: raw.st_shndx(headers.endian),
                kind: raw.st_type(),
                binding: raw.st_bind(),
                name: raw.st_name(headers.endian),
            })
            .filter(|symbol| {
                let defined = !matches!(symbol.section, elf::SHN_UNDEF | elf::SHN_ABS | elf::SHN_COMMON);
                defined && symbol.name != 0 && (symbol.is_function() || symbol.kind == elf::STT_OBJECT)
            })
            .map(|symbol| match thumb && symbol.is_function() {
                true => Symbol { vaddr: symbol.vaddr & !1, ..symbol },
                false => symbol,
            })
            .collect();
        list.sort_by_key(|symbol| symbol.vaddr);
        (!list.is_empty()).then_some(Self { list, full: kind == elf::SHT_SYMTAB, strings })
    }

    /// The mangled name, without the version that follows an `@`.
    pub(crate) fn name(&self, symbol: &Symbol) -> Option<&str> {
        let name = string_at(&self.strings, symbol.name)?;
        let name = name.split_once('@').map_or(name, |(name, _)| name);
        (!name.is_empty()).then_some(name)
    }

    /// Data symbols: candidates for globals.
    pub(crate) fn objects(&self) -> impl Iterator<Item = &Symbol> {
        self.list.iter().filter(|symbol| symbol.kind == elf::STT_OBJECT)
    }

    #[cfg(feature = "code")]
    /// The function that starts last at or before `vaddr`.
    pub(crate) fn function_before(&self, vaddr: u64) -> Option<&Symbol> {
        let end = self.list.partition_point(|symbol| symbol.vaddr <= vaddr);
        // Data between functions is rare (jump tables, literal pools): a few steps back find the function or none does.
        self.list[..end].iter().rev().take(64).find(|symbol| symbol.is_function())
    }
}
