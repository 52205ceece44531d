//! From what was found to a set of tiers.
//!
//! Only what can be a back end becomes a tier. A tmpfs does not: its pages are those of the nodes. Nor does a DAX device
//! that the kernel took over as memory, which is a node already.

use std::path::Path;

use tierscope_tiers::{Backend, Figure, Origin, Quantity, Tier, Tiers};

use crate::detect::Machine;
use crate::nodes::Node;
use crate::storage::{DaxDevice, DeviceKind, Filesystem};

/// Bytes of a page of a file tier, the least the kernel reads of it.
const PAGE: f64 = 4096.0;
/// Bytes of a cache line, the least that is read of memory.
const LINE: f64 = 64.0;

/// The tiers of a machine, the fastest first; figures are what firmware and kernel state, of `date`.
pub fn to_tiers(machine: &Machine, date: &str) -> Tiers {
    let kernel = Origin::new("sysfs", date);
    let mut tiers: Vec<Tier> = Vec::new();
    for node in machine.nodes.iter().filter(|node| node.total_bytes.is_some()) {
        tiers.push(of_node(node, &kernel, date));
    }
    for device in machine.dax.iter().filter(|device| device.driver.as_deref() != Some("kmem")) {
        tiers.extend(of_dax(device, &kernel));
    }
    for filesystem in machine.filesystems.iter().filter(|found| found.kind != DeviceKind::Memory) {
        let name = free_name(&tiers, Path::new(&filesystem.directory));
        tiers.push(of_filesystem(name, filesystem, date));
    }
    tiers.extend(of_swap(machine, date));
    in_order(machine, tiers)
}

/// The fastest first: by latency where it is known, else by what the thing is.
pub(crate) fn in_order(machine: &Machine, mut tiers: Vec<Tier>) -> Tiers {
    tiers.sort_by(|left, right| expected_ns(machine, left).total_cmp(&expected_ns(machine, right)));
    Tiers::new(tiers)
}

/// A latency to order by, never shown. Distances are in tenths of a local access.
fn expected_ns(machine: &Machine, tier: &Tier) -> f64 {
    if let Some(latency) = tier.value(Quantity::ReadLatencyNs) {
        return latency;
    }
    match &tier.backend {
        Some(Backend::Numa { nodes, .. }) => {
            let number = nodes.first().copied();
            let found = machine.nodes.iter().find(|node| Some(node.number) == number);
            let rank = |node: &Node| {
                machine
                    .kernel_tiers
                    .iter()
                    .find(|tier| tier.nodes.contains(&u32::from(node.number)))
                    .map(|tier| tier.rank)
            };
            let first = machine.kernel_tiers.first().map(|tier| tier.rank);
            let slower = found.and_then(rank) != first;
            let far = found.map_or(10, |node| nearest_cpus(machine, node).map_or(10, |(_, distance)| distance));
            f64::from(far) * 10.0 + if slower { 500.0 } else { 0.0 }
        }
        Some(Backend::Dax { .. }) => 900.0,
        Some(Backend::Swap) if machine.swap.iter().any(|area| area.kind == DeviceKind::Zram) => 8e3,
        Some(Backend::File { dir }) => {
            match machine.filesystems.iter().find(|found| found.directory == *dir).map(|found| found.kind) {
                Some(DeviceKind::Pmem) => 1e3,
                Some(DeviceKind::Nvme) => 8e4,
                Some(DeviceKind::Rotational) => 8e6,
                _ => 2e5,
            }
        }
        Some(Backend::Swap) => 1e7,
        _ => 1e9,
    }
}

/// The node with CPUs that is nearest to a node, and how far it is.
pub(crate) fn nearest_cpus<'a>(machine: &'a Machine, node: &Node) -> Option<(&'a Node, u32)> {
    let with_cpus = machine.nodes.iter().filter(|other| !other.cpus.is_empty());
    let far = |other: &Node| {
        let known = node.distances.iter().find(|distance| distance.node == other.number);
        known.map_or(if other.number == node.number { 10 } else { 255 }, |distance| distance.distance)
    };
    with_cpus.map(|other| (other, far(other))).min_by_key(|(_, distance)| *distance)
}

