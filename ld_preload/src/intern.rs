//! Stack to id: a known stack costs a look, a new one a place in the shared table.
//!
//! A fixed open-addressing table of words `id | tag << 32`, where the tag is the upper half of the frames' hash. A word
//! is written once, by compare-and-swap, and never changed: a reader who sees it may use the id. The tag only saves
//! looking; equality is always decided by comparing the frames in the shared table. Two threads that meet a new stack
//! at once may both append it; one wins the word, and the loser takes the winner's id, so that one stack has one id.

use core::sync::atomic::{AtomicU64, Ordering};
use tierscope_wire::{MAX_FRAMES, StackId, StackTable};

const SLOTS: usize = if cfg!(miri) { 1 << 8 } else { 1 << 17 };
/// How far a stack may lie from where its hash points. Beyond, it is appended each time it occurs.
const PROBES: usize = 32;

/// The table of this process. All zeros is an empty one.
#[derive(Debug)]
pub(crate) struct Interner {
    slots: [AtomicU64; SLOTS],
}

fn hash(frames: &[u64], epoch: u32) -> u64 {
    let mixed = frames.iter().fold(u64::from(epoch) ^ 0x243f_6a88_85a3_08d3, |hash, frame| {
        (hash.rotate_left(5) ^ frame).wrapping_mul(0x517c_c1b7_2722_0a95)
    });
    mixed ^ mixed >> 29
}

fn same(table: &StackTable<'_>, id: StackId, frames: &[u64], epoch: u32) -> bool {
    let mut known = [0; MAX_FRAMES];
    table.read(id, &mut known) == Some((frames.len(), epoch)) && known.get(..frames.len()) == Some(frames)
}

impl Interner {
    /// An empty table.
    pub(crate) const fn new() -> Self {
        Interner { slots: [const { AtomicU64::new(0) }; SLOTS] }
    }

    /// The id of a stack in `table`; `None` when it is new and finds no room there. `announce` is given each id before any other
    /// thread can have it.
    pub(crate) fn intern(
        &self,
        table: &StackTable<'_>,
        frames: &[u64],
        epoch: u32,
        announce: impl Fn(StackId),
    ) -> Option<StackId> {
        let frames = frames.get(..MAX_FRAMES).unwrap_or(frames);
        let hash = hash(frames, epoch);
        let tag = hash >> 32;
        let append = || table.append(frames, epoch).inspect(|id| announce(*id));
        let mut appended = None;
        for probe in 0..PROBES {
            let slot = &self.slots[(hash as usize).wrapping_add(probe) & (SLOTS - 1)];
            let mut word = slot.load(Ordering::Acquire);
            if word == 0 {
                let id = match appended {
                    Some(id) => id,
                    None => append()?,
                };
                appended = Some(id);
                match slot.compare_exchange(0, u64::from(id.0) | tag << 32, Ordering::AcqRel, Ordering::Acquire) {
                    Ok(_) => return Some(id),
                    Err(theirs) => word = theirs,
                }
            }
            let id = StackId(word as u32);
            if word >> 32 == tag && same(table, id, frames, epoch) {
                return Some(id);
            }
        }
        appended.or_else(append)
    }

    /// Forgets everything: the table the ids refer to is another one now. (In a forked child.)
    pub(crate) fn clear(&self) {
        for slot in &self.slots {
            slot.store(0, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zeroed() -> Box<Interner> {
        // SAFETY: zeros are an empty table.
        unsafe { Box::from_raw(std::alloc::alloc_zeroed(std::alloc::Layout::new::<Interner>()).cast()) }
    }

    fn words(count: usize) -> Vec<AtomicU64> {
        (0..count).map(|_| AtomicU64::new(0)).collect()
    }

    #[test]
    fn a_stack_has_one_id_and_another_epoch_another() {
        let (used, words, interner) = (AtomicU64::new(0), words(1000), zeroed());
        let table = StackTable::new(&used, &words);
        let first = interner.intern(&table, &[1, 2, 3], 0, |_| {}).unwrap();
        assert_eq!(interner.intern(&table, &[1, 2, 3], 0, |_| {}), Some(first));
        assert_ne!(interner.intern(&table, &[1, 2, 3], 1, |_| {}), Some(first));
        assert_ne!(interner.intern(&table, &[1, 2], 0, |_| {}), Some(first));
        interner.clear();
        assert_ne!(interner.intern(&table, &[1, 2, 3], 0, |_| {}), Some(first), "ids of another table");
    }

    #[test]
    fn a_full_table_still_knows_what_it_holds() {
        let (used, words, interner) = (AtomicU64::new(0), words(12), zeroed());
        let table = StackTable::new(&used, &words);
        let known = interner.intern(&table, &[1, 2, 3, 4], 0, |_| {});
        assert!(known.is_some());
        assert_eq!(interner.intern(&table, &[5; 20], 0, |_| {}), None);
        assert_eq!(interner.intern(&table, &[1, 2, 3, 4], 0, |_| {}), known);
    }

    #[test]
    fn threads_agree_on_ids() {
        let stacks = if cfg!(miri) { 3 } else { 2000_u64 };
        let (used, words, interner) = (AtomicU64::new(0), words(if cfg!(miri) { 200 } else { 40_000 }), zeroed());
        let table = StackTable::new(&used, &words);
        let of_threads: Vec<Vec<StackId>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        (0..stacks)
                            .map(|n| interner.intern(&table, &[n, n * 7, 3], 0, |_| {}).unwrap())
                            .collect::<Vec<_>>()
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(of_threads.windows(2).all(|pair| pair[0] == pair[1]));
    }
}
