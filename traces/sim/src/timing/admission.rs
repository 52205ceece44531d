//! Which placements have a lane: those that are there from the start, and objects as they first reach memory.
//!
//! Until an object's first line comes from memory or goes there, its placement alone in slow memory took as long as everything in fast
//! memory, operation by operation. So its lane may begin as a copy of the all-fast one then, and is exact. Where there are more
//! objects than lanes, the lane with the least difference is given up, and its difference kept.

use super::lanes::Place;
use super::memory::{GroupTier, Memory, TierLane};
use super::{Execution, Group, Timing};
use crate::objects::ObjectId;
use crate::outcome::LaneKind;
use crate::served::{Level, TrafficKind};

impl Timing {
    pub(super) fn settle(&mut self, number: usize, place: Option<Place>) {
        if let Some(entry) = self.lanes.entries.get_mut(number) {
            (entry.at, entry.opened) = (place, true);
        }
    }

    /// Takes a lane in a group of a set, with everything in one tier.
    pub(super) fn place(&mut self, set: usize, default: Option<u16>) -> Place {
        let free = |group: &Group| group.set == set && group.used != u16::MAX;
        let group = match self.groups.iter().position(free) {
            Some(group) => group,
            None => self.new_group(set),
        };
        self.open += 1;
        let Some(there) = self.groups.get_mut(group) else { return Place { group, lane: 0 } };
        let lane = there.used.trailing_ones() as usize;
        there.used |= 1 << lane;
        if let Some(tier) = default.and_then(|tier| there.memory.tiers.get_mut(usize::from(tier))) {
            tier.set_default(lane, true);
        }
        Place { group, lane }
    }

    fn new_group(&mut self, set: usize) -> usize {
        let mut tiers: Vec<GroupTier> = self.media.iter().cloned().map(GroupTier::new).collect();
        if self.cores.len() > 1 {
            tiers.iter_mut().for_each(|tier| tier.share(self.common.scale.cycle));
        }
        self.groups.push(Group { memory: Memory { tiers, modes: Vec::new() }, used: 0, set });
        for core in &mut self.cores {
            // At the same step as the others; its lanes are filled when they are taken.
            if let Some(pipeline) = core.pipelines.first().cloned() {
                core.pipelines.push(pipeline);
            }
        }
        self.groups.len() - 1
    }

    /// Objects of which a line comes from memory or goes there, for the first time perhaps.
    pub(super) fn admit_all(&mut self, execution: &Execution<'_>) {
        let served = execution.served.iter().filter(|served| served.level == Level::Memory).map(|served| served.object);
        let moved = execution.traffic.iter().filter(|t| t.kind != TrafficKind::Fetch).map(|traffic| traffic.object);
        for object in served.chain(moved) {
            if !self.lanes.is_open(object.0) {
                self.admit(object);
            }
        }
    }

    /// Gives an object its lanes, if there are some or if it has more claim to them than others.
    fn admit(&mut self, object: ObjectId) {
        let mut all = true;
        for set in 0..self.sets.len() {
            let number = self.lanes.of_object(object, set);
            let gap = self.gaps.get(set).copied().unwrap_or(1);
            let Some(entry) = self.lanes.entries.get_mut(number) else { continue };
            if entry.at.is_some() {
                continue;
            }
            entry.claim = entry.claim.saturating_add(gap);
            let claim = entry.claim;
            let Some(place) = self.room(set, claim) else {
                all = false;
                if let Some(entry) = self.lanes.entries.get_mut(number) {
                    entry.missed = Some(self.instructions);
                }
                continue;
            };
            self.open_lane(number, set, object, place);
        }
        self.lanes.set_open(object.0, all);
    }

    /// A lane that is free, or that of the object with the least difference.
    fn room(&mut self, set: usize, claim: u64) -> Option<Place> {
        if self.open < self.most || self.groups.iter().any(|group| group.set == set && group.used != u16::MAX) {
            let place = self.place(set, None);
            self.measure();
            return Some(place);
        }
        let fast = self.all_fast.get(set).map_or(0, |number| self.clock_of(*number));
        let mut lanes = std::mem::take(&mut self.lanes);
        let least = lanes.least(set, claim, |entry| {
            entry.kept + entry.at.map_or(0, |place| self.clock(place).wrapping_sub(fast).cast_signed())
        });
        self.lanes = lanes;
        let (number, made) = least?;
        let entry = self.lanes.entries.get_mut(number)?;
        let place = entry.at.take()?;
        (entry.kept, entry.claim) = (made, u64::try_from(made).unwrap_or(0));
        entry.missed = Some(self.instructions);
        self.lanes.closed += 1;
        if let LaneKind::ObjectSlow { object, .. } = entry.kind {
            self.lanes.set_open(object.0, false);
        }
        for tier in self.groups.get_mut(place.group).into_iter().flat_map(|group| &mut group.memory.tiers) {
            tier.set_default(place.lane, false);
        }
        Some(place)
    }

    /// Makes a lane a copy of the all-fast one, but for one object.
    fn open_lane(&mut self, number: usize, set: usize, object: ObjectId, place: Place) {
        let Some(tiers) = self.sets.get(set).map(|set| (usize::from(set.fast), usize::from(set.slow))) else { return };
        let reference = self.all_fast.get(set).and_then(|number| self.lanes.entries.get(*number));
        let Some((from, window)) = reference.and_then(|entry| Some((entry.at?, entry.window))) else { return };
        for core in &mut self.cores {
            let Some(state) = core.pipelines.get_mut(from.group).map(|pipeline| pipeline.lane(from.lane)) else {
                continue;
            };
            if let Some(pipeline) = core.pipelines.get_mut(place.group) {
                pipeline.set_lane(place.lane, &state);
            }
        }
        for index in 0..self.media.len() {
            let tier = |group: usize, groups: &mut Vec<Group>| -> Option<TierLane> {
                Some(groups.get_mut(group)?.memory.tiers.get_mut(index)?.lane(from.lane))
            };
            let Some(state) = tier(from.group, &mut self.groups) else { continue };
            let Some(tier) = self.groups.get_mut(place.group).and_then(|group| group.memory.tiers.get_mut(index))
            else {
                continue;
            };
            tier.set_lane(place.lane, &state);
            tier.set_default(place.lane, index == tiers.0);
            if index == tiers.0 || index == tiers.1 {
                tier.set(object.0, place.lane, index == tiers.1);
            }
        }
        if let Some(entry) = self.lanes.entries.get_mut(number) {
            (entry.at, entry.opened, entry.window) = (Some(place), true, window);
        }
    }
}
