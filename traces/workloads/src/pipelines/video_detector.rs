//! Finding things in a mask of the foreground, and telling them apart.
//!
//! Candidates are connected blocks of foreground; each is brought to 32 x 32 pixels and goes through a perceptron of
//! three layers, whose output is a vector of length 1: two crops of one thing have a product near 1. The weights are
//! random; a random projection keeps angles (Johnson and Lindenstrauss), which is all that telling apart needs here.

use super::video_codec::{BLOCK, Format};
use super::video_scene::Area;
use crate::inference::matrix::{dot, fill_normal, relu};
use crate::inference::weights::{Inputs, apply_floats, by_input};
use crate::random;
use crate::registry::Registry;

/// Pixels along a crop's side.
const CROP: usize = 32;

/// Numbers that describe a thing.
pub(super) const FEATURES: usize = 64;

/// Pixels of foreground that make a block part of a thing.
const ENOUGH: u16 = 8;

/// The perceptron, which all cameras share.
#[derive(Debug)]
pub(super) struct Detector {
    layers: [Vec<f32>; 3],
    /// Inputs of each layer, and outputs of the last.
    widths: [usize; 4],
}

impl Detector {
    /// With so many numbers in the first hidden layer, and a quarter of them in the second.
    pub(super) fn new(hidden: usize, seed: u64, registry: &mut Registry) -> Self {
        let widths = [CROP * CROP, hidden, hidden / 4, FEATURES];
        let layers = [0, 1, 2].map(|number| {
            let (inputs, outputs) = (widths[number], widths[number + 1]);
            let mut layer = allocate_detector_weights(registry, number, inputs * outputs);
            fill_normal(&mut layer, random::derive(seed, number as u64), (2.0 / inputs as f32).sqrt());
            layer
        });
        Detector { layers, widths }
    }

    /// The features of each area of a frame.
    pub(super) fn describe(&self, format: Format, frame: &[u8], areas: &[Area]) -> Vec<[f32; FEATURES]> {
        if areas.is_empty() {
            return Vec::new();
        }
        let mut numbers: Vec<f32> = areas.iter().flat_map(|&area| crop(format, frame, area)).collect();
        for (number, layer) in self.layers.iter().enumerate() {
            let mut products = vec![0.0; self.widths[number + 1] * areas.len()];
            apply_floats(layer, &Inputs::floats(&numbers, self.widths[number]), 1, &mut products);
            numbers = by_input(&products, areas.len());
            if number + 1 < self.layers.len() {
                relu(&mut numbers);
            }
        }
        let described = numbers.as_chunks::<FEATURES>().0.iter();
        described.map(|features| features.map(|x| x / (dot(features, features) + 1e-12).sqrt())).collect()
    }
}

/// Nearest pixels, brought to mean 0 and variance 1.
fn crop(format: Format, frame: &[u8], area: Area) -> Vec<f32> {
    let pixels = (0..CROP * CROP).map(|at| {
        let (y, x) = (at / CROP * area.height / CROP, at % CROP * area.width / CROP);
        f32::from(frame[(area.top + y) * format.width + area.left + x])
    });
    let mut pixels: Vec<f32> = pixels.collect();
    let count = pixels.len() as f32;
    let mean = pixels.iter().sum::<f32>() / count;
    pixels.iter_mut().for_each(|pixel| *pixel -= mean);
    let deviation = (dot(&pixels, &pixels) / count + 1.0).sqrt();
    pixels.iter_mut().for_each(|pixel| *pixel /= deviation);
    pixels
}

/// Connected things of at least 16 x 16 pixels, in the order of their first block: `mask` is not 0 at the foreground's
/// pixels, `counts` says how many of those each block has.
pub(super) fn candidates(format: Format, mask: &[u8], counts: &[u16]) -> Vec<Area> {
    let across = format.blocks_across();
    let mut seen = vec![false; counts.len()];
    let mut found = Vec::new();
    for first in 0..counts.len() {
        let mut left = vec![first];
        let mut bounds: Option<[usize; 4]> = None;
        while let Some(block) = left.pop() {
            if seen[block] || counts[block] < ENOUGH {
                continue;
            }
            seen[block] = true;
            let here = pixel_bounds(format, mask, block);
            bounds = Some(
                bounds.map_or(here, |[l, t, r, b]| [l.min(here[0]), t.min(here[1]), r.max(here[2]), b.max(here[3])]),
            );
            let (row, column) = (block / across, block % across);
            left.extend((row > 0).then(|| block - across));
            left.extend((column > 0).then(|| block - 1));
            left.extend((column + 1 < across).then_some(block + 1));
            left.extend((block + across < counts.len()).then_some(block + across));
        }
        let Some([left, top, right, bottom]) = bounds else { continue };
        let (width, height) = (right - left, bottom - top);
        if width >= BLOCK && height >= BLOCK {
            found.push(Area { left, top, width, height });
        }
    }
    found
}

/// Left, top, right and bottom of the foreground in one block, the last two not included.
fn pixel_bounds(format: Format, mask: &[u8], block: usize) -> [usize; 4] {
    let (top, left) = (block / format.blocks_across() * BLOCK, block % format.blocks_across() * BLOCK);
    let mut bounds = [usize::MAX, usize::MAX, 0, 0];
    for y in top..top + BLOCK {
        for x in left..left + BLOCK {
            if mask[y * format.width + x] != 0 {
                let [l, t, r, b] = bounds;
                bounds = [l.min(x), t.min(y), r.max(x + 1), b.max(y + 1)];
            }
        }
    }
    bounds
}

#[inline(never)]
fn allocate_detector_weights(registry: &mut Registry, layer: usize, length: usize) -> Vec<f32> {
    registry.add_numbered("detector_weights", layer, vec![0.0; length])
}

#[cfg(test)]
mod tests {
    use super::super::video_scene::Scene;
    use super::*;

    const FORMAT: Format = Format { width: 320, height: 192 };

    #[test]
    fn connected_foreground_is_found_to_the_pixel() {
        let areas = [
            Area { left: 5, top: 3, width: 70, height: 40 },
            Area { left: 200, top: 100, width: 17, height: 60 },
            // Too small to count.
            Area { left: 100, top: 170, width: 9, height: 9 },
        ];
        let mut mask = vec![0; FORMAT.pixels()];
        let mut counts = vec![0; FORMAT.blocks()];
        for area in areas {
            for (y, x) in (0..area.height).flat_map(|y| (0..area.width).map(move |x| (y, x))) {
                let (y, x) = (area.top + y, area.left + x);
                mask[y * FORMAT.width + x] = 1;
                counts[y / BLOCK * FORMAT.blocks_across() + x / BLOCK] += 1;
            }
        }
        assert_eq!(candidates(FORMAT, &mask, &counts), areas[..2]);
    }

    #[test]
    fn a_thing_looks_like_itself_in_another_place_and_unlike_others() {
        let detector = Detector::new(256, 1, &mut Registry::default());
        let scene = Scene::new(FORMAT, 2, 5);
        let describe = |number: usize| {
            let mut frame = vec![0; FORMAT.pixels()];
            scene.paint(number, &mut frame);
            detector.describe(FORMAT, &frame, &scene.areas(number).collect::<Vec<_>>())
        };
        let (now, later) = (describe(0), describe(6));
        assert!(dot(&now[1], &later[1]) > 0.95, "{}", dot(&now[1], &later[1]));
        assert!(dot(&now[0], &now[1]) < 0.8, "{}", dot(&now[0], &now[1]));
        assert_eq!(detector.describe(FORMAT, &[], &[]), Vec::<[f32; FEATURES]>::new());
    }
}
