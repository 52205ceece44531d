//! What a simulation found.

use crate::counts::{Counts, Totals};
use crate::event::{Frame, Mark};
use crate::objects::{ObjectId, ObjectKey};
use crate::served::{Level, Tlb};
use serde::{Deserialize, Serialize};

/// What a lane evaluates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LaneKind {
    /// Everything in the fast tier of a set.
    AllFast {
        /// Index in [`crate::Config::sets`].
        set: u16,
    },
    /// Everything in its slow tier.
    AllSlow {
        /// Index of the set.
        set: u16,
    },
    /// One object in the slow tier, the rest in the fast one.
    ObjectSlow {
        /// Index of the set.
        set: u16,
        /// The object.
        object: ObjectId,
    },
    /// The fast tier as a cache in front of the slow one.
    MemoryMode {
        /// Index of the set.
        set: u16,
    },
    /// A placement.
    Placement {
        /// Index in [`crate::Config::placements`].
        placement: u16,
    },
}

/// How long the run takes under one placement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Lane {
    /// For people.
    pub name: String,
    /// What it evaluates.
    pub kind: LaneKind,
    /// Cycles of the counted part: from its start to the end of its last thread.
    pub cycles: u64,
    /// Half of the width of a 95 % interval around `cycles`, where only windows were timed.
    pub half_interval_cycles: Option<f64>,
    /// Half of the width of a 95 % interval around the difference to the all-fast lane of its set, of the same windows: divided by
    /// that lane's cycles, the interval of a criticality.
    #[serde(default)]
    pub half_difference_cycles: Option<f64>,
    /// Instructions counted after which its object last reached memory without a lane, as others had more claim to it: what it
    /// would have cost then is not in its cycles.
    pub closed_at: Option<u64>,
}

/// A stretch of the counted part, and what counters of the cores say of it, with everything in the fast tier of the first set. They are those
/// from which Soar (OSDI'25) computes how far misses overlap. All cores together; where only windows were timed, of the instructions
/// that were.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Stretch {
    /// When it ended, on the clock of [`Sample::time`]; it began when the one before ended.
    pub until: u64,
    /// Cycles in which cores ran.
    pub cycles: u64,
    /// Loads that left the private caches (`OFFCORE_REQUESTS.DEMAND_DATA_RD`).
    pub reads: u64,
    /// Cycles in which such a load of a core was outstanding (`OFFCORE_REQUESTS_OUTSTANDING.CYCLES_WITH_DEMAND_DATA_RD`).
    pub read_cycles: u64,
    /// Cycles in which the oldest instruction waited for a line from memory (`CYCLE_ACTIVITY.STALLS_L3_MISS`).
    pub stall_cycles: u64,
}

/// A module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Module {
    /// Path.
    pub path: String,
    /// Build-id, lower-case hex.
    pub build_id: Option<String>,
    /// First mapped address, of the last time it was mapped.
    pub start: u64,
    /// One past the last mapped address.
    pub end: u64,
    /// What is added to an ELF address to get a mapped one.
    pub bias: u64,
}

/// A site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Site {
    /// Its identity, equal between runs.
    pub site: u64,
    /// Innermost first.
    pub frames: Vec<Frame>,
}

/// An object and what it cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Object {
    /// Its number in this run.
    pub object: ObjectId,
    /// What makes it one.
    pub key: ObjectKey,
    /// What it is called in any run of the same program.
    pub identity: u64,
    /// Symbol, path, or name of the mapping; empty for heap objects.
    pub name: String,
    /// First address when it was first seen; the ELF address of a global; 0 for heap objects.
    pub start: u64,
    /// The kernel's number of the thread of a stack.
    pub tid: Option<u32>,
    /// Size of a global, stack or mapping; the largest block of a heap object.
    pub bytes: u64,
    /// Blocks it had in all; 1 for what is not allocated.
    pub allocations: u64,
    /// Most bytes it had at the same time.
    pub live_bytes_max: u64,
    /// Instructions executed before it was first seen.
    pub first_seen: u64,
    /// What was counted.
    pub counts: Counts,
}

