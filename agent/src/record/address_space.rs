//! What is mapped where in a process, at the time that is being looked at.
//!
//! Built from `/proc/PID/maps` at the start and from the kernel's mmap records as they come; the shim's unmap events
//! remove what the kernel's records do not mention. A later mapping cuts an earlier one where they overlap, exactly as
//! the kernel does, so a missed unmap is mended by the next mapping at the same place. Where the table has no answer
//! the maps are read again, at most every [`REFRESH_NS`]: brk and stack growth send no record.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

/// Least time between two readings of the maps.
pub(super) const REFRESH_NS: u64 = 50_000_000;

/// What a mapping shows.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Backing {
    /// A file, by the path the kernel gives.
    File(Arc<PathBuf>),
    /// Memory of no file and no name.
    Anonymous,
    /// `[heap]`, `[stack]`, `[vdso]`, or a name given with `PR_SET_VMA_ANON_NAME`.
    Named(Arc<str>),
}

/// One mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mapping {
    pub(super) end: u64,
    pub(super) file_offset: u64,
    pub(super) executable: bool,
    pub(super) backing: Backing,
}

/// Disjoint mappings by their start.
#[derive(Debug, Clone, Default)]
pub(super) struct AddressSpace {
    mappings: BTreeMap<u64, Mapping>,
}

impl AddressSpace {
    /// Forgets everything: the program became another one.
    pub(super) fn clear(&mut self) {
        self.mappings.clear();
    }

    /// Enters a mapping, cutting those it overlaps.
    pub(super) fn insert(&mut self, start: u64, mapping: Mapping) {
        if start >= mapping.end {
            return;
        }
        self.remove(start..mapping.end);
        self.mappings.insert(start, mapping);
    }

    /// Removes a range, cutting the mappings at its edges.
    pub(super) fn remove(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        // Only the last one that starts below the range can reach into it.
        let first = self.mappings.range(..range.start).next_back();
        let first = first.filter(|(_, mapping)| mapping.end > range.start).map(|(start, _)| *start);
        let inside = self.mappings.range(range.clone()).map(|(start, _)| *start);
        let touched: Vec<u64> = first.into_iter().chain(inside).collect();
        for start in touched {
            let Some(mapping) = self.mappings.remove(&start) else { continue };
            if mapping.end > range.end {
                let rest =
                    Mapping { file_offset: mapping.file_offset.wrapping_add(range.end - start), ..mapping.clone() };
                self.mappings.insert(range.end, rest);
            }
            if start < range.start {
                self.mappings.insert(start, Mapping { end: range.start, ..mapping });
            }
        }
    }

    /// The mapping that holds an address.
    pub(super) fn find(&self, address: u64) -> Option<(u64, &Mapping)> {
        let (start, mapping) = self.mappings.range(..=address).next_back()?;
        (address < mapping.end).then_some((*start, mapping))
    }

    /// The stretch of touching anonymous mappings of one name around an address. The kernel splits a mapping for
    /// reasons that do not concern us (a guard page's protection, an madvise) and what was mapped once stays one object.
    pub(super) fn anonymous_extent(&self, address: u64) -> Option<Range<u64>> {
        let (start, mapping) = self.find(address)?;
        let mut extent = start..mapping.end;
        for (start, before) in self.mappings.range(..extent.start).rev() {
            if before.end != extent.start || before.backing != mapping.backing {
                break;
            }
            extent.start = *start;
        }
        for (start, after) in self.mappings.range(extent.end..) {
            if *start != extent.end || after.backing != mapping.backing {
                break;
            }
            extent.end = after.end;
        }
        Some(extent)
    }

    /// Replaces everything by what `/proc/PID/maps` says now. Returns the executable file mappings, which are the
    /// modules; nothing changes when the process is gone.
    pub(super) fn refresh(&mut self, pid: u32) -> Vec<(u64, Mapping)> {
        let maps = i32::try_from(pid).ok().and_then(|pid| procfs::process::Process::new(pid).ok()?.maps().ok());
        let Some(maps) = maps else { return Vec::new() };
        self.mappings.clear();
        let mut modules = Vec::new();
        for map in maps {
            use procfs::process::{MMPermissions, MMapPath};
            let named = |name: &str| Backing::Named(Arc::from(name));
            let backing = match map.pathname {
                MMapPath::Path(path) => Backing::File(Arc::new(path)),
                MMapPath::Heap => named("[heap]"),
                MMapPath::Stack | MMapPath::TStack(_) => named("[stack]"),
                MMapPath::Vdso => named("[vdso]"),
                MMapPath::Vvar => named("[vvar]"),
                MMapPath::Vsyscall => named("[vsyscall]"),
                MMapPath::Vsys(id) => named(&format!("[sysv {id}]")),
                MMapPath::Rollup | MMapPath::Anonymous => Backing::Anonymous,
                MMapPath::Other(name) => named(&format!("[{name}]")),
            };
            let mapping = Mapping {
                end: map.address.1,
                file_offset: map.offset,
                executable: map.perms.contains(MMPermissions::EXECUTE),
                backing,
            };
            if mapping.executable && matches!(mapping.backing, Backing::File(_)) {
                modules.push((map.address.0, mapping.clone()));
            }
            self.mappings.insert(map.address.0, mapping);
        }
        modules
    }
}

/// What a path in a kernel mmap record means: the kernel writes `//anon` for no file, and `[heap]` and the like.
pub(super) fn backing_of_record(path: &[u8]) -> Backing {
    use std::os::unix::ffi::OsStrExt;
    match path {
        b"" | b"//anon" => Backing::Anonymous,
        [b'[', ..] => Backing::Named(String::from_utf8_lossy(path).into()),
        _ => Backing::File(Arc::new(PathBuf::from(std::ffi::OsStr::from_bytes(path)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mapping(end: u64, file_offset: u64) -> Mapping {
        Mapping { end, file_offset, executable: false, backing: Backing::Anonymous }
    }

    proptest! {
        /// Against the obvious model: an array that says for each page which mapping holds it, at which offset.
        #[test]
        fn overlaps_are_cut_as_the_kernel_cuts_them(
            steps in proptest::collection::vec((0_u64..64, 1_u64..16, any::<bool>()), 0..40),
        ) {
            let mut space = AddressSpace::default();
            let mut pages = [None; 80];
            for (step, (start, length, map)) in steps.into_iter().enumerate() {
                let base = (step as u64 + 1) * 1000;
                if map {
                    space.insert(start, mapping(start + length, base));
                } else {
                    space.remove(start..start + length);
                }
                for page in start..start + length {
                    pages[page as usize] = map.then_some(base + page - start);
                }
            }
            for (page, expected) in pages.iter().enumerate() {
                let found = space.find(page as u64).map(|(start, m)| m.file_offset + page as u64 - start);
                prop_assert_eq!(found, *expected, "page {}", page);
            }
        }
    }

    #[test]
    fn touching_anonymous_mappings_are_one_extent() {
        let mut space = AddressSpace::default();
        space.insert(10, mapping(20, 0));
        space.insert(20, mapping(30, 0));
        space.insert(40, mapping(50, 0));
        assert_eq!(space.anonymous_extent(25), Some(10..30));
        assert_eq!(space.anonymous_extent(35), None);
    }

    #[test]
    fn our_own_maps_are_read() {
        let mut space = AddressSpace::default();
        let modules = space.refresh(std::process::id());
        assert!(!modules.is_empty());
        let local = 0;
        let (_, stack) = space.find(&raw const local as u64).expect("our stack is mapped");
        assert!(!stack.executable);
    }
}
