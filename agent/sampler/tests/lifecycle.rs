//! Threads, processes, attaching, losses: what is sampled, and that nothing is sampled twice.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use tierscope_sampler::{AccessKind, Kind, RawSample, Record, Sampler, SamplerConfig, SamplerError, Target};

mod support;

use support::{Attribution, Child, drain_until, perf_works, pipe};

fn program() -> &'static str {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    let path = PROGRAM.get_or_init(|| {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/programs/lifecycle.c");
        let program = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("lifecycle");
        let compiled = Command::new("cc").args(["-O1", "-pthread", source, "-o"]).arg(&program).status();
        assert!(compiled.is_ok_and(|status| status.success()), "a C compiler (`cc`) is needed");
        program
    });
    path.to_str().unwrap()
}

/// Runs the program to its end under the sampler; its output and all records.
fn record(arguments: &[&str], config: &SamplerConfig) -> (u32, Vec<Record>, String) {
    let (output, stdout) = pipe();
    let command: Vec<&str> = std::iter::once(program()).chain(arguments.iter().copied()).collect();
    let mut child = Child::stopped(&command, None, Some(stdout));
    let mut sampler = Sampler::open(Target::Launch { pid: child.pid }, config).unwrap();
    child.release();
    let records = drain_to_end(&mut sampler);
    assert_eq!(sampler.losses(), Default::default());
    let pid = child.pid;
    assert_eq!(child.wait(), 0);
    (pid, records, read_all(output))
}

fn drain_to_end(sampler: &mut Sampler) -> Vec<Record> {
    let mut all = Vec::new();
    drain_until(sampler, |records| {
        all.extend_from_slice(records);
        false
    });
    sampler.drain(&mut all);
    all
}

fn read_all(output: OwnedFd) -> String {
    let mut text = String::new();
    File::from(output).read_to_string(&mut text).unwrap();
    text
}

fn samples(records: &[Record]) -> impl Iterator<Item = &RawSample> {
    records.iter().filter_map(|record| match record {
        Record::Sample(sample) => Some(sample),
        _ => None,
    })
}

/// `TID MICROSECONDS` per line.
fn cpu_times(output: &str) -> BTreeMap<u32, f64> {
    let parse = |line: &str| {
        let (tid, microseconds) = line.split_once(' ')?;
        Some((tid.parse().ok()?, microseconds.parse::<f64>().ok()? * 1e-6))
    };
    output.lines().filter_map(parse).collect()
}

/// How many samples there may be. A hypervisor that takes a processor lets its clock run on: samples are
/// taken in that time as well, and a thread's CPU time may leave it out; and ticks that come late, when the processor is back, come as one.
/// Half the samples, or twice as many, are neither.
fn allowed(expected: f64, stolen_seconds: f64, rate: f64) -> std::ops::Range<f64> {
    0.6 * expected - 2.0..1.1 * expected + stolen_seconds * rate + 2.0
}

/// Seconds, over all processors, that a hypervisor gave to others while their clocks ran on: samples are taken in them as well, and a thread's
/// CPU time leaves them out.
fn stolen_seconds() -> f64 {
    // SAFETY: no pointers.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    let stat = std::fs::read_to_string("/proc/stat").unwrap();
    let stolen: u64 =
        stat.lines().next().and_then(|line| line.split_whitespace().nth(8)).map_or(0, |value| value.parse().unwrap());
    stolen as f64 / ticks as f64
}

/// The part of successive samples that are closer than half a period. One event's are a period apart, except after one that came late; of
/// two events that count the same thread it is half of them.
fn in_pairs(times_ns: &mut [u64]) -> f64 {
    times_ns.sort_unstable();
    let gaps = times_ns.windows(2).map(|pair| pair[1] - pair[0]);
    let close = gaps.filter(|gap| *gap < 500_000_000 / 997).count();
    close as f64 / times_ns.len().saturating_sub(1).max(1) as f64
}

#[test]
fn every_thread_is_sampled_once_for_its_time() {
    if !perf_works() {
        return;
    }
    let stolen = stolen_seconds();
    let (_, records, output) = record(&["threads", "12", "100"], &SamplerConfig::default());
    let threads = cpu_times(&output);
    assert_eq!(threads.len(), 12);
    let born: BTreeSet<u32> = records
        .iter()
        .filter_map(|record| match record {
            Record::Fork { tid, pid, parent_pid, .. } if pid == parent_pid => Some(*tid),
            _ => None,
        })
        .collect();
    let ended: BTreeSet<u32> = records
        .iter()
        .filter_map(|record| match record {
            Record::Exit { tid, .. } => Some(*tid),
            _ => None,
        })
        .collect();
    for (tid, seconds) in threads {
        let taken = samples(&records).filter(|sample| sample.tid == tid).count() as f64;
        let expected = seconds * 997.0;
        let allowed = allowed(expected, stolen_seconds() - stolen, 997.0);
        assert!(allowed.contains(&taken), "thread {tid}: {taken} samples, {expected} expected, {allowed:?} allowed");
        assert!(born.contains(&tid) && ended.contains(&tid));
    }
}

