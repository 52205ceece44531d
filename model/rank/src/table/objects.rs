//! `objects.csv`.
//!
//! The features of a family are columns `clock.NAME` or `levels.NAME`, with `.error` after it where they are estimated from
//! samples. A row without `FAMILY.samples` was not recorded by that family; a column that is missing is known of no row.

use super::cell::{CASE, CaseColumns, Column, Header, Line, case_cells, number};
use super::{Counted, File, Row, Table, TableError, TierPair, read, write};
use crate::feature::{FEATURES, Family, Feature, Features, Name};

const OBJECT: [&str; 5] = ["object", "name", "kind", "bytes", "movable"];
const TIERS: [&str; 6] =
    ["latency_x", "bandwidth_x", "write_bandwidth_x", "granule_bytes", "slow_read_gbs", "slow_write_gbs"];
const COUNTED: [&str; 7] =
    ["llc_misses", "bytes_read", "bytes_written", "stall_cycles", "first_seen", "soar_score", "hotness"];
const LABEL: [&str; 2] = ["criticality", "criticality_error"];

struct Columns {
    case: CaseColumns,
    tiers: [Column; 6],
    object: [Column; 5],
    counted: [Column; 7],
    label: [Column; 2],
    families: Vec<FamilyColumns>,
}

/// Where the features of a family are: name, column of the value, column of the error.
struct FamilyColumns {
    family: Family,
    samples: Option<usize>,
    features: Vec<(Name, Option<usize>, Option<usize>)>,
}

pub(super) fn parse(text: &str) -> Result<Vec<Row>, TableError> {
    read::lines(File::Objects, text, columns, row)
}

fn columns(header: &Header) -> Result<Columns, TableError> {
    let need = |name| header.need(name);
    let [latency, bandwidth, write, granule, slow_read, slow_write] = TIERS;
    let [object, name, kind, bytes, movable] = OBJECT;
    let [misses, read, written, stall, first, soar, hotness] = COUNTED;
    let [criticality, error] = LABEL;
    Ok(Columns {
        case: CaseColumns::find(header)?,
        tiers: [need(latency)?, need(bandwidth)?, need(write)?, need(granule)?, need(slow_read)?, need(slow_write)?],
        object: [need(object)?, need(name)?, need(kind)?, need(bytes)?, need(movable)?],
        counted: [need(misses)?, need(read)?, need(written)?, need(stall)?, need(first)?, need(soar)?, need(hotness)?],
        label: [need(criticality)?, need(error)?],
        families: Family::ALL.into_iter().map(|family| family_columns(header, family)).collect(),
    })
}

fn family_columns(header: &Header, family: Family) -> FamilyColumns {
    let find = |feature: &Feature| {
        let value = header.find(&value_column(family, feature));
        (feature.name, value, value.and_then(|_| header.find(&error_column(family, feature))))
    };
    FamilyColumns {
        family,
        samples: header.find(&value_column(family, Name::Samples.feature())),
        features: stored(family).map(find).collect(),
    }
}

fn row(columns: &Columns, line: &Line) -> Result<Row, TableError> {
    let [object, name, kind, bytes, movable] = columns.object;
    let [latency, bandwidth, write, granule, slow_read, slow_write] = columns.tiers;
    let [misses, bytes_read, bytes_written, stall, first, soar, hotness] = columns.counted;
    let [criticality, criticality_error] = columns.label;
    let ratio = |column| line.within(column, 1e-3, 1e9, "a ratio from 0.001 to 1e9");
    let bytes_at = bytes;
    let bytes = line.whole(bytes)?;
    if bytes == 0 {
        return Err(line.refuse_column(bytes_at, "a size of at least one byte"));
    }
    let mut row = Row {
        case: columns.case.read(line)?,
        tier_pair: TierPair {
            latency_x: ratio(latency)?,
            bandwidth_x: ratio(bandwidth)?,
            write_bandwidth_x: ratio(write)?,
            granule_bytes: line.within(granule, 1.0, 1e9, "bytes from 1 to 1e9")?,
            slow_read_gbs: line.within(slow_read, 1e-6, 1e9, "a bandwidth from 1e-6 to 1e9 GB/s")?,
            slow_write_gbs: line.within(slow_write, 1e-6, 1e9, "a bandwidth from 1e-6 to 1e9 GB/s")?,
        },
        object: line.identity(object)?,
        name: line.prose(name),
        kind: line.word(kind)?,
        bytes,
        movable: line.flag(movable)?,
        clock: None,
        levels: None,
        counted: Counted {
            llc_misses: line.known_in(misses)?,
            bytes_read: line.known_in(bytes_read)?,
            bytes_written: line.known_in(bytes_written)?,
            stall_cycles: line.known_in(stall)?,
            first_seen: line.known_in(first)?,
            soar_score: line.known_in(soar)?,
            hotness: line.known_in(hotness)?,
        },
        criticality: slowdown(line, criticality)?,
        criticality_error: half_width(line, criticality_error)?,
    };
    for family in &columns.families {
        let features = features(family, line)?;
        match family.family {
            Family::Clock => row.clock = features,
            Family::Levels => row.levels = features,
        }
    }
    Ok(row)
}

