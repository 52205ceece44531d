//! Memory for arenas under test: real mappings, or (for Miri too) plain memory that checks what it is asked.

#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(unreachable_pub, reason = "a module of several test programs")]
#![allow(clippy::unwrap_used, reason = "clippy takes only functions marked as tests for tests")]

use std::alloc::{Layout, alloc, alloc_zeroed, dealloc};
use std::ptr::NonNull;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tierscope_arena::{Arena, PAGE, Pages, SEGMENT, Settings};

/// What every page of the region is to [`Checked`].
const UNCOMMITTED: u16 = u16::MAX;

/// How pages become accessible.
pub trait Backing: Sync {
    fn make(&self, address: usize, bytes: usize) -> bool;
    fn unmake(&self, address: usize, bytes: usize);
}

/// Real mappings: a page that is not committed faults.
#[derive(Debug)]
pub struct Mapped;

#[cfg(not(miri))]
impl Backing for Mapped {
    fn make(&self, address: usize, bytes: usize) -> bool {
        // SAFETY: a range of the region, which is ours.
        unsafe { libc::mprotect(address as *mut _, bytes, libc::PROT_READ | libc::PROT_WRITE) == 0 }
    }

    fn unmake(&self, address: usize, bytes: usize) {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED;
        // SAFETY: a range of the region, which is ours, and holds no block.
        let mapped = unsafe { libc::mmap(address as *mut _, bytes, libc::PROT_NONE, flags, -1, 0) };
        assert_eq!(mapped as usize, address);
    }
}

/// Plain memory, zeroed when it is committed and soiled when it is not.
#[derive(Debug)]
pub struct Plain(pub NonNull<u8>);

// SAFETY: the ranges threads work on are disjoint.
unsafe impl Sync for Plain {}

impl Backing for Plain {
    fn make(&self, address: usize, bytes: usize) -> bool {
        // SAFETY: within the region, where no block is.
        unsafe { self.0.as_ptr().with_addr(address).write_bytes(0, bytes) };
        true
    }

    fn unmake(&self, address: usize, bytes: usize) {
        // SAFETY: as above.
        unsafe { self.0.as_ptr().with_addr(address).write_bytes(0xdd, bytes) };
    }
}

/// Holds the arena to its side of the contract: whole pages, none committed twice or given back by another tier.
#[derive(Debug)]
pub struct Checked<B> {
    backing: B,
    start: usize,
    owners: Mutex<Vec<u16>>,
    bytes: [AtomicUsize; 8],
    pub commits: AtomicUsize,
    pub decommits: AtomicUsize,
    /// Refuse the next commits.
    pub refuse: AtomicBool,
}

impl<B> Checked<B> {
    fn new(backing: B, start: usize, bytes: usize) -> Self {
        Checked {
            backing,
            start,
            owners: Mutex::new(vec![UNCOMMITTED; bytes / PAGE]),
            bytes: Default::default(),
            commits: AtomicUsize::new(0),
            decommits: AtomicUsize::new(0),
            refuse: AtomicBool::new(false),
        }
    }

    fn replace(&self, address: usize, bytes: usize, from: u16, to: u16) {
        assert!(bytes > 0 && address.is_multiple_of(PAGE) && bytes.is_multiple_of(PAGE));
        let first = (address - self.start) / PAGE;
        for owner in &mut self.owners.lock().unwrap()[first..first + bytes / PAGE] {
            assert_eq!(*owner, from);
            *owner = to;
        }
    }

    /// Bytes committed to a tier.
    pub fn committed(&self, tier: usize) -> usize {
        self.bytes[tier].load(Ordering::Relaxed)
    }

    /// System calls there would have been.
    pub fn calls(&self) -> usize {
        self.commits.load(Ordering::Relaxed) + self.decommits.load(Ordering::Relaxed)
    }
}

/// Sees what the arena asked of it, though the arena owns it.
#[derive(Debug)]
pub struct Shared<'a, B>(pub &'a Checked<B>);

impl<B: Backing> Pages for Shared<'_, B> {
    fn commit(&self, tier: usize, address: usize, bytes: usize) -> bool {
        if self.0.refuse.load(Ordering::Relaxed) {
            return false;
        }
        self.0.commits.fetch_add(1, Ordering::Relaxed);
        self.0.replace(address, bytes, UNCOMMITTED, tier as u16);
        self.0.bytes[tier].fetch_add(bytes, Ordering::Relaxed);
        self.0.backing.make(address, bytes)
    }

    fn decommit(&self, tier: usize, address: usize, bytes: usize) {
        self.0.decommits.fetch_add(1, Ordering::Relaxed);
        self.0.replace(address, bytes, tier as u16, UNCOMMITTED);
        self.0.bytes[tier].fetch_sub(bytes, Ordering::Relaxed);
        self.0.backing.unmake(address, bytes);
    }

    fn relax(&self, _: u32) {
        std::thread::yield_now();
    }
}

fn metadata_of<B: Backing>(bytes: usize, settings: &Settings) -> Layout {
    let bytes = Arena::<Shared<'_, B>>::metadata_bytes(bytes, settings).unwrap();
    Layout::from_size_align(bytes, PAGE).unwrap()
}

fn with<B: Backing>(
    region: NonNull<u8>,
    bytes: usize,
    settings: Settings,
    backing: B,
    test: impl FnOnce(&Arena<'_, Shared<'_, B>>, &Checked<B>),
) {
    let pages = Checked::new(backing, region.as_ptr() as usize, bytes);
    let layout = metadata_of::<B>(bytes, &settings);
    // SAFETY: the region is the caller's and outlives the arena, as does the metadata.
    unsafe {
        let metadata = NonNull::new(alloc_zeroed(layout)).unwrap();
        let arena = Arena::create(region, bytes, metadata, layout.size(), settings, Shared(&pages)).unwrap();
        test(arena, &pages);
        dealloc(metadata.as_ptr(), layout);
    }
}

/// Runs a test on plain memory.
pub fn plain(segments: usize, settings: Settings, test: impl FnOnce(&Arena<'_, Shared<'_, Plain>>, &Checked<Plain>)) {
    let layout = Layout::from_size_align(segments * SEGMENT, SEGMENT).unwrap();
    // SAFETY: the size is not zero.
    let region = NonNull::new(unsafe { alloc(layout) }).unwrap();
    with(region, layout.size(), settings, Plain(region), test);
    // SAFETY: allocated above.
    unsafe { dealloc(region.as_ptr(), layout) };
}

/// Runs a test on a reserved range of addresses, of which only what is committed can be touched.
#[cfg(not(miri))]
pub fn mapped(
    segments: usize,
    settings: Settings,
    test: impl FnOnce(&Arena<'_, Shared<'_, Mapped>>, &Checked<Mapped>),
) {
    let bytes = segments * SEGMENT;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a fresh mapping.
    let reserved = unsafe { libc::mmap(std::ptr::null_mut(), bytes + SEGMENT, libc::PROT_NONE, flags, -1, 0) };
    assert_ne!(reserved, libc::MAP_FAILED);
    let start = (reserved as usize).next_multiple_of(SEGMENT);
    with(NonNull::new(start as *mut u8).unwrap(), bytes, settings, Mapped, test);
    // SAFETY: mapped above.
    unsafe { libc::munmap(reserved, bytes + SEGMENT) };
}
