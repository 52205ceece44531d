//! What a core has for itself: first- and second-level caches, TLBs, prefetcher, and buffers for stores around the caches.

use crate::array::Array;
use crate::block::Access;
use crate::line::{DIRTY, PREFETCHED, SHARED, line_of, word};
use crate::machine::{Cache, LINE_BYTES, Machine};
use crate::objects::ObjectId;
use crate::prefetch::Stride;
use crate::tlb::Tlb;

/// Lines gathered at the same time for stores around the caches. Intel's manual says ten to twelve since Nehalem.
const COMBINING: usize = 10;

/// Caches and TLBs of one core.
#[derive(Debug, Clone)]
pub(crate) struct Private {
    pub(crate) l1i: Option<Array>,
    pub(crate) l1d: Array,
    pub(crate) l2: Option<Array>,
    pub(crate) tlb: Tlb,
    pub(crate) stride: Stride,
    /// Lines being gathered, and which is replaced next.
    combining: [Option<u64>; COMBINING],
    oldest: usize,
}

/// The array of a cache.
pub(crate) fn array(cache: &Cache) -> Array {
    Array::new(cache.sets(), cache.ways, cache.replacement)
}

impl Private {
    pub(crate) fn new(machine: &Machine) -> Self {
        Self {
            l1i: machine.l1i.as_ref().map(array),
            l1d: array(&machine.l1d),
            l2: machine.l2.as_ref().map(array),
            tlb: Tlb::new(machine),
            stride: Stride::new(machine.prefetch.stride_degree, machine.page.shift()),
            combining: [None; COMBINING],
            oldest: 0,
        }
    }

    /// Serves an access if the first levels of cache and TLB do, at once and without side effects: most accesses. Else nothing has
    /// happened but that its page, and the line if it is there, were used.
    #[inline(always)]
    pub(crate) fn access_near(&mut self, access: &Access, object: ObjectId) -> bool {
        if straddles(access) || !self.tlb.access_near(access.address) {
            return false;
        }
        let line = line_of(access.address);
        match self.l1d.access_near(line) {
            Some(near) if *near & (SHARED | PREFETCHED) == 0 => {
                if access.store {
                    *near = word(line, object) | DIRTY;
                }
                true
            }
            _ => false,
        }
    }

    /// Whether a data cache has a line.
    pub(crate) fn has(&mut self, line: u64) -> bool {
        self.l1d.find(line).is_some() || self.l2.as_mut().is_some_and(|l2| l2.find(line).is_some())
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
