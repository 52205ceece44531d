//! Counting while a thread runs: where a simulation without time spends its own.
//!
//! What is done for an access is the same as in [`Simulator::execute`], and so is the order of it; what differs is what is not
//! done. How an access was served is counted at once and not noted; what is the same for all blocks of a run is looked at once
//! for the run. The inner loop ([`near`]) handles what the first levels serve at once, which is nearly everything, and returns for the
//! rest.

use super::{Next, Running, Simulator, count_far};
use crate::block::{Access, Block};
use crate::objects::{Now, ObjectId, Shadow};
use crate::outcome::Sample;
use crate::private::Private;
use crate::served::{Level, Served};
use crate::steps::{Left, Packed, Step, Steps};

/// Loads and stores of an object.
pub(super) type Touches = [u64; 2];

/// What a run has counted of blocks.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Executed<'a> {
    /// The one under way.
    pub(super) block: Option<&'a Block>,
    pub(super) instructions: u64,
    pub(super) blocks: u64,
}

impl<'a> Executed<'a> {
    /// A block was entered so many times.
    #[inline(always)]
    pub(super) fn enter(&mut self, block: &'a Block, times: u32) {
        self.block = Some(block);
        self.instructions += block.ops.len() as u64 * u64::from(times);
        self.blocks += u64::from(times);
    }
}

/// What the inner loop does not do.
enum Rest {
    /// The block that was entered takes fetching.
    Fetch,
    /// An access is not near.
    Far(Packed),
    /// The block was left early.
    Left,
    /// There is nothing more.
    End,
}

/// Goes on as long as the first levels serve all.
#[inline(always)]
fn near<'a>(
    private: &mut Private,
    map: &Shadow,
    touches: &mut [Touches],
    executed: &mut Executed<'a>,
    steps: &mut impl Steps<'a>,
) -> Rest {
    loop {
        match steps.next() {
            Step::Access(access) => {
                if !access.is_plain() {
                    return Rest::Far(access);
                }
                let store = access.is_store();
                let Some(object) = private.access_near(access.address(), store, map) else {
                    return Rest::Far(access);
                };
                touch(touches, object, store);
            }
            Step::Block(block) => {
                executed.enter(block, 1);
                if !private.fetch_near(block) {
                    return Rest::Fetch;
                }
            }
            Step::Left => return Rest::Left,
            Step::End => return Rest::End,
        }
    }
}

/// Counts an access.
#[inline(always)]
pub(super) fn touch(touches: &mut [Touches], object: ObjectId, store: bool) {
    if let Some(touches) = touches.get_mut(object.index()) {
        touches[usize::from(store)] += 1;
    }
}

