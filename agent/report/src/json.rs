//! `report --json`: the contract `tierscope.report/1`.
//!
//! Described in `docs/report-json.md` and `docs/report.schema.json`, which a test holds against what is written here.
//! Fields may be added; none changes its meaning or goes within version 1. What is not known is `null`, never zero.
//! Strings are as the program has them (JSON escapes what a terminal must not see).

use serde_json::{Value, json};
use tierscope_model::explain::{Lint, Note};
use tierscope_model::interval::Interval;
use tierscope_model::summary::{AccessSite, Counted, Frame, ObjectSummary, TimedPlacement, Unattributed};
use tierscope_traces::SamplerKind;

use crate::Report;

/// The schema.
pub const SCHEMA: &str = "tierscope.report/1";

/// The report as JSON, objects in the order of the summary.
#[must_use]
pub fn to_json(report: &Report<'_>) -> Value {
    let objects = report.summary.objects.iter().enumerate();
    json!({
        "schema": SCHEMA,
        "profile": profile(report),
        "objects": objects.map(|(place, object)| self::object(object, report.notes.get(place))).collect::<Vec<_>>(),
        "placements": report.summary.simulation.as_ref().map(|run| run.placements.iter().map(placement).collect::<Vec<_>>()),
        "unattributed": report.summary.unattributed.iter().map(unattributed).collect::<Vec<_>>(),
    })
}

/// What was noticed, by its name.
pub(crate) fn lint(lint: &Lint) -> Value {
    json!({ "name": lint.kind.id(), "message": lint.message })
}

pub(crate) fn profile(report: &Report<'_>) -> Value {
    let (meta, summary) = (report.meta, report.summary);
    let simulation = summary.simulation.as_ref();
    let known = summary.samples > 0.0;
    let shares = &summary.attribution;
    json!({
        "path": report.path.to_string_lossy(),
        "complete": meta.complete,
        "being_written": report.being_written,
        "warnings": report.warnings,
        "tierscope_version": meta.tierscope_version,
        "created": meta.created,
        "program": {
            "command": meta.program.command,
            "exe": meta.program.exe,
            "build_id": meta.program.build_id,
            "pid": meta.program.pid,
            "exit": meta.program.exit,
        },
        "sampler": meta.sampler.kind.as_str(),
        "sampler_chosen_because": meta.sampler.chosen_because,
        "address_source": meta.sampler.address_source,
        "rate_hz": meta.sampler.rate_hz,
        "user_only": meta.sampler.user_only,
        "shim": meta.allocator.shim,
        "duration_s": meta.clock.duration_ns as f64 / 1e9,
        "delay_s": meta.clock.delay_ns as f64 / 1e9,
        "samples": whole(summary.samples),
        "attributed": known.then(|| shares.attributed()),
        "attribution": known.then(|| json!({
            "exact": shares.exact,
            "approximate": shares.approximate,
            "neighbour": shares.neighbour,
            "none": shares.none,
        })),
        "lost_samples": meta.losses.samples,
        "lost_allocations": meta.losses.allocations,
        "losses": meta.losses,
        "peak_live_bytes": whole(summary.peak_live_bytes),
        "phases": summary.phases.iter().map(|phase| json!({
            "name": phase.name,
            "samples": whole(phase.samples),
        })).collect::<Vec<_>>(),
        "instructions": simulation.map(|run| run.instructions),
        "cycles": simulation.and_then(|run| run.cycles),
        "cycles_all_fast": simulation.and_then(|run| run.cycles_all_fast),
        "slowdown": simulation.and_then(|run| run.slowdown),
        "slowdown_interval": simulation.and_then(|run| run.slowdown_interval).map(interval),
        "simulated_tiers": simulation.map(|run| &run.tiers),
        "simulated_placement": simulation.map(|run| &run.placement),
        "outside_objects": simulation.map(|run| counted(&run.outside)),
        "approximations": meta.simulation.as_ref().map(|simulation| &simulation.approximations),
        "knows_levels": meta.sampler.kind != SamplerKind::Unknown && meta.sampler.kind.knows_levels(),
    })
}

