//! What a guest thread did, as words, on their way to the simulation.
//!
//! Each virtual cpu has a log of its own, which its thread alone writes: nothing is shared on the way, so nothing is lost and no
//! lock is taken for an access. Accesses are written from the front, and what else there is from the back, so that whoever reads them
//! finds each kind in one piece and need not tell one from the other, word by word. A word is
//!
//! ```text
//! 0 0   tag (14 bits)   address (48 bits)     an access, see `decode::MemoryTag`
//! before (16 bits)      pointer (48 bits)     a block is entered: `&'static Decoded`; or, if the lowest bit is set, something
//!                                             happened: `Box<Happening>`; or nothing, where the log has grown
//! ```
//!
//! (user addresses have 47 bits). `before` counts the accesses that come before it, modulo 2^16; between two such words are fewer.
//! What lies between two blocks belongs to the first. A log is handed over as a whole when a block
//! is entered and enough is in it, so that a batch never ends within a block. While there is one thread, its order is the
//! program's and batches may be large. Once there are several they are small, and handed over at each system call, before the kernel
//! lets another thread see what this one did.
//!
//! Accesses may be written together with one that leads them (`decode/follow.rs`), from which they follow. Before the first there are
//! [`MOST_BACK`] words of nothing, so that whatever is executed, nobody looks for a word before the log.
//!
//! The emulator moves an operand of more than eight bytes in pieces, in ascending order, and calls back for each. One operand is one
//! access, so pieces that follow the first within the operand's length are not written.

use crate::decode::{Decoded, Follower, MOST_BACK, MemoryTag};
use crate::happening::Happening;
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use tierscope_sim::Packed;

/// Virtual cpus there can be at one time: QEMU numbers them by the threads alive.
pub(crate) const MAX_CPUS: usize = 8192;

/// Words of a log.
const WORDS: usize = 1 << 14;
/// Words there is room for when a block is entered.
pub(crate) const ROOM: usize = 2048;
/// Words after which it is handed over at the next block, while there are several threads. While there is one, it is full first.
const FEW: usize = 4096;

const ADDRESS: u64 = (1 << MemoryTag::ADDRESS_BITS) - 1;
/// What happened, not a block.
const HAPPENED: u64 = 1;

/// Bytes of a word.
const WORD: usize = size_of::<Packed>();

/// A full log.
pub(crate) struct Batch {
    pub(crate) cpu: u16,
    words: Vec<Packed>,
    /// How many of the first are accesses.
    accesses: usize,
    /// How many of the last are not.
    others: usize,
}

impl Batch {
    /// The accesses, in order.
    pub(crate) fn accesses(&self) -> &[Packed] {
        self.words.get(MOST_BACK..MOST_BACK + self.accesses).unwrap_or_default()
    }

    /// What else there is, for [`entry`], the first last.
    pub(crate) fn others(&self) -> &[Packed] {
        self.words.get(self.words.len().saturating_sub(self.others)..).unwrap_or_default()
    }

    /// The memory, to be used again.
    pub(crate) fn into_words(self) -> Vec<Packed> {
        self.words
    }
}

/// What a word is that is no access.
pub(crate) enum Entry {
    Block(*const Decoded),
    Happened(*mut Happening),
    /// The log has grown here.
    Nothing,
}

/// What a word is that is no access.
#[inline(always)]
pub(crate) fn entry(word: Packed) -> Entry {
    let pointer = word.word() & ADDRESS;
    match (pointer, pointer & HAPPENED) {
        (0, _) => Entry::Nothing,
        (_, 0) => Entry::Block(pointer as *const Decoded),
        _ => Entry::Happened((pointer - HAPPENED) as *mut Happening),
    }
}

/// How many accesses come before a word that is none, where `position` come before the one before it.
#[inline(always)]
pub(crate) fn accesses_before(word: Packed, position: usize) -> usize {
    position + usize::from(((word.word() >> MemoryTag::ADDRESS_BITS) as u16).wrapping_sub(position as u16))
}

