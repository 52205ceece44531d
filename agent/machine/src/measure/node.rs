//! The memory of one node: chase, loaded chase, streams of one and of all threads.

use tierscope_tiers::{Figure, Quantity, Tier};

use super::buffer::Buffer;
use super::kernels::{AROUND_CACHES, hop, read_piece, write_cycle, write_piece};
use super::statistics::Spread;
use super::workers::{Job, Observed, allowed_cpus, run};
use super::{Request, Steps, Trouble, memory_to_use, too_little_memory};
use crate::convert::{nearest_cpus, set_sane};
use crate::detect::Machine;

/// Steps of a node: writing the cycle and six figures.
pub(crate) const STEPS: usize = 7;
/// Where the cache is not shown.
const USUAL_CACHE: u64 = 32 << 20;
const LEAST_BUFFER: u64 = 64 << 20;
const LARGEST_BUFFER: u64 = 4 << 30;
/// Times the last level cache: a chase then hits it once in 16 hops.
const TIMES_CACHE: u64 = 16;
/// Times the last level cache below which the figure would be the cache's.
const LEAST_TIMES_CACHE: u64 = 4;

/// The bytes to measure with, a power of two, or what there is too little of.
fn buffer_bytes(machine: &Machine, node: u16, request: &Request) -> Result<u64, String> {
    let cache = machine.last_level_cache_bytes.unwrap_or(USUAL_CACHE);
    let most = memory_to_use(machine, Some(node)).unwrap_or(LARGEST_BUFFER);
    let wanted = request.buffer_bytes.unwrap_or(cache.saturating_mul(TIMES_CACHE).min(LARGEST_BUFFER));
    let wanted = wanted.clamp(LEAST_BUFFER, 1 << 40).next_power_of_two();
    // A buffer that was asked for is taken or refused; one that was not shrinks to what there is.
    let least = match request.buffer_bytes {
        Some(_) => wanted,
        None => cache.saturating_mul(LEAST_TIMES_CACHE).clamp(LEAST_BUFFER, wanted).next_power_of_two().min(wanted),
    };
    let mut bytes = wanted;
    while bytes > most {
        if bytes <= least {
            return Err(too_little_memory(least, most));
        }
        bytes /= 2;
    }
    Ok(bytes)
}

/// CPUs to measure from: those of the node asked for, else those nearest; of them, those this process may use.
fn cpus(machine: &Machine, node: u16, request: &Request) -> Result<(Vec<u32>, Option<u16>), String> {
    let number = |number: u16| machine.nodes.iter().find(|node| node.number == number);
    let from = match request.from_node {
        Some(from) => number(from),
        None => number(node).and_then(|node| nearest_cpus(machine, node)).map(|(near, _)| near),
    };
    let allowed = allowed_cpus();
    let (cpus, from) = match from {
        Some(from) => (from.cpus.iter().copied().filter(|cpu| allowed.contains(cpu)).collect(), Some(from.number)),
        None => (allowed, None),
    };
    if cpus.is_empty() {
        let from = from.unwrap_or_default();
        return Err(format!(
            "no CPU of node {from}, from which it is measured, may be used by this process: see `taskset -p $$`"
        ));
    }
    Ok((cpus, from))
}

/// Measure the memory of a node and put the figures into its tier.
pub(crate) fn measure(
    machine: &Machine,
    node: u16,
    request: &Request,
    date: &str,
    steps: &mut Steps<'_, '_>,
    tier: &mut Tier,
) -> Result<(), Trouble> {
    let bytes = buffer_bytes(machine, node, request)?;
    let (cpus, from) = cpus(machine, node, request)?;
    let length = usize::try_from(bytes).map_err(|_| too_little_memory(bytes, usize::MAX as u64))?;
    let mut buffer = Buffer::new(length)?;
    let alone = machine.nodes.iter().filter(|node| node.total_bytes.is_some()).count() == 1;
    if let Err(error) = buffer.prefer(node)
        && !alone
    {
        let way_out = "in a container, start it with --cap-add SYS_NICE";
        return Err(Trouble::Failed(format!("memory of node {node} cannot be asked for (mbind: {error}); {way_out}")));
    }
    write_cycle(buffer.words_mut(), |part| steps.tick(part, "preparing memory"))?;
    steps.next();
    if let Some(part) = buffer.part_on(node)
        && part < 0.95
    {
        let percent = part * 100.0;
        return Err(Trouble::Failed(format!(
            "only {percent:.0} % of the memory came from node {node}, which has too little free: stop something that uses it"
        )));
    }
    let note = note(machine, &buffer, bytes, from, node);
    let mut session = Session { request, steps, date, note, tier };
    let first = cpus.first().copied().unwrap_or_default();
    let threads: Vec<u32> = cpus.iter().copied().take(request.threads.unwrap_or(usize::MAX).max(1)).collect();
    session.chases(&buffer, first, &cpus)?;
    session.reads(&buffer, &threads)?;
    session.writes(&mut buffer, &threads)
}

