//! `tierscope tiers` for people.
//!
//! A table of the tiers, then what else bears on them, then where the figures came from: a number that was measured and one
//! that the firmware states must not be taken for each other.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use tierscope_tiers::{Backend, Figure, Quantity, Tier, Tiers, human_bytes};

use crate::detect::Machine;
use crate::measure::Failure;
use crate::root::{count, ranges};

/// Columns a path is given at least.
const LEAST_PATH: usize = 12;

/// The tiers of a machine and what else was found, in lines of at most `width` columns where words allow.
pub fn render_text(machine: &Machine, tiers: &Tiers, failures: &[Failure], width: usize) -> String {
    let width = width.max(40);
    let mut text = String::new();
    if tiers.as_slice().is_empty() {
        text.push_str("No memory tier was found: the kernel shows neither NUMA nodes nor file systems here.\n");
    } else {
        table(tiers, width, &mut text);
    }
    let mut facts = facts(machine);
    facts.extend(failures.iter().map(|failure| (format!("{} not measured", failure.tier), failure.reason.clone())));
    section("Machine", facts, width, &mut text);
    section("Tiers", descriptions(tiers), width, &mut text);
    section("Figures", sources(tiers), width, &mut text);
    text
}

fn section(title: &str, lines: Vec<(String, String)>, width: usize, text: &mut String) {
    if lines.is_empty() {
        return;
    }
    // Writing to a String cannot fail, here and below.
    let _ = writeln!(text, "\n{title}");
    for (name, said) in lines {
        let _ = write!(text, "{}", wrapped(&format!("{name}:"), &said, width));
    }
}

/// A head and words, broken before the width, continued four columns in.
fn wrapped(head: &str, words: &str, width: usize) -> String {
    let mut lines = String::from(" ");
    let mut column = 1;
    for word in head.split_whitespace().chain(words.split_whitespace()) {
        let length = word.chars().count();
        if column > 4 && column + 1 + length > width {
            lines.push_str("\n    ");
            column = 4;
        } else {
            lines.push(' ');
            column += 1;
        }
        lines.push_str(word);
        column += length;
    }
    lines.push('\n');
    lines
}

