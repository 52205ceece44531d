//! The functions the hooks stand in front of.
//!
//! They are found by walking the loader's list of modules from the one after us, which is the order `RTLD_NEXT` means,
//! and reading each module's own hash table. `dlsym` would do the same but allocates, takes the loader's lock, and is
//! elsewhere in every C library. Nothing here takes a lock: the modules looked at are those loaded at program start,
//! which stay for the program's life, and two threads that look at once find the same.

use crate::elf::Dynamic;
use crate::{arch, sys};
use core::ffi::{CStr, c_char};
use core::sync::atomic::{AtomicUsize, Ordering};

/// What every loader shows to debuggers (`<link.h>`).
#[repr(C)]
struct LinkMap {
    bias: usize,
    name: *const c_char,
    dynamic: *const [usize; 2],
    next: *const LinkMap,
    previous: *const LinkMap,
}

/// The head of the loader's list.
fn first_module() -> *const LinkMap {
    // struct r_debug { int version; struct link_map *map; ... }
    let glibc = arch::weak_symbol!("_r_debug");
    let musl = arch::weak_symbol!("_dl_debug_addr");
    // SAFETY: both are data of the loader's: the structure, and in musl a pointer to it.
    unsafe {
        let structure = match (glibc, musl) {
            (0, 0) => return core::ptr::null(),
            (0, pointer) => *(pointer as *const usize),
            (structure, _) => structure,
        };
        if structure == 0 { core::ptr::null() } else { *((structure + 8) as *const *const LinkMap) }
    }
}

fn modules() -> impl Iterator<Item = &'static LinkMap> {
    // SAFETY: nodes of modules loaded at start are never freed; the list is only ever appended to behind them.
    let at = |pointer: *const LinkMap| unsafe { pointer.as_ref() };
    core::iter::successors(at(first_module()), move |module| at(module.next))
}

/// The name under which the loader knows us: the very text that stood in `LD_PRELOAD`.
pub(crate) fn own_name() -> Option<&'static CStr> {
    let own = modules().find(|module| module.dynamic as usize == arch::own_dynamic())?;
    // SAFETY: a terminated string that lives as long as the module.
    (!own.name.is_null()).then(|| unsafe { CStr::from_ptr(own.name) })
}

/// A function defined by a module behind us.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Next {
    /// Its address.
    pub(crate) address: usize,
    /// The module defines `malloc` too: it is an allocator of its own.
    pub(crate) beside_malloc: bool,
}

/// The next definition of `name`.
pub(crate) fn next(name: &CStr) -> Option<Next> {
    modules().skip_while(|module| module.dynamic as usize != arch::own_dynamic()).skip(1).find_map(|module| {
        // SAFETY: the loader's own data of a module that is mapped.
        unsafe {
            let dynamic = Dynamic::new(module.bias, module.dynamic)?;
            let address = dynamic.function(name)?;
            Some(Next { address, beside_malloc: dynamic.function(c"malloc").is_some() })
        }
    })
}

const UNKNOWN: usize = 0;
const MISSING: usize = 1;

/// A function looked for once.
#[derive(Debug)]
pub(crate) struct Slot {
    name: &'static CStr,
    address: AtomicUsize,
}

impl Slot {
    const fn new(name: &'static CStr) -> Self {
        Slot { name, address: AtomicUsize::new(UNKNOWN) }
    }

    /// Its address, if there is one.
    #[inline(always)]
    pub(crate) fn get(&self) -> Option<usize> {
        match self.address.load(Ordering::Relaxed) {
            UNKNOWN => self.look_up(),
            MISSING => None,
            address => Some(address),
        }
    }

    #[cold]
    fn look_up(&self) -> Option<usize> {
        let found = next(self.name).map(|next| next.address);
        self.address.store(found.unwrap_or(MISSING), Ordering::Relaxed);
        found
    }
}

