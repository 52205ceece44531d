//! One row per object: what `report` shows, and what ranking starts from.
//!
//! Every sample ends in exactly one row, of an object or of a reason why there is none, so the shares add up to one
//! whatever the sampler could not see. Every row carries how sure its share is ([`crate::interval`]) and how much of it
//! rests on guesses. What the sampler does not know is `None`.
//!
//! The tables are outside data: identifiers may dangle, times may run backwards, weights may be no numbers. None of
//! that stops the summary; a sample whose object is not there is counted as outside all objects.

mod frames;
mod identity;
mod live;
mod merge;
mod simulated;
mod sort;
mod tally;

use rustc_hash::FxHashMap;
use tierscope_traces::{Meta, ObjectKind, Tables};

pub use frames::{Frame, Function, is_plumbing};
pub(crate) use live::plausible;
pub use merge::Part;
pub use simulated::{Counted, Criticality, Simulation, TimedPlacement};
pub use sort::SortKey;

use crate::interval::Interval;
use simulated::Simulated;

/// What a profile says about its objects.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// In the order asked for; [`ObjectSummary::rank`] is always by criticality, or by share where none is
    /// known.
    pub objects: Vec<ObjectSummary>,
    /// The samples of no object, by reason; reasons without samples are left out.
    pub unattributed: Vec<Unattributed>,
    /// Weighted number of samples.
    pub samples: f64,
    /// How well samples were attributed.
    pub attribution: AttributionShares,
    /// The most bytes that were live at once, of all objects together.
    pub peak_live_bytes: f64,
    /// What a simulation says of the whole run; `None` where nothing was simulated.
    pub simulation: Option<Simulation>,
    /// The announced phases in the order they first began; empty without marks.
    pub phases: Vec<Phase>,
}

/// One object.
#[derive(Clone, Debug, PartialEq)]
pub struct ObjectSummary {
    /// Stable under ASLR and from run to run: kind, a hash of where it is allocated, and its part of the site.
    pub id: String,
    /// What people call it: the function that allocates it, the symbol, the path.
    pub name: String,
    /// What it is made of.
    pub kind: ObjectKind,
    /// Which blocks of the site, where one site has several objects.
    pub part: Option<Part>,
    /// The stack that allocates it, innermost first; empty for what is not allocated.
    pub site: Vec<Frame>,
    /// Path of the module that holds a global.
    pub module: Option<String>,
    /// Blocks allocated: each recorded one counts for as many as it stands for.
    pub allocations: f64,
    /// The most bytes of this object that were live at once.
    pub live_bytes_max: f64,
    /// Its bytes at the moment when the whole program had most.
    pub live_bytes_at_peak: f64,
    /// Weighted number of samples.
    pub samples: f64,
    /// Its part of all samples, those of no object included.
    pub share: f64,
    /// 95 % interval of the share.
    pub share_interval: Interval,
    /// Samples that read. An update both reads and writes. In a simulation, every read.
    pub loads: f64,
    /// Samples that wrote. In a simulation, every write.
    pub stores: f64,
    /// Samples served from beyond the last-level cache; `None` where the sampler does not know levels. In a simulation,
    /// every miss.
    pub llc_misses: Option<f64>,
    /// Slowdown of the run if this object alone is in slow memory; `None` where nothing says.
    pub criticality: Option<Criticality>,
    /// What a simulation counted; `None` where nothing was simulated.
    pub counted: Option<Counted>,
    /// Part of its samples whose address was reconstructed.
    pub approximate: f64,
    /// Part of its samples that only lie near it.
    pub neighbour: f64,
    /// First allocation, sample or sighting, nanoseconds of the profile's clock.
    pub first_seen_ns: u64,
    /// Last sample, allocation or free.
    pub last_seen_ns: u64,
    /// Its share of the samples of each of [`Summary::phases`].
    pub phases: Vec<f64>,
    /// The functions that access it most, at most [`TOP_ACCESS_SITES`].
    pub access_sites: Vec<AccessSite>,
    /// Place in the order by criticality where it is known, else by share, from 1.
    pub rank: usize,
}

impl ObjectSummary {
    /// Share of the samples per GiB, by the most bytes that were live; infinite where no size is known.
    #[must_use]
    pub fn density(&self) -> f64 {
        if self.share == 0.0 { 0.0 } else { self.share / self.live_bytes_max * f64::from(1 << 30) }
    }

    /// The frame people recognise: the innermost that is neither allocator nor standard library, with its place in
    /// [`Self::site`].
    #[must_use]
    pub fn user_frame(&self) -> Option<(usize, &Frame)> {
        frames::user_frame(&self.site)
    }
}

/// How many access sites are kept of an object.
pub const TOP_ACCESS_SITES: usize = 5;

/// A function, or an instruction where no function is known, that accesses an object.
#[derive(Clone, Debug, PartialEq)]
pub struct AccessSite {
    /// Its instruction with most samples.
    pub frame: Frame,
    /// Its samples of the object.
    pub samples: f64,
}

