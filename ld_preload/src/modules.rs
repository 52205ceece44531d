//! Which modules are loaded, and how to unwind through them.
//!
//! A [`Snapshot`] is immutable and stands behind one pointer. A thread that wants to unwind announces which snapshot it
//! uses (its hazard pointer, in `thread`); whoever replaces a snapshot frees the old one once no thread announces it.
//! Replacing is done by at most one thread at a time, under a flag that is only tried: a thread that finds it set
//! unwinds with what there is.
//!
//! Modules are what `/proc/self/maps` shows as executable mappings of ELF files; `dlopen` is not hooked, because a
//! wrapper around it would change who its caller is. A return address in no known executable mapping says instead that
//! something was loaded. Looking again is rationed: never more than a twentieth of the time goes there, and the pause
//! doubles, up to a second, each time nothing had changed (code generated at run time, stacks led astray).
//!
//! An emulator may show the guest's code as readable only (QEMU's user mode shows what its own
//! mappings are). Where the C library is not executable, the files' own headers say what of them is code (`code_of_headers`).
//!
//! Unwind tables are read from a private mapping of the file, which stays when the program unloads the module.

use crate::elf::{self, HEAD_BYTES, Segment};
use crate::maps::{self, Mapping};
use crate::{real, sys};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};
use framehop::x86_64::UnwinderX86_64;
use framehop::{ExplicitModuleSectionInfo, MustNotAllocateDuringUnwind, Unwinder};
use tierscope_wire::event::MAX_BUILD_ID_BYTES;

const MAPS_BUFFER_BYTES: usize = 32 << 10;
/// Segments of one file lie this close together at most.
const LARGEST_GAP: u64 = 4 << 20;
const SHORTEST_PAUSE_NS: u64 = 1_000_000;
const LONGEST_PAUSE_NS: u64 = 1_000_000_000;

/// A private mapping of part of a module's file.
#[derive(Debug)]
struct FileMapping {
    base: *mut u8,
    bytes: usize,
}

// SAFETY: read-only memory.
unsafe impl Send for FileMapping {}
// SAFETY: as above.
unsafe impl Sync for FileMapping {}

impl Drop for FileMapping {
    fn drop(&mut self) {
        // SAFETY: sections hold the mapping alive while they are in use.
        unsafe { sys::unmap(self.base, self.bytes) };
    }
}

/// Part of a file mapping, as framehop wants its sections.
#[derive(Debug, Clone)]
pub(crate) struct Section {
    mapping: Arc<FileMapping>,
    start: usize,
    end: usize,
}

impl core::ops::Deref for Section {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: mapped readable for as long as `mapping` lives.
        let all = unsafe { core::slice::from_raw_parts(self.mapping.base, self.mapping.bytes) };
        all.get(self.start..self.end).unwrap_or(&[])
    }
}

/// The unwinder, with sections of our own.
pub(crate) type ModuleUnwinder = UnwinderX86_64<Section, MustNotAllocateDuringUnwind>;

/// A loaded module.
#[derive(Debug)]
pub(crate) struct Module {
    /// First address.
    pub(crate) start: u64,
    /// One past the last.
    pub(crate) end: u64,
    /// Subtract from an address to get the file's own.
    pub(crate) bias: u64,
    /// Path as the kernel shows it.
    pub(crate) path: Vec<u8>,
    inode: u64,
    build_id: Vec<u8>,
}

impl Module {
    /// The GNU build-id, empty when there is none.
    pub(crate) fn build_id(&self) -> &[u8] {
        &self.build_id
    }

    fn is_same(&self, other: &Found) -> bool {
        self.start == other.start && self.inode == other.inode && self.path == other.path
    }
}

/// What was loaded at one time.
pub(crate) struct Snapshot {
    /// Unwinds through the modules.
    pub(crate) unwinder: ModuleUnwinder,
    /// By address.
    pub(crate) modules: Vec<Arc<Module>>,
    /// All executable mappings, modules' and others, by address.
    executable: Ranges,
    /// Grows when a module goes away.
    pub(crate) epoch: u32,
    /// 1 and up; no other snapshot of the process has it.
    pub(crate) serial: u64,
    /// The recorder's generation in which the agent was told of these modules.
    pub(crate) announced: AtomicU32,
}

