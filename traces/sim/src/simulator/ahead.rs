//! Counting in passes: the first levels of a stretch of steps, then what they missed.
//!
//! Where nothing that happens beyond them changes the first levels ([`Hierarchy::first_levels_are_on_their_own`]), these may be
//! ahead: what comes out is the same, and each of the loops does one thing to many steps, which a host's processor predicts, where
//! it would mispredict what a mixture of blocks, accesses and misses is to bring next. What missed is served afterwards in the order
//! of the program, instructions and data together, since they meet beyond the first levels.

use super::run::{Executed, Touches, touch};
use super::{Running, Simulator, count_far};
use crate::counts::Counts;
use crate::first_level::Brought;
use crate::hierarchy::Hierarchy;
use crate::line::{DIRTY, address_of, line_of};
use crate::objects::{ObjectId, Shadow};
use crate::private::{Private, straddles};
use crate::served::{Level, Served, Tlb};
use crate::steps::{Entered, Gathered, Packed, Step, Steps, Turns};

/// A data line that the first level did not have.
#[derive(Debug, Clone, Copy)]
struct Missed {
    brought: Brought,
    /// Of the access.
    object: ObjectId,
    /// Index of the access.
    index: u32,
    tlb: Tlb,
}

/// A line of instructions that the first level did not have.
#[derive(Debug, Clone, Copy)]
struct Fetched {
    new: u64,
    /// Accesses before it.
    before: u32,
}

/// What is kept from one stretch to the next, so that its memory is.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    missed: Vec<Missed>,
    fetched: Vec<Fetched>,
}

/// The first levels of data, while they are ahead.
struct First<'a> {
    private: &'a mut Private,
    map: &'a Shadow,
    touches: &'a mut [Touches],
    counts: &'a mut [Counts],
    missed: &'a mut Vec<Missed>,
    straddling: u64,
}

impl First<'_> {
    fn serve(&mut self, accesses: &[Packed]) {
        let mut done = 0;
        loop {
            done += near(self.private, self.map, self.touches, accesses.get(done..).unwrap_or_default());
            let Some(packed) = accesses.get(done) else { return };
            self.far(*packed, done as u32);
            done += 1;
        }
    }

    fn fetch(&mut self, gathered: &Gathered<'_>, fetched: &mut Vec<Fetched>) {
        let (mut done, mut turns) = (0, gathered.turns.iter().peekable());
        while let Some(l1i) = &mut self.private.l1i {
            let rest = gathered.entered.get(done..).unwrap_or_default();
            done += l1i.fetch_many(rest.iter().map(|entered| entered.block));
            let Some(entered) = gathered.entered.get(done) else { return };
            while turns.next_if(|turns| turns.end() <= done).is_some() {}
            match turns.next_if(|turns| turns.first as usize <= done) {
                Some(turns) => {
                    self.take_turns(turns, &gathered.entered, done, fetched);
                    done = turns.end();
                }
                None => {
                    self.fetch_once(entered, 0, fetched);
                    done += 1;
                }
            }
        }
    }

    /// Fetches a block so many accesses later than it is entered for the first time.
    fn fetch_once(&mut self, entered: &Entered<'_>, later: u32, fetched: &mut Vec<Fetched>) {
        let before = entered.before + later;
        self.private.fetch(entered.block, self.map, |new| fetched.push(Fetched { new, before }));
    }

    /// Fetches blocks that take turns, and whose lines are not all near, those of the first turn from `from` on.
    fn take_turns(&mut self, turns: &Turns, entered: &[Entered<'_>], from: usize, fetched: &mut Vec<Fetched>) {
        let mut start = from;
        for turn in 0..=turns.more {
            let missed = fetched.len();
            for entered in entered.get(start..turns.end()).unwrap_or_default() {
                self.fetch_once(entered, turns.each * turn, fetched);
            }
            // What all was there is there in the next turn, too, and to use it again in the same order changes nothing.
            if fetched.len() == missed {
                break;
            }
            start = turns.first as usize;
        }
    }

    /// An access that is not near.
    #[inline(never)]
    fn far(&mut self, packed: Packed, index: u32) {
        let address = packed.address();
        let tlb = self.private.translate(address);
        let before = self.missed.len();
        let object = self.line(address, packed.is_store(), index, tlb);
        let worst = if packed.is_plain() { tlb } else { self.rest(packed, index, (before, object, tlb)) };
        touch(self.touches, object, packed.is_store());
        if worst > Tlb::L1
            && let Some(counts) = self.counts.get_mut(object.index())
        {
            counts.dtlb_misses += 1;
            counts.tlb_walks += u64::from(worst == Tlb::Walk);
        }
    }

    /// The second line of an access, if it lies in two. The farthest place of its translations.
    #[cold]
    fn rest(&mut self, packed: Packed, index: u32, (before, object, tlb): (usize, ObjectId, Tlb)) -> Tlb {
        let access = packed.access();
        if !straddles(&access) {
            return tlb;
        }
        self.straddling += 1;
        let second = address_of(line_of(access.address) + 1);
        let worst = tlb.max(self.private.translate(second));
        self.line(second, access.store, index, worst);
        for missed in self.missed.iter_mut().skip(before) {
            (missed.object, missed.tlb) = (object, worst);
        }
        worst
    }

    /// One line of an access. Its object.
    #[inline(always)]
    fn line(&mut self, address: u64, store: bool, index: u32, tlb: Tlb) -> ObjectId {
        let (object, brought) = self.private.l1d.access_alone(address, store, self.map);
        if let Some(brought) = brought {
            self.missed.push(Missed { brought, object, index, tlb });
        }
        object
    }
}

