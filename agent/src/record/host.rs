//! What kind of machine a recording was made on, and small facts about processes from `/proc`.

use std::path::Path;
use tierscope_traces::{Cache, Host};

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path).map(|text| text.trim().to_string()).unwrap_or_default()
}

/// Numbers in `0-3,7`.
fn count_list(list: &str) -> u32 {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.trim().parse::<u32>().ok()?, last.trim().parse::<u32>().ok()?);
        last.checked_sub(first)?.checked_add(1)
    };
    list.split(',').filter_map(range).fold(0, u32::saturating_add)
}

fn caches() -> Vec<Cache> {
    let mut caches = Vec::new();
    for index in 0..16 {
        let directory = format!("/sys/devices/system/cpu/cpu0/cache/index{index}");
        let field = |name: &str| read(format!("{directory}/{name}"));
        let Ok(level) = field("level").parse() else { break };
        let bytes = crate::units::parse_bytes(&field("size")).unwrap_or(0);
        caches.push(Cache {
            level,
            kind: field("type").to_lowercase(),
            bytes,
            line: field("coherency_line_size").parse().unwrap_or(0),
            ways: field("ways_of_associativity").parse().unwrap_or(0),
            shared_cpus: count_list(&field("shared_cpu_list")),
        });
    }
    caches
}

/// Describes this machine; what cannot be read stays empty.
pub(crate) fn describe() -> Host {
    let cpuinfo = read("/proc/cpuinfo");
    let field = |name: &str| {
        let line = cpuinfo.lines().find(|line| line.split(':').next().is_some_and(|key| key.trim() == name));
        line.and_then(|line| line.split_once(':')).map_or_else(String::new, |(_, value)| value.trim().to_string())
    };
    let hypervisor = field("flags").split_whitespace().any(|flag| flag == "hypervisor");
    let product = read("/sys/class/dmi/id/product_name");
    let vendor = read("/sys/hypervisor/type");
    let named = [product, vendor].into_iter().find(|name| !name.is_empty());
    let container = ["/.dockerenv", "/run/.containerenv"].into_iter().find(|path| Path::new(path).exists());
    Host {
        kernel: read("/proc/sys/kernel/osrelease"),
        cpu_model: field("model name"),
        vendor: field("vendor_id"),
        cpus: count_list(&read("/sys/devices/system/cpu/online")),
        caches: caches(),
        memory_bytes: procfs::Current::current().map(|info: procfs::Meminfo| info.mem_total).unwrap_or(0),
        nodes: count_list(&read("/sys/devices/system/node/online")).max(1),
        virtual_machine: hypervisor.then(|| named.unwrap_or_else(|| "hypervisor".into())),
        container: container.map(|path| path.trim_start_matches('/').to_string()),
    }
}

/// The command line of a process; its name in brackets where there is none.
pub(super) fn command_of(pid: u32) -> Vec<String> {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = bytes.split(|byte| *byte == 0).filter(|word| !word.is_empty());
    let words: Vec<String> = words.map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    if words.is_empty() { vec![format!("[{}]", read(format!("/proc/{pid}/comm")))] } else { words }
}

/// Resident memory of a process in bytes.
pub(super) fn resident_bytes(pid: u32) -> Option<u64> {
    let statm = read(format!("/proc/{pid}/statm"));
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    pages.checked_mul(rustix::param::page_size() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists_are_counted() {
        for (list, count) in [("0", 1), ("0-3", 4), ("0-3,8,10-11", 7), ("", 0), ("3-1", 0), ("x", 0)] {
            assert_eq!(count_list(list), count, "{list:?}");
        }
    }

    #[test]
    fn this_machine_is_described() {
        let host = describe();
        assert!(host.cpus > 0 && host.memory_bytes > 0 && !host.kernel.is_empty());
    }

    #[test]
    fn our_own_command_and_memory_are_read() {
        assert!(!command_of(std::process::id()).is_empty());
        assert!(resident_bytes(std::process::id()).is_some_and(|bytes| bytes > 1 << 20));
    }
}
