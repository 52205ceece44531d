//! Learners behind one trait: a matrix, targets and weights in; a correction of the formula out.
//!
//! | learner | what it is |
//! |---|---|
//! | `formula` | no correction |
//! | `boosted-trees` | smartcore's `XGRegressor` on rows drawn by weight |
//! | `forest` | smartcore's `RandomForestRegressor`, weighted |
//! | `extra-trees` | smartcore's `ExtraTreesRegressor`, weighted |
//! | `pairwise` | linfa's logistic regression on differences of pairs of one case |
//! | `blend` | the mean of forest, extra trees and boosted trees |
//!
//! Each is trained [`MEMBERS`] times on programs drawn with replacement, so that what members disagree about is known. Nothing is left to
//! chance: seeds are fixed, and a learner never gets what it could panic on (an empty matrix, a constant column, a value that
//! is no number).

mod boosted;
mod forests;
pub(crate) mod inputs;
mod pairwise;
mod said;
pub(crate) mod trees;
mod walk;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::data::Data;
use crate::feature::Group;
use crate::random::Random;
use inputs::{Inputs, Target};
use trees::Forest;

pub(crate) use said::{Block, Predictor, Said};
pub(crate) use walk::BLOCK;

/// How often each learner is trained, on programs drawn with replacement.
pub(crate) const MEMBERS: usize = 4;

/// Why nothing was learnt.
#[derive(Debug, Error)]
pub enum LearnError {
    /// The library refused.
    #[error("{learner} cannot learn from these rows: {reason}")]
    Refused {
        /// Which learner.
        learner: &'static str,
        /// What it said.
        reason: String,
    },
    /// What the library learnt has another form than expected.
    #[error("what {learner} learnt has a form that is not known: the version of its library changed")]
    Form {
        /// Which learner.
        learner: &'static str,
    },
}

/// Rows for a learner.
pub(crate) struct Training<'a> {
    pub(crate) columns: usize,
    /// Row after row.
    pub(crate) matrix: &'a [f64],
    pub(crate) targets: &'a [f64],
    pub(crate) weights: &'a [f64],
    /// By row: the number of its case.
    pub(crate) case: &'a [usize],
    /// By row: what it costs, for pairs.
    pub(crate) labels: &'a [f64],
    /// By row: the logarithm of the formula, for pairs.
    pub(crate) formula: &'a [f64],
    /// By column: whether the correction may not fall with it.
    pub(crate) rising: &'a [bool],
}

/// Something that learns a correction.
trait Learner: Sync {
    /// Learns from rows of which none is empty and no column constant.
    fn fit(&self, training: &Training, seed: u64) -> Result<Member, LearnError>;
}

/// One trained correction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Member {
    /// Trees.
    Trees(Forest),
    /// A weighted sum of columns.
    Linear {
        /// By column.
        weights: Vec<f64>,
        /// What weighs nothing: the means of the columns.
        centres: Vec<f64>,
        /// Added.
        offset: f64,
    },
    /// The mean of several.
    Mean(Vec<Member>),
}

impl Member {
    pub(crate) fn is_sound(&self, columns: usize) -> bool {
        match self {
            Self::Trees(forest) => forest.is_sound(columns),
            Self::Linear { weights, centres, offset } => {
                weights.len() == columns
                    && centres.len() == columns
                    && weights.iter().chain(centres).chain([offset]).all(|number| number.is_finite())
            }
            Self::Mean(members) => {
                let plain = |member: &Self| !matches!(member, Self::Mean(_)) && member.is_sound(columns);
                !members.is_empty() && members.iter().all(plain)
            }
        }
    }
}

/// Which learner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// No correction.
    Formula,
    /// Gradient-boosted trees.
    BoostedTrees,
    /// A random forest.
    Forest,
    /// Extremely randomised trees.
    ExtraTrees,
    /// Pairwise logistic regression.
    Pairwise,
    /// The mean of the three kinds of trees.
    Blend,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Formula, Self::BoostedTrees, Self::Forest, Self::ExtraTrees, Self::Pairwise, Self::Blend];

    /// The word in comparisons.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Formula => "formula",
            Self::BoostedTrees => "boosted-trees",
            Self::Forest => "forest",
            Self::ExtraTrees => "extra-trees",
            Self::Pairwise => "pairwise",
            Self::Blend => "blend",
        }
    }

    fn learners(self) -> Vec<&'static dyn Learner> {
        match self {
            Self::Formula => Vec::new(),
            Self::BoostedTrees => vec![&boosted::BOOSTED],
            Self::Forest => vec![&forests::FOREST],
            Self::ExtraTrees => vec![&forests::EXTRA],
            Self::Pairwise => vec![&pairwise::PAIRWISE],
            Self::Blend => vec![&boosted::BOOSTED, &forests::FOREST, &forests::EXTRA],
        }
    }
}

