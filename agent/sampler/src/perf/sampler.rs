//! The events of one target and the rings they write to.
//!
//! An inherited event follows every thread its thread creates, in the kernel, without a moment in which the new
//! thread runs unseen. The kernel maps a ring for an inherited event only if that is bound to one processor, so there
//! is an event for each thread and processor, and all events of a processor write to one ring (`SET_OUTPUT`).
//!
//! A running process may create threads while it is being attached to. A thread that was not in the first
//! listing has either inherited its events, if its creator was opened before, or has none. The events are therefore
//! enabled from the start and report forks: a thread whose birth was reported has inherited, any other is opened
//! like those of the first listing, until no new one appears. Opening an inherited one again would count it twice.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use perf_event::Counter;
use perf_event_open_sys::ioctls;

use super::attributes::{Kind, Opener, SamplerConfig, Start};
use super::error::SamplerError;
use super::parse::{Skipped, parse};
use super::record::{Record, SampleLosses};
use super::system;

/// Listings of the target's threads after which attaching settles for what it has.
const MOST_LISTINGS: usize = 64;

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
    rings: Vec<Ring>,
    /// Events that write to the ring of another.
    followers: Vec<Counter>,
    kind: Kind,
    excludes_kernel: bool,
    counts_lost: bool,
    losses: SampleLosses,
    /// Read while attaching, for the first `drain`.
    early: Vec<Record>,
}

