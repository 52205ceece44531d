//! What a ranker may know of an object: names, units and sources, and the values themselves.
//!
//! Everything here can be had from samples that a real machine gives, from sizes that the shim sees and from the figures of the
//! tiers. Nothing is derived from a label or from counts that only a simulator has: such a feature would make evaluations shine
//! and real profiles useless. So counts are in another type ([`crate::Counted`]), and labels in no type that has features.
//!
//! A *family* is what a sample means. Under a clock a sample is time, whether waited or computed; samples of a PMU are loads
//! that missed the last-level cache. The same column means different things in the two, so a model knows its family.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What a sample stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// Time: a share of samples is a share of the run. Levels are not known.
    Clock,
    /// Loads that missed the last-level cache, with latency and TLB.
    Levels,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Clock, Self::Levels];

    /// The word in tables and on command lines.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Clock => "clock",
            Self::Levels => "levels",
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Family {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|family| family.as_str() == word);
        found.ok_or_else(|| format!("there is no family of features {word:?}; there are clock and levels"))
    }
}

/// Features of one origin: what an ablation leaves out together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// What the shim knows exactly: bytes, blocks, lifetimes.
    Sizes,
    /// How many samples, and of what kind.
    Samples,
    /// In what order addresses came, and from where.
    Order,
    /// When samples came.
    Time,
    /// What a PMU knows of a miss.
    Levels,
    /// The same for all objects of a run.
    Program,
    /// The figures of the two tiers; set by [`Features::set_tiers`], not part of a table's features.
    Tiers,
    /// The physically grounded estimate; computed from the rest, not part of a table's features.
    Physics,
}

impl Group {
    /// All of them.
    pub const ALL: [Self; 8] =
        [Self::Sizes, Self::Samples, Self::Order, Self::Time, Self::Levels, Self::Program, Self::Tiers, Self::Physics];

    /// The word in ablations.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sizes => "sizes",
            Self::Samples => "samples",
            Self::Order => "order",
            Self::Time => "time",
            Self::Levels => "levels",
            Self::Program => "program",
            Self::Tiers => "tiers",
            Self::Physics => "physics",
        }
    }

    /// Whether the table has columns for it: the others are computed from the rest of a row.
    #[must_use]
    pub const fn is_stored(self) -> bool {
        !matches!(self, Self::Tiers | Self::Physics)
    }
}

/// One thing known of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feature {
    /// Which.
    pub name: Name,
    /// The name in tables: snake case.
    pub text: &'static str,
    /// Of what kind.
    pub group: Group,
    /// In what it is measured; `1` for shares and ratios.
    pub unit: &'static str,
    /// What it says.
    pub what: &'static str,
    /// Which samplers give it.
    pub families: &'static [Family],
    /// Whether it is estimated from samples, so that it has a standard error.
    pub estimated: bool,
}

const BOTH: &[Family] = &Family::ALL;
const LEVELS: &[Family] = &[Family::Levels];
const CLOCK: &[Family] = &[Family::Clock];
const EXACT: bool = false;
const ESTIMATED: bool = true;

