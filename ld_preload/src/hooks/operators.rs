//! C++'s `operator new` and `operator delete`.
//!
//! Those of libstdc++ and libc++ call `malloc` and `free` and are recorded there; their stubs jump straight on, so that
//! the operator's own return address and the exceptions it throws are as they would be without us. But an allocator
//! such as jemalloc or tcmalloc defines the operators itself, beside its `malloc`, and they never come past ours: those
//! are recorded here.
//!
//! Exporting an operator means that every module of the program resolves to ours, also where none is loaded at start
//! (a C program that loads a C++ plugin later). What it jumps on to must then not be a definition in a plugin that
//! may be unloaded again, so that we do what the standard's operators do, by way of `malloc` and `free`. Programs that
//! replace the operators themselves never come here: their own definitions precede ours.

use super::heap::{aligned, allocate, release};
use crate::arch::{Caller, entry_through};
use crate::real;
use core::ffi::CStr;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Where one operator leads.
#[derive(Debug)]
struct Operator {
    name: &'static CStr,
    /// Read by the entry stub: jump there, if not 0.
    pass_to: &'static AtomicUsize,
    /// An allocator's own operator, or 0.
    own: AtomicUsize,
}

static RESOLVED: AtomicBool = AtomicBool::new(false);

/// Finds out where each operator leads. Finding it out twice does no harm.
pub(super) fn resolve() {
    for operator in OPERATORS {
        match real::next(operator.name) {
            Some(next) if next.beside_malloc => operator.own.store(next.address, Ordering::Relaxed),
            Some(next) => operator.pass_to.store(next.address, Ordering::Relaxed),
            None => {}
        }
    }
    RESOLVED.store(true, Ordering::Release);
}

impl Operator {
    /// The function to call, once it is known to be one.
    fn target(&self) -> Option<Target> {
        if !RESOLVED.load(Ordering::Acquire) {
            resolve();
        }
        match (self.own.load(Ordering::Relaxed), self.pass_to.load(Ordering::Relaxed)) {
            (0, 0) => None,
            (0, address) => Some(Target { address, records_itself: true }),
            (address, _) => Some(Target { address, records_itself: false }),
        }
    }

    /// An operator that throws on failure must be thrown by somebody who can.
    fn late_target(&self) -> Option<usize> {
        real::next(self.name).map(|next| next.address)
    }
}

#[derive(Clone, Copy)]
struct Target {
    address: usize,
    records_itself: bool,
}

type New = extern "C" fn(usize, usize, usize) -> *mut u8;
type Delete = extern "C" fn(*mut u8, usize, usize);

/// `operator new` with up to two more arguments, which are passed on as they are. `alignment` is 0 for the plain form.
unsafe fn new(
    operator: &Operator,
    bytes: usize,
    more: (usize, usize),
    alignment: usize,
    throws: bool,
    caller: Caller,
) -> *mut u8 {
    // SAFETY: operators of these names have this type; arguments they do not have are ignored.
    let call = |address: usize| unsafe { core::mem::transmute::<usize, New>(address)(bytes, more.0, more.1) };
    let itself = |block: &*mut u8| *block;
    match operator.target() {
        Some(target) if target.records_itself => call(target.address),
        Some(target) => {
            let align = alignment.max(16);
            allocate(bytes, caller, |asked| asked.serve(bytes, align, false, || call(target.address)), itself)
        }
        None => {
            // A block of no bytes has an address too.
            let real_bytes = bytes.max(1);
            // SAFETY: C allocation functions.
            let plain = || unsafe {
                if alignment == 0 { real::malloc(real_bytes) } else { Some(aligned(alignment, real_bytes)) }
                    .unwrap_or(core::ptr::null_mut())
            };
            let align = alignment.max(16);
            let block = allocate(bytes, caller, |asked| asked.serve(real_bytes, align, false, plain), itself);
            match operator.late_target().filter(|_| block.is_null() && throws) {
                Some(address) => call(address),
                None => block,
            }
        }
    }
}

