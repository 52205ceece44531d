//! `attention-pruned`: attention that fetches only the keys and values that matter, for row 8, attention pruned near
//! memory.
//!
//! Each iteration is one query of every head. All keys are scored first by codes of one byte a number, which is what the
//! system does inside the memory; keys whose approximate share of the softmax is below `threshold` times the largest are
//! dropped; of the survivors, the keys are fetched and scored in full precision, and then the values.
//!
//! Kept: codes read from the beginning to the end for every query; keys and values, four times as large each, of which a
//! few rows are fetched in ascending order with gaps; queries that resemble the one before, so that survivors recur; keys
//! that matter to most queries beside many that matter to few. Left out: the analogue arithmetic in the memory, appending
//! to the cache while it is used, and where keys come from: they are made, and so skewed that with the default threshold
//! about a quarter survives, as in row 8.
//!
//! Expected on top: `codes`, all of them read for every query, then `keys` and `values`, of which a quarter of the
//! rows is read, each row four times as long: the same bytes, at random instead of in order. By the byte `codes` four
//! to one.
//!
//! With a threshold of 0 everything survives, and the result is that of plain attention. The result is the same with any
//! number of threads: a head's query is one thread's. The steady state begins with the phase `kernel`.

use serde_json::{Map, Value, json};

use super::matrix::{add_scaled, checksum, dot, dot_int8, fill_normal, softmax};
use super::skew::share_of_hottest;
use super::weights::quantize;
use crate::command_line::{Scale, Settings};
use crate::options::{Declared, Values};
use crate::random;
use crate::registry::Registry;
use crate::run::Run;
use crate::shared::on_pieces;

/// Numbers in a head's key, value or query.
const HEAD: usize = 64;

/// Heads.
const HEADS: usize = 16;

/// How much of a query is the one before.
const KEPT: f32 = 0.9;

/// How strongly queries ask for what all ask for, and for what is their own.
const COMMON: f32 = 1.0;
const OWN: f32 = 2.4;

/// Queries whose survivors are counted, after the run.
const MEASURED: usize = 24;

/// What can be set.
pub(crate) static OPTIONS: &[Declared] = &[Declared {
    name: "threshold",
    default: "0.0001",
    values: Values::Number { least: 0.0, most: 1.0 },
    help: "keys whose weight is below this share of the largest are dropped",
}];

/// Keys and values of all heads, head after head.
#[derive(Debug)]
struct Cache {
    tokens: usize,
    keys: Vec<f32>,
    values: Vec<f32>,
    /// The keys in bytes, and what a byte of each key is worth.
    codes: Vec<i8>,
    scales: Vec<f32>,
}

/// Runs the workload.
pub(crate) fn run(settings: &Settings, run: &mut Run) -> Map<String, Value> {
    let tokens = match settings.scale {
        Scale::Tiny => 1500,
        Scale::Small => 32_768,
        Scale::Medium => 131_072,
        Scale::Large => 524_288,
    };
    let threads = run.threads();
    let threshold = settings.options.number("threshold") as f32;
    let cache = run.phase(c"generate", |run| Cache::generate(tokens, settings.seed, threads, &mut run.registry));
    let queries = settings.iterations as usize;
    let (outputs, survivors) = run.phase(c"kernel", |run| {
        let mut outputs = allocate_outputs(&mut run.registry);
        let (mut sums, mut survivors) = (Vec::new(), 0);
        let mut asked = Queries::new(settings.seed);
        for _ in 0..queries {
            survivors += cache.attend(asked.next(), threshold, threads, &mut outputs);
            sums.push(outputs.iter().map(|(row, _)| row.iter().sum::<f32>()).sum());
        }
        (sums, survivors)
    });
    let mut result = Map::new();
    result.insert("checksum".into(), json!(checksum(outputs)));
    let rows = (queries * HEADS * tokens) as f64;
    result.insert("surviving_rows_share".into(), json!(survivors as f64 / rows));
    run.phase(c"measure", |_| cache.measure(queries.min(MEASURED), threshold, settings.seed, &mut result));
    result
}

/// One head's output and how many keys it took.
type Output = ([f32; HEAD], usize);

/// The queries of all heads, one after the other.
#[derive(Debug)]
struct Queries {
    seed: u64,
    number: u64,
    own: Vec<f32>,
    asked: Vec<f32>,
}

impl Queries {
    fn new(seed: u64) -> Self {
        let seed = random::derive(seed, 7);
        let mut own = vec![0.0; HEADS * HEAD];
        fill_normal(&mut own, seed, 1.0);
        Queries { seed, number: 0, own, asked: vec![0.0; HEADS * HEAD] }
    }

