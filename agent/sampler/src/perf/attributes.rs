//! What to ask the kernel for, and what to do without where it refuses.
//!
//! Everything that newer kernels added is optional and is given up one feature at a time, newest first, as long as the
//! kernel answers that it does not know an option (`EINVAL`, or `E2BIG` for an attribute structure longer than its
//! own). Samples inside the kernel are given up when `perf_event_paranoid` denies them (`EACCES`). What was given up
//! for the first event holds for all later ones: events that share a ring must write records of the same shape.

use std::io;

use perf_event::events::Software;
use perf_event::{Builder, Clock, Counter, ReadFormat, SampleFlag};
use perf_event_open_sys::bindings::PERF_FORMAT_LOST;

use super::parse::REGISTER_MASK;

/// What makes a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A clock that runs while the thread runs: samples are weighted by time.
    Clock,
    /// A page fault, with the address that faulted.
    Fault,
}

/// How to sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SamplerConfig {
    /// What makes a sample.
    pub kind: Kind,
    /// Samples per second of CPU time of each thread; the clock only.
    pub rate_hz: u32,
    /// One sample in so many page faults; faults only.
    pub fault_period: u64,
    /// Pages of each processor's ring, rounded up to a power of two. Less is taken where the limit on locked memory
    /// allows no more.
    pub ring_pages: usize,
    /// Also sample the processes that the target forks, and theirs. Otherwise its threads only.
    pub follow_children: bool,
}

impl Default for SamplerConfig {
    /// The clock at 997 Hz (a prime, so as not to beat with what programs do a thousand times a second) into rings of
    /// 512 KiB, which is what an unprivileged user may lock per processor.
    fn default() -> Self {
        SamplerConfig { kind: Kind::Clock, rate_hz: 997, fault_period: 1, ring_pages: 128, follow_children: false }
    }
}

/// When sampling starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// At once: needed while attaching, to be told of the threads born meanwhile.
    Now,
    /// When the target calls `execve`.
    OnExec,
}

/// Opens events that all look the same.
pub(super) struct Opener<'a> {
    config: &'a SamplerConfig,
    start: Start,
    features: Features,
}

#[derive(Clone, Copy, Debug)]
struct Features {
    /// Since 6.0: each event counts the records it lost.
    count_lost: bool,
    /// Since 5.13: inherited by threads and not by processes.
    thread_only: bool,
    /// Since 5.12: build-ids in mapping records.
    build_id: bool,
    kernel: bool,
}

impl<'a> Opener<'a> {
    pub(super) fn new(config: &'a SamplerConfig, start: Start) -> Self {
        let features =
            Features { count_lost: true, thread_only: !config.follow_children, build_id: true, kernel: true };
        Opener { config, start, features }
    }

    pub(super) fn excludes_kernel(&self) -> bool {
        !self.features.kernel
    }

    pub(super) fn counts_lost(&self) -> bool {
        self.features.count_lost
    }

    /// Opens the event of thread `tid` on processor `cpu`, with as many features as the kernel has.
    pub(super) fn open(&mut self, tid: u32, cpu: usize) -> io::Result<Counter> {
        loop {
            let error = match self.builder(tid, cpu).build() {
                Ok(counter) => return Ok(counter),
                Err(error) => error,
            };
            let unknown_option =
                error.kind() == io::ErrorKind::Unsupported || error.raw_os_error() == Some(libc::EINVAL);
            let features = &mut self.features;
            if error.raw_os_error() == Some(libc::EACCES) && features.kernel {
                features.kernel = false;
            } else if unknown_option && features.count_lost {
                features.count_lost = false;
            } else if unknown_option && features.thread_only {
                features.thread_only = false;
            } else if unknown_option && features.build_id {
                features.build_id = false;
            } else {
                return Err(error);
            }
        }
    }

    fn builder(&self, tid: u32, cpu: usize) -> Builder<'static> {
        let Features { count_lost, thread_only, build_id, kernel } = self.features;
        let mut builder = match self.config.kind {
            Kind::Clock => Builder::new(Software::CPU_CLOCK),
            Kind::Fault => Builder::new(Software::PAGE_FAULTS),
        };
        let mut fields = SampleFlag::IP | SampleFlag::TID | SampleFlag::TIME | SampleFlag::CPU | SampleFlag::REGS_USER;
        match self.config.kind {
            Kind::Clock => builder.sample_frequency(u64::from(self.config.rate_hz)),
            Kind::Fault => {
                fields |= SampleFlag::ADDR;
                builder.sample_period(self.config.fault_period.max(1))
            }
        };
        let lost = if count_lost { ReadFormat::from_bits_retain(PERF_FORMAT_LOST.into()) } else { ReadFormat::empty() };
        builder
            .observe_pid(tid.cast_signed())
            .one_cpu(cpu)
            .enabled(self.start == Start::Now)
            .enable_on_exec(self.start == Start::OnExec)
            .sample(fields)
            .sample_regs_user(REGISTER_MASK)
            .read_format(lost)
            .clockid(Clock::MONOTONIC)
            .sample_id_all(true)
            .wakeup_watermark(self.watermark_bytes())
            .inherit(true)
            .inherit_thread(thread_only)
            .exclude_kernel(!kernel)
            .exclude_hv(!kernel)
            .mmap(true)
            .mmap2(true)
            .mmap_data(true)
            .build_id(build_id)
            .comm(true)
            .comm_exec(true)
            .task(true);
        builder
    }

    /// Wakes the reader while three quarters of the ring are still free.
    fn watermark_bytes(&self) -> usize {
        self.config.ring_pages.max(1).saturating_mul(1024)
    }
}
