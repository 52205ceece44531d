//! From advice to the policy file that carries it out.
//!
//! **Which rules.** Blocks that no rule matches go to the default tier, the slowest, so heap objects that belong there need
//! none. Globals are not blocks: each movable one has a rule, whatever its tier, if that is memory of nodes; in files or
//! in swap there is no putting them, and they stay where they are.
//!
//! **How much of a site.** A rule matches the stacks that begin with its frames. Each rule gets the whole stack, from the
//! call of the allocator outwards, [`MOST_FRAMES`] at most: the same program takes the same stack, and fewer frames could
//! take in sites the profile has not seen. Frames end before code generated at run time, which has no address to match.
//! A site that is cut short so may begin others: those get rules of their own, whatever their tier, and longer sites come
//! first.
//!
//! **Parts of a site.** What the profile tells apart by size class gets that class, what it tells apart by slot gets the
//! slot; a site that is one object gets neither, so that other inputs with other sizes still match.

use std::collections::BTreeMap;

use tierscope_placement::Cost;
use tierscope_policy::{
    Backend, By, FrameName, Match, Origin, Policy, Program, Rule, SLACK_BYTES, SiteEntry, Sizes, Tier,
};
use tierscope_traces::{Meta, ObjectKind};

use super::{Advice, AdvisedObject};
use crate::summary::{Frame, Part};

/// Frames of a site in a rule.
pub const MOST_FRAMES: usize = 32;
/// Blocks below this are one part of a site that is split: see [`Part::Small`].
const SMALL_BLOCKS: u64 = 64 << 10;

/// What a policy says that an advice does not know.
#[derive(Clone, Debug, Default)]
pub struct Setting {
    /// Where the memory of each tier comes from, in the order of [`Advice::tiers`]. The first one's capacity is overwritten
    /// by the advised budget (and what heaps leave unused), where there is one.
    pub tiers: Vec<Tier>,
    /// Name of the profile.
    pub profile: String,
    /// When the policy is made, RFC 3339.
    pub created: Option<String>,
    /// Version that makes it.
    pub tierscope: Option<String>,
}

/// The policy that places objects as advised. Tiers that `setting` lacks get the program's own allocator as backend.
#[must_use]
pub fn policy(advice: &Advice, meta: &Meta, setting: Setting) -> Policy {
    let mut tiers: Vec<Tier> = advice
        .tiers
        .iter()
        .enumerate()
        .map(|(number, used)| {
            let named = || Tier { name: used.tier.name.clone(), backend: None, capacity: None };
            setting.tiers.get(number).cloned().unwrap_or_else(named)
        })
        .collect();
    // The program's own allocator keeps to no capacity; and nothing is put where there is no budget.
    if let (Some(fastest), Some(budget)) = (tiers.first_mut(), advice.budget)
        && fastest.backend.is_some()
        && budget > 0
    {
        // What a plan holds is counted as the blocks' room; the ends of heaps are not.
        let has_blocks = advice.objects.iter().any(|object| object.tier == 0 && object.object.kind == ObjectKind::Heap);
        fastest.capacity = Some(if has_blocks { budget.saturating_add(SLACK_BYTES) } else { budget });
    }
    let names: Vec<&str> = tiers.iter().map(|tier| tier.name.as_str()).collect();
    // A global's address is its program's: only the nodes behind it can be others.
    let of_nodes = |tier: &Tier| matches!(tier.backend, None | Some(Backend::Numa { .. } | Backend::Interleave { .. }));
    let holds_globals: Vec<bool> = tiers.iter().map(of_nodes).collect();
    let rules = rules(advice, &names, &holds_globals);
    let mut modules = BTreeMap::new();
    for object in &advice.objects {
        for frame in &object.object.site {
            let name = frame.module_name().to_owned();
            if let Some(build_id) = frame.build_id.clone().filter(|_| mentions(&rules, &name)) {
                modules.entry(name).or_insert(build_id);
            }
        }
    }
    Policy {
        program: Program {
            name: base_name(&meta.program.exe),
            build_id: meta.program.build_id.clone(),
            matching: Match::default(),
            modules,
        },
        origin: origin(advice, meta, &setting),
        default_tier: names.last().map(|name| (*name).to_owned()).unwrap_or_default(),
        rules,
        tiers,
    }
}

