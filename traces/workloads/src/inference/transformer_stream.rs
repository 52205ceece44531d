//! `transformer-stream`: a decoder-only transformer that generates text, for row 6, inference with heterogeneous memory.
//!
//! Each iteration is one token of each sequence of a small batch: all layers are read once, in order, from the first to
//! the last, and each appends to its cache of keys and values and reads it from the beginning.
//!
//! Kept: the weights of each layer as blocks of their own (`attention.N` and `feed_forward.N`), several times any cache,
//! read sequentially in an order that is known for ever; the cache of keys and values, of each layer its own, which grows
//! by one row a token; activations that stay in the cache; weights in 32-bit numbers or in bytes. Left out: the prompt,
//! which starts from one token here; and training, so that the text means nothing: the next token is the one whose
//! embedding is closest to the last layer's output.
//!
//! Expected on top: `feed_forward` before `attention`, two to one as their bytes are, all layers alike; then
//! `embeddings`, read once per token to choose the next word. Everything is read in order, and every byte once a
//! token: no object is hotter by the byte than any other, and whoever can prefetch a layer ahead may have all of them
//! in slow memory.
//!
//! The steady state begins with the phase `kernel`.

use serde_json::{Map, Value, json};

use super::matrix::{add_scaled, checksum, dot, fill_normal, softmax};
use super::weights::{Inputs, Weights, by_input};
use crate::command_line::{Scale, Settings};
use crate::options::{Declared, Values};
use crate::random;
use crate::registry::Registry;
use crate::run::Run;
use crate::shared::on_pieces;

/// Numbers in a head.
const HEAD: usize = 64;

/// The feed-forward part is so many times as wide as a token.
const WIDER: usize = 4;

/// What can be set.
pub(crate) static OPTIONS: &[Declared] = &[
    Declared {
        name: "weights",
        default: "f32",
        values: Values::OneOf(&["f32", "int8"]),
        help: "weights in 32-bit numbers, or in bytes with a scale per row",
    },
    Declared {
        name: "batch",
        default: "2",
        values: Values::Whole { least: 1, most: 64 },
        help: "sequences that are generated at once",
    },
];

/// What decides the model's size.
#[derive(Debug, Clone, Copy)]
struct Shape {
    layers: usize,
    width: usize,
    vocabulary: usize,
    /// Sequences.
    batch: usize,
    /// Longest sequence.
    tokens: usize,
    bytes: bool,
}

/// One layer.
#[derive(Debug)]
struct Layer {
    /// Queries, keys, values and output, width rows each.
    attention: Weights,
    /// The rows that widen, then those that narrow.
    widen: Weights,
    narrow: Weights,
    /// For each sequence and token the keys, then the values, of all heads.
    cache: Vec<f32>,
}

/// The model, and how far it has come.
#[derive(Debug)]
struct Decoder {
    shape: Shape,
    threads: u32,
    /// One row per word, in and out.
    embeddings: Vec<f32>,
    layers: Vec<Layer>,
    position: usize,
}

/// Runs the workload.
pub(crate) fn run(settings: &Settings, run: &mut Run) -> Map<String, Value> {
    let (layers, width, vocabulary) = match settings.scale {
        Scale::Tiny => (3, 256, 2000),
        Scale::Small => (12, 768, 16_000),
        Scale::Medium => (24, 1024, 32_000),
        Scale::Large => (32, 2048, 32_000),
    };
    let bytes = settings.options.text("weights") == "int8";
    let (batch, tokens) = (settings.options.whole("batch"), settings.iterations as usize);
    let shape = Shape { layers, width, vocabulary, batch, tokens, bytes };
    let threads = run.threads();
    let mut decoder = run.phase(c"generate", |run| Decoder::new(shape, settings.seed, threads, &mut run.registry));
    let (words, hidden) = run.phase(c"kernel", |_| {
        let mut words: Vec<usize> = (0..batch).collect();
        let mut hidden = Vec::new();
        for _ in 0..tokens {
            hidden = decoder.step(&words);
            words = decoder.next_words(&hidden);
        }
        (words, hidden)
    });
    let mut result = Map::new();
    result.insert("checksum".into(), json!(checksum(hidden)));
    result.insert("last_words".into(), json!(words));
    result.insert("layers".into(), json!(layers));
    result.insert("weight_bytes_of_layer".into(), json!(weight_bytes(shape)));
    result.insert("cache_bytes_of_layer".into(), json!(cache_length(shape) * size_of::<f32>()));
    result
}

