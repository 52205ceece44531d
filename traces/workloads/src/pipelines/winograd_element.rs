//! What a Winograd layer computes with: 32-bit floating point, or bytes that are scaled tap by tap.
//!
//! In bytes, activations, transformed inputs and transformed filters are bytes, and products whole numbers of 32 bits.
//! The transform of inputs makes numbers up to a hundred times as large, by amounts that differ from tap to tap; so each
//! tap has a scale of its own, a power of two, for inputs a shift.

use super::winograd_tile::Number;
use crate::inference::matrix::{Form, multiply};

/// The largest byte used: the range is symmetric.
pub(super) const LARGEST: f32 = 127.0;

/// An element of activations and of what is multiplied.
pub(super) trait Element: Copy + Default + Send + Sync + std::fmt::Debug {
    /// What transforms and sums are made of.
    type Sum: Number + std::fmt::Debug;

    /// For the transform of inputs.
    fn widen(self) -> Self::Sum;
    /// A transformed input, divided by 2^`shift` and rounded if bytes.
    fn narrow(transformed: Self::Sum, shift: u32) -> Self;
    /// How large a transformed input is.
    fn magnitude(transformed: Self::Sum) -> f32;
    /// The number nearest to `value`, which `scale` is one of.
    fn quantize(value: f32, scale: f32) -> Self;
    /// The number that a sum of products stands for, whose unit is `scale`.
    fn scaled(sum: Self::Sum, scale: f32) -> f32;
    /// `sums = rows filters'`, with `rows` tiles x channels, `filters` outputs x channels, `sums` tiles x outputs.
    fn products(shape: (usize, usize, usize), rows: &[Self], filters: &[Self], sums: &mut [Self::Sum]);
    /// The bits of an activation, for a checksum.
    fn bits(self) -> u64;
}

impl Element for f32 {
    type Sum = f32;

    fn widen(self) -> f32 {
        self
    }
    fn narrow(transformed: f32, _shift: u32) -> f32 {
        transformed
    }
    fn magnitude(transformed: f32) -> f32 {
        transformed.abs()
    }
    fn quantize(value: f32, _scale: f32) -> f32 {
        value
    }
    fn scaled(sum: f32, _scale: f32) -> f32 {
        sum
    }
    fn products((tiles, channels, outputs): (usize, usize, usize), rows: &[f32], filters: &[f32], sums: &mut [f32]) {
        multiply((tiles, channels, outputs), (rows, Form::AsIs), (filters, Form::Transposed), sums, false);
    }
    fn bits(self) -> u64 {
        u64::from(self.to_bits())
    }
}

impl Element for i8 {
    type Sum = i32;

    fn widen(self) -> i32 {
        i32::from(self)
    }
    fn narrow(transformed: i32, shift: u32) -> i8 {
        let half = (1 << shift) >> 1;
        ((transformed + half) >> shift).clamp(-127, 127) as i8
    }
    fn magnitude(transformed: i32) -> f32 {
        transformed.abs() as f32
    }
    fn quantize(value: f32, scale: f32) -> i8 {
        (value / scale).round().clamp(-LARGEST, LARGEST) as i8
    }
    fn scaled(sum: i32, scale: f32) -> f32 {
        sum as f32 * scale
    }
    fn products((_, channels, outputs): (usize, usize, usize), rows: &[i8], filters: &[i8], sums: &mut [i32]) {
        products_of_bytes(channels, outputs, rows, filters, sums);
    }
    fn bits(self) -> u64 {
        self as u8 as u64
    }
}

/// Chooses the widest instructions the machine has; the sums are whole numbers and the same with any.
fn products_of_bytes(channels: usize, outputs: usize, rows: &[i8], filters: &[i8], sums: &mut [i32]) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the machine has the one feature that the function is compiled for.
        return unsafe { products_avx2(channels, outputs, rows, filters, sums) };
    }
    plain_products(channels, outputs, rows, filters, sums);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn products_avx2(channels: usize, outputs: usize, rows: &[i8], filters: &[i8], sums: &mut [i32]) {
    plain_products(channels, outputs, rows, filters, sums);
}

/// Four filters at once, so that a tile's bytes are widened once for four products.
#[inline(always)]
fn plain_products(channels: usize, outputs: usize, rows: &[i8], filters: &[i8], sums: &mut [i32]) {
    const TOGETHER: usize = 4;
    for (four, filters) in filters.chunks(TOGETHER * channels).enumerate() {
        for (row, sums) in rows.chunks_exact(channels).zip(sums.chunks_exact_mut(outputs)) {
            let sums = &mut sums[four * TOGETHER..];
            if let Some((filters, sums)) = filters.get(..TOGETHER * channels).zip(sums.first_chunk_mut::<TOGETHER>()) {
                let (a, rest) = filters.split_at(channels);
                let (b, rest) = rest.split_at(channels);
                let (c, d) = rest.split_at(channels);
                let mut found = [0i32; TOGETHER];
                for ((((x, a), b), c), d) in row.iter().zip(a).zip(b).zip(c).zip(d) {
                    let x = i32::from(*x);
                    found[0] += x * i32::from(*a);
                    found[1] += x * i32::from(*b);
                    found[2] += x * i32::from(*c);
                    found[3] += x * i32::from(*d);
                }
                *sums = found;
            } else {
                for (filter, sum) in filters.chunks_exact(channels).zip(sums) {
                    *sum = row.iter().zip(filter).map(|(&x, &y)| i32::from(x) * i32::from(y)).sum();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random;

    #[test]
    fn products_of_bytes_are_exact_for_any_number_of_filters() {
        for (tiles, channels, outputs) in [(3, 32, 8), (2, 16, 7), (5, 48, 1)] {
            let bytes = |count, seed| -> Vec<i8> { (0..count).map(|i| random::at(seed, i as u64) as i8).collect() };
            let (rows, filters) = (bytes(tiles * channels, 1), bytes(outputs * channels, 2));
            let mut sums = vec![0; tiles * outputs];
            i8::products((tiles, channels, outputs), &rows, &filters, &mut sums);
            for (at, sum) in sums.into_iter().enumerate() {
                let (tile, output) = (at / outputs, at % outputs);
                let expected: i64 = (0..channels)
                    .map(|c| i64::from(rows[tile * channels + c]) * i64::from(filters[output * channels + c]))
                    .sum();
                assert_eq!(i64::from(sum), expected);
            }
        }
    }

    #[test]
    fn a_shift_rounds_to_the_nearest_and_keeps_to_the_range() {
        assert_eq!([7, 8, -8, -9, 5000].map(|x| i8::narrow(x, 4)), [0, 1, 0, -1, 127]);
        assert_eq!([5, -5].map(|x| i8::narrow(x, 0)), [5, -5]);
    }
}
