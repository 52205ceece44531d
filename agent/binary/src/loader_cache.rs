//! `/etc/ld.so.cache`: which file glibc's loader takes for the name of a library.
//!
//! The file is one array of entries in front of one table of strings (glibc's `elf/cache.c`, format 1.1; on older systems it
//! stands behind an array of an older format, which is skipped by looking for the second magic). All offsets of strings are
//! from the start of this header. It belongs to root but is read as any other file: counts are held against the length, and
//! what does not fit is absent.
//!
//! An entry may be for processors with certain capabilities alone (`glibc-hwcaps/x86-64-v3`). Which of them the loader takes
//! depends on the processor; here plain entries come first, and who needs to be sure compares build-ids.

use std::collections::HashMap;
use std::path::PathBuf;

use crate::source::string_prefix;

const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
/// Magic, two counts, flags, the offset of extensions, three unused words.
const HEADER_BYTES: usize = 48;
/// Flags, name, path, OS version, capabilities.
const ENTRY_BYTES: usize = 24;
/// Larger than any real one by a factor of a hundred.
const FILE_LIMIT: usize = 64 << 20;

/// Paths by name, those for any processor first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LoaderCache {
    paths: HashMap<String, Vec<PathBuf>>,
}

impl LoaderCache {
    /// The content of a cache file; empty where it is none.
    pub(crate) fn parse(file: &[u8]) -> Self {
        let file = file.get(..file.len().min(FILE_LIMIT)).unwrap_or_default();
        let start = file.windows(MAGIC.len()).position(|window| window == MAGIC);
        let Some(cache) = start.and_then(|start| file.get(start..)) else { return Self::default() };
        let word = |at: usize| cache.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes) as usize);
        let text = |at: usize| string_prefix(cache.get(at..)?).filter(|text| !text.is_empty() && text.len() <= 4096);
        let most = cache.len().saturating_sub(HEADER_BYTES) / ENTRY_BYTES;
        let count = word(MAGIC.len()).unwrap_or(0).min(most);
        let mut paths: HashMap<String, Vec<PathBuf>> = HashMap::new();
        let mut special = Vec::new();
        for entry in (0..count).map(|index| HEADER_BYTES + index * ENTRY_BYTES) {
            let (Some(name), Some(path)) = (word(entry + 4).and_then(text), word(entry + 8).and_then(text)) else {
                continue;
            };
            let plain = word(entry + 16) == Some(0) && word(entry + 20) == Some(0);
            if plain {
                paths.entry(name.to_owned()).or_default().push(path.into());
            } else {
                special.push((name.to_owned(), path.into()));
            }
        }
        for (name, path) in special {
            paths.entry(name).or_default().push(path);
        }
        Self { paths }
    }

    /// The files a name stands for, of whatever processor.
    pub(crate) fn find(&self, name: &str) -> impl Iterator<Item = &PathBuf> {
        self.paths.get(name).into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cache of (name, path, capabilities).
    fn cache(entries: &[(&str, &str, u64)]) -> Vec<u8> {
        let mut strings = Vec::new();
        let base = HEADER_BYTES + entries.len() * ENTRY_BYTES;
        let mut records = Vec::new();
        for (name, path, capabilities) in entries {
            let mut put = |text: &str| {
                let at = (base + strings.len()) as u32;
                strings.extend_from_slice(text.as_bytes());
                strings.push(0);
                at
            };
            let (name, path) = (put(name), put(path));
            for word in [0x0303, name, path, 0] {
                records.extend_from_slice(&word.to_le_bytes());
            }
            records.extend_from_slice(&capabilities.to_le_bytes());
        }
        let mut file = MAGIC.to_vec();
        file.extend_from_slice(&(entries.len() as u32).to_le_bytes());
        file.resize(HEADER_BYTES, 0);
        [file, records, strings].concat()
    }

    fn found(cache: &LoaderCache, name: &str) -> Vec<String> {
        cache.find(name).map(|path| path.display().to_string()).collect()
    }

    #[test]
    fn a_plain_entry_comes_before_those_for_some_processors() {
        let file = cache(&[("libm.so.6", "/lib/v3/libm.so.6", 1 << 62), ("libm.so.6", "/lib/libm.so.6", 0)]);
        let read = LoaderCache::parse(&file);
        assert_eq!(found(&read, "libm.so.6"), ["/lib/libm.so.6", "/lib/v3/libm.so.6"]);
        assert!(found(&read, "libn.so.6").is_empty());
    }

    #[test]
    fn what_stands_before_the_format_is_skipped() {
        let file = [b"ld.so-1.7.0\0\0\0\0\0".to_vec(), cache(&[("liba.so", "/a/liba.so", 0)])].concat();
        assert_eq!(found(&LoaderCache::parse(&file), "liba.so"), ["/a/liba.so"]);
    }

    #[test]
    fn a_damaged_cache_has_what_can_be_read_of_it() {
        let whole = cache(&[("liba.so", "/a/liba.so", 0), ("libb.so", "/b/libb.so", 0)]);
        for cut in 0..whole.len() {
            let read = LoaderCache::parse(&whole[..cut]);
            assert!(read.paths.len() <= 2);
        }
        let mut absurd = whole.clone();
        absurd[MAGIC.len()..MAGIC.len() + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(found(&LoaderCache::parse(&absurd), "libb.so"), ["/b/libb.so"]);
        absurd[HEADER_BYTES + 4..HEADER_BYTES + 8].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(found(&LoaderCache::parse(&absurd), "liba.so").is_empty());
        assert_eq!(LoaderCache::parse(b"not a cache"), LoaderCache::default());
    }
}
