//! The caches once more, written for reading: queues of lines, searched one by one; every copy's state in plain fields.
//!
//! It says what `hierarchy.rs` promises in its opening words, in the same order, with nothing shared with it.

use std::collections::VecDeque;
use tierscope_sim::Machine;
use tierscope_sim::machine::Cache;

#[derive(Debug, Clone, Copy, PartialEq)]
struct Line {
    number: u64,
    dirty_by: Option<u32>,
    shared: bool,
}

#[derive(Debug)]
struct Level {
    sets: Vec<VecDeque<Line>>,
    ways: usize,
    inclusive: bool,
}

impl Level {
    fn new(cache: &Cache) -> Self {
        let sets = vec![VecDeque::new(); cache.sets() as usize];
        Self { sets, ways: cache.ways as usize, inclusive: cache.inclusive }
    }

    fn set(&mut self, number: u64) -> &mut VecDeque<Line> {
        let sets = self.sets.len() as u64;
        &mut self.sets[(number % sets) as usize]
    }

    fn find(&mut self, number: u64) -> Option<&mut Line> {
        self.set(number).iter_mut().find(|line| line.number == number)
    }

    fn remove(&mut self, number: u64) -> Option<Line> {
        let set = self.set(number);
        let place = set.iter().position(|line| line.number == number)?;
        set.remove(place)
    }

    /// Makes a line the most recent; true if it was there.
    fn touch(&mut self, number: u64) -> bool {
        let found = self.remove(number);
        let was_there = found.is_some();
        if let Some(line) = found {
            self.set(number).push_front(line);
        }
        was_there
    }

    /// Brings a line in that is not there; returns what leaves.
    fn bring(&mut self, line: Line) -> Option<Line> {
        let ways = self.ways;
        let set = self.set(line.number);
        let victim = if set.len() == ways { set.pop_back() } else { None };
        set.push_front(line);
        victim
    }
}

#[derive(Debug)]
struct Core {
    l1: Level,
    l2: Option<Level>,
    pages: VecDeque<u64>,
}

/// What is counted, by object: loads, stores, L1 misses, L2 misses, misses of loads, of stores, TLB misses, lines read, lines written.
pub(crate) type Row = [u64; 9];

/// The whole of it.
#[derive(Debug)]
pub(crate) struct Model {
    cores: Vec<Core>,
    llc: Level,
    /// Of the TLB, if there is one.
    entries: Option<usize>,
    pub(crate) rows: Vec<Row>,
    pub(crate) invalidations: u64,
}

impl Model {
    pub(crate) fn new(machine: &Machine, objects: usize) -> Self {
        let entries = machine.dtlb.as_ref().map(|dtlb| dtlb.entries as usize);
        let core =
            |_| Core { l1: Level::new(&machine.l1d), l2: machine.l2.as_ref().map(Level::new), pages: VecDeque::new() };
        Self {
            cores: (0..machine.cores).map(core).collect(),
            llc: Level::new(&machine.llc),
            entries,
            rows: vec![[0; 9]; objects + 1],
            invalidations: 0,
        }
    }

    /// An access whose bytes are all of one object.
    pub(crate) fn access(&mut self, core: usize, address: u64, bytes: u8, store: bool, object: u32) {
        let last = address + u64::from(bytes) - 1;
        let mut level = 0;
        let mut walked = false;
        for line in address / 64..=last / 64 {
            walked |= !self.translate(core, (line * 64).max(address) / 4096);
            let found = self.line(core, line, store, object);
            self.rows[object as usize][7] += u64::from(found == 3);
            level = level.max(found);
        }
        let row = &mut self.rows[object as usize];
        row[usize::from(store)] += 1;
        row[2] += u64::from(level > 0);
        row[3] += u64::from(level > 1 && self.cores[core].l2.is_some());
        row[if store { 5 } else { 4 }] += u64::from(level == 3);
        row[6] += u64::from(walked);
    }

    fn translate(&mut self, core: usize, page: u64) -> bool {
        let Some(entries) = self.entries else { return true };
        let pages = &mut self.cores[core].pages;
        let place = pages.iter().position(|other| *other == page);
        if let Some(place) = place {
            pages.remove(place);
        }
        pages.push_front(page);
        pages.truncate(entries);
        place.is_some()
    }

