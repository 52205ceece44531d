//! Files that are whole or not there.
//!
//! A file is written beside its place and moved there, so that a reader never sees half of it and a full disk leaves the
//! old one. What stands there already is a person's and is replaced only when that was asked for; whether it may be is
//! found out before any work is done ([`Output::claim`]) and holds again when it is written. Pipes and devices
//! (`/dev/stdout`) are written to as they are.

use crate::failure::Failure;
use std::fs::Permissions;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// More than any file that a person writes by hand.
const MOST_TEXT: u64 = 8 << 20;

/// A place to write to.
#[derive(Debug)]
pub(crate) struct Output {
    /// As it was typed.
    shown: PathBuf,
    /// Where links lead.
    path: PathBuf,
    what: What,
    private: bool,
}

#[derive(Debug)]
enum What {
    /// Nothing is there.
    New,
    /// A file that may be replaced.
    File(Permissions),
    /// A pipe or device.
    Stream,
}

/// A file for what a command found out besides running a program (`--stats`): opened while nothing has happened yet that could be
/// lost, written when the program is over.
#[derive(Debug)]
pub(crate) struct Stats {
    path: PathBuf,
    file: std::fs::File,
}

impl Stats {
    /// Opens it; what is there stays until it is written.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let file = std::fs::OpenOptions::new().write(true).create(true).truncate(false).open(path);
        file.map(|file| Self { path: path.to_path_buf(), file })
            .map_err(|error| Failure::cannot(format!("cannot write {}: {error}", path.display())))
    }

    /// Writes a document and a line feed.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub(crate) fn write(&mut self, value: &impl serde::Serialize) -> Result<(), Failure> {
        let cannot = |error: std::io::Error| Failure::cannot(format!("cannot write {}: {error}", self.path.display()));
        let mut text = serde_json::to_vec_pretty(value).map_err(|error| cannot(error.into()))?;
        text.push(b'\n');
        // A pipe or terminal has no length to set.
        let _ = self.file.set_len(0);
        self.file.write_all(&text).map_err(cannot)
    }
}

/// Refuses a place for a new directory where none can be made.
///
/// # Errors
///
/// The directory it would be in is not there, or cannot be written to.
pub(crate) fn check_room_for(path: &Path) -> Result<(), Failure> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    rustix::fs::access(parent, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK)
        .map_err(std::io::Error::from)
        .and_then(|()| if parent.is_dir() { Ok(()) } else { Err(ErrorKind::NotADirectory.into()) })
        .map_err(|error| {
            let why = format!("cannot write {}: {}: {error}", path.display(), parent.display());
            Failure::cannot(why).mend("-o takes another place")
        })
}

impl Output {
    /// A place that can be written to. With `force` a file that is there will be replaced; `forced` says what `-f` then does.
    ///
    /// # Errors
    ///
    /// A file is there already, or there can be none.
    pub(crate) fn claim(path: &Path, force: bool, forced: &str) -> Result<Self, Failure> {
        let shown = path.to_path_buf();
        let cannot = |why: &str| Failure::cannot(format!("cannot write {}: {why}", shown.display()));
        // Where there is nothing yet, or a link that leads nowhere (nothing is ever written through one), the path itself.
        let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
        let directory = match path.parent() {
            Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
            Some(parent) => parent,
            None => return Err(cannot("it is a directory")),
        };
        match std::fs::metadata(&path) {
            Ok(found) if found.is_dir() => return Err(cannot("it is a directory")),
            Ok(found) if !found.is_file() => return Ok(Self { shown, path, what: What::Stream, private: false }),
            Ok(_) if !force => {
                return Err(cannot("it is there already").mend(format!("-f {forced}; -o takes another name")));
            }
            Ok(found) => {
                writable(directory).map_err(|error| cannot(&error.to_string()))?;
                return Ok(Self { shown, path, what: What::File(found.permissions()), private: false });
            }
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(cannot(&error.to_string())),
            Err(_) => {}
        }
        match std::fs::metadata(directory) {
            Ok(found) if !found.is_dir() => Err(cannot(&format!("{} is no directory", directory.display()))),
            Ok(_) => {
                writable(directory).map_err(|error| cannot(&error.to_string()))?;
                Ok(Self { shown, path, what: What::New, private: false })
            }
            Err(error) => {
                Err(cannot(&format!("{}: {error}", directory.display()))
                    .mend(format!("mkdir -p {}", directory.display())))
            }
        }
    }

    /// The same, for nobody else to read.
    pub(crate) fn private(self) -> Self {
        Self { private: true, ..self }
    }

    /// The path as it was typed.
    pub(crate) fn shown(&self) -> &Path {
        &self.shown
    }

