//! `video-analytics`: several cameras on one small machine, for row 13, video analytics at the edge.
//!
//! Each iteration is one frame of every camera: it is decoded into a ring of frames, compared with a model of the
//! background, and, every fourth time, searched for things; a perceptron describes what is found, and descriptions are
//! compared with those of the tracks at hand and of things seen before. In between, tracks are moved along with their
//! pixels (as Glimpse does, Chen and others, SenSys 2015), and when a thing is new, the ring is searched backwards for
//! when it came.
//!
//! Kept: a decoder that copies from the frame before; a model of 8 bytes for each pixel of one byte, all of it read and
//! written for each frame; cheap filters before an expensive model; one model's weights for all cameras; a ring that is
//! written once per frame and of which little but the last frame is read again. Left out: colour, noise, entropy coding,
//! and any training: the weights are random (see `video_detector`).
//!
//! Cameras and frames: 2 of 320 x 240 pixels, 8 and 20 of 1920 x 1088, 24 of 3840 x 2160, by scale; rings of 16
//! frames: 10, 480 MiB, 1.2 and 5.0 GiB with everything else.
//!
//! Expected on top: `background_mean` and `background_variance`, equal, which is where the bytes go: 16 of 18 moved per
//! pixel. Then `detector_weights`, read whole for each search and shared by all cameras: by the byte the first. The
//! rings are half of all memory; 15 of 16 frames of each are as good as never read.
//!
//! Cameras have nothing in common but the weights, and a thread takes a camera at a time: the result is the same with any
//! number of threads, and more threads than cameras find nothing to do.

use serde_json::{Map, Value, json};

use super::video_camera::{CLIP, Camera};
use super::video_codec::Format;
use super::video_detector::Detector;
use super::video_scene::{Area, Scene};
use crate::checksum;
use crate::command_line::{Scale, Settings};
use crate::options::{Declared, Values};
use crate::random;
use crate::run::Run;
use crate::shared::on_pieces;

/// What can be set.
pub(crate) static OPTIONS: &[Declared] = &[Declared {
    name: "things",
    default: "6",
    values: Values::Whole { least: 0, most: 100 },
    help: "things that move in front of each camera",
}];

/// Runs the workload.
pub(crate) fn run(settings: &Settings, run: &mut Run) -> Map<String, Value> {
    let (cameras, width, height, hidden) = match settings.scale {
        Scale::Tiny => (2, 320, 240, 512),
        Scale::Small => (8, 1920, 1088, 4096),
        Scale::Medium => (20, 1920, 1088, 4096),
        Scale::Large => (24, 3840, 2160, 8192),
    };
    let format = Format { width, height };
    let (seed, threads) = (settings.seed, run.threads());
    let things = settings.options.whole("things");
    let (mut cameras, detector) = run.phase(c"generate", |run| {
        let detector = Detector::new(hidden, random::derive(seed, 0), &mut run.registry);
        let cameras = (0..cameras).map(|number| {
            let own = random::derive(seed, 1 + number as u64);
            Camera::new(number, &Scene::new(format, things, own), format, own, &mut run.registry)
        });
        (cameras.collect::<Vec<_>>(), detector)
    });
    run.phase(c"kernel", |_| {
        for number in 0..settings.iterations as usize {
            on_pieces(
                threads,
                &mut cameras,
                1,
                || (),
                |(), _, cameras| {
                    cameras.iter_mut().for_each(|camera| camera.step(number, &detector));
                },
            );
        }
    });
    let frames = f64::from(settings.iterations) * cameras.len() as f64;
    let sum = |of: fn(&Camera) -> u64| cameras.iter().map(of).sum::<u64>();
    let mut result = Map::new();
    result.insert("checksum".into(), json!(checksum::of(cameras.iter().flat_map(state))));
    result.insert("detections".into(), json!(sum(|camera| camera.counts.detections.into())));
    result.insert("tracks".into(), json!(sum(|camera| camera.counts.tracks.into())));
    result.insert("recognised".into(), json!(sum(|camera| camera.counts.recognised.into())));
    result.insert("looked_back_frames".into(), json!(sum(|camera| camera.counts.looked_back.into())));
    let foreground = sum(|camera| camera.counts.foreground) as f64;
    result.insert("foreground_share".into(), json!(foreground / frames / format.pixels() as f64));
    let coded = sum(|camera| camera.stream_bytes() as u64) as f64 / (CLIP * cameras.len()) as f64;
    result.insert("coded_bytes_of_frame".into(), json!(coded));
    result
}

/// What a camera knows at the end.
fn state(camera: &Camera) -> impl Iterator<Item = u64> {
    let tracks = camera.tracks.iter().flat_map(|track| {
        let Area { left, top, width, height } = track.area;
        [track.number as usize, left, top, width, height].map(|number| number as u64)
    });
    tracks.chain([camera.counts.foreground, camera.counts.detections.into(), camera.counts.recognised.into()])
}
