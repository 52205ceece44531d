//! Reading lines, and what must hold between rows.

use std::collections::{BTreeMap, BTreeSet};

use super::cell::{Header, Line};
use super::{Case, File, Table, TableError, TierPair};

/// Reads every line after the header with `row`.
pub(super) fn lines<Columns, Value>(
    file: File,
    text: &str,
    columns: impl FnOnce(&Header) -> Result<Columns, TableError>,
    row: impl Fn(&Columns, &Line) -> Result<Value, TableError>,
) -> Result<Vec<Value>, TableError> {
    let mut reader = csv::ReaderBuilder::new().has_headers(true).from_reader(text.as_bytes());
    let header = reader.headers().map_err(|error| malformed(file, &error))?.clone();
    let columns = columns(&Header::new(file, &header)?)?;
    let mut values = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| malformed(file, &error))?;
        values.push(row(&columns, &Line { file, record: &record })?);
    }
    Ok(values)
}

fn malformed(file: File, error: &csv::Error) -> TableError {
    let line = error.position().map_or(0, csv::Position::line);
    let reason = match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("{len} cells where the first line has {expected_len}: a line is torn, or a comma is not quoted")
        }
        csv::ErrorKind::Utf8 { .. } => "this is no UTF-8 text".into(),
        _ => "this is no CSV".into(),
    };
    TableError::Malformed { file, line, reason }
}

/// What no single row can show: nothing is there twice, cases have one pair of tiers, sets have rows.
pub(super) fn check(table: &Table) -> Result<(), TableError> {
    let mut cases: BTreeMap<&Case, (TierPair, BTreeSet<&str>)> = BTreeMap::new();
    for row in &table.rows {
        let (pair, objects) = cases.entry(&row.case).or_insert_with(|| (row.tier_pair, BTreeSet::new()));
        if *pair != row.tier_pair {
            return Err(TableError::TwoPairs { what: row.case.to_string() });
        }
        if !objects.insert(&row.object) {
            let what = format!("{} of {}", row.object, row.case);
            return Err(TableError::Twice { file: File::Objects, what });
        }
    }
    let mut known: BTreeSet<(&Case, &[String])> = BTreeSet::new();
    for set in &table.sets {
        let objects = cases.get(&set.case).map(|(_, objects)| objects);
        let stranger = set.slow.iter().find(|object| !objects.is_some_and(|known| known.contains(object.as_str())));
        if let Some(object) = stranger {
            return Err(TableError::Stranger { object: object.clone(), what: set.case.to_string() });
        }
        if !known.insert((&set.case, &set.slow)) {
            let what = format!("the set {} of {}", set.slow.join(";"), set.case);
            return Err(TableError::Twice { file: File::Sets, what });
        }
    }
    Ok(())
}