/// `operator delete` with up to two more arguments.
unsafe fn delete(operator: &Operator, block: *mut u8, more: (usize, usize), caller: Caller) {
    // SAFETY: operators of these names have this type; arguments they do not have are ignored.
    let call = |address: usize| unsafe { core::mem::transmute::<usize, Delete>(address)(block, more.0, more.1) };
    match operator.target() {
        Some(target) if target.records_itself => call(target.address),
        Some(target) => release(block, caller, || call(target.address)),
        // SAFETY: the block came from `malloc` by way of `new` above.
        None => release(block, caller, || unsafe { real::free(block) }.unwrap_or(())),
    }
}

macro_rules! operators {
    (
        new { $($new:ident $new_hook:ident $new_place:ident $new_pass:ident $new_name:literal
            ($($new_argument:ident),*) more $new_more:expr, alignment $alignment:expr, throws $throws:literal,
            $new_sp:literal $new_bp:literal;)* }
        delete { $($delete:ident $delete_hook:ident $delete_place:ident $delete_pass:ident $delete_name:literal
            ($($delete_argument:ident),*) more $delete_more:expr, $delete_sp:literal $delete_bp:literal;)* }
    ) => {
        $(
            static $new_pass: AtomicUsize = AtomicUsize::new(0);
            static $new_place: Operator =
                Operator { name: $new_name, pass_to: &$new_pass, own: AtomicUsize::new(0) };
            unsafe extern "C" fn $new_hook(bytes: usize, $($new_argument: usize,)* sp: usize, bp: usize) -> *mut u8 {
                // SAFETY: called by its entry stub.
                unsafe { new(&$new_place, bytes, $new_more, $alignment, $throws, Caller { sp, bp }) }
            }
            entry_through!(
                /// An `operator new`.
                $new(bytes: usize $(, $new_argument: usize)*) -> *mut u8 => $new_pass, $new_hook, $new_sp, $new_bp
            );
        )*
        $(
            static $delete_pass: AtomicUsize = AtomicUsize::new(0);
            static $delete_place: Operator =
                Operator { name: $delete_name, pass_to: &$delete_pass, own: AtomicUsize::new(0) };
            unsafe extern "C" fn $delete_hook(block: *mut u8, $($delete_argument: usize,)* sp: usize, bp: usize) {
                // SAFETY: called by its entry stub.
                unsafe { delete(&$delete_place, block, $delete_more, Caller { sp, bp }) }
            }
            entry_through!(
                /// An `operator delete`.
                $delete(block: *mut u8 $(, $delete_argument: usize)*) => $delete_pass, $delete_hook, $delete_sp, $delete_bp
            );
        )*
        static OPERATORS: &[&Operator] = &[$(&$new_place,)* $(&$delete_place,)*];
    };
}

mod symbols {
    #![allow(non_snake_case, reason = "the names are the C++ ABI's")]
    use super::*;

