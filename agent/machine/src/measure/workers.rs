//! Work that runs on several CPUs while someone else looks how far it is.
//!
//! A worker does pieces of some 100 us and publishes the units it has done and the CPU time it has had; the coordinator looks
//! at the edges of windows. Rates are units by *CPU* time: a machine that is measured is seldom idle, and a thread that waits
//! for its CPU behind another program would make memory seem slow. But two threads that took turns did not share the memory,
//! so windows in which a worker had less than nine tenths of its CPU count only when there are not enough others, and then
//! the outcome says so.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::Trouble;

/// The part of a window a worker must have had its CPU.
const UNDISTURBED: f64 = 0.9;
/// The part below which a window says nothing.
const LEAST: f64 = 0.05;
/// Windows in all, as a multiple of those wanted.
const PATIENCE: usize = 2;

/// A CPU, and a piece of work on it that returns the units it did.
pub(crate) struct Job<'a> {
    pub(crate) cpu: u32,
    pub(crate) piece: Box<dyn FnMut() -> u64 + Send + 'a>,
}

/// What each job did in one window: units and seconds of CPU time.
pub(crate) struct Window {
    pub(crate) jobs: Vec<(u64, f64)>,
    /// The least part of the window that a job had its CPU.
    share: f64,
}

/// Windows to go by.
pub(crate) struct Observed {
    pub(crate) windows: Vec<Window>,
    /// Where other programs had the CPUs too much: the part of the time the worst off worker had.
    pub(crate) disturbed: Option<f64>,
}

/// What a worker has done since it began.
#[derive(Default)]
struct Counter {
    units: AtomicU64,
    cpu_ns: AtomicU64,
}

/// Run all jobs at once, first to warm up, then until there are so many undisturbed windows or it takes too long.
pub(crate) fn run(
    jobs: Vec<Job<'_>>,
    windows: usize,
    length: Duration,
    tick: &mut dyn FnMut(f64) -> Result<(), Trouble>,
) -> Result<Observed, Trouble> {
    let counters: Vec<Counter> = jobs.iter().map(|_| Counter::default()).collect();
    let (stop, unpinned) = (AtomicBool::new(false), AtomicBool::new(false));
    let ready = Barrier::new(jobs.len() + 1);
    std::thread::scope(|scope| {
        for (mut job, counter) in jobs.into_iter().zip(&counters) {
            let (stop, unpinned, ready) = (&stop, &unpinned, &ready);
            scope.spawn(move || {
                if !pin(job.cpu) {
                    unpinned.store(true, Ordering::Relaxed);
                }
                ready.wait();
                while !stop.load(Ordering::Relaxed) {
                    // One writer: no read-modify-write is needed.
                    let done = counter.units.load(Ordering::Relaxed).wrapping_add((job.piece)());
                    counter.units.store(done, Ordering::Relaxed);
                    counter.cpu_ns.store(cpu_ns(), Ordering::Relaxed);
                }
            });
        }
        ready.wait();
        let outcome = observe(&counters, windows, length, tick);
        stop.store(true, Ordering::Relaxed);
        if unpinned.load(Ordering::Relaxed) {
            return Err(Trouble::Failed("a thread cannot be kept on its CPU: allow sched_setaffinity".into()));
        }
        outcome
    })
}

