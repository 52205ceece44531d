//! Code addresses as people read them: module, offset, and the functions that are there.
//!
//! One address may stand in several functions, because the compiler inlined some into others. All are kept; the one that
//! is shown is the innermost a programmer would call their own. For an allocation that means leaving out what merely
//! passes it on (`operator new`, `std::vector`, `alloc::vec`, `PyMem_Malloc`), since every site of a program would
//! otherwise carry the same name.

use rustc_hash::FxHashMap;
use tierscope_traces::{ModuleRow, SymbolRow, Tables};

/// One frame of a stack.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Frame {
    /// Path of the module; `None` where no module was mapped.
    pub module: Option<String>,
    /// GNU build-id of the module.
    pub build_id: Option<String>,
    /// ELF address in the module, or the absolute one.
    pub offset: u64,
    /// The functions at the address, innermost inlined first; empty where no symbol is known.
    pub functions: Vec<Function>,
}

/// A function at an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Function {
    /// Demangled name.
    pub name: String,
    /// Source file as the compiler named it.
    pub file: Option<String>,
    /// Line in it.
    pub line: Option<u32>,
}

impl Frame {
    /// File name of the module, `?` where there is none.
    #[must_use]
    pub fn module_name(&self) -> &str {
        self.module.as_deref().map_or("?", base_name)
    }

    /// `bc+0x1a2b`.
    #[must_use]
    pub fn location(&self) -> String {
        format!("{}+{:#x}", self.module_name(), self.offset)
    }

    /// The function to show: the innermost that is not plumbing, else the outermost.
    #[must_use]
    pub fn function(&self) -> Option<&Function> {
        self.functions.iter().find(|function| !function.is_plumbing()).or(self.functions.last())
    }

    /// The contract of `report --json`: `bc+0x1a2b BrandesBC bc.cc:88`, as far as it is known.
    #[must_use]
    pub fn describe(&self) -> String {
        let mut text = self.location();
        if let Some(function) = self.function() {
            text.push(' ');
            text.push_str(&function.name);
            if let Some(place) = function.place() {
                text.push(' ');
                text.push_str(&place);
            }
        }
        text
    }

    fn is_plumbing(&self) -> bool {
        match self.function() {
            Some(function) => function.is_plumbing(),
            None => is_library_of_allocators(self.module_name()),
        }
    }
}

impl Function {
    /// Whether it only passes allocations on: by its name, or because it belongs to a language's own library (inlined
    /// functions have their bare name only, and `alloc_zeroed` could be anybody's; its file tells).
    #[must_use]
    pub fn is_plumbing(&self) -> bool {
        const LIBRARIES: [&str; 5] =
            ["/rustc/", "/rustlib/src/rust/library/", "/usr/include/c++/", "/include/c++/v1/", "/libstdc++-v3/"];
        let in_library = |file: &str| LIBRARIES.iter().any(|directory| file.contains(directory));
        is_plumbing(&self.name) || self.file.as_deref().is_some_and(in_library)
    }

    /// `bc.cc:88`, or `bc.cc`.
    #[must_use]
    pub fn place(&self) -> Option<String> {
        let file = base_name(self.file.as_deref()?);
        Some(self.line.map_or_else(|| file.to_owned(), |line| format!("{file}:{line}")))
    }
}

fn base_name(path: &str) -> &str {
    path.trim_end_matches('/').rsplit('/').next().unwrap_or(path)
}

/// The innermost frame that is not plumbing, with its depth; the innermost of all if there is no such frame.
pub(super) fn user_frame(site: &[Frame]) -> Option<(usize, &Frame)> {
    site.iter().enumerate().find(|(_, frame)| !frame.is_plumbing()).or_else(|| site.iter().enumerate().next())
}

