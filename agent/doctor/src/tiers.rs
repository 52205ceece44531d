//! What kinds of memory there are, and how much of them this process may have.

use crate::check::{Area, Check};
use crate::machine::Machine;
use tierscope_machine::{DaxDevice, Node, count, ranges};
use tierscope_tiers::human_bytes;

pub(crate) fn checks(machine: &Machine) -> Vec<Check> {
    vec![nodes(machine), kernel_tiers(machine), attributes(machine), dax(machine), memory_limit(machine), swap(machine)]
}

fn check(id: &'static str, title: &'static str, finding: impl Into<String>) -> Check {
    Check::ok(Area::Tiers, id, title, finding)
}

fn describe(node: &Node) -> String {
    let cpus = if node.cpus.is_empty() { "no CPU".to_owned() } else { count(node.cpus.len(), "CPU") };
    let bytes = node.total_bytes.map_or_else(|| "no memory".to_owned(), human_bytes);
    format!("node {}: {bytes}, {cpus}", node.number)
}

fn nodes(machine: &Machine) -> Check {
    let nodes = tierscope_machine::nodes(&machine.root);
    let found = |finding: String| check("tiers.nodes", "NUMA nodes", finding);
    let described: Vec<String> = nodes.iter().map(describe).collect();
    match described.len() {
        0 => found("the kernel shows none".into())
            .missing("Memory cannot be placed by node; profiles, advice and simulation work without."),
        1 => found(described.join("; ")).limited(
            "One kind of memory: placement can be planned and simulated, and tiers can be files or swap, but there is \
             no second node to place objects on. It cannot be mended without such memory.",
        ),
        _ => found(described.join("; ")),
    }
}

fn kernel_tiers(machine: &Machine) -> Check {
    let found = |finding: String| check("tiers.kernel", "kernel tiers", finding);
    let tiers = tierscope_machine::kernel_tiers(&machine.root);
    let described: Vec<String> =
        tiers.iter().map(|tier| format!("tier {}: node {}", tier.rank, ranges(&tier.nodes))).collect();
    match (tiers.len(), tierscope_machine::nodes(&machine.root).len()) {
        (0, 0 | 1) => found("not shown".into()),
        (0, _) => found("not shown (Linux 6.1 shows them)".into())
            .limited("Which nodes are fast and which slow is told from distances, or by `tierscope tiers --measure`."),
        (1, 2..) => found(described.join("; "))
            .limited("The kernel takes all nodes for equally fast; `tierscope tiers --measure` finds out."),
        _ => found(described.join("; ")),
    }
}

fn attributes(machine: &Machine) -> Check {
    let found = |finding: String| check("tiers.attributes", "latency, bandwidth", finding);
    let nodes = tierscope_machine::nodes(&machine.root);
    let described: Vec<String> = nodes
        .iter()
        .filter_map(|node| {
            let stated = node.attributes?;
            let latency = stated.read_latency_ns.map(|latency| format!("{latency} ns"));
            let bandwidth = stated.read_bandwidth_mbs.map(|bandwidth| format!("{bandwidth} MB/s"));
            let both: Vec<String> = latency.into_iter().chain(bandwidth).collect();
            (!both.is_empty()).then(|| format!("node {}: {}", node.number, both.join(", ")))
        })
        .collect();
    match described.is_empty() {
        false => found(described.join("; ")),
        true if nodes.len() < 2 => found("one node: nothing to compare".into()),
        true => found("the firmware states none (HMAT)".into())
            .limited("Nothing is lost: `tierscope tiers --measure` measures them, presets stand in for them."),
    }
}

fn dax(machine: &Machine) -> Check {
    let size = |device: DaxDevice| match device.bytes {
        Some(bytes) => format!("{} ({})", device.name, human_bytes(bytes)),
        None => device.name,
    };
    let found: Vec<String> = tierscope_machine::dax_devices(&machine.root).into_iter().map(size).collect();
    check("tiers.dax", "DAX devices", if found.is_empty() { "none".into() } else { found.join(", ") })
}

/// The tightest limit of this process's memory cgroup and those above it.
fn memory_limit(machine: &Machine) -> Check {
    let Some(limit) = tierscope_machine::memory_limit(&machine.root) else {
        return check("tiers.limit", "memory limit", "no memory cgroup");
    };
    let bytes = limit.bytes.map_or_else(|| "none".to_owned(), human_bytes);
    let finding = format!("{bytes} (cgroup v{})", limit.cgroup_version);
    check("tiers.limit", "memory limit", finding)
}

fn swap(machine: &Machine) -> Check {
    let areas = tierscope_machine::swap_areas(&machine.root);
    let areas: Vec<String> = areas.iter().map(|area| format!("{} ({})", area.path, human_bytes(area.bytes))).collect();
    match areas.is_empty() {
        false => check("tiers.swap", "swap", areas.join(", ")),
        true => check("tiers.swap", "swap", "none")
            .limited("A `swap` tier cannot be used: without swap, asking the kernel to page out does nothing.")
            .mend("sudo sh -c 'modprobe zram && zramctl --find --size 4G && mkswap /dev/zram0 && swapon /dev/zram0'"),
    }
}
