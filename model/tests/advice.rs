//! Where objects are put, what that is said to cost, and what is said not to be known.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod support;

use support::{HEADER_BYTES, MIB, Program, SECOND, fast, near, options, three, tier};
use tierscope_model::advice::policy::{Setting, policy};
use tierscope_model::advice::{AdviceError, Basis, Caveat, Fixed, Goal, Options, Ranker, Tier};
use tierscope_placement::{Bound, Optimality};
use tierscope_policy::SLACK_BYTES;
use tierscope_traces::{
    Access, AddressQuality, Attribution, Level, ModuleRow, ObjectKind, SamplerKind, SiteRow, SymbolRow,
};

#[test]
fn an_object_costs_its_share_times_the_latency_it_gains() {
    let advice = three().advice(Goal::FastFraction(0.25));
    assert_eq!(advice.basis, Basis::Time);
    assert_eq!(fast(&advice), [0]);
    assert!(near(advice.predicted.point, 0.4 * 2.0), "{:?}", advice.predicted);
    assert!(near(advice.all_slow.point, 2.0));
    let hot = &advice.objects[0];
    assert!(near(hot.predicted.point, 0.0) && near(hot.criticality.point, 1.2));
    assert!(hot.criticality.low < 1.2 && hot.criticality.low > 1.1 && hot.criticality.high < 1.3);
    assert!(
        hot.why.starts_with("60.0 % (56.") && hot.why.contains("of the time in 25.0 % of the movable bytes;"),
        "{}",
        hot.why
    );
    assert!(hot.why.ends_with("; alone in cxl it would cost 120.0 % (113.1-126.7 %)."), "{}", hot.why);
    assert_eq!((advice.budget, advice.footprint), (Some(64 * MIB), 256 * MIB));
}

#[test]
fn a_set_has_a_narrower_interval_than_its_members_together() {
    let advice = three().advice(Goal::FastBytes(0));
    let members: f64 = advice.objects.iter().map(|object| object.predicted.high - object.predicted.low).sum();
    let whole = advice.predicted.high - advice.predicted.low;
    assert!(whole < members / 2.0, "{whole} against {members}");
    assert!(advice.predicted.low <= advice.predicted.point && advice.predicted.point <= advice.predicted.high);
}

#[test]
fn everything_fast_costs_nothing_for_certain() {
    let advice = three().advice(Goal::FastFraction(1.0));
    assert_eq!((advice.predicted.point, advice.predicted.high), (0.0, 0.0));
    let last = advice.curve.last().unwrap();
    assert_eq!((last.fast_bytes, last.next_object), (256 * MIB, None));
}

#[test]
fn the_curve_starts_with_nothing_and_names_what_comes_next() {
    let advice = three().advice(Goal::FastBytes(0));
    let first = advice.curve.first().unwrap();
    assert_eq!(first.fast_bytes, 0);
    assert!(near(first.slowdown.point, 2.0));
    assert_eq!(advice.objects[first.next_object.unwrap()].object.samples, 600.0);
    for pair in advice.curve.windows(2) {
        assert!(pair[0].fast_bytes < pair[1].fast_bytes && pair[0].slowdown.point >= pair[1].slowdown.point);
    }
}

#[test]
fn a_slowdown_is_kept_with_as_little_as_possible() {
    let limit = |limit, bound| three().advice(Goal::MaxSlowdown { limit, bound });
    let advice = limit(0.85, Bound::Point);
    assert_eq!((fast(&advice), advice.tiers[0].bytes, advice.budget), (vec![0], 64 * MIB, None));
    assert_eq!(fast(&limit(0.81, Bound::High)), [0, 1], "0.80 is kept, but not by its upper end");
    assert_eq!(fast(&limit(2.0, Bound::Point)), [] as [u64; 0]);
}

#[test]
fn objects_that_follow_each_other_share_the_budget() {
    let mut program = Program::new(SamplerKind::Clock);
    for n in 0..4u64 {
        let object = program.heap_living(64 * MIB, n * 100, Some((n + 1) * 100));
        program.loads(object, 100);
    }
    let advice = program.advice(Goal::FastBytes(64 * MIB));
    assert_eq!((fast(&advice), advice.tiers[0].bytes, advice.footprint), (vec![0, 1, 2, 3], 64 * MIB, 64 * MIB));
}

