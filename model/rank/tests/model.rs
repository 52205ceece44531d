//! Models of made-up programs: repeatable, monotone, honest about the family they know, and safe to read back.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::sync::OnceLock;

use proptest::prelude::*;
use tierscope_rank::{Family, Features, Kind, Model, Name, StoreError, Table, TierPair, TrainError, evaluate, key};

fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| support::table(8, 3))
}

fn model(family: Family) -> &'static Model {
    static MODELS: OnceLock<[Model; 2]> = OnceLock::new();
    let models = MODELS.get_or_init(|| Family::ALL.map(|family| Model::train(table(), family).unwrap()));
    &models[usize::from(family == Family::Levels)]
}

fn stored() -> &'static str {
    static STORED: OnceLock<String> = OnceLock::new();
    STORED.get_or_init(|| model(Family::Clock).to_json("k"))
}

#[test]
fn the_same_table_gives_the_same_model_bit_for_bit() {
    let again = Model::train(&table().clone(), Family::Levels).unwrap();
    assert_eq!(again.to_json("k"), model(Family::Levels).to_json("k"));
}

#[test]
fn a_learner_is_chosen_because_it_divides_costs_better_than_the_formula() {
    for family in Family::ALL {
        let learners = &model(family).comparison().learners;
        let chosen = learners.iter().find(|compared| compared.chosen).unwrap();
        let formula = learners.iter().find(|compared| compared.kind == Kind::Formula).unwrap();
        assert_eq!(chosen.kind, model(family).kind());
        assert!(chosen.misplaced < formula.misplaced - 0.02 && chosen.tau > formula.tau, "{chosen:?} {formula:?}");
        let text = model(family).comparison().to_string();
        assert!(text.contains("* ") && text.contains("extra-trees"), "{text}");
    }
}

#[test]
fn nothing_of_a_program_reaches_what_is_learnt_without_it() {
    let program = "program-03";
    let mut poisoned = table().clone();
    for row in poisoned.rows.iter_mut().filter(|row| row.case.program == program) {
        row.criticality = 7.0 - row.criticality;
        row.bytes += 12_345;
        for features in [&mut row.clock, &mut row.levels].into_iter().flatten() {
            features.set(Name::Share, 0.9, 0.1);
            features.set(Name::Log2BytesToLlc, 40.0, 0.0);
        }
    }
    for set in poisoned.sets.iter_mut().filter(|set| set.case.program == program) {
        set.slowdown = 99.0;
    }
    let without = |table: &Table| evaluate::train_without(table, Family::Clock, program).unwrap().to_json("k");
    assert_eq!(without(table()), without(&poisoned));
    assert_ne!(Model::train(&poisoned, Family::Clock).unwrap().to_json("k"), stored());
}

/// The table with the labels of all rows dealt out anew.
fn shuffled() -> Table {
    let mut shuffled = table().clone();
    let mut lot = support::Lot::new(9);
    for at in (1..shuffled.rows.len()).rev() {
        let other = (lot.unit() * (at + 1) as f64) as usize;
        let (a, b) = (shuffled.rows[at].criticality, shuffled.rows[other].criticality);
        (shuffled.rows[at].criticality, shuffled.rows[other].criticality) = (b, a);
    }
    shuffled
}

#[test]
fn features_do_not_change_when_labels_are_shuffled_and_skill_is_gone() {
    let shuffled = shuffled();
    for (before, after) in table().rows.iter().zip(&shuffled.rows) {
        for family in Family::ALL {
            let (before, after) = (before.features(family).unwrap(), after.features(family).unwrap());
            assert_eq!(format!("{before:?}"), format!("{after:?}"));
        }
    }
    let learnt = Model::train(&shuffled, Family::Levels).unwrap();
    for compared in &learnt.comparison().learners {
        assert!(compared.tau.abs() < 0.25, "labels by lot cannot be ranked: {compared:?}");
    }
    assert!(model(Family::Levels).comparison().learners.iter().any(|compared| compared.tau > 0.6));
}

#[test]
fn a_model_refuses_features_of_the_other_family() {
    let refusal = model(Family::Clock).predict(Family::Levels, &[]).unwrap_err().to_string();
    assert!(refusal.contains("trained on features of family clock"), "{refusal}");
}

#[test]
fn a_table_without_enough_programs_is_refused_with_a_way_out() {
    for table in [Table::default(), support::table(2, 1)] {
        let error = Model::train(&table, Family::Clock).unwrap_err();
        assert!(matches!(error, TrainError::TooFew { .. }));
        assert!(error.to_string().contains("tierscope label"), "{error}");
    }
}