impl Simulator {
    /// A thread takes steps. The same as [`Simulator::execute`] for each of the blocks, and faster where no time is simulated.
    pub fn run<'a>(&mut self, cpu: u16, steps: &mut impl Steps<'a>) -> Next {
        let core = self.running(cpu).core;
        if self.timed.is_some() || !self.extent.is_full_from_now_on() {
            self.replay(cpu, steps);
        } else if core == 0 && self.hierarchy.first_levels_are_on_their_own() {
            self.count_ahead(cpu, steps);
        } else {
            self.count(cpu, steps);
        }
        if self.totals.counted_instructions >= self.max_instructions { Next::Stop } else { Next::GoOn }
    }

    fn count<'a>(&mut self, cpu: u16, steps: &mut impl Steps<'a>) {
        let Running { thread, core } = self.running(cpu);
        let mut executed = Executed::default();
        self.effects.clear();
        self.hierarchy.private(core).meet(self.space.map());
        loop {
            let Self { hierarchy, space, touches, effects, .. } = &mut *self;
            // Copies, which nothing else points at, can be in registers meanwhile.
            let (mut own_steps, mut own) = (steps.clone(), executed);
            let rest = near(hierarchy.private(core), space.map(), touches, &mut own, &mut own_steps);
            (*steps, executed) = (own_steps, own);
            match rest {
                Rest::Far(access) => self.far((cpu, core), &executed, access),
                Rest::Fetch => {
                    if let Some(block) = executed.block {
                        hierarchy.fetch(core, block, space.map(), effects);
                    }
                }
                Rest::Left => self.leave(&mut executed, steps.left()),
                Rest::End => break,
            }
        }
        self.close_run(thread, &executed);
    }

    pub(super) fn close_run(&mut self, thread: usize, executed: &Executed<'_>) {
        self.totals.instructions += executed.instructions;
        self.totals.counted_instructions += executed.instructions;
        self.totals.blocks += executed.blocks;
        self.threads[thread].instructions += executed.instructions;
        self.count_effects();
    }

    /// An access that took more than the first levels.
    #[inline(never)]
    pub(super) fn far(&mut self, (cpu, core): (u16, usize), executed: &Executed<'_>, packed: Packed) {
        let access = packed.access();
        let Self { hierarchy, space, touches, counts, totals, effects, sampler, .. } = self;
        let op = executed.block.and_then(|block| block.ops.get(usize::from(access.op)));
        let ip = executed.block.map_or(0, |block| block.address).wrapping_add(op.map_or(0, |op| u64::from(op.offset)));
        space.approximations.senseless_accesses += u64::from(op.is_none());
        let map = space.map();
        let served = if access.store && op.is_some_and(|op| op.non_temporal) {
            hierarchy.around(core, &access, map, effects)
        } else {
            hierarchy.access((core, ip), &access, map, effects)
        };
        touch(touches, served.object, access.store);
        count_far(&mut counts[served.object.index()], &served, access.store, self.has_l2);
        totals.straddling += u64::from(served.straddles);
        if served.level == Level::Memory && !access.store && sampler.as_mut().is_some_and(super::Sampler::chooses) {
            self.take_sample(cpu, executed, &access, &served);
        }
    }

    pub(super) fn take_sample(&mut self, cpu: u16, executed: &Executed<'_>, access: &Access, served: &Served) {
        let Some(block) = executed.block else { return };
        let time = self.totals.instructions + executed.instructions;
        let now = Now { time, ..self.now(cpu) };
        let sample = super::sample(cpu, now, self.weight(), block, access, served);
        self.samples.push(sample);
    }

    /// Takes back what was counted of a block that was left early.
    #[cold]
    pub(super) fn leave(&mut self, executed: &mut Executed<'_>, left: Left) {
        let Some(block) = executed.block else { return };
        let before = self.totals.instructions + executed.instructions;
        executed.instructions -= (block.ops.len() as u64).saturating_sub(u64::from(left.executed));
        self.space.approximations.senseless_accesses += u64::from(left.beyond);
        // Samples of this execution have its time, and no others do.
        let of_this = self.samples.iter_mut().rev().take_while(|sample: &&mut Sample| sample.time == before);
        of_this.for_each(|sample| sample.time = self.totals.instructions + executed.instructions);
    }

    /// One block at a time, for what needs to know how each access was served.
    #[inline(never)]
    fn replay<'a>(&mut self, cpu: u16, steps: &mut impl Steps<'a>) {
        let mut accesses = std::mem::take(&mut self.accesses);
        let mut under_way: Option<&'a Block> = None;
        loop {
            match steps.next() {
                Step::Access(packed) => accesses.push(packed.access()),
                Step::Block(block) => {
                    self.close(cpu, under_way.replace(block), &mut accesses);
                }
                Step::Left => {
                    let left = steps.left();
                    if let Some(block) = under_way.take() {
                        let ops = block.ops.get(..usize::from(left.executed)).unwrap_or(&block.ops);
                        let part = Block { ops: ops.into(), number: 0, ..*block };
                        self.close(cpu, Some(&part), &mut accesses);
                    }
                }
                Step::End => break,
            }
        }
        self.close(cpu, under_way, &mut accesses);
        self.accesses = accesses;
    }

    fn close(&mut self, cpu: u16, block: Option<&Block>, accesses: &mut Vec<Access>) {
        if let Some(block) = block {
            // Whether it was enough is asked once, at the end.
            let _ = self.execute(cpu, block, accesses);
        }
        accesses.clear();
    }
}
