//! A directory as a file tier: an unnamed file in it, written, read in order, and read at random while cold.
//!
//! Cold is what matters: a file tier is slow only where its pages are not in memory. The page cache is kept out by direct
//! I/O where the file system has it; else the file's pages are dropped before each step, and whether they really went is
//! looked up, since a file system that lives in memory keeps them.

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::Advice;
use tierscope_tiers::{Backend, Figure, Origin, Quantity, Tier, human_bytes};

use super::buffer::Buffer;
use super::kernels::mix;
use super::statistics::Spread;
use super::{Steps, Trouble, memory_to_use, too_little_memory};
use crate::convert::set_sane;
use crate::detect::Machine;
use crate::render::time;
use crate::storage::{DeviceKind, filesystem_of};

/// Steps of a directory: write, read by one thread, read by several, random reads, touches of a mapping.
pub(crate) const STEPS: usize = 5;
/// Bytes of the file: far beyond what a drive's own cache reads ahead, and written in seconds by a slow one.
const FILE: u64 = 256 << 20;
const LEAST_FILE: u64 = 16 << 20;
const BLOCK: usize = 1 << 20;
const PAGE: usize = 4096;
/// No step takes longer, however slow the device.
const STEP_LIMIT: Duration = Duration::from_secs(2);
const READERS: usize = 4;
const RANDOM_READS: usize = 1000;

