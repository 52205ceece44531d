//! The three transforms of F(4x4, 3x3): convolution by Winograd's minimal filtering (Lavin and Gray, CVPR 2016).
//!
//! An output tile of 4 x 4 numbers of a 3 x 3 convolution needs 6 x 6 inputs and, done plainly, 144 multiplications. It
//! is also `A' ((G g G') * (B' d B)) A` with `*` taken element by element, which are 36: the transforms of inputs and
//! outputs hold small whole numbers only, and those of filters `g` are done once. The 36 elements are called taps.
//!
//! Transforms work on [`LANES`] channels at once, side by side in memory, and on whole numbers or floating point alike.

use std::ops::{Add, Mul, Sub};

/// Elements of a transformed tile.
pub(super) const TAPS: usize = SIDE * SIDE;

/// Inputs of a tile along one axis, and outputs.
pub(super) const SIDE: usize = 6;
pub(super) const OUT: usize = 4;

/// Channels transformed at once.
pub(super) const LANES: usize = 16;

/// One number of each of some channels.
pub(super) type Lanes<T> = [T; LANES];

/// What tiles are made of.
pub(super) trait Number:
    Copy + Default + Send + Sync + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + From<i8>
{
}
impl Number for f32 {}
impl Number for i32 {}

/// `B' d B`, in place; both row by row.
pub(super) fn transform_input<T: Number>(tile: &mut [Lanes<T>; TAPS]) {
    let (two, four, five) = (T::from(2), T::from(4), T::from(5));
    each_line(tile, SIDE, |[a, b, c, d, e, f]| {
        let (even, odd) = (e - four * c, d - four * b);
        let (near, far) = (e - c, two * (d - b));
        [four * a - five * c + e, even + odd, even - odd, near + far, near - far, four * b - five * d + f]
    });
}

/// `A' m A`: row by row, with a stride of [`SIDE`], where of rows and columns the first [`OUT`] count.
pub(super) fn transform_output<T: Number>(tile: &mut [Lanes<T>; TAPS]) {
    let (two, four, eight, none) = (T::from(2), T::from(4), T::from(8), T::from(0));
    each_line(tile, OUT, |[a, b, c, d, e, f]| {
        let (sum, difference) = (b + c, b - c);
        let (far_sum, far_difference) = (d + e, d - e);
        [
            a + sum + far_sum,
            difference + two * far_difference,
            sum + four * far_sum,
            difference + eight * far_difference + f,
            none,
            none,
        ]
    });
}

/// Transforms all columns, then as many of the rows as count.
#[inline(always)]
fn each_line<T: Number>(tile: &mut [Lanes<T>; TAPS], rows: usize, line: impl Fn([T; SIDE]) -> [T; SIDE]) {
    let mut apply = |at: [usize; SIDE]| {
        let mut after = [[T::default(); LANES]; SIDE];
        for lane in 0..LANES {
            let numbers = line(at.map(|at| tile[at][lane]));
            for (after, number) in after.iter_mut().zip(numbers) {
                after[lane] = number;
            }
        }
        at.into_iter().zip(after).for_each(|(at, after)| tile[at] = after);
    };
    for column in 0..SIDE {
        apply([0, 1, 2, 3, 4, 5].map(|row| row * SIDE + column));
    }
    for row in 0..rows {
        apply([0, 1, 2, 3, 4, 5].map(|column| row * SIDE + column));
    }
}

/// `G g G'` of a filter, row by row.
pub(super) fn transform_filter(filter: &[f32; 9]) -> [f32; TAPS] {
    let line = |[a, b, c]: [f32; 3]| {
        let (outer, near) = (a + c, a / 24.0 + c / 6.0);
        [a / 4.0, -(outer + b) / 6.0, -(outer - b) / 6.0, near + b / 12.0, near - b / 12.0, c]
    };
    let columns = [0, 1, 2].map(|column| line([filter[column], filter[3 + column], filter[6 + column]]));
    let mut taps = [0.0; TAPS];
    for (row, taps) in taps.chunks_exact_mut(SIDE).enumerate() {
        taps.copy_from_slice(&line(columns.map(|column| column[row])));
    }
    taps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random;

    fn number(seed: u64, at: usize) -> f32 {
        random::normal(random::at(seed, at as u64))
    }

    #[test]
    fn transforms_filter_as_plain_convolution_does() {
        let filter: [f32; 9] = std::array::from_fn(|at| number(1, at));
        let input: [Lanes<f32>; TAPS] =
            std::array::from_fn(|at| std::array::from_fn(|lane| number(2 + lane as u64, at)));
        let taps = transform_filter(&filter);
        let mut tile = input;
        transform_input(&mut tile);
        tile.iter_mut().zip(taps).for_each(|(lanes, tap)| lanes.iter_mut().for_each(|x| *x *= tap));
        transform_output(&mut tile);
        for lane in 0..LANES {
            for (y, x) in (0..OUT).flat_map(|y| (0..OUT).map(move |x| (y, x))) {
                let expected: f32 = (0..9).map(|at| filter[at] * input[(y + at / 3) * SIDE + x + at % 3][lane]).sum();
                let found = tile[y * SIDE + x][lane];
                assert!((found - expected).abs() < 1e-4, "{lane} {y} {x}: {found}, not {expected}");
            }
        }
    }

    #[test]
    fn whole_numbers_are_transformed_exactly() {
        let input: [Lanes<i32>; TAPS] =
            std::array::from_fn(|at| std::array::from_fn(|lane| (number(lane as u64, at) * 30.0) as i32));
        let mut whole = input;
        let mut real = input.map(|lanes| lanes.map(|x| x as f32));
        transform_input(&mut whole);
        transform_input(&mut real);
        assert_eq!(whole.map(|lanes| lanes.map(|x| x as f32)), real);
    }
}
