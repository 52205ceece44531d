//! Which object lies where, as the program allocates, maps and gives back.
//!
//! An address belongs to the innermost thing that holds it: a block of an allocator, else memory the program mapped itself, else a
//! global, else a stack, else whatever is mapped there (a file, named memory, other anonymous memory). A recording decides in the
//! same order. What is in none of them is in no object.
//!
//! Two maps make both sides fast. `base` has all but the allocator's blocks and changes with mappings, which are rare. `top` is
//! what accesses ask: `base` with the blocks painted over. A block that dies is painted away with what `base` has there, so
//! that neither birth nor death looks at anything but the block's own range.

use super::intervals::Intervals;
use super::shadow::Shadow;
use super::slots::{Place, Slots};
use super::table::{Description, Table};
use super::{ObjectId, ObjectKey};
use crate::event::Backing;
use crate::outcome::{Allocation, Approximations, Module};
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;
use std::ops::Range;

/// Who does something, and when.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Now {
    /// The clock of samples.
    pub(crate) time: u64,
    /// Instructions of all threads.
    pub(crate) instructions: u64,
    /// The kernel's number of the thread.
    pub(crate) tid: u32,
}

/// A live block, of an allocator or mapped by the program.
#[derive(Debug, Clone, Copy)]
struct Block {
    address: u64,
    bytes: u64,
    site: u64,
    object: ObjectId,
    place: Option<Place>,
    time: u64,
    tid: u32,
}

/// What is mapped where no more is known.
#[derive(Debug, Clone)]
struct Mapping {
    object: ObjectId,
    backing: Backing,
}

/// Memory of the program.
#[derive(Debug, Default)]
pub(crate) struct Space {
    pub(crate) table: Table,
    top: Shadow,
    base: Shadow,
    blocks: BTreeMap<u64, Block>,
    /// Mapped by the program itself: which of `mapped_blocks`.
    mapped: Intervals<u32>,
    mapped_blocks: FxHashMap<u32, (Block, u64)>,
    next_mapped: u32,
    globals: Intervals<ObjectId>,
    stacks: Intervals<ObjectId>,
    mappings: Intervals<Mapping>,
    slots: Slots<u64>,
    /// Threads with a stack, in order.
    stack_threads: FxHashMap<u32, u32>,
    /// Blocks from this size on are recorded when they die.
    record_from: Option<u64>,
    pub(crate) recorded: Vec<Allocation>,
    pub(crate) approximations: Approximations,
}

/// A range of at least one byte within user space; None for what is not.
fn range(address: u64, bytes: u64) -> Option<Range<u64>> {
    let end = address.checked_add(bytes.max(1))?;
    (end <= super::shadow::SPACE).then_some(address..end)
}

impl Space {
    pub(crate) fn new(record_from: Option<u64>) -> Self {
        Self { record_from, ..Self::default() }
    }

    /// What accesses ask.
    pub(crate) fn map(&self) -> &Shadow {
        &self.top
    }

    fn heap_object(&mut self, site: u64, bytes: u64, now: &Now) -> (ObjectId, Option<Place>) {
        let place = self.slots.take(site, bytes);
        let object = self.table.object(ObjectKey::Heap { site, place }, now.instructions, Description::default);
        self.table.born(object, bytes);
        (object, place)
    }

    /// A block that is no more, of which `bytes` were left.
    fn bury(&mut self, block: &Block, bytes: u64, now: &Now) {
        self.slots.give_back(block.site, block.place);
        self.table.died(block.object, bytes);
        self.record(block, now.time);
    }

    fn record(&mut self, block: &Block, freed: u64) {
        if self.record_from.is_some_and(|least| block.bytes >= least) {
            let Block { address, bytes, site, object, time, tid, .. } = *block;
            self.recorded.push(Allocation { address, bytes, site, time, freed, object, tid });
        }
    }

    /// An allocator hands out a block.
    pub(crate) fn allocated(&mut self, address: u64, bytes: u64, site: u64, now: &Now) -> ObjectId {
        let Some(range) = range(address, bytes).filter(|_| address != 0) else {
            self.approximations.senseless_events += 1;
            return ObjectId::NONE;
        };
        self.bury_overwritten(&range, now);
        let (object, place) = self.heap_object(site, bytes, now);
        self.top.set(range, object);
        self.blocks.insert(address, Block { address, bytes, site, object, place, time: now.time, tid: now.tid });
        object
    }

