//! x86-64: system calls, the thread-local block, entry stubs, containment of panics.
//!
//! An entry stub jumps to its hook with two more arguments than the function has: the stack pointer as it was at entry
//! and the frame pointer. The hook thus knows its caller's frame exactly, whatever the compiler made of the hook
//! itself, and unwinding starts outside our own code. Registers beyond a function's own arguments are the callee's to
//! use, so the real function may be entered with them set.
//!
//! The thread-local block is reached by the initial-exec model, which a library loaded at start may use: two
//! instructions, no call into the loader, nothing to allocate and nothing to destroy.

use super::Local;
use core::arch::{asm, global_asm, naked_asm};

global_asm!(
    ".pushsection .tbss.tierscope_local,\"awT\",@nobits",
    ".balign 64",
    ".globl tierscope_local",
    ".hidden tierscope_local",
    ".type tierscope_local,@object",
    ".size tierscope_local,64",
    "tierscope_local:",
    ".zero 64",
    ".popsection",
);

const _: () = assert!(size_of::<Local>() == 64 && align_of::<Local>() == 64);

/// The calling thread's block.
#[inline(always)]
pub(crate) fn local() -> &'static Local {
    let address: usize;
    // SAFETY: fs:0 holds the thread pointer by the ABI; the block lies at a constant offset from it, is zeroed, as large
    // and as aligned as `Local`, and lives as long as the thread that asks.
    unsafe {
        asm!(
            "mov {0}, qword ptr fs:[0]",
            "add {0}, qword ptr [rip + tierscope_local@GOTTPOFF]",
            out(reg) address,
            options(pure, readonly, nostack),
        );
        &*(address as *const Local)
    }
}

/// The thread pointer. On every Linux C library it lies inside the stack mapping of a thread that is not the first.
pub(crate) fn thread_pointer() -> usize {
    let address: usize;
    // SAFETY: reads the word that the ABI says holds the thread pointer.
    unsafe { asm!("mov {0}, qword ptr fs:[0]", out(reg) address, options(pure, readonly, nostack)) };
    address
}

/// A cycle counter, to seed random numbers with.
pub(crate) fn ticks() -> u64 {
    let (low, high): (u64, u64);
    // SAFETY: reads a counter.
    unsafe { asm!("rdtsc", out("rax") low, out("rdx") high, options(nomem, nostack)) };
    high << 32 | low
}

/// A system call. Negative results are error numbers; the C library's `errno` is not touched.
///
/// # Safety
///
/// As the call itself demands.
#[inline]
pub(crate) unsafe fn syscall(number: usize, arguments: [usize; 6]) -> isize {
    let result: isize;
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: the kernel clobbers rax, rcx and r11 only; memory effects are the caller's business.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    result
}

/// The address of a symbol of the C library's that need not exist; 0 when it does not.
macro_rules! weak_symbol {
    ($name:literal) => {{
        let address: usize;
        // SAFETY: loads a word of our own global offset table, which the loader filled in before any of our code ran.
        unsafe {
            core::arch::asm!(
                concat!(".weak ", $name),
                concat!("mov {0}, qword ptr [rip + ", $name, "@GOTPCREL]"),
                out(reg) address,
                options(pure, readonly, nostack, preserves_flags),
            );
        }
        address
    }};
}
pub(crate) use weak_symbol;

/// Address of our own dynamic section, by which we know ourselves in the loader's list.
pub(crate) fn own_dynamic() -> usize {
    let address: usize;
    // SAFETY: computes an address within our own image.
    unsafe {
        asm!(".hidden _DYNAMIC", "lea {0}, [rip + _DYNAMIC]", out(reg) address, options(pure, nomem, nostack));
    }
    address
}

/// First address of our own image, and one past the last of its instructions.
pub(crate) fn own_text() -> (usize, usize) {
    let (start, end): (usize, usize);
    // SAFETY: computes addresses within our own image; every linker defines both names.
    unsafe {
        asm!(
            ".hidden __ehdr_start",
            ".hidden _etext",
            "lea {0}, [rip + __ehdr_start]",
            "lea {1}, [rip + _etext]",
            out(reg) start, out(reg) end,
            options(pure, nomem, nostack),
        );
    }
    (start, end)
}

/// Calls `function(data)`, and returns also when [`escape`] is called in it. What it left half done stays half done.
///
/// # Safety
///
/// `function(data)` must be sound to call, and to abandon at any point where it may panic. `resume` is written until
/// the call is over.
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn contain(
    function: unsafe extern "C" fn(*mut u8),
    data: *mut u8,
    resume: *const core::sync::atomic::AtomicUsize,
) {
    naked_asm!(
        ".cfi_startproc",
        "push rbp",
        ".cfi_def_cfa_offset 16",
        ".cfi_offset rbp, -16",
        "mov rbp, rsp",
        ".cfi_def_cfa_register rbp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "push rdx",
        "mov [rdx], rsp",
        "mov rax, rdi",
        "mov rdi, rsi",
        "call rax",
        "pop rdx",
        "mov qword ptr [rdx], 0",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        ".cfi_def_cfa rsp, 8",
        "ret",
        ".cfi_endproc",
    )
}

/// Calls `function(data)` on the stack that ends at `top`.
///
/// # Safety
///
/// `function(data)` must be sound to call, and `top` the 16-byte aligned end of memory that nobody else uses and that is
/// large enough for it.
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn on_stack(function: unsafe extern "C" fn(*mut u8), data: *mut u8, top: *mut u8) {
    naked_asm!(
        ".cfi_startproc",
        "push rbp",
        ".cfi_def_cfa_offset 16",
        ".cfi_offset rbp, -16",
        "mov rbp, rsp",
        ".cfi_def_cfa_register rbp",
        "mov rsp, rdx",
        "mov rax, rdi",
        "mov rdi, rsi",
        "call rax",
        "mov rsp, rbp",
        "pop rbp",
        ".cfi_def_cfa rsp, 8",
        "ret",
        ".cfi_endproc",
    )
}

