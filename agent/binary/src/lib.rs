//! What Tierscope reads from ELF files.
//!
//! - [`Module`]: an executable or library: build-id, segments, code bytes, function bounds, global variables.
//! - [`Symbolizer`]: function, file and line of addresses in modules, inlined frames included, after a recording and
//!   on another machine if need be.
//! - [`Program`]: what a command will really run, with which libraries, and whether the preload shim can get into it.
//! - [`CallSite`]: the calls in a function, found by its name: where a return address of a rebuilt module went.
//! - [`short_name`]: C++ and Rust names cut to the width of a table.
//!
//! Files are hostile until proved otherwise: they belong to other users, change while we read and are cut short by full
//! disks. Every read is bounded by the file's length, every number is checked before it is used, and work is linear in
//! the size of the file. What is broken is absent; only a file that is no ELF at all, or whose program headers are
//! outside it, is an error.
//!
//! Without the feature `code` (on by default) there are no functions, calls and source lines, and none of the crates they need:
//! modules, globals and programs are what the simulator's plugin takes.
//!
//! Not here: running processes (`/proc`), anything written, anything fetched from a network (debuginfod), DWARF beyond
//! function bounds (blazesym reads it for the symboliser).

#[cfg(feature = "code")]
mod calls;
mod debug_files;
mod demangle;
mod dynamic;
mod error;
#[cfg(feature = "code")]
mod functions;
mod globals;
mod headers;
mod libraries;
mod loader_cache;
mod machine;
mod module;
mod notes;
mod preload;
mod program;
mod secure;
mod short_name;
mod source;
#[cfg(feature = "code")]
mod symbolize;
mod symbols;

#[cfg(feature = "code")]
pub use calls::CallSite;
pub use debug_files::DebugDirs;
pub use demangle::demangled;
pub use error::BinaryError;
pub use globals::Global;
pub use headers::Class;
pub use libraries::{Library, LoaderEnvironment};
pub use machine::Machine;
pub use module::{Module, Section, Segment};
pub use preload::{NotLoadable, PreloadVerdict};
pub use program::{Libc, Linkage, Program, ProgramError};
pub use secure::SecureReason;
pub use short_name::short_name;
#[cfg(feature = "code")]
pub use symbolize::{AddressKind, ModuleRef, Origin, SymbolFrame, Symbolizer};
