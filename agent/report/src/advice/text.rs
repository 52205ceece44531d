//! An advice on a terminal: what is predicted, the objects with their tiers, the curve, and what is not known.

use tierscope_model::advice::{AdvisedObject, Basis, Goal, TierUse};
use tierscope_placement::{Cost, Optimality};

use super::{AdviceReport, chart, command};
use crate::table::{NARROWEST, Paint, WIDEST, line};
use crate::text::{fit, left, printable, right, wrap};
use crate::units::{bytes, percent, thousands};
use crate::{RenderOptions, header, names};

const RANK: usize = 3;
const TIER: usize = 8;
const BYTES: usize = 8;
const COST: usize = 18;
const GAP: &str = "  ";

/// The whole advice. Ends with a newline. Of the options, `stacks` is of how many objects the reason is said, and `sort`
/// has no meaning: objects are in the ranker's order.
#[must_use]
pub fn render_advice(shown: &AdviceReport<'_>, options: &RenderOptions) -> String {
    let paint = Paint::new(options.color);
    let columns = options.width.unwrap_or(WIDEST).clamp(NARROWEST, WIDEST);
    let mut out = String::new();
    let known =
        header::lines(&shown.report).into_iter().filter(|(label, _)| ["program", "sampler", "sampled"].contains(label));
    for (label, text) in known.chain(summary(shown)) {
        labelled(&mut out, label, &text, columns, paint);
    }
    for warning in header::warnings(&shown.report) {
        out.push('\n');
        wrap(&format!("! {warning}"), columns, 2).iter().for_each(|text| line(&mut out, &paint.warn(text)));
    }
    out.push('\n');
    table(&mut out, shown, options, columns, paint);
    out.push('\n');
    chart::render(&mut out, shown, options, columns);
    if !shown.advice.caveats.is_empty() {
        out.push('\n');
        line(&mut out, &paint.bold("what this does not know"));
        for caveat in &shown.advice.caveats {
            wrap(&format!("- {}", printable(&caveat.text())), columns, 2).iter().for_each(|text| line(&mut out, text));
        }
    }
    out.push('\n');
    labelled(&mut out, "next", &command::next(shown), usize::MAX, paint);
    out
}

fn labelled(out: &mut String, label: &str, text: &str, columns: usize, paint: Paint) {
    let label = left(label, 12);
    let mut lines = wrap(&format!("{label}{text}"), columns, 12).into_iter();
    let first = lines.next().unwrap_or_default();
    line(out, &format!("{}{}", paint.dim(&label), first.strip_prefix(&label).unwrap_or(&first)));
    lines.for_each(|rest| line(out, &rest));
}

fn summary(shown: &AdviceReport<'_>) -> Vec<(&'static str, String)> {
    let advice = shown.advice;
    let name = |used: Option<&TierUse>| used.map_or_else(String::new, |used| printable(&used.tier.name));
    let (fastest, slowest) = (name(advice.tiers.first()), name(advice.tiers.last()));
    let used = advice.tiers.first().map_or(0, |used| used.bytes);
    let of_all = percent(used as f64 / advice.footprint.max(1) as f64);
    let placeable = format!("of the {} that can be placed", bytes(advice.footprint as f64));
    let asked = match (advice.goal, advice.budget) {
        (Goal::MaxSlowdown { limit, .. }, _) => format!("the least that keeps the slowdown to {}", percent(limit)),
        (_, budget) => format!("of a budget of {}", bytes(budget.unwrap_or(0) as f64)),
    };
    let proof = match advice.optimality {
        Optimality::Exact => "no placement that fits is predicted to cost less".to_owned(),
        Optimality::WithinFraction(part) => {
            format!("no placement that fits is predicted to cost less by more than {} of it", percent(part))
        }
        Optimality::Greedy => "in its order, each object into the fastest tier with room".to_owned(),
    };
    let predicted = match advice.basis {
        Basis::Touches => "nothing: the samples are no time (see below); costs are for ordering only".to_owned(),
        _ => format!(
            "{} slower than with everything in {fastest}; {} with everything in {slowest}",
            with_interval(advice.predicted),
            with_interval(advice.all_slow)
        ),
    };
    let tiers: Vec<String> = advice
        .tiers
        .iter()
        .map(|used| {
            let objects = if used.objects == 1 { "object" } else { "objects" };
            let number = thousands(used.objects as u64);
            format!("{} {} in {number} {objects}", printable(&used.tier.name), bytes(used.bytes as f64))
        })
        .collect();
    vec![
        ("fast memory", format!("{} of {fastest}, {of_all} {placeable}; {asked}", bytes(used as f64))),
        ("predicted", predicted),
        ("placed", format!("by {}: {proof}", advice.ranker)),
        ("tiers", tiers.join(", ")),
    ]
}