/// Whether the access after `previous`, both of the same execution, is a further piece of the same operand.
fn is_further_piece(word: Packed, previous: Packed) -> bool {
    let tag = MemoryTag::from_word(word.word());
    if !tag.is_in_pieces() || MemoryTag::from_word(previous.word()) != tag {
        return false;
    }
    let distance = word.address().wrapping_sub(previous.address());
    distance != 0 && distance < u64::from(tag.bytes())
}

/// What a thread has not handed over yet.
pub(crate) struct Log {
    /// Where the next access goes.
    next: *mut Packed,
    /// The last word that is no access: the next goes before it.
    other: *mut Packed,
    start: *mut Packed,
    /// Bytes between the two below which it is enough: at least [`ROOM`] words.
    least: usize,
    words: Vec<Packed>,
    pub(crate) cpu: u16,
    /// The call the thread is in: its number and arguments.
    pub(crate) call: (i64, [u64; 6]),
    /// It mapped code since modules were last looked at.
    pub(crate) mapped_code: bool,
}

/// Whether there was ever more than one thread.
static SEVERAL: AtomicBool = AtomicBool::new(false);

/// Of all cpus but the first.
static LOGS: [AtomicPtr<Log>; MAX_CPUS] = [const { AtomicPtr::new(std::ptr::null_mut()) }; MAX_CPUS];

/// Of the first, which most programs do with: in a known place, so that it need not be looked up. Only the cpu's thread touches it.
static FIRST: First = First(UnsafeCell::new(Log::ABSENT));

/// Where the first cpu writes when it has no log: it does not look whether it has one when a block accesses memory.
static NOWHERE: Nowhere = Nowhere(UnsafeCell::new([Packed::from_word(0); MOST_BACK + ROOM]));

/// Logs are forgotten.
static FORGOTTEN: AtomicBool = AtomicBool::new(false);

struct First(UnsafeCell<Log>);

// SAFETY: whoever gets at it promises to be the only one, see `of_cpu`.
unsafe impl Sync for First {}

struct Nowhere(UnsafeCell<[Packed; MOST_BACK + ROOM]>);

// SAFETY: as above.
unsafe impl Sync for Nowhere {}

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
    // SAFETY: the caller's promise.
    if let Some(first) = unsafe { of_first(cpu) } {
        return (first.is_there() && !FORGOTTEN.load(Ordering::Relaxed)).then_some(first);
    }
    let log = LOGS.get(cpu as usize)?.load(Ordering::Relaxed);
    // SAFETY: the caller's promise; logs are freed by `remove` only.
    unsafe { log.as_mut() }
}

/// The log of the first virtual cpu, whether or not it is there, if that is the cpu. If it is not there, it is enough.
///
/// # Safety
///
/// See [`of_cpu`].
#[inline(always)]
pub(crate) unsafe fn of_first(cpu: u32) -> Option<&'static mut Log> {
    // SAFETY: the caller's promise.
    (cpu == 0).then(|| unsafe { &mut *FIRST.0.get() })
}

/// A block was entered by a cpu that has no log. If it is the first, what the block accesses goes nowhere.
///
/// # Safety
///
/// See [`of_cpu`].
pub(crate) unsafe fn write_nowhere(cpu: u32) {
    // SAFETY: the caller's promise, for both; the pointers stay within the array.
    unsafe {
        if let Some(first) = of_first(cpu) {
            let start = NOWHERE.0.get().cast::<Packed>().add(MOST_BACK);
            (first.start, first.next, first.other, first.least) = (start, start, start, usize::MAX);
        }
    }
}

/// Gives a cpu a log, to be written to `words`.
///
/// # Safety
///
/// See [`of_cpu`].
pub(crate) unsafe fn insert(cpu: u32, words: Vec<Packed>) -> Option<&'static mut Log> {
    let place = LOGS.get(cpu as usize)?;
    let mut log = Log { cpu: u16::try_from(cpu).ok()?, ..Log::ABSENT };
    log.renew(words);
    // SAFETY: the caller's promise.
    unsafe {
        match of_first(cpu) {
            Some(first) => *first = log,
            None => place.store(Box::into_raw(Box::new(log)), Ordering::Release),
        }
        of_cpu(cpu)
    }
}

