//! Profiles that were recorded once and are kept: new readers must go on reading old data.
//!
//! `scripts/record-golden` has made them, from workloads whose objects and phases are known: so the tests say not only that
//! they open, but that what is in them still makes sense.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use tierscope_traces::{AddressQuality, ObjectKind, Profile, SCHEMA, SamplerKind, Tables};

/// Each workload with objects that take many of its samples.
const GOLDEN: [(&str, &[&str]); 5] = [
    ("bfs", &["neighbours", "parents"]),
    ("chase", &["chain", "lanes"]),
    ("dlrm", &["table"]),
    ("hnsw", &["vectors", "links"]),
    ("moe", &["expert"]),
];

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(format!("{name}.tsp"))
}

fn open(name: &str) -> Profile {
    Profile::open(&path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Samples of each heap object by the function that allocates it, without `allocate_`.
fn samples_by_object(tables: &Tables) -> BTreeMap<String, f64> {
    let mut functions = HashMap::<_, Vec<_>>::new();
    for symbol in &tables.symbols {
        functions.entry((symbol.module, symbol.offset)).or_default().push(&symbol.function);
    }
    let mut names = HashMap::new();
    for frame in &tables.sites {
        let known = functions.get(&(frame.module.unwrap_or(u32::MAX), frame.offset)).into_iter().flatten();
        for name in known.filter_map(|function| function.strip_prefix("allocate_")) {
            if !matches!(name, "zeroed" | "in") {
                names.entry(frame.site).or_insert_with(|| name.to_owned());
            }
        }
    }
    let sites: HashMap<_, _> = tables.objects.iter().map(|object| (object.object, object.site)).collect();
    let mut found = BTreeMap::new();
    for sample in &tables.samples {
        let site = sample.object.and_then(|object| *sites.get(&object)?);
        if let Some(name) = site.and_then(|site| names.get(&site)) {
            *found.entry(name.clone()).or_default() += f64::from(sample.weight);
        }
    }
    found
}

#[test]
fn every_golden_profile_opens_whole_and_without_a_warning() {
    for (name, _) in GOLDEN {
        let profile = open(name);
        let (meta, tables) = (profile.meta(), profile.tables());
        assert_eq!(profile.warnings(), Vec::<String>::new(), "{name}");
        assert_eq!((meta.schema.as_str(), meta.sampler.kind), (SCHEMA, SamplerKind::Clock), "{name}");
        assert!(meta.complete && meta.program.command.iter().any(|word| word == name), "{name}");
        assert_eq!(tables.samples.len() as u64, meta.totals.samples, "{name}");
        assert!(tables.samples.len() > 500, "{name}");
        let marks: BTreeSet<_> = tables.marks.iter().map(|mark| mark.name.as_str()).collect();
        assert!(marks.len() > 1 && marks.contains("kernel"), "{name}: {marks:?}");
    }
}

#[test]
fn what_is_in_them_refers_to_what_is_in_them() {
    for (name, _) in GOLDEN {
        let tables = open(name).tables();
        let objects: BTreeSet<_> = tables.objects.iter().map(|object| object.object).collect();
        let sites: BTreeSet<_> = tables.sites.iter().map(|frame| frame.site).collect();
        assert!(tables.samples.iter().filter_map(|sample| sample.object).all(|object| objects.contains(&object)));
        assert!(tables.objects.iter().filter_map(|object| object.site).all(|site| sites.contains(&site)), "{name}");
        let heap = tables.objects.iter().filter(|object| object.kind == ObjectKind::Heap);
        assert!(heap.clone().count() > 2 && heap.clone().all(|object| object.site.is_some()), "{name}");
        assert!(tables.allocations.iter().all(|block| block.freed_ns.is_none_or(|freed| freed >= block.time_ns)));
    }
}

#[test]
fn the_objects_that_matter_are_found_in_them_by_name() {
    for (name, expected) in GOLDEN {
        let found = samples_by_object(&open(name).tables());
        let all: f64 = found.values().sum();
        for object in expected {
            let samples = found.get(*object).copied().unwrap_or(0.0);
            assert!(samples > 0.01 * all, "{name}: {object} has {samples} of {found:?}");
        }
    }
}

#[test]
fn a_chase_is_known_by_addresses_that_had_to_be_loaded_first() {
    let dependent = |name: &str| {
        let samples = open(name).tables().samples;
        let addressed = samples.iter().filter(|sample| sample.address_quality != AddressQuality::None).count();
        samples.iter().filter(|sample| sample.dependent == Some(true)).count() as f64 / addressed as f64
    };
    assert!(dependent("chase") > 0.5, "{}", dependent("chase"));
    assert!(dependent("moe") < 0.2, "{}", dependent("moe"));
}

#[test]
fn all_of_them_together_stay_small() {
    fn bytes(path: &Path) -> u64 {
        let entries = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap());
        entries
            .map(|entry| match entry.file_type().unwrap().is_dir() {
                true => bytes(&entry.path()),
                false => entry.metadata().unwrap().len(),
            })
            .sum()
    }
    let all: u64 = GOLDEN.iter().map(|(name, _)| bytes(&path(name))).sum();
    assert!(all < 2 << 20, "{all}");
}
