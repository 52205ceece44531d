//! Plain access patterns, each of which slows down in slow memory for one reason of its own.

use crate::workload::Workload;

/// The kernels of this family.
pub(crate) static WORKLOADS: &[Workload] = &[];
