//! Resident memory of this process, as the kernel counts it.

/// The peak so far in bytes (`VmHWM`); 0 where `/proc` cannot be read.
pub(crate) fn peak_resident_bytes() -> u64 {
    status_field("VmHWM:")
}

/// Now, in bytes (`VmRSS`); 0 where `/proc` cannot be read.
pub(crate) fn resident_bytes() -> u64 {
    status_field("VmRSS:")
}

fn status_field(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().unwrap_or(0);
    kibibytes << 10
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_is_touched_is_resident() {
        // More than all other tests hold together: they run beside this one and free what they hold at any time.
        const BYTES: usize = 96 << 20;
        let block = std::hint::black_box(vec![1u8; BYTES]);
        let (resident, peak) = (resident_bytes(), peak_resident_bytes());
        assert!(resident >= BYTES as u64 && resident < 8 * BYTES as u64, "{resident}");
        assert!(peak >= BYTES as u64, "{peak}");
        drop(block);
    }
}
