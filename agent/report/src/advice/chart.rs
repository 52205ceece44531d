//! The curve as bars: one line for each of a few budgets, as long as the slowdown it leaves.
//!
//! A curve may have hundreds of points. Those shown are the last before every tenth of the footprint, and the advice's
//! own, since a person compares budgets, not objects.

use tierscope_model::advice::{Advice, Basis, CurveStep};
use tierscope_placement::Cost;

use super::AdviceReport;
use crate::table::{Paint, line};
use crate::text::{fit, right, width};
use crate::units::{bytes, in_percent, percent};
use crate::{RenderOptions, names};

/// The longest bar.
const BAR: usize = 32;
const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
/// Budgets that are looked at, beside none.
const PARTS: u64 = 10;

/// One line.
struct Row {
    fast_bytes: u64,
    slowdown: Cost,
    next: Option<usize>,
    /// Whether it is the advice's own.
    own: bool,
}

pub(super) fn render(out: &mut String, shown: &AdviceReport<'_>, options: &RenderOptions, columns: usize) {
    let advice = shown.advice;
    let paint = Paint::new(options.color);
    let most = advice.curve.first().map_or(0.0, |step| step.slowdown.point);
    let what = if advice.predicts() { "slower by" } else { "cost, for ordering only" };
    // Intervals of a model are of nine in ten, those of samples of 95 in a hundred.
    let sure = if advice.basis == Basis::Learned { 90 } else { 95 };
    line(out, &paint.bold(&format!("    fast memory      {what} ({sure} %)")));
    for row in rows(advice) {
        let mark = if row.own { ">" } else { " " };
        let slowdown = row.slowdown;
        let numbers = format!(
            "{mark} {}  {} %  {}  {}  ",
            right(&bytes(row.fast_bytes as f64), 8),
            right(&part(row.fast_bytes, advice.footprint), 3),
            right(&percent(slowdown.point), 9),
            right(&format!("({}-{})", in_percent(slowdown.low), in_percent(slowdown.high)), 15),
        );
        let bar = bar(if most > 0.0 { slowdown.point / most } else { 0.0 });
        let drawn = format!("{numbers}{bar}");
        let next = row.next.and_then(|next| advice.objects.get(next)).filter(|_| row.fast_bytes < advice.footprint);
        let room = columns.saturating_sub(width(&numbers) + BAR + 7);
        let text = match next.filter(|_| room >= 12) {
            Some(next) => {
                let gap = " ".repeat((width(&numbers) + BAR + 2).saturating_sub(width(&drawn)));
                format!("{drawn}{gap}{}", paint.dim(&format!("next {}", names::object(&next.object, room))))
            }
            None => fit(&drawn, columns),
        };
        line(out, &text);
    }
}

/// The points to show, in order.
fn rows(advice: &Advice) -> Vec<Row> {
    let (curve, footprint) = (&advice.curve, advice.footprint);
    let fast = advice.tiers.first().map_or(0, |used| used.bytes);
    let own = |step: &CurveStep| step.fast_bytes == fast && step.slowdown == advice.predicted;
    let mut places: Vec<usize> = (0..=PARTS)
        .map(|part| (u128::from(footprint) * u128::from(part) / u128::from(PARTS)) as u64)
        .filter_map(|budget| curve.iter().rposition(|step| step.fast_bytes <= budget))
        .chain(curve.iter().position(own))
        .collect();
    places.sort_unstable();
    places.dedup();
    let mut rows: Vec<Row> = places
        .into_iter()
        .filter_map(|place| curve.get(place))
        .map(|step| Row {
            fast_bytes: step.fast_bytes,
            slowdown: step.slowdown,
            next: step.next_object,
            own: own(step),
        })
        .collect();
    // A placement that is not on the curve: found for a slowdown, or by an order that fills gaps.
    if !rows.iter().any(|row| row.own) {
        let behind = rows.partition_point(|row| row.fast_bytes <= fast);
        rows.insert(behind, Row { fast_bytes: fast, slowdown: advice.predicted, next: None, own: true });
    }
    // The curve ends at the footprint, where it may have been down for a few bytes already: that is one line.
    if let [.., before, end] = rows.as_slice()
        && (part(before.fast_bytes, footprint), before.slowdown) == (part(end.fast_bytes, footprint), end.slowdown)
    {
        let unmarked = if end.own { rows.len() - 2 } else { rows.len() - 1 };
        rows.remove(unmarked);
    }
    rows
}

/// Per cent of the footprint, as shown.
fn part(fast_bytes: u64, footprint: u64) -> String {
    format!("{:.0}", fast_bytes as f64 / footprint.max(1) as f64 * 100.0)
}

/// A bar for a part of the longest; what is more than nothing is seen.
fn bar(part: f64) -> String {
    let eighths = (part.clamp(0.0, 1.0) * (BAR * 8) as f64).round() as usize;
    let eighths = if part > 0.0 { eighths.max(1) } else { 0 };
    format!("{}{}", "█".repeat(eighths / 8), EIGHTHS.get(eighths % 8).copied().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_long_as_its_part_and_never_longer() {
        assert_eq!(bar(0.0), "");
        assert_eq!(bar(1e-9), "▏");
        assert_eq!(bar(1.0 / 32.0), "█");
        assert_eq!(bar(1.5 / 32.0), "█▌");
        assert_eq!(width(&bar(7.0)), BAR);
        assert_eq!(bar(f64::NAN), "");
    }
}
