//! `input-pipeline`: what feeds the training of an image classifier, for row 20, Plumber.
//!
//! Each iteration makes one batch. Its records are read, from several shards in turn; decoded; exchanged for examples
//! that a shuffle buffer has held for a while; cropped, mirrored and normalised into a batch, which waits in a queue
//! of batches until the consumer (a sum per example and plane) takes it and frees it.
//!
//! Kept: stages of very different cost per example and per byte, of which the result says seconds, bytes and rate, the
//! measurements that Plumber's analysis starts from; parallelism set for a stage (`decoders`); what was decoded kept
//! for the next epoch if asked for (`cache`), which is Plumber's other remedy; a buffer that each example crosses
//! once, at random; large blocks that live for a few iterations, from one site. Left out: the disk, whose place memory
//! takes, so that `read` is what a page cache gives; entropy coding (see `image_codec`); stages that overlap in time:
//! they take turns here, so that each one's time is its own.
//!
//! Images have 3 planes of 256 x 256 bytes and crops 224 x 224; batches are of 64 (of 16 images of 96 x 96, cropped to
//! 80, at `tiny`). Images and places of the shuffle buffer: 128 and 64, 1024 and 512, 4096 and 3072, 16384 and 12288
//! by scale: 5, 210 MiB, 0.8 and 2.8 GiB; a cache adds 3, 192, 768 MiB and 3 GiB.
//!
//! Expected on top: `batch`, of four bytes a number, written in one stage and read in the next; then `shuffle_buffer`,
//! a byte a number, read and written once per example; with a cache, `cache` beside it. `records` are a tenth of that.
//! Most time is spent on no object at all: decoding is arithmetic on a block that fits the registers.
//!
//! The result is the same with any number of threads, and with or without a cache.

use std::collections::VecDeque;
use std::time::Instant;

use serde_json::{Map, Value, json};

use super::image_codec::Codec;
use crate::checksum;
use crate::command_line::{Scale, Settings};
use crate::options::{Declared, Values};
use crate::random;
use crate::registry::Registry;
use crate::run::Run;
use crate::shared::on_pieces;

/// Colours.
const PLANES: usize = 3;

/// Parts of the data set that are read in turn.
const SHARDS: usize = 4;

/// Stages, in order.
const STAGES: [&str; 5] = ["read", "decode", "shuffle", "batch", "consume"];

/// What can be set.
pub(crate) static OPTIONS: &[Declared] = &[
    Declared {
        name: "cache",
        default: "none",
        values: Values::OneOf(&["none", "decoded"]),
        help: "what is kept for the next epoch",
    },
    Declared {
        name: "decoders",
        default: "0",
        values: Values::Whole { least: 0, most: 1024 },
        help: "threads that decode, whatever --threads says; 0 for as many",
    },
    Declared {
        name: "prefetch",
        default: "2",
        values: Values::Whole { least: 1, most: 64 },
        help: "batches that wait for the consumer",
    },
];

/// Sizes of everything.
#[derive(Debug, Clone, Copy)]
struct Shape {
    images: usize,
    places: usize,
    batch: usize,
    side: usize,
    crop: usize,
}

impl Shape {
    fn image_bytes(self) -> usize {
        PLANES * self.side * self.side
    }

    fn example_numbers(self) -> usize {
        PLANES * self.crop * self.crop
    }
}

/// The pipeline between two batches.
#[derive(Debug)]
struct Pipeline {
    shape: Shape,
    codec: Codec,
    /// All records, image after image, and where each begins.
    records: Vec<u8>,
    starts: Vec<usize>,
    /// Records of a batch as they were read, and where each begins.
    encoded: Vec<u8>,
    /// Images of a batch.
    decoded: Vec<u8>,
    shuffle_buffer: Vec<u8>,
    /// Every image that was decoded before, if that is wanted.
    cache: Option<Vec<u8>>,
    /// Examples read so far, over all epochs.
    read: usize,
    /// Places of the buffer that have been filled.
    filled: usize,
    seconds: [f64; STAGES.len()],
    bytes: [usize; STAGES.len()],
    cache_hits: usize,
    seed: u64,
    threads: u32,
    decoders: u32,
}

