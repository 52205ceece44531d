//! Where the memory of a tier comes from.
//!
//! Each tier has a region of addresses of its own, reserved without access. Of memory nodes, the whole region is bound
//! when it is reserved, so that making part of it accessible is one `mprotect`, as in the program's own allocator. Of a
//! file, part of the file is given storage before it is mapped: a full directory then refuses here, and does not kill
//! the program when it writes.
//!
//! What is not accessible is left out of dumps: a kernel that writes one would go through the whole region.
//!
//! Memory that goes to swap is like any other, but the kernel is told again and again that it is cold (`rest`). That of a
//! DAX device is like none (`device`).
//!
//! # The file
//!
//! It has no name, belongs to the process alone, and is shared between the process and nobody: it is mapped shared
//! because only then does the kernel write pages back to it. A page lies in the file where it lies in the region. Its
//! descriptor must stay open; a program may close it (daemons close all they find) and may be given its number again,
//! so that it is looked at before each use, and a new file takes over where it is gone. What the old one holds stays
//! mapped, and is given back through the mapping.

use super::device::Device;
use super::near;
use crate::sys::{self, EFBIG, EINVAL, ENOMEM, Fd};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::cell::UnsafeCell;
use core::ffi::CStr;
use core::mem::ManuallyDrop;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use tierscope_arena::Pages;
use tierscope_wire::policy::stats::Statistics;
use tierscope_wire::policy::{Backend, Tier};

pub(super) const MPOL_DEFAULT: usize = 0;
const MPOL_PREFERRED: usize = 1;
const MPOL_BIND: usize = 2;
const MPOL_INTERLEAVE: usize = 3;
const MPOL_PREFERRED_MANY: usize = 5;
const MPOL_WEIGHTED_INTERLEAVE: usize = 6;

/// Nodes as the kernel takes them.
pub(super) type NodeMask = [u64; 16];

/// A mask of a tier's nodes, and the modes to try for it, best first.
#[derive(Debug, Clone, Copy)]
pub(super) struct Nodes {
    mask: NodeMask,
    first: NodeMask,
    modes: [usize; 2],
}

impl Nodes {
    /// Of a tier of memory nodes; `None` for any other.
    pub(super) fn of(tier: &Tier<'_>) -> Option<Nodes> {
        let modes = match tier.backend {
            Backend::Numa => [MPOL_PREFERRED_MANY, MPOL_PREFERRED],
            Backend::NumaStrict => [MPOL_BIND; 2],
            Backend::Interleave => [MPOL_INTERLEAVE; 2],
            // The weights are the machine's, under /sys/kernel/mm/mempolicy; older kernels have none.
            Backend::WeightedInterleave => [MPOL_WEIGHTED_INTERLEAVE, MPOL_INTERLEAVE],
            _ => return None,
        };
        let mut mask = [0; 16];
        let mut first = [0; 16];
        for (index, node) in tier.nodes().enumerate() {
            if let Some(word) = mask.get_mut(usize::from(node) / 64) {
                *word |= 1 << (node % 64);
            }
            if index == 0 {
                first = mask;
            }
        }
        Some(Nodes { mask, first, modes })
    }

    /// Calls `bind(mode, mask)` with what this kernel knows.
    fn apply(&self, bind: impl Fn(usize, &NodeMask) -> Result<(), i32>) -> Result<(), i32> {
        let [best, other] = self.modes;
        match bind(best, &self.mask) {
            // The oldest of them takes one node.
            Err(EINVAL) if other == MPOL_PREFERRED => bind(other, &self.first),
            Err(EINVAL) if other != best => bind(other, &self.mask),
            result => result,
        }
    }

    /// Binds a range; with `moving`, pages that are there already are moved as far as they can be.
    pub(super) fn bind(&self, address: usize, bytes: usize, moving: bool) -> Result<(), i32> {
        const MPOL_MF_MOVE: usize = 2;
        let flags = if moving { MPOL_MF_MOVE } else { 0 };
        self.apply(|mode, mask| sys::bind_memory(address, bytes, mode, mask, flags))
    }

    /// Makes them the calling thread's choice for all memory.
    pub(super) fn make_default(&self) -> Result<(), i32> {
        self.apply(|mode, mask| sys::set_memory_policy(mode, mask))
    }
}

