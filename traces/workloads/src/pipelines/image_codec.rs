//! A small transform codec for images, as much work to decode as JPEG without its entropy coder.
//!
//! An image is three planes of bytes. Each block of 8 x 8 is brought to frequencies by the discrete cosine transform,
//! each frequency divided by a step that grows with it, and what is not 0 written in zigzag order: how many zeros come
//! before it, and the number. A block ends with [`END`].

/// Pixels along a block's side.
pub(super) const BLOCK: usize = 8;

const PIXELS: usize = BLOCK * BLOCK;

/// Ends a block; no frequency has so many zeros before it.
const END: u8 = 0xff;

/// One block, row by row.
type Block = [f32; PIXELS];

/// What decoding and encoding need to know beforehand.
#[derive(Debug)]
pub(super) struct Codec {
    /// Row k holds the k-th cosine at the eight pixels, scaled so that the transform is orthonormal.
    cosines: [[f32; BLOCK]; BLOCK],
    /// Places in a block, from low frequencies to high ones.
    zigzag: [usize; PIXELS],
    steps: [f32; PIXELS],
}

impl Codec {
    /// The one codec there is.
    pub(super) fn new() -> Self {
        let cosines = std::array::from_fn(|k| {
            let scale = if k == 0 { (1.0 / BLOCK as f32).sqrt() } else { 0.5 };
            std::array::from_fn(|x| {
                scale * ((2 * x + 1) as f32 * k as f32 * std::f32::consts::PI / (2 * BLOCK) as f32).cos()
            })
        });
        let mut zigzag = std::array::from_fn(|at| at);
        zigzag.sort_by_key(|at| {
            let (row, column) = (at / BLOCK, at % BLOCK);
            let diagonal = row + column;
            (diagonal, if diagonal % 2 == 0 { column } else { row })
        });
        Codec { cosines, zigzag, steps: std::array::from_fn(|at| 12.0 + 4.0 * (at / BLOCK + at % BLOCK) as f32) }
    }

    /// Appends the code of planes that are `side` pixels wide and, one after another, a multiple of [`BLOCK`] high.
    pub(super) fn encode(&self, planes: &[u8], side: usize, code: &mut Vec<u8>) {
        for band in planes.chunks_exact(BLOCK * side) {
            for left in (0..side).step_by(BLOCK) {
                let pixels = std::array::from_fn(|at| f32::from(band[at / BLOCK * side + left + at % BLOCK]) - 128.0);
                // Forwards, the rows of the matrix are those of the transform.
                let frequencies = transform(&self.cosines, &pixels);
                let mut zeros = 0;
                for place in self.zigzag {
                    let level = (frequencies[place] / self.steps[place]).round().clamp(-127.0, 127.0) as i8;
                    if level == 0 {
                        zeros += 1;
                    } else {
                        code.extend([zeros, level.cast_unsigned()]);
                        zeros = 0;
                    }
                }
                code.push(END);
            }
        }
    }

    /// Decodes what [`Codec::encode`] has written, into as many planes.
    pub(super) fn decode(&self, mut code: &[u8], side: usize, planes: &mut [u8]) {
        let back: [[f32; BLOCK]; BLOCK] = std::array::from_fn(|x| std::array::from_fn(|k| self.cosines[k][x]));
        for band in planes.chunks_exact_mut(BLOCK * side) {
            for left in (0..side).step_by(BLOCK) {
                let mut frequencies = [0.0; PIXELS];
                let mut next = 0;
                while let [zeros, level, rest @ ..] = code {
                    if *zeros == END {
                        break;
                    }
                    next += usize::from(*zeros);
                    let Some(&place) = self.zigzag.get(next) else { break };
                    frequencies[place] = f32::from(level.cast_signed()) * self.steps[place];
                    next += 1;
                    code = rest;
                }
                code = code.get(1..).unwrap_or_default();
                let pixels = transform(&back, &frequencies);
                for (line, pixels) in band.chunks_exact_mut(side).zip(pixels.chunks_exact(BLOCK)) {
                    let line = &mut line[left..left + BLOCK];
                    line.iter_mut().zip(pixels).for_each(|(to, pixel)| *to = (pixel + 128.5) as u8);
                }
            }
        }
    }
}

