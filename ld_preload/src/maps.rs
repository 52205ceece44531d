//! Reads `/proc/self/maps` without allocating.
//!
//! The kernel writes lines such as `7f00-7f10 r-xp 00001000 fe:01 1234   /usr/lib/libc.so.6`. Each `read` returns
//! whole lines, so a reader with a buffer of a page or more need only carry over what it chose not to take in.

use crate::sys;

/// One line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mapping<'a> {
    /// First address.
    pub(crate) start: u64,
    /// One past the last.
    pub(crate) end: u64,
    /// May be executed.
    pub(crate) executable: bool,
    /// May be read.
    pub(crate) readable: bool,
    /// May be written to.
    pub(crate) writable: bool,
    /// What is written to it is this process's alone.
    pub(crate) private: bool,
    /// Offset in the file.
    pub(crate) offset: u64,
    /// Inode of the file, 0 for none.
    pub(crate) inode: u64,
    /// Path, or a name in brackets, or nothing.
    pub(crate) path: &'a [u8],
}

fn hexadecimal(digits: &[u8]) -> Option<u64> {
    number(digits, 16)
}

fn number(digits: &[u8], base: u32) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |value, digit| {
        let digit = (*digit as char).to_digit(base)?;
        value.checked_mul(u64::from(base))?.checked_add(u64::from(digit))
    })
}

fn split_once(text: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|byte| *byte == separator)?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

/// Reads one line (without its line end); `None` for what is no such line.
pub(crate) fn parse(line: &[u8]) -> Option<Mapping<'_>> {
    let (start, rest) = split_once(line, b'-')?;
    let (end, rest) = split_once(rest, b' ')?;
    let (protection, rest) = split_once(rest, b' ')?;
    let (offset, rest) = split_once(rest, b' ')?;
    let (_device, rest) = split_once(rest, b' ')?;
    let (inode, path) = split_once(rest, b' ').unwrap_or((rest, &[]));
    Some(Mapping {
        start: hexadecimal(start)?,
        end: hexadecimal(end)?,
        readable: protection.first() == Some(&b'r'),
        writable: protection.get(1) == Some(&b'w'),
        private: protection.get(3) == Some(&b'p'),
        executable: protection.get(2) == Some(&b'x'),
        offset: hexadecimal(offset)?,
        inode: number(inode, 10)?,
        path: path.trim_ascii_start(),
    })
}

/// Calls `each` for every mapping of this process until it returns `false`; false when there was no reading them.
/// `buffer` holds what was read; lines longer than it are passed over.
pub(crate) fn for_each(buffer: &mut [u8], mut each: impl FnMut(Mapping<'_>) -> bool) -> bool {
    let Some(file) = sys::open(b"/proc/self/maps\0").map(sys::raise) else { return false };
    let mut kept = 0;
    loop {
        let Some(space) = buffer.get_mut(kept..).filter(|space| !space.is_empty()) else {
            kept = 0;
            continue;
        };
        let count = match sys::read(&file, space) {
            Some(0) => return true,
            Some(count) => count,
            None => return false,
        };
        let mut rest = buffer.get(..kept + count).unwrap_or(&[]);
        while let Some((line, after)) = split_once(rest, b'\n') {
            if parse(line).is_some_and(|mapping| !each(mapping)) {
                return true;
            }
            rest = after;
        }
        let left = rest.len();
        buffer.copy_within(kept + count - left..kept + count, 0);
        kept = left;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_line_reads_back(start: u64, end: u64, offset: u64, inode: u64, path in "(/[a-z /.()]{1,40})?") {
            let line = format!("{start:x}-{end:x} r-xp {offset:08x} fe:01 {inode}          {path}");
            let mapping = parse(line.as_bytes()).unwrap();
            prop_assert_eq!((mapping.start, mapping.end, mapping.offset, mapping.inode), (start, end, offset, inode));
            prop_assert_eq!(mapping.path, path.as_bytes());
            prop_assert!(mapping.executable && mapping.readable && mapping.private && !mapping.writable);
        }

        #[test]
        fn any_line_is_answered(line in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = parse(&line);
        }
    }

    #[test]
    fn an_anonymous_mapping_has_no_path() {
        let mapping = parse(b"7ff0-7ff1 rw-p 00000000 00:00 0 ").unwrap();
        assert_eq!((mapping.path, mapping.inode), (&b""[..], 0));
        assert!(mapping.readable && mapping.writable && mapping.private && !mapping.executable);
        assert_eq!(parse(b"7ff0-7ff1 ---p 00000000 00:00 0").unwrap().end, 0x7ff1);
    }

    #[cfg(not(miri))]
    #[test]
    fn our_own_mappings_are_all_seen_whatever_the_buffer() {
        let here = std::hint::black_box(&0_u8) as *const u8 as u64;
        for bytes in [600, 4096, 65536] {
            let mut found = false;
            let mut stack = false;
            assert!(for_each(&mut vec![0; bytes], |mapping| {
                found |= mapping.executable && (mapping.start..mapping.end).contains(&(parse as *const () as u64));
                stack |= (mapping.start..mapping.end).contains(&here);
                true
            }));
            assert!(found && stack, "{bytes}");
        }
    }
}
