//! Writing a profile while it is recorded.
//!
//! Rows gather in one buffer per table; [`ProfileWriter::flush`] turns each buffer into one part, in the order of
//! [`Table::ALL`], and then replaces `meta.json` with the running totals. What a flush has written stays whatever comes
//! after it. A table whose part could not be written keeps its rows for the next attempt: the caller decides whether
//! to wait, to give up the rows ([`ProfileWriter::discard`]), or to end.
//!
//! Memory is bounded twice: [`ProfileWriter::needs_flush`] asks for a flush at [`FLUSH_ROWS`] rows of a table, and a
//! buffer that has [`FULL_ROWS`] rows, because flushes fail, takes no more. Every row given up is counted in
//! [`Losses::unwritten`](crate::Losses::unwritten): nothing is lost in silence.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use polars::prelude::DataFrame;

use crate::directory;
use crate::error::TracesError;
use crate::meta::{self, Meta, SCHEMA};
use crate::part;
use crate::row::{Row, Table};
use crate::rows::{
    AllocationRow, CountRow, CounterRow, MarkRow, ModuleRow, ObjectRow, PlacementRow, SampleRow, SiteRow, SymbolRow,
};

/// Rows of one table after which [`ProfileWriter::needs_flush`] says so: a part of some megabytes.
pub const FLUSH_ROWS: usize = 1 << 17;
/// Rows of one table beyond which they are dropped and counted.
pub const FULL_ROWS: usize = 1 << 21;

/// The rows of one table that are not written yet.
#[derive(Debug)]
pub struct Buffer<R> {
    rows: Vec<R>,
    dropped: u64,
    next_part: u32,
    written: u64,
}

impl<R: Row> Buffer<R> {
    fn new() -> Self {
        Self { rows: Vec::new(), dropped: 0, next_part: 0, written: 0 }
    }

    /// Takes one row. A buffer that is full drops it and counts it.
    #[inline]
    pub fn push(&mut self, row: R) {
        if self.rows.len() < FULL_ROWS {
            self.rows.push(row);
        } else {
            self.dropped += 1;
        }
    }

    /// Rows that wait for the next flush.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether no row waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn flush(&mut self, profile: &Path) -> Result<(), TracesError> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let table = profile.join(R::TABLE.directory());
        make_table_directory(&table)?;
        let columns = R::columns(&self.rows);
        let mut frame = DataFrame::new(self.rows.len(), columns)
            .map_err(|e| TracesError::Encode { path: table.clone(), reason: e.to_string() })?;
        part::write(&table, self.next_part, &mut frame)?;
        self.next_part = self.next_part.saturating_add(1);
        self.written += self.rows.len() as u64;
        self.rows.clear();
        Ok(())
    }

    fn discard(&mut self) {
        self.dropped += self.rows.len() as u64;
        self.rows = Vec::new();
    }
}

fn make_table_directory(path: &Path) -> Result<(), TracesError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => Err(TracesError::io("create", path, e)),
        _ => Ok(()),
    }
}

