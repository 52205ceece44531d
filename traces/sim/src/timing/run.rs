//! A batch of steps in sixteen lanes: the inner loop of the model.
//!
//! For each operation, in program order: it is dispatched a share of a cycle after the one before, when the reorder buffer, the load
//! queue and the store buffer have room; it starts when its unit and its sources are ready; it is done after its latency; it
//! retires after the one before. Units are given out in the order of dispatch, by when an operation comes and not by when
//! its sources are ready, since a scheduler lets what is ready pass what is not.

use super::memory::{Memory, Own};
use super::pipeline::Pipeline;
use super::scale::Scale;
use super::step::{
    Batch, Kind, Line, Observation, Order, Place, Reference, Step, Translation, UNOBSERVED, Why, register,
};
use super::units::Port;
use super::vector::V;
use super::width::{Width, wide};

/// What is told of the all-fast lane, which is the first of the first group.
#[derive(Debug, Clone, Default)]
pub(crate) struct Report {
    /// Ticks that each object's loads kept retirement waiting, by its index.
    pub(crate) stalls: Vec<u64>,
    pub(crate) observations: Vec<Observation>,
    /// Ticks that retirement waited for lines from memory: read by a load, or on their way when it came.
    pub(crate) memory_stalls: u64,
    /// Loads that left the private caches, in program order: when they were issued and when they had their data.
    pub(crate) reads: Vec<(u32, u32)>,
}

/// Does a batch.
pub(crate) fn run(
    width: Width,
    pipeline: &mut Pipeline,
    memory: &mut Memory,
    batch: &Batch,
    scale: &Scale,
    report: Option<&mut Report>,
) {
    all(width, &mut Run { w: width, p: pipeline, m: memory, b: batch, s: scale, report });
}

