//! Symbol names as their authors wrote them, for C++ and Rust; other names as they are.

use std::borrow::Cow;

/// Mangled names longer than this are shown mangled: they unfold exponentially and nobody reads them.
const MANGLED_LIMIT: usize = 4096;

/// The demangled form of a linker symbol, with parameters (C++) and without the hash (Rust).
pub fn demangled(symbol: &str) -> Cow<'_, str> {
    if symbol.len() > MANGLED_LIMIT {
        return Cow::Borrowed(symbol);
    }
    if let Ok(name) = rustc_demangle::try_demangle(symbol) {
        return Cow::Owned(format!("{name:#}"));
    }
    if symbol.starts_with("_Z")
        && let Ok(parsed) = cpp_demangle::Symbol::new(symbol)
        && let Ok(name) = parsed.demangle()
    {
        return Cow::Owned(name);
    }
    Cow::Borrowed(symbol)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rust_c_plus_plus_and_plain_names() {
        assert_eq!(demangled("_ZN4core3ptr13drop_in_place17h0123456789abcdefE"), "core::ptr::drop_in_place");
        assert_eq!(demangled("_RNvCs1234_7mycrate3foo"), "mycrate::foo");
        assert_eq!(
            demangled("_ZNSt6vectorIiSaIiEE9push_backERKi"),
            "std::vector<int, std::allocator<int> >::push_back(int const&)"
        );
        assert_eq!(demangled("main"), "main");
        assert_eq!(demangled("_Znot_mangled_at_all"), "_Znot_mangled_at_all");
    }
}
