//! Which objects there are, what they are called, how big they were, and what became of every sample.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod support;

use support::{MIB, rows, rows::sample};
use tierscope_model::summary::{Part, Reason, SortKey, Summary, summarise};
use tierscope_traces::{AllocationRow, MarkRow, Meta, ModuleRow, ObjectKind, ObjectRow, SampleRow, SiteRow, Tables};

const KIB: u64 = 1 << 10;

fn object(object: u32, bytes: u64, slot: u16) -> ObjectRow {
    ObjectRow { site: Some(0), slot: Some(slot), ..rows::object(object, bytes) }
}

fn block(object: u32, bytes: u64, time_ns: u64, freed_ns: Option<u64>) -> AllocationRow {
    let allocation = (u64::from(object) << 32) | time_ns;
    AllocationRow { site: 0, ..rows::block(allocation, object, bytes, time_ns, freed_ns) }
}

/// One site, `make` called by `main`, in a module loaded at `start`.
fn program(start: u64) -> Tables {
    let module = |module: u32, path: &str| ModuleRow { build_id: None, ..rows::module(module, path, start) };
    Tables {
        modules: vec![module(0, "/opt/app"), module(1, "/lib/libc.so.6")],
        sites: vec![
            SiteRow { site: 0, depth: 1, module: Some(0), offset: 0x20 },
            SiteRow { site: 0, depth: 0, module: Some(0), offset: 0x10 },
        ],
        symbols: vec![rows::symbol(0x10, "make"), rows::symbol(0x20, "main")],
        ..Tables::default()
    }
}

fn with_blocks(blocks: Vec<(ObjectRow, AllocationRow)>) -> Summary {
    let mut tables = program(0x5000);
    (tables.objects, tables.allocations) = blocks.into_iter().unzip();
    summarise(&Meta::default(), &tables, SortKey::Name)
}

fn names(summary: &Summary) -> Vec<&str> {
    summary.objects.iter().map(|object| object.name.as_str()).collect()
}

#[test]
fn a_few_large_blocks_that_live_together_stay_apart() {
    let tables = (0..8).map(|n| (object(n, 64 * MIB, n as u16), block(n, 64 * MIB, 10, None))).collect();
    let summary = with_blocks(tables);
    assert_eq!(summary.objects.len(), 8);
    assert_eq!(names(&summary)[..2], ["make #0", "make #1"]);
    assert!(summary.objects[3].id.ends_with("#26.3"));
    assert!(matches!(summary.objects[3].part, Some(Part::Block { size_class: 26, slot: 3, .. })));
}

#[test]
fn blocks_of_different_sizes_are_told_apart_by_size_and_small_ones_are_one() {
    let sizes = [MIB, 64 * MIB, 100, 3000];
    let tables = (0u32..).zip(sizes).map(|(n, bytes)| (object(n, bytes, 0), block(n, bytes, 10, None))).collect();
    assert_eq!(names(&with_blocks(tables)), ["make 1-2 MiB", "make 64-128 MiB", "make < 64 KiB"]);
}

#[test]
fn one_block_carries_no_ordinal() {
    let summary = with_blocks(vec![(object(0, MIB, 0), block(0, MIB, 10, None))]);
    assert_eq!(names(&summary), ["make"]);
    assert!(!summary.objects[0].id.contains('#') && summary.objects[0].part.is_none());
}

#[test]
fn many_slots_or_many_sizes_are_one_object() {
    let slots = (0..17).map(|n| (object(n, MIB, n as u16), block(n, MIB, 10, None))).collect();
    assert_eq!(names(&with_blocks(slots)), ["make"]);
    let sizes = (0..26).map(|n| (object(n, 1 << (8 + n), 0), block(n, 1 << (8 + n), 10, None))).collect();
    assert_eq!(names(&with_blocks(sizes)), ["make"]);
}

#[test]
fn a_vector_that_grows_is_one_object() {
    let growing = (0..10u32)
        .map(|n| {
            let (bytes, start) = ((64 * KIB) << n, 1000 * u64::from(n));
            (object(n, bytes, 0), block(n, bytes, start, Some(start + 1010)))
        })
        .collect();
    let summary = with_blocks(growing);
    assert_eq!(names(&summary), ["make"]);
    assert_eq!(summary.objects[0].live_bytes_max, ((64 * KIB) << 9) as f64 * 1.5);
}

#[test]
fn identities_survive_another_load_address_and_another_numbering() {
    let run = |start: u64, site: u32| {
        let mut tables = program(start);
        tables.sites.iter_mut().for_each(|row| row.site = site);
        tables.objects = (0..2).map(|n| ObjectRow { site: Some(site), ..object(n + site, MIB, n as u16) }).collect();
        tables.allocations = (0..2).map(|n| block(n + site, MIB, 10, None)).collect();
        let ids: Vec<String> =
            summarise(&Meta::default(), &tables, SortKey::Name).objects.into_iter().map(|object| object.id).collect();
        ids
    };
    assert_eq!(run(0x5000, 0), run(0x7000_0000, 40));
    assert_eq!(run(0x5000, 0).len(), 2);
}