/// Whether a function only passes allocations on: allocators, and containers and smart pointers of the standard
/// libraries.
#[must_use]
pub fn is_plumbing(function: &str) -> bool {
    const PREFIXES: [&str; 30] = [
        "std::",
        "__gnu_cxx::",
        "operator new",
        "operator delete",
        "void* std::",
        "alloc::",
        "core::",
        "hashbrown::",
        "<alloc::",
        "<core::",
        "<std::",
        "<hashbrown::",
        "__rust_",
        "__rustc",
        "__rdl_",
        "_PyMem",
        "PyMem_",
        "PyObject_Malloc",
        "PyObject_Calloc",
        "PyObject_Realloc",
        "_PyObject_Malloc",
        "je_",
        "mi_",
        "tc_",
        "PyDataMem_",
        "g_malloc",
        "g_realloc",
        "g_slice_",
        "boost::container",
        "__libc_start",
    ];
    /// Wrappers carry the name of what they wrap: `zmalloc_usable`, `CRYPTO_zalloc`, `sqlite3Realloc`.
    const WRAPPERS: [&str; 4] = ["malloc", "calloc", "realloc", "zalloc"];
    const NAMES: [&str; 20] = [
        "malloc",
        "calloc",
        "realloc",
        "reallocarray",
        "free",
        "posix_memalign",
        "aligned_alloc",
        "memalign",
        "valloc",
        "pvalloc",
        "strdup",
        "strndup",
        "mmap",
        "mmap64",
        "mremap",
        "__mmap",
        "_int_malloc",
        "sysmalloc",
        "xmalloc",
        "xrealloc",
    ];
    let bare = function.split('(').next().unwrap_or(function).trim_end();
    let bare = bare.strip_prefix("__libc_").or_else(|| bare.strip_prefix("__GI_")).unwrap_or(bare);
    let wraps = || {
        let lower = bare.to_ascii_lowercase();
        !bare.contains("::") && WRAPPERS.iter().any(|wrapped| lower.contains(wrapped))
    };
    NAMES.contains(&bare) || PREFIXES.iter().any(|prefix| function.starts_with(prefix)) || wraps()
}

/// Without symbols, the module is all there is to go by.
fn is_library_of_allocators(module: &str) -> bool {
    ["libc.so", "libc-2", "ld-linux", "ld-musl", "libstdc++", "libc++", "libjemalloc", "libtcmalloc", "libmimalloc"]
        .iter()
        .any(|prefix| module.starts_with(prefix))
}

/// Modules and symbols of a profile, by number and address.
pub(super) struct Symbols<'a> {
    modules: FxHashMap<u32, &'a ModuleRow>,
    symbols: FxHashMap<(u32, u64), Vec<&'a SymbolRow>>,
}

impl<'a> Symbols<'a> {
    pub(super) fn new(tables: &'a Tables) -> Self {
        let mut symbols: FxHashMap<(u32, u64), Vec<&SymbolRow>> = FxHashMap::default();
        for row in &tables.symbols {
            symbols.entry((row.module, row.offset)).or_default().push(row);
        }
        for at in symbols.values_mut() {
            at.sort_by_key(|row| row.inline_depth);
        }
        Self { modules: tables.modules.iter().map(|row| (row.module, row)).collect(), symbols }
    }

    pub(super) fn module(&self, module: Option<u32>) -> Option<&'a ModuleRow> {
        self.modules.get(&module?).copied()
    }

    pub(super) fn frame(&self, module: Option<u32>, offset: u64) -> Frame {
        let row = self.module(module);
        let at = module.and_then(|module| self.symbols.get(&(module, offset)));
        Frame {
            module: row.map(|row| row.path.clone()),
            build_id: row.and_then(|row| row.build_id.clone()),
            offset,
            functions: at
                .into_iter()
                .flatten()
                .map(|row| Function { name: row.function.clone(), file: row.file.clone(), line: row.line })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(name: &str, file: Option<&str>) -> Function {
        Function { name: name.into(), file: file.map(Into::into), line: Some(1) }
    }

    #[test]
    fn an_inlined_library_function_gives_way_to_the_one_it_was_inlined_into() {
        let frame = Frame {
            functions: vec![
                function("alloc_zeroed", Some("/rustc/0123/library/alloc/src/alloc.rs")),
                function("allocate_ring", Some("/home/me/ledger.rs")),
            ],
            ..Frame::default()
        };
        assert_eq!(frame.function().unwrap().name, "allocate_ring");
    }

    #[test]
    fn wrappers_of_allocators_pass_on_and_what_only_sounds_like_them_does_not() {
        for name in ["zmalloc_usable", "CRYPTO_zalloc", "sqlite3Realloc", "PyDataMem_UserNEW", "std::vector<int>::push"]
        {
            assert!(is_plumbing(name), "{name}");
        }
        for name in ["allocate_ring", "createStringObject", "app::malloc_report", "main"] {
            assert!(!is_plumbing(name), "{name}");
        }
    }
}