    fn next(&mut self) -> &[f32] {
        self.number += 1;
        let fresh = random::derive(self.seed, self.number);
        for (index, (own, asked)) in self.own.iter_mut().zip(&mut self.asked).enumerate() {
            *own = KEPT * *own + (1.0 - KEPT * KEPT).sqrt() * random::normal(random::at(fresh, index as u64));
            *asked = OWN * *own + COMMON * common(index);
        }
        &self.asked
    }
}

/// What all queries of a head ask for.
fn common(index: usize) -> f32 {
    if random::at(0x636f_6d6d, index as u64) & 1 == 1 { 1.0 } else { -1.0 }
}

impl Cache {
    fn generate(tokens: usize, seed: u64, threads: u32, registry: &mut Registry) -> Self {
        let rows = HEADS * tokens;
        let mut cache = Cache {
            tokens,
            keys: allocate_keys(registry, rows * HEAD),
            values: allocate_values(registry, rows * HEAD),
            codes: allocate_codes(registry, rows * HEAD),
            scales: allocate_scales(registry, rows),
        };
        on_pieces(
            threads,
            &mut cache.keys,
            HEAD << 8,
            || (),
            |(), piece, keys| {
                for (row, key) in (piece << 8..).zip(keys.chunks_exact_mut(HEAD)) {
                    fill_normal(key, random::derive(random::derive(seed, 1), row as u64), 1.0);
                    // The square of a normal number: a few keys answer what all queries ask for, most do not.
                    let weight = random::normal(random::at(random::derive(seed, 2), row as u64));
                    for (index, value) in key.iter_mut().enumerate() {
                        *value += weight * weight / 16.0 * common(row / tokens * HEAD + index);
                    }
                }
            },
        );
        on_pieces(
            threads,
            &mut cache.values,
            HEAD << 8,
            || (),
            |(), piece, values| {
                fill_normal(values, random::derive(random::derive(seed, 3), piece as u64), 1.0);
            },
        );
        let rows = cache.keys.chunks_exact(HEAD).zip(cache.codes.chunks_exact_mut(HEAD));
        rows.zip(&mut cache.scales).for_each(|((key, code), scale)| *scale = quantize(key, code));
        cache
    }

    /// One query of every head; returns how many keys survived.
    fn attend(&self, queries: &[f32], threshold: f32, threads: u32, outputs: &mut [Output]) -> usize {
        let scratch = || (Vec::new(), Vec::new());
        on_pieces(threads, outputs, 1, scratch, |(scores, survivors), head, output| {
            let [(output, count)] = output else { return };
            let query = &queries[head * HEAD..][..HEAD];
            self.select(head, query, threshold, scores, survivors);
            let of_head = head * self.tokens * HEAD;
            scores.clear();
            for &token in survivors.iter() {
                let key = &self.keys[of_head + token as usize * HEAD..][..HEAD];
                scores.push(dot(query, key) * (HEAD as f32).powf(-0.5));
            }
            softmax(scores);
            output.fill(0.0);
            for (&token, &share) in survivors.iter().zip(scores.iter()) {
                add_scaled(output, share, &self.values[of_head + token as usize * HEAD..][..HEAD]);
            }
            *count = survivors.len();
        });
        outputs.iter().map(|(_, count)| count).sum()
    }

    /// The tokens whose weight, by codes, is at least `threshold` times the largest.
    fn select(&self, head: usize, query: &[f32], threshold: f32, scores: &mut Vec<f32>, survivors: &mut Vec<u32>) {
        let mut code = [0i8; HEAD];
        let scale = quantize(query, &mut code) * (HEAD as f32).powf(-0.5);
        let of_head = head * self.tokens;
        let codes = self.codes[of_head * HEAD..].chunks_exact(HEAD).zip(&self.scales[of_head..]).take(self.tokens);
        scores.clear();
        scores.extend(codes.map(|(key, worth)| dot_int8(key, &code) as f32 * (scale * worth)));
        let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let least = largest + threshold.ln();
        survivors.clear();
        survivors.extend((0..).zip(scores.iter()).filter(|&(_, &score)| score >= least).map(|(token, _)| token));
    }

