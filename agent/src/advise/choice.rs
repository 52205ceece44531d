//! Between which tiers an advice chooses, and what stands behind each.
//!
//! Figures and back ends are two questions. **Figures** are those of `--tiers`; else those that a simulated profile was
//! modelled with; else what this machine's firmware states of its kinds of memory; else those of presets, and then the advice
//! says that it rests on an assumption. **Back ends** are those of `--fast-node`, `--slow-node`, `--slow-dir` and
//! `--slow-dax`; else those of the tier file; else those that the policy to be updated has for tiers of the same names; else
//! this machine's: nodes with CPUs for the fastest tier, and its other kind of memory, or its DAX device, for the slowest. A
//! tier that has none after all of that can be advised on but not placed in, and the advice says
//! so with the option that mends it.

use crate::cli::AdviseArguments;
use crate::failure::Failure;
use crate::tiers::{Named, named};
use std::path::Path;
use tierscope_machine::{DaxDevice, DeviceKind, Machine, filesystem_of, memory_kinds, missing};
use tierscope_policy::Policy;
use tierscope_report::TierNote;
use tierscope_tiers::{Backend, Figure, Origin, Quantity, Tier, Tiers};
use tierscope_traces::SimulatedTiers;

/// Presets for memory and for memory that is slower, where nothing else is known.
const MEMORY: (&str, &str) = ("ddr5", "cxl-asic");
/// The same for memory of the other socket.
const SOCKETS: (&str, &str) = ("ddr4", "remote-ddr4");

/// The tiers of an advice.
#[derive(Debug)]
pub(super) struct Choice {
    /// The fastest first; each has a latency, and a back end where one is known.
    pub(super) tiers: Vec<Tier>,
    /// What was assumed, in sentences.
    pub(super) assumptions: Vec<String>,
}

impl Choice {
    /// Tiers as asked for on this machine; `earlier` is the policy that will be updated.
    pub(super) fn make(
        arguments: &AdviseArguments,
        machine: &Machine,
        simulated: Option<&SimulatedTiers>,
        earlier: Option<&Policy>,
        date: &str,
    ) -> Result<Self, Failure> {
        let asked = Asked::check(arguments, machine)?;
        let mut choice = match (&arguments.tiers, simulated) {
            (Some(word), _) => named_tiers(word)?,
            (None, Some(simulated)) => of_simulation(simulated),
            (None, None) => here(&asked, machine, date)?,
        };
        choice.put_behind(&asked, earlier, machine, date);
        choice.tell_equals();
        Ok(choice)
    }

    /// Where figures say that nothing is gained, a person should know before buying or placing by them.
    fn tell_equals(&mut self) {
        const FIGURES: [Quantity; 4] = [
            Quantity::ReadLatencyNs,
            Quantity::WriteLatencyNs,
            Quantity::ReadBandwidthGbs,
            Quantity::WriteBandwidthGbs,
        ];
        for pair in self.tiers.windows(2) {
            if let [one, other] = pair
                && FIGURES.iter().all(|quantity| one.value(*quantity) == other.value(*quantity))
            {
                self.assumptions.push(format!(
                    "{} and {} are equally fast by their figures: no object gains by being in one rather than in the other. \
                     `tierscope tiers --measure -o FILE` measures them.",
                    one.name, other.name
                ));
            }
        }
    }

