//! `dlrm-sessions`: a recommendation model on samples of sessions, for row 3, deduplicating training data.
//!
//! A session is what one user does in a row, 1 to 32 samples of it (16.5 on average, as row 3 reports). From one
//! sample of a session to the next, what is known about the user seldom changes, and what is shown to them always
//! does. Samples are stored with all their features, in the order of sessions; each iteration is one batch of
//! consecutive samples, copied from there, pooled and scored. With `keyed=yes` a batch is deduplicated first, feature
//! by feature: it holds each distinct list of row numbers once and, for every sample, which of them is its own (an
//! inverse-keyed jagged tensor), and each distinct list is pooled once.
//!
//! Kept: the duplicated content, inside the stored samples and inside batches; a long feature, the last 1024 things a
//! user did, whose lists are 4 KiB each, so that duplicates of it are duplicate pages as well (but for the sixteen
//! bytes by which the C library shifts a large block); short features, some of the user and some of the item shown, as
//! jagged lists; pooling as the consumer. Left out: the stored samples' compression, and the training step, which
//! duplicates do not change (`dlrm-train` has it).
//!
//! Expected on top: `pooled` (for every sample and feature a vector, written, and read again when scored) and the
//! tables; then `stored_values`, read once, in order. With `keyed=yes` all but `stored_values` are an eighth as long,
//! most lookups are gone, and the comparison of lists, which reads `stored_values`, comes first.
//!
//! Both forms sum the same rows in the same order: their results are equal to the last bit. The steady state begins with
//! the phase `kernel`.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::ops::Range;

use serde_json::{Map, Value, json};

use super::dlrm::{DIMENSION, ROWS, SKEW, WIDE, source};
use super::dlrm_model::{DENSE, Model, allocate_dense, fill_dense};
use super::embedding::{Pooling, Source, TABLES, Tables};
use super::matrix::checksum;
use crate::command_line::{Scale, Settings};
use crate::options::{Declared, Values};
use crate::random;
use crate::registry::Registry;
use crate::run::Run;
use crate::shared::on_pieces;

/// Samples of a batch.
const BATCH: usize = 512;

/// Samples, or distinct lists, a thread works on at a time.
const PIECE: usize = 32;

/// Samples of the longest session; the shortest has one.
const LONGEST_SESSION: u32 = 32;

/// Rows in the list of what a user did last.
const HISTORY: usize = 1024;

/// Lists of the short features, on average.
const SHORT: usize = 16;

/// Features from here on describe the item: they are new in every sample.
const FIRST_ITEM_FEATURE: usize = 6;

/// Chance that a feature of the user changes from one sample of a session to the next.
const CHANGE: f64 = 0.05;

/// What can be set.
pub(crate) static OPTIONS: &[Declared] = &[
    SKEW,
    ROWS,
    Declared {
        name: "keyed",
        default: "no",
        values: Values::OneOf(&["no", "yes"]),
        help: "whether batches hold each distinct list once, with an inverse",
    },
];

/// Stored samples: for each feature the lists of all samples, one after another.
#[derive(Debug)]
struct Stored {
    samples: usize,
    values: Vec<Vec<u32>>,
    /// Where each sample's list begins, and one more.
    offsets: Vec<Vec<u32>>,
}

/// One feature of a batch.
#[derive(Debug)]
struct Feature {
    /// Distinct lists, or those of every sample.
    values: Vec<u32>,
    offsets: Vec<u32>,
    /// For each sample, which list is its own.
    inverse: Vec<u32>,
}

