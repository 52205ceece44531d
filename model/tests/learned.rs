//! Advice by a model, by what it falls back to, and by what a simulation timed.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod support;

use std::cell::Cell;
use std::sync::OnceLock;

use support::{MIB, Program, fast, options, three, tier};
use tierscope_model::advice::{Advice, AdviceError, Basis, Caveat, Goal, Options, Ranker, Tier, Trained};
use tierscope_rank::{Family, Model, Table};
use tierscope_traces::{
    CounterRow, Level, PlacementKind, PlacementRow, SamplerKind, SimulatedTiers, Simulation, series,
};

/// A model of one case of each of few programs of the shipped table, so that it is trained in a moment.
fn trained(family: Family) -> Trained {
    static MODELS: OnceLock<[Model; 2]> = OnceLock::new();
    let [clock, levels] = MODELS.get_or_init(|| {
        let mut table = Table::shipped().unwrap();
        let mut cases = Vec::new();
        for program in table.programs().into_iter().take(5) {
            cases.extend(table.rows.iter().map(|row| &row.case).find(|case| case.program == program).cloned());
        }
        table.rows.retain(|row| cases.contains(&row.case));
        table.sets.retain(|set| cases.contains(&set.case));
        Family::ALL.map(|family| Model::train(&table, family).unwrap())
    });
    let model = if family == Family::Clock { clock } else { levels };
    Trained { model: model.clone(), key: "0123456789abcdef".into() }
}

fn known(name: &str, latency_ns: f64, gbs: f64) -> Tier {
    Tier {
        bandwidth_gbs: Some(gbs),
        write_bandwidth_gbs: Some(gbs / 2.0),
        granule_bytes: Some(64.0),
        ..tier(name, latency_ns)
    }
}

fn by(ranker: Ranker, goal: Goal) -> Options {
    Options { tiers: vec![known("ddr5", 114.0, 218.0), known("cxl", 271.0, 26.0)], ..options(goal, ranker) }
}

fn learnt(program: &Program, options: &Options) -> Advice {
    program.ask_with(options, &|family| Ok(trained(family))).unwrap()
}

/// Every cost of an advice, with what it is of.
fn costs(advice: &Advice) -> Vec<(String, tierscope_placement::Cost)> {
    let objects = advice.objects.iter().flat_map(|object| {
        let id = &object.object.id;
        [(format!("{id} alone"), object.criticality), (format!("{id} placed"), object.predicted)]
    });
    let curve = advice.curve.iter().map(|step| (format!("{} bytes", step.fast_bytes), step.slowdown));
    objects.chain(curve).chain([("plan".into(), advice.predicted), ("all slow".into(), advice.all_slow)]).collect()
}

#[test]
fn the_model_is_what_goes_unless_another_ranker_is_asked_for() {
    assert_eq!(Ranker::default(), Ranker::Model);
    for (sampler, family) in [(SamplerKind::Clock, Family::Clock), (SamplerKind::Pmu, Family::Levels)] {
        let mut program = three();
        program.meta.sampler.kind = sampler;
        if family == Family::Levels {
            for row in &mut program.tables.samples {
                (row.level, row.latency) = (Some(Level::LocalMemory), Some(300));
            }
        }
        let asked = Cell::new(Vec::new());
        let teacher = |family: Family| {
            let mut so_far = asked.take();
            so_far.push(family);
            asked.set(so_far);
            Ok(trained(family))
        };
        let advice = program.ask_with(&by(Ranker::default(), Goal::FastFraction(0.25)), &teacher).unwrap();
        assert_eq!(asked.take(), [family], "asked once, for the family of the samples");
        assert_eq!((advice.ranker, advice.basis, &advice.without_model), (Ranker::Model, Basis::Learned, &None));
        let used = advice.model.as_ref().unwrap();
        assert_eq!((used.family, used.programs, used.key.as_str()), (family, 5, "0123456789abcdef"));
        assert!(advice.objects.iter().all(|object| object.learned.is_some()));
        assert!(advice.caveats.iter().any(|caveat| matches!(caveat, Caveat::Learned { programs: 5 })));
    }
}

