//! Matrix products, dot products and what else every model needs, at the speed of a BLAS and the same for any number of
//! threads.
//!
//! Matrices are row-major slices with their shape beside them. One product is computed by one thread; what runs in
//! parallel are pieces whose bounds do not depend on the number of threads, so that each number is summed in one order.
//! The order does depend on the machine's vector width, and results may differ in the last bits between machines.

use crate::{checksum, random};

/// Rows and columns.
pub(crate) type Shape = (usize, usize);

/// How a factor is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    AsIs,
    Transposed,
}

/// `c = a b`, or `c += a b` if `accumulate`, with `a` and `b` read as their forms say. The shapes are those after
/// transposition: `a` is m x k, `b` is k x n, `c` is m x n.
pub(crate) fn multiply(
    (m, k, n): (usize, usize, usize),
    (a, a_form): (&[f32], Form),
    (b, b_form): (&[f32], Form),
    c: &mut [f32],
    accumulate: bool,
) {
    assert!(a.len() == m * k && b.len() == k * n && c.len() == m * n, "the factors have the shapes told");
    let strides = |form, (rows, columns): Shape| match form {
        Form::AsIs => (columns as isize, 1),
        Form::Transposed => (1, rows as isize),
    };
    let ((a_row, a_column), (b_row, b_column)) = (strides(a_form, (m, k)), strides(b_form, (k, n)));
    let keep = if accumulate { 1.0 } else { 0.0 };
    // SAFETY: with these strides every element of an m x k, k x n or m x n matrix lies inside a slice of that many
    // elements, which was asserted; `c` is borrowed exclusively and overlaps neither factor.
    unsafe {
        matrixmultiply::sgemm(
            m,
            k,
            n,
            1.0,
            a.as_ptr(),
            a_row,
            a_column,
            b.as_ptr(),
            b_row,
            b_column,
            keep,
            c.as_mut_ptr(),
            n as isize,
            1,
        );
    }
}

/// Sixteen sums side by side, which the compiler keeps in vector registers; added up in pairs.
const LANES: usize = 16;

/// The dot product of two vectors of one length.
#[inline]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0f32; LANES];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f32 = a_chunks.remainder().iter().zip(b_chunks.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in a_chunks.zip(b_chunks) {
        for lane in 0..LANES {
            sums[lane] += x[lane] * y[lane];
        }
    }
    sums.iter().sum::<f32>() + rest
}

/// The squared Euclidean distance of two vectors of one length.
#[inline]
pub(crate) fn squared_distance(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0f32; LANES];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f32 = a_chunks.remainder().iter().zip(b_chunks.remainder()).map(|(x, y)| (x - y) * (x - y)).sum();
    for (x, y) in a_chunks.zip(b_chunks) {
        for lane in 0..LANES {
            let difference = x[lane] - y[lane];
            sums[lane] += difference * difference;
        }
    }
    sums.iter().sum::<f32>() + rest
}

/// The dot product of two vectors of bytes, exact.
#[inline]
pub(crate) fn dot_int8(a: &[i8], b: &[i8]) -> i32 {
    a.iter().zip(b).map(|(&x, &y)| i32::from(x) * i32::from(y)).sum()
}

/// `y += factor x`.
#[inline]
pub(crate) fn add_scaled(y: &mut [f32], factor: f32, x: &[f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += factor * x;
    }
}

/// Negative numbers become 0.
pub(crate) fn relu(numbers: &mut [f32]) {
    for number in numbers {
        *number = number.max(0.0);
    }
}

/// Scores become shares that sum to 1. Scores of minus infinity get none.
pub(crate) fn softmax(scores: &mut [f32]) {
    let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for score in scores.iter_mut() {
        *score = (*score - largest).exp();
        sum += *score;
    }
    for score in scores {
        *score /= sum;
    }
}

/// One over one plus e to the minus x.
#[inline]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// Fills with normal numbers of that deviation: number `i` depends on the seed and `i` alone.
pub(crate) fn fill_normal(numbers: &mut [f32], seed: u64, deviation: f32) {
    for (number, i) in numbers.iter_mut().zip(0..) {
        *number = deviation * random::normal(random::at(seed, i));
    }
}

/// The checksum of the bits of some numbers.
pub(crate) fn checksum(numbers: impl IntoIterator<Item = f32>) -> String {
    checksum::of(numbers.into_iter().map(|number| u64::from(number.to_bits())))
}

/// Whether two vectors are equal but for rounding: for checks against a reference that sums in another order.
#[cfg(test)]
pub(crate) fn close(a: &[f32], b: &[f32], tolerance: f32) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(x, y)| (x - y).abs() <= tolerance * (1.0 + x.abs().max(y.abs())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, seed: u64) -> Vec<f32> {
        let mut numbers = vec![0.0; count];
        fill_normal(&mut numbers, seed, 1.0);
        numbers
    }

    #[test]
    fn products_are_those_of_the_textbook_in_every_form() {
        let (m, k, n) = (5, 7, 3);
        let (a, b) = (numbers(m * k, 1), numbers(k * n, 2));
        let transposed = |x: &[f32], (rows, columns): Shape| -> Vec<f32> {
            (0..columns).flat_map(|c| (0..rows).map(move |r| x[r * columns + c])).collect()
        };
        let mut expected = vec![1.0; m * n];
        for (i, value) in expected.iter_mut().enumerate() {
            *value += (0..k).map(|j| a[i / n * k + j] * b[j * n + i % n]).sum::<f32>();
        }
        let (a_turned, b_turned) = (transposed(&a, (m, k)), transposed(&b, (k, n)));
        for a in [(&a[..], Form::AsIs), (&a_turned, Form::Transposed)] {
            for b in [(&b[..], Form::AsIs), (&b_turned, Form::Transposed)] {
                let mut c = vec![1.0; m * n];
                multiply((m, k, n), a, b, &mut c, true);
                assert!(close(&c, &expected, 1e-5));
                multiply((m, k, n), a, b, &mut c, false);
                assert!(close(&c, &expected.iter().map(|x| x - 1.0).collect::<Vec<_>>(), 1e-5));
            }
        }
    }

    #[test]
    fn vector_products_count_the_remainder_too() {
        let (a, b) = (numbers(37, 1), numbers(37, 2));
        let naive = |f: fn(f32, f32) -> f32| a.iter().zip(&b).map(|(&x, &y)| f(x, y)).sum::<f32>();
        assert!((dot(&a, &b) - naive(|x, y| x * y)).abs() < 1e-4);
        assert!((squared_distance(&a, &b) - naive(|x, y| (x - y) * (x - y))).abs() < 1e-3);
        assert_eq!(dot_int8(&[-128, 127, 3], &[-128, -128, 2]), 128 * 128 - 127 * 128 + 6);
    }

    #[test]
    fn shares_sum_to_one_and_what_is_masked_gets_none() {
        let mut scores = [1000.0, 1001.0, f32::NEG_INFINITY];
        softmax(&mut scores);
        assert!((scores[0] + scores[1] - 1.0).abs() < 1e-6 && scores[2] == 0.0 && scores[1] > 2.0 * scores[0]);
    }
}
