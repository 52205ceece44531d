//! What the prefetchers bring, and into which level.
//!
//! They learn of misses of the first level, and of the first use of what they brought there (`prefetch.rs`, `streamer.rs` say which
//! lines they then want); a line that a core has already is left alone. What comes from memory is traffic of its own, for which no
//! access waits.

use super::{Effects, Hierarchy, Request};
use crate::array::Found;
use crate::line::{PREFETCHED, SHARED, address_of, word};
use crate::objects::{Shadow, Within};
use crate::prefetch::next_in_page;
use crate::served::{Level, TrafficKind};

impl Hierarchy {
    /// Lets the prefetchers learn of an access that missed the first level, or was the first use of what they brought there.
    pub(super) fn look_ahead(&mut self, request: &Request, missed: bool, map: &Shadow, effects: &mut Effects) {
        let Request { core, line, address, ip, .. } = *request;
        if self.prefetch.next_line
            && let Some(next) = next_in_page(line, self.page_shift)
            && line > 0
            && self.cores[core].has(line - 1)
        {
            self.bring(core, next, map, effects);
        }
        let follows = self.prefetch.streams > 0;
        if follows && missed {
            self.stream(core, line, map, effects);
        }
        if self.prefetch.stride && !(follows && request.is_store()) {
            let wanted = self.cores[core].stride.observe(ip, address);
            for line in wanted.lines() {
                if !follows {
                    self.bring(core, *line, map, effects);
                } else if self.bring_near(core, *line, map, effects) {
                    self.stream(core, *line, map, effects);
                }
            }
        }
    }

    /// The second level is asked for a line.
    fn stream(&mut self, core: usize, line: u64, map: &Shadow, effects: &mut Effects) {
        let ahead = self.cores[core].streamer.observe(line);
        for line in ahead.near() {
            self.bring(core, *line, map, effects);
        }
        for line in ahead.far() {
            if !self.cores.iter().any(|core| core.has(*line)) {
                self.bring_into_llc(*line, map, effects);
            }
        }
    }

    /// Prefetches a line into the first level, unless that or another core has it. Whether it did.
    fn bring_near(&mut self, core: usize, line: u64, map: &Shadow, effects: &mut Effects) -> bool {
        let others = (0..self.cores.len()).any(|other| other != core && self.cores[other].has(line));
        if others || self.cores[core].l1d.has(line) {
            return false;
        }
        if self.cores[core].l2.is_none() {
            self.bring(core, line, map, effects);
            return true;
        }
        let clean = word(line, map.find(address_of(line)));
        let shared = self.cores[core].l2.as_mut().and_then(|l2| l2.find(line)).map_or(0, |word| *word & SHARED);
        let victim = self.cores[core].l1d.bring(line, clean | PREFETCHED | shared, Within::UNKNOWN).1;
        self.leave_l1(core, victim, effects);
        let Some(l2) = &mut self.cores[core].l2 else { return true };
        if let Found::Miss(victim) = l2.access(line, clean) {
            self.leave_l2(core, victim, effects);
            self.bring_into_llc(line, map, effects);
        }
        true
    }

    /// Prefetches a line, unless a core has it.
    fn bring(&mut self, core: usize, line: u64, map: &Shadow, effects: &mut Effects) {
        if self.cores.iter().any(|core| core.has(line)) {
            return;
        }
        let clean = word(line, map.find(address_of(line)));
        let private = &mut self.cores[core];
        if let Some(l2) = &mut private.l2 {
            if let Found::Miss(victim) = l2.access(line, clean | PREFETCHED) {
                self.leave_l2(core, victim, effects);
            }
        } else if let Found::Miss(victim) = private.l1d.access(line, clean | PREFETCHED, Within::UNKNOWN) {
            self.leave_l1(core, victim, effects);
        }
        self.bring_into_llc(line, map, effects);
    }

    /// Prefetches a line into the last level.
    fn bring_into_llc(&mut self, line: u64, map: &Shadow, effects: &mut Effects) {
        let object = map.find(address_of(line));
        if self.last_level(line, word(line, object), false, effects) == Level::Memory {
            effects.push(TrafficKind::Prefetch, line, object);
        }
    }
}
