//! What a guest thread did, as words, on their way to the simulation.
//!
//! Each virtual cpu has a log of its own, which its thread alone writes: nothing is shared on the way, so nothing is lost and no
//! lock is taken for an access. A word is
//!
//! ```text
//! 0 0   tag (14 bits)   address (48 bits)     an access, see `decode::MemoryTag`
//! 1 0                   pointer               a block is entered: `&'static Decoded`
//! 1 1                   pointer               something happened: `Box<Happening>`
//! ```
//!
//! (user addresses have 47 bits). What lies between two blocks belongs to the first. A log is handed over as a whole when a block
//! is entered and enough is in it, so that a batch never ends within a block. While there is one thread, its order is the
//! program's and batches may be large. Once there are several they are small, and handed over at each system call, before the kernel
//! lets another thread see what this one did.

use crate::decode::{Decoded, MemoryTag};
use crate::happening::Happening;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

/// Virtual cpus there can be at one time: QEMU numbers them by the threads alive.
pub(crate) const MAX_CPUS: usize = 8192;

/// Words of a log.
const WORDS: usize = 1 << 14;
/// Words there is room for when a block is entered.
pub(crate) const ROOM: usize = 2048;
/// Words after which it is handed over at the next block, while there is one thread.
const MANY: usize = WORDS - ROOM;
/// The same while there are several.
const FEW: usize = 4096;

const ADDRESS: u64 = (1 << MemoryTag::ADDRESS_BITS) - 1;
const BLOCK: u64 = 0b10 << 62;
const HAPPENED: u64 = 0b11 << 62;

/// A full log.
pub(crate) struct Batch {
    pub(crate) cpu: u16,
    words: Vec<u64>,
}

impl Batch {
    /// The words, in order.
    pub(crate) fn words(&self) -> &[u64] {
        &self.words
    }

    /// The memory, to be used again.
    pub(crate) fn into_words(self) -> Vec<u64> {
        self.words
    }
}

/// What a word is that is no access.
pub(crate) enum Entry {
    Block(*const Decoded),
    Happened(*mut Happening),
}

/// Whether a word is an access.
#[inline(always)]
pub(crate) fn is_access(word: u64) -> bool {
    word < BLOCK
}

/// Whether a word is a block.
#[inline(always)]
pub(crate) fn is_block(word: u64) -> bool {
    word >> 62 == BLOCK >> 62
}

/// What a word is that is no access.
#[inline(always)]
pub(crate) fn entry(word: u64) -> Entry {
    let address = word & ADDRESS;
    if word < HAPPENED { Entry::Block(address as *const Decoded) } else { Entry::Happened(address as *mut Happening) }
}

/// What a thread has not handed over yet.
pub(crate) struct Log {
    next: *mut u64,
    enough: *mut u64,
    end: *mut u64,
    words: Vec<u64>,
    pub(crate) cpu: u16,
    /// The call the thread is in: its number and arguments.
    pub(crate) call: (i64, [u64; 6]),
    /// It mapped code since modules were last looked at.
    pub(crate) mapped_code: bool,
}

/// Whether there was ever more than one thread.
static SEVERAL: AtomicBool = AtomicBool::new(false);

static LOGS: [AtomicPtr<Log>; MAX_CPUS] = [const { AtomicPtr::new(std::ptr::null_mut()) }; MAX_CPUS];

/// Whether there was ever more than one thread.
pub(crate) fn are_several() -> bool {
    SEVERAL.load(Ordering::Relaxed)
}

/// From now on there may be.
pub(crate) fn become_several() {
    SEVERAL.store(true, Ordering::Relaxed);
}

/// The log of a virtual cpu, if it has one.
///
/// # Safety
///
/// Called on the cpu's own thread, or when no cpu runs; no other reference to it is alive.
#[inline(always)]
pub(crate) unsafe fn of_cpu(cpu: u32) -> Option<&'static mut Log> {
    let log = LOGS.get(cpu as usize)?.load(Ordering::Relaxed);
    // SAFETY: the caller's promise; logs are freed by `remove` only.
    unsafe { log.as_mut() }
}

/// Gives a cpu a log, to be written to `words`.
///
/// # Safety
///
/// See [`of_cpu`].
pub(crate) unsafe fn insert(cpu: u32, words: Vec<u64>) -> Option<&'static mut Log> {
    let place = LOGS.get(cpu as usize)?;
    let mut log = Box::new(Log {
        next: std::ptr::null_mut(),
        enough: std::ptr::null_mut(),
        end: std::ptr::null_mut(),
        words: Vec::new(),
        cpu: u16::try_from(cpu).ok()?,
        call: (-1, [0; 6]),
        mapped_code: false,
    });
    log.renew(words);
    place.store(Box::into_raw(log), Ordering::Release);
    // SAFETY: the caller's promise.
    unsafe { of_cpu(cpu) }
}

/// Takes a cpu's log away.
///
/// # Safety
///
/// See [`of_cpu`].
pub(crate) unsafe fn remove(cpu: u32) {
    if let Some(place) = LOGS.get(cpu as usize) {
        let log = place.swap(std::ptr::null_mut(), Ordering::AcqRel);
        if !log.is_null() {
            // SAFETY: from `insert`, and nobody else has it.
            drop(unsafe { Box::from_raw(log) });
        }
    }
}

