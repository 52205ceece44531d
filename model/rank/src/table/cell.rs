//! Cells: text to values with a place in every complaint, and values to text that is short.

use super::{Case, File, TableError};

/// Longest text of a cell: longer is no name.
const LONGEST: usize = 1000;

/// The columns of a case, in order.
pub(super) const CASE: [&str; 6] = ["program", "scale", "seed", "llc_bytes", "tiers", "machine"];

/// Which column is where.
pub(super) struct Header {
    file: File,
    columns: Vec<String>,
}

impl Header {
    pub(super) fn new(file: File, record: &csv::StringRecord) -> Result<Self, TableError> {
        let columns: Vec<String> =
            record.iter().map(|column| column.trim_start_matches('\u{feff}').to_owned()).collect();
        let mut sorted: Vec<&String> = columns.iter().collect();
        sorted.sort();
        if let Some((column, _)) = sorted.iter().zip(sorted.iter().skip(1)).find(|(a, b)| a == b) {
            return Err(TableError::TwoColumns { file, column: (*column).clone() });
        }
        Ok(Self { file, columns })
    }

    pub(super) fn find(&self, column: &str) -> Option<usize> {
        self.columns.iter().position(|found| found == column)
    }

    pub(super) fn need(&self, column: &'static str) -> Result<Column, TableError> {
        let missing = || TableError::NoColumn { file: self.file, column: column.into() };
        Ok(Column { at: self.find(column).ok_or_else(missing)?, name: column })
    }
}

/// A column that is there.
#[derive(Clone, Copy)]
pub(super) struct Column {
    at: usize,
    name: &'static str,
}

/// The columns of a case.
pub(super) struct CaseColumns([Column; 6]);

impl CaseColumns {
    pub(super) fn find(header: &Header) -> Result<Self, TableError> {
        let [a, b, c, d, e, f] = CASE;
        let need = |name| header.need(name);
        Ok(Self([need(a)?, need(b)?, need(c)?, need(d)?, need(e)?, need(f)?]))
    }

    pub(super) fn read(&self, line: &Line) -> Result<Case, TableError> {
        let [program, scale, seed, llc, tiers, machine] = self.0;
        Ok(Case {
            program: line.word(program)?,
            scale: line.word(scale)?,
            seed: line.whole(seed)?,
            llc_bytes: line.whole(llc)?,
            tiers: line.word(tiers)?,
            machine: line.word(machine)?,
        })
    }
}

/// A row of text.
pub(super) struct Line<'a> {
    pub(super) file: File,
    pub(super) record: &'a csv::StringRecord,
}

impl Line<'_> {
    pub(super) fn text(&self, at: usize) -> &str {
        self.record.get(at).unwrap_or("")
    }

    fn number(&self) -> u64 {
        self.record.position().map_or(0, csv::Position::line)
    }

    pub(super) fn refuse(&self, at: usize, column: &str, wanted: &'static str) -> TableError {
        let found = self.text(at).chars().take(60).collect();
        TableError::Cell { file: self.file, line: self.number(), column: column.into(), found, wanted }
    }

    pub(super) fn refuse_column(&self, column: Column, wanted: &'static str) -> TableError {
        self.refuse(column.at, column.name, wanted)
    }

    /// A name: something, and nothing that would tear a line.
    pub(super) fn word(&self, column: Column) -> Result<String, TableError> {
        let text = self.text(column.at);
        if text.is_empty() || text.len() > LONGEST || text.chars().any(char::is_control) {
            return Err(self.refuse(column.at, column.name, "a name of up to 1000 bytes in one line"));
        }
        Ok(text.to_owned())
    }

    /// The identity of an object: a word without the separator of sets.
    pub(super) fn identity(&self, column: Column) -> Result<String, TableError> {
        let word = self.word(column)?;
        if word.contains(';') { Err(self.refuse(column.at, column.name, "a name without ;")) } else { Ok(word) }
    }

    /// The cell as it stands, control characters apart.
    pub(super) fn prose(&self, column: Column) -> String {
        self.text(column.at).chars().filter(|letter| !letter.is_control()).take(LONGEST).collect()
    }

    /// A whole number from 0.
    pub(super) fn whole(&self, column: Column) -> Result<u64, TableError> {
        self.text(column.at).parse().map_err(|_| self.refuse(column.at, column.name, "a whole number from 0"))
    }

    /// 0 or 1.
    pub(super) fn flag(&self, column: Column) -> Result<bool, TableError> {
        match self.text(column.at) {
            "0" => Ok(false),
            "1" => Ok(true),
            _ => Err(self.refuse(column.at, column.name, "0 or 1")),
        }
    }

    /// A number in a range.
    pub(super) fn within(&self, column: Column, low: f64, high: f64, wanted: &'static str) -> Result<f64, TableError> {
        let value = self.text(column.at).parse::<f64>().ok().filter(|value| (low..=high).contains(value));
        value.ok_or_else(|| self.refuse(column.at, column.name, wanted))
    }

    /// A number, or nothing: NaN.
    pub(super) fn known(&self, at: usize, column: &str) -> Result<f64, TableError> {
        let text = self.text(at);
        if text.is_empty() {
            return Ok(f64::NAN);
        }
        let value = text.parse::<f64>().ok().filter(|value| value.is_finite());
        value.ok_or_else(|| self.refuse(at, column, "a finite number, or empty where it is not known"))
    }

    pub(super) fn known_in(&self, column: Column) -> Result<f64, TableError> {
        self.known(column.at, column.name)
    }
}

/// A value as text, with so many significant digits; empty where it is not known.
pub(super) fn number(value: f64, digits: usize) -> String {
    if !value.is_finite() {
        return String::new();
    }
    let rounded: f64 = format!("{value:.*e}", digits.saturating_sub(1)).parse().unwrap_or(value);
    let (plain, scientific) = (format!("{rounded}"), format!("{rounded:e}"));
    if plain.len() <= scientific.len() { plain } else { scientific }
}

pub(super) fn case_cells(case: &Case) -> [String; 6] {
    [
        case.program.clone(),
        case.scale.clone(),
        case.seed.to_string(),
        case.llc_bytes.to_string(),
        case.tiers.clone(),
        case.machine.clone(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_say_the_same_when_written_again() {
        for (value, text) in [
            (0.0, "0"),
            (1.0 / 3.0, "0.333333"),
            (123_456_789.0, "123457000"),
            (1e-9, "1e-9"),
            (-2.5, "-2.5"),
            (f64::NAN, ""),
            (f64::INFINITY, ""),
        ] {
            assert_eq!(number(value, 6), text);
            if let Ok(read) = text.parse::<f64>() {
                assert_eq!(number(read, 6), text);
            }
        }
    }
}