/// Runs the workload.
pub(crate) fn run(settings: &Settings, run: &mut Run) -> Map<String, Value> {
    let (images, places, batch, side, crop) = match settings.scale {
        Scale::Tiny => (128, 64, 16, 96, 80),
        Scale::Small => (1024, 512, 64, 256, 224),
        Scale::Medium => (4096, 3072, 64, 256, 224),
        Scale::Large => (16_384, 12_288, 64, 256, 224),
    };
    let shape = Shape { images, places, batch, side, crop };
    let (options, threads) = (&settings.options, run.threads());
    let decoders = match options.whole("decoders") {
        0 => threads,
        decoders => decoders as u32,
    };
    let cached = options.text("cache") == "decoded";
    let mut pipeline = run
        .phase(c"generate", |run| Pipeline::new(shape, cached, settings.seed, (threads, decoders), &mut run.registry));
    run.phase(c"fill", |_| pipeline.fill());
    let sums = run.phase(c"kernel", |run| {
        pipeline.feed(settings.iterations as usize, options.whole("prefetch"), &mut run.registry)
    });
    let examples = (settings.iterations as usize * batch) as f64;
    let rates = pipeline.seconds.map(|seconds| examples / seconds);
    let slowest = STAGES.into_iter().zip(rates).min_by(|(_, a), (_, b)| a.total_cmp(b));
    let stages: Map<_, _> = STAGES
        .into_iter()
        .zip(pipeline.seconds.into_iter().zip(pipeline.bytes).zip(rates))
        .map(|(name, ((seconds, bytes), rate))| {
            (name.to_owned(), json!({ "seconds": seconds, "bytes": bytes, "examples_per_second": rate }))
        })
        .collect();
    let mut result = Map::new();
    result.insert("checksum".into(), json!(checksum::of(sums.into_iter().map(u64::from))));
    result.insert("stages".into(), Value::Object(stages));
    result.insert("bottleneck".into(), json!(slowest.map(|(name, _)| name)));
    result.insert("examples_per_second".into(), json!(examples / pipeline.seconds.iter().sum::<f64>()));
    result.insert("cache_hit_share".into(), json!(pipeline.cache_hits as f64 / examples));
    result.insert("encoded_bytes_of_image".into(), json!(pipeline.records.len() / images));
    result
}

/// Which record is read when: one of each shard in turn.
fn record(read: usize, images: usize) -> usize {
    let at = read % images;
    at % SHARDS * (images / SHARDS) + at / SHARDS
}

impl Pipeline {
    fn new(shape: Shape, cached: bool, seed: u64, (threads, decoders): (u32, u32), registry: &mut Registry) -> Self {
        let codec = Codec::new();
        let mut codes = vec![Vec::new(); shape.images];
        on_pieces(
            threads,
            &mut codes,
            1,
            || vec![0; shape.image_bytes()],
            |planes, image, codes| {
                paint(planes, shape.side, random::derive(seed, image as u64));
                codes.iter_mut().for_each(|code| codec.encode(planes, shape.side, code));
            },
        );
        let mut starts = vec![0];
        let mut end = 0;
        for code in &codes {
            end += code.len();
            starts.push(end);
        }
        let mut records = allocate_records(registry, end);
        for (code, start) in codes.iter().zip(&starts) {
            records[*start..start + code.len()].copy_from_slice(code);
        }
        let largest = codes.iter().map(Vec::len).max().unwrap_or(0);
        Pipeline {
            shape,
            codec,
            records,
            starts,
            encoded: allocate_encoded(registry, shape.batch * largest),
            decoded: allocate_decoded(registry, shape.batch * shape.image_bytes()),
            shuffle_buffer: allocate_shuffle_buffer(registry, shape.places * shape.image_bytes()),
            cache: cached.then(|| allocate_cache(registry, shape.images * shape.image_bytes())),
            read: 0,
            filled: 0,
            seconds: [0.0; STAGES.len()],
            bytes: [0; STAGES.len()],
            cache_hits: 0,
            seed,
            threads,
            decoders,
        }
    }