fn weight_bytes(shape: Shape) -> usize {
    let weights = (4 + 2 * WIDER) * shape.width * shape.width;
    if shape.bytes { weights + (5 + WIDER) * shape.width * size_of::<f32>() } else { weights * size_of::<f32>() }
}

fn cache_length(shape: Shape) -> usize {
    2 * shape.batch * shape.tokens * shape.width
}

impl Decoder {
    fn new(shape: Shape, seed: u64, threads: u32, registry: &mut Registry) -> Self {
        let width = shape.width;
        let deviation = (width as f32).powf(-0.5);
        let mut embeddings = allocate_embeddings(registry, shape.vocabulary * width);
        fill_normal(&mut embeddings, random::derive(seed, 0), 1.0);
        let layers = (0..shape.layers).map(|layer| {
            let seed = random::derive(seed, 1 + layer as u64);
            let attention = allocate_attention(registry, layer, 4 * width, width, shape.bytes);
            let widen = allocate_feed_forward(registry, 2 * layer, WIDER * width, width, shape.bytes);
            let narrow = allocate_feed_forward(registry, 2 * layer + 1, width, WIDER * width, shape.bytes);
            Layer {
                attention: attention.fill(width, deviation, random::derive(seed, 1)),
                widen: widen.fill(width, deviation, random::derive(seed, 2)),
                narrow: narrow.fill(WIDER * width, deviation / 2.0, random::derive(seed, 3)),
                cache: allocate_cache(registry, layer, cache_length(shape)),
            }
        });
        let layers = layers.collect();
        Decoder { shape, threads, embeddings, layers, position: 0 }
    }

    /// One more token of each sequence: its words go in, and what the last layer says comes out.
    fn step(&mut self, words: &[usize]) -> Vec<f32> {
        let Decoder { shape, threads, embeddings, layers, position } = self;
        let (width, batch) = (shape.width, shape.batch);
        let mut hidden = Vec::with_capacity(batch * width);
        for &word in words {
            hidden.extend_from_slice(&embeddings[word * width..][..width]);
        }
        let mut products = vec![0.0; WIDER * width * batch];
        for layer in layers {
            let normal = normalized(&hidden, width);
            let inputs = Inputs::new(&normal, width, &layer.attention);
            let products_3 = &mut products[..3 * width * batch];
            layer.attention.apply(0..3 * width, &inputs, *threads, products_3);
            let rows = by_input(products_3, batch);
            let mixed = attend(&rows, &mut layer.cache, *shape, *position, *threads);
            let inputs = Inputs::new(&mixed, width, &layer.attention);
            let output = &mut products[..width * batch];
            layer.attention.apply(3 * width..4 * width, &inputs, *threads, output);
            add_scaled(&mut hidden, 1.0, &by_input(output, batch));

            let normal = normalized(&hidden, width);
            let inputs = Inputs::new(&normal, width, &layer.widen);
            layer.widen.apply(0..WIDER * width, &inputs, *threads, &mut products);
            let mut wide = by_input(&products, batch);
            super::matrix::relu(&mut wide);
            let inputs = Inputs::new(&wide, WIDER * width, &layer.narrow);
            let output = &mut products[..width * batch];
            layer.narrow.apply(0..width, &inputs, *threads, output);
            add_scaled(&mut hidden, 1.0, &by_input(output, batch));
        }
        *position += 1;
        normalized(&hidden, width)
    }

    /// The word whose embedding is closest, for each sequence.
    fn next_words(&self, hidden: &[f32]) -> Vec<usize> {
        let width = self.shape.width;
        let mut scores = vec![0.0; self.shape.vocabulary];
        let of_sequence = |row: &[f32]| {
            on_pieces(
                self.threads,
                &mut scores,
                256,
                || (),
                |(), piece, scores| {
                    let words = self.embeddings.chunks_exact(width).skip(piece * 256);
                    scores.iter_mut().zip(words).for_each(|(slot, word)| *slot = dot(word, row));
                },
            );
            let best = scores.iter().enumerate().max_by(|(_, a), (_, b)| a.total_cmp(b));
            best.map_or(0, |(word, _)| word)
        };
        hidden.chunks_exact(width).map(of_sequence).collect()
    }
}

