//! Reading a profile, however it ended.
//!
//! Only `meta.json` is needed to open one. Tables are read when asked for, part by part in the order they were
//! written; a part that cannot be read costs its own rows and becomes a warning that names it. The row counts in
//! `meta.json` say what should be there, so a part that vanished is noticed too.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use polars::prelude::DataFrame;
use rustc_hash::FxHashMap;

use crate::contain::contained;
use crate::directory;
use crate::error::TracesError;
use crate::meta::{self, Meta};
use crate::part;
use crate::row::{Row, Table};
use crate::rows::{
    AllocationRow, CountRow, CounterRow, MarkRow, ModuleRow, ObjectRow, PlacementRow, SampleRow, SiteRow, SymbolRow,
};

/// A profile that was opened.
#[derive(Debug)]
pub struct Profile {
    path: PathBuf,
    meta: Meta,
    being_written: bool,
    /// By file, so that reading a table twice warns once.
    warnings: Mutex<BTreeMap<PathBuf, String>>,
}

/// All tables as rows, with rows that were written again collapsed to their last state.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(missing_docs, reason = "named as the tables are")]
pub struct Tables {
    pub modules: Vec<ModuleRow>,
    pub sites: Vec<SiteRow>,
    pub objects: Vec<ObjectRow>,
    pub allocations: Vec<AllocationRow>,
    pub samples: Vec<SampleRow>,
    pub counters: Vec<CounterRow>,
    pub marks: Vec<MarkRow>,
    pub counts: Vec<CountRow>,
    pub placements: Vec<PlacementRow>,
    pub symbols: Vec<SymbolRow>,
}

impl Profile {
    /// Opens the profile at `directory`; no table is read yet.
    ///
    /// # Errors
    /// [`TracesError::Missing`], [`TracesError::NotADirectory`], [`TracesError::NotAProfile`],
    /// [`TracesError::Newer`], [`TracesError::Damaged`] (its `meta.json`), or what the system says.
    pub fn open(directory: &Path) -> Result<Self, TracesError> {
        let bytes = directory::read_meta(directory)?;
        let meta = meta::parse(&bytes, &directory.join(directory::META))?;
        let being_written = !meta.complete && directory::is_locked(directory);
        Ok(Self { path: directory.to_owned(), meta, being_written, warnings: Mutex::default() })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it says about itself.
    #[must_use]
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// Whether a recorder was still writing it when it was opened. A profile that is neither complete nor being
    /// written was cut short.
    #[must_use]
    pub fn is_being_written(&self) -> bool {
        self.being_written
    }

    /// What could not be read so far, one sentence each.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        self.lock_warnings().values().cloned().collect()
    }

    /// The rows of one table in the order they were written. What cannot be read is missing and in
    /// [`Self::warnings`].
    #[must_use]
    pub fn rows<R: Row>(&self) -> Vec<R> {
        let mut rows = Vec::new();
        for (path, checksum) in self.parts(R::TABLE) {
            match part::read(&path, checksum).and_then(decode_rows) {
                Ok(part) => rows.extend(part),
                Err(reason) => self.warn(&path, format!("{} is left out: {reason}", self.relative(&path))),
            }
        }
        let expected = self.meta.totals.of(R::TABLE);
        if (rows.len() as u64) < expected {
            let table = self.path.join(R::TABLE.directory());
            self.warn(&table, format!("{} of {expected} {} were read", rows.len(), R::TABLE.name()));
        }
        rows
    }

    /// One table as a frame with exactly the columns this version knows, for those who want columns.
    #[must_use]
    pub fn frame<R: Row>(&self) -> DataFrame {
        let rows = self.rows::<R>();
        // The columns come from one list of rows, so they are equally long and differently named.
        DataFrame::new(rows.len(), R::columns(&rows)).unwrap_or_default()
    }

    /// Everything, collapsed.
    #[must_use]
    pub fn tables(&self) -> Tables {
        Tables {
            modules: last_of(self.rows::<ModuleRow>(), |row| row.module),
            sites: self.rows(),
            objects: last_of(self.rows::<ObjectRow>(), |row| row.object),
            allocations: collapse_allocations(self.rows()),
            samples: self.rows(),
            counters: self.rows(),
            marks: self.rows(),
            counts: self.rows(),
            placements: self.rows(),
            symbols: self.rows(),
        }
    }

    /// The parts of a table in order, with their checksums.
    fn parts(&self, table: Table) -> Vec<(PathBuf, Option<u64>)> {
        let directory = self.path.join(table.directory());
        let Ok(entries) = fs::read_dir(&directory) else { return Vec::new() };
        let mut parts: Vec<(u32, PathBuf, Option<u64>)> = entries
            .filter_map(|entry| {
                let entry = entry.ok()?;
                let (number, checksum) = part::parse_name(entry.file_name().to_str()?)?;
                Some((number, entry.path(), checksum))
            })
            .collect();
        parts.sort();
        parts.into_iter().map(|(_, path, checksum)| (path, checksum)).collect()
    }

    fn relative(&self, path: &Path) -> String {
        path.strip_prefix(&self.path).unwrap_or(path).display().to_string()
    }

    fn warn(&self, path: &Path, warning: String) {
        self.lock_warnings().insert(path.to_owned(), warning);
    }

    fn lock_warnings(&self) -> std::sync::MutexGuard<'_, BTreeMap<PathBuf, String>> {
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Rows out of the frame of a part; the error is a reason. Casting what another tool wrote is the library's work again.
fn decode_rows<R: Row>(frame: DataFrame) -> Result<Vec<R>, String> {
    contained(|| R::from_frame(&frame))
}

/// Rows out of the bytes of a part, without looking at a checksum: what a fuzzer needs.
///
/// # Errors
/// Why they cannot be read.
#[cfg(fuzzing)]
pub fn rows_of_part<R: Row>(content: Vec<u8>) -> Result<Vec<R>, String> {
    part::decode(content).and_then(decode_rows)
}

/// Keeps the last row of each key, at the place of the first.
fn last_of<R>(rows: Vec<R>, key: impl Fn(&R) -> u32) -> Vec<R> {
    let mut kept: Vec<R> = Vec::with_capacity(rows.len());
    let mut places: FxHashMap<u32, usize> = FxHashMap::default();
    for row in rows {
        match places.get(&key(&row)).and_then(|&place| kept.get_mut(place)) {
            Some(slot) => *slot = row,
            None => {
                places.insert(key(&row), kept.len());
                kept.push(row);
            }
        }
    }
    kept
}

/// One row per allocation: the one that knows when it was freed, wherever it stands.
fn collapse_allocations(rows: Vec<AllocationRow>) -> Vec<AllocationRow> {
    let mut kept: Vec<AllocationRow> = Vec::with_capacity(rows.len());
    let mut live: FxHashMap<u64, usize> = FxHashMap::default();
    for row in rows {
        match live.get(&row.allocation).and_then(|&place| kept.get_mut(place)) {
            Some(slot) if slot.freed_ns.is_none() => *slot = row,
            Some(_) => {}
            None => {
                live.insert(row.allocation, kept.len());
                kept.push(row);
            }
        }
    }
    kept
}