    /// Fills the shuffle buffer; nothing of it counts.
    fn fill(&mut self) {
        while self.filled < self.shape.places {
            self.read_and_decode();
            for image in self.decoded.chunks_exact(self.shape.image_bytes()) {
                let place = self.filled * self.shape.image_bytes();
                if let Some(place) = self.shuffle_buffer.get_mut(place..place + image.len()) {
                    place.copy_from_slice(image);
                    self.filled += 1;
                }
            }
        }
        (self.seconds, self.bytes, self.cache_hits) = ([0.0; STAGES.len()], [0; STAGES.len()], 0);
    }

    /// Makes and consumes that many batches; returns the sum of each plane of each example, in order.
    fn feed(&mut self, batches: usize, prefetch: usize, registry: &mut Registry) -> Vec<u32> {
        let mut queue = VecDeque::new();
        let mut sums = Vec::new();
        for _ in 0..batches {
            let numbers = self.exchange();
            let mut batch = allocate_batch(registry, self.shape.batch * self.shape.example_numbers());
            self.augment(&numbers, &mut batch);
            queue.push_back(batch);
            if queue.len() == prefetch {
                queue.pop_front().into_iter().for_each(|batch| sums.extend(self.consume(batch, registry)));
            }
        }
        while let Some(batch) = queue.pop_front() {
            sums.extend(self.consume(batch, registry));
        }
        sums
    }

    /// Notes how long a stage has taken, and how many bytes it has made.
    fn done(&mut self, stage: usize, since: Instant, bytes: usize) {
        self.seconds[stage] += since.elapsed().as_secs_f64();
        self.bytes[stage] += bytes;
    }

    /// The first two stages: images of a batch, from records or from the cache.
    fn read_and_decode(&mut self) {
        let Shape { images, batch, side, .. } = self.shape;
        let image_bytes = self.shape.image_bytes();
        let numbers: Vec<usize> = (self.read..self.read + batch).map(|read| record(read, images)).collect();
        // Everything was read once when as many were read as there are.
        let known = |at: usize| self.read + at >= images;
        let start = Instant::now();
        let mut ends = vec![0];
        let mut end = 0;
        for (at, &number) in numbers.iter().enumerate() {
            if self.cache.is_none() || !known(at) {
                let from = &self.records[self.starts[number]..self.starts[number + 1]];
                self.encoded[end..end + from.len()].copy_from_slice(from);
                end += from.len();
            }
            ends.push(end);
        }
        self.done(0, start, end);

        let start = Instant::now();
        let (codec, cache, encoded) = (&self.codec, self.cache.as_deref(), &self.encoded);
        on_pieces(
            self.decoders,
            &mut self.decoded,
            image_bytes,
            || (),
            |(), at, image| match cache.filter(|_| self.read + at >= images) {
                Some(cache) => image.copy_from_slice(&cache[numbers[at] * image_bytes..][..image_bytes]),
                None => codec.decode(&encoded[ends[at]..ends[at + 1]], side, image),
            },
        );
        if let Some(cache) = &mut self.cache {
            for (at, image) in self.decoded.chunks_exact(image_bytes).enumerate() {
                if self.read + at >= images {
                    self.cache_hits += 1;
                } else {
                    cache[numbers[at] * image_bytes..][..image_bytes].copy_from_slice(image);
                }
            }
        }
        self.read += batch;
        self.done(1, start, self.decoded.len());
    }

    /// Exchanges the images of a batch, each for the one at a place of the buffer that is drawn by chance. Returns the
    /// numbers of the draws.
    fn exchange(&mut self) -> Vec<usize> {
        self.read_and_decode();
        let start = Instant::now();
        let image_bytes = self.shape.image_bytes();
        let first = self.read - self.shape.batch;
        let draws = random::derive(self.seed, 0x7368_7566);
        let mut numbers = Vec::new();
        for (image, number) in self.decoded.chunks_exact_mut(image_bytes).zip(first..) {
            let place = random::below(random::at(draws, number as u64), self.shape.places as u32) as usize;
            self.shuffle_buffer[place * image_bytes..][..image_bytes].swap_with_slice(image);
            numbers.push(number);
        }
        self.done(2, start, self.decoded.len());
        numbers
    }

