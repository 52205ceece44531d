//! Bytes, blocks and lives: what the shim saw, which needs no samples.
//!
//! One sweep over allocations and frees in order of time gives the most movable bytes that lived at once (what a budget is a part
//! of) and, for each object, in which part of the observed time any of it lived. What has no recorded blocks, as globals, is
//! there all the time. Bytes of blocks that were sampled are sums of weights, unbiased, whose variance is the sum of bytes^2
//! w (w - 1) over the blocks that live (Horvitz and Thompson, *JASA* 47, 1952; blocks are drawn independently).

use rustc_hash::FxHashMap;
use tierscope_traces::Tables;

use super::estimate::Estimate;
use super::window::Window;
use crate::summary::{Summary, plausible};

/// The smallest unit of memory that is moved.
pub(super) const PAGE: f64 = 4096.0;

/// The sizes of one object.
#[derive(Clone, Debug)]
pub(super) struct Size {
    /// Most bytes that lived at once; NaN where that is not known.
    pub(super) bytes: f64,
    /// The standard error of its binary logarithm.
    pub(super) log2_error: f64,
    /// Blocks; at least one.
    pub(super) blocks: f64,
    /// Mean bytes of a block.
    pub(super) block_bytes: f64,
    /// Part of the observed time in which some of it lived.
    pub(super) lifetime: f64,
    /// From when to when it lived, within the observed time; `None` where it did not.
    pub(super) life: Option<(u64, u64)>,
    /// Its lowest known address: a page is counted from here, so that it is the same wherever the object lies.
    pub(super) base: u64,
}

/// The sizes of all objects.
pub(super) struct Sizes {
    pub(super) objects: Vec<Size>,
    /// The most bytes of all movable objects that lived at once.
    pub(super) footprint: f64,
}

/// What the sweep knows of an object.
#[derive(Clone)]
struct Sweep {
    blocks: u64,
    weight: f64,
    bytes: f64,
    now: f64,
    now_variance: f64,
    most: f64,
    most_variance: f64,
    since_ns: u64,
    lived_ns: u64,
    life: Option<(u64, u64)>,
    base: u64,
}

impl Sweep {
    const NONE: Self = Self {
        blocks: 0,
        weight: 0.0,
        bytes: 0.0,
        now: 0.0,
        now_variance: 0.0,
        most: 0.0,
        most_variance: 0.0,
        since_ns: 0,
        lived_ns: 0,
        life: None,
        base: u64::MAX,
    };

    fn step(&mut self, step: &Step, observed: Window) {
        let sign = if step.allocates { 1.0 } else { -1.0 };
        self.now += sign * step.bytes * step.weight;
        self.now_variance += sign * step.bytes * step.bytes * step.weight * (step.weight - 1.0).max(0.0);
        if step.allocates {
            if self.blocks == 0 {
                self.since_ns = step.time_ns;
            }
            self.blocks += 1;
            self.weight += step.weight;
            self.bytes += step.bytes * step.weight;
            self.base = self.base.min(step.address);
            if self.now > self.most {
                (self.most, self.most_variance) = (self.now, self.now_variance);
            }
        } else {
            self.blocks = self.blocks.saturating_sub(1);
            if self.blocks == 0 {
                self.lived(step.time_ns, observed);
            }
        }
    }

    /// Some of it lived until then.
    fn lived(&mut self, until_ns: u64, observed: Window) {
        if let Some((start, end)) = observed.clip(self.since_ns, until_ns) {
            self.lived_ns += end - start;
            self.life = Some((self.life.map_or(start, |(first, _)| first.min(start)), end));
        }
    }
}

struct Step {
    time_ns: u64,
    /// Frees (false) come before allocations (true) of the same instant.
    allocates: bool,
    object: usize,
    address: u64,
    bytes: f64,
    weight: f64,
}

/// Measures all objects; `places` leads from recorded objects to those of the summary.
pub(super) fn measure(
    tables: &Tables,
    summary: &Summary,
    places: &FxHashMap<u32, usize>,
    movable: &[bool],
    observed: Window,
) -> Sizes {
    let mut sweeps = vec![Sweep::NONE; summary.objects.len()];
    let is_movable = |object: usize| movable.get(object).copied().unwrap_or(false);
    let (mut now, mut peak) = (0.0f64, 0.0f64);
    for step in steps(tables, places) {
        if is_movable(step.object) {
            now += if step.allocates { step.bytes } else { -step.bytes } * step.weight;
            peak = peak.max(now);
        }
        if let Some(sweep) = sweeps.get_mut(step.object) {
            sweep.step(&step, observed);
        }
    }
    let mut standing = 0.0;
    let mut objects = Vec::with_capacity(sweeps.len());
    for (number, (mut sweep, object)) in sweeps.into_iter().zip(&summary.objects).enumerate() {
        if sweep.blocks > 0 {
            sweep.lived(observed.end_ns, observed);
        }
        let recorded = sweep.weight > 0.0;
        if !recorded && is_movable(number) {
            standing += object.live_bytes_max;
        }
        let bytes = if object.live_bytes_max > 0.0 { object.live_bytes_max } else { f64::NAN };
        let whole = Some((observed.start_ns, observed.end_ns));
        objects.push(Size {
            bytes,
            log2_error: if sweep.most > 0.0 { sweep.most_variance.max(0.0).sqrt() / sweep.most * LOG2_E } else { 0.0 },
            blocks: if recorded { sweep.weight.max(1.0) } else { 1.0 },
            block_bytes: if recorded { sweep.bytes / sweep.weight } else { bytes },
            lifetime: if recorded { sweep.lived_ns as f64 / observed.nanoseconds().max(1) as f64 } else { 1.0 },
            life: if recorded { sweep.life } else { whole },
            base: sweep.base,
        });
    }
    Sizes { objects, footprint: peak + standing }
}

/// What an error of a value is in its binary logarithm, per unit of the value.
const LOG2_E: f64 = std::f64::consts::LOG2_E;

fn steps(tables: &Tables, places: &FxHashMap<u32, usize>) -> Vec<Step> {
    let mut steps = Vec::with_capacity(tables.allocations.len() * 2);
    for row in &tables.allocations {
        let Some(&object) = places.get(&row.object) else { continue };
        let (bytes, weight) = (row.bytes as f64, plausible(row.weight));
        let step = |time_ns, allocates| Step { time_ns, allocates, object, address: row.address, bytes, weight };
        steps.push(step(row.time_ns, true));
        if let Some(freed) = row.freed_ns {
            // A block freed at the instant it was allocated lived all the same.
            steps.push(step(freed.max(row.time_ns.saturating_add(1)), false));
        }
    }
    steps.sort_by_key(|step| (step.time_ns, step.allocates));
    steps
}

impl Size {
    /// The binary logarithm of its bytes over `of`.
    pub(super) fn log2_over(&self, of: f64) -> Estimate {
        Estimate { value: (self.bytes / of).log2(), error: self.log2_error }
    }

    /// How many pages it has.
    pub(super) fn pages(&self) -> f64 {
        (self.bytes / PAGE).ceil().max(1.0)
    }

    /// Whether an instant lies in the first quarter of its life.
    pub(super) fn is_early(&self, time_ns: u64) -> bool {
        self.life.is_some_and(|(start, end)| time_ns.saturating_sub(start) < (end - start) / 4)
    }
}