/// What one must know to read the latency.
fn note(machine: &Machine, buffer: &Buffer, bytes: u64, from: Option<u16>, node: u16) -> Option<String> {
    let mut notes = Vec::new();
    if let Some(from) = from.filter(|&from| from != node) {
        notes.push(format!("from the CPUs of node {from}"));
    }
    let times = bytes as f64 / machine.last_level_cache_bytes.unwrap_or(USUAL_CACHE) as f64;
    if times < TIMES_CACHE as f64 {
        notes.push(format!("some hops hit the cache: the buffer is {times:.1} times as large"));
    }
    match buffer.huge_part() {
        Some(part) if part >= 0.9 => {}
        Some(part) => notes.push(format!("with walks of the page table: {:.0} % in huge pages", part * 100.0)),
        None => notes.push("perhaps with walks of the page table: whether in huge pages is not known".into()),
    }
    (!notes.is_empty()).then(|| notes.join("; "))
}

struct Session<'a, 'b, 'c> {
    request: &'a Request,
    steps: &'a mut Steps<'b, 'c>,
    date: &'a str,
    note: Option<String>,
    tier: &'a mut Tier,
}

impl Session<'_, '_, '_> {
    fn run(&mut self, jobs: Vec<Job<'_>>, what: &str) -> Result<Observed, Trouble> {
        let steps = &mut *self.steps;
        let observed = run(jobs, self.request.windows, self.request.window, &mut |part| steps.tick(part, what));
        steps.next();
        observed
    }

    fn set(&mut self, quantity: Quantity, observed: &Observed, values: Vec<f64>, notes: &[Option<String>]) {
        let Some(spread) = Spread::of(values) else { return };
        let busy = |share| format!("other programs ran: the threads had {:.0} % of their CPUs", share * 100.0);
        let notes: Vec<String> = notes.iter().flatten().cloned().chain(observed.disturbed.map(busy)).collect();
        let note = (!notes.is_empty()).then(|| notes.join("; "));
        set_sane(self.tier, quantity, Figure { note, ..spread.figure(self.date) });
    }

    fn chases(&mut self, buffer: &Buffer, first: u32, cpus: &[u32]) -> Result<(), Trouble> {
        let words = buffer.words();
        let chase = || {
            let mut place = 0;
            Job { cpu: first, piece: Box::new(move || hop(words, &mut place)) }
        };
        let latency = |observed: &Observed| -> Vec<f64> {
            let chases = observed.windows.iter().filter_map(|window| window.jobs.first());
            chases.map(|(hops, seconds)| seconds * 1e9 / *hops as f64).collect()
        };
        let alone = self.run(vec![chase()], "latency")?;
        let note = self.note.clone();
        self.set(Quantity::ReadLatencyNs, &alone, latency(&alone), &[note]);
        let others: Vec<u32> = cpus.iter().copied().filter(|&cpu| cpu != first).collect();
        if others.is_empty() {
            // One CPU cannot wait and load at once.
            self.steps.next();
            return Ok(());
        }
        let mut jobs = vec![chase()];
        jobs.extend(readers(words, &others));
        let loaded = self.run(jobs, "latency under load")?;
        let load =
            Spread::of(bandwidth(&loaded, 1)).map(|spread| format!("while others read {:.1} GB/s", spread.median));
        let note = self.note.clone();
        self.set(Quantity::LoadedLatencyNs, &loaded, latency(&loaded), &[load, note]);
        Ok(())
    }

    fn reads(&mut self, buffer: &Buffer, threads: &[u32]) -> Result<(), Trouble> {
        let one = threads.get(..1).unwrap_or_default();
        let observed = self.run(readers(buffer.words(), one), "reading, one thread")?;
        self.set(Quantity::ThreadReadBandwidthGbs, &observed, bandwidth(&observed, 0), &[]);
        let observed = self.run(readers(buffer.words(), threads), "reading, all threads")?;
        let many = Some(crate::count(threads.len(), "thread"));
        self.set(Quantity::ReadBandwidthGbs, &observed, bandwidth(&observed, 0), &[many]);
        Ok(())
    }

    fn writes(&mut self, buffer: &mut Buffer, threads: &[u32]) -> Result<(), Trouble> {
        let how = if AROUND_CACHES { "non-temporal stores" } else { "ordinary stores, which read the line first" };
        let one = threads.get(..1).unwrap_or_default();
        let observed = self.run(writers(buffer.words_mut(), one), "writing, one thread")?;
        self.set(Quantity::ThreadWriteBandwidthGbs, &observed, bandwidth(&observed, 0), &[Some(how.into())]);
        let observed = self.run(writers(buffer.words_mut(), threads), "writing, all threads")?;
        let many = Some(format!("{}, {how}", crate::count(threads.len(), "thread")));
        self.set(Quantity::WriteBandwidthGbs, &observed, bandwidth(&observed, 0), &[many]);
        Ok(())
    }
}

