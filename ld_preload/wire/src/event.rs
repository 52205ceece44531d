//! The events a shim writes, and their encoding in 64-bit words.
//!
//! Word 0 of every event is `kind | flags << 8 | length_words << 16 | small << 32`, word 1 the time in nanoseconds of
//! `CLOCK_MONOTONIC`; the rest is fixed per kind, with text at the end. The length is in the first word, so that a
//! reader can pass over a kind it does not know.
//!
//! A block's death is written before it happens and its birth after, so that within one process an address never
//! belongs to two blocks in the order of time.

use crate::ring::LossKind;
use crate::stacks::StackId;

/// The longest event: a module with a path of `PATH_MAX` bytes.
pub const MAX_EVENT_WORDS: usize = 544;

/// The longest event without text: room for it is all that a hot path needs to set aside.
pub const SHORT_EVENT_WORDS: usize = 8;

/// The longest text carried by an event; longer text is cut.
pub const MAX_TEXT_BYTES: usize = 4096;

/// The longest build-id carried. (GNU ld and lld write 20 bytes or fewer.)
pub const MAX_BUILD_ID_BYTES: usize = 32;

/// Reads the length out of an event's first word.
pub(crate) fn length_words(first: u64) -> usize {
    (first >> 16) as usize & 0xffff
}

/// How a block came to be recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorded {
    /// Every block of this size is.
    Always,
    /// Chosen by Poisson sampling of bytes: it stands for `1 / (1 - exp(-bytes / mean))` blocks.
    Sampled,
}

/// One event. Times are nanoseconds of `CLOCK_MONOTONIC`; sizes are bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are the words of the doc comments")]
pub enum Event<'a> {
    /// A block was handed out by an allocator.
    Allocate { time_ns: u64, address: u64, bytes: u64, stack: StackId, recorded: Recorded },
    /// A recorded block is about to be given back.
    Free { time_ns: u64, address: u64 },
    /// A recorded block was replaced: `old_address` is dead, `address` lives. `old_address` is 0 when the old block had
    /// not been recorded; `address` is 0 when the new one is not.
    Reallocate { time_ns: u64, old_address: u64, address: u64, bytes: u64, stack: StackId, recorded: Recorded },
    /// The program mapped memory. `file_backed` tells a file mapping from anonymous memory.
    Map { time_ns: u64, address: u64, bytes: u64, stack: StackId, protection: u32, file_backed: bool },
    /// The program is about to unmap `[address, address + bytes)`, or is mapping over it.
    Unmap { time_ns: u64, address: u64, bytes: u64 },
    /// A mapping moved or changed its size.
    Remap { time_ns: u64, old_address: u64, old_bytes: u64, address: u64, bytes: u64, stack: StackId },
    /// A module is mapped at `[start, end)`; subtract `bias` from an address to get the one in its ELF file.
    ModuleLoaded { time_ns: u64, start: u64, end: u64, bias: u64, build_id: &'a [u8], path: &'a [u8] },
    /// The module that began at `start` is gone.
    ModuleUnloaded { time_ns: u64, start: u64 },
    /// A thread wrote its first event; its stack lies in `[stack_low, stack_high)` (zeros when unknown).
    ThreadStarted { time_ns: u64, tid: u32, stack_low: u64, stack_high: u64 },
    /// This process is the child of a fork of `parent`, and starts with a copy of its blocks.
    Forked { time_ns: u64, parent: u32, child: u32 },
    /// `tierscope_mark(name)`: a phase begins.
    Mark { time_ns: u64, name: &'a [u8] },
}

/// An event that no shim of this version writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecodeError {
    /// Fewer words than the kind needs, or text longer than the event.
    Truncated,
    /// A kind this version does not know.
    UnknownKind(u8),
}

impl core::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            DecodeError::Truncated => f.write_str("event shorter than its kind requires"),
            DecodeError::UnknownKind(kind) => write!(f, "unknown event kind {kind}"),
        }
    }
}

impl core::error::Error for DecodeError {}

mod kind {
    pub(super) const ALLOCATE: u8 = 1;
    pub(super) const FREE: u8 = 2;
    pub(super) const REALLOCATE: u8 = 3;
    pub(super) const MAP: u8 = 4;
    pub(super) const UNMAP: u8 = 5;
    pub(super) const REMAP: u8 = 6;
    pub(super) const MODULE_LOADED: u8 = 7;
    pub(super) const MODULE_UNLOADED: u8 = 8;
    pub(super) const THREAD_STARTED: u8 = 9;
    pub(super) const FORKED: u8 = 10;
    pub(super) const MARK: u8 = 11;
}

const FLAG_SAMPLED: u8 = 1;
const FLAG_FILE_BACKED: u8 = 2;

