//! A tier and a set of tiers.

use std::collections::BTreeMap;

use crate::quantity::Quantity;

/// Where a figure came from.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// A publication, a file of the machine, a measurement; None where a file does not say.
    pub source: Option<String>,
    /// When that was: `2020`, `2020-02` or `2020-02-24`.
    pub date: Option<String>,
}

impl Origin {
    /// A source of a date.
    pub fn new(source: impl Into<String>, date: impl Into<String>) -> Self {
        Self { source: Some(source.into()), date: Some(date.into()) }
    }
}

/// A number with where it came from and, where that is known, how far it spreads.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// The number to calculate with.
    pub value: f64,
    /// The least and the largest that were found; for measurements the quartiles.
    pub range: Option<(f64, f64)>,
    /// Where it came from.
    pub origin: Origin,
    /// What one must know to read it.
    pub note: Option<String>,
}

impl Figure {
    /// A value with nothing more said about it than where it came from.
    pub fn new(value: f64, origin: Origin) -> Self {
        Self { value, range: None, origin, note: None }
    }
}

/// How many times the bytes of accesses of one size are moved by the medium.
#[derive(Debug, Clone, PartialEq)]
pub struct Amplification {
    /// Bytes of an access.
    pub bytes: u64,
    /// Bytes moved for each byte asked for.
    pub ratio: Figure,
}

/// What stands behind a tier on a machine, as a policy file says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backend {
    /// Memory of NUMA nodes.
    Numa {
        /// Node numbers, at least one.
        nodes: Vec<u16>,
        /// Fail rather than take memory of another node.
        strict: bool,
    },
    /// Pages in turn from several nodes.
    Interleave {
        /// Node numbers, at least two.
        nodes: Vec<u16>,
        /// Pages in a row from each node; empty for one each, else as many as nodes.
        weights: Vec<u8>,
    },
    /// Files mapped from a directory.
    File {
        /// An absolute path.
        dir: String,
    },
    /// A DAX device.
    Dax {
        /// Such as `/dev/dax0.0`.
        device: String,
    },
    /// Anonymous memory that the kernel is asked to page out.
    Swap,
}

impl Backend {
    /// Its name in a file.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Numa { .. } => "numa",
            Self::Interleave { .. } => "interleave",
            Self::File { .. } => "file",
            Self::Dax { .. } => "dax",
            Self::Swap => "swap",
        }
    }
}

/// A kind of memory.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tier {
    /// How files and messages call it.
    pub name: String,
    /// What it is, for people.
    pub description: Option<String>,
    /// What is known of it.
    pub figures: BTreeMap<Quantity, Figure>,
    /// How much more than asked for is read, by size of access, ascending.
    pub read_amplification: Vec<Amplification>,
    /// How much more than asked for is written, by size of access, ascending.
    pub write_amplification: Vec<Amplification>,
    /// What stands behind it on a machine; None for a tier that is only modelled.
    pub backend: Option<Backend>,
}

impl Tier {
    /// A tier of which nothing is known.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// The value of a figure, in the unit of its key.
    pub fn value(&self, quantity: Quantity) -> Option<f64> {
        self.figures.get(&quantity).map(|figure| figure.value)
    }

    /// Bytes it holds.
    pub fn capacity(&self) -> Option<u64> {
        // Within 2^53 and not negative, by the bounds of the quantity.
        self.value(Quantity::Capacity).map(|bytes| bytes as u64)
    }

    /// Set a figure, replacing what was known.
    pub fn set(&mut self, quantity: Quantity, figure: Figure) {
        self.figures.insert(quantity, figure);
    }
}

/// Tiers in the order of their file, the fastest first by convention. Never empty when it was read from text.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tiers(pub(crate) Vec<Tier>);

impl Tiers {
    /// Tiers in this order. Names must differ and satisfy [`is_name`] for the set to be readable again.
    pub fn new(tiers: Vec<Tier>) -> Self {
        Self(tiers)
    }

    /// All, in order.
    pub fn as_slice(&self) -> &[Tier] {
        &self.0
    }

    /// The tier of a name.
    pub fn get(&self, name: &str) -> Option<&Tier> {
        self.0.iter().find(|tier| tier.name == name)
    }
}

/// Whether this can name a tier: letters, digits, `.`, `_` and `-`, 64 at most, beginning with a letter or digit.
pub fn is_name(name: &str) -> bool {
    let inner = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-');
    name.len() <= 64 && name.starts_with(|first: char| first.is_ascii_alphanumeric()) && name.chars().all(inner)
}
