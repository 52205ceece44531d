//! The recorded blocks that are alive, by address, and the numbering of a site's simultaneous blocks.
//!
//! Which of a site's blocks are one object is the rule of [`Slots`], which a simulation numbers by, too.
//!
//! Small blocks are sampled, so most are not here. An address between them is judged by its neighbours: allocators
//! place what is allocated together near each other, and the recorded blocks are an unbiased sample of the bytes. Such
//! an attribution is marked as what it is.

use std::collections::BTreeMap;
use std::ops::Range;
use tierscope_sim::Slots;

/// A recorded block.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Block {
    pub(super) end: u64,
    pub(super) allocation: u64,
    pub(super) object: u32,
    pub(super) site: u32,
    /// Size class and slot, which its death gives back.
    pub(super) place: Option<(u8, u16)>,
    /// Blocks like it that this one stands for, itself included.
    pub(super) weight: f64,
    pub(super) time_ns: u64,
    pub(super) tid: u32,
    /// From mmap rather than an allocator: other blocks may lie inside it.
    pub(super) mapped: bool,
    /// Already written to the profile as a live block.
    pub(super) written: bool,
}

/// How an address was found to belong to a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// Inside a recorded block.
    Inside(u32),
    /// Near recorded blocks of this object.
    Near(u32),
}

/// Live blocks. Allocator blocks are disjoint, and so are mappings; a block may lie inside a mapping.
#[derive(Debug, Clone, Default)]
pub(super) struct Blocks {
    allocated: BTreeMap<u64, Block>,
    mapped: BTreeMap<u64, Block>,
    slots: Slots<u32>,
}

fn inside(blocks: &BTreeMap<u64, Block>, address: u64) -> Option<&Block> {
    let (_, block) = blocks.range(..=address).next_back()?;
    (address < block.end).then_some(block)
}

impl Blocks {
    pub(super) fn clear(&mut self) {
        *self = Blocks::default();
    }

    /// Size class and slot for a block about to be born; `None` when it is too small to have one.
    pub(super) fn take_slot(&mut self, site: u32, bytes: u64) -> Option<(u8, u16)> {
        self.slots.take(site, bytes)
    }

    fn give_back(&mut self, block: &Block) {
        self.slots.give_back(block.site, block.place);
    }

    /// Enters a block. Returns the blocks it overlaps, whose deaths were lost.
    pub(super) fn insert(&mut self, start: u64, block: Block) -> Vec<(u64, Block)> {
        let blocks = if block.mapped { &mut self.mapped } else { &mut self.allocated };
        let below = blocks.range(..start).next_back().filter(|(_, b)| b.end > start).map(|(start, _)| *start);
        let overlapped: Vec<u64> =
            below.into_iter().chain(blocks.range(start..block.end.max(start + 1)).map(|(s, _)| *s)).collect();
        let dead: Vec<_> = overlapped.into_iter().filter_map(|s| Some((s, blocks.remove(&s)?))).collect();
        blocks.insert(start, block);
        for (_, block) in &dead {
            self.give_back(block);
        }
        dead
    }

    /// Takes out the allocator block that starts at `address`.
    pub(super) fn remove(&mut self, address: u64) -> Option<Block> {
        let block = self.allocated.remove(&address)?;
        self.give_back(&block);
        Some(block)
    }

    /// Takes out every mapping that touches the range. What of them lies outside it is for the caller to enter again.
    pub(super) fn remove_mapped(&mut self, range: Range<u64>) -> Vec<(u64, Block)> {
        let below = self.mapped.range(..range.start).next_back().filter(|(_, b)| b.end > range.start);
        let touched: Vec<u64> =
            below.into_iter().chain(self.mapped.range(range.clone())).map(|(start, _)| *start).collect();
        let dead: Vec<_> = touched.into_iter().filter_map(|start| Some((start, self.mapped.remove(&start)?))).collect();
        for (_, block) in &dead {
            self.give_back(block);
        }
        dead
    }

    /// The innermost recorded block that holds an address.
    pub(super) fn find(&self, address: u64) -> Option<Found> {
        let block = inside(&self.allocated, address).or_else(|| inside(&self.mapped, address))?;
        Some(Found::Inside(block.object))
    }

    /// True when an address lies in an allocator's block.
    pub(super) fn holds(&self, address: u64) -> bool {
        inside(&self.allocated, address).is_some() || inside(&self.mapped, address).is_some()
    }

