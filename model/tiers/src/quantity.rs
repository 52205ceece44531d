//! The figures a tier can have, as one table: key, range, and whether it counts bytes.
//!
//! Parser, writer, documentation test and renderers all go through this table, so a figure cannot be known to one of them
//! and not to another.

/// A figure of a tier. Its name in a file ends in its unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Quantity {
    /// Nanoseconds of a random read that the next one waits for (a pointer chase), with nothing else running.
    ReadLatencyNs,
    /// The same while the tier's read bandwidth is in use.
    LoadedLatencyNs,
    /// Nanoseconds of a dependent read at the next address.
    SequentialReadLatencyNs,
    /// Nanoseconds until a store is out of the core and safe from being lost in it (write-back or non-temporal, fenced).
    WriteLatencyNs,
    /// 10^9 bytes a second, sequential reads of all threads.
    ReadBandwidthGbs,
    /// 10^9 bytes a second, sequential writes of all threads.
    WriteBandwidthGbs,
    /// The same for one thread.
    ThreadReadBandwidthGbs,
    /// The same for one thread.
    ThreadWriteBandwidthGbs,
    /// Bytes the medium moves at least, for however small an access. A power of two.
    GranuleBytes,
    /// Bytes of writes a device gathers before the medium is written.
    WriteBufferBytes,
    /// Bytes the tier holds.
    Capacity,
    /// US dollars for 10^9 bytes.
    CostUsdPerGb,
    /// Watts for 10^9 bytes, unused.
    IdleWattsPerGb,
    /// Watts for 10^9 bytes, busy.
    ActiveWattsPerGb,
    /// Watts of one device, unused.
    IdleWattsPerDevice,
    /// Watts of one device, busy.
    ActiveWattsPerDevice,
    /// Kilograms of CO2-equivalent that making 10^9 bytes emits.
    EmbodiedKgco2PerGb,
}

impl Quantity {
    /// In the order they are written.
    pub const ALL: [Self; 17] = [
        Self::ReadLatencyNs,
        Self::LoadedLatencyNs,
        Self::SequentialReadLatencyNs,
        Self::WriteLatencyNs,
        Self::ReadBandwidthGbs,
        Self::WriteBandwidthGbs,
        Self::ThreadReadBandwidthGbs,
        Self::ThreadWriteBandwidthGbs,
        Self::GranuleBytes,
        Self::WriteBufferBytes,
        Self::Capacity,
        Self::CostUsdPerGb,
        Self::IdleWattsPerGb,
        Self::ActiveWattsPerGb,
        Self::IdleWattsPerDevice,
        Self::ActiveWattsPerDevice,
        Self::EmbodiedKgco2PerGb,
    ];

    /// Its name in a file.
    pub fn key(self) -> &'static str {
        match self {
            Self::ReadLatencyNs => "read_latency_ns",
            Self::LoadedLatencyNs => "loaded_latency_ns",
            Self::SequentialReadLatencyNs => "sequential_read_latency_ns",
            Self::WriteLatencyNs => "write_latency_ns",
            Self::ReadBandwidthGbs => "read_bandwidth_gbs",
            Self::WriteBandwidthGbs => "write_bandwidth_gbs",
            Self::ThreadReadBandwidthGbs => "thread_read_bandwidth_gbs",
            Self::ThreadWriteBandwidthGbs => "thread_write_bandwidth_gbs",
            Self::GranuleBytes => "granule_bytes",
            Self::WriteBufferBytes => "write_buffer_bytes",
            Self::Capacity => "capacity",
            Self::CostUsdPerGb => "cost_usd_per_gb",
            Self::IdleWattsPerGb => "idle_watts_per_gb",
            Self::ActiveWattsPerGb => "active_watts_per_gb",
            Self::IdleWattsPerDevice => "idle_watts_per_device",
            Self::ActiveWattsPerDevice => "active_watts_per_device",
            Self::EmbodiedKgco2PerGb => "embodied_kgco2_per_gb",
        }
    }

    /// The quantity of a key.
    pub fn of_key(key: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|quantity| quantity.key() == key)
    }

    /// Whether it counts bytes: then a file may say `"4 KiB"`.
    pub fn is_bytes(self) -> bool {
        matches!(self, Self::GranuleBytes | Self::WriteBufferBytes | Self::Capacity)
    }

    /// The least and the largest that can be meant. Beyond, a file has most likely another unit in mind: the bounds are
    /// wide (from a register to a tape robot), so that they refuse mistakes and not opinions.
    pub fn bounds(self) -> (f64, f64) {
        match self {
            Self::ReadLatencyNs | Self::LoadedLatencyNs | Self::SequentialReadLatencyNs | Self::WriteLatencyNs => {
                (0.1, 1e11)
            }
            Self::ReadBandwidthGbs
            | Self::WriteBandwidthGbs
            | Self::ThreadReadBandwidthGbs
            | Self::ThreadWriteBandwidthGbs => (1e-6, 1e6),
            Self::GranuleBytes => (1.0, (1_u64 << 30) as f64),
            Self::WriteBufferBytes => (1.0, (1_u64 << 50) as f64),
            // Bytes above 2^53 are no longer exact in a float.
            Self::Capacity => (4096.0, (1_u64 << 53) as f64),
            Self::CostUsdPerGb => (0.0, 1e5),
            Self::IdleWattsPerGb | Self::ActiveWattsPerGb => (0.0, 1e3),
            Self::IdleWattsPerDevice | Self::ActiveWattsPerDevice => (0.0, 1e5),
            Self::EmbodiedKgco2PerGb => (0.0, 1e3),
        }
    }
}
