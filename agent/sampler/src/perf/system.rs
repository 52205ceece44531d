//! The few facts of `/proc` and `/sys` that opening events depends on.

use std::io;
use std::str::FromStr;

/// The processors that can run anything now. Threads of a container confined to fewer are simply never seen on the
/// others, which costs open files and nothing else; confinement can change while the target runs, the event cannot.
pub(super) fn online_cpus() -> Vec<usize> {
    let listed = std::fs::read_to_string("/sys/devices/system/cpu/online").ok().map(|list| parse_cpu_list(&list));
    match listed {
        Some(cpus) if !cpus.is_empty() => cpus,
        _ => (0..std::thread::available_parallelism().map_or(1, usize::from)).collect(),
    }
}

/// Parses `0-3,8,10-11`. What is not a number is left out.
fn parse_cpu_list(list: &str) -> Vec<usize> {
    const MOST_CPUS: usize = 1 << 16;
    let mut cpus = Vec::new();
    for part in list.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<usize>(), last.parse::<usize>()) {
            cpus.extend(first..=last.min(MOST_CPUS));
        }
    }
    cpus
}

/// The threads of a process; none if it is gone.
pub(super) fn threads(pid: u32) -> Vec<u32> {
    let Ok(directory) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    directory.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// The processor a thread last ran on.
pub(super) fn processor(pid: u32, tid: u32) -> Option<usize> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/task/{tid}/stat")).ok()?;
    // Field 39; the second is a name in parentheses that may hold anything.
    stat.rsplit_once(')')?.1.split_whitespace().nth(36)?.parse().ok()
}

/// `CLOCK_MONOTONIC`, which events are stamped with.
pub(super) fn monotonic_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a live timespec that the call fills in.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

/// Size of a page.
pub(super) fn page_bytes() -> usize {
    // SAFETY: sysconf takes a number and touches no memory of ours.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

/// A number under `/proc/sys/kernel`.
pub(super) fn kernel_setting<T: FromStr>(name: &str) -> Option<T> {
    std::fs::read_to_string(format!("/proc/sys/kernel/{name}")).ok()?.trim().parse().ok()
}

/// Raises the limit on open files as far as an ordinary user may; returns the limit that holds then.
pub(super) fn raise_open_files() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a live rlimit that the call fills in.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: the pointer is to a live rlimit that the call only reads.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(limit.rlim_cur)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists_have_ranges_and_singles() {
        assert_eq!(parse_cpu_list("0-2,5,7-8\n"), [0, 1, 2, 5, 7, 8]);
        assert_eq!(parse_cpu_list("0\n"), [0]);
        assert_eq!(parse_cpu_list("x,3-1,"), [] as [usize; 0]);
    }

    #[test]
    fn this_process_has_threads_and_the_machine_processors() {
        assert!(!threads(std::process::id()).is_empty());
        assert!(!online_cpus().is_empty());
        assert!(online_cpus().contains(&processor(std::process::id(), std::process::id()).unwrap()));
        assert!(threads(u32::MAX).is_empty());
    }
}