/// Serves accesses as long as the first levels do. How many.
fn near(private: &mut Private, map: &Shadow, touches: &mut [Touches], accesses: &[Packed]) -> usize {
    private.serve_near(accesses, map, |object, store| touch(touches, object, store))
}

impl Simulator {
    /// Steps of the only core there is, in passes.
    pub(super) fn count_ahead<'a>(&mut self, cpu: u16, steps: &mut impl Steps<'a>) {
        let Running { thread, core } = self.running(cpu);
        let mut executed = Executed::default();
        let mut ahead = std::mem::take(&mut self.ahead);
        let mut gathered = Gathered::default();
        self.effects.clear();
        self.hierarchy.private(core).meet(self.space.map());
        loop {
            gathered.clear();
            let end = steps.gather(&mut gathered);
            self.stretch((cpu, core), &gathered, &mut executed, &mut ahead);
            match end {
                None => {}
                Some(Step::Access(access)) => self.far((cpu, core), &executed, access),
                Some(Step::Left) => self.leave(&mut executed, steps.left()),
                Some(Step::Block(_) | Step::End) => break,
            }
        }
        self.ahead = ahead;
        self.close_run(thread, &executed);
    }

    fn stretch<'a>(
        &mut self,
        on: (u16, usize),
        gathered: &Gathered<'a>,
        executed: &mut Executed<'a>,
        ahead: &mut Ahead,
    ) {
        let Self { hierarchy, space, touches, counts, totals, .. } = self;
        let (private, map) = (hierarchy.private(on.1), space.map());
        let Ahead { missed, fetched, .. } = ahead;
        missed.clear();
        fetched.clear();
        let mut first = First { private, map, touches, counts, missed, straddling: 0 };
        first.serve(gathered.accesses());
        totals.straddling += first.straddling;
        let before = *executed;
        first.fetch(gathered, fetched);
        executed.instructions += instructions(&gathered.entered);
        executed.blocks += gathered.entered.len() as u64;
        executed.block = gathered.entered.last().map_or(before.block, |entered| Some(entered.block));
        for turns in &gathered.turns {
            executed.instructions += instructions(turns.of(&gathered.entered)) * u64::from(turns.more);
            executed.blocks += u64::from(turns.blocks) * u64::from(turns.more);
        }
        self.catch_up(on, gathered, before, ahead);
    }

    /// What the first levels missed goes on its way.
    fn catch_up<'a>(
        &mut self,
        (cpu, core): (u16, usize),
        gathered: &Gathered<'a>,
        before: Executed<'a>,
        ahead: &Ahead,
    ) {
        let mut fetched = ahead.fetched.iter().peekable();
        let mut missed = ahead.missed.iter().peekable();
        while let Some(first) = missed.next() {
            let Self { hierarchy, effects, .. } = self;
            while let Some(fetched) = fetched.next_if(|fetched| fetched.before <= first.index) {
                hierarchy.catch_up_fetch(core, fetched.new, effects);
            }
            let mut level = hierarchy.catch_up(core, first.brought, effects);
            if let Some(second) = missed.next_if(|second| second.index == first.index) {
                let other = hierarchy.catch_up(core, second.brought, effects);
                if level == Level::Memory && other == Level::Memory {
                    Hierarchy::both_halves(effects, second.brought.new);
                }
                level = level.max(other);
            }
            let store = first.brought.new & DIRTY != 0;
            let served = Served { object: first.object, level, ..Served::default() };
            if let Some(counts) = self.counts.get_mut(first.object.index()) {
                count_far(counts, &served, store, self.has_l2);
            }
            if level == Level::Memory && !store && self.sampler.as_mut().is_some_and(super::Sampler::chooses) {
                let Some(packed) = gathered.accesses().get(first.index as usize) else { continue };
                let served = Served { tlb: first.tlb, ..served };
                self.take_sample(cpu, &executed_at(first.index, gathered, before), &packed.access(), &served);
            }
        }
        for fetched in fetched {
            self.hierarchy.catch_up_fetch(core, fetched.new, &mut self.effects);
        }
    }
}

/// Instructions of blocks, each entered once.
fn instructions(entered: &[Entered<'_>]) -> u64 {
    entered.iter().map(|entered| entered.block.ops.len() as u64).sum()
}

/// What was executed at an access: the block it is of, and instructions up to the end of that.
fn executed_at<'a>(index: u32, gathered: &Gathered<'a>, mut executed: Executed<'a>) -> Executed<'a> {
    let begun = gathered.entered.iter().take_while(|entered| entered.before <= index);
    let count = begun.map(|entered| executed.enter(entered.block, 1)).count();
    for turns in &gathered.turns {
        let more = |entered: &&Entered<'_>| turns.more_before(entered.before, index);
        let begun = turns.of(&gathered.entered).iter().take_while(|entered| entered.before <= index);
        let before = executed.block;
        begun.clone().for_each(|entered| executed.enter(entered.block, more(&entered)));
        // Where nothing was entered after them: the last of those that had most turns.
        let last = begun.max_by_key(more).filter(|_| turns.end() >= count);
        executed.block = last.map_or(before, |entered| Some(entered.block));
    }
    executed
}
