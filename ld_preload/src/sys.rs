//! The system calls the shim makes, directly: no C library, no `errno`, nothing interposed.
//!
//! Results are those of the kernel; callers look at the sign and give up on what is negative.

use crate::arch;

/// `MAP_PRIVATE`.
pub(crate) const MAP_PRIVATE: usize = 2;
/// `MAP_SHARED`.
pub(crate) const MAP_SHARED: usize = 1;
/// `MAP_ANONYMOUS`.
pub(crate) const MAP_ANONYMOUS: usize = 0x20;
/// `MAP_NORESERVE`.
pub(crate) const MAP_NORESERVE: usize = 0x4000;
/// `PROT_NONE`.
pub(crate) const PROT_NONE: usize = 0;
/// `PROT_READ`.
pub(crate) const PROT_READ: usize = 1;
/// `PROT_READ | PROT_WRITE`.
pub(crate) const PROT_READ_WRITE: usize = 3;
/// `MADV_DONTDUMP`.
pub(crate) const MADV_DONTDUMP: usize = 16;
/// `MADV_WIPEONFORK`.
pub(crate) const MADV_WIPEONFORK: usize = 18;
/// `MFD_CLOEXEC | MFD_ALLOW_SEALING`.
pub(crate) const MFD_SEALABLE: usize = 3;
/// `MFD_NOEXEC_SEAL`, since Linux 6.3.
pub(crate) const MFD_NOEXEC_SEAL: usize = 8;
/// `RLIMIT_FSIZE`.
pub(crate) const RLIMIT_FSIZE: usize = 1;
/// `RLIMIT_STACK`.
pub(crate) const RLIMIT_STACK: usize = 3;
/// `RLIMIT_AS`.
pub(crate) const RLIMIT_AS: usize = 9;
/// No limit.
pub(crate) const RLIM_INFINITY: u64 = u64::MAX;

/// `MAP_FIXED`.
pub(crate) const MAP_FIXED: usize = 0x10;
/// `MADV_DONTNEED`.
pub(crate) const MADV_DONTNEED: usize = 4;
/// `MADV_REMOVE`.
pub(crate) const MADV_REMOVE: usize = 9;
/// `MADV_POPULATE_WRITE`, since Linux 5.14.
pub(crate) const MADV_POPULATE_WRITE: usize = 23;
/// `MADV_DODUMP`.
pub(crate) const MADV_DODUMP: usize = 17;
/// `MADV_COLD`.
pub(crate) const MADV_COLD: usize = 20;
/// `ENOENT`.
pub(crate) const ENOENT: i32 = 2;
/// `EAGAIN`.
pub(crate) const EAGAIN: i32 = 11;
/// `ENOMEM`.
pub(crate) const ENOMEM: i32 = 12;
/// `EBUSY`.
pub(crate) const EBUSY: i32 = 16;
/// `ENODEV`.
pub(crate) const ENODEV: i32 = 19;
/// `EINVAL`.
pub(crate) const EINVAL: i32 = 22;
/// `EFBIG`.
pub(crate) const EFBIG: i32 = 27;
/// `ENOSPC`.
pub(crate) const ENOSPC: i32 = 28;
/// `EOPNOTSUPP`.
pub(crate) const EOPNOTSUPP: i32 = 95;

const EINTR: isize = -4;
const AT_FDCWD: usize = -100_isize as usize;
const O_RDONLY_CLOEXEC: usize = 0o2_000_000;

macro_rules! call {
    ($number:expr $(, $argument:expr)*) => {{
        let given = [$($argument),*];
        let mut all = [0_usize; 6];
        for (to, from) in all.iter_mut().zip(given) {
            *to = from;
        }
        arch::syscall($number, all)
    }};
}

/// A descriptor that closes itself.
#[derive(Debug)]
pub(crate) struct Fd(pub(crate) usize);

impl Drop for Fd {
    fn drop(&mut self) {
        // SAFETY: we own the descriptor.
        unsafe { call!(3, self.0) };
    }
}

fn fd(result: isize) -> Option<Fd> {
    usize::try_from(result).ok().map(Fd)
}

