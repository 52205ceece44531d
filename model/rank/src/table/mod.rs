//! The labelled table: what rankers learn from, and what they are judged by.
//!
//! Two files. `objects.csv` has a row per object of every case: features of both families, the criticality that was timed, and
//! exact counts that only baselines may see. `sets.csv` has a row per set of objects that was timed in slow memory together,
//! since singles do not add up. Both are plain text with one line per row, sorted and rounded, so that a change to the table is
//! a diff one can read; an empty cell is what is not known.
//!
//! What is read is outside data: every cell is checked, and what is wrong is named by file, line and column.

mod cell;
mod objects;
mod read;
mod sets;
mod write;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::feature::{Family, Features};

/// One run of one program on one modelled machine, with one pair of tiers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Case {
    /// What is held out together: programs that share code must share this name.
    pub program: String,
    /// Size of its input, as the program takes it.
    pub scale: String,
    /// Seed of its input.
    pub seed: u64,
    /// Bytes of the last-level cache.
    pub llc_bytes: u64,
    /// Name of the pair of tiers.
    pub tiers: String,
    /// The machine that timed it: `sim`, or one that people measured on.
    pub machine: String,
}

/// Two tiers beside each other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TierPair {
    /// Latency of reads in the slow tier over that in the fast one.
    pub latency_x: f64,
    /// Read bandwidth of the fast tier over that of the slow one.
    pub bandwidth_x: f64,
    /// Write bandwidth of the fast tier over that of the slow one.
    pub write_bandwidth_x: f64,
    /// What the slow tier moves at once, bytes.
    pub granule_bytes: f64,
    /// Read bandwidth of the slow tier, 10^9 bytes a second: what a program asks for decides whether a ratio matters.
    pub slow_read_gbs: f64,
    /// Write bandwidth of the slow tier, 10^9 bytes a second.
    pub slow_write_gbs: f64,
}

/// What is known of one tier; NaN where nothing is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TierFigures {
    /// Nanoseconds of a random read that the next one waits for.
    pub latency_ns: f64,
    /// Read bandwidth, 10^9 bytes a second.
    pub read_gbs: f64,
    /// Write bandwidth, 10^9 bytes a second.
    pub write_gbs: f64,
    /// What it moves at once, bytes.
    pub granule_bytes: f64,
}

impl TierPair {
    /// The slow tier beside the fast one; what is not known of either is not known of the pair.
    #[must_use]
    pub fn between(fast: &TierFigures, slow: &TierFigures) -> Self {
        Self {
            latency_x: slow.latency_ns / fast.latency_ns,
            bandwidth_x: fast.read_gbs / slow.read_gbs,
            write_bandwidth_x: fast.write_gbs / slow.write_gbs,
            granule_bytes: slow.granule_bytes,
            slow_read_gbs: slow.read_gbs,
            slow_write_gbs: slow.write_gbs,
        }
    }
}

/// Exact counts, as a simulator has them: for baselines, never for features. NaN where not known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Counted {
    /// Misses of the last-level cache.
    pub llc_misses: f64,
    /// Bytes read from memory.
    pub bytes_read: f64,
    /// Bytes written to memory.
    pub bytes_written: f64,
    /// Cycles in which the core waited for it.
    pub stall_cycles: f64,
    /// When it was first seen: a number that orders the objects of a case.
    pub first_seen: f64,
    /// Soar's score (OSDI'25): before it is divided by bytes.
    pub soar_score: f64,
    /// How hot its pages are to a kernel that tiers pages.
    pub hotness: f64,
}

impl Counted {
    /// Nothing was counted.
    pub const UNKNOWN: Self = Self {
        llc_misses: f64::NAN,
        bytes_read: f64::NAN,
        bytes_written: f64::NAN,
        stall_cycles: f64::NAN,
        first_seen: f64::NAN,
        soar_score: f64::NAN,
        hotness: f64::NAN,
    };
}

/// One object of one case.
#[derive(Clone, Debug)]
pub struct Row {
    /// The run.
    pub case: Case,
    /// The pair of tiers that `case` names: the same in all its rows.
    pub tier_pair: TierPair,
    /// Its identity, unique in the case; without `;`, which separates objects of a set.
    pub object: String,
    /// What people call it.
    pub name: String,
    /// `heap`, `global`, `stack`, `file`, `anon`.
    pub kind: String,
    /// The most bytes of it that live at once.
    pub bytes: u64,
    /// Whether it can be placed.
    pub movable: bool,
    /// Features of a clock recording.
    pub clock: Option<Features>,
    /// Features of samples with levels.
    pub levels: Option<Features>,
    /// Exact counts.
    pub counted: Counted,
    /// The label: by how much the run is slower with this object alone in slow memory; 0.05 is 5 %.
    pub criticality: f64,
    /// 95 % half width of the label.
    pub criticality_error: f64,
}

impl Row {
    /// The features of a family, with those of the tiers put in.
    #[must_use]
    pub fn features(&self, family: Family) -> Option<Features> {
        let mut features = match family {
            Family::Clock => self.clock.clone()?,
            Family::Levels => self.levels.clone()?,
        };
        features.set_tiers(&self.tier_pair);
        Some(features)
    }
}

