//! What an ensemble says of features: blocks of rows, laid out once, through every member.

use super::Ensemble;
use super::inputs::Target;
use super::walk::{ABREAST, BLOCK, Rows, Walker};
use crate::data::BOUNDS;
use crate::feature::Features;

/// Draws of a normal distribution, in an order without a pattern: quantiles from 2 to 98 %, shuffled.
const NORMAL: [f64; 23] = [
    -2.02, -0.22, 1.15, -0.94, 0.22, 2.02, -0.45, 0.68, -1.35, 0.0, 1.35, -0.68, 0.45, -1.68, -0.11, 1.68, -1.15, 0.11,
    0.94, -0.33, 0.56, -0.56, 0.33,
];

/// What an ensemble says of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Said {
    /// The mean of the members.
    pub(crate) mean: f64,
    /// Their standard deviation, each with the features moved by a draw of their errors.
    pub(crate) spread: f64,
}

/// Rows to ask about, [`BLOCK`] at most, and what was said of them; room that is used again for the next.
#[derive(Default)]
pub(crate) struct Block {
    count: usize,
    rows: Vec<f64>,
    /// Of each row by column, its standard error.
    steps: Vec<f64>,
    noisy: Vec<f64>,
    /// Of each row by column, what moved the correction.
    moved: Vec<f64>,
    said: Vec<Said>,
}

/// An ensemble made ready to be asked about many rows.
pub(crate) struct Predictor<'a> {
    ensemble: &'a Ensemble,
    walkers: Vec<Walker<'a>>,
    /// By member and column, the draw of a normal distribution that moves the column.
    draws: Vec<Vec<f64>>,
}

impl Ensemble {
    /// Makes it ready: worth it for any number of rows, once for all of them.
    pub(crate) fn predictor(&self) -> Predictor<'_> {
        let draws = |number: usize| NORMAL.iter().cycle().skip(number * 7 % NORMAL.len()).take(self.inputs.len());
        Predictor {
            ensemble: self,
            walkers: self.members.iter().map(Walker::new).collect(),
            draws: (0..self.members.len()).map(|number| draws(number).copied().collect()).collect(),
        }
    }
}

impl Predictor<'_> {
    /// What it says of each of some features, into which the formula was put.
    pub(crate) fn say<'f>(&self, features: impl IntoIterator<Item = &'f Features>) -> Vec<Said> {
        let mut block = Block::default();
        let mut said = Vec::new();
        let mut features = features.into_iter().peekable();
        while features.peek().is_some() {
            for features in features.by_ref().take(BLOCK) {
                block.push(self, features);
            }
            block.say(self);
            said.extend(block.said(self).map(|(said, _)| said));
            block.clear();
        }
        said
    }
}

impl Block {
    /// Forgets its rows.
    pub(crate) fn clear(&mut self) {
        self.count = 0;
        self.rows.clear();
        self.steps.clear();
    }

    /// Takes a row, if it has room.
    pub(crate) fn push(&mut self, predictor: &Predictor, features: &Features) {
        if self.count == BLOCK {
            return;
        }
        self.count += 1;
        predictor.ensemble.inputs.fill(features, &mut self.rows);
        predictor.ensemble.inputs.errors(features, &mut self.steps);
        self.rows.resize(self.count * predictor.stride(), 0.0);
        self.steps.resize(self.count * predictor.stride(), 0.0);
    }

    /// Asks about its rows.
    pub(crate) fn say(&mut self, predictor: &Predictor) {
        let stride = predictor.stride();
        let whole = self.count.next_multiple_of(ABREAST) * stride;
        self.rows.resize(whole, 0.0);
        self.steps.resize(whole, 0.0);
        self.noisy.resize(whole, 0.0);
        self.moved.clear();
        self.moved.resize(whole, 0.0);
        let rows = Rows { values: &self.rows, stride };
        let count = predictor.walkers.len() as f64;
        let (mut means, mut sums, mut squares) = ([0.0; BLOCK], [0.0; BLOCK], [0.0; BLOCK]);
        for (number, (walker, draws)) in predictor.walkers.iter().zip(&predictor.draws).enumerate() {
            // The first, which was trained on every program once, explains for all: explaining takes longer.
            let values = if number == 0 { walker.explain(rows, 1.0, &mut self.moved) } else { walker.values(rows) };
            for (mean, value) in means.iter_mut().zip(values) {
                *mean += value / count;
            }
            let groups = self.noisy.chunks_exact_mut(stride).zip(self.rows.chunks_exact(stride));
            for ((noisy, row), steps) in groups.zip(self.steps.chunks_exact(stride)) {
                for (((noisy, value), step), draw) in noisy.iter_mut().zip(row).zip(steps).zip(draws) {
                    *noisy = value + step * draw;
                }
            }
            for ((sum, squares), value) in
                sums.iter_mut().zip(&mut squares).zip(walker.values(Rows { values: &self.noisy, stride }))
            {
                *sum += value;
                *squares += value * value;
            }
        }
        self.said.clear();
        self.said.extend(means.iter().zip(sums).zip(squares).take(self.count).map(|((&mean, sum), squares)| {
            let variance = (squares - sum * sum / count) / (count - 1.0).max(1.0);
            let bounded = predictor.ensemble.target == Target::Correction;
            let mean = if bounded { mean.clamp(BOUNDS.0, BOUNDS.1) } else { mean };
            Said { mean, spread: variance.max(0.0).sqrt() }
        }));
    }

    /// What was said of its rows, in order, with what moved each by column.
    pub(crate) fn said(&self, predictor: &Predictor) -> impl Iterator<Item = (Said, &[f64])> {
        self.said.iter().copied().zip(self.moved.chunks_exact(predictor.stride()))
    }
}

impl Predictor<'_> {
    /// From a row to the next; not 0.
    fn stride(&self) -> usize {
        self.ensemble.inputs.len().max(1)
    }
}
