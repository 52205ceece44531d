//! The curve as bars: one line for each of a few budgets, as long as the slowdown it leaves.
//!
//! A curve may have hundreds of points. Those shown are the last before every tenth of the footprint, and the one the
//! advice is at, since a person compares budgets, not objects.

use tierscope_model::advice::CurveStep;

use super::AdviceReport;
use crate::table::{Paint, line};
use crate::text::{fit, right, width};
use crate::units::{bytes, percent};
use crate::{RenderOptions, names};

/// The longest bar.
const BAR: usize = 32;
const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
/// Budgets that are looked at, beside none.
const PARTS: u64 = 10;

pub(super) fn render(out: &mut String, shown: &AdviceReport<'_>, options: &RenderOptions, columns: usize) {
    let advice = shown.advice;
    let paint = Paint::new(options.color);
    let fast = advice.tiers.first().map_or(0, |used| used.bytes);
    let here = advice.curve.iter().rposition(|step| step.fast_bytes <= fast);
    let most = advice.curve.first().map_or(0.0, |step| step.slowdown.point);
    line(out, &paint.bold("    fast memory      slower by (95 %)"));
    for place in places(&advice.curve, here, advice.footprint) {
        let Some(step) = advice.curve.get(place) else { continue };
        let mark = if Some(place) == here { ">" } else { " " };
        let part = step.fast_bytes as f64 / advice.footprint.max(1) as f64 * 100.0;
        let numbers = format!(
            "{mark} {}  {} %  {}  {}  ",
            right(&bytes(step.fast_bytes as f64), 8),
            right(&format!("{part:.0}"), 3),
            right(&percent(step.slowdown.point), 9),
            right(&format!("({:.1}-{:.1})", step.slowdown.low * 100.0, step.slowdown.high * 100.0), 15),
        );
        let bar = bar(if most > 0.0 { step.slowdown.point / most } else { 0.0 });
        let drawn = format!("{numbers}{bar}");
        let next =
            step.next_object.and_then(|next| advice.objects.get(next)).filter(|_| step.fast_bytes < advice.footprint);
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
fn places(curve: &[CurveStep], here: Option<usize>, footprint: u64) -> Vec<usize> {
    let mut places: Vec<usize> = (0..=PARTS)
        .map(|part| (u128::from(footprint) * u128::from(part) / u128::from(PARTS)) as u64)
        .filter_map(|budget| curve.iter().rposition(|step| step.fast_bytes <= budget))
        .chain(here)
        .collect();
    places.sort_unstable();
    places.dedup();
    places
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