fn origin(advice: &Advice, meta: &Meta, setting: &Setting) -> Origin {
    let Cost { point, low, high } = advice.predicted;
    let samples: f64 = advice.objects.iter().map(|object| object.object.samples).sum();
    let predicts = advice.predicts();
    Origin {
        profile: Some(setting.profile.clone()).filter(|profile| !profile.is_empty()),
        sampler: Some(meta.sampler.kind.as_str().to_owned()),
        samples: Some(samples.round() as u64),
        ranker: Some(advice.ranker.to_string()),
        fast: advice.budget.or_else(|| advice.tiers.first().map(|used| used.bytes)),
        predicted_slowdown: predicts.then_some(point),
        interval: predicts.then_some((low, high)),
        created: setting.created.clone(),
        tierscope: setting.tierscope.clone(),
    }
}

fn rules(advice: &Advice, names: &[&str], holds_globals: &[bool]) -> Vec<Rule> {
    let slowest = names.len().saturating_sub(1);
    let movable = || advice.objects.iter().filter(|object| object.fixed.is_none());
    let rule = |object: &AdvisedObject| rule(object, names.get(object.tier).copied().unwrap_or_default());
    let mut rules: Vec<Rule> = movable()
        .filter(|object| match object.object.kind {
            ObjectKind::Global => holds_globals.get(object.tier).copied().unwrap_or(true),
            _ => object.tier != slowest,
        })
        .filter_map(rule)
        .collect();
    // What stays in the default tier needs a rule where one of these would take it along.
    let taken = |kept: &Rule| {
        rules
            .iter()
            .any(|rule| !rule.site.is_empty() && kept.site.len() > rule.site.len() && kept.site.starts_with(&rule.site))
    };
    let defended: Vec<Rule> = movable()
        .filter(|object| object.object.kind == ObjectKind::Heap && object.tier == slowest)
        .filter_map(rule)
        .filter(taken)
        .collect();
    rules.extend(defended);
    // The sort is stable: sites of the same length stay in the ranker's order.
    rules.sort_by_key(|rule| std::cmp::Reverse(rule.site.len()));
    let mut kept: Vec<Rule> = Vec::with_capacity(rules.len());
    for rule in rules {
        // Sites that differ only beyond what a rule can hold: the first decides.
        if !kept.iter().any(|first| first.same_objects(&rule)) {
            kept.push(rule);
        }
    }
    kept
}

fn rule(object: &AdvisedObject, tier: &str) -> Option<Rule> {
    let described = &object.object;
    let (bytes, why) = (Some(object.bytes), Some(object.why.clone()));
    let rule = Rule { tier: tier.to_owned(), bytes, why, by: By::Tierscope, ..Rule::default() };
    if described.kind == ObjectKind::Global {
        let module = base_name(described.module.as_deref().unwrap_or_default());
        return Some(Rule { symbol: Some(described.name.clone()), module, ..rule });
    }
    let frames: Vec<(SiteEntry, FrameName)> = described.site.iter().map_while(entry).take(MOST_FRAMES).collect();
    let (site, frames): (Vec<SiteEntry>, Vec<FrameName>) = frames.into_iter().unzip();
    let (sizes, ordinal) = match described.part {
        None => (Sizes::ALL, None),
        Some(Part::Small) => (Sizes { low: 0, high: Some(SMALL_BLOCKS) }, None),
        Some(Part::Block { size_class, slot, by_slot, .. }) => {
            let low = 1u64.checked_shl(u32::from(size_class))?;
            (Sizes { low, high: low.checked_mul(2) }, by_slot.then_some(slot))
        }
    };
    (!site.is_empty()).then_some(Rule { site, frames, sizes, ordinal, ..rule })
}

/// A frame as a rule names it; `None` where it has no address that is the same in the next run.
fn entry(frame: &Frame) -> Option<(SiteEntry, FrameName)> {
    frame.module.as_ref()?;
    // What a policy file could not say is not put there.
    let entry: SiteEntry = frame.location().parse().ok()?;
    let name = frame.function().map(|function| {
        let place = function.file.as_deref().zip(function.line);
        FrameName::new(&function.name, place)
    });
    Some((entry, name.unwrap_or_default()))
}

fn mentions(rules: &[Rule], module: &str) -> bool {
    rules.iter().any(|rule| rule.site.iter().any(|entry| entry.module == module))
}

fn base_name(path: &str) -> Option<String> {
    path.rsplit('/').next().filter(|name| !name.is_empty()).map(str::to_owned)
}
