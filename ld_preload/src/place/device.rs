//! Memory of a DAX device: a tier whose pages are the device's own.
//!
//! A device is not a file. Its mappings are shared or refused, begin and end at multiples of its granule (two megabytes,
//! mostly), which is far more than an arena's smallest piece, and its pages keep what was in them when their last user
//! ended. So the whole of it is mapped once, accessible, at the beginning of the tier's region; a page lies in the device
//! where it lies in the region. To commit is to fill with zeros and to remember, a bit a page; to decommit is to forget.
//!
//! # One process at a time
//!
//! Two processes that map a device have the same memory. So whoever is first to need a block of it locks it (`flock`), and
//! to others it is refused: their blocks go to the default tier. Who was refused asks again, once a second at most, as the
//! first may have ended. The lock is held by the mapping, not by a descriptor, which a program could close: it ends with
//! the process, whatever ends it, and when the process executes something else. Nothing keeps programs that are not ours
//! from mapping the device as well.
//!
//! # Forks
//!
//! The child must not share its parent's memory. Before the fork everything committed is copied into ordinary memory,
//! which takes the device's place in the child; the parent drops its copy. What the child has is ordinary from there on,
//! as far as the parent had come in the device; beyond that, the child may lock the device itself once the parent has
//! ended, so that a daemon gets it back. Where there is no room for the copy the child can read what its parent has, and
//! its blocks are given back no more and moved when they grow. If it writes to one, it ends: better than to spoil its
//! parent's.

use crate::recorder;
use crate::sys::{self, EAGAIN, EBUSY, EINVAL, ENODEV, ENOMEM, ENOSPC};
use alloc::vec::Vec;
use core::ffi::CStr;
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use tierscope_arena::PAGE;

/// Between two times that a device is asked for, after it was refused.
const PAUSE_NS: u64 = 1_000_000_000;

const IDLE: u32 = 0;
const CLAIMING: u32 = 1;
const HELD: u32 = 2;

/// What a device is, by the kernel's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Traits {
    /// Its number.
    number: u64,
    /// Bytes it has.
    bytes: u64,
    /// What its mappings begin and end at multiples of.
    pub(super) granule: usize,
}

impl Traits {
    /// Of the device at a path; the error number where it is none, or may not be used.
    pub(super) fn of(path: &CStr) -> Result<Traits, i32> {
        let file = sys::open_to_write(path)?;
        let number = sys::character_device(&file).ok_or(ENODEV)?;
        let bytes = attribute(number, b"size").ok_or(ENODEV)?;
        // Kernels before 5.10 do not show it, and have devices of this granule alone unless told otherwise.
        let granule = attribute(number, b"align").unwrap_or(2 << 20);
        let granule = usize::try_from(granule).ok().filter(|granule| granule.is_power_of_two() && *granule >= PAGE);
        Ok(Traits { number, bytes, granule: granule.ok_or(EINVAL)? })
    }
}

/// A number the kernel shows of a character device.
fn attribute(device: u64, name: &[u8]) -> Option<u64> {
    // As in `makedev`: major and minor number are interleaved.
    let major = device >> 8 & 0xfff | device >> 32 & 0xffff_f000;
    let minor = device & 0xff | device >> 12 & 0xffff_ff00;
    let mut path = Vec::from(*b"/sys/dev/char/");
    decimal(&mut path, major);
    path.push(b':');
    decimal(&mut path, minor);
    path.push(b'/');
    path.extend_from_slice(name);
    path.push(0);
    let mut text = [0; 32];
    let count = sys::read(&sys::open(&path)?, &mut text)?;
    number(text.get(..count)?)
}

fn decimal(text: &mut Vec<u8>, value: u64) {
    if value >= 10 {
        decimal(text, value / 10);
    }
    text.push(b'0' + (value % 10) as u8);
}

/// The number a text begins with.
fn number(text: &[u8]) -> Option<u64> {
    let digits = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let digits = text.get(..digits).filter(|digits| !digits.is_empty())?;
    digits.iter().try_fold(0_u64, |value, digit| value.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
}

/// Bytes of memory that programs can still have, as the kernel estimates; `None` where it does not say.
fn available() -> Option<u64> {
    let mut text = [0; 512];
    let count = sys::read(&sys::open(b"/proc/meminfo\0")?, &mut text)?;
    let line = text.get(..count)?.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"MemAvailable:"))?;
    number(line.trim_ascii_start())?.checked_mul(1024)
}

/// A tier's device. See the module's page.
#[derive(Debug)]
pub(super) struct Device {
    path: &'static CStr,
    /// The number it must still have; `None` of a file that stands for one.
    number: Option<u64>,
    region: usize,
    bytes: usize,
    granule: usize,
    state: AtomicU32,
    refused_ns: AtomicU64,
    /// Where in the region the device's memory begins. Before that lies what a fork left: ordinary memory.
    own_from: AtomicUsize,
    /// One past the last byte that was ever committed of the device.
    reached: AtomicUsize,
    /// A bit for each page of the device that is committed.
    committed: &'static [AtomicU64],
    /// Of the copy made for a child that is about to be: where it is, or 0.
    copy: AtomicUsize,
}