    /// Over the first queries: how often survivors survived the query before, how unevenly rows survive, and how much of
    /// the softmax was dropped.
    fn measure(&self, queries: usize, threshold: f32, seed: u64, result: &mut Map<String, Value>) {
        let mut last = vec![0; HEADS * self.tokens];
        let mut counts = vec![0u32; HEADS * self.tokens];
        let (mut recurring, mut later, mut dropped) = (0u64, 0u64, 0.0);
        let (mut scores, mut survivors) = (Vec::new(), Vec::new());
        let mut asked = Queries::new(seed);
        for number in 1..=queries {
            let query = asked.next();
            for head in 0..HEADS {
                let query = &query[head * HEAD..][..HEAD];
                self.select(head, query, threshold, &mut scores, &mut survivors);
                softmax(&mut scores);
                dropped += 1.0 - f64::from(survivors.iter().map(|&token| scores[token as usize]).sum::<f32>());
                for &token in &survivors {
                    let row = head * self.tokens + token as usize;
                    counts[row] += 1;
                    later += u64::from(number > 1);
                    recurring += u64::from(number > 1 && last[row] + 1 == number);
                    last[row] = number;
                }
            }
        }
        let reused = if later == 0 { 0.0 } else { recurring as f64 / later as f64 };
        result.insert("survivors_of_previous_query_share".into(), json!(reused));
        result.insert("hottest_1_percent_share".into(), json!(share_of_hottest(counts.clone(), 0.01)));
        result.insert("hottest_10_percent_share".into(), json!(share_of_hottest(counts, 0.1)));
        result.insert("dropped_weight_share".into(), json!((dropped / (queries * HEADS) as f64).max(0.0)));
    }
}

#[inline(never)]
fn allocate_keys(registry: &mut Registry, length: usize) -> Vec<f32> {
    registry.add("keys", vec![0.0; length])
}

#[inline(never)]
fn allocate_values(registry: &mut Registry, length: usize) -> Vec<f32> {
    registry.add("values", vec![0.0; length])
}

#[inline(never)]
fn allocate_codes(registry: &mut Registry, length: usize) -> Vec<i8> {
    registry.add("codes", vec![0; length])
}

#[inline(never)]
fn allocate_scales(registry: &mut Registry, length: usize) -> Vec<f32> {
    registry.add("scales", vec![0.0; length])
}

#[inline(never)]
fn allocate_outputs(registry: &mut Registry) -> Vec<Output> {
    registry.add("outputs", vec![([0.0; HEAD], 0); HEADS])
}

#[cfg(test)]
mod tests {
    use super::super::matrix::close;
    use super::*;

    fn cache() -> Cache {
        Cache::generate(200, 1, 2, &mut Registry::default())
    }

    fn attend(threshold: f32, threads: u32) -> Vec<Output> {
        let mut outputs = vec![([0.0; HEAD], 0); HEADS];
        cache().attend(Queries::new(1).next(), threshold, threads, &mut outputs);
        outputs
    }

    #[test]
    fn with_a_threshold_of_0_it_is_plain_attention() {
        let (cache, mut queries) = (cache(), Queries::new(1));
        let queries = queries.next();
        for (head, (output, count)) in attend(0.0, 1).iter().enumerate() {
            assert_eq!(*count, 200);
            let row = |of: &[f32], token: usize| of[(head * 200 + token) * HEAD..][..HEAD].to_vec();
            let weight = |token| {
                let key = row(&cache.keys, token);
                (queries[head * HEAD..].iter().zip(key).map(|(q, k)| q * k).sum::<f32>() / 8.0).exp()
            };
            let sum: f32 = (0..200).map(weight).sum();
            let mut expected = vec![0.0; HEAD];
            for token in 0..200 {
                let value = row(&cache.values, token);
                expected.iter_mut().zip(value).for_each(|(slot, v)| *slot += weight(token) / sum * v);
            }
            assert!(close(output, &expected, 1e-4));
        }
    }

    #[test]
    fn few_survive_a_threshold_and_what_they_say_is_nearly_the_whole() {
        let (all, pruned) = (attend(0.0, 1), attend(0.003, 1));
        let survivors: usize = pruned.iter().map(|(_, count)| count).sum();
        assert!(survivors > HEADS && survivors < HEADS * 100, "{survivors}");
        let square = |a: &Output, b: &Output| a.0.iter().zip(b.0).map(|(x, y)| (x - y) * (x - y)).sum::<f32>();
        let error: f32 = all.iter().zip(&pruned).map(|(a, b)| square(a, b)).sum();
        let whole: f32 = all.iter().map(|a| square(a, &([0.0; HEAD], 0))).sum();
        assert!(error < 0.1 * whole, "{error} of {whole}");
    }

    #[test]
    fn with_a_threshold_of_1_only_the_best_remains() {
        assert!(attend(1.0, 1).iter().all(|(_, count)| *count == 1));
    }

    #[test]
    fn the_number_of_threads_changes_nothing() {
        assert_eq!(attend(0.01, 1), attend(0.01, 3));
    }

    #[test]
    fn survivors_recur_from_query_to_query() {
        let mut result = Map::new();
        cache().measure(5, 0.1, 1, &mut result);
        assert!(result["survivors_of_previous_query_share"].as_f64().unwrap() > 0.3, "{result:?}");
    }
}
