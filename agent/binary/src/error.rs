//! What can go wrong with a file that is not ours.

use std::io;
use std::path::PathBuf;

/// Why a file could not be read as an ELF module.
#[derive(Debug, thiserror::Error)]
pub enum BinaryError {
    /// The file could not be opened or read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A directory, a device, a pipe.
    #[error("{} is not a regular file", .0.display())]
    NotAFile(PathBuf),
    /// No ELF magic, or a class or byte order that does not exist.
    #[error("{} is not an ELF file", .0.display())]
    NotElf(PathBuf),
    /// An ELF file whose tables lie outside it, or are absurdly large.
    #[error("{path} is damaged: {what}", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Which table, in words.
        what: &'static str,
    },
}
