//! The executables and libraries of a process, and their code.
//!
//! A module is known by its file and its bias. The ELF file is opened once for all processes; code is read from the
//! file rather than from the process, because the process may be gone by the time a sample is looked at, and text is
//! not relocated. Only code of no file (JIT, vdso) is read from the process itself, while it lives.
//!
//! Files are looked for below `/proc/PID/root` first: a target in a container names its files by its own root.

use rustc_hash::FxHashMap;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tierscope_binary::Module;
use tierscope_traces::ModuleRow;

/// Opened ELF files of every process, by path. `None`: could not be opened or read.
#[derive(Debug, Default)]
pub(super) struct Binaries {
    opened: FxHashMap<PathBuf, Option<Arc<Module>>>,
}

impl Binaries {
    fn open(&mut self, pid: u32, path: &Path) -> Option<Arc<Module>> {
        if let Some(known) = self.opened.get(path) {
            return known.clone();
        }
        let in_its_root = path.strip_prefix("/").ok().map(|path| PathBuf::from(format!("/proc/{pid}/root")).join(path));
        let module =
            in_its_root.and_then(|path| Module::open(&path).ok()).or_else(|| Module::open(path).ok()).map(Arc::new);
        self.opened.insert(path.to_path_buf(), module.clone());
        module
    }
}

/// A module as it is mapped.
#[derive(Debug, Clone)]
pub(super) struct Loaded {
    /// Its number in the profile.
    pub(super) module: u32,
    pub(super) end: u64,
    pub(super) bias: u64,
    pub(super) binary: Option<Arc<Module>>,
}

/// The modules of one process: those mapped now, and a row for each there ever was.
#[derive(Debug, Clone, Default)]
pub(super) struct Modules {
    loaded: BTreeMap<u64, Loaded>,
    rows: Vec<ModuleRow>,
    /// Rows changed since they were last written.
    dirty: Vec<u32>,
}

/// Where a module was seen.
#[derive(Debug)]
pub(super) enum Seen<'a> {
    /// An executable mapping at this address, from this offset of the file.
    Mapping { start: u64, end: u64, file_offset: u64 },
    /// The shim's word for the whole of it.
    Extent { range: Range<u64>, bias: u64, build_id: &'a [u8] },
}

impl Modules {
    /// Enters a module unless it is known. Returns the range it now covers if it is new.
    pub(super) fn load(
        &mut self,
        binaries: &mut Binaries,
        pid: u32,
        path: &Path,
        seen: &Seen<'_>,
        time_ns: u64,
    ) -> Option<Range<u64>> {
        let binary = binaries.open(pid, path);
        let (range, bias) = match *seen {
            Seen::Mapping { start, end, file_offset } => match &binary {
                Some(binary) => {
                    let bias = binary.bias(start, file_offset, true)?;
                    let memory = extent(binary)?;
                    (memory.start.wrapping_add(bias)..memory.end.wrapping_add(bias), bias)
                }
                None => (start..end, start.wrapping_sub(file_offset)),
            },
            Seen::Extent { ref range, bias, .. } => (range.clone(), bias),
        };
        let path_text = path.to_string_lossy();
        let known = |loaded: &Loaded| {
            loaded.bias == bias && self.rows.get(loaded.module as usize).is_some_and(|row| row.path == path_text)
        };
        if range.is_empty() || self.find(range.start).is_some_and(known) {
            return None;
        }
        self.unload(range.clone(), time_ns);
        let build_id = match (&binary, seen) {
            (Some(binary), _) => binary.build_id().map(hex),
            (None, Seen::Extent { build_id, .. }) if !build_id.is_empty() => Some(hex(build_id)),
            _ => None,
        };
        let module = self.rows.len() as u32;
        self.rows.push(ModuleRow {
            module,
            path: path_text.into_owned(),
            build_id,
            start: range.start,
            end: range.end,
            bias,
            loaded_ns: time_ns,
            unloaded_ns: None,
        });
        self.dirty.push(module);
        self.loaded.insert(range.start, Loaded { module, end: range.end, bias, binary });
        Some(range)
    }

