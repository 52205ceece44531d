//! Whether a policy can be carried out here: everything that can be known before the program starts.
//!
//! What is wrong with the machine or the policy is an error, because a person can mend it and would else find out from a
//! program that ran all night in the wrong memory. What may turn out well is a warning. Once the program runs nothing
//! stops it any more: what finds no room goes to the default tier and is counted.
//!
//! Tiers that neither a rule nor the default names are not looked at. Where a system call can tell for sure, it is tried
//! (memory is bound to the nodes, a file is made in the directory) rather than guessed from what `/sys` says.

use std::collections::HashSet;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use rustix::io::Errno;
use tierscope_machine::{Machine, Root};
use tierscope_policy::{Backend, Policy, Tier};
use tierscope_tiers::human_bytes;

/// A directory with less room than this is full.
const LEAST_ROOM: u64 = 1 << 20;

/// Something that stands against a policy here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    /// Whether the policy cannot be carried out.
    pub(super) is_fatal: bool,
    /// What is wrong and why, a sentence without a full stop.
    pub(super) text: String,
    /// What mends it.
    pub(super) mend: Option<String>,
}

/// Everything that stands against carrying out a policy on the machine below `root`, in the order of its tiers.
pub(super) fn check(policy: &Policy, root: &Root, machine: &Machine) -> Vec<Finding> {
    let used: HashSet<&str> =
        policy.rules.iter().map(|rule| rule.tier.as_str()).chain([policy.default_tier.as_str()]).collect();
    let mut checks = Checks { root, machine, tier: "", findings: Vec::new() };
    for tier in policy.tiers.iter().filter(|tier| used.contains(tier.name.as_str())) {
        checks.tier = &tier.name;
        checks.tier(tier);
        let rules = (1_u32..).zip(&policy.rules).filter(|(_, rule)| rule.tier == tier.name && rule.symbol.is_some());
        if matches!(tier.backend, Some(Backend::File { .. } | Backend::Dax { .. } | Backend::Swap)) {
            rules.for_each(|(number, _)| {
                checks.warning(format!(
                    "the global of rule {number} stays where it is: only \
                memory of NUMA nodes can be put behind what is there already"
                ))
            });
        }
    }
    checks.findings
}

struct Checks<'a> {
    root: &'a Root,
    machine: &'a Machine,
    tier: &'a str,
    findings: Vec<Finding>,
}