/// Appends the new keys and values of each sequence to the cache, and mixes the values of all tokens so far by how well
/// their keys answer the new queries, head by head.
fn attend(rows: &[f32], cache: &mut [f32], shape: Shape, position: usize, threads: u32) -> Vec<f32> {
    let width = shape.width;
    let of_sequence = 2 * shape.tokens * width;
    for (row, cache) in rows.chunks_exact(3 * width).zip(cache.chunks_exact_mut(of_sequence)) {
        let (keys, values) = cache.split_at_mut(shape.tokens * width);
        keys[position * width..][..width].copy_from_slice(&row[width..2 * width]);
        values[position * width..][..width].copy_from_slice(&row[2 * width..]);
    }
    let mut mixed = vec![0.0; shape.batch * width];
    let heads = width / HEAD;
    on_pieces(
        threads,
        &mut mixed,
        HEAD,
        || (),
        |(), piece, mixed| {
            let (sequence, column) = (piece / heads, piece % heads * HEAD);
            let query = &rows[sequence * 3 * width + column..][..HEAD];
            let (keys, values) = cache[sequence * of_sequence..][..of_sequence].split_at(shape.tokens * width);
            let row = |of: usize| of * width + column..of * width + column + HEAD;
            let score = |token| dot(query, &keys[row(token)]) * (HEAD as f32).powf(-0.5);
            let mut scores: Vec<_> = (0..=position).map(score).collect();
            softmax(&mut scores);
            for (token, &share) in scores.iter().enumerate() {
                add_scaled(mixed, share, &values[row(token)]);
            }
        },
    );
    mixed
}

/// Each row scaled to a mean square of 1.
fn normalized(rows: &[f32], width: usize) -> Vec<f32> {
    let mut normal = rows.to_vec();
    for row in normal.chunks_exact_mut(width) {
        let scale = (dot(row, row) / width as f32 + 1e-6).sqrt();
        row.iter_mut().for_each(|x| *x /= scale);
    }
    normal
}

#[inline(never)]
fn allocate_embeddings(registry: &mut Registry, length: usize) -> Vec<f32> {
    registry.add("embeddings", vec![0.0; length])
}

#[inline(never)]
fn allocate_attention(registry: &mut Registry, layer: usize, outputs: usize, inputs: usize, bytes: bool) -> Weights {
    if bytes {
        let scales = allocate_scales(registry, outputs);
        return Weights::Bytes { bytes: registry.add_numbered("attention", layer, vec![0; outputs * inputs]), scales };
    }
    Weights::Float(registry.add_numbered("attention", layer, vec![0.0; outputs * inputs]))
}

/// Even numbers widen, odd ones narrow.
#[inline(never)]
fn allocate_feed_forward(
    registry: &mut Registry,
    number: usize,
    outputs: usize,
    inputs: usize,
    bytes: bool,
) -> Weights {
    if bytes {
        let scales = allocate_scales(registry, outputs);
        return Weights::Bytes {
            bytes: registry.add_numbered("feed_forward", number, vec![0; outputs * inputs]),
            scales,
        };
    }
    Weights::Float(registry.add_numbered("feed_forward", number, vec![0.0; outputs * inputs]))
}

#[inline(never)]
fn allocate_scales(registry: &mut Registry, outputs: usize) -> Vec<f32> {
    registry.add("scales", vec![0.0; outputs])
}

#[inline(never)]
fn allocate_cache(registry: &mut Registry, layer: usize, length: usize) -> Vec<f32> {
    registry.add_numbered("cache", layer, vec![0.0; length])
}

#[cfg(test)]
mod tests {
    use super::super::matrix::close;
    use super::*;

    fn shape(bytes: bool) -> Shape {
        Shape { layers: 2, width: 128, vocabulary: 50, batch: 2, tokens: 6, bytes }
    }

    fn outputs(bytes: bool, threads: u32) -> Vec<Vec<f32>> {
        let mut decoder = Decoder::new(shape(bytes), 1, threads, &mut Registry::default());
        (0..6).map(|token| decoder.step(&[token, 7 * token])).collect()
    }

    fn floats(weights: &Weights) -> &[f32] {
        let Weights::Float(floats) = weights else { panic!("floats") };
        floats
    }

