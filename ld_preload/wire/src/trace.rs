//! Marked system calls: what the shim tells a tracer that sees every system call of the program.
//!
//! Under the simulator's emulator nothing needs to be shared, stored or waited for: the tracer sees each system call of each
//! thread between the memory accesses before it and those after it. The shim therefore says what it has to say by calls
//! that do nothing: `write` to a descriptor that cannot exist ([`DESCRIPTOR`], negative as an `int`), whose other five
//! arguments are the message. Every kernel refuses such a call with `EBADF` before it looks at anything else; an emulator may
//! look at the buffer first and refuse with `EFAULT`. Nothing is written, opened or changed either way.
//!
//! # Form
//!
//! ```text
//! rdi   DESCRIPTOR
//! rsi   kind (bits 0..32), a small number (bits 32..64)
//! rdx, r10, r8, r9   four words
//! ```
//!
//! | kind | message | small number | words |
//! |---|---|---|---|
//! | 1 | [`Message::Hello`] | version | first address of the shim's text, one past its last |
//! | 2 | [`Message::Stack`] | stack id | number of frames |
//! | 3 | [`Message::Frames`] | stack id | index of the first, three frames |
//! | 4 | [`Message::Allocated`] | stack id | address, bytes |
//! | 5 | [`Message::Freed`] | | address |
//! | 6 | [`Message::Reallocated`] | stack id | old address, new address, bytes |
//! | 7 | [`Message::Mapped`] | stack id | address, bytes, 1 if of a file |
//! | 8 | [`Message::Unmapped`] | | address, bytes |
//! | 9 | [`Message::Remapped`] | stack id | old address, old bytes, address, bytes |
//! | 10 | [`Message::Mark`] | bytes of the name | the name |
//! | 11 | [`Message::Thread`] | thread id | lowest address of its stack, one past the highest |
//!
//! A stack and its frames come before the first message that names it, from whichever thread. What ends (a block, a
//! mapping) is told before it ends, what begins, after it began, as in [`event`](crate::event).

use crate::{MAX_FRAMES, StackId, WIRE_VERSION};

/// Number of the system call: `write`.
pub const SYSTEM_CALL: u64 = 1;

/// The descriptor: no kernel gives out a negative one. All bits are compared, so that a program's own `write(-1, ...)` is none of ours.
pub const DESCRIPTOR: u64 = 0xffff_ffff_d353_5254;

/// Words of a message beside the descriptor.
pub const WORDS: usize = 5;

/// Frames that one [`Message::Frames`] carries.
pub const FRAMES_AT_ONCE: usize = 3;

/// The longest name of a mark; what is longer is cut.
pub const MAX_NAME_BYTES: usize = 32;

mod kind {
    pub(super) const HELLO: u32 = 1;
    pub(super) const STACK: u32 = 2;
    pub(super) const FRAMES: u32 = 3;
    pub(super) const ALLOCATED: u32 = 4;
    pub(super) const FREED: u32 = 5;
    pub(super) const REALLOCATED: u32 = 6;
    pub(super) const MAPPED: u32 = 7;
    pub(super) const UNMAPPED: u32 = 8;
    pub(super) const REMAPPED: u32 = 9;
    pub(super) const MARK: u32 = 10;
    pub(super) const THREAD: u32 = 11;
}

/// What a marked system call says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message {
    /// The shim is there, and this is where its own instructions lie: they are not the program's.
    Hello {
        /// First address.
        start: u64,
        /// One past the last.
        end: u64,
    },
    /// A stack of so many frames follows, in [`Message::Frames`].
    Stack {
        /// Its id, never 0.
        id: StackId,
        /// 1 to [`MAX_FRAMES`].
        frames: u32,
    },
    /// Some frames of a stack: return addresses, innermost first.
    Frames {
        /// The stack's id.
        id: StackId,
        /// Index of the first of them.
        index: u32,
        /// The frames; those past the stack's number are 0.
        frames: [u64; FRAMES_AT_ONCE],
    },
    /// A block begins.
    Allocated {
        /// First byte.
        address: u64,
        /// Size asked for.
        bytes: u64,
        /// Who asked; [`StackId::NONE`] if that could not be told.
        stack: StackId,
    },
    /// A block is about to end.
    Freed {
        /// First byte.
        address: u64,
    },
    /// A block was replaced by another, perhaps in place. `realloc` of no block is an [`Message::Allocated`].
    Reallocated {
        /// First byte before; not 0.
        old: u64,
        /// First byte now; 0 when the block was freed.
        address: u64,
        /// Size asked for.
        bytes: u64,
        /// Who asked.
        stack: StackId,
    },
    /// The program mapped memory.
    Mapped {
        /// First byte.
        address: u64,
        /// Whole pages.
        bytes: u64,
        /// Who asked.
        stack: StackId,
        /// Whether it shows a file.
        file: bool,
    },
    /// The program is about to unmap a range.
    Unmapped {
        /// First byte.
        address: u64,
        /// Whole pages.
        bytes: u64,
    },
    /// The program moved or resized a mapping.
    Remapped {
        /// First byte before.
        old: u64,
        /// Whole pages before.
        old_bytes: u64,
        /// First byte now.
        address: u64,
        /// Whole pages now.
        bytes: u64,
        /// Who asked.
        stack: StackId,
    },
    /// The program announces a phase.
    Mark {
        /// Its name.
        name: Name,
    },
    /// A thread's first message says where its stack lies, where that is known.
    Thread {
        /// The thread.
        tid: u32,
        /// Lowest address.
        low: u64,
        /// One past the highest.
        high: u64,
    },
}

