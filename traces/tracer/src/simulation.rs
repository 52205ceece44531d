//! The simulation's thread: takes what guest threads did, batch by batch, and has it simulated.
//!
//! Should it panic, it says so, the program goes on without it, and no outcome is written.

use crate::callbacks;
use crate::config::TracerConfig;
use crate::decode::Decoded;
use crate::guest::Guest;
use crate::link::{self, Delivery};
use crate::log::{self, Batch};
use crate::outcome::{Ended, Losses, STOPPED_STATUS, TracerOutcome};
use crate::output::Output;
use crate::policy::Policy;
use crate::progress::Progress;
use crate::steps::{self, Words};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::{Duration, Instant};
use tierscope_sim::{Event, Next, Packed, Registers, Simulator};

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
    told: Vec<Event>,
    samples: Vec<tierscope_sim::Sample>,
    allocations: Vec<tierscope_sim::Allocation>,
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
    link::let_go();
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

    fn batch(&mut self, batch: Batch) -> Next {
        let cpu = batch.cpu;
        if self.threads.len() <= usize::from(cpu) {
            self.threads.resize_with(usize::from(cpu) + 1, Thread::default);
        }
        let mut next = Next::GoOn;
        // SAFETY: a batch from a log, read once.
        let mut words = unsafe { Words::new(&batch) };
        while let Some(entry) = words.next_but_accesses() {
            match entry {
                steps::Next::Happened(happening) => self.happened(cpu, *happening),
                steps::Next::Block(decoded) => {
                    if self.run(cpu, decoded, &mut words) == Next::Stop {
                        next = Next::Stop;
                    }
                }
            }
        }
        self.losses.blocks_left_early += words.left_early;
        link::give_back(batch);
        self.keep_rows();
        if self.last_progress.elapsed() >= PROGRESS_EVERY {
            self.last_progress = Instant::now();
            self.output.progress(&self.progress());
        }
        next
    }

    /// Simulates the block that is next and what follows it, as far as nothing else is to be done.
    fn run(&mut self, cpu: u16, decoded: &Decoded, words: &mut Words<'_>) -> Next {
        let has_stack = |threads: &[Thread]| threads.get(usize::from(cpu)).is_some_and(|thread| thread.has_stack);
        if !has_stack(&self.threads) {
            self.find_stack(cpu, decoded, words.accesses_ahead());
        }
        let (start, bytes) = self.shim;
        if decoded.block.address.wrapping_sub(start) < bytes {
            words.skip();
            return Next::GoOn;
        }
        words.left_out = self.shim;
        if has_stack(&self.threads) {
            return self.simulator.run(cpu, words);
        }
        let mut one = words.one_block();
        let next = self.simulator.run(cpu, &mut one);
        words.go_on_after(&one);
        next
    }

    #[cold]
    fn find_stack(&mut self, cpu: u16, decoded: &Decoded, mut accesses: impl Iterator<Item = Packed>) {
        let by_stack_pointer = |access: &Packed| {
            let op = decoded.block.ops.get(usize::from(access.op()));
            op.is_some_and(|op| op.address_sources.contains(Registers::general(4)))
        };
        let Some(access) = accesses.find(by_stack_pointer) else { return };
        let Some(thread) = self.threads.get_mut(usize::from(cpu)) else { return };
        thread.has_stack = true;
        if let Some((low, high)) = self.guest.stack(access.address()) {
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
