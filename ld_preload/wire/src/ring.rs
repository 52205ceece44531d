//! A single-producer single-consumer ring of 64-bit words.
//!
//! # Why it is right
//!
//! `head` counts the words ever written, `tail` the words ever read; only the producer stores `head`, only the consumer
//! stores `tail`. The producer writes the words of an event first and then stores `head` with release ordering; a
//! consumer that loads `head` with acquire ordering therefore sees every word below it. The consumer stores `tail`
//! with release ordering after its last read, and the producer loads it with acquire ordering before it overwrites
//! anything, so no word is overwritten while it may still be read. The words themselves are relaxed atomics: there is
//! no data race to reason about, and on every 64-bit machine they cost what plain stores cost.
//!
//! A producer that dies between its first word and `head` leaves words nobody will look at. A consumer that dies
//! leaves `tail` behind: the ring fills, and the producer counts what it could not write. Neither waits for the other.
//!
//! Counters (`events`, `lost_*`) are written by the producer alone, without read-modify-write instructions. They are
//! advisory until the producer has stopped or the consumer has seen a `head` no older than them; the identity
//! *attempted = consumed + lost* is exact from then on.

use crate::event::MAX_EVENT_WORDS;
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// Who may touch a ring. Stored in [`RingHeader::state`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum RingState {
    /// Nobody's. The shim may claim it for a thread.
    Free = 0,
    /// A live thread writes to it.
    Active = 1,
    /// Its thread is gone; once drained the agent makes it [`RingState::Free`] again.
    Orphaned = 2,
}

/// What an event that found no room would have told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LossKind {
    /// A block allocated, or an old one replaced (`realloc`, `mmap`, `mremap`).
    Allocation,
    /// A block given back (`free`, `munmap`).
    Free,
    /// Anything else: modules, threads, forks, marks.
    Other,
}

/// Events that could not be written, by kind. Exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Losses {
    /// Lost allocations, reallocations and mappings.
    pub allocations: u64,
    /// Lost frees and unmappings.
    pub frees: u64,
    /// Lost events of every other kind.
    pub other: u64,
}

impl Losses {
    /// All losses together.
    pub fn total(&self) -> u64 {
        self.allocations.saturating_add(self.frees).saturating_add(self.other)
    }
}

impl core::ops::AddAssign for Losses {
    fn add_assign(&mut self, more: Losses) {
        self.allocations = self.allocations.saturating_add(more.allocations);
        self.frees = self.frees.saturating_add(more.frees);
        self.other = self.other.saturating_add(more.other);
    }
}

/// One cache line, so that producer and consumer do not share one.
#[derive(Debug)]
#[repr(C, align(64))]
struct Line<T>(T);

#[derive(Debug)]
#[repr(C)]
struct Owner {
    state: AtomicU32,
    tid: AtomicU32,
    /// Times this ring changed hands; tells a reused ring from the old one.
    generation: AtomicU32,
}

#[derive(Debug)]
#[repr(C)]
struct Produced {
    head: AtomicU64,
    events: AtomicU64,
    lost_allocations: AtomicU64,
    lost_frees: AtomicU64,
    lost_other: AtomicU64,
}

#[derive(Debug)]
#[repr(C)]
struct Consumed {
    tail: AtomicU64,
}

/// The shared state of one ring, apart from its words. All zeros is a valid free, empty ring.
#[derive(Debug)]
#[repr(C)]
pub struct RingHeader {
    owner: Line<Owner>,
    produced: Line<Produced>,
    consumed: Line<Consumed>,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<RingHeader>() == 192 && align_of::<RingHeader>() == 64);

impl RingHeader {
    /// An empty ring nobody owns. (In a fresh segment the zeros of the memfd are one already.)
    pub fn new() -> Self {
        RingHeader {
            owner: Line(Owner { state: AtomicU32::new(0), tid: AtomicU32::new(0), generation: AtomicU32::new(0) }),
            produced: Line(Produced {
                head: AtomicU64::new(0),
                events: AtomicU64::new(0),
                lost_allocations: AtomicU64::new(0),
                lost_frees: AtomicU64::new(0),
                lost_other: AtomicU64::new(0),
            }),
            consumed: Line(Consumed { tail: AtomicU64::new(0) }),
        }
    }

