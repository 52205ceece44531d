//! A directory that only our user can enter, for what is handed to the programs we start: the shim, a socket, a table.
//!
//! Its mode is 0700 and its name cannot be guessed. A library must be mappable from there, and its path must survive
//! `LD_PRELOAD` (which splits at spaces and colons) and the shim's options (which split at semicolons), and leave room for
//! the name of a socket.

use crate::embedded;
use crate::failure::Failure;
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// File name of the shim, wherever it is put.
pub(crate) const SHIM_NAME: &str = "libtierscope_preload.so";

/// Directories tried, in order, for the private one.
fn candidates() -> Vec<PathBuf> {
    let from_environment = ["XDG_RUNTIME_DIR", "TMPDIR"].into_iter().filter_map(std::env::var_os).map(PathBuf::from);
    from_environment.chain(["/tmp", "/dev/shm", "/var/tmp"].map(PathBuf::from)).collect()
}

fn usable(directory: &Path) -> bool {
    let Some(text) = directory.to_str() else { return false };
    let executable =
        rustix::fs::statvfs(directory).is_ok_and(|stat| !stat.f_flag.contains(rustix::fs::StatVfsMountFlags::NOEXEC));
    executable && directory.is_absolute() && text.len() < 60 && !text.contains([' ', ':', ';', '\n'])
}

/// Makes the directory where `fill` can do its work in it, and returns both.
///
/// # Errors
///
/// When it can be done nowhere, with what was tried.
pub(crate) fn directory<T>(fill: impl Fn(&Path) -> std::io::Result<T>) -> Result<(TempDir, T), Failure> {
    let mut tried = Vec::new();
    for parent in candidates().into_iter().filter(|parent| usable(parent)) {
        let made = tempfile::Builder::new()
            .prefix("tierscope-")
            .rand_bytes(12)
            .permissions(std::fs::Permissions::from_mode(0o700))
            .tempdir_in(&parent);
        match made.and_then(|directory| fill(directory.path()).map(|filled| (directory, filled))) {
            Ok(made) => return Ok(made),
            Err(error) => tried.push(format!("{}: {error}", parent.display())),
        }
    }
    Err(Failure::cannot(format!(
        "no directory for the preload shim ({})",
        if tried.is_empty() { "all are missing or mounted noexec".into() } else { tried.join("; ") }
    ))
    .mend("TMPDIR=/a/directory/that/is/not/noexec tierscope ..."))
}

/// Writes the shim into a private directory, and returns its path.
pub(crate) fn extract_shim(directory: &Path, shim: &[u8]) -> std::io::Result<PathBuf> {
    extract(directory, SHIM_NAME, shim)
}

/// Writes the workloads program into a private directory, and returns its path.
pub(crate) fn extract_workloads(directory: &Path) -> std::io::Result<PathBuf> {
    extract(directory, "tierscope-workloads", embedded::WORKLOADS)
}

/// Writes what can be executed or loaded by its owner alone.
fn extract(directory: &Path, name: &str, bytes: &[u8]) -> std::io::Result<PathBuf> {
    let path = directory.join(name);
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o700).open(&path)?;
    std::io::Write::write_all(&mut file, bytes)?;
    Ok(path)
}

/// The value of `LD_PRELOAD` that loads the shim. A library the user preloads comes after ours, so that the calls we pass on
/// reach it.
pub(crate) fn preload_list(shim: &Path) -> OsString {
    let mut list = shim.as_os_str().to_owned();
    if let Some(theirs) = theirs() {
        list.push(":");
        list.push(theirs);
    }
    list
}

/// What is preloaded without us.
pub(crate) fn theirs() -> Option<OsString> {
    std::env::var_os("LD_PRELOAD").filter(|theirs| !theirs.is_empty())
}

/// Whether a list of libraries to preload has one with these very bytes.
pub(crate) fn has_shim(list: &OsStr, shim: &[u8]) -> bool {
    let list = list.to_string_lossy();
    list.split([':', ' ']).filter(|path| path.ends_with(SHIM_NAME)).any(|path| {
        // Read only what can be it.
        std::fs::metadata(path).is_ok_and(|found| found.len() == shim.len() as u64)
            && std::fs::read(path).is_ok_and(|found| found == shim)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_is_ours_alone_and_goes_away() {
        let (directory, shim) = directory(|path| extract_shim(path, b"shim")).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(directory.path()), mode(&shim)), (0o700, 0o700));
        let path = directory.path().to_path_buf();
        drop(directory);
        assert!(!path.exists());
    }

    #[test]
    fn where_it_cannot_be_done_it_is_said_where_it_was_tried() {
        let failure = directory(|_| Err::<(), _>(std::io::Error::other("full"))).unwrap_err();
        assert_eq!(failure.exit_status(), 3);
        assert!(failure.to_string().contains("/tmp: full"), "{failure}");
    }

    #[test]
    fn a_shim_is_known_by_its_bytes() {
        let (directory, shim) = directory(|path| extract_shim(path, b"shim")).unwrap();
        let list = format!("/usr/lib/libother.so:{}", shim.display());
        assert!(has_shim(list.as_ref(), b"shim"));
        assert!(!has_shim(list.as_ref(), b"ship"));
        assert!(!has_shim("/usr/lib/libother.so".as_ref(), b"shim"));
        drop(directory);
        assert!(!has_shim(list.as_ref(), b"shim"));
    }
}