/// A trained ensemble.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ensemble {
    pub(crate) kind: Kind,
    pub(crate) target: Target,
    pub(crate) inputs: Inputs,
    pub(crate) members: Vec<Member>,
}

impl Ensemble {
    /// Trains on some rows of `data`, with features of some groups.
    pub(crate) fn train(
        data: &Data,
        rows: &[usize],
        kind: Kind,
        target: Target,
        groups: &[Group],
    ) -> Result<Self, LearnError> {
        let inputs = Inputs::new(data, rows, target, groups);
        let mut ensemble = Self { kind, target, inputs, members: Vec::new() };
        let learners = kind.learners();
        if rows.is_empty() || ensemble.inputs.len() == 0 || learners.is_empty() {
            return Ok(ensemble);
        }
        for number in 0..MEMBERS {
            let drawn = draw(data, rows, number as u64);
            let rows = Rows::new(data, &drawn, &ensemble);
            let seed = 1 + number as u64;
            let fits = learners.iter().map(|learner| learner.fit(&rows.training(), seed));
            let mut trained: Vec<Member> = fits.collect::<Result<_, _>>()?;
            ensemble.members.extend(if trained.len() > 1 { Some(Member::Mean(trained)) } else { trained.pop() });
        }
        Ok(ensemble)
    }

    /// The mean of ensembles that were trained on the same rows.
    pub(crate) fn blend(ensembles: &[&Self]) -> Option<Self> {
        let first = ensembles.first()?;
        let member = |number| Member::Mean(ensembles.iter().filter_map(|e| e.members.get(number).cloned()).collect());
        let members = (0..first.members.len()).map(member).collect();
        Some(Self { kind: Kind::Blend, members, ..(*first).clone() })
    }

    /// Whether reading it was safe: walks end, numbers are numbers.
    pub(crate) fn is_sound(&self) -> bool {
        let columns = self.inputs.len();
        let finite = |column: &inputs::Column| {
            [column.median, column.range.0, column.range.1].iter().all(|number| number.is_finite())
                && column.range.0 <= column.range.1
        };
        self.inputs.columns.iter().all(finite) && self.members.iter().all(|member| member.is_sound(columns))
    }
}

/// The rows of programs drawn with replacement; the first draw takes each program once.
fn draw(data: &Data, rows: &[usize], number: u64) -> Vec<usize> {
    if number == 0 {
        return rows.to_vec();
    }
    let program = |row: usize| data.program.get(row).copied().unwrap_or(0);
    let mut programs: Vec<usize> = rows.iter().map(|&row| program(row)).collect();
    programs.sort_unstable();
    programs.dedup();
    let mut random = Random::new(number);
    let mut times = vec![0usize; data.programs.len()];
    for _ in 0..programs.len() {
        let drawn = programs.get(random.below(programs.len())).and_then(|&program| times.get_mut(program));
        if let Some(times) = drawn {
            *times += 1;
        }
    }
    let times = |row: usize| times.get(program(row)).copied().unwrap_or(0);
    rows.iter().flat_map(|&row| std::iter::repeat_n(row, times(row))).collect()
}

/// The rows of a training, owned.
struct Rows {
    columns: usize,
    matrix: Vec<f64>,
    targets: Vec<f64>,
    weights: Vec<f64>,
    case: Vec<usize>,
    labels: Vec<f64>,
    formula: Vec<f64>,
    rising: Vec<bool>,
}

impl Rows {
    fn new(data: &Data, rows: &[usize], ensemble: &Ensemble) -> Self {
        let inputs = &ensemble.inputs;
        let mut matrix = Vec::with_capacity(rows.len() * inputs.len());
        for features in rows.iter().filter_map(|&row| data.features.get(row)) {
            inputs.fill(features, &mut matrix);
        }
        let take = |values: &[f64]| rows.iter().filter_map(|&row| values.get(row).copied()).collect::<Vec<f64>>();
        let labels = take(&data.labels);
        let targets = match ensemble.target {
            Target::Correction => rows.iter().map(|&row| data.correction(row)).collect(),
            Target::Cost => labels.iter().map(|label| (label + crate::data::FLOOR).ln()).collect(),
        };
        let formula = take(&data.formula);
        Self {
            columns: inputs.len(),
            matrix,
            targets,
            weights: take(&data.weights),
            case: rows.iter().filter_map(|&row| data.case.get(row).copied()).collect(),
            labels,
            formula: formula.iter().map(|formula| (formula + crate::data::FLOOR).ln()).collect(),
            rising: match ensemble.target {
                Target::Correction => inputs.rising(),
                Target::Cost => vec![false; inputs.len()],
            },
        }
    }

