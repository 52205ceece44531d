//! Which kinds of memory the nodes of a machine are.
//!
//! To place objects is to choose between kinds of memory, not between nodes. Nodes with CPUs are one kind, however many
//! sockets there are: which of them is near depends on where a thread runs, and the kernel sees to that. A node without
//! CPUs is far from all of them (an expander, a persistent DIMM), and of a kind with others that the kernel puts in the
//! same memory tier and of which the firmware states the same latency.

use std::collections::BTreeMap;

use tierscope_tiers::{Backend, Figure, Origin, Quantity, Tier, Tiers};

use crate::convert::{in_order, of_node};
use crate::detect::Machine;
use crate::nodes::Node;
use crate::root::ranges;

/// What nodes of a kind have in common.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    /// Of the kernel's memory tier.
    rank: Option<u32>,
    /// Without CPUs.
    far: bool,
    /// As the firmware states it of far ones.
    latency_ns: Option<u64>,
}

/// The kinds of memory of a machine's nodes, the fastest first, each a tier of all its nodes. One kind or none leaves
/// nothing to choose.
pub fn memory_kinds(machine: &Machine, date: &str) -> Tiers {
    let mut kinds: BTreeMap<Kind, Vec<&Node>> = BTreeMap::new();
    for node in machine.nodes.iter().filter(|node| node.total_bytes.is_some()) {
        let of_kernel = machine.kernel_tiers.iter().find(|tier| tier.nodes.contains(&u32::from(node.number)));
        let far = node.cpus.is_empty();
        let latency_ns = node.attributes.and_then(|stated| stated.read_latency_ns).filter(|_| far);
        kinds.entry(Kind { rank: of_kernel.map(|tier| tier.rank), far, latency_ns }).or_default().push(node);
    }
    in_order(machine, kinds.values().map(|nodes| of_nodes(nodes, date)).collect())
}

/// One tier of several nodes. Of what one of them does not state, the tier states nothing.
fn of_nodes(nodes: &[&Node], date: &str) -> Tier {
    let kernel = Origin::new("sysfs", date);
    let numbers: Vec<u16> = nodes.iter().map(|node| node.number).collect();
    let mut members = nodes.iter().map(|node| of_node(node, &kernel, date));
    let mut tier = members.next().unwrap_or_default();
    for member in members {
        let together = tier.figures.into_iter().filter_map(|(quantity, figure)| {
            let value = joined(quantity, figure.value, member.value(quantity)?);
            Some((quantity, Figure { value, ..figure }))
        });
        tier.figures = together.collect();
    }
    if numbers.len() > 1 {
        let list = ranges(&numbers.iter().copied().map(u32::from).collect::<Vec<_>>());
        // A comma cannot be in the name of a tier.
        tier.name = format!("node{}", list.replace(',', "_"));
        let whose = if nodes.iter().all(|node| node.cpus.is_empty()) { " without CPUs" } else { "" };
        tier.description = Some(format!("memory of the NUMA nodes {list}{whose}"));
    }
    tier.backend = Some(Backend::Numa { nodes: numbers, strict: false });
    tier
}

/// A figure of two nodes together: they hold and move the sum, and answer as late as the slower one.
fn joined(quantity: Quantity, one: f64, other: f64) -> f64 {
    match quantity {
        Quantity::Capacity | Quantity::ReadBandwidthGbs | Quantity::WriteBandwidthGbs => one + other,
        _ => one.max(other),
    }
}
