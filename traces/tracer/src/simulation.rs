//! The simulation's thread: takes what guest threads did, batch by batch, and has it simulated.
//!
//! Should it panic, it says so, the program goes on without it, and no outcome is written.

use crate::callbacks;
use crate::config::TracerConfig;
use crate::decode::{Decoded, MemoryTag};
use crate::guest::Guest;
use crate::link::{self, Delivery};
use crate::log::{self, Batch, Entry};
use crate::outcome::{Ended, Losses, STOPPED_STATUS, TracerOutcome};
use crate::output::Output;
use crate::policy::Policy;
use crate::progress::Progress;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::{Duration, Instant};
use tierscope_sim::{Access, Block, Event, Next, Registers, Simulator};

/// Between two looks at the progress by whoever waits.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// A guest thread.
#[derive(Debug, Default)]
struct Thread {
    tid: u32,
    /// Where its stack lies was told.
    has_stack: bool,
}

struct Simulation {
    simulator: Simulator,
    guest: Guest,
    output: Output,
    threads: Vec<Thread>,
    losses: Losses,
    /// First address and bytes of the shim's instructions.
    shim: (u64, u64),
    began: Instant,
    last_progress: Instant,
    /// Of the block being read.
    accesses: Vec<Access>,
    told: Vec<Event>,
    samples: Vec<tierscope_sim::Sample>,
    allocations: Vec<tierscope_sim::Allocation>,
}

/// Appends an access, or does not: if it is a further piece of the last.
#[inline(always)]
fn append(accesses: &mut Vec<Access>, address: u64, tag: MemoryTag) {
    if tag.is_in_pieces()
        && let Some(last) = accesses.last()
        && (last.op, last.store) == (tag.op(), tag.is_store())
        && address.wrapping_sub(last.address) < u64::from(last.bytes)
        && address != last.address
    {
        return;
    }
    accesses.push(Access { address, op: tag.op(), bytes: tag.bytes(), store: tag.is_store() });
}

/// Starts the thread. Signals stay with the program's own threads.
///
/// # Errors
///
/// What about the configuration cannot be done.
pub(crate) fn start(config: TracerConfig) -> Result<(), String> {
    let simulator = Simulator::new(&config.simulator).map_err(|error| error.to_string())?;
    let policies = config.policies.iter().map(Policy::read).collect::<Result<Vec<_>, _>>()?;
    let output = Output::create(&config.directory)?;
    let receiver = link::open().ok_or("the plugin is loaded twice")?;
    let simulation = Simulation {
        simulator,
        guest: Guest::new(policies),
        output,
        threads: Vec::new(),
        losses: Losses::default(),
        shim: (0, 0),
        began: Instant::now(),
        last_progress: Instant::now(),
        accesses: Vec::new(),
        told: Vec::new(),
        samples: Vec::new(),
        allocations: Vec::new(),
    };
    let mask = callbacks::hold_signals();
    let thread = std::thread::Builder::new().name("tierscope".into()).spawn(move || run(simulation, &receiver));
    callbacks::release_signals(&mask);
    thread.map(drop).map_err(|error| format!("cannot start the simulation's thread: {error}"))
}

fn run(simulation: Simulation, receiver: &Receiver<Delivery>) {
    let mut answer = None;
    let work = AssertUnwindSafe(|| simulation.work(receiver, &mut answer));
    if catch_unwind(work).is_err() {
        link::set_over();
        log::forget_all();
        eprintln!(
            "tierscope: the simulation failed (see above); the program goes on without it, and there will be no results"
        );
    }
    // Whoever ends the program waits for this, or, if it could not be heard, for the queue to be closed.
    if let Some(answer) = answer {
        let _ = answer.send(());
    }
}

impl Simulation {
    fn work(mut self, receiver: &Receiver<Delivery>, answer: &mut Option<SyncSender<()>>) {
        while let Ok(delivery) = receiver.recv() {
            match delivery {
                Delivery::Batch(batch) => {
                    if self.batch(batch) == Next::Stop {
                        link::set_over();
                        self.end(Ended::Stopped);
                        // SAFETY: ends the process, as was asked for.
                        unsafe { libc::_exit(STOPPED_STATUS) }
                    }
                }
                Delivery::End(ended, waiting) => {
                    *answer = Some(waiting);
                    return self.end(ended);
                }
            }
        }
    }

