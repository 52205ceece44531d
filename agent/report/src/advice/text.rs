//! An advice on a terminal: what is predicted, the objects with their tiers, the curve, and what is not known.

use tierscope_model::advice::{AdvisedObject, Basis, Goal, ModelUsed, TierUse};
use tierscope_placement::{Bound, Cost, Optimality};

use super::{AdviceReport, TierNote, chart, command};
use crate::table::{NARROWEST, Paint, WIDEST, line};
use crate::text::{fit, left, printable, right, width, wrap};
use crate::units::{bytes, in_percent, percent, thousands};
use crate::{RenderOptions, header, lints, names};

const RANK: usize = 3;
/// The widest a tier's name is shown.
const TIER: usize = 12;
const BYTES: usize = 8;
const COST: usize = 18;
const GAP: &str = "  ";
/// Halves of intervals below this are shown alike.
const LOPSIDED: f64 = 0.005;
/// The widest the names of two objects are shown that are told apart in a sentence.
const TIED: usize = 40;
/// Of what cannot be moved, that with a share of less than this is left out: it would read 0.0 %.
const SHOWN: f64 = 0.0005;

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
    let all = header::warnings(&shown.report).into_iter();
    for warning in all.chain(shown.assumptions.iter().chain(shown.obstacles).map(|text| printable(text))) {
        out.push('\n');
        wrap(&format!("! {warning}"), columns, 2).iter().for_each(|text| line(&mut out, &paint.warn(text)));
    }
    out.push('\n');
    table(&mut out, shown, options, columns, paint);
    out.push('\n');
    if reasons(&mut out, shown, options, columns, paint) {
        out.push('\n');
    }
    chart::render(&mut out, shown, options, columns);
    if !shown.advice.caveats.is_empty() {
        out.push('\n');
        line(&mut out, &paint.bold("what this does not know"));
        for caveat in &shown.advice.caveats {
            wrap(&format!("- {}", printable(&caveat.text())), columns, 2).iter().for_each(|text| line(&mut out, text));
        }
    }
    out.push('\n');
    if let Some(policy) = shown.policy {
        labelled(&mut out, "policy", &printable(&policy.to_string_lossy()), usize::MAX, paint);
    }
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
        (Goal::MaxSlowdown { limit, bound }, _) => {
            format!("the least that keeps the slowdown to {}{}", percent(limit), upper(bound))
        }
        (_, budget) => {
            let budget = budget.unwrap_or(0);
            let all = if budget >= advice.footprint { ", more than they need" } else { "" };
            format!("of a budget of {}{all}", bytes(budget as f64))
        }
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
        _ if !advice.predicts() => {
            format!("nothing: {slowest} is read in pages (see below); costs are for ordering only")
        }
        _ => format!(
            "{} slower than with everything in {fastest}; {} with everything in {slowest}",
            with_interval(advice.predicted),
            with_interval(advice.all_slow)
        ),
    };
    let tiers = advice.tiers.iter().enumerate().map(|(number, used)| tier(used, shown.tiers.get(number)));
    let mut lines = vec![
        ("fast memory", format!("{} of {fastest}, {of_all} {placeable}; {asked}", bytes(used as f64))),
        ("predicted", predicted),
        ("placed", format!("by {}: {proof}", advice.ranker)),
    ];
    lines.extend(advice.model.as_ref().map(|used| {
        let ModelUsed { family, learner, key, programs } = used;
        let text = format!("{} on {family} samples, learnt from {programs} programs ({key})", learner.as_str());
        ("model", text)
    }));
    lines.extend(advice.tie.as_ref().map(|tie| ("close call", printable(&super::tie_text(tie, advice, TIED)))));
    lines.extend(tiers.enumerate().map(|(number, text)| (if number == 0 { "tiers" } else { "" }, text)));
    lines
}

/// `cxl: 193 MiB in 3 objects; node 1; 271 ns (Soar, OSDI 2025)`.
fn tier(used: &TierUse, note: Option<&TierNote>) -> String {
    let objects = if used.objects == 1 { "object" } else { "objects" };
    let number = thousands(used.objects as u64);
    let source = note.and_then(|note| note.source.as_ref()).map_or_else(String::new, |source| format!(" ({source})"));
    let behind = match note.map(|note| note.behind.as_deref()) {
        Some(Some(behind)) => format!("; {behind}"),
        Some(None) => "; nothing behind it".to_owned(),
        None => String::new(),
    };
    let latency = latency(used.tier.latency_ns);
    let text =
        format!("{}: {} in {number} {objects}{behind}; {latency}{source}", used.tier.name, bytes(used.bytes as f64));
    printable(&text)
}

fn latency(ns: f64) -> String {
    match ns {
        ns if ns < 1e3 => format!("{ns:.0} ns"),
        ns if ns < 1e6 => format!("{:.1} us", ns / 1e3),
        ns => format!("{:.1} ms", ns / 1e6),
    }
}

/// Which end of the prediction is kept to a limit.
fn upper(bound: Bound) -> &'static str {
    if bound == Bound::High { ", its upper end included" } else { "" }
}

fn with_interval(cost: Cost) -> String {
    format!("{} ({}-{})", percent(cost.point), in_percent(cost.low), in_percent(cost.high))
}