macro_rules! features {
    ($($group:ident { $($name:ident $text:literal [$unit:literal] $families:ident $estimated:ident $what:literal;)* })*) => {
        /// A feature by name; its number is its place in [`FEATURES`] and in the arrays of [`Features`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(usize)]
        pub enum Name { $($(#[doc = $what] $name,)*)* }

        /// How many features there are.
        pub const COUNT: usize = [$($(Name::$name,)*)*].len();

        /// All features, in the order of [`Name`].
        pub const FEATURES: [Feature; COUNT] = [$($(Feature {
            name: Name::$name,
            text: $text,
            group: Group::$group,
            unit: $unit,
            what: $what,
            families: $families,
            estimated: $estimated,
        },)*)*];
    };
}

features! {
    Sizes {
        Log2Bytes "log2_bytes" ["log2 B"] BOTH EXACT "Most bytes of the object that live at once.";
        Log2BytesToLlc "log2_bytes_to_llc" ["log2"] BOTH EXACT "The object's bytes over the last-level cache: what fits is read from memory once.";
        Log2FootprintToLlc "log2_footprint_to_llc" ["log2"] BOTH EXACT "All movable bytes of the run over the last-level cache.";
        BytesShare "bytes_share" ["1"] BOTH EXACT "The object's part of all movable bytes.";
        Log2Allocations "log2_allocations" ["log2"] BOTH EXACT "How many blocks it had.";
        Lifetime "lifetime" ["1"] BOTH EXACT "Part of the observed time in which some of it lived.";
        Log2BlockBytes "log2_block_bytes" ["log2 B"] BOTH EXACT "Mean bytes of a block.";
    }
    Samples {
        Share "share" ["1"] BOTH ESTIMATED "Its part of all samples of the window, those in no object among them.";
        Samples "samples" ["samples"] BOTH EXACT "How many samples it has: what is known of it rests on them.";
        ShareOfAttributed "share_of_attributed" ["1"] BOTH ESTIMATED "Its part of the samples that fell on movable objects.";
        Log2Density "log2_density" ["log2"] BOTH ESTIMATED "Its part of those samples over its part of the bytes.";
        StoreShare "store_share" ["1"] BOTH ESTIMATED "Part of its samples that store, loads that also store among them.";
        UpdateShare "update_share" ["1"] BOTH ESTIMATED "Part of its samples that load and store at once.";
        KernelShare "kernel_share" ["1"] BOTH ESTIMATED "Part of its samples taken inside the kernel.";
        ApproximateShare "approximate_share" ["1"] BOTH ESTIMATED "Part of its samples whose address was reconstructed.";
        NeighbourShare "neighbour_share" ["1"] BOTH ESTIMATED "Part of its samples that lie between recorded blocks and count for the nearest.";
    }
    Order {
        DependentShare "dependent_share" ["1"] BOTH ESTIMATED "Part of its samples whose address was computed from a value just loaded.";
        Sequentiality "sequentiality" ["1"] BOTH ESTIMATED "How well one speed explains the steps between successive samples of a thread in it: 0 at random, 1 a stream.";
        StrideEntropy "stride_entropy" ["1"] BOTH ESTIMATED "Entropy of those steps, beside that speed, over the largest there could be.";
        PageConcentration "page_concentration" ["1"] BOTH ESTIMATED "0 where samples spread evenly over its pages, 1 where one page has all; from pairs of samples, so whatever their number.";
        Instructions "instructions" ["addresses"] BOTH ESTIMATED "Effective number of code addresses that touch it: one over the sum of squared shares.";
        Threads "threads" ["threads"] BOTH ESTIMATED "Effective number of threads that touch it.";
        SharedShare "shared_share" ["1"] BOTH ESTIMATED "Of two of its samples close together, how often they are of different threads, over how often any two are.";
    }
    Time {
        PhaseVariance "phase_variance" ["1"] BOTH ESTIMATED "Squared coefficient of variation of its share over batches of time, less what sampling alone gives.";
        EarlyShare "early_share" ["1"] BOTH ESTIMATED "Part of its samples in the first quarter of its life.";
    }
    Levels {
        MissShare "miss_share" ["1"] LEVELS ESTIMATED "Its part of all misses of the last-level cache.";
        Log2MissDensity "log2_miss_density" ["log2"] LEVELS ESTIMATED "Its part of the misses over its part of the bytes.";
        LatencyShare "latency_share" ["1"] LEVELS ESTIMATED "Its part of the latencies of all sampled misses, added up (PACT).";
        LatencyRatio "latency_ratio" ["1"] LEVELS ESTIMATED "The mean latency of its misses over the mean of all.";
        LatencyP90Ratio "latency_p90_ratio" ["1"] LEVELS ESTIMATED "The 90th percentile of the latency of its misses over the mean of all.";
        GapRatio "gap_ratio" ["1"] LEVELS ESTIMATED "The mean time from the miss before to each of its sampled misses, over the mean of all.";
        DtlbShare "dtlb_share" ["1"] LEVELS ESTIMATED "Part of its samples that missed the first data TLB.";
        WalkShare "walk_share" ["1"] LEVELS ESTIMATED "Part of its samples that walked the page table.";
    }
    Program {
        ProgramMovableShare "program_movable_share" ["1"] BOTH ESTIMATED "Part of all samples of the window that fell on movable objects.";
        ProgramDependentShare "program_dependent_share" ["1"] BOTH ESTIMATED "Dependent samples over those on movable objects.";
        ProgramSequentiality "program_sequentiality" ["1"] BOTH ESTIMATED "Sequentiality, all movable objects together, by samples.";
        ProgramStoreShare "program_store_share" ["1"] BOTH ESTIMATED "Part of the samples on movable objects that store.";
        ProgramThreads "program_threads" ["threads"] BOTH ESTIMATED "Effective number of threads, by samples.";
        ProgramMemoryShare "program_memory_share" ["1"] CLOCK ESTIMATED "Part of all samples at an instruction that accesses memory.";
        ProgramMissLatency "program_miss_latency" ["cycles"] LEVELS ESTIMATED "Mean latency of the sampled misses.";
        ProgramMissRate "program_miss_rate" ["1/kcycle"] LEVELS ESTIMATED "Loads that miss the last-level cache per thousand cycles that threads ran: samples times what one stands for.";
    }
    Tiers {
        LatencyX "latency_x" ["1"] BOTH EXACT "Latency of reads in the slow tier over that in the fast one.";
        BandwidthX "bandwidth_x" ["1"] BOTH EXACT "Read bandwidth of the fast tier over that of the slow one.";
        WriteBandwidthX "write_bandwidth_x" ["1"] BOTH EXACT "Write bandwidth of the fast tier over that of the slow one.";
        GranuleBytes "granule_bytes" ["B"] BOTH EXACT "What the slow tier moves at once.";
        SlowReadGbs "slow_read_gbs" ["GB/s"] BOTH EXACT "Read bandwidth of the slow tier.";
        SlowWriteGbs "slow_write_gbs" ["GB/s"] BOTH EXACT "Write bandwidth of the slow tier.";
    }
    Physics {
        FormulaLatency "formula_latency" ["1"] BOTH ESTIMATED "Stall share times (latency ratio - 1): what waiting grows by.";
        FormulaBandwidth "formula_bandwidth" ["1"] BOTH ESTIMATED "Bandwidth share times (bandwidth ratio - 1): what moving grows by.";
    }
}

impl Name {
    /// What there is to know about it.
    #[must_use]
    pub fn feature(self) -> &'static Feature {
        const TABLE: &[Feature; COUNT] = &FEATURES;
        &TABLE[self as usize]
    }

    /// The name in tables.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.feature().text
    }

    /// The feature of this name in a table.
    #[must_use]
    pub fn of(text: &str) -> Option<Self> {
        FEATURES.iter().find(|feature| feature.text == text).map(|feature| feature.name)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is known of one object; NaN where nothing is.
#[derive(Clone, Debug)]
pub struct Features {
    values: [f64; COUNT],
    errors: [f64; COUNT],
}

impl Default for Features {
    fn default() -> Self {
        Self::UNKNOWN
    }
}

impl Features {
    /// Nothing is known.
    pub const UNKNOWN: Self = Self { values: [f64::NAN; COUNT], errors: [f64::NAN; COUNT] };

    /// A value; NaN where it is not known.
    #[must_use]
    pub fn get(&self, name: Name) -> f64 {
        self.values[name as usize]
    }

    /// A value that is known.
    #[must_use]
    pub fn known(&self, name: Name) -> Option<f64> {
        Some(self.get(name)).filter(|value| value.is_finite())
    }

    /// The standard error of a value: 0 where it is exact, NaN where it is not known.
    #[must_use]
    pub fn error(&self, name: Name) -> f64 {
        self.errors[name as usize]
    }

    /// Says a value with its standard error (0: exact; NaN: not known). What is no number is not known.
    pub fn set(&mut self, name: Name, value: f64, error: f64) {
        let value = if value.is_finite() { value } else { f64::NAN };
        self.values[name as usize] = value;
        let known = value.is_finite() && error.is_finite() && error >= 0.0;
        self.errors[name as usize] = if known { error } else { f64::NAN };
    }

    /// Says an exact value.
    pub fn set_exact(&mut self, name: Name, value: f64) {
        self.set(name, value, 0.0);
    }

    /// Puts in what is known of the tiers.
    pub fn set_tiers(&mut self, tiers: &crate::TierPair) {
        self.set_exact(Name::LatencyX, tiers.latency_x);
        self.set_exact(Name::BandwidthX, tiers.bandwidth_x);
        self.set_exact(Name::WriteBandwidthX, tiers.write_bandwidth_x);
        self.set_exact(Name::GranuleBytes, tiers.granule_bytes);
        self.set_exact(Name::SlowReadGbs, tiers.slow_read_gbs);
        self.set_exact(Name::SlowWriteGbs, tiers.slow_write_gbs);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feature_is_found_by_its_number_and_by_its_name() {
        for (number, feature) in FEATURES.iter().enumerate() {
            assert_eq!(feature.name as usize, number);
            assert_eq!(Name::of(feature.text), Some(feature.name));
            assert_eq!(feature.name.feature(), feature);
            assert!(feature.what.ends_with('.'), "{}", feature.text);
            assert!(
                feature.text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
            );
            assert!(!feature.families.is_empty());
        }
        assert_eq!(Name::of("criticality"), None);
    }

    #[test]
    fn what_is_no_number_is_not_known() {
        let mut features = Features::default();
        assert_eq!(features.known(Name::Share), None);
        features.set(Name::Share, 0.5, 0.01);
        assert_eq!((features.known(Name::Share), features.error(Name::Share)), (Some(0.5), 0.01));
        features.set(Name::Share, 0.5, -1.0);
        assert!(features.error(Name::Share).is_nan());
        features.set(Name::Share, f64::INFINITY, 0.0);
        assert_eq!(features.known(Name::Share), None);
        assert!(features.error(Name::Share).is_nan());
    }
}
