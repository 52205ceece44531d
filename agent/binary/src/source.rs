//! Bytes of a file that may change, shrink or lie about itself while we read.
//!
//! Modules are read with `pread`, never mapped: a mapped file that is truncated kills the reader with SIGBUS, a read of
//! it merely comes back short. Tables are read whole, once, into memory of our own, so what was checked is what is used.
//! Code is read in chunks as samples fall on it, and each chunk is kept: the text of a browser is 150 MB, the part that
//! a profile touches a few. A file that is replaced by rename (as package managers and linkers do) stays readable
//! through the descriptor held here.
//!
//! No read allocates more than the file holds, nor more than [`TABLE_LIMIT`]: a sparse file may claim terabytes.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Deref;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use crate::BinaryError;

/// The largest table read at once. The string table of a browser with debug symbols is 300 MB.
const TABLE_LIMIT: u64 = 1 << 30;
/// The largest file whose checksum is worth reading it for.
const CHECKSUM_LIMIT: u64 = 8 << 30;
/// Code is read and kept in pieces of this many bytes.
const CHUNK: u64 = 64 << 10;

/// A file, or its content in memory.
#[derive(Debug)]
pub(crate) struct Source {
    path: PathBuf,
    bytes: Bytes,
    length: u64,
    chunks: RwLock<HashMap<u64, Arc<[u8]>>>,
}

#[derive(Debug)]
enum Bytes {
    File(File),
    Memory(Box<[u8]>),
}

impl Source {
    /// Open a regular file. Never waits: a pipe or device is refused, not read.
    pub(crate) fn open(path: &Path) -> Result<Self, BinaryError> {
        let io_error = |source| BinaryError::Io { path: path.to_path_buf(), source };
        let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(io_error)?;
        let metadata = file.metadata().map_err(io_error)?;
        if !metadata.is_file() {
            return Err(BinaryError::NotAFile(path.to_path_buf()));
        }
        Ok(Self::new(path, Bytes::File(file), metadata.len()))
    }

    /// Take a file's content; `name` stands for the path in errors.
    pub(crate) fn from_bytes(name: &Path, bytes: Vec<u8>) -> Self {
        let length = bytes.len() as u64;
        Self::new(name, Bytes::Memory(bytes.into()), length)
    }

    fn new(path: &Path, bytes: Bytes, length: u64) -> Self {
        Self { path: path.to_path_buf(), bytes, length, chunks: RwLock::default() }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn damaged(&self, what: &'static str) -> BinaryError {
        BinaryError::Damaged { path: self.path.clone(), what }
    }

    /// Exactly `length` bytes at `offset`; `what` names the table in the error.
    pub(crate) fn table(&self, offset: u64, length: u64, what: &'static str) -> Result<Table, BinaryError> {
        let inside = offset.checked_add(length).is_some_and(|end| end <= self.length);
        if !inside || length > TABLE_LIMIT {
            return Err(self.damaged(what));
        }
        let length = usize::try_from(length).map_err(|_| self.damaged(what))?;
        let mut table = Table::zeroed(length);
        match self.read(offset, table.bytes_mut()) {
            Ok(read) if read == length => Ok(table),
            Ok(_) => Err(self.damaged(what)),
            Err(source) => Err(BinaryError::Io { path: self.path.clone(), source }),
        }
    }

    /// CRC-32 of the whole file, as `.gnu_debuglink` wants it.
    pub(crate) fn checksum(&self) -> Option<u32> {
        let mut hasher = crc32fast::Hasher::new();
        let mut buffer = vec![0; 1 << 20];
        let mut offset = 0;
        while offset < self.length.min(CHECKSUM_LIMIT) {
            match self.read(offset, &mut buffer).ok()? {
                0 => return None,
                count => {
                    hasher.update(&buffer[..count]);
                    offset += count as u64;
                }
            }
        }
        (offset == self.length).then(|| hasher.finalize())
    }

    /// Copy bytes at `offset` through the chunks kept in memory; returns how many there were.
    pub(crate) fn read_kept(&self, offset: u64, buffer: &mut [u8]) -> usize {
        let mut done = 0;
        while done < buffer.len() {
            let Some(at) = offset.checked_add(done as u64) else { break };
            let chunk = self.chunk(at / CHUNK);
            let Some(piece) = chunk.get((at % CHUNK) as usize..).filter(|piece| !piece.is_empty()) else { break };
            let count = piece.len().min(buffer.len() - done);
            buffer[done..done + count].copy_from_slice(&piece[..count]);
            done += count;
        }
        done
    }

    fn chunk(&self, index: u64) -> Arc<[u8]> {
        if let Some(chunk) = self.chunks.read().unwrap_or_else(PoisonError::into_inner).get(&index) {
            return Arc::clone(chunk);
        }
        let start = index.saturating_mul(CHUNK);
        // An index beyond the file is not remembered: there is no end to them.
        let length = self.length.saturating_sub(start).min(CHUNK);
        if length == 0 {
            return Arc::from([]);
        }
        let mut bytes = vec![0; length as usize];
        let read = self.read(start, &mut bytes).unwrap_or(0);
        bytes.truncate(read);
        let chunk: Arc<[u8]> = bytes.into();
        let mut chunks = self.chunks.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(chunks.entry(index).or_insert(chunk))
    }

    /// As many bytes as there are, up to the buffer's length.
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        match &self.bytes {
            Bytes::Memory(bytes) => {
                let rest = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..)).unwrap_or(&[]);
                let count = rest.len().min(buffer.len());
                buffer[..count].copy_from_slice(&rest[..count]);
                Ok(count)
            }
            Bytes::File(file) => {
                let mut done = 0;
                while done < buffer.len() {
                    match file.read_at(&mut buffer[done..], offset + done as u64) {
                        Ok(0) => break,
                        Ok(count) => done += count,
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        Err(error) => return Err(error),
                    }
                }
                Ok(done)
            }
        }
    }
}

