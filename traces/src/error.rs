//! What can go wrong with a dataset, as the person who started the recording should read it: where, why, way out.

use std::io;
use std::path::{Path, PathBuf};

/// Why a profile could not be written or read.
///
/// Every message names the path, the cause and what to do next; none of them leaves a profile worse than it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TracesError {
    /// Nothing is at the path.
    #[error("there is no profile at {path}: give the directory that `tierscope record` named when it ended", path = .0.display())]
    Missing(PathBuf),
    /// Something is at the path, and it is not a directory.
    #[error("{path} is not a directory: a profile is a directory `NAME.tsp/`; give that, not a file in it", path = .0.display())]
    NotADirectory(PathBuf),
    /// A directory that Tierscope did not write.
    #[error("{path} is not a Tierscope profile ({reason}): give a directory that `tierscope record` wrote, or turn other \
             data into one with `tierscope import`", path = .path.display())]
    NotAProfile {
        /// The directory.
        path: PathBuf,
        /// What it lacks.
        reason: String,
    },
    /// Written by a version of Tierscope whose dataset this one does not know.
    #[error("{path} has schema {found}, and this tierscope reads up to {known}: read it with tierscope \
             {written_by} or newer", path = .path.display())]
    Newer {
        /// The directory.
        path: PathBuf,
        /// The schema it has.
        found: String,
        /// The newest schema this crate reads.
        known: &'static str,
        /// The version of Tierscope that wrote it, as it says itself.
        written_by: String,
    },
    /// Damaged so that nothing can be shown.
    #[error("{path} is damaged ({reason}): nothing can be read without it; if there is a copy, restore this file, \
             else record again", path = .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The output exists and the caller did not ask to replace it.
    #[error("{path} exists: name another output with -o, or replace it with --force", path = .0.display())]
    Exists(PathBuf),
    /// Asked to replace something that is not, or not only, a profile.
    #[error("{path} is not replaced, because {reason}: name another output with -o, or remove it yourself", path = .path.display())]
    NotReplaceable {
        /// The directory.
        path: PathBuf,
        /// What stands against removing it.
        reason: String,
    },
    /// Another process is writing this profile.
    #[error("{path} is being written by another tierscope: wait for it to end, or name another output with -o", path = .0.display())]
    Busy(PathBuf),
    /// The system refused.
    #[error("cannot {action} {path}: {source}{way_out}", path = .path.display())]
    Io {
        /// What was tried, as a verb: `write`, `create`, `rename`.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
        /// What to do about it, as a clause that follows the cause; may be empty.
        way_out: &'static str,
    },
    /// The Parquet library refused.
    #[error("cannot write {path}: {reason}", path = .path.display())]
    Encode {
        /// The part.
        path: PathBuf,
        /// What it said.
        reason: String,
    },
}

impl TracesError {
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        let way_out = match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                "; free some space, or record to another disk with -o; what was written before is whole"
            }
            io::ErrorKind::PermissionDenied => "; the directory must be yours and writable, or name another with -o",
            io::ErrorKind::ReadOnlyFilesystem => "; name an output elsewhere with -o",
            io::ErrorKind::NotFound => "; the directory was moved or removed: give one that stays",
            _ => "",
        };
        Self::Io { action, path: path.to_owned(), source, way_out }
    }

    /// Whether the disk, or the user's share of it, is full: retrying makes sense after some space was freed.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Io { source, .. }
            if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    }
}