    /// Marks every module that touches a range as gone.
    pub(super) fn unload(&mut self, range: Range<u64>, time_ns: u64) {
        let below = self.loaded.range(..range.start).next_back().filter(|(_, loaded)| loaded.end > range.start);
        let gone: Vec<u64> =
            below.into_iter().chain(self.loaded.range(range.clone())).map(|(start, _)| *start).collect();
        for start in gone {
            if let Some(loaded) = self.loaded.remove(&start)
                && let Some(row) = self.rows.get_mut(loaded.module as usize)
            {
                row.unloaded_ns = Some(time_ns);
                self.dirty.push(loaded.module);
            }
        }
    }

    /// The module mapped at an address.
    pub(super) fn find(&self, address: u64) -> Option<&Loaded> {
        let (_, loaded) = self.loaded.range(..=address).next_back()?;
        (address < loaded.end).then_some(loaded)
    }

    /// Module number and ELF address of a code address; the address itself where there is no module.
    pub(super) fn locate(&self, address: u64) -> (Option<u32>, u64) {
        match self.find(address) {
            Some(loaded) => (Some(loaded.module), address.wrapping_sub(loaded.bias)),
            None => (None, address),
        }
    }

    /// The row of a module.
    pub(super) fn row(&self, module: u32) -> Option<&ModuleRow> {
        self.rows.get(module as usize)
    }

    /// All rows, changed or not.
    pub(super) fn rows(&self) -> &[ModuleRow] {
        &self.rows
    }

    /// Rows to write now.
    pub(super) fn take_dirty(&mut self) -> impl Iterator<Item = ModuleRow> {
        let mut dirty = std::mem::take(&mut self.dirty);
        dirty.sort_unstable();
        dirty.dedup();
        dirty.into_iter().filter_map(|module| self.rows.get(module as usize).cloned())
    }

    /// Everything is to be written again: into another profile.
    pub(super) fn mark_all_dirty(&mut self) {
        self.dirty = (0..self.rows.len() as u32).collect();
    }
}

/// From the first to the last byte that a module occupies, in ELF addresses.
fn extent(binary: &Module) -> Option<Range<u64>> {
    let start = binary.segments().map(|segment| segment.vaddrs.start).min()?;
    let end = binary.segments().map(|segment| segment.vaddrs.end).max()?;
    Some(start..end)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The code of a process, for the decoder.
#[derive(Debug)]
pub(super) struct ProcessCode<'a> {
    pub(super) pid: u32,
    pub(super) modules: &'a Modules,
}

impl tierscope_sampler::Code for ProcessCode<'_> {
    fn read(&mut self, address: u64, buffer: &mut [u8]) -> usize {
        if let Some(Loaded { bias, binary: Some(binary), .. }) = self.modules.find(address) {
            let read = binary.code(address.wrapping_sub(*bias), buffer);
            if read > 0 {
                return read;
            }
        }
        read_memory(self.pid, address, buffer)
    }

    fn read_data(&mut self, address: u64, buffer: &mut [u8]) -> usize {
        read_memory(self.pid, address, buffer)
    }

    fn function(&mut self, address: u64) -> Option<Range<u64>> {
        let loaded = self.modules.find(address)?;
        let function = loaded.binary.as_ref()?.function(address.wrapping_sub(loaded.bias))?;
        Some(function.start.wrapping_add(loaded.bias)..function.end.wrapping_add(loaded.bias))
    }
}

/// Reads memory of another process: up to the first byte that cannot be read.
fn read_memory(pid: u32, address: u64, buffer: &mut [u8]) -> usize {
    let local = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let remote = libc::iovec { iov_base: address as *mut libc::c_void, iov_len: buffer.len() };
    // SAFETY: `local` describes `buffer`, which is valid for writing; the remote range is checked by the kernel.
    let read = unsafe { libc::process_vm_readv(pid as libc::pid_t, &raw const local, 1, &raw const remote, 1, 0) };
    usize::try_from(read).unwrap_or(0)
}
