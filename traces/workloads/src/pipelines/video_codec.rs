//! A small lossless video codec: what changes from frame to frame is coded, and a decoder reads the frame before.
//!
//! A frame is cut into blocks of 16 x 16 pixels of one byte. Each is coded as one of: the same as in the frame before,
//! with a count of such blocks in a row; a block of the frame before at another place; the pixels themselves. That is
//! how real codecs treat memory: most of a frame is copied from the ring of decoded frames, some of it from displaced
//! places, and little comes from the stream. What they do to save bits beyond that is left out.

use std::ops::Range;

/// Pixels along a block's side.
pub(super) const BLOCK: usize = 16;

const SAME: u8 = 0;
const MOVED: u8 = 1;
const PLAIN: u8 = 2;

/// Width and height of all frames, multiples of [`BLOCK`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Format {
    pub(super) width: usize,
    pub(super) height: usize,
}

impl Format {
    /// Pixels, which are bytes.
    pub(super) fn pixels(self) -> usize {
        self.width * self.height
    }

    /// Blocks of a row of blocks, and of a frame.
    pub(super) fn blocks_across(self) -> usize {
        self.width / BLOCK
    }
    pub(super) fn blocks(self) -> usize {
        self.pixels() / (BLOCK * BLOCK)
    }

    /// Where a block's first pixel lies.
    fn first_pixel(self, block: usize) -> usize {
        block / self.blocks_across() * BLOCK * self.width + block % self.blocks_across() * BLOCK
    }

    fn lines(self, first_pixel: usize) -> impl Iterator<Item = Range<usize>> {
        (0..BLOCK).map(move |line| first_pixel + line * self.width..first_pixel + line * self.width + BLOCK)
    }

    /// Where a block's first pixel lies after it is moved, if all of it stays inside.
    fn moved(self, block: usize, (right, down): (i8, i8)) -> Option<usize> {
        let inside = |from: usize, by: i8, side: usize| {
            from.checked_add_signed(isize::from(by)).filter(|&to| to + BLOCK <= side)
        };
        let left = inside(block % self.blocks_across() * BLOCK, right, self.width)?;
        let top = inside(block / self.blocks_across() * BLOCK, down, self.height)?;
        Some(top * self.width + left)
    }
}

/// Appends `frame` to the stream. `before` is the frame before it, none for the first; `motions` are displacements worth
/// trying, each how far back a thing was.
pub(super) fn encode(format: Format, frame: &[u8], before: Option<&[u8]>, motions: &[(i8, i8)], stream: &mut Vec<u8>) {
    let mut same = 0u8;
    for block in 0..format.blocks() {
        let first = format.first_pixel(block);
        let equals = |from: usize| {
            before.is_some_and(|before| format.lines(first).zip(format.lines(from)).all(|(a, b)| frame[a] == before[b]))
        };
        if equals(first) {
            same += 1;
            if same == u8::MAX {
                stream.extend([SAME, same]);
                same = 0;
            }
            continue;
        }
        if same > 0 {
            stream.extend([SAME, same]);
            same = 0;
        }
        let fits = |motion: &&(i8, i8)| format.moved(block, **motion).is_some_and(equals);
        if let Some((right, down)) = motions.iter().find(fits) {
            stream.extend([MOVED, right.cast_unsigned(), down.cast_unsigned()]);
        } else {
            stream.push(PLAIN);
            format.lines(first).for_each(|line| stream.extend(&frame[line]));
        }
    }
    if same > 0 {
        stream.extend([SAME, same]);
    }
}

/// Decodes one frame from the part of the stream that [`encode`] made for it. `before` is the frame before; of the
/// first frame it is not read.
pub(super) fn decode(format: Format, mut stream: &[u8], before: &[u8], frame: &mut [u8]) {
    let mut block = 0;
    while let Some((&kind, rest)) = stream.split_first() {
        let first = format.first_pixel(block);
        match (kind, rest) {
            (SAME, [count, rest @ ..]) => {
                for block in block..block + usize::from(*count) {
                    let first = format.first_pixel(block);
                    format.lines(first).for_each(|line| frame[line.clone()].copy_from_slice(&before[line]));
                }
                block += usize::from(*count);
                stream = rest;
            }
            (MOVED, [right, down, rest @ ..]) => {
                let from = format.moved(block, (right.cast_signed(), down.cast_signed())).unwrap_or(first);
                let lines = format.lines(first).zip(format.lines(from));
                lines.for_each(|(to, from)| frame[to].copy_from_slice(&before[from]));
                block += 1;
                stream = rest;
            }
            (_, rest) => {
                let (pixels, rest) = rest.split_at(BLOCK * BLOCK);
                let lines = format.lines(first).zip(pixels.chunks_exact(BLOCK));
                lines.for_each(|(to, from)| frame[to].copy_from_slice(from));
                block += 1;
                stream = rest;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random;

    #[test]
    fn frames_are_decoded_as_they_were_and_things_that_move_cost_little() {
        let format = Format { width: 320, height: 64 };
        let ground: Vec<u8> = (0..format.pixels()).map(|i| random::at(1, i as u64) as u8).collect();
        // A thing of 64 x 48 pixels that moves three to the right and one down from frame to frame.
        let frame = |number: usize| {
            let mut frame = ground.clone();
            for (y, x) in (0..48).flat_map(|y| (0..64).map(move |x| (y, x))) {
                frame[(y + number) * 320 + x + 5 + 3 * number] = random::at(2, (y * 64 + x) as u64) as u8;
            }
            frame
        };
        let mut before: Option<Vec<u8>> = None;
        for number in 0..6 {
            let (frame, mut stream) = (frame(number), Vec::new());
            encode(format, &frame, before.as_deref(), &[(1, 0), (-3, -1)], &mut stream);
            let mut decoded = vec![0; format.pixels()];
            decode(format, &stream, before.as_deref().unwrap_or(&[]), &mut decoded);
            assert!(decoded == frame, "{number}");
            match number {
                0 => assert!(stream.len() > format.pixels()),
                _ => assert!(stream.len() < format.pixels() / 3 && stream.contains(&MOVED), "{}", stream.len()),
            }
            before = Some(frame);
        }
    }

    #[test]
    fn a_long_stretch_of_equal_blocks_is_coded_in_several_counts() {
        let format = Format { width: 320, height: 320 };
        let frame = vec![7; format.pixels()];
        let mut stream = Vec::new();
        encode(format, &frame, Some(&frame), &[], &mut stream);
        assert_eq!(stream, [SAME, 255, SAME, 145]);
        let mut decoded = vec![0; format.pixels()];
        decode(format, &stream, &frame, &mut decoded);
        assert!(decoded == frame);
    }
}
