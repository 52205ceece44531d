//! The libraries a program is started with.
//!
//! Found as the dynamic loader finds them (ld.so(8)): for a name without a slash `DT_RPATH` where there is no
//! `DT_RUNPATH`, then `LD_LIBRARY_PATH`, `DT_RUNPATH`, glibc's cache, and the loader's own directories; the first file of
//! the program's word size and processor is it. What those need is found in turn.
//!
//! It is an answer before the program runs, and so without what only the loader knows: which of the variants for newer
//! processors it will take (`glibc-hwcaps`), `$LIB` and `$PLATFORM` in paths, namespaces, audit libraries. Libraries that are
//! opened later (`dlopen`) are not here at all. Who relies on an answer compares build-ids when the module is loaded.

use std::collections::{HashSet, VecDeque};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::dynamic::Dynamic;
use crate::headers::Headers;
use crate::loader_cache::LoaderCache;
use crate::program::{Libc, Linkage, Program};
use crate::source::Source;

/// More than any program needs; a chain of libraries longer than this has been made to keep us busy.
const LIBRARIES_LIMIT: usize = 4096;

/// A library of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Library {
    /// The name it was asked for by: that of a file, or a path.
    pub name: String,
    /// Where it lies, links followed; by the file name of this a running process shows it.
    pub path: PathBuf,
}

/// What else decides where a loader looks.
#[derive(Debug, Clone, Copy, Default)]
pub struct LoaderEnvironment<'a> {
    /// `LD_LIBRARY_PATH`.
    pub library_path: Option<&'a OsStr>,
    /// `LD_PRELOAD`.
    pub preload: Option<&'a OsStr>,
}

impl Program {
    /// The libraries it is started with, each once, in the order the loader maps them; and the names that no file was found
    /// for. A static program has none.
    pub fn libraries(&self, environment: LoaderEnvironment<'_>) -> (Vec<Library>, Vec<String>) {
        let Linkage::Dynamic { libc, .. } = &self.linkage else { return (Vec::new(), Vec::new()) };
        let mut search = Search::new(self, *libc, environment);
        search.run(environment.preload);
        (search.found, search.missing)
    }
}

/// A module whose libraries are to be found.
struct Loading {
    path: PathBuf,
    dynamic: Dynamic,
}

impl Loading {
    /// Directories that a list of the module's names; `$ORIGIN` is where the module itself lies.
    fn directories<'a>(&'a self, list: &'a [String]) -> impl Iterator<Item = PathBuf> + 'a {
        list.iter().filter_map(|directory| {
            let origin = self.path.parent()?.to_str()?;
            let directory = directory.replace("${ORIGIN}", origin).replace("$ORIGIN", origin);
            (!directory.contains('$')).then(|| PathBuf::from(directory))
        })
    }
}

struct Search<'a> {
    program: &'a Program,
    /// `LD_LIBRARY_PATH`.
    library_path: Vec<PathBuf>,
    cache: LoaderCache,
    /// Where the loader looks of its own.
    system: Vec<PathBuf>,
    /// `DT_RPATH` of the program, which holds for its libraries too unless they have a `DT_RUNPATH`.
    program_rpath: Vec<PathBuf>,
    asked: HashSet<String>,
    mapped: HashSet<PathBuf>,
    found: Vec<Library>,
    missing: Vec<String>,
}

impl<'a> Search<'a> {
    fn new(program: &'a Program, libc: Libc, environment: LoaderEnvironment<'_>) -> Self {
        let glibc = libc == Libc::Glibc;
        let cache = if glibc { std::fs::read("/etc/ld.so.cache").unwrap_or_default() } else { Vec::new() };
        let named = |directories: &[&str]| directories.iter().map(PathBuf::from).collect();
        Self {
            program,
            library_path: directories(environment.library_path),
            cache: LoaderCache::parse(&cache),
            system: if glibc {
                named(&["/lib64", "/usr/lib64", "/lib", "/usr/lib"])
            } else {
                named(&["/lib", "/usr/local/lib", "/usr/lib"])
            },
            program_rpath: Vec::new(),
            asked: HashSet::new(),
            mapped: HashSet::new(),
            found: Vec::new(),
            missing: Vec::new(),
        }
    }

    fn run(&mut self, preload: Option<&OsStr>) {
        let Some(program) = self.load(&self.program.path) else { return };
        if program.dynamic.runpath.is_empty() {
            self.program_rpath = program.directories(&program.dynamic.rpath).collect();
        }
        self.mapped.insert(program.path.clone());
        let preloaded = preload.map(OsStr::to_string_lossy).unwrap_or_default();
        let mut waiting = VecDeque::new();
        for name in preloaded.split([':', ' ']).filter(|name| !name.is_empty()) {
            waiting.extend(self.take(name, &program));
        }
        waiting.push_front(program);
        while let Some(module) = waiting.pop_front() {
            for name in &module.dynamic.needed {
                if self.asked.len() >= LIBRARIES_LIMIT {
                    return;
                }
                waiting.extend(self.take(name, &module));
            }
        }
    }

    /// Finds a library by name, for a module that needs it; `None` where it is known already, or not found.
    fn take(&mut self, name: &str, by: &Loading) -> Option<Loading> {
        if !self.asked.insert(name.to_owned()) {
            return None;
        }
        let Some(module) = self.find(name, by) else {
            self.missing.push(name.to_owned());
            return None;
        };
        // Two names for one file are one library.
        if !self.mapped.insert(module.path.clone()) {
            return None;
        }
        self.found.push(Library { name: name.to_owned(), path: module.path.clone() });
        Some(module)
    }

    fn find(&self, name: &str, by: &Loading) -> Option<Loading> {
        if name.contains('/') {
            return self.load(Path::new(name));
        }
        let rpath = || by.directories(&by.dynamic.rpath).chain(self.program_rpath.iter().cloned());
        let rpath = by.dynamic.runpath.is_empty().then(rpath).into_iter().flatten();
        let first = rpath.chain(self.library_path.iter().cloned()).chain(by.directories(&by.dynamic.runpath));
        first
            .map(|directory| directory.join(name))
            .chain(self.cache.find(name).cloned())
            .chain(self.system.iter().map(|directory| directory.join(name)))
            .find_map(|path| self.load(&path))
    }

    /// The module in a file, if it is one this program's loader would take.
    fn load(&self, path: &Path) -> Option<Loading> {
        let source = Source::open(path).ok()?;
        let headers = Headers::read(&source).ok()?;
        let fits = headers.class == self.program.class && crate::Machine::of(&headers) == self.program.machine;
        let dynamic = fits.then(|| Dynamic::read(&source, &headers))?;
        Some(Loading { path: path.canonicalize().ok()?, dynamic })
    }
}

/// The directories of a search path; an empty one is the current directory.
fn directories(path: Option<&OsStr>) -> Vec<PathBuf> {
    let path = path.map(OsStr::to_string_lossy).unwrap_or_default();
    if path.is_empty() {
        return Vec::new();
    }
    let directory = |directory: &str| PathBuf::from(if directory.is_empty() { "." } else { directory });
    path.split([':', ';']).map(directory).collect()
}
