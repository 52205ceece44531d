//! What any placement of a case costs, from the sets that were timed.
//!
//! The objects that cost most were timed in every combination; what they do to each other is therefore known exactly. The rest was timed
//! one by one, and all together with everything else. The slowdown of a set is that of its part among the combinations, and
//! beyond that the sum of its other members' own, times the factor that makes everything slow what it was timed to be.

use std::collections::{BTreeMap, BTreeSet};

use crate::table::{Row, Set};

/// Most objects that are looked at for combinations.
const MOST_CORE: usize = 12;

/// What sets of a case's movable objects cost.
#[derive(Clone, Debug)]
pub struct Lattice {
    singles: Vec<f64>,
    known: BTreeMap<Vec<usize>, f64>,
    core: Vec<usize>,
    factor: f64,
}

/// The slowdown of a set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slowdown {
    /// 0.05 is 5 %.
    pub slowdown: f64,
    /// Whether it was put together from parts, rather than timed.
    pub is_estimate: bool,
}

impl Lattice {
    /// From the rows of the objects that can be placed, which are then called by their place here, and the sets of their case.
    /// A set that has other objects is left out.
    #[must_use]
    pub fn new(rows: &[&Row], sets: &[&Set]) -> Self {
        let places: BTreeMap<&str, usize> =
            rows.iter().enumerate().map(|(place, row)| (row.object.as_str(), place)).collect();
        let singles: Vec<f64> = rows.iter().map(|row| row.criticality.max(0.0)).collect();
        let mut known: BTreeMap<Vec<usize>, f64> = BTreeMap::from([(Vec::new(), 0.0)]);
        known.extend(singles.iter().enumerate().map(|(place, &single)| (vec![place], single)));
        for set in sets {
            let found: Option<BTreeSet<usize>> =
                set.slow.iter().map(|object| places.get(object.as_str()).copied()).collect();
            if let Some(found) = found.filter(|found| found.len() != 1) {
                known.insert(found.into_iter().collect(), set.slowdown.max(0.0));
            }
        }
        known.insert(Vec::new(), 0.0);
        let core = core(&singles, &known);
        let mut lattice = Self { singles, known, core, factor: 1.0 };
        lattice.factor = lattice.fit();
        lattice
    }

    /// The objects that were timed in every combination.
    #[must_use]
    pub fn core(&self) -> &[usize] {
        &self.core
    }

    /// What the objects at these places cost together in slow memory; places that are not there cost nothing.
    #[must_use]
    pub fn slowdown(&self, slow: &[usize]) -> Slowdown {
        let slow: BTreeSet<usize> = slow.iter().copied().filter(|&place| place < self.singles.len()).collect();
        let slow: Vec<usize> = slow.into_iter().collect();
        if let Some(&slowdown) = self.known.get(&slow) {
            return Slowdown { slowdown, is_estimate: false };
        }
        let (inside, outside): (Vec<usize>, Vec<usize>) = slow.into_iter().partition(|place| self.core.contains(place));
        let slowdown = self.known.get(&inside).copied().unwrap_or(0.0) + self.factor * self.sum(&outside);
        Slowdown { slowdown, is_estimate: true }
    }

    fn sum(&self, places: &[usize]) -> f64 {
        places.iter().filter_map(|&place| self.singles.get(place)).sum()
    }

    /// By how much the rest's own slowdowns count when everything is slow.
    fn fit(&self) -> f64 {
        let everything: Vec<usize> = (0..self.singles.len()).collect();
        let rest: Vec<usize> = everything.iter().copied().filter(|place| !self.core.contains(place)).collect();
        let alone = self.sum(&rest);
        match (self.known.get(&everything), self.known.get(&self.core)) {
            (Some(all), Some(core)) if alone > 0.0 && !rest.is_empty() => ((all - core) / alone).clamp(0.0, 10.0),
            _ => 1.0,
        }
    }
}

/// The most objects, the costliest first, of which every combination was timed; sorted.
fn core(singles: &[f64], known: &BTreeMap<Vec<usize>, f64>) -> Vec<usize> {
    let mut order: Vec<usize> = (0..singles.len()).collect();
    let single = |place: usize| singles.get(place).copied().unwrap_or(0.0);
    order.sort_by(|&a, &b| single(b).total_cmp(&single(a)).then(a.cmp(&b)));
    let mut core: Vec<usize> = Vec::new();
    let mut combinations: Vec<Vec<usize>> = vec![Vec::new()];
    for place in order.into_iter().take(4 * MOST_CORE) {
        if core.len() == MOST_CORE {
            break;
        }
        let with: Vec<Vec<usize>> = combinations
            .iter()
            .map(|combination| {
                let mut combination: Vec<usize> = combination.iter().copied().chain([place]).collect();
                combination.sort_unstable();
                combination
            })
            .collect();
        if with.iter().all(|combination| known.contains_key(combination)) {
            combinations.extend(with);
            core.push(place);
        }
    }
    core.sort_unstable();
    core
}
