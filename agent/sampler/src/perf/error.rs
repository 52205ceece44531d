//! Why a process cannot be sampled, and what to do about it.
//!
//! perf_event_open answers a dozen different obstacles with the same few error numbers. Each variant here is one
//! obstacle a user can meet, told apart by what `/proc` says, and its text is three sentences: what cannot be done, what
//! stands in the way, and the command that clears it.

use std::io;

use thiserror::Error;

/// What kept a sampler from being opened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SamplerError {
    /// The process has ended or never was.
    #[error("cannot sample process {pid}: there is no such process; `ps -p {pid}` shows whether it still runs")]
    NoSuchProcess {
        /// The process asked for.
        pid: u32,
    },
    /// The process belongs to somebody else, or is protected.
    #[error(
        "cannot sample process {pid}: it belongs to another user or is protected from tracing; run as its owner, or \
         with the capability: `sudo setcap cap_perfmon,cap_sys_ptrace+ep $(command -v tierscope)`"
    )]
    NotPermitted {
        /// The process asked for.
        pid: u32,
    },
    /// `perf_event_paranoid` denies performance events to ordinary users.
    #[error(
        "cannot sample: kernel.perf_event_paranoid is {level}, which keeps performance events from ordinary users; \
         allow them: `sudo sysctl kernel.perf_event_paranoid=2`"
    )]
    Paranoid {
        /// What the sysctl says.
        level: i32,
    },
    /// A seccomp filter or security module denies the system call.
    #[error(
        "cannot sample: perf_event_open is denied by a seccomp filter or security module, as container runtimes set up \
         by default; start the container with it allowed: `docker run --cap-add PERFMON` (or `--security-opt \
         seccomp=unconfined` on older runtimes)"
    )]
    Blocked,
    /// The kernel has no such event.
    #[error(
        "cannot sample: this kernel has no perf_event_open or not this event (built without CONFIG_PERF_EVENTS, or a \
         user-space kernel such as gVisor); `ls /proc/sys/kernel/perf_event_paranoid` shows whether it has"
    )]
    Unsupported,
    /// Not even the smallest ring fits the limit on locked memory.
    #[error(
        "cannot sample: the rings shared with the kernel exceed what you may lock (kernel.perf_event_mlock_kb is \
         {limit_kib} for each processor, and other samplers count too); raise it: `sudo sysctl \
         kernel.perf_event_mlock_kb={}`", .limit_kib.saturating_mul(4)
    )]
    LockedMemory {
        /// What the sysctl says.
        limit_kib: u64,
    },
    /// An event is needed per thread and processor, and each is an open file.
    #[error(
        "cannot sample: {needed} open files are needed (threads x processors) and the limit is {limit}; raise it: \
         `ulimit -n {}`", .needed.saturating_add(256)
    )]
    TooManyFiles {
        /// Threads times processors.
        needed: usize,
        /// The hard limit on open files.
        limit: u64,
    },
    /// The kernel refuses this rate.
    #[error(
        "cannot sample {rate_hz} times a second: rates from 1 to kernel.perf_event_max_sample_rate ({limit_hz}) are \
         allowed; ask for less, or raise it: `sudo sysctl kernel.perf_event_max_sample_rate={rate_hz}`"
    )]
    Rate {
        /// The rate asked for.
        rate_hz: u32,
        /// What the sysctl says.
        limit_hz: u64,
    },
    /// Anything else.
    #[error("cannot sample: {call} failed: {source}; `tierscope doctor` shows what works here")]
    System {
        /// The system call.
        call: &'static str,
        /// What it answered.
        source: io::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_names_a_command() {
        let errors = [
            SamplerError::NoSuchProcess { pid: 1 },
            SamplerError::NotPermitted { pid: 1 },
            SamplerError::Paranoid { level: 4 },
            SamplerError::Blocked,
            SamplerError::Unsupported,
            SamplerError::LockedMemory { limit_kib: 516 },
            SamplerError::TooManyFiles { needed: 5000, limit: 1024 },
            SamplerError::Rate { rate_hz: 200_000, limit_hz: 100_000 },
            SamplerError::System { call: "mmap", source: io::Error::from_raw_os_error(libc::ENOMEM) },
        ];
        for error in errors {
            let text = error.to_string();
            assert!(text.starts_with("cannot sample") && text.matches('`').count() >= 2, "{text}");
        }
        let text = SamplerError::LockedMemory { limit_kib: 516 }.to_string();
        assert!(text.contains("perf_event_mlock_kb=2064"), "{text}");
    }
}
