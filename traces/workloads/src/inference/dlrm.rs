//! `dlrm`: serving a recommendation model, for row 1, inference on storage-class memory.
//!
//! Each iteration is one batch of requests: its indices and dense features arrive in new blocks, the bags of every table
//! are pooled, and the perceptrons score the samples.
//!
//! Kept: several tables of sizes that differ by an order of magnitude, from one allocation site; random reads of whole
//! rows (256 bytes, four cache lines), as skewed as production's; about as many rows per bag as production has (13 to
//! 16); perceptrons small enough for a cache, whose arithmetic stands between the gathers. Left out: tables in fewer
//! bits, user tables being asked once per request and item tables once per candidate, and anything about the network.
//!
//! Expected on top: the tables, in the order of their sizes, since each is asked equally often and a larger one has
//! more rows that no cache holds; `table.0` first and by the byte last. `top_perceptron` and `bottom_perceptron` are
//! read for every sample and stay in the second-level cache. `indices` are read once, in order.
//!
//! The steady state begins with the phase `kernel`.

use serde_json::{Map, Value, json};

use super::dlrm_model::{DENSE, Model, allocate_dense, fill_dense};
use super::embedding::{Pooling, Source, TABLES, Tables};
use super::matrix::checksum;
use super::skew::{FORM, Skew};
use crate::command_line::{Scale, Settings};
use crate::options::{Declared, Values};
use crate::registry::Registry;
use crate::run::Run;
use crate::shared::on_pieces;

/// Samples of a batch.
const BATCH: usize = 256;

/// Samples a thread works on at a time.
const PIECE: usize = 32;

/// Numbers in a row of a table.
pub(crate) const DIMENSION: usize = 64;

/// Length of the widest hidden layer.
pub(crate) const WIDE: usize = 256;

/// What can be set.
pub(crate) static OPTIONS: &[Declared] = &[SKEW, ROWS, POOLING];

pub(crate) const POOLING: Declared = Declared {
    name: "pooling",
    default: "16",
    values: Values::Whole { least: 1, most: 256 },
    help: "rows that a bag asks for, on average",
};

pub(crate) const SKEW: Declared = Declared {
    name: "skew",
    default: "2021",
    values: Values::Read { form: FORM, accepts: Skew::accepts },
    help: "how popular the rows of a table are",
};

pub(crate) const ROWS: Declared = Declared {
    name: "rows",
    default: "scattered",
    values: Values::OneOf(&["scattered", "ranked"]),
    help: "popular rows anywhere in a table, or first",
};

/// Rows of all tables together.
pub(crate) fn rows(scale: Scale) -> u32 {
    match scale {
        Scale::Tiny => 40_000,
        Scale::Small => 1_200_000,
        Scale::Medium => 4_000_000,
        Scale::Large => 20_000_000,
    }
}

/// The tables that the settings ask for.
pub(crate) fn source(settings: &Settings, pooling: [Pooling; TABLES]) -> Source {
    let skew = Skew::parse(settings.options.text("skew")).unwrap_or(Skew::Uniform);
    Source::new(rows(settings.scale), pooling, skew, settings.options.text("rows") == "ranked", settings.seed)
}

/// Runs the workload.
pub(crate) fn run(settings: &Settings, run: &mut Run) -> Map<String, Value> {
    let threads = run.threads();
    let source = source(settings, [Pooling::About(settings.options.whole("pooling")); TABLES]);
    let model = run.phase(c"generate", |run| {
        let tables = Tables::new(source.clone(), DIMENSION, threads, &mut run.registry);
        Model::new(tables, WIDE, settings.seed, &mut run.registry)
    });
    let scores = run.phase(c"kernel", |run| {
        serve(&model, u64::from(settings.iterations), BATCH, settings.seed, threads, &mut run.registry)
    });
    let mut result = Map::new();
    result.insert("checksum".into(), json!(checksum(scores)));
    run.phase(c"measure", |_| source.measure(u64::from(settings.iterations) * BATCH as u64, &mut result));
    result
}

/// Scores that many batches; returns the sum of the scores of each.
fn serve(model: &Model, batches: u64, batch: usize, seed: u64, threads: u32, registry: &mut Registry) -> Vec<f32> {
    let mut scores = allocate_scores(registry, batch);
    let mut sums = Vec::new();
    for number in 0..batches {
        let requests = model.tables.source().batch(number, batch, registry);
        let mut dense = allocate_dense(registry, batch);
        fill_dense(&mut dense, number * batch as u64, seed);
        on_pieces(
            threads,
            &mut scores,
            PIECE,
            || model.scratch(PIECE),
            |scratch, piece, scores| {
                let first = piece * PIECE;
                let samples = first..first + scores.len();
                model.tables.gather(&requests, samples.clone(), &mut scratch.vectors);
                let dense = &dense[first * DENSE..samples.end * DENSE];
                scores.copy_from_slice(model.predict(scores.len(), dense, scratch));
            },
        );
        sums.push(scores.iter().sum());
        registry.free(dense);
        requests.free(registry);
    }
    registry.free(scores);
    sums
}

#[inline(never)]
fn allocate_scores(registry: &mut Registry, samples: usize) -> Vec<f32> {
    registry.add("scores", vec![0.0; samples])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(batch: usize, threads: u32) -> Vec<f32> {
        let mut registry = Registry::default();
        let tables = Tables::new(
            Source::new(800, [Pooling::About(3); TABLES], Skew::Uniform, false, 1),
            8,
            threads,
            &mut registry,
        );
        let model = Model::new(tables, 16, 1, &mut registry);
        serve(&model, 3, batch, 1, threads, &mut registry)
    }

    #[test]
    fn the_number_of_threads_changes_nothing() {
        let one = sums(100, 1);
        assert!(one.iter().all(|sum| sum.is_finite() && *sum != 0.0));
        assert_eq!(one, sums(100, 2));
        assert_eq!(one, sums(100, 5));
    }

    #[test]
    fn what_belongs_to_a_batch_lives_as_long_as_it() {
        let mut registry = Registry::default();
        let tables =
            Tables::new(Source::new(800, [Pooling::About(3); TABLES], Skew::Uniform, false, 1), 8, 1, &mut registry);
        let model = Model::new(tables, 16, 1, &mut registry);
        serve(&model, 2, 4, 1, 1, &mut registry);
        let names: Vec<_> = registry.blocks().iter().skip(8).map(|block| block.name).collect();
        assert_eq!(names[..3], ["bottom_perceptron", "top_perceptron", "scores"]);
        assert_eq!(names[3..], ["offsets", "indices", "dense", "offsets", "indices", "dense"]);
        assert!(registry.blocks()[10..].iter().all(|block| block.freed_ns.is_some()));
    }
}
