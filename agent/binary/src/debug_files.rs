//! Separate debug files: the symbols that distributions strip from a module and ship apart.
//!
//! Two conventions, in this order: by build-id (`DIR/.build-id/ab/cdef….debug`), which cannot be wrong, and by the name
//! and checksum in `.gnu_debuglink`, beside the module, in `.debug/` beside it, or under DIR at the module's path. A
//! candidate counts only if its build-id is the module's, or, where one of them has none, if its checksum is the link's:
//! names of a different build are worse than none. Nothing is fetched from a network.

use std::path::{Path, PathBuf};

use crate::headers::Headers;
use crate::notes::build_id;
use crate::source::{Source, string_prefix};

/// Where separate debug files, and modules recorded on another machine, are looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DebugDirs {
    dirs: Vec<PathBuf>,
}

impl Default for DebugDirs {
    /// The system's own, `/usr/lib/debug`.
    fn default() -> Self {
        Self { dirs: vec![PathBuf::from("/usr/lib/debug")] }
    }
}

impl DebugDirs {
    /// The given directories first, in order, then the system's.
    pub fn with(dirs: impl IntoIterator<Item = PathBuf>) -> Self {
        let mut all: Vec<PathBuf> = dirs.into_iter().collect();
        all.extend(Self::default().dirs);
        Self { dirs: all }
    }

    /// No directory at all: only the module itself.
    pub fn none() -> Self {
        Self { dirs: Vec::new() }
    }

    /// The directories, in the order they are searched.
    pub fn iter(&self) -> impl Iterator<Item = &Path> {
        self.dirs.iter().map(PathBuf::as_path)
    }

    /// `DIR/.build-id/ab/cdef` + suffix, for every directory.
    pub(crate) fn by_build_id(&self, build_id: &[u8], suffix: &str) -> Vec<PathBuf> {
        let Some((first, rest)) = build_id.split_first().filter(|(_, rest)| !rest.is_empty()) else {
            return Vec::new();
        };
        let rest: String = rest.iter().map(|byte| format!("{byte:02x}")).collect();
        self.dirs.iter().map(|dir| dir.join(format!(".build-id/{first:02x}/{rest}{suffix}"))).collect()
    }

    /// The debug file of a module, opened and checked.
    pub(crate) fn find(&self, module: &Source, headers: &Headers, id: Option<&[u8]>) -> Option<(Source, Headers)> {
        let by_id = id.map(|id| self.by_build_id(id, ".debug")).unwrap_or_default();
        let link = DebugLink::read(module, headers);
        let by_link = link.iter().flat_map(|link| link.candidates(module.path(), &self.dirs));
        by_id.into_iter().chain(by_link).find_map(|candidate| {
            let source = Source::open(&candidate).ok()?;
            let headers = Headers::read(&source).ok()?;
            let matches = match (id, build_id(&source, &headers)) {
                (Some(ours), Some(theirs)) => ours == theirs,
                _ => link.as_ref().is_some_and(|link| source.checksum() == Some(link.checksum)),
            };
            matches.then_some((source, headers))
        })
    }
}

struct DebugLink {
    name: String,
    checksum: u32,
}

impl DebugLink {
    /// `.gnu_debuglink`: a file name, NUL, padding to four bytes, CRC-32 of the file.
    fn read(module: &Source, headers: &Headers) -> Option<Self> {
        let section = headers.section(".gnu_debuglink").filter(|section| section.bytes <= 4096)?;
        let bytes = module.table(section.offset, section.bytes, ".gnu_debuglink").ok()?;
        let name = string_prefix(&bytes)?;
        let checksum = bytes.get((name.len() + 1).next_multiple_of(4)..)?.first_chunk()?;
        // Only a name: a path here would let a file choose what else is opened.
        let plain = !name.is_empty() && !name.contains('/') && name != "." && name != "..";
        let checksum = headers.word(*checksum);
        plain.then(|| Self { name: name.to_owned(), checksum })
    }

    fn candidates(&self, module: &Path, dirs: &[PathBuf]) -> Vec<PathBuf> {
        let module = module.canonicalize().unwrap_or_else(|_| module.to_path_buf());
        let folder = module.parent().unwrap_or(Path::new("/"));
        let mut candidates = vec![folder.join(&self.name), folder.join(".debug").join(&self.name)];
        let relative = folder.strip_prefix("/").unwrap_or(folder);
        candidates.extend(dirs.iter().map(|dir| dir.join(relative).join(&self.name)));
        candidates.extend(dirs.iter().map(|dir| dir.join(&self.name)));
        candidates.retain(|candidate| *candidate != module);
        candidates
    }
}