/// Opens a file for reading; `path` ends with a zero byte.
pub(crate) fn open(path: &[u8]) -> Option<Fd> {
    if path.last() != Some(&0) {
        return None;
    }
    // SAFETY: a terminated string.
    fd(unsafe { call!(257, AT_FDCWD, path.as_ptr() as usize, O_RDONLY_CLOEXEC) })
}

/// Reads at the file's position; `None` on error.
pub(crate) fn read(file: &Fd, buffer: &mut [u8]) -> Option<usize> {
    loop {
        // SAFETY: the kernel writes within the buffer.
        let count = unsafe { call!(0, file.0, buffer.as_mut_ptr() as usize, buffer.len()) };
        if count != EINTR {
            return usize::try_from(count).ok();
        }
    }
}

/// Reads at `offset`; `None` on error.
pub(crate) fn read_at(file: &Fd, buffer: &mut [u8], offset: u64) -> Option<usize> {
    loop {
        // SAFETY: the kernel writes within the buffer.
        let count = unsafe { call!(17, file.0, buffer.as_mut_ptr() as usize, buffer.len(), offset as usize) };
        if count != EINTR {
            return usize::try_from(count).ok();
        }
    }
}

/// The inode number of an open file.
pub(crate) fn inode(file: &Fd) -> Option<u64> {
    let mut status = [0_u64; 18];
    // SAFETY: `struct stat` has 144 bytes, the second word is the inode.
    let result = unsafe { call!(5, file.0, status.as_mut_ptr() as usize) };
    status.get(1).copied().filter(|_| result == 0)
}

/// Maps memory where the kernel likes; `None` on error.
pub(crate) fn map(bytes: usize, protection: usize, flags: usize, file: Option<&Fd>, offset: u64) -> Option<*mut u8> {
    let fd = file.map_or(usize::MAX, |file| file.0);
    // SAFETY: a fresh mapping disturbs nobody.
    let address = unsafe { call!(9, 0, bytes, protection, flags, fd, offset as usize) };
    usize::try_from(address).ok().map(|address| address as *mut u8)
}

/// Fresh zeroed memory, named so that it can be told apart in `/proc/PID/smaps`.
pub(crate) fn map_private(bytes: usize) -> Option<*mut u8> {
    let address = map(bytes, PROT_READ_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, None, 0)?;
    const PR_SET_VMA: usize = 0x5356_4d41;
    // SAFETY: names our own mapping; kernels that cannot refuse.
    unsafe { call!(157, PR_SET_VMA, 0, address as usize, bytes, c"tierscope".as_ptr() as usize) };
    Some(address)
}

/// Unmaps.
///
/// # Safety
///
/// The range is a mapping of ours that nothing refers to any more.
pub(crate) unsafe fn unmap(address: *mut u8, bytes: usize) {
    // SAFETY: the caller's promise.
    unsafe { call!(11, address as usize, bytes) };
}

/// Changes the protection of a mapping of ours.
///
/// # Safety
///
/// The range is ours, and nobody uses it in a way the new protection forbids.
pub(crate) unsafe fn protect(address: *mut u8, bytes: usize, protection: usize) -> bool {
    // SAFETY: the caller's promise.
    unsafe { call!(10, address as usize, bytes, protection) == 0 }
}

/// `madvise`.
///
/// # Safety
///
/// The range is ours, and the advice is harmless or its effect intended.
pub(crate) unsafe fn advise(address: *mut u8, bytes: usize, advice: usize) -> bool {
    // SAFETY: the caller's promise.
    unsafe { call!(28, address as usize, bytes, advice) == 0 }
}

/// Maps memory over a range of ours; the error number where that cannot be, and the range is as it was.
///
/// # Safety
///
/// The range is a mapping of ours that nobody uses, or uses in a way the new one serves.
pub(crate) unsafe fn map_over(
    address: usize,
    bytes: usize,
    protection: usize,
    flags: usize,
    file: Option<(&Fd, u64)>,
) -> Result<(), i32> {
    let (fd, offset) = file.map_or((usize::MAX, 0), |(file, offset)| (file.0, offset as usize));
    // SAFETY: the caller's promise.
    let result = unsafe { call!(9, address, bytes, protection, flags | MAP_FIXED, fd, offset) };
    if result < 0 { Err(-result as i32) } else { Ok(()) }
}

