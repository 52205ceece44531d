//! What memory this machine has, and how fast it is: detected and measured.
//!
//! Two questions, kept apart because they cost differently and are sure to different degrees:
//!
//! - [`detect`] reads `/proc` and `/sys` below a [`Root`] and touches nothing: nodes with what the firmware says of them,
//!   kernel tiers, DAX devices, swap, file systems, limits. It never fails; what a kernel does not show is absent. A machine
//!   that is not on the desk is a tree of files in a test.
//! - [`measure`] runs for some seconds and needs memory: a chase and streams in the memory of every node, reads and writes
//!   in every directory asked for. It tells how far it is through a callback, which can also stop it, and asks before it
//!   takes memory whether there is enough, so that it does not bring down what else runs.
//!
//! [`memory_kinds`] says between which kinds of memory its nodes leave a choice, and [`missing`] whether what a tier file or
//! a policy names is here at all.
//!
//! Both end in [`tierscope_tiers::Tiers`], in which every figure says whether the firmware stated it or it was measured,
//! and when ([`to_tiers`], [`Measurement`]). [`render_text`] and [`to_json`] show them; the JSON is in `docs/tiers.md`.
//!
//! ```no_run
//! use std::ops::ControlFlow;
//! use tierscope_machine::{Request, Root, detect, measure, render_text, to_tiers, today};
//!
//! let machine = detect(&Root::default());
//! println!("{}", render_text(&machine, &to_tiers(&machine, &today()), &[], 80));
//! let measured = measure(&machine, &Request::default(), &mut |part, what| {
//!     eprintln!("{:3.0} % {what}", part * 100.0);
//!     ControlFlow::Continue(())
//! })?;
//! std::fs::write("here.tiers.toml", measured.tiers.to_toml())?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod convert;
mod date;
mod detect;
mod json;
mod kinds;
mod limits;
mod measure;
mod missing;
mod nodes;
mod render;
mod root;
mod storage;

pub use convert::to_tiers;
pub use date::today;
pub use detect::{Machine, detect};
pub use json::to_json;
pub use kinds::memory_kinds;
pub use limits::{MemoryLimit, memory_limit};
pub use measure::{Failure, MeasureError, Measurement, Progress, Request, measure};
pub use missing::missing;
pub use nodes::{Attributes, Distance, KernelTier, Node, demotion, kernel_tiers, nodes};
pub use render::render_text;
pub use root::{Root, count, members, ranges};
pub use storage::{
    DaxDevice, DeviceKind, Filesystem, SwapArea, Zram, dax_devices, filesystem_of, filesystems, swap_areas,
};
