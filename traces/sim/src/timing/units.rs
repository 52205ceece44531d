//! How long operations take and which units they need.
//!
//! Figures are of AMD's Zen 4, and where it differs of Intel's Sunny Cove: `[SOG]` is AMD's "Software Optimization Guide for the AMD Zen4 Microarchitecture" (57647, with its
//! spreadsheet of latencies), `[LLVM]` the scheduling model made from it and from measurements (`X86ScheduleZnver4.td`), `[uops]`
//! the measurements at uops.info (Abel, Reineke, ASPLOS 2019), `[Fog]` his "The microarchitecture of Intel, AMD and VIA CPUs", 2023.
//! Where a latency depends on the operands, it is one of the middle.

use crate::block::Class;
use crate::machine::{Core, Units};

/// Ports: groups of units that start a bounded number of operations in a cycle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Port {
    /// No unit.
    None,
    Integer,
    Multiplier,
    Divider,
    Branch,
    Vector,
    FloatAdd,
    FloatMultiply,
    FloatDivider,
    Shuffle,
    Load,
    Store,
}

/// How many kinds of ports there are.
pub(crate) const PORTS: usize = 12;

/// What a class needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cost {
    pub(crate) port: Port,
    /// Cycles from its start to its result.
    pub(crate) latency: u16,
    /// Cycles for which it keeps one of the units busy: 1 where it is pipelined.
    pub(crate) busy: u16,
}

/// Cycles that a load into a vector register takes longer than one into a general register: 7 instead of 4 on Zen 4 ([SOG] 2.12), 6
/// instead of 5 on Sunny Cove ([uops], MOVAPS).
pub(crate) const fn vector_load_cycles(units: Units) -> u32 {
    match units {
        Units::Zen4 => 3,
        Units::SunnyCove => 1,
    }
}

/// Cycles from a store's data to a load that is given it from the store buffer: 7 or 8 on Zen 4 where it is not renamed away, 5 on
/// Intel's cores since Skylake ([Fog]).
pub(crate) const fn forward_cycles(units: Units) -> u32 {
    match units {
        Units::Zen4 => 7,
        Units::SunnyCove => 5,
    }
}

/// Bytes of a `rep` string instruction in a cycle: what Zen 4 and Golden Cove move within the first-level cache, [uops].
pub(crate) const REPEAT_BYTES: u32 = 32;

/// Operations that the cache of decoded ones gives in a cycle: 9 on Zen 4 ([SOG] 2.9.1), 6 on Sunny Cove ([Fog]). What follows a jump
/// that is taken comes in another cycle, on both.
pub(crate) const fn fetched(units: Units) -> u32 {
    match units {
        Units::Zen4 => 9,
        Units::SunnyCove => 6,
    }
}

/// Whether two stores enter the first-level cache in a cycle only if they are to the same line: so on Ice Lake (Intel's manual, "Ice Lake
/// Client Microarchitecture": "2 stores per cycle" and "only if to the same cache line").
pub(crate) const fn pairs_by_line(units: Units) -> bool {
    matches!(units, Units::SunnyCove)
}

/// Cost of a class.
pub(crate) const fn cost(units: Units, class: Class) -> Cost {
    match units {
        Units::Zen4 => of_zen4(class),
        Units::SunnyCove => of_sunny_cove(class),
    }
}

/// [uops] for Ice Lake, where it is not as Zen 4. Additions and multiplications share two units ([Fog]).
const fn of_sunny_cove(class: Class) -> Cost {
    let (port, latency, busy) = match class {
        Class::Divide => (Port::Divider, 12, 6),
        Class::DivideLong => (Port::Divider, 14, 10),
        Class::FloatAdd | Class::FloatMultiply | Class::FloatFused | Class::Convert => (Port::FloatMultiply, 4, 1),
        Class::FloatDivide => (Port::FloatDivider, 14, 4),
        Class::FloatSqrt => (Port::FloatDivider, 18, 6),
        Class::VectorMultiply => (Port::FloatMultiply, 5, 1),
        _ => return of_zen4(class),
    };
    Cost { port, latency, busy }
}