    /// Blocks in the way of a new one, whose deaths nobody told.
    fn bury_overwritten(&mut self, range: &Range<u64>, now: &Now) {
        let reaches = |block: &Block| block.address + block.bytes.max(1) > range.start;
        while let Some((address, block)) = self.blocks.range(..range.end).next_back().map(|(a, b)| (*a, *b)) {
            if !reaches(&block) {
                return;
            }
            self.approximations.overwritten_blocks += 1;
            self.blocks.remove(&address);
            self.top.copy(address..address + block.bytes.max(1), &self.base);
            self.bury(&block, block.bytes, now);
        }
    }

    /// A block is given back.
    pub(crate) fn freed(&mut self, address: u64, now: &Now) {
        let Some(block) = self.blocks.remove(&address) else {
            self.approximations.unknown_frees += u64::from(address != 0);
            return;
        };
        self.top.copy(address..address + block.bytes.max(1), &self.base);
        self.bury(&block, block.bytes, now);
    }

    /// Memory is mapped.
    pub(crate) fn mapped(
        &mut self,
        address: u64,
        bytes: u64,
        site: Option<u64>,
        backing: Backing,
        now: &Now,
    ) -> ObjectId {
        let Some(range) = range(address, bytes).filter(|_| bytes > 0) else {
            self.approximations.senseless_events += 1;
            return ObjectId::NONE;
        };
        self.forget(range.clone(), now);
        let object = match site {
            Some(site) => self.map_block(range.clone(), site, now),
            None => {
                let object = self.mapping_object(&range, &backing, now);
                self.mappings.insert(range.clone(), Mapping { object, backing });
                object
            }
        };
        self.repaint(range);
        object
    }

    fn map_block(&mut self, range: Range<u64>, site: u64, now: &Now) -> ObjectId {
        let bytes = range.end - range.start;
        let (object, place) = self.heap_object(site, bytes, now);
        let number = self.next_mapped;
        self.next_mapped = number.wrapping_add(1);
        let block = Block { address: range.start, bytes, site, object, place, time: now.time, tid: now.tid };
        self.mapped_blocks.insert(number, (block, bytes));
        self.mapped.insert(range, number);
        object
    }

    /// The object of a mapping nobody claims: that of a touching one with the same backing, for what was mapped once stays one
    /// object however the kernel splits it.
    fn mapping_object(&mut self, range: &Range<u64>, backing: &Backing, now: &Now) -> ObjectId {
        let start = range.start;
        let beside = self.mappings.beside(start, range.end).into_iter().flatten();
        let same = beside.filter(|mapping| mapping.backing == *backing).map(|mapping| mapping.object).next();
        let (key, name) = match backing {
            Backing::File(path) => (ObjectKey::File { path: path.clone() }, path.clone()),
            Backing::Named(name) => (ObjectKey::Named { name: name.clone() }, name.clone()),
            Backing::Anonymous => (ObjectKey::Anonymous { start }, "anonymous mapping".into()),
        };
        let describe = || Description { name, start, ..Description::default() };
        let object = same.unwrap_or_else(|| self.table.object(key, now.instructions, describe));
        self.table.extends(object, range.end - start);
        object
    }

    /// Memory is unmapped.
    pub(crate) fn unmapped(&mut self, address: u64, bytes: u64, now: &Now) {
        let Some(range) = range(address, bytes).filter(|_| bytes > 0) else {
            self.approximations.senseless_events += 1;
            return;
        };
        self.forget(range.clone(), now);
        self.repaint(range);
    }

    /// A mapping moves or changes its size.
    pub(crate) fn remapped(&mut self, old: (u64, u64), new: (u64, u64), site: Option<u64>, now: &Now) -> ObjectId {
        let first = range(old.0, old.1).and_then(|range| self.mappings.overlapping(range).next());
        let backing = first.map_or(Backing::Anonymous, |(_, mapping)| mapping.backing.clone());
        if old.1 > 0 {
            self.unmapped(old.0, old.1, now);
        }
        self.mapped(new.0, new.1, site, backing, now)
    }

