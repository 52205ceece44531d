//! The way of an access through the caches.
//!
//! **Levels.** Each core has its own first- and second-level caches; all share the last level. A line that is read from memory
//! comes into every level on its way. A level that is not inclusive gives lines up without telling those above; an inclusive one
//! takes them away from there, too. What leaves a level dirty goes to the next: there it makes the line dirty without using it,
//! or comes in if it is not there. What leaves the last level dirty is written to memory, charged to the object that wrote it.
//! A victim leaves before the line that needs its place is looked for below.
//!
//! **Writes** allocate, and make a line dirty in the first level only. Stores marked non-temporal go around: they are gathered in
//! a few buffers, one line of traffic for each line begun, and no cache keeps the line.
//!
//! **Several cores.** Private copies of a line are either all clean and marked shared, or one core has the only one (MESI with
//! the exclusive and modified states told apart by the dirty bit). A miss asks the other cores: a dirty copy is handed over through
//! the last level; a store makes all copies void. A store to a line marked shared makes the others void first. There is no
//! directory: only a miss of the private caches or a store to a shared line asks, and then every core that has run.
//! Which processor's protocol has which shortcuts is not modelled. Instructions that are overwritten are not made void.
//!
//! **Straddling.** An access in two lines is one access. Its level is the farther one; so with its translations.

mod prefetching;

use crate::array::{Array, Found};
use crate::block::{Access, Block};
use crate::first_level::Brought;
use crate::line::{DIRTY, EMPTY, PREFETCHED, SHARED, address_of, line, line_of, owner, word};
use crate::machine::{Machine, Prefetch};
use crate::objects::{ObjectId, Shadow, Within};
use crate::private::{Private, array, lines, straddles};
use crate::served::{Level, Served, Traffic, TrafficKind};

/// What accesses cause besides being served.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    /// Lines between the last level and memory that no access stands for.
    pub(crate) traffic: Vec<Traffic>,
    /// Index of the access under way.
    pub(crate) access: u32,
    /// Copies in other cores' caches that stores made void.
    pub(crate) invalidations: u64,
    /// Lines fetched that the first-level instruction cache did not have.
    pub(crate) l1i_misses: u64,
    /// Lines fetched that the last-level cache did not have.
    pub(crate) llc_fetch_misses: u64,
}

impl Effects {
    /// Makes ready for the next block.
    pub(crate) fn clear(&mut self) {
        self.traffic.clear();
        (self.access, self.invalidations, self.l1i_misses, self.llc_fetch_misses) = (0, 0, 0, 0);
    }

    fn push(&mut self, kind: TrafficKind, line: u64, object: ObjectId) {
        self.traffic.push(Traffic { address: address_of(line), object, access: self.access, kind });
    }
}

/// All caches of a machine.
#[derive(Debug, Clone)]
pub(crate) struct Hierarchy {
    machine: Machine,
    /// Cores up to the last that has run.
    cores: Vec<Private>,
    llc: Array,
    /// By place of the first core's first data level: where the last level had the line when it was brought. Lines of the last level
    /// may have moved or left since.
    below: Box<[u32]>,
    llc_inclusive: bool,
    l2_inclusive: bool,
    fetches: bool,
    prefetch: Prefetch,
    page_shift: u32,
}

/// An access that the first-level cache could not serve at once.
#[derive(Debug, Clone, Copy)]
struct Request {
    core: usize,
    line: u64,
    /// The line as it comes into the first level.
    new: u64,
    /// What lies in it.
    within: Within,
    address: u64,
    ip: u64,
}

impl Request {
    fn is_store(&self) -> bool {
        self.new & DIRTY != 0
    }
}

impl Hierarchy {
    /// The machine must have been checked.
    pub(crate) fn new(machine: &Machine) -> Self {
        let first = Private::new(machine);
        Self {
            below: vec![0; first.l1d.places()].into(),
            cores: vec![first],
            llc: array(&machine.llc),
            llc_inclusive: machine.llc.inclusive,
            l2_inclusive: machine.l2.as_ref().is_some_and(|l2| l2.inclusive),
            fetches: machine.l1i.is_some(),
            prefetch: machine.prefetch,
            page_shift: machine.page.shift(),
            machine: machine.clone(),
        }
    }

