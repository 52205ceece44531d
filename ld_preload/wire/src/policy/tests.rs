use super::stats::{FLAG_ACTIVE, Snapshot, Statistics};
use super::*;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use proptest::prelude::*;
use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

/// Reads a table back into what it was made of.
fn decode(table: &Table<'_>) -> TableSpec {
    let rule = |rule: Rule<'_>| RuleSpec {
        tier: rule.tier,
        frames: rule
            .frames()
            .map(|frame| FrameSpec { module: frame.module, ranges: frame.ranges().collect() })
            .collect(),
        min_bytes: rule.min_bytes,
        max_bytes: rule.max_bytes,
        ordinal: rule.ordinal,
        number: rule.number,
    };
    let tier = |tier: Tier<'_>| TierSpec {
        name: tier.name.into(),
        backend: tier.backend,
        capacity: tier.capacity,
        nodes: tier.nodes().collect(),
        weights: tier.weights.into(),
        path: String::from_utf8_lossy(tier.path.to_bytes()).into(),
    };
    let global = |global: Global| GlobalSpec {
        tier: global.tier,
        module: global.module,
        address: global.address,
        bytes: global.bytes,
        number: global.number,
    };
    TableSpec {
        tiers: table.tiers().map(tier).collect(),
        modules: table
            .modules()
            .map(|module| ModuleSpec { name: module.name.into(), build_id: module.build_id.into() })
            .collect(),
        rules: table.rules().map(rule).collect(),
        globals: table.globals().map(global).collect(),
        default_tier: table.default_tier(),
        follow: table.follow(),
    }
}

/// Any text, without a regular expression: Miri takes minutes to compile one.
fn text() -> impl Strategy<Value = String> {
    proptest::collection::vec(any::<char>(), 0..12).prop_map(|chars| chars.into_iter().collect())
}

fn tier() -> impl Strategy<Value = TierSpec> {
    (
        text(),
        proptest::sample::select(Backend::ALL.to_vec()),
        proptest::option::of(0..u64::MAX),
        proptest::collection::vec((0..MAX_NODES as u16, 1..=u8::MAX), 1..5),
        text().prop_map(|text| std::format!("/{}", text.replace('\0', ""))),
    )
        .prop_map(|(name, backend, capacity, nodes, path)| TierSpec {
            name,
            backend,
            capacity,
            weights: match backend {
                Backend::WeightedInterleave => nodes.iter().map(|(_, weight)| *weight).collect(),
                _ => Vec::new(),
            },
            nodes: if backend.has_nodes() { nodes.into_iter().map(|(node, _)| node).collect() } else { Vec::new() },
            path: if backend.has_path() { path } else { String::new() },
        })
}

fn frame() -> impl Strategy<Value = FrameSpec> {
    let range = (any::<u32>(), 1..1_000_u64).prop_map(|(low, length)| (u64::from(low), u64::from(low) + length));
    (any::<u16>(), proptest::collection::vec(range, 1..4)).prop_map(|(module, ranges)| FrameSpec { module, ranges })
}

fn rule() -> impl Strategy<Value = RuleSpec> {
    (any::<u16>(), proptest::collection::vec(frame(), 0..5), any::<(u64, u64)>(), any::<Option<u16>>(), any::<u32>())
        .prop_map(|(tier, frames, (a, b), ordinal, number)| RuleSpec {
            tier,
            frames,
            min_bytes: a.min(b),
            max_bytes: a.max(b),
            ordinal,
            number,
        })
}

/// Tables whose indexes all point somewhere.
fn table() -> impl Strategy<Value = TableSpec> {
    let module = (text(), proptest::collection::vec(any::<u8>(), 0..21))
        .prop_map(|(name, build_id)| ModuleSpec { name, build_id });
    let global = (any::<(u16, u16, u32)>(), any::<u32>(), 1..=u64::from(u32::MAX)).prop_map(
        |((tier, module, number), address, bytes)| GlobalSpec { tier, module, address: address.into(), bytes, number },
    );
    (
        proptest::collection::vec(tier(), 1..5),
        proptest::collection::vec(module, 1..5),
        proptest::collection::vec(rule(), 0..6),
        proptest::collection::vec(global, 0..4),
        any::<Option<u16>>(),
        any::<bool>(),
    )
        .prop_map(|(tiers, modules, mut rules, mut globals, default_tier, follow)| {
            let (tier_count, module_count) = (tiers.len() as u16, modules.len() as u16);
            for rule in &mut rules {
                rule.tier %= tier_count;
                rule.frames.iter_mut().for_each(|frame| frame.module %= module_count);
            }
            for global in &mut globals {
                (global.tier, global.module) = (global.tier % tier_count, global.module % module_count);
            }
            let default_tier = default_tier.map(|tier| tier % tier_count);
            TableSpec { tiers, modules, rules, globals, default_tier, follow }
        })
}

