//! Time in ticks: fractions of a cycle fine enough that a core's widths divide one.
//!
//! With six operations dispatched in a cycle, one takes a sixth; the model lets each begin a sixth of a cycle after the one before
//! instead of counting to six and waiting. On average that is the same, and it needs no counter in any lane.

use super::units::{PORTS, Port, cost, fetched, forward_cycles, pairs_by_line, units, vector_load_cycles};
use crate::block::Class;
use crate::machine::{Machine, Units};

/// Ticks of a cycle, where the widths of a core have no smaller common multiple.
const MOST_TICKS: u32 = 48;

/// A machine's core and caches, in ticks.
#[derive(Debug, Clone)]
pub(crate) struct Scale {
    /// Ticks of a cycle.
    pub(crate) cycle: u32,
    /// Ticks of a nanosecond.
    pub(crate) nanosecond: f64,
    /// Ticks between two operations dispatched.
    pub(crate) dispatch: u32,
    /// Operations fetched in a cycle.
    pub(crate) fetched: u32,
    /// Ticks between two operations retired.
    pub(crate) retire: u32,
    /// Ticks between two starts on a port, by port.
    pub(crate) interval: [u32; PORTS],
    /// Ticks between two stores that enter the cache, if they are to different lines.
    pub(crate) commit: u32,
    /// Ticks until a load has its data, by the level that served it; the last is unused: tiers know.
    pub(crate) level: [u32; 4],
    /// Ticks that a hit in the second-level TLB, and a page walk, add.
    pub(crate) stlb: u32,
    pub(crate) walk: u32,
    /// Ticks that a load into a vector register takes longer.
    pub(crate) vector_load: u32,
    /// Ticks from a store's data to a load that is given it.
    pub(crate) forward: u32,
    /// Ticks that a load waits after a store it can only partly be given has reached the cache.
    pub(crate) blocked: u32,
    /// Ticks from a mispredicted branch's execution to the next operation.
    pub(crate) mispredict: u32,
    /// Sizes of queues.
    pub(crate) rob: usize,
    pub(crate) load_queue: usize,
    pub(crate) store_buffer: usize,
    pub(crate) mshrs: usize,
    pub(crate) superqueue: usize,
    pub(crate) walkers: usize,
    /// Whose units they are.
    pub(crate) units: Units,
    /// Longest an operation can take without its references, and one reference without memory, in ticks.
    pub(crate) worst_operation: u32,
    pub(crate) worst_reference: u32,
}

/// Cycles that are lost when a load overlaps a store but is not inside it, after the store reached the cache (Fog, "The
/// microarchitecture of Intel, AMD and VIA CPUs", 2023: 13 to 14 in all).
const BLOCKED_CYCLES: u32 = 8;

impl Scale {
    pub(crate) fn new(machine: &Machine) -> Self {
        let core = &machine.core;
        let widths = [core.issue_width, core.retire_width, core.load_ports, core.store_ports, core.integer_ports];
        let cycle = widths.into_iter().fold(1, |all, width| {
            let both = all / gcd(all, width) * width;
            if both <= MOST_TICKS { both } else { all }
        });
        let share = |count: u32| ((cycle + count / 2) / count.max(1)).max(1);
        let ports = [
            Port::None,
            Port::Integer,
            Port::Multiplier,
            Port::Divider,
            Port::Branch,
            Port::Vector,
            Port::FloatAdd,
            Port::FloatMultiply,
            Port::FloatDivider,
            Port::Shuffle,
            Port::Load,
            Port::Store,
        ];
        let mut interval = [0; PORTS];
        for port in ports.into_iter().skip(1) {
            interval[port as usize] = share(units(core, port));
        }
        let l2 = machine.l2.as_ref().map_or(machine.l1d.latency_cycles, |l2| l2.latency_cycles);
        let level = [machine.l1d.latency_cycles, l2, machine.llc.latency_cycles, machine.llc.latency_cycles];
        let stlb = machine.stlb.as_ref().map_or(0, |stlb| stlb.latency_cycles);
        let longest = level.into_iter().fold(0, u32::max);
        Self {
            cycle,
            nanosecond: machine.ghz * f64::from(cycle),
            dispatch: share(core.issue_width),
            fetched: fetched(core.units),
            retire: share(core.retire_width),
            interval,
            commit: if pairs_by_line(core.units) { cycle } else { interval[Port::Store as usize] },
            level: level.map(|cycles| cycles * cycle),
            stlb: stlb * cycle,
            walk: (stlb + machine.walk_cycles) * cycle,
            vector_load: vector_load_cycles(core.units) * cycle,
            forward: forward_cycles(core.units) * cycle,
            blocked: BLOCKED_CYCLES * cycle,
            mispredict: core.mispredict_cycles * cycle,
            rob: core.rob as usize,
            load_queue: core.load_queue as usize,
            store_buffer: core.store_buffer as usize,
            mshrs: core.mshrs as usize,
            superqueue: core.llc_mshrs as usize,
            walkers: core.walkers as usize,
            units: core.units,
            worst_operation: (u32::from(cost(core.units, Class::Serialising).latency) + core.mispredict_cycles + 4)
                * cycle,
            worst_reference: (longest + stlb + machine.walk_cycles + forward_cycles(core.units) + BLOCKED_CYCLES + 4)
                * cycle,
        }
    }

    /// Ticks in cycles, rounded to the nearest.
    pub(crate) fn cycles(&self, ticks: u64) -> u64 {
        (ticks + u64::from(self.cycle / 2)) / u64::from(self.cycle)
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Core;

    #[test]
    fn widths_divide_a_cycle() {
        let scale = Scale::new(&Machine::default());
        assert_eq!((scale.cycle, scale.dispatch, scale.retire), (24, 4, 3));
        assert_eq!((scale.interval[Port::Load as usize], scale.interval[Port::Integer as usize]), (8, 6));
        assert_eq!(scale.level, [96, 336, 1200, 1200]);
    }

    #[test]
    fn any_core_has_ticks() {
        let core = Core { issue_width: 7, retire_width: 11, load_ports: 13, store_ports: 64, ..Core::default() };
        let scale = Scale::new(&Machine { core, ..Machine::default() });
        assert!(scale.cycle <= MOST_TICKS && scale.dispatch >= 1 && scale.retire >= 1);
        assert!(scale.interval[Port::Store as usize] >= 1);
    }
}
