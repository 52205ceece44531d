//! A tier as timing sees it: nanoseconds and bytes a second turned into ticks.
//!
//! A line takes the unloaded latency of its tier, and before it the time until the tier has a channel free. A tier is [`CHANNELS`]
//! equal channels which together have its bandwidth; reads and writes share them, as on a memory bus. Where a medium moves more
//! than a line at once (Optane's XPLine of 256 bytes: Yang et al., "An Empirical Guide to the Behavior and Use of Scalable
//! Persistent Memory", FAST 2020), the bandwidth is that of the medium and a line outside the device's buffer moves a whole granule.

use super::scale::Scale;
use crate::config::Tier;
use crate::machine::LINE_BYTES;

/// Parts of a tier that work at the same time and share its bandwidth equally. Enough that a request which starts late leaves
/// most of the bandwidth to others; few enough that searching them costs little.
pub(crate) const CHANNELS: usize = 8;

/// Granules a device holds at least, however small it says its buffer is: those it is moving.
const LEAST_GRANULES: u64 = 16;

/// Most granules of a modelled buffer: beyond, it is a cache, which this is not.
const MOST_GRANULES: u64 = 16_384;

/// Lines of writes that a memory controller holds back before it holds up those who evict them: 64, the write pending queue of the
/// controllers that Yang et al. describe.
const PENDING_WRITES: u64 = 64;

/// Longest span, so that sums of a few fit into 32 bits: 2^25 ticks, 380 microseconds on the default machine.
const LONGEST: u32 = 1 << 25;

/// A tier, in ticks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Medium {
    /// Latency of a line that lies next to one read just before, or in the device's buffer.
    pub(crate) near: u32,
    /// Latency of any other.
    pub(crate) far: u32,
    /// Until a line written around the caches is out of the way.
    pub(crate) write: u32,
    /// For how long a channel is busy with reading, and with writing, one granule.
    pub(crate) read_busy: u32,
    pub(crate) write_busy: u32,
    /// How long a write may wait for a channel before it holds up the line that displaced it.
    pub(crate) write_patience: u32,
    /// Binary logarithm of the granule in bytes.
    pub(crate) granule_shift: u32,
    /// Granules in the device's buffer; 0 where the granule is a line, which needs none.
    pub(crate) buffered: usize,
}

impl Medium {
    pub(crate) fn new(tier: &Tier, scale: &Scale) -> Self {
        let ticks = |nanoseconds: f64| (nanoseconds * scale.nanosecond).round().clamp(0.0, f64::from(LONGEST)) as u32;
        let lines = (tier.granule_bytes / LINE_BYTES).max(1) as f64;
        let far = tier.read_latency_ns;
        let sequential = tier.sequential_read_latency_ns.unwrap_or(far);
        // A stream through granules of n lines misses the buffer once in n: its mean is what was measured.
        let near = if lines > 1.0 { ((lines * sequential - far) / (lines - 1.0)).clamp(0.0, far) } else { sequential };
        let busy = |gbs: f64| ticks(tier.granule_bytes as f64 / gbs * CHANNELS as f64).max(1);
        let write_busy = busy(tier.write_bandwidth_gbs);
        let buffered = (tier.write_buffer_bytes / tier.granule_bytes.max(1)).clamp(LEAST_GRANULES, MOST_GRANULES);
        let patience = u64::from(write_busy) * PENDING_WRITES / CHANNELS as u64;
        Self {
            near: ticks(near).max(1),
            far: ticks(far).max(1),
            write: tier.write_latency_ns.map_or(0, ticks),
            read_busy: busy(tier.read_bandwidth_gbs),
            write_busy,
            write_patience: u32::try_from(patience).unwrap_or(LONGEST).min(LONGEST),
            granule_shift: tier.granule_bytes.trailing_zeros(),
            buffered: if tier.granule_bytes > LINE_BYTES { buffered as usize } else { 0 },
        }
    }

    /// By how much the times of a lane can grow at most with one request: its latency, and a read and a write of a granule.
    pub(crate) fn worst(&self) -> u64 {
        u64::from(self.far.max(self.near).max(self.write)) + u64::from(self.read_busy) + u64::from(self.write_busy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Machine;

    pub(crate) fn tier(read_latency_ns: f64, gbs: f64) -> Tier {
        Tier {
            name: "t".into(),
            read_latency_ns,
            sequential_read_latency_ns: None,
            write_latency_ns: None,
            read_bandwidth_gbs: gbs,
            write_bandwidth_gbs: gbs,
            granule_bytes: 64,
            write_buffer_bytes: 0,
        }
    }

    #[test]
    fn nanoseconds_become_ticks_by_the_clock() {
        let scale = Scale::new(&Machine { ghz: 2.0, ..Machine::default() });
        let medium = Medium::new(&tier(100.0, 64.0), &scale);
        // 100 ns are 200 cycles; 64 B at 64 GB/s are 1 ns, of which eight channels work at a time.
        assert_eq!((medium.far, medium.near, medium.read_busy), (200 * 24, 200 * 24, 2 * 24 * 8));
        assert_eq!(medium.buffered, 0);
    }

    #[test]
    fn a_stream_through_optane_has_the_latency_that_was_measured() {
        let scale = Scale::new(&Machine { ghz: 1.0, ..Machine::default() });
        let optane = Tier {
            sequential_read_latency_ns: Some(169.0),
            granule_bytes: 256,
            write_buffer_bytes: 16 << 10,
            ..tier(305.0, 37.6)
        };
        let medium = Medium::new(&optane, &scale);
        assert_eq!(medium.buffered, 64);
        let mean = f64::from(medium.far + 3 * medium.near) / 4.0 / f64::from(scale.cycle);
        assert!((mean - 169.0).abs() < 0.1, "{mean}");
    }

    #[test]
    fn absurd_figures_stay_within_bounds() {
        let scale = Scale::new(&Machine { ghz: 20.0, ..Machine::default() });
        let medium = Medium::new(&Tier { granule_bytes: 1 << 30, ..tier(1e9, 1e-6) }, &scale);
        assert!(medium.worst() <= 3 * u64::from(LONGEST));
    }
}