/// Walks everything there is to walk.
fn walk(bytes: &[u8]) {
    let Ok(table) = Table::parse(bytes) else { return };
    let counts = table.counts();
    assert_eq!(table.tiers().count(), counts.tiers);
    assert_eq!(table.modules().count(), counts.modules);
    assert_eq!(table.rules().count(), counts.rules);
    assert_eq!(table.globals().count(), counts.globals);
    for rule in table.rules() {
        assert!(usize::from(rule.tier) < counts.tiers);
        for frame in rule.frames() {
            assert!(usize::from(frame.module) < counts.modules);
            assert!(frame.ranges().all(|(low, high)| low < high && frame.holds(low) && frame.holds(high - 1)));
        }
    }
    assert!(Snapshot::read(&table, bytes).is_some());
}

proptest! {
    #[test]
    fn every_table_reads_back_as_it_was_written(spec in table()) {
        let bytes = spec.encode().unwrap();
        let table = Table::parse(&bytes).unwrap();
        prop_assert_eq!(decode(&table), spec);
        prop_assert_eq!(table.statistics_offset() % 4096, 0);
        prop_assert_eq!(table.statistics_offset() + table.statistics_words() as u64 * 8, bytes.len() as u64);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        walk(&bytes);
    }

    #[test]
    fn a_damaged_table_is_read_or_refused(
        spec in table(), damage in proptest::collection::vec((any::<u16>(), any::<u8>()), 1..8), cut: u16,
    ) {
        let mut bytes = spec.encode().unwrap();
        let front = Table::parse(&bytes).unwrap().statistics_offset() as usize;
        for (at, byte) in damage {
            bytes[usize::from(at) % front.min(1024)] = byte;
        }
        walk(&bytes);
        walk(&bytes[..usize::from(cut) % bytes.len()]);
    }
}

fn sample() -> TableSpec {
    let numa = |name: &str, node| TierSpec {
        name: name.to_string(),
        backend: Backend::Numa,
        capacity: Some(1 << 30),
        nodes: vec![node],
        weights: Vec::new(),
        path: String::new(),
    };
    TableSpec {
        tiers: vec![numa("fast", 0), numa("slow", 1)],
        modules: vec![ModuleSpec { name: "bc".to_string(), build_id: vec![1, 2, 3] }],
        rules: vec![RuleSpec {
            tier: 0,
            frames: vec![FrameSpec { module: 0, ranges: vec![(0x1a2b, 0x1a2c)] }],
            min_bytes: 1,
            max_bytes: u64::MAX,
            ordinal: Some(0),
            number: 1,
        }],
        globals: vec![GlobalSpec { tier: 0, module: 0, address: 0x4000, bytes: 800, number: 2 }],
        default_tier: Some(1),
        follow: true,
    }
}

#[test]
fn a_table_the_shim_would_refuse_is_not_written() {
    let change = |change: fn(&mut TableSpec)| {
        let mut spec = sample();
        change(&mut spec);
        spec.encode()
    };
    assert!(change(|_| {}).is_ok());
    let refused: [fn(&mut TableSpec); 16] = [
        |spec| spec.default_tier = Some(2),
        |spec| spec.tiers[0].nodes.clear(),
        |spec| spec.tiers[0].nodes[0] = MAX_NODES as u16,
        |spec| spec.tiers[0].weights.push(1),
        |spec| spec.tiers[0].path.push('/'),
        |spec| spec.tiers[0].backend = Backend::WeightedInterleave,
        |spec| spec.tiers[0].backend = Backend::File,
        |spec| {
            spec.tiers[0] =
                TierSpec { backend: Backend::File, nodes: vec![], path: "/a\0b".to_string(), ..spec.tiers[0].clone() };
        },
        |spec| spec.tiers = vec![spec.tiers[0].clone(); MAX_TIERS + 1],
        |spec| spec.rules[0].tier = 2,
        |spec| (spec.rules[0].min_bytes, spec.rules[0].max_bytes) = (2, 1),
        |spec| spec.rules[0].frames[0].module = 1,
        |spec| spec.rules[0].frames[0].ranges.clear(),
        |spec| spec.rules[0].frames[0].ranges[0] = (5, 5),
        |spec| spec.rules[0].frames = vec![spec.rules[0].frames[0].clone(); crate::MAX_FRAMES + 1],
        |spec| spec.globals[0].bytes = u64::MAX,
    ];
    for (index, case) in refused.into_iter().enumerate() {
        let error = change(case).expect_err("a table that makes no sense");
        assert!(!matches!(error, TableError::NotATable | TableError::Length { .. }), "case {index}: {error}");
    }
}

