//! Names of time series in the table `counters` that more than one command knows.
//!
//! Those of the cores' counters have a value for each stretch of the run, at its end: what was counted since the value before, or since
//! the start. A simulation writes them; where only windows were timed, they are of the instructions that were.

/// Cycles in which cores ran, all cores together.
pub const CORE_CYCLES: &str = "core_cycles";
/// Loads that left a core's private caches.
pub const OFFCORE_READS: &str = "offcore_reads";
/// Cycles in which a core had at least one such load outstanding.
pub const OFFCORE_READ_CYCLES: &str = "offcore_read_cycles";
/// Cycles in which a core's oldest instruction waited for a line from memory.
pub const MEMORY_STALL_CYCLES: &str = "memory_stall_cycles";
