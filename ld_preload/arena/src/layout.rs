//! Where everything lies in the memory the caller hands in, and how much of it a region needs.
//!
//! Per segment of 4 MiB: 4 bytes of state, 8 of detail, 8 of links and one bit; for one segment in 32 (but at least
//! 4096 segments, or all) 400 bytes that describe its pages; per heap about 1 KiB. A terabyte with four tiers of eight
//! heaps asks for 8.3 MiB of address space. What is not used is not touched, so it costs memory only as it is.

use crate::arena::Arena;
use crate::heap::Heap;
use crate::pages::Pages;
use crate::runs::PageRuns;
use crate::segments::{MAX_SHARDS, MAX_TIERS};
use crate::tier::Tier;
use crate::{LARGEST_SMALL, PAGE, SEGMENT};

/// How an arena divides its memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Number of tiers, 1 to 4096.
    pub tiers: usize,
    /// Heaps per tier, 1 to 4096: about as many as threads allocate at once.
    pub shards: usize,
    /// Blocks of this many bytes or more get pages of their own. At most 1 MiB; 128 KiB is the C library's choice too.
    pub large_bytes: usize,
    /// Per tier, how many bytes freed stay committed for the next block; as much again for blocks of 2 MiB and more.
    pub retained_bytes: usize,
}

impl Settings {
    /// Settings for `tiers` tiers: 8 heaps each, blocks from 128 KiB on large, 32 MiB retained.
    pub const fn new(tiers: usize) -> Self {
        Settings { tiers, shards: 8, large_bytes: 128 << 10, retained_bytes: 32 << 20 }
    }

    fn are_valid(&self) -> bool {
        (1..=MAX_TIERS).contains(&self.tiers)
            && (1..=MAX_SHARDS).contains(&self.shards)
            && (PAGE..=LARGEST_SMALL).contains(&self.large_bytes)
    }
}

/// Why there is no arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CreateError {
    /// No tiers or heaps, too many of them, or a bound of large blocks outside 4 KiB to 1 MiB.
    Settings,
    /// The region is not aligned to 4 MiB, smaller than that, or larger than 2^31 segments.
    Region,
    /// The metadata memory is not aligned to a page, or smaller than [`Arena::metadata_bytes`] says.
    Metadata,
}

impl core::fmt::Display for CreateError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            CreateError::Settings => {
                "the arena's settings are out of range: 1 to 4096 tiers and heaps, large blocks from 4 KiB to 1 MiB"
            }
            CreateError::Region => "the arena's region must be aligned to 4 MiB and hold at least one segment of 4 MiB",
            CreateError::Metadata => "the arena's metadata memory is too small or not aligned to a page",
        })
    }
}

impl core::error::Error for CreateError {}

/// Offsets in the metadata memory, and how many of each thing there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) tiers: usize,
    pub(crate) heaps: usize,
    pub(crate) taken: usize,
    pub(crate) states: usize,
    pub(crate) details: usize,
    pub(crate) links: usize,
    pub(crate) runs: usize,
    pub(crate) bytes: usize,
    pub(crate) segments: usize,
    pub(crate) runs_count: usize,
}

impl Layout {
    /// The layout for a region of that size, if both make sense.
    pub(crate) fn of<P: Pages>(region_bytes: usize, settings: &Settings) -> Result<Self, CreateError> {
        if !settings.are_valid() {
            return Err(CreateError::Settings);
        }
        let segments = region_bytes / SEGMENT;
        if segments == 0 || segments >= 1 << 31 {
            return Err(CreateError::Region);
        }
        let runs_count = segments.min((segments / 32).max(4096));
        let mut end = size_of::<Arena<'_, P>>();
        let mut place = |count: usize, bytes: usize| {
            let start = end.next_multiple_of(128);
            end = start + count * bytes;
            start
        };
        Ok(Layout {
            tiers: place(settings.tiers, size_of::<Tier>()),
            heaps: place(settings.tiers * settings.shards, size_of::<Heap<'_, P>>()),
            taken: place(segments.div_ceil(64), 8),
            states: place(segments, 4),
            details: place(segments, 8),
            links: place(segments, 8),
            runs: place(runs_count, size_of::<PageRuns>()),
            bytes: end.next_multiple_of(PAGE),
            segments,
            runs_count,
        })
    }
}
