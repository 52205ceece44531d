//! What an advice looks like, as snapshots and against its published schema.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod fixture;
mod schema;

use std::path::Path;

use fixture::{MIB, chased, hostile, meta, report, summary, tables};
use schema::{check, described};
use serde_json::Value;
use tierscope_model::advice::{Advice, Basis, Caveat, Goal, ModelUsed, Options, Ranker, Remedy, Tie, Tier, advise};
use tierscope_placement::{Bound, Limits};
use tierscope_rank::{Contribution, Family, Kind, Name, Predicted};
use tierscope_report::{AdviceReport, RenderOptions, Report, TierNote, advice_to_json, render_advice};
use tierscope_traces::{Meta, SamplerKind, Tables};
use unicode_width::UnicodeWidthStr;

const SCHEMA: &str = include_str!("../../../docs/advice.schema.json");
const DOCUMENT: &str = include_str!("../../../docs/advice.md");

fn tier(name: &str, latency_ns: f64, bandwidth_gbs: f64) -> Tier {
    Tier {
        name: name.into(),
        latency_ns,
        write_latency_ns: None,
        bandwidth_gbs: Some(bandwidth_gbs),
        write_bandwidth_gbs: None,
        granule_bytes: None,
        capacity: None,
        paged: false,
    }
}

fn asked(meta: &Meta, tables: &Tables, goal: Goal, ranker: Ranker) -> Advice {
    let tiers = vec![tier("ddr5", 114.0, 218.0), tier("cxl", 271.0, 26.0)];
    let options = Options { tiers, goal, ranker, limits: Limits::default() };
    advise(meta, tables, &summary(meta, tables), &options, &|_| Err("there is none in this test".into())).unwrap()
}

/// As a model would have it: what it says is put in by hand, so that the snapshots do not change with the table.
fn as_learnt(meta: &Meta, tables: &Tables) -> Advice {
    let mut advice = asked(meta, tables, Goal::FastFraction(0.5), Ranker::Model);
    (advice.ranker, advice.basis, advice.without_model) = (Ranker::Model, Basis::Learned, None);
    advice.caveats.retain(|caveat| !matches!(caveat, Caveat::NoModel { .. } | Caveat::NoLevels { .. }));
    advice.caveats.insert(0, Caveat::Learned { programs: 25 });
    advice.caveats.insert(1, Caveat::ByFormula { objects: 1, of: 5 });
    let (family, learner) = (Family::Clock, Kind::Blend);
    advice.model = Some(ModelUsed { family, learner, key: "0123456789abcdef".into(), programs: 25 });
    for (number, object) in advice.objects.iter_mut().enumerate() {
        let moved = Contribution { name: Name::Sequentiality, value: f64::NAN, factor: 0.7 };
        object.learned = Some(Predicted {
            criticality: object.criticality.point,
            interval: (object.criticality.low, object.criticality.high),
            sampled: 0.25,
            formula: 0.125,
            unsure: number == 1,
            contributions: if number == 1 { Vec::new() } else { vec![moved] },
        });
    }
    let remedy = Remedy::Record { times: 2.5, seconds: Some(31.0) };
    advice.tie = Some(Tie { fast: 0, slow: 1, remedy });
    advice
}

fn shown<'a>(report: Report<'a>, advice: &'a Advice, policy: Option<&'a Path>) -> AdviceReport<'a> {
    AdviceReport { report, advice, tiers: &[], assumptions: &[], obstacles: &[], options: &[], policy, next: None }
}

fn text(meta: &Meta, tables: &Tables, advice: &Advice, policy: Option<&Path>, options: &RenderOptions) -> String {
    let summary = summary(meta, tables);
    render_advice(&shown(report(meta, &summary), advice, policy), options)
}

fn json(meta: &Meta, tables: &Tables, advice: &Advice) -> Value {
    let summary = summary(meta, tables);
    advice_to_json(&shown(report(meta, &summary), advice, None))
}

fn options(width: usize) -> RenderOptions {
    RenderOptions { width: Some(width), ..RenderOptions::default() }
}

#[test]
fn at_80_columns() {
    let (meta, tables) = (meta(), tables());
    let advice = asked(&meta, &tables, Goal::FastFraction(0.5), Ranker::StallDensity);
    insta::assert_snapshot!(text(&meta, &tables, &advice, None, &options(80)));
}

#[test]
fn at_120_columns_with_a_policy() {
    let (meta, tables) = (meta(), tables());
    let advice = asked(&meta, &tables, Goal::FastBytes(70 * MIB), Ranker::StallDensity);
    let policy = Path::new("my policies/bc.policy.toml");
    insta::assert_snapshot!(text(&meta, &tables, &advice, Some(policy), &options(120)));
}