/// Runs the workload.
pub(crate) fn run(settings: &Settings, run: &mut Run) -> Map<String, Value> {
    let samples = match settings.scale {
        Scale::Tiny => 2 * BATCH,
        Scale::Small => 40 * BATCH,
        Scale::Medium => 120 * BATCH,
        Scale::Large => 600 * BATCH,
    };
    let threads = run.threads();
    let mut pooling = [Pooling::About(SHORT); TABLES];
    pooling[0] = Pooling::Exactly(HISTORY);
    let source = source(settings, pooling);
    let keyed = settings.options.text("keyed") == "yes";
    let (stored, model) = run.phase(c"generate", |run| {
        let stored = Stored::generate(&source, samples, settings.seed, &mut run.registry);
        let tables = Tables::new(source, DIMENSION, threads, &mut run.registry);
        (stored, Model::new(tables, WIDE, settings.seed, &mut run.registry))
    });
    let scores = run.phase(c"kernel", |run| {
        let batches = settings.iterations as usize;
        serve(&model, &stored, (batches, BATCH), keyed, settings.seed, threads, &mut run.registry)
    });
    let mut result = Map::new();
    result.insert("checksum".into(), json!(checksum(scores)));
    run.phase(c"measure", |_| stored.measure(BATCH, &mut result));
    result
}

impl Stored {
    /// `samples` samples of consecutive sessions.
    fn generate(source: &Source, samples: usize, seed: u64, registry: &mut Registry) -> Self {
        let seed = random::derive(seed, 0x7365_7373);
        let mut stored = Stored { samples, values: Vec::new(), offsets: Vec::new() };
        for feature in 0..TABLES {
            // The sample in which the list was new settles what is in it.
            let mut origins = Vec::with_capacity(samples);
            let (mut left, mut origin) = (0, 0);
            for sample in 0..samples as u64 {
                let new_session = left == 0;
                if new_session {
                    left = 1 + random::below(random::at(seed, sample), LONGEST_SESSION);
                }
                left -= 1;
                let word = random::at(random::derive(seed, feature as u64 + 1), sample);
                if new_session || feature >= FIRST_ITEM_FEATURE || random::unit(word) < CHANGE {
                    origin = sample;
                }
                origins.push(origin);
            }
            let length = |&origin: &u64| source.bag(feature, origin).count();
            let mut values = allocate_stored_values(registry, feature, origins.iter().map(length).sum());
            let mut offsets = allocate_stored_offsets(registry, feature, samples + 1);
            let mut end = 0;
            for (sample, &origin) in origins.iter().enumerate() {
                for row in source.bag(feature, origin) {
                    values[end] = row;
                    end += 1;
                }
                offsets[sample + 1] = end as u32;
            }
            stored.values.push(values);
            stored.offsets.push(offsets);
        }
        stored
    }

    fn list(&self, feature: usize, sample: usize) -> &[u32] {
        let offsets = &self.offsets[feature];
        &self.values[feature][offsets[sample] as usize..offsets[sample + 1] as usize]
    }

    /// The feature of some samples, for a batch: each list, or each distinct list.
    fn feature(&self, feature: usize, samples: Range<usize>, keyed: bool, registry: &mut Registry) -> Feature {
        let lists: Vec<_> = samples.map(|sample| self.list(feature, sample)).collect();
        let (distinct, of_sample) =
            if keyed { distinct(&lists) } else { (lists.clone(), (0..).take(lists.len()).collect()) };
        let mut inverse = allocate_inverse(registry, lists.len());
        inverse.copy_from_slice(&of_sample);
        let mut values = allocate_values(registry, distinct.iter().map(|list| list.len()).sum());
        let mut offsets = allocate_offsets(registry, distinct.len() + 1);
        let mut end = 0;
        for (number, list) in distinct.iter().enumerate() {
            values[end..end + list.len()].copy_from_slice(list);
            end += list.len();
            offsets[number + 1] = end as u32;
        }
        Feature { values, offsets, inverse }
    }

