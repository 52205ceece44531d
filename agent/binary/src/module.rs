//! An executable or shared library as it lies in a file.
//!
//! All addresses here are ELF addresses, those the linker wrote; a running process adds one number to them, the bias,
//! the same for all segments of a module. That is why samples are stored as module plus ELF address: it holds under
//! address randomisation and on another machine. [`Module::bias`] gets that number from a line of `/proc/PID/maps`.
//!
//! Opening reads headers only (some 50 us); function bounds, symbols and globals are built at their first use and kept.
//! A module may be shared between threads.

use std::ops::Range;
use std::path::Path;
use std::sync::OnceLock;

use object::elf;

use crate::debug_files::DebugDirs;
#[cfg(feature = "code")]
use crate::functions::Functions;
use crate::globals::{self, Global};
use crate::headers::{Class, Headers, ProgramHeader};
use crate::notes::build_id;
use crate::source::Source;
#[cfg(feature = "code")]
use crate::source::Table;
use crate::symbols::Symbols;
use crate::{BinaryError, Machine};

/// An ELF file, opened.
#[derive(Debug)]
pub struct Module {
    source: Source,
    headers: Headers,
    build_id: Option<Vec<u8>>,
    debug_dirs: DebugDirs,
    symbols: OnceLock<Symbols>,
    #[cfg(feature = "code")]
    framed: OnceLock<Functions>,
    #[cfg(feature = "code")]
    unframed: OnceLock<Functions>,
    globals: OnceLock<Vec<Global>>,
}

/// A loadable segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// ELF addresses it occupies in memory.
    pub vaddrs: Range<u64>,
    /// Where its first byte lies in the file.
    pub file_offset: u64,
    /// Bytes that come from the file; the rest is zero.
    pub file_bytes: u64,
    /// Mapped readable.
    pub readable: bool,
    /// Mapped writable.
    pub writable: bool,
    /// Mapped executable.
    pub executable: bool,
}

/// A section that is in memory at run time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// `.text`, `.data`, `.bss`, ...
    pub name: String,
    /// ELF address.
    pub vaddr: u64,
    /// Length in memory.
    pub bytes: u64,
    /// Mapped writable.
    pub writable: bool,
    /// Holds code.
    pub executable: bool,
    /// Has no bytes in the file (`.bss`).
    pub zeroed: bool,
}

impl Module {
    /// Open a file; symbols may come from a debug file of the system (`/usr/lib/debug`).
    pub fn open(path: impl AsRef<Path>) -> Result<Self, BinaryError> {
        Self::open_with(path, &DebugDirs::default())
    }

    /// Open a file; symbols may come from a debug file in these directories.
    pub fn open_with(path: impl AsRef<Path>, debug_dirs: &DebugDirs) -> Result<Self, BinaryError> {
        Self::from_source(Source::open(path.as_ref())?, debug_dirs.clone())
    }

    /// Take the content of a file that is not one, such as the vDSO read from memory.
    pub fn from_bytes(name: impl AsRef<Path>, bytes: Vec<u8>) -> Result<Self, BinaryError> {
        Self::from_source(Source::from_bytes(name.as_ref(), bytes), DebugDirs::none())
    }

    fn from_source(source: Source, debug_dirs: DebugDirs) -> Result<Self, BinaryError> {
        let headers = Headers::read(&source)?;
        let build_id = build_id(&source, &headers);
        Ok(Self {
            source,
            headers,
            build_id,
            debug_dirs,
            symbols: OnceLock::new(),
            #[cfg(feature = "code")]
            framed: OnceLock::new(),
            #[cfg(feature = "code")]
            unframed: OnceLock::new(),
            globals: OnceLock::new(),
        })
    }

    /// The path it was opened by, or the name given with its bytes.
    pub fn path(&self) -> &Path {
        self.source.path()
    }

    /// The linker's build-id note; none if the linker was told so, or the file is damaged.
    pub fn build_id(&self) -> Option<&[u8]> {
        self.build_id.as_deref()
    }

    /// 32- or 64-bit.
    pub fn class(&self) -> Class {
        self.headers.class
    }

    /// The processor it is for.
    pub fn machine(&self) -> Machine {
        Machine::of(&self.headers)
    }

    /// Whether it has a fixed load address (bias 0): a program that is not position-independent.
    pub fn is_fixed(&self) -> bool {
        self.headers.kind == elf::ET_EXEC
    }

    /// Loadable segments, in file order.
    pub fn segments(&self) -> impl Iterator<Item = Segment> {
        self.loads().map(|load| Segment {
            vaddrs: load.vaddr..load.vaddr.saturating_add(load.memory_bytes),
            file_offset: load.offset,
            file_bytes: load.file_bytes,
            readable: load.flags & elf::PF_R != 0,
            writable: load.flags & elf::PF_W != 0,
            executable: load.flags & elf::PF_X != 0,
        })
    }

    /// Sections that are in memory at run time, in file order; none if the file has no section headers.
    pub fn sections(&self) -> impl Iterator<Item = Section> {
        let allocated = |flags: u64| flags & u64::from(elf::SHF_ALLOC) != 0;
        self.headers.sections.iter().filter(move |section| allocated(section.flags)).map(|section| Section {
            name: section.name.clone(),
            vaddr: section.vaddr,
            bytes: section.bytes,
            writable: section.flags & u64::from(elf::SHF_WRITE) != 0,
            executable: section.flags & u64::from(elf::SHF_EXECINSTR) != 0,
            zeroed: section.kind == elf::SHT_NOBITS,
        })
    }