impl Checks<'_> {
    fn error(&mut self, text: String, mend: impl Into<String>) {
        let text = format!("tier `{}`: {text}", self.tier);
        self.findings.push(Finding { is_fatal: true, text, mend: Some(mend.into()) });
    }

    fn warning(&mut self, text: String) {
        let text = format!("tier `{}`: {text}", self.tier);
        self.findings.push(Finding { is_fatal: false, text, mend: None });
    }

    fn tier(&mut self, tier: &Tier) {
        match &tier.backend {
            None => {}
            Some(Backend::Numa { nodes, .. }) => self.nodes(nodes, tier.capacity),
            Some(Backend::Interleave { nodes, weights }) => {
                self.nodes(nodes, tier.capacity);
                self.weights(nodes, weights);
            }
            Some(Backend::File { dir }) => self.directory(Path::new(dir), tier.capacity),
            Some(Backend::Dax { device }) => self.device(Path::new(device), tier.capacity),
            Some(Backend::Swap) => self.swap(tier.capacity),
        }
    }

    fn nodes(&mut self, nodes: &[u16], capacity: Option<u64>) {
        let known = |number: u16| self.machine.nodes.iter().find(|node| node.number == number);
        let memory = |number: u16| known(number).and_then(|node| node.total_bytes).unwrap_or(0);
        let there: Vec<String> =
            self.machine.nodes.iter().filter(|node| node.total_bytes.is_some()).map(|n| n.number.to_string()).collect();
        let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
        let wrong: Vec<String> = nodes
            .iter()
            .filter(|&&node| memory(node) == 0)
            .map(|&node| match known(node) {
                None => format!("there is no NUMA node {node} here (nodes with memory: {there})"),
                Some(_) => format!("NUMA node {node} has no memory (nodes with memory: {there})"),
            })
            .collect();
        let total: u64 = nodes.iter().map(|&node| memory(node)).sum();
        let available = nodes.iter().filter_map(|&node| known(node)?.available_bytes).sum();
        let mend = "write other `nodes` into the policy; `tierscope tiers` shows those of this machine";
        if !wrong.is_empty() {
            return wrong.into_iter().for_each(|text| self.error(text, mend));
        }
        if let Err(error) = bind_a_page(nodes) {
            let list: Vec<String> = nodes.iter().map(u16::to_string).collect();
            let text = format!("memory cannot be placed on NUMA node {}: {error}", list.join(" or "));
            let mend = match error {
                Errno::PERM | Errno::NOSYS => {
                    "system calls are filtered (as in containers): allow mbind, for example `docker run --cap-add SYS_NICE`"
                }
                _ => {
                    "this process may not use it: see Mems_allowed_list in /proc/self/status, and the cpuset that sets it"
                }
            };
            return self.error(text, mend);
        }
        self.capacity(capacity, total, available, "its nodes");
    }

    /// The kernel's weights are the machine's: a program cannot have its own.
    fn weights(&mut self, nodes: &[u16], weights: &[u8]) {
        const KERNEL: &str = "/sys/kernel/mm/mempolicy/weighted_interleave";
        if weights.is_empty() {
            return;
        }
        if !self.root.exists(KERNEL) {
            self.warning(
                "this kernel has no weighted interleaving (Linux 6.9 has): its nodes take turns evenly".into(),
            );
            return;
        }
        let other = nodes.iter().zip(weights).find_map(|(node, &weight)| {
            let path = format!("{KERNEL}/node{node}");
            let found = self.root.unsigned(&path)?;
            (found != u64::from(weight)).then(|| {
                format!(
                    "node {node} has weight {found} on this machine, not {weight} \
                (`echo {weight} > {path}` as root sets it for every program)"
                )
            })
        });
        if let Some(text) = other {
            self.warning(text);
        }
    }

    /// Of memory that programs share.
    fn capacity(&mut self, capacity: Option<u64>, total: u64, available: u64, what: &str) {
        let Some(capacity) = capacity else { return };
        let (wanted, whole) = (human_bytes(capacity), human_bytes(total));
        if capacity > total {
            let text = format!("its capacity is {wanted}, and {what} have {whole} in all");
            return self.error(text, "lower its `capacity` in the policy, or advise anew for less (`--fast`)");
        }
        if capacity > available {
            let free = human_bytes(available);
            self.warning(format!("its capacity is {wanted}, and of {what} only {free} are free now"));
        }
        let limit = self.machine.limit.and_then(|limit| limit.bytes).filter(|bytes| *bytes < capacity);
        if let Some(limit) = limit {
            self.warning(format!(
                "its capacity is {wanted}, above this process's memory limit of {}",
                human_bytes(limit)
            ));
        }
    }

    fn directory(&mut self, dir: &Path, capacity: Option<u64>) {
        let shown = dir.display();
        let mend = format!("mkdir -p {shown} (as a user who may), or write another `dir` into the policy");
        match std::fs::metadata(dir) {
            Err(error) => return self.error(format!("the directory {shown} cannot be used: {error}"), mend),
            Ok(found) if !found.is_dir() => return self.error(format!("{shown} is no directory"), mend),
            Ok(_) => {}
        }
        match make_a_file(dir) {
            Ok(()) => {}
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT)) => {
                return self.error(
                    format!("{shown} is full: {error}"),
                    "make room there, or write another `dir` into the policy",
                );
            }
            Err(error) => {
                let text = format!("no memory can be had from a file in {shown}: {error}");
                return self.error(text, "write another `dir` into the policy, which this user may write to");
            }
        }
        if rustix::fs::statfs(dir).is_ok_and(|found| found.f_type == libc::TMPFS_MAGIC) {
            self.warning(format!(
                "{shown} is on tmpfs, which is memory itself: what is placed there takes as much of it"
            ));
        }
        let Ok(space) = rustix::fs::statvfs(dir) else { return };
        let (total, free) =
            (space.f_blocks.saturating_mul(space.f_frsize), space.f_bavail.saturating_mul(space.f_frsize));
        let has = human_bytes(free);
        if free < LEAST_ROOM {
            let text = format!("{shown} is full: {has} are free");
            return self.error(text, "make room there, or write another `dir` into the policy");
        }
        let Some(capacity) = capacity else { return };
        if capacity > total {
            let text =
                format!("its capacity is {}, and {shown} has {} in all", human_bytes(capacity), human_bytes(total));
            self.error(text, "lower its `capacity` in the policy");
        } else if capacity > free {
            self.warning(format!("its capacity is {}, and in {shown} only {has} are free", human_bytes(capacity)));
        }
    }

    fn device(&mut self, device: &Path, capacity: Option<u64>) {
        let shown = device.display();
        let mend = "`tierscope tiers` shows the DAX devices of this machine; `daxctl reconfigure-device -m devdax NAME` \
                    makes one that programs map";
        match std::fs::metadata(device) {
            Err(error) => return self.error(format!("the DAX device {shown} cannot be used: {error}"), mend),
            Ok(found) if !found.file_type().is_char_device() => {
                return self.error(format!("{shown} is no DAX device"), mend);
            }
            Ok(_) => {}
        }
        if let Err(error) = std::fs::OpenOptions::new().read(true).write(true).open(device) {
            let mend = "run as a user who may, or give this user the device (`chown`, a udev rule)";
            return self.error(format!("the DAX device {shown} cannot be opened: {error}"), mend);
        }
        let real = std::fs::canonicalize(device).unwrap_or_else(|_| device.to_path_buf());
        let name = real.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some(known) = self.machine.dax.iter().find(|dax| dax.name == name) else {
            return self.error(format!("{shown} is no DAX device"), mend);
        };
        match known.driver.as_deref() {
            Some("device_dax") => {}
            Some("kmem") => {
                let node = known.target_node.map_or("its node".into(), |node| format!("NUMA node {node}"));
                let mend = "use `backend = \"numa\"` with that node";
                return self.error(format!("{shown} is given to the kernel, as memory of {node}"), mend);
            }
            _ => return self.error(format!("{shown} has no driver that lets programs map it"), mend),
        }
        if let (Some(bytes), Some(capacity)) = (known.bytes, capacity)
            && capacity > bytes
        {
            let text = format!("its capacity is {}, and {shown} has {}", human_bytes(capacity), human_bytes(bytes));
            return self.error(text, "lower its `capacity` in the policy");
        }
        let granule = self.root.unsigned(format!("/sys/bus/dax/devices/{name}/align")).unwrap_or(2 << 20);
        match map_a_granule(device, usize::try_from(granule).unwrap_or(2 << 20)) {
            Ok(true) => {}
            Ok(false) => self.warning(format!(
                "another process has {shown} now, and only one can: until it ends, what is meant for it goes to the \
                 default tier"
            )),
            Err(error) => self.error(format!("{shown} cannot be mapped: {error}"), mend),
        }
    }

    fn swap(&mut self, capacity: Option<u64>) {
        let areas = &self.machine.swap;
        if areas.is_empty() {
            let mend = "`mkswap FILE && swapon FILE`, or zram, as root; or give the tier another `backend`";
            return self.error("no swap is in use here, so nothing can be given up to it".into(), mend);
        }
        let total = areas.iter().map(|area| area.bytes).sum();
        let available = areas.iter().map(|area| area.bytes.saturating_sub(area.used_bytes)).sum();
        self.capacity(capacity, total, available, "the swap areas");
    }
}

