//! What the program was started with: our options, the auxiliary vector, and wiping our traces from what it passes on.
//!
//! The kernel lays arguments, environment and auxiliary vector at the top of the stack, and C libraries leave them
//! there. We read them in place, on the program's first allocation or before `main`, whichever is earlier; the program
//! has had no time to replace its environment.

use crate::{arch, real};
use core::ffi::{CStr, c_char};
use tierscope_wire::options::VARIABLE;

/// `AT_SECURE`: the program has more rights than its user.
pub(crate) const AT_SECURE: usize = 23;
/// `AT_SYSINFO_EHDR`: where the kernel's vdso begins.
pub(crate) const AT_SYSINFO_EHDR: usize = 33;

/// The environment as the kernel laid it down.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Environment {
    first: *mut *mut c_char,
}

impl Environment {
    /// Finds it; `None` when the C library does not say where it is.
    pub(crate) fn of_this_process() -> Option<Self> {
        // glibc: address of the argument count. musl: the variable `environ`.
        let stack_end = arch::weak_symbol!("__libc_stack_end") as *const *const usize;
        let environ = arch::weak_symbol!("__environ") as *const *mut *mut c_char;
        // SAFETY: words of the C library's that hold what they are named for, or null before it is known.
        let first = unsafe {
            match stack_end.as_ref().filter(|end| !end.is_null()) {
                Some(end) => end.add(**end + 2).cast_mut().cast(),
                None => *environ.as_ref()?,
            }
        };
        (!first.is_null()).then_some(Environment { first })
    }

    fn entries(self) -> impl Iterator<Item = *mut *mut c_char> {
        let mut at = self.first;
        core::iter::from_fn(move || {
            // SAFETY: the array ends with a null pointer, where we stop.
            let entry = unsafe { (!(*at).is_null()).then_some(at) };
            at = at.wrapping_add(1);
            entry
        })
    }

    /// The value of a variable.
    pub(crate) fn get(self, name: &str) -> Option<&'static CStr> {
        self.entry(name).map(|(_, value)| {
            // SAFETY: a terminated string; the program leaves it alone while we look.
            unsafe { CStr::from_ptr(value) }
        })
    }

    /// A variable's place in the array, and its value.
    fn entry(self, name: &str) -> Option<(*mut *mut c_char, *mut c_char)> {
        self.entries().find_map(|entry| {
            // SAFETY: entries are terminated strings, and a prefix that matches is not past the end.
            unsafe {
                let text = CStr::from_ptr(*entry).to_bytes();
                let value = text.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
                Some((entry, (*entry).add(text.len() - value.len())))
            }
        })
    }

    /// An entry of the auxiliary vector, which follows the environment.
    pub(crate) fn auxiliary(self, key: usize) -> Option<usize> {
        let mut at = self.first.wrapping_add(self.entries().count() + 1).cast::<[usize; 2]>();
        loop {
            // SAFETY: the vector ends with a null key, where we stop.
            match unsafe { at.read() } {
                [0, _] => return None,
                [found, value] if found == key => return Some(value),
                _ => at = at.wrapping_add(1),
            }
        }
    }

    /// Takes our variable out, and us out of `LD_PRELOAD`: programs started from here know nothing of us.
    pub(crate) fn forget_us(self) {
        if let Some((place, _)) = self.entry(VARIABLE) {
            remove(place);
        }
        let (Some((place, value)), Some(own)) = (self.entry("LD_PRELOAD"), real::own_name()) else { return };
        // SAFETY: the value is a writable string on the stack, and gets shorter.
        let left = unsafe { cut_element(value.cast(), own.to_bytes()) };
        if left == 0 {
            remove(place);
        }
    }
}

/// Closes the gap that an entry leaves.
fn remove(mut place: *mut *mut c_char) {
    // SAFETY: moves pointers down as far as the terminating null.
    unsafe {
        while !(*place).is_null() {
            *place = *place.add(1);
            place = place.add(1);
        }
    }
}

/// Removes `element` from a list separated by colons or spaces, and returns the length of what is left.
///
/// # Safety
///
/// `list` is a writable terminated string.
unsafe fn cut_element(list: *mut u8, element: &[u8]) -> usize {
    // SAFETY: within the string.
    let text = unsafe {
        let length = CStr::from_ptr(list.cast()).count_bytes();
        core::slice::from_raw_parts_mut(list, length + 1)
    };
    let length = text.len() - 1;
    let separates = |byte: &u8| matches!(byte, b':' | b' ');
    let mut start = 0;
    while start <= length {
        let rest = text.get(start..length).unwrap_or(&[]);
        let end = start + rest.iter().position(separates).unwrap_or(rest.len());
        if text.get(start..end) == Some(element) {
            // With the separator behind it, or before it when it is the last.
            let (from, to) = if end < length { (end + 1, start) } else { (length, start.saturating_sub(1)) };
            text.copy_within(from..=length, to);
            return length - (from - to);
        }
        start = end + 1;
    }
    length
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;

    #[test]
    fn the_environment_is_found_where_the_kernel_put_it() {
        let environment = Environment::of_this_process().unwrap();
        let path = std::env::var("PATH").unwrap();
        assert_eq!(environment.get("PATH").unwrap().to_str(), Ok(&*path));
        assert_eq!(environment.get("PAT"), None);
        assert_eq!(environment.auxiliary(AT_SECURE), Some(0));
    }

    #[test]
    fn only_our_element_is_cut() {
        for (list, left) in [
            ("/a/us.so", ""),
            ("/a/us.so:/b.so", "/b.so"),
            ("/b.so:/a/us.so", "/b.so"),
            ("/b.so /a/us.so:/c.so", "/b.so /c.so"),
            ("/b/a/us.so:/a/us.so.1", "/b/a/us.so:/a/us.so.1"),
            ("", ""),
        ] {
            let mut text = format!("{list}\0").into_bytes();
            // SAFETY: terminated and ours.
            let length = unsafe { cut_element(text.as_mut_ptr(), b"/a/us.so") };
            assert_eq!(std::str::from_utf8(&text[..length]), Ok(left), "{list}");
            assert_eq!(text[length], 0);
        }
    }
}
