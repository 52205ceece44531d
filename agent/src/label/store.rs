//! The table's two files: read and replaced under a lock.

use super::case::Case;
use crate::failure::Failure;
use rustix::fs::FlockOperation;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use tierscope_rank::Table;

const OBJECTS: &str = "objects.csv";
const SETS: &str = "sets.csv";

/// A table on disk.
pub(super) struct Store {
    directory: PathBuf,
    /// Locked while the files are read and replaced.
    lock: File,
}

impl Store {
    /// Opens a table's directory, made if it is not there.
    pub(super) fn open(directory: &Path) -> Result<Self, Failure> {
        let cannot = |error| Failure::cannot(format!("cannot open the table {}: {error}", directory.display()));
        std::fs::create_dir_all(directory).map_err(cannot)?;
        let lock = File::open(directory).map_err(cannot)?;
        Ok(Self { directory: directory.to_path_buf(), lock })
    }

    fn read(&self) -> Result<Table, Failure> {
        let (objects, sets) = (self.directory.join(OBJECTS), self.directory.join(SETS));
        if !objects.exists() && !sets.exists() {
            return Ok(Table::default());
        }
        Table::read(&objects, &sets).map_err(|error| Failure::from_error("cannot add to the table", &error))
    }

    fn locked<T>(&self, work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
        let cannot = |error| Failure::cannot(format!("cannot lock {}: {error}", self.directory.display()));
        rustix::fs::flock(&self.lock, FlockOperation::LockExclusive).map_err(cannot)?;
        let result = work();
        rustix::fs::flock(&self.lock, FlockOperation::Unlock).map_err(cannot)?;
        result
    }

    /// The workload cases that are in it.
    pub(super) fn cases(&self) -> Result<Vec<Case>, Failure> {
        let table = self.locked(|| self.read())?;
        let mut cases: Vec<Case> = Vec::new();
        for row in &table.rows {
            let program = super::PROGRAMS.into_iter().find(|program| program.name == row.case.program);
            let case = program.map(|program| Case { program, scale: row.case.scale.clone(), seed: row.case.seed });
            cases.extend(case.filter(|case| !cases.contains(case)));
        }
        Ok(cases)
    }

    /// Adds rows and sets; those of the same cases are replaced.
    pub(super) fn add(&self, more: Table) -> Result<(), Failure> {
        self.locked(|| {
            let mut table = self.read()?;
            let again = |case: &tierscope_rank::Case| more.rows.iter().any(|row| row.case == *case);
            table.rows.retain(|row| !again(&row.case));
            table.sets.retain(|set| !again(&set.case));
            table.merge(more);
            self.replace(OBJECTS, &table.objects_csv())?;
            self.replace(SETS, &table.sets_csv())
        })
    }

    fn replace(&self, name: &str, text: &str) -> Result<(), Failure> {
        let path = self.directory.join(name);
        let cannot = |error: std::io::Error| Failure::cannot(format!("cannot write {}: {error}", path.display()));
        let mut file = tempfile::NamedTempFile::new_in(&self.directory).map_err(cannot)?;
        file.write_all(text.as_bytes()).and_then(|()| file.as_file().sync_all()).map_err(cannot)?;
        file.persist(&path).map_err(|error| cannot(error.error))?;
        Ok(())
    }
}