fn outcome(result: isize) -> Result<(), i32> {
    if result < 0 { Err(-result as i32) } else { Ok(()) }
}

/// `mbind`: where the pages of a range of mapped memory come from. `nodes` is a mask of NUMA nodes.
pub(crate) fn bind_memory(address: usize, bytes: usize, mode: usize, nodes: &[u64], flags: usize) -> Result<(), i32> {
    // The kernel counts one bit more than it reads.
    let bits = nodes.len() * 64 + 1;
    // SAFETY: changes where pages are, not what is in them; the mask is as long as said.
    outcome(unsafe { call!(237, address, bytes, mode, nodes.as_ptr() as usize, bits, flags) })
}

/// `set_mempolicy`: where the calling thread's pages come from, and those of threads and programs it starts.
pub(crate) fn set_memory_policy(mode: usize, nodes: &[u64]) -> Result<(), i32> {
    let bits = nodes.len() * 64 + 1;
    // SAFETY: the mask is as long as said.
    outcome(unsafe { call!(238, mode, nodes.as_ptr() as usize, bits) })
}

/// `get_mempolicy`: what `set_mempolicy` chose for the calling thread, its mode and nodes.
pub(crate) fn memory_policy(nodes: &mut [u64]) -> Option<usize> {
    let bits = nodes.len() * 64 + 1;
    let mut mode = 0_i32;
    // SAFETY: the kernel writes the mode, and a mask no longer than said.
    let result = unsafe { call!(239, (&raw mut mode) as usize, nodes.as_mut_ptr() as usize, bits, 0, 0) };
    (result == 0).then_some(mode as usize)
}

/// Opens a file for reading and writing; the error number where that cannot be.
pub(crate) fn open_to_write(path: &core::ffi::CStr) -> Result<Fd, i32> {
    const O_RDWR_CLOEXEC_NOCTTY: usize = 2 | 0o2_000_000 | 0o400;
    // SAFETY: a terminated string.
    let result = unsafe { call!(257, AT_FDCWD, path.as_ptr() as usize, O_RDWR_CLOEXEC_NOCTTY) };
    fd(result).ok_or(-result as i32)
}

/// Locks a file for whoever has it open by this descriptor or a mapping made with it, without waiting.
pub(crate) fn lock(file: &Fd) -> Result<(), i32> {
    const LOCK_EX_NB: usize = 2 | 4;
    // SAFETY: no memory involved.
    outcome(unsafe { call!(73, file.0, LOCK_EX_NB) })
}

/// The number of the character device that an open file is, if it is one.
pub(crate) fn character_device(file: &Fd) -> Option<u64> {
    const S_IFMT: u64 = 0o170_000;
    const S_IFCHR: u64 = 0o020_000;
    let mut status = [0_u64; 18];
    // SAFETY: `struct stat` has 144 bytes: the mode is the low half of the fourth word, the device's number the sixth.
    let result = unsafe { call!(5, file.0, status.as_mut_ptr() as usize) };
    (result == 0 && status[3] & S_IFMT == S_IFCHR).then_some(status[5])
}

/// Moves a mapping over another range of ours.
///
/// # Safety
///
/// The mapping at `from` is ours and referred to by nobody; the range at `to` as in [`map_over`].
pub(crate) unsafe fn move_mapping(from: usize, bytes: usize, to: usize) -> Result<(), i32> {
    const MREMAP_MAYMOVE_FIXED: usize = 1 | 2;
    // SAFETY: the caller's promise.
    outcome(unsafe { call!(25, from, bytes, bytes, MREMAP_MAYMOVE_FIXED, to) })
}

/// A file without a name in a directory.
pub(crate) fn unnamed_file(directory: &core::ffi::CStr) -> Result<Fd, i32> {
    const O_TMPFILE_RDWR_CLOEXEC: usize = 0o20_200_000 | 2 | 0o2_000_000;
    // SAFETY: a terminated string.
    let result = unsafe { call!(257, AT_FDCWD, directory.as_ptr() as usize, O_TMPFILE_RDWR_CLOEXEC, 0o600) };
    fd(result).ok_or(-result as i32)
}

