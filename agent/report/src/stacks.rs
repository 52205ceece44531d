//! Below the table: where the first objects are allocated, and what accesses them.
//!
//! Of a long stack the frames around the one people recognise are worth their lines: what merely passes the allocation
//! on is left out at the top, and the runtime's start-up at the bottom.

use tierscope_model::summary::{Frame, ObjectSummary};

use crate::table::{Paint, line};
use crate::text::{fit, printable, wrap};
use crate::units::{bytes, percent};
use crate::{RenderOptions, Report, names};

/// Frames shown of one stack.
const FRAMES: usize = 6;
/// Functions shown that access one object.
const ACCESSES: usize = 3;

pub(crate) fn render(out: &mut String, report: &Report<'_>, options: &RenderOptions, columns: usize, paint: Paint) {
    let objects = report.summary.objects.iter().take(options.stacks.min(options.top));
    for object in objects.filter(|object| object.samples > 0.0 || !object.site.is_empty()) {
        out.push('\n');
        let number = format!("#{} ", object.rank);
        line(out, &paint.bold(&fit(&format!("{number}{}", names::object(object, columns - number.len())), columns)));
        for text in wrap(&format!("   {}", facts(object)), columns, 3) {
            line(out, &paint.dim(&text));
        }
        phases(out, report, object, columns);
        let depth = object.user_frame().map_or(0, |(depth, _)| depth);
        let frames = object.site.get(depth..).unwrap_or_default();
        for (place, frame) in frames.iter().take(FRAMES).enumerate() {
            let label = if place == 0 { "   allocated in " } else { "             by " };
            line(out, &frame_line(label, frame, columns, paint));
        }
        if frames.len() > FRAMES {
            line(out, &paint.dim(&format!("                {} more frames", frames.len() - FRAMES)));
        }
        for (place, site) in object.access_sites.iter().take(ACCESSES).enumerate() {
            let label = if place == 0 { "   accessed in  " } else { "                " };
            let part = format!("{label}{:>4.0} %  ", site.samples / object.samples * 100.0);
            line(out, &format!("{part}{}", names::frame(&site.frame, columns.saturating_sub(part.len()))));
        }
    }
}

fn facts(object: &ObjectSummary) -> String {
    let interval = object.share_interval;
    let mut facts = vec![
        printable(&object.id),
        format!("{} ({:.1}-{:.1})", percent(object.share), interval.low * 100.0, interval.high * 100.0),
        format!("{} at the program's peak", bytes(object.live_bytes_at_peak)),
    ];
    if object.approximate >= 0.005 {
        facts.push(format!("{} reconstructed", percent(object.approximate)));
    }
    if object.neighbour >= 0.005 {
        facts.push(format!("{} to the nearest", percent(object.neighbour)));
    }
    facts.join(", ")
}

fn phases(out: &mut String, report: &Report<'_>, object: &ObjectSummary, columns: usize) {
    let shares: Vec<String> = report
        .summary
        .phases
        .iter()
        .zip(&object.phases)
        .filter(|(phase, _)| phase.samples > 0.0)
        .map(|(phase, share)| format!("{} {}", printable(&phase.name), percent(*share)))
        .collect();
    if shares.len() > 1 {
        let text = format!("   by phase     {}", shares.join(", "));
        wrap(&text, columns, 16).iter().for_each(|text| line(out, text));
    }
}

fn frame_line(label: &str, frame: &Frame, columns: usize, paint: Paint) -> String {
    let room = columns.saturating_sub(label.len());
    if frame.function().is_none() {
        return format!("{label}{}", names::frame(frame, room));
    }
    let location = format!("  {}", printable(&frame.location()));
    let shown = names::frame(frame, room.saturating_sub(location.len()).max(room / 2));
    let left_over = room.saturating_sub(crate::text::width(&shown));
    format!("{label}{shown}{}", paint.dim(&fit(&location, left_over)))
}