#[test]
fn odd_tables_are_learnt_from_without_a_panic() {
    let small = |change: &dyn Fn(usize, &mut tierscope_rank::Row)| {
        let mut table = support::table(4, 5);
        table.rows.retain(|row| row.case.tiers == "cxl-asic" && row.case.scale == "small");
        table.rows.iter_mut().enumerate().for_each(|(number, row)| change(number, row));
        table
    };
    let one_per_program = |_: usize, _: &mut tierscope_rank::Row| {};
    let mut single = small(&one_per_program);
    single.rows.dedup_by(|a, b| a.case.program == b.case.program);
    let tables = [
        single,
        small(&|_, row| row.criticality = 0.0),
        small(&|_, row| row.criticality = 1e6),
        small(&|_, row| row.clock = Some(Features::default())),
        small(&|number, row| {
            let features = row.clock.as_mut().unwrap();
            features.set(Name::Share, if number % 2 == 0 { 1e300 } else { -1e300 }, 1e300);
            features.set(Name::Log2BytesToLlc, -1e300, 0.0);
            features.set(Name::StrideEntropy, f64::MAX, f64::MAX);
        }),
        small(&|number, row| {
            if number > 0 {
                row.clock.as_mut().unwrap().set(Name::Sequentiality, f64::NAN, 0.0);
            }
        }),
        small(&|_, row| row.clock = row.clock.take().filter(|_| row.object == "heap-00")),
    ];
    for (number, table) in tables.iter().enumerate() {
        let model = Model::train(table, Family::Clock).unwrap_or_else(|error| panic!("{number}: {error}"));
        let asked: Vec<_> = table.rows.iter().map(|row| support::question(row, Family::Clock)).collect();
        for said in model.predict(Family::Clock, &asked).unwrap() {
            let (low, high) = said.interval;
            assert!(low <= said.criticality && said.criticality <= high && high.is_finite(), "{number}: {said:?}");
        }
        assert!(Model::from_json(&model.to_json("k"), "k").is_ok(), "{number}");
    }
}

#[test]
fn what_is_unknown_is_said_to_be_unsure() {
    let pair = table().rows[0].tier_pair;
    let mut sparse = Features::default();
    let nothing = &model(Family::Clock).predict(Family::Clock, &[(sparse.clone(), pair)]).unwrap()[0];
    assert!(nothing.unsure && nothing.interval.1 >= 1.0);
    sparse.set(Name::Share, 0.5, 0.01);
    sparse.set_exact(Name::Samples, 2.0);
    let little = &model(Family::Clock).predict(Family::Clock, &[(sparse, pair)]).unwrap()[0];
    assert!(little.unsure && little.criticality > 0.0 && little.contributions.is_empty());
}

#[test]
fn an_interval_knows_how_much_of_it_few_samples_are_to_blame_for() {
    let asked = |error: f64| {
        let (mut features, pair) = support::question(&table().rows[0], Family::Clock);
        features.set(Name::Share, 0.3, error);
        features.set_exact(Name::Samples, 100.0);
        model(Family::Clock).predict(Family::Clock, &[(features, pair)]).unwrap().remove(0)
    };
    let (sure, unsure) = (asked(0.0), asked(0.2));
    assert_eq!(sure.sampled, 0.0);
    assert!(unsure.sampled > 0.3 && unsure.sampled < 1.0, "{}", unsure.sampled);
    let width = |said: &tierscope_rank::Predicted| said.interval.1 - said.interval.0;
    assert!(width(&unsure) > width(&sure));
}

#[test]
fn a_thousand_objects_that_cost_nothing_cost_nothing_together() {
    let asked: Vec<_> = table().rows.iter().map(|row| support::question(row, Family::Clock)).collect();
    for said in model(Family::Clock).predict(Family::Clock, &asked).unwrap() {
        assert!((0.0..=said.criticality).contains(&said.summand()), "{said:?}");
        // What costs something adds nearly that.
        assert!(said.formula < 0.05 || said.summand() > 0.8 * said.criticality - 0.01, "{said:?}");
        let nothing = tierscope_rank::Predicted { formula: 0.0, ..said };
        assert_eq!(nothing.summand(), 0.0);
    }
}

#[test]
fn a_prediction_names_what_moved_it() {
    let asked: Vec<_> = table().rows.iter().map(|row| support::question(row, Family::Clock)).collect();
    let said = model(Family::Clock).predict(Family::Clock, &asked).unwrap();
    let named = said.iter().filter(|said| !said.contributions.is_empty()).count();
    assert!(named * 10 > said.len() * 9);
    for contribution in said.iter().flat_map(|said| &said.contributions) {
        assert!(contribution.factor > 0.0 && contribution.name != Name::Share);
    }
}

