//! One camera of `video-analytics`: from its stream to what moves in front of it.

use super::video_codec::{BLOCK, Format, decode, encode};
use super::video_detector::{Detector, FEATURES, candidates};
use super::video_scene::{Area, Scene};
use crate::inference::matrix::{dot, fill_normal};
use crate::random;
use crate::registry::Registry;

/// Decoded frames that are kept.
pub(super) const RING: usize = 16;

/// Every so manieth frame is searched for things; in between, known ones are followed.
pub(super) const EVERY: usize = 4;

/// Frames of the stream, which begins anew at its end.
pub(super) const CLIP: usize = 32;

/// How fast the background learns, and the least variance it believes in, in grey levels squared.
const RATE: f32 = 0.02;
const LEAST_VARIANCE: f32 = 36.0;

/// A pixel is foreground beyond that many standard deviations.
const DEVIATIONS: f32 = 2.5;

/// Descriptions of things seen before.
const GALLERY: usize = 8192;

/// Least product of two descriptions of one thing.
const ALIKE: f32 = 0.9;

/// Searches without a sign of a thing after which it is gone.
const PATIENCE: u32 = 2;

/// How far a thing may go from frame to frame, and samples along the side of what is compared.
const REACH: usize = 4;
const SAMPLES: usize = 16;

/// A thing that is being followed.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Track {
    pub(super) number: u32,
    pub(super) area: Area,
    features: [f32; FEATURES],
    missed: u32,
}

/// What has happened so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) detections: u32,
    pub(super) tracks: u32,
    pub(super) recognised: u32,
    /// Frames by which new things were in sight before they were found.
    pub(super) looked_back: u32,
    pub(super) foreground: u64,
}

/// A camera's memory.
#[derive(Debug)]
pub(super) struct Camera {
    format: Format,
    stream: Vec<u8>,
    /// Where each frame begins in the stream, and its end.
    starts: Vec<usize>,
    ring: Vec<u8>,
    mean: Vec<f32>,
    variance: Vec<f32>,
    mask: Vec<u8>,
    /// Pixels of foreground of each block.
    filled: Vec<u16>,
    gallery: Vec<f32>,
    pub(super) tracks: Vec<Track>,
    pub(super) counts: Counts,
}

impl Camera {
    /// A camera in front of a scene, whose ground it has learnt long ago.
    pub(super) fn new(number: usize, scene: &Scene, format: Format, seed: u64, registry: &mut Registry) -> Self {
        let (mut coded, mut starts) = (Vec::new(), vec![0]);
        let (mut frame, mut before) = (vec![0; format.pixels()], None);
        for at in 0..CLIP {
            scene.paint(at, &mut frame);
            encode(format, &frame, before.as_deref(), &scene.motions(), &mut coded);
            starts.push(coded.len());
            before = Some(frame.clone());
        }
        let mut stream = allocate_stream(registry, number, coded.len());
        stream.copy_from_slice(&coded);
        let pixels = format.pixels();
        let mut mean = allocate_background_mean(registry, number, pixels);
        mean.iter_mut().zip(scene.ground()).for_each(|(mean, &ground)| *mean = f32::from(ground));
        let mut variance = allocate_background_variance(registry, number, pixels);
        variance.fill(LEAST_VARIANCE);
        let mut gallery = allocate_gallery(registry, number, GALLERY * FEATURES);
        fill_normal(&mut gallery, random::derive(seed, number as u64), (FEATURES as f32).powf(-0.5));
        Camera {
            format,
            stream,
            starts,
            ring: allocate_frame_ring(registry, number, RING * pixels),
            mean,
            variance,
            mask: allocate_mask(registry, number, pixels),
            filled: vec![0; format.blocks()],
            gallery,
            tracks: Vec::new(),
            counts: Counts::default(),
        }
    }

    /// Bytes of the stream.
    pub(super) fn stream_bytes(&self) -> usize {
        self.stream.len()
    }

    /// Takes in one frame.
    pub(super) fn step(&mut self, number: usize, detector: &Detector) {
        let pixels = self.format.pixels();
        let (slot, at) = (number % RING, number % CLIP);
        let coded = &self.stream[self.starts[at]..self.starts[at + 1]];
        let (before, frame) = before_and_now(&mut self.ring, pixels, slot);
        decode(self.format, coded, before, frame);
        self.subtract(slot);
        if number.is_multiple_of(EVERY) {
            self.search(number, detector);
        } else {
            self.follow(slot);
        }
    }