#[test]
fn with_levels_only_what_left_the_caches_gets_slower() {
    let mut program = Program::new(SamplerKind::Pmu);
    let (cached, missing) = (program.heap(MIB), program.heap(MIB));
    program.samples(Some(cached), 900, |row| (row.level, row.latency) = (Some(Level::L2), Some(10)));
    program.samples(Some(missing), 100, |row| (row.level, row.latency) = (Some(Level::LocalMemory), Some(210)));
    let advice = program.advice(Goal::FastBytes(0));
    assert_eq!(advice.basis, Basis::MissLatency);
    // 100 x 210 of 900 x 10 + 100 x 210, twice as much longer.
    assert!(near(advice.predicted.point, 0.7 * 2.0), "{:?}", advice.predicted);
    assert!(!advice.caveats.iter().any(|caveat| matches!(caveat, Caveat::NoLevels { .. })));
    program.tables.samples.iter_mut().for_each(|row| row.latency = None);
    let advice = program.advice(Goal::FastBytes(0));
    assert_eq!(advice.basis, Basis::MissLevels);
    let memory = 100.0 * 100.0;
    assert!(near(advice.predicted.point, memory / (memory + 900.0 * 4.7) * 2.0), "{:?}", advice.predicted);
}

#[test]
fn stores_are_priced_by_the_latency_of_stores_where_it_is_known() {
    let mut program = Program::new(SamplerKind::Clock);
    let (read, written) = (program.heap(MIB), program.heap(MIB));
    program.loads(read, 50);
    program.samples(Some(written), 50, |row| row.access = Access::Store);
    let mut options = options(Goal::FastBytes(0), Ranker::StallDensity);
    (options.tiers[0].write_latency_ns, options.tiers[1].write_latency_ns) = (Some(80.0), Some(120.0));
    let advice = program.ask(&options).unwrap();
    assert!(near(advice.predicted.point, 0.5 * 2.0 + 0.5 * 0.5), "{:?}", advice.predicted);
    // Stores that are faster there than reads are here save nothing.
    options.tiers[1].write_latency_ns = Some(40.0);
    assert!(near(program.ask(&options).unwrap().predicted.point, 1.0));
}

#[test]
fn three_tiers_are_filled_by_what_each_costs() {
    let mut options = options(Goal::FastBytes(64 * MIB), Ranker::StallDensity);
    options.tiers.insert(1, Tier { capacity: Some(64 * MIB), ..tier("remote", 150.0) });
    let advice = three().ask(&options).unwrap();
    let tiers: Vec<usize> = advice.objects.iter().map(|object| object.tier).collect();
    assert_eq!(tiers, [0, 1, 2]);
    assert!(near(advice.predicted.point, 0.3 * 0.5 + 0.1 * 2.0));
    assert_eq!(advice.optimality, Optimality::Exact);
}

#[test]
fn rankers_without_costs_fill_in_their_order_and_are_priced_alike() {
    let mut program = three();
    // The last object was touched last, and then only.
    for row in program.tables.samples.iter_mut().filter(|row| row.object == Some(2)) {
        row.time_ns = SECOND - 1;
    }
    let ask = |ranker| program.ask(&options(Goal::FastBytes(128 * MIB), ranker)).unwrap();
    assert_eq!(fast(&ask(Ranker::StallDensity)), [0, 1]);
    assert_eq!(fast(&ask(Ranker::FirstTouch)), [0, 1]);
    let hot = ask(Ranker::Hotness);
    assert_eq!((fast(&hot), hot.optimality), (vec![2], Optimality::Greedy));
    assert!(near(hot.predicted.point, 0.9 * 2.0));
    assert!(hot.objects[0].why.starts_with("Place 1 of 3 by hotness; 10.0 %"), "{}", hot.objects[0].why);
    let orders = |ranker| ask(ranker).objects.iter().map(|object| object.object.id.clone()).collect::<Vec<_>>();
    assert_eq!(orders(Ranker::Random(1)), orders(Ranker::Random(1)));
    assert!((2..9).any(|seed| orders(Ranker::Random(seed)) != orders(Ranker::Random(1))));
}

