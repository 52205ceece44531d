//! What holds for every problem.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod support;

use proptest::prelude::*;
use support::{Random, cost, fits, fullest, least_cost, living, object, tier};
use tierscope_placement::{
    Additive, Bound, Cost, Limits, Object, Optimality, PlacementError, Problem, best, by_density, curve, in_order,
    least_fast,
};

/// Objects with lives of a few spans on a coarse clock, so that they often meet, follow each other, and touch.
fn objects(most: usize, tiers: usize) -> impl Strategy<Value = Vec<Object>> {
    let spans = prop::collection::vec((0u64..8, 0u64..5, 0u64..50), 0..4);
    let lives = prop_oneof![Just(None), spans.prop_map(Some)];
    let one = (0u64..50, lives, prop::collection::vec(0u32..20, tiers));
    prop::collection::vec(one, 1..=most).prop_map(|objects| {
        let described = objects.into_iter().enumerate().map(|(number, (bytes, lives, mut costs))| {
            costs.sort_unstable();
            let costs = costs.into_iter().map(|cost| Cost::exactly(f64::from(cost) / 16.0)).collect();
            let plain = Object { id: format!("o{number}"), bytes, lives: None, costs };
            match lives {
                None => plain,
                Some(spans) => living(
                    plain,
                    &spans.into_iter().map(|(start, length, bytes)| (start, start + length, bytes)).collect::<Vec<_>>(),
                ),
            }
        });
        described.collect()
    })
}

fn problems(most: usize) -> impl Strategy<Value = Problem> {
    (1usize..=3)
        .prop_flat_map(move |tiers| (objects(most, tiers), prop::collection::vec(prop::option::of(0u64..120), tiers)))
        .prop_map(|(objects, capacities)| {
            let tiers = capacities.into_iter().enumerate().map(|(n, capacity)| tier(&format!("t{n}"), capacity));
            Problem::new(objects, tiers.collect()).unwrap()
        })
}

/// Problems whose last tier holds everything, so that there always is a placement.
fn solvable(most: usize) -> impl Strategy<Value = Problem> {
    problems(most).prop_map(|problem| {
        let mut tiers = problem.tiers().to_vec();
        tiers.last_mut().unwrap().capacity = None;
        Problem::new(problem.objects().to_vec(), tiers).unwrap()
    })
}

proptest! {
    #[test]
    fn the_search_finds_what_trying_everything_finds(problem in solvable(6)) {
        let plan = best(&problem, &Additive, Limits::default()).unwrap();
        prop_assert!(fits(&problem, &plan.placed));
        prop_assert_eq!(plan.optimality, Optimality::Exact);
        let least = least_cost(&problem).unwrap();
        prop_assert!((cost(&problem, &plan.placed) - least).abs() < 1e-9, "{} against {least}", plan.cost.point);
    }

    #[test]
    fn no_tier_is_ever_fuller_than_it_can_be(problem in problems(9)) {
        match best(&problem, &Additive, Limits::default()) {
            Ok(plan) => {
                prop_assert!(fits(&problem, &plan.placed));
                for (tier, &peak) in plan.peaks.iter().enumerate() {
                    prop_assert_eq!(peak, fullest(&problem, &plan.placed, tier));
                }
            }
            Err(error) => prop_assert!(matches!(error, PlacementError::DoesNotFit { .. }), "{}", error),
        }
        let order: Vec<usize> = (0..problem.objects().len()).collect();
        if let Ok(plan) = in_order(&problem, &order, &Additive) {
            prop_assert!(fits(&problem, &plan.placed));
        }
    }

    #[test]
    fn a_search_without_work_is_no_worse_than_greedy_and_says_how_far_it_may_be_off(problem in solvable(7)) {
        let searched = best(&problem, &Additive, Limits::default()).unwrap();
        let stopped = best(&problem, &Additive, Limits { work: 0 }).unwrap();
        prop_assert!(fits(&problem, &stopped.placed));
        prop_assert!(searched.cost.point <= stopped.cost.point + 1e-9);
        if let Optimality::WithinFraction(part) = stopped.optimality {
            prop_assert!(searched.cost.point >= stopped.cost.point * (1.0 - part) - 1e-9);
        } else {
            prop_assert!((searched.cost.point - stopped.cost.point).abs() < 1e-9);
        }
    }

    #[test]
    fn the_curve_falls_from_nothing_to_everything(problem in solvable(9)) {
        for limits in [None, Some(Limits::default())] {
            let points = curve(&problem, &by_density(&problem), &Additive, limits).unwrap();
            for pair in points.windows(2) {
                prop_assert!(pair[0].fast_bytes <= pair[1].fast_bytes);
                prop_assert!(pair[0].cost.point >= pair[1].cost.point);
            }
            let (first, last) = (points.first().unwrap(), points.last().unwrap());
            prop_assert!(problem.tiers().len() == 1 || first.fast_bytes == 0);
            prop_assert_eq!(last.fast_bytes, problem.footprint());
            prop_assert!(last.next.is_none());
            let all_fast = cost(&problem, &vec![0; problem.objects().len()]);
            prop_assert!((last.cost.point - all_fast).abs() < 1e-9);
        }
    }

    #[test]
    fn the_least_budget_for_a_slowdown_keeps_it(problem in solvable(6), limit in 0.0f64..4.0) {
        match least_fast(&problem, None, &Additive, limit, Bound::Point, Limits::default()) {
            Ok(plan) => {
                prop_assert!(plan.cost.point <= limit);
                prop_assert!(fits(&problem, &plan.placed));
                // A byte less than the grain below it is not enough, if it is above one.
                if let Some(budget) = plan.fast_bytes().checked_sub(4097) {
                    let less = best(&problem.with_fast(Some(budget)), &Additive, Limits::default()).unwrap();
                    prop_assert!(less.cost.point > limit);
                }
            }
            Err(PlacementError::OutOfReach { least, .. }) => prop_assert!(least > limit),
            Err(error) => prop_assert!(false, "{}", error),
        }
    }

    #[test]
    fn the_same_question_has_the_same_answer(problem in solvable(9)) {
        let ask = || best(&problem, &Additive, Limits { work: 50 }).unwrap();
        prop_assert_eq!(ask(), ask());
    }
}

