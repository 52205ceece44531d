//! Pages: tracking writes to them, moving them, advising on them. All on one page mapped for the purpose.

use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;

use super::Errno;

/// One anonymous page, touched.
struct Page {
    address: *mut u8,
    length: usize,
}

impl Page {
    fn new() -> Result<Self, Errno> {
        // SAFETY: sysconf has no preconditions.
        let length = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new anonymous mapping at an address the kernel chooses.
        let address = unsafe { libc::mmap(std::ptr::null_mut(), length, protection, flags, -1, 0) };
        if address == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        let page = Self { address: address.cast(), length };
        page.write();
        Ok(page)
    }

    fn write(&self) {
        // SAFETY: the first byte of a writable mapping that nobody else knows.
        unsafe { self.address.write_volatile(1) };
    }

    fn start(&self) -> u64 {
        self.address.addr() as u64
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `new`.
        unsafe { libc::munmap(self.address.cast(), self.length) };
    }
}

fn ioctl<T>(descriptor: &impl AsRawFd, request: u64, argument: &mut T) -> Result<i64, Errno> {
    // SAFETY: every caller passes the structure its request is defined for, alive and writable for the call.
    Errno::check(i64::from(unsafe { libc::ioctl(descriptor.as_raw_fd(), request as _, std::ptr::from_mut(argument)) }))
}

/// The kernel's `_IOWR(type, number, T)`.
const fn io_read_write<T>(kind: u8, number: u8) -> u64 {
    3 << 30 | (size_of::<T>() as u64) << 16 | (kind as u64) << 8 | number as u64
}

/// `struct uffdio_api`.
#[repr(C)]
struct UserfaultApi {
    api: u64,
    features: u64,
    ioctls: u64,
}

const UFFD_API: u64 = 0xaa;
const UFFD_USER_MODE_ONLY: i32 = 1;
/// Write-protected pages that become writable at the first write, by themselves (Linux 6.7).
const UFFD_FEATURE_WP_ASYNC: u64 = 1 << 15;

pub(super) struct WriteProbes {
    pub(super) userfaultfd: Result<(), Errno>,
    pub(super) write_tracking: Result<(), Errno>,
}

impl WriteProbes {
    pub(super) fn here() -> Self {
        let open = |features: u64| {
            // SAFETY: userfaultfd takes flags only.
            let descriptor = unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC | UFFD_USER_MODE_ONLY) };
            let descriptor = i32::try_from(Errno::check(descriptor)?).map_err(|_| Errno(libc::EIO))?;
            // SAFETY: the kernel just gave us this descriptor.
            let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
            let mut api = UserfaultApi { api: UFFD_API, features, ioctls: 0 };
            ioctl(&descriptor, io_read_write::<UserfaultApi>(0xaa, 0x3f), &mut api).map(drop)
        };
        Self { userfaultfd: open(0), write_tracking: open(UFFD_FEATURE_WP_ASYNC) }
    }
}

/// `struct pm_scan_arg`.
#[repr(C)]
#[derive(Default)]
struct PagemapScan {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

/// `struct page_region`.
#[repr(C)]
#[derive(Default)]
struct PageRegion {
    start: u64,
    end: u64,
    categories: u64,
}

pub(super) fn pagemap_scan() -> Result<(), Errno> {
    const PAGE_IS_PRESENT: u64 = 1 << 3;
    let page = Page::new()?;
    let pagemap = File::open("/proc/self/pagemap").map_err(|error| Errno::of(&error))?;
    let mut region = PageRegion::default();
    let mut scan = PagemapScan {
        size: size_of::<PagemapScan>() as u64,
        start: page.start(),
        end: page.start() + page.length as u64,
        vec: (&raw mut region).addr() as u64,
        vec_len: 1,
        category_mask: PAGE_IS_PRESENT,
        return_mask: PAGE_IS_PRESENT,
        ..PagemapScan::default()
    };
    let found = ioctl(&pagemap, io_read_write::<PagemapScan>(b'f', 16), &mut scan)?;
    if found == 1 && region.start == page.start() { Ok(()) } else { Err(Errno(libc::EOPNOTSUPP)) }
}

/// Write, clear, write again: on a kernel without soft-dirty the bit stays 0 throughout, and clearing "succeeds".
pub(super) fn soft_dirty() -> Result<bool, Errno> {
    let page = Page::new()?;
    let pagemap = File::open("/proc/self/pagemap").map_err(|error| Errno::of(&error))?;
    let dirty = || {
        let mut entry = [0; 8];
        let offset = page.start() / page.length as u64 * 8;
        pagemap.read_exact_at(&mut entry, offset).map_err(|error| Errno::of(&error))?;
        Ok(u64::from_ne_bytes(entry) >> 55 & 1 == 1)
    };
    std::fs::write("/proc/self/clear_refs", "4").map_err(|error| Errno::of(&error))?;
    let before = dirty()?;
    page.write();
    Ok(!before && dirty()?)
}

pub(super) fn process_madvise() -> Result<(), Errno> {
    let page = Page::new()?;
    // SAFETY: pidfd_open takes numbers only.
    let descriptor = Errno::check(unsafe { libc::syscall(libc::SYS_pidfd_open, std::process::id(), 0) })?;
    let descriptor = i32::try_from(descriptor).map_err(|_| Errno(libc::EIO))?;
    // SAFETY: the kernel just gave us this descriptor.
    let process = unsafe { OwnedFd::from_raw_fd(descriptor) };
    let range = libc::iovec { iov_base: page.address.cast(), iov_len: page.length };
    // SAFETY: one range, alive for the call, over a page of ours; MADV_COLD changes no content.
    let advised = unsafe {
        libc::syscall(libc::SYS_process_madvise, process.as_raw_fd(), &raw const range, 1, libc::MADV_COLD, 0)
    };
    Errno::check(advised).map(drop)
}

/// Ask where a page is, then "move" it there.
pub(super) fn move_pages() -> Result<(), Errno> {
    let page = Page::new()?;
    let pages = [page.address];
    let mut status = [0_i32];
    let mut call = |nodes: *const i32| {
        // SAFETY: arrays of one page, one node and one status, alive for the call.
        let moved =
            unsafe { libc::syscall(libc::SYS_move_pages, 0, 1_u64, pages.as_ptr(), nodes, status.as_mut_ptr(), 0) };
        Errno::check(moved).map(|_| status[0])
    };
    let node = call(std::ptr::null())?;
    let node = if node < 0 { return Err(Errno(-node)) } else { [node] };
    match call(node.as_ptr())? {
        status if status < 0 => Err(Errno(-status)),
        _ => Ok(()),
    }
}

pub(super) fn mbind() -> Result<(), Errno> {
    const MPOL_PREFERRED: i32 = 1;
    let page = Page::new()?;
    let nodes: u64 = 1;
    // SAFETY: a mask of one word, of which the kernel reads 63 bits, over a page of ours.
    let bound = unsafe {
        libc::syscall(libc::SYS_mbind, page.address, page.length, MPOL_PREFERRED, &raw const nodes, 64_u64, 0)
    };
    Errno::check(bound).map(drop)
}

pub(super) fn mapping_names() -> Result<(), Errno> {
    const PR_SET_VMA: i32 = 0x5356_4d41;
    const PR_SET_VMA_ANON_NAME: u64 = 0;
    let page = Page::new()?;
    // SAFETY: names a mapping of ours with a string that outlives the call.
    let named =
        unsafe { libc::prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, page.address, page.length, c"tierscope".as_ptr()) };
    Errno::check(i64::from(named)).map(drop)
}
