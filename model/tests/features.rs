//! What features say of programs whose pattern is known, and that they say the same of the same program.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod support;

use std::path::Path;

use support::{MIB, rows};
use tierscope_model::features::{FeaturesError, Observed, Window, features, llc_bytes};
use tierscope_model::summary::{SortKey, Summary, summarise};
use tierscope_rank::{FEATURES, Family, Features, Name};
use tierscope_traces::{
    Access, AllocationRow, CountRow, Level, MarkRow, Meta, ObjectRow, Profile, SampleRow, SamplerKind, SiteRow, Tables,
    Tlb,
};

const MILLISECOND: u64 = 1_000_000;

/// A small generator of our own: tests must not depend on a library's choice of stream.
struct Random(u64);

impl Random {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mixed = (self.0 ^ (self.0 >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        ((mixed ^ (mixed >> 32)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// What a step of a loop does to an object.
#[derive(Clone, Copy)]
struct Use {
    object: u32,
    /// Turns around the object per sample; `None`: anywhere.
    speed: Option<f64>,
    access: Access,
    dependent: bool,
    latency: u32,
    tlb: Tlb,
}

fn reads(object: u32) -> Use {
    Use { object, speed: None, access: Access::Load, dependent: false, latency: 300, tlb: Tlb::L1 }
}

/// A program with heap objects `make_0`, `make_1`, ...
struct Program {
    meta: Meta,
    tables: Tables,
    bytes: Vec<u64>,
    random: Random,
    now_ns: u64,
}

impl Program {
    fn new(sampler: SamplerKind, objects: &[u64]) -> Self {
        let mut meta = Meta { complete: true, ..Meta::default() };
        meta.sampler.kind = sampler;
        let mut tables = Tables { modules: vec![rows::module(0, "/opt/app", 0)], ..Tables::default() };
        for (number, &bytes) in (0u32..).zip(objects) {
            let offset = 0x100 + u64::from(number);
            tables.sites.push(SiteRow { site: number, depth: 0, module: Some(0), offset });
            tables.symbols.push(rows::symbol(offset, &format!("make_{number}")));
            tables.objects.push(ObjectRow { first_seen_ns: 0, ..rows::object(number, bytes) });
            let block = rows::block(u64::from(number), number, bytes, 0, None);
            tables.allocations.push(AllocationRow { address: Self::address(number), ..block });
        }
        Self { meta, tables, bytes: objects.to_vec(), random: Random(7), now_ns: 0 }
    }

    fn address(object: u32) -> u64 {
        0x7000_0000_0000 + (u64::from(object) << 32) + 16
    }

    /// Samples a loop of these uses, one millisecond and a bit apart.
    fn run(&mut self, samples: usize, tid: u32, uses: &[Use]) {
        for _ in 0..samples {
            let one = uses[(self.random.uniform() * uses.len() as f64) as usize];
            self.now_ns += MILLISECOND + (self.random.uniform() * 2e4) as u64;
            let place = match one.speed {
                Some(speed) => speed * self.now_ns as f64 / MILLISECOND as f64,
                None => self.random.uniform(),
            };
            let bytes = self.bytes[one.object as usize];
            let within = (place.rem_euclid(1.0) * bytes as f64) as u64 / 8 * 8;
            let levels = self.meta.sampler.kind.knows_levels();
            self.tables.samples.push(SampleRow {
                tid,
                ip: 0x400 + u64::from(one.object),
                offset: 0x400 + u64::from(one.object),
                address: Some(Self::address(one.object) + within),
                access: one.access,
                level: levels.then_some(Level::LocalMemory),
                latency: levels.then(|| one.latency + (self.random.uniform() * 50.0) as u32),
                dependent: (!levels).then_some(one.dependent),
                tlb: levels.then_some(one.tlb),
                ..rows::sample(self.now_ns, Some(one.object))
            });
        }
    }

    fn observe(&self) -> Vec<Features> {
        observe(&self.meta, &self.tables, Window::WHOLE)
            .unwrap()
            .1
            .objects
            .into_iter()
            .map(|one| one.features)
            .collect()
    }
}

/// Objects by name, so that `make_0` comes first.
fn observe(meta: &Meta, tables: &Tables, window: Window) -> Result<(Summary, Observed), FeaturesError> {
    let summary = summarise(meta, tables, SortKey::Name);
    let observed = features(meta, tables, &summary, window, llc_bytes(meta).unwrap_or(32 * MIB))?;
    assert!(observed.objects.iter().enumerate().all(|(n, one)| one.object == n));
    Ok((summary, observed))
}

fn golden(name: &str) -> (Meta, Tables) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../traces/golden").join(format!("{name}.tsp"));
    let profile = Profile::open(&path).unwrap();
    (profile.meta().clone(), profile.tables())
}

/// The features of an object of a golden profile, in its phase `kernel`.
fn of_golden(name: &str, object: &str) -> Features {
    let (meta, tables) = golden(name);
    let window = Window::phase(&tables, "kernel").unwrap();
    let (summary, observed) = observe(&meta, &tables, window).unwrap();
    let found = summary.objects.iter().position(|one| one.name == object);
    observed.objects[found.unwrap_or_else(|| panic!("{name} has no {object}"))].features.clone()
}

const GOLDEN: [&str; 5] = ["bfs", "chase", "dlrm", "hnsw", "moe"];

#[test]
fn a_recorded_chase_depends_and_goes_nowhere_in_order() {
    let chain = of_golden("chase", "allocate_chain");
    assert!(chain.get(Name::DependentShare) > 0.95 && chain.get(Name::Sequentiality) < 0.1);
    assert!(chain.get(Name::StrideEntropy) > 0.9 && chain.get(Name::StoreShare) < 0.01);
    assert!(chain.get(Name::Share) > 0.7 && chain.error(Name::Share) < 0.02);
}

#[test]
fn recorded_weights_of_experts_depend_on_nothing_and_visited_vertices_are_stored() {
    let expert = of_golden("moe", "allocate_expert");
    assert!(expert.get(Name::DependentShare) < 0.05, "{}", expert.get(Name::DependentShare));
    let parents = of_golden("bfs", "allocate_parents");
    assert!(parents.get(Name::StoreShare) > 0.5, "{}", parents.get(Name::StoreShare));
    assert!(of_golden("bfs", "allocate_offsets").get(Name::DependentShare) > 0.9);
}

#[test]
fn misses_of_chains_that_are_walked_at_once_have_little_time_between_them() {
    let mut program = Program::new(SamplerKind::Sim, &[64 * MIB, 64 * MIB]);
    // As many misses, one after the other; then the time between those of the first is made an eighth.
    program.run(800, 1, &[reads(0)]);
    let half = program.now_ns;
    program.run(800, 1, &[reads(1)]);
    for sample in &mut program.tables.samples {
        sample.time_ns = if sample.time_ns <= half { sample.time_ns / 8 } else { sample.time_ns - half + half / 8 };
    }
    // Another thread that misses meanwhile changes nothing.
    let at_once = program.tables.samples.clone();
    program.tables.samples.extend(at_once.into_iter().step_by(5).map(|sample| SampleRow {
        tid: 2,
        object: None,
        ..sample
    }));
    let found = program.observe();
    let [together, alone] =
        [0, 1].map(|object: usize| (found[object].get(Name::GapRatio), found[object].error(Name::GapRatio)));
    assert!((alone.0 / together.0 / 8.0 - 1.0).abs() < 0.05, "{together:?} {alone:?}");
    assert!(together.1 > 0.0 && together.1 < 0.2 * together.0 && alone.1 > 0.0 && alone.1 < 0.2 * alone.0);
    assert!((found[0].get(Name::LatencyRatio) - found[1].get(Name::LatencyRatio)).abs() < 0.05);
}

#[test]
fn a_stream_a_chase_and_a_histogram_are_told_apart() {
    for sampler in [SamplerKind::Clock, SamplerKind::Sim] {
        let mut program = Program::new(sampler, &[64 * MIB, 64 * MIB, 64 * MIB]);
        let stream = Use { speed: Some(0.07), ..reads(0) };
        let chase = Use { dependent: true, latency: 500, tlb: Tlb::Walk, ..reads(1) };
        let histogram = Use { access: Access::Update, ..reads(2) };
        program.run(1500, 1, &[stream, chase, histogram]);
        let found = program.observe();
        let get = |name| [0, 1, 2].map(|object: usize| found[object].get(name));
        let [in_order, anywhere, updated] = get(Name::Sequentiality);
        assert!(in_order > 0.9 && anywhere < 0.15 && updated < 0.15, "{in_order} {anywhere} {updated}");
        let [stream, chase, _] = get(Name::StrideEntropy);
        assert!(stream < 0.5 && chase > 0.9, "{stream} {chase}");
        let stores = get(Name::StoreShare);
        assert!(stores[0] < 0.05 && stores[2] > 0.95 && get(Name::UpdateShare)[2] > 0.95);
        if sampler == SamplerKind::Clock {
            let dependent = get(Name::DependentShare);
            assert!(dependent[0] < 0.01 && dependent[1] > 0.99 && dependent[2] < 0.01);
        } else {
            let [waits, longer, _] = get(Name::LatencyRatio);
            assert!(longer > 1.3 && waits < 0.95, "{waits} {longer}");
            let walks = get(Name::WalkShare);
            assert!(walks[1] > 0.95 && walks[0] < 0.05 && get(Name::DependentShare)[1].is_nan());
            let latency: f64 = get(Name::LatencyShare).iter().sum();
            assert!((latency - 1.0).abs() < 1e-9 && get(Name::LatencyShare)[1] > get(Name::MissShare)[1]);
        }
        for object in &found {
            assert!((object.get(Name::Share) - 1.0 / 3.0).abs() < 4.0 * object.error(Name::Share));
            assert!(object.get(Name::PhaseVariance) < 0.05 && object.get(Name::PageConcentration) < 0.1);
        }
    }
}

#[test]
fn an_object_of_the_build_phase_is_early_and_uneven_and_a_window_leaves_it_out() {
    let mut program = Program::new(SamplerKind::Clock, &[64 * MIB, 64 * MIB]);
    program.tables.marks.push(MarkRow { time_ns: 0, tid: 1, name: "build".into() });
    program.run(300, 1, &[reads(0)]);
    program.tables.marks.push(MarkRow { time_ns: program.now_ns + 1, tid: 1, name: "kernel".into() });
    program.run(1500, 1, &[reads(1)]);
    let found = program.observe();
    assert!(found[0].get(Name::EarlyShare) > 0.98 && found[0].error(Name::EarlyShare) < 0.02);
    assert!(found[1].get(Name::EarlyShare) < 0.15 && found[0].get(Name::PhaseVariance) > 3.0);
    let window = Window::phase(&program.tables, "kernel").unwrap();
    let (_, observed) = observe(&program.meta, &program.tables, window).unwrap();
    assert_eq!(observed.objects[0].features.get(Name::Share), 0.0);
    assert!(observed.objects[0].features.get(Name::StoreShare).is_nan());
    assert!((observed.objects[1].features.get(Name::EarlyShare) - 0.25).abs() < 0.05);
}

#[test]
fn threads_that_keep_to_their_part_are_told_from_threads_that_go_everywhere() {
    let mut program = Program::new(SamplerKind::Clock, &[64 * MIB, 64 * MIB]);
    for turn in 0..400 {
        let tid = turn % 4;
        program.run(1, tid, &[reads(0), reads(1)]);
        let sample = program.tables.samples.last_mut().unwrap();
        if sample.object == Some(1) {
            // Its own quarter.
            let start = Program::address(1);
            sample.address = Some(start + u64::from(tid) * 16 * MIB + (sample.address.unwrap() - start) / 4);
        }
    }
    let found = program.observe();
    let [everywhere, apart] = [0, 1].map(|object: usize| found[object].get(Name::SharedShare));
    assert!(everywhere > 0.7 && apart < 0.3, "{everywhere} {apart}");
    assert!((found[0].get(Name::Threads) - 4.0).abs() < 1.0 && (found[0].get(Name::ProgramThreads) - 4.0).abs() < 0.3);
}

#[test]
fn few_hot_pages_are_concentration_and_few_samples_are_not() {
    let mut program = Program::new(SamplerKind::Clock, &[64 * MIB, 64 * MIB, 64 * MIB]);
    program.run(600, 1, &[reads(0), reads(1)]);
    for sample in program.tables.samples.iter_mut().filter(|sample| sample.object == Some(1)) {
        let start = Program::address(1);
        sample.address =
            sample.address.map(|address| start + (address - start) % 8 * 4096 * 1000 + (address - start) % 5 * 4096);
    }
    program.run(3, 1, &[reads(2)]);
    let found = program.observe();
    let get =
        |object: usize| (found[object].get(Name::PageConcentration), found[object].error(Name::PageConcentration));
    assert!(get(0).0 < 0.1 && get(1).0 > 0.6, "{:?} {:?}", get(0), get(1));
    assert!(get(2).0 < 0.05 && get(2).1 > 0.15, "{:?}", get(2));
}

#[test]
fn the_same_program_elsewhere_in_memory_has_the_same_features_to_the_last_bit() {
    for name in GOLDEN {
        let (meta, tables) = golden(name);
        let mut moved = tables.clone();
        let shift = |address: u64| address.wrapping_add(0x1234_5000);
        moved.allocations.iter_mut().for_each(|row| row.address = shift(row.address));
        for row in &mut moved.samples {
            (row.address, row.ip) = (row.address.map(shift), shift(row.ip));
        }
        for row in &mut moved.modules {
            (row.start, row.end, row.bias) = (shift(row.start), shift(row.end), shift(row.bias));
        }
        let (_, here) = observe(&meta, &tables, Window::WHOLE).unwrap();
        let (_, there) = observe(&meta, &moved, Window::WHOLE).unwrap();
        for (here, there) in here.objects.iter().zip(&there.objects) {
            for feature in &FEATURES {
                let bits = |one: &Features| (one.get(feature.name).to_bits(), one.error(feature.name).to_bits());
                assert_eq!(bits(&here.features), bits(&there.features), "{name}: {}", feature.text);
            }
        }
    }
}

#[test]
fn half_the_samples_give_the_same_features_within_their_errors() {
    let (mut compared, mut beyond) = (0u32, Vec::new());
    let mut profiles: Vec<_> = GOLDEN.into_iter().map(|name| (name, golden(name))).collect();
    let mut misses = Program::new(SamplerKind::Sim, &[64 * MIB, 64 * MIB, 64 * MIB]);
    let waits = Use { latency: 700, tlb: Tlb::Walk, ..reads(1) };
    misses.run(2000, 1, &[Use { speed: Some(0.3), ..reads(0) }, waits, reads(1), reads(2)]);
    misses.tables.marks.push(MarkRow { time_ns: 0, tid: 1, name: "kernel".into() });
    profiles.push(("misses", (misses.meta, misses.tables)));
    for (name, (meta, tables)) in profiles {
        let mut halved = tables.clone();
        let mut number = 0;
        halved.samples.retain(|_| {
            number += 1;
            number % 2 == 0
        });
        let window = Window::phase(&tables, "kernel").unwrap();
        let (summary, all) = observe(&meta, &tables, window).unwrap();
        let (_, half) = observe(&meta, &halved, window).unwrap();
        for (all, half) in all.objects.iter().zip(&half.objects) {
            if half.features.get(Name::Samples) < 20.0 {
                continue;
            }
            for feature in FEATURES.iter().filter(|feature| feature.estimated) {
                let value = |one: &Features| (one.known(feature.name), one.error(feature.name));
                let ((Some(a), error), (Some(b), half_error)) = (value(&all.features), value(&half.features)) else {
                    assert!(value(&all.features).0.is_none(), "{name}: {} is known no more", feature.text);
                    continue;
                };
                compared += 1;
                let off = (a - b).abs() / error.hypot(half_error);
                assert!(
                    off < 4.0,
                    "{name}, {}: {} {a} {error} and {b} {half_error}",
                    summary.objects[all.object].name,
                    feature.text
                );
                if off > 2.0 {
                    beyond.push((name, feature.text, a, b));
                }
            }
        }
    }
    assert!(compared > 300, "{compared}");
    assert!(beyond.len() < compared as usize / 20, "{} of {compared}: {beyond:?}", beyond.len());
}

#[test]
fn ninety_five_per_cent_intervals_hold_what_a_hundred_times_the_samples_say() {
    let recorded = |sampler, seed: u64, samples: usize| {
        let mut program = Program::new(sampler, &[64 * MIB, 16 * MIB, 64 * MIB]);
        program.random = Random(seed);
        let store = Use { access: Access::Store, ..reads(0) };
        let stream = Use { speed: Some(0.09), ..reads(2) };
        let waits = Use { dependent: true, latency: 600, tlb: Tlb::Walk, ..reads(1) };
        // Threads in turn; what is done changes now and then.
        for turn in 0..samples / 20 {
            let tid = 1 + (program.random.uniform() * 3.0) as u32;
            let uses: &[Use] =
                if turn % 3 == 0 { &[reads(0), store, waits] } else { &[reads(1), reads(0), stream, stream] };
            program.run(20, tid, uses);
        }
        program.observe()
    };
    // What a short run has more of than a long one: turns, and a stream's samples in step with its turns.
    let of_the_run = |name, object| name == Name::PhaseVariance || (name == Name::PageConcentration && object == 2);
    for sampler in [SamplerKind::Clock, SamplerKind::Sim] {
        let truth = recorded(sampler, 99, 60_000);
        let (mut compared, mut missed) = (0, Vec::new());
        for seed in 0..15 {
            for (object, (found, truth)) in recorded(sampler, seed, 600).iter().zip(&truth).enumerate() {
                for feature in FEATURES.iter().filter(|feature| feature.estimated) {
                    let (Some(value), Some(known)) = (found.known(feature.name), truth.known(feature.name)) else {
                        continue;
                    };
                    if !of_the_run(feature.name, object) {
                        compared += 1;
                        if (value - known).abs() > 1.96 * found.error(feature.name) {
                            missed.push((feature.text, object, value, known));
                        }
                    }
                }
            }
        }
        assert!(compared > 800 && missed.len() < compared / 20, "{} of {compared}: {missed:?}", missed.len());
    }
}

#[test]
fn a_sample_that_stands_for_many_counts_as_many() {
    let mut program = Program::new(SamplerKind::Clock, &[64 * MIB, 64 * MIB]);
    program.run(400, 1, &[reads(0), reads(1)]);
    let mut heavy =
        Program { tables: program.tables.clone(), meta: program.meta.clone(), bytes: Vec::new(), ..program };
    heavy.tables.samples.iter_mut().filter(|row| row.object == Some(1)).for_each(|row| row.weight = 3.0);
    let (plain, heavy) = (program_shares(&program.meta, &program.tables), program_shares(&heavy.meta, &heavy.tables));
    assert!((plain[1].0 - 0.5).abs() < 0.1 && (heavy[1].0 - 0.75).abs() < 0.1, "{plain:?} {heavy:?}");
    assert!(heavy[1].1 > 0.8 * plain[1].1);
}

fn program_shares(meta: &Meta, tables: &Tables) -> Vec<(f64, f64)> {
    let observed = observe(meta, tables, Window::WHOLE).unwrap().1;
    observed.objects.iter().map(|one| (one.features.get(Name::Share), one.features.error(Name::Share))).collect()
}

#[test]
fn exact_counts_and_modelled_times_are_in_no_feature() {
    let mut program = Program::new(SamplerKind::Sim, &[64 * MIB, 64 * MIB]);
    program.run(300, 1, &[reads(0), reads(1)]);
    let before = program.observe();
    program.tables.counts.push(CountRow {
        object: Some(0),
        loads: 1_000_000,
        stores: 1_000_000,
        l1_misses: 1_000_000,
        l2_misses: 1_000_000,
        llc_load_misses: 1_000_000,
        llc_store_misses: 1_000_000,
        tlb_walks: 1_000_000,
        bytes_read: 1_000_000,
        bytes_written: 1_000_000,
        stall_cycles: Some(1_000_000),
    });
    program.meta.simulation =
        Some(tierscope_traces::Simulation { cycles_all_fast: Some(1e9), instructions: 7, ..Default::default() });
    let after = program.observe();
    for (before, after) in before.iter().zip(&after) {
        for feature in &FEATURES {
            assert_eq!(before.get(feature.name).to_bits(), after.get(feature.name).to_bits(), "{}", feature.text);
        }
    }
}

#[test]
fn a_busy_object_has_every_feature_of_its_family_with_an_error_and_no_other() {
    for (sampler, family) in [(SamplerKind::Clock, Family::Clock), (SamplerKind::Sim, Family::Levels)] {
        let mut program = Program::new(sampler, &[64 * MIB, 64 * MIB]);
        program.meta.simulation = Some(tierscope_traces::Simulation { ghz: 3.0, ..Default::default() });
        let store = Use { access: Access::Store, ..reads(0) };
        program.run(500, 1, &[reads(0), store, reads(1)]);
        let (summary, observed) = observe(&program.meta, &program.tables, Window::WHOLE).unwrap();
        assert!(observed.family == family && observed.objects.iter().all(|one| one.movable), "{summary:?}");
        let features = &observed.objects[0].features;
        for feature in FEATURES.iter().filter(|feature| feature.group.is_stored()) {
            let (value, error) = (features.get(feature.name), features.error(feature.name));
            // The simulator's sampler does not decode instructions.
            let wanted = feature.families.contains(&family)
                && !(family == Family::Levels && feature.text.ends_with("dependent_share"));
            assert_eq!(value.is_finite(), wanted, "{} of {}", feature.text, family.as_str());
            assert_eq!(error.is_finite(), wanted, "the error of {}", feature.text);
            assert!(!wanted || feature.estimated == (error > 0.0), "{} {value} {error}", feature.text);
        }
    }
}

#[test]
fn what_has_no_features_says_why_and_what_to_do() {
    let mut program = Program::new(SamplerKind::Fault, &[MIB]);
    program.run(10, 1, &[reads(0)]);
    let fails = |program: &Program, window| observe(&program.meta, &program.tables, window).unwrap_err();
    assert_eq!(fails(&program, Window::WHOLE), FeaturesError::NoFamily { sampler: SamplerKind::Fault });
    program.meta.sampler.kind = SamplerKind::Import;
    assert_eq!(fails(&program, Window::WHOLE), FeaturesError::NoLevels { sampler: SamplerKind::Import });
    program.meta.sampler.kind = SamplerKind::Clock;
    let late = Window { start_ns: u64::MAX - 1, end_ns: u64::MAX };
    assert!(matches!(fails(&program, late), FeaturesError::NoSamples { .. }));
    for text in [fails(&program, late).to_string(), FeaturesError::NoFamily { sampler: SamplerKind::Fault }.to_string()]
    {
        assert!(text.contains("record"), "{text}");
    }
}

#[test]
fn hostile_tables_are_no_panic() {
    let mut program = Program::new(SamplerKind::Clock, &[MIB, MIB]);
    program.run(100, 1, &[reads(0), reads(1)]);
    for (n, row) in program.tables.samples.iter_mut().enumerate() {
        match n % 7 {
            0 => row.weight = f32::NAN,
            1 => row.weight = f32::INFINITY,
            2 => row.address = Some(u64::MAX),
            3 => row.time_ns = u64::MAX - n as u64,
            4 => row.object = Some(99),
            5 => row.address = Some(0),
            _ => row.time_ns = 0,
        }
    }
    program.tables.allocations[0].weight = f64::NAN;
    program.tables.allocations[1].freed_ns = Some(0);
    program.tables.allocations[1].bytes = u64::MAX;
    for window in [Window::WHOLE, Window { start_ns: 0, end_ns: 1 }] {
        let (_, observed) = observe(&program.meta, &program.tables, window).unwrap();
        for feature in &FEATURES {
            for object in &observed.objects {
                assert!(!object.features.get(feature.name).is_infinite());
            }
        }
    }
}