#[test]
fn children_are_followed_only_if_asked() {
    if !perf_works() {
        return;
    }
    for follow_children in [false, true] {
        let config = SamplerConfig { follow_children, ..SamplerConfig::default() };
        let (parent, records, output) = record(&["fork", "100"], &config);
        let (_, child) = output.trim().split_once(' ').unwrap();
        let count = |pid: u32| samples(&records).filter(|sample| sample.pid == pid).count();
        assert!(count(parent) > 80, "{} samples of the parent", count(parent));
        let of_child = count(child.parse().unwrap());
        assert_eq!(of_child > 80, follow_children, "{of_child} samples of the child");
        assert!(follow_children || of_child == 0);
    }
}

#[test]
fn a_launched_program_is_sampled_from_its_exec_on() {
    if !perf_works() {
        return;
    }
    let (pid, records, _) = record(&["burn", "50"], &SamplerConfig::default());
    let exec = records.iter().find_map(|record| match record {
        Record::Comm { exec: true, name, time_ns, .. } => Some((name.as_slice(), *time_ns)),
        _ => None,
    });
    let Some((b"lifecycle", exec_ns)) = exec else { panic!("no exec: {exec:?}") };
    assert!(samples(&records).all(|sample| sample.time_ns + 1_000_000 > exec_ns), "sampled before its exec");
    let mapping = records
        .iter()
        .find_map(|record| match record {
            Record::Mmap(mapping) if mapping.path.to_str() == Some(program()) && mapping.executable => Some(mapping),
            _ => None,
        })
        .unwrap();
    assert_eq!(mapping.pid, pid);
    assert!(mapping.build_id.is_some() || mapping.inode.is_some());
    assert!(records.iter().any(|record| matches!(record, Record::Mmap(mapping) if !mapping.executable)));
    assert!(samples(&records).all(|sample| sample.registers.is_some()));
    assert!(matches!(records.last(), Some(Record::Exit { .. })));
}

#[test]
fn attaching_finds_present_and_future_threads_and_counts_none_twice() {
    if !perf_works() {
        return;
    }
    for _ in 0..3 {
        let stolen = stolen_seconds();
        let (output, stdout) = pipe();
        let mut child = Child::stopped(&[program(), "threads", "300", "10"], None, Some(stdout));
        child.release();
        let mut lines = BufReader::new(File::from(output)).lines();
        // Attach while threads come and go.
        for _ in 0..10 {
            lines.next().unwrap().unwrap();
        }
        let mut sampler = Sampler::open(Target::Attach { pid: child.pid }, &SamplerConfig::default()).unwrap();
        let attached_ns = monotonic_ns();
        let records = drain_to_end(&mut sampler);
        assert_eq!(sampler.losses(), Default::default());
        let output: Vec<String> = lines.map(|line| line.unwrap()).collect();
        assert_eq!(child.wait(), 0);
        let threads = cpu_times(&output.join("\n"));
        let of_thread = |tid: u32| samples(&records).filter(|sample| sample.tid == tid).count();
        for (&tid, &seconds) in &threads {
            let most = (seconds * 997.0 * 1.2).ceil() as usize + 2;
            let mut times: Vec<u64> =
                samples(&records).filter(|sample| sample.tid == tid).map(|sample| sample.time_ns).collect();
            let pairs = in_pairs(&mut times);
            assert!(
                times.len() <= most || pairs < 0.4,
                "{} samples of thread {tid}, {most} at most; {pairs} in pairs",
                times.len()
            );
        }
        // Of those born before, a part had run already.
        let born: Vec<u32> = records
            .iter()
            .filter_map(|record| match record {
                Record::Fork { tid, time_ns, .. } if *time_ns > attached_ns => Some(*tid),
                _ => None,
            })
            .collect();
        assert!(born.len() > 200, "{} threads born after", born.len());
        let taken = born.iter().map(|&tid| of_thread(tid)).sum::<usize>() as f64;
        let expected = born.iter().map(|tid| threads[tid]).sum::<f64>() * 997.0;
        let allowed = allowed(expected, stolen_seconds() - stolen, 997.0);
        assert!(allowed.contains(&taken), "{taken} samples, {expected} expected, {allowed:?} allowed");
        for tid in born {
            // A processor that is itself waiting for one takes ticks late: a sample or two of a short life may be missing.
            let least = ((threads[&tid] * 997.0 * 0.6) as usize).saturating_sub(2).max(1);
            assert!(of_thread(tid) >= least, "{} samples of thread {tid}, {least} at least", of_thread(tid));
        }
    }
}

