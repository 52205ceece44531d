//! Why an object is where it is, in one sentence for people and for the policy file.

use tierscope_placement::Cost;

use super::{Advice, AdvisedObject, Tier, in_percent, percent};

/// Writes the sentence of every object; `share_of` gives the share of an object, by identity, in what the basis counts.
pub(super) fn explain(advice: &mut Advice, share_of: &dyn Fn(&str) -> f64) {
    let of_what = advice.basis.of_what();
    let footprint = advice.footprint.max(1) as f64;
    let (ranker, searched) = (advice.ranker, advice.ranker.knows_costs());
    let tiers: Vec<Tier> = advice.tiers.iter().map(|used| used.tier.clone()).collect();
    let Some(slowest) = tiers.last() else { return };
    let movable = advice.objects.iter().filter(|object| object.fixed.is_none()).count();
    for object in &mut advice.objects {
        let share = share_of(&object.object.id);
        let what = format!("{} {of_what} in {} of the bytes", percent(share), percent(object.bytes as f64 / footprint));
        object.why = match (object.fixed, object.rank) {
            (Some(fixed), _) => {
                let name = tiers.get(object.tier).map_or("?", |tier| tier.name.as_str());
                let stays = upper_first(&format!("{} stay in {name}", fixed.describe()));
                if share > 0.0 { format!("{stays}: {} {of_what}", percent(share)) } else { stays }
            }
            (None, Some(rank)) if !searched => {
                format!("Place {rank} of {movable} by {ranker}; {what}{}", alone(object, slowest))
            }
            _ if object.object.samples == 0.0 && object.criticality.point == 0.0 => {
                let most = percent(object.criticality.high);
                let most = format!(": in {} it costs at most {most}", slowest.name);
                format!("No sample fell on it{}", if slowest.paged { "" } else { &most })
            }
            _ => format!("{what}{}", alone(object, slowest)),
        };
    }
}

/// `; alone in cxl it costs 23.0 % (18.0-29.0 %)`; nothing of a tier in which it would not cost that.
fn alone(object: &AdvisedObject, slowest: &Tier) -> String {
    let name = &slowest.name;
    if slowest.paged {
        return String::new();
    }
    let Cost { point, low, high } = object.criticality;
    format!("; alone in {name} it costs {} ({}-{} %)", percent(point), in_percent(low), in_percent(high))
}

fn upper_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}
