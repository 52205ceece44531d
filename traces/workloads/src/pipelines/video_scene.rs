//! What cameras see: a ground that does not move, and things that do.
//!
//! Things are rectangles with a texture of their own that move by whole pixels and turn round at the border; later ones
//! hide earlier ones. Where they are in a frame follows from its number, so that a test knows the truth.

use super::video_codec::Format;
use crate::random;

/// A rectangle of pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Area {
    pub(super) left: usize,
    pub(super) top: usize,
    pub(super) width: usize,
    pub(super) height: usize,
}

impl Area {
    /// Pixels that both have, over pixels that either has.
    pub(super) fn overlap(self, other: Area) -> f32 {
        let shared = |a: usize, a_length: usize, b: usize, b_length: usize| {
            (a + a_length).min(b + b_length).saturating_sub(a.max(b))
        };
        let both = shared(self.left, self.width, other.left, other.width)
            * shared(self.top, self.height, other.top, other.height);
        let either = self.width * self.height + other.width * other.height - both;
        if either == 0 { 0.0 } else { both as f32 / either as f32 }
    }
}

/// One thing.
#[derive(Debug, Clone, Copy)]
struct Thing {
    width: usize,
    height: usize,
    start: (usize, usize),
    /// Pixels per frame, to the right and down.
    speed: (i8, i8),
    texture: u64,
}

/// What one camera sees.
#[derive(Debug)]
pub(super) struct Scene {
    format: Format,
    ground: Vec<u8>,
    things: Vec<Thing>,
}

/// Grey levels that the ground has, and those that things have.
const GROUND: (u8, u32) = (40, 48);
const THING: (u8, u32) = (130, 120);

impl Scene {
    /// A scene with that many things, whose sides are an eighth to a quarter of the frame's height.
    pub(super) fn new(format: Format, things: usize, seed: u64) -> Self {
        let ground = (0..format.pixels()).map(|at| grey(GROUND, random::at(seed, at as u64))).collect();
        let things = (0..things as u64).map(|number| {
            let own = random::derive(seed, 1 + number);
            let draw = |what, bound: usize| random::below(random::at(own, what), bound as u32) as usize;
            let side = format.height / 8;
            let (width, height) = (side + draw(0, side), side + draw(1, side));
            let speed = |what| (draw(what, 4) as i8 + 1) * if draw(what + 1, 2) == 0 { 1 } else { -1 };
            Thing {
                width,
                height,
                start: (draw(2, format.width - width), draw(3, format.height - height)),
                speed: (speed(4), speed(6)),
                texture: own,
            }
        });
        Scene { format, things: things.collect(), ground }
    }

    /// Without things.
    pub(super) fn ground(&self) -> &[u8] {
        &self.ground
    }

    /// Paints a frame.
    pub(super) fn paint(&self, number: usize, frame: &mut [u8]) {
        frame.copy_from_slice(&self.ground);
        for (thing, area) in self.things.iter().zip(self.areas(number)) {
            for row in 0..area.height {
                let first = (area.top + row) * self.format.width + area.left;
                for (column, pixel) in frame[first..first + area.width].iter_mut().enumerate() {
                    // Texture in squares of four pixels, which a crop of fewer pixels still shows.
                    let square = (row / 4 * area.width + column / 4) as u64;
                    *pixel = grey(THING, random::at(thing.texture, square));
                }
            }
        }
    }

    /// Where each thing is in a frame.
    pub(super) fn areas(&self, number: usize) -> impl Iterator<Item = Area> {
        self.things.iter().map(move |thing| {
            let left = bounce(thing.start.0, thing.speed.0, number, self.format.width - thing.width);
            let top = bounce(thing.start.1, thing.speed.1, number, self.format.height - thing.height);
            Area { left, top, width: thing.width, height: thing.height }
        })
    }

    /// How far back each thing was one frame before, whichever way it moved.
    pub(super) fn motions(&self) -> Vec<(i8, i8)> {
        let ways = |(right, down): (i8, i8)| [(-right, -down), (right, -down), (-right, down), (right, down)];
        self.things.iter().flat_map(|thing| ways(thing.speed)).collect()
    }
}

fn grey((least, range): (u8, u32), word: u64) -> u8 {
    least + random::below(word, range) as u8
}

/// A place from 0 to `most` after that many steps, turning round at both ends.
fn bounce(start: usize, speed: i8, steps: usize, most: usize) -> usize {
    let way = (start as i64 + i64::from(speed) * steps as i64).rem_euclid(2 * most.max(1) as i64) as usize;
    if way <= most { way } else { 2 * most - way }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_turn_round_at_the_border_and_move_by_their_speed() {
        assert_eq!((0..9).map(|steps| bounce(1, 2, steps, 4)).collect::<Vec<_>>(), [1, 3, 3, 1, 1, 3, 3, 1, 1]);
        assert_eq!((0..5).map(|steps| bounce(1, -1, steps, 3)).collect::<Vec<_>>(), [1, 0, 1, 2, 3]);
    }

    #[test]
    fn areas_overlap_by_what_they_share() {
        let area = |left, top| Area { left, top, width: 10, height: 10 };
        assert_eq!(area(0, 0).overlap(area(0, 0)), 1.0);
        assert_eq!(area(0, 0).overlap(area(5, 0)), 50.0 / 150.0);
        assert_eq!(area(0, 0).overlap(area(10, 0)), 0.0);
    }

    #[test]
    fn what_is_painted_differs_from_the_ground_exactly_where_things_are() {
        let format = Format { width: 160, height: 96 };
        let scene = Scene::new(format, 2, 1);
        let mut frame = vec![0; format.pixels()];
        scene.paint(7, &mut frame);
        let areas: Vec<_> = scene.areas(7).collect();
        for (at, (pixel, ground)) in frame.iter().zip(scene.ground()).enumerate() {
            let (x, y) = (at % 160, at / 160);
            let inside = areas.iter().any(|area| {
                (area.left..area.left + area.width).contains(&x) && (area.top..area.top + area.height).contains(&y)
            });
            assert_eq!(inside, pixel != ground, "{x} {y}");
        }
    }
}