    /// How much of the stored samples is there more than once.
    fn measure(&self, batch: usize, result: &mut Map<String, Value>) {
        let (mut all, mut kept) = (Vec::new(), Vec::new());
        for feature in 0..TABLES {
            let (mut values, mut distinct_values) = (0, 0);
            for first in (0..self.samples).step_by(batch) {
                let end = self.samples.min(first + batch);
                let lists: Vec<_> = (first..end).map(|sample| self.list(feature, sample)).collect();
                values += lists.iter().map(|list| list.len()).sum::<usize>();
                distinct_values += distinct(&lists).0.iter().map(|list| list.len()).sum::<usize>();
            }
            all.push(values);
            kept.push(distinct_values);
        }
        let by_feature: Vec<_> = all.iter().zip(&kept).map(|(&all, &kept)| all as f64 / kept as f64).collect();
        let factor = all.iter().sum::<usize>() as f64 / kept.iter().sum::<usize>() as f64;
        let pages: Vec<_> = self.values[0].chunks_exact(HISTORY).collect();
        let copies = 1.0 - distinct(&pages).0.len() as f64 / pages.len() as f64;
        result.insert("samples".into(), json!(self.samples));
        result.insert("duplication_factor".into(), json!(factor));
        result.insert("duplication_factor_of_feature".into(), json!(by_feature));
        result.insert("duplicate_pages_of_history_share".into(), json!(copies));
    }
}

/// The distinct lists in the order of their first occurrence, and which of them each list is.
fn distinct<'a>(lists: &[&'a [u32]]) -> (Vec<&'a [u32]>, Vec<u32>) {
    // Without a random key, so that a run is the same run every time.
    let mut known: HashMap<&[u32], u32, BuildHasherDefault<DefaultHasher>> = HashMap::default();
    let mut found = Vec::new();
    let mut inverse = Vec::with_capacity(lists.len());
    let mut previous: Option<(&[u32], u32)> = None;
    for &list in lists {
        // Mostly it is the list of the sample before, which is cheaper to see than to look up.
        let number = match previous {
            Some((before, number)) if before == list => number,
            _ => *known.entry(list).or_insert_with(|| {
                found.push(list);
                found.len() as u32 - 1
            }),
        };
        previous = Some((list, number));
        inverse.push(number);
    }
    (found, inverse)
}

/// Scores that many batches of that many samples, again from the first when the last is reached; returns the sum of the
/// scores of each.
fn serve(
    model: &Model,
    stored: &Stored,
    (batches, samples): (usize, usize),
    keyed: bool,
    seed: u64,
    threads: u32,
    registry: &mut Registry,
) -> Vec<f32> {
    let dimension = model.tables.dimension;
    let mut scores = allocate_scores(registry, samples);
    let mut sums = Vec::new();
    for number in 0..batches {
        let first = number * samples % stored.samples;
        let mut pooled = Vec::new();
        let mut inverses = Vec::new();
        for feature in 0..TABLES {
            let Feature { values, offsets, inverse } = stored.feature(feature, first..first + samples, keyed, registry);
            let mut vectors = allocate_pooled(registry, (offsets.len() - 1) * dimension);
            on_pieces(
                threads,
                &mut vectors,
                PIECE * dimension,
                || (),
                |(), piece, vectors| {
                    for (list, vector) in (piece * PIECE..).zip(vectors.chunks_exact_mut(dimension)) {
                        let bag = &values[offsets[list] as usize..offsets[list + 1] as usize];
                        model.tables.pool(feature, bag, vector);
                    }
                },
            );
            registry.free(values);
            registry.free(offsets);
            pooled.push(vectors);
            inverses.push(inverse);
        }
        let mut dense = allocate_dense(registry, samples);
        fill_dense(&mut dense, first as u64, seed);
        on_pieces(
            threads,
            &mut scores,
            PIECE,
            || model.scratch(PIECE),
            |scratch, piece, scores| {
                let first = piece * PIECE;
                for (sample, vectors) in
                    (first..first + scores.len()).zip(scratch.vectors.chunks_exact_mut((TABLES + 1) * dimension))
                {
                    let slots = vectors.chunks_exact_mut(dimension).skip(1);
                    for ((slot, pooled), inverse) in slots.zip(&pooled).zip(&inverses) {
                        slot.copy_from_slice(&pooled[inverse[sample] as usize * dimension..][..dimension]);
                    }
                }
                let dense = &dense[first * DENSE..(first + scores.len()) * DENSE];
                scores.copy_from_slice(model.predict(scores.len(), dense, scratch));
            },
        );
        sums.push(scores.iter().sum());
        registry.free(dense);
        inverses.into_iter().for_each(|block| registry.free(block));
        pooled.into_iter().for_each(|block| registry.free(block));
    }
    registry.free(scores);
    sums
}

