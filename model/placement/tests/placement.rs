//! What a placement is, case by case.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod support;

use support::{living, object, tier};
use tierscope_placement::{
    Additive, Bound, Cost, Limits, Object, Optimality, PlacementError, Problem, best, by_density, curve, in_order,
    least_fast,
};

fn two_tiers(objects: Vec<Object>, fast: Option<u64>) -> Problem {
    Problem::new(objects, vec![tier("fast", fast), tier("slow", None)]).unwrap()
}

#[test]
fn objects_that_never_live_together_share_the_budget() {
    let objects = vec![
        living(object("first", 100, 0.3), &[(0, 10, 100)]),
        living(object("second", 100, 0.2), &[(10, 20, 100)]),
        living(object("beside", 100, 0.1), &[(5, 15, 100)]),
    ];
    let plan = best(&two_tiers(objects, Some(100)), &Additive, Limits::default()).unwrap();
    assert_eq!(plan.placed, [0, 0, 1]);
    assert_eq!(plan.fast_bytes(), 100);
}

#[test]
fn the_search_beats_benefit_per_byte_where_one_object_blocks_two() {
    // By density the first goes in and leaves no room for the two that are worth more together.
    let objects = vec![object("dense", 60, 0.61), object("half", 50, 0.5), object("other half", 50, 0.5)];
    let problem = two_tiers(objects, Some(100));
    assert_eq!(by_density(&problem)[0], 0);
    let plan = best(&problem, &Additive, Limits::default()).unwrap();
    assert_eq!((plan.placed.as_slice(), plan.optimality), (&[1, 0, 0][..], Optimality::Exact));
    let stopped = best(&problem, &Additive, Limits { work: 0 }).unwrap();
    assert_eq!(stopped.placed, [0, 1, 1]);
    assert!(matches!(stopped.optimality, Optimality::WithinFraction(part) if part > 0.3), "{:?}", stopped.optimality);
}

#[test]
fn what_gains_nothing_takes_no_fast_memory_and_what_takes_none_always_gets_it() {
    let objects = vec![object("idle", 10, 0.0), object("empty", 0, 0.4), object("hot", 10, 0.1)];
    let plan = best(&two_tiers(objects.clone(), None), &Additive, Limits::default()).unwrap();
    assert_eq!(plan.placed, [1, 0, 0]);
    let plan = best(&two_tiers(objects, Some(0)), &Additive, Limits::default()).unwrap();
    assert_eq!(plan.placed, [1, 0, 1]);
}

#[test]
fn an_order_is_kept_whatever_it_costs() {
    let problem = two_tiers(vec![object("idle", 60, 0.0), object("hot", 60, 0.9), object("warm", 40, 0.5)], Some(100));
    let plan = in_order(&problem, &[0, 1, 2], &Additive).unwrap();
    assert_eq!((plan.placed.as_slice(), plan.optimality), (&[0, 1, 0][..], Optimality::Greedy));
    for bad in [&[0, 1][..], &[0, 1, 1], &[0, 1, 3]] {
        assert!(matches!(in_order(&problem, bad, &Additive), Err(PlacementError::BadOrder { .. })));
    }
}

#[test]
fn a_slow_tier_that_overflows_pushes_into_the_fast_one_or_is_refused() {
    let objects = vec![object("a", 60, 0.0), object("b", 60, 0.0)];
    let tiers = |slow| vec![tier("fast", Some(60)), tier("slow", Some(slow))];
    let plan = best(&Problem::new(objects.clone(), tiers(60)).unwrap(), &Additive, Limits::default()).unwrap();
    assert_ne!(plan.placed[0], plan.placed[1]);
    let refused = best(&Problem::new(objects, tiers(59)).unwrap(), &Additive, Limits::default()).unwrap_err();
    assert!(refused.to_string().contains("fits in no tier"), "{refused}");
}