macro_rules! writer {
    ($($(#[$doc:meta])* $table:ident $variant:ident $row:ty;)*) => {
        /// Writes one profile. Holds the writer's lock of the directory until it is dropped.
        #[derive(Debug)]
        pub struct ProfileWriter {
            path: PathBuf,
            /// Held for its lock.
            _lock: File,
            meta: Meta,
            losses_before: u64,
            $($table: Buffer<$row>),*
        }

        impl ProfileWriter {
            fn with_lock(path: &Path, lock: File, meta: Meta) -> Self {
                let losses_before = meta.losses.unwritten;
                Self { path: path.to_owned(), _lock: lock, meta, losses_before, $($table: Buffer::new()),* }
            }

            $($(#[$doc])* pub fn $table(&mut self) -> &mut Buffer<$row> { &mut self.$table })*

            /// Whether a buffer holds enough for a part of good size.
            #[must_use]
            pub fn needs_flush(&self) -> bool {
                false $(|| self.$table.len() >= FLUSH_ROWS)*
            }

            /// Gives up the rows that wait: they are counted as lost.
            pub fn discard(&mut self) {
                $(self.$table.discard();)*
            }

            /// Every table is tried; the first error is returned.
            fn flush_tables(&mut self) -> Result<(), TracesError> {
                let mut first = Ok(());
                $(
                    let outcome = self.$table.flush(&self.path);
                    first = first.and(outcome);
                )*
                first
            }

            fn count(&mut self) {
                let mut unwritten = self.losses_before;
                $(
                    *self.meta.totals.of_mut(Table::$variant) = self.$table.written;
                    unwritten += self.$table.dropped;
                )*
                self.meta.losses.unwritten = unwritten;
            }

            fn resume(&mut self) -> Result<(), TracesError> {
                $(
                    self.$table.written = self.meta.totals.of(Table::$variant);
                    self.$table.next_part = next_part(&self.path, Table::$variant)?;
                )*
                Ok(())
            }

            fn forget_written(&mut self, table: Table) {
                match table { $(Table::$variant => self.$table.written = 0),* }
            }
        }
    };
}

writer! {
    /// Executables and libraries.
    modules Modules ModuleRow;
    /// Frames of call stacks.
    sites Sites SiteRow;
    /// What samples are attributed to.
    objects Objects ObjectRow;
    /// Blocks.
    allocations Allocations AllocationRow;
    /// Observed accesses.
    samples Samples SampleRow;
    /// Time series.
    counters Counters CounterRow;
    /// Announced phases.
    marks Marks MarkRow;
    /// Exact counts of objects.
    counts Counts CountRow;
    /// Placements that were timed.
    placements Placements PlacementRow;
    /// Functions and lines.
    symbols Symbols SymbolRow;
}

impl ProfileWriter {
    /// Starts a profile at `directory`: it appears there at once, with `"complete": false`.
    ///
    /// Nothing is replaced unless `force`, and then only a directory that holds nothing but a profile nobody is
    /// writing, or an empty one.
    ///
    /// # Errors
    /// [`TracesError::Exists`], [`TracesError::NotReplaceable`], [`TracesError::Busy`], or what the system says.
    pub fn create(directory: &Path, force: bool, mut meta: Meta) -> Result<Self, TracesError> {
        SCHEMA.clone_into(&mut meta.schema);
        meta.complete = false;
        let lock = directory::create(directory, force, |hidden| write_meta(hidden, &meta))?;
        Ok(Self::with_lock(directory, lock, meta))
    }

    /// Continues a profile that was written before, to add what is found out later (symbols, on any machine).
    ///
    /// # Errors
    /// Those of [`crate::Profile::open`], and [`TracesError::Busy`].
    pub fn append(directory: &Path) -> Result<Self, TracesError> {
        let bytes = directory::read_meta(directory)?;
        let meta = meta::parse(&bytes, &directory.join(directory::META))?;
        let lock = directory::lock(directory)?;
        let mut writer = Self::with_lock(directory, lock, meta);
        writer.resume()?;
        Ok(writer)
    }

    /// Where it writes.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What `meta.json` will say at the next flush. `schema`, `complete`, `totals` and `losses.unwritten` are the
    /// writer's own.
    pub fn meta_mut(&mut self) -> &mut Meta {
        &mut self.meta
    }

    /// What `meta.json` said last, with changes since.
    #[must_use]
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// Writes one part for every table that has rows, then `meta.json`.
    ///
    /// # Errors
    /// What the system says about the first table that could not be written; its rows are kept for the next flush, and
    /// the other tables and `meta.json` are written as far as that goes.
    pub fn flush(&mut self) -> Result<(), TracesError> {
        let tables = self.flush_tables();
        self.count();
        let meta = write_meta(&self.path, &self.meta);
        tables.and(meta)
    }

    /// Flushes, and marks the profile complete. After an error it can be tried again; [`Self::discard`] gives up the
    /// rows that cannot be written.
    ///
    /// # Errors
    /// As [`Self::flush`]; the profile then stays marked incomplete.
    pub fn finish(&mut self) -> Result<(), TracesError> {
        self.flush()?;
        self.meta.complete = true;
        let outcome = write_meta(&self.path, &self.meta);
        self.meta.complete = outcome.is_ok();
        outcome
    }

    /// Removes the parts of a table, to write it anew (symbols found on another machine).
    ///
    /// # Errors
    /// What the system says.
    pub fn clear(&mut self, table: Table) -> Result<(), TracesError> {
        let path = self.path.join(table.directory());
        match fs::remove_dir_all(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(TracesError::io("remove", &path, e)),
            _ => {}
        }
        self.forget_written(table);
        Ok(())
    }
}

fn write_meta(directory: &Path, meta: &Meta) -> Result<(), TracesError> {
    let path = directory.join(directory::META);
    let mut text = serde_json::to_vec_pretty(meta)
        .map_err(|e| TracesError::Encode { path: path.clone(), reason: e.to_string() })?;
    text.push(b'\n');
    part::write_whole(&path, &text)
}

fn next_part(profile: &Path, table: Table) -> Result<u32, TracesError> {
    let path = profile.join(table.directory());
    let entries = match fs::read_dir(&path) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        Err(e) => return Err(TracesError::io("list", &path, e)),
    };
    let last = entries.filter_map(|entry| Some(part::parse_name(entry.ok()?.file_name().to_str()?)?.0)).max();
    Ok(last.map_or(0, |number| number.saturating_add(1)))
}
