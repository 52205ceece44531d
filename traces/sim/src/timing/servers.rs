//! Things of which there are a few, each busy with one request at a time: fill buffers, page walkers, the channels of a memory.
//!
//! Requests come in program order, but what they ask for is out of order: a load that waits for another load's data starts long
//! after loads behind it. A single "next free" time would make those wait for it. So a resource is kept as the times at which
//! each of its servers is free again, sorted, for every lane: a request that starts late occupies one server and leaves the
//! others to its successors. This is list scheduling in program order. It errs to the slow side only, when a server
//! reserved for later could have served something before.

use super::vector::V;
use super::width::{Width, wide};

/// Places of a queue, each held until a request is done. A ring, sorted from `head` on by when each is free, in every lane by itself.
#[derive(Debug, Clone)]
pub(crate) struct Servers {
    free: Vec<V>,
    head: usize,
}

impl Servers {
    pub(crate) fn new(count: usize) -> Self {
        Self { free: vec![V::ZERO; count.max(1)], head: 0 }
    }

    /// All times kept, for copying and moving the epoch. The order of servers must be kept.
    pub(crate) fn times(&mut self) -> impl Iterator<Item = &mut V> {
        self.free.iter_mut()
    }

    /// When a request that comes at `time` starts, on the server that is free first.
    #[inline(always)]
    pub(crate) fn first(&self, time: V) -> V {
        time.max(self.free[self.head])
    }

    /// Occupies the server that is free first until `until`.
    #[inline(always)]
    pub(crate) fn occupy_first(&mut self, until: V) {
        // The first is taken out, so its slot is that of the last. Mostly the new time is the latest, and goes there; otherwise it
        // sinks to its place.
        let count = self.free.len();
        let (mut at, mut carried) = (self.head, until);
        self.head = if at + 1 == count { 0 } else { at + 1 };
        for _ in 1..count {
            let before = if at == 0 { count - 1 } else { at - 1 };
            let other = self.free[before];
            if carried.below(other).is_zero() {
                break;
            }
            self.free[at] = other.max(carried);
            carried = other.min(carried);
            at = before;
        }
        self.free[at] = carried;
    }
}

/// Parts of a memory that move lines at the same time. Sorted by when each is free, in every lane by itself.
#[derive(Debug, Clone)]
pub(crate) struct Channels {
    free: Vec<V>,
}

impl Channels {
    pub(crate) fn new(count: usize) -> Self {
        Self { free: vec![V::ZERO; count.max(1)] }
    }

    /// All times kept, for copying and moving the epoch. The order must be kept.
    pub(crate) fn times(&mut self) -> impl Iterator<Item = &mut V> {
        self.free.iter_mut()
    }

    /// Serves a request that comes at `time` and takes `span`, in the lanes of `mask`: on the channel that became free last before
    /// it, so that the least is wasted, or else on the first to become free. Returns when it starts.
    #[inline]
    pub(crate) fn serve(&mut self, width: Width, time: V, span: V, mask: V) -> V {
        serve(width, &mut self.free, time, span, mask)
    }
}

wide! { fn serve(free: &mut [V], time: V, span: V, mask: V) -> V = serve_with }

#[inline(always)]
fn serve_with(free: &mut [V], time: V, span: V, mask: V) -> V {
    let mut chosen = free[0];
    for free in free[1..].iter() {
        // Sorted: the last that is not later than the request is the largest such.
        chosen = V::select(time.below(*free), chosen, *free);
    }
    let start = time.max(chosen);
    let until = start.plus(span);
    let mut carried = until;
    let last = free.len() - 1;
    for k in 0..last {
        let (here, next) = (free[k], free[k + 1]);
        // Servers before the chosen one stay; it is taken out, and the new time sinks to its place.
        let moved = V::select(here.below(chosen), here, next.min(carried));
        carried = next.max(carried);
        free[k] = V::select(mask, moved, here);
    }
    free[last] = V::select(mask, carried, free[last]);
    start
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plain() -> Width {
        Width::available()[0]
    }

    fn all() -> V {
        V::splat(u32::MAX)
    }

    #[test]
    fn as_many_requests_as_servers_overlap() {
        let mut servers = Servers::new(4);
        let starts: Vec<u32> = (0..9)
            .map(|_| {
                let start = servers.first(V::splat(10));
                servers.occupy_first(start.after(100));
                start.0[0]
            })
            .collect();
        assert_eq!(starts, [10, 10, 10, 10, 110, 110, 110, 110, 210]);
    }

    #[test]
    fn a_request_that_starts_late_delays_no_other() {
        let mut servers = Channels::new(2);
        let late = servers.serve(plain(), V::splat(1000), V::splat(50), all());
        let early: Vec<u32> = (0..3).map(|_| servers.serve(plain(), V::splat(10), V::splat(50), all()).0[0]).collect();
        assert_eq!((late.0[0], early), (1000, vec![10, 60, 110]));
    }

    #[test]
    fn the_least_idle_time_is_wasted() {
        let mut servers = Channels::new(2);
        servers.serve(plain(), V::splat(0), V::splat(100), all());
        // At 100 both are free; the one that just became so is taken, and the other can still serve at 20.
        assert_eq!(servers.serve(plain(), V::splat(100), V::splat(100), all()).0[0], 100);
        assert_eq!(servers.serve(plain(), V::splat(20), V::splat(10), all()).0[0], 20);
    }

    proptest! {
        /// Against a sorted list of which the first is taken.
        #[test]
        fn queues_are_kept_in_order(requests in prop::collection::vec((0u32..500, any::<u32>()), 1..80), count in 1usize..6) {
            let mut servers = Servers::new(count);
            let mut alone = vec![vec![0u32; count]; 16];
            for (time, seed) in requests {
                let times = V(std::array::from_fn(|i| time + seed.rotate_left(i as u32) % 300));
                let starts = servers.first(times);
                let until = V(std::array::from_fn(|i| starts.0[i] + 1 + seed.rotate_left(2 * i as u32) % 200));
                servers.occupy_first(until);
                for (lane, free) in alone.iter_mut().enumerate() {
                    free.sort_unstable();
                    prop_assert_eq!(starts.0[lane], times.0[lane].max(free[0]));
                    free[0] = until.0[lane];
                }
            }
        }

        /// Against the plain algorithm: a list of free times, the best searched for each request.
        #[test]
        fn lanes_do_what_one_lane_alone_would(requests in prop::collection::vec((0u32..500, 1u32..80, any::<u16>()), 1..80)) {
            let mut servers = Channels::new(5);
            let mut alone = vec![vec![0u32; 5]; 16];
            for (time, span, bits) in requests {
                let times = V(std::array::from_fn(|i| time + 7 * i as u32));
                let starts = servers.serve(plain(), times, V::splat(span), V::mask(bits));
                for lane in (0..16).filter(|i| bits >> i & 1 == 1) {
                    let free = &mut alone[lane];
                    let best = (0..5).filter(|k| free[*k] <= times.0[lane]).max_by_key(|k| free[*k]);
                    let best = best.unwrap_or_else(|| (0..5).min_by_key(|k| free[*k]).unwrap());
                    let start = times.0[lane].max(free[best]);
                    free[best] = start + span;
                    prop_assert_eq!(starts.0[lane], start);
                }
            }
            for (lane, free) in alone.iter_mut().enumerate() {
                free.sort_unstable();
                let kept: Vec<u32> = servers.free.iter().map(|v| v.0[lane]).collect();
                prop_assert_eq!(&kept, free);
            }
        }
    }
}
