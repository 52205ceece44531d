//! The report on a terminal.
//!
//! The columns of numbers have fixed widths, so the eye can run down them; the name takes what is left. At 80 columns
//! that is enough for a function and a line; wider terminals get, in this order, the kind of the object and the function
//! that accesses it most. Names are cut, numbers never.

use tierscope_model::summary::{Criticality, ObjectSummary, SortKey, Unattributed};
use tierscope_traces::ObjectKind;

use crate::text::{fit, left, right, wrap};
use crate::units::{bytes, count, thousands};
use crate::{RenderOptions, Report, header, lints, names, stacks};

/// The narrowest table: below this, lines are left to the terminal to break.
pub(crate) const NARROWEST: usize = 60;
/// The widest the table grows where nothing limits it.
pub(crate) const WIDEST: usize = 160;
const KIND_FROM: usize = 96;
const ACCESS_FROM: usize = 116;

/// The whole report: header, warnings, table, and the stacks of the first objects. Ends with a newline.
#[must_use]
pub fn render_table(report: &Report<'_>, options: &RenderOptions) -> String {
    let paint = Paint::new(options.color);
    let columns = options.width.unwrap_or(WIDEST).clamp(NARROWEST, WIDEST);
    let mut out = String::new();
    for (label, text) in header::lines(report) {
        let label = left(label, 12);
        let mut lines = wrap(&format!("{label}{text}"), columns, 12).into_iter();
        let first = lines.next().unwrap_or_default();
        line(&mut out, &format!("{}{}", paint.dim(&label), first.strip_prefix(&label).unwrap_or(&first)));
        lines.for_each(|rest| line(&mut out, &rest));
    }
    for warning in header::warnings(report) {
        out.push('\n');
        wrap(&format!("! {warning}"), columns, 2).iter().for_each(|text| line(&mut out, &paint.warn(text)));
    }
    out.push('\n');
    table(&mut out, report, options, &Layout::new(columns, report), paint);
    noticed(&mut out, report, options, columns, paint);
    stacks::render(&mut out, report, options, columns, paint);
    out
}

/// What was noticed about the objects shown.
fn noticed(out: &mut String, report: &Report<'_>, options: &RenderOptions, columns: usize, paint: Paint) {
    let shown = report.summary.objects.iter().zip(report.notes).take(options.top);
    let shown: Vec<_> = shown.filter(|(_, note)| !note.lints.is_empty()).collect();
    if shown.is_empty() {
        return;
    }
    out.push('\n');
    line(out, &paint.bold("noticed"));
    for (object, note) in shown {
        let number = format!("#{} ", object.rank);
        line(out, &fit(&format!("{number}{}", names::object(object, columns.saturating_sub(number.len()))), columns));
        lints::of_object(out, &note.lints, 3, columns, paint);
    }
    lints::explained(out, 0, paint);
}

pub(crate) fn line(out: &mut String, text: &str) {
    out.push_str(text.trim_end());
    out.push('\n');
}

/// Colours, or none. Applied after layout: escape sequences have no width.
#[derive(Clone, Copy)]
pub(crate) struct Paint(bool);