    /// 0 to 3: first level, second, last, memory.
    fn line(&mut self, core: usize, number: u64, store: bool, object: u32) -> usize {
        let dirty_by = store.then_some(object);
        if self.cores[core].l1.touch(number) {
            if store {
                self.make_only(core, number);
                if let Some(line) = self.cores[core].l1.find(number) {
                    *line = Line { number, dirty_by, shared: false };
                }
            }
            return 0;
        }
        if let Some(victim) = self.cores[core].l1.bring(Line { number, dirty_by, shared: false }) {
            self.leave_l1(core, victim);
        }
        if let Some(l2) = &mut self.cores[core].l2 {
            if l2.touch(number) {
                let shared = l2.find(number).is_some_and(|line| line.shared);
                if store {
                    self.make_only(core, number);
                } else if let Some(line) = self.cores[core].l1.find(number) {
                    line.shared = shared;
                }
                return 1;
            }
            if let Some(victim) = l2.bring(Line { number, dirty_by: None, shared: false }) {
                self.leave_l2(core, victim);
            }
        }
        let elsewhere = self.ask(core, number, store);
        let level = if self.llc.touch(number) {
            2
        } else {
            if let Some(victim) = self.llc.bring(Line { number, dirty_by: None, shared: false }) {
                self.leave_llc(victim);
            }
            if elsewhere { 2 } else { 3 }
        };
        if elsewhere && !store {
            let Core { l1, l2, .. } = &mut self.cores[core];
            let copies = [l1.find(number), l2.as_mut().and_then(|l2| l2.find(number))];
            copies.into_iter().flatten().for_each(|line| line.shared = true);
        }
        level
    }

    fn make_only(&mut self, core: usize, number: u64) {
        let Core { l1, l2, .. } = &mut self.cores[core];
        let own = [l1.find(number), l2.as_mut().and_then(|l2| l2.find(number))];
        let shared = own.into_iter().flatten().fold(false, |any, line| std::mem::take(&mut line.shared) | any);
        if shared {
            self.ask(core, number, true);
        }
    }

    fn ask(&mut self, core: usize, number: u64, store: bool) -> bool {
        let mut found = false;
        for other in (0..self.cores.len()).filter(|other| *other != core) {
            let Core { l1, l2, .. } = &mut self.cores[other];
            let mut dirty_by = None;
            let mut here = false;
            for level in [l2.as_mut(), Some(l1)].into_iter().flatten() {
                if let Some(line) = level.find(number) {
                    here = true;
                    dirty_by = line.dirty_by.or(dirty_by);
                    *line = Line { number, dirty_by: None, shared: true };
                }
                if store {
                    level.remove(number);
                }
            }
            found |= here;
            self.invalidations += u64::from(here && store);
            if let Some(owner) = dirty_by.filter(|_| !store) {
                self.put_into_llc(number, owner);
            }
        }
        found
    }

    fn leave_l1(&mut self, core: usize, victim: Line) {
        let Some(owner) = victim.dirty_by else { return };
        let Some(l2) = &mut self.cores[core].l2 else { return self.put_into_llc(victim.number, owner) };
        if let Some(line) = l2.find(victim.number) {
            line.dirty_by = Some(owner);
        } else if let Some(victim) = l2.bring(Line { shared: false, ..victim }) {
            self.leave_l2(core, victim);
        }
    }

    fn leave_l2(&mut self, core: usize, victim: Line) {
        let Core { l1, l2, .. } = &mut self.cores[core];
        let inclusive = l2.as_ref().is_some_and(|l2| l2.inclusive);
        let above = if inclusive { l1.remove(victim.number).and_then(|line| line.dirty_by) } else { None };
        if let Some(owner) = above.or(victim.dirty_by) {
            self.put_into_llc(victim.number, owner);
        }
    }

    fn put_into_llc(&mut self, number: u64, owner: u32) {
        if let Some(line) = self.llc.find(number) {
            line.dirty_by = Some(owner);
        } else if let Some(victim) = self.llc.bring(Line { number, dirty_by: Some(owner), shared: false }) {
            self.leave_llc(victim);
        }
    }

    fn leave_llc(&mut self, victim: Line) {
        let mut dirty_by = victim.dirty_by;
        if self.llc.inclusive {
            for Core { l1, l2, .. } in &mut self.cores {
                for level in [l2.as_mut(), Some(l1)].into_iter().flatten() {
                    dirty_by = level.remove(victim.number).and_then(|line| line.dirty_by).or(dirty_by);
                }
            }
        }
        if let Some(owner) = dirty_by {
            self.rows[owner as usize][8] += 1;
        }
    }
}
