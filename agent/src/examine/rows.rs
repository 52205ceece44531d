//! From the two runs of a case to rows of the table.

use super::native::Recorded;
use super::pairing;
use super::simulated::Simulated;
use crate::failure::Failure;
use rustc_hash::{FxHashMap, FxHashSet};
use tierscope_model::advice;
use tierscope_model::features::{FeaturesError, Observed, Window, features};
use tierscope_model::summary::ObjectSummary;
use tierscope_rank::{Case, Counted, Features, Row, Set, Table, TierFigures, TierPair};
use tierscope_traces::{Host, SimulatedTiers, Tables};

/// Who timed it, in the table.
const MACHINE: &str = "sim";
/// Objects that cost less, and are smaller, are not in the table.
const LEAST_COST: f64 = 1e-4;
const LEAST_BYTES: f64 = 16384.0;

/// What is assumed where the kernel does not say.
const LLC: u64 = 32 << 20;

/// What was measured, and which part of it counts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured<'a> {
    pub(crate) program: &'a str,
    pub(crate) scale: &'a str,
    pub(crate) seed: u64,
    /// Last-level cache of the modelled machine.
    pub(crate) llc_bytes: u64,
    /// The marks between which the steady phase lies; from the start and to the end where there is none.
    pub(crate) from: Option<&'a str>,
    pub(crate) until: Option<&'a str>,
}

/// Rows of a program.
pub(crate) struct Labelled {
    pub(crate) table: Table,
    /// Movable objects that were found in both runs.
    pub(crate) paired: usize,
}

/// Bytes of a machine's last-level cache, or what is assumed.
pub(crate) fn llc_bytes(host: &Host) -> u64 {
    cache_bytes(host, 3).unwrap_or(LLC)
}

/// Bytes of a machine's cache, data or unified.
pub(crate) fn cache_bytes(host: &Host, level: u8) -> Option<u64> {
    let found = host.caches.iter().find(|cache| cache.level == level && cache.kind != "instruction");
    found.map(|cache| cache.bytes).filter(|bytes| *bytes > 0)
}