struct Ring {
    cpu: usize,
    events: perf_event::Sampler,
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
        let (pid, start) = match target {
            Target::Attach { pid } => (pid, Start::Now),
            Target::Launch { pid } => (pid, Start::OnExec),
        };
        let mut opening = Opening::new(pid, config, start);
        match target {
            Target::Launch { .. } => opening.open_thread(pid)?,
            Target::Attach { .. } => opening.open_all_threads()?,
        }
        opening.finish()
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
        let running = poll(&all, Duration::ZERO).iter().filter(|(_, events)| events & libc::POLLHUP != 0).count();
        if running < all.len() {
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

    fn read_rings(&mut self, out: &mut Vec<Record>) {
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

/// A sampler some of whose events are open.
struct Opening<'a> {
    pid: u32,
    opener: Opener<'a>,
    cpus: Vec<usize>,
    ring_pages: usize,
    files_raised: bool,
    sampler: Sampler,
}

impl<'a> Opening<'a> {
    fn new(pid: u32, config: &'a SamplerConfig, start: Start) -> Self {
        let sampler = Sampler {
            rings: Vec::new(),
            followers: Vec::new(),
            kind: config.kind,
            excludes_kernel: false,
            counts_lost: false,
            losses: SampleLosses::default(),
            early: Vec::new(),
        };
        Opening {
            pid,
            opener: Opener::new(config, start),
            cpus: system::online_cpus(),
            ring_pages: config.ring_pages.clamp(1, 1 << 16).next_power_of_two(),
            files_raised: false,
            sampler,
        }
    }

    fn open_all_threads(&mut self) -> Result<(), SamplerError> {
        let mut known = BTreeSet::new();
        for _ in 0..MOST_LISTINGS {
            let listed = system::threads(self.pid);
            if listed.is_empty() {
                return Err(SamplerError::NoSuchProcess { pid: self.pid });
            }
            let mut early = std::mem::take(&mut self.sampler.early);
            self.sampler.read_rings(&mut early);
            known.extend(early.iter().filter_map(|record| match record {
                Record::Fork { tid, .. } => Some(*tid),
                _ => None,
            }));
            self.sampler.early = early;
            let new: Vec<_> = listed.into_iter().filter(|&tid| known.insert(tid)).collect();
            if new.is_empty() {
                break;
            }
            for tid in new {
                self.open_thread(tid)?;
            }
        }
        Ok(())
    }

    /// Opens one thread's events. That it has ended meanwhile is no error unless it was the process.
    fn open_thread(&mut self, tid: u32) -> Result<(), SamplerError> {
        let mut at = 0;
        while let Some(&cpu) = self.cpus.get(at) {
            match self.open_event(tid, cpu) {
                Ok(()) => at += 1,
                Err(Obstacle::ThreadGone) if tid != self.pid => return Ok(()),
                Err(Obstacle::ThreadGone) => return Err(SamplerError::NoSuchProcess { pid: self.pid }),
                Err(Obstacle::CpuGone) => {
                    self.cpus.remove(at);
                }
                Err(Obstacle::Fatal(error)) => return Err(error),
            }
        }
        Ok(())
    }

    fn open_event(&mut self, tid: u32, cpu: usize) -> Result<(), Obstacle> {
        let counter = self.open_counter(tid, cpu)?;
        match self.sampler.rings.iter().find(|ring| ring.cpu == cpu) {
            Some(ring) => {
                // SAFETY: both descriptors are open perf events; the call hands over no memory.
                let redirected = unsafe { ioctls::SET_OUTPUT(counter.as_raw_fd(), ring.events.as_raw_fd()) };
                if redirected != 0 {
                    return Err(system_error("PERF_EVENT_IOC_SET_OUTPUT", io::Error::last_os_error()));
                }
                self.sampler.followers.push(counter);
            }
            None => {
                let events = self.map_ring(counter, tid, cpu)?;
                self.sampler.rings.push(Ring { cpu, events });
            }
        }
        Ok(())
    }

    fn open_counter(&mut self, tid: u32, cpu: usize) -> Result<Counter, Obstacle> {
        loop {
            let error = match self.opener.open(tid, cpu) {
                Ok(counter) => return Ok(counter),
                Err(error) => error,
            };
            let fatal = match error.raw_os_error() {
                Some(libc::ESRCH) => return Err(Obstacle::ThreadGone),
                Some(libc::ENODEV | libc::ENXIO) => return Err(Obstacle::CpuGone),
                Some(libc::EMFILE) if !self.files_raised => {
                    self.files_raised = true;
                    match system::raise_open_files() {
                        Ok(_) => continue,
                        Err(error) => return Err(system_error("setrlimit", error)),
                    }
                }
                Some(libc::EMFILE) => SamplerError::TooManyFiles {
                    needed: system::threads(self.pid).len() * self.cpus.len(),
                    limit: system::raise_open_files().unwrap_or(0),
                },
                Some(libc::EPERM) => SamplerError::Blocked,
                Some(libc::ENOSYS | libc::ENOENT | libc::EOPNOTSUPP) => SamplerError::Unsupported,
                Some(libc::EACCES) => match system::kernel_setting("perf_event_paranoid") {
                    Some(level) if level > 2 => SamplerError::Paranoid { level },
                    _ => SamplerError::NotPermitted { pid: self.pid },
                },
                _ => return Err(system_error("perf_event_open", error)),
            };
            return Err(Obstacle::Fatal(fatal));
        }
    }

    /// Maps the ring of `counter`, as large as the limit on locked memory allows: the kernel's answer to too much is
    /// `EPERM`, which here has nothing to do with permission to sample.
    fn map_ring(&mut self, mut counter: Counter, tid: u32, cpu: usize) -> Result<perf_event::Sampler, Obstacle> {
        // SAFETY: sysconf takes a number and touches no memory of ours.
        let page_bytes = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
        loop {
            let error = match counter.sampled(self.ring_pages * page_bytes) {
                Ok(ring) => return Ok(ring),
                Err(error) => error,
            };
            if !matches!(error.raw_os_error(), Some(libc::EPERM | libc::ENOMEM)) {
                return Err(system_error("mmap of a perf ring", error));
            }
            if self.ring_pages == 1 {
                let limit_kib = system::kernel_setting("perf_event_mlock_kb").unwrap_or(0);
                return Err(Obstacle::Fatal(SamplerError::LockedMemory { limit_kib }));
            }
            self.ring_pages /= 2;
            counter = self.open_counter(tid, cpu)?;
        }
    }

    fn finish(mut self) -> Result<Sampler, SamplerError> {
        if self.sampler.rings.is_empty() {
            return Err(SamplerError::NoSuchProcess { pid: self.pid });
        }
        self.sampler.excludes_kernel = self.opener.excludes_kernel();
        self.sampler.counts_lost = self.opener.counts_lost();
        Ok(self.sampler)
    }
}

/// What keeps one event from being opened.
enum Obstacle {
    ThreadGone,
    CpuGone,
    Fatal(SamplerError),
}

fn system_error(call: &'static str, source: io::Error) -> Obstacle {
    Obstacle::Fatal(SamplerError::System { call, source })
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