    fn put_behind(&mut self, asked: &Asked, earlier: Option<&Policy>, machine: &Machine, date: &str) {
        let kinds = memory_kinds(machine, date);
        let other = match kinds.as_slice() {
            [_, other] => other.backend.clone(),
            [_] => only_device(machine),
            _ => None,
        };
        let earlier = |name: &str| earlier?.tier(name)?.backend.clone();
        if let Some(last) = self.tiers.last_mut() {
            last.backend = asked.slow.clone().or(last.backend.take()).or_else(|| earlier(&last.name)).or(other);
        }
        let taken: Vec<u16> =
            self.tiers.iter().skip(1).flat_map(|tier| nodes(tier.backend.as_ref())).copied().collect();
        let near = machine.nodes.iter().filter(|node| !node.cpus.is_empty() && node.total_bytes.is_some());
        let near: Vec<u16> = near.map(|node| node.number).filter(|number| !taken.contains(number)).collect();
        if let Some(first) = self.tiers.first_mut() {
            let near = (!near.is_empty()).then_some(Backend::Numa { nodes: near, strict: false });
            first.backend = asked.fast.clone().or(first.backend.take()).or_else(|| earlier(&first.name)).or(near);
        }
        for tier in &mut self.tiers {
            let on: Vec<u64> = nodes(tier.backend.as_ref())
                .iter()
                .filter_map(|number| machine.nodes.iter().find(|node| node.number == *number)?.total_bytes)
                .collect();
            let device = match &tier.backend {
                Some(Backend::Dax { device }) => machine.dax.iter().find(|found| device == &path_of(found)),
                _ => None,
            };
            let on: Vec<u64> = on.into_iter().chain(device.and_then(|device| device.bytes)).collect();
            if tier.capacity().is_none() && !on.is_empty() {
                let bytes: u64 = on.into_iter().fold(0, u64::saturating_add);
                tier.set(Quantity::Capacity, Figure::new(bytes as f64, Origin::new("sysfs", date)));
            }
        }
    }

    /// Why a policy for these tiers could not be carried out on this machine, in sentences.
    pub(super) fn obstacles(&self, machine: &Machine) -> Vec<String> {
        let count = self.tiers.len();
        let tiers = self.tiers.iter().enumerate();
        tiers.filter_map(|(number, tier)| obstacle(tier, number, count, machine)).collect()
    }

    /// Where each tier and its latency come from.
    pub(super) fn notes(&self) -> Vec<TierNote> {
        let note = |(number, tier): (usize, &Tier)| {
            let origin = tier.figures.get(&Quantity::ReadLatencyNs).map(|figure| &figure.origin);
            let source = origin.and_then(|origin| origin.source.clone());
            let dated = origin
                .and_then(|origin| origin.date.as_ref())
                .filter(|_| !source.as_ref().is_some_and(|source| source.starts_with("preset ")));
            TierNote {
                behind: match (&tier.backend, number) {
                    (Some(backend), _) => Some(describe(backend)),
                    (None, 0) => Some("the program's own allocator".to_owned()),
                    (None, _) => None,
                },
                source: source.map(|source| dated.map_or_else(|| source.clone(), |date| format!("{source}, {date}"))),
            }
        };
        self.tiers.iter().enumerate().map(note).collect()
    }

    /// The tiers as costs depend on them. Those without a latency were left out before.
    pub(super) fn priced(&self) -> Vec<tierscope_model::advice::Tier> {
        priced(&self.tiers)
    }

    /// The tiers as a policy names them. Of the first the advice knows how much of it may be used, and the last takes what
    /// there is; those between must not hold more than was planned with.
    pub(super) fn placed(&self) -> Vec<tierscope_policy::Tier> {
        let last = self.tiers.len().saturating_sub(1);
        let placed = |(number, tier): (usize, &Tier)| tierscope_policy::Tier {
            name: tier.name.clone(),
            backend: tier.backend.clone(),
            capacity: tier.capacity().filter(|_| tier.backend.is_some() && number > 0 && number < last),
        };
        self.tiers.iter().enumerate().map(placed).collect()
    }
}

/// Tiers as costs depend on them.
pub(super) fn priced(tiers: &[Tier]) -> Vec<tierscope_model::advice::Tier> {
    let priced = |tier: &Tier| tierscope_model::advice::Tier {
        name: tier.name.clone(),
        latency_ns: tier.value(Quantity::ReadLatencyNs).unwrap_or(f64::NAN),
        write_latency_ns: tier.value(Quantity::WriteLatencyNs),
        bandwidth_gbs: tier.value(Quantity::ReadBandwidthGbs),
        write_bandwidth_gbs: tier.value(Quantity::WriteBandwidthGbs),
        granule_bytes: tier.value(Quantity::GranuleBytes),
        capacity: tier.capacity(),
        paged: is_paged(tier),
    };
    tiers.iter().map(priced).collect()
}