/// Binds a range to the node of whoever touches a page first, whatever the thread's choice for the rest. Pages that are
/// there already stay where they are.
pub(super) fn bind_near(address: usize, bytes: usize) -> Result<(), i32> {
    // Preferred, and no nodes: the local one.
    sys::bind_memory(address, bytes, MPOL_PREFERRED, &[0; 1], 0)
}

/// Gives the pages of ordinary memory back; what is there afterwards is zero.
///
/// # Safety
///
/// The range is accessible, ours, and used by nobody any more.
pub(super) unsafe fn discard(address: usize, bytes: usize) {
    let range = address as *mut u8;
    // SAFETY: the caller's promise.
    unsafe {
        // Pages that the program had locked (`mlockall`) stay.
        if !sys::advise(range, bytes, sys::MADV_DONTNEED) {
            range.write_bytes(0, bytes);
        }
    }
}

/// What backs a region.
#[derive(Debug)]
pub(super) enum Source {
    /// Memory as the program would get it, or of the nodes the region is bound to.
    Anonymous,
    /// A file.
    File(Box<TierFile>),
    /// A DAX device.
    Device(Box<Device>),
    /// Nothing: it could not be had. With the error number.
    None(i32),
}

impl Source {
    /// The source of a tier's region.
    pub(super) fn of(tier: Option<&Tier<'_>>, region: usize, region_bytes: usize) -> Source {
        let Some(tier) = tier else { return Source::Anonymous };
        match tier.backend {
            Backend::Default | Backend::Swap => Source::Anonymous,
            Backend::File => match TierFile::create(tier.path, region, region_bytes) {
                Ok(file) => Source::File(Box::new(file)),
                Err(error) => Source::None(error),
            },
            Backend::Dax => match Device::create(tier.path, region, region_bytes) {
                Ok(device) => Source::Device(Box::new(device)),
                Err(error) => Source::None(error),
            },
            _ => match Nodes::of(tier).map(|nodes| nodes.bind(region, region_bytes, false)) {
                Some(Ok(())) => Source::Anonymous,
                Some(Err(error)) => Source::None(error),
                None => Source::None(EINVAL),
            },
        }
    }

    /// How much of a region of `bytes` can have memory.
    pub(super) fn bytes(&self, bytes: usize) -> usize {
        match self {
            Source::Device(device) => device.bytes(),
            _ => bytes,
        }
    }
}

/// The pages of one tier, as its arena asks for them.
#[derive(Debug)]
pub(super) struct TierPages {
    pub(super) source: Source,
    /// The tier's place in the table.
    pub(super) tier: usize,
    pub(super) statistics: Statistics<'static>,
}

impl TierPages {
    fn fail(&self, errno: u32) {
        if let Some(counters) = self.statistics.tier(self.tier) {
            counters.fail(errno);
        }
    }
}

impl Pages for TierPages {
    fn commit(&self, _: usize, address: usize, bytes: usize) -> bool {
        let result = match &self.source {
            // SAFETY: part of the region, used by nobody yet.
            Source::Anonymous => unsafe { sys::protect(address as *mut u8, bytes, sys::PROT_READ_WRITE) }
                .then(|| {
                    // SAFETY: as above; a dump of the program has its blocks in it.
                    unsafe { sys::advise(address as *mut u8, bytes, sys::MADV_DODUMP) };
                    near::make_tables(address, bytes);
                })
                .ok_or(ENOMEM),
            Source::File(file) => file.commit(address, bytes),
            Source::Device(device) => device.commit(address, bytes),
            Source::None(error) => Err(*error),
        };
        if let Err(error) = result {
            self.fail(error.unsigned_abs());
        }
        result.is_ok()
    }

    fn decommit(&self, _: usize, address: usize, bytes: usize) {
        let range = address as *mut u8;
        // SAFETY: part of the region, used by nobody any more.
        unsafe {
            if let Source::Device(device) = &self.source {
                device.decommit(address, bytes);
            } else if matches!(self.source, Source::Anonymous) {
                discard(address, bytes);
                sys::advise(range, bytes, sys::MADV_DONTDUMP);
                sys::protect(range, bytes, sys::PROT_NONE);
            } else {
                sys::advise(range, bytes, sys::MADV_REMOVE);
                let flags = sys::MAP_PRIVATE | sys::MAP_ANONYMOUS | sys::MAP_NORESERVE;
                if sys::map_over(address, bytes, sys::PROT_NONE, flags, None).is_err() {
                    sys::protect(range, bytes, sys::PROT_NONE);
                }
            }
        }
    }