    fn frame(&self, slot: usize) -> &[u8] {
        let pixels = self.format.pixels();
        &self.ring[slot % RING * pixels..][..pixels]
    }

    /// Tells the foreground from the background, which learns from what is not foreground: a running Gaussian for each
    /// pixel (Wren and others, PAMI 1997).
    fn subtract(&mut self, slot: usize) {
        let pixels = self.format.pixels();
        let frame = &self.ring[slot * pixels..][..pixels];
        let models = self.mean.iter_mut().zip(&mut self.variance);
        for (((mean, variance), mask), &pixel) in models.zip(&mut self.mask).zip(frame) {
            let difference = f32::from(pixel) - *mean;
            let square = difference * difference;
            let foreground = square > DEVIATIONS * DEVIATIONS * *variance;
            let rate = if foreground { 0.0 } else { RATE };
            *mean += rate * difference;
            *variance = (*variance + rate * (square - *variance)).max(LEAST_VARIANCE);
            *mask = u8::from(foreground);
        }
        self.filled.fill(0);
        let (width, across) = (self.format.width, self.format.blocks_across());
        for (row, line) in self.mask.chunks_exact(width).enumerate() {
            let filled = &mut self.filled[row / BLOCK * across..][..across];
            for (filled, pixels) in filled.iter_mut().zip(line.chunks_exact(BLOCK)) {
                *filled += u16::from(pixels.iter().sum::<u8>());
            }
        }
        self.counts.foreground += self.filled.iter().map(|&filled| u64::from(filled)).sum::<u64>();
    }

    /// Finds all things, and says which of them are known.
    fn search(&mut self, number: usize, detector: &Detector) {
        let areas = candidates(self.format, &self.mask, &self.filled);
        let described = detector.describe(self.format, self.frame(number), &areas);
        self.counts.detections += areas.len() as u32;
        self.tracks.iter_mut().for_each(|track| track.missed += 1);
        for (area, features) in areas.into_iter().zip(described) {
            let likeness = |track: &Track| track.area.overlap(area) + dot(&track.features, &features);
            let free = self.tracks.iter_mut().filter(|track| track.missed > 0 && track.area.overlap(area) > 0.0);
            let best = free.max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
            if let Some(track) = best {
                *track = Track { number: track.number, area, features, missed: 0 };
            } else {
                self.counts.recognised += u32::from(self.recognises(&features));
                self.counts.looked_back += self.look_back(number, area);
                self.tracks.push(Track { number: self.counts.tracks, area, features, missed: 0 });
                self.counts.tracks += 1;
            }
        }
        let gone = self.tracks.extract_if(.., |track| track.missed >= PATIENCE);
        for track in gone {
            let row = track.number as usize % GALLERY;
            self.gallery[row * FEATURES..][..FEATURES].copy_from_slice(&track.features);
        }
    }

    /// Whether a thing was here before.
    fn recognises(&self, features: &[f32; FEATURES]) -> bool {
        let best = self.gallery.chunks_exact(FEATURES).map(|row| dot(row, features)).fold(0.0, f32::max);
        best > ALIKE
    }

    /// For how many frames, of those kept, there has been something in an area.
    fn look_back(&self, number: usize, area: Area) -> u32 {
        let oldest = number.saturating_sub(RING - 1);
        let occupied = (oldest..number).rev().take_while(|&earlier| {
            let frame = self.frame(earlier);
            let differs =
                samples(self.format, area).filter(|&at| (f32::from(frame[at]) - self.mean[at]).abs() > 15.0).count();
            differs > SAMPLES * SAMPLES / 4
        });
        occupied.count() as u32
    }

    /// Moves each track to where its thing is now: to the displacement by which the frame before fits best.
    fn follow(&mut self, slot: usize) {
        let (format, pixels) = (self.format, self.format.pixels());
        let (before, now) = before_and_now(&mut self.ring, pixels, slot);
        for track in &mut self.tracks {
            let Area { left, top, width, height } = track.area;
            let places = |from: usize, most: usize| from.saturating_sub(REACH)..=(from + REACH).min(most);
            let mut best = (u32::MAX, track.area);
            for top in places(top, format.height - height) {
                for left in places(left, format.width - width) {
                    let area = Area { left, top, width, height };
                    let pairs = samples(format, track.area).zip(samples(format, area));
                    let cost = pairs.map(|(from, to)| u32::from(before[from].abs_diff(now[to]))).sum();
                    best = if cost < best.0 { (cost, area) } else { best };
                }
            }
            track.area = best.1;
        }
    }
}

