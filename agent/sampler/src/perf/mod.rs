//! The perf_event side: what is opened, what is read back, and what can go wrong.

mod attributes;
mod error;
mod opening;
mod parse;
mod record;
mod sampler;
mod system;

pub use attributes::{Kind, SamplerConfig};
pub use error::SamplerError;
pub use record::{Mapping, RawSample, Record, Registers, SampleLosses};
pub use sampler::{Sampler, Target};
