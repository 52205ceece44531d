//! How fast the memory and the directories of this machine are, by trying them.
//!
//! Every figure is the median of several windows, with the quartiles as its range: on a machine that others use too, one
//! disturbed window must not be the answer, and how much the windows differ says how far the answer can be trusted.
//!
//! What could disturb others is bounded beforehand: a fixed number of windows, a buffer of at most half of what is free, a
//! file of at most a quarter of the free space. Memory is *preferred* on a node, never bound to it, because the kernel
//! kills programs that are bound to a node that is full; where the pages came to lie is looked up afterwards.

mod buffer;
mod directory;
mod kernels;
mod node;
mod statistics;
mod workers;

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use tierscope_tiers::{Backend, Tier, Tiers, human_bytes};

use crate::convert::{in_order, of_directory, to_tiers};
use crate::date::today;
use crate::detect::Machine;

/// Told the part that is done (0 to 1) and what is done now, several times a second; `Break` stops the measurement.
pub type Progress<'a> = dyn FnMut(f64, &str) -> ControlFlow<()> + 'a;

/// What to measure, and how thoroughly.
#[derive(Debug, Clone)]
pub struct Request {
    /// Nodes; None for all that have memory.
    pub nodes: Option<Vec<u16>>,
    /// Directories of file tiers.
    pub directories: Vec<PathBuf>,
    /// Measure as seen from the CPUs of this node; None for the CPUs nearest to each.
    pub from_node: Option<u16>,
    /// Threads of the streams; None for as many as there are CPUs.
    pub threads: Option<usize>,
    /// Bytes of the buffer; None for 16 times the last level cache, as far as there is memory.
    pub buffer_bytes: Option<u64>,
    /// Windows a figure is the median of.
    pub windows: usize,
    /// How long each is.
    pub window: Duration,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            nodes: None,
            directories: Vec::new(),
            from_node: None,
            threads: None,
            buffer_bytes: None,
            windows: 11,
            window: Duration::from_millis(50),
        }
    }
}

/// The outcome of a measurement.
#[derive(Debug, Clone, PartialEq)]
pub struct Measurement {
    /// All tiers of the machine; those measured with `source` "measured on this machine".
    pub tiers: Tiers,
    /// What could not be measured, and why. The tiers have what firmware and kernel state of them.
    pub failures: Vec<Failure>,
}

/// A tier that could not be measured, or not completely.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// Its name.
    pub tier: String,
    /// Why, and what would help.
    pub reason: String,
}

/// Why nothing was measured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MeasureError {
    /// The callback said so.
    #[error("the measurement was stopped")]
    Stopped,
    /// A node that is asked for is not there.
    #[error("there is no memory on node {node}; nodes with memory: {known} (see `tierscope tiers`)")]
    NoSuchNode {
        /// What was asked for.
        node: u16,
        /// What there is.
        known: String,
    },
    /// The node to measure from has no CPU.
    #[error("node {0} has no CPU to measure from; leave that out to measure from the nearest CPUs")]
    NoCpus(u16),
    /// Neither nodes nor directories.
    #[error(
        "there is nothing to measure: the kernel shows no NUMA node; name a directory, as in `tierscope tiers --measure --dir /mnt/tier`"
    )]
    Nothing,
    /// A request that makes no sense.
    #[error("a measurement needs at least 3 windows of 1 ms to 10 s, but {windows} of {window:?} were asked for")]
    Windows {
        /// Windows asked for.
        windows: usize,
        /// Length asked for.
        window: Duration,
    },
}

/// Why one tier was not measured.
pub(crate) enum Trouble {
    Stopped,
    Failed(String),
}

impl From<String> for Trouble {
    fn from(reason: String) -> Self {
        Self::Failed(reason)
    }
}

/// Progress of one tier within the whole.
pub(crate) struct Steps<'a, 'b> {
    progress: &'a mut Progress<'b>,
    name: String,
    /// Tiers done and tiers in all.
    tier: (usize, usize),
    /// Steps done and steps of this tier.
    step: (usize, usize),
}

impl Steps<'_, '_> {
    /// Report that a part of the current step is done.
    pub(crate) fn tick(&mut self, part: f64, what: &str) -> Result<(), Trouble> {
        let within = (self.step.0 as f64 + part.clamp(0.0, 1.0)) / self.step.1 as f64;
        let done = (self.tier.0 as f64 + within.min(1.0)) / self.tier.1 as f64;
        match (self.progress)(done, &format!("{}: {what}", self.name)) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Trouble::Stopped),
        }
    }

    pub(crate) fn next(&mut self) {
        self.step.0 += 1;
    }
}