    fn relax(&self, rounds: u32) {
        if rounds < 32 { sys::yield_processor() } else { sys::sleep_ns(50_000) }
    }
}

/// A tier's file. See the module's page.
#[derive(Debug)]
pub(super) struct TierFile {
    directory: &'static CStr,
    region: usize,
    region_bytes: usize,
    descriptor: AtomicUsize,
    device: AtomicU64,
    inode: AtomicU64,
    /// Somebody replaces the file.
    replacing: AtomicBool,
    /// The copy made for a child that is about to be.
    copy: AtomicUsize,
    scratch: UnsafeCell<[u8; 4096]>,
}

// SAFETY: what is not atomic is used by the thread that forks alone.
unsafe impl Sync for TierFile {}

const NO_FILE: usize = usize::MAX;

fn fresh_file(directory: &CStr, bytes: usize) -> Result<Fd, i32> {
    let file = sys::raise(sys::unnamed_file(directory)?);
    sys::truncate(&file, bytes as u64)?;
    Ok(file)
}

impl TierFile {
    fn create(directory: &CStr, region: usize, region_bytes: usize) -> Result<TierFile, i32> {
        // A process may run longer than the table is mapped: the name is copied.
        let name: &'static mut [u8] = Vec::from(directory.to_bytes_with_nul()).leak();
        let file = TierFile {
            directory: CStr::from_bytes_with_nul(name).map_err(|_| EINVAL)?,
            region,
            region_bytes,
            descriptor: AtomicUsize::new(NO_FILE),
            device: AtomicU64::new(0),
            inode: AtomicU64::new(0),
            replacing: AtomicBool::new(false),
            copy: AtomicUsize::new(NO_FILE),
            scratch: UnsafeCell::new([0; 4096]),
        };
        file.adopt(fresh_file(file.directory, file.length())?)?;
        Ok(file)
    }

    /// No longer than this process may make files: a longer one would end it.
    fn length(&self) -> usize {
        usize::try_from(sys::limit(sys::RLIMIT_FSIZE)).map_or(self.region_bytes, |limit| self.region_bytes.min(limit))
    }

    fn adopt(&self, file: Fd) -> Result<(), i32> {
        let (device, inode, _) = sys::identity(&file).ok_or(EINVAL)?;
        self.device.store(device, Ordering::Relaxed);
        self.inode.store(inode, Ordering::Relaxed);
        self.descriptor.store(ManuallyDrop::new(file).0, Ordering::Release);
        Ok(())
    }

    /// The file, if its descriptor still is that.
    fn present(&self) -> Option<ManuallyDrop<Fd>> {
        let file = ManuallyDrop::new(Fd(self.descriptor.load(Ordering::Acquire)));
        let (device, inode, _) = sys::identity(&file)?;
        let same = device == self.device.load(Ordering::Relaxed) && inode == self.inode.load(Ordering::Relaxed);
        same.then_some(file)
    }

    fn file(&self) -> Result<ManuallyDrop<Fd>, i32> {
        if let Some(file) = self.present() {
            return Ok(file);
        }
        if self.replacing.swap(true, Ordering::Acquire) {
            return Err(EINVAL);
        }
        let replaced = fresh_file(self.directory, self.length()).and_then(|file| self.adopt(file));
        self.replacing.store(false, Ordering::Release);
        replaced.and_then(|()| self.present().ok_or(EINVAL))
    }

    fn commit(&self, address: usize, bytes: usize) -> Result<(), i32> {
        let offset = address.wrapping_sub(self.region);
        // Beyond the limit the kernel would send a deadly signal.
        if offset.checked_add(bytes).is_none_or(|end| end as u64 > sys::limit(sys::RLIMIT_FSIZE)) {
            return Err(EFBIG);
        }
        let file = self.file()?;
        sys::allocate_storage(&file, offset as u64, bytes as u64)?;
        // SAFETY: part of the region, used by nobody yet.
        unsafe { sys::map_over(address, bytes, sys::PROT_READ_WRITE, sys::MAP_SHARED, Some((&file, offset as u64))) }
    }