#[test]
fn another_version_and_another_file_are_told_apart() {
    let mut bytes = sample().encode().unwrap();
    assert_eq!(Table::parse(b"[tiers]").unwrap_err(), TableError::NotATable);
    let short = Table::parse(&bytes[..bytes.len() - 1]).unwrap_err();
    assert!(matches!(short, TableError::Length { .. }), "{short}");
    bytes[8] ^= 0xff;
    assert!(matches!(Table::parse(&bytes).unwrap_err(), TableError::Version(_)));
}

#[test]
fn what_a_process_counts_is_read_out_of_the_file() {
    let mut file = sample().encode().unwrap();
    let table_bytes = file.clone();
    let table = Table::parse(&table_bytes).unwrap();
    let words: Vec<AtomicU64> = (0..table.statistics_words()).map(|_| AtomicU64::new(0)).collect();
    let live = Statistics::new(table.counts(), &words).unwrap();
    live.general().flags.fetch_or(FLAG_ACTIVE, Relaxed);
    live.general().last_errno.store(12, Relaxed);
    let tier = live.tier(1).unwrap();
    let place = |bytes| {
        tier.place(bytes);
        tier.rise(bytes);
    };
    place(100);
    place(50);
    tier.fall(100);
    place(7);
    tier.spill(9);
    tier.fail(28);
    live.rule(0).unwrap().release(1);
    live.global(0).unwrap().bytes_moved.store(4096, Relaxed);
    assert!(live.tier(2).is_none() && live.rule(1).is_none() && live.global(1).is_none());

    let at = table.statistics_offset() as usize;
    for (to, from) in file[at..].chunks_exact_mut(8).zip(&words) {
        to.copy_from_slice(&from.load(Relaxed).to_le_bytes());
    }
    let read = Snapshot::read(&table, &file).unwrap();
    assert_eq!((read.general.flags, read.general.last_errno), (FLAG_ACTIVE, 12));
    let tier = read.tiers[1];
    assert_eq!((tier.blocks, tier.bytes_now(), tier.bytes_peak, tier.bytes_total), (3, 57, 150, 157));
    assert_eq!((tier.spilled_blocks, tier.spilled_bytes, tier.failures, tier.last_errno), (1, 9, 1, 28));
    assert_eq!(read.rules[0].bytes_now(), 0, "more given back than counted");
    assert_eq!(read.globals[0].bytes_moved, 4096);
    assert_eq!(Snapshot::read(&table, &file[..file.len() - 1]), None);
    assert!(Statistics::new(table.counts(), &words[1..]).is_none());
}

#[test]
fn what_rules_placed_is_their_tiers() {
    let tier = |name: &str, backend| TierSpec {
        name: name.into(),
        backend,
        capacity: None,
        nodes: vec![0; usize::from(backend == Backend::Numa)],
        weights: vec![],
        path: String::new(),
    };
    let rule = |tier| RuleSpec { tier, frames: vec![], min_bytes: 0, max_bytes: 1, ordinal: None, number: 1 };
    let spec = TableSpec {
        tiers: vec![tier("one", Backend::Numa), tier("two", Backend::Numa), tier("own", Backend::Default)],
        rules: vec![rule(0), rule(1), rule(1), rule(2)],
        ..TableSpec::default()
    };
    let mut file = spec.encode().unwrap();
    let bytes = file.clone();
    let table = Table::parse(&bytes).unwrap();
    assert_eq!([0, 1, 2, 3].map(|tier| table.only_rule_of(tier)), [Some(0), None, Some(3), None]);
    let with_default = TableSpec { default_tier: Some(0), ..spec }.encode().unwrap();
    assert_eq!(Table::parse(&with_default).unwrap().only_rule_of(0), None, "what has no rule goes there, too");

    let words: Vec<AtomicU64> = (0..table.statistics_words()).map(|_| AtomicU64::new(0)).collect();
    let live = Statistics::new(table.counts(), &words).unwrap();
    // As the shim does: a level only where it is more than one rule's.
    for (rule, bytes) in [(0, 10), (0, 30), (1, 100), (2, 200), (3, 7)] {
        live.rule(rule).unwrap().place(bytes);
        if rule == 1 || rule == 2 {
            live.tier(1).unwrap().rise(bytes);
        }
    }
    live.rule(0).unwrap().release(10);
    live.rule(1).unwrap().release(100);
    live.tier(1).unwrap().fall(100);
    let at = table.statistics_offset() as usize;
    for (to, from) in file[at..].chunks_exact_mut(8).zip(&words) {
        to.copy_from_slice(&from.load(Relaxed).to_le_bytes());
    }
    let read = Snapshot::read(&table, &file).unwrap();
    let tiers: Vec<_> = read.tiers.iter().map(|t| (t.blocks, t.bytes_total, t.bytes_now(), t.bytes_peak)).collect();
    assert_eq!(tiers[..2], [(2, 40, 30, 40), (2, 300, 200, 300)]);
    assert_eq!((tiers[2].0, tiers[2].1), (0, 0), "the program's own allocator is no tier that holds blocks");
}
