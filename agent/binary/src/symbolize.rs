//! Names for addresses, after the recording.
//!
//! A profile holds (module path, build-id, ELF address), so names can be found later and elsewhere. The file is looked
//! for at the recorded path and then in the user's and the system's debug directories, and it is believed only if its
//! build-id is the recorded one: the names of another build are wrong in a way nobody notices. Of the files that match,
//! the one with line numbers is asked (the module, or its separate debug file), then the one with a full symbol table.
//!
//! One address that cannot be named never costs the others their names: a batch that fails is retried one by one, and
//! what remains gets the nearest symbol of its own function (`name+0x12`) or `module+0xADDRESS`. Every address gets at
//! least one frame.
//!
//! Unlike the rest of this crate, blazesym maps the files it reads: a file that is truncated in place while it is being
//! symbolised ends the process with SIGBUS. Files that a recorder still depends on must therefore not be symbolised by
//! it while it records; afterwards there is nothing left to lose.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use blazesym::symbolize::source::{Elf, Source as BlazeSource};
use blazesym::symbolize::{CodeInfo, Input, Sym, Symbolized, Symbolizer as Blazesym};

use crate::debug_files::DebugDirs;
use crate::demangle::demangled;
use crate::module::Module;

/// A module as a profile records it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ModuleRef<'a> {
    /// Where it was when it was recorded.
    pub path: &'a Path,
    /// Its build-id then; without one, the file at the path is taken on trust.
    pub build_id: Option<&'a [u8]>,
}

/// What an address points at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressKind {
    /// At the instruction meant: a sample's.
    Instruction,
    /// Behind a call: a caller's frame. The call is the instruction before, which may belong to another line, another
    /// inlined function, or (after a call that does not return) be the last of its function: one is subtracted.
    Return,
}

/// One function an address is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SymbolFrame {
    /// Demangled name; `name+0x12` or `module+0xADDRESS` where no symbol covers the address.
    pub function: String,
    /// Source file, as the compiler was told.
    pub file: Option<String>,
    /// Line in it: for an outer frame, of the call that was inlined.
    pub line: Option<u32>,
}

/// Where the names of a module come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A file with the recorded build-id (or none was recorded).
    File(PathBuf),
    /// Files were found, all of another build: they are not used. The first of them.
    Mismatch(PathBuf),
    /// No file was found.
    Missing,
}

struct Resolved {
    origin: Origin,
    /// The file blazesym reads: the module, or its debug file.
    symbols: Option<PathBuf>,
    module: Option<Module>,
}

/// Finds functions, files and lines of addresses; keeps what it has read.
pub struct Symbolizer {
    dirs: DebugDirs,
    blazesym: Blazesym,
    modules: HashMap<(PathBuf, Option<Vec<u8>>), Resolved>,
}

impl Default for Symbolizer {
    fn default() -> Self {
        Self::new(DebugDirs::default())
    }
}

impl Symbolizer {
    /// A symboliser that looks into these directories for what is not at its recorded path.
    pub fn new(dirs: DebugDirs) -> Self {
        Self { blazesym: blazesym(&dirs), dirs, modules: HashMap::new() }
    }

    /// Where the names of this module come from.
    pub fn origin(&mut self, module: ModuleRef<'_>) -> &Origin {
        &self.resolve(module).origin
    }

    /// Frames of each ELF address, in the order given, innermost first; never an empty list for an address.
    pub fn symbolize(&mut self, module: ModuleRef<'_>, addresses: &[u64], kind: AddressKind) -> Vec<Vec<SymbolFrame>> {
        let wanted: Vec<u64> = match kind {
            AddressKind::Instruction => addresses.to_vec(),
            AddressKind::Return => addresses.iter().map(|address| address.saturating_sub(1)).collect(),
        };
        self.resolve(module);
        let found = match self.modules.get(&key(module)).and_then(|resolved| resolved.symbols.clone()) {
            Some(file) => self.ask(&file, &wanted),
            None => vec![Vec::new(); wanted.len()],
        };
        let resolved = self.modules.get(&key(module));
        let elf = resolved.and_then(|resolved| resolved.module.as_ref());
        found
            .into_iter()
            .zip(wanted.iter().zip(addresses))
            .map(|(frames, (&wanted, &address))| match frames.is_empty() {
                true => vec![nearest(elf, module.path, wanted, address)],
                false => frames,
            })
            .collect()
    }

    fn resolve(&mut self, module: ModuleRef<'_>) -> &Resolved {
        let dirs = &self.dirs;
        self.modules.entry(key(module)).or_insert_with(|| resolve(module, dirs))
    }

    /// Ask blazesym for all addresses at once; if that fails, for one at a time.
    fn ask(&mut self, file: &Path, addresses: &[u64]) -> Vec<Vec<SymbolFrame>> {
        if let Some(all) = self.ask_batch(file, addresses) {
            return all;
        }
        let one = |address: &u64| self.ask_batch(file, &[*address]).and_then(|mut one| one.pop()).unwrap_or_default();
        addresses.iter().map(one).collect()
    }