#[test]
fn an_object_is_predicted_the_same_whatever_is_asked_about_with_it() {
    for family in Family::ALL {
        let mut asked: Vec<_> = table().rows.iter().map(|row| support::question(row, family)).collect();
        // Some that the learner is not asked about, in no order.
        asked.iter_mut().step_by(7).for_each(|(features, _)| features.set_exact(Name::Samples, 1.0));
        asked.iter_mut().step_by(11).for_each(|(features, _)| *features = Features::default());
        let together = model(family).predict(family, &asked).unwrap();
        assert!(together.iter().any(|said| said.unsure) && together.iter().any(|said| !said.unsure));
        for (question, said) in asked.iter().zip(&together).take(200) {
            assert_eq!(&model(family).predict(family, std::slice::from_ref(question)).unwrap()[0], said);
        }
    }
}

#[test]
fn a_stored_model_says_what_the_model_says() {
    let read = Model::from_json(stored(), "k").unwrap();
    assert_eq!(&read, model(Family::Clock));
    let asked: Vec<_> = table().rows.iter().take(50).map(|row| support::question(row, Family::Clock)).collect();
    let said = |model: &Model| model.predict(Family::Clock, &asked).unwrap();
    assert_eq!(said(&read), said(model(Family::Clock)));
    assert!(matches!(Model::from_json(stored(), "other"), Err(StoreError::Stale)));
    assert_ne!(key("a", "b"), key("ab", ""));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn more_share_at_the_same_density_or_a_slower_tier_never_lowers_a_prediction(
        row in any::<prop::sample::Index>(), levels: bool, more in 1.0..4.0f64, slower in 1.0..3.0f64
    ) {
        let family = if levels { Family::Levels } else { Family::Clock };
        let row = &table().rows[row.index(table().rows.len())];
        let (features, pair) = support::question(row, family);
        let mut larger = features.clone();
        for name in [Name::Share, Name::ShareOfAttributed, Name::MissShare, Name::LatencyShare] {
            if let Some(share) = features.known(name) {
                larger.set(name, (share * more).min(1.0), features.error(name));
            }
        }
        let further = TierPair {
            latency_x: pair.latency_x * slower,
            bandwidth_x: pair.bandwidth_x * slower,
            write_bandwidth_x: pair.write_bandwidth_x * slower,
            ..pair
        };
        let only_latency = TierPair { latency_x: pair.latency_x * slower, ..pair };
        let asked = [(features.clone(), pair), (larger, pair), (features.clone(), further), (features, only_latency)];
        let said: Vec<f64> =
            model(family).predict(family, &asked).unwrap().iter().map(|said| said.criticality).collect();
        for other in &said[1..] {
            prop_assert!(*other >= said[0] - 1e-12, "{said:?}");
        }
    }

    #[test]
    fn leaving_more_in_slow_memory_lowers_neither_end_of_an_interval(
        levels: bool, costs in prop::collection::vec((0.0..6.0f64, any::<bool>()), 1..12)
    ) {
        let forecast = model(if levels { Family::Levels } else { Family::Clock }).forecast();
        // From nothing to sixteen times the run.
        let cost = |magnitude: f64| (10f64.powf(magnitude) - 1.0) * 16e-6;
        let all: Vec<f64> = costs.iter().map(|(magnitude, _)| cost(*magnitude)).collect();
        let part: Vec<f64> = costs.iter().filter(|(_, is)| *is).map(|(magnitude, _)| cost(*magnitude)).collect();
        let (of_part, of_all) = (forecast.interval(&part), forecast.interval(&all));
        let slack = 1.0 + 1e-9;
        prop_assert!(forecast.slowdown(&part) <= forecast.slowdown(&all) * slack);
        prop_assert!(of_part.0 <= of_all.0 * slack && of_part.1 <= of_all.1 * slack, "{of_part:?} {of_all:?}");
    }

    #[test]
    fn damage_to_a_stored_model_is_refused_or_harmless(
        at in any::<prop::sample::Index>(), with in "[-0-9eE.,\\[\\]{}:\"a-z]{0,6}"
    ) {
        let mut text = stored().to_owned();
        let start = at.index(text.len());
        let end = (start + with.len()).min(text.len());
        text.replace_range(start..end, &with);
        if let Ok(model) = Model::from_json(&text, "k") {
            let asked: Vec<_> = table().rows.iter().take(5).map(|row| support::question(row, model.family())).collect();
            let said = model.predict(model.family(), &asked).unwrap();
            prop_assert!(said.iter().all(|said| said.criticality.is_finite()));
        }
    }
}