pub(crate) fn table(case: &Measured<'_>, native: &Recorded, simulated: &Simulated) -> Result<Labelled, Failure> {
    let failure = |error| Failure::from_error("no features", &error);
    let native_llc = llc_bytes(&native.meta.host);
    let window = |tables: &Tables| steady(tables, case);
    let clock =
        features(&native.meta, &native.tables, &native.summary, window(&native.tables), native_llc).map_err(failure)?;
    let levels =
        features(&simulated.meta, &simulated.tables, &simulated.summary, window(&simulated.tables), case.llc_bytes);
    let by_place = |observed: Observed| -> FxHashMap<usize, Features> {
        observed.objects.into_iter().map(|object| (object.object, object.features)).collect()
    };
    let clock = by_place(clock);
    let levels = match levels {
        Ok(observed) => by_place(observed),
        // Whoever misses less than once in all that was simulated is known by the clock alone.
        Err(FeaturesError::NoSamples { .. }) => FxHashMap::default(),
        Err(error) => return Err(failure(error)),
    };
    let partners = pairing::pair(&simulated.summary, &native.summary);
    let hotness = advice::hotness(&simulated.tables);
    let soar = advice::baseline::soar_scores(&simulated.tables, &simulated.summary);
    let modelled = simulated.meta.simulation.as_ref().map(|simulation| simulation.tiers.as_slice()).unwrap_or_default();

    let mut table = Table::default();
    for (pair, (tiers, alone)) in modelled.iter().zip(&simulated.alone).enumerate() {
        let case = Case {
            program: case.program.to_owned(),
            scale: case.scale.to_owned(),
            seed: case.seed,
            llc_bytes: case.llc_bytes,
            tiers: tiers.name.clone(),
            machine: MACHINE.to_owned(),
        };
        let mut there = FxHashSet::default();
        let tier_pair = tier_pair(tiers).ok_or_else(|| Failure::cannot("a modelled tier without figures"))?;
        for (place, object) in simulated.summary.objects.iter().enumerate() {
            let movable = simulated.movable.get(place).copied().unwrap_or(false);
            let Some(criticality) = alone.get(place).copied().flatten() else { continue };
            // What costs nothing and is too small to matter teaches nothing: a program has hundreds of such.
            if criticality.point < LEAST_COST && (!movable || object.live_bytes_max < LEAST_BYTES) {
                continue;
            }
            there.insert(object.id.clone());
            let counted = object.counted.as_ref();
            let count = |of: fn(&tierscope_model::summary::Counted) -> u64| counted.map_or(f64::NAN, |c| of(c) as f64);
            let row = row(&case, tier_pair, object, (criticality.point, criticality.error));
            table.rows.push(Row {
                movable,
                clock: partners.get(place).copied().flatten().and_then(|partner| clock.get(&partner).cloned()),
                levels: levels.get(&place).cloned(),
                counted: Counted {
                    llc_misses: count(|counted| counted.llc_misses),
                    bytes_read: count(|counted| counted.bytes_read),
                    bytes_written: count(|counted| counted.bytes_written),
                    stall_cycles: counted.and_then(|counted| counted.stall_cycles).map_or(f64::NAN, |c| c as f64),
                    soar_score: soar.as_ref().and_then(|scores| scores.get(place)).copied().unwrap_or(f64::NAN),
                    hotness: hotness.get(&object.id).copied().unwrap_or(0.0),
                    ..row.counted
                },
                ..row
            });
        }
        table.sets.extend(simulated.sets.iter().filter(|timed| timed.pair == pair).map(|timed| Set {
            case: case.clone(),
            slow: timed.slow.iter().filter(|id| there.contains(*id)).cloned().collect(),
            slowdown: timed.slowdown.point,
            error: timed.slowdown.error,
        }));
    }
    let paired = partners
        .iter()
        .enumerate()
        .filter(|(place, partner)| partner.is_some() && simulated.movable.get(*place).copied().unwrap_or(false));
    Ok(Labelled { paired: paired.count(), table })
}

/// The row of a movable object of which nothing is known but what its summary says and the label, with its 95 % half width.
pub(crate) fn row(
    case: &Case,
    tier_pair: TierPair,
    object: &ObjectSummary,
    (criticality, criticality_error): (f64, f64),
) -> Row {
    Row {
        case: case.clone(),
        tier_pair,
        object: object.id.clone(),
        name: object.name.clone(),
        kind: object.kind.as_str().to_owned(),
        bytes: object.live_bytes_max as u64,
        movable: true,
        clock: None,
        levels: None,
        counted: Counted { first_seen: object.first_seen_ns as f64, ..Counted::UNKNOWN },
        criticality,
        criticality_error,
    }
}

/// From the first mark of the steady phase to that of what comes after it.
fn steady(tables: &Tables, case: &Measured<'_>) -> Window {
    let first = |name: &str| tables.marks.iter().filter(|mark| mark.name == name).map(|mark| mark.time_ns).min();
    let start_ns = case.from.and_then(first).unwrap_or(0);
    Window { start_ns, end_ns: case.until.and_then(first).filter(|end| *end > start_ns).unwrap_or(u64::MAX) }
}

/// Ratios of the figures a pair was modelled with.
fn tier_pair(tiers: &SimulatedTiers) -> Option<TierPair> {
    let figure = |of: &serde_json::Value, name: &str| of.get(name)?.as_f64().filter(|value| *value > 0.0);
    let figures = |of: &serde_json::Value| {
        Some(TierFigures {
            latency_ns: figure(of, "read_latency_ns")?,
            read_gbs: figure(of, "read_bandwidth_gbs")?,
            write_gbs: figure(of, "write_bandwidth_gbs")?,
            granule_bytes: figure(of, "granule_bytes")?,
        })
    };
    Some(TierPair::between(&figures(&tiers.fast_figures)?, &figures(&tiers.slow_figures)?))
}