impl Snapshot {
    /// Whether `address` lies in anything executable.
    pub(crate) fn is_code(&self, address: u64) -> bool {
        let after = self.executable.partition_point(|(start, _)| *start <= address);
        after.checked_sub(1).and_then(|at| self.executable.get(at)).is_some_and(|(_, end)| address < *end)
    }
}

/// A file's mappings, put together from adjacent lines.
#[derive(Debug, Clone)]
struct Found {
    start: u64,
    end: u64,
    inode: u64,
    path: Vec<u8>,
    first_offset: u64,
    last_offset: u64,
    /// Address and file offset of the first executable mapping.
    code: Option<(u64, u64)>,
}

impl Found {
    fn of(mapping: &Mapping<'_>) -> Self {
        Found {
            start: mapping.start,
            end: mapping.end,
            inode: mapping.inode,
            path: mapping.path.to_vec(),
            first_offset: mapping.offset,
            last_offset: mapping.offset,
            code: mapping.executable.then_some((mapping.start, mapping.offset)),
        }
    }

    fn take_in(&mut self, mapping: &Mapping<'_>) -> bool {
        let belongs = mapping.inode == self.inode
            && mapping.start - self.end <= LARGEST_GAP
            && mapping.offset >= self.last_offset
            && mapping.path == self.path;
        if belongs {
            self.end = mapping.end;
            self.last_offset = mapping.offset;
            if mapping.executable && self.code.is_none() {
                self.code = Some((mapping.start, mapping.offset));
            }
        }
        belongs
    }
}

/// Address ranges, start and end.
type Ranges = Vec<(u64, u64)>;

/// The files that code comes from, and everything executable; `None` when the kernel does not say.
fn look() -> Option<(Vec<Found>, Ranges)> {
    let (mut found, mut executable) = list(|module| module.code.is_some())?;
    if is_hidden(&executable) {
        (found, executable) = list(|_| true)?;
        for module in found.iter_mut().filter(|module| module.code.is_none()) {
            executable.extend(code_of_headers(module));
        }
        found.retain(|module| module.code.is_some());
        executable.sort_unstable();
    }
    Some((found, executable))
}

/// Whether what certainly is code, the C library's, is not shown as such.
fn is_hidden(executable: &Ranges) -> bool {
    let code = real::next(c"malloc").map(|next| next.address as u64);
    code.is_some_and(|code| !executable.iter().any(|(start, end)| (*start..*end).contains(&code)))
}

/// The files that are mapped, those that `keep` keeps, and everything executable.
fn list(keep: impl Fn(&Found) -> bool) -> Option<(Vec<Found>, Ranges)> {
    let mut found: Vec<Found> = Vec::with_capacity(64);
    let mut executable = Vec::with_capacity(64);
    let mut buffer = alloc::vec![0; MAPS_BUFFER_BYTES];
    let complete = maps::for_each(&mut buffer, |mapping| {
        if mapping.executable {
            executable.push((mapping.start, mapping.end));
        }
        if mapping.path.first() == Some(&b'/') && !found.last_mut().is_some_and(|last| last.take_in(&mapping)) {
            // Only the last can still grow; one without code is data the program mapped.
            if found.last().is_some_and(|last| !keep(last)) {
                found.pop();
            }
            found.push(Found::of(&mapping));
        }
        true
    });
    found.retain(keep);
    complete.then_some((found, executable))
}

/// Where a mapped file has its code, by its own headers, which are put into `found`; `None` where it is no module.
fn code_of_headers(found: &mut Found) -> Option<(u64, u64)> {
    if found.first_offset != 0 {
        return None;
    }
    let file = open(found)?;
    let mut head = alloc::vec![0; HEAD_BYTES];
    let bytes = sys::read_at(&file, &mut head, 0)?;
    let head = head.get(..bytes)?;
    let mut loaded = elf::segments(head).filter(|segment| segment.kind == elf::LOAD);
    let first = loaded.next().filter(|first| first.offset < 4096)?;
    let code = core::iter::once(first).chain(loaded).find(|segment| segment.flags & elf::EXECUTABLE != 0)?;
    let bias = found.start.wrapping_sub(first.address & !0xfff);
    let start = bias.wrapping_add(code.address & !0xfff);
    let end = bias.checked_add(code.address)?.checked_add(code.bytes)?;
    if !(found.start <= start && start < end && end <= found.end.checked_add(0xfff)?) {
        return None;
    }
    found.code = Some((start, code.offset & !0xfff));
    Some((start, end))
}

