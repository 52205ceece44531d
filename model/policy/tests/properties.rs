//! What holds of every text and of every policy.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tierscope_policy::{
    Backend, By, Compiled, FrameName, Match, ModuleFile, Origin, Policy, Program, Resolve, Rule, SiteEntry, Sizes,
    Tier, compile, update,
};

fn words() -> impl Strategy<Value = Option<String>> {
    proptest::option::of("[ -~é\n\t\"'\\\\]{0,20}[a-z]")
}

fn hex() -> impl Strategy<Value = String> {
    "([0-9a-f]{2}){1,20}"
}

fn module() -> impl Strategy<Value = String> {
    "[a-c](\\+|\\.so| |é|\"){0,2}"
}

fn tier(index: usize) -> impl Strategy<Value = Tier> {
    let nodes = || proptest::collection::btree_set(0_u16..1024, 2..5).prop_map(Vec::from_iter);
    let backend = prop_oneof![
        (nodes(), any::<bool>()).prop_map(|(nodes, strict)| Backend::Numa { nodes, strict }),
        nodes().prop_map(|nodes| Backend::Interleave { weights: vec![7; nodes.len()], nodes }),
        nodes().prop_map(|nodes| Backend::Interleave { weights: Vec::new(), nodes }),
        "/[ -~é]{0,20}".prop_map(|dir| Backend::File { dir }),
        "/dev/dax[0-9]".prop_map(|device| Backend::Dax { device }),
        Just(Backend::Swap),
    ];
    ("[a-z]([a-z0-9._-]{0,8})", proptest::option::of(backend), any::<Option<u64>>()).prop_map(
        move |(name, backend, capacity)| Tier {
            name: format!("{name}{index}"),
            capacity: capacity.filter(|_| backend.is_some()),
            backend,
        },
    )
}

fn frame_name() -> impl Strategy<Value = FrameName> {
    ("[a-z:<>~ ]{0,12}", proptest::option::of(("[a-z./ ]{0,8}", any::<u32>()))).prop_map(|(function, place)| {
        FrameName::new(&function, place.as_ref().map(|(file, line)| (file.as_str(), *line)))
    })
}

/// Few different ones, so that rules meet.
fn rule() -> impl Strategy<Value = Rule> {
    let entry =
        (module(), prop_oneof![0_u64..4, 0..u64::MAX]).prop_map(|(module, address)| SiteEntry { module, address });
    let site = (proptest::collection::vec(entry, 1..4), proptest::collection::vec(frame_name(), 0..4));
    let sizes = prop_oneof![
        Just(Sizes::ALL),
        (any::<u64>(), 1..=u64::MAX).prop_map(|(low, more)| Sizes { low, high: low.checked_add(more) }),
    ];
    let blocks = (site, sizes.clone(), any::<Option<u16>>()).prop_map(|((site, mut frames), sizes, ordinal)| {
        frames.truncate(site.len());
        Rule { site, frames, sizes, ordinal, ..Rule::default() }
    });
    let global = ("[a-z]{1,3}", proptest::option::of(module())).prop_map(|(symbol, module)| Rule {
        symbol: Some(symbol),
        module,
        ..Rule::default()
    });
    let size = sizes.prop_map(|sizes| Rule { sizes, ..Rule::default() });
    let by = prop_oneof![Just(By::Tierscope), words().prop_map(By::Person)];
    (prop_oneof![4 => blocks, 2 => global, 1 => size], any::<Option<u64>>(), words(), by)
        .prop_map(|(rule, bytes, why, by)| Rule { bytes, why, by, ..rule })
}

fn policy() -> impl Strategy<Value = Policy> {
    let program =
        (words(), proptest::option::of(hex()), 0..3_usize, proptest::collection::btree_map(module(), hex(), 0..3))
            .prop_map(|(name, build_id, matching, modules)| Program {
                name,
                build_id,
                matching: Match::ALL[matching],
                modules,
            });
    let number = || -1e9..1e9_f64;
    let origin = (
        (words(), words(), words(), words(), words()),
        proptest::option::of(0..i64::MAX as u64),
        any::<Option<u64>>(),
        proptest::option::of(number()),
        proptest::option::of((number(), 0.0..9.0_f64)),
    )
        .prop_map(
            |((profile, sampler, ranker, created, tierscope), samples, fast, predicted_slowdown, interval)| {
                let interval = interval.map(|(low, more)| (low, low + more));
                Origin { profile, sampler, samples, ranker, fast, predicted_slowdown, interval, created, tierscope }
            },
        );
    (program, origin, (tier(0), tier(1), tier(2)), proptest::collection::vec((rule(), 0..3_usize), 0..6), 0..3_usize)
        .prop_map(|(program, origin, (a, b, c), rules, default)| {
            let tiers = vec![a, b, c];
            let mut list: Vec<Rule> = Vec::new();
            for (rule, tier) in rules {
                // What contradicts itself is refused, which is not what is tested here.
                if !list.iter().any(|other| other.same_objects(&rule)) {
                    list.push(Rule { tier: tiers[tier].name.clone(), ..rule });
                }
            }
            Policy { program, origin, default_tier: tiers[default].name.clone(), tiers, rules: list }
        })
}

