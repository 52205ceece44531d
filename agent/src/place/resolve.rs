//! What a policy's names are in the program as it is now: the agent's side of [`tierscope_policy::compile`].
//!
//! A module is looked for by file name, among what the program is started with: the executable, the libraries its loader maps,
//! and programs of the policy that the command names as arguments (`timeout 60 ./app`). A program that was copied under
//! another name is known by its build-id. What is not among them (plugins) may be loaded later, and is left to the shim,
//! which compares build-ids.
//!
//! Functions are looked up only in modules that were rebuilt, and for all of the policy's names at once, since naming every
//! call of a large program takes seconds.

use crate::units::hex;
use std::cell::{OnceCell, RefCell};
use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::ops::Range;
use std::path::{Path, PathBuf};

use tierscope_binary::{CallSite, LoaderEnvironment, Module, Program, Symbolizer};
use tierscope_policy::{FrameName, ModuleFile, Policy, Resolve};

/// The files of a program, opened as they are asked for.
pub(super) struct Files<'a> {
    policy: &'a Policy,
    /// The executable first.
    entries: Vec<Entry>,
    symbolizer: RefCell<Symbolizer>,
}

struct Entry {
    /// File name, links followed: the name a process shows it by.
    name: String,
    /// What it was asked for by.
    alias: String,
    path: PathBuf,
    is_program: bool,
    module: OnceCell<Option<Module>>,
    places: OnceCell<Places>,
}

/// Where functions of the policy are in a module.
#[derive(Debug, Default)]
struct Places {
    calls: HashMap<String, Vec<CallSite>>,
    functions: HashMap<String, Vec<Range<u64>>>,
}

impl Entry {
    fn new(path: &Path, alias: &str, is_program: bool) -> Self {
        let path = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
        let (name, alias) = (file_name(path.as_os_str()), file_name(alias.as_ref()));
        Entry { name, alias, path, is_program, module: OnceCell::new(), places: OnceCell::new() }
    }

    fn module(&self) -> Option<&Module> {
        self.module.get_or_init(|| Module::open(&self.path).ok()).as_ref()
    }
}

fn file_name(path: &OsStr) -> String {
    Path::new(path).file_name().unwrap_or_default().to_string_lossy().into_owned()
}

impl<'a> Files<'a> {
    /// The files of `command`, whose first word is `program`.
    pub(super) fn of(policy: &'a Policy, program: &Program, command: &[OsString]) -> Self {
        let mut files = Files { policy, entries: Vec::new(), symbolizer: RefCell::default() };
        files.add(program);
        let mentioned = files.mentioned();
        for argument in command.iter().skip(1).filter(|argument| mentioned.contains(&file_name(argument))) {
            if let Ok(program) = Program::find(argument) {
                files.add(&program);
            }
        }
        files
    }

    fn add(&mut self, program: &Program) {
        self.entries.push(Entry::new(&program.path, &program.path.to_string_lossy(), true));
        let (library_path, preload) = (std::env::var_os("LD_LIBRARY_PATH"), std::env::var_os("LD_PRELOAD"));
        let environment = LoaderEnvironment { library_path: library_path.as_deref(), preload: preload.as_deref() };
        let (libraries, _) = program.libraries(environment);
        self.entries.extend(libraries.iter().map(|library| Entry::new(&library.path, &library.name, false)));
    }

    /// File names of the modules that the policy speaks of.
    fn mentioned(&self) -> HashSet<String> {
        let sites = self.policy.rules.iter().flat_map(|rule| rule.site.iter().map(|entry| entry.module.clone()));
        let globals = self.policy.rules.iter().filter_map(|rule| rule.module.clone());
        sites.chain(globals).chain(self.policy.program.name.clone()).collect()
    }

    /// Whether the program the policy was made for is among the files, or the policy does not say which it was.
    pub(super) fn has_its_program(&self) -> bool {
        self.policy.program.name.as_deref().is_none_or(|name| self.find(name).is_some_and(|entry| entry.is_program))
    }