    /// The core that a thread runs on.
    pub(crate) fn core(&mut self, cpu: u16) -> usize {
        let core = usize::from(cpu % self.machine.cores);
        while self.cores.len() <= core {
            self.cores.push(Private::new(&self.machine));
        }
        core
    }

    /// What a core has for itself.
    pub(crate) fn private(&mut self, core: usize) -> &mut Private {
        &mut self.cores[core]
    }

    /// Whether what misses the first levels changes nothing in them, so that they may be ahead of the others: no other core has run,
    /// no level takes lines away from them, and nothing is prefetched.
    pub(crate) fn first_levels_are_on_their_own(&self) -> bool {
        let inclusive = self.llc_inclusive || self.l2_inclusive;
        let Prefetch { next_line, stride, streams, .. } = self.prefetch;
        self.cores.len() == 1 && !inclusive && !next_line && !stride && streams == 0
    }

    /// What serves a line that came into the first data level of a core that is ahead, and alone.
    #[inline]
    pub(crate) fn catch_up(&mut self, core: usize, brought: Brought, effects: &mut Effects) -> Level {
        let Brought { place, new, victim } = brought;
        if self.machine.l2.is_some() {
            return self.catch_up_far(core, victim, new, effects);
        }
        let below = self.below.get(place as usize).copied().unwrap_or_default();
        if victim != EMPTY && victim & DIRTY != 0 {
            let dirty = victim & !(PREFETCHED | SHARED);
            match self.llc.at(below, line(victim)) {
                Some(word) => *word = dirty | *word & (PREFETCHED | SHARED),
                None => self.put_into_llc(dirty, effects),
            }
        }
        let (below, found) = self.llc.access_at(line(new), new & !DIRTY);
        if let Some(place) = self.below.get_mut(place as usize) {
            *place = below;
        }
        match found {
            None => Level::Llc,
            Some(victim) => {
                self.leave_llc(victim, effects);
                Level::Memory
            }
        }
    }

    fn catch_up_far(&mut self, core: usize, victim: u64, new: u64, effects: &mut Effects) -> Level {
        let line = line(new);
        let request = Request { core, line, new, within: Within::UNKNOWN, address: address_of(line), ip: 0 };
        self.leave_l1(core, victim, effects);
        self.beyond_l1(&request, effects).0
    }

    /// A line was fetched for a block of a core that is ahead, and its first level did not have it.
    pub(crate) fn catch_up_fetch(&mut self, core: usize, new: u64, effects: &mut Effects) {
        effects.l1i_misses += 1;
        if self.catch_up_far(core, EMPTY, new, effects) == Level::Memory {
            effects.llc_fetch_misses += 1;
            effects.push(TrafficKind::Fetch, line(new), owner(new));
        }
    }

    /// The second half of an access came from memory as the first did.
    pub(crate) fn both_halves(effects: &mut Effects, new: u64) {
        effects.push(TrafficKind::Half, line(new), owner(new));
    }

    /// Serves an access of a core by the instruction at `ip`.
    #[inline(never)]
    pub(crate) fn access(
        &mut self,
        (core, ip): (usize, u64),
        access: &Access,
        map: &Shadow,
        effects: &mut Effects,
    ) -> Served {
        let Access { address, store, .. } = *access;
        let (object, within) = map.find_line(address);
        let tlb = self.cores[core].translate(address);
        let dirty = if store { DIRTY } else { 0 };
        let line = line_of(address);
        let request = Request { core, line, new: word(line, object) | dirty, within, address, ip };
        let (level, prefetched) = self.half(&request, map, effects);
        let mut served = Served { object, level, tlb, prefetched, straddles: straddles(access) };
        if served.straddles {
            let second = address_of(line + 1);
            self.second_half(&Request { line: line_of(second), address: second, ..request }, &mut served, map, effects);
        }
        served
    }

    fn second_half(&mut self, request: &Request, served: &mut Served, map: &Shadow, effects: &mut Effects) {
        let (object, within) = map.find_line(request.address);
        let request = Request { new: word(request.line, object) | request.new & DIRTY, within, ..*request };
        let (level, prefetched) = self.half(&request, map, effects);
        if served.level == Level::Memory && level == Level::Memory {
            effects.push(TrafficKind::Half, request.line, object);
        }
        served.level = served.level.max(level);
        served.tlb = served.tlb.max(self.cores[request.core].translate(request.address));
        served.prefetched |= prefetched;
    }

