//! Evaluation of made-up programs, and of placements from sets that were timed.

mod support;

use tierscope_rank::{
    Ablation, Case, Counted, Family, Lattice, Model, Ranker, Row, Set, TierPair, evaluate, evaluate_model,
};

fn row(object: &str, bytes: u64, criticality: f64) -> Row {
    Row {
        case: Case {
            program: "p".into(),
            scale: "1".into(),
            seed: 1,
            llc_bytes: 1,
            tiers: "t".into(),
            machine: "sim".into(),
        },
        tier_pair: TierPair {
            latency_x: 3.0,
            bandwidth_x: 3.0,
            write_bandwidth_x: 3.0,
            granule_bytes: 64.0,
            slow_read_gbs: 30.0,
            slow_write_gbs: 30.0,
        },
        object: object.into(),
        name: object.into(),
        kind: "heap".into(),
        bytes,
        movable: true,
        clock: None,
        levels: None,
        counted: Counted::UNKNOWN,
        criticality,
        criticality_error: 0.0,
    }
}

fn set(row: &Row, slow: &[&str], slowdown: f64) -> Set {
    Set { case: row.case.clone(), slow: slow.iter().map(|&name| name.into()).collect(), slowdown, error: 0.0 }
}

#[test]
fn a_placement_costs_what_was_timed_and_the_rest_adds_up_to_what_everything_costs() {
    let rows = [row("a", 1, 0.5), row("b", 1, 0.4), row("c", 1, 0.1), row("d", 1, 0.1)];
    let sets = [set(&rows[0], &["a", "b"], 0.7), set(&rows[0], &["a", "b", "c", "d"], 0.8)];
    let lattice = Lattice::new(&rows.iter().collect::<Vec<_>>(), &sets.iter().collect::<Vec<_>>());
    assert_eq!(lattice.core(), [0, 1]);
    for (slow, slowdown, is_estimate) in [
        (vec![], 0.0, false),
        (vec![0], 0.5, false),
        (vec![0, 1], 0.7, false),
        (vec![0, 1, 2, 3], 0.8, false),
        // Both others cost 0.1 together although each costs that alone.
        (vec![0, 1, 2], 0.75, true),
        (vec![2, 3, 3, 77], 0.1, true),
    ] {
        let found = lattice.slowdown(&slow);
        assert!((found.slowdown - slowdown).abs() < 1e-12 && found.is_estimate == is_estimate, "{slow:?}: {found:?}");
    }
}

#[test]
fn sets_of_strangers_and_negative_labels_do_no_harm() {
    let rows = [row("a", 1, -0.1), row("b", 1, 0.4)];
    let sets = [set(&rows[0], &["a", "stack"], 5.0), set(&rows[0], &[], 5.0)];
    let lattice = Lattice::new(&rows.iter().collect::<Vec<_>>(), &sets.iter().collect::<Vec<_>>());
    assert_eq!(lattice.slowdown(&[0]).slowdown, 0.0);
    assert_eq!(lattice.slowdown(&[0, 1]).slowdown, 0.4);
    assert_eq!(lattice.slowdown(&[]).slowdown, 0.0);
}

#[test]
fn the_model_is_ahead_of_miss_counts_and_intervals_cover_what_they_say() {
    let table = support::table(12, 1);
    let found = evaluate(&table, Family::Levels, &|_, _| {}).unwrap();
    assert_eq!((found.programs, found.cells.len()), (12, 12 * 12 * 9));
    for cell in &found.cells {
        let oracle = cell.slowdowns.last().copied().flatten().unwrap();
        assert!(cell.slowdowns.iter().flatten().all(|&slowdown| slowdown >= oracle));
    }
    let of = |ranker| found.rankers.iter().find(|summary| summary.ranker == ranker).unwrap();
    for ranker in Ranker::ALL {
        let regret = of(ranker).mean_regret_vs_oracle;
        assert!(ranker == Ranker::Oracle || regret >= of(Ranker::Model).mean_regret_vs_oracle, "{ranker:?}");
    }
    assert!(of(Ranker::Model).mean_slowdown < of(Ranker::LlcMisses).mean_slowdown);
    assert!((0.8..0.97).contains(&found.summary.interval_coverage), "{:?}", found.summary);
    let json = found.to_json();
    assert_eq!(json["rows"].as_array().unwrap().len(), 12 * 9 * Ranker::ALL.len());
    assert!(json["summary"]["mean_reduction_vs_llc_misses"].is_f64());
    assert!(found.to_string().contains("soar-aol"));
}

#[test]
fn a_ranker_without_its_counts_is_left_out() {
    let mut table = support::table(4, 2);
    table.rows.iter_mut().for_each(|row| row.counted.soar_score = f64::NAN);
    let found = evaluate(&table, Family::Clock, &|_, _| {}).unwrap();
    assert!(found.rows.iter().all(|row| row.ranker != Ranker::SoarAol));
    assert!(found.rows.iter().any(|row| row.ranker == Ranker::LatencyWeighted));
}

#[test]
fn features_together_rank_better_than_any_group_alone() {
    let ablation = Ablation::run(&support::table(8, 1), Family::Levels).unwrap();
    let (all, others) = ablation.rows.split_first().unwrap();
    assert_eq!(all.features, "all");
    for alone in others.iter().filter(|row| row.features.ends_with("alone")) {
        assert!(all.misplaced < alone.misplaced, "{}", alone.features);
    }
    assert!(ablation.to_string().contains("without physics"));
}

#[test]
fn a_model_is_evaluated_on_a_program_of_another_table() {
    let model = Model::train(&support::table(6, 1), Family::Clock).unwrap();
    let found = evaluate_model(&model, &support::table(1, 7));
    assert_eq!((found.programs, found.rows.len()), (1, 9 * Ranker::ALL.len()));
    let nothing = evaluate_model(&model, &tierscope_rank::Table::default());
    assert!(nothing.rows.is_empty() && nothing.to_json()["summary"]["mean_regret_vs_oracle"].is_null());
}
