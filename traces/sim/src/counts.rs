//! What is counted, for each object and for the whole run.

use serde::{Deserialize, Serialize};

/// Counts of one object, of what lies in no object, or of all together.
///
/// An access that straddles two lines counts once, and as a miss of a level if either half missed it: the convention of
/// cachegrind (Valgrind User Manual 5.2.2), so that totals can be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Accesses that read.
    pub loads: u64,
    /// Accesses that wrote.
    pub stores: u64,
    /// Accesses that the first-level data cache did not serve.
    pub l1_misses: u64,
    /// Accesses that the second-level cache did not serve; 0 where there is none.
    pub l2_misses: u64,
    /// Reading accesses that the last-level cache did not serve.
    pub llc_load_misses: u64,
    /// Writing accesses that it did not serve.
    pub llc_store_misses: u64,
    /// Accesses whose translation the first-level TLB did not have.
    pub dtlb_misses: u64,
    /// Accesses whose translation took a page walk.
    pub tlb_walks: u64,
    /// Lines prefetched from memory.
    pub prefetched: u64,
    /// Bytes read from memory, by misses and by prefetches.
    pub bytes_read: u64,
    /// Bytes written to memory.
    pub bytes_written: u64,
    /// Cycles in which the oldest operation was a load of it that was not served yet, with all objects in the fast tier. 0
    /// without timing.
    pub stall_cycles: u64,
}

impl Counts {
    /// Loads and stores.
    pub fn accesses(&self) -> u64 {
        self.loads + self.stores
    }

    /// Accesses that the last-level cache did not serve.
    pub fn llc_misses(&self) -> u64 {
        self.llc_load_misses + self.llc_store_misses
    }

    /// Adds the counts of something else.
    pub fn add(&mut self, other: &Self) {
        let Self { loads, stores, l1_misses, l2_misses, llc_load_misses, llc_store_misses, .. } = other;
        self.loads += loads;
        self.stores += stores;
        self.l1_misses += l1_misses;
        self.l2_misses += l2_misses;
        self.llc_load_misses += llc_load_misses;
        self.llc_store_misses += llc_store_misses;
        let Self { dtlb_misses, tlb_walks, prefetched, bytes_read, bytes_written, stall_cycles, .. } = other;
        self.dtlb_misses += dtlb_misses;
        self.tlb_walks += tlb_walks;
        self.prefetched += prefetched;
        self.bytes_read += bytes_read;
        self.bytes_written += bytes_written;
        self.stall_cycles += stall_cycles;
    }
}

/// Counts of the whole run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Totals {
    /// Instructions executed in all, whatever was simulated of them.
    pub instructions: u64,
    /// Instructions among them that are in the counts ([`crate::Detail::Full`]).
    pub counted_instructions: u64,
    /// Executions of blocks that are in the counts.
    pub blocks: u64,
    /// Lines fetched that the first-level instruction cache did not have.
    pub l1i_misses: u64,
    /// Lines fetched that the last-level cache did not have.
    pub llc_fetch_misses: u64,
    /// Copies in other cores' caches that stores made void.
    pub invalidations: u64,
    /// Accesses that straddle two lines.
    pub straddling: u64,
    /// All data accesses, those in no object included.
    pub data: Counts,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_count_is_added() {
        let ones: Counts = serde_json::from_str(
            r#"{"loads":1,"stores":1,"l1_misses":1,"l2_misses":1,"llc_load_misses":1,"llc_store_misses":1,
            "dtlb_misses":1,"tlb_walks":1,"prefetched":1,"bytes_read":1,"bytes_written":1,"stall_cycles":1}"#,
        )
        .unwrap();
        let mut sum = ones;
        sum.add(&ones);
        assert!(!serde_json::to_string(&sum).unwrap().contains(":1"));
        assert_eq!((sum.accesses(), sum.llc_misses()), (4, 4));
    }
}