    /// One line of an access: what served it, and whether a prefetch had brought it.
    fn half(&mut self, request: &Request, map: &Shadow, effects: &mut Effects) -> (Level, bool) {
        match self.cores[request.core].l1d.access(request.line, request.new, request.within) {
            Found::Hit(word) if *word & (SHARED | PREFETCHED) == 0 => {
                if request.is_store() {
                    *word = request.new;
                }
                (Level::L1, false)
            }
            Found::Hit(word) => {
                let flags = *word;
                *word = if request.is_store() { request.new } else { flags & !PREFETCHED };
                self.flagged(request, flags, map, effects)
            }
            Found::Miss(victim) => self.miss(request, victim, map, effects),
        }
    }

    /// A hit in the first level of a line that others may have, or that a prefetch brought.
    fn flagged(&mut self, request: &Request, flags: u64, map: &Shadow, effects: &mut Effects) -> (Level, bool) {
        if request.is_store() && flags & SHARED != 0 {
            self.make_only(request.core, request.line, effects);
        }
        let prefetched = flags & PREFETCHED != 0;
        if prefetched {
            self.look_ahead(request, false, map, effects);
        }
        (Level::L1, prefetched)
    }

    /// The line came into the first level, and `victim` left it.
    fn miss(&mut self, request: &Request, victim: u64, map: &Shadow, effects: &mut Effects) -> (Level, bool) {
        self.leave_l1(request.core, victim, effects);
        let served = self.beyond_l1(request, effects);
        self.look_ahead(request, true, map, effects);
        served
    }

    /// What serves a line that the first level did not have, and whether a prefetch had brought it.
    fn beyond_l1(&mut self, request: &Request, effects: &mut Effects) -> (Level, bool) {
        let Request { core, line, new, .. } = *request;
        let clean = new & !DIRTY;
        let found = self.cores[core].l2.as_mut().map(|l2| match l2.access(line, clean) {
            Found::Hit(word) => {
                let flags = *word;
                *word &= !PREFETCHED;
                Ok(flags)
            }
            Found::Miss(victim) => Err(victim),
        });
        match found {
            Some(Ok(flags)) => {
                if flags & SHARED != 0 {
                    if request.is_store() {
                        self.make_only(core, line, effects);
                    } else if let Some(word) = self.cores[core].l1d.find(line) {
                        *word |= SHARED;
                    }
                }
                return (Level::L2, flags & PREFETCHED != 0);
            }
            Some(Err(victim)) => self.leave_l2(core, victim, effects),
            None => {}
        }
        let elsewhere = self.ask_others(core, line, request.is_store(), effects);
        let level = self.last_level(line, clean, elsewhere, effects);
        if elsewhere && !request.is_store() {
            self.cores[core].share(line);
        }
        (level, false)
    }

    /// Brings a line into the last level, and says whether it comes from memory.
    fn last_level(&mut self, line: u64, clean: u64, elsewhere: bool, effects: &mut Effects) -> Level {
        match self.llc.access(line, clean) {
            Found::Hit(_) => Level::Llc,
            Found::Miss(victim) => {
                self.leave_llc(victim, effects);
                if elsewhere { Level::Llc } else { Level::Memory }
            }
        }
    }

    /// Fetches the instructions of a block: each of its lines once.
    #[inline]
    pub(crate) fn fetch(&mut self, core: usize, block: &Block, map: &Shadow, effects: &mut Effects) {
        if !self.fetches {
            return;
        }
        let address = block.address;
        for line in lines(block) {
            let Some(l1i) = &mut self.cores[core].l1i else { return };
            if l1i.fetch_near(address_of(line)) || l1i.fetch_close(line) {
                continue;
            }
            let object = map.find(address_of(line));
            let new = word(line, object);
            if matches!(l1i.access(line, new, Within::UNKNOWN), Found::Hit(_)) {
                continue;
            }
            effects.l1i_misses += 1;
            let request = Request { core, line, new, within: Within::UNKNOWN, address: address_of(line), ip: address };
            if self.beyond_l1(&request, effects).0 == Level::Memory {
                effects.llc_fetch_misses += 1;
                effects.push(TrafficKind::Fetch, line, object);
            }
        }
    }