/// Takes a cpu's log away.
///
/// # Safety
///
/// See [`of_cpu`].
pub(crate) unsafe fn remove(cpu: u32) {
    // SAFETY: the caller's promise.
    if let Some(first) = unsafe { of_first(cpu) } {
        *first = Log::ABSENT;
    }
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
    FORGOTTEN.store(true, Ordering::Release);
    for place in &LOGS {
        place.store(std::ptr::null_mut(), Ordering::Release);
    }
}

/// The cpus that have a log, and the first.
pub(crate) fn cpus() -> impl Iterator<Item = u32> {
    let has = |cpu: &u32| LOGS.get(*cpu as usize).is_some_and(|log| !log.load(Ordering::Acquire).is_null());
    std::iter::once(0).chain((1..MAX_CPUS as u32).filter(has))
}

impl Log {
    const ABSENT: Log = Log {
        next: std::ptr::null_mut(),
        other: std::ptr::null_mut(),
        start: std::ptr::null_mut(),
        least: usize::MAX,
        words: Vec::new(),
        cpu: 0,
        call: (-1, [0; 6]),
        mapped_code: false,
    };

    fn is_there(&self) -> bool {
        !self.words.is_empty()
    }

    /// Appends an access, unless it is a further piece of the last.
    #[inline(always)]
    pub(crate) fn access(&mut self, address: u64, tag: u64) {
        let access = Packed::from_word(address & ADDRESS | tag);
        if self.last_access().is_some_and(|last| is_further_piece(access, last)) {
            return;
        }
        if self.next == self.other {
            self.grow();
        }
        // SAFETY: there is room.
        unsafe { self.put(access) }
    }

    /// Appends an access of at most eight bytes without a look at how much room there is. (An access that was made is to an address of
    /// user space, which leaves the bits of a tag free.)
    ///
    /// # Safety
    ///
    /// Since the last [`Log::block`] fewer than [`ROOM`] words were appended.
    #[inline(always)]
    pub(crate) unsafe fn access_with_room(&mut self, address: u64, tag: u64) {
        // SAFETY: `block` made the room, the caller says it is left, and what hands the log over or grows it leaves more.
        unsafe { self.put(Packed::from_word(address | tag)) }
    }

    /// Appends an access and what follows from it without a look at how much room there is.
    ///
    /// # Safety
    ///
    /// Since the last [`Log::block`] fewer than [`ROOM`] words were appended, these included; each follows from one at most
    /// [`MOST_BACK`] words back.
    #[inline(always)]
    pub(crate) unsafe fn lead(&mut self, address: u64, tag: u64, followers: &[Follower]) {
        let mut next = self.next;
        // SAFETY: as in `access_with_room`; and before the first word there are as many as anything goes back.
        unsafe {
            next.write(Packed::from_word(address | tag));
            next = next.add(1);
            for follower in followers {
                let from = *next.sub(follower.back as usize);
                next.write(Packed::from_word(from.word().wrapping_add(follower.add)));
                next = next.add(1);
            }
        }
        self.next = next;
    }

    /// Whether an access is a further piece of one that so many follow, which are written.
    #[inline(always)]
    pub(crate) fn is_piece_of(&self, address: u64, tag: u64, followers: usize) -> bool {
        let back = followers + 1;
        // SAFETY: what was written since the last word that is no access lies before `next`.
        unsafe {
            let since = (self.before() >> MemoryTag::ADDRESS_BITS) as u16;
            let since = since.wrapping_sub(((*self.other).word() >> MemoryTag::ADDRESS_BITS) as u16);
            usize::from(since) >= back && is_further_piece(Packed::from_word(address | tag), *self.next.sub(back))
        }
    }

    /// The last access of the block under way.
    #[inline(always)]
    fn last_access(&self) -> Option<Packed> {
        // SAFETY: in a log with an entry this is the last one; an access before `next` is one that was written.
        unsafe {
            let since =
                self.used_by_others() > 0 && (*self.other).word() >> MemoryTag::ADDRESS_BITS != self.before() >> 48;
            since.then(|| *self.next.sub(1))
        }
    }