    fn find(&self, name: &str) -> Option<&Entry> {
        let by_name = self.entries.iter().find(|entry| entry.name == name);
        let by_alias = || self.entries.iter().find(|entry| entry.alias == name);
        let by_build_id = || {
            let wanted = self.policy.program.build_id_of(name)?;
            let same = |entry: &&Entry| entry.module().and_then(Module::build_id).is_some_and(|id| hex(id) == wanted);
            self.entries.iter().filter(|entry| entry.is_program).find(same)
        };
        by_name.or_else(by_alias).or_else(by_build_id)
    }

    /// What the policy calls frames in this file.
    fn functions_wanted(&self, entry: &Entry) -> HashSet<String> {
        let frames = self.policy.rules.iter().flat_map(|rule| rule.site.iter().zip(&rule.frames));
        let here = frames.filter(|(site, _)| self.find(&site.module).is_some_and(|found| std::ptr::eq(found, entry)));
        here.map(|(_, name)| FrameName::function(name).to_owned()).filter(|name| !name.is_empty()).collect()
    }

    fn places<'b>(&'b self, entry: &'b Entry, module: &Module) -> &'b Places {
        entry.places.get_or_init(|| {
            let wanted = self.functions_wanted(entry);
            let functions = module.functions_named(&wanted);
            Places { calls: self.symbolizer.borrow_mut().call_sites(module, &wanted), functions }
        })
    }
}

impl Resolve for Files<'_> {
    fn module(&self, name: &str) -> Option<ModuleFile> {
        let entry = self.find(name)?;
        let module = entry.module()?;
        Some(ModuleFile {
            build_id: module.build_id().unwrap_or_default().to_vec(),
            is_program: entry.is_program,
            real_name: (entry.name != name).then(|| entry.name.clone()),
        })
    }

    fn return_addresses(&self, module: &str, function: &str, place: Option<(&str, u32)>) -> Vec<(u64, u64)> {
        let Some((entry, module)) = self.find(module).and_then(|entry| Some((entry, entry.module()?))) else {
            return Vec::new();
        };
        let places = self.places(entry, module);
        let calls = places.calls.get(function).map(Vec::as_slice).unwrap_or_default();
        let exactly = |call: &CallSite| (call.return_address, call.return_address.saturating_add(1));
        if let Some((file, line)) = place {
            let there = |call: &&CallSite| {
                call.line == Some(line) && call.file.as_deref().is_some_and(|path| file_name(path.as_ref()) == file)
            };
            return calls.iter().filter(there).map(exactly).collect();
        }
        // A return address is behind a call: never at the function's first byte, and maybe one past its last.
        let whole = places.functions.get(function).map(Vec::as_slice).unwrap_or_default();
        let mut ranges: Vec<(u64, u64)> =
            whole.iter().map(|range| (range.start.saturating_add(1), range.end.saturating_add(1))).collect();
        let elsewhere =
            |call: &&CallSite| !whole.iter().any(|range| range.contains(&call.return_address.saturating_sub(1)));
        ranges.extend(calls.iter().filter(elsewhere).map(exactly));
        ranges
    }

    fn globals(&self, module: &str, symbol: &str) -> Vec<(u64, u64)> {
        let Some(found) = self.find(module).and_then(Entry::module) else { return Vec::new() };
        let wanted = self.policy.program.build_id_of(module);
        let same_build = wanted.is_none_or(|wanted| found.build_id().is_some_and(|id| hex(id) == wanted));
        // What has no symbol is called by its place in a section, which is another one in another build.
        let fits = |global: &&tierscope_binary::Global| global.name == symbol && (global.named || same_build);
        found.globals().iter().filter(fits).map(|global| (global.vaddr, global.bytes)).collect()
    }

    fn program(&self) -> Option<String> {
        self.entries.first().map(|entry| entry.name.clone())
    }
}
