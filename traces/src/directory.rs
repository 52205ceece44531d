//! The directory of a profile: making one, replacing one, and knowing whose it is.
//!
//! **Why nothing of the user's is ever lost.** A new profile is built under a hidden name beside its place and moved
//! there by a rename that refuses to replace anything. Only on request, and only where everything inside was written by
//! Tierscope (a `meta.json` of ours, tables, hidden leftovers), the two directories are exchanged in one step and the old
//! one is then removed under the hidden name: at no instant is there no profile, and a note someone left in the
//! directory stops it.
//!
//! **Who writes.** A writer holds a `flock` on the directory. It ends with the process, however that ends, so a reader can
//! tell a recording under way from one that was killed, and a second writer is refused.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::error::TracesError;
use crate::meta;
use crate::row::Table;

/// Name of the file that makes a directory a profile.
pub(crate) const META: &str = "meta.json";
/// The largest `meta.json` that is read.
const MAX_META_BYTES: u64 = 1 << 24;

/// Reads `meta.json` of a directory, with errors that say what the path is instead.
pub(crate) fn read_meta(directory: &Path) -> Result<Vec<u8>, TracesError> {
    let file = directory.join(META);
    let status = fs::metadata(directory).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => TracesError::Missing(directory.to_owned()),
        _ => TracesError::io("open", directory, e),
    })?;
    if !status.is_dir() {
        return Err(TracesError::NotADirectory(directory.to_owned()));
    }
    let opened = File::open(&file).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => {
            TracesError::NotAProfile { path: directory.to_owned(), reason: "it has no meta.json".to_owned() }
        }
        _ => TracesError::io("open", &file, e),
    })?;
    let mut bytes = Vec::new();
    opened.take(MAX_META_BYTES + 1).read_to_end(&mut bytes).map_err(|e| TracesError::io("read", &file, e))?;
    if bytes.len() as u64 > MAX_META_BYTES {
        return Err(TracesError::Damaged { path: file, reason: format!("larger than {MAX_META_BYTES} bytes") });
    }
    Ok(bytes)
}

/// Opens a directory and takes the writer's lock.
pub(crate) fn lock(directory: &Path) -> Result<File, TracesError> {
    let handle = File::open(directory).map_err(|e| TracesError::io("open", directory, e))?;
    match handle.try_lock() {
        Ok(()) => Ok(handle),
        Err(TryLockError::WouldBlock) => Err(TracesError::Busy(directory.to_owned())),
        Err(TryLockError::Error(e)) => Err(TracesError::io("lock", directory, e)),
    }
}

/// Whether someone holds the writer's lock.
pub(crate) fn is_locked(directory: &Path) -> bool {
    File::open(directory).is_ok_and(|handle| matches!(handle.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// Makes the directory, with the lock held and `fill` applied before it shows under its name.
pub(crate) fn create(
    directory: &Path,
    force: bool,
    fill: impl FnOnce(&Path) -> Result<(), TracesError>,
) -> Result<File, TracesError> {
    let occupied = fs::symlink_metadata(directory).is_ok();
    if occupied && !force {
        return Err(TracesError::Exists(directory.to_owned()));
    }
    if occupied {
        replaceable(directory)?;
    }
    let beside = beside(directory);
    DirBuilder::new().mode(0o700).create(&beside).map_err(|e| TracesError::io("create", directory, e))?;
    let outcome = lock(&beside).and_then(|handle| {
        fill(&beside)?;
        move_into_place(&beside, directory, force)?;
        Ok(handle)
    });
    if outcome.is_err() {
        // Ours and hidden: nobody has seen it, and the error is already being reported.
        let _ = fs::remove_dir_all(&beside);
    }
    outcome
}

fn beside(directory: &Path) -> PathBuf {
    let name = directory.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    directory.with_file_name(format!(".{name}.{}.new", std::process::id()))
}

fn move_into_place(from: &Path, to: &Path, force: bool) -> Result<(), TracesError> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => return Ok(()),
        Err(rustix::io::Errno::EXIST) if !force => return Err(TracesError::Exists(to.to_owned())),
        Err(rustix::io::Errno::EXIST) => {}
        // A file system without the flag: the check was made a moment ago, and a rename onto a directory that is not
        // empty fails.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) if fs::symlink_metadata(to).is_err() => {
            return fs::rename(from, to).map_err(|e| TracesError::io("create", to, e));
        }
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {}
        Err(e) => return Err(TracesError::io("create", to, e.into())),
    }
    replaceable(to)?;
    // Nobody may be writing what is about to go; the lock goes with the old directory.
    let _old = lock(to)?;
    match renameat_with(CWD, from, CWD, to, RenameFlags::EXCHANGE) {
        Ok(()) => fs::remove_dir_all(from).map_err(|e| TracesError::io("remove the old", to, e)),
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            let old = from.with_extension("old");
            fs::rename(to, &old).map_err(|e| TracesError::io("replace", to, e))?;
            if let Err(e) = fs::rename(from, to) {
                let _ = fs::rename(&old, to);
                return Err(TracesError::io("replace", to, e));
            }
            fs::remove_dir_all(&old).map_err(|e| TracesError::io("remove the old", to, e))
        }
        Err(e) => Err(TracesError::io("replace", to, e.into())),
    }
}

/// Whether a directory is a profile and nothing else: an empty directory will do as well.
fn replaceable(directory: &Path) -> Result<(), TracesError> {
    let refuse = |reason: String| Err(TracesError::NotReplaceable { path: directory.to_owned(), reason });
    let status = fs::symlink_metadata(directory).map_err(|e| TracesError::io("replace", directory, e))?;
    if !status.is_dir() {
        return refuse("it is not a directory".to_owned());
    }
    let entries = fs::read_dir(directory)
        .and_then(Iterator::collect::<io::Result<Vec<_>>>)
        .map_err(|e| TracesError::io("replace", directory, e))?;
    if entries.is_empty() {
        return Ok(());
    }
    match fs::read(directory.join(META)) {
        Ok(bytes) if meta::is_ours(&bytes) => {}
        _ => return refuse("it is not a profile: it has no meta.json of ours".to_owned()),
    }
    for entry in entries {
        let name = entry.file_name();
        let known = name.to_str().is_some_and(|name| {
            name == META || name == ".meta.json.tmp" || Table::ALL.iter().any(|table| table.directory() == name)
        });
        if !known {
            return refuse(format!("{:?} in it was not written by Tierscope", name));
        }
    }
    Ok(())
}
