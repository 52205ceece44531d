//! A tier's bandwidth among several threads.
//!
//! Each thread has a clock of its own and is simulated in stretches, so requests of different threads come out of order by as much
//! as their clocks differ. A queue that only knows when it is free next would make the thread that is simulated second wait for
//! everything the first did in the same stretch of time. So time is cut into windows, each with room for as much as the
//! tier can move in it; a request takes its room in the window it falls into, or in the next that has some. Within a
//! window order does not matter, and a thread's own requests have been queued exactly before they come here.

use super::vector::WIDTH;

/// Windows remembered, for each lane: older ones are taken for empty.
const WINDOWS: usize = 1024;

/// Windows searched for room at most.
const SEARCHED: u64 = 64;

/// Room of one tier in every lane of a group.
#[derive(Debug, Clone)]
pub(crate) struct Calendar {
    /// For each lane its windows: which one it is, and how many ticks of it are taken.
    windows: Vec<(u64, u32)>,
    length: u64,
}

impl Calendar {
    /// Windows long enough for several requests of `busy` ticks.
    pub(crate) fn new(busy: u32, cycle: u32) -> Self {
        let length = (u64::from(cycle) * 1024).max(u64::from(busy) * 16);
        Self { windows: vec![(0, 0); WINDOWS * WIDTH], length }
    }

    /// How much later than `time` a request for `busy` ticks of the tier can be served in a lane.
    pub(crate) fn delay(&mut self, lane: usize, time: u64, busy: u32) -> u32 {
        let first = time / self.length;
        let mut window = first;
        loop {
            let entry = lane * WINDOWS + (window % WINDOWS as u64) as usize;
            let Some(entry) = self.windows.get_mut(entry) else { return 0 };
            if entry.0 > window {
                // So long ago that the window was given to a later time: nobody knows what it had room for.
                break;
            }
            if entry.0 < window {
                *entry = (window, 0);
            }
            if u64::from(entry.1) + u64::from(busy) <= self.length || window - first >= SEARCHED {
                entry.1 = entry.1.saturating_add(busy);
                break;
            }
            window += 1;
        }
        let start = if window == first { time } else { window * self.length };
        u32::try_from(start.saturating_sub(time)).unwrap_or(u32::MAX)
    }

    /// Longest delay.
    pub(crate) fn worst(&self) -> u64 {
        (SEARCHED + 1) * self.length
    }

    /// Makes one lane what another calendar says of a lane.
    pub(crate) fn copy_lane(from: &[(u64, u32)], to: &mut Self, lane: usize) {
        if let Some(windows) = to.windows.get_mut(lane * WINDOWS..(lane + 1) * WINDOWS) {
            windows.copy_from_slice(from);
        }
    }

    /// Everything of one lane, for [`Calendar::copy_lane`].
    pub(crate) fn lane(&self, lane: usize) -> Vec<(u64, u32)> {
        self.windows.iter().skip(lane * WINDOWS).take(WINDOWS).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_share_what_there_is() {
        // Windows of 1024 ticks, requests of 8: 128 fit into one.
        let mut calendar = Calendar::new(8, 1);
        let of_one: Vec<u32> = (0..64).map(|n| calendar.delay(3, n * 16, 8)).collect();
        let of_another: Vec<u32> = (0..64).map(|n| calendar.delay(3, n * 16, 8)).collect();
        assert!(of_one.iter().chain(&of_another).all(|delay| *delay == 0));
        assert_eq!(calendar.delay(3, 1000, 8), 24);
        assert_eq!(calendar.delay(4, 1000, 8), 0);
    }

    #[test]
    fn no_delay_is_longer_than_the_worst() {
        let mut calendar = Calendar::new(8, 1);
        let longest = (0..1_000_000).map(|_| calendar.delay(0, 5, 8)).max();
        assert!(u64::from(longest.unwrap()) <= calendar.worst());
    }
}
