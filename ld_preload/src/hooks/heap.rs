//! The C allocation functions.
//!
//! A block's birth is told after the real call, its death before: else another thread could be handed the address in
//! between and tell of its birth first. `realloc` is told afterwards as one event, because only then is it known what
//! happened; the old address is out of the set of recorded blocks before the call, and back in it if the call failed.
//!
//! Functions that a C library lacks are still exported, and do what their documentation says by way of others: a
//! program that asks the loader for `free_sized` on an older glibc finds one that works.

use super::{guarded, is_outermost, record};
use crate::arch::{self, Caller, Local, entry};
use crate::place::{self, Reallocated};
use crate::real::{self, refuse};
use crate::recorder::{self, TRACKED, decide, large_bytes};
use crate::sys;
use core::ptr::null_mut;
use core::sync::atomic::Ordering::Relaxed;
use tierscope_wire::event::Recorded;
use tierscope_wire::{Event, LossKind};

/// What every block is aligned to.
const LEAST_ALIGNMENT: usize = 16;

/// What an allocation function is called with: who called it, if a block may be placed for them.
pub(super) struct Asked<'l> {
    local: &'l Local,
    caller: Option<Caller>,
}

impl Asked<'_> {
    /// A placed block, or what `real` gives.
    #[inline(always)]
    pub(super) fn serve(
        &self,
        bytes: usize,
        alignment: usize,
        zeroed: bool,
        real: impl FnOnce() -> *mut u8,
    ) -> *mut u8 {
        match place::allocate(self.local, self.caller, bytes, alignment, zeroed) {
            Some(block) => block.as_ptr(),
            None => real(),
        }
    }
}

