//! A price for room: what the last byte of a full tier is worth.
//!
//! Lagrange's relaxation: instead of forbidding a tier to overflow, charge for the room that is taken. Whatever the
//! prices, as long as none is negative, the sum over objects of the least of (cost + price of room) minus the price of
//! all the room there is, is a lower bound of every placement that fits (M. L. Fisher, *Management Science* 27, 1981). The
//! best prices give the bound of the linear relaxation, and with them an object whose best tier differs from its second
//! best by more than the gap to a known placement is decided for good; that is what makes the search small.
//!
//! One price at a time can be set to its best exactly: the bound is concave and piecewise linear in it, with a corner
//! for each object. Where there are several, subgradient steps come first, because one at a time can get stuck.

use crate::problem::Problem;

/// Subgradient steps before prices are set one by one.
const STEPS: usize = 300;
/// Passes over all prices.
const PASSES: usize = 3;
/// At most this many prices are set one by one, the highest.
const MOST_LINES: usize = 64;

/// A tier that may overflow in a slot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Constraint {
    pub(crate) tier: usize,
    pub(crate) slot: usize,
    pub(crate) capacity: u64,
}

/// The relaxed problem: every object in one of its options, room at a price.
pub(crate) struct Relaxed<'a> {
    pub(crate) problem: &'a Problem,
    pub(crate) constraints: Vec<Constraint>,
    /// By constraint: what one filling of its capacity costs.
    pub(crate) prices: Vec<f64>,
    /// By object: the tiers it fits into alone.
    pub(crate) options: Vec<Vec<usize>>,
}

impl<'a> Relaxed<'a> {
    /// Prices for `problem`, given the cost of a placement that fits.
    pub(crate) fn new(problem: &'a Problem, known: f64) -> Self {
        let objects = problem.objects().len();
        let options: Vec<Vec<usize>> = (0..objects)
            .map(|object| {
                let peak = problem.peak(object);
                let fits = |&tier: &usize| problem.capacity(tier).is_none_or(|capacity| peak <= capacity);
                (0..problem.tiers().len()).filter(fits).collect()
            })
            .collect();
        let mut constraints = Vec::new();
        for (tier, capacity) in (0..problem.tiers().len()).filter_map(|tier| Some((tier, problem.capacity(tier)?))) {
            for slot in 0..problem.demand().slots() {
                let wanted: u64 = (0..objects)
                    .filter(|&object| options.get(object).is_some_and(|options| options.contains(&tier)))
                    .map(|object| problem.demand().of(object).get(slot).copied().unwrap_or(0))
                    .sum();
                if wanted > capacity {
                    constraints.push(Constraint { tier, slot, capacity });
                }
            }
        }
        let mut relaxed = Self { problem, prices: vec![0.0; constraints.len()], constraints, options };
        if relaxed.constraints.len() > 1 {
            relaxed.subgradient(known);
        }
        relaxed.lines();
        relaxed
    }

    /// The part of a constraint's capacity that an object takes in a tier.
    pub(crate) fn room(&self, constraint: Constraint, object: usize, tier: usize) -> f64 {
        if constraint.tier != tier {
            return 0.0;
        }
        // A capacity of nothing admits only what needs nothing.
        self.bytes(constraint, object) as f64 / constraint.capacity.max(1) as f64
    }

    /// The bytes an object takes in the slot of a constraint.
    pub(crate) fn bytes(&self, constraint: Constraint, object: usize) -> u64 {
        self.problem.demand().of(object).get(constraint.slot).copied().unwrap_or(0)
    }

    /// Cost and price of room together.
    pub(crate) fn charge(&self, object: usize, tier: usize) -> f64 {
        let room: f64 = self
            .constraints
            .iter()
            .zip(&self.prices)
            .filter(|&(_, &price)| price > 0.0)
            .map(|(&constraint, price)| price * self.room(constraint, object, tier))
            .sum();
        self.problem.cost(object, tier) + room
    }

