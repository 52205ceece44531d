//! How much memory this process may have.

use serde::Serialize;

use crate::root::Root;

/// The tightest limit of this process's memory cgroup and those above it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct MemoryLimit {
    /// 1 or 2: which kind of cgroup has the memory controller.
    pub cgroup_version: u8,
    /// Bytes; None for no limit.
    pub bytes: Option<u64>,
    /// Bytes in use in the group that has the limit, without pages of files not used lately, which the kernel gives up first.
    pub used_bytes: Option<u64>,
}

impl MemoryLimit {
    /// Bytes that can still be had under it; None without a limit.
    pub fn headroom(&self) -> Option<u64> {
        self.bytes.map(|bytes| bytes.saturating_sub(self.used_bytes.unwrap_or_default()))
    }
}

/// What a version of cgroups calls things.
struct Names {
    version: u8,
    base: &'static str,
    limit: &'static str,
    usage: &'static str,
    inactive: &'static str,
}

const FIRST: Names = Names {
    version: 1,
    base: "/sys/fs/cgroup/memory",
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    inactive: "total_inactive_file",
};
const SECOND: Names = Names {
    version: 2,
    base: "/sys/fs/cgroup",
    limit: "memory.max",
    usage: "memory.current",
    inactive: "inactive_file",
};

/// The limit of this process; None where there is no memory cgroup. On a machine with both versions the memory controller
/// is in the first if that lists it.
pub fn memory_limit(root: &Root) -> Option<MemoryLimit> {
    let cgroups = root.text("/proc/self/cgroup")?;
    let first = cgroups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        controllers.split(',').any(|controller| controller == "memory").then_some((FIRST, path))
    });
    let second = || cgroups.lines().find_map(|line| Some((SECOND, line.strip_prefix("0::")?)));
    let (names, path) = first.or_else(second)?;
    let mut found = MemoryLimit { cgroup_version: names.version, bytes: None, used_bytes: None };
    let mut current = path.trim_end_matches('/').to_owned();
    loop {
        let group = format!("{}{current}", names.base);
        // Version 1 writes "no limit" as the largest number of pages, version 2 as the word `max`.
        let limit = root.unsigned(format!("{group}/{}", names.limit)).filter(|&bytes| bytes < 1 << 62);
        if let Some(bytes) = limit
            && found.bytes.is_none_or(|least| bytes < least)
        {
            found.bytes = Some(bytes);
            found.used_bytes = used(root, &group, &names);
        }
        match current.rfind('/') {
            Some(parent) => current.truncate(parent),
            None => return Some(found),
        }
    }
}

fn used(root: &Root, group: &str, names: &Names) -> Option<u64> {
    let usage = root.unsigned(format!("{group}/{}", names.usage))?;
    let statistics = root.text(format!("{group}/memory.stat")).unwrap_or_default();
    let inactive = statistics.lines().find_map(|line| {
        let (name, bytes) = line.split_once(' ')?;
        (name == names.inactive).then(|| bytes.trim().parse::<u64>().ok())?
    });
    Some(usage.saturating_sub(inactive.unwrap_or_default()))
}
