//! Kernels that move data through stages: convolution, video, input pipelines, and several programs at once.

mod colocate;
mod image_codec;
mod input_pipeline;
mod video_analytics;
mod video_camera;
mod video_codec;
mod video_detector;
mod video_scene;
mod winograd;
mod winograd_element;
mod winograd_tile;

use crate::workload::Workload;

/// The kernels of this family.
pub(crate) static WORKLOADS: &[Workload] = &[
    Workload {
        name: "winograd",
        row: 15,
        system: "Winograd with tap-wise quantization",
        summary: "convolutions F(4x4, 3x3) in floating point or bytes; one batch of images per iteration",
        iterations: 25,
        options: winograd::OPTIONS,
        run: winograd::run,
    },
    Workload {
        name: "video-analytics",
        row: 13,
        system: "edge video analytics",
        summary: "cameras: decode, background, detection, tracks; one frame of each per iteration",
        iterations: 150,
        options: video_analytics::OPTIONS,
        run: video_analytics::run,
    },
    Workload {
        name: "input-pipeline",
        row: 20,
        system: "Plumber",
        summary: "training images: read, decode, shuffle, batch; one batch per iteration",
        iterations: 100,
        options: input_pipeline::OPTIONS,
        run: input_pipeline::run,
    },
    Workload {
        name: "colocate",
        row: 19,
        system: "co-location on one accelerator",
        summary: "several workloads at once, as processes; a tenth of each one's iterations per iteration",
        iterations: 10,
        options: colocate::OPTIONS,
        run: colocate::run,
    },
];