/// `m b m'`.
fn transform(m: &[[f32; BLOCK]; BLOCK], block: &Block) -> Block {
    let mut half = [0.0; PIXELS];
    for (to, weights) in half.chunks_exact_mut(BLOCK).zip(m) {
        for (weight, from) in weights.iter().zip(block.chunks_exact(BLOCK)) {
            to.iter_mut().zip(from).for_each(|(to, from)| *to += weight * from);
        }
    }
    // Of the transposed matrix row k is what the k-th number of a row spreads to.
    let across: [[f32; BLOCK]; BLOCK] = std::array::from_fn(|k| std::array::from_fn(|x| m[x][k]));
    let mut whole = [0.0; PIXELS];
    for (to, from) in whole.chunks_exact_mut(BLOCK).zip(half.chunks_exact(BLOCK)) {
        for (number, weights) in from.iter().zip(&across) {
            to.iter_mut().zip(weights).for_each(|(to, weight)| *to += number * weight);
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random;

    #[test]
    fn the_transform_is_that_of_the_definition_and_its_own_inverse_turned() {
        let codec = Codec::new();
        let block: Block = std::array::from_fn(|at| random::normal(random::at(1, at as u64)));
        let found = transform(&codec.cosines, &block);
        for (at, found) in found.iter().enumerate() {
            let (u, v) = (at / BLOCK, at % BLOCK);
            let cosine = |k: usize, x: usize| {
                ((2 * x + 1) as f64 * k as f64 * std::f64::consts::PI / 16.0).cos()
                    * if k == 0 { 0.5f64.sqrt() } else { 1.0 }
            };
            let sum: f64 = (0..PIXELS).map(|p| f64::from(block[p]) * cosine(u, p / BLOCK) * cosine(v, p % BLOCK)).sum();
            assert!((f64::from(*found) - sum / 4.0).abs() < 1e-5, "{u} {v}");
        }
        let back = std::array::from_fn(|x| std::array::from_fn(|k| codec.cosines[k][x]));
        assert!(transform(&back, &found).iter().zip(block).all(|(a, b)| (a - b).abs() < 1e-5));
    }

    #[test]
    fn zigzag_goes_along_diagonals() {
        assert_eq!(Codec::new().zigzag[..10], [0, 1, 8, 16, 9, 2, 3, 10, 17, 24]);
    }

    #[test]
    fn a_smooth_image_comes_back_almost_as_it_was_from_a_fraction_of_the_bytes() {
        let side = 64;
        let planes: Vec<u8> = (0..3 * side * side)
            .map(|at| {
                let (x, y) = ((at % side) as f32, (at / side % side) as f32);
                (128.0 + 60.0 * (x / 9.0).sin() + 50.0 * (y / 13.0).cos()) as u8
            })
            .collect();
        let (codec, mut code) = (Codec::new(), Vec::new());
        codec.encode(&planes, side, &mut code);
        let mut found = vec![0; planes.len()];
        codec.decode(&code, side, &mut found);
        assert!(code.len() < planes.len() / 4, "{}", code.len());
        assert!(planes.iter().zip(&found).all(|(a, b)| a.abs_diff(*b) < 24));
        let error: u64 = planes.iter().zip(&found).map(|(a, b)| u64::from(a.abs_diff(*b)).pow(2)).sum();
        assert!(error / (planes.len() as u64) < 25, "{error}");
    }

    #[test]
    fn code_that_ends_early_is_an_image_with_a_grey_rest() {
        let mut found = vec![0; 2 * PIXELS];
        Codec::new().decode(&[END], 2 * BLOCK, &mut found);
        assert!(found.iter().all(|&pixel| pixel == 128));
    }
}
