//! What the memory hierarchy says of an access, and of the traffic it caused: all that timing knows of caches.

use crate::objects::ObjectId;

/// What served an access.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(u8)]
pub enum Level {
    /// The core's first-level cache.
    #[default]
    L1,
    /// The core's second-level cache.
    L2,
    /// The shared last-level cache, or another core's cache through it.
    Llc,
    /// Memory: the tier of its object.
    Memory,
}

/// Where the translation came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(u8)]
pub enum Tlb {
    /// The first-level TLB.
    #[default]
    L1,
    /// The second-level TLB.
    L2,
    /// A page walk.
    Walk,
}

/// How an access was served. One for each access, in the same order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Served {
    /// The object accessed; [`ObjectId::NONE`] where there is none.
    pub object: ObjectId,
    /// The farthest level it needed: of both lines where it straddles two.
    pub level: Level,
    /// The farthest place a translation came from.
    pub tlb: Tlb,
    /// It is the first access to a line that a prefetch brought into this core's caches. The prefetch may still be on its way.
    pub prefetched: bool,
    /// It lies in two lines. What the second brought from memory is a [`TrafficKind::Half`].
    pub straddles: bool,
}

/// What moves between the last-level cache and memory besides the lines accesses wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrafficKind {
    /// A line is read ahead of its use.
    Prefetch,
    /// A dirty line is written.
    Writeback,
    /// A line is read for the second half of a straddling access.
    Half,
    /// A line is read to fetch instructions; it comes before the accesses of its block.
    Fetch,
    /// A line is written by stores that go around the caches.
    NonTemporal,
}

/// One line moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traffic {
    /// First byte of the line.
    pub address: u64,
    /// The object of the line; for a writeback the one that dirtied it.
    pub object: ObjectId,
    /// Index of the access that caused it, among those of the same execution.
    pub access: u32,
    /// What moved.
    pub kind: TrafficKind,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_for_every_access_is_small() {
        assert_eq!(size_of::<Served>(), 8);
        assert_eq!(size_of::<Traffic>(), 24);
    }
}