/// A row for each tier. Where they are too wide, paths are shortened: names must be whole to be typed.
fn table(tiers: &Tiers, width: usize, text: &mut String) {
    let heads = ["TIER", "BACK END", "CAPACITY", "LATENCY", "LOADED", "READ", "WRITE"].map(str::to_owned);
    let rows: Vec<[String; 7]> = std::iter::once(heads).chain(tiers.as_slice().iter().map(row)).collect();
    let mut widths = [0; 7];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let excess = (widths.iter().sum::<usize>() + 2 * (widths.len() - 1)).saturating_sub(width);
    if let Some(behind) = widths.get_mut(1) {
        *behind = behind.saturating_sub(excess).max(LEAST_PATH.min(*behind));
    }
    for row in &rows {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            let cell = if column == 1 { shortened(cell, width) } else { cell.clone() };
            // Names to the left, numbers to the right.
            let _ = if column < 2 { write!(line, "{cell:<width$}  ") } else { write!(line, "{cell:>width$}  ") };
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
}

fn row(tier: &Tier) -> [String; 7] {
    let shown = |quantity: Quantity, show: fn(f64) -> String| tier.value(quantity).map_or_else(|| "-".to_owned(), show);
    let behind = match &tier.backend {
        Some(Backend::Numa { nodes, .. }) => format!("node {}", list(nodes)),
        Some(Backend::Interleave { nodes, .. }) => format!("nodes {}", list(nodes)),
        Some(Backend::File { dir }) => shortened(dir, 40),
        Some(Backend::Dax { device }) => device.clone(),
        Some(Backend::Swap) => "swap".into(),
        None => "modelled".into(),
    };
    [
        tier.name.clone(),
        behind,
        tier.capacity().map_or_else(|| "-".into(), human_bytes),
        shown(Quantity::ReadLatencyNs, time),
        shown(Quantity::LoadedLatencyNs, time),
        shown(Quantity::ReadBandwidthGbs, bandwidth),
        shown(Quantity::WriteBandwidthGbs, bandwidth),
    ]
}

fn list(nodes: &[u16]) -> String {
    nodes.iter().map(u16::to_string).collect::<Vec<_>>().join(",")
}

/// The end of a path that is too long. Control characters of file names do not reach the terminal.
fn shortened(path: &str, most: usize) -> String {
    let clean: Vec<char> = path.chars().map(|letter| if letter.is_control() { '?' } else { letter }).collect();
    if clean.len() <= most {
        return clean.into_iter().collect();
    }
    let tail: String = clean.iter().skip((clean.len() + 3).saturating_sub(most)).collect();
    format!("...{tail}")
}

/// A time in the unit a reader would choose.
pub(crate) fn time(ns: f64) -> String {
    match ns {
        ns if ns < 10.0 => format!("{ns:.1} ns"),
        ns if ns < 1_000.0 => format!("{ns:.0} ns"),
        ns if ns < 1_000_000.0 => format!("{:.1} us", ns / 1e3),
        ns => format!("{:.1} ms", ns / 1e6),
    }
}

fn bandwidth(gbs: f64) -> String {
    match gbs {
        gbs if gbs < 0.1 => format!("{:.1} MB/s", gbs * 1e3),
        gbs if gbs < 10.0 => format!("{gbs:.2} GB/s"),
        gbs => format!("{gbs:.1} GB/s"),
    }
}

fn facts(machine: &Machine) -> Vec<(String, String)> {
    let mut facts: Vec<(String, String)> = Vec::new();
    let mut fact = |name: &str, said: String| facts.push((name.to_owned(), said));
    if let Some(cpu) = &machine.cpu {
        let cache = machine.last_level_cache_bytes.map(|bytes| format!(", last level cache {}", human_bytes(bytes)));
        fact("cpu", format!("{cpu}{}", cache.unwrap_or_default()));
    }
    for node in &machine.nodes {
        let cpus = if node.cpus.is_empty() { "no CPU".into() } else { count(node.cpus.len(), "CPU") };
        let memory = node.total_bytes.map_or_else(|| "no memory".into(), human_bytes);
        let others = node.distances.iter().filter(|other| other.node != node.number);
        let far: Vec<String> = others.map(|other| format!("{} to node {}", other.distance, other.node)).collect();
        let far = if far.is_empty() { String::new() } else { format!(", distance {}", far.join(", ")) };
        fact(&format!("node {}", node.number), format!("{memory}, {cpus}{far}"));
    }
    if !machine.kernel_tiers.is_empty() {
        let tier = |tier: &crate::KernelTier| format!("{} (node {})", tier.rank, ranges(&tier.nodes));
        let tiers: Vec<String> = machine.kernel_tiers.iter().map(tier).collect();
        fact("kernel tiers", format!("{}, lower is faster", tiers.join(", ")));
    }
    if let Some(on) = machine.demotion {
        fact("demotion", if on { "cold pages go to slower nodes" } else { "off" }.into());
    }
    for device in machine.dax.iter().filter(|device| device.driver.as_deref() == Some("kmem")) {
        let node = device.target_node.map_or_else(String::new, |node| format!(", memory of node {node}"));
        fact(&device.name, format!("taken by the kernel{node}"));
    }
    for area in &machine.swap {
        let how = area.zram.as_ref().and_then(|zram| zram.algorithm.as_ref());
        let how = how.map_or_else(String::new, |algorithm| format!(", {algorithm}"));
        let (all, used) = (human_bytes(area.bytes), human_bytes(area.used_bytes));
        let path = shortened(&area.path, 40);
        fact("swap", format!("{path} ({}{how}), {all}, {used} in use, priority {}", area.kind.name(), area.priority));
    }
    for found in machine.filesystems.iter().filter(|found| found.kind == crate::DeviceKind::Memory) {
        let directory = shortened(&found.directory, 40);
        fact(
            "tmpfs",
            format!("{directory}, {} free: memory of the nodes, no tier of its own", human_bytes(found.free_bytes)),
        );
    }
    if let Some(limit) = machine.limit {
        let version = limit.cgroup_version;
        let used = limit.used_bytes.map_or_else(String::new, |used| format!(", {} in use", human_bytes(used)));
        let bytes = limit.bytes.map_or_else(|| "none".into(), |bytes| format!("{}{used}", human_bytes(bytes)));
        fact("memory limit", format!("{bytes} (cgroup v{version})"));
    }
    facts
}

fn descriptions(tiers: &Tiers) -> Vec<(String, String)> {
    let said = |tier: &Tier| Some((tier.name.clone(), tier.description.clone()?));
    tiers.as_slice().iter().filter_map(said).collect()
}

/// Figures by source: `measured on this machine, 2026-11-21: node0 read latency 96 ns (95-97)`.
fn sources(tiers: &Tiers) -> Vec<(String, String)> {
    let shown = [
        ("latency", Quantity::ReadLatencyNs, time as fn(f64) -> String),
        ("loaded", Quantity::LoadedLatencyNs, time),
        ("write latency", Quantity::WriteLatencyNs, time),
        ("read", Quantity::ReadBandwidthGbs, bandwidth),
        ("read by one thread", Quantity::ThreadReadBandwidthGbs, bandwidth),
        ("write", Quantity::WriteBandwidthGbs, bandwidth),
        ("write by one thread", Quantity::ThreadWriteBandwidthGbs, bandwidth),
    ];
    let mut by_source: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut order: Vec<String> = Vec::new();
    for tier in tiers.as_slice() {
        let mut of_tier: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, quantity, show) in shown {
            let Some(figure) = tier.figures.get(&quantity) else { continue };
            let source = source(figure);
            if !order.contains(&source) {
                order.push(source.clone());
            }
            of_tier.entry(source).or_default().push(one(name, figure, show));
        }
        for (source, figures) in of_tier {
            by_source.entry(source).or_default().push(format!("{} {}", tier.name, figures.join("; ")));
        }
    }
    let lines = |source: String| {
        let tiers = by_source.remove(&source).unwrap_or_default();
        tiers.into_iter().map(move |said| (source.clone(), said))
    };
    order.into_iter().flat_map(lines).collect()
}

fn source(figure: &Figure) -> String {
    let source = figure.origin.source.as_deref().unwrap_or("source not stated");
    figure.origin.date.as_ref().map_or_else(|| source.to_owned(), |date| format!("{source}, {date}"))
}

fn one(name: &str, figure: &Figure, show: fn(f64) -> String) -> String {
    let range = figure.range.map(|(low, high)| format!("{} to {}", show(low), show(high)));
    let aside: Vec<String> = range.into_iter().chain(figure.note.clone()).collect();
    let aside = if aside.is_empty() { String::new() } else { format!(" ({})", aside.join("; ")) };
    format!("{name} {}{aside}", show(figure.value))
}
