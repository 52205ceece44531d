//! The loop: drain every ring, put what came in order, hand it to its process, write parts.
//!
//! One thread does it all. A round costs little when little happened, and the target's speed never depends on ours: rings
//! that fill while we are busy (or stopped) cost events, which are counted.

use super::address_space::{Mapping, backing_of_record};
use super::modules::Binaries;
use super::output::{self, Output};
use super::process::Process;
use super::segment::{OwnedEvent, Segment};
use super::sequence::Sequencer;
use super::session::{Arrival, Session};
use super::{Outcome, Props, Written, host, say};
use crate::failure::Failure;
use crate::launch::Ended;
use rustc_hash::FxHashMap;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::time::{ClockId, clock_gettime};
use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;
use tierscope_sampler::{Access, Kind, RawSample, Record, Sampler};
use tierscope_traces::{Allocator, Exit, Meta, Program, SamplerKind};

/// Time between two parts.
const PART_NS: u64 = 2_000_000_000;

/// Rows that make a part before its time.
const PART_ROWS: usize = 200_000;

/// Time between two looks at slow-moving things: resident memory, rings of dead threads.
const HOUSEKEEPING_NS: u64 = 500_000_000;

/// How long the state of a process that has ended is kept for what may still come of it.
const BURIAL_NS: u64 = 1_000_000_000;

/// Now, on the clock of every event.
pub(super) fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    (now.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(now.tv_nsec as u64)
}

enum Item {
    Perf(Record),
    Sample(RawSample, Access),
    Shim { segment: usize, tid: u32, event: OwnedEvent },
    Arrived { segment: usize, inherited: bool },
}

/// A segment and the process it belongs to.
struct Source {
    pid: u32,
    since_ns: u64,
    /// Looked at once more after its process has ended, then left alone.
    closed: bool,
}

/// The process of a pid, made from its maps if nobody announced it.
fn process_of(processes: &mut BTreeMap<u32, Process>, pid: u32, time_ns: u64) -> &mut Process {
    processes.entry(pid).or_insert_with(|| Process::new(pid, 0, time_ns))
}

/// A recording under way.
pub(super) struct Recorder<'p> {
    props: &'p Props,
    sampler: Sampler,
    kind: Kind,
    because: String,
    session: Option<Session>,
    segments: Vec<Segment>,
    sources: Vec<Source>,
    sequencer: Sequencer<Item>,
    processes: BTreeMap<u32, Process>,
    outputs: FxHashMap<u32, Output>,
    closed: Vec<(Written, Output)>,
    binaries: Binaries,
    root_pid: u32,
    base: PathBuf,
    template: Meta,
    started_ns: u64,
    part_written_ns: u64,
    housekeeping_ns: u64,
    records: Vec<Record>,
    events: Vec<(u64, u32, OwnedEvent)>,
    samples: u64,
    write_error: Option<Failure>,
}

impl<'p> Recorder<'p> {
    pub(super) fn new(
        props: &'p Props,
        sampler: Sampler,
        kind: Kind,
        because: String,
        session: Option<Session>,
    ) -> Result<Self, Failure> {
        let now = monotonic_ns();
        let mut template = Meta {
            tierscope_version: env!("CARGO_PKG_VERSION").into(),
            created: tierscope_traces::rfc3339(std::time::SystemTime::now()),
            host: host::describe(),
            ..Meta::default()
        };
        template.sampler.kind = match kind {
            Kind::Clock => SamplerKind::Clock,
            Kind::Fault => SamplerKind::Fault,
        };
        template.sampler.rate_hz = if kind == Kind::Clock { f64::from(props.rate_hz) } else { 0.0 };
        template.sampler.chosen_because.clone_from(&because);
        template.sampler.user_only = sampler.excludes_kernel();
        template.sampler.address_source = match kind {
            Kind::Clock => "computed from the registers and the instruction before the sample".into(),
            Kind::Fault => "the kernel's fault address".into(),
        };
        template.clock.monotonic_start_ns = now;
        template.clock.delay_ns = props.delay.as_nanos() as u64;
        template.allocator = Allocator {
            mean_bytes: props.mean_bytes,
            large_bytes: props.large_bytes,
            stack_mode: props.stacks.name().into(),
            shim: String::new(),
        };
        Ok(Recorder {
            props,
            sampler,
            kind,
            because,
            session,
            segments: Vec::new(),
            sources: Vec::new(),
            sequencer: Sequencer::new(),
            processes: BTreeMap::new(),
            outputs: FxHashMap::default(),
            closed: Vec::new(),
            binaries: Binaries::default(),
            root_pid: 0,
            base: PathBuf::new(),
            template,
            started_ns: now,
            part_written_ns: now,
            housekeeping_ns: now,
            records: Vec::new(),
            events: Vec::new(),
            samples: 0,
            write_error: None,
        })
    }