#[test]
fn rankers_of_misses_order_by_misses_and_need_to_know_them() {
    let mut program = Program::new(SamplerKind::Pmu);
    for (bytes, misses) in [(64 * MIB, 500), (MIB, 100), (MIB, 10)] {
        let object = program.heap(bytes);
        program.samples(Some(object), misses, |row| row.level = Some(Level::LocalMemory));
    }
    let ranks = |program: &Program, ranker: Ranker| {
        let advice = program.ask(&options(Goal::FastBytes(MIB), ranker)).unwrap();
        advice.objects.iter().map(|object| object.object.samples as u64).collect::<Vec<_>>()
    };
    assert_eq!(ranks(&program, Ranker::LlcMisses), [500, 100, 10]);
    assert_eq!(ranks(&program, Ranker::MissesPerByte), [100, 10, 500]);
    program.meta.sampler.kind = SamplerKind::Clock;
    for ranker in [Ranker::LlcMisses, Ranker::MissesPerByte] {
        let error = program.ask(&options(Goal::FastBytes(MIB), ranker)).unwrap_err();
        assert_eq!(error, AdviceError::NeedsLevels { ranker, sampler: SamplerKind::Clock });
        let text = error.to_string();
        assert!(text.contains("--sampler pmu") && text.contains("--ranker stall-density"), "{text}");
    }
}

#[test]
fn what_no_rule_can_name_stays_and_is_counted() {
    let mut program = three();
    let stack = program.add(ObjectKind::Stack, MIB, "[stack]");
    let file = program.add(ObjectKind::File, MIB, "/data/file");
    let scores = program.add(ObjectKind::Global, MIB, "scores");
    let nameless = program.add(ObjectKind::Global, MIB, ".bss+0x1c40");
    let tiny = program.add(ObjectKind::Global, 64, "counter");
    let generated = program.heap(MIB);
    program.tables.sites.iter_mut().filter(|row| row.site == generated).for_each(|row| row.module = None);
    let library =
        ModuleRow { module: 1, path: "/run/x/libtierscope_preload.so".into(), ..program.tables.modules[0].clone() };
    program.tables.modules.push(library);
    let ours = program.add(ObjectKind::Global, MIB, "TRACKED");
    program.tables.objects.iter_mut().filter(|row| row.object == ours).for_each(|row| row.module = Some(1));
    for object in [stack, file, scores, nameless, tiny, generated, ours] {
        program.loads(object, 100);
    }
    let advice = program.advice(Goal::FastBytes(0));
    let fixed = |reason| advice.objects.iter().find(|object| object.fixed == Some(reason)).unwrap();
    for reason in [Fixed::Stack, Fixed::File, Fixed::NoSymbol, Fixed::SmallGlobal, Fixed::Recorder] {
        assert_eq!((fixed(reason).tier, fixed(reason).predicted.point, fixed(reason).rank), (0, 0.0, None));
    }
    assert_eq!(fixed(Fixed::NoSite).tier, 1);
    assert!(near(fixed(Fixed::NoSite).predicted.point, 100.0 / 1700.0 * 2.0));
    assert!(
        fixed(Fixed::Stack).why.starts_with("Stacks stay in dram: 5.9 % of the time"),
        "{}",
        fixed(Fixed::Stack).why
    );
    // Three heap objects, the global, and the blocks without a site are slow; the rest is not.
    assert!(near(advice.predicted.point, 1200.0 / 1700.0 * 2.0), "{:?}", advice.predicted);
    let told = advice.caveats.iter().filter(|caveat| matches!(caveat, Caveat::Unmovable { .. })).count();
    assert_eq!(told, 6);
}

#[test]
fn an_object_without_samples_stays_slow_and_says_what_it_may_cost() {
    let mut program = three();
    program.heap(MIB);
    let advice = program.advice(Goal::FastFraction(1.0));
    let unseen = advice.objects.last().unwrap();
    assert_eq!((unseen.tier, unseen.predicted.point), (1, 0.0));
    assert!(unseen.predicted.high > 0.0 && advice.predicted.high > 0.0);
    assert!(unseen.why.starts_with("No sample fell on it, so at most 0."), "{}", unseen.why);
}

