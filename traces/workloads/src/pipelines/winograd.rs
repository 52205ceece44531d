//! `winograd`: convolutions by Winograd's minimal filtering, for row 15, Winograd with tap-wise quantization.
//!
//! Each iteration is a batch of images through the 3 x 3 convolutions of VGG-16, each followed by ReLU, with maxima of
//! 2 x 2 between stages. A layer transforms its input tile by tile, multiplies tiles and filters tap by tap (36 matrix
//! products), and transforms the products back.
//!
//! Kept: F(4x4, 3x3), whose transformed filters are four times as large as the filters; whole layers of transformed tiles
//! and of products in memory, as libraries without fused kernels have them; in bytes, a power of two for every tap as
//! scale, found on the first image (`scales=layer` has one for all taps, for comparison: see `relative_error`). Left out:
//! the first layer, whose three channels nobody does this way; training of the scales; the accelerator.
//!
//! Sizes: 1 image of 64 x 64 with an eighth to a quarter of the channels, 1 of 224 x 224, 2 and 16 of 448 x 448 by scale:
//! 5, 320, 860 MiB and 5.2 GiB; about a third with bytes.
//!
//! Expected on top: `transformed_filters` of the last two stages, each read once per batch for few tiles; then `tiles`
//! and `products`, written and read once per layer. None by much: a number that is read takes part in dozens of
//! multiplications, everything is read in order, and row 15 says that such networks are bound by arithmetic. Whoever
//! finds an object here that must be in fast memory owes a reason.
//!
//! The result is the same with any number of threads: each number is computed by one thread, in one way.

use serde_json::{Map, Value, json};

use super::winograd_element::{Element, LARGEST};
use super::winograd_tile::{
    LANES, Lanes, Number, OUT, SIDE, TAPS, transform_filter, transform_input, transform_output,
};
use crate::checksum;
use crate::command_line::{Scale, Settings};
use crate::inference::matrix::fill_normal;
use crate::options::{Declared, Values};
use crate::random;
use crate::registry::Registry;
use crate::run::Run;
use crate::shared::on_pieces;

/// Tiles that are multiplied together.
const BLOCK: usize = 64;

/// Convolutions per stage.
const STAGES: [usize; 5] = [1, 2, 3, 3, 3];

/// What can be set.
pub(crate) static OPTIONS: &[Declared] = &[
    Declared {
        name: "arithmetic",
        default: "f32",
        values: Values::OneOf(&["f32", "int8"]),
        help: "what is multiplied: floating point, or bytes",
    },
    Declared {
        name: "scales",
        default: "tap",
        values: Values::OneOf(&["tap", "layer"]),
        help: "with int8: a scale for every tap, or one per layer",
    },
];

/// Activations of a batch: images x side x side x channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shape {
    images: usize,
    side: usize,
    channels: usize,
}

impl Shape {
    fn numbers(self) -> usize {
        self.images * self.side * self.side * self.channels
    }

    /// Tiles along one axis, and of the batch.
    fn across(self) -> usize {
        self.side.div_ceil(OUT)
    }
    fn tiles(self) -> usize {
        self.images * self.across() * self.across()
    }
}

/// One convolution.
#[derive(Debug)]
struct Layer<E> {
    input: Shape,
    outputs: usize,
    /// Tap by tap, outputs x channels.
    filters: Vec<E>,
    /// Whether each tap has scales of its own.
    tap_wise: bool,
    /// By which power of two transformed inputs are divided, and the unit of products, tap by tap.
    shifts: [u32; TAPS],
    units: [f32; TAPS],
    /// The unit of the output's numbers.
    scale: f32,
    threads: u32,
}

/// What all layers share.
#[derive(Debug)]
struct Space<E: Element> {
    tiles: Vec<E>,
    products: Vec<E::Sum>,
}

/// Runs the workload.
pub(crate) fn run(settings: &Settings, run: &mut Run) -> Map<String, Value> {
    match settings.options.text("arithmetic") {
        "int8" => run_with::<i8>(settings, run),
        _ => run_with::<f32>(settings, run),
    }
}