    /// Appends that a block was entered. Afterwards there is room for [`ROOM`] words, less this one.
    #[inline(always)]
    pub(crate) fn block(&mut self, block: *const Decoded) {
        if self.is_enough() && self.room() < ROOM * WORD {
            self.grow();
        }
        // SAFETY: there is room.
        unsafe { self.put_other(block as u64) }
    }

    /// Appends that something happened.
    pub(crate) fn happened(&mut self, happening: Happening) {
        if self.next == self.other {
            self.grow();
        }
        // SAFETY: there is room.
        unsafe { self.put_other(Box::into_raw(Box::new(happening)) as u64 | HAPPENED) }
    }

    /// # Safety
    ///
    /// There is room.
    #[inline(always)]
    unsafe fn put(&mut self, access: Packed) {
        // SAFETY: within our words, and before what else is there.
        unsafe {
            self.next.write(access);
            self.next = self.next.add(1);
        }
    }

    /// # Safety
    ///
    /// There is room.
    #[inline(always)]
    unsafe fn put_other(&mut self, pointer: u64) {
        // SAFETY: within our words, and after the accesses.
        unsafe {
            self.other = self.other.sub(1);
            self.other.write(Packed::from_word(pointer | self.before()));
        }
    }

    /// How many accesses there are, in the upper 16 bits.
    #[inline(always)]
    fn before(&self) -> u64 {
        const WORDS_SHIFT: u32 = MemoryTag::ADDRESS_BITS - WORD.trailing_zeros();
        (self.next as u64).wrapping_sub(self.start as u64) << WORDS_SHIFT
    }

    /// Bytes there is room for.
    #[inline(always)]
    fn room(&self) -> usize {
        (self.other as usize).wrapping_sub(self.next as usize)
    }

    /// Whether it is time to hand it over.
    #[inline(always)]
    pub(crate) fn is_enough(&self) -> bool {
        self.room() < self.least
    }

