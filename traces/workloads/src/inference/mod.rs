//! Kernels of models that are trained or served: embeddings, vectors, transformers, experts.

mod attention_pruned;
mod dlrm;
mod dlrm_model;
mod dlrm_sessions;
mod dlrm_train;
mod dynamic_gnn;
mod early_exit;
mod embedding;
mod gnn_recsys;
mod hnsw;
pub(crate) mod matrix;
mod moe;
mod perceptron;
mod skew;
mod transformer_stream;
pub(crate) mod weights;

use crate::workload::Workload;

/// The kernels of this family.
pub(crate) static WORKLOADS: &[Workload] = &[
    Workload {
        name: "dlrm",
        row: 1,
        system: "DLRM on storage-class memory",
        summary: "recommendation model served: embedding bags and perceptrons, one batch per iteration",
        iterations: 700,
        options: dlrm::OPTIONS,
        run: dlrm::run,
    },
    Workload {
        name: "dlrm-train",
        row: 2,
        system: "Bagpipe; frequency-aware cache (10)",
        summary: "recommendation model trained on batches known ahead, one batch per iteration",
        iterations: 500,
        options: dlrm_train::OPTIONS,
        run: dlrm_train::run,
    },
    Workload {
        name: "dlrm-sessions",
        row: 3,
        system: "RecD",
        summary: "recommendation model on samples of sessions, which repeat features; one batch per iteration",
        iterations: 120,
        options: dlrm_sessions::OPTIONS,
        run: dlrm_sessions::run,
    },
    Workload {
        name: "hnsw",
        row: 4,
        system: "HNSW on computational storage",
        summary: "nearest neighbours by layered graphs: build, then 1000 queries per iteration",
        iterations: 10,
        options: hnsw::OPTIONS,
        run: hnsw::run,
    },
    Workload {
        name: "transformer-stream",
        row: 6,
        system: "DeepSpeed Inference",
        summary: "decoder layers streamed in order, with a cache of keys and values; one token per iteration",
        iterations: 80,
        options: transformer_stream::OPTIONS,
        run: transformer_stream::run,
    },
    Workload {
        name: "attention-pruned",
        row: 8,
        system: "SPRINT",
        summary: "attention that fetches only keys and values that matter; one query of each head per iteration",
        iterations: 150,
        options: attention_pruned::OPTIONS,
        run: attention_pruned::run,
    },
    Workload {
        name: "moe",
        row: 14,
        system: "DeepSpeed-MoE",
        summary: "mixture of experts, two per token, skewed popularity; one batch of tokens per iteration",
        iterations: 70,
        options: moe::OPTIONS,
        run: moe::run,
    },
    Workload {
        name: "early-exit",
        row: 17,
        system: "early-exit caching in DNN services",
        summary: "deep classifier with an exit after each layer; one batch of samples per iteration",
        iterations: 30,
        options: early_exit::OPTIONS,
        run: early_exit::run,
    },
    Workload {
        name: "gnn-recsys",
        row: 11,
        system: "GNN recommenders on Optane",
        summary: "SpMM and SDDMM on a user-item graph, forward and backward; one epoch per iteration",
        iterations: 3,
        options: gnn_recsys::OPTIONS,
        run: gnn_recsys::run,
    },
    Workload {
        name: "dynamic-gnn",
        row: 18,
        system: "PiPAD",
        summary: "training on snapshots of a graph that changes; one snapshot per iteration",
        iterations: 8,
        options: dynamic_gnn::OPTIONS,
        run: dynamic_gnn::run,
    },
];
