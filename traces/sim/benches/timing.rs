//! How fast the timing model is: operations a second with sixteen lanes, for three loops. `cargo bench -p tierscope-sim --bench timing`.
//!
//! The best of many short stretches is what the model can do; the mean beside it is what the machine let it have.

use std::time::Instant;

use tierscope_sim::timing::{Execution, Timing};
use tierscope_sim::{
    Access, Block, Class, Config, Level, ObjectId, Op, Registers, Served, Tier, TierSet, Tlb, Traffic, TrafficKind,
};

const OBJECTS: u32 = 14;
const SECONDS: f64 = 1.0;

/// A block, and what its executions touch: one entry after the other, again and again.
struct Loop {
    name: &'static str,
    block: Block,
    executions: Vec<Executed>,
}

/// Accesses, how they were served, and what moved besides.
type Executed = (Vec<Access>, Vec<Served>, Vec<Traffic>);

fn tier(name: &str, latency: f64, gbs: f64) -> Tier {
    Tier {
        name: name.into(),
        read_latency_ns: latency,
        sequential_read_latency_ns: None,
        write_latency_ns: None,
        read_bandwidth_gbs: gbs,
        write_bandwidth_gbs: gbs,
        granule_bytes: 64,
        write_buffer_bytes: 0,
    }
}

fn config() -> Config {
    Config {
        tiers: vec![tier("ddr5", 111.0, 218.0), tier("cxl", 271.0, 26.0)],
        sets: vec![TierSet { name: "cxl".into(), fast: 0, slow: 1, memory_mode_bytes: None }],
        timing: true,
        ..Config::default()
    }
}

fn op(class: Class, sources: &[u8], destination: u8) -> Op {
    let sources = sources.iter().fold(Registers::NONE, |set, register| set | Registers::general(*register));
    let destinations = Registers::general(destination) | Registers::FLAGS;
    Op { class, sources, destinations, ..Op::default() }
}

fn load(address: u8, destination: u8) -> Op {
    let (address_sources, destinations) = (Registers::general(address), Registers::general(destination));
    Op { class: Class::Move, loads: 1, address_sources, destinations, ..Op::default() }
}

fn block(mut ops: Vec<Op>) -> Block {
    ops.push(Op { class: Class::BranchConditional, sources: Registers::FLAGS, ..Op::default() });
    let ops: Box<[Op]> = ops.into_iter().enumerate().map(|(n, op)| Op { offset: 4 * n as u16, ..op }).collect();
    Block { address: 0x1000, bytes: 4 * ops.len() as u32, ops, number: 1 }
}

fn access(op: u16, address: u64) -> Access {
    Access { address, op, bytes: 8, store: false }
}

fn served(object: u32, level: Level) -> Served {
    Served { object: ObjectId(object), level, tlb: Tlb::L1, ..Served::default() }
}

fn loops() -> Vec<Loop> {
    let work = vec![
        load(3, 0),
        op(Class::Integer, &[0, 1], 1),
        op(Class::Integer, &[1, 2], 2),
        op(Class::Multiply, &[0, 2], 5),
        op(Class::Integer, &[5, 6], 6),
        op(Class::Integer, &[3], 3),
        op(Class::Integer, &[3, 7], 8),
    ];
    let near = (0..2048u64).map(|n| (vec![access(0, 0x10_0000 + n % 512 * 8)], vec![served(1, Level::L1)], vec![]));
    // Eight words of each line; the line eight ahead is prefetched.
    let stream = (0..16384u64).map(|n| {
        let address = 0x100_0000 + n * 8;
        let object = ObjectId(1 + (n / 4096) as u32 % OBJECTS);
        let ahead = Traffic { address: address + 512, object, access: 0, kind: TrafficKind::Prefetch };
        let traffic = if n % 8 == 0 { vec![ahead] } else { vec![] };
        (vec![access(0, address)], vec![served(object.0, Level::L1)], traffic)
    });
    let random = (0..16384u64).map(|n| {
        let address = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20 & !7;
        (vec![access(0, address)], vec![served(1 + n as u32 % OBJECTS, Level::Memory)], vec![])
    });
    let body = || block(work.clone());
    vec![
        Loop { name: "in the first-level cache", block: body(), executions: near.collect() },
        Loop { name: "a stream, prefetched", block: body(), executions: stream.collect() },
        Loop { name: "random misses", block: body(), executions: random.collect() },
    ]
}

fn run(timing: &mut Timing, block: &Block, executions: &[Executed]) -> u64 {
    for (accesses, served, traffic) in executions {
        let execution = Execution { block, accesses, served, traffic, observed: &[] };
        std::hint::black_box(timing.execute(0, execution));
    }
    (executions.len() * block.ops.len()) as u64
}

fn main() {
    // Cargo's own argument begins with a dash; any other chooses loops by a part of their names.
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    for of in loops().into_iter().filter(|of| of.name.contains(&wanted)) {
        let mut timing = Timing::new(&config());
        run(&mut timing, &of.block, &of.executions);
        let (start, mut operations, mut best) = (Instant::now(), 0, 0.0f64);
        while start.elapsed().as_secs_f64() < SECONDS {
            for part in of.executions.chunks(2048) {
                let stretch = Instant::now();
                let done = run(&mut timing, &of.block, part);
                best = best.max(done as f64 / stretch.elapsed().as_secs_f64());
                operations += done;
            }
        }
        let (best, mean) = (best / 1e6, operations as f64 / start.elapsed().as_secs_f64() / 1e6);
        let lanes = timing.finish();
        println!("{:28} {:3} lanes {best:7.1} M operations/s, mean {mean:5.1}", of.name, lanes.len());
    }
}
