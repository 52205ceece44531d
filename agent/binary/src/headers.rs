//! The header, program headers and section headers of an ELF file, in one form for both classes and byte orders.
//!
//! Only what is checked against the file's length is kept, so the rest of the crate works on plain numbers. The dynamic
//! loader goes by the program headers alone; a file whose section headers are gone or broken still runs, and so it is
//! still a module here, only without names.

use object::elf::{self, FileHeader32, FileHeader64, Ident};
use object::read::elf::{FileHeader, ProgramHeader as _, SectionHeader as _};
use object::{Endian as _, Endianness};

use crate::BinaryError;
use crate::source::{Source, Table, string_prefix};

/// 32- or 64-bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// ELFCLASS32.
    Bits32,
    /// ELFCLASS64.
    Bits64,
}

/// A program header, whatever its type.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProgramHeader {
    pub(crate) kind: u32,
    pub(crate) flags: u32,
    pub(crate) offset: u64,
    pub(crate) vaddr: u64,
    pub(crate) file_bytes: u64,
    pub(crate) memory_bytes: u64,
}

/// A section header with its name.
#[derive(Debug, Clone)]
pub(crate) struct SectionHeader {
    pub(crate) name: String,
    pub(crate) kind: u32,
    pub(crate) flags: u64,
    pub(crate) vaddr: u64,
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
    pub(crate) link: u32,
}

#[derive(Debug)]
pub(crate) struct Headers {
    pub(crate) class: Class,
    pub(crate) endian: Endianness,
    pub(crate) kind: u16,
    pub(crate) machine: u16,
    pub(crate) programs: Vec<ProgramHeader>,
    /// Index 0 is the null section, as in the file; empty when there are none or they are broken.
    pub(crate) sections: Vec<SectionHeader>,
}

impl Headers {
    pub(crate) fn read(source: &Source) -> Result<Self, BinaryError> {
        let not_elf = || BinaryError::NotElf(source.path().to_path_buf());
        let ident = source.table(0, size_of::<Ident>() as u64, "header").map_err(|error| match error {
            BinaryError::Damaged { .. } => not_elf(),
            other => other,
        })?;
        if !ident.starts_with(&elf::ELFMAG) {
            return Err(not_elf());
        }
        match ident[4] {
            elf::ELFCLASS32 => Self::parse::<FileHeader32<Endianness>>(source, Class::Bits32),
            elf::ELFCLASS64 => Self::parse::<FileHeader64<Endianness>>(source, Class::Bits64),
            _ => Err(not_elf()),
        }
    }

    fn parse<Elf: FileHeader<Endian = Endianness>>(source: &Source, class: Class) -> Result<Self, BinaryError> {
        let bytes = source.table(0, size_of::<Elf>() as u64, "its header is cut short")?;
        let header = Elf::parse(&bytes[..]).map_err(|_| BinaryError::NotElf(source.path().to_path_buf()))?;
        let endian = if header.is_big_endian() { Endianness::Big } else { Endianness::Little };
        let sections = Sections::<Elf>::read(source, header, endian);
        let programs = program_headers(source, header, endian, sections.as_ref())?;
        Ok(Self {
            class,
            endian,
            kind: header.e_type(endian),
            machine: header.e_machine(endian),
            programs,
            sections: sections.map(|sections| sections.named(source)).unwrap_or_default(),
        })
    }

    /// The first section of that name.
    pub(crate) fn section(&self, name: &str) -> Option<&SectionHeader> {
        self.sections.iter().find(|section| section.name == name)
    }

    pub(crate) fn address_bytes(&self) -> u8 {
        match self.class {
            Class::Bits32 => 4,
            Class::Bits64 => 8,
        }
    }

    /// A 32-bit number in the file's byte order.
    pub(crate) fn word(&self, bytes: [u8; 4]) -> u32 {
        if self.is_little_endian() { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) }
    }

    pub(crate) fn is_little_endian(&self) -> bool {
        self.endian.is_little_endian()
    }
}