    /// Begins the profile of a program that is about to start.
    pub(super) fn begin(&mut self, pid: u32, base: PathBuf, command: Vec<String>, shim: String) -> Result<(), Failure> {
        self.root_pid = pid;
        self.template.program = Program { command, ..Program::default() };
        self.template.allocator.shim = shim;
        let process = Process::new(pid, std::process::id(), self.started_ns);
        let output = Output::create(&base, self.props.force, &self.template, &process)?;
        self.base = base;
        self.outputs.insert(pid, output);
        self.processes.insert(pid, process);
        Ok(())
    }

    /// Begins the profile of a process that runs already.
    pub(super) fn adopt(&mut self, pid: u32, base: PathBuf, command: Vec<String>, shim: String) -> Result<(), Failure> {
        self.begin(pid, base, command, shim)?;
        self.refresh(pid, self.started_ns);
        Ok(())
    }

    /// Ends the session once the program has ended. The shim stays where programs that carry its path live on.
    pub(super) fn close_session(&mut self) {
        let carried_on = self.sources.iter().any(|source| super::is_running(source.pid));
        if let Some(session) = self.session.take() {
            session.close(carried_on);
        }
    }

    /// Goes on with another sampler, opened on the program while it runs.
    pub(super) fn attach_again(&mut self, sampler: Sampler) {
        self.sampler = sampler;
        self.refresh(self.root_pid, monotonic_ns());
    }

    /// Removes the profile of a program that never started.
    pub(super) fn discard(&mut self) {
        for (_, output) in self.outputs.drain() {
            output.remove();
        }
        if let Some(session) = self.session.take() {
            session.close(false);
        }
    }

    /// True once the time to record is over.
    pub(super) fn time_is_up(&self) -> bool {
        let end = self.props.duration.map(|duration| self.recording_from_ns() + duration.as_nanos() as u64);
        end.is_some_and(|end| monotonic_ns() >= end)
    }

    fn recording_from_ns(&self) -> u64 {
        self.started_ns + self.props.delay.as_nanos() as u64
    }

    /// One line for a terminal.
    pub(super) fn progress(&self) -> String {
        let seconds = (monotonic_ns() - self.started_ns) / 1_000_000_000;
        let lost = self.sampler.losses().lost_records;
        format!("recording {}: {seconds} s, {} samples, {lost} lost", self.root_pid, self.samples)
    }

    /// Waits up to `pause` for something to do, and does it.
    pub(super) fn round(&mut self, pause: Duration) -> Result<(), Failure> {
        self.wait(pause);
        let began = monotonic_ns();
        self.drain();
        let due: Vec<_> = self.sequencer.release(began).collect();
        self.handle(due);
        if began >= self.housekeeping_ns + HOUSEKEEPING_NS {
            self.housekeeping_ns = began;
            self.housekeep(began);
        }
        let rows = self.processes.values().map(Process::waiting_rows).max().unwrap_or(0);
        if began >= self.part_written_ns + PART_NS || rows >= PART_ROWS {
            self.part_written_ns = began;
            self.write_parts(began);
        }
        self.write_error.take().map_or(Ok(()), Err)
    }

