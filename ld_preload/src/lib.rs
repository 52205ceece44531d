//! The preload shim: records a program's allocations from inside it, and places them.
//!
//! Loaded by `LD_PRELOAD`, it stands in front of the allocator of whatever program it finds itself in. It tells the agent
//! through shared memory ([`tierscope_wire`]) which call stack allocated which block and when it died; and where a policy
//! says that a block belongs in some tier of memory, it serves the block from there (`place`). Both, either or neither.
//!
//! # Promises to the program
//!
//! * It never allocates through the hooked path: what it needs comes from its own mappings (`arena`).
//! * It never waits to record: every lock is one that is tried once, every shared structure tolerates a thread that died in the
//!   middle of using it, and a full ring costs the event and is counted.
//!   Placing is an allocator's work, and waits as allocators do: for another thread that is inside the same arena.
//! * It never prints and never ends the program. A panic inside the shim is caught at the hook's boundary and turns
//!   recording off (`arch::contain`).
//! * It imports nothing that must exist. Real functions are found by walking the loader's list of modules (`real`),
//!   system calls are made directly (`sys`), so that one file serves glibc of any age and musl.
//! * It keeps no descriptor open (but one for each tier that is a file), and sets `errno` only where the function it stands in for would have.
//!
//! # How a call goes
//!
//! An entry stub in assembly (`arch`) hands the caller's stack and frame pointers to the hook (`hooks`). The fast path
//! counts bytes down to the next sample (`sampling`) or asks whether a block to be freed was recorded (`tracked`), and
//! calls the real function. The slow path takes a stack (`unwind`, with the modules known to `modules`), interns it
//! (`intern`) and writes the event to the thread's ring (`recorder`, `thread`). Whether the block is placed is asked where
//! the real function would be called.
//!
//! Under the simulator (`trace=1`) nobody shares memory with us: every block is told by system calls that do nothing, and that
//! a tracer sees (`marked`).
//!
//! # Non-goals
//!
//! Recording what is allocated without passing through a dynamic symbol: an allocator linked statically into the
//! program shows only by its mappings.

#![cfg_attr(all(feature = "export", not(test)), no_std)]
#![cfg_attr(not(feature = "export"), allow(dead_code, reason = "the hooks are the users, and are exported or tested"))]

extern crate alloc;

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
compile_error!("the shim knows x86-64 Linux; a port is a new file beside arch/x86_64.rs");

mod arch;
mod arena;
mod bounds;
mod elf;
mod environment;
mod hooks;
mod intern;
mod maps;
mod marked;
mod memo;
mod modules;
mod place;
mod real;
mod recorder;
mod sampling;
mod segment;
mod sys;
mod thread;
mod trace;
mod tracked;
mod unwind;

#[cfg(all(feature = "export", not(test)))]
mod standalone;