#[test]
fn every_interval_contains_its_point_and_none_is_below_nothing() {
    let mut program = three();
    let (idle, tiny) = (program.heap(16 * MIB), program.heap(4096));
    program.loads(tiny, 1);
    for goal in [Goal::FastBytes(0), Goal::FastFraction(0.4), Goal::FastFraction(1.0)] {
        let advice = learnt(&program, &by(Ranker::Model, goal));
        for (what, cost) in costs(&advice) {
            assert!(0.0 <= cost.low && cost.low <= cost.point && cost.point <= cost.high, "{what}: {cost:?}");
            // Nothing waits longer than the worse of the tiers lets it.
            assert!(cost.high <= 218.0 / 26.0, "{what}: {cost:?}");
        }
        let falls = |pair: &[tierscope_model::advice::CurveStep]| pair[0].slowdown.point >= pair[1].slowdown.point;
        assert!(advice.curve.windows(2).all(falls), "{:?}", advice.curve);
        assert_eq!(advice.curve.last().unwrap().slowdown.high, 0.0, "all that was seen is fast");
    }
    // What no sample fell on may cost something and adds nothing.
    let advice = learnt(&program, &by(Ranker::Model, Goal::FastBytes(0)));
    let unseen = advice.objects.iter().find(|object| object.bytes == 16 * MIB).unwrap();
    assert_eq!(unseen.criticality.point, 0.0);
    assert!(unseen.criticality.high > 0.0 && unseen.why.starts_with("No sample fell on it"), "{}", unseen.why);
    assert_eq!(program.tables.objects[idle as usize].bytes, 16 * MIB);
}

#[test]
fn what_is_touched_most_per_byte_comes_first_and_room_that_is_left_goes_to_what_may_need_it() {
    let mut program = three();
    program.heap(MIB);
    program.heap(16 << 10);
    let advice = learnt(&program, &by(Ranker::Model, Goal::FastBytes(64 * MIB)));
    assert_eq!(fast(&advice), [0]);
    assert!(advice.predicted.point < advice.all_slow.point);
    // All of it would fit: the small one that no sample fell on is not worth a rule, the larger one is.
    assert_eq!(fast(&learnt(&program, &by(Ranker::Model, Goal::FastFraction(1.0)))), [0, 1, 2, 3]);
}

#[test]
fn a_slower_tier_costs_more_and_each_is_beside_the_fastest() {
    let mut options = by(Ranker::Model, Goal::FastBytes(64 * MIB));
    options.tiers.insert(1, Tier { capacity: Some(64 * MIB), ..known("remote", 150.0, 100.0) });
    let advice = learnt(&three(), &options);
    let tiers: Vec<usize> = advice.objects.iter().map(|object| object.tier).collect();
    assert_eq!(tiers, [0, 1, 2]);
    let between = &advice.objects[1];
    assert!(between.predicted.point < between.criticality.point, "{between:?}");
}

#[test]
fn other_rankers_are_priced_by_the_model_and_stall_density_by_itself() {
    let program = three();
    let ask = |ranker| learnt(&program, &by(ranker, Goal::FastBytes(64 * MIB)));
    let model = ask(Ranker::Model);
    for ranker in [Ranker::FirstTouch, Ranker::Hotness, Ranker::Random(1)] {
        let advice = ask(ranker);
        assert_eq!((advice.ranker, advice.basis), (ranker, Basis::Learned));
        if fast(&advice) == fast(&model) {
            assert_eq!(advice.predicted, model.predicted);
        }
    }
    let advice = ask(Ranker::StallDensity);
    assert_eq!((advice.ranker, advice.basis, advice.model), (Ranker::StallDensity, Basis::Time, None));
    assert!(advice.without_model.is_none(), "nobody asked for a model");
}

#[test]
fn where_no_model_can_speak_the_advice_says_why_and_goes_by_stall_density() {
    let reason = |advice: &Advice| match advice.caveats.first() {
        Some(caveat @ Caveat::NoModel { .. }) => caveat.text(),
        other => panic!("{other:?}"),
    };
    let model = by(Ranker::Model, Goal::FastFraction(0.25));
    let never = |_: Family| -> Result<Trained, String> { panic!("a model was asked for that cannot be used") };

    let mut faults = three();
    faults.meta.sampler.kind = SamplerKind::Fault;
    let advice = faults.ask_with(&model, &never).unwrap();
    assert_eq!((advice.ranker, advice.asked, advice.basis), (Ranker::StallDensity, Ranker::Model, Basis::Touches));
    let said = reason(&advice);
    assert!(said.contains("not used: fault samples are neither time nor cache misses"), "{said}");
    assert!(advice.objects[0].why.starts_with("60.0 % of the first touches in 25.0 %"), "{}", advice.objects[0].why);

    let mut paged = model.clone();
    paged.tiers[1] = Tier { paged: true, ..paged.tiers[1].clone() };
    let advice = three().ask_with(&paged, &never).unwrap();
    assert!(reason(&advice).contains("cxl is read in pages"), "{}", reason(&advice));

    let advice = three().ask_with(&model, &|_| Err("the table is gone: get another.".into())).unwrap();
    assert_eq!((advice.ranker, advice.basis), (Ranker::StallDensity, Basis::Time));
    assert!(reason(&advice).contains("not used: the table is gone: get another. Objects"), "{}", reason(&advice));

    let advice = three().ask_with(&model, &|_| Ok(trained(Family::Levels))).unwrap();
    assert!(reason(&advice).contains("cannot rank features of family clock"), "{}", reason(&advice));

    // Other rankers never had one.
    let advice = faults.ask_with(&by(Ranker::FirstTouch, Goal::FastFraction(0.25)), &never).unwrap();
    assert!(!advice.caveats.iter().any(|caveat| matches!(caveat, Caveat::NoModel { .. })));
}