    /// A variable lies in a module.
    pub(crate) fn global(
        &mut self,
        key: (u32, u64),
        name: Box<str>,
        at: (u64, u64),
        modules: &[Module],
        now: &Now,
    ) -> ObjectId {
        let (module, elf_address) = key;
        let Some(range) = range(at.0, at.1) else {
            self.approximations.senseless_events += 1;
            return ObjectId::NONE;
        };
        let path = modules.get(module as usize).map_or("", |module| module.path.as_str());
        let describe = || Description { module: path.into(), name, start: elf_address, tid: None };
        let object = self.table.object(ObjectKey::Global { module, elf_address }, now.instructions, describe);
        self.table.extends(object, at.1);
        self.globals.insert(range.clone(), object);
        self.repaint(range);
        object
    }

    /// A thread has its stack there.
    pub(crate) fn stack(&mut self, tid: u32, low: u64, high: u64, now: &Now) -> ObjectId {
        let Some(range) = range(low, high.saturating_sub(low)).filter(|_| low < high) else {
            self.approximations.senseless_events += 1;
            return ObjectId::NONE;
        };
        let next = self.stack_threads.len() as u32;
        let thread = *self.stack_threads.entry(tid).or_insert(next);
        let name = if thread == 0 { "main stack" } else { "thread stack" };
        let describe = || Description { name: name.into(), start: low, tid: Some(tid), ..Description::default() };
        let object = self.table.object(ObjectKey::Stack { thread }, now.instructions, describe);
        self.table.extends(object, high - low);
        self.stacks.insert(range.clone(), object);
        self.repaint(range);
        object
    }

    /// Everything but the allocator's blocks goes out of a range.
    fn forget(&mut self, range: Range<u64>, now: &Now) {
        for (gone, number) in self.mapped.remove(range.clone()) {
            let bytes = gone.end - gone.start;
            let Some((block, left)) = self.mapped_blocks.get_mut(&number) else { continue };
            *left = left.saturating_sub(bytes);
            let (block, left) = (*block, *left);
            if left == 0 {
                self.mapped_blocks.remove(&number);
                self.bury(&block, bytes, now);
            } else {
                self.table.died(block.object, bytes);
            }
        }
        self.globals.remove(range.clone());
        self.stacks.remove(range.clone());
        self.mappings.remove(range);
    }

    /// Paints a range anew, from the outermost to the innermost.
    fn repaint(&mut self, range: Range<u64>) {
        let cut = |found: Range<u64>| found.start.max(range.start)..found.end.min(range.end);
        self.base.set(range.clone(), ObjectId::NONE);
        for (found, mapping) in self.mappings.overlapping(range.clone()) {
            self.base.set(cut(found), mapping.object);
        }
        for layer in [&self.stacks, &self.globals] {
            for (found, object) in layer.overlapping(range.clone()) {
                self.base.set(cut(found), *object);
            }
        }
        for (found, number) in self.mapped.overlapping(range.clone()) {
            let object = self.mapped_blocks.get(number).map_or(ObjectId::NONE, |(block, _)| block.object);
            self.base.set(cut(found), object);
        }
        self.top.copy(range.clone(), &self.base);
        let below = self.blocks.range(..range.start).next_back();
        for (address, block) in below.into_iter().chain(self.blocks.range(range.clone())) {
            let painted = cut(*address..address + block.bytes.max(1));
            if !painted.is_empty() {
                self.top.set(painted, block.object);
            }
        }
    }