fn run_with<E: Element>(settings: &Settings, run: &mut Run) -> Map<String, Value> {
    let (images, side, channels) = match settings.scale {
        Scale::Tiny => (1, 64, [16, 16, 32, 64, 64]),
        Scale::Small => (1, 224, [64, 128, 256, 512, 512]),
        Scale::Medium => (2, 448, [64, 128, 256, 512, 512]),
        Scale::Large => (16, 448, [64, 128, 256, 512, 512]),
    };
    let shape = Shape { images, side, channels: channels[0] };
    let (seed, threads) = (settings.seed, run.threads());
    let tap_wise = settings.options.text("scales") == "tap";
    let (layers, mut space, mut now, mut next) = run.phase(c"generate", |run| {
        let registry = &mut run.registry;
        let mut layers = layers::<E>(shape, channels, tap_wise, (seed, threads), registry);
        let tiles = layers.iter().map(|layer| layer.space(layer.input.channels)).max().unwrap_or(0);
        let products = layers.iter().map(|layer| layer.space(layer.outputs)).max().unwrap_or(0);
        let mut space =
            Space { tiles: allocate_tiles(registry, tiles), products: allocate_products(registry, products) };
        let numbers = shape.numbers();
        let mut now = allocate_activations(registry, 0, numbers);
        let mut next = allocate_activations(registry, 1, numbers);
        fill_image(&mut now[..numbers], seed);
        calibrate(&mut layers, &mut space, &mut now, &mut next);
        (layers, space, now, next)
    });
    let numbers = run.phase(c"kernel", |_| {
        let mut numbers = 0;
        for image in 0..u64::from(settings.iterations) {
            fill_image(&mut now[..shape.numbers()], random::derive(seed, image));
            numbers = infer(&layers, &mut space, &mut now, &mut next);
        }
        numbers
    });
    let multiplications: usize =
        layers.iter().map(|layer| layer.input.tiles() * TAPS * layer.input.channels * layer.outputs).sum();
    let read: usize = layers.iter().map(|layer| size_of_val(layer.filters.as_slice())).sum();
    let mut result = Map::new();
    result.insert("checksum".into(), json!(checksum::of(now[..numbers].iter().map(|number| number.bits()))));
    result.insert("multiplications_of_batch".into(), json!(multiplications));
    result.insert("multiplications_per_filter_byte".into(), json!(multiplications as f64 / read as f64));
    run.phase(c"measure", |_| {
        let error = relative_error::<E>(tap_wise, seed);
        result.insert("relative_error".into(), json!(error));
    });
    result
}

/// The convolutions of the network.
fn layers<E: Element>(
    mut input: Shape,
    channels: [usize; STAGES.len()],
    tap_wise: bool,
    (seed, threads): (u64, u32),
    registry: &mut Registry,
) -> Vec<Layer<E>> {
    let mut layers = Vec::new();
    for (stage, (count, outputs)) in STAGES.into_iter().zip(channels).enumerate() {
        if stage > 0 {
            input.side /= 2;
        }
        for _ in 0..count {
            let number = layers.len();
            let filters = allocate_transformed_filters(registry, number, TAPS * outputs * input.channels);
            let own = random::derive(seed, 1000 + number as u64);
            layers.push(Layer::new(input, outputs, filters, tap_wise, own, threads));
            input.channels = outputs;
        }
    }
    layers
}

/// A batch through all layers; the result is in `now`. Returns how many numbers it has.
fn infer<E: Element>(layers: &[Layer<E>], space: &mut Space<E>, now: &mut Vec<E>, next: &mut Vec<E>) -> usize {
    let mut numbers = 0;
    for (layer, after) in layers.iter().zip(layers.iter().skip(1).map(Some).chain([None])) {
        let scale = layer.scale;
        layer.run(now, space, next, |value| E::quantize(value, scale));
        numbers = finish(layer, after, now, next);
    }
    numbers
}

/// Between layers: what was written becomes what is read, at half the side if the next layer has that.
fn finish<E: Element>(layer: &Layer<E>, after: Option<&Layer<E>>, now: &mut Vec<E>, next: &mut Vec<E>) -> usize {
    let output = Shape { channels: layer.outputs, ..layer.input };
    match after {
        Some(after) if after.input.side < output.side => {
            largest_of_four(next, output, now);
            after.input.numbers()
        }
        _ => {
            std::mem::swap(now, next);
            output.numbers()
        }
    }
}