fn object(object: &ObjectSummary, note: Option<&Note>) -> Value {
    let of = |value: fn(&Counted) -> u64| object.counted.as_ref().map(value);
    json!({
        "id": object.id,
        "rank": object.rank,
        "kind": object.kind.as_str(),
        "name": object.name,
        "module": object.module,
        "site": object.site.iter().map(Frame::describe).collect::<Vec<_>>(),
        "frames": object.site.iter().map(frame).collect::<Vec<_>>(),
        "user_frame": object.user_frame().map(|(depth, _)| depth),
        "allocations": whole(object.allocations),
        "live_bytes_max": whole(object.live_bytes_max),
        "live_bytes_at_peak": whole(object.live_bytes_at_peak),
        "samples": whole(object.samples),
        "share": object.share,
        "share_interval": interval(object.share_interval),
        "loads": whole(object.loads),
        "stores": whole(object.stores),
        "llc_misses": object.llc_misses.map(whole),
        "criticality": object.criticality.map(|criticality| criticality.point),
        "criticality_interval": object.criticality.map(|criticality| interval(criticality.interval)),
        "criticality_is_estimate": object.criticality.map(|criticality| criticality.is_estimate),
        "accesses": of(Counted::accesses),
        "l1_misses": of(|counted| counted.l1_misses),
        "l2_misses": of(|counted| counted.l2_misses),
        "tlb_misses": of(|counted| counted.tlb_misses),
        "bytes_read": of(|counted| counted.bytes_read),
        "bytes_written": of(|counted| counted.bytes_written),
        "stall_cycles": object.counted.and_then(|counted| counted.stall_cycles),
        "approximate": object.approximate,
        "neighbour": object.neighbour,
        "why": note.map(|note| &note.why),
        "lints": note.map_or_else(Vec::new, |note| note.lints.iter().map(lint).collect()),
        "first_seen_ns": object.first_seen_ns,
        "last_seen_ns": object.last_seen_ns,
        "phases": object.phases,
        "accessed_by": object.access_sites.iter().map(|site| access(site, object.samples)).collect::<Vec<_>>(),
    })
}

fn placement(placement: &TimedPlacement) -> Value {
    json!({
        "kind": placement.kind.as_str(),
        "name": placement.name,
        "tiers": placement.tiers,
        "cycles": placement.cycles,
        "slowdown": placement.slowdown,
    })
}

fn counted(counted: &Counted) -> Value {
    json!({
        "loads": counted.loads,
        "stores": counted.stores,
        "l1_misses": counted.l1_misses,
        "l2_misses": counted.l2_misses,
        "llc_misses": counted.llc_misses,
        "tlb_misses": counted.tlb_misses,
        "bytes_read": counted.bytes_read,
        "bytes_written": counted.bytes_written,
        "stall_cycles": counted.stall_cycles,
    })
}

fn frame(frame: &Frame) -> Value {
    json!({
        "module": frame.module,
        "build_id": frame.build_id,
        "offset": frame.offset,
        "functions": frame.functions.iter().map(|function| json!({
            "name": function.name,
            "file": function.file,
            "line": function.line,
        })).collect::<Vec<_>>(),
    })
}

fn access(site: &AccessSite, samples: f64) -> Value {
    json!({
        "code": site.frame.describe(),
        "samples": whole(site.samples),
        "share": if samples > 0.0 { site.samples / samples } else { 0.0 },
    })
}

fn unattributed(row: &Unattributed) -> Value {
    json!({
        "reason": row.reason.as_str(),
        "samples": whole(row.samples),
        "share": row.share,
        "share_interval": interval(row.share_interval),
    })
}

pub(crate) fn interval(interval: Interval) -> Value {
    json!([interval.low, interval.high])
}

/// Counts are estimates where rows stand for several; they are given as whole numbers.
pub(crate) fn whole(value: f64) -> u64 {
    value.round() as u64
}
