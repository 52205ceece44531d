//! Runs a program under the sampler and resolves what comes out, as an agent would.
//!
//! Function bounds come from `.eh_frame`, which the library leaves to its caller.
// Each test uses a part of it, and an example all: to that it is no test.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashMap;
use std::ffi::CString;
use std::ops::Range;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use gimli::UnwindSection;
use object::{Object, ObjectSection, ObjectSegment};
use tierscope_sampler::{Access, ProcessCode, RawSample, Record, Resolver, Sampler};

/// A forked child, before or after its `execve`.
pub struct Child {
    pub pid: u32,
    go: Option<OwnedFd>,
}

impl Child {
    /// Forks a child that waits for [`Child::release`] and then becomes `command`.
    pub fn stopped(command: &[&str], stdin: Option<OwnedFd>, stdout: Option<OwnedFd>) -> Child {
        let words: Vec<CString> = command.iter().map(|word| CString::new(*word).unwrap()).collect();
        let mut pointers: Vec<_> = words.iter().map(|word| word.as_ptr()).collect();
        pointers.push(std::ptr::null());
        let (wait, go) = pipe();
        // SAFETY: between fork and exec the child only makes system calls on what was prepared before.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0, "fork failed");
        if pid == 0 {
            // SAFETY: as above; every pointer is to memory that the fork copied.
            unsafe {
                for (fd, number) in [(&stdin, 0), (&stdout, 1)] {
                    if let Some(fd) = fd {
                        libc::dup2(fd.as_raw_fd(), number);
                    }
                }
                let mut byte = 0u8;
                libc::read(wait.as_raw_fd(), (&raw mut byte).cast(), 1);
                libc::execvp(pointers[0], pointers.as_ptr());
                libc::_exit(127);
            }
        }
        Child { pid: pid.cast_unsigned(), go: Some(go) }
    }

    pub fn release(&mut self) {
        let go = self.go.take().expect("released once");
        // SAFETY: writes one byte of a literal to an open descriptor.
        unsafe { libc::write(go.as_raw_fd(), c"x".as_ptr().cast(), 1) };
    }

    /// Waits for its end; the status as `waitpid` gives it.
    pub fn wait(self) -> i32 {
        let mut status = 0;
        // SAFETY: the pointer is to a live integer.
        let waited = unsafe { libc::waitpid(self.pid.cast_signed(), &mut status, 0) };
        assert_eq!(waited, self.pid.cast_signed());
        status
    }
}

pub fn pipe() -> (OwnedFd, OwnedFd) {
    let mut ends = [0; 2];
    // SAFETY: the pointer is to two live integers; on success both are open descriptors that nobody else owns.
    unsafe {
        assert_eq!(libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC), 0);
        (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1]))
    }
}

/// A line of `/proc/PID/maps`.
pub struct Map {
    pub range: Range<u64>,
    pub offset: u64,
    pub executable: bool,
    pub writable: bool,
    pub path: PathBuf,
}

pub fn maps(pid: u32) -> Vec<Map> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let parse = |line: &str| {
        let mut words = line.split_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        let number = |text: &str| u64::from_str_radix(text, 16).ok();
        let permissions = words.next()?;
        let offset = number(words.next()?)?;
        Some(Map {
            range: number(start)?..number(end)?,
            offset,
            executable: permissions.contains('x'),
            writable: permissions.contains('w'),
            path: words.nth(2).map(PathBuf::from).unwrap_or_default(),
        })
    };
    text.lines().filter_map(parse).collect()
}

/// Function bounds of the modules of a process.
#[derive(Default)]
pub struct Functions {
    /// Time spent reading files, which is not the decoder's.
    reading: Duration,
    files: HashMap<PathBuf, Vec<Range<u64>>>,
    maps: Vec<(Range<u64>, u64, PathBuf)>,
}

impl Functions {
    pub fn refresh(&mut self, maps: &[Map]) {
        self.maps = maps
            .iter()
            .filter(|map| map.executable && map.path.is_absolute())
            .map(|map| (map.range.clone(), map.offset, map.path.clone()))
            .collect();
    }