    fn wait(&self, pause: Duration) {
        let mut descriptors: Vec<PollFd<'_>> =
            self.session.iter().map(|session| PollFd::from_borrowed_fd(session.poll_fd(), PollFlags::IN)).collect();
        let rings = self.sampler.poll_fds().count();
        // Rings that are a quarter full wake us; those of ended threads would do so for ever and are left out.
        if rings > 0 {
            descriptors.extend(self.sampler.poll_fds().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        }
        let timeout = Timespec { tv_sec: pause.as_secs() as i64, tv_nsec: i64::from(pause.subsec_nanos()) };
        let before = monotonic_ns();
        let woken = poll(&mut descriptors, Some(&timeout)).unwrap_or(0);
        let hung_up = descriptors.iter().filter(|fd| fd.revents().contains(PollFlags::HUP)).count();
        if woken > 0 && hung_up == woken {
            // Nothing but hang-ups: poll would return at once for ever. Sleep what is left instead.
            let slept = Duration::from_nanos(monotonic_ns().saturating_sub(before));
            std::thread::sleep(pause.saturating_sub(slept));
        }
    }

    fn drain(&mut self) {
        if let Some(session) = &mut self.session {
            for Arrival { pid, hello, segment } in session.arrivals() {
                let index = self.segments.len();
                self.segments.push(segment);
                self.sources.push(Source { pid, since_ns: hello.time_ns, closed: false });
                let item = Item::Arrived { segment: index, inherited: hello.forked_from != 0 };
                self.sequencer.push(hello.time_ns, item);
            }
            for why in session.refused.drain(..) {
                say(self.props, &format!("refused a connection: {why}"));
            }
        }
        for (index, (segment, source)) in self.segments.iter_mut().zip(&self.sources).enumerate() {
            if !source.closed {
                segment.drain(&mut self.events);
                for (time_ns, tid, event) in self.events.drain(..) {
                    self.sequencer.push(time_ns, Item::Shim { segment: index, tid, event });
                }
            }
        }
        self.sampler.drain(&mut self.records);
        let from_ns = self.recording_from_ns();
        for record in self.records.drain(..) {
            let time_ns = match &record {
                Record::Sample(sample) => {
                    if sample.time_ns >= from_ns {
                        let process = process_of(&mut self.processes, sample.pid, sample.time_ns);
                        let access = process.resolve(&mut self.binaries, sample);
                        self.sequencer.push(sample.time_ns, Item::Sample(*sample, access));
                    }
                    continue;
                }
                Record::Mmap(mapping) => mapping.time_ns,
                Record::Comm { time_ns, .. }
                | Record::Fork { time_ns, .. }
                | Record::Exit { time_ns, .. }
                | Record::Throttled { time_ns } => *time_ns,
                Record::Lost { .. } => continue,
            };
            self.sequencer.push(time_ns, Item::Perf(record));
        }
    }

    fn handle(&mut self, items: Vec<(u64, Item)>) {
        for (time_ns, item) in items {
            match item {
                Item::Arrived { segment, inherited } => self.arrived(segment, inherited, time_ns),
                Item::Shim { segment, tid, event } => {
                    let Some(pid) = self.sources.get(segment).map(|source| source.pid) else { continue };
                    if let Some(process) = self.processes.get_mut(&pid) {
                        process.shim_event(&mut self.binaries, &self.segments, segment, time_ns, tid, event);
                    }
                }
                Item::Perf(record) => self.perf(record),
                Item::Sample(sample, access) => {
                    self.samples += 1;
                    let reach = 2 * self.props.mean_bytes;
                    let process = process_of(&mut self.processes, sample.pid, time_ns);
                    process.sample(&mut self.binaries, &sample, &access, reach);
                }
            }
        }
    }

    fn arrived(&mut self, segment: usize, inherited: bool, time_ns: u64) {
        let (Some(source), Some(mapped)) = (self.sources.get(segment), self.segments.get(segment)) else { return };
        let pid = source.pid;
        let mean_bytes = mapped.mean_bytes();
        let process = process_of(&mut self.processes, pid, time_ns);
        process.has_shim = true;
        process.mean_bytes = mean_bytes;
        if !inherited {
            // Nothing is known of what the loader mapped before the shim could speak, if the kernel did not say.
            self.refresh(pid, time_ns);
        }
    }

    fn refresh(&mut self, pid: u32, time_ns: u64) {
        if let Some(process) = self.processes.get_mut(&pid) {
            process.refresh(&mut self.binaries, time_ns);
        }
    }

    fn perf(&mut self, record: Record) {
        match record {
            Record::Mmap(mapping) => {
                let process = process_of(&mut self.processes, mapping.pid, mapping.time_ns);
                let new = Mapping {
                    end: mapping.start.saturating_add(mapping.bytes),
                    file_offset: mapping.file_offset,
                    executable: mapping.executable,
                    backing: backing_of_record(mapping.path.as_os_str().as_bytes()),
                };
                process.mapped(&mut self.binaries, mapping.start, new, mapping.time_ns);
            }
            Record::Comm { time_ns, pid, tid, name, exec } => {
                let name = String::from_utf8_lossy(&name).into_owned();
                let process = process_of(&mut self.processes, pid, time_ns);
                if exec {
                    process.exec(name, time_ns);
                } else if tid == pid {
                    process.name = name;
                }
            }
            Record::Fork { time_ns, pid, parent_pid, .. } if pid != parent_pid => {
                let child = match self.processes.get(&parent_pid) {
                    Some(parent) => parent.fork(pid, time_ns),
                    None => Process::new(pid, parent_pid, time_ns),
                };
                // What was there before is either a process whose pid came round again, or a place kept for this
                // child by a sample that was looked at before its birth was.
                if let Some(old) = self.processes.insert(pid, child)
                    && old.ended_ns.is_some()
                {
                    self.close(old, time_ns, None);
                }
            }
            Record::Exit { time_ns, pid, tid } if pid == tid => {
                if let Some(process) = self.processes.get_mut(&pid) {
                    process.ended_ns = Some(time_ns);
                }
            }
            _ => {}
        }
    }

    fn housekeep(&mut self, now_ns: u64) {
        for (segment, source) in self.segments.iter().zip(&self.sources) {
            if !source.closed {
                segment.reclaim(source.pid);
            }
        }
        for process in self.processes.values_mut().filter(|process| process.ended_ns.is_none()) {
            if let Some(bytes) = host::resident_bytes(process.pid) {
                process.count(now_ns, "rss_bytes", bytes as f64);
            }
        }
        let over = |process: &Process| {
            let gone = process.ended_ns.is_some_and(|ended| ended + BURIAL_NS < now_ns);
            gone && process.pid != self.root_pid
        };
        let ended: Vec<u32> = self.processes.values().filter(|process| over(process)).map(|p| p.pid).collect();
        for pid in ended {
            if let Some(process) = self.processes.remove(&pid) {
                self.close(process, now_ns, None);
            }
        }
    }

    fn write_parts(&mut self, now_ns: u64) {
        let mut processes = std::mem::take(&mut self.processes);
        for process in processes.values_mut() {
            if let Err(failure) = self.write_part(process, now_ns) {
                self.write_error.get_or_insert(failure);
            }
        }
        self.processes = processes;
    }

    fn write_part(&mut self, process: &mut Process, now_ns: u64) -> Result<(), Failure> {
        if !self.outputs.contains_key(&process.pid) {
            if process.tally.samples == 0 {
                return Ok(());
            }
            let output = self.create_for_child(process)?;
            self.outputs.insert(process.pid, output);
        }
        process.write_live_blocks();
        let Some(output) = self.outputs.get_mut(&process.pid) else { return Ok(()) };
        output.take_rows(process);
        self.update_meta(process, now_ns);
        let Some(output) = self.outputs.get_mut(&process.pid) else { return Ok(()) };
        output.flush()
    }

    fn create_for_child(&mut self, process: &Process) -> Result<Output, Failure> {
        let mut template = self.template.clone();
        template.program.command = host::command_of(process.pid);
        template.allocator.shim = if process.has_shim {
            "loaded".into()
        } else {
            format!("not loaded into {} (static, privileged, or not followed)", process.name)
        };
        output::create_beside(&self.base, &template, process)
    }

    fn update_meta(&mut self, process: &Process, now_ns: u64) {
        let mut losses = tierscope_traces::Losses { samples: self.sampler.losses().lost_records, ..Default::default() };
        let mut events = 0;
        for (segment, _) in self.segments.iter().zip(&self.sources).filter(|(_, source)| source.pid == process.pid) {
            let lost = segment.losses();
            losses.allocations += lost.events.allocations;
            losses.frees += lost.events.frees;
            losses.other_events += lost.events.other;
            losses.stacks += lost.stacks;
            losses.corrupt += lost.corrupt;
            events += segment.consumed();
        }
        let duration_ns =
            process.ended_ns.unwrap_or(now_ns).saturating_sub(self.recording_from_ns().max(process.started_ns));
        let options = [
            ("events_consumed", events),
            ("events_late", self.sequencer.late()),
            ("throttled", self.sampler.losses().throttled),
        ];
        if let Some(output) = self.outputs.get_mut(&process.pid) {
            output.update(process, losses, duration_ns, &options);
        }
    }

    /// Ends the profile of a process, if it has one.
    fn close(&mut self, mut process: Process, now_ns: u64, ended: Option<Ended>) {
        if let Err(failure) = self.write_part(&mut process, now_ns) {
            self.write_error.get_or_insert(failure);
        }
        let theirs = |source: &Source| source.pid == process.pid && source.since_ns <= now_ns;
        for (segment, source) in self.segments.iter().zip(&mut self.sources).filter(|(_, source)| theirs(source)) {
            segment.stop();
            source.closed = true;
        }
        let Some(mut output) = self.outputs.remove(&process.pid) else { return };
        if self.props.symbols
            && let Err(failure) = super::symbols::write(&mut output, &process)
        {
            self.write_error.get_or_insert(failure);
        }
        let exit = ended.map(|ended| match ended {
            Ended::Exited(code) => Exit::Code(code),
            Ended::Killed(signal) => Exit::Signal(signal),
        });
        match output.finish(&process, exit) {
            Ok(written) => self.closed.push((written, output)),
            Err(failure) => {
                self.write_error.get_or_insert(failure);
            }
        }
    }

    /// Takes what is left, ends every profile, and says what there is.
    pub(super) fn finish(&mut self, ended: Option<Ended>) -> Result<Outcome, Failure> {
        let now = monotonic_ns();
        if ended.is_none() {
            for segment in &self.segments {
                segment.stop();
            }
        }
        // Samplers that cannot be stopped end with us; what they add meanwhile is dropped.
        let _ = self.sampler.disable();
        // The last events may have been published after the last round.
        for _ in 0..2 {
            self.drain();
        }
        let due: Vec<_> = self.sequencer.release_all().collect();
        self.handle(due);
        let mut processes = std::mem::take(&mut self.processes);
        if let Some(root) = processes.remove(&self.root_pid) {
            self.close(root, now, ended);
        }
        for (_, process) in processes {
            self.close(process, now, None);
        }
        let mut closed = std::mem::take(&mut self.closed);
        output::give_the_name_to_the_busiest(&mut closed, &self.base, self.root_pid);
        closed.sort_by_key(|(written, _)| std::cmp::Reverse(written.samples));
        let outcome = Outcome {
            profiles: closed.into_iter().map(|(written, _)| written).collect(),
            sampler: match self.kind {
                Kind::Clock => "clock",
                Kind::Fault => "fault",
            },
            chosen_because: self.because.clone(),
            exit_status: None,
            duration_s: now.saturating_sub(self.recording_from_ns()) as f64 / 1e9,
        };
        self.write_error.take().map_or(Ok(outcome), Err)
    }
}