/// A mark's name, at most [`MAX_NAME_BYTES`] long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Name {
    bytes: [u8; MAX_NAME_BYTES],
    length: u8,
}

impl Name {
    /// The first bytes of `name`.
    pub fn new(name: &[u8]) -> Name {
        let mut bytes = [0; MAX_NAME_BYTES];
        let mut length = 0;
        for (to, from) in bytes.iter_mut().zip(name) {
            *to = *from;
            length += 1;
        }
        Name { bytes, length }
    }

    /// The name.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or(&self.bytes)
    }
}

/// A marked call that no shim of this version makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageError {
    /// A kind that does not exist.
    Kind(u32),
    /// A shim of another version.
    Version(u32),
    /// A stack id, a number of frames or a length that cannot be; of this kind of message.
    Value(u32),
}

impl core::fmt::Display for MessageError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            MessageError::Kind(kind) => write!(f, "a marked system call of unknown kind {kind}"),
            MessageError::Version(version) => {
                write!(f, "marked system calls of wire version {version}, this is version {WIRE_VERSION}")
            }
            MessageError::Value(kind) => write!(f, "a marked system call of kind {kind} with impossible values"),
        }
    }
}

impl core::error::Error for MessageError {}

impl Message {
    /// The five arguments after [`DESCRIPTOR`].
    pub fn encode(&self) -> [u64; WORDS] {
        let message = |kind: u32, small: u32, words: [u64; 4]| {
            let [a, b, c, d] = words;
            [u64::from(kind) | u64::from(small) << 32, a, b, c, d]
        };
        match *self {
            Message::Hello { start, end } => message(kind::HELLO, WIRE_VERSION, [start, end, 0, 0]),
            Message::Stack { id, frames } => message(kind::STACK, id.0, [u64::from(frames), 0, 0, 0]),
            Message::Frames { id, index, frames: [a, b, c] } => {
                message(kind::FRAMES, id.0, [u64::from(index), a, b, c])
            }
            Message::Allocated { address, bytes, stack } => message(kind::ALLOCATED, stack.0, [address, bytes, 0, 0]),
            Message::Freed { address } => message(kind::FREED, 0, [address, 0, 0, 0]),
            Message::Reallocated { old, address, bytes, stack } => {
                message(kind::REALLOCATED, stack.0, [old, address, bytes, 0])
            }
            Message::Mapped { address, bytes, stack, file } => {
                message(kind::MAPPED, stack.0, [address, bytes, u64::from(file), 0])
            }
            Message::Unmapped { address, bytes } => message(kind::UNMAPPED, 0, [address, bytes, 0, 0]),
            Message::Remapped { old, old_bytes, address, bytes, stack } => {
                message(kind::REMAPPED, stack.0, [old, old_bytes, address, bytes])
            }
            Message::Mark { name } => {
                let mut words = [0; 4];
                for (word, bytes) in words.iter_mut().zip(name.bytes.as_chunks::<8>().0) {
                    *word = u64::from_le_bytes(*bytes);
                }
                message(kind::MARK, u32::from(name.length), words)
            }
            Message::Thread { tid, low, high } => message(kind::THREAD, tid, [low, high, 0, 0]),
        }
    }