fn table(out: &mut String, shown: &AdviceReport<'_>, options: &RenderOptions, columns: usize, paint: Paint) {
    let advice = shown.advice;
    let slowest = advice.tiers.last().map_or_else(String::new, |used| printable(&used.tier.name));
    let names = advice.tiers.iter().map(|used| width(&printable(&used.tier.name)));
    let widest = names.max().unwrap_or(0).clamp(4, TIER);
    let room = columns.saturating_sub(RANK + widest + BYTES + COST + 4 * GAP.len());
    let row = |rank: &str, tier: &str, bytes: &str, cost: &str, name: &str| {
        let cells = [right(rank, RANK), left(&fit(tier, widest), widest), right(bytes, BYTES), right(cost, COST)];
        format!("{}{GAP}{}", cells.join(GAP), fit(name, room))
    };
    let title = fit(&format!("alone in {slowest}"), COST);
    line(out, &paint.bold(row("#", "tier", "bytes", &title, "object").trim_end()));
    let tier = |object: &AdvisedObject| {
        advice.tiers.get(object.tier).map_or_else(String::new, |used| printable(&used.tier.name))
    };
    let (movable, fixed): (Vec<&AdvisedObject>, Vec<&AdvisedObject>) =
        advice.objects.iter().partition(|object| object.fixed.is_none());
    for object in movable.iter().take(options.top) {
        let rank = object.rank.map_or_else(|| "-".to_owned(), |rank| rank.to_string());
        let size = bytes(object.bytes as f64);
        line(out, &row(&rank, &tier(object), &size, &cost(object.criticality), &names::object(&object.object, room)));
    }
    let hidden = movable.get(options.top..).unwrap_or_default();
    if !hidden.is_empty() {
        let size: f64 = hidden.iter().map(|object| object.bytes as f64).sum();
        let most = hidden.iter().map(|object| object.criticality.point).fold(0.0, f64::max);
        let name = format!("{} more, at most {} each", thousands(hidden.len() as u64), percent(most));
        line(out, &paint.dim(&row("", "", &bytes(size), "", &name)));
    }
    for object in fixed.iter().take(options.top).filter(|object| object.object.share >= SHOWN) {
        let reason = object.fixed.map_or("", |fixed| fixed.as_str());
        let name =
            format!("{} (stays: {reason})", names::object(&object.object, room.saturating_sub(reason.len() + 10)));
        line(out, &paint.dim(&row("-", &tier(object), &bytes(object.bytes as f64), &cost(object.criticality), &name)));
    }
}

/// Why each object that is shown is where it is, with what was noticed about it; whether there was anything to say. Objects that no sample
/// fell on are told together.
fn reasons(out: &mut String, shown: &AdviceReport<'_>, options: &RenderOptions, columns: usize, paint: Paint) -> bool {
    let movable = shown.advice.objects.iter().filter(|object| object.fixed.is_none());
    let told: Vec<&AdvisedObject> = movable.take(options.top.min(options.stacks)).collect();
    let is_seen = |object: &AdvisedObject| object.object.samples > 0.0 || object.criticality.point > 0.0;
    let (seen, unseen): (Vec<&AdvisedObject>, Vec<&AdvisedObject>) =
        told.into_iter().partition(|object| is_seen(object) || !object.lints.is_empty());
    if seen.is_empty() && unseen.is_empty() {
        return false;
    }
    line(out, &paint.bold("why"));
    let indent = RANK + GAP.len();
    for object in &seen {
        let rank = object.rank.map_or_else(String::new, |rank| rank.to_string());
        let text = format!("{}{GAP}{}", right(&rank, RANK), printable(&object.why));
        wrap(&text, columns, indent).iter().for_each(|text| line(out, text));
        lints::of_object(out, &object.lints, indent, columns, paint);
    }
    if let Some(largest) = unseen.iter().map(|object| object.criticality.high).max_by(f64::total_cmp) {
        let objects = if unseen.len() == 1 { "object" } else { "objects" };
        let most = if shown.advice.predicts() {
            format!(", each of which costs at most {} in slow memory", percent(largest))
        } else {
            String::new()
        };
        let text = format!("{}{GAP}No sample fell on {} {objects}{most}.", right("", RANK), unseen.len());
        wrap(&text, columns, indent).iter().for_each(|text| line(out, &paint.dim(text)));
    }
    if seen.iter().any(|object| !object.lints.is_empty()) {
        lints::explained(out, indent, paint);
    }
    true
}

/// `41.2 ± 1.9 %`; `3.9 (0.6-24.6) %` where one half of the interval is more than twice the other and both ends can be seen.
fn cost(cost: Cost) -> String {
    let (above, below) = ((cost.high - cost.point).max(0.0), (cost.point - cost.low).max(0.0));
    if above.max(below) > 2.0 * above.min(below) && above.max(below) >= LOPSIDED {
        let number = |part: f64| {
            if part < 0.1 { format!("{:.1}", part * 100.0) } else { format!("{:.0}", part * 100.0) }
        };
        return format!("{} ({}-{}) %", number(cost.point), number(cost.low), number(cost.high));
    }
    format!("{} ± {} %", in_percent(cost.point), in_percent(above.max(below)))
}