/// The file behind a module, if it is still the one that was loaded.
fn open(found: &Found) -> Option<sys::Fd> {
    let mut path = found.path.clone();
    path.push(0);
    [&*path, b"/proc/self/exe\0"]
        .into_iter()
        .find_map(|path| sys::open(path).filter(|file| sys::inode(file) == Some(found.inode)))
        .map(sys::raise)
}

/// Reads what the module's file says of it.
fn describe(found: &Found) -> (Module, Option<framehop::Module<Section>>) {
    let (code_start, code_offset) = found.code.unwrap_or((found.start, 0));
    let mut module = Module {
        start: found.start,
        end: found.end,
        bias: code_start.wrapping_sub(code_offset),
        path: found.path.clone(),
        inode: found.inode,
        build_id: Vec::new(),
    };
    let Some(file) = open(found) else { return (module, None) };
    let mut head = alloc::vec![0; HEAD_BYTES];
    let head_bytes = sys::read_at(&file, &mut head, 0).unwrap_or(0);
    let head = head.get(..head_bytes).unwrap_or(&[]);
    let code = elf::segments(head).find(|segment| {
        segment.kind == elf::LOAD
            && segment.flags & elf::EXECUTABLE != 0
            && (segment.offset & !0xfff..segment.offset.saturating_add(segment.bytes)).contains(&code_offset)
    });
    let Some(code) = code else { return (module, None) };
    module.bias = code_start.wrapping_sub(code_offset.wrapping_add(code.address).wrapping_sub(code.offset));
    module.build_id = build_id(&file, head).unwrap_or_default();
    let unwinding = sections(&file, head)
        .map(|sections| framehop::Module::new(String::new(), module.start..module.end, module.bias, sections));
    (module, unwinding)
}

fn build_id(file: &sys::Fd, head: &[u8]) -> Option<Vec<u8>> {
    elf::segments(head).filter(|segment| segment.kind == elf::NOTE).find_map(|segment| {
        let mut notes = [0; 512];
        let bytes = sys::read_at(file, notes.get_mut(..segment.bytes.min(512) as usize)?, segment.offset)?;
        let id = elf::build_id(notes.get(..bytes)?)?;
        id.get(..id.len().min(MAX_BUILD_ID_BYTES)).map(<[u8]>::to_vec)
    })
}

/// Maps the part of the file that holds the unwind tables.
fn sections(file: &sys::Fd, head: &[u8]) -> Option<ExplicitModuleSectionInfo<Section>> {
    let header = elf::segments(head).find(|segment| segment.kind == elf::EH_FRAME_HEADER)?;
    let holds = |segment: &Segment, address| {
        segment.kind == elf::LOAD && (segment.address..segment.address.saturating_add(segment.bytes)).contains(&address)
    };
    let segment = elf::segments(head).find(|segment| holds(segment, header.address))?;
    let from = segment.offset & !0xfff;
    let bytes = usize::try_from(segment.offset.checked_add(segment.bytes)? - from).ok()?;
    let base = sys::map(bytes, sys::PROT_READ, sys::MAP_PRIVATE, Some(file), from)?;
    let mapping = Arc::new(FileMapping { base, bytes });
    let section = |start: u64, end: u64| -> Option<Section> {
        let at = |address: u64| usize::try_from(address.checked_sub(segment.address)? + (segment.offset - from)).ok();
        Some(Section { mapping: mapping.clone(), start: at(start)?, end: at(end)? })
    };
    let segment_end = segment.address.saturating_add(segment.bytes);
    let header_end = header.address.saturating_add(header.bytes).min(segment_end);
    let eh_frame_hdr = section(header.address, header_end)?;
    let eh_frame_start =
        elf::eh_frame_address(&eh_frame_hdr, header.address).filter(|start| holds(&segment, *start))?;
    Some(ExplicitModuleSectionInfo {
        base_svma: 0,
        text_svma: None,
        text: None,
        stubs_svma: None,
        stub_helper_svma: None,
        got_svma: None,
        unwind_info: None,
        eh_frame_svma: Some(eh_frame_start..segment_end),
        eh_frame: Some(section(eh_frame_start, segment_end)?),
        eh_frame_hdr_svma: Some(header.address..header_end),
        eh_frame_hdr: Some(eh_frame_hdr),
        debug_frame: None,
        text_segment_svma: None,
        text_segment: None,
    })
}

