//! Names for objects that mean the same thing in the next run.
//!
//! Addresses move under ASLR, and the numbers of a profile are those of one recording. What stays is where in which
//! build the program allocates: build-id (or the file name, without one) and offset of every frame. An identity is the
//! 64-bit FNV-1a hash of those, written in hex after the kind. Equal identities are one object: a library that was
//! unloaded and loaded elsewhere is still the same code.
//!
//! Frames outside every module (code generated at run time) have no stable address; they count as "some generated
//! code", so sites that differ only there are one object rather than a different one in each run.

use super::frames::Frame;

/// The hash of what an object is known by.
#[derive(Clone, Copy)]
pub(super) struct Identity(u64);

impl Identity {
    pub(super) const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn bytes(self, bytes: &[u8]) -> Self {
        Self(bytes.iter().fold(self.0, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)))
    }

    /// A text and an end mark, so that "ab" and "c" differ from "a" and "bc".
    pub(super) fn text(self, text: &str) -> Self {
        self.bytes(text.as_bytes()).bytes(&[0xff])
    }

    pub(super) fn number(self, number: u64) -> Self {
        self.bytes(&number.to_le_bytes())
    }

    pub(super) fn module(self, path: Option<&str>, build_id: Option<&str>) -> Self {
        match (build_id, path) {
            (Some(build_id), _) => self.text(build_id),
            (None, Some(path)) => self.text(path.rsplit('/').next().unwrap_or(path)),
            (None, None) => self.text("generated"),
        }
    }

    pub(super) fn frames(self, frames: &[Frame]) -> Self {
        frames.iter().fold(self, |identity, frame| {
            let identity = identity.module(frame.module.as_deref(), frame.build_id.as_deref());
            if frame.module.is_some() { identity.number(frame.offset) } else { identity }
        })
    }

    /// `heap-5f2c00c5f2c00c11`.
    pub(super) fn id(self, kind: &str) -> String {
        format!("{kind}-{:016x}", self.0)
    }
}