impl Device {
    /// The device at `path`, for a region. Nothing is mapped or locked yet.
    pub(super) fn create(path: &CStr, region: usize, region_bytes: usize) -> Result<Device, i32> {
        let traits = Traits::of(path)?;
        Device::over(path, traits, region, region_bytes).map(|device| Device { number: Some(traits.number), ..device })
    }

    fn over(path: &CStr, traits: Traits, region: usize, region_bytes: usize) -> Result<Device, i32> {
        let bytes = usize::try_from(traits.bytes).unwrap_or(usize::MAX).min(region_bytes);
        let bytes = bytes & !(traits.granule - 1);
        if bytes == 0 || !region.is_multiple_of(traits.granule) {
            return Err(if bytes == 0 { ENOSPC } else { EINVAL });
        }
        // A process may run longer than the table is mapped: the name is copied.
        let name: &'static mut [u8] = Vec::from(path.to_bytes_with_nul()).leak();
        let words = (bytes / PAGE).div_ceil(64);
        let bits = sys::map_private(words * 8).ok_or(ENOMEM)?;
        Ok(Device {
            path: CStr::from_bytes_with_nul(name).map_err(|_| EINVAL)?,
            number: None,
            region,
            bytes,
            granule: traits.granule,
            state: AtomicU32::new(IDLE),
            refused_ns: AtomicU64::new(0),
            own_from: AtomicUsize::new(0),
            reached: AtomicUsize::new(0),
            // SAFETY: a fresh mapping of so many words, aligned to a page, never unmapped.
            committed: unsafe { core::slice::from_raw_parts(bits.cast(), words) },
            copy: AtomicUsize::new(0),
        })
    }