    /// The state word; `None` when it holds no [`RingState`].
    pub fn state(&self) -> Option<RingState> {
        match self.owner.0.state.load(Ordering::Acquire) {
            0 => Some(RingState::Free),
            1 => Some(RingState::Active),
            2 => Some(RingState::Orphaned),
            _ => None,
        }
    }

    /// The thread that owns the ring, or owned it last.
    pub fn tid(&self) -> u32 {
        self.owner.0.tid.load(Ordering::Acquire)
    }

    /// How often the ring changed hands.
    pub fn generation(&self) -> u32 {
        self.owner.0.generation.load(Ordering::Acquire)
    }

    /// Takes a free ring for thread `tid`. At most one caller succeeds. (Shim.)
    pub fn claim(&self, tid: u32) -> bool {
        let owner = &self.owner.0;
        if owner
            .state
            .compare_exchange(RingState::Free as u32, RingState::Active as u32, Ordering::AcqRel, Ordering::Relaxed)
            .is_err()
        {
            return false;
        }
        owner.generation.fetch_add(1, Ordering::AcqRel);
        owner.tid.store(tid, Ordering::Release);
        true
    }

    /// Says that the owner is gone. Harmless on a ring that is not active. (Shim, or agent once the thread is dead.)
    pub fn orphan(&self) {
        let _ = self.owner.0.state.compare_exchange(
            RingState::Active as u32,
            RingState::Orphaned as u32,
            Ordering::AcqRel,
            Ordering::Relaxed,
        );
    }

    /// Gives a drained ring of a dead thread back. (Agent.)
    pub fn release(&self) {
        let _ = self.owner.0.state.compare_exchange(
            RingState::Orphaned as u32,
            RingState::Free as u32,
            Ordering::AcqRel,
            Ordering::Relaxed,
        );
    }

    /// Events written so far, over all owners.
    pub fn events(&self) -> u64 {
        self.produced.0.events.load(Ordering::Acquire)
    }

    /// Events lost so far, over all owners.
    pub fn losses(&self) -> Losses {
        Losses {
            allocations: self.produced.0.lost_allocations.load(Ordering::Acquire),
            frees: self.produced.0.lost_frees.load(Ordering::Acquire),
            other: self.produced.0.lost_other.load(Ordering::Acquire),
        }
    }
}

impl Default for RingHeader {
    fn default() -> Self {
        Self::new()
    }
}

/// Adds without a read-modify-write instruction: there is one writer.
fn bump(counter: &AtomicU64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
}

fn mask_of(words: &[AtomicU64]) -> Option<usize> {
    if words.len().is_power_of_two() && words.len() >= MAX_EVENT_WORDS { Some(words.len() - 1) } else { None }
}

/// The writing side. There must be at most one per ring at a time; the owner in [`RingHeader`] sees to that.
#[derive(Debug, Clone, Copy)]
pub struct Producer<'a> {
    header: &'a RingHeader,
    words: &'a [AtomicU64],
    mask: usize,
}

impl<'a> Producer<'a> {
    /// `None` unless `words` is a power of two and holds the largest event.
    pub fn new(header: &'a RingHeader, words: &'a [AtomicU64]) -> Option<Self> {
        Some(Producer { header, words, mask: mask_of(words)? })
    }

    /// Writes one encoded event, or counts it as lost and returns `false`. Never waits.
    #[inline]
    pub fn push(&self, event: &[u64], kind: LossKind) -> bool {
        let produced = &self.header.produced.0;
        let head = produced.head.load(Ordering::Relaxed);
        let tail = self.header.consumed.0.tail.load(Ordering::Acquire);
        let used = head.wrapping_sub(tail);
        let capacity = self.words.len() as u64;
        if used > capacity || capacity - used < event.len() as u64 || event.is_empty() {
            self.lose(kind);
            return false;
        }
        for (position, word) in (head as usize..).zip(event) {
            if let Some(slot) = self.words.get(position & self.mask) {
                slot.store(*word, Ordering::Relaxed);
            }
        }
        bump(&produced.events);
        produced.head.store(head.wrapping_add(event.len() as u64), Ordering::Release);
        true
    }