/// Bytes free for this user.
pub(crate) fn free_bytes(directory: &Path) -> Result<u64, String> {
    let space = rustix::fs::statvfs(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    Ok(space.f_bavail.saturating_mul(space.f_frsize))
}

/// The file, by the page cache and, where the file system has it, around it.
struct Trial {
    cached: File,
    direct: Option<File>,
    bytes: u64,
    /// Whether dropping its pages works.
    droppable: bool,
}

impl Trial {
    /// The file to read cold from, its pages dropped.
    fn cold(&self) -> &File {
        self.drop_pages();
        self.direct.as_ref().unwrap_or(&self.cached)
    }

    fn drop_pages(&self) {
        // Advice: what it did is looked up by `resident`.
        let _ = rustix::fs::fadvise(&self.cached, 0, None, Advice::DontNeed);
        let _ = rustix::fs::fadvise(&self.cached, 0, None, Advice::Random);
    }
}

/// Measure a directory and put the figures into its tier.
pub(crate) fn measure(
    machine: &Machine,
    date: &str,
    steps: &mut Steps<'_, '_>,
    tier: &mut Tier,
) -> Result<(), Trouble> {
    let Some(Backend::File { dir }) = tier.backend.clone() else { return Ok(()) };
    let dir = Path::new(&dir);
    let kind = filesystem_of(&machine.filesystems, dir).map(|found| found.kind);
    let free = free_bytes(dir)?;
    let bytes = FILE.min(free / 4) / BLOCK as u64 * BLOCK as u64;
    if bytes < LEAST_FILE {
        let (free, need) = (human_bytes(free), human_bytes(LEAST_FILE * 4));
        return Err(Trouble::Failed(format!("{} has {free} free, measuring needs {need}: free some", dir.display())));
    }
    // The pages of the file may stay in memory until they are written, or for good in a tmpfs.
    if let Some(have) = memory_to_use(machine, None)
        && have < bytes
    {
        return Err(Trouble::Failed(too_little_memory(bytes, have)));
    }
    let (mut trial, written) = write(dir, bytes, steps)?;
    let origin = || Origin::new("measured on this machine", date);
    let mut set = |quantity, figure| set_sane(tier, quantity, figure);
    set(Quantity::WriteBandwidthGbs, Figure { note: Some(written.1), ..Figure::new(written.0, origin()) });
    steps.next();
    trial.drop_pages();
    let mapping = Mapping::new(&trial.cached, trial.bytes)?;
    trial.droppable = mapping.resident().is_some_and(|part| part < 0.05);
    let note = note(&trial, kind);

    let one = read_in_order(&trial, 1, steps)?;
    set(Quantity::ThreadReadBandwidthGbs, one.figure(date));
    let several = read_in_order(&trial, READERS, steps)?;
    let with = Some(crate::count(READERS, "thread"));
    set(Quantity::ReadBandwidthGbs, Figure { note: with, ..several.figure(date) });
    let random = read_at_random(&trial, steps)?;
    let touched = mapping.touch(&trial, steps)?;
    let touch = touched.map(|spread| format!("a cold page of a mapping takes {}", time(spread.median)));
    let note = note.into_iter().chain(touch).collect::<Vec<_>>().join("; ");
    let note = (!note.is_empty()).then_some(note);
    set(Quantity::ReadLatencyNs, Figure { note, ..random.figure(date) });
    Ok(())
}

/// What one must know to read the figures.
fn note(trial: &Trial, kind: Option<DeviceKind>) -> Option<String> {
    let mut notes = Vec::new();
    if trial.direct.is_none() && !trial.droppable && kind != Some(DeviceKind::Memory) {
        notes.push("from memory: its pages cannot be dropped");
    }
    match kind {
        Some(DeviceKind::Memory) => notes.push("a file system in memory: what is timed is the system call"),
        Some(DeviceKind::Virtio) => notes.push("a disk of a virtual machine: the host may cache it"),
        Some(DeviceKind::Overlay) => notes.push("an overlay: the device below is not known"),
        _ => {}
    }
    (!notes.is_empty()).then(|| notes.join("; "))
}

fn failed(what: &str, error: impl std::fmt::Display) -> Trouble {
    Trouble::Failed(format!("{what}: {error}"))
}

/// Write the file and have it reach the device; bytes a second in 10^9, and how.
fn write(dir: &Path, bytes: u64, steps: &mut Steps<'_, '_>) -> Result<(Trial, (f64, String)), Trouble> {
    let cached = tempfile::tempfile_in(dir)
        .map_err(|error| failed(&format!("no file can be made in {}", dir.display()), error))?;
    let again = format!("/proc/self/fd/{}", cached.as_raw_fd());
    let direct = OpenOptions::new().read(true).write(true).custom_flags(libc::O_DIRECT).open(again).ok();
    let mut block = Buffer::new(BLOCK)?;
    for (number, word) in block.words_mut().iter_mut().enumerate() {
        // Not zeros and not compressible: some devices do not store those.
        *word = mix(number as u64, 60);
    }
    let write_one = |file: &File, block: &mut Buffer, at: u64| file.write_all_at(block.bytes_mut(), at);
    // Some file systems open a file for direct I/O and then refuse it.
    let direct = direct.filter(|file| write_one(file, &mut block, 0).is_ok());
    let target = direct.as_ref().unwrap_or(&cached);
    let start = Instant::now();
    let mut done = 0;
    while done < bytes && (done < LEAST_FILE || start.elapsed() < STEP_LIMIT) {
        steps.tick(done as f64 / bytes as f64, "writing a file")?;
        write_one(target, &mut block, done).map_err(|error| failed("the file cannot be written", error))?;
        done += BLOCK as u64;
    }
    rustix::fs::fdatasync(&cached).map_err(|error| failed("the file cannot be written to its device", error))?;
    let rate = done as f64 / start.elapsed().as_secs_f64() / 1e9;
    let how = if direct.is_some() { "direct I/O" } else { "page cache" };
    let note = format!("{} in order, {how}, until it reached the device", human_bytes(done));
    let rounded = format!("{rate:.2e}").parse().unwrap_or(rate);
    Ok((Trial { cached, direct, bytes: done, droppable: false }, (rounded, note)))
}

/// Read the file in order by so many threads, each a part; 10^9 bytes a second. With one thread of windows of 16 MiB.
fn read_in_order(trial: &Trial, threads: usize, steps: &mut Steps<'_, '_>) -> Result<Spread, Trouble> {
    let file = trial.cold();
    if trial.direct.is_none() {
        // Reading in order through the cache is as fast as it reads ahead.
        let _ = rustix::fs::fadvise(&trial.cached, 0, None, Advice::Sequential);
    }
    let blocks = trial.bytes / BLOCK as u64;
    let what = if threads == 1 { "reading, one thread" } else { "reading, several threads" };
    let start = Instant::now();
    let mut rates = Vec::new();
    if threads == 1 {
        let mut block = Buffer::new(BLOCK)?;
        let mut since = Instant::now();
        for number in 0..blocks {
            file.read_exact_at(block.bytes_mut(), number * BLOCK as u64).map_err(|error| failed("reading", error))?;
            if number % 16 == 15 {
                rates.push(16.0 * BLOCK as f64 / since.elapsed().as_secs_f64() / 1e9);
                steps.tick(number as f64 / blocks as f64, what)?;
                since = Instant::now();
            }
            if start.elapsed() > STEP_LIMIT && !rates.is_empty() {
                break;
            }
        }
    } else {
        steps.tick(0.0, what)?;
        // Three rounds give a spread; a slow device has time for one.
        while rates.len() < 3 && (rates.is_empty() || start.elapsed() < STEP_LIMIT / 2) {
            trial.drop_pages();
            rates.push(round(file, blocks, threads)?);
            steps.tick(rates.len() as f64 / 3.0, what)?;
        }
    }
    steps.next();
    Spread::of(rates).ok_or_else(|| Trouble::Failed("the file is too short to be timed".into()))
}

/// All threads once through their part of the file, or until the time is up; 10^9 bytes a second.
fn round(file: &File, blocks: u64, threads: usize) -> Result<f64, Trouble> {
    let start = Instant::now();
    let read = |thread: usize| -> Result<u64, String> {
        let mut block = Buffer::new(BLOCK)?;
        let (first, last) = (blocks * thread as u64 / threads as u64, blocks * (thread as u64 + 1) / threads as u64);
        let mut done = 0;
        for number in first..last {
            file.read_exact_at(block.bytes_mut(), number * BLOCK as u64)
                .map_err(|error| format!("reading: {error}"))?;
            done += BLOCK as u64;
            if start.elapsed() > STEP_LIMIT {
                break;
            }
        }
        Ok(done)
    };
    let all: Result<u64, String> = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..threads).map(|thread| scope.spawn(move || read(thread))).collect();
        let ended = |reader: std::thread::ScopedJoinHandle<'_, Result<u64, String>>| {
            reader.join().map_err(|_| "a reading thread ended early".to_owned())?
        };
        readers.into_iter().map(ended).sum()
    });
    Ok(all? as f64 / start.elapsed().as_secs_f64() / 1e9)
}

