//! What kinds of memory there are, and how much of them this process may have.

use crate::check::{Area, Check};
use crate::machine::Machine;
use crate::root::{count, human, members};

const NODES: &str = "/sys/devices/system/node";

pub(crate) fn checks(machine: &Machine) -> Vec<Check> {
    vec![nodes(machine), kernel_tiers(machine), attributes(machine), dax(machine), memory_limit(machine), swap(machine)]
}

fn check(id: &'static str, title: &'static str, finding: impl Into<String>) -> Check {
    Check::ok(Area::Tiers, id, title, finding)
}

fn online(machine: &Machine) -> Vec<u32> {
    machine.root.line(format!("{NODES}/online")).map(|list| members(&list)).unwrap_or_default()
}

/// MemTotal of a node, from its own meminfo.
fn node_bytes(machine: &Machine, node: u32) -> Option<u64> {
    let text = machine.root.text(format!("{NODES}/node{node}/meminfo"))?;
    let line = text.lines().find(|line| line.contains("MemTotal:"))?;
    let kibibytes: u64 = line.split_whitespace().rev().nth(1)?.parse().ok()?;
    kibibytes.checked_mul(1024)
}

fn describe(machine: &Machine, node: u32) -> String {
    let cpus = machine.root.line(format!("{NODES}/node{node}/cpulist")).map_or(0, |list| members(&list).len());
    let cpus = if cpus == 0 { "no CPU".to_owned() } else { count(cpus, "CPU") };
    let bytes = node_bytes(machine, node).map_or_else(|| "no memory".to_owned(), human);
    format!("node {node}: {bytes}, {cpus}")
}

fn nodes(machine: &Machine) -> Check {
    let nodes = online(machine);
    let found = |finding: String| check("tiers.nodes", "NUMA nodes", finding);
    let described: Vec<String> = nodes.iter().map(|&node| describe(machine, node)).collect();
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

/// `4` -> nodes, from `memory_tier4/nodelist`: lower is faster.
fn tiers(machine: &Machine) -> Vec<(String, String)> {
    let base = "/sys/devices/virtual/memory_tiering";
    let names = machine.root.names(base).into_iter().filter(|name| name.starts_with("memory_tier"));
    let tier = |name: String| {
        let nodes = machine.root.line(format!("{base}/{name}/nodelist"))?;
        Some((name.trim_start_matches("memory_tier").to_owned(), nodes))
    };
    names.filter_map(tier).collect()
}

fn kernel_tiers(machine: &Machine) -> Check {
    let found = |finding: String| check("tiers.kernel", "kernel tiers", finding);
    let tiers = tiers(machine);
    let described: Vec<String> = tiers.iter().map(|(tier, nodes)| format!("tier {tier}: node {nodes}")).collect();
    match (tiers.len(), online(machine).len()) {
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
    let attribute = |node: u32, name: &str| {
        machine.root.number(format!("{NODES}/node{node}/access0/initiators/{name}")).filter(|&value| value > 0)
    };
    let described: Vec<String> = online(machine)
        .into_iter()
        .filter_map(|node| {
            let latency = attribute(node, "read_latency").map(|latency| format!("{latency} ns"));
            let bandwidth = attribute(node, "read_bandwidth").map(|bandwidth| format!("{bandwidth} MB/s"));
            let both: Vec<String> = latency.into_iter().chain(bandwidth).collect();
            (!both.is_empty()).then(|| format!("node {node}: {}", both.join(", ")))
        })
        .collect();
    match described.is_empty() {
        false => found(described.join("; ")),
        true if online(machine).len() < 2 => found("one node: nothing to compare".into()),
        true => found("the firmware states none (HMAT)".into())
            .limited("Nothing is lost: `tierscope tiers --measure` measures them, presets stand in for them."),
    }
}

fn dax(machine: &Machine) -> Check {
    let devices = machine.root.names("/sys/bus/dax/devices");
    let size = |name: &String| {
        let bytes = machine.root.number(format!("/sys/bus/dax/devices/{name}/size"));
        let bytes = bytes.and_then(|bytes| u64::try_from(bytes).ok()).map(human);
        bytes.map_or_else(|| name.clone(), |bytes| format!("{name} ({bytes})"))
    };
    let found: Vec<String> = devices.iter().map(size).collect();
    check("tiers.dax", "DAX devices", if found.is_empty() { "none".into() } else { found.join(", ") })
}

/// The tightest limit of this process's memory cgroup and those above it.
fn memory_limit(machine: &Machine) -> Check {
    let cgroups = machine.root.text("/proc/self/cgroup").unwrap_or_default();
    let first = cgroups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        controllers.split(',').any(|controller| controller == "memory").then(|| path.to_owned())
    });
    let second = cgroups.lines().find_map(|line| line.strip_prefix("0::").map(str::to_owned));
    let (version, base, path, file) = match (first, second) {
        (Some(path), _) => ("v1", "/sys/fs/cgroup/memory", path, "memory.limit_in_bytes"),
        (None, Some(path)) => ("v2", "/sys/fs/cgroup", path, "memory.max"),
        (None, None) => return check("tiers.limit", "memory limit", "no memory cgroup"),
    };
    let mut limit = None;
    let mut current = path.trim_end_matches('/').to_owned();
    loop {
        if let Some(bytes) = machine.root.number(format!("{base}{current}/{file}"))
            && let Ok(bytes) = u64::try_from(bytes)
            // Version 1 writes "no limit" as the largest number of pages.
            && bytes < 1 << 62
        {
            limit = Some(limit.map_or(bytes, |least: u64| least.min(bytes)));
        }
        match current.rfind('/') {
            Some(parent) => current.truncate(parent),
            None => break,
        }
    }
    let finding = match limit {
        Some(bytes) => format!("{} (cgroup {version})", human(bytes)),
        None => format!("none (cgroup {version})"),
    };
    check("tiers.limit", "memory limit", finding)
}

fn swap(machine: &Machine) -> Check {
    let text = machine.root.text("/proc/swaps").unwrap_or_default();
    let areas: Vec<String> = text
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut fields = line.split_whitespace();
            let (name, kibibytes) = (fields.next()?, fields.nth(1)?.parse::<u64>().ok()?);
            Some(format!("{name} ({})", human(kibibytes.saturating_mul(1024))))
        })
        .collect();
    match areas.is_empty() {
        false => check("tiers.swap", "swap", areas.join(", ")),
        true => check("tiers.swap", "swap", "none")
            .limited("A `swap` tier cannot be used: without swap, asking the kernel to page out does nothing.")
            .mend("sudo sh -c 'modprobe zram && zramctl --find --size 4G && mkswap /dev/zram0 && swapon /dev/zram0'"),
    }
}
