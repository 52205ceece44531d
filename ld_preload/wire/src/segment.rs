//! The shared segment: what lies where in the memfd of one process.
//!
//! ```text
//! 0                      Header                       4096 bytes
//! 4096                   RingHeader x rings           192 bytes each
//! stacks_offset          stack table                  stack_words x 8 bytes   (page aligned)
//! rings_offset           words of ring 0, 1, ...      ring_words x 8 bytes each (page aligned)
//! ```
//!
//! The file is sparse: a page costs memory once it is written. The shim maps the part below `rings_offset` once and
//! each thread's ring as it starts, so that a program under an address-space limit pays for the threads it has.
//!
//! The shim creates the memfd, seals it against shrinking and growing, and fills in the header before it hands it over.

use crate::WIRE_VERSION;
use crate::ring::RingHeader;
use core::sync::atomic::{AtomicU32, AtomicU64};

/// First eight bytes of a segment.
pub const MAGIC: u64 = u64::from_le_bytes(*b"tierscop");

/// Size of the page that holds the header, and alignment of everything after it.
pub const PAGE: u64 = 4096;

/// Bit of [`Header::control`], set by the agent: write no further events.
pub const CONTROL_STOP: u32 = 1;

/// Sizes from which every offset follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Number of rings: the most threads recorded at one time.
    pub rings: u32,
    /// Words of one ring, a power of two.
    pub ring_words: u32,
    /// Words of the stack table.
    pub stack_words: u32,
}

/// A geometry that cannot be, or does not fit its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GeometryError {
    /// The file does not start with [`MAGIC`].
    NotASegment,
    /// Written by another version of the shim.
    Version(u32),
    /// Zero, not a power of two, or larger than this version allows.
    Size,
    /// The file is shorter than the geometry says.
    File {
        /// Bytes the geometry needs.
        needed: u64,
        /// Bytes the file has.
        found: u64,
    },
}

impl core::fmt::Display for GeometryError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            GeometryError::NotASegment => f.write_str("not a tierscope segment"),
            GeometryError::Version(version) => {
                write!(f, "segment of wire version {version}, this is version {WIRE_VERSION}")
            }
            GeometryError::Size => f.write_str("segment with an impossible geometry"),
            GeometryError::File { needed, found } => {
                write!(f, "segment of {found} bytes where its header needs {needed}")
            }
        }
    }
}

impl core::error::Error for GeometryError {}

impl Geometry {
    /// What the shim uses: 1024 threads, 512 KiB a ring, 32 MiB of stacks; about 550 MiB of sparse file.
    pub const DEFAULT: Geometry = Geometry { rings: 1024, ring_words: 1 << 16, stack_words: 4 << 20 };

    /// Byte offset of the stack table.
    pub fn stacks_offset(&self) -> u64 {
        round_up(PAGE + u64::from(self.rings) * size_of::<RingHeader>() as u64)
    }

    /// Byte offset of the first ring's words; also the length of the part that is mapped as a whole.
    pub fn rings_offset(&self) -> u64 {
        round_up(self.stacks_offset() + u64::from(self.stack_words) * 8)
    }

    /// Byte offset of the words of ring `index`.
    pub fn ring_offset(&self, index: u32) -> u64 {
        self.rings_offset() + u64::from(index) * self.ring_bytes()
    }

    /// Bytes of one ring's words.
    pub fn ring_bytes(&self) -> u64 {
        u64::from(self.ring_words) * 8
    }

    /// Bytes of the whole file.
    pub fn total_bytes(&self) -> u64 {
        self.ring_offset(self.rings)
    }

    /// Checks the sizes against each other and against the file that is to hold them.
    ///
    /// # Errors
    ///
    /// [`GeometryError::Size`] or [`GeometryError::File`].
    pub fn check(&self, file_bytes: u64) -> Result<(), GeometryError> {
        let ring_fits = self.ring_words.is_power_of_two()
            && self.ring_words as usize >= crate::MAX_EVENT_WORDS
            && self.ring_bytes().is_multiple_of(PAGE);
        if !ring_fits || self.rings == 0 || self.rings > 1 << 16 || self.stack_words > 1 << 28 {
            return Err(GeometryError::Size);
        }
        let needed = self.total_bytes();
        if file_bytes < needed { Err(GeometryError::File { needed, found: file_bytes }) } else { Ok(()) }
    }
}