/// What a look at the modules brought.
pub(crate) struct Change {
    /// Newly loaded.
    pub(crate) loaded: Vec<Arc<Module>>,
    /// Gone.
    pub(crate) unloaded: Vec<Arc<Module>>,
}

static CURRENT: AtomicPtr<Snapshot> = AtomicPtr::new(core::ptr::null_mut());
static REPLACING: AtomicBool = AtomicBool::new(false);
static RETIRED: AtomicPtr<Vec<*mut Snapshot>> = AtomicPtr::new(core::ptr::null_mut());
/// Something was unloaded: the next user looks again, whatever the ration.
static STALE: AtomicBool = AtomicBool::new(false);
static LOOKED_AT_NS: AtomicU64 = AtomicU64::new(0);
static PAUSE_NS: AtomicU64 = AtomicU64::new(0);

/// The current snapshot, null before the first look.
pub(crate) fn current() -> *mut Snapshot {
    CURRENT.load(Ordering::SeqCst)
}

/// Says that a module may have gone away.
pub(crate) fn mark_stale() {
    STALE.store(true, Ordering::Release);
}

/// Whether a module may have gone away since the last look.
pub(crate) fn is_stale() -> bool {
    STALE.load(Ordering::Relaxed)
}

/// Whether the ration allows to look again at `now_ns`.
pub(crate) fn may_look(now_ns: u64) -> bool {
    now_ns.saturating_sub(LOOKED_AT_NS.load(Ordering::Relaxed)) >= PAUSE_NS.load(Ordering::Relaxed)
}

/// Another thread that held the flag is gone. (In a forked child.)
pub(crate) fn reset_after_fork() {
    REPLACING.store(false, Ordering::Release);
}

/// Looks again, and replaces the snapshot when something changed. `in_use` tells whether a thread announces a snapshot.
pub(crate) fn refresh(now_ns: u64, clock: impl Fn() -> u64, in_use: impl Fn(*mut Snapshot) -> bool) -> Option<Change> {
    if REPLACING.swap(true, Ordering::Acquire) {
        return None;
    }
    STALE.store(false, Ordering::Relaxed);
    let change = replace(in_use);
    let cost = clock().saturating_sub(now_ns);
    let before = PAUSE_NS.load(Ordering::Relaxed);
    let pause = if change.is_some() { cost.saturating_mul(20) } else { before.saturating_mul(2).max(cost * 20) };
    PAUSE_NS.store(pause.clamp(SHORTEST_PAUSE_NS, LONGEST_PAUSE_NS), Ordering::Relaxed);
    LOOKED_AT_NS.store(now_ns, Ordering::Relaxed);
    REPLACING.store(false, Ordering::Release);
    change
}

