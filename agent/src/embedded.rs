//! What the executable carries with it, so that one file is the whole installation.

/// The preload shim, a shared library.
pub const SHIM: &[u8] = include_bytes!(env!("TIERSCOPE_SHIM"));

/// The tracer, a plugin of the emulator that simulates.
pub const TRACER: &[u8] = include_bytes!(env!("TIERSCOPE_TRACER"));

/// The workloads program that `tierscope demo` records.
pub const WORKLOADS: &[u8] = include_bytes!(env!("TIERSCOPE_WORKLOADS"));
