//! `sets.csv`.

use super::cell::{CASE, CaseColumns, Line, case_cells, number};
use super::{File, Set, Table, TableError, objects, read, write};

/// Between the objects of a set.
const SEPARATOR: &str = ";";

pub(super) fn parse(text: &str) -> Result<Vec<Set>, TableError> {
    read::lines(
        File::Sets,
        text,
        |header| {
            let case = CaseColumns::find(header)?;
            Ok((case, header.need("slow")?, header.need("slowdown")?, header.need("error")?))
        },
        |(case, slow, slowdown, error), line: &Line| {
            let mut objects: Vec<String> = line.prose(*slow).split(SEPARATOR).map(str::to_owned).collect();
            objects.retain(|object| !object.is_empty());
            objects.sort();
            objects.dedup();
            Ok(Set {
                case: case.read(line)?,
                slow: objects,
                slowdown: objects::slowdown(line, *slowdown)?,
                error: objects::half_width(line, *error)?,
            })
        },
    )
}

pub(super) fn text(table: &Table) -> String {
    let header: Vec<String> = CASE.iter().chain(&["slow", "slowdown", "error"]).map(|&name| name.to_owned()).collect();
    let mut sets: Vec<&Set> = table.sets.iter().collect();
    sets.sort_by(|a, b| (&a.case, &a.slow).cmp(&(&b.case, &b.slow)));
    let rows = sets.into_iter().map(|set| {
        let mut cells = case_cells(&set.case).to_vec();
        cells.extend([set.slow.join(SEPARATOR), number(set.slowdown, 6), number(set.error, 3)]);
        cells
    });
    write::lines(&header, rows)
}
