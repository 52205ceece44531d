//! The order of use of the ways of sets, for LRU: a use writes the time of it and nothing else.
//!
//! A permutation of ways costs half a dozen writes whenever two of them take turns, which in what every access asks is at nearly
//! every access. Only a miss wants to know which was used longest ago. It looks at all of a set, and fast: times are 32 bits
//! with the way in the lowest, so that the least of them is all there is to find. When they reach their end the ways of each set are
//! numbered anew in the same order.

/// What gives uses their times.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    now: i32,
    /// From one time to the next: more than any way, and a power of two.
    step: i32,
}

impl Clock {
    /// For sets of so many ways, at most a million. Their entries follow each other, those of a set [`Clock::apart`] from the next's.
    pub(crate) fn new(ways: usize) -> Self {
        Self { now: 0, step: ways.next_power_of_two() as i32 }
    }

    /// How far sets are apart, in entries.
    pub(crate) fn apart(self) -> usize {
        self.step as usize
    }

    /// The time of an entry that was never used, or is to be forgotten.
    #[inline(always)]
    pub(crate) fn never(self, entry: usize) -> i32 {
        entry as i32 & (self.step - 1)
    }

    /// How many more uses have a time.
    #[inline(always)]
    pub(crate) fn left(self) -> usize {
        ((i32::MAX - self.now) >> self.step.trailing_zeros()) as usize
    }

    /// Whether no more uses have a time.
    #[inline(always)]
    pub(crate) fn is_over(self) -> bool {
        self.now > i32::MAX - self.step
    }

    /// The time of a use, of which one was [`left`](Clock::left).
    #[inline(always)]
    pub(crate) fn tick(&mut self, entry: usize) -> i32 {
        self.now = self.now.wrapping_add(self.step);
        self.now | self.never(entry)
    }

    /// The way of an entry, by its time.
    #[inline(always)]
    pub(crate) fn way(self, time: i32) -> usize {
        (time & (self.step - 1)) as usize
    }

    /// Times begin anew, in the same order. `time` is an entry's.
    #[cold]
    #[inline(never)]
    pub(crate) fn begin_anew<T>(&mut self, entries: &mut [T], ways: usize, time: fn(&mut T) -> &mut i32) {
        for set in entries.chunks_mut(self.apart()) {
            let mut ordered: Vec<(i32, usize)> = set.iter_mut().take(ways).map(|entry| *time(entry)).zip(0..).collect();
            ordered.sort_unstable();
            // From one on: what is forgotten afterwards is older than all.
            for (turn, (_, way)) in (1..).zip(ordered) {
                *time(&mut set[way]) = turn * self.step + way as i32;
            }
        }
        self.now = ways as i32 * self.step;
    }

    /// Lets so many uses be left until times begin anew.
    #[cfg(test)]
    pub(crate) fn leave(&mut self, uses: i32) {
        self.now = (i32::MAX / self.step - uses) * self.step;
    }
}

/// Times of use, by entry.
#[derive(Debug, Clone)]
pub(crate) struct Times {
    /// When it was used last, and its way.
    times: Box<[i32]>,
    clock: Clock,
    ways: usize,
}

impl Times {
    /// `ways` at most a million.
    pub(crate) fn new(sets: usize, ways: usize) -> Self {
        let clock = Clock::new(ways);
        let times = (0..sets * clock.apart()).map(|entry| clock.never(entry)).collect();
        Self { times, clock, ways }
    }

    /// How many entries there are, those that fill up what sets are apart included.
    pub(crate) fn entries(&self) -> usize {
        self.times.len()
    }

    /// The first entry of a set.
    fn start(&self, set: usize) -> usize {
        set * self.clock.apart()
    }

    /// Uses an entry.
    #[inline(always)]
    pub(crate) fn touch(&mut self, entry: usize) {
        if self.clock.is_over() {
            self.clock.begin_anew(&mut self.times, self.ways, |time| time);
        }
        if let Some(time) = self.times.get_mut(entry) {
            *time = self.clock.tick(entry);
        }
    }

    /// The entry of a set that was used longest ago.
    #[inline]
    pub(crate) fn oldest(&self, set: usize) -> usize {
        let start = self.start(set);
        start + self.clock.way(least(&self.times[start..start + self.ways]))
    }

    /// Lets so many uses be left until times begin anew.
    #[cfg(test)]
    pub(crate) fn leave(&mut self, uses: i32) {
        self.clock.leave(uses);
    }
}

#[inline(always)]
fn least(times: &[i32]) -> i32 {
    times.iter().fold(i32::MAX, |least, time| least.min(*time))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against the obvious model: a vector for each set, in order of use. Times end meanwhile.
        #[test]
        fn the_oldest_is_what_was_used_longest_ago_or_forgotten_last(
            steps in proptest::collection::vec((0_usize..4, 0_usize..24, 0_u32..5), 0..400), ways in 1_usize..24, left in 0_i32..300,
        ) {
            let mut times = Times::new(4, ways);
            times.leave(left);
            let mut model = vec![Vec::new(); 4];
            for (set, way, what) in steps {
                let (way, order) = (way % ways, &mut model[set]);
                let entry = times.start(set) + way;
                order.retain(|other| *other != way);
                if what == 0 {
                    times.times[entry] = times.clock.never(entry);
                } else {
                    times.touch(entry);
                    order.push(way);
                }
                // Those that were never used, or are forgotten, come first, in any order.
                let oldest = times.oldest(set) - times.start(set);
                match order.first() {
                    Some(first) if order.len() == ways => prop_assert_eq!(oldest, *first),
                    _ => prop_assert!(!order.contains(&oldest)),
                }
            }
        }
    }
}