macro_rules! functions {
    ($($slot:ident $function:ident $name:literal ($($argument:ident: $type:ty),*) -> $result:ty;)*) => {
        $(
            static $slot: Slot = Slot::new($name);

            /// Calls the next function of this name; `None` when there is none.
            ///
            /// # Safety
            ///
            /// As the function itself demands.
            #[inline(always)]
            pub(crate) unsafe fn $function($($argument: $type),*) -> Option<$result> {
                let address = $slot.get()?;
                // SAFETY: a C function of this name has this type.
                unsafe {
                    let function: unsafe extern "C" fn($($type),*) -> $result = core::mem::transmute(address);
                    Some(function($($argument),*))
                }
            }
        )*
    };
}

functions! {
    MALLOC malloc c"malloc" (bytes: usize) -> *mut u8;
    FREE free c"free" (block: *mut u8) -> ();
    CALLOC calloc c"calloc" (count: usize, bytes: usize) -> *mut u8;
    REALLOC realloc c"realloc" (block: *mut u8, bytes: usize) -> *mut u8;
    REALLOCARRAY reallocarray c"reallocarray" (block: *mut u8, count: usize, bytes: usize) -> *mut u8;
    MEMALIGN memalign c"memalign" (alignment: usize, bytes: usize) -> *mut u8;
    ALIGNED_ALLOC aligned_alloc c"aligned_alloc" (alignment: usize, bytes: usize) -> *mut u8;
    POSIX_MEMALIGN posix_memalign c"posix_memalign" (into: *mut *mut u8, alignment: usize, bytes: usize) -> i32;
    VALLOC valloc c"valloc" (bytes: usize) -> *mut u8;
    PVALLOC pvalloc c"pvalloc" (bytes: usize) -> *mut u8;
    FREE_SIZED free_sized c"free_sized" (block: *mut u8, bytes: usize) -> ();
    FREE_ALIGNED_SIZED free_aligned_sized c"free_aligned_sized" (block: *mut u8, alignment: usize, bytes: usize) -> ();
    CFREE cfree c"cfree" (block: *mut u8) -> ();
    USABLE malloc_usable_size c"malloc_usable_size" (block: *mut u8) -> usize;
    MMAP mmap c"mmap" (at: *mut u8, bytes: usize, protection: i32, flags: i32, file: i32, offset: i64) -> *mut u8;
    MUNMAP munmap c"munmap" (at: *mut u8, bytes: usize) -> i32;
    MREMAP mremap c"mremap" (old: *mut u8, old_bytes: usize, bytes: usize, flags: i32, at: *mut u8) -> *mut u8;
    ERRNO errno_location c"__errno_location" () -> *mut i32;
}

/// Sets the C library's `errno`, for functions we have to refuse ourselves.
pub(crate) fn set_errno(number: i32) {
    // SAFETY: the location is the calling thread's.
    unsafe {
        if let Some(location) = errno_location()
            && !location.is_null()
        {
            location.write(number);
        }
    }
}

/// What an allocation function returns that has no memory, or that a C library does not have.
pub(crate) fn refuse() -> *mut u8 {
    set_errno(sys::ENOMEM);
    core::ptr::null_mut()
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;

    #[test]
    fn functions_are_those_dlsym_finds() {
        for name in
            [c"malloc", c"free", c"calloc", c"realloc", c"mmap", c"munmap", c"memcpy", c"strlen", c"reallocarray"]
        {
            // SAFETY: a terminated name.
            let expected = unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) } as usize;
            assert_eq!(next(name).map(|next| next.address), Some(expected), "{name:?}");
        }
        assert!(next(c"malloc").unwrap().beside_malloc);
        assert!(next(c"no_such_function_anywhere").is_none());
    }

    #[test]
    fn a_refusal_sets_errno() {
        set_errno(libc::ENOMEM);
        assert_eq!(std::io::Error::last_os_error().raw_os_error(), Some(libc::ENOMEM));
    }
}
