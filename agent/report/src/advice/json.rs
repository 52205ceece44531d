//! `advise --json`: the contract `tierscope.advice/1`.
//!
//! Described in `docs/advice.md` and `docs/advice.schema.json`, which a test holds against what is written here. Fields
//! may be added; none changes its meaning or goes within version 1. What is not known is `null`, never zero.

use serde_json::{Value, json};
use tierscope_model::advice::{Advice, AdvisedObject, Caveat, CurveStep, Goal, ModelUsed, Remedy, Tie, TierUse};
use tierscope_model::summary::Frame;
use tierscope_placement::{Bound, Cost, Optimality};

use super::{AdviceReport, TierNote};
use crate::json::{interval, lint, profile, whole};

/// The schema.
pub const ADVICE_SCHEMA: &str = "tierscope.advice/1";

/// The advice as JSON, objects in the ranker's order and then those that stay.
#[must_use]
pub fn advice_to_json(shown: &AdviceReport<'_>) -> Value {
    let advice = shown.advice;
    let fast_bytes = advice.tiers.first().map_or(0, |used| used.bytes);
    json!({
        "schema": ADVICE_SCHEMA,
        "profile": profile(&shown.report),
        "ranker": advice.ranker.to_string(),
        "basis": advice.basis.as_str(),
        "model": advice.model.as_ref().map(model),
        "goal": goal(advice.goal),
        "budget_bytes": advice.budget,
        "fast_bytes": fast_bytes,
        "footprint_bytes": advice.footprint,
        "predicted_slowdown": advice.predicted.point,
        "predicted_slowdown_interval": ends(advice.predicted),
        "all_slow_slowdown": advice.all_slow.point,
        "all_slow_slowdown_interval": ends(advice.all_slow),
        "optimality": optimality(advice.optimality),
        "tie": advice.tie.as_ref().map(|tie| self::tie(tie, advice)),
        "tiers": advice.tiers.iter().enumerate().map(|(number, used)| tier(used, shown.tiers.get(number))).collect::<Vec<_>>(),
        "objects": advice.objects.iter().map(|object| self::object(object, &advice.tiers)).collect::<Vec<_>>(),
        "curve": advice.curve.iter().map(|step| self::step(step, &advice.objects)).collect::<Vec<_>>(),
        "caveats": advice.caveats.iter().map(caveat).collect::<Vec<_>>(),
        "assumptions": shown.assumptions,
        "obstacles": shown.obstacles,
        "policy": shown.policy.map(|path| path.to_string_lossy()),
    })
}

fn model(used: &ModelUsed) -> Value {
    json!({
        "family": used.family.as_str(),
        "learner": used.learner.as_str(),
        "programs": used.programs,
        "key": used.key,
    })
}

fn tie(tie: &Tie, advice: &Advice) -> Value {
    let id = |place: usize| advice.objects.get(place).map(|object| &object.object.id);
    let (remedy, times, seconds) = match tie.remedy {
        Remedy::Record { times, seconds } => ("record", Some(times), seconds),
        Remedy::Simulate => ("simulate", None, None),
        Remedy::Neither => ("none", None, None),
    };
    json!({
        "fast": id(tie.fast),
        "slow": id(tie.slow),
        "remedy": remedy,
        "record_times": times,
        "record_seconds": seconds,
        "text": super::tie_text(tie, advice, usize::MAX),
    })
}

fn goal(goal: Goal) -> Value {
    match goal {
        Goal::FastBytes(bytes) => json!({ "fast_bytes": bytes }),
        Goal::FastFraction(part) => json!({ "fast_fraction": part }),
        Goal::MaxSlowdown { limit, bound } => {
            json!({ "max_slowdown": limit, "bound": if bound == Bound::High { "high" } else { "point" } })
        }
    }
}

fn optimality(optimality: Optimality) -> Value {
    let (proved, gap) = match optimality {
        Optimality::Exact => (true, Some(0.0)),
        Optimality::WithinFraction(part) => (false, Some(part)),
        Optimality::Greedy => (false, None),
    };
    json!({ "proved": proved, "gap": gap })
}

fn tier(used: &TierUse, note: Option<&TierNote>) -> Value {
    json!({
        "name": used.tier.name,
        "latency_ns": used.tier.latency_ns,
        "write_latency_ns": used.tier.write_latency_ns,
        "bandwidth_gbs": used.tier.bandwidth_gbs,
        "capacity_bytes": used.tier.capacity,
        "behind": note.and_then(|note| note.behind.as_ref()),
        "source": note.and_then(|note| note.source.as_ref()),
        "bytes": used.bytes,
        "objects": used.objects,
    })
}

fn object(advised: &AdvisedObject, tiers: &[TierUse]) -> Value {
    let object = &advised.object;
    let contributions = advised.learned.as_ref().map(|learned| {
        let moved = learned.contributions.iter().map(|moved| {
            let value = moved.value.is_finite().then_some(moved.value);
            json!({ "feature": moved.name.as_str(), "value": value, "factor": moved.factor })
        });
        moved.collect::<Vec<_>>()
    });
    json!({
        "id": object.id,
        "rank": advised.rank,
        "kind": object.kind.as_str(),
        "name": object.name,
        "module": object.module,
        "site": object.site.iter().map(Frame::describe).collect::<Vec<_>>(),
        "tier": tiers.get(advised.tier).map(|used| &used.tier.name),
        "fixed": advised.fixed.map(|fixed| fixed.as_str()),
        "bytes": advised.bytes,
        "samples": whole(object.samples),
        "share": object.share,
        "share_interval": interval(object.share_interval),
        "predicted_slowdown": advised.predicted.point,
        "predicted_slowdown_interval": ends(advised.predicted),
        "criticality": advised.criticality.point,
        "criticality_interval": ends(advised.criticality),
        "formula": advised.learned.as_ref().map(|learned| learned.formula),
        "by_formula": advised.learned.as_ref().map(|learned| learned.unsure),
        "contributions": contributions,
        "why": advised.why,
        "lints": advised.lints.iter().map(lint).collect::<Vec<_>>(),
    })
}

fn step(step: &CurveStep, objects: &[AdvisedObject]) -> Value {
    json!({
        "fast_bytes": step.fast_bytes,
        "slowdown": step.slowdown.point,
        "interval": ends(step.slowdown),
        "next_object": step.next_object.and_then(|next| objects.get(next)).map(|next| &next.object.id),
        "searched": step.searched,
    })
}

fn caveat(caveat: &Caveat) -> Value {
    json!({ "code": caveat.as_str(), "text": caveat.text() })
}

fn ends(cost: Cost) -> Value {
    json!([cost.low, cost.high])
}