/// Samples of no object.
#[derive(Clone, Debug, PartialEq)]
pub struct Unattributed {
    /// Why.
    pub reason: Reason,
    /// How many, weighted.
    pub samples: f64,
    /// Part of all samples.
    pub share: f64,
    /// 95 % interval of the share.
    pub share_interval: Interval,
}

/// Why a sample has no object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// The instruction accesses no memory, or its address could not be computed.
    NoAddress,
    /// It fell in the kernel, and the program's access is not known.
    KernelNoAddress,
    /// There is an address, and no known object there.
    OutsideObjects,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::NoAddress, Self::KernelNoAddress, Self::OutsideObjects];

    /// The word for scripts.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoAddress => "no-address",
            Self::KernelNoAddress => "kernel-no-address",
            Self::OutsideObjects => "outside-objects",
        }
    }

    /// The phrase for people.
    #[must_use]
    pub const fn describe(self) -> &'static str {
        match self {
            Self::NoAddress => "no address there, or none that could be computed",
            Self::KernelNoAddress => "in the kernel, without a user address",
            Self::OutsideObjects => "an address in no known object",
        }
    }
}

/// How well samples were attributed, as parts of all samples. They add up to one where there are samples.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct AttributionShares {
    /// Exact address inside a live block.
    pub exact: f64,
    /// Reconstructed address, inside a live block.
    pub approximate: f64,
    /// Only near a block.
    pub neighbour: f64,
    /// No object.
    pub none: f64,
}

impl AttributionShares {
    /// Everything that has an object.
    #[must_use]
    pub fn attributed(&self) -> f64 {
        self.exact + self.approximate + self.neighbour
    }
}

/// A phase the program announced.
#[derive(Clone, Debug, PartialEq)]
pub struct Phase {
    /// As announced; samples before the first mark are in a phase named `before the first mark`.
    pub name: String,
    /// Weighted number of samples.
    pub samples: f64,
}

/// Numbers of the recorded objects that each object of a summary of these tables is made of, by its identity.
#[must_use]
pub fn recorded(tables: &Tables) -> FxHashMap<String, Vec<u32>> {
    let groups = merge::groups(tables, &frames::Symbols::new(tables));
    groups.into_iter().map(|group| (group.id, group.objects)).collect()
}

/// Summarises a profile, objects in order of `sort`.
#[must_use]
pub fn summarise(meta: &Meta, tables: &Tables, sort: SortKey) -> Summary {
    let symbols = frames::Symbols::new(tables);
    let groups = merge::groups(tables, &symbols);
    let of_object: FxHashMap<u32, usize> = groups
        .iter()
        .enumerate()
        .flat_map(|(group, merged)| merged.objects.iter().map(move |&object| (object, group)))
        .collect();
    let live = live::measure(tables, &groups, &of_object);
    let mut tally = tally::count(tables, &of_object, groups.len());
    let knows_levels = meta.sampler.kind.knows_levels();
    let simulated = Simulated::new(meta, tables, &of_object, groups.len());

    let mut objects: Vec<ObjectSummary> = groups
        .into_iter()
        .zip(live.groups)
        .zip(std::mem::take(&mut tally.groups))
        .enumerate()
        .map(|(number, ((group, live), count))| {
            let (share, share_interval) = tally.share(&count);
            let counted = simulated.as_ref().and_then(|simulated| simulated.counted(number));
            let of_samples = |part: f64| if count.samples > 0.0 { part / count.samples } else { 0.0 };
            ObjectSummary {
                id: group.id,
                name: group.name,
                kind: group.kind,
                part: group.part,
                site: group.site,
                module: group.module,
                allocations: live.allocations,
                live_bytes_max: live.bytes_max,
                live_bytes_at_peak: live.bytes_at_peak,
                samples: count.samples,
                share,
                share_interval,
                loads: counted.map_or(count.loads, |counted| counted.loads as f64),
                stores: counted.map_or(count.stores, |counted| counted.stores as f64),
                llc_misses: match counted {
                    Some(counted) => Some(counted.llc_misses as f64),
                    None => knows_levels.then_some(count.llc_misses),
                },
                criticality: simulated.as_ref().and_then(|simulated| simulated.criticality(number)),
                counted,
                approximate: of_samples(count.approximate),
                neighbour: of_samples(count.neighbour),
                first_seen_ns: group.first_seen_ns.min(live.first_ns).min(count.first_ns),
                last_seen_ns: live.last_ns.max(count.last_ns),
                phases: tally.phase_shares(&count),
                access_sites: tally::access_sites(&count, &symbols),
                rank: 0,
            }
        })
        .collect();
    let attribution = tally.attribution(&objects);
    sort::rank(&mut objects);
    sort.sort(&mut objects);

    let unattributed = Reason::ALL
        .into_iter()
        .zip(&tally.reasons)
        .filter(|(_, count)| count.samples > 0.0)
        .map(|(reason, count)| {
            let (share, share_interval) = tally.share(count);
            Unattributed { reason, samples: count.samples, share, share_interval }
        })
        .collect();
    Summary {
        objects,
        unattributed,
        samples: tally.samples(),
        attribution,
        peak_live_bytes: live.peak,
        simulation: simulated.map(|simulated| simulated.run),
        phases: tally.phases,
    }
}
