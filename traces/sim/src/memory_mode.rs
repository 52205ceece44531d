//! Memory Mode: fast memory as a cache in front of the slow one, run by the memory controller.
//!
//! As Intel built it for Optane: direct-mapped, lines of 64 bytes, tags beside the data, reads and writes allocate, dirty lines are
//! written back (Hildebrand, Angeles, Lowe-Power, Akella, "A Case Against Hardware Managed DRAM Caches for NVRAM Based Systems",
//! ISPASS 2021). A miss therefore reads the fast tier, finds the wrong tag, reads the slow tier, writes the line to the fast
//! one, and writes back what lay there if it was dirty.
//!
//! Which line lies where does not depend on time, so one search serves all lanes with the same capacity.

use crate::machine::LINE_BYTES;

/// What a line found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Found {
    /// The line was in fast memory.
    pub hit: bool,
    /// First byte of the dirty line that had to leave for it.
    pub victim: Option<u64>,
}

/// Tags of a direct-mapped cache of lines. Four bytes for each line of fast memory, taken as they are touched.
#[derive(Debug, Clone)]
pub struct MemoryMode {
    /// For each line of fast memory: the tag plus one, and the lowest bit when it is dirty; 0 for empty.
    tags: Vec<u32>,
}

/// Most lines modelled: 256 GiB of fast memory, whose tags would take 16 GiB if all were touched.
const MOST_LINES: u64 = 1 << 32;

impl MemoryMode {
    /// Fast memory of so many bytes, at least one line; rounded down to lines.
    pub fn new(bytes: u64) -> Self {
        let lines = (bytes / LINE_BYTES).clamp(1, MOST_LINES);
        Self { tags: vec![0; usize::try_from(lines).unwrap_or(1)] }
    }

    /// Reads or writes the line at an address.
    pub fn access(&mut self, address: u64, write: bool) -> Found {
        let line = address / LINE_BYTES;
        let lines = self.tags.len() as u64;
        // An address of a program has at most 57 bits: its tag fits with a million lines or more, and is cut with fewer.
        let tag = u32::try_from(line / lines + 1).unwrap_or(u32::MAX).min(u32::MAX >> 1) << 1;
        let Some(entry) = self.tags.get_mut((line % lines) as usize) else { return Found::default() };
        let old = *entry;
        if old & !1 == tag {
            *entry = old | u32::from(write);
            return Found { hit: true, victim: None };
        }
        *entry = tag | u32::from(write);
        let victim = (old & 1 == 1).then(|| ((u64::from(old >> 1) - 1) * lines + line % lines) * LINE_BYTES);
        Found { hit: false, victim }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_is_missed_once() {
        let mut mode = MemoryMode::new(1 << 20);
        let misses = |mode: &mut MemoryMode| (0..16384u64).filter(|line| !mode.access(line * 64, false).hit).count();
        assert_eq!((misses(&mut mode), misses(&mut mode)), (16384, 0));
    }

    #[test]
    fn lines_a_capacity_apart_displace_each_other() {
        let mut mode = MemoryMode::new(1 << 20);
        assert_eq!(mode.access(0x40, true), Found { hit: false, victim: None });
        assert_eq!(mode.access(0x40 + (1 << 20), false), Found { hit: false, victim: Some(0x40) });
        assert_eq!(mode.access(0x40, false), Found { hit: false, victim: None });
        assert_eq!(mode.access(0x40, true), Found { hit: true, victim: None });
        assert_eq!(mode.access(0x40 + (3 << 20), true), Found { hit: false, victim: Some(0x40) });
        assert_eq!(mode.access(0x40, true), Found { hit: false, victim: Some(0x40 + (3 << 20)) });
    }

    #[test]
    fn any_capacity_is_possible() {
        let mut mode = MemoryMode::new(1);
        assert!(!mode.access(u64::MAX, true).hit);
        assert!(mode.access(u64::MAX - 5, false).hit);
    }
}