fn with_interval(cost: Cost) -> String {
    format!("{} ({:.1}-{:.1})", percent(cost.point), cost.low * 100.0, cost.high * 100.0)
}

fn table(out: &mut String, shown: &AdviceReport<'_>, options: &RenderOptions, columns: usize, paint: Paint) {
    let advice = shown.advice;
    let slowest = advice.tiers.last().map_or_else(String::new, |used| printable(&used.tier.name));
    let room = columns.saturating_sub(RANK + TIER + BYTES + COST + 4 * GAP.len());
    let row = |rank: &str, tier: &str, bytes: &str, cost: &str, name: &str| {
        let cells = [right(rank, RANK), left(&fit(tier, TIER), TIER), right(bytes, BYTES), right(cost, COST)];
        format!("{}{GAP}{}", cells.join(GAP), fit(name, room))
    };
    let title = fit(&format!("alone in {slowest}"), COST);
    line(out, &paint.bold(row("#", "tier", "bytes", &title, "object").trim_end()));
    let tier = |object: &AdvisedObject| {
        advice.tiers.get(object.tier).map_or_else(String::new, |used| printable(&used.tier.name))
    };
    let (movable, fixed): (Vec<&AdvisedObject>, Vec<&AdvisedObject>) =
        advice.objects.iter().partition(|object| object.fixed.is_none());
    for (place, object) in movable.iter().take(options.top).enumerate() {
        let rank = object.rank.map_or_else(|| "-".to_owned(), |rank| rank.to_string());
        let size = bytes(object.bytes as f64);
        line(out, &row(&rank, &tier(object), &size, &cost(object.criticality), &names::object(&object.object, room)));
        if place < options.stacks {
            let indent = RANK + GAP.len();
            let why = format!("{}{}", " ".repeat(indent), printable(&object.why));
            wrap(&why, columns, indent).iter().for_each(|text| line(out, &paint.dim(text)));
        }
    }
    let hidden = movable.get(options.top..).unwrap_or_default();
    if !hidden.is_empty() {
        let size: f64 = hidden.iter().map(|object| object.bytes as f64).sum();
        let most = hidden.iter().map(|object| object.criticality.point).fold(0.0, f64::max);
        let name = format!("{} more, at most {} each", thousands(hidden.len() as u64), percent(most));
        line(out, &paint.dim(&row("", "", &bytes(size), "", &name)));
    }
    for object in fixed.iter().take(options.top).filter(|object| object.object.samples > 0.0) {
        let reason = object.fixed.map_or("", |fixed| fixed.as_str());
        let name =
            format!("{} (stays: {reason})", names::object(&object.object, room.saturating_sub(reason.len() + 10)));
        line(out, &paint.dim(&row("-", &tier(object), &bytes(object.bytes as f64), &cost(object.criticality), &name)));
    }
}

/// `41.2 ± 1.9 %`: the larger half where the interval is lopsided.
fn cost(cost: Cost) -> String {
    let half = (cost.high - cost.point).max(cost.point - cost.low).max(0.0);
    format!("{:.1} ± {:.1} %", cost.point * 100.0, half * 100.0)
}
