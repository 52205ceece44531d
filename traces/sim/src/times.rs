//! The order of use of the ways of sets, for LRU: a use writes the time of it and nothing else.
//!
//! A permutation of ways costs half a dozen writes whenever two of them take turns, which in what every access asks is at nearly
//! every access. Only a miss wants to know which was used longest ago. It looks at all of a set, and fast: times are 32 bits
//! with the way in the lowest, so that the least of them is all there is to find, four at a time. When they reach their end the
//! ways of each set are numbered anew in the same order.

/// Times of use, by entry: entries of a set follow each other.
#[derive(Debug, Clone)]
pub(crate) struct Times {
    /// When it was used last, and its way.
    times: Box<[i32]>,
    now: i32,
    /// From one time to the next: more than any way, and a power of two. Entries of a set are so many apart from those of the next.
    step: i32,
    ways: usize,
}

impl Times {
    /// `ways` at most a million.
    pub(crate) fn new(sets: usize, ways: usize) -> Self {
        let step = ways.next_power_of_two();
        let times = (0..sets * step).map(|entry| (entry % step) as i32).collect();
        Self { times, now: 0, step: step as i32, ways }
    }

    /// How many entries there are, those that fill up what sets are apart included.
    pub(crate) fn entries(&self) -> usize {
        self.times.len()
    }

    /// The first entry of a set.
    pub(crate) fn start(&self, set: usize) -> usize {
        set * self.step as usize
    }

    /// Uses an entry.
    #[inline(always)]
    pub(crate) fn touch(&mut self, entry: usize) {
        let now = self.now;
        self.now = self.touch_at(entry, now);
    }

    /// The time of the last use, for [`Times::touch_at`].
    pub(crate) fn now(&self) -> i32 {
        self.now
    }

    /// After uses of its own time, the time of the last.
    pub(crate) fn go_on_at(&mut self, now: i32) {
        self.now = now;
    }

    /// Uses an entry after a time that the caller keeps, who has it in a register: the time of this use. Until
    /// [`Times::go_on_at`] there are no others.
    #[inline(always)]
    pub(crate) fn touch_at(&mut self, entry: usize, before: i32) -> i32 {
        let Some(now) = before.checked_add(self.step) else { return self.renumber(entry) };
        if let Some(time) = self.times.get_mut(entry) {
            *time = now | entry as i32 & (self.step - 1);
        }
        now
    }

    /// Makes an entry the least recent of its set.
    pub(crate) fn forget(&mut self, entry: usize) {
        self.times[entry] = entry as i32 & (self.step - 1);
    }

    /// The entry of a set that was used longest ago.
    #[inline]
    pub(crate) fn oldest(&self, set: usize) -> usize {
        let start = self.start(set);
        let times = &self.times[start..start + self.ways];
        // Eight, as often as not, without a loop.
        let least = <&[i32; 8]>::try_from(times).map_or_else(|_| least(times), |times| least(times));
        start | (least & (self.step - 1)) as usize
    }

    /// Times begin anew, and then an entry is used: when.
    #[cold]
    #[inline(never)]
    fn renumber(&mut self, entry: usize) -> i32 {
        for set in self.times.chunks_mut(self.step as usize) {
            let mut ordered: Vec<usize> = (0..self.ways).collect();
            ordered.sort_unstable_by_key(|way| set[*way]);
            // From one on: what is forgotten afterwards is older than all.
            for (time, way) in (1..).zip(ordered) {
                set[way] = time * self.step + way as i32;
            }
        }
        self.touch_at(entry, self.ways as i32 * self.step)
    }

    /// Lets so many uses be left until times begin anew.
    #[cfg(test)]
    pub(crate) fn leave(&mut self, uses: i32) {
        self.now = (i32::MAX / self.step - uses) * self.step;
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
                    times.forget(entry);
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