const fn of_zen4(class: Class) -> Cost {
    let (port, latency, busy) = match class {
        // Handled when renamed ([SOG] 2.9.4); moves to and from memory need only the load and store units.
        Class::Nop | Class::Eliminated | Class::Move | Class::Repeat => (Port::None, 0, 0),
        Class::Integer => (Port::Integer, 1, 1),
        // [LLVM] WriteIMul64Reg.
        Class::Multiply => (Port::Multiplier, 3, 1),
        // [LLVM] WriteDiv32, WriteDiv64: not pipelined.
        Class::Divide => (Port::Divider, 12, 12),
        Class::DivideLong => (Port::Divider, 18, 18),
        // [SOG] 2.11: 3 cycles for additions and multiplications, 4 fused.
        Class::FloatAdd => (Port::FloatAdd, 3, 1),
        Class::FloatMultiply => (Port::FloatMultiply, 3, 1),
        Class::FloatFused => (Port::FloatMultiply, 4, 1),
        // [LLVM] double precision: 13 and 21 cycles, one in 5 and 9.
        Class::FloatDivide => (Port::FloatDivider, 13, 5),
        Class::FloatSqrt => (Port::FloatDivider, 21, 9),
        Class::Convert => (Port::FloatAdd, 4, 1),
        Class::Vector => (Port::Vector, 1, 1),
        Class::VectorMultiply => (Port::FloatMultiply, 3, 1),
        Class::Shuffle => (Port::Shuffle, 1, 1),
        // [uops] VMOVD and VMOVQ: 3 cycles one way.
        Class::Transfer => (Port::Shuffle, 3, 1),
        // [LLVM] x87 additions and multiplications: 7, one in a cycle.
        Class::X87 => (Port::FloatMultiply, 7, 2),
        Class::Cryptographic => (Port::FloatMultiply, 4, 1),
        Class::BranchConditional
        | Class::BranchDirect
        | Class::BranchIndirect
        | Class::CallDirect
        | Class::CallIndirect
        | Class::Return => (Port::Branch, 1, 1),
        // [uops] LOCK ADD m64, r64: 17 or 18 cycles from one to the next, of which 4 are the load and 4 the forwarding.
        Class::Atomic => (Port::Integer, 10, 1),
        Class::Fence => (Port::None, 1, 0),
        // [uops] RDTSCP 38, CPUID above 100; a system call's entry and exit some 100.
        Class::Serialising => (Port::None, 100, 0),
    };
    Cost { port, latency, busy }
}

/// How many classes there are.
pub(crate) const CLASSES: usize = Class::Serialising as usize + 1;

/// All of them.
pub(crate) const ALL_CLASSES: [Class; CLASSES] = [
    Class::Nop,
    Class::Eliminated,
    Class::Move,
    Class::Integer,
    Class::Multiply,
    Class::Divide,
    Class::DivideLong,
    Class::FloatAdd,
    Class::FloatMultiply,
    Class::FloatFused,
    Class::FloatDivide,
    Class::FloatSqrt,
    Class::Convert,
    Class::Vector,
    Class::VectorMultiply,
    Class::Shuffle,
    Class::Transfer,
    Class::X87,
    Class::Cryptographic,
    Class::BranchConditional,
    Class::BranchDirect,
    Class::BranchIndirect,
    Class::CallDirect,
    Class::CallIndirect,
    Class::Return,
    Class::Repeat,
    Class::Atomic,
    Class::Fence,
    Class::Serialising,
];

/// Units behind each port of a core.
pub(crate) fn units(core: &Core, port: Port) -> u32 {
    // [SOG] 2.10, 2.11: of four vector pipes two add, two multiply and two shuffle; one multiplies integers; two take branches.
    // Sunny Cove: two of three multiply and two shuffle ([Fog]).
    let half = core.vector_ports.div_ceil(2);
    match port {
        Port::None | Port::Multiplier | Port::Divider | Port::FloatDivider => 1,
        Port::Integer => core.integer_ports,
        Port::Branch => 2,
        Port::Vector => core.vector_ports,
        Port::FloatAdd | Port::FloatMultiply | Port::Shuffle => half,
        Port::Load => core.load_ports,
        Port::Store => core.store_ports,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dividers_are_not_pipelined_and_multipliers_are() {
        let divide = cost(Units::Zen4, Class::Divide);
        assert_eq!(divide.latency, divide.busy);
        for units in [Units::Zen4, Units::SunnyCove] {
            assert!(cost(units, Class::DivideLong).busy > 4);
            assert_eq!((cost(units, Class::Multiply).latency, cost(units, Class::Multiply).busy), (3, 1));
        }
    }

    #[test]
    fn classes_are_listed_in_their_order() {
        assert!(ALL_CLASSES.iter().enumerate().all(|(n, class)| *class as usize == n));
    }

    #[test]
    fn every_port_has_a_unit() {
        let tiny = Core { vector_ports: 1, ..Core::default() };
        for port in [Port::None, Port::Vector, Port::FloatAdd, Port::Branch, Port::Load, Port::Store, Port::Divider] {
            assert!(units(&tiny, port) >= 1);
        }
    }
}
