//! The table of interned call stacks.
//!
//! An append-only arena of 64-bit words in the shared segment. A stack is one header word, `frames | epoch << 16 |
//! 1 << 63`, followed by its frames: return addresses as they are in the process, innermost first. Its id is the index
//! of the header word, and 0 is no stack at all.
//!
//! Room is taken with one `fetch_add`, so writers never wait for each other; the header word is stored last, with
//! release ordering, so that a reader who sees it sees the frames. A writer that dies in between leaves a hole that
//! nobody has the id of. Nothing is ever moved or freed: the reader needs no protocol, and an event lost on a full ring
//! costs no later event its stack.
//!
//! `epoch` grows when modules are unloaded: the same addresses may then mean other code, and get another id.

use core::sync::atomic::{AtomicU64, Ordering};

/// The most frames one stack holds.
pub const MAX_FRAMES: usize = 64;

const READY: u64 = 1 << 63;

/// Identity of an interned stack within one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StackId(pub u32);

impl StackId {
    /// Could not be taken or had no room.
    pub const NONE: StackId = StackId(0);
}

/// The table over its words in shared memory.
#[derive(Debug, Clone, Copy)]
pub struct StackTable<'a> {
    /// Words taken so far, the first (never used) included. Lives in the segment's header.
    used: &'a AtomicU64,
    words: &'a [AtomicU64],
}

impl<'a> StackTable<'a> {
    /// A table over `words`, of which `used` counts those taken. Zeros are an empty table.
    pub fn new(used: &'a AtomicU64, words: &'a [AtomicU64]) -> Self {
        StackTable { used, words }
    }

    /// Appends a stack. `None` when the table is full or there are no frames; frames beyond [`MAX_FRAMES`] are cut.
    pub fn append(&self, frames: &[u64], epoch: u32) -> Option<StackId> {
        let frames = frames.get(..MAX_FRAMES).unwrap_or(frames);
        if frames.is_empty() {
            return None;
        }
        let needed = frames.len() as u64 + 1;
        // Looked at first, so that a full table does not run its counter round.
        if self.used.load(Ordering::Relaxed).checked_add(needed + 1)? > self.words.len() as u64 {
            return None;
        }
        let at = self.used.fetch_add(needed, Ordering::Relaxed).checked_add(1)?;
        let id = u32::try_from(at).ok()?;
        let slots = self.words.get(usize::try_from(at).ok()?..)?.get(..needed as usize)?;
        let (header, body) = slots.split_first()?;
        for (slot, frame) in body.iter().zip(frames) {
            slot.store(*frame, Ordering::Relaxed);
        }
        header.store(READY | u64::from(epoch) << 16 | frames.len() as u64, Ordering::Release);
        Some(StackId(id))
    }

    /// Copies a stack's frames out and returns their number and the epoch; `None` for an id that was never given out.
    pub fn read(&self, id: StackId, out: &mut [u64; MAX_FRAMES]) -> Option<(usize, u32)> {
        if id == StackId::NONE {
            return None;
        }
        let (header, rest) = self.words.get(id.0 as usize..)?.split_first()?;
        let header = header.load(Ordering::Acquire);
        let frames = (header & 0xffff) as usize;
        if header & READY == 0 || frames == 0 || frames > MAX_FRAMES {
            return None;
        }
        let body = rest.get(..frames)?;
        for (to, from) in out.iter_mut().zip(body) {
            *to = from.load(Ordering::Relaxed);
        }
        Some((frames, (header >> 16) as u32))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn table_words(count: usize) -> Vec<AtomicU64> {
        (0..count).map(|_| AtomicU64::new(0)).collect()
    }

    #[test]
    fn a_stack_reads_back_as_it_was_appended() {
        let (used, words) = (AtomicU64::new(0), table_words(100));
        let table = StackTable::new(&used, &words);
        let id = table.append(&[1, 2, 3], 9).unwrap();
        let mut out = [0; MAX_FRAMES];
        assert_eq!(table.read(id, &mut out), Some((3, 9)));
        assert_eq!(&out[..3], &[1, 2, 3]);
        assert_eq!(table.read(StackId::NONE, &mut out), None);
    }

    #[test]
    fn a_full_table_refuses_and_stays_readable() {
        let (used, words) = (AtomicU64::new(0), table_words(12));
        let table = StackTable::new(&used, &words);
        let id = table.append(&[1, 2, 3, 4, 5], 0).unwrap();
        assert!(table.append(&[1, 2, 3, 4, 5], 0).is_none());
        for _ in 0..10 {
            assert!(table.append(&[6; 20], 0).is_none());
        }
        assert_eq!(table.read(id, &mut [0; MAX_FRAMES]).unwrap().0, 5);
    }

    #[test]
    fn any_id_over_any_words_is_answered() {
        let used = AtomicU64::new(u64::MAX);
        let words: Vec<_> =
            (0..64_u64).map(|n| AtomicU64::new(READY | n.wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect();
        let table = StackTable::new(&used, &words);
        assert!(table.append(&[1], 0).is_none());
        for id in (0..80).chain([u32::MAX]) {
            let _ = table.read(StackId(id), &mut [0; MAX_FRAMES]);
        }
    }
}