fn features(columns: &FamilyColumns, line: &Line) -> Result<Option<Features>, TableError> {
    if columns.samples.is_none_or(|at| line.text(at).is_empty()) {
        return Ok(None);
    }
    let mut features = Features::default();
    for &(name, value_at, error_at) in &columns.features {
        let feature = name.feature();
        let Some(at) = value_at else { continue };
        let value = line.known(at, &value_column(columns.family, feature))?;
        let error = match error_at {
            Some(at) => {
                let error = line.known(at, &error_column(columns.family, feature))?;
                if error < 0.0 {
                    let column = error_column(columns.family, feature);
                    return Err(line.refuse(at, &column, "a standard error, from 0, or empty"));
                }
                error
            }
            None if feature.estimated => f64::NAN,
            None => 0.0,
        };
        features.set(name, value, error);
    }
    Ok(Some(features))
}

/// A slowdown that a run can have.
pub(super) fn slowdown(line: &Line, column: Column) -> Result<f64, TableError> {
    line.within(column, -0.9, 1e6, "a slowdown from -0.9 to 1e6 (0.05 is 5 %)")
}

pub(super) fn half_width(line: &Line, column: Column) -> Result<f64, TableError> {
    line.within(column, 0.0, 1e6, "a half width from 0 to 1e6")
}

fn stored(family: Family) -> impl Iterator<Item = &'static Feature> {
    const TABLE: &[Feature] = &FEATURES;
    TABLE.iter().filter(move |feature| feature.group.is_stored() && feature.families.contains(&family))
}

fn value_column(family: Family, feature: &Feature) -> String {
    format!("{family}.{}", feature.text)
}

fn error_column(family: Family, feature: &Feature) -> String {
    format!("{family}.{}.error", feature.text)
}

pub(super) fn text(table: &Table) -> String {
    let mut header: Vec<String> =
        [&CASE[..], &TIERS, &OBJECT, &LABEL, &COUNTED].concat().into_iter().map(str::to_owned).collect();
    for family in Family::ALL {
        for feature in stored(family) {
            header.push(value_column(family, feature));
            if feature.estimated {
                header.push(error_column(family, feature));
            }
        }
    }
    let mut rows: Vec<&Row> = table.rows.iter().collect();
    rows.sort_by(|a, b| (&a.case, &a.object).cmp(&(&b.case, &b.object)));
    write::lines(&header, rows.into_iter().map(cells))
}

fn cells(row: &Row) -> Vec<String> {
    let pair = &row.tier_pair;
    let counted = &row.counted;
    let mut cells = case_cells(&row.case).to_vec();
    let tiers = [
        pair.latency_x,
        pair.bandwidth_x,
        pair.write_bandwidth_x,
        pair.granule_bytes,
        pair.slow_read_gbs,
        pair.slow_write_gbs,
    ];
    cells.extend(tiers.map(|figure| number(figure, 6)));
    cells.extend([row.object.clone(), row.name.clone(), row.kind.clone(), row.bytes.to_string()]);
    cells.push(if row.movable { "1".into() } else { "0".into() });
    cells.extend([number(row.criticality, 6), number(row.criticality_error, 3)]);
    let counts = [
        counted.llc_misses,
        counted.bytes_read,
        counted.bytes_written,
        counted.stall_cycles,
        counted.first_seen,
        counted.soar_score,
        counted.hotness,
    ];
    cells.extend(counts.map(|count| number(count, 6)));
    for family in Family::ALL {
        let features = match family {
            Family::Clock => &row.clock,
            Family::Levels => &row.levels,
        };
        for feature in stored(family) {
            let known = features.as_ref();
            let samples_need_a_number = feature.name == Name::Samples && known.is_some();
            let value = known.map_or(f64::NAN, |features| features.get(feature.name));
            cells.push(number(if samples_need_a_number && value.is_nan() { 0.0 } else { value }, 6));
            if feature.estimated {
                cells.push(number(known.map_or(f64::NAN, |features| features.error(feature.name)), 3));
            }
        }
    }
    cells
}