/// Words being put together, one after the other.
struct Encoder<'b> {
    buffer: &'b mut [u64],
    length: usize,
    overflowed: bool,
}

impl<'b> Encoder<'b> {
    fn new(buffer: &'b mut [u64], kind: u8, flags: u8, small: u32, time_ns: u64) -> Self {
        let mut encoder = Encoder { buffer, length: 0, overflowed: false };
        encoder.word(u64::from(kind) | u64::from(flags) << 8 | u64::from(small) << 32);
        encoder.word(time_ns);
        encoder
    }

    #[inline]
    fn word(&mut self, word: u64) {
        match self.buffer.get_mut(self.length) {
            Some(slot) => {
                *slot = word;
                self.length += 1;
            }
            None => self.overflowed = true,
        }
    }

    fn text(&mut self, text: &[u8]) {
        for chunk in text.chunks(8) {
            let mut bytes = [0; 8];
            for (to, from) in bytes.iter_mut().zip(chunk) {
                *to = *from;
            }
            self.word(u64::from_le_bytes(bytes));
        }
    }

    fn finish(self) -> usize {
        if self.overflowed {
            return 0;
        }
        if let Some(first) = self.buffer.first_mut() {
            *first |= (self.length as u64) << 16;
        }
        self.length
    }
}

fn cut(text: &[u8], most: usize) -> &[u8] {
    text.get(..most).unwrap_or(text)
}

fn sampled_flag(recorded: Recorded) -> u8 {
    match recorded {
        Recorded::Always => 0,
        Recorded::Sampled => FLAG_SAMPLED,
    }
}

impl<'a> Event<'a> {
    /// When it happened.
    pub fn time_ns(&self) -> u64 {
        match *self {
            Event::Allocate { time_ns, .. }
            | Event::Free { time_ns, .. }
            | Event::Reallocate { time_ns, .. }
            | Event::Map { time_ns, .. }
            | Event::Unmap { time_ns, .. }
            | Event::Remap { time_ns, .. }
            | Event::ModuleLoaded { time_ns, .. }
            | Event::ModuleUnloaded { time_ns, .. }
            | Event::ThreadStarted { time_ns, .. }
            | Event::Forked { time_ns, .. }
            | Event::Mark { time_ns, .. } => time_ns,
        }
    }

