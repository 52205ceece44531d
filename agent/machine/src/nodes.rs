//! NUMA nodes, what the firmware says of their speed, and the tiers the kernel made of them.
//!
//! The kernel publishes the firmware's tables (HMAT; for CXL memory computed from the devices' CDAT) by access class: class
//! 0 is seen from the nearest initiator of any kind, which may be an accelerator, class 1 from the nearest with CPUs. Programs
//! run on CPUs, so class 1 is taken where there is one.

use serde::Serialize;

use crate::root::{Root, members};

const NODES: &str = "/sys/devices/system/node";

/// A NUMA node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Node {
    /// Its number.
    pub number: u16,
    /// Bytes of memory; None for a node without.
    pub total_bytes: Option<u64>,
    /// Bytes that are free, and those of files that were not used lately.
    pub available_bytes: Option<u64>,
    /// CPUs on it.
    pub cpus: Vec<u32>,
    /// Distances to nodes, 10 for itself.
    pub distances: Vec<Distance>,
    /// What the firmware says.
    pub attributes: Option<Attributes>,
}

/// How far a node is from another, in the firmware's tenths of a local access.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Distance {
    /// The other node.
    pub node: u16,
    /// 10 is local.
    pub distance: u32,
}

/// Speed of a node's memory as the firmware states it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Attributes {
    /// 1 as seen from the nearest CPUs, 0 from the nearest initiator of any kind.
    pub access_class: u8,
    /// Nanoseconds.
    pub read_latency_ns: Option<u64>,
    /// Nanoseconds.
    pub write_latency_ns: Option<u64>,
    /// 10^6 bytes a second.
    pub read_bandwidth_mbs: Option<u64>,
    /// 10^6 bytes a second.
    pub write_bandwidth_mbs: Option<u64>,
}

/// A memory tier of the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KernelTier {
    /// Lower is faster.
    pub rank: u32,
    /// Its nodes.
    pub nodes: Vec<u32>,
}

/// All nodes online.
pub fn nodes(root: &Root) -> Vec<Node> {
    let online = members(&root.line(format!("{NODES}/online")).unwrap_or_default());
    // Kernels are built for at most 1024 nodes.
    let online: Vec<u16> = online.into_iter().filter_map(|node| u16::try_from(node).ok()).collect();
    online.iter().map(|&number| node(root, number, &online)).collect()
}

fn node(root: &Root, number: u16, online: &[u16]) -> Node {
    let base = format!("{NODES}/node{number}");
    let bytes = |key: &str| root.kibibytes(format!("{base}/meminfo"), key);
    let total_bytes = bytes("MemTotal").filter(|&bytes| bytes > 0);
    let available_bytes = bytes("MemFree").map(|free| free.saturating_add(bytes("Inactive(file)").unwrap_or_default()));
    let distances = root.line(format!("{base}/distance")).unwrap_or_default();
    // The file has one number for each node online, in order.
    let distances = online
        .iter()
        .zip(distances.split_whitespace())
        .filter_map(|(&node, distance)| Some(Distance { node, distance: distance.parse().ok()? }))
        .collect();
    let cpus = members(&root.line(format!("{base}/cpulist")).unwrap_or_default());
    Node { number, total_bytes, available_bytes, cpus, distances, attributes: attributes(root, &base) }
}

fn attributes(root: &Root, base: &str) -> Option<Attributes> {
    [1, 0].into_iter().find_map(|access_class| {
        let read = |name: &str| {
            let path = format!("{base}/access{access_class}/initiators/{name}");
            // Zero stands for "not stated".
            root.unsigned(path).filter(|&value| value > 0)
        };
        let found = Attributes {
            access_class,
            read_latency_ns: read("read_latency"),
            write_latency_ns: read("write_latency"),
            read_bandwidth_mbs: read("read_bandwidth"),
            write_bandwidth_mbs: read("write_bandwidth"),
        };
        let any = [found.read_latency_ns, found.write_latency_ns, found.read_bandwidth_mbs, found.write_bandwidth_mbs];
        any.iter().any(Option::is_some).then_some(found)
    })
}

/// The kernel's tiers, the fastest first.
pub fn kernel_tiers(root: &Root) -> Vec<KernelTier> {
    let base = "/sys/devices/virtual/memory_tiering";
    let tier = |name: String| {
        let rank = name.strip_prefix("memory_tier")?.parse().ok()?;
        Some(KernelTier { rank, nodes: members(&root.line(format!("{base}/{name}/nodelist"))?) })
    };
    let mut tiers: Vec<KernelTier> = root.names(base).into_iter().filter_map(tier).collect();
    tiers.sort_by_key(|tier| tier.rank);
    tiers
}

/// Whether the kernel moves cold pages to slower nodes instead of reclaiming them; None where it cannot.
pub fn demotion(root: &Root) -> Option<bool> {
    match root.line("/sys/kernel/mm/numa/demotion_enabled")?.as_str() {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}
