//! Timing in windows: which blocks are timed, and what lanes took in a window.

use super::lanes::Entry;
use super::told::set_of;
use super::{LaneTime, Timing};
use crate::block::Block;
use crate::config::Windows;
use crate::windows::{Phase, Position, Reference};

/// Where a sampled run is.
pub(super) struct Sampling {
    position: Position,
    phase: Phase,
    /// By set: its all-fast lane.
    references: Vec<Reference>,
    kept: u64,
}

impl Sampling {
    pub(super) fn new(windows: Windows, sets: usize) -> Self {
        Self {
            position: Position::new(windows),
            phase: Phase::Skip,
            references: vec![Reference::default(); sets],
            kept: 0,
        }
    }
}

impl Timing {
    /// Whether a block is timed; if not, its branch is learnt.
    pub(super) fn is_timed(&mut self, cpu: usize, block: &Block, instructions: u64) -> bool {
        let Some(sampling) = &mut self.sampling else { return true };
        let (before, phase) = (sampling.phase, sampling.position.phase());
        sampling.position.advance(instructions);
        sampling.phase = phase;
        if phase != before {
            self.change(before, phase);
        }
        if phase == Phase::Skip
            && let Some(core) = self.cores.get_mut(cpu)
        {
            core.front.warm(block);
            return false;
        }
        if let Some(sampling) = self.sampling.as_mut().filter(|_| phase == Phase::Keep) {
            sampling.kept += instructions;
        }
        true
    }

    fn change(&mut self, before: Phase, phase: Phase) {
        self.flush();
        if before == Phase::Keep {
            self.keep();
        }
        if before == Phase::Skip {
            let latest = self.latest();
            for core in &mut self.cores {
                core.front.interrupt();
                core.wait_until(&latest);
            }
        }
        if phase == Phase::Keep {
            let clocks: Vec<u64> = (0..self.lanes.entries.len()).map(|number| self.clock_of(number)).collect();
            for (entry, clock) in self.lanes.entries.iter_mut().zip(clocks) {
                entry.window = clock;
            }
            if let Some(sampling) = &mut self.sampling {
                sampling.kept = 0;
            }
        }
    }

    /// A window is over: what each lane took in it.
    fn keep(&mut self) {
        let Some(kept) = self.sampling.as_ref().map(|sampling| sampling.kept as f64).filter(|kept| *kept > 0.0) else {
            return;
        };
        let spans: Vec<Option<f64>> = (0..self.lanes.entries.len())
            .map(|number| {
                let entry = self.lanes.entries.get(number)?;
                Some(self.clock(entry.at?).saturating_sub(entry.window) as f64 / f64::from(self.common.scale.cycle))
            })
            .collect();
        let fast: Vec<f64> = self.all_fast.iter().map(|n| spans.get(*n).copied().flatten().unwrap_or(0.0)).collect();
        for (entry, span) in self.lanes.entries.iter_mut().zip(spans) {
            let set = set_of(entry.kind);
            if let (Some(span), Some(fast)) = (span, fast.get(set)) {
                entry.difference.add(fast / kept, (span - fast) / kept);
            }
        }
        let references = self.sampling.iter_mut().flat_map(|sampling| &mut sampling.references);
        for (reference, fast) in references.zip(fast) {
            reference.add(fast / kept);
        }
    }

    /// The run is over, perhaps in a window.
    pub(super) fn end_window(&mut self) {
        if self.sampling.as_ref().is_some_and(|sampling| sampling.phase == Phase::Keep) {
            self.keep();
            if let Some(sampling) = &mut self.sampling {
                sampling.phase = Phase::Skip;
            }
        }
    }

    /// What a lane takes in the whole run, where only windows were timed.
    pub(super) fn estimate(&self, entry: &Entry, time: &mut LaneTime) {
        let set = set_of(entry.kind);
        if let Some(reference) = self.sampling.as_ref().and_then(|sampling| sampling.references.get(set)) {
            let all = self.instructions as f64;
            let lane = reference.lane(&entry.difference);
            time.cycles = (lane.mean * all).round() as u64;
            time.half = Some(lane.half * all);
            // That of the ratio times the reference, so that dividing by the all-fast cycles gives the interval of the criticality.
            time.half_difference = Some(reference.ratio(&entry.difference).half * reference.estimate().mean * all);
        }
    }
}
