//! `mmap` and its relatives, as the program calls them; what the C library and the allocators map for themselves is
//! not the program's doing and does not come here, or comes under the guard.
//!
//! A mapping's end is told before it happens, like a block's. A mapping put over another with `MAP_FIXED` ends the
//! other, so that an `Unmap` precedes its `Map`; the agent passes over ranges it knows nothing of.
//!
//! `dlclose` is here because it unmaps modules. `dlopen` is not: it behaves according to who calls it, and through a
//! wrapper that would be us.

use super::{guarded, is_outermost, record};
use crate::arch::{self, Caller, Local, entry, entry_on_stack};
use crate::recorder::{self, Recording};
use crate::{modules, place, real};
use tierscope_wire::{Event, LossKind};

const MAP_FIXED: i32 = 0x10;
const MAP_ANONYMOUS: i32 = 0x20;
const MAP_FIXED_NOREPLACE: i32 = 0x10_0000;
const MREMAP_FIXED: i32 = 2;
const ENOSYS: i32 = 38;
const PAGE: usize = 4096;

/// `MAP_FAILED`, for functions a C library does not have.
fn refuse() -> *mut u8 {
    real::set_errno(ENOSYS);
    usize::MAX as *mut u8
}

fn whole_pages(bytes: usize) -> u64 {
    bytes.checked_next_multiple_of(PAGE).unwrap_or(bytes) as u64
}

/// Runs `before`, the real call and, if that succeeded, `after`, under the guard when the call is the program's own.
fn with_events(
    caller: Caller,
    call: impl Fn() -> *mut u8,
    before: impl FnOnce(&Local),
    place: impl FnOnce(&Local, usize),
    mut after: impl FnMut(&mut Recording<'_>, u64),
) -> *mut u8 {
    let local = arch::local();
    if !is_outermost(local, caller.sp) {
        return call();
    }
    recorder::start();
    guarded(local, caller.sp, || {
        before(local);
        let result = call();
        if result as usize != usize::MAX {
            place(local, result as usize);
            record(local, caller, LossKind::Allocation, |recording| after(recording, result as u64));
        }
        result
    })
}

fn tell_unmapping(local: &Local, caller: Caller, address: *mut u8, bytes: usize) {
    record(local, caller, LossKind::Free, |recording| {
        let time_ns = recorder::now_ns();
        recording.push(&Event::Unmap { time_ns, address: address as u64, bytes: whole_pages(bytes) });
    });
}

/// # Safety
///
/// Of all hooks here: called by their entry stubs, with the arguments of the C function followed by the caller's stack
/// and frame pointers. The real functions are called with what the program passed.
#[allow(clippy::too_many_arguments, reason = "mmap has six")]
unsafe extern "C" fn on_mmap(
    at: *mut u8,
    bytes: usize,
    protection: i32,
    flags: i32,
    file: i32,
    offset: i64,
    sp: usize,
    bp: usize,
) -> *mut u8 {
    let caller = Caller { sp, bp };
    with_events(
        caller,
        // SAFETY: see above.
        || unsafe { real::mmap(at, bytes, protection, flags, file, offset) }.unwrap_or_else(refuse),
        |local| {
            if flags & MAP_FIXED != 0 && flags & MAP_FIXED_NOREPLACE == 0 {
                place::unmapped(at as usize, bytes);
                tell_unmapping(local, caller, at, bytes);
            }
        },
        |local, address| {
            if flags & MAP_ANONYMOUS != 0 {
                place::mapped(local, caller, address, bytes);
            }
        },
        |recording, address| {
            let stack = recording.stack();
            recording.push(&Event::Map {
                time_ns: recorder::now_ns(),
                address,
                bytes: whole_pages(bytes),
                stack,
                protection: protection as u32,
                file_backed: flags & MAP_ANONYMOUS == 0,
            });
        },
    )
}

unsafe extern "C" fn on_munmap(at: *mut u8, bytes: usize, sp: usize, bp: usize) -> i32 {
    let call = || {
        // SAFETY: see `on_mmap`.
        unsafe { real::munmap(at, bytes) }.unwrap_or_else(|| {
            refuse();
            -1
        })
    };
    let (local, caller) = (arch::local(), Caller { sp, bp });
    if !is_outermost(local, sp) {
        return call();
    }
    guarded(local, sp, || {
        // What the kernel refuses for its arguments unmaps nothing.
        if (at as usize).is_multiple_of(PAGE) && bytes != 0 {
            place::unmapped(at as usize, bytes);
            tell_unmapping(local, caller, at, bytes);
        }
        call()
    })
}

/// The sixth argument is the register that `mmap` has its sixth in.
#[allow(clippy::too_many_arguments, reason = "mremap has five")]
unsafe extern "C" fn on_mremap(
    old: *mut u8,
    old_bytes: usize,
    bytes: usize,
    flags: i32,
    at: *mut u8,
    _sixth: usize,
    sp: usize,
    bp: usize,
) -> *mut u8 {
    let caller = Caller { sp, bp };
    with_events(
        caller,
        // SAFETY: see `on_mmap`.
        || unsafe { real::mremap(old, old_bytes, bytes, flags, at) }.unwrap_or_else(refuse),
        |local| {
            if flags & MREMAP_FIXED != 0 {
                tell_unmapping(local, caller, at, bytes);
            }
        },
        // The kernel takes a mapping's nodes along.
        |_, _| {},
        |recording, address| {
            let stack = recording.stack();
            recording.push(&Event::Remap {
                time_ns: recorder::now_ns(),
                old_address: old as u64,
                old_bytes: whole_pages(old_bytes),
                address,
                bytes: whole_pages(bytes),
                stack,
            });
        },
    )
}

unsafe extern "C" fn on_dlclose(handle: *mut u8, _sp: usize, _bp: usize) -> i32 {
    // Where it lives in a library of its own, that may have been loaded since.
    let Some(next) = real::next(c"dlclose") else { return -1 };
    // SAFETY: a C function of this name has this type; the handle is the program's.
    let result = unsafe {
        let dlclose: extern "C" fn(*mut u8) -> i32 = core::mem::transmute(next.address);
        dlclose(handle)
    };
    modules::mark_stale();
    result
}

entry_on_stack!(/** `mmap` */ mmap(at: *mut u8, bytes: usize, protection: i32, flags: i32, file: i32, offset: i64) -> *mut u8 => on_mmap);
entry_on_stack!(/** `mmap` with 64-bit offsets, which are the only ones here */ mmap64(at: *mut u8, bytes: usize, protection: i32, flags: i32, file: i32, offset: i64) -> *mut u8 => on_mmap);
entry_on_stack!(/** `mremap`; the fifth argument is there only with `MREMAP_FIXED` */ mremap(old: *mut u8, old_bytes: usize, bytes: usize, flags: i32, at: *mut u8) -> *mut u8 => on_mremap);
entry!(/** `munmap` */ munmap(at: *mut u8, bytes: usize) -> i32 => on_munmap, "rdx", "rcx");
entry!(/** `dlclose` */ dlclose(handle: *mut u8) -> i32 => on_dlclose, "rsi", "rdx");