    /// Whether an event of `words` would be written now. What makes an event costly need not be done for one that
    /// would be lost.
    #[inline]
    pub fn has_room(&self, words: usize) -> bool {
        let head = self.header.produced.0.head.load(Ordering::Relaxed);
        let used = head.wrapping_sub(self.header.consumed.0.tail.load(Ordering::Acquire));
        let capacity = self.words.len() as u64;
        used <= capacity && capacity - used >= words as u64
    }

    /// Counts an event that was not even tried.
    #[inline]
    pub fn lose(&self, kind: LossKind) {
        let produced = &self.header.produced.0;
        bump(match kind {
            LossKind::Allocation => &produced.lost_allocations,
            LossKind::Free => &produced.lost_frees,
            LossKind::Other => &produced.lost_other,
        });
    }
}

/// The ring's content made no sense; what was left of it was skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Corrupt {
    /// Words thrown away.
    pub words: u64,
}

/// The reading side.
#[derive(Debug, Clone, Copy)]
pub struct Consumer<'a> {
    header: &'a RingHeader,
    words: &'a [AtomicU64],
    mask: usize,
}

impl<'a> Consumer<'a> {
    /// `None` unless `words` is a power of two and holds the largest event.
    pub fn new(header: &'a RingHeader, words: &'a [AtomicU64]) -> Option<Self> {
        Some(Consumer { header, words, mask: mask_of(words)? })
    }

    /// True when there is nothing to read.
    pub fn is_empty(&self) -> bool {
        self.header.produced.0.head.load(Ordering::Acquire) == self.header.consumed.0.tail.load(Ordering::Relaxed)
    }