/// Device, inode number and length of an open file.
pub(crate) fn identity(file: &Fd) -> Option<(u64, u64, u64)> {
    let mut status = [0_u64; 18];
    // SAFETY: `struct stat` has 144 bytes: the device, the inode, and as seventh word the length.
    let result = unsafe { call!(5, file.0, status.as_mut_ptr() as usize) };
    (result == 0).then(|| (status[0], status[1], status[6]))
}

/// Sets a file's length.
pub(crate) fn truncate(file: &Fd, bytes: u64) -> Result<(), i32> {
    // SAFETY: no memory involved.
    outcome(unsafe { call!(77, file.0, bytes as usize) })
}

/// Sees to it that a file has storage for a range.
pub(crate) fn allocate_storage(file: &Fd, offset: u64, bytes: u64) -> Result<(), i32> {
    // SAFETY: no memory involved.
    outcome(unsafe { call!(285, file.0, 0, offset as usize, bytes as usize) })
}

/// Writes memory that may be written to by others meanwhile into a file; the number of bytes written.
///
/// # Safety
///
/// The range is mapped and readable.
pub(crate) unsafe fn write_at(file: &Fd, address: usize, bytes: usize, offset: u64) -> Result<usize, i32> {
    // SAFETY: the kernel reads the range, whatever it holds.
    let count = unsafe { call!(18, file.0, address, bytes, offset as usize) };
    usize::try_from(count).map_err(|_| -count as i32)
}

/// Lets other threads run.
pub(crate) fn yield_processor() {
    // SAFETY: no memory involved.
    unsafe { call!(24) };
}

/// Sleeps so many nanoseconds, less than a second.
pub(crate) fn sleep_ns(ns: u64) {
    let time = [0_u64, ns];
    // SAFETY: `struct timespec` is two words.
    unsafe { call!(35, time.as_ptr() as usize, 0) };
}

/// An anonymous file.
pub(crate) fn memfd(name: &core::ffi::CStr, flags: usize) -> Option<Fd> {
    // SAFETY: a terminated string.
    fd(unsafe { call!(319, name.as_ptr() as usize, flags) })
}

/// Sets a file's length and forbids changing it again.
pub(crate) fn truncate_and_seal(file: &Fd, bytes: u64) -> bool {
    const F_ADD_SEALS: usize = 1033;
    const SEAL_SHRINK_GROW: usize = 2 | 4;
    // SAFETY: no memory involved.
    unsafe { call!(77, file.0, bytes as usize) == 0 && call!(72, file.0, F_ADD_SEALS, SEAL_SHRINK_GROW) == 0 }
}

/// Moves a descriptor to a number of 512 or more where that is allowed, out of the way of programs that count on
/// getting the lowest.
pub(crate) fn raise(file: Fd) -> Fd {
    const F_DUPFD_CLOEXEC: usize = 1030;
    // SAFETY: no memory involved.
    fd(unsafe { call!(72, file.0, F_DUPFD_CLOEXEC, 512) }).unwrap_or(file)
}

/// Connects to the socket at `path`, without waiting.
pub(crate) fn connect(path: &[u8]) -> Option<Fd> {
    const AF_UNIX: u16 = 1;
    const SEQPACKET_NONBLOCK_CLOEXEC: usize = 5 | 0o4000 | 0o2_000_000;
    let mut address = [0_u8; 110];
    let (family, name) = address.split_at_mut(2);
    family.copy_from_slice(&AF_UNIX.to_ne_bytes());
    // Leaves the terminating zero.
    name.get_mut(..path.len()).filter(|_| path.len() < 108)?.copy_from_slice(path);
    // SAFETY: no memory involved.
    let socket = raise(fd(unsafe { call!(41, AF_UNIX as usize, SEQPACKET_NONBLOCK_CLOEXEC, 0) })?);
    // SAFETY: the address is as long as said.
    let result = unsafe { call!(42, socket.0, address.as_ptr() as usize, 2 + path.len() + 1) };
    (result == 0).then_some(socket)
}

