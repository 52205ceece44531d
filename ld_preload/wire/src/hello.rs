//! The one message from shim to agent: here is my segment.
//!
//! A `SOCK_SEQPACKET` message of [`HELLO_BYTES`] bytes with the memfd attached (`SCM_RIGHTS`), sent without blocking on
//! a non-blocking connection. There is no answer. The agent takes the peer's pid and uid from the socket
//! (`SO_PEERCRED`), never from the message.

use crate::WIRE_VERSION;

/// Size of the encoded message.
pub const HELLO_BYTES: usize = 32;

const MAGIC: u64 = u64::from_le_bytes(*b"tierhelo");

/// What the shim says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hello {
    /// The process as it sees itself (in its own pid namespace; the agent trusts the socket instead).
    pub pid: u32,
    /// The process it was forked from while recording, whose blocks it inherited; 0 for a fresh image (exec).
    pub forked_from: u32,
    /// When, in nanoseconds of `CLOCK_MONOTONIC`.
    pub time_ns: u64,
}

impl Hello {
    /// The message's bytes.
    pub fn to_bytes(&self) -> [u8; HELLO_BYTES] {
        let mut bytes = [0; HELLO_BYTES];
        let parts = MAGIC
            .to_le_bytes()
            .into_iter()
            .chain(WIRE_VERSION.to_le_bytes())
            .chain(self.pid.to_le_bytes())
            .chain(self.forked_from.to_le_bytes())
            .chain([0; 4])
            .chain(self.time_ns.to_le_bytes());
        for (to, from) in bytes.iter_mut().zip(parts) {
            *to = from;
        }
        bytes
    }

    /// Reads a message; `None` unless it is one of this version.
    pub fn from_bytes(bytes: &[u8]) -> Option<Hello> {
        if bytes.len() != HELLO_BYTES {
            return None;
        }
        let (magic, rest) = bytes.split_first_chunk::<8>()?;
        let (version, rest) = rest.split_first_chunk::<4>()?;
        let (pid, rest) = rest.split_first_chunk::<4>()?;
        let (forked_from, rest) = rest.split_first_chunk::<4>()?;
        let (_, rest) = rest.split_first_chunk::<4>()?;
        let (time_ns, _) = rest.split_first_chunk::<8>()?;
        if u64::from_le_bytes(*magic) != MAGIC || u32::from_le_bytes(*version) != WIRE_VERSION {
            return None;
        }
        Some(Hello {
            pid: u32::from_le_bytes(*pid),
            forked_from: u32::from_le_bytes(*forked_from),
            time_ns: u64::from_le_bytes(*time_ns),
        })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_hello_reads_back_and_nothing_else_does() {
        let hello = Hello { pid: 4711, forked_from: 12, time_ns: u64::MAX - 1 };
        let bytes = hello.to_bytes();
        assert_eq!(Hello::from_bytes(&bytes), Some(hello));
        for length in 0..HELLO_BYTES {
            assert_eq!(Hello::from_bytes(&bytes[..length]), None);
        }
        let mut other_version = bytes;
        other_version[8] ^= 0xff;
        assert_eq!(Hello::from_bytes(&other_version), None);
    }
}