    /// A store around the caches.
    pub(crate) fn around(&mut self, core: usize, access: &Access, map: &Shadow, effects: &mut Effects) -> Served {
        let address = access.address;
        let mut served = Served { object: map.find(address), straddles: straddles(access), ..Served::default() };
        let second = served.straddles.then(|| address_of(line_of(address) + 1));
        for address in [Some(address), second].into_iter().flatten() {
            let line = line_of(address);
            served.tlb = served.tlb.max(self.cores[core].translate(address));
            if self.cores[core].combine(line) {
                self.write_through(line, effects);
                effects.push(TrafficKind::NonTemporal, line, map.find(address));
            }
        }
        served
    }

    /// Takes a line out of all caches; it is written to memory if it was dirty.
    fn write_through(&mut self, line: u64, effects: &mut Effects) {
        let private = self.cores.iter_mut().filter_map(|core| core.take(line));
        let newest = private.filter(|word| word & DIRTY != 0).last();
        let last = self.llc.remove(line).filter(|word| word & DIRTY != 0);
        if let Some(dirty) = newest.or(last) {
            effects.push(TrafficKind::Writeback, line, owner(dirty));
        }
    }

    fn leave_l1(&mut self, core: usize, victim: u64, effects: &mut Effects) {
        if victim == EMPTY || victim & DIRTY == 0 {
            return;
        }
        let dirty = victim & !(PREFETCHED | SHARED);
        let Some(l2) = &mut self.cores[core].l2 else {
            return self.put_into_llc(dirty, effects);
        };
        if let Some(pushed) = put(l2, dirty) {
            self.leave_l2(core, pushed, effects);
        }
    }

    fn leave_l2(&mut self, core: usize, victim: u64, effects: &mut Effects) {
        if victim == EMPTY {
            return;
        }
        let above = if self.l2_inclusive { self.cores[core].take(line(victim)) } else { None };
        let newest = above.filter(|word| word & DIRTY != 0).unwrap_or(victim);
        if newest & DIRTY != 0 {
            self.put_into_llc(newest & !(PREFETCHED | SHARED), effects);
        }
    }

    fn put_into_llc(&mut self, dirty: u64, effects: &mut Effects) {
        if let Some(pushed) = put(&mut self.llc, dirty) {
            self.leave_llc(pushed, effects);
        }
    }

    #[inline]
    fn leave_llc(&mut self, victim: u64, effects: &mut Effects) {
        if victim == EMPTY {
            return;
        }
        let mut newest = victim;
        if self.llc_inclusive {
            for core in &mut self.cores {
                newest = core.take(line(victim)).filter(|word| word & DIRTY != 0).unwrap_or(newest);
            }
        }
        if newest & DIRTY != 0 {
            effects.push(TrafficKind::Writeback, line(victim), owner(newest));
        }
    }

    /// Whether another core has a line. After a store none has; after a load those that do know that they are not alone, and
    /// what was dirty is in the last level.
    fn ask_others(&mut self, core: usize, line: u64, store: bool, effects: &mut Effects) -> bool {
        let mut found = false;
        for other in 0..self.cores.len() {
            if other == core {
                continue;
            }
            let theirs = if store { self.cores[other].take(line) } else { self.cores[other].share(line) };
            let Some(word) = theirs else { continue };
            found = true;
            if store {
                effects.invalidations += 1;
            } else if word & DIRTY != 0 {
                self.put_into_llc(word & !(PREFETCHED | SHARED), effects);
            }
        }
        found
    }

    /// Makes a core's copy of a line the only one.
    fn make_only(&mut self, core: usize, line: u64, effects: &mut Effects) {
        self.ask_others(core, line, true, effects);
        if let Some(word) = self.cores[core].l2.as_mut().and_then(|l2| l2.find(line)) {
            *word &= !SHARED;
        }
    }
}

