//! Which lane evaluates what, and which objects have one.
//!
//! An object that never reached memory costs the same in every tier, so it needs no lane. The lane of one that does is a copy of the all-fast
//! lane, made just before the object's first line comes from memory: until then the two would have been equal, time by
//! time. So nothing is lost by waiting, and only objects that matter take a lane.
//!
//! When all lanes are taken, an object without one gathers a claim: what its lines would take longer in the slow tier if none of them
//! overlapped, which bounds the difference it can make. When that exceeds the least difference that an open lane has made so
//! far, that lane is closed, its difference kept, and the object gets its place. Both are then approximate, and marked.

use crate::outcome::LaneKind;
use crate::windows::Difference;

/// Where a lane is: its group, and its number in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) group: usize,
    pub(crate) lane: usize,
}

/// One placement that is, was, or might be evaluated.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) kind: LaneKind,
    /// Its lane, while it has one.
    pub(crate) at: Option<Place>,
    /// It had one at some time.
    pub(crate) opened: bool,
    /// Ticks more than the all-fast lane, from lanes it had before.
    pub(crate) kept: i64,
    /// Ticks it would take longer at most, for an object without a lane.
    pub(crate) claim: u64,
    /// Instructions after which it was last without a lane although it reached memory.
    pub(crate) missed: Option<u64>,
    /// Its clock when the window that is timed now began.
    pub(crate) window: u64,
    pub(crate) difference: Difference,
}

impl Entry {
    fn new(kind: LaneKind) -> Self {
        Self {
            kind,
            at: None,
            opened: false,
            kept: 0,
            claim: 0,
            missed: None,
            window: 0,
            difference: Difference::default(),
        }
    }
}

/// All placements.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lanes {
    pub(crate) entries: Vec<Entry>,
    /// For each object and set, the entry's number plus one; 0 for none.
    of_objects: Vec<u32>,
    /// Objects all of whose entries have a lane, by index.
    open: Vec<bool>,
    sets: usize,
    /// Objects with a smaller claim than this need not ask, by set.
    least: Vec<u64>,
    /// Lanes closed for others.
    pub(crate) closed: u64,
}

impl Lanes {
    pub(crate) fn new(sets: usize) -> Self {
        Self { sets, least: vec![0; sets], ..Self::default() }
    }

    /// Adds a placement; its number.
    pub(crate) fn add(&mut self, kind: LaneKind) -> usize {
        self.entries.push(Entry::new(kind));
        self.entries.len() - 1
    }

    /// Whether every lane of an object is open; so it is for what lies in no object, which has none.
    #[inline]
    pub(crate) fn is_open(&self, object: u32) -> bool {
        object == 0 || self.open.get(object as usize).copied().unwrap_or(false)
    }

    pub(crate) fn set_open(&mut self, object: u32, open: bool) {
        let index = object as usize;
        if self.open.len() <= index {
            self.open.resize(index + 1, false);
        }
        if let Some(state) = self.open.get_mut(index) {
            *state = open;
        }
    }

    /// The placement that has an object alone in the slow tier of a set.
    pub(crate) fn of_object(&mut self, object: crate::ObjectId, set: usize) -> usize {
        let index = object.index() * self.sets + set;
        if self.of_objects.len() <= index {
            self.of_objects.resize(index + 1, 0);
        }
        match self.of_objects.get(index) {
            Some(&number) if number > 0 => number as usize - 1,
            _ => {
                let number = self.add(LaneKind::ObjectSlow { set: set as u16, object });
                if let Some(entry) = self.of_objects.get_mut(index) {
                    *entry = number as u32 + 1;
                }
                number
            }
        }
    }

    /// The open lane of a set's objects that made the least difference, if that is less than `claim`. `difference` tells what one made.
    pub(crate) fn least(&mut self, set: usize, claim: u64, difference: impl Fn(&Entry) -> i64) -> Option<(usize, i64)> {
        let least = self.least.get_mut(set)?;
        if claim <= *least {
            return None;
        }
        let of_set =
            |entry: &Entry| matches!(entry.kind, LaneKind::ObjectSlow { set: of, .. } if usize::from(of) == set);
        let open = self.entries.iter().enumerate().filter(|(_, entry)| entry.at.is_some() && of_set(entry));
        let (number, made) = open.map(|(number, entry)| (number, difference(entry))).min_by_key(|(_, made)| *made)?;
        *least = u64::try_from(made).unwrap_or(0);
        (claim > *least).then_some((number, made))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ObjectId;

    #[test]
    fn the_lane_that_made_the_least_difference_goes_first() {
        let mut lanes = Lanes::new(1);
        for object in 1..=3 {
            let number = lanes.of_object(ObjectId(object), 0);
            lanes.entries[number].at = Some(Place { group: 0, lane: object as usize });
            lanes.entries[number].kept = [0, 50, 20, 90][object as usize];
        }
        assert_eq!(lanes.of_object(ObjectId(2), 0), 1);
        let made = |entry: &Entry| entry.kept;
        assert_eq!(lanes.least(0, 20, made), None);
        assert_eq!(lanes.least(0, 21, made), Some((1, 20)));
    }

    #[test]
    fn what_lies_in_no_object_needs_no_lane() {
        let mut lanes = Lanes::new(1);
        assert!(lanes.is_open(0) && !lanes.is_open(5));
        lanes.set_open(5, true);
        assert!(lanes.is_open(5) && !lanes.is_open(4));
    }
}
