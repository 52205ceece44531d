//! Why an object is where it is, in one sentence for people and for the policy file: [`crate::explain::sentence`], with what only an advice knows
//! before it.

use super::{Advice, AdvisedObject, Tier, percent};
use crate::explain::{Evidence, Prediction, sentence};
use crate::features::Observed;

/// Writes the sentence of every object. `of_summary` has the place in the summary of each of the advice's objects; `shares`, in the order of the
/// summary, its part of what the basis counts.
pub(super) fn explain(advice: &mut Advice, of_summary: &[usize], observed: Option<&Observed>, shares: &[f64]) {
    let (of_what, ranker, searched) = (advice.basis.of_what(), advice.ranker, advice.ranker.knows_costs());
    let footprint = advice.footprint.max(1) as f64;
    let predicts = advice.predicts();
    let tiers: Vec<Tier> = advice.tiers.iter().map(|used| used.tier.clone()).collect();
    let Some(slowest) = tiers.last() else { return };
    let movable = advice.objects.iter().filter(|object| object.fixed.is_none()).count();
    for (object, &place) in advice.objects.iter_mut().zip(of_summary) {
        let share = shares.get(place).copied().unwrap_or(0.0);
        if let Some(fixed) = object.fixed {
            let name = tiers.get(object.tier).map_or("?", |tier| tier.name.as_str());
            let stays = upper_first(&format!("{} stay in {name}", fixed.describe()));
            let part = if share > 0.0 { format!(": {} {of_what}", percent(share)) } else { String::new() };
            object.why = format!("{stays}{part}.");
            continue;
        }
        let seen = observed.and_then(|observed| Some((observed.family, observed.objects.get(place)?)));
        let evidence = match seen {
            Some((family, seen)) => Evidence::Features(family, &seen.features),
            None => Evidence::Share { part: share, of_what, bytes: object.bytes as f64 / footprint },
        };
        let predicted = (predicts && !slowest.paged).then(|| prediction(object, &slowest.name));
        let text = sentence(&evidence, predicted.as_ref());
        object.why = match object.rank {
            Some(rank) if !searched => format!("Place {rank} of {movable} by {ranker}; {text}"),
            _ => text,
        };
    }
}

fn prediction<'a>(object: &'a AdvisedObject, slow: &'a str) -> Prediction<'a> {
    Prediction { cost: object.criticality, slow, learned: object.learned.as_ref() }
}

fn upper_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}