/// Measure nodes and directories; takes some four seconds for each, seven where other programs have the CPUs.
///
/// # Errors
///
/// The request cannot be met at all, or the callback stopped it. What fails for one tier alone is in the outcome.
pub fn measure(machine: &Machine, request: &Request, progress: &mut Progress<'_>) -> Result<Measurement, MeasureError> {
    let sane = (Duration::from_millis(1)..=Duration::from_secs(10)).contains(&request.window) && request.windows >= 3;
    if !sane {
        return Err(MeasureError::Windows { windows: request.windows, window: request.window });
    }
    let nodes = chosen(machine, request)?;
    if nodes.is_empty() && request.directories.is_empty() {
        return Err(MeasureError::Nothing);
    }
    let date = today();
    let mut tiers = to_tiers(machine, &date).as_slice().to_vec();
    let mut failures = Vec::new();
    let all = nodes.len() + request.directories.len();
    let mut settle = |name: &str, outcome: Result<(), Trouble>| match outcome {
        Ok(()) => Ok(()),
        Err(Trouble::Stopped) => Err(MeasureError::Stopped),
        Err(Trouble::Failed(reason)) => {
            failures.push(Failure { tier: name.to_owned(), reason });
            Ok(())
        }
    };
    for (index, node) in nodes.iter().enumerate() {
        let Some(tier) = tiers.iter_mut().find(|tier| is_node(tier, *node)) else { continue };
        let name = tier.name.clone();
        let mut steps = Steps { progress, name: name.clone(), tier: (index, all), step: (0, node::STEPS) };
        settle(&name, node::measure(machine, *node, request, &date, &mut steps, tier))?;
    }
    for (index, directory) in request.directories.iter().enumerate() {
        let shown = directory.display().to_string();
        let (slot, name) = match slot_of(machine, &mut tiers, directory, &date) {
            Ok(found) => found,
            Err(reason) => {
                settle(&shown, Err(Trouble::Failed(reason)))?;
                continue;
            }
        };
        let mut steps =
            Steps { progress, name: name.clone(), tier: (nodes.len() + index, all), step: (0, directory::STEPS) };
        if let Some(tier) = tiers.get_mut(slot) {
            settle(&name, directory::measure(machine, &date, &mut steps, tier))?;
        }
    }
    // A last report of 1; that it might say stop changes nothing any more.
    let _ = progress(1.0, "done");
    Ok(Measurement { tiers: in_order(machine, tiers), failures })
}

fn is_node(tier: &Tier, node: u16) -> bool {
    matches!(&tier.backend, Some(Backend::Numa { nodes, .. }) if nodes.as_slice() == [node])
}

/// Nodes to measure, with memory all.
fn chosen(machine: &Machine, request: &Request) -> Result<Vec<u16>, MeasureError> {
    let with_memory = machine.nodes.iter().filter(|node| node.total_bytes.is_some());
    let known: Vec<u16> = with_memory.map(|node| node.number).collect();
    let wanted = request.nodes.clone().unwrap_or_else(|| known.clone());
    if let Some(&node) = wanted.iter().find(|node| !known.contains(node)) {
        let known = known.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
        return Err(MeasureError::NoSuchNode { node, known: if known.is_empty() { "none".into() } else { known } });
    }
    match request.from_node {
        Some(from) if !machine.nodes.iter().any(|node| node.number == from && !node.cpus.is_empty()) => {
            Err(MeasureError::NoCpus(from))
        }
        _ => Ok(wanted),
    }
}

/// Where the tier of a directory is, adding one if there is none yet, and its name.
fn slot_of(
    machine: &Machine,
    tiers: &mut Vec<Tier>,
    directory: &std::path::Path,
    date: &str,
) -> Result<(usize, String), String> {
    let real = std::fs::canonicalize(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    if !real.is_dir() {
        return Err(format!("{} is no directory; name one that a file tier would be in", real.display()));
    }
    let is_it = |tier: &Tier| matches!(&tier.backend, Some(Backend::File { dir }) if std::path::Path::new(dir) == real);
    let slot = match tiers.iter().position(is_it) {
        Some(slot) => slot,
        None => {
            let free = directory::free_bytes(&real)?;
            let tier = of_directory(tiers, machine, &real, free, date);
            tiers.push(tier);
            tiers.len() - 1
        }
    };
    Ok((slot, tiers.get(slot).map(|tier| tier.name.clone()).unwrap_or_default()))
}

/// Bytes a measurement may take here: half of what is left under every limit that is known.
pub(crate) fn memory_to_use(machine: &Machine, node: Option<u16>) -> Option<u64> {
    let node = node.and_then(|number| machine.nodes.iter().find(|node| node.number == number));
    let known = [
        machine.available_bytes,
        machine.limit.and_then(|limit| limit.headroom()),
        node.and_then(|node| node.available_bytes),
    ];
    known.into_iter().flatten().min().map(|bytes| bytes / 2)
}

/// What to say where there is too little memory.
pub(crate) fn too_little_memory(need: u64, have: u64) -> String {
    format!(
        "measuring needs {} of memory, and at most {} may be taken (half of what is free on the node, on the machine and \
         under the cgroup limit): stop something that uses memory, or raise the limit",
        human_bytes(need),
        human_bytes(have)
    )
}
