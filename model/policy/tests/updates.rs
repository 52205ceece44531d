//! What an update of a policy file changes, and what of a person's it leaves alone.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::collections::BTreeMap;

use tierscope_policy::{Backend, By, FrameName, Match, Origin, Policy, Program, Rule, Sizes, Tier, update};

fn tier(name: &str, node: u16, capacity: Option<u64>) -> Tier {
    Tier { name: name.into(), backend: Some(Backend::Numa { nodes: vec![node], strict: false }), capacity }
}

fn rule(tier: &str, site: &str, why: &str) -> Rule {
    Rule {
        tier: tier.into(),
        site: site.split(' ').map(|entry| entry.parse().unwrap()).collect(),
        frames: vec![FrameName::new("BrandesBC", Some(("/src/bc.cc", 88)))],
        bytes: Some(1_288_490_189),
        why: Some(why.into()),
        ..Rule::default()
    }
}

fn advised() -> Policy {
    Policy {
        program: Program {
            name: Some("bc".into()),
            modules: BTreeMap::from([("bc".to_owned(), "5f2c".to_owned())]),
            ..Program::default()
        },
        origin: Origin { profile: Some("bc.1.tsp".into()), predicted_slowdown: Some(0.041), ..Origin::default() },
        tiers: vec![tier("fast", 0, Some(4 << 30)), tier("slow", 1, None)],
        default_tier: "slow".into(),
        rules: vec![
            rule("fast", "bc+0x10 bc+0x20", "first"),
            rule("fast", "bc+0x30", "second"),
            Rule { tier: "fast".into(), symbol: Some("u0".into()), bytes: Some(800), ..Rule::default() },
        ],
    }
}

/// A second advice: another budget and order, a rule fewer and one more.
fn advised_anew() -> Policy {
    let mut policy = advised();
    policy.origin = Origin { profile: Some("bc.2.tsp".into()), samples: Some(7), ..Origin::default() };
    policy.tiers = vec![tier("fast", 0, Some(8 << 30)), tier("slow", 1, None), tier("far", 2, None)];
    policy.rules.remove(0);
    policy.rules.insert(0, rule("fast", "bc+0x50", "new"));
    policy.rules.swap(1, 2);
    policy.rules[2].bytes = Some(4096);
    policy
}

/// What a person may have made of the first advice.
fn edited() -> String {
    let text = advised().to_toml();
    let text = text.replace("[tiers.fast]", "# the socket the program is bound to\n[tiers.fast]   # near");
    let text = text.replace("capacity = \"4 GiB\"", "capacity   = '4GiB'   # leave 60 GiB to others");
    let text = text.replace("match = \"line\"", "match = \"function\"");
    let text = text.replacen("[[rule]]", "# hot in the first phase\n[[rule]]", 1);
    let text = text.replace("symbol = \"u0\"", "symbol = \"u0\" # the solution");
    let (before, after) = text.split_at(text.rfind("[[rule]]").unwrap());
    format!(
        "{before}# my own rule\n[[rule]]\ntier   = \"slow\"\nsize =\"< 4KiB\"   # too small to matter\n\n\
         [[rule]]\ntier = 'slow'\nsite = [ 'libx.so+0x1',\n  'bc+0x30' ]\nby = \"me\"\n\n{after}# the end\n"
    )
}

fn updated(text: &str, policy: &Policy) -> String {
    update(text, policy).unwrap_or_else(|errors| panic!("{errors}\n{text}")).text
}

#[test]
fn an_update_keeps_what_a_person_wrote() {
    insta::assert_snapshot!(updated(&edited(), &advised_anew()));
}

#[test]
fn updating_twice_is_updating_once() {
    for text in [edited(), advised().to_toml()] {
        let once = updated(&text, &advised_anew());
        assert_eq!(updated(&once, &advised_anew()), once);
        let back = updated(&once, &advised());
        assert_eq!(updated(&back, &advised()), back);
    }
}

#[test]
fn an_update_of_an_untouched_file_says_what_the_new_policy_says() {
    assert_eq!(updated(&advised().to_toml(), &advised()), advised().to_toml());
    let policy = Policy::parse(&updated(&advised().to_toml(), &advised_anew())).unwrap();
    let expected = Policy::parse(&advised_anew().to_toml()).unwrap();
    assert_eq!(policy, expected);
}

#[test]
fn a_rule_a_person_changed_holds_against_the_new_advice() {
    let changed = advised().to_toml().replacen("tier = \"fast\"\nsite", "tier = \"slow\"\nsite", 1);
    let text = updated(&changed, &advised());
    assert_eq!(text, changed);
    let policy = Policy::parse(&text).unwrap();
    assert_eq!(policy.rules.len(), 3);
    assert_eq!((policy.rules[0].tier.as_str(), &policy.rules[1].by), ("slow", &By::Tierscope));
}

#[test]
fn a_file_without_rules_origin_and_program_gets_them() {
    let text = "schema = \"tierscope.policy/1\"\ndefault.tier = \"mine\" # for now\n\n[tiers]\nmine = { backend = \"swap\" }\n";
    let text = updated(text, &advised());
    insta::assert_snapshot!(text);
    assert_eq!(updated(&text, &advised()), text);
}

#[test]
fn rules_written_as_a_list_become_tables() {
    let text = "schema = \"tierscope.policy/1\"\ntiers.fast = { backend = \"default\" }\ndefault.tier = \"fast\"\n\
                rule = [ { tier = \"fast\", size = \"< 4 KiB\" } ]\n";
    let policy = Policy::parse(&updated(text, &advised())).unwrap();
    assert_eq!(policy.rules.len(), 4);
    assert_eq!(policy.rules[0].sizes, Sizes { low: 0, high: Some(4096) });
}

#[test]
fn a_persons_addresses_in_a_rebuilt_module_are_told() {
    let mut rebuilt = advised();
    rebuilt.program.modules.insert("bc".into(), "77".into());
    let result = update(&edited(), &rebuilt).unwrap();
    let policy = Policy::parse(&result.text).unwrap();
    assert_eq!(result.stale.len(), 1);
    assert_eq!(policy.rules[result.stale[0] as usize - 1].by, By::Person(Some("me".into())));
    assert_eq!(policy.program.matching, Match::Function);
    assert_eq!(update(&edited(), &advised()).unwrap().stale, [0; 0]);
}

#[test]
fn a_module_only_a_person_speaks_of_keeps_its_build_id() {
    let text = edited().replace("bc = \"5f2c\"", "bc = \"5f2c\"\n\"libx.so\" = \"aa\"\n\"libgone.so\" = \"bb\"");
    let policy = Policy::parse(&updated(&text, &advised_anew())).unwrap();
    let names: Vec<&str> = policy.program.modules.keys().map(String::as_str).collect();
    assert_eq!(names, ["bc", "libx.so"]);
}

#[test]
fn what_cannot_be_read_is_not_updated() {
    assert!(update("schema = 1", &advised()).is_err());
    let mut many = advised();
    many.tiers.extend((0..12).map(|node| tier(&format!("t{node}"), node, None)));
    let mut others = String::from("schema = \"tierscope.policy/1\"\n[default]\ntier = \"x0\"\n");
    for number in 0..10 {
        others.push_str(&format!("[tiers.x{number}]\nbackend = \"swap\"\n"));
    }
    let errors = update(&others, &many).unwrap_err();
    assert!(errors.to_string().contains("more than 16 tiers"), "{errors}");
}