/// Calls an allocation function for a block of `bytes`, which `block` finds in its result.
#[inline(always)]
pub(super) fn allocate<R>(
    bytes: usize,
    caller: Caller,
    call: impl FnOnce(Asked<'_>) -> R,
    block: impl FnOnce(&R) -> *mut u8,
) -> R {
    let local = arch::local();
    if !is_outermost(local, caller.sp) {
        return call(Asked { local, caller: None });
    }
    let left = local.countdown.load(Relaxed).wrapping_sub(bytes as i64);
    if bytes >= large_bytes() || left < 0 {
        return allocate_slowly(local, bytes, caller, call, block);
    }
    local.countdown.store(left, Relaxed);
    guarded(local, caller.sp, || call(Asked { local, caller: Some(caller) }))
}

#[cold]
#[inline(never)]
fn allocate_slowly<R>(
    local: &Local,
    bytes: usize,
    caller: Caller,
    call: impl FnOnce(Asked<'_>) -> R,
    block: impl FnOnce(&R) -> *mut u8,
) -> R {
    let recorded = decide(local, bytes);
    guarded(local, caller.sp, || {
        let result = call(Asked { local, caller: Some(caller) });
        let address = block(&result) as u64;
        if let Some(recorded) = recorded.filter(|_| address != 0) {
            tell_birth(local, caller, address, bytes, recorded);
        }
        result
    })
}

fn tell_birth(local: &Local, caller: Caller, address: u64, bytes: usize, recorded: Recorded) {
    TRACKED.insert(address);
    record(local, caller, LossKind::Allocation, |recording| {
        let stack = recording.stack();
        let time_ns = recorder::now_ns();
        recording.push(&Event::Allocate { time_ns, address, bytes: bytes as u64, stack, recorded });
    });
}

/// Gives a block back, by `call` if it is not one that was placed.
#[inline(always)]
pub(super) fn release(block: *mut u8, caller: Caller, call: impl FnOnce()) {
    let local = arch::local();
    if TRACKED.may_contain(block as u64) {
        tell_death(local, block, caller);
    }
    let give_back = || {
        if !place::free(block) {
            call();
        }
    };
    if !is_outermost(local, caller.sp) {
        return give_back();
    }
    guarded(local, caller.sp, give_back);
}

#[cold]
#[inline(never)]
fn tell_death(local: &Local, block: *mut u8, caller: Caller) {
    let address = block as u64;
    if address == 0 || !TRACKED.remove(address) {
        return;
    }
    if !is_outermost(local, caller.sp) {
        recorder::lose_at_once(LossKind::Free);
        return;
    }
    guarded(local, caller.sp, || {
        record(local, caller, LossKind::Free, |recording| {
            recording.push(&Event::Free { time_ns: recorder::now_ns(), address });
        });
    });
}

/// Replaces a block by one of `bytes`, by `call`.
#[inline(always)]
fn reallocate(block: *mut u8, bytes: usize, caller: Caller, real: impl FnOnce() -> *mut u8) -> *mut u8 {
    let local = arch::local();
    let asked = is_outermost(local, caller.sp).then_some(caller);
    let call = || match place::reallocate(local, asked, block, bytes) {
        Reallocated::Done(result) => result,
        Reallocated::NotOurs => real(),
    };
    let may_be_known = TRACKED.may_contain(block as u64) && !block.is_null();
    let left = local.countdown.load(Relaxed).wrapping_sub(bytes as i64);
    let outermost = asked.is_some();
    if may_be_known || (outermost && (bytes >= large_bytes() || left < 0)) {
        return reallocate_slowly(local, block, bytes, caller, call, outermost);
    }
    if !outermost {
        return call();
    }
    local.countdown.store(left, Relaxed);
    guarded(local, caller.sp, call)
}

#[cold]
#[inline(never)]
fn reallocate_slowly(
    local: &Local,
    block: *mut u8,
    bytes: usize,
    caller: Caller,
    call: impl FnOnce() -> *mut u8,
    outermost: bool,
) -> *mut u8 {
    let old = block as u64;
    let recorded = if outermost { decide(local, bytes) } else { None };
    let known = old != 0 && TRACKED.may_contain(old) && TRACKED.remove(old);
    let replace = || {
        let result = call();
        // With a size of 0 some allocators free the block and return null; with any other, null means failure.
        if known && result.is_null() && bytes != 0 {
            TRACKED.insert(old);
        }
        result
    };
    if !outermost {
        let result = replace();
        if known && (!result.is_null() || bytes == 0) {
            recorder::lose_at_once(LossKind::Free);
        }
        return result;
    }
    guarded(local, caller.sp, || {
        let result = replace();
        tell_replacement(local, caller, known.then_some(old), old != 0, result as u64, bytes, recorded);
        result
    })
}

fn tell_replacement(
    local: &Local,
    caller: Caller,
    old: Option<u64>,
    had_old: bool,
    address: u64,
    bytes: usize,
    recorded: Option<Recorded>,
) {
    match (old, recorded) {
        (Some(old), _) if address == 0 => {
            if bytes == 0 {
                record(local, caller, LossKind::Free, |recording| {
                    recording.push(&Event::Free { time_ns: recorder::now_ns(), address: old });
                });
            }
        }
        (None, None) => {}
        (None, Some(_)) if address == 0 => {}
        (None, Some(recorded)) if !had_old => tell_birth(local, caller, address, bytes, recorded),
        (old, recorded) => {
            if recorded.is_some() {
                TRACKED.insert(address);
            }
            record(local, caller, LossKind::Allocation, |recording| {
                let stack = recording.stack();
                let time_ns = recorder::now_ns();
                recording.push(&Event::Reallocate {
                    time_ns,
                    old_address: old.unwrap_or(0),
                    address: if recorded.is_some() { address } else { 0 },
                    bytes: bytes as u64,
                    stack,
                    recorded: recorded.unwrap_or(Recorded::Always),
                });
            });
        }
    }
}

fn itself(block: &*mut u8) -> *mut u8 {
    *block
}

/// # Safety
///
/// Of all hooks here: called by their entry stubs, with the arguments of the C function followed by the caller's stack
/// and frame pointers. The real functions are called with what the program passed.
unsafe extern "C" fn on_malloc(bytes: usize, sp: usize, bp: usize) -> *mut u8 {
    // SAFETY: see above.
    let real = || unsafe { real::malloc(bytes) }.unwrap_or_else(refuse);
    allocate(bytes, Caller { sp, bp }, |asked| asked.serve(bytes, LEAST_ALIGNMENT, false, real), itself)
}

unsafe extern "C" fn on_calloc(count: usize, bytes: usize, sp: usize, bp: usize) -> *mut u8 {
    let total = count.saturating_mul(bytes);
    // SAFETY: see `on_malloc`.
    let real = || unsafe { real::calloc(count, bytes) }.unwrap_or_else(refuse);
    allocate(total, Caller { sp, bp }, |asked| asked.serve(total, LEAST_ALIGNMENT, true, real), itself)
}

unsafe extern "C" fn on_free(block: *mut u8, sp: usize, bp: usize) {
    // SAFETY: see `on_malloc`.
    release(block, Caller { sp, bp }, || unsafe { real::free(block) }.unwrap_or(()));
}

unsafe extern "C" fn on_cfree(block: *mut u8, sp: usize, bp: usize) {
    // SAFETY: see `on_malloc`.
    release(block, Caller { sp, bp }, || unsafe { real::cfree(block).or_else(|| real::free(block)) }.unwrap_or(()));
}

unsafe extern "C" fn on_free_sized(block: *mut u8, bytes: usize, sp: usize, bp: usize) {
    // SAFETY: see `on_malloc`.
    release(block, Caller { sp, bp }, || {
        // SAFETY: see `on_malloc`.
        unsafe { real::free_sized(block, bytes).or_else(|| real::free(block)) }.unwrap_or(());
    });
}

unsafe extern "C" fn on_free_aligned_sized(block: *mut u8, alignment: usize, bytes: usize, sp: usize, bp: usize) {
    // SAFETY: see `on_malloc`.
    release(block, Caller { sp, bp }, || {
        // SAFETY: see `on_malloc`.
        unsafe { real::free_aligned_sized(block, alignment, bytes).or_else(|| real::free(block)) }.unwrap_or(());
    });
}

unsafe extern "C" fn on_realloc(block: *mut u8, bytes: usize, sp: usize, bp: usize) -> *mut u8 {
    // SAFETY: see `on_malloc`.
    reallocate(block, bytes, Caller { sp, bp }, || unsafe { real::realloc(block, bytes) }.unwrap_or_else(refuse))
}

unsafe extern "C" fn on_reallocarray(block: *mut u8, count: usize, bytes: usize, sp: usize, bp: usize) -> *mut u8 {
    let total = count.checked_mul(bytes);
    reallocate(block, total.unwrap_or(usize::MAX), Caller { sp, bp }, || {
        // SAFETY: see `on_malloc`.
        unsafe { real::reallocarray(block, count, bytes).or_else(|| real::realloc(block, total?)) }
            .unwrap_or_else(refuse)
    })
}

/// Aligned memory by whatever the C library has.
pub(super) unsafe fn aligned(alignment: usize, bytes: usize) -> *mut u8 {
    // SAFETY: see `on_malloc`.
    unsafe { real::memalign(alignment, bytes).or_else(|| real::aligned_alloc(alignment, bytes)) }.unwrap_or_else(refuse)
}

unsafe extern "C" fn on_memalign(alignment: usize, bytes: usize, sp: usize, bp: usize) -> *mut u8 {
    // SAFETY: see `on_malloc`.
    let real = || unsafe { aligned(alignment, bytes) };
    allocate(bytes, Caller { sp, bp }, |asked| asked.serve(bytes, alignment, false, real), itself)
}

unsafe extern "C" fn on_aligned_alloc(alignment: usize, bytes: usize, sp: usize, bp: usize) -> *mut u8 {
    // SAFETY: see `on_malloc`.
    let real = || unsafe { real::aligned_alloc(alignment, bytes) }.unwrap_or_else(refuse);
    allocate(bytes, Caller { sp, bp }, |asked| asked.serve(bytes, alignment, false, real), itself)
}

unsafe extern "C" fn on_posix_memalign(
    into: *mut *mut u8,
    alignment: usize,
    bytes: usize,
    sp: usize,
    bp: usize,
) -> i32 {
    // SAFETY: see `on_malloc`; on success the function has stored the block.
    unsafe {
        allocate(
            bytes,
            Caller { sp, bp },
            |asked| {
                let mut result = 0;
                // What is refused for its arguments is refused by who knows how.
                let mut real = || {
                    result = real::posix_memalign(into, alignment, bytes).unwrap_or(sys::EINVAL);
                    null_mut()
                };
                let valid = alignment.is_power_of_two() && alignment >= size_of::<usize>();
                let block = if valid { asked.serve(bytes, alignment, false, real) } else { real() };
                if !block.is_null() {
                    *into = block;
                }
                result
            },
            |result| if *result == 0 { *into } else { null_mut() },
        )
    }
}

const PAGE: usize = 4096;

unsafe extern "C" fn on_valloc(bytes: usize, sp: usize, bp: usize) -> *mut u8 {
    // SAFETY: see `on_malloc`.
    let real = || unsafe { real::valloc(bytes).unwrap_or_else(|| aligned(PAGE, bytes)) };
    allocate(bytes, Caller { sp, bp }, |asked| asked.serve(bytes, PAGE, false, real), itself)
}

unsafe extern "C" fn on_pvalloc(bytes: usize, sp: usize, bp: usize) -> *mut u8 {
    let whole = bytes.checked_next_multiple_of(PAGE).unwrap_or(bytes);
    // SAFETY: see `on_malloc`.
    let real = || unsafe { real::pvalloc(bytes).unwrap_or_else(|| aligned(PAGE, whole)) };
    allocate(whole, Caller { sp, bp }, |asked| asked.serve(whole, PAGE, false, real), itself)
}

unsafe extern "C" fn on_malloc_usable_size(block: *mut u8, _sp: usize, _bp: usize) -> usize {
    // SAFETY: see `on_malloc`.
    place::usable_bytes(block).unwrap_or_else(|| unsafe { real::malloc_usable_size(block) }.unwrap_or(0))
}

entry!(/** `malloc` */ malloc(bytes: usize) -> *mut u8 => on_malloc, "rsi", "rdx");
entry!(/** `calloc` */ calloc(count: usize, bytes: usize) -> *mut u8 => on_calloc, "rdx", "rcx");
entry!(/** `realloc` */ realloc(block: *mut u8, bytes: usize) -> *mut u8 => on_realloc, "rdx", "rcx");
entry!(/** `reallocarray` */ reallocarray(block: *mut u8, count: usize, bytes: usize) -> *mut u8 => on_reallocarray, "rcx", "r8");
entry!(/** `memalign` */ memalign(alignment: usize, bytes: usize) -> *mut u8 => on_memalign, "rdx", "rcx");
entry!(/** `aligned_alloc` */ aligned_alloc(alignment: usize, bytes: usize) -> *mut u8 => on_aligned_alloc, "rdx", "rcx");
entry!(/** `posix_memalign` */ posix_memalign(into: *mut *mut u8, alignment: usize, bytes: usize) -> i32 => on_posix_memalign, "rcx", "r8");
entry!(/** `valloc` */ valloc(bytes: usize) -> *mut u8 => on_valloc, "rsi", "rdx");
entry!(/** `pvalloc` */ pvalloc(bytes: usize) -> *mut u8 => on_pvalloc, "rsi", "rdx");
entry!(/** `free` */ free(block: *mut u8) => on_free, "rsi", "rdx");
entry!(/** `malloc_usable_size` */ malloc_usable_size(block: *mut u8) -> usize => on_malloc_usable_size, "rsi", "rdx");
entry!(/** `cfree`, of old C libraries */ cfree(block: *mut u8) => on_cfree, "rsi", "rdx");
entry!(/** `free_sized` of C23 */ free_sized(block: *mut u8, bytes: usize) => on_free_sized, "rdx", "rcx");
entry!(/** `free_aligned_sized` of C23 */ free_aligned_sized(block: *mut u8, alignment: usize, bytes: usize) => on_free_aligned_sized, "rcx", "r8");