    /// The text of the file that will be replaced; `None` where there is none.
    ///
    /// # Errors
    ///
    /// It cannot be read, or is no text.
    pub(crate) fn replaced(&self) -> Result<Option<String>, Failure> {
        match self.what {
            What::File(_) => read_text(&self.path, &self.shown).map(Some),
            What::New | What::Stream => Ok(None),
        }
    }

    /// Writes all of it or nothing.
    ///
    /// # Errors
    ///
    /// It could not be written; a file that came to be there in the meantime is left alone unless one was to be replaced.
    pub(crate) fn write(self, bytes: &[u8]) -> Result<(), Failure> {
        let shown = self.shown;
        let failure = |error: std::io::Error| Failure::cannot(format!("cannot write {}: {error}", shown.display()));
        if matches!(self.what, What::Stream) {
            let mut stream = std::fs::OpenOptions::new().write(true).open(&self.path).map_err(failure)?;
            return stream.write_all(bytes).map_err(failure);
        }
        let directory = match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let permissions = match &self.what {
            _ if self.private => Permissions::from_mode(0o600),
            What::File(permissions) => permissions.clone(),
            What::New | What::Stream => Permissions::from_mode(0o666),
        };
        let mut file = tempfile::Builder::new()
            .prefix(".tierscope-")
            // What the user's mask takes away is taken away here, too.
            .permissions(permissions.clone())
            .tempfile_in(directory)
            .map_err(failure)?;
        file.write_all(bytes).map_err(failure)?;
        match self.what {
            What::New => file.persist_noclobber(&self.path).map(drop).map_err(|error| failure(error.error)),
            What::File(_) => {
                std::fs::set_permissions(file.path(), permissions).map_err(failure)?;
                file.persist(&self.path).map(drop).map_err(|error| failure(error.error))
            }
            What::Stream => Ok(()),
        }
    }
}

fn writable(directory: &Path) -> Result<(), std::io::Error> {
    Ok(rustix::fs::access(directory, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK)?)
}

/// The text of a file that a person may have written; `shown` is what messages call it.
///
/// # Errors
///
/// It cannot be read, is no text, or is far too long.
pub(crate) fn read_text(path: &Path, shown: &Path) -> Result<String, Failure> {
    let cannot = |why: &str| Failure::cannot(format!("cannot read {}: {why}", shown.display()));
    let file = std::fs::File::open(path).map_err(|error| cannot(&error.to_string()))?;
    let mut bytes = Vec::new();
    file.take(MOST_TEXT + 1).read_to_end(&mut bytes).map_err(|error| cannot(&error.to_string()))?;
    if bytes.len() as u64 > MOST_TEXT {
        return Err(cannot("it is larger than 8 MiB"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let line =
            error.as_bytes().iter().take(error.utf8_error().valid_up_to()).filter(|&&byte| byte == b'\n').count();
        cannot(&format!("line {} is no UTF-8 text", line + 1))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_whole_and_what_is_there_is_left_alone_unless_asked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.toml");
        Output::claim(&path, false, "replaces it").unwrap().write(b"one").unwrap();
        let refusal = Output::claim(&path, false, "replaces it").unwrap_err().to_string();
        assert!(refusal.contains("it is there already") && refusal.contains("-f"), "{refusal}");
        std::fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let output = Output::claim(&path, true, "replaces it").unwrap();
        assert_eq!(output.replaced().unwrap().as_deref(), Some("one"));
        output.write(b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left behind");
    }

    #[test]
    fn a_file_that_came_to_be_there_meanwhile_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.toml");
        let output = Output::claim(&path, true, "replaces it").unwrap();
        std::fs::write(&path, "a person's").unwrap();
        assert!(output.write(b"ours").is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"a person's");
    }

    #[test]
    fn the_file_behind_a_link_is_replaced_and_the_link_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        std::fs::write(&file, "one").unwrap();
        std::os::unix::fs::symlink("file", &link).unwrap();
        Output::claim(&link, true, "replaces it").unwrap().write(b"two").unwrap();
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(std::fs::read(&file).unwrap(), b"two");
    }

    #[test]
    fn a_device_is_written_to_and_a_directory_is_not() {
        Output::claim(Path::new("/dev/null"), false, "").unwrap().write(b"gone").unwrap();
        assert!(!std::fs::metadata("/dev/null").unwrap().is_file());
        let folder = tempfile::tempdir().unwrap();
        for wrong in [folder.path().to_path_buf(), folder.path().join("no/such/place"), PathBuf::from("/")] {
            assert!(Output::claim(&wrong, true, "").unwrap_err().to_string().starts_with("cannot write"));
        }
    }

    #[test]
    fn what_is_no_text_is_refused_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, b"one\ntwo\n\xff").unwrap();
        assert!(read_text(&path, &path).unwrap_err().to_string().contains("line 3 is no UTF-8"));
        assert!(read_text(Path::new("/dev/zero"), Path::new("/dev/zero")).unwrap_err().to_string().contains("8 MiB"));
    }
}