/// Sends `message` with a descriptor attached, without waiting or raising a signal.
pub(crate) fn send_with_fd(socket: &Fd, message: &[u8], attached: &Fd) -> bool {
    const SOL_SOCKET: u64 = 1;
    const SCM_RIGHTS: u64 = 1;
    const DONTWAIT_NOSIGNAL: usize = 0x40 | 0x4000;
    // struct cmsghdr { len: usize, level: i32, type: i32 }, then the descriptor, padded to a word.
    let control = [20_u64, SOL_SOCKET | SCM_RIGHTS << 32, attached.0 as u64];
    let io = [message.as_ptr() as usize, message.len()];
    // struct msghdr { name, namelen, iov, iovlen, control, controllen, flags }.
    let header = [0, 0, io.as_ptr() as usize, 1, control.as_ptr() as usize, 24, 0];
    // SAFETY: everything the header points to outlives the call.
    let sent = unsafe { call!(46, socket.0, header.as_ptr() as usize, DONTWAIT_NOSIGNAL) };
    usize::try_from(sent) == Ok(message.len())
}

/// The mapping of this process that holds `address`, by its open `maps` file; Linux 6.11 and later.
pub(crate) fn mapping_of(maps: &Fd, address: usize) -> Option<(usize, usize)> {
    // _IOWR('f', 17, struct procmap_query)
    const PROCMAP_QUERY: usize = 0xc068_6611;
    // struct procmap_query { size, flags, address, start, end, ... }, thirteen words.
    let mut query = [0_u64; 13];
    query[0] = size_of_val(&query) as u64;
    query[2] = address as u64;
    // SAFETY: the kernel writes within the structure.
    let result = unsafe { call!(16, maps.0, PROCMAP_QUERY, query.as_mut_ptr() as usize) };
    (result == 0).then_some((query[3] as usize, query[4] as usize))
}

/// Holds all signals back, and returns the mask as it was.
pub(crate) fn block_signals() -> u64 {
    let (all, mut before) = (u64::MAX, 0_u64);
    const SIG_SETMASK: usize = 2;
    // SAFETY: masks are one word.
    unsafe { call!(14, SIG_SETMASK, (&raw const all) as usize, (&raw mut before) as usize, 8) };
    before
}

/// Sets the signal mask to what [`block_signals`] returned.
pub(crate) fn restore_signals(mask: u64) {
    const SIG_SETMASK: usize = 2;
    // SAFETY: masks are one word.
    unsafe { call!(14, SIG_SETMASK, (&raw const mask) as usize, 0, 8) };
}

/// The soft limit of a resource.
pub(crate) fn limit(resource: usize) -> u64 {
    let mut limits = [0_u64; 2];
    // SAFETY: `struct rlimit64` is two words.
    let result = unsafe { call!(302, 0, resource, 0, limits.as_mut_ptr() as usize) };
    if result == 0 { limits[0] } else { RLIM_INFINITY }
}

/// This process.
pub(crate) fn process_id() -> u32 {
    // SAFETY: no memory involved.
    unsafe { call!(39) as u32 }
}

/// This thread.
pub(crate) fn thread_id() -> u32 {
    // SAFETY: no memory involved.
    unsafe { call!(186) as u32 }
}

/// Whether thread `tid` of process `pid` no longer exists.
pub(crate) fn is_dead(pid: u32, tid: u32) -> bool {
    const ESRCH: isize = -3;
    // SAFETY: signal 0 is none.
    unsafe { call!(234, pid as usize, tid as usize, 0) == ESRCH }
}

/// Copies our own memory at `from`, mapped or not; the number of bytes copied.
pub(crate) fn peek(pid: u32, from: usize, into: &mut [u8]) -> usize {
    let local = [into.as_mut_ptr() as usize, into.len()];
    let remote = [from, into.len()];
    // SAFETY: the kernel checks the source and writes within the buffer.
    let count = unsafe { call!(310, pid as usize, local.as_ptr() as usize, 1, remote.as_ptr() as usize, 1, 0) };
    usize::try_from(count).unwrap_or(0)
}

/// `CLOCK_MONOTONIC` by system call, in nanoseconds.
pub(crate) fn monotonic_ns() -> u64 {
    let mut time = [0_u64; 2];
    // SAFETY: `struct timespec` is two words.
    unsafe { call!(228, 1, time.as_mut_ptr() as usize) };
    time[0].wrapping_mul(1_000_000_000).wrapping_add(time[1])
}