/// Finds the scales of all layers on the batch in `now`, which is lost.
fn calibrate<E: Element>(layers: &mut [Layer<E>], space: &mut Space<E>, now: &mut Vec<E>, next: &mut Vec<E>) {
    let mut unit = 1.0 / 32.0;
    for number in 0..layers.len() {
        layers[number].calibrate(unit, now);
        let mut values = vec![0.0f32; layers[number].output_numbers()];
        layers[number].run(now, space, &mut values, |value| value);
        let layer = &mut layers[number];
        layer.scale = power_of_two(values.iter().copied().fold(0.0, f32::max) / LARGEST);
        unit = layer.scale;
        next.iter_mut().zip(values).for_each(|(to, value)| *to = E::quantize(value, unit));
        finish(&layers[number], layers.get(number + 1), now, next);
    }
}

impl<E: Element> Layer<E> {
    /// Random filters of a size that keeps the activations' (He and others, ICCV 2015). In bytes each tap has a unit, a
    /// power of two.
    fn new(input: Shape, outputs: usize, mut filters: Vec<E>, tap_wise: bool, seed: u64, threads: u32) -> Self {
        let channels = input.channels;
        let deviation = (2.0 / (9 * channels) as f32).sqrt();
        let taps_of = |output: usize, channel: usize| {
            let first = ((output * channels + channel) * 9) as u64;
            transform_filter(&std::array::from_fn(|i| deviation * random::normal(random::at(seed, first + i as u64))))
        };
        let pairs = || (0..outputs).flat_map(|output| (0..channels).map(move |channel| (output, channel)));
        let mut largest = [0f32; TAPS];
        for (output, channel) in pairs() {
            largest
                .iter_mut()
                .zip(taps_of(output, channel))
                .for_each(|(largest, tap)| *largest = largest.max(tap.abs()));
        }
        if !tap_wise {
            largest = [largest.into_iter().fold(0.0, f32::max); TAPS];
        }
        let units = largest.map(|largest| power_of_two(largest / LARGEST));
        for (output, channel) in pairs() {
            for ((tap, value), unit) in taps_of(output, channel).into_iter().enumerate().zip(units) {
                filters[(tap * outputs + output) * channels + channel] = E::quantize(value, unit);
            }
        }
        Layer { input, outputs, filters, tap_wise, shifts: [0; TAPS], units, scale: 1.0, threads }
    }

    fn output_numbers(&self) -> usize {
        Shape { channels: self.outputs, ..self.input }.numbers()
    }

    /// Numbers that all tiles take with so many channels.
    fn space(&self, channels: usize) -> usize {
        self.input.tiles() * TAPS * channels
    }

    /// Sets how far transformed inputs are shifted, from those of `input`, whose unit is `unit`.
    fn calibrate(&mut self, unit: f32, input: &[E]) {
        let mut largest = [0f32; TAPS];
        for tile in 0..self.input.tiles() {
            for channel in (0..self.input.channels).step_by(LANES) {
                for (largest, lanes) in largest.iter_mut().zip(self.transformed(input, tile, channel)) {
                    *largest = lanes.into_iter().map(E::magnitude).fold(*largest, f32::max);
                }
            }
        }
        if !self.tap_wise {
            largest = [largest.into_iter().fold(0.0, f32::max); TAPS];
        }
        self.shifts = largest.map(|largest| (largest / LARGEST).max(1.0).log2().ceil() as u32);
        for (units, shift) in self.units.iter_mut().zip(self.shifts) {
            *units *= unit * (1u32 << shift) as f32;
        }
    }

    /// The transformed input of one tile and [`LANES`] channels from `channel`.
    #[inline]
    fn transformed(&self, input: &[E], tile: usize, channel: usize) -> [Lanes<E::Sum>; TAPS] {
        let Shape { side, channels, .. } = self.input;
        let (image, top, left) = self.place(tile);
        let mut numbers = [[E::Sum::default(); LANES]; TAPS];
        for (row, numbers) in numbers.chunks_exact_mut(SIDE).enumerate() {
            // The first row and column of a tile lie outside of its output, and those of an image in a frame of zeros.
            let Some(y) = (top + row).checked_sub(1).filter(|&y| y < side) else { continue };
            for (column, lanes) in numbers.iter_mut().enumerate() {
                let Some(x) = (left + column).checked_sub(1).filter(|&x| x < side) else { continue };
                let first = ((image * side + y) * side + x) * channels + channel;
                let from = &input[first..first + LANES];
                lanes.iter_mut().zip(from).for_each(|(lane, number)| *lane = number.widen());
            }
        }
        transform_input(&mut numbers);
        numbers
    }

