//! The small notations inside a policy file: where a block was allocated, what that place is called, and sizes.

use std::fmt;
use std::str::FromStr;

use tierscope_tiers::{bytes_of, exact_bytes};

/// The most bytes of a name.
const MAX_NAME_BYTES: usize = 4096;

/// A frame of a site: `bc+0x1a2b`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SiteEntry {
    /// File name of the module.
    pub module: String,
    /// ELF address of the return address in it.
    pub address: u64,
}

impl FromStr for SiteEntry {
    type Err = &'static str;

    /// The last `+` divides, so a file name may have one (`libstdc++.so.6+0xa1b2`).
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (module, address) = text.rsplit_once('+').ok_or("has no `+` between module and address")?;
        let digits = address.strip_prefix("0x").ok_or("has an address that does not begin with 0x")?;
        if !is_module_name(module) {
            return Err("has no file name without directories before the `+`");
        }
        if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err("has an address that is not hexadecimal");
        }
        let address = u64::from_str_radix(digits, 16).map_err(|_| "has an address of more than 64 bits")?;
        if address == u64::MAX {
            Err("has an address no code can lie at")
        } else {
            Ok(SiteEntry { module: module.to_owned(), address })
        }
    }
}

impl fmt::Display for SiteEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{:#x}", self.module, self.address)
    }
}

/// Whether a text can be the file name of a module.
pub(crate) fn is_module_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_NAME_BYTES && !text.contains(['/', '\0'])
}

/// What a frame is called: `BrandesBC bc.cc:88`. All of it may be missing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct FrameName {
    function: String,
    place: Option<(String, u32)>,
}

impl FrameName {
    /// A function as demangled, and where known its source file and line. Of the file only the name counts, and none that
    /// has a space in it: it could not be told from the function.
    pub fn new(function: &str, place: Option<(&str, u32)>) -> Self {
        let place = place.and_then(|(file, line)| {
            let file = file.rsplit('/').next().unwrap_or(file);
            (!file.is_empty() && !file.contains(char::is_whitespace)).then(|| (file.to_owned(), line))
        });
        let words: Vec<&str> = function.split_whitespace().collect();
        let name = FrameName { place: place.filter(|_| !words.is_empty()), function: words.join(" ") };
        // A function whose last word looks like a place would be read as one; nobody is called so.
        if name.place.is_none() { FrameName::parse(&name.function) } else { name }
    }

    /// Reads `FUNCTION FILE:LINE` or `FUNCTION`; no text is wrong.
    pub fn parse(text: &str) -> Self {
        let words: Vec<&str> = text.split_whitespace().collect();
        if let Some((last, function)) = words.split_last()
            && !function.is_empty()
            && let Some((file, line)) = last.rsplit_once(':')
            && !file.is_empty()
            && line.bytes().all(|digit| digit.is_ascii_digit())
            && let Ok(line) = line.parse()
        {
            let file = file.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or(file);
            return FrameName { function: function.join(" "), place: Some((file.to_owned(), line)) };
        }
        FrameName { function: words.join(" "), place: None }
    }

    /// The function; empty where it is not known.
    pub fn function(&self) -> &str {
        &self.function
    }

    /// File name and line, where known.
    pub fn place(&self) -> Option<(&str, u32)> {
        self.place.as_ref().map(|(file, line)| (file.as_str(), *line))
    }
}

impl fmt::Display for FrameName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Some((file, line)) => write!(f, "{} {file}:{line}", self.function),
            None => f.write_str(&self.function),
        }
    }
}

/// Sizes of blocks in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sizes {
    /// The smallest.
    pub low: u64,
    /// The first that is too large; `None` where none is.
    pub high: Option<u64>,
}

impl Sizes {
    /// Blocks of any size.
    pub const ALL: Sizes = Sizes { low: 0, high: None };

    /// Reads `64 MiB..128 MiB`, `>= 16 KiB` or `< 4 KiB`.
    ///
    /// # Errors
    ///
    /// What is wrong with the text, as the end of a sentence that began with it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const NO_SIZE: &str = "has a part that is no size";
        let text = text.trim();
        let sizes = if let Some((low, high)) = text.split_once("..") {
            Sizes { low: bytes_of(low).ok_or(NO_SIZE)?, high: Some(bytes_of(high).ok_or(NO_SIZE)?) }
        } else if let Some(low) = text.strip_prefix(">=") {
            Sizes { low: bytes_of(low).ok_or(NO_SIZE)?, high: None }
        } else if let Some(high) = text.strip_prefix('<') {
            Sizes { low: 0, high: Some(bytes_of(high).ok_or(NO_SIZE)?) }
        } else {
            return Err("is no range of sizes");
        };
        if sizes.high.is_some_and(|high| high <= sizes.low) { Err("holds no size at all") } else { Ok(sizes) }
    }
}

impl Default for Sizes {
    fn default() -> Self {
        Sizes::ALL
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.high {
            Some(high) if self.low == 0 => write!(f, "< {}", exact_bytes(high)),
            Some(high) => write!(f, "{}..{}", exact_bytes(self.low), exact_bytes(high)),
            None => write!(f, ">= {}", exact_bytes(self.low)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_plus_divides_a_site_entry() {
        let entry: SiteEntry = "libstdc++.so.6+0xA1b2".parse().unwrap();
        assert_eq!((entry.module.as_str(), entry.address), ("libstdc++.so.6", 0xa1b2));
        assert_eq!(entry.to_string(), "libstdc++.so.6+0xa1b2");
        for wrong in ["bc", "bc+12", "+0x1", "bc+0x", "bc+0xg", "bc+0x+1", "a/b+0x1", "bc+0x11112222333344445"] {
            assert!(wrong.parse::<SiteEntry>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_frame_name_ends_in_its_place_if_it_has_one() {
        let name =
            FrameName::parse("std::vector<int, std::allocator<int> >::reserve(unsigned long) /usr/x/vector.tcc:70");
        assert_eq!(name.function(), "std::vector<int, std::allocator<int> >::reserve(unsigned long)");
        assert_eq!(name.place(), Some(("vector.tcc", 70)));
        assert_eq!(FrameName::parse("main").place(), None);
        assert_eq!(FrameName::parse("operator new").function(), "operator new");
        assert_eq!(FrameName::parse("bc.cc:88").function(), "bc.cc:88");
        assert_eq!(FrameName::parse("").function(), "");
    }

    #[test]
    fn sizes_read_back_as_they_are_written() {
        for (text, sizes) in [
            ("64 MiB..128 MiB", Sizes { low: 64 << 20, high: Some(128 << 20) }),
            (">= 16 KiB", Sizes { low: 16 << 10, high: None }),
            ("< 4 KiB", Sizes { low: 0, high: Some(4096) }),
            ("3 B..4097 B", Sizes { low: 3, high: Some(4097) }),
        ] {
            assert_eq!(Sizes::parse(text), Ok(sizes));
            assert_eq!(sizes.to_string(), text);
        }
        for wrong in ["64 MiB", "2..1", "< 0", "1..1", ">= x", "..", "> 4"] {
            assert!(Sizes::parse(wrong).is_err(), "{wrong}");
        }
    }
}
