//! Truths that are known without a model, on programs of a few blocks.

mod lanes;
mod threads;
mod truths;

use super::width::Width;
use super::{Execution, LaneTime, Timing};
use crate::block::{Access, Block, Class, Op, Registers};
use crate::config::{Config, Tier, TierSet};
use crate::machine::{Core, Machine};
use crate::objects::ObjectId;
use crate::outcome::LaneKind;
use crate::served::{Level, Served, Tlb, Traffic, TrafficKind};

pub(super) const RAX: Registers = Registers::general(0);
pub(super) const RBX: Registers = Registers::general(3);
pub(super) const NONE: Registers = Registers::NONE;

pub(super) fn tier(name: &str, read_latency_ns: f64, gbs: f64) -> Tier {
    Tier {
        name: name.into(),
        read_latency_ns,
        sequential_read_latency_ns: None,
        write_latency_ns: None,
        read_bandwidth_gbs: gbs,
        write_bandwidth_gbs: gbs,
        granule_bytes: 64,
        write_buffer_bytes: 0,
    }
}

/// A core of one gigahertz, so that cycles are nanoseconds: 100 of them to fast memory, 300 to slow, bandwidth without end.
pub(super) fn config() -> Config {
    Config {
        machine: Machine { ghz: 1.0, ..Machine::default() },
        tiers: vec![tier("fast", 100.0, 1e6), tier("slow", 300.0, 1e6)],
        sets: vec![TierSet { name: "set".into(), fast: 0, slow: 1, memory_mode_bytes: None }],
        timing: true,
        ..Config::default()
    }
}

pub(super) fn op(class: Class, sources: Registers, destinations: Registers) -> Op {
    Op { class, sources, destinations, ..Op::default() }
}

pub(super) fn load(address: Registers, destinations: Registers) -> Op {
    Op { class: Class::Move, loads: 1, address_sources: address, destinations, ..Op::default() }
}

pub(super) fn store(address: Registers, data: Registers) -> Op {
    Op { class: Class::Move, stores: 1, address_sources: address, sources: data, ..Op::default() }
}

pub(super) fn block(ops: &[Op]) -> Block {
    block_at(0x1000, ops)
}

pub(super) fn block_at(address: u64, ops: &[Op]) -> Block {
    let ops: Box<[Op]> = ops.iter().enumerate().map(|(n, op)| Op { offset: 4 * n as u16, ..*op }).collect();
    Block { address, bytes: 4 * ops.len() as u32, ops, number: 0 }
}

/// An access, and who served it.
#[derive(Clone, Copy)]
pub(super) struct Touch {
    pub(super) op: u16,
    pub(super) address: u64,
    pub(super) store: bool,
    pub(super) level: Level,
    pub(super) object: u32,
}

pub(super) fn touch(op: u16, address: u64, level: Level, object: u32) -> Touch {
    Touch { op, address, store: false, level, object }
}

pub(super) fn put(op: u16, address: u64, level: Level, object: u32) -> Touch {
    Touch { store: true, ..touch(op, address, level, object) }
}

pub(super) fn moved(kind: TrafficKind, access: u32, address: u64, object: u32) -> Traffic {
    Traffic { address, object: ObjectId(object), access, kind }
}

/// A timing to which blocks are fed.
pub(super) struct Lab(pub(super) Timing);

impl Lab {
    pub(super) fn new(config: &Config) -> Self {
        config.check().expect("a valid configuration");
        Self(Timing::new(config))
    }

    pub(super) fn with(config: &Config, width: Width) -> Self {
        Self(Timing::with(config, width))
    }

    pub(super) fn run(&mut self, block: &Block, touches: &[Touch]) {
        self.run_on(0, block, touches, &[]);
    }

    pub(super) fn run_on(&mut self, cpu: usize, block: &Block, touches: &[Touch], traffic: &[Traffic]) {
        let accesses: Vec<Access> =
            touches.iter().map(|t| Access { address: t.address, op: t.op, bytes: 8, store: t.store }).collect();
        let serve =
            |t: &Touch| Served { object: ObjectId(t.object), level: t.level, tlb: Tlb::L1, ..Served::default() };
        let served: Vec<Served> = touches.iter().map(serve).collect();
        self.0.execute(cpu, Execution { block, accesses: &accesses, served: &served, traffic, observed: &[] });
    }

    pub(super) fn lanes(&mut self) -> Vec<LaneTime> {
        self.0.finish()
    }

    /// Cycles of a placement.
    pub(super) fn cycles(&mut self, kind: LaneKind) -> u64 {
        self.lanes().iter().find(|lane| lane.kind == kind).unwrap_or_else(|| panic!("no lane {kind:?}")).cycles
    }

    pub(super) fn fast(&mut self) -> u64 {
        self.cycles(FAST)
    }

    pub(super) fn slow(&mut self) -> u64 {
        self.cycles(SLOW)
    }

    pub(super) fn alone(&mut self, object: u32) -> u64 {
        self.cycles(alone(object))
    }
}

pub(super) const FAST: LaneKind = LaneKind::AllFast { set: 0 };
pub(super) const SLOW: LaneKind = LaneKind::AllSlow { set: 0 };

pub(super) fn alone(object: u32) -> LaneKind {
    LaneKind::ObjectSlow { set: 0, object: ObjectId(object) }
}

#[track_caller]
pub(super) fn near(value: u64, expected: f64, within: f64) {
    let error = value as f64 / expected - 1.0;
    assert!(error.abs() <= within, "{value} is {:+.2} % from {expected}", error * 100.0);
}

/// A machine whose reorder buffer holds so many.
pub(super) fn with_core(change: impl FnOnce(&mut Core)) -> Config {
    let mut config = config();
    change(&mut config.machine.core);
    config
}

/// Numbers that look random, the same each time.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}
