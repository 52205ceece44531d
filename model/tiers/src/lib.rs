//! What a memory tier is: latency, bandwidth, granule, capacity, cost, power and carbon, as files with sources.