/// What the command line asks to be behind the fastest and the slowest tier.
struct Asked {
    fast: Option<Backend>,
    slow: Option<Backend>,
}

impl Asked {
    fn check(arguments: &AdviseArguments, machine: &Machine) -> Result<Self, Failure> {
        let on = |nodes: &[u16]| (!nodes.is_empty()).then(|| Backend::Numa { nodes: nodes.to_vec(), strict: false });
        let (fast, mut slow) = (on(&arguments.fast_node), on(&arguments.slow_node));
        if let Some(node) = arguments.fast_node.iter().find(|node| arguments.slow_node.contains(node)) {
            return Err(Failure::usage(format!("node {node} cannot be fast and slow: name it once")));
        }
        if let Some(directory) = &arguments.slow_dir {
            let cannot = |why: String| Failure::cannot(format!("--slow-dir {}: {why}", directory.display()));
            let real = std::fs::canonicalize(directory)
                .map_err(|error| cannot(error.to_string()).mend(format!("mkdir -p {}", directory.display())))?;
            let dir = real.to_str().ok_or_else(|| cannot("its name is no UTF-8 text".to_owned()))?.to_owned();
            slow = Some(Backend::File { dir });
        }
        if let Some(device) = &arguments.slow_dax {
            let cannot = |why: &str| Failure::cannot(format!("--slow-dax {}: {why}", device.display()));
            let device = device.to_str().ok_or_else(|| cannot("its name is no UTF-8 text"))?.to_owned();
            slow = Some(Backend::Dax { device });
        }
        for (option, backend) in [("--fast-node", &fast), ("the slow tier", &slow)] {
            if let Some(reason) = backend.as_ref().and_then(|backend| missing(machine, backend)) {
                return Err(Failure::cannot(format!("{option}: {reason}")).mend("tierscope tiers says what there is"));
            }
        }
        Ok(Self { fast, slow })
    }
}

/// The tiers `--tiers` names, without those of which no latency is known.
fn named_tiers(word: &str) -> Result<Choice, Failure> {
    let Named { tiers, presets } = named(word)?;
    let (known, unknown): (Vec<Tier>, Vec<Tier>) =
        tiers.as_slice().iter().cloned().partition(|tier| tier.value(Quantity::ReadLatencyNs).is_some());
    let left_out: Vec<&str> = unknown.iter().map(|tier| tier.name.as_str()).collect();
    let left_out = left_out.join(", ");
    if known.len() < 2 {
        let why = match (unknown.is_empty(), tiers.as_slice().len()) {
            (true, count) => {
                format!("--tiers {word} has {count} tier: at least two leave something to decide, the fastest first")
            }
            (false, _) => format!(
                "no latency (read_latency_ns) is known of {left_out}, so --tiers {word} leaves nothing to decide"
            ),
        };
        return Err(Failure::cannot(why).mend(
            "tierscope tiers --measure [--dir DIR] -o FILE measures this machine, and --preset NAME,NAME -o FILE makes a file to edit",
        ));
    }
    let tiers = if presets { known.into_iter().map(called_preset).collect() } else { known };
    let assumptions = match unknown.len() {
        0 => Vec::new(),
        1 => vec![format!("{left_out} is left out: no latency (read_latency_ns) is known of it.")],
        _ => vec![format!("{left_out} are left out: no latency (read_latency_ns) is known of them.")],
    };
    Ok(Choice { tiers, assumptions })
}