wide! { fn all(run: &mut Run<'_>) = Run::all }
wide! { fn memory(run: &mut Run<'_>, step: &Step) = Run::memory }
wide! { fn fetch(run: &mut Run<'_>, reference: &Reference, time: V) -> V = Run::fetch }
wide! { fn line(run: &mut Run<'_>, line: Line, time: V) -> V = Run::line }
wide! { fn moves(run: &mut Run<'_>, reference: &Reference, time: V, there: V) -> V = Run::moves }

struct Run<'a> {
    w: Width,
    p: &'a mut Pipeline,
    m: &'a mut Memory,
    b: &'a Batch,
    s: &'a Scale,
    report: Option<&'a mut Report>,
}

/// The next place of a ring.
#[inline(always)]
fn next(at: usize, length: usize) -> usize {
    if at + 1 == length { 0 } else { at + 1 }
}

impl Run<'_> {
    #[inline(always)]
    fn all(&mut self) {
        let batch = self.b;
        for step in &batch.steps {
            match step.kind {
                Kind::Plain => self.plain(step),
                Kind::Load => self.near_load(step, None),
                Kind::Forwarded => self.near_load(step, Some(step.first as usize)),
                Kind::Store => self.near_store(step),
                Kind::Ordered => self.ordered(step),
                Kind::Memory | Kind::Iteration => memory(self.w, self, step),
                Kind::Merge => {
                    let ready = self.sources(step);
                    self.write(step, ready);
                }
                Kind::Restart => {
                    let resolved = self.p.file[register::BRANCH_NUMBER].after(self.s.mispredict);
                    self.p.dispatch = self.p.dispatch.max(resolved);
                }
                Kind::Fetch => {
                    if let Some(reference) = self.b.references.get(step.first as usize) {
                        let there = line(self.w, self, reference.line, self.p.dispatch);
                        self.p.dispatch = self.p.dispatch.max(there);
                    }
                }
            }
        }
    }

    #[inline(always)]
    fn sources(&self, step: &Step) -> V {
        let [a, b, c, d] = step.sources.map(|register| self.p.file[usize::from(register)]);
        a.max(b).max(c.max(d))
    }

    #[inline(always)]
    fn write(&mut self, step: &Step, ready: V) {
        let [a, b, c] = step.destinations;
        self.p.file[usize::from(a)] = ready;
        // They are in order, and most operations write one.
        if b != register::SINK {
            self.p.file[usize::from(b)] = ready;
            self.p.file[usize::from(c)] = ready;
        }
    }

    /// An operation enters the reorder buffer.
    #[inline(always)]
    fn enter(&self, step: &Step) -> V {
        self.p.dispatch.after(u32::from(step.dispatch)).max(self.p.rob[self.p.rob_at])
    }

    /// It is done then, and retires after those before it.
    #[inline(always)]
    fn leave(&mut self, done: V) {
        let at = self.p.rob_at;
        self.p.retire = self.p.retire.after(self.s.retire).max(done);
        self.p.rob[at] = self.p.retire;
        self.p.rob_at = next(at, self.p.rob.len());
    }

    /// When a unit of a port takes an operation that is dispatched now.
    #[inline(always)]
    fn unit(&mut self, port: Port, dispatch: V, busy: u32) -> V {
        let free = &mut self.p.ports[port as usize];
        let start = free.max(dispatch);
        *free = start.after(busy);
        start
    }

    #[inline(always)]
    fn plain(&mut self, step: &Step) {
        let dispatch = self.enter(step);
        let start = self.unit(step.port, dispatch, step.busy);
        let done = start.max(self.sources(step)).after(step.latency);
        self.leave(done);
        self.p.dispatch = dispatch;
        self.write(step, done);
    }

    #[inline(always)]
    fn ordered(&mut self, step: &Step) {
        let dispatch = self.enter(step).max(self.p.committed).max(self.p.retire);
        let start = self.unit(step.port, dispatch, step.busy);
        let done = start.max(self.sources(step)).after(step.latency);
        self.leave(done);
        self.p.dispatch = if step.order == Order::All { done } else { dispatch };
        self.write(step, done);
    }

    #[inline(always)]
    fn addresses(&self, step: &Step) -> V {
        let [a, b, c] = step.addresses.map(|register| self.p.file[usize::from(register)]);
        a.max(b).max(c)
    }

    /// One load that hits the first level, or is given the data of a store that may be in the store buffer.
    #[inline(always)]
    fn near_load(&mut self, step: &Step, stored: Option<usize>) {
        let at = self.p.loads_at;
        let dispatch = self.enter(step).max(self.p.loads[at]);
        let unit = self.unit(Port::Load, dispatch, self.s.interval[Port::Load as usize]);
        let mut there = unit.max(self.addresses(step)).after(self.s.level[0]);
        if let Some(data) = stored.and_then(|ring| self.p.stored.get(ring)) {
            there = there.max(data.after(self.s.forward));
        }
        let start = self.unit(step.port, dispatch, step.busy);
        let done = start.max(self.sources(step)).max(there).after(step.latency);
        self.leave(done);
        self.p.loads[at] = self.p.retire;
        self.p.loads_at = next(at, self.p.loads.len());
        self.p.dispatch = dispatch;
        self.write(step, done);
    }

    /// One store to a line that the first level has.
    #[inline(always)]
    fn near_store(&mut self, step: &Step) {
        let at = self.p.stores_at;
        let dispatch = self.enter(step).max(self.p.stores[at]);
        let start = self.unit(step.port, dispatch, step.busy);
        let done = start.max(self.sources(step)).after(step.latency);
        let unit = self.unit(Port::Store, dispatch, self.s.interval[Port::Store as usize]);
        let complete = done.max(unit.max(self.addresses(step)).after(self.s.cycle));
        self.leave(complete);
        self.p.committed = self.p.committed.after(step.first).max(self.p.retire);
        self.p.stores[at] = self.p.committed;
        self.p.stored[at] = complete;
        self.p.stores_at = next(at, self.p.stores.len());
        self.p.dispatch = dispatch;
        self.write(step, done);
    }

    #[inline(always)]
    fn memory(&mut self, step: &Step) {
        let buffered = step.kind != Kind::Iteration;
        let mut dispatch = self.p.dispatch.after(u32::from(step.dispatch));
        if buffered {
            dispatch = dispatch.max(self.p.rob[self.p.rob_at]);
        }
        dispatch = self.room(step, dispatch);
        if step.order == Order::All {
            dispatch = dispatch.max(self.p.committed).max(self.p.retire);
        }
        let mut address = dispatch.max(self.addresses(step));
        if step.order == Order::Stores {
            address = address.max(self.p.committed);
        }
        let batch = self.b;
        let first = step.first as usize;
        let stores_at = first + usize::from(step.loads);
        let loads = batch.references.get(first..stores_at).unwrap_or_default();
        let stores = batch.references.get(stores_at..stores_at + usize::from(step.stores)).unwrap_or_default();

        let retire = self.p.retire.after(if buffered { self.s.retire } else { 0 });
        let mut ready = self.sources(step);
        let mut waiting = retire.max(dispatch);
        for reference in loads {
            let there = self.load(reference, address, dispatch);
            if reference.place != Place::Near || reference.awaited {
                self.blame(reference, there, waiting);
                waiting = waiting.max(there);
            }
            ready = ready.max(there);
        }
        let start = self.unit(step.port, dispatch, step.busy);
        let done = start.max(ready).after(step.latency);
        let mut complete = done;
        for reference in stores {
            let unit = self.unit(Port::Store, dispatch, self.s.interval[Port::Store as usize]);
            let translated = self.translate(reference, unit.max(address));
            complete = complete.max(translated.after(self.s.cycle));
        }
        self.p.retire = retire.max(complete);
        if buffered {
            self.p.rob[self.p.rob_at] = self.p.retire;
            self.p.rob_at = next(self.p.rob_at, self.p.rob.len());
        }
        for _ in loads {
            self.p.loads[self.p.loads_at] = self.p.retire;
            self.p.loads_at = next(self.p.loads_at, self.p.loads.len());
        }
        for reference in stores {
            self.commit(reference, complete);
        }
        self.p.dispatch = if step.order == Order::All { complete } else { dispatch };
        self.write(step, done);
    }

    /// When the load queue and the store buffer have room.
    #[inline(always)]
    fn room(&self, step: &Step, dispatch: V) -> V {
        let mut dispatch = dispatch;
        let mut at = self.p.loads_at;
        for _ in 0..step.loads {
            dispatch = dispatch.max(self.p.loads[at]);
            at = next(at, self.p.loads.len());
        }
        let mut at = self.p.stores_at;
        for _ in 0..step.stores {
            dispatch = dispatch.max(self.p.stores[at]);
            at = next(at, self.p.stores.len());
        }
        dispatch
    }

    #[inline(always)]
    fn translate(&mut self, reference: &Reference, time: V) -> V {
        let walk = usize::from(reference.walk);
        match reference.translation {
            Translation::Near => time,
            Translation::Second => time.after(self.s.stlb),
            Translation::Walk => {
                let done = self.p.walkers.first(time).after(self.s.walk);
                self.p.walkers.occupy_first(done);
                if let Some(ended) = self.p.walks.get_mut(walk) {
                    *ended = done;
                }
                done
            }
            Translation::Awaited => self.p.walks.get(walk).map_or(time, |done| time.max(*done)),
        }
    }

    /// When a load has its data.
    #[inline(always)]
    fn load(&mut self, reference: &Reference, address: V, dispatch: V) -> V {
        let interval = self.s.interval[Port::Load as usize];
        let unit = self.unit(Port::Load, dispatch, if reference.straddles { 2 * interval } else { interval });
        let issued = unit.max(address);
        let time = self.translate(reference, issued);
        let ring = usize::from(reference.ring);
        let there = match reference.place {
            Place::Near | Place::Around if reference.moves == 0 => {
                let there = time.after(self.s.level[0]);
                if reference.awaited { there.max(self.p.arrivals[usize::from(reference.slot)]) } else { there }
            }
            // A store that is in the cache by now was ready long ago, and its load takes as long as from the cache.
            Place::Forwarded => {
                let data = self.p.stored.get(ring).copied().unwrap_or(V::ZERO);
                moves(self.w, self, reference, time, time.after(self.s.level[0]).max(data.after(self.s.forward)))
            }
            Place::Blocked => {
                let cached = self.p.stores.get(ring).copied().unwrap_or(V::ZERO);
                moves(self.w, self, reference, time, time.max(cached.after(self.s.blocked)).after(self.s.level[0]))
            }
            _ => fetch(self.w, self, reference, time),
        };
        if let Some(report) = &mut self.report {
            if matches!(reference.place, Place::Llc | Place::Memory) {
                report.reads.push((issued.0[0], there.0[0]));
            }
            if reference.observed != UNOBSERVED {
                let took = there.0[0].saturating_sub(issued.0[0]);
                report.observations.push(Observation { number: reference.observed, issued: issued.0[0], took });
            }
        }
        there
    }

    /// When a line is in the first-level cache.
    #[inline(always)]
    fn fetch(&mut self, reference: &Reference, time: V) -> V {
        let missed = !matches!(reference.place, Place::Near | Place::Around);
        let start = if missed { self.p.mshrs.first(time) } else { time };
        let mut there = match reference.place {
            Place::L2 => start.after(self.s.level[1]),
            Place::Llc => {
                let there = self.p.superqueue.first(start).after(self.s.level[2]);
                self.p.superqueue.occupy_first(there);
                there
            }
            Place::Memory => line(self.w, self, reference.line, start),
            _ => start.after(self.s.level[0]),
        };
        let slot = usize::from(reference.slot);
        if reference.awaited {
            there = there.max(self.p.arrivals[slot]);
        }
        if reference.moves > 0 {
            there = moves(self.w, self, reference, start, there);
        }
        if missed {
            self.p.mshrs.occupy_first(there);
        }
        if reference.fetched {
            self.p.arrivals[slot] = there;
        }
        there
    }

    /// When a line that is asked for now comes from its tier.
    #[inline(always)]
    fn line(&mut self, line: Line, time: V) -> V {
        let start = self.p.superqueue.first(time);
        let mut own = Own { width: self.w, channels: &mut self.p.channels, base: &self.p.base, found: &self.b.modes };
        let there = self.m.read(&mut own, line, start);
        self.p.superqueue.occupy_first(there);
        there
    }

    /// What moves because of a reference.
    #[inline(always)]
    fn moves(&mut self, reference: &Reference, time: V, there: V) -> V {
        let first = reference.first_move as usize;
        let batch = self.b;
        let mut there = there;
        for moved in batch.moves.get(first..first + usize::from(reference.moves)).unwrap_or_default() {
            match moved.why {
                Why::Ahead(slot) => self.p.arrivals[usize::from(slot)] = line(self.w, self, moved.line, time),
                Why::Half => there = there.max(line(self.w, self, moved.line, time)),
                Why::Back => {
                    let mut own =
                        Own { width: self.w, channels: &mut self.p.channels, base: &self.p.base, found: &self.b.modes };
                    there = there.max(self.m.write(&mut own, moved.line, time));
                }
            }
        }
        there
    }

    /// A store that retires now goes to the cache after those before it.
    #[inline(always)]
    fn commit(&mut self, reference: &Reference, data: V) {
        let retire = self.p.retire;
        let owned = match reference.place {
            Place::Near | Place::Forwarded | Place::Blocked if reference.moves == 0 => {
                if reference.awaited {
                    retire.max(self.p.arrivals[usize::from(reference.slot)])
                } else {
                    retire
                }
            }
            Place::Around if reference.moves == 0 => retire,
            Place::Around => {
                // A full line leaves through a fill buffer, which is busy until the tier has taken it.
                let start = self.p.mshrs.first(retire);
                let there = moves(self.w, self, reference, start, start);
                self.p.mshrs.occupy_first(self.m.accepted(reference.line.object, there));
                there
            }
            _ => fetch(self.w, self, reference, retire),
        };
        let interval = if reference.same_line { self.s.interval[Port::Store as usize] } else { self.s.commit };
        let interval = if reference.straddles { 2 * interval } else { interval };
        self.p.committed = self.p.committed.after(interval).max(owned);
        let at = self.p.stores_at;
        self.p.stores[at] = self.p.committed;
        self.p.stored[at] = data;
        self.p.stores_at = next(at, self.p.stores.len());
    }

    /// Retirement waits for a load from `since` on.
    #[inline(always)]
    fn blame(&mut self, reference: &Reference, there: V, since: V) {
        if let Some(report) = &mut self.report {
            let object = reference.line.object as usize;
            if report.stalls.len() <= object {
                report.stalls.resize(object + 1, 0);
            }
            let waited = u64::from(there.0[0].saturating_sub(since.0[0]));
            if reference.place == Place::Memory || reference.awaited {
                report.memory_stalls += waited;
            }
            if let Some(stalled) = report.stalls.get_mut(object) {
                *stalled += waited;
            }
        }
    }
}