    /// The object of the sampled small block nearest to an address, at most `reach` bytes away and within `extent`.
    pub(super) fn find_near(&self, address: u64, reach: u64, extent: Range<u64>) -> Option<Found> {
        let lowest = address.saturating_sub(reach).max(extent.start);
        let highest = address.saturating_add(reach).min(extent.end);
        if lowest >= highest {
            return None;
        }
        let small = |(_, block): &(&u64, &Block)| block.weight > 1.0;
        let below =
            self.allocated.range(lowest..=address).rev().find(small).map(|(_, b)| (address - b.end.min(address), b));
        let above = self.allocated.range(address..highest).find(small).map(|(start, b)| (start - address, b));
        let (_, nearest) = [below, above].into_iter().flatten().min_by_key(|(distance, _)| *distance)?;
        Some(Found::Near(nearest.object))
    }

    /// Every live block, for the parts that are written while they live.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (u64, &mut Block)> {
        self.allocated.iter_mut().chain(&mut self.mapped).map(|(start, block)| (*start, block))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tierscope_sim::LAST_SLOT;

    fn block(blocks: &mut Blocks, site: u32, start: u64, bytes: u64, weight: f64) -> Vec<(u64, Block)> {
        let place = blocks.take_slot(site, bytes);
        let end = start + bytes;
        let object = site * 100 + place.map_or(0, |(_, slot)| u32::from(slot));
        let new = Block {
            end,
            allocation: start,
            object,
            site,
            place,
            weight,
            time_ns: 0,
            tid: 0,
            mapped: false,
            written: false,
        };
        blocks.insert(start, new)
    }

    #[test]
    fn tables_that_live_together_are_told_apart_and_a_loops_buffer_is_one_object() {
        let mut blocks = Blocks::default();
        let mb = 1 << 20;
        for table in 0..3 {
            block(&mut blocks, 1, table * 2 * mb, mb, 1.0);
        }
        assert_eq!(blocks.find(4 * mb), Some(Found::Inside(102)));
        for iteration in 0..5 {
            let start = (100 + iteration) * mb;
            block(&mut blocks, 2, start, mb, 1.0);
            assert_eq!(blocks.find(start), Some(Found::Inside(200)));
            blocks.remove(start).unwrap();
        }
        blocks.remove(2 * mb).unwrap();
        assert_eq!(blocks.take_slot(1, mb), Some((20, 1)), "the freed table's slot is the smallest");
    }

    #[test]
    fn a_site_with_many_blocks_stops_numbering_them() {
        let mut blocks = Blocks::default();
        for n in 0..100 {
            block(&mut blocks, 1, n << 20, 1 << 17, 1.0);
        }
        assert_eq!(blocks.find(99 << 20), Some(Found::Inside(100 + u32::from(LAST_SLOT))));
    }

    #[test]
    fn a_block_over_live_ones_buries_them() {
        let mut blocks = Blocks::default();
        block(&mut blocks, 1, 1000, 100, 1.0);
        block(&mut blocks, 1, 1200, 100, 1.0);
        assert_eq!(block(&mut blocks, 2, 1050, 200, 1.0).len(), 2);
        assert_eq!(blocks.find(1010), None);
        assert_eq!(blocks.find(1249), Some(Found::Inside(200)));
    }

    #[test]
    fn neighbours_speak_only_within_reach_and_for_sampled_blocks() {
        let mut blocks = Blocks::default();
        block(&mut blocks, 1, 10_000, 64, 50.0);
        block(&mut blocks, 2, 20_000, 64, 50.0);
        block(&mut blocks, 3, 15_100, 64, 1.0);
        let anywhere = 0..u64::MAX;
        assert_eq!(blocks.find_near(12_000, 9_000, anywhere.clone()), Some(Found::Near(100)));
        assert_eq!(blocks.find_near(18_000, 9_000, anywhere.clone()), Some(Found::Near(200)));
        assert_eq!(blocks.find_near(15_050, 1_000, anywhere), None);
        assert_eq!(blocks.find_near(18_000, 9_000, 0..19_000), Some(Found::Near(100)));
    }

    #[test]
    fn a_block_inside_a_mapping_wins_over_it() {
        let mut blocks = Blocks::default();
        let mapping = Block {
            end: 1 << 20,
            allocation: 1,
            object: 7,
            site: 9,
            place: None,
            weight: 1.0,
            time_ns: 0,
            tid: 0,
            mapped: true,
            written: false,
        };
        blocks.insert(0, mapping);
        block(&mut blocks, 1, 4096, 64, 1.0);
        assert_eq!(blocks.find(4100), Some(Found::Inside(100)));
        assert_eq!(blocks.find(9000), Some(Found::Inside(7)));
        assert_eq!(blocks.remove_mapped(4096..8192).len(), 1);
        assert_eq!(blocks.find(9000), None);
    }
}