/// Puts a dirty word into a level that may have its line. Returns what had to leave for it.
fn put(level: &mut Array, dirty: u64) -> Option<u64> {
    if let Some(word) = level.find(line(dirty)) {
        *word = dirty | *word & (PREFETCHED | SHARED);
        return None;
    }
    match level.access(line(dirty), dirty) {
        Found::Hit(_) => None,
        Found::Miss(victim) => Some(victim),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::{Cache, Translations};
    use crate::served::Tlb;

    fn machine(l2: bool, prefetch: Prefetch) -> Machine {
        let cache = |bytes, ways| Cache { bytes, ways, ..Machine::default().llc };
        let l2 = l2.then(|| cache(64 * 64, 4));
        Machine { l1d: cache(16 * 64, 2), l2, llc: cache(256 * 64, 4), prefetch, ..Machine::default() }
    }

    fn access(hierarchy: &mut Hierarchy, address: u64, bytes: u8, store: bool, effects: &mut Effects) -> Served {
        let access = Access { address, op: 0, bytes, store };
        let mut map = Shadow::default();
        map.set(0..64, ObjectId(1));
        hierarchy.access((0, 0x40_1000), &access, &map, effects)
    }

    #[test]
    fn the_first_use_of_a_prefetched_line_says_so_and_later_ones_do_not() {
        for l2 in [true, false] {
            let prefetch = Prefetch { stride: true, stride_degree: 4, ..Prefetch::OFF };
            let mut hierarchy = Hierarchy::new(&machine(l2, prefetch));
            let mut effects = Effects::default();
            let mut load = |address| access(&mut hierarchy, address, 8, false, &mut effects);
            assert!((0..3).all(|line| load(line * 64).level == Level::Memory));
            let first = load(3 * 64);
            assert_eq!((first.prefetched, first.level), (true, if l2 { Level::L2 } else { Level::L1 }));
            assert!(!load(3 * 64).prefetched);
            assert!(load(4 * 64).prefetched);
            let prefetched = effects.traffic.iter().filter(|traffic| traffic.kind == TrafficKind::Prefetch);
            assert_eq!(prefetched.map(|traffic| traffic.address / 64).collect::<Vec<_>>(), [3, 4, 5, 6, 7, 8]);
        }
    }

    #[test]
    fn traffic_names_the_access_that_caused_it_and_whose_line_it_is() {
        let mut hierarchy = Hierarchy::new(&machine(true, Prefetch::OFF));
        let mut effects = Effects::default();
        let served = access(&mut hierarchy, 60, 8, true, &mut effects);
        assert_eq!((served.level, served.tlb, served.straddles), (Level::Memory, Tlb::Walk, true));
        let half = Traffic { address: 64, object: ObjectId::NONE, access: 0, kind: TrafficKind::Half };
        assert_eq!(effects.traffic, [half]);
        effects.clear();
        for line in 2..2000 {
            effects.access = line;
            access(&mut hierarchy, u64::from(line) * 64, 8, false, &mut effects);
        }
        let written: Vec<_> = effects.traffic.iter().map(|t| (t.kind, t.address, t.object)).collect();
        assert_eq!(written, [(TrafficKind::Writeback, 0, ObjectId(1)), (TrafficKind::Writeback, 64, ObjectId::NONE)]);
        assert!(effects.traffic.iter().all(|traffic| traffic.access >= 256));
    }

    #[test]
    fn only_the_second_half_from_memory_is_one_line() {
        let mut hierarchy = Hierarchy::new(&machine(true, Prefetch::OFF));
        let mut effects = Effects::default();
        access(&mut hierarchy, 0, 8, false, &mut effects);
        assert_eq!(access(&mut hierarchy, 60, 8, false, &mut effects).level, Level::Memory);
        assert!(effects.traffic.is_empty());
        assert_eq!(access(&mut hierarchy, 60, 8, false, &mut effects).level, Level::L1);
    }

    #[test]
    fn an_access_near_by_is_served_as_the_long_way_would() {
        let dtlb = Some(Translations { entries: 4, ways: 4, latency_cycles: 0 });
        let machine = Machine { dtlb, ..machine(true, Machine::default().prefetch) };
        let (mut short, mut long) = (Hierarchy::new(&machine), Hierarchy::new(&machine));
        let (mut effects, mut random) = ([Effects::default(), Effects::default()], 1_u64);
        let mut map = Shadow::default();
        map.set(0..64, ObjectId(1));
        short.private(0).meet(&map);
        for _ in 0..20_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let address = (random >> 40) % 300 * 32 + (random >> 33) % 8;
            let near = Access { address, op: 0, bytes: 8, store: random >> 63 == 1 };
            let expected = access(&mut long, address, 8, near.store, &mut effects[0]);
            let at_once = if straddles(&near) { None } else { short.private(0).access_near(address, near.store, &map) };
            let served = match at_once {
                Some(object) => Served { object, ..Served::default() },
                None => access(&mut short, address, 8, near.store, &mut effects[1]),
            };
            assert_eq!(served, expected);
        }
        assert_eq!(effects[0].traffic, effects[1].traffic);
    }
}
