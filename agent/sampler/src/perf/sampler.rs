//! The events of one target and the rings they write to.
//!
//! An inherited event follows every thread its thread creates, in the kernel, without a moment in which the new
//! thread runs unseen. The kernel maps a ring for an inherited event only if that is bound to one processor, so there
//! is an event for each thread and processor, and all events of a processor write to one ring (`SET_OUTPUT`).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use perf_event::Counter;

use super::attributes::{Kind, SamplerConfig, Start};
use super::error::SamplerError;
use super::opening::Opening;
use super::parse::{Skipped, parse};
use super::record::{Record, SampleLosses};
use super::system;

/// What to sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// All present and future threads of a running process. Sampling starts before `open` returns.
    Attach {
        /// The process.
        pid: u32,
    },
    /// A process with one thread that is about to call `execve`. Sampling starts when it does.
    Launch {
        /// The process.
        pid: u32,
    },
}

/// An open sampler: a stream of records from the target's threads.
///
/// Dropping it ends sampling.
pub struct Sampler {
    pub(super) rings: Vec<Ring>,
    /// Events that write to the ring of another.
    pub(super) followers: Vec<Counter>,
    pub(super) kind: Kind,
    pub(super) excludes_kernel: bool,
    pub(super) counts_lost: bool,
    pub(super) losses: SampleLosses,
    /// Read while attaching, for the first `drain`.
    pub(super) early: Vec<Record>,
}

/// The ring of one processor, and the event that it was mapped for.
pub(super) struct Ring {
    pub(super) cpu: usize,
    pub(super) events: perf_event::Sampler,
}

impl Sampler {
    /// Opens events on every thread of the target.
    ///
    /// # Errors
    /// If the target is gone, or the caller, the limits or the kernel do not allow it; see [`SamplerError`].
    pub fn open(target: Target, config: &SamplerConfig) -> Result<Sampler, SamplerError> {
        let limit_hz = system::kernel_setting("perf_event_max_sample_rate").unwrap_or(u64::MAX);
        if config.kind == Kind::Clock && (config.rate_hz == 0 || u64::from(config.rate_hz) > limit_hz) {
            return Err(SamplerError::Rate { rate_hz: config.rate_hz, limit_hz });
        }
        match target {
            Target::Launch { pid } => Opening::new(pid, config, Start::OnExec).launched(),
            Target::Attach { pid } => Opening::new(pid, config, Start::Now).attached(),
        }
    }

    /// One descriptor per ring, readable when that is a quarter full.
    ///
    /// A descriptor hangs up (`POLLHUP`) when the thread it was opened for has ended, though others may still write to
    /// the ring: [`Sampler::wait`] knows that.
    pub fn poll_fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.rings.iter().map(|ring| {
            // SAFETY: the descriptor belongs to `self.rings`, which the returned lifetime borrows.
            unsafe { BorrowedFd::borrow_raw(ring.events.as_raw_fd()) }
        })
    }

    /// Waits until a ring is worth draining or `timeout` has passed; returns whether the target still runs.
    pub fn wait(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut waiting: Vec<_> = self.poll_fds().map(|fd| fd.as_raw_fd()).collect();
        while !waiting.is_empty() {
            let polled = poll(&waiting, deadline.saturating_duration_since(Instant::now()));
            if polled.is_empty() || polled.iter().any(|&(_, events)| events & libc::POLLIN != 0) {
                return true;
            }
            waiting.retain(|fd| !polled.iter().any(|(hung_up, _)| hung_up == fd));
        }
        // The first thread has ended. Whether others live takes a look at all of theirs.
        let all: Vec<_> = self.counters().map(|counter| counter.as_raw_fd()).collect();
        let hung_up = poll(&all, Duration::ZERO).iter().filter(|(_, events)| events & libc::POLLHUP != 0).count();
        if hung_up < all.len() {
            std::thread::sleep(deadline.saturating_duration_since(Instant::now()));
            return true;
        }
        false
    }

    /// Appends all that the rings hold, ring after ring.
    pub fn drain(&mut self, out: &mut Vec<Record>) {
        out.append(&mut self.early);
        self.read_rings(out);
    }

    /// Starts sampling, or resumes it.
    ///
    /// # Errors
    /// Those of the `ioctl`.
    pub fn enable(&mut self) -> io::Result<()> {
        self.counters_mut().try_for_each(Counter::enable)
    }

    /// Stops sampling; also no mappings, forks and exits are reported until it is enabled again.
    ///
    /// # Errors
    /// Those of the `ioctl`.
    pub fn disable(&mut self) -> io::Result<()> {
        self.counters_mut().try_for_each(Counter::disable)
    }

    /// What the stream lacks so far.
    pub fn losses(&self) -> SampleLosses {
        let mut losses = self.losses;
        if self.counts_lost {
            // The events' own counts include what no record has told yet, for want of room for that record too.
            let counted = self.counters().filter_map(read_lost).sum();
            losses.lost_records = losses.lost_records.max(counted);
        }
        losses
    }

    /// Whether time in the kernel goes unsampled, because the system does not let this user sample it.
    pub fn excludes_kernel(&self) -> bool {
        self.excludes_kernel
    }

    pub(super) fn read_rings(&mut self, out: &mut Vec<Record>) {
        let has_address = self.kind == Kind::Fault;
        for ring in &mut self.rings {
            while let Some(record) = ring.events.next_record() {
                match parse(record.ty(), record.misc(), &record.to_contiguous(), has_address) {
                    Ok(record) => {
                        match record {
                            Record::Lost { count } => self.losses.lost_records += count,
                            Record::Throttled { .. } => self.losses.throttled += 1,
                            _ => {}
                        }
                        out.push(record);
                    }
                    Err(Skipped::Irrelevant) => {}
                    Err(Skipped::Malformed) => self.losses.malformed += 1,
                }
            }
        }
    }

    fn counters(&self) -> impl Iterator<Item = &Counter> {
        self.rings.iter().map(|ring| ring.events.as_counter()).chain(&self.followers)
    }

    fn counters_mut(&mut self) -> impl Iterator<Item = &mut Counter> {
        self.rings.iter_mut().map(|ring| ring.events.as_counter_mut()).chain(&mut self.followers)
    }
}

/// Records this event and those inherited from it could not write.
fn read_lost(counter: &Counter) -> Option<u64> {
    let mut value_and_lost = [0u64; 2];
    let bytes = size_of_val(&value_and_lost);
    // SAFETY: the buffer is live, writable and as long as the call is told.
    let read = unsafe { libc::read(counter.as_raw_fd(), value_and_lost.as_mut_ptr().cast(), bytes) };
    (usize::try_from(read) == Ok(bytes)).then_some(value_and_lost[1])
}

/// The descriptors with something to tell, and what.
fn poll(fds: &[i32], timeout: Duration) -> Vec<(i32, i16)> {
    let mut polled: Vec<_> = fds.iter().map(|&fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 }).collect();
    let timeout_ms = i32::try_from(timeout.as_micros().div_ceil(1000)).unwrap_or(i32::MAX);
    // SAFETY: the pointer and length describe a live, writable array.
    let ready = unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, timeout_ms) };
    if ready <= 0 {
        return Vec::new();
    }
    polled.iter().filter(|poll| poll.revents != 0).map(|poll| (poll.fd, poll.revents)).collect()
}
