//! Random forests and extremely randomised trees by smartcore.
//!
//! Leaves hold a fiftieth of the rows at least, so that a leaf is more than one program's opinion as a rule.

use serde_json::Value;
use smartcore::ensemble::extra_trees_regressor::{ExtraTreesRegressor, ExtraTreesRegressorParameters};
use smartcore::ensemble::random_forest_regressor::{RandomForestRegressor, RandomForestRegressorParameters};
use smartcore::error::Failed;
use smartcore::linalg::basic::matrix::DenseMatrix;

use super::trees::{Forest, Tree};
use super::{LearnError, Learner, Member, Training};

const TREES: usize = 12;
const DEPTH: u16 = 7;

/// Which of the two.
pub(super) struct Forests {
    name: &'static str,
    random: bool,
}

pub(super) static FOREST: Forests = Forests { name: "forest", random: false };
pub(super) static EXTRA: Forests = Forests { name: "extra-trees", random: true };

impl Learner for Forests {
    fn fit(&self, training: &Training, seed: u64) -> Result<Member, LearnError> {
        let refused = |error: Failed| LearnError::Refused { learner: self.name, reason: error.to_string() };
        let form = || LearnError::Form { learner: self.name };
        let rows = training.targets.len();
        let targets = training.targets.to_vec();
        let matrix = DenseMatrix::new(rows, training.columns, training.matrix.to_vec(), false).map_err(refused)?;
        let leaf = (rows / 50).clamp(1, 40);
        let columns = training.columns.div_ceil(3).max(1);
        let written = if self.random {
            let mut parameters = ExtraTreesRegressorParameters::default()
                .with_n_trees(TREES)
                .with_max_depth(DEPTH)
                .with_min_samples_leaf(leaf)
                .with_m(training.columns.div_ceil(2).max(1))
                .with_seed(seed);
            parameters.keep_samples = false;
            let trained = ExtraTreesRegressor::fit_with_weights(&matrix, &targets, training.weights, parameters)
                .map_err(refused)?;
            serde_json::to_value(&trained)
        } else {
            let parameters = RandomForestRegressorParameters::default()
                .with_n_trees(TREES)
                .with_max_depth(DEPTH)
                .with_min_samples_leaf(leaf)
                .with_m(columns)
                .with_seed(seed);
            let trained = RandomForestRegressor::fit_with_weights(&matrix, &targets, training.weights, parameters)
                .map_err(refused)?;
            serde_json::to_value(&trained)
        };
        let written = written.map_err(|_| form())?;
        let trees = written.get("forest_regressor").and_then(|forest| forest.get("trees")).and_then(Value::as_array);
        let mut trees: Vec<Tree> =
            trees.ok_or_else(form)?.iter().map(Tree::of_list).collect::<Option<_>>().ok_or_else(form)?;
        trees.iter_mut().for_each(|tree| tree.rise(training.rising));
        let scale = 1.0 / trees.len().max(1) as f64;
        Ok(Member::Trees(Forest { trees, scale, offset: 0.0 }))
    }
}
