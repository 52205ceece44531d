//! What is recorded and simulated for the table: a workload, how large natively, and from which data.
//!
//! **Why two sizes.** Memory matters to a program whose data are many times the last-level cache, and simulating gigabytes takes
//! days. So a program is recorded at a size that is many times this machine's caches, and simulated at its smallest with
//! caches smaller by the same factor: what is compared, parts of the whole, hardly depends on the size as long as the ratio of
//! data to caches is kept (`Shrunk`). First-level caches and TLBs are left as they are: what they hold is small in either.

use crate::examine::rows::{cache_bytes, llc_bytes};
use std::fmt;
use tierscope_traces::Host;

/// A workload that is one process and announces what it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Program {
    /// As `tierscope-workloads list` has it.
    pub(super) name: &'static str,
    /// The mark at which the steady phase begins.
    pub(super) from: &'static str,
}

/// The mark at which a workload that measures its own quality begins to do so.
pub(super) const UNTIL: &str = "measure";

/// All workloads but `colocate`, which is several processes.
pub(super) const PROGRAMS: [Program; 28] = {
    const fn kernel(name: &'static str) -> Program {
        Program { name, from: "kernel" }
    }
    [
        kernel("attention-pruned"),
        kernel("bc"),
        kernel("bfs"),
        kernel("blocked"),
        kernel("btree"),
        kernel("cc"),
        kernel("chase"),
        kernel("dlrm"),
        kernel("dlrm-sessions"),
        kernel("dlrm-train"),
        Program { name: "dynamic-gnn", from: "snapshot" },
        kernel("early-exit"),
        Program { name: "gnn-recsys", from: "forward" },
        kernel("hash-join"),
        kernel("histogram"),
        kernel("hnsw"),
        kernel("input-pipeline"),
        kernel("moe"),
        kernel("pr"),
        kernel("random"),
        kernel("sort"),
        kernel("sssp"),
        kernel("stencil"),
        kernel("stream"),
        kernel("tc"),
        kernel("transformer-stream"),
        kernel("video-analytics"),
        kernel("winograd"),
    ]
};

/// One case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Case {
    pub(super) program: Program,
    /// Size of the native run.
    pub(super) scale: String,
    pub(super) seed: u64,
}

impl Case {
    /// The arguments of the workloads program.
    pub(super) fn arguments(&self, scale: &str) -> Vec<String> {
        [self.program.name, "--scale", scale, "--seed"]
            .map(str::to_owned)
            .into_iter()
            .chain([self.seed.to_string()])
            .collect()
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} seed {}", self.program.name, self.scale, self.seed)
    }
}

/// Caches smaller by the factor by which the program's data are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shrunk {
    pub(super) llc_bytes: u64,
    pub(super) l2_bytes: u64,
}

/// Smaller ones would be smaller than the first level.
const LEAST_L2: u64 = 64 << 10;
const LEAST_LLC: u64 = 256 << 10;
/// What is assumed where the kernel does not say.
const L2: u64 = 1 << 20;

impl Shrunk {
    /// Caches for a program of `small` bytes that stand to them as this machine's stand to `large` bytes; powers of two.
    pub(super) fn new(host: &Host, large: u64, small: u64) -> Self {
        let factor = small as f64 / large.max(1) as f64;
        let shrink = |bytes: u64, least: u64| {
            let wanted = (bytes as f64 * factor).clamp(least as f64, bytes.max(least) as f64);
            (wanted.log2().round().exp2() as u64).max(least)
        };
        let llc_bytes = shrink(llc_bytes(host), LEAST_LLC);
        Self { llc_bytes, l2_bytes: shrink(cache_bytes(host, 2).unwrap_or(L2), LEAST_L2).min(llc_bytes / 2) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tierscope_traces::Cache;

    #[test]
    fn caches_shrink_with_the_data_to_powers_of_two() {
        let cache = |level, bytes| Cache { level, kind: "unified".into(), bytes, ..Cache::default() };
        let host = Host { caches: vec![cache(2, 1 << 20), cache(3, 48 << 20)], ..Host::default() };
        let shrunk = Shrunk::new(&host, 160 << 20, 10 << 20);
        assert_eq!(shrunk, Shrunk { llc_bytes: 4 << 20, l2_bytes: 64 << 10 });
        assert_eq!(Shrunk::new(&host, 1, 10).llc_bytes, 64 << 20);
        assert_eq!(Shrunk::new(&host, 1 << 40, 1), Shrunk { llc_bytes: LEAST_LLC, l2_bytes: LEAST_L2 });
    }

    #[test]
    fn programs_are_in_order_and_each_is_there_once() {
        assert!(PROGRAMS.windows(2).all(|pair| pair[0].name < pair[1].name));
    }
}