fn round_up(bytes: u64) -> u64 {
    bytes.div_ceil(PAGE) * PAGE
}

/// The first page of a segment. Written by the shim but for `control`.
#[derive(Debug)]
#[repr(C)]
pub struct Header {
    /// [`MAGIC`].
    pub magic: AtomicU64,
    /// [`WIRE_VERSION`].
    pub version: AtomicU32,
    /// Process that writes here.
    pub pid: AtomicU32,
    /// [`Geometry::rings`].
    pub rings: AtomicU32,
    /// [`Geometry::ring_words`].
    pub ring_words: AtomicU32,
    /// [`Geometry::stack_words`].
    pub stack_words: AtomicU32,
    /// How stacks are taken: a [`crate::options::StackMode`] as number.
    pub stack_mode: AtomicU32,
    /// Mean bytes between two sampled small blocks.
    pub mean_bytes: AtomicU64,
    /// Blocks of this size and more are always recorded.
    pub large_bytes: AtomicU64,
    /// Words taken in the stack table.
    pub stack_words_used: AtomicU64,
    /// Events of threads that found no free ring: allocations, frees, others. Counted with read-modify-write.
    pub ringless_losses: [AtomicU64; 3],
    /// Stacks that found no room in the table.
    pub lost_stacks: AtomicU64,
    /// Calls of the hooks from inside the hooks (signal handlers, allocator internals), passed on unrecorded.
    pub reentered: AtomicU64,
    /// Bits set by the agent: [`CONTROL_STOP`].
    pub control: AtomicU32,
}

const _: () = assert!(size_of::<Header>() as u64 <= PAGE);

impl Header {
    /// Reads the geometry and checks it against the size of the file.
    ///
    /// # Errors
    ///
    /// [`GeometryError`] for anything this version's shim does not write.
    pub fn geometry(&self, file_bytes: u64) -> Result<Geometry, GeometryError> {
        use core::sync::atomic::Ordering::{Acquire, Relaxed};
        if self.magic.load(Acquire) != MAGIC {
            return Err(GeometryError::NotASegment);
        }
        let version = self.version.load(Relaxed);
        if version != WIRE_VERSION {
            return Err(GeometryError::Version(version));
        }
        let geometry = Geometry {
            rings: self.rings.load(Relaxed),
            ring_words: self.ring_words.load(Relaxed),
            stack_words: self.stack_words.load(Relaxed),
        };
        geometry.check(file_bytes)?;
        Ok(geometry)
    }

    /// Fills in a zeroed header; the magic comes last, so that a half-written header is no segment.
    pub fn initialise(&self, pid: u32, geometry: Geometry, options: &crate::options::Options<'_>) {
        use core::sync::atomic::Ordering::{Relaxed, Release};
        self.version.store(WIRE_VERSION, Relaxed);
        self.pid.store(pid, Relaxed);
        self.rings.store(geometry.rings, Relaxed);
        self.ring_words.store(geometry.ring_words, Relaxed);
        self.stack_words.store(geometry.stack_words, Relaxed);
        self.stack_mode.store(options.stacks as u32, Relaxed);
        self.mean_bytes.store(options.mean_bytes, Relaxed);
        self.large_bytes.store(options.large_bytes, Relaxed);
        self.magic.store(MAGIC, Release);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_overlap() {
        let g = Geometry::DEFAULT;
        assert!(g.stacks_offset() >= PAGE + u64::from(g.rings) * 192);
        assert!(g.rings_offset() >= g.stacks_offset() + u64::from(g.stack_words) * 8);
        assert_eq!(g.ring_offset(1) - g.ring_offset(0), g.ring_bytes());
        assert_eq!(g.check(g.total_bytes()), Ok(()));
        assert!(matches!(g.check(g.total_bytes() - 1), Err(GeometryError::File { .. })));
    }

    #[test]
    fn impossible_geometries_are_refused() {
        let good = Geometry::DEFAULT;
        for bad in [
            Geometry { rings: 0, ..good },
            Geometry { rings: u32::MAX, ..good },
            Geometry { ring_words: 0, ..good },
            Geometry { ring_words: 3000, ..good },
            Geometry { ring_words: 512, ..good },
            Geometry { stack_words: u32::MAX, ..good },
        ] {
            assert_eq!(bad.check(u64::MAX), Err(GeometryError::Size), "{bad:?}");
        }
    }
}
