//! The report as one HTML file: no script, nothing loaded from anywhere, so that it can be mailed and still opens in ten
//! years. A content security policy says so to the browser as well. Every text from outside is escaped, and made
//! printable first: direction overrides work in browsers too.

use tierscope_model::summary::ObjectSummary;
use tierscope_traces::ObjectKind;

use crate::text::printable;
use crate::units::{bytes, count, percent};
use crate::{Report, header, names};

const STYLE: &str = "\
body{font:15px/1.45 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;color:#1c2530;background:#fff}\
h1{font-size:1.3rem;overflow-wrap:anywhere}dl{display:grid;grid-template-columns:max-content 1fr;gap:.15rem 1rem}\
dt{color:#5b6875}dd{margin:0;overflow-wrap:anywhere}.warn{background:#fff4d6;border-left:4px solid #d99a00;padding:.5rem .8rem}\
table{border-collapse:collapse;width:100%;margin-top:1.2rem}th,td{text-align:left;padding:.3rem .6rem;vertical-align:top;\
border-bottom:1px solid #dde3e8}th{font-weight:600}.n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}\
.bar{position:relative;height:.5rem;background:#eef1f4;min-width:8rem}.bar i,.bar b{position:absolute;top:0;bottom:0}\
.bar i{left:0;background:#3a7bd5}.bar b{background:#0b2e6055}code,.o{font-family:ui-monospace,monospace;font-size:.9em;\
overflow-wrap:anywhere}ol{margin:.3rem 0;padding-left:1.5rem}.u td{color:#5b6875}\
@media(prefers-color-scheme:dark){body{color:#dbe2ea;background:#12171d}th,td{border-color:#2b343d}.bar{background:#232c35}\
dt,.u td{color:#93a1af}.warn{background:#3a2f10}.bar b{background:#ffffff55}}";

/// The page, with the first `top` objects.
#[must_use]
pub fn render_html(report: &Report<'_>, top: usize) -> String {
    let title = escape(&report.path.file_name().unwrap_or_default().to_string_lossy());
    let facts: String =
        header::lines(report).iter().map(|(label, text)| format!("<dt>{label}<dd>{}\n", escape(text))).collect();
    let warnings: String =
        header::warnings(report).iter().map(|text| format!("<p class=warn>{}\n", escape(text))).collect();
    let rows: String = report.summary.objects.iter().take(top).map(row).collect();
    let rest: String = report
        .summary
        .unattributed
        .iter()
        .map(|row| {
            format!(
                "<tr class=u><td><td class=n>{}<td>{}<td><td><td><td>no object: {}\n",
                percent(row.share),
                bar(row.share, row.share_interval.low, row.share_interval.high),
                row.reason.describe()
            )
        })
        .collect();
    format!(
        "<!doctype html>\n<html lang=en>\n<meta charset=utf-8>\n\
         <meta http-equiv=Content-Security-Policy content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=viewport content=\"width=device-width\">\n<title>{title} - Tierscope</title>\n\
         <style>{STYLE}</style>\n<h1>{title}</h1>\n<dl>\n{facts}</dl>\n{warnings}\
         <table>\n<thead><tr><th class=n>#<th class=n>share<th>95 % interval<th class=n>ld/st %<th class=n>max live\
         <th class=n>blocks<th>object\n<tbody>\n{rows}{rest}</table>\n</html>\n"
    )
}

fn row(object: &ObjectSummary) -> String {
    let all = object.loads + object.stores;
    let reads = if all > 0.0 {
        let loads = (object.loads / all * 100.0).round();
        format!("{loads:.0}/{:.0}", 100.0 - loads)
    } else {
        "-".to_owned()
    };
    let blocks = if object.kind == ObjectKind::Heap { count(object.allocations) } else { "-".to_owned() };
    format!(
        "<tr><td class=n>{}<td class=n>{}<td>{}<td class=n>{reads}<td class=n>{}<td class=n>{blocks}<td>{}\n",
        object.rank,
        percent(object.share),
        bar(object.share, object.share_interval.low, object.share_interval.high),
        bytes(object.live_bytes_max),
        details(object)
    )
}

fn details(object: &ObjectSummary) -> String {
    let name = escape(&names::object(object, 120));
    let frames: String =
        object.site.iter().map(|frame| format!("<li><code>{}</code>\n", escape(&frame.describe()))).collect();
    let accesses: String = object
        .access_sites
        .iter()
        .map(|site| {
            format!(
                "<li>{} <code>{}</code>\n",
                percent(site.samples / object.samples.max(1.0)),
                escape(&site.frame.describe())
            )
        })
        .collect();
    format!(
        "<details><summary class=o>{name}</summary><p>{} <code>{}</code>, {} at the program's peak\n\
         <p>allocated in<ol>{frames}</ol><p>accessed in<ol>{accesses}</ol></details>",
        object.kind.as_str(),
        escape(&object.id),
        bytes(object.live_bytes_at_peak)
    )
}

fn bar(share: f64, low: f64, high: f64) -> String {
    format!(
        "<div class=bar title=\"{:.1}-{:.1} %\"><i style=\"width:{:.2}%\"></i><b style=\"left:{:.2}%;width:{:.2}%\"></b></div>",
        low * 100.0,
        high * 100.0,
        share * 100.0,
        low * 100.0,
        (high - low) * 100.0
    )
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in printable(text).chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}