/// A set of objects that was timed in slow memory together.
#[derive(Clone, Debug, PartialEq)]
pub struct Set {
    /// The run.
    pub case: Case,
    /// Identities of the objects in slow memory, sorted, each once.
    pub slow: Vec<String>,
    /// By how much the run is slower; 0.05 is 5 %.
    pub slowdown: f64,
    /// 95 % half width.
    pub error: f64,
}

/// Rows and sets.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// Sorted by case and object.
    pub rows: Vec<Row>,
    /// Sorted by case and objects.
    pub sets: Vec<Set>,
}

impl Table {
    /// Reads both files.
    ///
    /// # Errors
    /// Any of [`TableError`].
    pub fn read(objects: &Path, sets: &Path) -> Result<Self, TableError> {
        let text = |path: &Path| {
            std::fs::read_to_string(path).map_err(|source| TableError::Unreadable { path: path.into(), source })
        };
        Self::parse(&text(objects)?, &text(sets)?)
    }

    /// Reads the text of both files.
    ///
    /// # Errors
    /// Any of [`TableError`] but those of files.
    pub fn parse(objects: &str, sets: &str) -> Result<Self, TableError> {
        let mut table = Self { rows: objects::parse(objects)?, sets: sets::parse(sets)? };
        table.sort();
        read::check(&table)?;
        Ok(table)
    }

    /// The text of `objects.csv`: sorted, six significant digits.
    #[must_use]
    pub fn objects_csv(&self) -> String {
        objects::text(self)
    }

    /// The text of `sets.csv`.
    #[must_use]
    pub fn sets_csv(&self) -> String {
        sets::text(self)
    }

    /// Takes in other rows and sets; those that are there already are replaced.
    pub fn merge(&mut self, other: Self) {
        let mut rows: BTreeMap<(Case, String), Row> = BTreeMap::new();
        for row in std::mem::take(&mut self.rows).into_iter().chain(other.rows) {
            rows.insert((row.case.clone(), row.object.clone()), row);
        }
        let mut sets: BTreeMap<(Case, Vec<String>), Set> = BTreeMap::new();
        for set in std::mem::take(&mut self.sets).into_iter().chain(other.sets) {
            sets.insert((set.case.clone(), set.slow.clone()), set);
        }
        self.rows = rows.into_values().collect();
        self.sets = sets.into_values().collect();
    }

    /// The programs there are, sorted.
    #[must_use]
    pub fn programs(&self) -> Vec<String> {
        let mut programs: Vec<String> = self.rows.iter().map(|row| row.case.program.clone()).collect();
        programs.sort();
        programs.dedup();
        programs
    }

    fn sort(&mut self) {
        self.rows.sort_by(|a, b| (&a.case, &a.object).cmp(&(&b.case, &b.object)));
        self.sets.sort_by(|a, b| (&a.case, &a.slow).cmp(&(&b.case, &b.slow)));
    }
}

/// Which of the two files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum File {
    /// `objects.csv`.
    Objects,
    /// `sets.csv`.
    Sets,
}

impl std::fmt::Display for File {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Objects => "objects.csv",
            Self::Sets => "sets.csv",
        })
    }
}

/// What is wrong with a table.
#[derive(Debug, Error)]
pub enum TableError {
    /// A file that cannot be read.
    #[error("{path} cannot be read: {source}; tierscope label makes the table", path = .path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Text that is no CSV, or a row with too few or too many cells.
    #[error("{file}, line {line}: {reason}")]
    Malformed {
        /// In which file.
        file: File,
        /// From 1.
        line: u64,
        /// What is wrong.
        reason: String,
    },
    /// A column that must be there is not.
    #[error("{file} has no column {column}: its first line must name it; tierscope label writes all of them")]
    NoColumn {
        /// In which file.
        file: File,
        /// Which column.
        column: String,
    },
    /// A column is there twice.
    #[error("{file} has two columns {column}: remove one of them")]
    TwoColumns {
        /// In which file.
        file: File,
        /// Which column.
        column: String,
    },
    /// A cell that says something impossible.
    #[error("{file}, line {line}, column {column}: {found:?} is not {wanted}")]
    Cell {
        /// In which file.
        file: File,
        /// From 1.
        line: u64,
        /// Which column.
        column: String,
        /// What is there.
        found: String,
        /// What could be.
        wanted: &'static str,
    },
    /// Something is there twice.
    #[error("{file} has {what} twice: remove one of the rows")]
    Twice {
        /// In which file.
        file: File,
        /// Which row, in words.
        what: String,
    },
    /// Rows of a case say different things about its tiers.
    #[error("objects.csv gives two different pairs of tiers for {what}: all rows of a case have the same")]
    TwoPairs {
        /// Which case, in words.
        what: String,
    },
    /// A set names an object that has no row.
    #[error("sets.csv times {object} for {what}, which objects.csv does not have: the files are not of one table")]
    Stranger {
        /// Which object.
        object: String,
        /// Which case, in words.
        what: String,
    },
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { program, scale, seed, llc_bytes, tiers, machine } = self;
        write!(f, "{program} at scale {scale}, seed {seed}, cache of {llc_bytes} bytes, {tiers} on {machine}")
    }
}
