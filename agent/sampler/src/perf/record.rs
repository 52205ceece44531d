//! What the kernel told us, in types that no longer know its wire format.
//!
//! Records of one ring come in the order of that processor; records of different rings are ordered by `time_ns`
//! only, so whoever needs one order over all processors sorts by it.

use std::path::PathBuf;

/// The general registers of the sampled thread in user space, at the moment of the sample.
///
/// The bases of `fs` and `gs` are not among what perf_event can record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    /// In the order instructions encode them: rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8 to r15.
    pub general: [u64; 16],
    /// The next instruction in user space.
    pub ip: u64,
    /// RFLAGS: tells which way the last conditional branch can have gone.
    pub flags: u64,
}

/// One tick of the clock, or one page fault, on one thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawSample {
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub time_ns: u64,
    /// Process, as the sampler's PID namespace numbers it.
    pub pid: u32,
    /// Thread.
    pub tid: u32,
    /// Processor the thread ran on.
    pub cpu: u32,
    /// The next instruction in user space, also when the sample was taken inside the kernel.
    pub ip: u64,
    /// The thread was in the kernel: in a system call, a fault or an interrupt.
    pub kernel: bool,
    /// Absent for threads without a 64-bit user context.
    pub registers: Option<Registers>,
    /// The faulting address; only the fault sampler has one.
    pub address: Option<u64>,
}

/// A mapping that came into being.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub time_ns: u64,
    /// Process.
    pub pid: u32,
    /// Thread that mapped it.
    pub tid: u32,
    /// First address.
    pub start: u64,
    /// Length.
    pub bytes: u64,
    /// Offset of `start` in the file, in bytes.
    pub file_offset: u64,
    /// `PROT_*`; absent from kernels that do not say.
    pub protection: Option<u32>,
    /// `MAP_*`; absent from kernels that do not say.
    pub flags: Option<u32>,
    /// GNU build-id of the file, where the kernel could read it. Then device and inode are not given.
    pub build_id: Option<Vec<u8>>,
    /// Device (major, minor) and inode of the file, where no build-id is given.
    pub inode: Option<(u32, u32, u64)>,
    /// The file, or the kernel's name for what is no file: `[heap]`, `[stack]`, `//anon`.
    pub path: PathBuf,
    /// Mapped to be executed, rather than as data.
    pub executable: bool,
}

/// One record of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A clock tick or a page fault.
    Sample(RawSample),
    /// A new mapping.
    Mmap(Mapping),
    /// A thread took a new name.
    Comm {
        /// `CLOCK_MONOTONIC`, nanoseconds.
        time_ns: u64,
        /// Process.
        pid: u32,
        /// Thread.
        tid: u32,
        /// The name, at most 15 bytes.
        name: Vec<u8>,
        /// Named so by `execve`: the address space is a new one.
        exec: bool,
    },
    /// A thread or a process was created; a thread if `pid == parent_pid`.
    Fork {
        /// `CLOCK_MONOTONIC`, nanoseconds.
        time_ns: u64,
        /// Process of the new thread.
        pid: u32,
        /// The new thread.
        tid: u32,
        /// Process of the creating thread.
        parent_pid: u32,
        /// The creating thread.
        parent_tid: u32,
    },
    /// A thread ended.
    Exit {
        /// `CLOCK_MONOTONIC`, nanoseconds.
        time_ns: u64,
        /// Process.
        pid: u32,
        /// Thread.
        tid: u32,
    },
    /// The kernel had no room for this many records at this place in the stream.
    Lost {
        /// Records of any kind, not only samples.
        count: u64,
    },
    /// The kernel held the event back for the rest of a tick because it fired too often.
    Throttled {
        /// `CLOCK_MONOTONIC`, nanoseconds.
        time_ns: u64,
    },
}

/// What is missing from the stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SampleLosses {
    /// Records for which the ring had no room, as far as the kernel has said so.
    pub lost_records: u64,
    /// Times the kernel throttled an event.
    pub throttled: u64,
    /// Records that were cut short or made no sense.
    pub malformed: u64,
}
