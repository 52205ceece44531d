//! What a library without std must bring itself: an allocator, an answer to panics, and a constructor.

use crate::arena::Arena;
use crate::recorder;

#[global_allocator]
static ARENA: Arena = Arena::new();

/// Everything that could panic runs where `recorder::panicked` can leave it; the loop is for the compiler.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    recorder::panicked();
    loop {
        core::hint::spin_loop();
    }
}

extern "C" fn constructor() {
    crate::hooks::start();
}

#[used]
#[unsafe(link_section = ".init_array")]
static CONSTRUCTOR: extern "C" fn() = constructor;

// The precompiled core library names a personality routine in unwind tables that nothing uses here. Hidden, so that no
// program with a Rust runtime of its own can be given ours.
core::arch::global_asm!(
    ".pushsection .text",
    ".globl rust_eh_personality",
    ".hidden rust_eh_personality",
    "rust_eh_personality:",
    "ud2",
    ".popsection",
);
