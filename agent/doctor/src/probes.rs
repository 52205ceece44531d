//! System calls that are really made, and what came of them.
//!
//! Each probe acts on this process, on memory it maps for the purpose, or on a child that it forks and ends. Each is
//! independent: one that fails says so and stops no other.

mod memory;
mod perf;
mod process;

use std::fmt;
use std::path::PathBuf;

/// An error number of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub i32);

impl Errno {
    /// That of the last call that failed in this thread.
    pub(crate) fn last() -> Self {
        Self::of(&std::io::Error::last_os_error())
    }

    /// That of a failed read or write.
    pub(crate) fn of(error: &std::io::Error) -> Self {
        Self(error.raw_os_error().unwrap_or(libc::EIO))
    }

    /// The result of a call that returns -1 on failure.
    pub(crate) fn check(result: i64) -> Result<i64, Self> {
        if result < 0 { Err(Self::last()) } else { Ok(result) }
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.0 {
            libc::EPERM => "EPERM",
            libc::EACCES => "EACCES",
            libc::ENOSYS => "ENOSYS",
            libc::ENOENT => "ENOENT",
            libc::EINVAL => "EINVAL",
            libc::EOPNOTSUPP => "EOPNOTSUPP",
            libc::ENODEV => "ENODEV",
            libc::ENOTTY => "ENOTTY",
            libc::EMFILE => "EMFILE",
            libc::ENOMEM => "ENOMEM",
            libc::ESRCH => "ESRCH",
            number => return write!(formatter, "error {number}"),
        };
        formatter.write_str(name)
    }
}

/// What was tried: `Ok` if it worked, else the kernel's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probes {
    /// perf_event_open of cpu-clock on this process, user mode only.
    pub clock: Result<(), Errno>,
    /// The same, kernel mode included.
    pub clock_kernel: Result<(), Errno>,
    /// perf_event_open of page faults with addresses.
    pub fault: Result<(), Errno>,
    /// perf_event_open of hardware cycles.
    pub cycles: Result<(), Errno>,
    /// The same with precise_ip 2: PEBS, or IBS on AMD (which older kernels give only with kernel mode included).
    pub precise: Result<(), Errno>,
    /// Mapping a sample ring of 512 KiB on the clock event.
    pub ring: Result<(), Errno>,
    /// process_vm_readv of a child.
    pub read_child: Result<(), Errno>,
    /// userfaultfd as this user would get it.
    pub userfaultfd: Result<(), Errno>,
    /// Write-protection by userfaultfd without a handler (WP_ASYNC).
    pub write_tracking: Result<(), Errno>,
    /// The PAGEMAP_SCAN ioctl.
    pub pagemap_scan: Result<(), Errno>,
    /// Whether the soft-dirty bit follows a write, an idle period, and a write.
    pub soft_dirty: bool,
    /// process_madvise(MADV_COLD) through a pidfd.
    pub process_madvise: Result<(), Errno>,
    /// move_pages of a page of this process to the node it is on.
    pub move_pages: Result<(), Errno>,
    /// mbind of a page of this process to its node.
    pub mbind: Result<(), Errno>,
    /// Naming an anonymous mapping (PR_SET_VMA_ANON_NAME).
    pub mapping_names: Result<(), Errno>,
    /// Where the shim would be put.
    pub directory: DirectoryProbe,
}

/// A directory for the shim: private, and code in it may be mapped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DirectoryProbe {
    /// Usable.
    Usable(PathBuf),
    /// Each candidate with what is wrong with it.
    Refused(Vec<(PathBuf, &'static str)>),
}

/// What was tried on another process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TargetProbes {
    /// perf_event_open of cpu-clock on it.
    pub clock: Result<(), Errno>,
    /// process_vm_readv of its memory.
    pub read: Result<(), Errno>,
}

impl Probes {
    /// Try everything, on the machine this runs on.
    pub fn here() -> Self {
        let writes = memory::WriteProbes::here();
        Self {
            clock: perf::clock(0, false),
            clock_kernel: perf::clock(0, true),
            fault: perf::fault(),
            cycles: perf::cycles(),
            precise: perf::precise(),
            ring: perf::ring(),
            read_child: process::read_child(),
            userfaultfd: writes.userfaultfd,
            write_tracking: writes.write_tracking,
            pagemap_scan: memory::pagemap_scan(),
            soft_dirty: memory::soft_dirty().unwrap_or(false),
            process_madvise: memory::process_madvise(),
            move_pages: memory::move_pages(),
            mbind: memory::mbind(),
            mapping_names: memory::mapping_names(),
            directory: process::directory(),
        }
    }
}

impl TargetProbes {
    /// Try on a process; `readable` is an address in it that is mapped, from its maps.
    pub fn of(pid: u32, readable: Option<u64>) -> Self {
        let Ok(pid) = i32::try_from(pid) else {
            let gone = Err(Errno(libc::ESRCH));
            return Self { clock: gone, read: gone };
        };
        let read = readable.map_or(Err(Errno(libc::EPERM)), |address| process::read(pid, address));
        Self { clock: perf::clock(pid, false), read }
    }
}