    /// Whether nothing is in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.next == self.start && self.used_by_others() == 0
    }

    /// Accesses in it.
    fn used_by_accesses(&self) -> usize {
        (self.next as usize).wrapping_sub(self.start as usize) / WORD
    }

    /// Words in it that are no accesses.
    fn used_by_others(&self) -> usize {
        self.words.len().saturating_sub(MOST_BACK + self.used_by_accesses() + self.room() / WORD)
    }

    /// What is in it; it goes on in `words`.
    pub(crate) fn take(&mut self, words: Vec<Packed>) -> Batch {
        let (accesses, others) = (self.used_by_accesses(), self.used_by_others());
        let full = std::mem::take(&mut self.words);
        self.renew(words);
        Batch { cpu: self.cpu, words: full, accesses, others }
    }

    fn renew(&mut self, mut words: Vec<Packed>) {
        words.resize(WORDS, Packed::default());
        self.words = words;
        let enough = if are_several() { FEW } else { WORDS - ROOM };
        self.point(0, 0, (WORDS - enough) * WORD);
    }

    /// So many words at either end are used.
    fn point(&mut self, accesses: usize, others: usize, least: usize) {
        let words = self.words.len();
        // SAFETY: within the vector's memory, or one past its end.
        unsafe {
            self.start = self.words.as_mut_ptr().add(MOST_BACK);
            self.next = self.start.add(accesses);
            self.other = self.words.as_mut_ptr().add(words - others);
        }
        self.least = least;
    }

    /// Little is left: more room. It is enough now in any case.
    #[cold]
    #[inline(never)]
    fn grow(&mut self) {
        let (accesses, others, before) = (self.used_by_accesses(), self.used_by_others(), self.words.len());
        let words = before + WORDS;
        self.words.resize(words, Packed::default());
        self.words.copy_within(before - others..before, words - others);
        self.point(accesses, others, usize::MAX);
        // SAFETY: there is room.
        unsafe { self.put_other(0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::Pieces;

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
        let accesses: Vec<u64> = batch.accesses().iter().map(|access| access.word()).collect();
        assert!(accesses.iter().copied().eq((1..=written).chain([7 << 48 | ADDRESS])));
        let (mut position, mut blocks) = (0, 0);
        for word in batch.others().iter().rev() {
            position = accesses_before(*word, position);
            match entry(*word) {
                Entry::Block(found) => {
                    assert_eq!((found, position), (block, blocks * (ROOM - 1)));
                    blocks += 1;
                }
                Entry::Nothing => {}
                Entry::Happened(_) => panic!("nothing happened"),
            }
        }
        assert_eq!((blocks, log.is_empty(), log.is_enough()), (30, true, false));
        // SAFETY: as above; the reference is not used any more.
        unsafe { remove(CPU) };
    }

    #[test]
    fn what_follows_is_written_with_its_leader_once() {
        const CPU: u32 = MAX_CPUS as u32 - 6;
        // SAFETY: no other test has this cpu; the reference is the only one.
        let log = unsafe { insert(CPU, Vec::new()) }.unwrap();
        let block = std::ptr::without_provenance::<Decoded>(0x1230);
        let tag = |op, store, pieces| MemoryTag::new(op, store, pieces).to_word();
        let (leads, follows) = (tag(0, false, Pieces::B16), tag(1, true, Pieces::B8));
        // Eight bytes below, and then 32 above that.
        let add = |from: u64, to: u64, far: i64| to.wrapping_sub(from).wrapping_add(far as u64);
        let followers = [
            Follower { back: 1, add: add(leads, follows, -8) },
            Follower { back: 1, add: add(follows, follows, 32) },
            Follower { back: 3, add: add(leads, leads, 16) },
        ];
        let mut expected = Vec::new();
        for start in [0x100_u64, 0x108] {
            log.block(block);
            for piece in [0, 8] {
                if !log.is_piece_of(start + piece, leads, followers.len()) {
                    // SAFETY: a block was entered.
                    unsafe { log.lead(start + piece, leads, &followers) }
                }
            }
            expected.extend([leads | start, follows | (start - 8), follows | (start + 24), leads | (start + 16)]);
        }
        assert!(!log.is_piece_of(0x110, tag(2, false, Pieces::B16), followers.len()), "another instruction's");
        let batch = log.take(Vec::new());
        assert_eq!(batch.accesses().iter().map(|access| access.word()).collect::<Vec<_>>(), expected);
        assert_eq!(batch.others().len(), 2);
        // SAFETY: as above; the reference is not used any more.
        unsafe { remove(CPU) };
    }

    #[test]
    fn pieces_of_one_operand_are_one_access_and_operands_of_two_executions_are_two() {
        const CPU: u32 = MAX_CPUS as u32 - 4;
        // SAFETY: no other test has this cpu; the reference is the only one.
        let log = unsafe { insert(CPU, Vec::new()) }.unwrap();
        let block = std::ptr::without_provenance::<Decoded>(0x1230);
        let tag = |op, pieces| MemoryTag::new(op, false, pieces).to_word();
        let accesses = |log: &mut Log| {
            let batch = log.take(Vec::new());
            batch.accesses().iter().map(|access| access.address()).collect::<Vec<_>>()
        };
        for start in [0x100, 0x108] {
            log.block(block);
            (0..4).for_each(|piece| log.access(start + piece * 8, tag(0, Pieces::B32)));
        }
        assert_eq!(accesses(log), [0x100, 0x108]);
        log.block(block);
        // Again the same; beyond the operand; of another instruction; each by itself.
        (0..2).for_each(|_| log.access(0x100, tag(0, Pieces::B16)));
        log.access(0x110, tag(0, Pieces::B16));
        log.access(0x118, tag(1, Pieces::B16));
        (0..2).for_each(|element| log.access(0x200 + element * 8, tag(2, Pieces::Separate)));
        assert_eq!(accesses(log), [0x100, 0x100, 0x110, 0x118, 0x200, 0x208]);
        // SAFETY: as above; the reference is not used any more.
        unsafe { remove(CPU) };
    }
}
