//! Kernels that move data through stages: convolution, video, input pipelines, and several programs at once.

use crate::workload::Workload;

/// The kernels of this family.
pub(crate) static WORKLOADS: &[Workload] = &[];