/// Binds a page of memory to some nodes: whether this process may.
fn bind_a_page(nodes: &[u16]) -> Result<(), Errno> {
    const BITS: usize = usize::BITS as usize;
    let mut mask = [0_usize; 1024 / BITS];
    for &node in nodes {
        let word = mask.get_mut(usize::from(node) / BITS).ok_or(Errno::INVAL)?;
        *word |= 1 << (usize::from(node) % BITS);
    }
    let bytes = rustix::param::page_size();
    // SAFETY: a new mapping of our own, used by nobody.
    let page = unsafe {
        use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
        mmap_anonymous(std::ptr::null_mut(), bytes, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)
    }?;
    // SAFETY: the page is ours and `mask` has the bits that are announced; the kernel takes one off their number.
    let answer = unsafe { libc::syscall(libc::SYS_mbind, page, bytes, libc::MPOL_BIND, mask.as_ptr(), 1025_usize, 0) };
    let result = if answer == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) };
    // SAFETY: the mapping made above, in whole.
    unsafe { rustix::mm::munmap(page, bytes) }?;
    result.map_err(|error| Errno::from_raw_os_error(error.raw_os_error().unwrap_or(libc::EINVAL)))
}

/// Maps the beginning of a DAX device, for a moment; false where another process has locked it, as our library does.
fn map_a_granule(device: &Path, bytes: usize) -> std::io::Result<bool> {
    let file = std::fs::OpenOptions::new().read(true).write(true).open(device)?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => return Ok(false),
        result => result?,
    }
    // SAFETY: it is not accessed, and unmapped at once.
    unsafe { memmap2::MmapOptions::new().len(bytes).map_mut(&file) }.map(|_| true)
}

/// Makes an unnamed file of a page in a directory and maps it shared: whether that gives memory.
fn make_a_file(dir: &Path) -> std::io::Result<()> {
    let file = tempfile::tempfile_in(dir)?;
    let bytes = rustix::param::page_size();
    // Blocks are taken by writing: on a full disk a first touch of a mapping would be fatal.
    std::os::unix::fs::FileExt::write_all_at(&file, &vec![0; bytes], 0)?;
    // SAFETY: the file has no name, so nobody else can change it while it is mapped; it is not accessed.
    unsafe { memmap2::MmapOptions::new().len(bytes).map_mut(&file) }.map(drop)
}

#[cfg(test)]
mod tests;