    fn training(&self) -> Training<'_> {
        Training {
            columns: self.columns,
            matrix: &self.matrix,
            targets: &self.targets,
            weights: &self.weights,
            case: &self.case,
            labels: &self.labels,
            formula: &self.formula,
            rising: &self.rising,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smartcore::ensemble::random_forest_regressor::{RandomForestRegressor, RandomForestRegressorParameters};
    use smartcore::linalg::basic::matrix::DenseMatrix;
    use smartcore::xgboost::{XGRegressor, XGRegressorParameters};

    fn rows(count: usize) -> (Vec<f64>, Vec<f64>) {
        let mut random = Random::new(5);
        let matrix: Vec<f64> = (0..count * 3).map(|_| random.unit()).collect();
        let targets = matrix.chunks_exact(3).map(|row| row[0] * 2.0 - row[1] * row[1]).collect();
        (matrix, targets)
    }

    #[test]
    fn trees_taken_out_of_smartcore_say_what_they_said_inside() {
        let (matrix, targets) = rows(200);
        let dense = DenseMatrix::new(200, 3, matrix.clone(), false).unwrap();
        let forest = RandomForestRegressor::fit(
            &dense,
            &targets,
            RandomForestRegressorParameters::default().with_n_trees(5).with_max_depth(4),
        )
        .unwrap();
        let theirs: Vec<f64> = forest.predict(&dense).unwrap();
        let written = serde_json::to_value(&forest).unwrap();
        let trees = written["forest_regressor"]["trees"].as_array().unwrap();
        let trees = trees.iter().map(|tree| trees::Tree::of_list(tree).unwrap()).collect();
        let ours = Member::Trees(Forest { trees, scale: 0.2, offset: 0.0 });
        for (row, theirs) in matrix.chunks_exact(3).zip(theirs) {
            assert!((walk::one(&ours, row) - theirs).abs() < 1e-9);
        }

        let parameters = XGRegressorParameters::default().with_n_estimators(5).with_base_score(0.5);
        let step = parameters.learning_rate;
        let boosted = XGRegressor::fit(&dense, &targets, parameters).unwrap();
        let theirs = boosted.predict(&dense).unwrap();
        let written = serde_json::to_value(&boosted).unwrap();
        let trees = written["regressors"].as_array().unwrap();
        let trees = trees.iter().map(|tree| trees::Tree::of_nested(tree).unwrap()).collect();
        let ours = Member::Trees(Forest { trees, scale: step, offset: 0.5 });
        for (row, theirs) in matrix.chunks_exact(3).zip(theirs) {
            assert!((walk::one(&ours, row) - theirs).abs() < 1e-9);
        }
    }

    #[test]
    fn every_learner_learns_a_correction() {
        let (matrix, targets) = rows(200);
        let (weights, case) = (vec![1.0; 200], (0..200).map(|row| row / 5).collect::<Vec<usize>>());
        let labels: Vec<f64> = targets.iter().map(|target| target.exp()).collect();
        let formula: Vec<f64> = (0..200).map(|row| f64::from(row % 7) / 10.0).collect();
        let labels: Vec<f64> = labels.iter().zip(&formula).map(|(label, formula)| label * formula.exp()).collect();
        let training = Training {
            columns: 3,
            matrix: &matrix,
            targets: &targets,
            weights: &weights,
            case: &case,
            labels: &labels,
            formula: &formula,
            rising: &[true, false, false],
        };
        let spread = |values: &[f64]| {
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            values.iter().map(|value| (value - mean).powi(2)).sum::<f64>()
        };
        for learner in [Kind::Blend, Kind::Pairwise].iter().flat_map(|kind| kind.learners()) {
            let member = learner.fit(&training, 1).unwrap();
            assert!(member.is_sound(3));
            let left: Vec<f64> =
                matrix.chunks_exact(3).zip(&targets).map(|(row, target)| target - walk::one(&member, row)).collect();
            assert!(spread(&left) < 0.4 * spread(&targets), "{} of {}", spread(&left), spread(&targets));
        }
    }
}
