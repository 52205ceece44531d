//! The best placement, and the proof that there is no better one.
//!
//! At the prices of [`crate::multipliers`] every object has a cheapest tier; everyone there is the *relaxed* placement,
//! which costs no more than any that fits but may overflow. Any placement is the relaxed one with some objects moved
//! elsewhere, and each move has a loss, its charge above the cheapest. So a placement costs exactly
//!
//! > bound + losses of its moves + price of the room it leaves empty,
//!
//! and branch and bound enumerates sets of moves, skipping those whose losses alone exceed the gap to the best placement
//! known. Two things keep that small. Objects are moved in order of loss per room moved, the least first (Balas and
//! Zemel's core: those near the margin). And what remains to be done has a price too: room that is overdrawn must be freed
//! by later objects, each at least at the least loss per room among them; room left empty must be filled at theirs, or
//! paid for. Since that least loss rises along the order, the first object at which the sum exceeds the gap ends the level.

use crate::multipliers::Relaxed;

/// Moves of one object away from its cheapest tier.
struct Movable {
    object: usize,
    home: usize,
    /// Tiers with their loss, the least first.
    moves: Vec<(usize, f64)>,
}

/// The search, and the best it has found.
pub(crate) struct Search<'a> {
    relaxed: &'a Relaxed<'a>,
    /// No placement costs less.
    pub(crate) bound: f64,
    movables: Vec<Movable>,
    /// By movable and constraint: the least loss per room that it or a later one frees, or fills.
    freeing: Vec<Vec<f64>>,
    filling: Vec<Vec<f64>>,
    placed: Vec<usize>,
    /// By constraint: bytes beyond its capacity.
    overdrawn: Vec<i128>,
    pub(crate) best: f64,
    pub(crate) found: Option<Vec<usize>>,
    work_left: u64,
    /// Whether every set of moves was looked at or excluded.
    pub(crate) complete: bool,
}

/// Deeper sets of moves are not looked at: the stack is finite.
const DEEPEST: usize = 2000;

impl<'a> Search<'a> {
    /// Prepares the search below the cost of a placement that is known to fit.
    pub(crate) fn new(relaxed: &'a Relaxed<'a>, known: f64, work: u64) -> Self {
        let homes: Vec<(usize, f64)> =
            (0..relaxed.options.len()).map(|object| relaxed.cheapest(object).unwrap_or((0, 0.0))).collect();
        let bound = relaxed.bound().0;
        let placed: Vec<usize> = homes.iter().map(|home| home.0).collect();
        let overdrawn = relaxed
            .constraints
            .iter()
            .map(|&constraint| {
                let here = placed.iter().enumerate().filter(|&(_, &tier)| tier == constraint.tier);
                let taken: i128 = here.map(|(object, _)| i128::from(relaxed.bytes(constraint, object))).sum();
                taken - i128::from(constraint.capacity)
            })
            .collect();
        let mut search = Self {
            relaxed,
            bound,
            movables: Vec::new(),
            freeing: Vec::new(),
            filling: Vec::new(),
            placed,
            overdrawn,
            best: known,
            found: None,
            work_left: work,
            complete: true,
        };
        search.find_moves(&homes);
        search
    }

