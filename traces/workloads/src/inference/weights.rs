//! The weights of a fully connected layer in 32-bit floating point, or in bytes with a scale per row.
//!
//! In bytes, a row is its numbers divided by the largest over 127, rounded; an input is brought to bytes the same way when
//! it is used; products are summed in whole numbers, exactly, and scaled at the end. Real servers do this to read a
//! quarter of the memory.

use std::ops::Range;

use super::matrix::{dot, dot_int8, fill_normal};
use crate::random;
use crate::shared::on_pieces;

/// Rows a thread works on at a time.
const PIECE: usize = 64;

/// Weights of outputs x inputs.
#[derive(Debug)]
pub(crate) enum Weights {
    Float(Vec<f32>),
    Bytes { bytes: Vec<i8>, scales: Vec<f32> },
}

/// Rows of inputs, brought to bytes where weights are bytes.
#[derive(Debug)]
pub(crate) struct Inputs<'a> {
    rows: &'a [f32],
    length: usize,
    bytes: Vec<i8>,
    scales: Vec<f32>,
}

impl<'a> Inputs<'a> {
    /// Inputs of that length, one after another.
    pub(crate) fn new(rows: &'a [f32], length: usize, weights: &Weights) -> Self {
        let mut inputs = Inputs { rows, length, bytes: Vec::new(), scales: Vec::new() };
        if let Weights::Bytes { .. } = weights {
            inputs.bytes = vec![0; rows.len()];
            let quantized = rows.chunks_exact(length).zip(inputs.bytes.chunks_exact_mut(length));
            inputs.scales = quantized.map(|(row, bytes)| quantize(row, bytes)).collect();
        }
        inputs
    }

    /// Inputs for [`apply_floats`].
    pub(crate) fn floats(rows: &'a [f32], length: usize) -> Self {
        Inputs { rows, length, bytes: Vec::new(), scales: Vec::new() }
    }

    fn count(&self) -> usize {
        self.rows.len() / self.length
    }
}

impl Weights {
    /// Sets normal weights of that deviation, the same in either form but for rounding.
    pub(crate) fn fill(mut self, inputs: usize, deviation: f32, seed: u64) -> Self {
        match &mut self {
            Weights::Float(floats) => {
                for (row, output) in floats.chunks_exact_mut(inputs).zip(0..) {
                    fill_normal(row, random::derive(seed, output), deviation);
                }
            }
            Weights::Bytes { bytes, scales } => {
                let mut row = vec![0.0; inputs];
                for ((bytes, scale), output) in bytes.chunks_exact_mut(inputs).zip(scales).zip(0..) {
                    fill_normal(&mut row, random::derive(seed, output), deviation);
                    *scale = quantize(&row, bytes);
                }
            }
        }
        self
    }

    /// The products of some rows with each of the inputs, in `products[row * inputs + input]`.
    pub(crate) fn apply(&self, rows: Range<usize>, inputs: &Inputs<'_>, threads: u32, products: &mut [f32]) {
        let length = inputs.length;
        let (bytes, scales) = match self {
            Weights::Float(floats) => {
                return apply_floats(&floats[rows.start * length..rows.end * length], inputs, threads, products);
            }
            Weights::Bytes { bytes, scales } => (&bytes[rows.start * length..rows.end * length], &scales[rows]),
        };
        for_each_row(inputs, threads, products, |row, input| {
            let x = &inputs.bytes[input * length..][..length];
            dot_int8(&bytes[row * length..][..length], x) as f32 * (scales[row] * inputs.scales[input])
        });
    }
}

/// The products of weights, an output per row, with each of the inputs, in `products[row * inputs + input]`.
pub(crate) fn apply_floats(weights: &[f32], inputs: &Inputs<'_>, threads: u32, products: &mut [f32]) {
    let length = inputs.length;
    for_each_row(inputs, threads, products, |row, input| {
        dot(&weights[row * length..][..length], &inputs.rows[input * length..][..length])
    });
}

fn for_each_row(
    inputs: &Inputs<'_>,
    threads: u32,
    products: &mut [f32],
    product_of: impl Fn(usize, usize) -> f32 + Sync,
) {
    let count = inputs.count();
    on_pieces(
        threads,
        products,
        PIECE * count,
        || (),
        |(), piece, products| {
            for (row, products) in (piece * PIECE..).zip(products.chunks_exact_mut(count)) {
                for (input, product) in products.iter_mut().enumerate() {
                    *product = product_of(row, input);
                }
            }
        },
    );
}

/// From outputs x inputs to inputs x outputs.
pub(crate) fn by_input(products: &[f32], inputs: usize) -> Vec<f32> {
    (0..inputs).flat_map(|input| products.iter().skip(input).step_by(inputs).copied()).collect()
}

/// Brings a row to bytes and returns their scale.
pub(crate) fn quantize(row: &[f32], bytes: &mut [i8]) -> f32 {
    let largest = row.iter().fold(0f32, |largest, x| largest.max(x.abs()));
    if largest == 0.0 {
        bytes.fill(0);
        return 0.0;
    }
    for (byte, x) in bytes.iter_mut().zip(row) {
        *byte = (x * (127.0 / largest)).round() as i8;
    }
    largest / 127.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn products(weights: &Weights, rows: &[f32], threads: u32) -> Vec<f32> {
        let mut products = vec![0.0; 100 * 3];
        weights.apply(0..100, &Inputs::new(rows, 40, weights), threads, &mut products);
        products
    }

    #[test]
    fn products_are_those_of_plain_loops_in_either_form_with_any_number_of_threads() {
        let mut rows = vec![0.0; 3 * 40];
        fill_normal(&mut rows, 5, 1.0);
        let floats = Weights::Float(vec![0.0; 4000]).fill(40, 0.3, 1);
        let bytes = Weights::Bytes { bytes: vec![0; 4000], scales: vec![0.0; 100] }.fill(40, 0.3, 1);
        for weights in [&floats, &bytes] {
            let found = products(weights, &rows, 1);
            assert_eq!(found, products(weights, &rows, 3));
            for (at, &product) in found.iter().enumerate() {
                let (output, input) = (at / 3, at % 3);
                let weight = |i: usize| match weights {
                    Weights::Float(floats) => floats[output * 40 + i],
                    Weights::Bytes { bytes, scales } => f32::from(bytes[output * 40 + i]) * scales[output],
                };
                let expected: f32 = (0..40).map(|i| weight(i) * rows[input * 40 + i]).sum();
                // Half a step of 1 in 127 of each input, at most, is lost with bytes.
                assert!((product - expected).abs() < 0.1, "{product} {expected}");
            }
        }
    }

    #[test]
    fn bytes_are_within_half_a_step_of_their_numbers() {
        let row = [0.5, -1.0, 0.25, 0.0, 0.999];
        let mut bytes = [0; 5];
        let scale = quantize(&row, &mut bytes);
        assert!(row.iter().zip(bytes).all(|(x, byte)| (x - f32::from(byte) * scale).abs() <= 0.5 * scale + 1e-6));
        assert_eq!((quantize(&[0.0], &mut bytes[..1]), bytes[0]), (0.0, 0));
    }
}