    /// What a process added to this module's ELF addresses, from one of its mappings: `start` and `file_offset` as in
    /// `/proc/PID/maps`, `executable` its `x`. `None` if no segment explains the mapping.
    ///
    /// A mapping begins at the page a segment begins in, or inside a segment that was split by `mprotect`. Two segments
    /// may share a page of the file; then the one whose protection agrees is taken, and of those the one that begins
    /// there. The sum wraps, as the loader's does: prelinked libraries have a "negative" bias.
    pub fn bias(&self, start: u64, file_offset: u64, executable: bool) -> Option<u64> {
        let page = rustix::param::page_size() as u64;
        // Distance from the page the mapping begins at to the segment's first byte: within the page if it begins here.
        let begins_here = |load: &ProgramHeader| (load.offset / page) == (file_offset / page);
        let inside = |load: &ProgramHeader| {
            load.offset < file_offset && file_offset < load.offset.saturating_add(load.file_bytes)
        };
        let agrees = |load: &ProgramHeader| (load.flags & elf::PF_X != 0) == executable;
        self.loads()
            .filter(|load| load.file_bytes > 0 && (begins_here(load) || inside(load)))
            .max_by_key(|load| (agrees(load), begins_here(load)))
            .map(|load| start.wrapping_sub(load.vaddr.wrapping_sub(load.offset).wrapping_add(file_offset)))
    }

    /// Copy code at an ELF address; returns how many bytes there were. Bytes outside executable segments are not code,
    /// nor are those past the end of what the file provides.
    pub fn code(&self, vaddr: u64, buffer: &mut [u8]) -> usize {
        let executable = |load: &&ProgramHeader| load.flags & elf::PF_X != 0;
        let inside = |load: &&ProgramHeader| vaddr.checked_sub(load.vaddr).is_some_and(|into| into < load.file_bytes);
        let Some(load) = self.loads().filter(executable).find(inside) else { return 0 };
        let into = vaddr - load.vaddr;
        let length = usize::try_from(load.file_bytes - into).unwrap_or(usize::MAX).min(buffer.len());
        load.offset.checked_add(into).map_or(0, |offset| self.source.read_kept(offset, &mut buffer[..length]))
    }

    #[cfg(feature = "code")]
    /// Bounds of the function that holds an ELF address: from `.eh_frame`, else from symbols. The first call of each
    /// kind reads the whole table; later ones cost 0.1 us.
    pub fn function(&self, vaddr: u64) -> Option<Range<u64>> {
        self.framed().find(vaddr).or_else(|| self.unframed().find(vaddr))
    }

    #[cfg(feature = "code")]
    /// Functions that have unwind information.
    pub(crate) fn framed(&self) -> &Functions {
        self.framed.get_or_init(|| Functions::from_frames(&self.source, &self.headers))
    }

    #[cfg(feature = "code")]
    /// Functions that have symbols.
    pub(crate) fn unframed(&self) -> &Functions {
        self.unframed.get_or_init(|| Functions::from_symbols(&self.headers, self.symbols()))
    }

    /// Every data object of the module, sorted by address: see [`Global`]. Each address of a data segment is in
    /// exactly one.
    pub fn globals(&self) -> &[Global] {
        self.globals.get_or_init(|| globals::partition(self, self.symbols()))
    }

    /// The global that holds an ELF address.
    pub fn global(&self, vaddr: u64) -> Option<&Global> {
        let globals = self.globals();
        let after = globals.partition_point(|global| global.vaddr <= vaddr);
        globals[..after].last().filter(|global| vaddr - global.vaddr < global.bytes)
    }

    #[cfg(feature = "code")]
    /// Whether line numbers can be had from this file itself.
    pub(crate) fn has_debug_info(&self) -> bool {
        self.headers.sections.iter().any(|section| {
            matches!(section.name.as_str(), ".debug_info" | ".zdebug_info") && section.kind != elf::SHT_NOBITS
        })
    }

    #[cfg(feature = "code")]
    pub(crate) fn has_full_symbols(&self) -> bool {
        self.headers.sections.iter().any(|section| section.kind == elf::SHT_SYMTAB)
    }

    #[cfg(feature = "code")]
    /// The path of its separate debug file, if there is one that matches.
    pub(crate) fn debug_file(&self, dirs: &DebugDirs) -> Option<std::path::PathBuf> {
        let (source, _) = dirs.find(&self.source, &self.headers, self.build_id())?;
        Some(source.path().to_path_buf())
    }

    #[cfg(feature = "code")]
    /// The bytes of an executable segment that the file provides.
    pub(crate) fn text(&self, segment: &Segment) -> Option<Table> {
        self.source.table(segment.file_offset, segment.file_bytes, "its code").ok()
    }

    pub(crate) fn headers(&self) -> &Headers {
        &self.headers
    }

    pub(crate) fn symbols(&self) -> &Symbols {
        self.symbols.get_or_init(|| {
            let own = Symbols::read(&self.source, &self.headers);
            if own.full {
                return own;
            }
            let debug = self.debug_dirs.find(&self.source, &self.headers, self.build_id());
            let separate = debug.map(|(source, headers)| Symbols::read(&source, &headers));
            separate.filter(|symbols| symbols.full).unwrap_or(own)
        })
    }

    fn loads(&self) -> impl Iterator<Item = &ProgramHeader> {
        self.headers.programs.iter().filter(|program| program.kind == elf::PT_LOAD)
    }
}
