//! Registers, queues and buffers of one core, in sixteen lanes.
//!
//! Times are ticks since an epoch that each lane has for itself. When they might no longer fit into 32 bits, the epoch moves up to
//! shortly before the lane's last dispatch. Whatever was earlier becomes "at the epoch", which is still before anything
//! that is to come: an operation starts when it is dispatched or later, so how long something has been free does not matter.
//! Therefore moving it changes no result, and lanes may do it at different times.

use super::memory::GroupTier;
use super::scale::Scale;
use super::servers::{Channels, Servers};
use super::step::File;
use super::units::PORTS;
use super::vector::{V, WIDTH};

/// Lines whose arrival is remembered.
pub(crate) const SLOTS: usize = 1024;

/// Page walks whose end is remembered.
pub(crate) const WALKS: usize = 64;

/// Ticks that are kept before the last dispatch when the epoch moves: more than any step between two operations.
const KEPT: u32 = 1 << 12;

/// Times of one core in the lanes of a group.
#[derive(Debug, Clone)]
pub(crate) struct Pipeline {
    /// Ticks of each lane's epoch since the start.
    pub(crate) base: [u64; WIDTH],
    /// When each register is ready.
    pub(crate) file: Box<File>,
    /// When the last operation was dispatched, when it retired, and when the last store reached the cache.
    pub(crate) dispatch: V,
    pub(crate) retire: V,
    pub(crate) committed: V,
    /// When each port is next free.
    pub(crate) ports: [V; PORTS],
    /// When the last operations retired: as many as the reorder buffer holds.
    pub(crate) rob: Vec<V>,
    pub(crate) rob_at: usize,
    /// The same for loads.
    pub(crate) loads: Vec<V>,
    pub(crate) loads_at: usize,
    /// When the last stores reached the cache, and when their data was there: as many as the store buffer holds.
    pub(crate) stores: Vec<V>,
    pub(crate) stored: Vec<V>,
    pub(crate) stores_at: usize,
    /// Fill buffers of the first-level cache, lines a core may wait for beyond its last private one, page walkers.
    pub(crate) mshrs: Servers,
    pub(crate) superqueue: Servers,
    pub(crate) walkers: Servers,
    /// When lines fetched are there.
    pub(crate) arrivals: Vec<V>,
    /// When page walks are done.
    pub(crate) walks: Vec<V>,
    /// Channels of each tier.
    pub(crate) channels: Vec<Channels>,
    /// No time is later.
    horizon: u64,
}

impl Pipeline {
    pub(crate) fn new(scale: &Scale, tiers: usize, base: [u64; WIDTH]) -> Self {
        Self {
            base,
            file: Box::new([V::ZERO; 256]),
            dispatch: V::ZERO,
            retire: V::ZERO,
            committed: V::ZERO,
            ports: [V::ZERO; PORTS],
            rob: vec![V::ZERO; scale.rob],
            rob_at: 0,
            loads: vec![V::ZERO; scale.load_queue],
            loads_at: 0,
            stores: vec![V::ZERO; scale.store_buffer],
            stored: vec![V::ZERO; scale.store_buffer],
            stores_at: 0,
            mshrs: Servers::new(scale.mshrs),
            superqueue: Servers::new(scale.superqueue),
            walkers: Servers::new(scale.walkers),
            arrivals: vec![V::ZERO; SLOTS],
            walks: vec![V::ZERO; WALKS],
            channels: (0..tiers).map(|_| GroupTier::channels()).collect(),
            horizon: 0,
        }
    }

    /// Every time there is.
    fn times(&mut self) -> impl Iterator<Item = &mut V> {
        let single = [&mut self.dispatch, &mut self.retire, &mut self.committed].into_iter();
        let queues = self.rob.iter_mut().chain(&mut self.loads).chain(&mut self.stores).chain(&mut self.stored);
        let servers = self.mshrs.times().chain(self.superqueue.times()).chain(self.walkers.times());
        let channels = self.channels.iter_mut().flat_map(Channels::times);
        // Registers beyond the ones a step can name stay zero.
        let registers = self.file.iter_mut().take(64);
        single
            .chain(registers)
            .chain(&mut self.ports)
            .chain(queues)
            .chain(servers)
            .chain(channels)
            .chain(&mut self.arrivals)
            .chain(&mut self.walks)
    }

    /// Makes sure that times may grow by so many ticks.
    pub(crate) fn make_room(&mut self, ticks: u64) {
        if self.horizon + ticks > u64::from(u32::MAX) {
            self.move_epoch();
        }
        self.horizon += ticks;
    }

    pub(crate) fn move_epoch(&mut self) {
        let span = self.dispatch.less(V::splat(KEPT));
        let mut latest = 0;
        for time in self.times() {
            *time = time.less(span);
            latest = latest.max(time.largest());
        }
        for (base, span) in self.base.iter_mut().zip(span.0) {
            *base += u64::from(span);
        }
        self.horizon = u64::from(latest);
    }

    /// Ticks since the start until the last operation retired.
    pub(crate) fn clock(&self, lane: usize) -> u64 {
        self.base[lane] + u64::from(self.retire.0[lane])
    }

    /// The core has nothing to do until then.
    pub(crate) fn wait_until(&mut self, lane: usize, clock: u64) {
        self.base[lane] += clock.saturating_sub(self.clock(lane));
    }

    /// All of one lane.
    pub(crate) fn lane(&mut self, lane: usize) -> (u64, Vec<u32>) {
        (self.base[lane], self.times().map(|time| time.0[lane]).collect())
    }

    /// Makes one lane what another was, of a pipeline of the same core.
    pub(crate) fn set_lane(&mut self, lane: usize, (base, times): &(u64, Vec<u32>)) {
        self.base[lane] = *base;
        let mut latest = 0;
        for (time, value) in self.times().zip(times) {
            time.0[lane] = *value;
            latest = latest.max(*value);
        }
        self.horizon = self.horizon.max(u64::from(latest));
    }
}