#[test]
fn what_is_not_known_is_said() {
    let mut program = three();
    program.samples(None, 250, |row| row.attribution = Attribution::None);
    let rare = program.heap(MIB);
    program.loads(rare, 3);
    program.meta.complete = false;
    program.meta.losses.frees = 7;
    program.meta.allocator.shim = "attached to a running program".into();
    program.tables.samples.iter_mut().take(300).for_each(|row| row.address_quality = AddressQuality::Approximate);
    let mut options = options(Goal::FastBytes(512 * MIB), Ranker::StallDensity);
    options.tiers[0] = Tier { bandwidth_gbs: Some(100.0), capacity: Some(64 * MIB), ..options.tiers[0].clone() };
    options.tiers[1].bandwidth_gbs = Some(10.0);
    let advice = program.ask(&options).unwrap();
    let codes: Vec<&str> = advice.caveats.iter().map(Caveat::as_str).collect();
    let expected = [
        "no-levels",
        "incomplete",
        "lost",
        "no-sites",
        "unattributed",
        "guessed",
        "few-samples",
        "bandwidth",
        "budget-capped",
    ];
    assert_eq!(codes, expected);
    assert_eq!(advice.budget, Some(64 * MIB));
    let Some(Caveat::Unattributed { share, most }) = advice.caveats.get(4) else { panic!("{:?}", advice.caveats) };
    assert!(near(*share, 250.0 / 1253.0) && near(*most, share * 2.0));
    for caveat in &advice.caveats {
        let text = caveat.text();
        assert!(text.ends_with('.') && !text.contains("  ") && !text.contains("NaN"), "{text}");
    }
}

#[test]
fn a_tier_that_is_paged_says_that_its_costs_are_not_those_of_a_run() {
    let mut options = options(Goal::FastFraction(0.3), Ranker::StallDensity);
    options.tiers[0].bandwidth_gbs = Some(100.0);
    let slow = options.tiers[1].clone();
    options.tiers[1] = Tier { paged: true, latency_ns: 60_000.0, bandwidth_gbs: Some(0.01), ..slow };
    let advice = three().ask(&options).unwrap();
    let texts: Vec<String> = advice.caveats.iter().map(Caveat::text).collect();
    assert!(texts.iter().any(|text| text.starts_with("cxl is read in pages") && text.contains("60 us")), "{texts:?}");
    // Where pages are what counts, a ratio of bandwidths says nothing.
    assert!(!advice.caveats.iter().any(|caveat| caveat.as_str() == "bandwidth"), "{texts:?}");
}

#[test]
fn touches_give_an_order_and_no_slowdown() {
    let mut program = three();
    program.meta.sampler.kind = SamplerKind::Fault;
    let advice = program.advice(Goal::FastFraction(0.5));
    assert_eq!((advice.basis, advice.caveats[0].as_str()), (Basis::Touches, "order-only"));
    assert!(!advice.predicts());
    let goal = Goal::MaxSlowdown { limit: 0.1, bound: Bound::High };
    let refused = program.ask(&options(goal, Ranker::StallDensity)).unwrap_err();
    assert_eq!(refused, AdviceError::NoSlowdown { sampler: SamplerKind::Fault });
    assert!(refused.to_string().contains("--fast 25%"), "{refused}");
}

#[test]
fn what_cannot_be_asked_is_refused_with_the_way_out() {
    let program = three();
    let refused = |change: &dyn Fn(&mut Options)| {
        let mut options = options(Goal::FastBytes(0), Ranker::StallDensity);
        change(&mut options);
        program.ask(&options).unwrap_err().to_string()
    };
    for (text, change) in [
        ("at least two", &(|o: &mut Options| drop(o.tiers.pop())) as &dyn Fn(&mut Options)),
        ("the fastest first", &|o| o.tiers.reverse()),
        ("no memory has", &|o| o.tiers[1].latency_ns = f64::NAN),
        ("0 to 100 %", &|o| o.goal = Goal::FastFraction(1.5)),
        ("0 to 100 %", &|o| o.goal = Goal::FastFraction(f64::NAN)),
        ("0 % or more", &|o| o.goal = Goal::MaxSlowdown { limit: -0.1, bound: Bound::Point }),
        ("fits in no tier", &|o| o.tiers[1].capacity = Some(1)),
    ] {
        assert!(refused(change).contains(text), "{}", refused(change));
    }
    let nothing = Program::new(SamplerKind::Clock);
    assert_eq!(nothing.ask(&options(Goal::FastBytes(0), Ranker::FirstTouch)).unwrap_err(), AdviceError::NoSamples);
    let mut stack_only = Program::new(SamplerKind::Clock);
    let stack = stack_only.add(ObjectKind::Stack, MIB, "[stack]");
    stack_only.loads(stack, 10);
    let error = stack_only.ask(&options(Goal::FastBytes(0), Ranker::FirstTouch)).unwrap_err();
    assert!(matches!(error, AdviceError::NothingToPlace { .. }), "{error}");
}

