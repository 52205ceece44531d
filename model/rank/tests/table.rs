//! The table as outside data: what was written is read, and what is torn is refused by name.

use proptest::prelude::*;
use tierscope_rank::{Case, Counted, FEATURES, Family, Features, Row, Set, Table, TableError, TierFigures, TierPair};

fn case(program: &str, seed: u64) -> Case {
    Case {
        program: program.into(),
        scale: "18".into(),
        seed,
        llc_bytes: 1 << 20,
        tiers: "optane-100x6".into(),
        machine: "sim".into(),
    }
}

fn features(family: Family, from: f64) -> Features {
    let mut features = Features::default();
    for (number, feature) in FEATURES.iter().enumerate() {
        if feature.group.is_stored() && feature.families.contains(&family) && number % 7 != 3 {
            let error = if feature.estimated { from / 100.0 } else { 0.0 };
            features.set(feature.name, from + number as f64, error);
        }
    }
    features
}

fn row(program: &str, seed: u64, object: &str) -> Row {
    Row {
        case: case(program, seed),
        tier_pair: TierPair {
            latency_x: 3.0,
            bandwidth_x: 2.8,
            write_bandwidth_x: 7.0,
            granule_bytes: 256.0,
            slow_read_gbs: 37.6,
            slow_write_gbs: 12.5,
        },
        object: object.into(),
        name: "parents, \"of\" vertices".into(),
        kind: "heap".into(),
        bytes: 1 << 22,
        movable: true,
        clock: Some(features(Family::Clock, 0.25)),
        levels: (seed == 1).then(|| features(Family::Levels, 0.5)),
        counted: Counted { llc_misses: 1e6, ..Counted::UNKNOWN },
        criticality: 0.123_456_789,
        criticality_error: 0.001,
    }
}

fn table() -> Table {
    let mut table = Table::default();
    let set = Set { case: case("bfs", 1), slow: vec!["heap-1".into(), "heap-2".into()], slowdown: 0.2, error: 0.01 };
    table.merge(Table {
        rows: vec![row("bfs", 1, "heap-2"), row("bfs", 1, "heap-1"), row("bc", 2, "heap-1")],
        sets: vec![set],
    });
    table
}

#[test]
fn what_was_written_is_read_and_written_the_same_again() {
    let (objects, sets) = (table().objects_csv(), table().sets_csv());
    let read = Table::parse(&objects, &sets).unwrap();
    assert_eq!((read.objects_csv(), read.sets_csv()), (objects, sets));
    assert_eq!(read.programs(), ["bc", "bfs"]);
    let row = &read.rows[0];
    assert_eq!((row.criticality, row.name.as_str()), (0.123_457, "parents, \"of\" vertices"));
    assert!(row.levels.is_none() && read.rows[1].levels.is_some());
    for feature in FEATURES.iter().filter(|feature| feature.group.is_stored()) {
        let (written, read) = (features(Family::Clock, 0.25).known(feature.name), row.clock.as_ref().unwrap());
        let known = written.filter(|_| feature.families.contains(&Family::Clock));
        // A family that recorded nothing has no samples; one that did says how many, if only zero.
        let known = if feature.text == "samples" { known.or(Some(0.0)) } else { known };
        assert_eq!(read.known(feature.name), known, "{}", feature.text);
    }
}

#[test]
fn a_row_that_comes_again_replaces_the_one_that_was_there() {
    let mut table = table();
    let mut again = row("bc", 2, "heap-1");
    again.criticality = 0.5;
    table.merge(Table { rows: vec![again], sets: Vec::new() });
    assert_eq!((table.rows.len(), table.rows[0].criticality), (3, 0.5));
}