fn replace(in_use: impl Fn(*mut Snapshot) -> bool) -> Option<Change> {
    let (found, executable) = look()?;
    let old_pointer = current();
    // SAFETY: only we replace snapshots, and this one has not been retired.
    let old = unsafe { old_pointer.as_ref() };
    if old.is_some_and(|old| old.executable == executable && old.modules.len() == found.len())
        && old.is_some_and(|old| old.modules.iter().zip(&found).all(|(module, found)| module.is_same(found)))
    {
        return None;
    }
    let mut unwinder = old.map_or_else(ModuleUnwinder::new, |old| old.unwinder.clone());
    let old_modules: &[Arc<Module>] = old.map_or(&[], |old| &old.modules);
    let unloaded: Vec<_> =
        old_modules.iter().filter(|module| !found.iter().any(|found| module.is_same(found))).cloned().collect();
    for module in &unloaded {
        unwinder.remove_module(module.start);
    }
    let mut loaded = Vec::new();
    let mut modules = Vec::with_capacity(found.len());
    for found in &found {
        let known = old_modules.iter().find(|module| module.is_same(found)).cloned();
        let module = known.unwrap_or_else(|| {
            let (module, unwinding) = describe(found);
            if let Some(unwinding) = unwinding {
                unwinder.add_module(unwinding);
            }
            let module = Arc::new(module);
            loaded.push(module.clone());
            module
        });
        modules.push(module);
    }
    let epoch = old.map_or(0, |old| old.epoch).wrapping_add(u32::from(!unloaded.is_empty()));
    let serial = old.map_or(0, |old| old.serial).wrapping_add(1);
    let announced = AtomicU32::new(old.map_or(0, |old| old.announced.load(Ordering::Relaxed)));
    let fresh = Box::into_raw(Box::new(Snapshot { unwinder, modules, executable, epoch, serial, announced }));
    CURRENT.store(fresh, Ordering::SeqCst);
    retire(old_pointer, in_use);
    Some(Change { loaded, unloaded })
}

/// Frees what no thread uses any more. Called with the flag held.
fn retire(old: *mut Snapshot, in_use: impl Fn(*mut Snapshot) -> bool) {
    if old.is_null() {
        return;
    }
    let mut list = RETIRED.load(Ordering::Relaxed);
    if list.is_null() {
        list = Box::into_raw(Box::new(Vec::new()));
        RETIRED.store(list, Ordering::Relaxed);
    }
    // SAFETY: the list is only touched with the flag held. A snapshot in it is no longer current; one that no thread
    // announces after that was observed can never be announced again.
    unsafe {
        (*list).push(old);
        (*list).retain(|snapshot| {
            let keep = in_use(*snapshot);
            if !keep {
                drop(Box::from_raw(*snapshot));
            }
            keep
        });
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;

    #[test]
    fn headers_say_the_same_of_code_as_the_kernel() {
        let (found, executable) = look().unwrap();
        assert!(!found.is_empty());
        let mut seen = 0;
        for module in found.iter().filter(|module| module.first_offset == 0) {
            let mut hidden = Found { code: None, ..module.clone() };
            let (start, end) = code_of_headers(&mut hidden).unwrap();
            assert_eq!(hidden.code, module.code, "{}", String::from_utf8_lossy(&module.path));
            assert!(executable.iter().any(|range| range.0 <= start && end <= range.1));
            seen += 1;
        }
        assert!(seen >= 2, "{found:?}");
    }

    #[test]
    fn a_file_that_is_no_program_has_no_code() {
        let (found, _) = list(|_| true).unwrap();
        let inode = |path: &[u8]| sys::inode(&sys::open(path).unwrap()).unwrap();
        let module = found.into_iter().next().unwrap();
        let mut other = Found { path: b"/etc/passwd".to_vec(), inode: inode(b"/etc/passwd\0"), ..module };
        assert_eq!((code_of_headers(&mut other), other.start < other.end), (None, true));
    }

    #[test]
    fn this_program_and_its_libraries_are_found() {
        let (found, executable) = look().unwrap();
        let here = look as *const () as u64;
        assert!(executable.iter().any(|(start, end)| (*start..*end).contains(&here)));
        let own = found.iter().find(|module| (module.start..module.end).contains(&here)).unwrap();
        let (module, unwinding) = describe(own);
        assert!(unwinding.is_some());
        // The address of a function in the file's own terms lies in one of its executable segments.
        let head = std::fs::read("/proc/self/exe").unwrap();
        let svma = here - module.bias;
        assert!(elf::segments(&head[..HEAD_BYTES]).any(|s| {
            s.kind == elf::LOAD && s.flags & elf::EXECUTABLE != 0 && (s.address..s.address + s.bytes).contains(&svma)
        }));
        assert!(found.iter().any(|module| module.path.ends_with(b"libc.so.6") && describe(module).1.is_some()));
    }
}
