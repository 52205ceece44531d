//! What a core has for itself: first- and second-level caches, TLBs, prefetchers, and buffers for stores around the caches.

use crate::array::Array;
use crate::block::{Access, Block};
use crate::first_level::FirstLevel;
use crate::line::{DIRTY, SHARED, address_of, line_of, word};
use crate::machine::{Cache, LINE_BYTES, Machine};
use crate::objects::{ObjectId, Shadow, Within};
use crate::prefetch::Stride;
use crate::served::Tlb as Translated;
use crate::steps::Packed;
use crate::streamer::Streamer;
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
    pub(crate) tlb: Option<Tlb>,
    pub(crate) stride: Stride,
    pub(crate) streamer: Streamer,
    /// Lines being gathered, and which is replaced next.
    combining: [Option<u64>; COMBINING],
    oldest: usize,
}

/// The first and the last byte of a block's instructions.
#[inline(always)]
pub(crate) fn ends(block: &Block) -> (u64, u64) {
    let Block { address, bytes, .. } = *block;
    (address, address.wrapping_add(u64::from(bytes.max(1)) - 1))
}

/// The lines that a block's instructions lie in.
#[inline(always)]
pub(crate) fn lines(block: &Block) -> RangeInclusive<u64> {
    let (first, last) = ends(block);
    line_of(first)..=line_of(last)
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
            streamer: Streamer::new(machine.prefetch.streams, machine.page),
            combining: [None; COMBINING],
            oldest: 0,
        }
    }

    /// Serves an access within a line if the first levels of cache and TLB do, at once and without side effects: most accesses.
    /// The object. Else nothing has happened but that its page, and the line if it is there, were used. [`Private::meet`] before.
    #[inline(always)]
    pub(crate) fn access_near(&mut self, address: u64, store: bool, map: &Shadow) -> Option<ObjectId> {
        let translated = self.tlb.as_mut().is_none_or(|tlb| tlb.access_near(address));
        let object = if translated { self.l1d.access_near(address, store, map) } else { None };
        object.or_else(|| self.access_close(translated, address, store, map))
    }

    /// The same for lines and pages that are near, but not the nearest.
    #[inline(never)]
    fn access_close(&mut self, translated: bool, address: u64, store: bool, map: &Shadow) -> Option<ObjectId> {
        if !translated && !self.tlb.as_mut().is_some_and(|tlb| tlb.access_first(address)) {
            return None;
        }
        self.l1d.access_close(address, store, map)
    }

    /// Translates an address.
    pub(crate) fn translate(&mut self, address: u64) -> Translated {
        self.tlb.as_mut().map_or(Translated::L1, |tlb| tlb.access(address))
    }

    /// Fetches a block's instructions if its lines are near, or there is no cache for them. Else its first line may have been used.
    #[inline(always)]
    pub(crate) fn fetch_near(&mut self, block: &Block) -> bool {
        let Some(l1i) = &mut self.l1i else { return true };
        let (first, last) = ends(block);
        (last >> 6).wrapping_sub(first >> 6) < 2 && l1i.fetch_near(first) && l1i.fetch_near(last)
    }

    /// Serves accesses as long as the first levels do, at once. How many; `served` is told of each.
    #[inline(always)]
    pub(crate) fn serve_near(
        &mut self,
        accesses: &[Packed],
        map: &Shadow,
        served: impl FnMut(ObjectId, bool),
    ) -> usize {
        match &mut self.tlb {
            Some(tlb) => self.l1d.serve_near(accesses, map, |address| tlb.access_near(address), served),
            None => self.l1d.serve_near(accesses, map, |_| true, served),
        }
    }

    /// Fetches a block's instructions; `bring` is told of each line that was not there, and is now.
    pub(crate) fn fetch(&mut self, block: &Block, map: &Shadow, mut bring: impl FnMut(u64)) {
        let Some(l1i) = &mut self.l1i else { return };
        for line in lines(block) {
            if !l1i.fetch_near(address_of(line)) && !l1i.fetch_close(line) {
                let new = word(line, map.find(address_of(line)));
                l1i.bring(line, new, Within::UNKNOWN);
                bring(new);
            }
        }
    }

    /// To be called before accesses, and with the same map as they are.
    #[inline]
    pub(crate) fn meet(&mut self, map: &Shadow) {
        self.l1d.meet(map);
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