/// Threads, one for each that started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Thread {
    /// The kernel's number of it.
    pub tid: u32,
    /// Instructions it executed.
    pub instructions: u64,
}

/// What is not exact, and how much of it there was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Approximations {
    /// Events that made no sense and were passed over.
    pub senseless_events: u64,
    /// Frees of blocks that were not known.
    pub unknown_frees: u64,
    /// Blocks whose end was not announced: another was put over them.
    pub overwritten_blocks: u64,
    /// Objects beyond those that fit into the table; their accesses count as in no object.
    pub objects_without_room: u64,
    /// Lanes given up for others.
    pub closed_lanes: u64,
    /// Accesses that named an instruction their block does not have.
    pub senseless_accesses: u64,
}

/// Everything.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Outcome {
    /// Counts of the whole run.
    pub totals: Totals,
    /// Counts of accesses in no object.
    pub unattributed: Counts,
    /// Placements and their times; empty without timing. The first is the all-fast lane of the first set.
    pub lanes: Vec<Lane>,
    /// What counters of the cores say of one stretch after the other; empty without timing.
    #[serde(default)]
    pub stretches: Vec<Stretch>,
    /// Modules, by their number.
    pub modules: Vec<Module>,
    /// Sites, as they were first seen.
    pub sites: Vec<Site>,
    /// Objects; the one of number n is at n - 1.
    pub objects: Vec<Object>,
    /// Threads, as they started.
    pub threads: Vec<Thread>,
    /// Marks, in order.
    pub marks: Vec<Mark>,
    /// What is not exact.
    pub approximations: Approximations,
}

/// Bytes of an encoded [`Sample`] or [`Allocation`].
pub const ROW_BYTES: usize = 48;

/// A load that missed the last-level cache, as a PMU would have sampled it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sample {
    /// Cycles of the all-fast lane, where those between windows are taken to be as fast as the window before; instructions of all threads,
    /// without timing.
    pub time: u64,
    /// The instruction.
    pub ip: u64,
    /// What it accessed.
    pub address: u64,
    /// The object there.
    pub object: ObjectId,
    /// The kernel's number of the thread.
    pub tid: u32,
    /// Cycles from its issue until its data could be used; without timing 0.
    pub latency: u32,
    /// How many loads it stands for.
    pub weight: u32,
    /// Number of the thread among those of the simulation.
    pub cpu: u16,
    /// What served it.
    pub level: Level,
    /// Where its translation came from.
    pub tlb: Tlb,
}

/// A block, written when it dies or when the simulation ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Allocation {
    /// First byte.
    pub address: u64,
    /// Size asked for.
    pub bytes: u64,
    /// Its site.
    pub site: u64,
    /// When it was allocated, on the clock of [`Sample::time`].
    pub time: u64,
    /// When it was freed; `u64::MAX` when it was live at the end.
    pub freed: u64,
    /// Its object.
    pub object: ObjectId,
    /// The kernel's number of the thread that allocated it.
    pub tid: u32,
}

/// Little-endian fields in order, into and out of a row.
struct Row {
    bytes: [u8; ROW_BYTES],
    at: usize,
}

impl Row {
    fn put<const N: usize>(&mut self, field: [u8; N]) -> &mut Self {
        if let Some(room) = self.bytes.get_mut(self.at..self.at + N) {
            room.copy_from_slice(&field);
        }
        self.at += N;
        self
    }

    fn get<const N: usize>(&mut self) -> [u8; N] {
        let field = self.bytes.get(self.at..self.at + N).and_then(|field| field.try_into().ok()).unwrap_or([0; N]);
        self.at += N;
        field
    }
}