    /// Image, row and column of a tile's first output.
    fn place(&self, tile: usize) -> (usize, usize, usize) {
        let across = self.input.across();
        (tile / (across * across), tile / across % across * OUT, tile % across * OUT)
    }

    /// The layer, for a batch: `store` makes what is kept of each output, which is not negative.
    fn run<T: Copy + Send>(
        &self,
        input: &[E],
        space: &mut Space<E>,
        output: &mut [T],
        store: impl Fn(f32) -> T + Sync,
    ) {
        let (channels, outputs, all) = (self.input.channels, self.outputs, self.input.tiles());
        let tiles = &mut space.tiles[..self.space(channels)];
        on_pieces(
            self.threads,
            tiles,
            BLOCK * TAPS * channels,
            || (),
            |(), block, tiles| {
                let count = BLOCK.min(all - block * BLOCK);
                for tile in 0..count {
                    for channel in (0..channels).step_by(LANES) {
                        let numbers = self.transformed(input, block * BLOCK + tile, channel);
                        for (tap, (lanes, shift)) in numbers.into_iter().zip(self.shifts).enumerate() {
                            let to = &mut tiles[(tap * count + tile) * channels + channel..][..LANES];
                            to.iter_mut().zip(lanes).for_each(|(to, lane)| *to = E::narrow(lane, shift));
                        }
                    }
                }
            },
        );
        let tiles = &*tiles;
        let products = &mut space.products[..self.space(outputs)];
        on_pieces(
            self.threads,
            products,
            BLOCK * TAPS * outputs,
            || (),
            |(), block, products| {
                let count = BLOCK.min(all - block * BLOCK);
                let tiles = tiles[block * BLOCK * TAPS * channels..].chunks_exact(count * channels);
                let filters = self.filters.chunks_exact(outputs * channels);
                for ((products, tiles), filters) in products.chunks_exact_mut(count * outputs).zip(tiles).zip(filters) {
                    E::products((count, channels, outputs), tiles, filters, products);
                }
            },
        );
        let products = &*products;
        let side = self.input.side;
        let bands = self.input.images * self.input.across();
        // A band is a row of tiles, which at the bottom of an image may have fewer than four rows.
        let mut left = &mut output[..self.output_numbers()];
        let mut pieces = Vec::new();
        for band in 0..bands {
            let rows = OUT.min(side - band % self.input.across() * OUT);
            let (piece, rest) = left.split_at_mut(rows * side * outputs);
            pieces.push(piece);
            left = rest;
        }
        on_pieces(
            self.threads,
            &mut pieces,
            1,
            || (),
            |(), band, pieces| {
                for tile in band * self.input.across()..(band + 1) * self.input.across() {
                    pieces.iter_mut().for_each(|piece| self.put(products, tile, piece, &store));
                }
            },
        );
    }

    /// Transforms the products of one tile back, into its band of the output.
    fn put<T>(&self, products: &[E::Sum], tile: usize, band: &mut [T], store: &impl Fn(f32) -> T) {
        let (outputs, side) = (self.outputs, self.input.side);
        let (_, _, left) = self.place(tile);
        let block = tile / BLOCK;
        let count = BLOCK.min(self.input.tiles() - block * BLOCK);
        let products = &products[block * BLOCK * TAPS * outputs..];
        for first in (0..outputs).step_by(LANES) {
            let mut numbers = [[0f32; LANES]; TAPS];
            for (tap, (lanes, unit)) in numbers.iter_mut().zip(self.units).enumerate() {
                let from = &products[(tap * count + tile % BLOCK) * outputs + first..][..LANES];
                lanes.iter_mut().zip(from).for_each(|(lane, &sum)| *lane = E::scaled(sum, unit));
            }
            transform_output(&mut numbers);
            for (row, line) in band.chunks_exact_mut(side * outputs).enumerate() {
                for column in 0..OUT.min(side - left) {
                    let to = &mut line[(left + column) * outputs + first..][..LANES];
                    let from = numbers[row * SIDE + column];
                    to.iter_mut().zip(from).for_each(|(to, value)| *to = store(value.max(0.0)));
                }
            }
        }
    }
}

