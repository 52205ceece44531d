//! Memory of one node, in huge pages where the kernel gives them.
//!
//! Huge pages because a random access to a gigabyte in small pages misses the TLB too, and the walk of the page table would
//! be measured with it. Whether they were given is looked up, not assumed.

use std::ptr::NonNull;

use crate::root::Root;

/// Pages whose place is asked for.
const PROBED: usize = 256;
const MPOL_PREFERRED: i32 = 1;

/// A private mapping, given back when dropped.
pub(crate) struct Buffer {
    start: NonNull<u64>,
    bytes: usize,
}

// SAFETY: the mapping is owned and has no interior mutability; sharing it is sharing a slice.
unsafe impl Send for Buffer {}
// SAFETY: as above.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// Fresh zeroed memory, `bytes` a multiple of the page.
    pub(crate) fn new(bytes: usize) -> Result<Self, String> {
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
        let address = unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, flags, -1, 0) };
        let start = (address != libc::MAP_FAILED).then(|| NonNull::new(address.cast::<u64>())).flatten();
        let start = start.ok_or_else(|| {
            let error = std::io::Error::last_os_error();
            format!("{} of memory cannot be mapped: {error}", tierscope_tiers::human_bytes(bytes as u64))
        })?;
        // SAFETY: the range is the mapping just made. Refusal costs accuracy, which `huge_part` tells.
        unsafe { libc::madvise(address, bytes, libc::MADV_HUGEPAGE) };
        Ok(Self { start, bytes })
    }

    /// Prefer memory of a node for what has not been touched yet.
    pub(crate) fn prefer(&self, node: u16) -> Result<(), std::io::Error> {
        let mut mask = [0_u64; 16];
        if let Some(word) = mask.get_mut(usize::from(node) / 64) {
            *word = 1 << (node % 64);
        }
        // The kernel takes one bit less than it is told.
        let bits = mask.len() * 64 + 1;
        // SAFETY: the range is our mapping and the mask has the bits it is said to have.
        let outcome = unsafe {
            libc::syscall(libc::SYS_mbind, self.start.as_ptr(), self.bytes, MPOL_PREFERRED, mask.as_ptr(), bits, 0)
        };
        if outcome == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    }

    pub(crate) fn words(&self) -> &[u64] {
        // SAFETY: the mapping is readable, zeroed, aligned to a page, that long, and lives as long as the borrow.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.bytes / 8) }
    }

    pub(crate) fn words_mut(&mut self) -> &mut [u64] {
        // SAFETY: as in `words`, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.bytes / 8) }
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `words_mut`; bytes need no alignment.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr().cast(), self.bytes) }
    }

    /// The part of pages probed that lie on a node; None where the kernel does not tell.
    pub(crate) fn part_on(&self, node: u16) -> Option<f64> {
        let step = (self.bytes / PROBED).max(1);
        let base = self.start.as_ptr() as usize;
        let pages: Vec<usize> = (0..PROBED.min(self.bytes)).map(|index| base + index * step).collect();
        let mut places = vec![i32::MIN; pages.len()];
        let (none, flags) = (std::ptr::null::<i32>(), 0);
        // SAFETY: with no target nodes the call only asks; both arrays have the length given.
        let outcome = unsafe {
            libc::syscall(libc::SYS_move_pages, 0, pages.len(), pages.as_ptr(), none, places.as_mut_ptr(), flags)
        };
        let here = places.iter().filter(|&&place| place == i32::from(node)).count();
        (outcome == 0).then(|| here as f64 / places.len() as f64)
    }

    /// The part that is in huge pages, by `/proc/self/smaps`.
    pub(crate) fn huge_part(&self) -> Option<f64> {
        let text = Root::default().text("/proc/self/smaps")?;
        let base = self.start.as_ptr() as u64;
        let mut inside = false;
        for line in text.lines() {
            let range = line.split_once(' ').and_then(|(range, _)| range.split_once('-'));
            let range = range
                .and_then(|(low, high)| Some(u64::from_str_radix(low, 16).ok()?..u64::from_str_radix(high, 16).ok()?));
            if let Some(range) = range {
                inside = range.contains(&base);
            } else if inside && let Some(rest) = line.strip_prefix("AnonHugePages:") {
                let kibibytes: u64 = rest.split_whitespace().next()?.parse().ok()?;
                return Some((kibibytes as f64 * 1024.0 / self.bytes as f64).min(1.0));
            }
        }
        None
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: the range is the mapping made in `new`, and no borrow of it outlives this.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn touched_memory_can_be_found_on_a_node() {
        let mut buffer = Buffer::new(1 << 20).unwrap();
        assert!(buffer.words().iter().all(|&word| word == 0));
        buffer.words_mut().fill(7);
        assert!(buffer.bytes_mut().iter().all(|&byte| byte == 7 || byte == 0));
        let nodes = crate::nodes::nodes(&Root::default());
        let parts: Vec<f64> = nodes.iter().filter_map(|node| buffer.part_on(node.number)).collect();
        // Where the kernel shows nodes and tells places, the pages are somewhere.
        assert!(parts.is_empty() || (parts.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{parts:?}");
        if let Some(part) = buffer.huge_part() {
            assert!((0.0..=1.0).contains(&part));
        }
    }

    #[test]
    fn more_than_the_address_space_is_refused() {
        assert!(Buffer::new(1 << 60).err().unwrap().contains("cannot be mapped"));
    }
}