    /// Records what is live at the end.
    pub(crate) fn record_live(&mut self) {
        let live: Vec<Block> = self.blocks.values().copied().collect();
        let mut mapped: Vec<Block> = self.mapped_blocks.values().map(|(block, _)| *block).collect();
        mapped.sort_unstable_by_key(|block| block.address);
        live.iter().chain(&mapped).for_each(|block| self.record(block, u64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Now = Now { time: 5, instructions: 3, tid: 7 };

    /// What an address has in each layer, innermost first; the obvious model of [`Space`].
    type Layers = [Option<ObjectId>; 5];

    #[derive(Debug, Clone)]
    enum Step {
        Allocate(u64, u64),
        Free(u64),
        Map(u64, u64, Option<u64>),
        Unmap(u64, u64),
        Global(u64, u64),
        Stack(u64, u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let granules = || (0_u64..600, 1_u64..300);
        let pages = || (0_u64..3, 1_u64..3).prop_map(|(page, pages)| (page * 256, pages * 256));
        let step = prop_oneof![
            6 => (0_u64..600, 1_u64..40).prop_map(|(at, length)| Step::Allocate(at, length)),
            4 => (0_u64..600).prop_map(Step::Free),
            2 => (pages(), proptest::option::of(0_u64..3)).prop_map(|((at, length), site)| Step::Map(at, length, site)),
            2 => granules().prop_map(|(at, length)| Step::Unmap(at, length)),
            1 => granules().prop_map(|(at, length)| Step::Global(at, length)),
            1 => granules().prop_map(|(at, length)| Step::Stack(at, length)),
        ];
        proptest::collection::vec(step, 0..60)
    }

    proptest! {
        /// Against an array that says for each granule what each layer has there.
        #[test]
        fn an_address_is_the_innermost_things_that_holds_it(steps in steps()) {
            const BASE: u64 = 0x7000_0000_0000;
            let address = |granule: u64| BASE + granule * 16;
            let mut space = Space::new(None);
            let mut model = [Layers::default(); 2000];
            let mut blocks: Vec<(u64, u64)> = Vec::new();
            for (number, step) in (0_u64..).zip(steps) {
                let clear = |model: &mut [Layers; 2000], at: u64, length: u64, layers: Range<usize>| {
                    for granule in at..at + length {
                        layers.clone().for_each(|layer| model[granule as usize][layer] = None);
                    }
                };
                let (at, length, layer, object) = match step {
                    Step::Allocate(at, length) => {
                        let (dead, live) = blocks.iter().partition(|(start, end)| *start < at + length && *end > at);
                        blocks = live;
                        let dead: Vec<(u64, u64)> = dead;
                        dead.iter().for_each(|(start, end)| clear(&mut model, *start, end - start, 0..1));
                        blocks.push((at, at + length));
                        (at, length, 0, space.allocated(address(at), length * 16 - 3, number % 5, &NOW))
                    }
                    Step::Free(at) => {
                        space.freed(address(at), &NOW);
                        if let Some(place) = blocks.iter().position(|(start, _)| *start == at) {
                            let (start, end) = blocks.remove(place);
                            clear(&mut model, start, end - start, 0..1);
                        }
                        continue;
                    }
                    Step::Map(at, length, site) => {
                        clear(&mut model, at, length, 1..5);
                        let object = space.mapped(address(at), length * 16, site, Backing::Named("x".into()), &NOW);
                        (at, length, if site.is_some() { 1 } else { 4 }, object)
                    }
                    Step::Unmap(at, length) => {
                        clear(&mut model, at, length, 1..5);
                        space.unmapped(address(at), length * 16, &NOW);
                        continue;
                    }
                    Step::Global(at, length) => {
                        (at, length, 2, space.global((0, number), "g".into(), (address(at), length * 16), &[], &NOW))
                    }
                    Step::Stack(at, length) => (at, length, 3, space.stack(1, address(at), address(at + length), &NOW)),
                };
                (at..at + length).for_each(|granule| model[granule as usize][layer] = Some(object));
            }
            for (granule, layers) in (0..).zip(&model) {
                let expected = layers.iter().flatten().next().copied().unwrap_or_default();
                prop_assert_eq!(space.map().find(address(granule) + 5), expected, "granule {}", granule);
            }
        }
    }

    fn allocate(space: &mut Space, address: u64, bytes: u64, site: u64) -> ObjectId {
        space.allocated(address, bytes, site, &NOW)
    }

    #[test]
    fn large_blocks_are_told_apart_by_slot_and_small_ones_are_one_object() {
        let mut space = Space::new(None);
        let large: Vec<_> = (1..4).map(|n| allocate(&mut space, n << 20, 1 << 19, 9)).collect();
        assert_eq!(large.iter().collect::<std::collections::BTreeSet<_>>().len(), 3);
        space.freed(2 << 20, &NOW);
        assert_eq!(allocate(&mut space, 9 << 20, 1 << 19, 9), large[1]);
        let small: Vec<_> = (0..4).map(|n| allocate(&mut space, 64 + n * 32, 24, 9)).collect();
        assert!(small.iter().all(|object| *object == small[0]));
    }

    #[test]
    fn mapped_blocks_live_until_their_last_page_is_gone() {
        let mut space = Space::new(Some(0));
        let object = space.mapped(1 << 20, 1 << 20, Some(4), Backing::Anonymous, &NOW);
        space.unmapped((1 << 20) + 4096, 4096, &NOW);
        assert_eq!(space.map().find((1 << 20) + 4096), ObjectId::NONE);
        assert_eq!(space.map().find((1 << 20) + 8192), object);
        assert!(space.recorded.is_empty());
        space.unmapped(0, 8 << 20, &Now { time: 9, ..NOW });
        assert_eq!(space.recorded.iter().map(|a| (a.bytes, a.time, a.freed)).collect::<Vec<_>>(), [(1 << 20, 5, 9)]);
        assert_eq!(space.mapped(5 << 20, 1 << 20, Some(4), Backing::Anonymous, &NOW), object, "its slot is free again");
    }

    #[test]
    fn what_was_mapped_once_stays_one_object_when_it_grows() {
        let mut space = Space::new(None);
        let heap = || Backing::Named("[heap]".into());
        let first = space.mapped(0x1000, 0x1000, None, heap(), &NOW);
        assert_eq!(space.mapped(0x2000, 0x1000, None, heap(), &NOW), first);
        let anonymous = space.mapped(0x10_0000, 0x1000, None, Backing::Anonymous, &NOW);
        assert_eq!(space.mapped(0x10_1000, 0x1000, None, Backing::Anonymous, &NOW), anonymous);
        assert_ne!(space.mapped(0x20_0000, 0x1000, None, Backing::Anonymous, &NOW), anonymous);
        let moved = space.remapped((0x1000, 0x2000), (0x50_0000, 0x4000), None, &NOW);
        assert_eq!((moved, space.map().find(0x1000), space.map().find(0x50_3fff)), (first, ObjectId::NONE, first));
    }

    #[test]
    fn threads_stacks_are_numbered_as_they_come() {
        let mut space = Space::new(None);
        let main = space.stack(4711, 0x1000, 0x2000, &NOW);
        let thread = space.stack(4712, 0x5000, 0x6000, &NOW);
        assert_eq!(space.stack(4711, 0x0800, 0x2000, &NOW), main);
        assert_eq!(space.table.get(thread).map(|(key, ..)| key.clone()), Some(ObjectKey::Stack { thread: 1 }));
        assert_eq!((space.map().find(0x0900), space.map().find(0x5fff)), (main, thread));
    }

    #[test]
    fn what_makes_no_sense_is_counted_and_passed_over() {
        let mut space = Space::new(None);
        assert_eq!(allocate(&mut space, 0, 10, 1), ObjectId::NONE);
        assert_eq!(allocate(&mut space, u64::MAX, 10, 1), ObjectId::NONE);
        assert_eq!(allocate(&mut space, 4096, u64::MAX, 1), ObjectId::NONE);
        space.mapped(4096, 0, None, Backing::Anonymous, &NOW);
        space.unmapped(u64::MAX - 10, 4096, &NOW);
        space.stack(1, 10, 5, &NOW);
        space.freed(0, &NOW);
        space.freed(4096, &NOW);
        assert_eq!((space.approximations.senseless_events, space.approximations.unknown_frees), (6, 1));
        assert_ne!(allocate(&mut space, 4096, 0, 1), ObjectId::NONE, "a block of no bytes has an address");
        allocate(&mut space, 4096, 100, 2);
        assert_eq!(space.approximations.overwritten_blocks, 1);
    }

    #[test]
    fn blocks_are_recorded_when_they_die_or_at_the_end() {
        let mut space = Space::new(Some(100));
        allocate(&mut space, 4096, 200, 1);
        allocate(&mut space, 8192, 50, 1);
        allocate(&mut space, 12288, 300, 1);
        space.freed(4096, &Now { time: 11, ..NOW });
        space.freed(8192, &NOW);
        space.record_live();
        let recorded: Vec<_> = space.recorded.iter().map(|a| (a.address, a.bytes, a.freed, a.tid)).collect();
        assert_eq!(recorded, [(4096, 200, 11, 7), (12288, 300, u64::MAX, 7)]);
    }
}