#[test]
fn where_tiers_come_from_and_what_stands_in_the_way() {
    let (meta, tables) = (meta(), tables());
    let advice = asked(&meta, &tables, Goal::FastBytes(300 * MIB), Ranker::StallDensity);
    let summary = summary(&meta, &tables);
    let note = |behind: Option<&str>, source: &str| TierNote {
        behind: behind.map(str::to_owned),
        source: Some(source.to_owned()),
    };
    let shown = AdviceReport {
        tiers: &[note(Some("node 0"), "Melody, ASPLOS 2025"), note(None, "Soar, OSDI 2025")],
        assumptions: &["This machine has one kind of memory: presets stand in.".to_owned()],
        obstacles: &["Nothing is behind cxl\u{1b}[2J: --slow-dir DIR mends it.".to_owned()],
        options: &["--tiers".to_owned(), "ddr5,my cxl".to_owned()],
        ..shown(report(&meta, &summary), &advice, None)
    };
    insta::assert_snapshot!(render_advice(&shown, &RenderOptions { stacks: 0, ..options(80) }));
    let value = advice_to_json(&shown);
    assert_eq!(value["tiers"][0]["behind"], "node 0");
    assert!(value["tiers"][1]["behind"].is_null() && value["obstacles"][0].is_string());
}

#[test]
fn in_order_of_first_touch() {
    let (meta, tables) = (meta(), tables());
    let advice = asked(&meta, &tables, Goal::FastBytes(130 * MIB), Ranker::FirstTouch);
    insta::assert_snapshot!(text(&meta, &tables, &advice, None, &RenderOptions { top: 3, ..options(80) }));
}

#[test]
fn for_a_slowdown() {
    let (meta, tables) = (meta(), tables());
    let goal = Goal::MaxSlowdown { limit: 0.07, bound: Bound::High };
    let advice = asked(&meta, &tables, goal, Ranker::StallDensity);
    insta::assert_snapshot!(text(&meta, &tables, &advice, None, &RenderOptions { stacks: 0, ..options(80) }));
}

#[test]
fn of_page_faults() {
    let (mut meta, tables) = (meta(), tables());
    meta.sampler.kind = SamplerKind::Fault;
    meta.allocator.shim = "the program is statically linked".into();
    let advice = asked(&meta, &tables, Goal::FastFraction(0.25), Ranker::Hotness);
    insta::assert_snapshot!(text(&meta, &tables, &advice, None, &RenderOptions { stacks: 0, ..options(80) }));
}

#[test]
fn as_json() {
    let (meta, tables) = (meta(), tables());
    let advice = asked(&meta, &tables, Goal::FastFraction(0.5), Ranker::StallDensity);
    insta::assert_json_snapshot!(json(&meta, &tables, &advice), { ".profile" => "[as of report --json]" });
}

#[test]
fn by_a_model_with_a_choice_that_is_within_the_noise() {
    let (meta, tables) = (meta(), tables());
    let mut advice = as_learnt(&meta, &tables);
    insta::assert_snapshot!(text(&meta, &tables, &advice, None, &RenderOptions { top: 2, ..options(100) }));
    let value = json(&meta, &tables, &advice);
    assert_eq!((&value["model"]["learner"], &value["model"]["programs"]), (&"blend".into(), &25.into()));
    assert_eq!((&value["objects"][1]["by_formula"], &value["objects"][0]["formula"]), (&true.into(), &0.125.into()));
    assert_eq!((&value["tie"]["remedy"], &value["tie"]["record_seconds"]), (&"record".into(), &31.0.into()));
    assert_eq!(value["tie"]["fast"], value["objects"][0]["id"]);
    for (remedy, says) in [(Remedy::Simulate, "`tierscope simulate`"), (Remedy::Neither, "either may be there")] {
        advice.tie = advice.tie.map(|tie| Tie { remedy, ..tie });
        let text = text(&meta, &tables, &advice, None, &options(160));
        assert!(text.contains("close call") && text.contains(says), "{text}");
    }
}

#[test]
fn why_a_model_was_not_used_is_said_first_and_the_next_command_asks_for_it_again() {
    let (meta, tables) = (meta(), tables());
    let advice = asked(&meta, &tables, Goal::FastFraction(0.5), Ranker::Model);
    let text = text(&meta, &tables, &advice, None, &options(160));
    let (_, unknown) = text.split_once("what this does not know\n").unwrap();
    assert!(unknown.starts_with("- The trained model is not used: there is none in this test."), "{unknown}");
    assert!(text.contains("placed      by stall-density") && !text.contains("--ranker"), "{text}");
    let by_shares = asked(&meta, &tables, Goal::FastFraction(0.5), Ranker::StallDensity);
    assert!(json(&meta, &tables, &by_shares)["model"].is_null());
    assert!(self::text(&meta, &tables, &by_shares, None, &options(160)).contains("--ranker stall-density -o"));
}