/// The error of a table in which `from` was replaced by `to` in the file of objects.
fn broken(from: &str, to: &str) -> Result<Table, TableError> {
    let objects = table().objects_csv();
    assert!(objects.contains(from), "{from} is not in the table");
    Table::parse(&objects.replacen(from, to, 1), &table().sets_csv())
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    for (from, to, expected) in [
        ("criticality,", "critical,", "no column criticality"),
        ("scale,", "seed,", "two columns seed"),
        ("0.123457", "nan", "line 2, column criticality: \"nan\" is not a slowdown"),
        (",2.8,", ",0,", "column bandwidth_x"),
        (",4194304,", ",0,", "column bytes: \"0\" is not a size of at least one byte"),
        (",18,2,", ",18,-2,", "column seed: \"-2\" is not a whole number"),
        (",heap,", ",heap,heap,", "line 2: "),
        ("heap-2", "heap-1", "heap-1 of bfs at scale 18"),
        ("heap-2", "heap;2", "column object"),
        (
            "bfs,18,1,1048576,optane-100x6,sim,3,",
            "bfs,18,1,1048576,optane-100x6,sim,4,",
            "two different pairs of tiers",
        ),
    ] {
        let error = broken(from, to).unwrap_err().to_string();
        assert!(error.contains(expected), "{from} -> {to}: {error}");
    }
    let sets = table().sets_csv().replace("heap-2", "heap-9");
    let error = Table::parse(&table().objects_csv(), &sets).unwrap_err().to_string();
    assert!(error.contains("heap-9"), "{error}");
    let mut twice = table().sets_csv();
    let last = twice.lines().last().unwrap().to_owned() + "\n";
    twice.push_str(&last);
    let error = Table::parse(&table().objects_csv(), &twice).unwrap_err().to_string();
    assert!(error.contains("twice"), "{error}");
}

#[test]
fn a_column_more_or_a_feature_less_is_read() {
    let renamed = table().objects_csv().replace("clock.share,", "clock.of_tomorrow,");
    let read = Table::parse(&renamed, &table().sets_csv()).unwrap();
    assert_eq!(read.rows[0].clock.as_ref().unwrap().known(tierscope_rank::Name::Share), None);
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(objects in "\\PC*", sets in "(\\PC|\n|\"|,)*") {
        let _ = Table::parse(&objects, &sets);
    }

    #[test]
    fn no_damage_to_a_table_makes_the_reader_panic_and_what_it_takes_is_sound(
        cuts in prop::collection::vec((any::<prop::sample::Index>(), "[-0-9eE.,;\"\nxnai]{0,4}"), 1..6)
    ) {
        let (mut objects, mut sets) = (table().objects_csv(), table().sets_csv());
        for (number, (at, with)) in cuts.iter().enumerate() {
            let text = if number % 3 == 2 { &mut sets } else { &mut objects };
            let start = at.index(text.len());
            let end = (start + with.len()).min(text.len());
            text.replace_range(start..end, with);
        }
        if let Ok(read) = Table::parse(&objects, &sets) {
            for row in &read.rows {
                prop_assert!(row.criticality.is_finite() && row.criticality_error >= 0.0 && row.bytes > 0);
            }
            let again = Table::parse(&read.objects_csv(), &read.sets_csv()).unwrap();
            prop_assert_eq!(again.objects_csv(), read.objects_csv());
        }
    }
}

#[test]
fn a_ratio_says_how_much_worse_the_slow_tier_is_and_what_is_not_known_has_none() {
    let fast = TierFigures { latency_ns: 100.0, read_gbs: 90.0, write_gbs: f64::NAN, granule_bytes: 64.0 };
    let slow = TierFigures { latency_ns: 300.0, read_gbs: 30.0, write_gbs: 10.0, granule_bytes: 256.0 };
    let pair = TierPair::between(&fast, &slow);
    assert_eq!((pair.latency_x, pair.bandwidth_x, pair.granule_bytes), (3.0, 3.0, 256.0));
    assert_eq!((pair.slow_read_gbs, pair.slow_write_gbs), (30.0, 10.0));
    assert!(pair.write_bandwidth_x.is_nan());
}
