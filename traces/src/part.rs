//! One part of one table: rows to a file, a file to rows.
//!
//! Writing makes a whole file in memory-bounded steps under a hidden name and only then gives it its own: see the crate
//! page. Encoding runs on the calling thread, so that a recorder takes no more processors from the program than
//! the one it was given. Reading takes the bytes into memory first: a mapped file that someone truncates meanwhile
//! would be a SIGBUS, and a copy can be handed to the library and thrown away.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Cursor, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use polars::prelude::{
    DataFrame, ParallelStrategy, ParquetCompression, ParquetReader, ParquetWriter, PolarsError, SerReader,
};

use crate::contain::contained;
use crate::error::TracesError;

/// The largest part that is read: what this crate writes stays below a twentieth of it.
const MAX_PART_BYTES: u64 = 1 << 30;
/// The most rows a part may claim. Constant columns compress without bound, so the file size is no bound by itself.
const MAX_PART_ROWS: usize = 1 << 24;

/// `part-00007.parquet`.
pub(crate) fn file_name(number: u32) -> String {
    format!("part-{number:05}.parquet")
}

/// The number of a part; `None` for anything else, hidden temporary files among it.
pub(crate) fn number(file_name: &str) -> Option<u32> {
    file_name.strip_prefix("part-")?.strip_suffix(".parquet")?.parse().ok()
}

/// Writes bytes under a hidden name beside `path`, syncs them, and renames; the hidden file is gone afterwards, whatever
/// happened.
pub(crate) fn write_whole(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<&File>) -> Result<(), TracesError>,
) -> Result<(), TracesError> {
    let hidden = hidden_name(path);
    let outcome = (|| {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&hidden)
            .map_err(|e| TracesError::io("create", path, e))?;
        let mut buffered = BufWriter::with_capacity(1 << 16, &file);
        write(&mut buffered)?;
        buffered.flush().map_err(|e| TracesError::io("write", path, e))?;
        // Without its data on disk, the new name could survive a power cut as an empty file.
        file.sync_data().map_err(|e| TracesError::io("write", path, e))?;
        fs::rename(&hidden, path).map_err(|e| TracesError::io("rename", path, e))
    })();
    if outcome.is_err() {
        // It may never have been created; what failed is already being reported.
        let _ = fs::remove_file(&hidden);
    }
    outcome
}

fn hidden_name(path: &Path) -> PathBuf {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    path.with_file_name(format!(".{name}.tmp"))
}

/// Writes a frame as one part.
pub(crate) fn write(path: &Path, frame: &mut DataFrame) -> Result<(), TracesError> {
    write_whole(path, |file| {
        ParquetWriter::new(file)
            .with_compression(ParquetCompression::Zstd(None))
            .set_parallel(false)
            .finish(frame)
            .map(drop)
            .map_err(|e| encode_error(path, e))
    })
}

fn encode_error(path: &Path, error: PolarsError) -> TracesError {
    match error {
        // The library wraps what the file said; a full disk must stay recognisable.
        PolarsError::IO { error, .. } => TracesError::io("write", path, io_error(&error)),
        other => match full_disk(&other) {
            Some(error) => TracesError::io("write", path, error),
            None => TracesError::Encode { path: path.to_owned(), reason: other.to_string() },
        },
    }
}

fn io_error(shared: &io::Error) -> io::Error {
    match shared.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(shared.kind(), shared.to_string()),
    }
}

/// The encoder turns some I/O errors into its own text; the text of the system is still in it.
fn full_disk(error: &PolarsError) -> Option<io::Error> {
    let text = error.to_string();
    [28, 122] // ENOSPC, EDQUOT
        .into_iter()
        .map(io::Error::from_raw_os_error)
        .find(|candidate| text.contains(&format!("os error {}", candidate.raw_os_error().unwrap_or_default())))
}

/// Reads the bytes of one part, at most [`MAX_PART_BYTES`].
pub(crate) fn read_bytes(path: &Path) -> Result<Vec<u8>, String> {
    let file = File::open(path).map_err(|e| e.to_string())?;
    let mut bytes = Vec::new();
    let read = file.take(MAX_PART_BYTES + 1).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    if read as u64 > MAX_PART_BYTES {
        return Err(format!("it is larger than {MAX_PART_BYTES} bytes"));
    }
    Ok(bytes)
}

/// Decodes one part; the error is a reason. Never panics, whatever the bytes are.
pub(crate) fn decode(bytes: Vec<u8>) -> Result<DataFrame, String> {
    contained(move || {
        let mut reader = ParquetReader::new(Cursor::new(bytes)).read_parallel(ParallelStrategy::None);
        let rows = reader.num_rows().map_err(|e| e.to_string())?;
        if rows > MAX_PART_ROWS {
            return Err(format!("it claims {rows} rows"));
        }
        reader.finish().map_err(|e| e.to_string())
    })
}