    /// Reads the five arguments after [`DESCRIPTOR`].
    ///
    /// # Errors
    ///
    /// [`MessageError`] for anything that [`Message::encode`] does not give; never a panic.
    pub fn decode(words: [u64; WORDS]) -> Result<Message, MessageError> {
        let [first, a, b, c, d] = words;
        let (kind, small) = (first as u32, (first >> 32) as u32);
        let stack = StackId(small);
        let wrong = MessageError::Value(kind);
        let range = |address: u64, bytes: u64| address.checked_add(bytes).map(|_| ()).ok_or(wrong);
        Ok(match kind {
            kind::HELLO if small != WIRE_VERSION => return Err(MessageError::Version(small)),
            kind::HELLO if a > b => return Err(wrong),
            kind::HELLO => Message::Hello { start: a, end: b },
            kind::STACK => {
                let frames = u32::try_from(a).ok().filter(|frames| (1..=MAX_FRAMES as u32).contains(frames));
                match frames.filter(|_| stack != StackId::NONE) {
                    Some(frames) => Message::Stack { id: stack, frames },
                    None => return Err(wrong),
                }
            }
            kind::FRAMES => match u32::try_from(a).ok().filter(|index| *index < MAX_FRAMES as u32) {
                Some(index) => Message::Frames { id: stack, index, frames: [b, c, d] },
                None => return Err(wrong),
            },
            kind::ALLOCATED => {
                range(a, b)?;
                Message::Allocated { address: a, bytes: b, stack }
            }
            kind::FREED => Message::Freed { address: a },
            kind::REALLOCATED => {
                range(b, c)?;
                Message::Reallocated { old: a, address: b, bytes: c, stack }
            }
            kind::MAPPED if c > 1 => return Err(wrong),
            kind::MAPPED => {
                range(a, b)?;
                Message::Mapped { address: a, bytes: b, stack, file: c == 1 }
            }
            kind::UNMAPPED => {
                range(a, b)?;
                Message::Unmapped { address: a, bytes: b }
            }
            kind::REMAPPED => {
                range(a, b)?;
                range(c, d)?;
                Message::Remapped { old: a, old_bytes: b, address: c, bytes: d, stack }
            }
            kind::MARK => {
                let mut bytes = [0; MAX_NAME_BYTES];
                for (to, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip([a, b, c, d]) {
                    *to = word.to_le_bytes();
                }
                match u8::try_from(small).ok().filter(|length| usize::from(*length) <= MAX_NAME_BYTES) {
                    Some(length) => Message::Mark { name: Name { bytes, length } },
                    None => return Err(wrong),
                }
            }
            kind::THREAD if a > b => return Err(wrong),
            kind::THREAD => Message::Thread { tid: small, low: a, high: b },
            other => return Err(MessageError::Kind(other)),
        })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_message_survives_encoding(
            a in 0..u64::MAX / 2, b in 0..u64::MAX / 2, c in 0..u64::MAX / 2, d in 0..u64::MAX / 2, small: u32, file: bool,
            name in proptest::collection::vec(any::<u8>(), 0..=MAX_NAME_BYTES), frames in 1..=MAX_FRAMES as u32,
        ) {
            let stack = StackId(small);
            for message in [
                Message::Hello { start: a, end: a + b },
                Message::Stack { id: StackId(small.max(1)), frames },
                Message::Frames { id: stack, index: frames - 1, frames: [a, b, c] },
                Message::Allocated { address: a, bytes: b, stack },
                Message::Freed { address: a },
                Message::Reallocated { old: a, address: b, bytes: c, stack },
                Message::Mapped { address: a, bytes: b, stack, file },
                Message::Unmapped { address: a, bytes: b },
                Message::Remapped { old: a, old_bytes: b, address: c, bytes: d, stack },
                Message::Mark { name: Name::new(&name) },
                Message::Thread { tid: small, low: a, high: a + b },
            ] {
                prop_assert_eq!(Message::decode(message.encode()), Ok(message));
            }
        }

        #[test]
        fn any_words_decode_or_are_refused(mut words: [u64; WORDS], kind in 0_u64..16, small in 0_u64..80) {
            let _ = Message::decode(words);
            words[0] = kind | small << 32;
            if let Ok(message) = Message::decode(words) {
                prop_assert!(Message::decode(message.encode()) == Ok(message));
            }
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let refused = |words, error| assert_eq!(Message::decode(words), Err(error));
        refused([0, 1, 2, 3, 4], MessageError::Kind(0));
        refused([12, 1, 2, 3, 4], MessageError::Kind(12));
        refused([1 | 99 << 32, 1, 2, 0, 0], MessageError::Version(99));
        refused([1 | u64::from(WIRE_VERSION) << 32, 2, 1, 0, 0], MessageError::Value(1));
        refused([2, 1, 0, 0, 0], MessageError::Value(2));
        refused([2 | 5 << 32, 0, 0, 0, 0], MessageError::Value(2));
        refused([2 | 5 << 32, MAX_FRAMES as u64 + 1, 0, 0, 0], MessageError::Value(2));
        refused([3, MAX_FRAMES as u64, 0, 0, 0], MessageError::Value(3));
        refused([4, u64::MAX, 2, 0, 0], MessageError::Value(4));
        refused([7, 0, 4096, 2, 0], MessageError::Value(7));
        refused([10 | 33 << 32, 0, 0, 0, 0], MessageError::Value(10));
    }

    #[test]
    fn the_descriptor_is_none_and_a_long_name_is_cut() {
        assert!((DESCRIPTOR as u32 as i32) < 0);
        let name: std::vec::Vec<u8> = (0..40).collect();
        assert_eq!(Name::new(&name).as_bytes(), &name[..MAX_NAME_BYTES]);
        assert_eq!(Name::new(b"build").as_bytes(), b"build");
    }
}