#[test]
fn twelve_objects_in_three_tiers_that_share_time_are_placed_as_well_as_possible() {
    let mut random = Random(7);
    let objects: Vec<Object> = (0..12)
        .map(|number| {
            let (start, bytes) = (random.below(20), 10 + random.below(90));
            let slow = random.unit();
            let costs = [0.0, slow * (0.2 + 0.3 * random.unit()), slow].map(Cost::exactly).to_vec();
            let plain = Object { id: format!("o{number}"), bytes, lives: None, costs };
            if number % 3 == 0 { plain } else { living(plain, &[(start, start + 1 + random.below(12), bytes)]) }
        })
        .collect();
    let tiers = vec![tier("fast", Some(120)), tier("middle", Some(150)), tier("slow", None)];
    let problem = Problem::new(objects, tiers).unwrap();
    let plan = best(&problem, &Additive, Limits::default()).unwrap();
    assert_eq!(plan.optimality, Optimality::Exact);
    assert!(fits(&problem, &plan.placed));
    let least = least_cost(&problem).unwrap();
    assert!((plan.cost.point - least).abs() < 1e-9, "{} against {least}", plan.cost.point);
}

#[test]
fn crowded_timelines_are_placed_as_well_as_possible() {
    for seed in 0..60 {
        let mut random = Random(seed);
        let objects: Vec<Object> = (0..11)
            .map(|number| {
                let (start, bytes) = (random.below(12), 10 + random.below(90));
                let plain = object(&format!("o{number}"), bytes, (bytes as f64 + 40.0 * random.unit()) / 100.0);
                living(plain, &[(start, start + 1 + random.below(8), bytes)])
            })
            .collect();
        let problem = Problem::new(objects, vec![tier("fast", None), tier("slow", None)]).unwrap();
        let problem = problem.with_fast(Some(problem.footprint() * (2 + seed % 7) / 10));
        let plan = best(&problem, &Additive, Limits::default()).unwrap();
        assert_eq!(plan.optimality, Optimality::Exact);
        let least = least_cost(&problem).unwrap();
        assert!((plan.cost.point - least).abs() < 1e-9, "seed {seed}: {} against {least}", plan.cost.point);
    }
}

#[test]
fn hundreds_of_objects_are_solved_within_the_default_work() {
    for (seed, correlated) in [(1, false), (2, true), (3, false)] {
        for count in [60, 300] {
            let mut random = Random(seed);
            let objects = (0..count).map(|number| {
                let bytes = 4096 * (1 + random.below(1 << 16));
                let benefit = if correlated { bytes as f64 / 1e9 + 0.05 * random.unit() } else { random.unit() };
                object(&format!("o{number}"), bytes, benefit)
            });
            let problem = Problem::new(objects.collect(), vec![tier("fast", None), tier("slow", None)]).unwrap();
            for percent in [10, 25, 50, 75] {
                let problem = problem.with_fast(Some(problem.footprint() / 100 * percent));
                let plan = best(&problem, &Additive, Limits::default()).unwrap();
                assert!(fits(&problem, &plan.placed));
                assert_eq!(plan.optimality, Optimality::Exact, "{count} objects, seed {seed}, {percent} %");
            }
        }
    }
}