fn observe(
    counters: &[Counter],
    wanted: usize,
    length: Duration,
    tick: &mut dyn FnMut(f64) -> Result<(), Trouble>,
) -> Result<Observed, Trouble> {
    let read = |counter: &Counter| (counter.units.load(Ordering::Relaxed), counter.cpu_ns.load(Ordering::Relaxed));
    let look = || (Instant::now(), counters.iter().map(read).collect::<Vec<_>>());
    std::thread::sleep(length);
    let (mut before, mut counted) = look();
    let mut all: Vec<Window> = Vec::new();
    let good = |all: &[Window]| all.iter().filter(|window| window.share >= UNDISTURBED).count();
    while good(&all) < wanted && all.len() < wanted * PATIENCE {
        tick((good(&all) as f64 / wanted as f64).max(all.len() as f64 / (wanted * PATIENCE) as f64))?;
        std::thread::sleep(length);
        let (now, after) = look();
        let done = |((units, cpu), (old_units, old_cpu)): (&(u64, u64), &(u64, u64))| {
            (units.wrapping_sub(*old_units), cpu.wrapping_sub(*old_cpu) as f64 * 1e-9)
        };
        let jobs: Vec<(u64, f64)> = after.iter().zip(&counted).map(done).collect();
        let seconds = (now - before).as_secs_f64();
        let share = jobs.iter().map(|(_, cpu)| cpu / seconds).fold(1.0, f64::min);
        all.push(Window { jobs, share });
        (before, counted) = (now, after);
    }
    // Three windows have quartiles.
    if good(&all) >= wanted.min(3) {
        all.retain(|window| window.share >= UNDISTURBED);
        return Ok(Observed { windows: all, disturbed: None });
    }
    let share = all.iter().map(|window| window.share).sum::<f64>() / all.len().max(1) as f64;
    all.retain(|window| window.share >= LEAST);
    if all.is_empty() {
        let reason = "other programs left the measurement no CPU time: measure when less is running";
        return Err(Trouble::Failed(reason.into()));
    }
    Ok(Observed { windows: all, disturbed: Some(share) })
}

/// CPU time of this thread.
fn cpu_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes the structure it is given. The clock is there on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    let (seconds, rest) = (u64::try_from(time.tv_sec).unwrap_or(0), u64::try_from(time.tv_nsec).unwrap_or(0));
    seconds.wrapping_mul(1_000_000_000).wrapping_add(rest)
}

/// CPUs this process may run on.
pub(crate) fn allowed_cpus() -> Vec<u32> {
    let mut mask = [0_u64; 128];
    // SAFETY: the kernel writes at most the size it is told, which is that of the array.
    let got = unsafe { libc::syscall(libc::SYS_sched_getaffinity, 0, size_of_val(&mask), mask.as_mut_ptr()) };
    let words = usize::try_from(got).unwrap_or_default() / 8;
    let bits = |(word, bits): (usize, &u64)| {
        let bits = *bits;
        (0..64).filter(move |bit| bits >> bit & 1 == 1).map(move |bit| word as u32 * 64 + bit)
    };
    mask.iter().take(words).enumerate().flat_map(bits).collect()
}

fn pin(cpu: u32) -> bool {
    let mut mask = [0_u64; 128];
    let Some(word) = mask.get_mut(cpu as usize / 64) else { return false };
    *word = 1 << (cpu % 64);
    // SAFETY: the kernel reads the size it is told, which is that of the array; only this thread is moved.
    unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, size_of_val(&mask), mask.as_ptr()) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_window_counts_what_every_job_did() {
        let cpu = allowed_cpus()[0];
        let job = || Job {
            cpu,
            piece: Box::new(|| {
                std::hint::black_box((0..1000_u64).sum::<u64>());
                3
            }),
        };
        // Two jobs on one CPU cannot both have it: they are counted, and it is said.
        let observed = run(vec![job(), job()], 4, Duration::from_millis(60), &mut |_| Ok(())).ok().unwrap();
        assert!(observed.disturbed.is_some_and(|share| share < UNDISTURBED));
        assert!(!observed.windows.is_empty());
        for window in observed.windows {
            assert!(window.jobs.len() == 2 && window.jobs.iter().all(|(units, cpu)| units % 3 == 0 && *cpu > 0.0));
        }
    }

    #[test]
    fn a_stop_ends_all_workers() {
        let cpu = allowed_cpus()[0];
        let jobs = vec![Job { cpu, piece: Box::new(|| 1) }];
        let outcome = run(jobs, 100, Duration::from_millis(1), &mut |_| Err(Trouble::Stopped));
        assert!(matches!(outcome, Err(Trouble::Stopped)));
    }

    #[test]
    fn a_cpu_that_is_not_there_is_reported() {
        let jobs = vec![Job { cpu: 100_000, piece: Box::new(|| 1) }];
        assert!(matches!(run(jobs, 1, Duration::from_millis(1), &mut |_| Ok(())), Err(Trouble::Failed(_))));
    }
}