/// Cold pages one after the other, each at another place; nanoseconds.
fn read_at_random(trial: &Trial, steps: &mut Steps<'_, '_>) -> Result<Spread, Trouble> {
    let file = trial.cold();
    let mut page = Buffer::new(PAGE)?;
    let start = Instant::now();
    let mut times = Vec::new();
    for (number, at) in scattered(trial.bytes).take(RANDOM_READS).enumerate() {
        if number % 32 == 0 {
            steps.tick(number as f64 / RANDOM_READS as f64, "latency of cold pages")?;
        }
        let before = Instant::now();
        file.read_exact_at(page.bytes_mut(), at).map_err(|error| failed("reading", error))?;
        times.push(before.elapsed().as_secs_f64() * 1e9);
        if start.elapsed() > STEP_LIMIT {
            break;
        }
    }
    steps.next();
    Spread::of(times).ok_or_else(|| Trouble::Failed("no page was read".into()))
}

/// Every page of a file once, in no order a device would guess.
fn scattered(bytes: u64) -> impl Iterator<Item = u64> {
    let pages = bytes / PAGE as u64;
    let bits = u64::BITS - pages.leading_zeros();
    (0..1_u64 << bits)
        .map(move |number| mix(number, bits))
        .filter(move |&page| page < pages)
        .map(|page| page * PAGE as u64)
}

/// The file mapped as a program with a file tier has it.
struct Mapping {
    start: *const u8,
    bytes: usize,
}

impl Mapping {
    fn new(file: &File, bytes: u64) -> Result<Self, String> {
        let bytes = usize::try_from(bytes).map_err(|error| error.to_string())?;
        let (protection, flags) = (libc::PROT_READ, libc::MAP_SHARED);
        // SAFETY: a new mapping at an address of the kernel's choice. The file is unnamed and ours alone, and was written to
        // this length, so no page of it can vanish.
        let address = unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, flags, file.as_raw_fd(), 0) };
        if address == libc::MAP_FAILED {
            return Err(format!("the file cannot be mapped: {}", std::io::Error::last_os_error()));
        }
        // SAFETY: the range is the mapping just made; the advice keeps single pages from bringing in others.
        unsafe { libc::madvise(address, bytes, libc::MADV_RANDOM) };
        Ok(Self { start: address.cast(), bytes })
    }

    /// The part of its pages that is in memory; None where the kernel does not tell.
    fn resident(&self) -> Option<f64> {
        let mut pages = vec![0_u8; self.bytes / PAGE];
        // SAFETY: the vector has a byte for each page of the mapping.
        let outcome = unsafe { libc::mincore(self.start.cast_mut().cast(), self.bytes, pages.as_mut_ptr()) };
        let inside = pages.iter().filter(|&&page| page & 1 == 1).count();
        (outcome == 0).then(|| inside as f64 / pages.len().max(1) as f64)
    }

    /// Nanoseconds of touching pages that are not in memory; None where they stay there.
    fn touch(&self, trial: &Trial, steps: &mut Steps<'_, '_>) -> Result<Option<Spread>, Trouble> {
        trial.drop_pages();
        if !trial.droppable {
            steps.next();
            return Ok(None);
        }
        let start = Instant::now();
        let mut times = Vec::new();
        for (number, at) in scattered(trial.bytes).take(RANDOM_READS).enumerate() {
            if number % 32 == 0 {
                steps.tick(number as f64 / RANDOM_READS as f64, "cold pages of a mapping")?;
            }
            let before = Instant::now();
            // SAFETY: the place is inside the mapping, which is readable.
            unsafe { self.start.add(at as usize).read_volatile() };
            times.push(before.elapsed().as_secs_f64() * 1e9);
            if start.elapsed() > STEP_LIMIT {
                break;
            }
        }
        steps.next();
        Ok(Spread::of(times))
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is the mapping made in `new`.
        unsafe { libc::munmap(self.start.cast_mut().cast(), self.bytes) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scattered_pages_are_all_pages_once() {
        let pages = 1000;
        let mut all: Vec<u64> = scattered(pages * PAGE as u64).collect();
        assert_ne!(all, (0..pages).map(|page| page * PAGE as u64).collect::<Vec<_>>());
        all.sort_unstable();
        assert_eq!(all, (0..pages).map(|page| page * PAGE as u64).collect::<Vec<_>>());
    }
}
