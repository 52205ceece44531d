//! Why an object is where it is, in one sentence for people and for the policy file.

use tierscope_placement::Cost;

use super::{Advice, AdvisedObject};

/// Writes the sentence of every object; `share_of` gives the share of an object, by identity, in what the basis counts.
pub(super) fn explain(advice: &mut Advice, share_of: &dyn Fn(&str) -> f64) {
    let of_what = advice.basis.of_what();
    let footprint = advice.footprint.max(1) as f64;
    let (ranker, searched) = (advice.ranker, advice.ranker.knows_costs());
    let slowest = advice.tiers.len().saturating_sub(1);
    let names: Vec<String> = advice.tiers.iter().map(|used| used.tier.name.clone()).collect();
    let movable = advice.objects.iter().filter(|object| object.fixed.is_none()).count();
    for object in &mut advice.objects {
        let share = share_of(&object.object.id);
        let what = format!("{} {of_what} in {} of the bytes", percent(share), percent(object.bytes as f64 / footprint));
        let name = |tier: usize| names.get(tier).map_or("?", String::as_str);
        object.why = match (object.fixed, object.rank) {
            (Some(fixed), _) => {
                let stays = format!("{} stay in {}", fixed.describe(), name(object.tier));
                let stays = upper_first(&stays);
                if share > 0.0 { format!("{stays}: {} {of_what}", percent(share)) } else { stays }
            }
            (None, Some(rank)) if !searched => {
                format!("Place {rank} of {movable} by {ranker}; {what}{}", alone(object, name(slowest)))
            }
            _ if object.object.samples == 0.0 && object.criticality.point == 0.0 => {
                format!(
                    "No sample fell on it: in {} it costs at most {}",
                    name(slowest),
                    percent(object.criticality.high)
                )
            }
            _ => format!("{what}{}", alone(object, name(slowest))),
        };
    }
}

/// `; alone in cxl it costs 23.0 % (18.0-29.0 %)`.
fn alone(object: &AdvisedObject, slowest: &str) -> String {
    let Cost { point, low, high } = object.criticality;
    format!("; alone in {slowest} it costs {} ({:.1}-{:.1} %)", percent(point), low * 100.0, high * 100.0)
}

fn percent(part: f64) -> String {
    format!("{:.1} %", part * 100.0)
}

fn upper_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}