/// A grid of pixels inside an area.
fn samples(format: Format, area: Area) -> impl Iterator<Item = usize> {
    (0..SAMPLES * SAMPLES).map(move |at| {
        let (y, x) = (at / SAMPLES * area.height / SAMPLES, at % SAMPLES * area.width / SAMPLES);
        (area.top + y) * format.width + area.left + x
    })
}

/// The frame before the one in that slot of the ring, and the slot.
fn before_and_now(ring: &mut [u8], pixels: usize, slot: usize) -> (&[u8], &mut [u8]) {
    if slot == 0 {
        let (now, rest) = ring.split_at_mut(pixels);
        (&rest[rest.len() - pixels..], now)
    } else {
        let (before, now) = ring.split_at_mut(slot * pixels);
        (&before[before.len() - pixels..], &mut now[..pixels])
    }
}

#[inline(never)]
fn allocate_stream(registry: &mut Registry, camera: usize, length: usize) -> Vec<u8> {
    registry.add_numbered("stream", camera, vec![0; length])
}

#[inline(never)]
fn allocate_frame_ring(registry: &mut Registry, camera: usize, length: usize) -> Vec<u8> {
    registry.add_numbered("frame_ring", camera, vec![0; length])
}

#[inline(never)]
fn allocate_background_mean(registry: &mut Registry, camera: usize, length: usize) -> Vec<f32> {
    registry.add_numbered("background_mean", camera, vec![0.0; length])
}

#[inline(never)]
fn allocate_background_variance(registry: &mut Registry, camera: usize, length: usize) -> Vec<f32> {
    registry.add_numbered("background_variance", camera, vec![0.0; length])
}

#[inline(never)]
fn allocate_mask(registry: &mut Registry, camera: usize, length: usize) -> Vec<u8> {
    registry.add_numbered("mask", camera, vec![0; length])
}

#[inline(never)]
fn allocate_gallery(registry: &mut Registry, camera: usize, length: usize) -> Vec<f32> {
    registry.add_numbered("gallery", camera, vec![0.0; length])
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMAT: Format = Format { width: 320, height: 192 };

    fn camera(things: usize, seed: u64) -> (Scene, Camera, Detector) {
        let mut registry = Registry::default();
        let scene = Scene::new(FORMAT, things, seed);
        let camera = Camera::new(0, &scene, FORMAT, 1, &mut registry);
        (scene, camera, Detector::new(256, 1, &mut registry))
    }

    #[test]
    fn the_mask_is_where_things_are_and_the_ring_holds_the_last_frames() {
        let (scene, mut camera, detector) = camera(3, 2);
        for number in 0..20 {
            camera.step(number, &detector);
            let mut frame = vec![0; FORMAT.pixels()];
            scene.paint(number, &mut frame);
            let expected = frame.iter().zip(scene.ground()).map(|(pixel, ground)| u8::from(pixel != ground));
            assert!(camera.mask.iter().copied().eq(expected), "{number}");
        }
        for number in 4..20 {
            let mut frame = vec![0; FORMAT.pixels()];
            scene.paint(number, &mut frame);
            assert!(camera.frame(number) == frame, "{number}");
        }
    }

    #[test]
    fn one_thing_is_one_track_which_stays_with_it() {
        let (scene, mut camera, detector) = camera(1, 3);
        for number in 0..CLIP {
            camera.step(number, &detector);
            let [track] = &camera.tracks[..] else { panic!("{number}: {:?}", camera.tracks) };
            let truth = scene.areas(number).next().unwrap();
            assert_eq!(track.number, 0);
            assert!(track.area.overlap(truth) > 0.75, "{number}: {track:?}, {truth:?}");
        }
        assert_eq!((camera.counts.detections, camera.counts.tracks), (8, 1));
    }

    #[test]
    fn a_thing_that_comes_again_is_recognised_and_one_that_was_in_sight_is_traced_back() {
        let (_, mut camera, detector) = camera(1, 3);
        (0..12).for_each(|number| camera.step(number, &detector));
        let known = camera.tracks[0].clone();
        camera.gallery[..FEATURES].copy_from_slice(&known.features);
        camera.tracks.clear();
        assert_eq!(camera.counts.recognised, 0);
        camera.step(12, &detector);
        assert_eq!((camera.counts.recognised, camera.counts.tracks), (1, 2));
        assert!((1..=12).contains(&camera.counts.looked_back), "{:?}", camera.counts);
    }
}
