//! Nanoseconds of host time per simulated access, attribution and counting included: `cargo bench -p tierscope-sim`, or with
//! `-- "default: L1"` only those streams.
//!
//! Each stream goes through [`Simulator::run`] in blocks of eight instructions that each access memory once, as a tracer would hand
//! them over, on the default machine and on one without prefetchers, second level and TLB pressure (cachegrind's).

#![allow(clippy::expect_used, clippy::print_stdout, reason = "a program that prints figures")]

use std::time::Instant;
use tierscope_sim::machine::{Cache, PageSize, Prefetch};
use tierscope_sim::steps::Left;
use tierscope_sim::{Block, Config, Event, Machine, Op, Packed, Simulator, Step, Steps};

const OPS: usize = 8;
const ACCESSES: usize = 8 << 20;
/// Accesses timed at once: well under a scheduler's time slice.
const SLICE: usize = 4 << 10;
const BASE: u64 = 0x7f00_0000_0000;

/// Parts of a [`Packed`] word.
const OP: u64 = 1 << 48;
const STORE: u64 = 1 << 57;
const BYTES_8: u64 = 3 << 58;

/// A multiplicative generator of Lehmer: no crate, the same stream on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// Packed accesses, with the block before every [`OPS`] of them.
#[derive(Clone)]
struct Stream<'a> {
    block: &'a Block,
    words: &'a [u64],
    at: usize,
    entered: bool,
}

impl<'a> Steps<'a> for Stream<'a> {
    #[inline(always)]
    fn next(&mut self) -> Step<'a> {
        let Some(word) = self.words.get(self.at).copied() else { return Step::End };
        if self.at.is_multiple_of(OPS) && !self.entered {
            self.entered = true;
            return Step::Block(self.block);
        }
        self.at += 1;
        self.entered = false;
        Step::Access(Packed::from_word(word))
    }

    fn left(&mut self) -> Left {
        Left { executed: OPS as u16, beyond: 0 }
    }
}

fn simulator(machine: &Machine, blocks: &[(u64, u64)]) -> Simulator {
    let config = Config { machine: machine.clone(), ..Config::default() };
    let mut simulator = Simulator::new(&config).expect("a machine that can be");
    for (site, (address, bytes)) in (1..).zip(blocks) {
        simulator.event(0, Event::Allocated { address: *address, bytes: *bytes, site });
    }
    simulator
}

/// Time of short slices of the stream that a tenth of them stay below: what else a busy host does shows in the rest. A run over the
/// same addresses before fills the caches.
fn measure(name: &str, machine: &Machine, blocks: &[(u64, u64)], address: impl FnMut(usize) -> u64) {
    if std::env::args().skip(1).any(|wanted| !wanted.starts_with('-') && !name.contains(&wanted)) {
        return;
    }
    let op = |n: usize| Op { offset: n as u16 * 4, loads: 1, ..Op::default() };
    let block = Block { address: 0x40_1000, bytes: 32, ops: (0..OPS).map(op).collect(), number: 1 };
    let at = |(n, address): (usize, u64)| {
        let store = if n % 4 == 3 { STORE } else { 0 };
        address + (n % OPS) as u64 * OP + store + BYTES_8
    };
    let accesses: Vec<u64> = (0..ACCESSES).map(address).enumerate().map(at).collect();
    let mut simulator = simulator(machine, blocks);
    let slice = |simulator: &mut Simulator, slice: &[u64]| {
        let start = Instant::now();
        let _ = simulator.run(0, &mut Stream { block: &block, words: slice, at: 0, entered: false });
        start.elapsed().as_nanos() as f64 / slice.len() as f64
    };
    slice(&mut simulator, &accesses);
    let mut times: Vec<f64> =
        (0..3).flat_map(|_| accesses.chunks(SLICE)).map(|part| slice(&mut simulator, part)).collect();
    times.sort_unstable_by(f64::total_cmp);
    let tenth = times[times.len() / 10];
    let totals = simulator.finish().totals.data;
    let share = |count: u64| 100.0 * count as f64 / totals.accesses() as f64;
    println!(
        "{name:34} {tenth:6.2} ns  L1 misses {:5.1} %  LLC misses {:5.1} %  walks {:5.1} %",
        share(totals.l1_misses),
        share(totals.llc_misses()),
        share(totals.tlb_walks),
    );
}

fn main() {
    let default = Machine::default();
    let cache = |bytes, ways, latency_cycles| Cache { bytes, ways, latency_cycles, ..default.llc.clone() };
    let bare = Machine {
        l1i: Some(cache(32 << 10, 8, 4)),
        l1d: cache(32 << 10, 8, 4),
        l2: None,
        llc: cache(1 << 20, 16, 50),
        page: PageSize::Huge,
        prefetch: Prefetch::OFF,
        ..default.clone()
    };
    for (machine, kind) in [(&default, "default"), (&bare, "cachegrind's")] {
        let large = [(BASE, 1 << 30)];
        let small: Vec<(u64, u64)> = (0..512).map(|n| (BASE + n * 48, 32)).collect();
        let name = |stream: &str| format!("{kind}: {stream}");
        let mut random = Random(1);
        measure(&name("L1 hit, in order"), machine, &large, |n| BASE + n as u64 * 8 % (16 << 10));
        measure(&name("L1 hit, scattered"), machine, &large, |_| BASE + random.below(2 << 10) * 8);
        measure(&name("L1 hit, small blocks"), machine, &small, |_| BASE + random.below(512) * 48);
        measure(&name("LLC hit, scattered"), machine, &large, |_| BASE + random.below(machine.llc.bytes / 128) * 64);
        measure(&name("miss, scattered"), machine, &large, |_| BASE + random.below(1 << 24) * 64);
        measure(&name("miss, in order"), machine, &large, |n| BASE + n as u64 * 8 % (1 << 30));
    }
}
