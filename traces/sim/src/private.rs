//! What a core has for itself: first- and second-level caches, TLBs, prefetcher, and buffers for stores around the caches.

use crate::array::Array;
use crate::block::{Access, Block};
use crate::first_level::FirstLevel;
use crate::line::{DIRTY, SHARED, line_of, word};
use crate::machine::{Cache, LINE_BYTES, Machine};
use crate::objects::{ObjectId, Shadow, Within};
use crate::prefetch::Stride;
use crate::tlb::Tlb;
use std::ops::RangeInclusive;

/// Lines gathered at the same time for stores around the caches. Intel's manual says ten to twelve since Nehalem.
const COMBINING: usize = 10;

/// Caches and TLBs of one core.
#[derive(Debug, Clone)]
pub(crate) struct Private {
    pub(crate) l1i: Option<FirstLevel>,
    pub(crate) l1d: FirstLevel,
    pub(crate) l2: Option<Array>,
    pub(crate) tlb: Tlb,
    pub(crate) stride: Stride,
    /// Lines being gathered, and which is replaced next.
    combining: [Option<u64>; COMBINING],
    oldest: usize,
}

/// The lines that a block's instructions lie in.
#[inline(always)]
pub(crate) fn lines(block: &Block) -> RangeInclusive<u64> {
    let Block { address, bytes, .. } = *block;
    line_of(address)..=line_of(address.wrapping_add(u64::from(bytes.max(1)) - 1))
}

/// The array of a cache.
pub(crate) fn array(cache: &Cache) -> Array {
    Array::new(cache.sets(), cache.ways, cache.replacement)
}

impl Private {
    pub(crate) fn new(machine: &Machine) -> Self {
        Self {
            l1i: machine.l1i.as_ref().map(FirstLevel::new),
            l1d: FirstLevel::new(&machine.l1d),
            l2: machine.l2.as_ref().map(array),
            tlb: Tlb::new(machine),
            stride: Stride::new(machine.prefetch.stride_degree, machine.page.shift()),
            combining: [None; COMBINING],
            oldest: 0,
        }
    }

    /// Serves an access within a line if the first levels of cache and TLB do, at once and without side effects: most accesses.
    /// The object. Else nothing has happened but that its page, and the line if it is there, were used. [`Private::meet`] before.
    #[inline(always)]
    pub(crate) fn access_near(&mut self, address: u64, store: bool, map: &Shadow) -> Option<ObjectId> {
        let within = self.tlb.access_near(address);
        if let Some(within) = within {
            let object = map.find_within(within, address);
            let again = if store { self.l1d.store_again(address, object) } else { self.l1d.load_again(address) };
            if again {
                return Some(object);
            }
        }
        self.access_close(within, address, store, map)
    }

    /// The same for lines and pages that are near, but not the nearest.
    #[inline(never)]
    fn access_close(&mut self, within: Option<Within>, address: u64, store: bool, map: &Shadow) -> Option<ObjectId> {
        let within = match within {
            Some(within) => within,
            None => self.tlb.access_first(address, map)?,
        };
        let object = map.find_within(within, address);
        let line = line_of(address);
        let stored = store.then(|| word(line, object) | DIRTY);
        self.l1d.access_near(line, stored).then_some(object)
    }

    /// Fetches a block's instructions if its lines are those used last, or there is no cache for them.
    #[inline(always)]
    pub(crate) fn fetch_again(&self, block: &Block) -> bool {
        let Some(l1i) = &self.l1i else { return true };
        let Block { address, bytes, .. } = *block;
        let end = address.wrapping_add(u64::from(bytes.max(1)) - 1);
        // Of more lines one could be between them.
        l1i.load_again(address) && l1i.load_again(end) && (end >> 6).wrapping_sub(address >> 6) < 2
    }

    /// To be called before accesses, and with the same map as they are.
    #[inline]
    pub(crate) fn meet(&mut self, map: &Shadow) {
        self.tlb.meet(map);
    }

    /// Whether a data cache has a line.
    pub(crate) fn has(&self, line: u64) -> bool {
        self.l1d.has(line) || self.l2.as_ref().is_some_and(|l2| l2.has(line))
    }

    /// Takes a line out of all caches. Returns its newest word.
    pub(crate) fn take(&mut self, line: u64) -> Option<u64> {
        if let Some(l1i) = &mut self.l1i {
            l1i.remove(line);
        }
        let l2 = self.l2.as_mut().and_then(|l2| l2.remove(line));
        newest(self.l1d.remove(line), l2)
    }

    /// Makes a line one that others may have. Returns its newest word as it was; what was dirty is clean now.
    pub(crate) fn share(&mut self, line: u64) -> Option<u64> {
        let share = |word: &mut u64| std::mem::replace(word, (*word & !DIRTY) | SHARED);
        let l2 = self.l2.as_mut().and_then(|l2| l2.find(line).map(share));
        newest(self.l1d.find(line).map(share), l2)
    }

    /// Gathers a store around the caches; true if it begins a line.
    pub(crate) fn combine(&mut self, line: u64) -> bool {
        if self.combining.contains(&Some(line)) {
            return false;
        }
        self.combining[self.oldest] = Some(line);
        self.oldest = (self.oldest + 1) % COMBINING;
        true
    }
}

/// Whether an access lies in two lines.
#[inline(always)]
pub(crate) fn straddles(access: &Access) -> bool {
    access.address % LINE_BYTES + u64::from(access.bytes) > LINE_BYTES
}

/// Of the words of one line in two levels the one that says who wrote it last.
fn newest(l1: Option<u64>, l2: Option<u64>) -> Option<u64> {
    match (l1, l2) {
        (Some(l1), Some(l2)) if l1 & DIRTY == 0 => Some(l2),
        (l1, l2) => l1.or(l2),
    }
}