    /// Calls `each` with the start and length of what is mapped of files in the region.
    ///
    /// # Safety
    ///
    /// The calling thread is the one that forks.
    unsafe fn for_each_mapping(&self, mut each: impl FnMut(usize, usize)) -> bool {
        // SAFETY: the caller's promise; nothing called below comes here.
        let buffer = unsafe { &mut *self.scratch.get() };
        let region = self.region as u64..(self.region + self.region_bytes) as u64;
        crate::maps::for_each(buffer, |mapping| {
            if mapping.inode != 0 && region.contains(&mapping.start) {
                each(mapping.start as usize, (mapping.end.min(region.end) - mapping.start) as usize);
            }
            mapping.start < region.end
        })
    }

    /// Before a fork: copies everything, since a shared mapping would be the child's, too. Nobody else allocates or
    /// frees meanwhile. What other threads write while the copy is made may or may not be in it, as they have no say in
    /// when the fork happens.
    ///
    /// # Safety
    ///
    /// The calling thread is the one that forks, and holds the arena's locks.
    pub(super) unsafe fn prepare_fork(&self) {
        let mut copy = None;
        let mut failed = false;
        // SAFETY: the caller's promise.
        let read = unsafe {
            self.for_each_mapping(|start, bytes| {
                if copy.is_none() {
                    copy = fresh_file(self.directory, self.length()).ok();
                }
                failed |= !copy.as_ref().is_some_and(|copy| self.copy_range(copy, start, bytes));
            })
        };
        if let Some(copy) = copy.filter(|_| read && !failed) {
            self.copy.store(ManuallyDrop::new(copy).0, Ordering::Release);
        }
    }

    fn copy_range(&self, copy: &Fd, start: usize, bytes: usize) -> bool {
        let offset = (start - self.region) as u64;
        if sys::allocate_storage(copy, offset, bytes as u64).is_err() {
            return false;
        }
        let mut done = 0;
        while done < bytes {
            // SAFETY: mapped, and nobody unmaps it while the arena's locks are held.
            match unsafe { sys::write_at(copy, start + done, bytes - done, offset + done as u64) } {
                Ok(count) if count > 0 => done += count,
                _ => return false,
            }
        }
        true
    }

    /// After a fork, in the parent.
    ///
    /// # Safety
    ///
    /// As [`TierFile::prepare_fork`].
    pub(super) unsafe fn parent_after_fork(&self) {
        let copy = self.copy.swap(NO_FILE, Ordering::AcqRel);
        if copy != NO_FILE {
            drop(Fd(copy));
        }
    }

    /// After a fork, in the child: what is mapped becomes the copy's, or, if there is none, the child's alone from the
    /// first write on; then the child sees what its parent writes until it writes itself. The error number is of the
    /// copy that failed.
    ///
    /// # Safety
    ///
    /// As [`TierFile::prepare_fork`].
    pub(super) unsafe fn child_after_fork(&self) -> Result<(), i32> {
        let copy = self.copy.swap(NO_FILE, Ordering::AcqRel);
        let (file, flags) = if copy != NO_FILE {
            (ManuallyDrop::new(Fd(copy)), sys::MAP_SHARED)
        } else {
            (self.file()?, sys::MAP_PRIVATE)
        };
        let mut result = Ok(());
        let mut any = false;
        // SAFETY: replaces mappings by ones with the same contents; the child has no other thread.
        let read = unsafe {
            self.for_each_mapping(|start, bytes| {
                any = true;
                let at = Some((&*file, (start - self.region) as u64));
                if let Err(error) = sys::map_over(start, bytes, sys::PROT_READ_WRITE, flags, at) {
                    result = Err(error);
                }
            })
        };
        let parents = self.descriptor.swap(NO_FILE, Ordering::AcqRel);
        if copy == NO_FILE {
            // The next commit makes a file of the child's own.
            drop(Fd(parents));
            return if any || !read { result.and(Err(sys::ENOSPC)) } else { result };
        }
        drop(Fd(parents));
        result.and(self.adopt(ManuallyDrop::into_inner(file)))
    }
}