pub(crate) fn of_node(node: &Node, kernel: &Origin, date: &str) -> Tier {
    let mut tier = Tier::named(format!("node{}", node.number));
    tier.backend = Some(Backend::Numa { nodes: vec![node.number], strict: false });
    let whose = if node.cpus.is_empty() { " without CPUs" } else { "" };
    tier.description = Some(format!("memory of NUMA node {}{whose}", node.number));
    tier.set(Quantity::GranuleBytes, Figure::new(LINE, Origin::new("cache line", date)));
    if let Some(bytes) = node.total_bytes {
        tier.set(Quantity::Capacity, Figure::new(bytes as f64, kernel.clone()));
    }
    let Some(stated) = node.attributes else { return tier };
    let firmware = Origin::new(format!("HMAT or CDAT, as the kernel shows it (access{})", stated.access_class), date);
    let figures = [
        (Quantity::ReadLatencyNs, stated.read_latency_ns, 1.0),
        (Quantity::WriteLatencyNs, stated.write_latency_ns, 1.0),
        (Quantity::ReadBandwidthGbs, stated.read_bandwidth_mbs, 1e-3),
        (Quantity::WriteBandwidthGbs, stated.write_bandwidth_mbs, 1e-3),
    ];
    for (quantity, value, scale) in figures {
        if let Some(value) = value {
            set_sane(&mut tier, quantity, Figure::new(value as f64 * scale, firmware.clone()));
        }
    }
    tier
}

/// Set what a tier file can say; firmware has been seen to state nonsense.
pub(crate) fn set_sane(tier: &mut Tier, quantity: Quantity, figure: Figure) {
    let (least, most) = quantity.bounds();
    if (least..=most).contains(&figure.value) {
        tier.set(quantity, figure);
    }
}

fn of_dax(device: &DaxDevice, kernel: &Origin) -> Option<Tier> {
    tierscope_tiers::is_name(&device.name).then(|| {
        let mut tier = Tier::named(&device.name);
        tier.backend = Some(Backend::Dax { device: format!("/dev/{}", device.name) });
        let near = device.target_node.map_or_else(String::new, |node| format!(", target node {node}"));
        tier.description = Some(format!("DAX device{near}"));
        if let Some(bytes) = device.bytes {
            set_sane(&mut tier, Quantity::Capacity, Figure::new(bytes as f64, kernel.clone()));
        }
        tier
    })
}

fn of_filesystem(name: String, found: &Filesystem, date: &str) -> Tier {
    let mut tier = Tier::named(name);
    tier.backend = Some(Backend::File { dir: found.directory.clone() });
    tier.description = Some(format!("files of {} on {} ({})", found.filesystem, found.device, found.kind.name()));
    let note = Some("free for this user, not the whole device".to_owned());
    let figure = Figure { note, ..Figure::new(found.free_bytes as f64, Origin::new("statvfs", date)) };
    set_sane(&mut tier, Quantity::Capacity, figure);
    tier.set(Quantity::GranuleBytes, Figure::new(PAGE, Origin::new("page", date)));
    tier
}

/// A directory the file systems found do not name.
pub(crate) fn of_directory(tiers: &[Tier], machine: &Machine, directory: &Path, free: u64, date: &str) -> Tier {
    let dir = directory.to_string_lossy().into_owned();
    let below = crate::storage::filesystem_of(&machine.filesystems, directory);
    let unknown = Filesystem {
        directory: dir.clone(),
        filesystem: "a file system".into(),
        device: "a device not shown".into(),
        kind: DeviceKind::Other,
        dax: false,
        total_bytes: free,
        free_bytes: free,
    };
    let found = Filesystem { directory: dir, free_bytes: free, ..below.cloned().unwrap_or(unknown) };
    of_filesystem(free_name(tiers, directory), &found, date)
}

/// `file-mnt-tier` of `/mnt/tier`, with a number where that is taken.
fn free_name(tiers: &[Tier], directory: &Path) -> String {
    let text = directory.to_string_lossy();
    let letters =
        text.trim_matches('/').chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' });
    let words: String = letters.take(48).collect();
    let base = if words.is_empty() { "file-root".to_owned() } else { format!("file-{words}") };
    let taken = |name: &str| tiers.iter().any(|tier| tier.name == name);
    let numbered = (2..=tiers.len() + 2).map(|number| format!("{base}-{number}"));
    std::iter::once(base.clone()).chain(numbered).find(|name| !taken(name)).unwrap_or(base)
}

fn of_swap(machine: &Machine, date: &str) -> Option<Tier> {
    let bytes: u64 = machine.swap.iter().map(|area| area.bytes).fold(0, u64::saturating_add);
    (bytes > 0).then(|| {
        let mut tier = Tier::named("swap");
        tier.backend = Some(Backend::Swap);
        let areas = machine.swap.iter().map(|area| format!("{} ({})", area.path, area.kind.name()));
        tier.description = Some(format!("memory paged out to {}", areas.collect::<Vec<_>>().join(", ")));
        set_sane(&mut tier, Quantity::Capacity, Figure::new(bytes as f64, Origin::new("/proc/swaps", date)));
        tier.set(Quantity::GranuleBytes, Figure::new(PAGE, Origin::new("page", date)));
        tier
    })
}