    /// How much of the region can have memory.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn is_held(&self) -> bool {
        self.state.load(Ordering::Acquire) == HELD
    }

    /// Sees to it that the device is this process's and mapped.
    fn claim(&self) -> Result<(), i32> {
        while let Err(state) = self.state.compare_exchange(IDLE, CLAIMING, Ordering::Acquire, Ordering::Acquire) {
            if state == HELD {
                return Ok(());
            }
            sys::yield_processor();
        }
        let (now, refused) = (recorder::now_ns(), self.refused_ns.load(Ordering::Relaxed));
        let result = if refused != 0 && now.saturating_sub(refused) < PAUSE_NS { Err(EBUSY) } else { self.take() };
        if result.is_err() && now.saturating_sub(refused) >= PAUSE_NS {
            self.refused_ns.store(now, Ordering::Relaxed);
        }
        self.state.store(if result.is_ok() { HELD } else { IDLE }, Ordering::Release);
        result
    }

    /// Locks and maps it. The mapping keeps the lock when the descriptor is closed.
    fn take(&self) -> Result<(), i32> {
        let file = sys::open_to_write(self.path)?;
        if self.number.is_some() && sys::character_device(&file) != self.number {
            return Err(ENODEV);
        }
        sys::lock(&file).map_err(|error| if error == EAGAIN { EBUSY } else { error })?;
        let from = self.own_from.load(Ordering::Relaxed);
        let at = Some((&file, from as u64));
        // SAFETY: part of the region, nothing of which is accessible.
        unsafe { sys::map_over(self.region + from, self.bytes - from, sys::PROT_READ_WRITE, sys::MAP_SHARED, at) }
    }

    /// The part of a range of the region that is the device's, and before it the part that is not.
    fn split(&self, address: usize, bytes: usize) -> (core::ops::Range<usize>, core::ops::Range<usize>) {
        let (start, from) = (address.wrapping_sub(self.region), self.own_from.load(Ordering::Relaxed));
        let end = start.saturating_add(bytes).min(self.bytes);
        let middle = from.clamp(start, end.max(start));
        (start..middle, middle..end)
    }

    /// Memory for a range of the region, all zero.
    pub(super) fn commit(&self, address: usize, bytes: usize) -> Result<(), i32> {
        // What is no device's was zero when it was made, and when it was given back.
        let (_, own) = self.split(address, bytes);
        if own.is_empty() {
            return Ok(());
        }
        self.claim()?;
        // SAFETY: mapped now, and used by nobody yet.
        unsafe { core::ptr::write_bytes((self.region + own.start) as *mut u8, 0, own.len()) };
        self.reached.fetch_max(own.end, Ordering::Relaxed);
        self.mark(&own, true);
        Ok(())
    }

    /// Takes it back. Of the device's own nothing is to be done: its memory is there anyhow.
    ///
    /// # Safety
    ///
    /// Nobody uses the range any more.
    pub(super) unsafe fn decommit(&self, address: usize, bytes: usize) {
        let (ordinary, own) = self.split(address, bytes);
        if !ordinary.is_empty() {
            // SAFETY: the caller's promise.
            unsafe { super::memory::discard(self.region + ordinary.start, ordinary.len()) };
        }
        self.mark(&own, false);
    }

    fn mark(&self, range: &core::ops::Range<usize>, committed: bool) {
        let pages = range.start / PAGE..range.end / PAGE;
        for (index, word) in self.committed.iter().enumerate().take(pages.end.div_ceil(64)).skip(pages.start / 64) {
            let low = pages.start.saturating_sub(index * 64).min(64);
            let high = pages.end.saturating_sub(index * 64).min(64);
            if low < high {
                let mask = (u64::MAX >> (64 - (high - low))) << low;
                if committed {
                    word.fetch_or(mask, Ordering::Relaxed);
                } else {
                    word.fetch_and(!mask, Ordering::Relaxed);
                }
            }
        }
    }

    /// The runs of committed pages of the device, as offsets in the region.
    fn runs(&self) -> impl Iterator<Item = core::ops::Range<usize>> + '_ {
        let is_set = |page: usize| {
            self.committed.get(page / 64).is_some_and(|word| word.load(Ordering::Relaxed) >> (page % 64) & 1 != 0)
        };
        let end = self.reached.load(Ordering::Relaxed) / PAGE;
        let mut at = self.own_from.load(Ordering::Relaxed) / PAGE;
        core::iter::from_fn(move || {
            let start = (at..end).find(|page| is_set(*page))?;
            at = (start..end).find(|page| !is_set(*page)).unwrap_or(end);
            Some(start * PAGE..at * PAGE)
        })
    }

    /// Of the device's memory, from where it begins, how much a child is to have a copy of.
    fn to_copy(&self) -> usize {
        let end = self.reached.load(Ordering::Relaxed).next_multiple_of(self.granule).min(self.bytes);
        end.saturating_sub(self.own_from.load(Ordering::Relaxed))
    }

    /// Before a fork: copies everything committed, if there is room. What other threads write meanwhile may or may not be
    /// in it, as they have no say in when the fork happens.
    ///
    /// # Safety
    ///
    /// The calling thread is the one that forks, and holds the arena's locks.
    pub(super) unsafe fn prepare_fork(&self) {
        let bytes = self.to_copy();
        if !self.is_held() || bytes == 0 {
            return;
        }
        let needed = self.runs().map(|run| run.len() as u64).sum::<u64>();
        if available().is_some_and(|available| needed > available) {
            return;
        }
        let flags = sys::MAP_PRIVATE | sys::MAP_ANONYMOUS;
        let Some(copy) = sys::map(bytes, sys::PROT_READ_WRITE, flags, None, 0) else { return };
        let from = self.own_from.load(Ordering::Relaxed);
        for run in self.runs() {
            for offset in run.step_by(size_of::<u64>()) {
                // SAFETY: both are mapped; by words, since other threads may write there.
                unsafe {
                    let word = &*((self.region + offset) as *const AtomicU64);
                    copy.add(offset - from).cast::<u64>().write(word.load(Ordering::Relaxed));
                }
            }
        }
        self.copy.store(copy as usize, Ordering::Release);
    }

    /// After a fork, in the parent.
    ///
    /// # Safety
    ///
    /// As [`Device::prepare_fork`].
    pub(super) unsafe fn parent_after_fork(&self) {
        let copy = self.copy.swap(0, Ordering::AcqRel);
        if copy != 0 {
            // SAFETY: our own mapping of that size, which nobody knows of.
            unsafe { sys::unmap(copy as *mut u8, self.to_copy()) };
        }
    }

    /// After a fork, in the child: the copy takes the device's place. Where there is none, that is an error (the memory can
    /// be read from there on), and the arena must not be used any more.
    ///
    /// # Safety
    ///
    /// As [`Device::prepare_fork`].
    pub(super) unsafe fn child_after_fork(&self) -> Result<(), i32> {
        if !self.is_held() {
            return Ok(());
        }
        let (copy, bytes, from) =
            (self.copy.swap(0, Ordering::AcqRel), self.to_copy(), self.own_from.load(Ordering::Relaxed));
        let start = self.region + from;
        // SAFETY: mappings of ours in the region; the child has no other thread, and finds the same contents there.
        unsafe {
            if bytes > 0 && copy == 0 {
                sys::protect(start as *mut u8, self.bytes - from, sys::PROT_READ);
                return Err(ENOMEM);
            }
            if bytes > 0 {
                sys::move_mapping(copy, bytes, start)?;
            }
            // Nothing of the device may stay mapped: it would keep the parent's lock.
            let flags = sys::MAP_PRIVATE | sys::MAP_ANONYMOUS | sys::MAP_NORESERVE;
            if from + bytes < self.bytes {
                let rest = self.bytes - from - bytes;
                sys::map_over(start + bytes, rest, sys::PROT_NONE, flags, None)?;
                sys::advise((start + bytes) as *mut u8, rest, sys::MADV_DONTDUMP);
            }
        }
        self.own_from.store(from + bytes, Ordering::Relaxed);
        self.refused_ns.store(0, Ordering::Relaxed);
        self.state.store(IDLE, Ordering::Release);
        Ok(())
    }
}

#[cfg(all(test, not(miri)))]
mod tests;
