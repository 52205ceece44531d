//! Programs for the simulator, and a slow model of what it does.

pub(crate) mod model;

use proptest::prelude::*;
use tierscope_sim::machine::{Cache, PageSize, Prefetch, Translations};
use tierscope_sim::{Access, Block, Config, Event, Machine, Op, Outcome, Simulator};

/// A small machine without prefetchers: first level of 8 lines, last of 64.
pub(crate) fn small() -> Machine {
    let cache = |bytes, ways, latency_cycles| Cache { bytes, ways, latency_cycles, ..Machine::default().llc };
    Machine {
        cores: 4,
        l1i: None,
        l1d: cache(8 * 64, 2, 4),
        l2: None,
        llc: cache(64 * 64, 4, 50),
        dtlb: Some(Translations { entries: 16, ways: 16, latency_cycles: 0 }),
        stlb: None,
        page: PageSize::Small,
        prefetch: Prefetch::OFF,
        ..Machine::default()
    }
}

/// A second level of 16 lines.
pub(crate) fn second_level(inclusive: bool) -> Option<Cache> {
    Some(Cache { bytes: 16 * 64, ways: 2, latency_cycles: 14, inclusive, ..Machine::default().llc })
}

/// No prefetchers, those of the default machine, and those of one with a streamer.
pub(crate) fn prefetchers() -> impl Strategy<Value = Prefetch> {
    let intel = Machine::of_processor("GenuineIntel", 6, 106).expect("known").prefetch;
    prop_oneof![Just(Prefetch::OFF), Just(Machine::default().prefetch), Just(intel)]
}

/// A simulator that is fed one access at a time, each by an instruction of its own.
pub(crate) struct Machinery {
    pub(crate) simulator: Simulator,
    block: Block,
}

impl Machinery {
    pub(crate) fn new(machine: Machine) -> Self {
        Self::of(&Config { machine, ..Config::default() })
    }

    pub(crate) fn of(config: &Config) -> Self {
        let ops = (0..64).map(|n| Op { offset: n * 4, non_temporal: n == 63, ..Op::default() });
        let block = Block { address: 0x40_0000, bytes: 256, ops: ops.collect(), number: 0 };
        Self { simulator: Simulator::new(config).expect("a valid configuration"), block }
    }

    pub(crate) fn access(&mut self, cpu: u16, op: u16, address: u64, bytes: u8, store: bool) {
        let _ = self.simulator.execute(cpu, &self.block, &[Access { address, op, bytes, store }]);
    }

    pub(crate) fn load(&mut self, address: u64) {
        self.access(0, 0, address, 8, false);
    }

    pub(crate) fn store(&mut self, address: u64) {
        self.access(0, 1, address, 8, true);
    }

    pub(crate) fn allocate(&mut self, address: u64, bytes: u64, site: u64) {
        self.simulator.event(0, Event::Allocated { address, bytes, site });
    }

    pub(crate) fn free(&mut self, address: u64) {
        self.simulator.event(0, Event::Freed { address });
    }

    pub(crate) fn finish(self) -> Outcome {
        self.simulator.finish()
    }
}
