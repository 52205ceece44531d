//! Opening the events of every thread of a process that creates more meanwhile.
//!
//! A new thread inherits the events that its creator has at that moment, which while attaching can be all, none, or those of
//! some processors. One that inherited nothing must be opened, an inherited event must not be opened again
//! (the thread would count twice), and the kernel does not say which is the case. But events report forks, with their
//! time, so they are enabled from the start: what a thread has inherited is what its creator had been given before
//! the time of the fork. A fork is reported by the event of the processor it happens on, so that of the processor
//! a thread is on comes first; and threads are listed until a listing shows none that lacks an event.
//!
//! What remains is a fork within microseconds of the opening of an event of its thread.

use std::collections::HashMap;
use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use perf_event::Counter;
use perf_event_open_sys::ioctls;

use super::attributes::{Opener, SamplerConfig, Start};
use super::error::SamplerError;
use super::record::{Record, SampleLosses};
use super::sampler::{Ring, Sampler};
use super::system;

/// Listings of the target's threads after which attaching settles for what it has.
const MOST_LISTINGS: usize = 64;
/// A thread is listed some instructions before its fork is reported.
const FORK_REPORT_DELAY: Duration = Duration::from_millis(1);

/// A sampler some of whose events are open.
pub(super) struct Opening<'a> {
    pid: u32,
    opener: Opener<'a>,
    cpus: Vec<usize>,
    ring_pages: usize,
    files_raised: bool,
    /// For each thread, the processors it has an event on, and since when.
    events: HashMap<u32, HashMap<usize, u64>>,
    sampler: Sampler,
}

impl<'a> Opening<'a> {
    pub(super) fn new(pid: u32, config: &'a SamplerConfig, start: Start) -> Self {
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
            events: HashMap::new(),
            sampler,
        }
    }

    /// Of a process with one thread that waits.
    pub(super) fn launched(mut self) -> Result<Sampler, SamplerError> {
        self.open_thread(self.pid)?;
        self.finish()
    }

    /// Of a running process.
    pub(super) fn attached(mut self) -> Result<Sampler, SamplerError> {
        for listing in 0..MOST_LISTINGS {
            let listed = system::threads(self.pid);
            if listed.is_empty() {
                return Err(SamplerError::NoSuchProcess { pid: self.pid });
            }
            if listing > 0 {
                std::thread::sleep(FORK_REPORT_DELAY);
            }
            self.note_forks();
            let lacking: Vec<_> = listed.into_iter().filter(|&tid| self.lacks_events(tid)).collect();
            if lacking.is_empty() {
                break;
            }
            for tid in lacking {
                self.events.entry(tid).or_default();
                self.open_thread(tid)?;
            }
        }
        self.finish()
    }

    fn lacks_events(&self, tid: u32) -> bool {
        self.events.get(&tid).is_none_or(|events| self.cpus.iter().any(|cpu| !events.contains_key(cpu)))
    }

    /// Notes what threads have inherited, as far as their forks have been reported.
    fn note_forks(&mut self) {
        let mut records = Vec::new();
        self.sampler.read_rings(&mut records);
        let mut forks: Vec<_> = records
            .iter()
            .filter_map(|record| match *record {
                Record::Fork { time_ns, tid, parent_tid, .. } => Some((time_ns, tid, parent_tid)),
                _ => None,
            })
            .collect();
        // A thread may have been created on one processor and have created another on the next.
        forks.sort_unstable();
        for (time_ns, tid, parent_tid) in forks {
            let Some(parent) = self.events.get(&parent_tid) else { continue };
            let inherited = parent.iter().filter(|&(_, &since)| since <= time_ns).map(|(&cpu, _)| (cpu, time_ns));
            let inherited: Vec<_> = inherited.collect();
            self.events.entry(tid).or_default().extend(inherited);
        }
        self.sampler.early.append(&mut records);
    }

    /// Opens the events that a thread lacks. That it has ended meanwhile is no error unless it was the process.
    fn open_thread(&mut self, tid: u32) -> Result<(), SamplerError> {
        let mut cpus = self.cpus.clone();
        if let Some(here) = system::processor(self.pid, tid) {
            cpus.sort_by_key(|&cpu| cpu != here);
        }
        for cpu in cpus {
            if self.events.get(&tid).is_some_and(|events| events.contains_key(&cpu)) {
                continue;
            }
            match self.open_event(tid, cpu) {
                Ok(()) => {
                    self.events.entry(tid).or_default().insert(cpu, system::monotonic_ns());
                }
                Err(Obstacle::ThreadGone) if tid == self.pid && self.sampler.rings.is_empty() => {
                    return Err(SamplerError::NoSuchProcess { pid: self.pid });
                }
                Err(Obstacle::ThreadGone) => {
                    self.events.entry(tid).or_default().extend(self.cpus.iter().map(|&cpu| (cpu, u64::MAX)));
                    return Ok(());
                }
                Err(Obstacle::CpuGone) => self.cpus.retain(|&online| online != cpu),
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
                    needed: self.events.len().max(1) * self.cpus.len(),
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
        loop {
            let error = match counter.sampled(self.ring_pages * system::page_bytes()) {
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