#[test]
fn the_curve_names_the_next_object_and_the_exact_points_are_marked() {
    let objects = vec![object("dense", 60, 0.61), object("half", 50, 0.5), object("other half", 50, 0.5)];
    let problem = two_tiers(objects, None);
    let order = by_density(&problem);
    let plain = curve(&problem, &order, &Additive, None).unwrap();
    let shown: Vec<(u64, Option<usize>)> = plain.iter().map(|point| (point.fast_bytes, point.next)).collect();
    assert_eq!(shown, [(0, Some(0)), (60, Some(1)), (110, Some(2)), (160, None)]);
    let searched = curve(&problem, &order, &Additive, Some(Limits::default())).unwrap();
    assert!(searched.iter().any(|point| point.searched && point.fast_bytes == 100));
    assert!(searched.iter().any(|point| point.searched && point.fast_bytes == 50));
}

#[test]
fn the_upper_end_of_an_interval_can_be_what_must_hold() {
    let cost = Cost { point: 0.05, low: 0.0, high: 0.2 };
    let unsure = Object { costs: vec![Cost::NONE, cost], ..object("unsure", 1 << 20, 0.0) };
    let problem = two_tiers(vec![unsure, object("sure", 1 << 20, 0.04)], None);
    let ask = |bound| least_fast(&problem, None, &Additive, 0.1, bound, Limits::default()).unwrap().placed;
    assert_eq!(ask(Bound::Point), [1, 1]);
    assert_eq!(ask(Bound::High), [0, 1]);
    let refused = least_fast(&problem, None, &Additive, f64::NAN, Bound::Point, Limits::default());
    assert!(matches!(refused, Err(PlacementError::OutOfReach { .. })));
}

#[test]
fn what_is_no_problem_is_refused_and_named() {
    let tiers = || vec![tier("fast", None), tier("slow", None)];
    let refused = |objects: Vec<Object>| Problem::new(objects, tiers()).unwrap_err();
    assert_eq!(
        refused(vec![object("a", 1, 0.1), object("a", 2, 0.2)]),
        PlacementError::DuplicateObject { id: "a".into() }
    );
    for bad in [f64::NAN, f64::INFINITY, -0.1] {
        let error = refused(vec![object("a", 1, bad)]);
        assert!(matches!(&error, PlacementError::BadCost { tier, .. } if tier == "slow"), "{error}");
    }
    let outside = Object { costs: vec![Cost::NONE, Cost { point: 0.5, low: 0.6, high: 0.7 }], ..object("a", 1, 0.0) };
    assert!(matches!(refused(vec![outside]), PlacementError::BadCost { .. }));
    let missing = Object { costs: vec![Cost::NONE], ..object("a", 1, 0.0) };
    assert!(matches!(refused(vec![missing]), PlacementError::CostsMissing { found: 1, tiers: 2, .. }));
    assert_eq!(refused(vec![object("a", u64::MAX, 0.1)]), PlacementError::TooManyBytes);
    assert_eq!(Problem::new(Vec::new(), Vec::new()).unwrap_err(), PlacementError::NoTiers);
}

#[test]
fn nothing_to_place_is_placed() {
    let problem = two_tiers(Vec::new(), Some(0));
    assert!(best(&problem, &Additive, Limits::default()).unwrap().placed.is_empty());
    assert_eq!(curve(&problem, &[], &Additive, Some(Limits::default())).unwrap().len(), 1);
}

#[test]
fn a_million_blocks_are_placed() {
    let blocks =
        |offset: u64| (0..500_000).map(move |n| (n * 10 + offset, n * 10 + offset + 7, 64)).collect::<Vec<_>>();
    let objects = vec![living(object("a", 64, 0.1), &blocks(0)), living(object("b", 64, 0.2), &blocks(5))];
    let plan = best(&two_tiers(objects, Some(64)), &Additive, Limits::default()).unwrap();
    assert_eq!(plan.placed, [1, 0]);
}
