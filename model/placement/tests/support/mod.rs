//! Problems to place, and the slow and certain ways to judge a placement.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use tierscope_placement::{Cost, Object, Problem, Span, Tier};

/// A small generator of our own: tests must not depend on a library's choice of stream.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }

    pub(crate) fn unit(&mut self) -> f64 {
        self.below(1 << 30) as f64 / f64::from(1 << 30)
    }
}

pub(crate) fn tier(name: &str, capacity: Option<u64>) -> Tier {
    Tier { name: name.to_owned(), capacity }
}

/// An object of two tiers that costs nothing in the first and `slow` in the second.
pub(crate) fn object(id: &str, bytes: u64, slow: f64) -> Object {
    Object { id: id.to_owned(), bytes, lives: None, costs: vec![Cost::NONE, Cost::exactly(slow)] }
}

pub(crate) fn living(object: Object, spans: &[(u64, u64, u64)]) -> Object {
    let spans = spans.iter().map(|&(start_ns, end_ns, bytes)| Span { start_ns, end_ns, bytes }).collect();
    Object { lives: Some(spans), ..object }
}

/// The most bytes a tier holds at once, instant by instant, from the objects as they were given.
pub(crate) fn fullest(problem: &Problem, placed: &[usize], tier: usize) -> u64 {
    let here = || problem.objects().iter().zip(placed).filter(|&(_, &placed)| placed == tier).map(|(object, _)| object);
    let instants: Vec<u64> =
        here().filter_map(|object| object.lives.as_ref()).flatten().map(|span| span.start_ns).chain([0]).collect();
    let lives_at = |object: &Object, time: u64| match &object.lives {
        None => object.bytes,
        Some(spans) => spans
            .iter()
            .filter(|span| span.start_ns <= time && time < span.end_ns.max(span.start_ns + 1))
            .map(|span| span.bytes)
            .sum(),
    };
    instants.iter().map(|&time| here().map(|object| lives_at(object, time)).sum()).max().unwrap_or(0)
}

pub(crate) fn fits(problem: &Problem, placed: &[usize]) -> bool {
    let fits = |(tier, described): (usize, &Tier)| {
        described.capacity.is_none_or(|most| fullest(problem, placed, tier) <= most)
    };
    problem.tiers().iter().enumerate().all(fits)
}

pub(crate) fn cost(problem: &Problem, placed: &[usize]) -> f64 {
    problem.objects().iter().zip(placed).map(|(object, &tier)| object.costs[tier].point).sum()
}

/// The least cost of all placements that fit, by trying them all.
pub(crate) fn least_cost(problem: &Problem) -> Option<f64> {
    let (objects, tiers) = (problem.objects().len(), problem.tiers().len());
    let mut least = None;
    for number in 0..tiers.pow(objects as u32) {
        let mut rest = number;
        let placed: Vec<usize> = (0..objects)
            .map(|_| {
                let tier = rest % tiers;
                rest /= tiers;
                tier
            })
            .collect();
        let cost = cost(problem, &placed);
        if least.is_none_or(|least| cost < least) && fits(problem, &placed) {
            least = Some(cost);
        }
    }
    least
}