#[test]
fn lints_are_told_under_their_objects_and_their_names_are_in_the_document() {
    let (meta, tables) = (meta(), chased());
    let advice = asked(&meta, &tables, Goal::FastFraction(0.5), Ranker::StallDensity);
    let found: Vec<&str> = advice.objects.iter().flat_map(|object| &object.lints).map(|lint| lint.kind.id()).collect();
    assert!(!found.is_empty());
    let document = include_str!("../../../docs/lints.md");
    let text = text(&meta, &tables, &advice, None, &options(160));
    let value = json(&meta, &tables, &advice);
    for name in found {
        assert!(document.contains(&format!("`{name}`")) && text.contains(&format!("     {name}: ")), "{name}\n{text}");
        assert!(value["objects"].to_string().contains(&format!("\"name\":\"{name}\"")));
    }
    // -n says of how many.
    let none = self::text(&meta, &tables, &advice, None, &RenderOptions { top: 0, stacks: 0, ..options(160) });
    assert!(!none.contains("docs/lints.md") && !none.contains("\nwhy\n"), "{none}");
}

#[test]
fn every_advice_is_by_the_contract() {
    let root: Value = serde_json::from_str(SCHEMA).unwrap();
    for (meta, tables) in [(meta(), tables()), hostile()] {
        check(&root, &root, &json(&meta, &tables, &as_learnt(&meta, &tables)), "advice");
        for ranker in [Ranker::Model, Ranker::StallDensity, Ranker::Hotness, Ranker::FirstTouch, Ranker::Random(3)] {
            for goal in
                [Goal::FastBytes(0), Goal::FastFraction(1.0), Goal::MaxSlowdown { limit: 0.2, bound: Bound::Point }]
            {
                let value = json(&meta, &tables, &asked(&meta, &tables, goal, ranker));
                check(&root, &root, &value, "advice");
                let mut own = value.clone();
                // What is in the profile is described with the report.
                own.as_object_mut().unwrap().remove("profile");
                described(&root, &root, DOCUMENT, &own, "");
            }
        }
    }
}

#[test]
fn slowdowns_of_objects_add_up_to_that_of_the_run() {
    let (meta, tables) = (meta(), tables());
    let value = json(&meta, &tables, &asked(&meta, &tables, Goal::FastFraction(0.3), Ranker::StallDensity));
    let sum: f64 =
        value["objects"].as_array().unwrap().iter().map(|object| object["predicted_slowdown"].as_f64().unwrap()).sum();
    assert!(sum > 0.0 && (sum - value["predicted_slowdown"].as_f64().unwrap()).abs() < 1e-9);
    let next = value["curve"][0]["next_object"].as_str().unwrap();
    assert!(value["objects"].as_array().unwrap().iter().any(|object| object["id"] == next));
}

#[test]
fn no_line_is_wider_than_asked_and_no_control_character_gets_out() {
    let (meta, tables) = hostile();
    let advice = asked(&meta, &tables, Goal::FastFraction(0.5), Ranker::StallDensity);
    for width in [60, 61, 80, 100, 120, 160] {
        let text = text(&meta, &tables, &advice, None, &options(width));
        let (body, next) = text.trim_end().rsplit_once('\n').unwrap();
        for line in body.lines() {
            assert!(line.width() <= width, "{} > {width}: {line}", line.width());
        }
        // A command that is broken in two cannot be copied.
        assert!(
            next.starts_with("next        tierscope advise bc.4711.tsp --fast 50% --ranker stall-density"),
            "{next}"
        );
        assert!(!text.lines().any(|line| line.chars().any(char::is_control)));
    }
}

#[test]
fn colours_change_nothing_but_colours() {
    let (meta, tables) = (meta(), tables());
    let advice = asked(&meta, &tables, Goal::FastFraction(0.5), Ranker::StallDensity);
    let mut coloured = text(&meta, &tables, &advice, None, &RenderOptions { color: true, ..options(120) });
    assert!(coloured.contains("\u{1b}["));
    for code in ["\u{1b}[0m", "\u{1b}[1m", "\u{1b}[2m", "\u{1b}[33m"] {
        coloured = coloured.replace(code, "");
    }
    let trimmed = |text: &str| text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
    assert_eq!(trimmed(&coloured), trimmed(&text(&meta, &tables, &advice, None, &options(120))));
}