impl Paint {
    pub(crate) fn new(color: bool) -> Self {
        Self(color)
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.0 { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
    pub(crate) fn bold(self, text: &str) -> String {
        self.with("1", text)
    }
    pub(crate) fn dim(self, text: &str) -> String {
        self.with("2", text)
    }
    pub(crate) fn warn(self, text: &str) -> String {
        self.with("33", text)
    }
}

/// How wide each column is; 0 leaves it out.
struct Layout {
    rank: usize,
    kind: usize,
    name: usize,
    access: usize,
    /// Of a simulation: what objects cost alone, and their misses.
    simulated: bool,
    timed: bool,
}

const SHARE: usize = 14;
const READS: usize = 7;
const MISSES: usize = 7;
const BYTES: usize = 8;
const BLOCKS: usize = 8;
const GAP: &str = "  ";

impl Layout {
    fn new(columns: usize, report: &Report<'_>) -> Self {
        let rank = report.summary.objects.len().to_string().len().max(2);
        let kind = if columns >= KIND_FROM { 6 } else { 0 };
        let simulation = report.summary.simulation.as_ref();
        let (simulated, timed) = (simulation.is_some(), simulation.is_some_and(|run| run.slowdown.is_some()));
        let misses = if simulated { MISSES } else { 0 };
        let numbers = [rank, SHARE, misses, READS, BYTES, BLOCKS, kind];
        let numbers = numbers.into_iter().filter(|&w| w > 0).map(|w| w + GAP.len());
        let rest = columns.saturating_sub(numbers.sum());
        let access = if columns >= ACCESS_FROM { rest * 2 / 5 } else { 0 };
        let name = rest - access - if access > 0 { GAP.len() } else { 0 };
        Self { rank, kind, name, access, simulated, timed }
    }

    fn row(&self, cells: [&str; 9]) -> String {
        let [rank, share, misses, reads, bytes, blocks, kind, name, access] = cells;
        let mut columns = vec![right(rank, self.rank), right(share, SHARE)];
        if self.simulated {
            columns.push(right(misses, MISSES));
        }
        columns.extend([right(reads, READS), right(bytes, BYTES), right(blocks, BLOCKS)]);
        if self.kind > 0 {
            columns.push(left(kind, self.kind));
        }
        columns.push(left(&fit(name, self.name), self.name));
        if self.access > 0 {
            columns.push(fit(access, self.access));
        }
        columns.join(GAP)
    }
}

fn table(out: &mut String, report: &Report<'_>, options: &RenderOptions, layout: &Layout, paint: Paint) {
    let summary = report.summary;
    let first = if layout.timed { "alone slow" } else { "share (95 %)" };
    let title = layout.row(["#", first, "misses", "ld/st %", "max live", "blocks", "kind", "object", "accessed by"]);
    line(out, &paint.bold(title.trim_end()));
    let no_samples = summary.samples == 0.0;
    let shown = summary.objects.iter().take(options.top);
    for object in shown {
        let share = match object.criticality {
            _ if layout.timed => object.criticality.map_or_else(|| "?".to_owned(), criticality),
            _ if no_samples => "-".to_owned(),
            _ => share(object.share, object.share_interval),
        };
        let name = names::object(object, layout.name);
        let row = layout.row([
            &object.rank.to_string(),
            &share,
            &object.llc_misses.map_or_else(|| "-".to_owned(), count),
            &reads(object),
            &bytes(object.live_bytes_max),
            &blocks(object),
            object.kind.as_str(),
            &name,
            &object.access_sites.first().map(|site| names::frame(&site.frame, layout.access)).unwrap_or_default(),
        ]);
        line(out, &row);
    }
    let hidden = summary.objects.get(options.top..).unwrap_or_default();
    if !hidden.is_empty() {
        // Slowdowns do not add up, so only the largest says something.
        let of = |object: &ObjectSummary| match object.criticality {
            Some(criticality) if layout.timed => criticality.point,
            _ if layout.timed => 0.0,
            _ => object.share,
        };
        let rest = if layout.timed { String::new() } else { plain_share(hidden.iter().map(of).sum()) };
        let largest = hidden.iter().map(of).fold(0.0, f64::max);
        let name = format!("{} more, at most {:.1} % each", thousands(hidden.len() as u64), largest * 100.0);
        line(out, &paint.dim(&layout.row(["", &rest, "", "", "", "", "", &name, ""])));
    }
    if let Some(run) = &summary.simulation {
        let outside = &run.outside;
        let misses = count(outside.llc_misses as f64);
        let reads = parts(outside.loads as f64, outside.stores as f64);
        if outside.accesses() > 0 {
            line(out, &paint.dim(&layout.row(["-", "-", &misses, &reads, "-", "-", "-", "outside all objects", ""])));
        }
    }
    for row in summary.unattributed.iter().filter(|_| !layout.timed) {
        line(out, &paint.dim(&unattributed(row, layout)));
    }
    let by = if layout.timed { SortKey::Criticality } else { SortKey::Share };
    if options.sort != by {
        let (order, rank) = (options.sort.as_str(), by.as_str());
        line(out, &paint.dim(&format!("ordered by {order}; # is the place by {rank}")));
    }
}

fn unattributed(row: &Unattributed, layout: &Layout) -> String {
    let name = format!("no object: {}", row.reason.describe());
    // The name has the columns of the numbers it has not, since the reason is a sentence.
    let mut cells = vec![right("-", layout.rank), right(&share(row.share, row.share_interval), SHARE)];
    let misses = if layout.simulated { MISSES + GAP.len() } else { 0 };
    let room = misses + READS + BYTES + BLOCKS + 2 * GAP.len() + GAP.len() + layout.name;
    let kind = if layout.kind > 0 { layout.kind + GAP.len() } else { 0 };
    cells.push(fit(&name, room + kind));
    cells.join(GAP)
}

/// `41.2 ± 1.9 %`: the larger half where the interval is lopsided.
fn share(share: f64, interval: tierscope_model::interval::Interval) -> String {
    let half = (interval.high - share).max(share - interval.low).max(0.0);
    format!("{:.1} ± {:>4.1} %", share * 100.0, half * 100.0)
}

/// `+41.2 ± 1.9 %`: how much longer the run takes. `~` where singles were added up or one was not followed to the end.
fn criticality(criticality: Criticality) -> String {
    let half = (criticality.interval.high - criticality.interval.low) / 2.0;
    let sign = if criticality.is_estimate { "~" } else { "" };
    format!("{sign}{:+.1} ± {:>3.1} %", criticality.point * 100.0, half * 100.0)
}

fn plain_share(share: f64) -> String {
    format!("{:.1}        %", share * 100.0)
}

fn reads(object: &ObjectSummary) -> String {
    parts(object.loads, object.stores)
}

/// `80/20`: percent of loads and of stores.
fn parts(loads: f64, stores: f64) -> String {
    let all = loads + stores;
    if all == 0.0 {
        return "-".to_owned();
    }
    let loads = (loads / all * 100.0).round();
    format!("{loads:.0}/{:.0}", 100.0 - loads)
}

fn blocks(object: &ObjectSummary) -> String {
    if object.kind == ObjectKind::Heap { count(object.allocations) } else { "-".to_owned() }
}
