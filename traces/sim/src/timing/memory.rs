//! The tiers behind a group of lanes: which lane has an object where, and what a line there takes.
//!
//! An object lies in one tier in each lane. So a line is looked for in every tier that some lane has it in, with a mask of the lanes, and
//! the answers are put together. Mostly these are two tiers: the fast one in nearly all lanes, and the slow one.

use super::calendar::Calendar;
use super::granules::Granules;
use super::medium::{CHANNELS, Medium};
use super::servers::Channels;
use super::step::Line;
use super::vector::{V, WIDTH};
use super::width::{Width, wide};
use crate::memory_mode::Found;

/// A tier of a group.
#[derive(Debug, Clone)]
pub(crate) struct GroupTier {
    pub(crate) medium: Medium,
    /// Lanes that have an object here, by its index.
    lanes: Vec<u16>,
    /// Lanes that have an object here of which nothing else was said.
    default: u16,
    granules: Option<Granules>,
    calendar: Option<Calendar>,
    /// Granules read and written, until they are collected.
    read: V,
    written: V,
    /// Granules read and written by each lane.
    pub(crate) moved: [(u64, u64); WIDTH],
}

/// One lane of a tier.
#[derive(Debug, Clone)]
pub(crate) struct TierLane {
    granules: Option<Vec<u32>>,
    calendar: Option<Vec<(u64, u32)>>,
    moved: (u64, u64),
}

/// A lane whose fast tier is a cache.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ModeLanes {
    /// Which of the Memory Modes.
    pub(crate) mode: usize,
    pub(crate) lanes: u16,
    pub(crate) fast: usize,
    pub(crate) slow: usize,
}

/// The tiers of a group.
#[derive(Debug, Clone)]
pub(crate) struct Memory {
    pub(crate) tiers: Vec<GroupTier>,
    pub(crate) modes: Vec<ModeLanes>,
}

/// What belongs to the thread that asks.
pub(crate) struct Own<'a> {
    pub(crate) width: Width,
    /// Its requests before this one, for each tier.
    pub(crate) channels: &'a mut [Channels],
    /// Where its clock stands.
    pub(crate) base: &'a [u64; WIDTH],
    /// What Memory Modes found, for all lines of the batch.
    pub(crate) found: &'a [Found],
}

/// A line asked of one tier.
struct Request<'a> {
    width: Width,
    channels: &'a mut Channels,
    base: &'a [u64; WIDTH],
    line: Line,
    time: V,
    /// Lanes that ask.
    mask: V,
}