/// Forgets all logs without freeing them: those of a forked child, whose threads are gone.
pub(crate) fn forget_all() {
    for place in &LOGS {
        place.store(std::ptr::null_mut(), Ordering::Release);
    }
}

/// The cpus that have a log.
pub(crate) fn cpus() -> impl Iterator<Item = u32> {
    (0..MAX_CPUS as u32).filter(|cpu| LOGS.get(*cpu as usize).is_some_and(|log| !log.load(Ordering::Acquire).is_null()))
}

impl Log {
    /// Appends an access.
    #[inline(always)]
    pub(crate) fn access(&mut self, address: u64, tag: u64) {
        self.push(address & ADDRESS | tag);
    }

    /// Appends an access without a look at how much room there is.
    ///
    /// # Safety
    ///
    /// Since the last [`Log::block`] fewer than [`ROOM`] words were appended.
    #[inline(always)]
    pub(crate) unsafe fn access_with_room(&mut self, address: u64, tag: u64) {
        // SAFETY: `block` made the room, the caller says it is left, and what hands the log over or grows it leaves more.
        unsafe { self.put(address & ADDRESS | tag) }
    }

    /// Appends that a block was entered. Afterwards there is room for [`ROOM`] words, less this one.
    #[inline(always)]
    pub(crate) fn block(&mut self, block: *const Decoded) {
        if self.is_enough() {
            self.grow();
        }
        // SAFETY: there is room, see `point`.
        unsafe { self.put(block as u64 | BLOCK) }
    }

    /// Appends that something happened.
    pub(crate) fn happened(&mut self, happening: Happening) {
        self.push(Box::into_raw(Box::new(happening)) as u64 | HAPPENED);
    }

    #[inline(always)]
    fn push(&mut self, word: u64) {
        if self.next == self.end {
            self.grow();
        }
        // SAFETY: there is room.
        unsafe { self.put(word) }
    }

    /// # Safety
    ///
    /// There is room.
    #[inline(always)]
    unsafe fn put(&mut self, word: u64) {
        // SAFETY: before the end of our words.
        unsafe {
            self.next.write(word);
            self.next = self.next.add(1);
        }
    }

    /// Whether it is time to hand it over.
    #[inline(always)]
    pub(crate) fn is_enough(&self) -> bool {
        self.next >= self.enough
    }

    /// Whether nothing is in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.next.cast_const() == self.words.as_ptr()
    }

    /// What is in it; it goes on in `words`.
    pub(crate) fn take(&mut self, words: Vec<u64>) -> Batch {
        self.settle();
        let full = std::mem::take(&mut self.words);
        self.renew(words);
        Batch { cpu: self.cpu, words: full }
    }

    /// Has the vector know its length.
    fn settle(&mut self) {
        let used = (self.next as usize).saturating_sub(self.words.as_ptr() as usize) / size_of::<u64>();
        // SAFETY: so many words were written, and there was room for them.
        unsafe { self.words.set_len(used) };
    }

    fn renew(&mut self, mut words: Vec<u64>) {
        words.clear();
        words.reserve(WORDS);
        self.words = words;
        self.point(if are_several() { FEW } else { MANY });
    }

    /// Before what is enough, and after growing in any case, there is [`ROOM`].
    fn point(&mut self, enough: usize) {
        let (used, capacity) = (self.words.len(), self.words.capacity());
        let start = self.words.as_mut_ptr();
        // SAFETY: within the vector's memory, or one past its end.
        unsafe {
            self.next = start.add(used);
            self.enough = start.add(enough.min(capacity.saturating_sub(ROOM)));
            self.end = start.add(capacity);
        }
    }

    /// Little is left: more room.
    #[cold]
    #[inline(never)]
    fn grow(&mut self) {
        self.settle();
        self.words.reserve(WORDS);
        self.point(FEW);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_has_room_after_each_block_and_keeps_every_word() {
        const CPU: u32 = MAX_CPUS as u32 - 1;
        // SAFETY: no other test has this cpu; the reference is the only one.
        let log = unsafe { insert(CPU, Vec::new()) }.unwrap();
        assert!(log.is_empty());
        let block = std::ptr::without_provenance::<Decoded>(0x1230);
        let mut written = 0_u64;
        // Nobody hands it over: it grows again and again.
        for _ in 0..30 {
            log.block(block);
            for _ in 1..ROOM {
                written += 1;
                // SAFETY: fewer than there is room for since the block.
                unsafe { log.access_with_room(written, 0) };
            }
        }
        log.access(u64::MAX, 7 << 48);
        let batch = log.take(Vec::new());
        let accesses: Vec<u64> = batch.words().iter().copied().filter(|word| is_access(*word)).collect();
        assert!(accesses.iter().copied().eq((1..=written).chain([7 << 48 | ADDRESS])));
        let blocks = batch.words().iter().filter(|word| !is_access(**word));
        assert!(blocks.clone().all(|word| matches!(entry(*word), Entry::Block(found) if found == block)));
        assert_eq!((blocks.count(), log.is_empty(), log.is_enough()), (30, true, false));
        // SAFETY: as above; the reference is not used any more.
        unsafe { remove(CPU) };
    }
}