/// The smallest power of two that is not smaller; 1 for 0.
fn power_of_two(number: f32) -> f32 {
    if number > 0.0 { number.log2().ceil().exp2() } else { 1.0 }
}

fn fill_image<E: Element>(image: &mut [E], seed: u64) {
    const STEP: usize = 1024;
    let mut values = [0f32; STEP];
    for (image, number) in image.chunks_mut(STEP).zip(0..) {
        fill_normal(&mut values, random::derive(seed, number), 1.0);
        image.iter_mut().zip(values).for_each(|(to, value)| *to = E::quantize(value, 1.0 / 32.0));
    }
}

/// The largest of every 2 x 2 numbers of a channel. Outputs are not negative, and then bits compare as numbers do.
fn largest_of_four<E: Element>(from: &[E], shape: Shape, to: &mut [E]) {
    let Shape { images, side, channels } = shape;
    let line = side * channels;
    let lines = from[..images * side * line].chunks_exact(2 * line);
    for (to, two) in to.chunks_exact_mut(line / 2).zip(lines) {
        let (upper, lower) = two.split_at(line);
        let squares = upper.chunks_exact(2 * channels).zip(lower.chunks_exact(2 * channels));
        for (to, (upper, lower)) in to.chunks_exact_mut(channels).zip(squares) {
            for (channel, to) in to.iter_mut().enumerate() {
                let four = [upper[channel], upper[channels + channel], lower[channel], lower[channels + channel]];
                *to = four.into_iter().max_by_key(|number| number.bits()).unwrap_or_default();
            }
        }
    }
}

/// How far a layer in `E` is from one in floating point: the root of the mean square difference of their outputs over
/// that of the outputs. Of one layer with 64 channels, on an image of 24 x 24.
fn relative_error<E: Element>(tap_wise: bool, seed: u64) -> f64 {
    let shape = Shape { images: 1, side: 24, channels: 64 };
    let (exact, found) = (one_layer::<f32>(shape, true, seed), one_layer::<E>(shape, tap_wise, seed));
    let square = |numbers: &mut dyn Iterator<Item = f32>| numbers.map(|x| f64::from(x * x)).sum::<f64>();
    let lost = square(&mut exact.iter().zip(&found).map(|(exact, found)| exact - found));
    (lost / square(&mut exact.iter().copied())).sqrt()
}

/// The output of one layer.
fn one_layer<E: Element>(shape: Shape, tap_wise: bool, seed: u64) -> Vec<f32> {
    let mut layer = Layer::<E>::new(shape, 64, vec![E::default(); TAPS * 64 * shape.channels], tap_wise, seed, 1);
    let mut image = vec![E::default(); shape.numbers()];
    fill_image(&mut image, seed);
    layer.calibrate(1.0 / 32.0, &image);
    let mut space = Space {
        tiles: vec![E::default(); layer.space(shape.channels)],
        products: vec![E::Sum::default(); layer.space(64)],
    };
    let mut output = vec![0.0; layer.output_numbers()];
    layer.run(&image, &mut space, &mut output, |value| value);
    output
}

#[inline(never)]
fn allocate_transformed_filters<E: Element>(registry: &mut Registry, layer: usize, length: usize) -> Vec<E> {
    registry.add_numbered("transformed_filters", layer, vec![E::default(); length])
}

#[inline(never)]
fn allocate_tiles<E: Element>(registry: &mut Registry, length: usize) -> Vec<E> {
    registry.add("tiles", vec![E::default(); length])
}

#[inline(never)]
fn allocate_products<T: Number>(registry: &mut Registry, length: usize) -> Vec<T> {
    registry.add("products", vec![T::default(); length])
}

#[inline(never)]
fn allocate_activations<E: Element>(registry: &mut Registry, which: usize, length: usize) -> Vec<E> {
    registry.add_numbered("activations", which, vec![E::default(); length])
}

#[cfg(test)]
mod tests {
    use super::super::super::inference::matrix::close;
    use super::*;

    fn filter(layer: (usize, u64), output: usize, channel: usize) -> [f32; 9] {
        let (channels, seed) = layer;
        let first = ((output * channels + channel) * 9) as u64;
        let deviation = (2.0 / (9 * channels) as f32).sqrt();
        std::array::from_fn(|i| deviation * random::normal(random::at(seed, first + i as u64)))
    }

