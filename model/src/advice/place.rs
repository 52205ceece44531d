//! What can be placed, what stays where it is, and the problem that is left.

use tierscope_placement::{Object, PlacementError, Problem, Span, Tier as PlacementTier};
use tierscope_traces::ObjectKind;

use super::cost::Costs;
use super::tier::Tier;
use crate::summary::{ObjectSummary, Summary};

/// Pages are moved whole: what is smaller shares its page with neighbours.
const PAGE: f64 = 4096.0;

/// The library that a recording puts into the program.
const RECORDER: &str = "libtierscope_preload.so";

/// Why an object stays where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fixed {
    /// A thread's stack.
    Stack,
    /// A mapped file: its pages belong to the page cache.
    File,
    /// Memory mapped before or beside the shim: no rule can name it.
    Anon,
    /// Heap blocks whose call stack is not known, or begins in code generated at run time: no rule can name them.
    NoSite,
    /// A part of a module's data without a symbol.
    NoSymbol,
    /// A global smaller than a page.
    SmallGlobal,
    /// A global of the library that recorded: without a recording it is not there.
    Recorder,
}

impl Fixed {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Stack, Self::File, Self::Anon, Self::NoSite, Self::NoSymbol, Self::SmallGlobal, Self::Recorder];

    /// The word for scripts.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stack => "stack",
            Self::File => "file",
            Self::Anon => "anon",
            Self::NoSite => "no-site",
            Self::NoSymbol => "no-symbol",
            Self::SmallGlobal => "small-global",
            Self::Recorder => "recorder",
        }
    }

    /// What such objects are called, many of them.
    #[must_use]
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Stack => "stacks",
            Self::File => "mapped files",
            Self::Anon => "mappings the shim did not see made",
            Self::NoSite => "heap blocks without a usable call stack",
            Self::NoSymbol => "data without a symbol",
            Self::SmallGlobal => "globals smaller than a page",
            Self::Recorder => "globals of the recorder's own library",
        }
    }

    /// Number of the tier it is in: blocks no rule names go to the policy's default, the slowest; what the shim does not
    /// touch stays in the kernel's, the fastest.
    #[must_use]
    pub const fn tier(self, slowest: usize) -> usize {
        match self {
            Self::NoSite => slowest,
            Self::Stack | Self::File | Self::Anon | Self::NoSymbol | Self::SmallGlobal | Self::Recorder => 0,
        }
    }

    /// Why an object stays where it is; `None` for one that can be placed.
    #[must_use]
    pub fn of(object: &ObjectSummary) -> Option<Self> {
        match object.kind {
            ObjectKind::Stack => Some(Self::Stack),
            ObjectKind::File => Some(Self::File),
            ObjectKind::Anon => Some(Self::Anon),
            ObjectKind::Heap => {
                object.site.first().is_none_or(|innermost| innermost.module.is_none()).then_some(Self::NoSite)
            }
            ObjectKind::Global
                if object.module.as_deref().is_some_and(|path| path.rsplit('/').next() == Some(RECORDER)) =>
            {
                Some(Self::Recorder)
            }
            // What no symbol covers is called after its section: `.bss+0x1c40`.
            ObjectKind::Global if object.module.is_none() || object.name.is_empty() || object.name.starts_with('.') => {
                Some(Self::NoSymbol)
            }
            ObjectKind::Global => (object.live_bytes_max < PAGE).then_some(Self::SmallGlobal),
        }
    }
}

/// Why each object of a summary is fixed; `None` for those that can be placed.
pub(super) fn sort_out(summary: &Summary) -> Vec<Option<Fixed>> {
    summary.objects.iter().map(Fixed::of).collect()
}

/// The movable objects of a summary with their lives and costs.
pub(super) fn problem(
    summary: &Summary,
    movable: &[usize],
    mut lives: Vec<Option<Vec<Span>>>,
    costs: &Costs,
    tiers: &[Tier],
) -> Result<Problem, PlacementError> {
    let objects = movable.iter().filter_map(|&place| {
        let object = summary.objects.get(place)?;
        Some(Object {
            id: object.id.clone(),
            bytes: object.live_bytes_max as u64,
            lives: lives.get_mut(place).and_then(Option::take),
            costs: (0..tiers.len()).map(|tier| costs.weight(place, tier)).collect(),
        })
    });
    let tiers = tiers.iter().map(|tier| PlacementTier { name: tier.name.clone(), capacity: tier.capacity });
    Problem::new(objects.collect(), tiers.collect())
}