#[test]
fn names_of_rankers_are_read_as_they_are_shown() {
    for ranker in Ranker::ALL.into_iter().chain([Ranker::Random(7)]) {
        assert_eq!(ranker.to_string().parse(), Ok(ranker));
    }
    assert!("best".parse::<Ranker>().unwrap_err().contains("stall-density, misses-per-byte"));
    assert!("random:x".parse::<Ranker>().unwrap_err().contains("random:7"));
}

fn written(program: &Program, goal: Goal) -> tierscope_policy::Policy {
    let tier = |name: &str, node| tierscope_policy::Tier {
        name: name.into(),
        backend: Some(tierscope_policy::Backend::Numa { nodes: vec![node], strict: false }),
        capacity: None,
    };
    let tiers = vec![tier("dram", 0), tier("cxl", 1)];
    let setting = Setting { profile: "app.tsp".into(), tiers, ..Setting::default() };
    let policy = policy(&program.advice(goal), &program.meta, setting);
    let read = tierscope_policy::Policy::parse(&policy.to_toml()).unwrap();
    assert_eq!(read, policy, "a policy reads back as it was written:\n{}", policy.to_toml());
    read
}

#[test]
fn a_policy_names_what_is_fast_and_leaves_the_rest_to_the_default() {
    let mut program = three();
    program.meta.program.exe = "/opt/app".into();
    let scores = program.add(ObjectKind::Global, MIB, "scores");
    program.loads(scores, 1);
    let policy = written(&program, Goal::FastBytes(64 * MIB));
    assert_eq!((policy.default_tier.as_str(), policy.tiers[0].capacity), ("cxl", Some(64 * MIB + SLACK_BYTES)));
    assert_eq!(policy.program.build_id_of("app"), Some("aa"));
    assert_eq!(policy.origin.fast, Some(64 * MIB));
    let [site, global] = policy.rules.as_slice() else { panic!("{:?}", policy.rules) };
    assert_eq!(site.tier, "dram");
    let entries: Vec<String> = site.site.iter().map(ToString::to_string).collect();
    assert_eq!(entries, ["app+0x100", "app+0x10"], "the whole stack, by return addresses");
    assert!(site.why.as_ref().unwrap().contains("of the time in"));
    // A global in the default tier has a rule all the same: the default is for blocks.
    assert_eq!((global.symbol.as_deref(), global.module.as_deref()), (Some("scores"), Some("app")));
    assert_eq!(global.tier, "cxl");
}

#[test]
fn a_global_has_no_rule_for_a_tier_that_cannot_hold_it() {
    let mut program = three();
    let scores = program.add(ObjectKind::Global, MIB, "scores");
    program.loads(scores, 1);
    let tier = |backend| tierscope_policy::Tier { name: "any".into(), backend, capacity: None };
    let file = tierscope_policy::Backend::File { dir: "/tmp".into() };
    let setting = Setting { tiers: vec![tier(None), tier(Some(file))], ..Setting::default() };
    let policy = policy(&program.advice(Goal::FastBytes(64 * MIB)), &program.meta, setting);
    assert!(!policy.rules.is_empty() && policy.rules.iter().all(|rule| rule.symbol.is_none()), "{:?}", policy.rules);
}