/// Leaves the innermost [`contain`], whose `resume` word held `stack`.
///
/// # Safety
///
/// That call must still be in progress on this thread.
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn escape(stack: usize) -> ! {
    naked_asm!(
        "mov rsp, rdi",
        "pop rdx",
        "mov qword ptr [rdx], 0",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
    )
}

/// Defines the exported function `$name` as a stub that enters `$hook` with the caller's stack and frame pointers as
/// further arguments, in registers (functions of up to four arguments).
macro_rules! entry {
    ($(#[$doc:meta])* $name:ident($($argument:ident: $type:ty),*) $(-> $result:ty)? => $hook:path, $sp:literal, $bp:literal) => {
        $(#[$doc])*
        #[unsafe(naked)]
        #[cfg_attr(all(feature = "export", not(test)), unsafe(no_mangle))]
        pub(crate) unsafe extern "C" fn $name($($argument: $type),*) $(-> $result)? {
            core::arch::naked_asm!(
                ".cfi_startproc",
                concat!("mov ", $sp, ", rsp"),
                concat!("mov ", $bp, ", rbp"),
                "jmp {hook}",
                ".cfi_endproc",
                hook = sym $hook,
            )
        }
    };
}
pub(crate) use entry;

/// Like [`entry`], through a word that holds the address to jump to, or 0 for `$hook`.
macro_rules! entry_through {
    ($(#[$doc:meta])* $name:ident($($argument:ident: $type:ty),*) $(-> $result:ty)? => $slot:path, $hook:path, $sp:literal, $bp:literal) => {
        $(#[$doc])*
        #[unsafe(naked)]
        #[cfg_attr(all(feature = "export", not(test)), unsafe(no_mangle))]
        pub(crate) unsafe extern "C" fn $name($($argument: $type),*) $(-> $result)? {
            core::arch::naked_asm!(
                ".cfi_startproc",
                concat!("mov ", $sp, ", rsp"),
                concat!("mov ", $bp, ", rbp"),
                "mov rax, qword ptr [rip + {slot}]",
                "test rax, rax",
                "je {hook}",
                "jmp rax",
                ".cfi_endproc",
                slot = sym $slot,
                hook = sym $hook,
            )
        }
    };
}
pub(crate) use entry_through;

/// Like [`entry`] for five and six arguments: both pointers go on the stack, behind a frame of their own.
macro_rules! entry_on_stack {
    ($(#[$doc:meta])* $name:ident($($argument:ident: $type:ty),*) -> $result:ty => $hook:path) => {
        $(#[$doc])*
        #[unsafe(naked)]
        #[cfg_attr(all(feature = "export", not(test)), unsafe(no_mangle))]
        pub(crate) unsafe extern "C" fn $name($($argument: $type),*) -> $result {
            core::arch::naked_asm!(
                ".cfi_startproc",
                "push rbp",
                ".cfi_adjust_cfa_offset 8",
                ".cfi_rel_offset rbp, 0",
                "lea rax, [rsp + 8]",
                "push rbp",
                ".cfi_adjust_cfa_offset 8",
                "push rax",
                ".cfi_adjust_cfa_offset 8",
                "call {hook}",
                "add rsp, 16",
                ".cfi_adjust_cfa_offset -16",
                "pop rbp",
                ".cfi_adjust_cfa_offset -8",
                ".cfi_restore rbp",
                "ret",
                ".cfi_endproc",
                hook = sym $hook,
            )
        }
    };
}
pub(crate) use entry_on_stack;

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn each_thread_has_a_zeroed_block_of_its_own() {
        let here = local() as *const Local as usize;
        let there = std::thread::spawn(|| {
            assert_eq!(local().countdown.load(Ordering::Relaxed), 0);
            local() as *const Local as usize
        });
        assert_ne!(here, there.join().unwrap());
        assert_eq!(here % 64, 0);
    }

    unsafe extern "C" fn gives_up(data: *mut u8) {
        // SAFETY: `data` is the word below; we are inside `contain`.
        unsafe {
            let word = &*data.cast::<AtomicUsize>();
            escape(word.load(Ordering::Relaxed));
        }
    }

    unsafe extern "C" fn where_am_i(data: *mut u8) {
        let here = 0_u8;
        // SAFETY: `data` is the word below.
        unsafe { data.cast::<usize>().write((&raw const here) as usize) }
    }

    #[test]
    fn a_function_runs_on_the_stack_it_is_given() {
        let mut memory = vec![0_u128; 16 << 10];
        let range = memory.as_mut_ptr_range();
        let mut seen = 0_usize;
        // SAFETY: 256 KiB of our own.
        unsafe { on_stack(where_am_i, (&raw mut seen).cast(), range.end.cast()) };
        assert!((range.start as usize..range.end as usize).contains(&seen));
    }

    #[test]
    fn an_escape_returns_to_the_boundary() {
        let word = AtomicUsize::new(0);
        for _ in 0..3 {
            // SAFETY: `gives_up` holds nothing that would be left undone.
            unsafe { contain(gives_up, (&raw const word).cast_mut().cast(), &word) };
            assert_eq!(word.load(Ordering::Relaxed), 0);
        }
    }
}