/// Bytes aligned for any ELF structure, so that tables can be viewed in place.
#[derive(Debug, Default)]
pub(crate) struct Table {
    words: Vec<u64>,
    length: usize,
}

impl Table {
    fn zeroed(length: usize) -> Self {
        Self { words: vec![0; length.div_ceil(8)], length }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut object::pod::bytes_of_slice_mut(&mut self.words)[..self.length]
    }
}

impl Deref for Table {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &object::pod::bytes_of_slice(&self.words)[..self.length]
    }
}

/// The UTF-8 string before the first NUL.
pub(crate) fn string_prefix(bytes: &[u8]) -> Option<&str> {
    let end = bytes.iter().position(|&byte| byte == 0)?;
    std::str::from_utf8(&bytes[..end]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_outside_the_file_is_damage() {
        let source = Source::from_bytes(Path::new("x"), vec![1; 10]);
        assert!(source.table(0, 10, "all").is_ok_and(|table| table.len() == 10));
        for (offset, length) in [(0, 11), (10, 1), (u64::MAX, 1), (1, u64::MAX)] {
            assert!(matches!(source.table(offset, length, "t"), Err(BinaryError::Damaged { what: "t", .. })));
        }
    }

    #[test]
    fn kept_reads_cross_chunks_and_stop_at_the_end() {
        let content: Vec<u8> = (0..3 * CHUNK as usize + 5).map(|index| index as u8).collect();
        let source = Source::from_bytes(Path::new("x"), content.clone());
        let mut buffer = vec![0; 2 * CHUNK as usize];
        assert_eq!(source.read_kept(CHUNK - 7, &mut buffer), buffer.len());
        assert_eq!(buffer, content[CHUNK as usize - 7..][..buffer.len()]);
        assert_eq!(source.read_kept(3 * CHUNK, &mut buffer), 5);
        assert_eq!(source.read_kept(u64::MAX, &mut buffer), 0);
    }

    #[test]
    fn a_file_cut_short_after_opening_reads_short() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), vec![1; 100]).unwrap();
        let source = Source::open(file.path()).unwrap();
        file.as_file().set_len(40).unwrap();
        assert!(source.table(0, 100, "t").is_err());
        assert_eq!(source.read_kept(0, &mut [0; 100]), 40);
    }

    #[test]
    fn a_directory_or_device_is_not_read() {
        assert!(matches!(Source::open(Path::new("/")), Err(BinaryError::NotAFile(_))));
        assert!(matches!(Source::open(Path::new("/dev/zero")), Err(BinaryError::NotAFile(_))));
    }
}