    /// The event freed from its decoding buffer; `None` for those that carry text.
    pub fn detached(&self) -> Option<Event<'static>> {
        Some(match *self {
            Event::Allocate { time_ns, address, bytes, stack, recorded } => {
                Event::Allocate { time_ns, address, bytes, stack, recorded }
            }
            Event::Free { time_ns, address } => Event::Free { time_ns, address },
            Event::Reallocate { time_ns, old_address, address, bytes, stack, recorded } => {
                Event::Reallocate { time_ns, old_address, address, bytes, stack, recorded }
            }
            Event::Map { time_ns, address, bytes, stack, protection, file_backed } => {
                Event::Map { time_ns, address, bytes, stack, protection, file_backed }
            }
            Event::Unmap { time_ns, address, bytes } => Event::Unmap { time_ns, address, bytes },
            Event::Remap { time_ns, old_address, old_bytes, address, bytes, stack } => {
                Event::Remap { time_ns, old_address, old_bytes, address, bytes, stack }
            }
            Event::ModuleUnloaded { time_ns, start } => Event::ModuleUnloaded { time_ns, start },
            Event::ThreadStarted { time_ns, tid, stack_low, stack_high } => {
                Event::ThreadStarted { time_ns, tid, stack_low, stack_high }
            }
            Event::Forked { time_ns, parent, child } => Event::Forked { time_ns, parent, child },
            Event::ModuleLoaded { .. } | Event::Mark { .. } => return None,
        })
    }

    /// What is lost when it finds no room.
    pub fn loss_kind(&self) -> LossKind {
        match self {
            Event::Allocate { .. } | Event::Reallocate { .. } | Event::Map { .. } | Event::Remap { .. } => {
                LossKind::Allocation
            }
            Event::Free { .. } | Event::Unmap { .. } => LossKind::Free,
            _ => LossKind::Other,
        }
    }

    /// Encodes into `buffer` and returns the number of words used, 0 when they do not fit. Events without text take at
    /// most [`SHORT_EVENT_WORDS`]; text longer than [`MAX_TEXT_BYTES`] is cut.
    #[inline]
    pub fn encode(&self, buffer: &mut [u64]) -> usize {
        match *self {
            Event::Allocate { time_ns, address, bytes, stack, recorded } => {
                let mut e = Encoder::new(buffer, kind::ALLOCATE, sampled_flag(recorded), stack.0, time_ns);
                e.word(address);
                e.word(bytes);
                e.finish()
            }
            Event::Free { time_ns, address } => {
                let mut e = Encoder::new(buffer, kind::FREE, 0, 0, time_ns);
                e.word(address);
                e.finish()
            }
            Event::Reallocate { time_ns, old_address, address, bytes, stack, recorded } => {
                let mut e = Encoder::new(buffer, kind::REALLOCATE, sampled_flag(recorded), stack.0, time_ns);
                e.word(address);
                e.word(bytes);
                e.word(old_address);
                e.finish()
            }
            Event::Map { time_ns, address, bytes, stack, protection, file_backed } => {
                let flags = if file_backed { FLAG_FILE_BACKED } else { 0 };
                let mut e = Encoder::new(buffer, kind::MAP, flags, stack.0, time_ns);
                e.word(address);
                e.word(bytes);
                e.word(u64::from(protection));
                e.finish()
            }
            Event::Unmap { time_ns, address, bytes } => {
                let mut e = Encoder::new(buffer, kind::UNMAP, 0, 0, time_ns);
                e.word(address);
                e.word(bytes);
                e.finish()
            }
            Event::Remap { time_ns, old_address, old_bytes, address, bytes, stack } => {
                let mut e = Encoder::new(buffer, kind::REMAP, 0, stack.0, time_ns);
                e.word(address);
                e.word(bytes);
                e.word(old_address);
                e.word(old_bytes);
                e.finish()
            }
            Event::ModuleLoaded { time_ns, start, end, bias, build_id, path } => {
                let build_id = cut(build_id, MAX_BUILD_ID_BYTES);
                let path = cut(path, MAX_TEXT_BYTES);
                let lengths = (build_id.len() as u32) << 16 | path.len() as u32;
                let mut e = Encoder::new(buffer, kind::MODULE_LOADED, 0, lengths, time_ns);
                e.word(start);
                e.word(end);
                e.word(bias);
                e.text(build_id);
                e.text(path);
                e.finish()
            }
            Event::ModuleUnloaded { time_ns, start } => {
                let mut e = Encoder::new(buffer, kind::MODULE_UNLOADED, 0, 0, time_ns);
                e.word(start);
                e.finish()
            }
            Event::ThreadStarted { time_ns, tid, stack_low, stack_high } => {
                let mut e = Encoder::new(buffer, kind::THREAD_STARTED, 0, tid, time_ns);
                e.word(stack_low);
                e.word(stack_high);
                e.finish()
            }
            Event::Forked { time_ns, parent, child } => {
                let mut e = Encoder::new(buffer, kind::FORKED, 0, child, time_ns);
                e.word(u64::from(parent));
                e.finish()
            }
            Event::Mark { time_ns, name } => {
                let name = cut(name, MAX_TEXT_BYTES);
                let mut e = Encoder::new(buffer, kind::MARK, 0, name.len() as u32, time_ns);
                e.text(name);
                e.finish()
            }
        }
    }

    /// Decodes `words`. Text is copied into `text`, from which the event borrows it.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] for anything no shim of this version writes; never a panic.
    pub fn decode(words: &[u64], text: &'a mut [u8; MAX_TEXT_BYTES + MAX_BUILD_ID_BYTES]) -> Result<Self, DecodeError> {
        let word = |index: usize| words.get(index).copied().ok_or(DecodeError::Truncated);
        let first = word(0)?;
        let time_ns = word(1)?;
        let flags = (first >> 8) as u8;
        let small = (first >> 32) as u32;
        let recorded = if flags & FLAG_SAMPLED != 0 { Recorded::Sampled } else { Recorded::Always };
        Ok(match first as u8 {
            kind::ALLOCATE => {
                Event::Allocate { time_ns, address: word(2)?, bytes: word(3)?, stack: StackId(small), recorded }
            }
            kind::FREE => Event::Free { time_ns, address: word(2)? },
            kind::REALLOCATE => Event::Reallocate {
                time_ns,
                address: word(2)?,
                bytes: word(3)?,
                old_address: word(4)?,
                stack: StackId(small),
                recorded,
            },
            kind::MAP => Event::Map {
                time_ns,
                address: word(2)?,
                bytes: word(3)?,
                stack: StackId(small),
                protection: word(4)? as u32,
                file_backed: flags & FLAG_FILE_BACKED != 0,
            },
            kind::UNMAP => Event::Unmap { time_ns, address: word(2)?, bytes: word(3)? },
            kind::REMAP => Event::Remap {
                time_ns,
                address: word(2)?,
                bytes: word(3)?,
                old_address: word(4)?,
                old_bytes: word(5)?,
                stack: StackId(small),
            },
            kind::MODULE_LOADED => {
                let (start, end, bias) = (word(2)?, word(3)?, word(4)?);
                let (id_bytes, path_bytes) = ((small >> 16) as usize, (small & 0xffff) as usize);
                if id_bytes > MAX_BUILD_ID_BYTES || path_bytes > MAX_TEXT_BYTES {
                    return Err(DecodeError::Truncated);
                }
                let (id_text, path_text) = text.split_at_mut(MAX_BUILD_ID_BYTES);
                let build_id = copy_text(words, 5, id_bytes, id_text)?;
                let path = copy_text(words, 5 + id_bytes.div_ceil(8), path_bytes, path_text)?;
                Event::ModuleLoaded { time_ns, start, end, bias, build_id, path }
            }
            kind::MODULE_UNLOADED => Event::ModuleUnloaded { time_ns, start: word(2)? },
            kind::THREAD_STARTED => {
                Event::ThreadStarted { time_ns, tid: small, stack_low: word(2)?, stack_high: word(3)? }
            }
            kind::FORKED => Event::Forked { time_ns, parent: word(2)? as u32, child: small },
            kind::MARK => Event::Mark { time_ns, name: copy_text(words, 2, small as usize, text)? },
            other => return Err(DecodeError::UnknownKind(other)),
        })
    }
}

