//! The table that comes with this version: what is trained on where nobody names another.
//!
//! Its text is part of the program, so an installation is one file and a model can be trained anywhere, without a network and
//! without the sources. `tierscope label` makes it, and `model/data` has it to read.

use crate::model::key;
use crate::table::{Table, TableError};

const OBJECTS_CSV: &str = include_str!("../../data/objects.csv");
const SETS_CSV: &str = include_str!("../../data/sets.csv");

impl Table {
    /// The table that comes with this version.
    ///
    /// # Errors
    /// Any of [`TableError`] but those of files: where the sources were changed by hand.
    pub fn shipped() -> Result<Self, TableError> {
        Self::parse(OBJECTS_CSV, SETS_CSV)
    }
}

/// What models trained on [`Table::shipped`] are stored under.
#[must_use]
pub fn shipped_key() -> String {
    key(OBJECTS_CSV, SETS_CSV)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feature::Family;
    use crate::model::LEAST_PROGRAMS;

    #[test]
    fn both_families_can_be_learnt_from_it() {
        let table = Table::shipped().unwrap();
        for family in Family::ALL {
            let mut programs: Vec<&str> = table
                .rows
                .iter()
                .filter(|row| row.movable && row.features(family).is_some())
                .map(|row| row.case.program.as_str())
                .collect();
            programs.sort_unstable();
            programs.dedup();
            assert!(programs.len() >= LEAST_PROGRAMS, "{family}: {programs:?}");
        }
        assert!(!table.sets.is_empty());
    }
}