    pub fn bounds(&mut self, address: u64) -> Option<Range<u64>> {
        let (range, offset, path) = self.maps.iter().find(|(range, ..)| range.contains(&address))?;
        let reading = &mut self.reading;
        let ranges = self.files.entry(path.clone()).or_insert_with(|| {
            let start = cpu_time();
            let frames = frames(path).unwrap_or_default();
            *reading += cpu_time() - start;
            frames
        });
        let in_file = address - range.start + offset;
        let at = ranges.partition_point(|function| function.start <= in_file).checked_sub(1)?;
        let function = ranges[at].clone();
        let bias = range.start.wrapping_sub(*offset);
        function.contains(&in_file).then(|| function.start.wrapping_add(bias)..function.end.wrapping_add(bias))
    }
}

/// The functions of an ELF file, by file offset.
fn frames(path: &Path) -> Option<Vec<Range<u64>>> {
    let bytes = std::fs::read(path).ok()?;
    let file = object::File::parse(&*bytes).ok()?;
    let section = file.section_by_name(".eh_frame")?;
    let data = section.data().ok()?;
    let eh_frame = gimli::EhFrame::new(data, gimli::LittleEndian);
    let bases = gimli::BaseAddresses::default().set_eh_frame(section.address());
    let offset_of = |address: u64| {
        file.segments().find_map(|segment| {
            let within = address.checked_sub(segment.address()).filter(|&within| within < segment.size())?;
            Some(segment.file_range().0 + within)
        })
    };
    let mut ranges = Vec::new();
    let mut entries = eh_frame.entries(&bases);
    while let Ok(Some(entry)) = entries.next() {
        if let gimli::CieOrFde::Fde(partial) = entry
            && let Ok(fde) = partial.parse(|section, bases, offset| section.cie_from_offset(bases, offset))
            && let Some(start) = offset_of(fde.initial_address())
        {
            ranges.push(start..start + fde.len());
        }
    }
    ranges.sort_by_key(|range| range.start);
    Some(ranges)
}

/// Resolves the samples of a process that still runs.
pub struct Attribution {
    pid: u32,
    resolver: Resolver,
    functions: Functions,
    objects: Vec<Range<u64>>,
    /// Time spent resolving.
    pub spent: Duration,
}

impl Attribution {
    pub fn new(pid: u32) -> Self {
        let (resolver, functions) = (Resolver::new(), Functions::default());
        Attribution { pid, resolver, functions, objects: Vec::new(), spent: Duration::ZERO }
    }

    /// Takes every writable mapping for an object.
    pub fn refresh(&mut self) {
        let maps = maps(self.pid);
        self.functions.refresh(&maps);
        self.objects = maps.iter().filter(|map| map.writable).map(|map| map.range.clone()).collect();
    }

    /// Takes these for the objects.
    pub fn set_objects(&mut self, mut objects: Vec<Range<u64>>) {
        objects.sort_by_key(|object| object.start);
        self.objects = objects;
    }

    pub fn resolve(&mut self, sample: &RawSample) -> Access {
        let Attribution { pid, resolver, functions, objects, spent } = self;
        let mut code = ProcessCode::new(*pid, |address| functions.bounds(address));
        let known = |address: u64| {
            let at = objects.partition_point(|object| object.start <= address);
            at > 0 && objects[at - 1].contains(&address)
        };
        let start = cpu_time();
        let access = resolver.resolve(sample, &mut code, &known);
        let end = cpu_time();
        *spent += (end - start).saturating_sub(std::mem::take(&mut functions.reading));
        access
    }
}

/// CPU time of this thread.
pub fn cpu_time() -> Duration {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a live timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut now) };
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// Drains until the target is gone or `enough` says so; hands each batch of records on.
pub fn drain_until(sampler: &mut Sampler, mut batch: impl FnMut(&[Record]) -> bool) {
    let mut records = Vec::new();
    loop {
        let running = sampler.wait(Duration::from_millis(50));
        records.clear();
        sampler.drain(&mut records);
        if batch(&records) || !running {
            return;
        }
    }
}

/// Whether tests that need perf_event are to run; fails where it does not work and nobody said so.
pub fn perf_works() -> bool {
    let left_out = std::env::var("TIERSCOPE_TESTS_WITHOUT").unwrap_or_default();
    if left_out.split(',').any(|what| what == "perf") {
        return false;
    }
    let target = tierscope_sampler::Target::Attach { pid: std::process::id() };
    if let Err(error) = Sampler::open(target, &Default::default()) {
        panic!("{error}\n(to leave out what needs perf events: TIERSCOPE_TESTS_WITHOUT=perf)");
    }
    true
}