/// A text that is nearly a policy file: its pieces in any order.
fn nearly() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("schema = \"tierscope.policy/1\"\n".to_owned()),
        Just("[tiers.a]\nbackend = \"swap\"\n".to_owned()),
        Just("[default]\ntier = \"a\"\n".to_owned()),
        Just("[[rule]]\ntier = \"a\"\n".to_owned()),
        Just("[program.modules]\n".to_owned()),
        "(backend|nodes|dir|capacity|site|frames|size|ordinal|symbol|module|bytes|ranges|phase|interval|match|tier|rule|tiers) = "
            .prop_map(|key| key),
        "(\\[[0-9, ]{0,8}\\]|\"[a-z/ 0-9.<+x]{0,8}\"|-?[0-9]{1,20}|0x[0-9a-f]{1,20}|nan|inf|true|2020-01-01)\n",
        "\\[\"(a\\+0x[0-9a-f]{1,3}|f g.c:[0-9]{1,12}|[0-9]{1,3} (Ki)?B\\.\\.[0-9]{1,3} MiB)\"\\]\n",
        "\\[?\\{ ?(value|tier|low|backend) = [0-9\"a-z]{1,5} ?\\}\\]?\n",
        "[ -~\n]{0,6}",
    ];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

/// Finds every module, of a build that few policies name.
struct Any;

impl Resolve for Any {
    fn module(&self, name: &str) -> Option<ModuleFile> {
        (name.len() != 2).then(|| ModuleFile {
            build_id: vec![1],
            is_program: name == "a",
            real_name: (name.len() == 3).then(|| "b".to_owned()),
        })
    }
    fn return_addresses(&self, _: &str, _: &str, _: Option<(&str, u32)>) -> Vec<(u64, u64)> {
        vec![(7, 9), (7, 9), (3, 3), (1, 2)]
    }
    fn globals(&self, _: &str, symbol: &str) -> Vec<(u64, u64)> {
        vec![(u64::MAX, 2); usize::from(symbol.len() == 2)]
    }
    fn program(&self) -> Option<String> {
        None
    }
}

/// Nothing is lost, and the shim takes it.
fn holds_together(policy: &Policy) -> Result<Compiled, TestCaseError> {
    let compiled = compile(policy, &Any);
    prop_assert_eq!(compiled.resolved.len() + compiled.unresolved.len(), policy.rules.len());
    prop_assert_eq!(compiled.spec.rules.len() + compiled.spec.globals.len(), compiled.resolved.len());
    prop_assert!(compiled.spec.encode().is_ok(), "{:?}", compiled.spec.encode());
    Ok(compiled)
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in prop_oneof![any::<String>(), nearly()]) {
        match Policy::parse(&text) {
            Ok(policy) => {
                prop_assert_eq!(Policy::parse(&policy.to_toml()), Ok(policy.clone()));
                holds_together(&policy)?;
            }
            Err(errors) => prop_assert!(!errors.errors.is_empty() && !errors.to_string().is_empty()),
        }
    }

    #[test]
    fn what_is_written_reads_back_to_the_same(policy in policy()) {
        let text = policy.to_toml();
        match Policy::parse(&text) {
            Ok(read) => prop_assert_eq!(read, policy, "{}", text),
            Err(errors) => prop_assert!(false, "{}\n{}", errors, text),
        }
    }

    #[test]
    fn every_policy_compiles(policy in policy()) {
        holds_together(&policy)?;
    }

    #[test]
    fn an_update_keeps_a_persons_rules_and_is_stable(old in policy(), new in policy()) {
        let once = update(&old.to_toml(), &new);
        prop_assert!(once.is_ok(), "{}", once.unwrap_err());
        let once = once.unwrap().text;
        let twice = update(&once, &new).unwrap().text;
        prop_assert_eq!(&twice, &once);

        let result = Policy::parse(&once).unwrap();
        let persons = |policy: &Policy| -> Vec<Rule> {
            policy.rules.iter().filter(|rule| rule.by != By::Tierscope).cloned().collect()
        };
        let (had, has) = (persons(&old), persons(&result));
        prop_assert!(had.iter().all(|rule| has.contains(rule)), "{}", once);
        for rule in &new.rules {
            prop_assert!(result.rules.iter().any(|other| other.same_objects(rule)), "{}", once);
        }
        prop_assert_eq!(result.origin, new.origin);
        let tiers: BTreeMap<_, _> = result.tiers.iter().map(|tier| (&tier.name, tier)).collect();
        prop_assert!(new.tiers.iter().all(|tier| tiers.get(&tier.name) == Some(&tier)));
    }
}