    fn ask_batch(&mut self, file: &Path, addresses: &[u64]) -> Option<Vec<Vec<SymbolFrame>>> {
        let source = BlazeSource::Elf(Elf::new(file));
        // DWARF is as hostile as ELF, and its reader is not ours: a panic in it costs names, not the report.
        let answer = catch_unwind(AssertUnwindSafe(|| {
            let symbols = self.blazesym.symbolize(&source, Input::VirtOffset(addresses)).ok()?;
            Some(symbols.iter().map(frames).collect())
        }));
        match answer {
            Ok(frames) => frames.filter(|frames: &Vec<_>| frames.len() == addresses.len()),
            Err(_) => {
                self.blazesym = blazesym(&self.dirs);
                None
            }
        }
    }
}

fn key(module: ModuleRef<'_>) -> (PathBuf, Option<Vec<u8>>) {
    (module.path.to_path_buf(), module.build_id.map(<[u8]>::to_vec))
}

fn blazesym(dirs: &DebugDirs) -> Blazesym {
    Blazesym::builder()
        .enable_code_info(true)
        .enable_inlined_fns(true)
        .enable_demangling(true)
        .enable_auto_reload(false)
        .set_debug_dirs(Some(dirs.iter()))
        .build()
}

/// Find the file of the recorded build, and the file that knows its names.
fn resolve(module: ModuleRef<'_>, dirs: &DebugDirs) -> Resolved {
    let mut mismatch = None;
    let mut usable = Vec::new();
    for candidate in candidates(module, dirs) {
        let Ok(found) = Module::open_with(&candidate, dirs) else { continue };
        match module.build_id {
            Some(recorded) if found.build_id() != Some(recorded) => {
                mismatch.get_or_insert(candidate);
            }
            _ => {
                let best = found.has_debug_info();
                usable.push(found);
                if best {
                    break;
                }
            }
        }
    }
    if usable.is_empty() {
        let origin = mismatch.map_or(Origin::Missing, Origin::Mismatch);
        return Resolved { origin, symbols: None, module: None };
    }
    let with_lines = usable.iter().find(|module| module.has_debug_info()).map(|module| module.path().to_path_buf());
    let separate = || usable.iter().find_map(|module| module.debug_file(dirs));
    let with_symbols = || usable.iter().find(|module| module.has_full_symbols()).map(|m| m.path().to_path_buf());
    let symbols = with_lines.or_else(separate).or_else(with_symbols).unwrap_or_else(|| usable[0].path().to_path_buf());
    // The first is the module itself rather than its debug file, if both are there: it has the function bounds.
    let module = usable.swap_remove(0);
    Resolved { origin: Origin::File(symbols.clone()), symbols: Some(symbols), module: Some(module) }
}

/// Files that may be the module, best first: at its path, under a directory as if that were the root, in one by name,
/// in one by build-id.
fn candidates(module: ModuleRef<'_>, dirs: &DebugDirs) -> Vec<PathBuf> {
    let mut candidates = vec![module.path.to_path_buf()];
    let relative = module.path.strip_prefix("/").unwrap_or(module.path);
    candidates.extend(dirs.iter().map(|dir| dir.join(relative)));
    if let Some(name) = module.path.file_name() {
        candidates.extend(dirs.iter().map(|dir| dir.join(name)));
    }
    if let Some(build_id) = module.build_id {
        candidates.extend(dirs.by_build_id(build_id, ""));
        candidates.extend(dirs.by_build_id(build_id, ".debug"));
    }
    candidates
}

/// Blazesym's answer, innermost first: inlined callees follow their callers in its list.
fn frames(symbolized: &Symbolized<'_>) -> Vec<SymbolFrame> {
    let Symbolized::Sym(symbol) = symbolized else { return Vec::new() };
    if symbol.size.is_some_and(|size| size > 0 && symbol.offset >= size) {
        // Past the end of the symbol: it is a neighbour, not the function.
        return Vec::new();
    }
    let inlined = symbol.inlined.iter().rev();
    let inlined = inlined.map(|inlined| frame(inlined.name.to_string(), inlined.code_info.as_ref()));
    inlined.chain([frame(function_name(symbol), symbol.code_info.as_deref())]).collect()
}

fn function_name(symbol: &Sym<'_>) -> String {
    // Symbols without a language (no DWARF) come as the linker has them.
    let name = symbol.name.split_once('@').map_or(symbol.name.as_ref(), |(name, _)| name);
    // glibc calls its own functions by private aliases; people know them by the public name.
    demangled(name.strip_prefix("__GI_").unwrap_or(name)).into_owned()
}

fn frame(function: String, code: Option<&CodeInfo<'_>>) -> SymbolFrame {
    let file = code.map(|code| code.to_path().to_string_lossy().into_owned());
    SymbolFrame { function, file, line: code.and_then(|code| code.line).filter(|&line| line > 0) }
}

/// What is left when no symbol covers an address. A symbol is near only if no other function begins in between: in a
/// stripped library the last exported name may be a hundred functions away.
fn nearest(elf: Option<&Module>, path: &Path, wanted: u64, address: u64) -> SymbolFrame {
    let name = elf.and_then(|elf| {
        let symbols = elf.symbols();
        let symbol = symbols.function_before(wanted)?;
        let same_function = elf.function(wanted).is_some_and(|bounds| symbol.vaddr >= bounds.start);
        let name = demangled(symbols.name(symbol)?);
        same_function.then(|| format!("{name}+{:#x}", wanted - symbol.vaddr))
    });
    let function = name.unwrap_or_else(|| {
        let module = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
        format!("{module}+{address:#x}")
    });
    SymbolFrame { function, file: None, line: None }
}