wide! { fn read(tier: &mut GroupTier, request: Request<'_>) -> V = GroupTier::read }
wide! { fn write(tier: &mut GroupTier, request: Request<'_>) -> V = GroupTier::write }

impl GroupTier {
    pub(crate) fn new(medium: Medium) -> Self {
        let granules = (medium.buffered > 0).then(|| Granules::new(medium.buffered, medium.granule_shift));
        Self {
            medium,
            lanes: Vec::new(),
            default: 0,
            granules,
            calendar: None,
            read: V::ZERO,
            written: V::ZERO,
            moved: [(0, 0); WIDTH],
        }
    }

    pub(crate) fn channels() -> Channels {
        Channels::new(CHANNELS)
    }

    #[inline(always)]
    fn holders(&self, object: u32) -> u16 {
        self.lanes.get(object as usize).copied().unwrap_or(self.default)
    }

    /// Whether a lane has an object here.
    pub(crate) fn holds(&self, object: u32, lane: usize) -> bool {
        self.holders(object) >> lane & 1 == 1
    }

    /// A lane has all objects here of which nothing else is said, or no longer.
    pub(crate) fn set_default(&mut self, lane: usize, here: bool) {
        let put = |lanes: &mut u16| if here { *lanes |= 1 << lane } else { *lanes &= !(1 << lane) };
        put(&mut self.default);
        self.lanes.iter_mut().for_each(put);
    }

    /// A lane has an object here, or not.
    pub(crate) fn set(&mut self, object: u32, lane: usize, here: bool) {
        let index = object as usize;
        if self.lanes.len() <= index {
            self.lanes.resize(index + 1, self.default);
        }
        if let Some(lanes) = self.lanes.get_mut(index) {
            if here { *lanes |= 1 << lane } else { *lanes &= !(1 << lane) }
        }
    }

    /// From now on there are several threads.
    pub(crate) fn share(&mut self, cycle: u32) {
        let busy = self.medium.read_busy.max(self.medium.write_busy) / CHANNELS as u32;
        self.calendar.get_or_insert_with(|| Calendar::new(busy, cycle));
    }

    /// Longest a line can take besides waiting for others of the same thread.
    pub(crate) fn worst(&self) -> u64 {
        self.medium.worst() + self.calendar.as_ref().map_or(0, Calendar::worst)
    }

    /// When the tier begins with what keeps a channel busy for so long, in the lanes of `mask`.
    #[inline(always)]
    fn occupy(&mut self, request: &mut Request<'_>, busy: V, mask: V) -> V {
        let mut start = request.channels.serve(request.width, request.time, busy, mask);
        if let Some(calendar) = &mut self.calendar {
            for lane in (0..WIDTH).filter(|lane| mask.0[*lane] != 0) {
                let at = request.base[lane] + u64::from(start.0[lane]);
                start.0[lane] += calendar.delay(lane, at, busy.0[lane] / CHANNELS as u32);
            }
        }
        V::select(mask, start, request.time)
    }

    /// When a line is there.
    #[inline(always)]
    fn read(&mut self, mut request: Request<'_>) -> V {
        let Request { width, line, mask, .. } = request;
        let (mut near, mut moved) = (if line.near { mask } else { V::ZERO }, mask);
        if let Some(granules) = &mut self.granules {
            let found = granules.access(width, line.address, false, mask);
            (near, moved) = (found.hit, mask.and(found.hit.not()));
            self.evict(&mut request, found);
        }
        self.read = self.read.plus(moved.and(V::splat(1)));
        let start = self.occupy(&mut request, V::splat(self.medium.read_busy), moved);
        start.plus(V::select(near, V::splat(self.medium.near), V::splat(self.medium.far)))
    }

    /// When a line that is written no longer holds up anybody.
    #[inline(always)]
    fn write(&mut self, mut request: Request<'_>) -> V {
        let Request { width, line, mask, .. } = request;
        let start = if let Some(granules) = &mut self.granules {
            let found = granules.access(width, line.address, true, mask);
            self.evict(&mut request, found)
        } else {
            self.written = self.written.plus(mask.and(V::splat(1)));
            self.occupy(&mut request, V::splat(self.medium.write_busy), mask)
        };
        start.less(V::splat(self.medium.write_patience))
    }

    /// A granule leaves the device's buffer for its medium, in lanes where one had to.
    #[inline(always)]
    fn evict(&mut self, request: &mut Request<'_>, found: super::granules::Found) -> V {
        if found.written.is_zero() {
            return request.time;
        }
        self.written = self.written.plus(found.written.and(V::splat(1)));
        self.read = self.read.plus(found.partial.and(V::splat(1)));
        let busy = V::splat(self.medium.write_busy).plus(found.partial.and(V::splat(self.medium.read_busy)));
        self.occupy(request, busy, found.written)
    }

    /// Counts since the last collection become those of the lanes.
    pub(crate) fn collect(&mut self) {
        for (lane, moved) in self.moved.iter_mut().enumerate() {
            moved.0 += u64::from(self.read.0[lane]);
            moved.1 += u64::from(self.written.0[lane]);
        }
        (self.read, self.written) = (V::ZERO, V::ZERO);
    }

    /// Everything of one lane but the objects in it.
    pub(crate) fn lane(&mut self, lane: usize) -> TierLane {
        self.collect();
        TierLane {
            granules: self.granules.as_ref().map(|granules| granules.lane(lane)),
            calendar: self.calendar.as_ref().map(|calendar| calendar.lane(lane)),
            moved: self.moved[lane],
        }
    }

    /// Makes one lane what another was, which may be of another group.
    pub(crate) fn set_lane(&mut self, lane: usize, from: &TierLane) {
        self.collect();
        if let (Some(from), Some(granules)) = (&from.granules, &mut self.granules) {
            Granules::copy_lane(from, granules, lane);
        }
        if let (Some(from), Some(calendar)) = (&from.calendar, &mut self.calendar) {
            Calendar::copy_lane(from, calendar, lane);
        }
        self.moved[lane] = from.moved;
    }
}

impl Memory {
    /// When a line asked for at `time` is there.
    #[inline]
    pub(crate) fn read(&mut self, own: &mut Own<'_>, line: Line, time: V) -> V {
        let there = self.by_object(own, line, time, read);
        if self.modes.is_empty() { there } else { self.beyond(own, line, time, there, true) }
    }

    /// When a line written at `time` no longer holds up anybody.
    #[inline]
    pub(crate) fn write(&mut self, own: &mut Own<'_>, line: Line, time: V) -> V {
        let held = self.by_object(own, line, time, write);
        if self.modes.is_empty() { held } else { self.beyond(own, line, time, held, false) }
    }

    /// Asks every tier in which some lane has the object; the fast tier of a Memory Mode is always asked.
    #[inline(always)]
    fn by_object(
        &mut self,
        own: &mut Own<'_>,
        line: Line,
        time: V,
        ask: impl Fn(Width, &mut GroupTier, Request<'_>) -> V,
    ) -> V {
        let mut there = time;
        for (index, (tier, channels)) in self.tiers.iter_mut().zip(own.channels.iter_mut()).enumerate() {
            let mut lanes = tier.holders(line.object);
            for mode in self.modes.iter().filter(|mode| mode.fast == index) {
                lanes |= mode.lanes;
            }
            if lanes != 0 {
                let mask = V::mask(lanes);
                let request = Request { width: own.width, channels, base: own.base, line, time, mask };
                there = V::select(mask, ask(own.width, tier, request), there);
            }
        }
        there
    }

    /// What Memory Modes do beyond their fast tier, when that did not have the line: the old one written if it must be, the slow
    /// tier read after the fast one, and the line put there.
    #[cold]
    fn beyond(&mut self, own: &mut Own<'_>, line: Line, time: V, fast: V, reads: bool) -> V {
        let mut there = fast;
        for mode in self.modes.clone() {
            let found = own.found.get(line.modes as usize + mode.mode).copied().unwrap_or_default();
            if found.hit {
                continue;
            }
            let mask = V::mask(mode.lanes);
            let mut ask = |tier: usize, line: Line, time: V, reads: bool| {
                let (Some(channels), Some(tier)) = (own.channels.get_mut(tier), self.tiers.get_mut(tier)) else {
                    return time;
                };
                let request = Request { width: own.width, channels, base: own.base, line, time, mask };
                if reads { read(own.width, tier, request) } else { write(own.width, tier, request) }
            };
            if let Some(victim) = found.victim {
                let held = ask(mode.slow, Line { address: victim, ..line }, time, false);
                there = V::select(mask, there.max(held), there);
            }
            if reads {
                there = V::select(mask, ask(mode.slow, line, there, true), there);
                ask(mode.fast, line, time, false);
            }
        }
        there
    }

    /// When a line that goes around the caches, written at `time`, is out of the way.
    #[inline]
    pub(crate) fn accepted(&self, object: u32, time: V) -> V {
        let mut there = time;
        for tier in &self.tiers {
            let mask = V::mask(tier.holders(object));
            there = V::select(mask, time.after(tier.medium.write), there);
        }
        there
    }

    /// Longest a line can take besides waiting for others of the same thread.
    pub(crate) fn worst(&self) -> u64 {
        let longest = self.tiers.iter().map(GroupTier::worst).max().unwrap_or(0);
        longest * if self.modes.is_empty() { 1 } else { 4 }
    }
}
