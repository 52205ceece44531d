//! Things of which there are a few, each busy with one request at a time: fill buffers, page walkers, the channels of a memory.
//!
//! Requests come in program order, but what they ask for is out of order: a load that waits for another load's data starts long
//! after loads behind it. A single "next free" time would make those wait for it. So a resource is kept as the times at which
//! each of its servers is free again, sorted, for every lane: a request that starts late occupies one server and leaves the
//! others to its successors. This is list scheduling in program order. It errs to the slow side only, when a server
//! reserved for later could have served something before.

use super::vector::V;
use super::width::{Width, wide};

/// `n` equal servers. Sorted by the time each is free, in every lane by itself.
#[derive(Debug, Clone)]
pub(crate) struct Servers {
    free: Vec<V>,
}

impl Servers {
    pub(crate) fn new(count: usize) -> Self {
        Self { free: vec![V::ZERO; count.max(1)] }
    }

    /// All times kept, for copying and moving the epoch. The order of servers must be kept.
    pub(crate) fn times(&mut self) -> impl Iterator<Item = &mut V> {
        self.free.iter_mut()
    }

    /// When a request that comes at `time` starts, on the server that is free first.
    #[inline(always)]
    pub(crate) fn first(&self, time: V) -> V {
        time.max(self.free[0])
    }

    /// Occupies the server that is free first until `until`.
    #[inline(always)]
    pub(crate) fn occupy_first(&mut self, width: Width, until: V) {
        occupy_first(width, &mut self.free, until);
    }

    /// Serves a request that comes at `time` and takes `span`, in the lanes of `mask`: on the server that became free last before
    /// it, so that the least is wasted, or else on the first to become free. Returns when it starts.
    #[inline(always)]
    pub(crate) fn serve(&mut self, width: Width, time: V, span: V, mask: V) -> V {
        serve(width, &mut self.free, time, span, mask)
    }
}

wide! { fn occupy_first(free: &mut [V], until: V) = occupy_first_of }
wide! { fn serve(free: &mut [V], time: V, span: V, mask: V) -> V = serve_with }

#[inline(always)]
fn occupy_first_of(free: &mut [V], until: V) {
    // The first is taken out, the rest moves up, and the new time sinks to its place.
    let mut carried = until;
    let last = free.len() - 1;
    for k in 0..last {
        let next = free[k + 1];
        free[k] = next.min(carried);
        carried = next.max(carried);
    }
    free[last] = carried;
}

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
                servers.occupy_first(plain(), start.after(100));
                start.0[0]
            })
            .collect();
        assert_eq!(starts, [10, 10, 10, 10, 110, 110, 110, 110, 210]);
    }

    #[test]
    fn a_request_that_starts_late_delays_no_other() {
        let mut servers = Servers::new(2);
        let late = servers.serve(plain(), V::splat(1000), V::splat(50), all());
        let early: Vec<u32> = (0..3).map(|_| servers.serve(plain(), V::splat(10), V::splat(50), all()).0[0]).collect();
        assert_eq!((late.0[0], early), (1000, vec![10, 60, 110]));
    }

    #[test]
    fn the_least_idle_time_is_wasted() {
        let mut servers = Servers::new(2);
        servers.serve(plain(), V::splat(0), V::splat(100), all());
        // At 100 both are free; the one that just became so is taken, and the other can still serve at 20.
        assert_eq!(servers.serve(plain(), V::splat(100), V::splat(100), all()).0[0], 100);
        assert_eq!(servers.serve(plain(), V::splat(20), V::splat(10), all()).0[0], 20);
    }

    proptest! {
        /// Against the plain algorithm: a list of free times, the best searched for each request.
        #[test]
        fn lanes_do_what_one_lane_alone_would(requests in prop::collection::vec((0u32..500, 1u32..80, any::<u16>()), 1..80)) {
            let mut servers = Servers::new(5);
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
