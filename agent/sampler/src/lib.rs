//! Where a program's memory time goes, seen from outside and without a PMU.
//!
//! Two halves that meet in [`RawSample`]:
//!
//! * [`Sampler`] opens perf_event software events on a process, one per thread and processor, and turns what the
//!   kernel writes into [`Record`]s: clock samples with the user registers, page faults with their address, and the
//!   mappings, names, forks and exits needed to make sense of them.
//! * [`Resolver`] decodes the code a clock sample fell on and says which address the processor was waiting for. A clock
//!   tick says *where the core stalled*; the instruction just before the sampled one is the one that was waited for, and
//!   its operand, evaluated in the sampled registers, is the address.
//!
//! The caller supplies the bytes of the code, the bounds of functions and what it knows of the objects
//! ([`Code`] and a closure): this crate reads neither ELF nor `/proc/PID/maps`.
//!
//! It knows nothing of allocations, sites or symbols, keeps no profile, and works on x86-64 only.

mod decode;
mod perf;

pub use decode::{Access, AccessKind, Code, ProcessCode, Quality, Resolver, Rule};
pub use perf::{
    Kind, Mapping, RawSample, Record, Registers, SampleLosses, Sampler, SamplerConfig, SamplerError, Target,
};
