//! Everything found on a machine, in one value.

use serde::Serialize;

use crate::limits::{MemoryLimit, memory_limit};
use crate::nodes::{KernelTier, Node, demotion, kernel_tiers, nodes};
use crate::root::Root;
use crate::storage::{DaxDevice, Filesystem, SwapArea, dax_devices, filesystems, swap_areas};
use tierscope_tiers::bytes_of;

/// What memory a machine has. Serialises as `machine` of `tiers --json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Machine {
    /// NUMA nodes online.
    pub nodes: Vec<Node>,
    /// The kernel's memory tiers, the fastest first; empty where it shows none.
    pub kernel_tiers: Vec<KernelTier>,
    /// Whether cold pages are demoted; None where the kernel cannot.
    pub demotion: Option<bool>,
    /// DAX devices.
    pub dax: Vec<DaxDevice>,
    /// Swap areas in use.
    pub swap: Vec<SwapArea>,
    /// File systems a file tier could be on.
    pub filesystems: Vec<Filesystem>,
    /// The limit on this process's memory; None without a memory cgroup.
    pub limit: Option<MemoryLimit>,
    /// Bytes the kernel expects to give without swapping.
    pub available_bytes: Option<u64>,
    /// Bytes of the largest cache of a CPU.
    pub last_level_cache_bytes: Option<u64>,
    /// The CPU's name.
    pub cpu: Option<String>,
}

/// Look at a machine. Reads files only; what is not shown is absent.
pub fn detect(root: &Root) -> Machine {
    Machine {
        nodes: nodes(root),
        kernel_tiers: kernel_tiers(root),
        demotion: demotion(root),
        dax: dax_devices(root),
        swap: swap_areas(root),
        filesystems: filesystems(root),
        limit: memory_limit(root),
        available_bytes: root.kibibytes("/proc/meminfo", "MemAvailable"),
        last_level_cache_bytes: last_level_cache(root),
        cpu: root.field("/proc/cpuinfo", "model name"),
    }
}

fn last_level_cache(root: &Root) -> Option<u64> {
    let base = "/sys/devices/system/cpu/cpu0/cache";
    let sizes = root.names(base).into_iter().filter_map(|index| bytes_of(&root.line(format!("{base}/{index}/size"))?));
    sizes.max()
}