    /// Takes the next event's words into `buffer` and returns their number; `Ok(None)` when the ring is empty.
    ///
    /// # Errors
    ///
    /// [`Corrupt`] when the producer's counters or an event's length cannot be true. The ring is then emptied.
    pub fn pop(&self, buffer: &mut [u64; MAX_EVENT_WORDS]) -> Result<Option<usize>, Corrupt> {
        let head = self.header.produced.0.head.load(Ordering::Acquire);
        let tail = self.header.consumed.0.tail.load(Ordering::Relaxed);
        let available = head.wrapping_sub(tail);
        if available == 0 {
            return Ok(None);
        }
        let word_at = |at: u64| self.words.get(at as usize & self.mask).map_or(0, |slot| slot.load(Ordering::Relaxed));
        let length = crate::event::length_words(word_at(tail)) as u64;
        if available > self.words.len() as u64 || length == 0 || length > available || length > MAX_EVENT_WORDS as u64 {
            self.header.consumed.0.tail.store(head, Ordering::Release);
            return Err(Corrupt { words: available });
        }
        for (offset, out) in buffer.iter_mut().take(length as usize).enumerate() {
            *out = word_at(tail.wrapping_add(offset as u64));
        }
        self.header.consumed.0.tail.store(tail.wrapping_add(length), Ordering::Release);
        Ok(Some(length as usize))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::event::Event;
    use std::vec::Vec;

    fn words(count: usize) -> Vec<AtomicU64> {
        (0..count).map(|_| AtomicU64::new(0)).collect()
    }

    fn free_event(address: u64) -> ([u64; 8], usize) {
        let mut buffer = [0; 8];
        let length = Event::Free { time_ns: 1, address }.encode(&mut buffer);
        (buffer, length)
    }

    #[test]
    fn attempted_equals_consumed_plus_lost() {
        let header = RingHeader::new();
        let words = words(1024);
        let producer = Producer::new(&header, &words).unwrap();
        let consumer = Consumer::new(&header, &words).unwrap();
        let mut consumed = 0;
        let mut buffer = [0; MAX_EVENT_WORDS];
        for round in 0..5000_u64 {
            let (event, length) = free_event(round);
            let expected = producer.has_room(length);
            assert_eq!(producer.push(&event[..length], LossKind::Free), expected);
            if round % 7 == 0 {
                consumed += u64::from(consumer.pop(&mut buffer).unwrap().is_some());
            }
        }
        while consumer.pop(&mut buffer).unwrap().is_some() {
            consumed += 1;
        }
        assert!(header.losses().frees > 0, "the ring never filled");
        assert_eq!(5000, consumed + header.losses().total());
        assert_eq!(header.events(), consumed);
    }

    #[test]
    fn a_producer_that_lies_empties_the_ring_and_nothing_else() {
        let header = RingHeader::new();
        let words = words(1024);
        let consumer = Consumer::new(&header, &words).unwrap();
        for head in [1, 5, 1025, u64::MAX] {
            header.produced.0.head.store(head, Ordering::Relaxed);
            assert!(consumer.pop(&mut [0; MAX_EVENT_WORDS]).is_err());
            assert!(consumer.is_empty());
        }
    }

    #[test]
    fn a_ring_changes_hands_only_once_drained() {
        let header = RingHeader::new();
        assert!(header.claim(10));
        assert!(!header.claim(11), "two owners");
        header.release();
        assert_eq!(header.state(), Some(RingState::Active), "released under a live owner");
        header.orphan();
        assert!(!header.claim(11), "claimed before it was drained");
        header.release();
        assert!(header.claim(11));
        assert_eq!((header.tid(), header.generation()), (11, 2));
    }

    #[test]
    fn two_threads_lose_nothing_they_do_not_count() {
        let attempts = if cfg!(miri) { 300 } else { 200_000_u64 };
        let header = RingHeader::new();
        let words = words(1024);
        let consumed = std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let producer = Producer::new(&header, &words).unwrap();
                for address in 0..attempts {
                    let (event, length) = free_event(address);
                    producer.push(&event[..length], LossKind::Free);
                }
            });
            let consumer = Consumer::new(&header, &words).unwrap();
            let mut buffer = [0; MAX_EVENT_WORDS];
            let (mut consumed, mut last) = (0_u64, None);
            let mut drain = || {
                while consumer.pop(&mut buffer).unwrap().is_some() {
                    assert!(last < Some(buffer[2]), "out of order");
                    last = Some(buffer[2]);
                    consumed += 1;
                }
            };
            while !writer.is_finished() {
                drain();
            }
            // `is_finished` orders nothing: only the join makes the writer's last events ours to see.
            writer.join().unwrap();
            drain();
            consumed
        });
        assert_eq!(attempts, consumed + header.losses().total());
    }
}

/// `RUSTFLAGS="--cfg loom" cargo test -p tierscope-wire --release` explores every interleaving of one producer and
/// one consumer on a ring that wraps.
#[cfg(all(test, loom))]
mod model {
    use super::*;
    use loom::sync::Arc;
    use std::vec::Vec;

    #[test]
    fn words_are_read_as_written_and_losses_are_exact() {
        loom::model(|| {
            let shared: Arc<(RingHeader, Vec<AtomicU64>)> =
                Arc::new((RingHeader::new(), (0..4).map(|_| AtomicU64::new(0)).collect()));
            let theirs = shared.clone();
            let writer = loom::thread::spawn(move || {
                let producer = Producer { header: &theirs.0, words: &theirs.1, mask: 3 };
                for address in 1..=3_u64 {
                    producer.push(&[2 << 16, address], LossKind::Free);
                }
            });
            let consumer = Consumer { header: &shared.0, words: &shared.1, mask: 3 };
            let mut buffer = [0; MAX_EVENT_WORDS];
            let (mut consumed, mut last) = (0, 0);
            let mut take = || {
                if let Some(length) = consumer.pop(&mut buffer).unwrap() {
                    assert_eq!(length, 2);
                    assert!(buffer[1] > last);
                    last = buffer[1];
                    consumed += 1;
                    return true;
                }
                false
            };
            take();
            take();
            writer.join().unwrap();
            while take() {}
            assert_eq!(3, consumed + shared.0.losses().total());
        });
    }
}