    /// The textbook: all tokens of a sequence through each layer at once, without a cache.
    fn reference(decoder: &Decoder, words: &[usize]) -> Vec<Vec<f32>> {
        let width = decoder.shape.width;
        let product = |weights: &[f32], x: &[f32]| -> Vec<f32> {
            weights.chunks(x.len()).map(|row| row.iter().zip(x).map(|(w, x)| w * x).sum()).collect()
        };
        let normal = |x: &[f32]| -> Vec<f32> {
            let mean = x.iter().map(|x| x * x).sum::<f32>() / width as f32;
            x.iter().map(|x| x / (mean + 1e-6).sqrt()).collect()
        };
        let mut hidden: Vec<Vec<f32>> =
            words.iter().map(|&word| decoder.embeddings[word * width..][..width].to_vec()).collect();
        for layer in &decoder.layers {
            let attention = floats(&layer.attention);
            let projected: Vec<_> =
                hidden.iter().map(|x| product(&attention[..3 * width * width], &normal(x))).collect();
            for (token, hidden) in hidden.iter_mut().enumerate() {
                let mut mixed = vec![0.0; width];
                for head in 0..width / HEAD {
                    let part = |row: &[f32], kind: usize| row[kind * width + head * HEAD..][..HEAD].to_vec();
                    let query = part(&projected[token], 0);
                    let weights: Vec<f32> = (0..=token)
                        .map(|other| {
                            let key = part(&projected[other], 1);
                            (query.iter().zip(key).map(|(q, k)| q * k).sum::<f32>() / 8.0).exp()
                        })
                        .collect();
                    let sum: f32 = weights.iter().sum();
                    for (other, weight) in weights.iter().enumerate() {
                        let value = part(&projected[other], 2);
                        value.iter().zip(&mut mixed[head * HEAD..]).for_each(|(v, slot)| *slot += weight / sum * v);
                    }
                }
                let output = product(&attention[3 * width * width..], &mixed);
                hidden.iter_mut().zip(output).for_each(|(h, o)| *h += o);
                let wide: Vec<_> = product(floats(&layer.widen), &normal(hidden)).iter().map(|x| x.max(0.0)).collect();
                let narrow = product(floats(&layer.narrow), &wide);
                hidden.iter_mut().zip(narrow).for_each(|(h, n)| *h += n);
            }
        }
        hidden.iter().map(|x| normal(x)).collect()
    }

    #[test]
    fn decoding_with_a_cache_equals_the_whole_sequence_at_once() {
        let decoder = Decoder::new(shape(false), 1, 1, &mut Registry::default());
        let found = outputs(false, 1);
        for sequence in 0..2 {
            let words: Vec<_> = (0..6).map(|token| if sequence == 0 { token } else { 7 * token }).collect();
            for (token, expected) in reference(&decoder, &words).iter().enumerate() {
                let row = &found[token][sequence * 128..][..128];
                assert!(close(row, expected, 1e-3), "{sequence} {token}");
            }
        }
    }

    #[test]
    fn the_number_of_threads_changes_nothing_and_bytes_change_little() {
        for bytes in [false, true] {
            assert_eq!(outputs(bytes, 1), outputs(bytes, 3));
        }
        let (floats, bytes) = (outputs(false, 1).concat(), outputs(true, 1).concat());
        // Rows are scaled to a mean square of 1, of which this is a share.
        let error: f32 = floats.iter().zip(&bytes).map(|(x, y)| (x - y) * (x - y)).sum::<f32>() / floats.len() as f32;
        assert!(error > 0.0 && error < 1e-3, "{error}");
    }

    #[test]
    fn each_layer_has_weights_and_cache_of_its_own_and_its_size_is_what_is_said() {
        let mut registry = Registry::default();
        Decoder::new(shape(true), 1, 1, &mut registry);
        let of_layer: usize = registry
            .blocks()
            .iter()
            .filter(|block| ["attention.0", "feed_forward.0", "feed_forward.1"].contains(&block.label().as_ref()))
            .map(|block| block.bytes)
            .sum();
        let scales = 9 * 128 * 4;
        assert_eq!(of_layer + scales, weight_bytes(shape(true)));
        let cache = registry.blocks().iter().find(|block| block.label() == "cache.1").unwrap();
        assert_eq!(cache.bytes, cache_length(shape(true)) * 4);
    }
}