#[test]
fn live_bytes_follow_allocations_and_frees() {
    let summary = with_blocks(vec![
        (object(0, 100 * KIB, 0), block(0, 100 * KIB, 10, Some(50))),
        (object(1, 300 * KIB, 0), block(1, 300 * KIB, 40, None)),
        (object(2, MIB, 0), block(2, MIB, 50, Some(60))),
    ]);
    let of = |name: &str| summary.objects.iter().find(|object| object.name.contains(name)).unwrap();
    assert_eq!(summary.peak_live_bytes, (300 * KIB + MIB) as f64);
    assert_eq!(of("64-128 KiB").live_bytes_at_peak, 0.0);
    assert_eq!(of("64-128 KiB").live_bytes_max, (100 * KIB) as f64);
    assert_eq!(of("256-512 KiB").live_bytes_at_peak, (300 * KIB) as f64);
}

#[test]
fn every_sample_is_in_exactly_one_row() {
    let mut tables = program(0x5000);
    tables.objects = vec![object(0, MIB, 0)];
    tables.samples = (0..1000)
        .map(|n| match n % 5 {
            0 => sample(n, Some(0)),
            1 => SampleRow { address: None, kernel: true, ..sample(n, None) },
            2 => SampleRow { address: None, ..sample(n, None) },
            3 => sample(n, None),
            _ => sample(n, Some(999)),
        })
        .collect();
    let summary = summarise(&Meta::default(), &tables, SortKey::Share);
    let reasons: Vec<(Reason, f64)> = summary.unattributed.iter().map(|row| (row.reason, row.share)).collect();
    assert_eq!(reasons, [(Reason::NoAddress, 0.2), (Reason::KernelNoAddress, 0.2), (Reason::OutsideObjects, 0.4)]);
    let shares: f64 = summary.objects.iter().map(|object| object.share).sum::<f64>() + 0.8;
    assert!((shares - 1.0).abs() < 1e-9);
    assert!((summary.attribution.attributed() - 0.2).abs() < 1e-9 && (summary.attribution.none - 0.8).abs() < 1e-9);
    let object = &summary.objects[0];
    assert!(object.share_interval.low < 0.2 && object.share_interval.high > 0.2);
    assert_eq!((object.loads, object.stores, object.llc_misses), (200.0, 0.0, None));
    assert_eq!(object.access_sites[0].frame.function().unwrap().name, "main");
}

#[test]
fn phases_come_from_marks() {
    let mut tables = program(0x5000);
    tables.objects = vec![object(0, MIB, 0)];
    tables.samples = (0..100).map(|n| sample(n, (n >= 50).then_some(0))).collect();
    tables.marks = [(50, "search"), (10, "build"), (75, "build")]
        .map(|(time_ns, name)| MarkRow { time_ns, tid: 1, name: name.into() })
        .to_vec();
    let summary = summarise(&Meta::default(), &tables, SortKey::Share);
    let phases: Vec<(&str, f64)> = summary.phases.iter().map(|phase| (phase.name.as_str(), phase.samples)).collect();
    assert_eq!(phases, [("before the first mark", 10.0), ("build", 65.0), ("search", 25.0)]);
    assert_eq!(summary.objects[0].phases, [0.0, 25.0 / 65.0, 1.0]);
}

#[test]
fn nonsense_is_survived() {
    let mut tables = program(u64::MAX);
    tables.sites.push(SiteRow { site: 7, depth: 0, module: Some(99), offset: u64::MAX });
    tables.objects = vec![
        ObjectRow { site: Some(12345), bytes: u64::MAX, size_class: Some(255), ..object(0, MIB, 0) },
        ObjectRow { size_class: Some(200), ..object(1, u64::MAX, 9) },
        ObjectRow { kind: ObjectKind::Stack, first_seen_ns: u64::MAX, ..object(1, MIB, 0) },
        ObjectRow { kind: ObjectKind::Global, module: Some(77), bytes: u64::MAX, ..object(3, MIB, 0) },
    ];
    tables.allocations = [f64::NAN, f64::INFINITY, -1.0, 1e300]
        .into_iter()
        .map(|weight| AllocationRow { weight, ..block(1, u64::MAX, u64::MAX, Some(0)) })
        .collect();
    tables.samples = [f32::NAN, f32::NEG_INFINITY, 1.0, f32::MAX]
        .into_iter()
        .zip([0, u64::MAX, 5, 5])
        .map(|(weight, time_ns)| SampleRow { weight, ..sample(time_ns, Some(1)) })
        .collect();
    for sort in SortKey::ALL {
        let summary = summarise(&Meta::default(), &tables, sort);
        assert!(summary.objects.iter().all(|object| object.share.is_finite()));
        assert_eq!(sort.as_str().parse(), Ok(sort));
    }
}
