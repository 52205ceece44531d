//! The tiers to compare: the figures of a tier file or of presets, as the model needs them.
//!
//! The model needs latency and bandwidth of reads. What else a file does not say stands in for itself with what is said
//! and is told: writes take the bandwidth of reads, and lines in order the latency of any.

use crate::failure::Failure;
use crate::tiers::{Named, named};
use tierscope_sim::{Tier, TierSet};
use tierscope_tiers::Quantity;

/// Tiers and the pairs of them that are compared.
#[derive(Debug)]
pub(super) struct Memory {
    pub(super) tiers: Vec<Tier>,
    pub(super) sets: Vec<TierSet>,
    /// What was assumed, in sentences.
    pub(super) assumptions: Vec<String>,
}

impl Memory {
    /// What `--tiers` names: the first against each of the others.
    pub(super) fn named(word: &str, memory_mode: Option<u64>) -> Result<Self, Failure> {
        let Named { tiers, .. } = named(word)?;
        let mut assumptions = Vec::new();
        let mut modelled = Vec::new();
        for tier in tiers.as_slice() {
            modelled.push(model(tier, &mut assumptions).map_err(|lacks| {
                Failure::cannot(format!("{} of {word} cannot be modelled: {lacks} is not known", tier.name)).mend(
                    "tierscope tiers --preset NAME,NAME -o FILE makes a file to fill in, which --tiers FILE takes",
                )
            })?);
        }
        let Some((_, slower)) = modelled.split_first().filter(|(_, slower)| !slower.is_empty()) else {
            return Err(Failure::usage(format!("--tiers {word} has one tier: there is nothing to compare it with"))
                .mend("--tiers ddr5,cxl-asic names a fast one and a slow one"));
        };
        let sets = slower.iter().zip(1..).map(|(tier, slow)| TierSet {
            name: tier.name.clone(),
            fast: 0,
            slow,
            memory_mode_bytes: memory_mode,
        });
        let sets = sets.collect();
        Ok(Self { tiers: modelled, sets, assumptions })
    }
}

/// A tier's figures; the error is the key of one that is needed.
fn model(tier: &tierscope_tiers::Tier, assumptions: &mut Vec<String>) -> Result<Tier, &'static str> {
    let value = |quantity| tier.value(quantity);
    let read_latency_ns = value(Quantity::ReadLatencyNs).ok_or("read_latency_ns")?;
    let read_bandwidth_gbs = value(Quantity::ReadBandwidthGbs).ok_or("read_bandwidth_gbs")?;
    let write_bandwidth_gbs = value(Quantity::WriteBandwidthGbs).unwrap_or_else(|| {
        assumptions.push(format!(
            "How fast {} can be written (write_bandwidth_gbs) is not known: as fast as it is read, {read_bandwidth_gbs} GB/s.",
            tier.name
        ));
        read_bandwidth_gbs
    });
    let whole = |quantity: Quantity, least: u64| value(quantity).map_or(least, |bytes| bytes as u64);
    Ok(Tier {
        name: tier.name.clone(),
        read_latency_ns,
        sequential_read_latency_ns: value(Quantity::SequentialReadLatencyNs),
        write_latency_ns: value(Quantity::WriteLatencyNs),
        read_bandwidth_gbs,
        write_bandwidth_gbs,
        granule_bytes: whole(Quantity::GranuleBytes, 64).max(64).next_power_of_two(),
        write_buffer_bytes: whole(Quantity::WriteBufferBytes, 0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_compared_with_each_of_the_others() {
        let memory = Memory::named("ddr5,cxl-asic,optane-100x6", None).unwrap();
        let names: Vec<(&str, u16, u16)> =
            memory.sets.iter().map(|set| (set.name.as_str(), set.fast, set.slow)).collect();
        assert_eq!(names, [("cxl-asic", 0, 1), ("optane-100x6", 0, 2)]);
        let optane = &memory.tiers[2];
        assert_eq!((optane.read_latency_ns, optane.granule_bytes), (305.0, 256));
        assert_eq!(optane.sequential_read_latency_ns, Some(169.0));
        assert!(memory.assumptions.iter().any(|text| text.contains("ddr5 can be written")), "{:?}", memory.assumptions);
    }

    #[test]
    fn one_tier_or_one_without_figures_is_refused_with_a_way_out() {
        assert_eq!(Memory::named("ddr5", None).unwrap_err().exit_status(), 2);
        let refusal = Memory::named("ddr5,cxl-ddr5", None).unwrap_err();
        assert_eq!(refusal.exit_status(), 3);
        assert!(refusal.to_string().contains("read_latency_ns"), "{refusal}");
    }
}
