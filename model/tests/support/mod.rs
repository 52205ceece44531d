//! Made-up profiles of programs whose objects are allocated each at a site of its own.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do, and not every test uses all"
)]

pub(crate) mod rows;

use tierscope_model::advice::{Advice, AdviceError, Goal, Options, Ranker, Teacher, Tier, advise};
use tierscope_model::summary::{SortKey, summarise};
use tierscope_placement::Limits;
use tierscope_traces::{Meta, ObjectKind, ObjectRow, SampleRow, SamplerKind, SiteRow, Tables};

pub(crate) const MIB: u64 = 1 << 20;
/// What a placed block begins with.
pub(crate) const HEADER_BYTES: u64 = 16;
pub(crate) const SECOND: u64 = 1_000_000_000;

/// A program whose object `n` is allocated at site `n`, with samples at one millisecond's distance.
pub(crate) struct Program {
    pub(crate) meta: Meta,
    pub(crate) tables: Tables,
    pub(crate) allocated: u64,
}

impl Program {
    pub(crate) fn new(sampler: SamplerKind) -> Self {
        let mut meta = Meta { complete: true, ..Meta::default() };
        meta.sampler.kind = sampler;
        meta.allocator.shim = "loaded".into();
        let module = rows::module(0, "/opt/app", 0);
        Self { meta, tables: Tables { modules: vec![module], ..Tables::default() }, allocated: 0 }
    }

    pub(crate) fn add(&mut self, kind: ObjectKind, bytes: u64, name: &str) -> u32 {
        let object = self.tables.objects.len() as u32;
        let heap = kind == ObjectKind::Heap;
        self.tables.objects.push(ObjectRow {
            kind,
            site: heap.then_some(object),
            size_class: heap.then(|| bytes.ilog2() as u8),
            slot: heap.then_some(0),
            module: (kind == ObjectKind::Global).then_some(0),
            name: name.into(),
            start: u64::from(object),
            ..rows::object(object, bytes)
        });
        if heap {
            let frame = |depth: u16, offset: u64| SiteRow { site: object, depth, module: Some(0), offset };
            self.tables.sites.extend([frame(0, 0x100 + u64::from(object)), frame(1, 0x10)]);
        }
        object
    }

    /// An object of one block, which takes so many bytes where it is placed.
    pub(crate) fn heap_living(&mut self, bytes: u64, from_ns: u64, to_ns: Option<u64>) -> u32 {
        let object = self.add(ObjectKind::Heap, bytes, "");
        self.block(object, bytes - HEADER_BYTES, from_ns, to_ns);
        object
    }

    pub(crate) fn heap(&mut self, bytes: u64) -> u32 {
        self.heap_living(bytes, 0, None)
    }

    pub(crate) fn block(&mut self, object: u32, bytes: u64, time_ns: u64, freed_ns: Option<u64>) {
        let allocation = self.allocated;
        self.allocated += 1;
        self.tables.allocations.push(rows::block(allocation, object, bytes, time_ns, freed_ns));
    }

    /// `count` samples of an object, spread evenly over the run.
    pub(crate) fn samples(&mut self, object: Option<u32>, count: u64, change: impl Fn(&mut SampleRow)) {
        for n in 0..count {
            let address = Some(u64::from(object.unwrap_or(999)) << 32);
            let mut row = SampleRow { address, ..rows::sample(n * SECOND / count, object) };
            change(&mut row);
            self.tables.samples.push(row);
        }
    }

    pub(crate) fn loads(&mut self, object: u32, count: u64) {
        self.samples(Some(object), count, |_| {});
    }

    pub(crate) fn ask_with(&self, options: &Options, teacher: &Teacher<'_>) -> Result<Advice, AdviceError> {
        advise(&self.meta, &self.tables, &summarise(&self.meta, &self.tables, SortKey::Share), options, teacher)
    }

    /// Without a model.
    pub(crate) fn ask(&self, options: &Options) -> Result<Advice, AdviceError> {
        self.ask_with(options, &|_| Err("there is none in this test".into()))
    }

    pub(crate) fn advice(&self, goal: Goal) -> Advice {
        self.ask(&options(goal, Ranker::StallDensity)).unwrap()
    }
}

pub(crate) fn tier(name: &str, latency_ns: f64) -> Tier {
    Tier {
        name: name.into(),
        latency_ns,
        write_latency_ns: None,
        bandwidth_gbs: None,
        write_bandwidth_gbs: None,
        granule_bytes: None,
        capacity: None,
        paged: false,
    }
}

/// DRAM, and something that takes three times as long.
pub(crate) fn options(goal: Goal, ranker: Ranker) -> Options {
    Options { tiers: vec![tier("dram", 100.0), tier("cxl", 300.0)], goal, ranker, limits: Limits::default() }
}

/// Names of what is in the fastest tier, by the offset of their allocating frame.
pub(crate) fn fast(advice: &Advice) -> Vec<u64> {
    let movable = advice.objects.iter().filter(|object| object.fixed.is_none() && object.tier == 0);
    let mut sites: Vec<u64> = movable.map(|object| object.object.site[0].offset - 0x100).collect();
    sites.sort_unstable();
    sites
}

pub(crate) fn near(found: f64, expected: f64) -> bool {
    (found - expected).abs() < 1e-9
}

/// Two objects of 64 MiB with 60 % and 30 % of the time, and one of 128 MiB with 10 %.
pub(crate) fn three() -> Program {
    let mut program = Program::new(SamplerKind::Clock);
    for (bytes, samples) in [(64 * MIB, 600), (64 * MIB, 300), (128 * MIB, 100)] {
        let object = program.heap(bytes);
        program.loads(object, samples);
    }
    program
}