    /// Crops, mirrors and normalises: number `n` of all examples by a draw of its own.
    fn augment(&mut self, numbers: &[usize], batch: &mut [f32]) {
        let start = Instant::now();
        let Shape { side, crop, .. } = self.shape;
        let (image_bytes, draws) = (self.shape.image_bytes(), random::derive(self.seed, 0x6372_6f70));
        let decoded = &self.decoded;
        on_pieces(
            self.threads,
            batch,
            self.shape.example_numbers(),
            || (),
            |(), at, example| {
                let word = random::at(draws, numbers[at] as u64);
                let span = (side - crop + 1) as u32;
                let (top, left) = (random::below(word, span) as usize, random::below(word << 32, span) as usize);
                let image = &decoded[at * image_bytes..][..image_bytes];
                let planes = image.chunks_exact(side * side).zip(example.chunks_exact_mut(crop * crop));
                for (from, to) in planes {
                    let lines = from.chunks_exact(side).skip(top).zip(to.chunks_exact_mut(crop));
                    for (from, to) in lines {
                        let from = &from[left..left + crop];
                        if word & 1 == 0 {
                            to.iter_mut().zip(from).for_each(|(to, &pixel)| *to = normalized(pixel));
                        } else {
                            to.iter_mut().zip(from.iter().rev()).for_each(|(to, &pixel)| *to = normalized(pixel));
                        }
                    }
                }
            },
        );
        self.done(3, start, size_of_val(batch));
    }

    /// The consumer: the sum of each plane of each example, in grey levels. All numbers of a batch are multiples of
    /// 1/64, so that sums are exact in any order.
    fn consume(&mut self, batch: Vec<f32>, registry: &mut Registry) -> Vec<u32> {
        let start = Instant::now();
        let plane = self.shape.crop * self.shape.crop;
        let mut sums = vec![0; self.shape.batch * PLANES];
        on_pieces(
            self.threads,
            &mut sums,
            PLANES,
            || (),
            |(), example, sums| {
                for (sum, plane) in sums.iter_mut().zip(batch.chunks_exact(plane).skip(example * PLANES)) {
                    *sum = plane.iter().map(|&number| grey_level(number)).sum();
                }
            },
        );
        let bytes = size_of_val(batch.as_slice());
        registry.free(batch);
        self.done(4, start, bytes);
        sums
    }
}

/// A grey level about mean 0 and variance 1, and back.
fn normalized(pixel: u8) -> f32 {
    (f32::from(pixel) - 128.0) * (1.0 / 64.0)
}

fn grey_level(number: f32) -> u32 {
    (number * 64.0 + 128.0) as u32
}

/// An image: waves of a few lengths in each plane, and some grain.
fn paint(planes: &mut [u8], side: usize, seed: u64) {
    for (plane, number) in planes.chunks_exact_mut(side * side).zip(0..) {
        let own = random::derive(seed, number);
        let draw = |what| random::unit(random::at(own, what)) as f32;
        let wave = |what: u64, at: usize| {
            (at as f32 * (0.02 + 0.2 * draw(what)) + 7.0 * draw(what + 1)).sin() * (15.0 + 25.0 * draw(what + 2))
        };
        let across: Vec<f32> = (0..side).map(|x| wave(0, x) + wave(3, x)).collect();
        let down: Vec<f32> = (0..side).map(|y| wave(6, y) + wave(9, y)).collect();
        let grain = random::derive(own, 1);
        for (at, pixel) in plane.iter_mut().enumerate() {
            let noise = 6.0 * random::normal(random::at(grain, at as u64));
            *pixel = (128.0 + across[at % side] + down[at / side] + noise) as u8;
        }
    }
}

#[inline(never)]
fn allocate_records(registry: &mut Registry, length: usize) -> Vec<u8> {
    registry.add("records", vec![0; length])
}

#[inline(never)]
fn allocate_encoded(registry: &mut Registry, length: usize) -> Vec<u8> {
    registry.add("encoded", vec![0; length])
}

#[inline(never)]
fn allocate_decoded(registry: &mut Registry, length: usize) -> Vec<u8> {
    registry.add("decoded", vec![0; length])
}

#[inline(never)]
fn allocate_shuffle_buffer(registry: &mut Registry, length: usize) -> Vec<u8> {
    registry.add("shuffle_buffer", vec![0; length])
}

#[inline(never)]
fn allocate_cache(registry: &mut Registry, length: usize) -> Vec<u8> {
    registry.add("cache", vec![0; length])
}