    /// Room that moving an object from `home` to `tier` takes of each constraint; negative where it frees room.
    fn taken(&self, object: usize, home: usize, tier: usize) -> impl Iterator<Item = f64> + '_ {
        let relaxed = self.relaxed;
        relaxed
            .constraints
            .iter()
            .map(move |&constraint| relaxed.room(constraint, object, tier) - relaxed.room(constraint, object, home))
    }

    fn find_moves(&mut self, homes: &[(usize, f64)]) {
        let mut found: Vec<(f64, Movable)> = Vec::new();
        for (object, &(home, charge)) in homes.iter().enumerate() {
            let mut rate = f64::INFINITY;
            let mut moves = Vec::new();
            for &tier in self.relaxed.options.get(object).into_iter().flatten().filter(|&&tier| tier != home) {
                let loss = (self.relaxed.charge(object, tier) - charge).max(0.0);
                let priced: f64 = self
                    .taken(object, home, tier)
                    .zip(&self.relaxed.prices)
                    .map(|(room, price)| room.abs() * price)
                    .sum();
                let moved = self.taken(object, home, tier).any(|room| room != 0.0);
                // A move that changes no scarce room only loses.
                if moved && self.bound + loss < self.limit() {
                    rate = rate.min(if priced > 0.0 { loss / priced } else { f64::MAX });
                    moves.push((tier, loss));
                }
            }
            moves.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
            if !moves.is_empty() {
                found.push((rate, Movable { object, home, moves }));
            }
        }
        found.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.object.cmp(&b.1.object)));
        self.movables = found.into_iter().map(|(_, movable)| movable).collect();
        let mut freeing = vec![f64::INFINITY; self.relaxed.constraints.len()];
        let mut filling = freeing.clone();
        for movable in self.movables.iter().rev() {
            for &(tier, loss) in &movable.moves {
                let rooms = self.taken(movable.object, movable.home, tier);
                for ((room, freeing), filling) in rooms.zip(&mut freeing).zip(&mut filling) {
                    if room < 0.0 {
                        *freeing = freeing.min(loss / -room);
                    } else if room > 0.0 {
                        *filling = filling.min(loss / room);
                    }
                }
            }
            self.freeing.push(freeing.clone());
            self.filling.push(filling.clone());
        }
        self.freeing.reverse();
        self.filling.reverse();
    }

    /// Costs at or above this are no improvement: the rounding of sums is not.
    fn limit(&self) -> f64 {
        self.best - 1e-12 - self.best * 1e-10
    }

    /// Looks at every set of moves that may improve on the best known placement.
    pub(crate) fn run(&mut self) {
        self.visit(0, 0.0, 0);
    }

    fn visit(&mut self, from: usize, loss: f64, depth: usize) {
        if self.overdrawn.iter().all(|&bytes| bytes <= 0) {
            let cost = self.relaxed.problem.cost_of(&self.placed);
            if cost < self.best {
                self.best = cost;
                self.found = Some(self.placed.clone());
            }
        }
        for place in from..self.movables.len() {
            let step = 1 + self.overdrawn.len() as u64;
            if self.work_left < step || depth == DEEPEST {
                self.complete = false;
                return;
            }
            self.work_left -= step;
            if self.bound + loss + self.outstanding(place) >= self.limit() {
                return;
            }
            let Some(movable) = self.movables.get(place) else { return };
            let (object, home, moves) = (movable.object, movable.home, movable.moves.clone());
            for (tier, extra) in moves {
                if self.bound + loss + extra >= self.limit() {
                    break;
                }
                self.shift(object, home, tier);
                self.visit(place + 1, loss + extra, depth + 1);
                self.shift(object, tier, home);
            }
        }
    }

    /// What any set of moves of this movable and later ones must lose at least.
    fn outstanding(&self, place: usize) -> f64 {
        let (Some(freeing), Some(filling)) = (self.freeing.get(place), self.filling.get(place)) else {
            return f64::INFINITY;
        };
        let mut most = 0.0f64;
        let constraints = self.relaxed.constraints.iter().zip(&self.relaxed.prices).zip(&self.overdrawn);
        for (((constraint, &price), &bytes), (&freeing, &filling)) in constraints.zip(freeing.iter().zip(filling)) {
            let room = bytes as f64 / constraint.capacity.max(1) as f64;
            let loss = if bytes > 0 { freeing * room } else { filling.min(price) * -room };
            most = most.max(loss);
        }
        most
    }

    fn shift(&mut self, object: usize, from: usize, to: usize) {
        if let Some(tier) = self.placed.get_mut(object) {
            *tier = to;
        }
        for (&constraint, overdrawn) in self.relaxed.constraints.iter().zip(&mut self.overdrawn) {
            let bytes = i128::from(self.relaxed.bytes(constraint, object));
            if constraint.tier == to {
                *overdrawn += bytes;
            } else if constraint.tier == from {
                *overdrawn -= bytes;
            }
        }
    }
}
