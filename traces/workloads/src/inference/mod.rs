//! Kernels of models that are trained or served: embeddings, vectors, transformers, experts.

use crate::workload::Workload;

/// The kernels of this family.
pub(crate) static WORKLOADS: &[Workload] = &[];
