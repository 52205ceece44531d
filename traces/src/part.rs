//! One part of one table: rows to a file, a file to rows.
//!
//! Writing encodes into memory (a flush is some megabytes), writes that under a hidden name and only then gives it its
//! own: see the crate page. Encoding runs on the calling thread, so that a recorder takes no more processors from the
//! program than the one it was given. Reading takes the bytes into memory first: a mapped file that someone truncates
//! meanwhile would be a SIGBUS.
//!
//! **Why the name carries a checksum.** Parquet as this library writes it has none, and damage is worse than lost rows: a
//! flipped bit may be another address, or a length of 2^61 that ends the process when it is allocated. With the sum in
//! the name, a part and its checksum appear by the same rename and stay together when copied, no other file is
//! needed, and damaged bytes never reach the decoder. What someone forges still does: see [`crate::contain`].

use std::fs::{self, File, OpenOptions};
use std::io::{Cursor, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use polars::prelude::{DataFrame, ParallelStrategy, ParquetCompression, ParquetReader, ParquetWriter, SerReader};

use crate::contain::contained;
use crate::error::TracesError;

/// The largest part that is read: what this crate writes stays below a twentieth of it.
const MAX_PART_BYTES: u64 = 1 << 30;
/// The most rows a part may claim. Constant columns compress without bound, so the file size is no bound by itself.
const MAX_PART_ROWS: usize = 1 << 24;

/// `part-00007-9f86d081884c7d65.parquet`: the number, and the checksum of the content.
fn file_name(number: u32, content: &[u8]) -> String {
    format!("part-{number:05}-{:016x}.parquet", checksum(content))
}

/// The number of a part and the checksum it should have; `None` for anything else, hidden temporary files among it.
/// A part without a checksum in its name was written by another tool.
pub(crate) fn parse_name(file_name: &str) -> Option<(u32, Option<u64>)> {
    let middle = file_name.strip_prefix("part-")?.strip_suffix(".parquet")?;
    match middle.split_once('-') {
        Some((number, sum)) => Some((number.parse().ok()?, Some(u64::from_str_radix(sum, 16).ok()?))),
        None => Some((middle.parse().ok()?, None)),
    }
}

/// FNV-1a. Every step is a bijection of the state, so two contents of one length that differ in one byte never agree.
fn checksum(content: &[u8]) -> u64 {
    content.iter().fold(0xcbf2_9ce4_8422_2325, |sum, &byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Writes a file under a hidden name beside `path`, syncs it, and renames; the hidden file is gone afterwards, whatever
/// happened.
pub(crate) fn write_whole(path: &Path, content: &[u8]) -> Result<(), TracesError> {
    let hidden = hidden_name(path);
    let outcome = (|| {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&hidden)
            .map_err(|e| TracesError::io("create", path, e))?;
        file.write_all(content).map_err(|e| TracesError::io("write", path, e))?;
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

/// Writes a frame as part `number` of the table at `directory`.
pub(crate) fn write(directory: &Path, number: u32, frame: &mut DataFrame) -> Result<(), TracesError> {
    let mut content = Vec::new();
    ParquetWriter::new(&mut content)
        .with_compression(ParquetCompression::Zstd(None))
        .set_parallel(false)
        .finish(frame)
        .map_err(|e| TracesError::Encode { path: directory.to_owned(), reason: e.to_string() })?;
    let path = directory.join(file_name(number, &content));
    write_whole(&path, &content)
}

/// Reads one part whose name promises `promised`; the error is a reason.
pub(crate) fn read(path: &Path, promised: Option<u64>) -> Result<DataFrame, String> {
    let file = File::open(path).map_err(|e| e.to_string())?;
    let mut content = Vec::new();
    let read = file.take(MAX_PART_BYTES + 1).read_to_end(&mut content).map_err(|e| e.to_string())?;
    if read as u64 > MAX_PART_BYTES {
        return Err(format!("it is larger than {MAX_PART_BYTES} bytes"));
    }
    if promised.is_some_and(|promised| promised != checksum(&content)) {
        return Err("it is damaged: its content is not what the checksum in its name says".to_owned());
    }
    decode(content)
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