/// The three objects simulated: the last costs most.
fn simulated() -> Program {
    let mut program = three();
    program.meta.sampler.kind = SamplerKind::Sim;
    for row in &mut program.tables.samples {
        (row.level, row.latency) = (Some(Level::LocalMemory), Some(if row.object == Some(1) { 3000 } else { 100 }));
    }
    program.meta.simulation = Some(Simulation {
        cycles_all_fast: Some(1e9),
        ghz: 2.0,
        tiers: vec![SimulatedTiers {
            name: "cxl".into(),
            fast: "ddr5".into(),
            slow: "cxl".into(),
            ..SimulatedTiers::default()
        }],
        ..Simulation::default()
    });
    let placed = |kind, object: Option<u32>, extra_cycles| PlacementRow {
        placement: object.unwrap_or(9),
        kind,
        tiers: "cxl".into(),
        name: String::new(),
        object,
        cycles: 1e9 + extra_cycles,
        extra_cycles,
        extra_cycles_error: 0.0,
        is_bound: false,
    };
    let alone = [(0, 0.1e9), (1, 0.2e9), (2, 0.9e9)];
    program.tables.placements = alone.map(|(object, cost)| placed(PlacementKind::Alone, Some(object), cost)).to_vec();
    program.tables.placements.push(placed(PlacementKind::AllSlow, None, 1.2e9));
    program
}

#[test]
fn what_a_simulation_timed_is_believed_before_any_model() {
    let never = |_: Family| -> Result<Trained, String> { panic!("a model was asked for that is not needed") };
    for ranker in [Ranker::Model, Ranker::Oracle] {
        let advice = simulated().ask_with(&by(ranker, Goal::FastFraction(0.5)), &never).unwrap();
        assert_eq!((advice.ranker, advice.asked, advice.basis), (Ranker::Oracle, ranker, Basis::Simulated));
        assert_eq!(fast(&advice), [2]);
        assert!((advice.predicted.point - 0.3).abs() < 1e-9, "{:?}", advice.predicted);
    }
    // Of other tiers nothing was timed.
    let mut options = by(Ranker::Model, Goal::FastFraction(0.5));
    options.tiers[1].name = "optane".into();
    let advice = learnt(&simulated(), &options);
    assert_eq!((advice.basis, advice.model.unwrap().family), (Basis::Learned, Family::Levels));
}

#[test]
fn rankers_that_need_more_than_a_profile_has_say_what_gives_it() {
    let half = Goal::FastFraction(0.5);
    let error = three().ask(&by(Ranker::Oracle, half)).unwrap_err();
    assert_eq!(error, AdviceError::NeedsTimes { fast: "ddr5".into(), slow: "cxl".into() });
    assert!(error.to_string().contains("`tierscope simulate --tiers ddr5,cxl -- CMD`"), "{error}");
    let error = three().ask(&by(Ranker::LatencyWeighted, half)).unwrap_err();
    assert!(matches!(error, AdviceError::NeedsLevels { .. }), "{error}");
    let advice = simulated().ask(&by(Ranker::LatencyWeighted, half)).unwrap();
    // 300 samples of 3000 cycles, 600 of 100, 100 of 100 in twice the bytes.
    let order: Vec<f64> = advice.objects.iter().map(|object| object.object.samples).collect();
    assert_eq!(order, [300.0, 600.0, 100.0]);
    let error = simulated().ask(&by(Ranker::SoarAol, half)).unwrap_err();
    assert!(error.to_string().contains("this sim profile has not: `tierscope simulate"), "{error}");
    let mut counted = simulated();
    let names = [series::CORE_CYCLES, series::OFFCORE_READS, series::OFFCORE_READ_CYCLES, series::MEMORY_STALL_CYCLES];
    for (name, value) in names.into_iter().zip([1e9, 1e6, 2e8, 5e8]) {
        counted.tables.counters.push(CounterRow { time_ns: 2_000_000_000, name: name.to_owned(), value });
    }
    // Reads take 200 cycles, so that a share is what counts.
    let advice = counted.ask(&by(Ranker::SoarAol, half)).unwrap();
    let order: Vec<f64> = advice.objects.iter().map(|object| object.object.samples).collect();
    assert_eq!((advice.ranker, order), (Ranker::SoarAol, vec![600.0, 300.0, 100.0]));
    let mut blind = simulated();
    blind.tables.samples.iter_mut().for_each(|row| row.latency = None);
    let error = blind.ask(&by(Ranker::LatencyWeighted, half)).unwrap_err();
    assert!(error.to_string().contains("no sim sample has one"), "{error}");
}
