//! Files of fixed rows: the emulated samples, and the allocations.
//!
//! ```text
//! 0    magic, 8 bytes        16   row 0, ROW_BYTES bytes
//! 8    version, u32          64   row 1
//! 12   bytes of a row, u32   ...
//! ```
//!
//! Rows are appended as they come and never changed, so that a file is readable while it grows and after its writer was killed: a
//! last row that is not whole is left out.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use tierscope_sim::{Allocation, ROW_BYTES, Sample};

const VERSION: u32 = 1;
const HEADER_BYTES: usize = 16;
const SAMPLES: [u8; 8] = *b"tiersmpl";
const ALLOCATIONS: [u8; 8] = *b"tierallo";

/// A file of rows that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RowsError {
    /// The file is not there or cannot be read.
    #[error("{path}: {error}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        error: io::Error,
    },
    /// It is another kind of file, or another version.
    #[error("{path} holds no {what} of this version")]
    Header {
        /// The file.
        path: String,
        /// Samples or allocations.
        what: &'static str,
    },
    /// A row that no simulation writes.
    #[error("{path}: row {row} makes no sense")]
    Row {
        /// The file.
        path: String,
        /// Its number, from 0.
        row: usize,
    },
}

fn header(magic: [u8; 8]) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    let parts = magic.into_iter().chain(VERSION.to_le_bytes()).chain((ROW_BYTES as u32).to_le_bytes());
    for (to, from) in header.iter_mut().zip(parts) {
        *to = from;
    }
    header
}

fn read<T>(
    file: &Path,
    magic: [u8; 8],
    what: &'static str,
    row: impl Fn(&[u8; ROW_BYTES]) -> Option<T>,
) -> Result<Vec<T>, RowsError> {
    let path = || file.display().to_string();
    let bytes = std::fs::read(file).map_err(|error| RowsError::Read { path: path(), error })?;
    let rows = bytes.strip_prefix(&header(magic)).ok_or_else(|| RowsError::Header { path: path(), what })?;
    let (rows, _) = rows.as_chunks::<ROW_BYTES>();
    let row = |(index, bytes)| row(bytes).ok_or_else(|| RowsError::Row { path: path(), row: index });
    rows.iter().enumerate().map(row).collect()
}

/// The samples of a file.
///
/// # Errors
///
/// [`RowsError`].
pub fn read_samples(file: &Path) -> Result<Vec<Sample>, RowsError> {
    read(file, SAMPLES, "samples", Sample::from_bytes)
}

/// The allocations of a file.
///
/// # Errors
///
/// [`RowsError`].
pub fn read_allocations(file: &Path) -> Result<Vec<Allocation>, RowsError> {
    read(file, ALLOCATIONS, "allocations", |bytes| Some(Allocation::from_bytes(bytes)))
}

/// Writes rows of one kind.
#[derive(Debug)]
pub(crate) struct RowWriter {
    file: BufWriter<File>,
}

impl RowWriter {
    pub(crate) fn samples(file: &Path) -> io::Result<RowWriter> {
        RowWriter::create(file, SAMPLES)
    }

    pub(crate) fn allocations(file: &Path) -> io::Result<RowWriter> {
        RowWriter::create(file, ALLOCATIONS)
    }

    fn create(file: &Path, magic: [u8; 8]) -> io::Result<RowWriter> {
        let mut file = BufWriter::new(File::create(file)?);
        file.write_all(&header(magic))?;
        Ok(RowWriter { file })
    }

    /// Writes a row; false if it could not be written.
    pub(crate) fn write(&mut self, row: &[u8; ROW_BYTES]) -> bool {
        self.file.write_all(row).is_ok()
    }

    pub(crate) fn flush(&mut self) -> bool {
        self.file.flush().is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_read_back_and_a_torn_one_is_left_out() {
        let directory = tempfile::tempdir().unwrap();
        let (samples, allocations) = (directory.path().join("s"), directory.path().join("a"));
        let sample = Sample { time: 1, ip: 2, address: 3, latency: 4, ..Sample::default() };
        let allocation = Allocation { address: 1, bytes: 2, site: 3, ..Allocation::default() };
        let mut writer = RowWriter::samples(&samples).unwrap();
        assert!(writer.write(&sample.to_bytes()) && writer.write(&sample.to_bytes()) && writer.flush());
        let mut writer = RowWriter::allocations(&allocations).unwrap();
        assert!(writer.write(&allocation.to_bytes()) && writer.flush());
        assert_eq!(read_samples(&samples).unwrap(), [sample, sample]);
        assert_eq!(read_allocations(&allocations).unwrap(), [allocation]);
        let whole = std::fs::read(&samples).unwrap();
        std::fs::write(&samples, &whole[..whole.len() - 1]).unwrap();
        assert_eq!(read_samples(&samples).unwrap(), [sample]);
    }

    #[test]
    fn other_files_and_impossible_rows_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("s");
        drop(RowWriter::allocations(&file).unwrap());
        assert!(read_samples(&file).unwrap_err().to_string().ends_with("holds no samples of this version"));
        let mut bytes = header(SAMPLES).to_vec();
        bytes.extend([0xff; ROW_BYTES]);
        std::fs::write(&file, bytes).unwrap();
        assert!(read_samples(&file).unwrap_err().to_string().ends_with("row 0 makes no sense"));
        assert!(read_samples(&directory.path().join("none")).is_err());
    }
}