/// 10^9 bytes a second of all jobs but the first few, in each window.
fn bandwidth(observed: &Observed, but: usize) -> Vec<f64> {
    let rate = |&(bytes, seconds): &(u64, f64)| bytes as f64 / seconds / 1e9;
    observed.windows.iter().map(|window| window.jobs.iter().skip(but).map(rate).sum()).collect()
}

/// A reader on each CPU, each in a part of its own, so that together they go through the whole buffer.
fn readers<'a>(words: &'a [u64], cpus: &[u32]) -> Vec<Job<'a>> {
    let part = words.len().div_ceil(cpus.len().max(1)).max(1);
    let job = |(part, &cpu): (&'a [u64], &u32)| {
        let mut from = 0;
        Job { cpu, piece: Box::new(move || read_piece(part, &mut from)) }
    };
    words.chunks(part).zip(cpus).map(job).collect()
}

/// A writer on each CPU, each in a part of its own.
fn writers<'a>(words: &'a mut [u64], cpus: &[u32]) -> Vec<Job<'a>> {
    let part = words.len().div_ceil(cpus.len().max(1)).max(1);
    let job = |(part, &cpu): (&'a mut [u64], &u32)| {
        let mut from = 0;
        Job { cpu, piece: Box::new(move || write_piece(part, &mut from)) }
    };
    words.chunks_mut(part).zip(cpus).map(job).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(cache: u64, available: u64) -> Machine {
        Machine { last_level_cache_bytes: Some(cache), available_bytes: Some(available), ..Machine::default() }
    }

    #[test]
    fn the_buffer_is_far_larger_than_the_cache_and_takes_no_more_than_half_of_what_is_free() {
        let request = Request::default();
        assert_eq!(buffer_bytes(&machine(48 << 20, 64 << 30), 0, &request), Ok(1 << 30));
        assert_eq!(buffer_bytes(&machine(48 << 20, 1 << 30), 0, &request), Ok(512 << 20));
        assert_eq!(buffer_bytes(&machine(1 << 20, 64 << 30), 0, &request), Ok(64 << 20));
        let refused = buffer_bytes(&machine(48 << 20, 256 << 20), 0, &request).unwrap_err();
        assert!(
            refused.starts_with("measuring needs 256 MiB of memory, and at most 128 MiB may be taken"),
            "{refused}"
        );
    }

    #[test]
    fn a_cgroup_limit_counts_as_memory_that_is_not_there() {
        let limit = crate::MemoryLimit { cgroup_version: 2, bytes: Some(300 << 20), used_bytes: Some(200 << 20) };
        let tight = Machine { limit: Some(limit), ..machine(48 << 20, 64 << 30) };
        assert!(buffer_bytes(&tight, 0, &Request::default()).is_err());
    }

    #[test]
    fn a_buffer_asked_for_is_not_made_smaller_in_silence() {
        let request = Request { buffer_bytes: Some(1 << 30), ..Request::default() };
        assert!(buffer_bytes(&machine(1 << 20, 1 << 30), 0, &request).is_err());
        assert_eq!(buffer_bytes(&machine(1 << 20, 4 << 30), 0, &request), Ok(1 << 30));
    }
}
