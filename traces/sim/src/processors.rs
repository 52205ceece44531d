//! Processors whose figures are known: what a model of this machine starts from.
//!
//! * `[OPT]` Intel, "64 and IA-32 Architectures Optimization Reference Manual" (248966), "Ice Lake Client Microarchitecture".
//! * `[uops]` Abel and Reineke, uops.info, Ice Lake.
//! * `[Fog]` Fog, "The microarchitecture of Intel, AMD and VIA CPUs", 2023, "Ice Lake and Tiger Lake".

use crate::machine::{Core, Machine, Prefetch, Translations, Units};

impl Core {
    /// Intel's Sunny Cove, the core of Ice Lake (2019; servers 2021).
    pub fn sunny_cove() -> Self {
        Self {
            // [OPT] Reorder buffer of 352, 5 allocated in a cycle; [Fog] 8 retired.
            rob: 352,
            issue_width: 5,
            retire_width: 8,
            // [OPT] 97 in the scheduler of the ALUs, 70 and 38 in those of addresses and stores.
            scheduler: 205,
            // [OPT] Four ports with integer units, three with vector units.
            integer_ports: 4,
            vector_ports: 3,
            // [OPT] Two loads, two stores in a cycle; 128 loads, 72 stores in flight.
            load_ports: 2,
            store_ports: 2,
            load_queue: 128,
            store_buffer: 72,
            // [OPT] 12 fill buffers of Skylake's core, of which no change is said; 48 requests between second-level cache and mesh.
            mshrs: 12,
            llc_mshrs: 48,
            // [Fog] 15 to 20 cycles.
            mispredict_cycles: 17,
            // [OPT] Two page miss handlers since Broadwell.
            walkers: 2,
            units: Units::SunnyCove,
        }
    }
}

impl Machine {
    /// The machine around a processor as `/proc/cpuinfo` names it (`vendor_id`, `cpu family`, `model`): its core and TLBs, and latencies
    /// of its caches. None for one of which nothing is known here. Sizes of caches are those of some such processor.
    pub fn of_processor(vendor: &str, family: u32, model: u32) -> Option<Self> {
        match (vendor, family, model) {
            ("GenuineIntel", 6, 0x6a | 0x6c) => Some(Self::ice_lake_server()),
            ("AuthenticAMD", 0x19, 0x10..=0x1f | 0x60..=0x7f | 0xa0..=0xaf) => Some(Self::default()),
            _ => None,
        }
    }

    /// A third-generation Xeon (Ice Lake-SP).
    fn ice_lake_server() -> Self {
        let mut machine = Self { core: Core::sunny_cove(), ghz: 3.4, ..Self::default() };
        // [OPT] 48 KiB of 12 ways, 5 cycles; 1.25 MiB of 20 ways, 14 cycles; 1.5 MiB of last level for each core, 12 ways. Latency
        // of that through the mesh: 85 to 95 cycles, measured by scripts/bench-timing on one at 3.4 GHz.
        (machine.l1d.bytes, machine.l1d.ways, machine.l1d.latency_cycles) = (48 << 10, 12, 5);
        if let Some(l2) = &mut machine.l2 {
            (l2.bytes, l2.ways, l2.latency_cycles, l2.inclusive) = (1280 << 10, 20, 14, false);
        }
        (machine.llc.bytes, machine.llc.ways, machine.llc.latency_cycles) = (48 << 20, 12, 87);
        // [OPT] 64 entries of 4 ways for loads, 2048 of 16 ways behind them; 7 cycles more as on Skylake ([Fog]).
        machine.dtlb = Some(Translations { entries: 64, ways: 4, latency_cycles: 0 });
        machine.stlb = Some(Translations { entries: 2048, ways: 16, latency_cycles: 7 });
        // [OPT] The stride prefetcher of the first level asks for the next step; the streamer is in `streamer.rs`. Two loads of a line one
        // after the other set the next-line prefetcher off in one of five cases only (measured by scripts/bench-timing.d/prefetchers.c),
        // and never stores: it is left out, as is the spatial one, which did nothing.
        machine.prefetch = Prefetch { next_line: false, stride: true, stride_degree: 1, streams: 64 };
        machine
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_that_are_known_can_be_modelled() {
        for (vendor, family, model) in [("GenuineIntel", 6, 106), ("AuthenticAMD", 25, 17)] {
            let machine = Machine::of_processor(vendor, family, model).expect("known");
            assert!(machine.check().is_ok(), "{vendor} {family} {model}");
        }
        assert!(Machine::of_processor("GenuineIntel", 6, 1).is_none());
    }
}
