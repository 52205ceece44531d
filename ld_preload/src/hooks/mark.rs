//! `tierscope_mark`: the program says that a phase begins.

use super::{guarded, is_outermost, record};
use crate::arch::{self, Caller, entry};
use crate::recorder;
use core::ffi::{CStr, c_char};
use tierscope_wire::{Event, LossKind};

/// # Safety
///
/// Called by its entry stub; `name` is a terminated string or null.
unsafe extern "C" fn on_mark(name: *const c_char, sp: usize, bp: usize) {
    let local = arch::local();
    if name.is_null() || !is_outermost(local, sp) {
        return;
    }
    recorder::start();
    // SAFETY: see above.
    let name = unsafe { CStr::from_ptr(name) }.to_bytes();
    guarded(local, sp, || {
        record(local, Caller { sp, bp }, LossKind::Other, |recording| {
            recording.push(&Event::Mark { time_ns: recorder::now_ns(), name });
        });
    });
}

entry!(/** Announces a phase; see `include/tierscope.h`. */ tierscope_mark(name: *const c_char) => on_mark, "rsi", "rdx");