    /// By the definition of convolution, and ReLU.
    fn direct(input: &[f32], shape: Shape, outputs: usize, seed: u64) -> Vec<f32> {
        let Shape { images, side, channels } = shape;
        let mut result = Vec::new();
        for (image, y, x) in (0..images).flat_map(|i| (0..side).flat_map(move |y| (0..side).map(move |x| (i, y, x)))) {
            for output in 0..outputs {
                let mut sum = 0.0;
                for channel in 0..channels {
                    for (at, weight) in filter((channels, seed), output, channel).into_iter().enumerate() {
                        let (row, column) = (y + at / 3, x + at % 3);
                        if (1..=side).contains(&row) && (1..=side).contains(&column) {
                            let place = (image * side + row - 1) * side + column - 1;
                            sum += weight * input[place * channels + channel];
                        }
                    }
                }
                result.push(sum.max(0.0));
            }
        }
        result
    }

    #[test]
    fn a_layer_is_a_plain_convolution_whatever_the_side_and_the_number_of_threads() {
        for (images, side, threads) in [(1, 4, 1), (2, 6, 3), (1, 37, 2)] {
            let shape = Shape { images, side, channels: 16 };
            let filters = vec![0.0; TAPS * 32 * 16];
            let layer = Layer::new(shape, 32, filters, true, 7, threads);
            let mut image = vec![0.0; shape.numbers()];
            fill_image(&mut image, 3);
            let mut space = Space { tiles: vec![0.0; layer.space(16)], products: vec![0.0; layer.space(32)] };
            let mut output = vec![0.0; layer.output_numbers()];
            layer.run(&image, &mut space, &mut output, |value| value);
            assert!(close(&output, &direct(&image, shape, 32, 7), 1e-4), "{images} {side}");
        }
    }

    #[test]
    fn bytes_lose_little_with_a_scale_per_tap_and_more_with_one_for_all() {
        let (tap_wise, layer_wise) = (relative_error::<i8>(true, 1), relative_error::<i8>(false, 1));
        // What a plain evaluation of both in double precision gives, on other random numbers: 0.18 and 1.56.
        assert!((0.1..0.3).contains(&tap_wise), "{tap_wise}");
        assert!(layer_wise > 4.0 * tap_wise, "{layer_wise} and {tap_wise}");
        assert_eq!(relative_error::<f32>(true, 1), 0.0);
    }

    #[test]
    fn the_largest_of_four_neighbours_is_kept_for_each_channel() {
        let shape = Shape { images: 2, side: 4, channels: 3 };
        let from: Vec<f32> = (0..shape.numbers()).map(|i| random::below(random::at(1, i as u64), 100) as f32).collect();
        let mut to = vec![0.0; shape.numbers() / 4];
        largest_of_four(&from, shape, &mut to);
        for (at, found) in to.into_iter().enumerate() {
            let (channel, x, y, image) = (at % 3, at / 3 % 2, at / 6 % 2, at / 12);
            let number = |dy, dx| from[((image * 4 + 2 * y + dy) * 4 + 2 * x + dx) * 3 + channel];
            assert_eq!(found, number(0, 0).max(number(0, 1)).max(number(1, 0)).max(number(1, 1)));
        }
    }

    #[test]
    fn activations_neither_vanish_nor_leave_the_range_on_the_way_through_the_layers() {
        let shape = Shape { images: 1, side: 32, channels: 16 };
        let mut registry = Registry::default();
        let mut layers = layers::<i8>(shape, [16; 5], true, (1, 1), &mut registry);
        let space = layers[0].space(16);
        let mut space = Space { tiles: vec![0; space], products: vec![0; space] };
        let (mut now, mut next) = (vec![0; shape.numbers()], vec![0; shape.numbers()]);
        fill_image(&mut now, 1);
        calibrate(&mut layers, &mut space, &mut now, &mut next);
        fill_image(&mut now, 2);
        let count = infer(&layers, &mut space, &mut now, &mut next);
        let alive = now[..count].iter().filter(|&&number| number > 4).count();
        let full = now[..count].iter().filter(|&&number| number == 127).count();
        assert!(alive > count / 8 && full < count / 50, "{count} {alive} {full}");
    }
}