#[inline(never)]
fn allocate_stored_values(registry: &mut Registry, feature: usize, length: usize) -> Vec<u32> {
    registry.add_numbered("stored_values", feature, vec![0; length])
}

#[inline(never)]
fn allocate_stored_offsets(registry: &mut Registry, feature: usize, length: usize) -> Vec<u32> {
    registry.add_numbered("stored_offsets", feature, vec![0; length])
}

#[inline(never)]
fn allocate_values(registry: &mut Registry, length: usize) -> Vec<u32> {
    registry.add("values", vec![0; length])
}

#[inline(never)]
fn allocate_offsets(registry: &mut Registry, length: usize) -> Vec<u32> {
    registry.add("offsets", vec![0; length])
}

#[inline(never)]
fn allocate_inverse(registry: &mut Registry, length: usize) -> Vec<u32> {
    registry.add("inverse", vec![0; length])
}

#[inline(never)]
fn allocate_pooled(registry: &mut Registry, length: usize) -> Vec<f32> {
    registry.add("pooled", vec![0.0; length])
}

#[inline(never)]
fn allocate_scores(registry: &mut Registry, length: usize) -> Vec<f32> {
    registry.add("scores", vec![0.0; length])
}

#[cfg(test)]
mod tests {
    use super::super::skew::Skew;
    use super::*;

    fn source() -> Source {
        Source::new(800, [Pooling::About(4); TABLES], Skew::Uniform, false, 1)
    }

    #[test]
    fn keyed_and_plain_batches_give_the_same_scores_with_any_number_of_threads() {
        let mut registry = Registry::default();
        let stored = Stored::generate(&source(), 200, 1, &mut registry);
        let model = Model::new(Tables::new(source(), 8, 1, &mut registry), 16, 1, &mut registry);
        let sums = |keyed, threads| serve(&model, &stored, (5, 50), keyed, 1, threads, &mut Registry::default());
        let plain = sums(false, 1);
        assert!(plain[0] != plain[1] && plain[0] == plain[4], "{plain:?}");
        for (keyed, threads) in [(true, 1), (true, 3), (false, 3)] {
            assert_eq!(plain, sums(keyed, threads));
        }
    }

    #[test]
    fn a_keyed_feature_holds_each_list_once_and_every_sample_finds_its_own() {
        let stored = Stored::generate(&source(), 300, 1, &mut Registry::default());
        for feature in 0..TABLES {
            let Feature { values, offsets, inverse } =
                stored.feature(feature, 100..200, true, &mut Registry::default());
            let lists: Vec<_> = offsets.windows(2).map(|pair| &values[pair[0] as usize..pair[1] as usize]).collect();
            assert!((1..lists.len()).all(|i| !lists[..i].contains(&lists[i])));
            for (sample, &list) in (100..).zip(&inverse) {
                assert_eq!(stored.list(feature, sample), lists[list as usize]);
            }
        }
    }

    #[test]
    fn features_of_the_user_repeat_within_a_session_and_those_of_the_item_do_not() {
        let source = Source::new(1 << 20, [Pooling::Exactly(16); TABLES], Skew::Uniform, false, 1);
        let stored = Stored::generate(&source, 4096, 1, &mut Registry::default());
        let mut result = Map::new();
        stored.measure(512, &mut result);
        let factor = |feature: usize| result["duplication_factor_of_feature"][feature].as_f64().unwrap();
        assert!((6.0..14.0).contains(&factor(1)) && factor(7) == 1.0, "{result:?}");
        assert!(result["duplication_factor"].as_f64().unwrap() > 2.0);
    }
}