#[inline(never)]
fn allocate_batch(registry: &mut Registry, length: usize) -> Vec<f32> {
    registry.add("batch", vec![0.0; length])
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape { images: 32, places: 16, batch: 8, side: 32, crop: 24 };

    fn pipeline(cached: bool, threads: u32) -> Pipeline {
        let mut pipeline = Pipeline::new(SHAPE, cached, 1, (threads, threads), &mut Registry::default());
        pipeline.fill();
        pipeline
    }

    fn decoded(pipeline: &Pipeline, image: usize) -> Vec<u8> {
        let mut planes = vec![0; SHAPE.image_bytes()];
        let code = &pipeline.records[pipeline.starts[image]..pipeline.starts[image + 1]];
        pipeline.codec.decode(code, SHAPE.side, &mut planes);
        planes
    }

    #[test]
    fn every_image_goes_in_once_an_epoch_and_none_is_lost_in_the_buffer() {
        let mut pipeline = pipeline(false, 1);
        let images: Vec<_> = (0..SHAPE.images).map(|image| decoded(&pipeline, image)).collect();
        let mut seen = vec![0; SHAPE.images];
        let mut look = |bytes: &[u8]| {
            for image in bytes.chunks_exact(SHAPE.image_bytes()) {
                seen[images.iter().position(|known| known == image).unwrap()] += 1;
            }
        };
        // Half an epoch is in the buffer; three and a half follow.
        for _ in 0..14 {
            pipeline.exchange();
            look(&pipeline.decoded);
        }
        look(&pipeline.shuffle_buffer);
        assert!(seen.iter().all(|&count| count == 4), "{seen:?}");
    }

    #[test]
    fn examples_leave_the_buffer_in_another_order_than_they_were_read() {
        let mut pipeline = pipeline(false, 1);
        let images: Vec<_> = (0..SHAPE.images).map(|image| decoded(&pipeline, image)).collect();
        pipeline.exchange();
        let order: Vec<_> = pipeline
            .decoded
            .chunks_exact(SHAPE.image_bytes())
            .map(|image| images.iter().position(|known| known == image).unwrap())
            .collect();
        assert_ne!(order, (0..8).map(|read| record(read, SHAPE.images)).collect::<Vec<_>>());
    }

    #[test]
    fn neither_a_cache_nor_threads_change_what_the_consumer_gets() {
        let sums = |cached, threads| pipeline(cached, threads).feed(10, 2, &mut Registry::default());
        let plain = sums(false, 1);
        assert_eq!(plain.len(), 10 * 8 * 3);
        assert_eq!(plain, sums(false, 3));
        assert_eq!(plain, sums(true, 2));
    }

    #[test]
    fn a_batch_holds_crops_of_the_images() {
        let mut pipeline = pipeline(false, 1);
        let numbers = pipeline.exchange();
        let mut batch = vec![0.0; SHAPE.batch * SHAPE.example_numbers()];
        pipeline.augment(&numbers, &mut batch);
        let (side, crop) = (SHAPE.side, SHAPE.crop);
        let mut ways = [0; 2];
        for (image, example) in pipeline.decoded.chunks(SHAPE.image_bytes()).zip(batch.chunks(SHAPE.example_numbers()))
        {
            let fits = |top: usize, left: usize, mirrored: bool| {
                example.iter().enumerate().all(|(at, &number)| {
                    let (plane, y, x) = (at / (crop * crop), at / crop % crop, at % crop);
                    let x = if mirrored { crop - 1 - x } else { x };
                    u32::from(image[(plane * side + top + y) * side + left + x]) == grey_level(number)
                })
            };
            let places = (0..=side - crop).flat_map(|top| (0..=side - crop).map(move |left| (top, left)));
            let way = places
                .flat_map(|place| [(place, false), (place, true)])
                .find(|&((top, left), mirrored)| fits(top, left, mirrored));
            ways[usize::from(way.unwrap().1)] += 1;
        }
        assert!(ways[0] > 0 && ways[1] > 0, "{ways:?}");
    }

    #[test]
    fn records_of_all_shards_are_read_in_turn_and_each_once() {
        let order: Vec<_> = (0..8).map(|read| record(read, 8)).collect();
        assert_eq!(order, [0, 2, 4, 6, 1, 3, 5, 7]);
    }
}
