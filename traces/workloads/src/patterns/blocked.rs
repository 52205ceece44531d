//! `blocked`: reuse, had and not had.
//!
//! Two computations side by side. A matrix product, in blocks that fit the second-level cache: four bands of 64 rows of
//! `product` per iteration. And sums down 64 columns of `table`, a large matrix stored by rows, as someone writes it
//! who does not think of caches: every element is a line, and a page, of its own. Matrices of the product are square, with
//! 512, 4096, 8192 or 16384 rows by scale; `table` has 1024 columns and 4, 256, 512 or 2048 MiB.
//!
//! Expected order: `table`, then `right`, then `left` and `product`. Nearly all arithmetic, and most accesses, are the
//! product's; but an element of `right` that was fetched is used 64 times, and one of `left` and `product` thousands of
//! times, while a line of `table` is fetched for one number. Whoever counts accesses has the order upside down, and so
//! has a sampler of time without knowledge of misses, which sees where the arithmetic waits for the first-level cache
//! (Tierscope's clock sampler, `small`: `right` 41 %, `product` 38 %, `table` 17 %, `left` 1 % of the samples).
//!
//! Numbers are small and whole, and sums below 2^24: exact in any order, and so the same with any number of threads.

use serde_json::{Map, Value};

use super::{result, size};
use crate::command_line::Settings;
use crate::registry::Registry;
use crate::run::Run;
use crate::shared::for_each_chunk_mut;
use crate::{checksum, random};

/// Rows of a band of the product, and bands of an iteration.
const BAND: usize = 64;
const BANDS: usize = 4;

/// Rows and columns of a block of `right`: 64 KiB.
const BLOCK_ROWS: usize = 64;
const BLOCK_COLUMNS: usize = 256;

/// Columns of `table`, and how far apart those are that are summed in one iteration: a cache line.
const COLUMNS: usize = 1024;
const APART: usize = 16;

/// Runs the workload.
pub(crate) fn run(settings: &Settings, run: &mut Run) -> Map<String, Value> {
    let side = size(settings.scale, [512, 4096, 8192, 16384]);
    let rows = size(settings.scale, [1 << 10, 1 << 16, 1 << 17, 1 << 19]);
    let threads = run.threads();
    let (left, right, mut product, table) = run.phase(c"generate", |run| {
        let registry = &mut run.registry;
        let mut matrices = [
            allocate_left(registry, side * side),
            allocate_right(registry, side * side),
            allocate_table(registry, rows * COLUMNS),
        ];
        for (stream, matrix) in matrices.iter_mut().enumerate() {
            fill(matrix, random::derive(settings.seed, stream as u64), threads);
        }
        let [left, right, table] = matrices;
        (left, right, allocate_product(registry, side * side), table)
    });
    let sums = run.phase(c"kernel", |_| {
        let mut sums = vec![0.0; COLUMNS];
        for iteration in 0..settings.iterations as usize {
            let first = iteration * BANDS * BAND % side;
            let bands = &mut product[first * side..][..BANDS * BAND * side];
            multiply(&left[first * side..], &right, bands, side, threads);
            let offset = iteration % APART;
            for_each_chunk_mut(&mut sums, APART, threads, |column, sums| {
                sums[offset] += sum_down(&table, column + offset);
            });
        }
        sums
    });
    result(checksum::of(product.iter().chain(&sums).map(|number| u64::from(number.to_bits()))))
}

#[inline(never)]
fn allocate_left(registry: &mut Registry, elements: usize) -> Vec<f32> {
    registry.add("left", vec![0.0; elements])
}

#[inline(never)]
fn allocate_right(registry: &mut Registry, elements: usize) -> Vec<f32> {
    registry.add("right", vec![0.0; elements])
}

#[inline(never)]
fn allocate_product(registry: &mut Registry, elements: usize) -> Vec<f32> {
    registry.add("product", vec![0.0; elements])
}

#[inline(never)]
fn allocate_table(registry: &mut Registry, elements: usize) -> Vec<f32> {
    registry.add("table", vec![0.0; elements])
}

/// Whole numbers from -4 to 4, by chance.
fn fill(matrix: &mut [f32], seed: u64, threads: u32) {
    for_each_chunk_mut(matrix, 1 << 14, threads, |start, chunk| {
        for (number, index) in chunk.iter_mut().zip(start..) {
            *number = random::below(random::at(seed, index as u64), 9) as f32 - 4.0;
        }
    });
}

/// The first rows of the product of two square matrices: as many as `bands` has.
fn multiply(left: &[f32], right: &[f32], bands: &mut [f32], side: usize, threads: u32) {
    for_each_chunk_mut(bands, BAND * side, threads, |start, band| {
        band.fill(0.0);
        for column in (0..side).step_by(BLOCK_COLUMNS) {
            for row in (0..side).step_by(BLOCK_ROWS) {
                for (index, target) in band.chunks_mut(side).enumerate() {
                    let factors = &left[start + index * side + row..][..BLOCK_ROWS];
                    add_rows(&mut target[column..][..BLOCK_COLUMNS], factors, &right[row * side + column..], side);
                }
            }
        }
    });
}

/// Adds to `target` the rows of a block, each times its factor: four rows at a time, so that `target` is read and written
/// a quarter as often.
#[inline]
fn add_rows(target: &mut [f32], factors: &[f32], block: &[f32], side: usize) {
    for (quad, factors) in factors.as_chunks::<4>().0.iter().enumerate() {
        let row = |index: usize| &block[(quad * 4 + index) * side..][..target.len()];
        let rows = row(0).iter().zip(row(1)).zip(row(2)).zip(row(3));
        for (target, (((a, b), c), d)) in target.iter_mut().zip(rows) {
            *target += factors[0] * a + factors[1] * b + factors[2] * c + factors[3] * d;
        }
    }
}

/// The sum of a column of a matrix with [`COLUMNS`] of them.
fn sum_down(table: &[f32], column: usize) -> f32 {
    table[column..].iter().step_by(COLUMNS).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_product_is_that_of_the_definition() {
        let side = 512;
        let (mut left, mut right) = (vec![0.0; side * side], vec![0.0; side * side]);
        fill(&mut left, 1, 1);
        fill(&mut right, 2, 2);
        let mut bands = vec![9.0; 3 * BAND * side];
        multiply(&left, &right, &mut bands, side, 2);
        for (index, &found) in bands.iter().enumerate().step_by(37) {
            let (row, column) = (index / side, index % side);
            let expected: f32 = (0..side).map(|k| left[row * side + k] * right[k * side + column]).sum();
            assert_eq!(found, expected, "row {row}, column {column}");
        }
    }

    #[test]
    fn a_column_is_summed_from_top_to_bottom() {
        let table: Vec<f32> = (0..3 * COLUMNS).map(|index| index as f32).collect();
        assert_eq!(sum_down(&table, 5), (5 + COLUMNS + 5 + 2 * COLUMNS + 5) as f32);
    }
}
