//! How full the tiers are in every slot while objects are put in and taken out.

use crate::problem::Problem;

/// The bytes in every tier and slot.
pub(crate) struct Usage<'a> {
    problem: &'a Problem,
    levels: Vec<Vec<u64>>,
}

impl<'a> Usage<'a> {
    /// Empty tiers.
    pub(crate) fn new(problem: &'a Problem) -> Self {
        Self { problem, levels: vec![vec![0; problem.demand().slots()]; problem.tiers().len()] }
    }

    /// Tiers with every object where it is placed.
    pub(crate) fn of(problem: &'a Problem, placed: &[usize]) -> Self {
        let mut usage = Self::new(problem);
        placed.iter().enumerate().for_each(|(object, &tier)| usage.add(object, tier));
        usage
    }

    /// Whether an object finds room in a tier.
    pub(crate) fn has_room(&self, object: usize, tier: usize) -> bool {
        let Some(capacity) = self.problem.capacity(tier) else { return true };
        let levels = self.levels.get(tier).map_or(&[][..], Vec::as_slice);
        levels
            .iter()
            .zip(self.problem.demand().of(object))
            .all(|(&level, &bytes)| bytes == 0 || level + bytes <= capacity)
    }

    /// Puts an object in.
    pub(crate) fn add(&mut self, object: usize, tier: usize) {
        let levels = self.levels.get_mut(tier).into_iter().flatten();
        levels.zip(self.problem.demand().of(object)).for_each(|(level, bytes)| *level += bytes);
    }

    /// Takes an object out that was put in.
    pub(crate) fn remove(&mut self, object: usize, tier: usize) {
        let levels = self.levels.get_mut(tier).into_iter().flatten();
        levels.zip(self.problem.demand().of(object)).for_each(|(level, bytes)| *level -= bytes);
    }

    /// The most bytes a tier holds at once.
    pub(crate) fn peak(&self, tier: usize) -> u64 {
        self.levels.get(tier).into_iter().flatten().copied().max().unwrap_or(0)
    }
}