impl Sample {
    /// Its bytes in a file: the fields in order, little-endian, then zeros.
    pub fn to_bytes(&self) -> [u8; ROW_BYTES] {
        let mut row = Row { bytes: [0; ROW_BYTES], at: 0 };
        row.put(self.time.to_le_bytes()).put(self.ip.to_le_bytes()).put(self.address.to_le_bytes());
        row.put(self.object.0.to_le_bytes()).put(self.tid.to_le_bytes()).put(self.latency.to_le_bytes());
        row.put(self.weight.to_le_bytes()).put(self.cpu.to_le_bytes()).put([self.level as u8, self.tlb as u8]);
        row.bytes
    }

    /// A sample from its bytes; None where a level or a TLB is none.
    pub fn from_bytes(bytes: &[u8; ROW_BYTES]) -> Option<Self> {
        let mut row = Row { bytes: *bytes, at: 0 };
        Some(Self {
            time: u64::from_le_bytes(row.get()),
            ip: u64::from_le_bytes(row.get()),
            address: u64::from_le_bytes(row.get()),
            object: ObjectId(u32::from_le_bytes(row.get())),
            tid: u32::from_le_bytes(row.get()),
            latency: u32::from_le_bytes(row.get()),
            weight: u32::from_le_bytes(row.get()),
            cpu: u16::from_le_bytes(row.get()),
            level: match row.get() {
                [0] => Level::L1,
                [1] => Level::L2,
                [2] => Level::Llc,
                [3] => Level::Memory,
                _ => return None,
            },
            tlb: match row.get() {
                [0] => Tlb::L1,
                [1] => Tlb::L2,
                [2] => Tlb::Walk,
                _ => return None,
            },
        })
    }
}

impl Allocation {
    /// Its bytes in a file: the fields in order, little-endian.
    pub fn to_bytes(&self) -> [u8; ROW_BYTES] {
        let mut row = Row { bytes: [0; ROW_BYTES], at: 0 };
        row.put(self.address.to_le_bytes()).put(self.bytes.to_le_bytes()).put(self.site.to_le_bytes());
        row.put(self.time.to_le_bytes()).put(self.freed.to_le_bytes());
        row.put(self.object.0.to_le_bytes()).put(self.tid.to_le_bytes());
        row.bytes
    }

    /// An allocation from its bytes.
    pub fn from_bytes(bytes: &[u8; ROW_BYTES]) -> Self {
        let mut row = Row { bytes: *bytes, at: 0 };
        Self {
            address: u64::from_le_bytes(row.get()),
            bytes: u64::from_le_bytes(row.get()),
            site: u64::from_le_bytes(row.get()),
            time: u64::from_le_bytes(row.get()),
            freed: u64::from_le_bytes(row.get()),
            object: ObjectId(u32::from_le_bytes(row.get())),
            tid: u32::from_le_bytes(row.get()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rows_survive_a_file(time: u64, ip: u64, address: u64, object: u32, tid: u32, latency: u32, cpu: u16) {
            let object = ObjectId(object);
            let (level, tlb) = (Level::Memory, Tlb::Walk);
            let weight = !latency;
            let sample = Sample { time, ip, address, object, tid, latency, weight, cpu, level, tlb };
            prop_assert_eq!(Sample::from_bytes(&sample.to_bytes()), Some(sample));
            let allocation = Allocation { address, bytes: ip, site: !ip, time, freed: !time, object, tid };
            prop_assert_eq!(Allocation::from_bytes(&allocation.to_bytes()), allocation);
        }

        #[test]
        fn any_bytes_are_a_sample_or_none(bytes: [u8; 32], rest: [u8; 16]) {
            let mut row = [0; ROW_BYTES];
            row[..32].copy_from_slice(&bytes);
            row[32..].copy_from_slice(&rest);
            let valid = row[42] <= 3 && row[43] <= 2;
            prop_assert_eq!(Sample::from_bytes(&row).is_some(), valid);
        }
    }
}
