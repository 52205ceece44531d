//! What QEMU had loaded before the guest's first instruction: the program and its loader, found among QEMU's own mappings.
//!
//! QEMU maps the guest's files into its own address space, so the kernel lists them beside QEMU's libraries, which may be the very
//! same files (both have a loader). QEMU's own are those its loader knows (`dl_iterate_phdr`).

use crate::happening::{Loaded, Mapping};
use std::ffi::c_void;
use std::io::Read;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// What QEMU adds to a guest address to get its own: 0 in practice, seen at the first instruction.
static BASE: AtomicU64 = AtomicU64::new(0);

/// Where a guest address lies in this process.
pub(crate) fn to_host(address: u64) -> u64 {
    address.wrapping_add(BASE.load(Ordering::Relaxed))
}

/// The guest's mapped files. `base` is what QEMU adds to a guest address; `program` the path of what it runs.
pub(crate) fn look(base: u64, program: Option<&str>) -> Loaded {
    BASE.store(base, Ordering::Relaxed);
    let own = own_ranges();
    let text = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let program = program.and_then(|path| std::fs::canonicalize(path).ok());
    let mut mappings: Vec<(u64, Mapping)> = text.lines().filter_map(parse).collect();
    mappings.retain(|(start, _)| !own.iter().any(|(low, high)| (*low..*high).contains(start)));
    // QEMU may map files for itself; but its own code is its loader's business. (It maps the guest's code without the right to
    // execute it.)
    let is_guests = |path: &Path| program.as_deref() == Some(path) || is_elf(path);
    let files = mappings.into_iter().map(|(_, mapping)| mapping).filter(|mapping| is_guests(&mapping.path));
    let to_guest = |address: u64| address.wrapping_sub(base);
    let files = files.map(|mapping| Mapping { start: to_guest(mapping.start), end: to_guest(mapping.end), ..mapping });
    Loaded { files: files.collect() }
}

fn is_elf(path: &Path) -> bool {
    let mut magic = [0; 4];
    std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && magic == *b"\x7fELF"
}

/// A line of `maps` that shows a file.
fn parse(line: &str) -> Option<(u64, Mapping)> {
    let mut fields = line.splitn(6, ' ');
    let (start, end) = fields.next()?.split_once('-')?;
    let (protection, offset) = (fields.next()?, fields.next()?);
    let path = fields.nth(2)?.trim_start();
    if !path.starts_with('/') {
        return None;
    }
    let number = |text: &str| u64::from_str_radix(text, 16).ok();
    let (start, end) = (number(start)?, number(end)?);
    let executable = protection.as_bytes().get(2) == Some(&b'x');
    Some((start, Mapping { start, end, offset: number(offset)?, executable, path: path.into() }))
}

/// Where the process's own modules lie.
fn own_ranges() -> Vec<(u64, u64)> {
    unsafe extern "C" fn each(info: *mut libc::dl_phdr_info, _bytes: usize, ranges: *mut c_void) -> i32 {
        // SAFETY: the loader's record, valid during the call, and our vector.
        unsafe {
            let (info, ranges) = (&*info, &mut *ranges.cast::<Vec<(u64, u64)>>());
            if info.dlpi_phdr.is_null() {
                return 0;
            }
            let headers = std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum));
            for header in headers.iter().filter(|header| header.p_type == libc::PT_LOAD) {
                let start = info.dlpi_addr.wrapping_add(header.p_vaddr) & !4095;
                ranges.push((start, start.wrapping_add(header.p_memsz).wrapping_add(8191) & !4095));
            }
        }
        0
    }
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    // SAFETY: the callback gets our vector and keeps to it.
    unsafe { libc::dl_iterate_phdr(Some(each), (&raw mut ranges).cast()) };
    ranges
}

/// The mapping of this process that holds a guest address: first and one past its last address, the guest's.
pub(crate) fn mapping_of(address: u64) -> Option<(u64, u64)> {
    let (base, host) = (BASE.load(Ordering::Relaxed), to_host(address));
    let text = std::fs::read_to_string("/proc/self/maps").ok()?;
    text.lines().find_map(|line| {
        let (start, end) = line.split(' ').next()?.split_once('-')?;
        let (start, end) = (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
        (start..end).contains(&host).then_some((start.wrapping_sub(base), end.wrapping_sub(base)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_and_only_files_count() {
        let (start, mapping) =
            parse("7f0000001000-7f0000003000 r-xp 00002000 fe:01 1234                       /usr/lib/a b.so").unwrap();
        assert_eq!(
            (start, mapping.end, mapping.offset, mapping.executable),
            (0x7f00_0000_1000, 0x7f00_0000_3000, 0x2000, true)
        );
        assert_eq!(mapping.path, Path::new("/usr/lib/a b.so"));
        assert!(parse("7f0000001000-7f0000003000 rw-p 00000000 00:00 0 ").is_none());
        assert!(parse("7f0000001000-7f0000003000 rw-p 00000000 00:00 0                  [stack]").is_none());
    }

    #[test]
    fn our_own_modules_are_not_the_guests() {
        let program = std::env::current_exe().unwrap();
        let loaded = look(0, None);
        assert!(loaded.files.iter().all(|mapping| mapping.path != program), "{loaded:?}");
        let local = 0_u64;
        let (low, high) = mapping_of(&raw const local as u64).unwrap();
        assert!(low < high);
    }
}
