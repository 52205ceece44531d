//! A small profile with every table filled, for tests that then damage it.

use std::fs;
use std::path::{Path, PathBuf};

use tierscope_traces::{
    Access, AddressQuality, AllocationRow, Attribution, CountRow, CounterRow, Level, MarkRow, Meta, ModuleRow,
    ObjectKind, ObjectRow, PlacementKind, PlacementRow, ProfileWriter, SampleRow, SiteRow, SymbolRow, Table, Tlb,
};

pub(crate) fn sample(n: u64) -> SampleRow {
    SampleRow {
        time_ns: 1_000 * n,
        tid: 7,
        cpu: (n % 3) as u16,
        ip: 0x5000 + n % 17,
        module: (!n.is_multiple_of(4)).then_some(1),
        offset: 0x1000 + n % 17,
        kernel: n.is_multiple_of(11),
        address: (!n.is_multiple_of(5)).then_some(0x7f00_0000 + 8 * n),
        access: [Access::Load, Access::Store, Access::Update, Access::Unknown][(n % 4) as usize],
        address_quality: AddressQuality::Approximate,
        attribution: Attribution::Exact,
        level: n.is_multiple_of(2).then_some(Level::L2),
        latency: n.is_multiple_of(2).then_some(40),
        dependent: n.is_multiple_of(3).then_some(n.is_multiple_of(2)),
        tlb: n.is_multiple_of(2).then_some(Tlb::Walk),
        weight: 1.5,
        object: Some((n % 3) as u32),
    }
}

pub(crate) fn allocation(allocation: u64, freed_ns: Option<u64>) -> AllocationRow {
    AllocationRow {
        allocation,
        object: 0,
        site: 0,
        address: 0x7f00_0000 + 64 * allocation,
        bytes: 64,
        weight: 2.5,
        time_ns: 10,
        tid: 7,
        freed_ns,
    }
}

/// One flush of `samples` samples and some rows of everything else.
pub(crate) fn fill(writer: &mut ProfileWriter, samples: u64) {
    let path = "/usr/bin/größe".to_owned();
    writer.modules().push(ModuleRow {
        module: 1,
        path,
        build_id: Some("ab12".into()),
        start: 0x5000,
        end: 0x9000,
        bias: 0x4000,
        loaded_ns: 1,
        unloaded_ns: None,
    });
    for depth in 0..3 {
        writer.sites().push(SiteRow { site: 0, depth, module: Some(1), offset: 0x1100 + u64::from(depth) });
    }
    for object in 0..3 {
        writer.objects().push(ObjectRow {
            object,
            kind: ObjectKind::Heap,
            site: Some(0),
            size_class: Some(6),
            slot: Some(object as u16),
            module: None,
            name: String::new(),
            start: 0,
            bytes: 64,
            tid: None,
            first_seen_ns: 10,
        });
    }
    for n in 0..20 {
        writer.allocations().push(allocation(n, n.is_multiple_of(2).then_some(100 + n)));
    }
    for n in 0..samples {
        writer.samples().push(sample(n));
    }
    writer.counters().push(CounterRow { time_ns: 5, name: "rss_bytes".into(), value: 1e9 });
    writer.marks().push(MarkRow { time_ns: 6, tid: 7, name: "search".into() });
    writer.counts().push(CountRow {
        object: Some(0),
        loads: 9,
        stores: 8,
        l1_misses: 7,
        l2_misses: 6,
        llc_load_misses: 5,
        llc_store_misses: 4,
        tlb_walks: 3,
        bytes_read: 320,
        bytes_written: 64,
        stall_cycles: None,
    });
    writer.placements().push(PlacementRow {
        placement: 0,
        kind: PlacementKind::Alone,
        tiers: "optane".into(),
        name: String::new(),
        object: Some(0),
        cycles: 12.0,
        extra_cycles: 2.0,
        extra_cycles_error: 0.0,
        is_bound: false,
    });
    writer.symbols().push(SymbolRow {
        module: 1,
        offset: 0x1100,
        inline_depth: 0,
        function: "main".into(),
        file: None,
        line: Some(3),
    });
}

/// The first part of a table.
pub(crate) fn part(profile: &Path, table: Table) -> PathBuf {
    let parts = fs::read_dir(profile.join(table.directory())).unwrap().map(|entry| entry.unwrap().path());
    parts.min().unwrap()
}

/// A complete profile of one part per table.
pub(crate) fn profile(directory: &Path, samples: u64) {
    let mut writer = ProfileWriter::create(directory, false, Meta::default()).unwrap();
    fill(&mut writer, samples);
    writer.finish().unwrap();
}