fn copy_text<'t>(words: &[u64], at: usize, bytes: usize, out: &'t mut [u8]) -> Result<&'t [u8], DecodeError> {
    let words = words.get(at..).unwrap_or(&[]);
    let out = out.get_mut(..bytes).ok_or(DecodeError::Truncated)?;
    if words.len() < bytes.div_ceil(8) {
        return Err(DecodeError::Truncated);
    }
    for (to, word) in out.chunks_mut(8).zip(words) {
        for (to, from) in to.iter_mut().zip(word.to_le_bytes()) {
            *to = from;
        }
    }
    Ok(out)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn round_trip(event: Event<'_>) {
        let mut buffer = [0; MAX_EVENT_WORDS];
        let length = event.encode(&mut buffer);
        assert_eq!(length, length_words(buffer[0]));
        let mut text = [0; MAX_TEXT_BYTES + MAX_BUILD_ID_BYTES];
        assert_eq!(Event::decode(&buffer[..length], &mut text), Ok(event));
    }

    proptest! {
        #[test]
        fn every_event_survives_encoding(
            time_ns: u64, address: u64, bytes: u64, old_address: u64, old_bytes: u64, id: u32, sampled: bool,
            build_id in proptest::collection::vec(any::<u8>(), 0..=MAX_BUILD_ID_BYTES),
            path in proptest::collection::vec(any::<u8>(), 0..=MAX_TEXT_BYTES),
        ) {
            let stack = StackId(id);
            let recorded = if sampled { Recorded::Sampled } else { Recorded::Always };
            round_trip(Event::Allocate { time_ns, address, bytes, stack, recorded });
            round_trip(Event::Free { time_ns, address });
            round_trip(Event::Reallocate { time_ns, old_address, address, bytes, stack, recorded });
            round_trip(Event::Map { time_ns, address, bytes, stack, protection: id, file_backed: sampled });
            round_trip(Event::Unmap { time_ns, address, bytes });
            round_trip(Event::Remap { time_ns, old_address, old_bytes, address, bytes, stack });
            round_trip(Event::ModuleLoaded {
                time_ns, start: address, end: bytes, bias: old_address, build_id: &build_id, path: &path,
            });
            round_trip(Event::ModuleUnloaded { time_ns, start: address });
            round_trip(Event::ThreadStarted { time_ns, tid: id, stack_low: address, stack_high: bytes });
            round_trip(Event::Forked { time_ns, parent: id, child: !id });
            round_trip(Event::Mark { time_ns, name: &path });
        }

        #[test]
        fn any_words_decode_or_are_refused(words in proptest::collection::vec(any::<u64>(), 0..16), kind in 0u64..16) {
            let mut words = words;
            if let Some(first) = words.first_mut() {
                *first = *first & !0xff | kind;
            }
            let mut text = [0; MAX_TEXT_BYTES + MAX_BUILD_ID_BYTES];
            let _ = Event::decode(&words, &mut text);
        }
    }

    #[test]
    fn events_without_text_fit_the_short_buffer() {
        let stack = StackId(7);
        let recorded = Recorded::Sampled;
        for event in [
            Event::Reallocate { time_ns: 1, old_address: 2, address: 3, bytes: 4, stack, recorded },
            Event::Remap { time_ns: 1, old_address: 2, old_bytes: 3, address: 4, bytes: 5, stack },
        ] {
            let mut short = [0; SHORT_EVENT_WORDS];
            assert!(event.encode(&mut short) > 0);
        }
    }

    #[test]
    fn an_event_that_does_not_fit_is_not_half_encoded() {
        let name: Vec<u8> = (0..200).collect();
        assert_eq!(Event::Mark { time_ns: 1, name: &name }.encode(&mut [0; SHORT_EVENT_WORDS]), 0);
    }
}