#[test]
fn a_policy_without_a_budget_or_without_tiers_of_its_own_is_one_all_the_same() {
    assert!(written(&three(), Goal::FastBytes(0)).rules.is_empty());
    let program = three();
    let bare = policy(&program.advice(Goal::FastFraction(0.5)), &program.meta, Setting::default());
    assert_eq!(tierscope_policy::Policy::parse(&bare.to_toml()).unwrap().rules.len(), bare.rules.len());
    assert!(bare.tiers.iter().all(|tier| tier.backend.is_none()));
}

#[test]
fn names_that_would_break_a_file_do_not() {
    let mut program = three();
    let name = "a\u{1b}[31m\"b\"\nc = 'd'\u{202e}";
    let global = program.add(ObjectKind::Global, MIB, name);
    program.loads(global, 1);
    program.tables.symbols = vec![SymbolRow {
        module: 0,
        offset: 0x100,
        inline_depth: 0,
        function: name.into(),
        file: Some(name.into()),
        line: Some(1),
    }];
    program.tables.modules[0].path = "/opt/+0x\u{7f}".into();
    let policy = written(&program, Goal::FastFraction(1.0));
    assert!(policy.rules.iter().any(|rule| rule.symbol.as_deref() == Some(name)));
}

#[test]
fn small_blocks_take_more_than_was_asked_for() {
    let mut program = Program::new(SamplerKind::Clock);
    let list = program.heap(48 + HEADER_BYTES);
    (1..1000).for_each(|_| program.block(list, 48, 0, None));
    program.loads(list, 100);
    let advice = program.advice(Goal::FastFraction(1.0));
    assert_eq!((advice.footprint, advice.objects[0].bytes), (80_000, 80_000));
}

#[test]
fn parts_of_a_site_are_told_apart_by_class_and_slot() {
    let mut program = Program::new(SamplerKind::Clock);
    let first = program.heap(64 * MIB);
    for (class, slot, bytes) in [(26, 1, 64 * MIB), (8, 0, 300)] {
        let other = program.heap(bytes);
        let row = program.tables.objects.last_mut().unwrap();
        (row.site, row.size_class, row.slot) = (Some(first), Some(class), Some(slot));
        program.loads(other, 100);
    }
    program.loads(first, 100);
    let policy = written(&program, Goal::FastFraction(1.0));
    let mut narrowed: Vec<(String, Option<u16>)> =
        policy.rules.iter().map(|rule| (rule.sizes.to_string(), rule.ordinal)).collect();
    narrowed.sort();
    let large = "64 MiB..128 MiB".to_owned();
    assert_eq!(narrowed, [(large.clone(), Some(0)), (large, Some(1)), ("< 64 KiB".to_owned(), None)]);
}

#[test]
fn a_site_that_is_cut_short_does_not_take_others_along() {
    let mut program = Program::new(SamplerKind::Clock);
    // Both are allocated by the same function; one is called from generated code, the other from `main`.
    let (cut, whole) = (program.heap(MIB), program.heap(MIB));
    for row in &mut program.tables.sites {
        row.offset = if row.depth == 0 { 0x100 } else { 0x10 };
        if row.site == cut && row.depth == 1 {
            row.module = None;
        }
    }
    program.loads(cut, 90);
    program.loads(whole, 10);
    let policy = written(&program, Goal::FastBytes(MIB));
    let rules: Vec<(usize, &str)> = policy.rules.iter().map(|rule| (rule.site.len(), rule.tier.as_str())).collect();
    assert_eq!(rules, [(2, "cxl"), (1, "dram")]);
}

#[test]
fn deep_stacks_are_kept_to_what_a_rule_holds_and_equal_ones_said_once() {
    let mut program = Program::new(SamplerKind::Clock);
    for (site, outermost) in [(0, 0x9000), (1, 0x9001)] {
        let object = program.heap(MIB);
        program.tables.sites.retain(|row| row.site != site);
        for depth in 0..40u16 {
            let offset = if depth == 39 { outermost } else { 0x100 + u64::from(depth) };
            program.tables.sites.push(SiteRow { site, depth, module: Some(0), offset });
        }
        program.loads(object, 10);
    }
    let policy = written(&program, Goal::FastFraction(1.0));
    assert_eq!(policy.rules.iter().map(|rule| rule.site.len()).collect::<Vec<_>>(), [32]);
}