    /// The option with the least charge, among equals the slowest, with that charge.
    pub(crate) fn cheapest(&self, object: usize) -> Option<(usize, f64)> {
        let options = self.options.get(object)?;
        let charged = options.iter().rev().map(|&tier| (tier, self.charge(object, tier)));
        charged.min_by(|a, b| a.1.total_cmp(&b.1))
    }

    /// The lower bound at these prices, and how full each constraint is when everyone takes the cheapest option.
    pub(crate) fn bound(&self) -> (f64, Vec<f64>) {
        let mut full = vec![0.0; self.constraints.len()];
        let mut bound = -self.prices.iter().sum::<f64>();
        for object in 0..self.options.len() {
            let Some((tier, charge)) = self.cheapest(object) else { continue };
            bound += charge;
            for (&constraint, full) in self.constraints.iter().zip(&mut full) {
                *full += self.room(constraint, object, tier);
            }
        }
        (bound, full)
    }

    fn subgradient(&mut self, known: f64) {
        let (mut best, mut best_prices) = (f64::NEG_INFINITY, self.prices.clone());
        let (mut scale, mut since) = (1.0, 0);
        for _ in 0..STEPS {
            let (bound, full) = self.bound();
            if bound > best {
                (best, since) = (bound, 0);
                best_prices.clone_from(&self.prices);
            } else {
                since += 1;
            }
            if since == 15 {
                (scale, since) = (scale / 2.0, 0);
            }
            let excess = |(full, price): (&f64, &f64)| if *price > 0.0 || *full > 1.0 { full - 1.0 } else { 0.0 };
            let square: f64 = full.iter().zip(&self.prices).map(excess).map(|excess| excess * excess).sum();
            let gap = known - bound;
            if square == 0.0 || gap <= 0.0 {
                break;
            }
            for (price, full) in self.prices.iter_mut().zip(&full) {
                *price = (*price + scale * gap / square * (full - 1.0)).max(0.0);
            }
        }
        self.prices = best_prices;
    }

    /// Sets each price to its best while the others stand.
    fn lines(&mut self) {
        let mut places: Vec<usize> = (0..self.prices.len()).collect();
        let price = |place: usize| self.prices.get(place).copied().unwrap_or(0.0);
        places.sort_by(|&a, &b| price(b).total_cmp(&price(a)).then(a.cmp(&b)));
        places.truncate(MOST_LINES);
        for _ in 0..if places.len() > 1 { PASSES } else { 1 } {
            for &place in &places {
                self.line(place);
            }
        }
    }

    /// The price at which a constraint is just full: that of the first object, in order of what it would pay, whom it no
    /// longer holds.
    fn line(&mut self, place: usize) {
        let Some(&constraint) = self.constraints.get(place) else { return };
        if let Some(price) = self.prices.get_mut(place) {
            *price = 0.0;
        }
        let mut full = 0.0;
        let mut offers: Vec<(f64, f64)> = Vec::new();
        for (object, options) in self.options.iter().enumerate().filter(|(_, o)| o.contains(&constraint.tier)) {
            let room = self.room(constraint, object, constraint.tier);
            let elsewhere = options.iter().filter(|&&tier| tier != constraint.tier);
            let elsewhere = elsewhere.map(|&tier| self.charge(object, tier)).fold(f64::INFINITY, f64::min);
            let saved = elsewhere - self.charge(object, constraint.tier);
            if room > 0.0 && saved > 0.0 && saved.is_finite() {
                offers.push((saved / room, room));
            } else if saved == f64::INFINITY {
                full += room;
            }
        }
        offers.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut first_out = offers.into_iter().filter(|&(_, room)| {
            full += room;
            full > 1.0
        });
        let price = first_out.next().map_or(0.0, |(offer, _)| offer);
        if let Some(slot) = self.prices.get_mut(place) {
            *slot = price;
        }
    }
}