    fn batch(&mut self, mut batch: Batch) -> Next {
        let cpu = batch.cpu;
        if self.threads.len() <= usize::from(cpu) {
            self.threads.resize_with(usize::from(cpu) + 1, Thread::default);
        }
        let mut current: Option<&'static Decoded> = None;
        let mut accesses = std::mem::take(&mut self.accesses);
        let mut stops = false;
        // SAFETY: a batch from a log, read once.
        for entry in unsafe { batch.entries() } {
            match entry {
                Entry::Access { address, tag } => append(&mut accesses, address, tag),
                Entry::Block(block) => {
                    if let Some(before) = current.replace(block) {
                        stops |= self.close(cpu, before, &accesses);
                    }
                    accesses.clear();
                }
                Entry::Happened(happening) => {
                    if let Some(before) = current.take() {
                        stops |= self.close(cpu, before, &accesses);
                    }
                    accesses.clear();
                    self.happened(cpu, *happening);
                }
            }
        }
        if let Some(last) = current {
            stops |= self.close(cpu, last, &accesses);
        }
        accesses.clear();
        self.accesses = accesses;
        link::give_back(batch);
        self.keep_rows();
        if self.last_progress.elapsed() >= PROGRESS_EVERY {
            self.last_progress = Instant::now();
            self.output.progress(&self.progress());
        }
        if stops { Next::Stop } else { Next::GoOn }
    }

    /// A block was executed and accessed these. Whether enough was counted.
    #[inline(always)]
    fn close(&mut self, cpu: u16, decoded: &Decoded, accesses: &[Access]) -> bool {
        if !self.threads.get(usize::from(cpu)).is_some_and(|thread| thread.has_stack) {
            self.find_stack(cpu, decoded, accesses);
        }
        let (start, bytes) = self.shim;
        if decoded.block.address.wrapping_sub(start) < bytes {
            return false;
        }
        let shown = accesses.last().map_or(0, |last| last.op + 1);
        let next = if shown < decoded.last_certain {
            self.execute_part(cpu, decoded, accesses)
        } else {
            self.simulator.execute(cpu, &decoded.block, accesses)
        };
        next == Next::Stop
    }

    /// Leaves out what was not executed of a block that was left early.
    #[cold]
    fn execute_part(&mut self, cpu: u16, decoded: &Decoded, accesses: &[Access]) -> Next {
        let block = &decoded.block;
        self.losses.blocks_left_early += 1;
        // The first instruction after the last access that would have had to show one is where it was left.
        let done = accesses.last().map_or(0, |last| usize::from(last.op) + 1);
        let after = block.ops.get(done..).unwrap_or_default();
        let until = after.iter().position(|op| op.loads + op.stores > 0).map_or(block.ops.len(), |at| done + at);
        let ops = block.ops.get(..until).unwrap_or(&block.ops);
        let part = Block { address: block.address, bytes: block.bytes, ops: ops.into() };
        self.simulator.execute(cpu, &part, accesses)
    }

    #[cold]
    fn find_stack(&mut self, cpu: u16, decoded: &Decoded, accesses: &[Access]) {
        let by_stack_pointer = |access: &&Access| {
            let op = decoded.block.ops.get(usize::from(access.op));
            op.is_some_and(|op| op.address_sources.contains(Registers::general(4)))
        };
        let Some(access) = accesses.iter().find(by_stack_pointer) else { return };
        let Some(thread) = self.threads.get_mut(usize::from(cpu)) else { return };
        thread.has_stack = true;
        if let Some((low, high)) = self.guest.stack(access.address) {
            let tid = thread.tid;
            self.simulator.event(cpu, Event::Stack { tid, low, high });
        }
    }

    fn happened(&mut self, cpu: u16, happening: crate::happening::Happening) {
        let Some(thread) = self.threads.get_mut(usize::from(cpu)) else { return };
        if matches!(happening, crate::happening::Happening::Started { .. }) {
            *thread = Thread::default();
        }
        self.guest.understand(happening, &mut thread.tid, &mut self.told, &mut self.losses);
        for event in self.told.drain(..) {
            self.simulator.event(cpu, event);
        }
        self.shim = self.guest.shim.map_or((0, 0), |(start, end)| (start, end - start));
    }

    fn keep_rows(&mut self) {
        self.simulator.take_samples(&mut self.samples);
        self.simulator.take_allocations(&mut self.allocations);
        self.losses.rows_not_written += self.output.rows(&self.samples, &self.allocations);
        self.samples.clear();
        self.allocations.clear();
    }

    fn progress(&self) -> Progress {
        let progress = self.simulator.progress();
        Progress {
            instructions: progress.instructions,
            counted_instructions: progress.counted_instructions,
            phase: self.guest.marks,
        }
    }

    fn end(mut self, ended: Ended) {
        self.simulator.record_live();
        self.keep_rows();
        self.output.progress(&self.progress());
        let outcome = TracerOutcome {
            ended,
            shim: self.guest.shim.is_some(),
            seconds: self.began.elapsed().as_secs_f64(),
            losses: self.losses,
            outcome: self.simulator.finish(),
        };
        if let Err(error) = self.output.finish(&outcome) {
            eprintln!("tierscope: cannot write the results: {error}");
        }
    }
}
