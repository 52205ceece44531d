//! `stencil`: neighbours in three dimensions, where the cache decides how often an array is read.
//!
//! Heat in an uneven medium: each inner cell moves towards the mean of its six neighbours, the faster the better it
//! conducts. Two grids take turns, one read and the other written; `conductivity` is only read. Grids have 96, 320, 448 or
//! 768 cells a side, of 4 bytes: 3.4, 125, 343 or 1728 MiB, three of them.
//!
//! Expected order: `grid_a` = `grid_b`, then `conductivity`, close behind. A cell of the grid read is used seven times, but
//! comes from memory once if three planes stay in the cache; the one written is read first and goes back later. In two
//! iterations a grid is moved three times, `conductivity` twice. Whoever counts accesses puts the grids too far ahead; by
//! time, stores being free, all three are equal (Tierscope's clock sampler, `small`: 33, 28 and 34 % of the samples).
//!
//! Each cell is computed by one thread, in one way: the result is the same with any number of threads.

use serde_json::{Map, Value};

use super::{result, size};
use crate::command_line::Settings;
use crate::registry::Registry;
use crate::run::Run;
use crate::shared::for_each_chunk_mut;
use crate::{checksum, random};

/// Runs the workload.
pub(crate) fn run(settings: &Settings, run: &mut Run) -> Map<String, Value> {
    let side = size(settings.scale, [96, 320, 448, 768]);
    let threads = run.threads();
    let cells = side * side * side;
    let (mut now, mut next, conductivity) = run.phase(c"generate", |run| {
        let registry = &mut run.registry;
        let mut arrays = [allocate_grid_a(registry, cells), allocate_conductivity(registry, cells)];
        for (stream, array) in arrays.iter_mut().enumerate() {
            fill(array, random::derive(settings.seed, stream as u64), threads);
        }
        let [grid_a, conductivity] = arrays;
        let mut grid_b = allocate_grid_b(registry, cells);
        // The boundary never changes, and is the same in both.
        grid_b.copy_from_slice(&grid_a);
        (grid_a, grid_b, conductivity)
    });
    run.phase(c"kernel", |_| {
        for _ in 0..settings.iterations {
            sweep(&now, &mut next, &conductivity, side, threads);
            std::mem::swap(&mut now, &mut next);
        }
    });
    result(checksum::of(now.iter().map(|heat| u64::from(heat.to_bits()))))
}

#[inline(never)]
fn allocate_grid_a(registry: &mut Registry, cells: usize) -> Vec<f32> {
    registry.add("grid_a", vec![0.0; cells])
}

#[inline(never)]
fn allocate_grid_b(registry: &mut Registry, cells: usize) -> Vec<f32> {
    registry.add("grid_b", vec![0.0; cells])
}

#[inline(never)]
fn allocate_conductivity(registry: &mut Registry, cells: usize) -> Vec<f32> {
    registry.add("conductivity", vec![0.0; cells])
}

/// Numbers from 0 to 1, by chance.
fn fill(array: &mut [f32], seed: u64, threads: u32) {
    for_each_chunk_mut(array, 1 << 14, threads, |start, chunk| {
        for (number, index) in chunk.iter_mut().zip(start..) {
            *number = random::below(random::at(seed, index as u64), 1 << 20) as f32 / (1 << 20) as f32;
        }
    });
}

/// One step of all inner cells.
fn sweep(now: &[f32], next: &mut [f32], conductivity: &[f32], side: usize, threads: u32) {
    let plane = side * side;
    for_each_chunk_mut(&mut next[plane..(side - 1) * plane], plane, threads, |start, next| {
        for line in 1..side - 1 {
            let first = line * side + 1;
            let here = plane + start + first;
            let line_at = |cell: usize| &now[cell..][..side - 2];
            let around = line_at(here - plane).iter().zip(line_at(here + plane));
            let around = around.zip(line_at(here - side)).zip(line_at(here + side));
            let around = around.zip(line_at(here - 1)).zip(line_at(here + 1));
            let cells = next[first..][..side - 2].iter_mut().zip(line_at(here)).zip(&conductivity[here..]);
            for (((next, now), conductivity), (((((a, b), c), d), e), f)) in cells.zip(around) {
                let mean = (a + b + c + d + e + f) * (1.0 / 6.0);
                *next = now + conductivity * (mean - now);
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, cell by cell.
    fn by_definition(now: &[f32], conductivity: &[f32], side: usize) -> Vec<f32> {
        let at = |x, y, z| (x * side + y) * side + z;
        let mut next = now.to_vec();
        let inner = 1..side - 1;
        for x in inner.clone() {
            for y in inner.clone() {
                for z in inner.clone() {
                    let around = [
                        at(x - 1, y, z),
                        at(x + 1, y, z),
                        at(x, y - 1, z),
                        at(x, y + 1, z),
                        at(x, y, z - 1),
                        at(x, y, z + 1),
                    ];
                    let mean = around.iter().map(|&cell| f64::from(now[cell])).sum::<f64>() / 6.0;
                    let here = f64::from(now[at(x, y, z)]);
                    next[at(x, y, z)] = (here + f64::from(conductivity[at(x, y, z)]) * (mean - here)) as f32;
                }
            }
        }
        next
    }

    #[test]
    fn a_sweep_is_that_of_the_definition_and_keeps_the_boundary() {
        let side = 17;
        let (mut now, mut conductivity) = (vec![0.0; side * side * side], vec![0.0; side * side * side]);
        fill(&mut now, 1, 1);
        fill(&mut conductivity, 2, 1);
        let mut next = now.clone();
        sweep(&now, &mut next, &conductivity, side, 3);
        for (found, expected) in next.iter().zip(by_definition(&now, &conductivity, side)) {
            assert!((found - expected).abs() < 1e-6, "{found} against {expected}");
        }
        assert_eq!((next[0], next[side], next[side * side]), (now[0], now[side], now[side * side]));
    }
}