fn program_headers<Elf: FileHeader<Endian = Endianness>>(
    source: &Source,
    header: &Elf,
    endian: Endianness,
    sections: Option<&Sections<Elf>>,
) -> Result<Vec<ProgramHeader>, BinaryError> {
    let damaged = "its program headers lie outside the file";
    let mut count = u64::from(header.e_phnum(endian));
    if count == u64::from(elf::PN_XNUM) {
        // More than fit in 16 bits: the count is in the first section header.
        count = sections.and_then(Sections::first).map_or(0, |first| u64::from(first.sh_info(endian)));
    }
    if count == 0 {
        return Ok(Vec::new());
    }
    if usize::from(header.e_phentsize(endian)) != size_of::<Elf::ProgramHeader>() {
        return Err(source.damaged("its program headers have an unknown size"));
    }
    let length = count.saturating_mul(size_of::<Elf::ProgramHeader>() as u64);
    let table = source.table(header.e_phoff(endian).into(), length, damaged)?;
    let headers =
        object::pod::slice_from_all_bytes::<Elf::ProgramHeader>(&table).map_err(|()| source.damaged(damaged))?;
    Ok(headers
        .iter()
        .map(|program| ProgramHeader {
            kind: program.p_type(endian),
            flags: program.p_flags(endian),
            offset: program.p_offset(endian).into(),
            vaddr: program.p_vaddr(endian).into(),
            file_bytes: program.p_filesz(endian).into(),
            memory_bytes: program.p_memsz(endian).into(),
        })
        .collect())
}

/// The raw section table: parsed apart from its names because the counts of both tables may hide in its first entry.
struct Sections<Elf: FileHeader> {
    table: Table,
    names_index: u32,
    endian: Endianness,
    header: std::marker::PhantomData<Elf>,
}

impl<Elf: FileHeader<Endian = Endianness>> Sections<Elf> {
    fn read(source: &Source, header: &Elf, endian: Endianness) -> Option<Self> {
        let entry = size_of::<Elf::SectionHeader>() as u64;
        let offset: u64 = header.e_shoff(endian).into();
        if offset == 0 || u64::from(header.e_shentsize(endian)) != entry {
            return None;
        }
        let first = Self {
            table: source.table(offset, entry, "section headers").ok()?,
            names_index: u32::from(header.e_shstrndx(endian)),
            endian,
            header: std::marker::PhantomData,
        };
        let (extended_count, extended_names) =
            first.first().map(|null| (null.sh_size(endian).into(), null.sh_link(endian)))?;
        let count = match u64::from(header.e_shnum(endian)) {
            0 => extended_count,
            count => count,
        };
        let names_index = if header.e_shstrndx(endian) == elf::SHN_XINDEX { extended_names } else { first.names_index };
        let table = source.table(offset, count.checked_mul(entry)?, "section headers").ok()?;
        Some(Self { table, names_index, ..first })
    }

    fn headers(&self) -> &[Elf::SectionHeader] {
        object::pod::slice_from_all_bytes(&self.table).unwrap_or(&[])
    }

    fn first(&self) -> Option<&Elf::SectionHeader> {
        self.headers().first()
    }

    fn named(&self, source: &Source) -> Vec<SectionHeader> {
        let endian = self.endian;
        let names = self
            .headers()
            .get(self.names_index as usize)
            .and_then(|names| {
                source.table(names.sh_offset(endian).into(), names.sh_size(endian).into(), "section names").ok()
            })
            .unwrap_or_default();
        self.headers()
            .iter()
            .map(|section| SectionHeader {
                // A section's name is a word; a hostile table must not have its names copied thousands of times over.
                name: string_at(&names, section.sh_name(endian))
                    .filter(|name| name.len() <= SECTION_NAME_LIMIT)
                    .unwrap_or_default()
                    .to_owned(),
                kind: section.sh_type(endian),
                flags: section.sh_flags(endian).into(),
                vaddr: section.sh_addr(endian).into(),
                offset: section.sh_offset(endian).into(),
                bytes: section.sh_size(endian).into(),
                link: section.sh_link(endian),
            })
            .collect()
    }
}

const SECTION_NAME_LIMIT: usize = 256;
/// The longest symbol name believed. Mangled C++ names of 30 KB exist; a string table without a terminator must not be copied
/// once for every symbol that points into it.
const NAME_LIMIT: usize = 64 << 10;

/// The NUL-terminated UTF-8 string at `offset` of a string table.
pub(crate) fn string_at(strings: &[u8], offset: u32) -> Option<&str> {
    let rest = strings.get(offset as usize..)?;
    string_prefix(&rest[..rest.len().min(NAME_LIMIT)])
}