/// The tiers that a simulated profile is of, with the figures that were modelled.
fn of_simulation(simulated: &SimulatedTiers) -> Choice {
    let tier = |name: &str, figures: &serde_json::Value| {
        let mut tier = Tier::named(name);
        for quantity in [
            Quantity::ReadLatencyNs,
            Quantity::SequentialReadLatencyNs,
            Quantity::WriteLatencyNs,
            Quantity::ReadBandwidthGbs,
            Quantity::WriteBandwidthGbs,
            Quantity::GranuleBytes,
        ] {
            if let Some(value) = figures.get(quantity.key()).and_then(serde_json::Value::as_f64) {
                tier.set(quantity, Figure::new(value, Origin { source: Some("the simulation".into()), date: None }));
            }
        }
        tier
    };
    let tiers = vec![tier(&simulated.fast, &simulated.fast_figures), tier(&simulated.slow, &simulated.slow_figures)];
    Choice { tiers, assumptions: Vec::new() }
}

/// This machine's kinds of memory, or presets in their place.
fn here(asked: &Asked, machine: &Machine, date: &str) -> Result<Choice, Failure> {
    let chooses = "--tiers takes others (tierscope tiers --presets lists them)";
    if let Some(Backend::File { dir }) = &asked.slow {
        let slow = stand_in(filesystem_of(&machine.filesystems, Path::new(dir)).map(|found| found.kind));
        return Ok(Choice {
            tiers: pair((MEMORY.0, slow))?,
            assumptions: vec![format!(
                "How fast files in {dir} are is not known: the presets {} and {slow} stand in. `tierscope tiers --measure --dir \
                 DIR -o FILE` measures them, and --tiers FILE takes what it found.",
                MEMORY.0
            )],
        });
    }
    let kinds = memory_kinds(machine, date);
    let own = |kinds: &Tiers| kinds.as_slice().iter().all(|tier| tier.value(Quantity::ReadLatencyNs).is_some());
    let same = |backend: &Option<Backend>, tier: Option<&Tier>| {
        backend.is_none() || tier.is_some_and(|tier| nodes(tier.backend.as_ref()) == nodes(backend.as_ref()))
    };
    let as_found = same(&asked.slow, kinds.as_slice().last()) && same(&asked.fast, kinds.as_slice().first());
    match kinds.as_slice() {
        tiers @ [_, _, ..] if as_found && own(&kinds) => Ok(Choice { tiers: tiers.to_vec(), assumptions: Vec::new() }),
        tiers @ [_, _] if as_found => {
            let stand_ins = pair(MEMORY)?;
            let tiers = tiers.iter().zip(stand_ins).map(|(tier, stand_in)| with_figures_of(tier, &stand_in)).collect();
            Ok(Choice {
                tiers,
                assumptions: vec![format!(
                    "The firmware does not say how fast this machine's kinds of memory are: the figures of the presets {} and {} \
                     stand in. `tierscope tiers --measure -o FILE` measures them, and --tiers FILE takes what it found.",
                    MEMORY.0, MEMORY.1
                )],
            })
        }
        tiers @ [_, _, _, ..] if as_found => {
            let names: Vec<&str> = tiers.iter().map(|tier| tier.name.as_str()).collect();
            Err(Failure::cannot(format!("the firmware does not say how fast {} are", names.join(", ")))
                .mend("tierscope tiers --measure -o FILE measures them; then --tiers FILE"))
        }
        _ => {
            let socket =
                |number: &u16| machine.nodes.iter().any(|node| node.number == *number && !node.cpus.is_empty());
            let device = match &asked.slow {
                Some(Backend::Dax { device }) => Some(device.clone()),
                Some(_) => None,
                None => match only_device(machine) {
                    Some(Backend::Dax { device }) if kinds.as_slice().len() == 1 => Some(device),
                    _ => None,
                },
            };
            let asked_for = nodes(asked.slow.as_ref());
            let names = if !asked_for.is_empty() && asked_for.iter().all(socket) { SOCKETS } else { MEMORY };
            let because = match device {
                Some(device) => format!("How fast {device} is is not known"),
                None if asked_for.is_empty() && asked.fast.is_none() => {
                    "This machine has one kind of memory".to_owned()
                }
                None => "How fast these nodes are is not known".to_owned(),
            };
            Ok(Choice {
                tiers: pair(names)?,
                assumptions: vec![format!(
                    "{because}: the presets {} and {} stand in, and {chooses}.",
                    names.0, names.1
                )],
            })
        }
    }
}