    operators! {
        new {
            _Znwm on_Znwm ZNWM PASS_ZNWM c"_Znwm" () more (0, 0), alignment 0, throws true, "rsi" "rdx";
            _Znam on_Znam ZNAM PASS_ZNAM c"_Znam" () more (0, 0), alignment 0, throws true, "rsi" "rdx";
            _ZnwmRKSt9nothrow_t on_Znwm_nothrow ZNWM_NT PASS_ZNWM_NT c"_ZnwmRKSt9nothrow_t"
                (tag) more (tag, 0), alignment 0, throws false, "rdx" "rcx";
            _ZnamRKSt9nothrow_t on_Znam_nothrow ZNAM_NT PASS_ZNAM_NT c"_ZnamRKSt9nothrow_t"
                (tag) more (tag, 0), alignment 0, throws false, "rdx" "rcx";
            _ZnwmSt11align_val_t on_Znwm_aligned ZNWM_AL PASS_ZNWM_AL c"_ZnwmSt11align_val_t"
                (to) more (to, 0), alignment to, throws true, "rdx" "rcx";
            _ZnamSt11align_val_t on_Znam_aligned ZNAM_AL PASS_ZNAM_AL c"_ZnamSt11align_val_t"
                (to) more (to, 0), alignment to, throws true, "rdx" "rcx";
            _ZnwmSt11align_val_tRKSt9nothrow_t on_Znwm_aligned_nothrow ZNWM_AL_NT PASS_ZNWM_AL_NT
                c"_ZnwmSt11align_val_tRKSt9nothrow_t" (to, tag) more (to, tag), alignment to, throws false, "rcx" "r8";
            _ZnamSt11align_val_tRKSt9nothrow_t on_Znam_aligned_nothrow ZNAM_AL_NT PASS_ZNAM_AL_NT
                c"_ZnamSt11align_val_tRKSt9nothrow_t" (to, tag) more (to, tag), alignment to, throws false, "rcx" "r8";
        }
        delete {
            _ZdlPv on_ZdlPv ZDL PASS_ZDL c"_ZdlPv" () more (0, 0), "rsi" "rdx";
            _ZdaPv on_ZdaPv ZDA PASS_ZDA c"_ZdaPv" () more (0, 0), "rsi" "rdx";
            _ZdlPvm on_ZdlPvm ZDL_M PASS_ZDL_M c"_ZdlPvm" (bytes) more (bytes, 0), "rdx" "rcx";
            _ZdaPvm on_ZdaPvm ZDA_M PASS_ZDA_M c"_ZdaPvm" (bytes) more (bytes, 0), "rdx" "rcx";
            _ZdlPvRKSt9nothrow_t on_ZdlPv_nothrow ZDL_NT PASS_ZDL_NT c"_ZdlPvRKSt9nothrow_t"
                (tag) more (tag, 0), "rdx" "rcx";
            _ZdaPvRKSt9nothrow_t on_ZdaPv_nothrow ZDA_NT PASS_ZDA_NT c"_ZdaPvRKSt9nothrow_t"
                (tag) more (tag, 0), "rdx" "rcx";
            _ZdlPvSt11align_val_t on_ZdlPv_aligned ZDL_AL PASS_ZDL_AL c"_ZdlPvSt11align_val_t"
                (to) more (to, 0), "rdx" "rcx";
            _ZdaPvSt11align_val_t on_ZdaPv_aligned ZDA_AL PASS_ZDA_AL c"_ZdaPvSt11align_val_t"
                (to) more (to, 0), "rdx" "rcx";
            _ZdlPvmSt11align_val_t on_ZdlPvm_aligned ZDL_M_AL PASS_ZDL_M_AL c"_ZdlPvmSt11align_val_t"
                (bytes, to) more (bytes, to), "rcx" "r8";
            _ZdaPvmSt11align_val_t on_ZdaPvm_aligned ZDA_M_AL PASS_ZDA_M_AL c"_ZdaPvmSt11align_val_t"
                (bytes, to) more (bytes, to), "rcx" "r8";
            _ZdlPvSt11align_val_tRKSt9nothrow_t on_ZdlPv_aligned_nothrow ZDL_AL_NT PASS_ZDL_AL_NT
                c"_ZdlPvSt11align_val_tRKSt9nothrow_t" (to, tag) more (to, tag), "rcx" "r8";
            _ZdaPvSt11align_val_tRKSt9nothrow_t on_ZdaPv_aligned_nothrow ZDA_AL_NT PASS_ZDA_AL_NT
                c"_ZdaPvSt11align_val_tRKSt9nothrow_t" (to, tag) more (to, tag), "rcx" "r8";
        }
    }

    pub(super) static ALL: &[&Operator] = OPERATORS;
}

use symbols::ALL as OPERATORS;