fn monotonic_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a live timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

#[test]
fn what_a_full_ring_loses_is_counted() {
    if !perf_works() {
        return;
    }
    let stolen = stolen_seconds();
    let (output, stdout) = pipe();
    let mut child = Child::stopped(&[program(), "burn", "400"], None, Some(stdout));
    let config = SamplerConfig { ring_pages: 1, rate_hz: 4000, ..SamplerConfig::default() };
    let mut sampler = Sampler::open(Target::Launch { pid: child.pid }, &config).unwrap();
    child.release();
    // Nobody reads until the program has ended.
    let seconds: f64 = read_all(output).trim().parse::<f64>().unwrap() * 1e-6;
    let records = drain_to_end(&mut sampler);
    let lost = sampler.losses().lost_records;
    let taken = samples(&records).count() as f64;
    let expected = seconds * 4000.0;
    assert!(lost > 1000, "{lost} lost");
    let total = taken + lost as f64;
    let allowed = allowed(expected, stolen_seconds() - stolen, 4000.0);
    assert!(allowed.contains(&total), "{taken} taken, {lost} lost, {expected} expected, {allowed:?} allowed");
    assert_eq!(child.wait(), 0);
}

#[test]
fn faults_carry_their_address_and_kind() {
    if !perf_works() {
        return;
    }
    let (input, keep) = pipe();
    let (output, stdout) = pipe();
    let mut child = Child::stopped(&[program(), "pages", "1000"], Some(input), Some(stdout));
    let config = SamplerConfig { kind: Kind::Fault, ..SamplerConfig::default() };
    let mut sampler = Sampler::open(Target::Launch { pid: child.pid }, &config).unwrap();
    child.release();
    let mut line = String::new();
    BufReader::new(File::from(output)).read_line(&mut line).unwrap();
    let start: u64 = line.trim().parse().unwrap();
    let mut records = Vec::new();
    sampler.drain(&mut records);
    let mut attribution = Attribution::new(child.pid);
    attribution.refresh();
    let mut pages = BTreeSet::new();
    for sample in samples(&records) {
        let access = attribution.resolve(sample);
        let address = access.address.unwrap();
        if (start..start + 1000 * 4096).contains(&address) {
            pages.insert((address - start) / 4096);
            assert_eq!(access.kind, AccessKind::Store);
        }
    }
    assert_eq!(pages.len(), 1000);
    drop(keep);
    let _ = drain_to_end(&mut sampler);
    assert_eq!(child.wait(), 0);
}

#[test]
fn sampling_can_be_paused() {
    if !perf_works() {
        return;
    }
    let mut sampler = Sampler::open(Target::Attach { pid: std::process::id() }, &SamplerConfig::default()).unwrap();
    let burn = || {
        let end = support::cpu_time() + Duration::from_millis(50);
        while support::cpu_time() < end {}
    };
    // SAFETY: gettid has no arguments and no effect.
    let tid = unsafe { libc::gettid() }.cast_unsigned();
    let taken = |sampler: &mut Sampler| {
        let mut records = Vec::new();
        burn();
        sampler.drain(&mut records);
        samples(&records).filter(|sample| sample.tid == tid).count()
    };
    sampler.disable().unwrap();
    sampler.drain(&mut Vec::new());
    assert_eq!(taken(&mut sampler), 0);
    sampler.enable().unwrap();
    assert!(taken(&mut sampler) > 30);
}

#[test]
fn what_cannot_be_sampled_is_told() {
    let open = |pid, rate_hz| {
        let config = SamplerConfig { rate_hz, ..SamplerConfig::default() };
        Sampler::open(Target::Attach { pid }, &config).err().unwrap()
    };
    assert!(matches!(open(std::process::id(), 0), SamplerError::Rate { .. }));
    assert!(matches!(open(std::process::id(), u32::MAX), SamplerError::Rate { .. }));
    // Above the largest pid there can be.
    assert!(matches!(open(1 << 23, 997), SamplerError::NoSuchProcess { .. }));
}