fn path_of(device: &DaxDevice) -> String {
    format!("/dev/{}", device.name)
}

/// The DAX device of a machine that programs can map, if it is the only one.
fn only_device(machine: &Machine) -> Option<Backend> {
    let mut devices = machine.dax.iter().filter(|device| device.driver.as_deref() == Some("device_dax"));
    match (devices.next(), devices.next()) {
        (Some(device), None) => Some(Backend::Dax { device: path_of(device) }),
        _ => None,
    }
}

/// The preset nearest to files on a device.
fn stand_in(kind: Option<DeviceKind>) -> &'static str {
    match kind {
        Some(DeviceKind::Memory) => MEMORY.1,
        Some(DeviceKind::Pmem) => "optane-100x6",
        Some(DeviceKind::Zram) => "3dxp-ssd",
        _ => "nand-nvme",
    }
}

fn pair((fast, slow): (&str, &str)) -> Result<Vec<Tier>, Failure> {
    let tiers = Tiers::of_presets(&format!("{fast},{slow}")).map_err(|error| Failure::cannot(error.to_string()))?;
    Ok(tiers.as_slice().iter().cloned().map(called_preset).collect())
}

/// A preset's tier, whose latency is then said to be the preset's: its publications are a command away.
fn called_preset(mut tier: Tier) -> Tier {
    if let Some(latency) = tier.figures.get_mut(&Quantity::ReadLatencyNs) {
        latency.origin.source = Some(format!("preset {}", tier.name));
    }
    tier
}

fn with_figures_of(tier: &Tier, stand_in: &Tier) -> Tier {
    let mut figures = stand_in.figures.clone();
    figures.extend(tier.figures.get(&Quantity::Capacity).map(|found| (Quantity::Capacity, found.clone())));
    Tier { figures, ..tier.clone() }
}

fn nodes(backend: Option<&Backend>) -> &[u16] {
    match backend {
        Some(Backend::Numa { nodes, .. } | Backend::Interleave { nodes, .. }) => nodes,
        _ => &[],
    }
}

/// Whether its data comes into memory by page.
fn is_paged(tier: &Tier) -> bool {
    const PAGE: f64 = 4096.0;
    matches!(tier.backend, Some(Backend::File { .. } | Backend::Swap))
        || tier.value(Quantity::GranuleBytes).is_some_and(|bytes| bytes >= PAGE)
}

fn describe(backend: &Backend) -> String {
    let list = |nodes: &[u16]| nodes.iter().map(u16::to_string).collect::<Vec<_>>().join(",");
    match backend {
        Backend::Numa { nodes, .. } if nodes.len() == 1 => format!("node {}", list(nodes)),
        Backend::Numa { nodes, .. } => format!("nodes {}", list(nodes)),
        Backend::Interleave { nodes, .. } => format!("nodes {} in turn", list(nodes)),
        Backend::File { dir } => format!("files in {dir}"),
        Backend::Dax { device } => device.clone(),
        Backend::Swap => "swap".to_owned(),
    }
}

fn obstacle(tier: &Tier, number: usize, count: usize, machine: &Machine) -> Option<String> {
    let name = &tier.name;
    match &tier.backend {
        Some(backend) => {
            let reason = missing(machine, backend)?;
            Some(format!("`tierscope run` cannot place anything in {name} on this machine: {reason}."))
        }
        // What is to stay fast may stay with the program's own allocator.
        None if number == 0 => None,
        None => {
            let options = "--slow-dir DIR (files in a directory), --slow-node N (a NUMA node), --slow-dax DEVICE, or ";
            let options = if number + 1 == count { options } else { "" };
            Some(format!(
                "Nothing on this machine is behind {name}, so `tierscope run` would leave its objects to the program's own \
                 allocator. What mends it: {options}a `backend` in a tier file (--tiers FILE)."
            ))
        }
    }
}
