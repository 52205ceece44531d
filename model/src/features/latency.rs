//! How long an object's misses take, for samplers that say.
//!
//! Only accesses that missed the last-level cache count: what a cache answers takes as long in any tier.

use super::collect::Seen;
use super::estimate::{Blocks, Cut, Estimate, at};

/// The latencies of an object's misses against those of all.
#[derive(Clone, Copy)]
pub(super) struct Latency {
    /// Its mean over the mean of all.
    pub(super) ratio: Estimate,
    /// Its 90th percentile over the mean of all.
    pub(super) p90_ratio: Estimate,
}

/// Misses with their latencies in cycles, by block.
struct Miss {
    cycles: f64,
    weight: f64,
    block: usize,
}

/// Mean latency in cycles of the misses among these samples, which are in order of time.
pub(super) fn mean<'a>(samples: impl Iterator<Item = &'a Seen<'a>>) -> Estimate {
    let (misses, cut) = misses(samples);
    mean_of(&misses, cut)
}

/// Measures an object's samples, which are in order of time; the mean of all in cycles.
pub(super) fn measure(samples: &[Seen<'_>], all: Estimate) -> Latency {
    let (mut misses, cut) = misses(samples.iter());
    if misses.is_empty() {
        return Latency { ratio: Estimate::UNKNOWN, p90_ratio: Estimate::UNKNOWN };
    }
    // Relative errors add up as independent ones do, which is too much for an object that has most of the misses.
    let over = |found: Estimate| {
        let value = found.value / all.value;
        Estimate { value, error: value * (found.error / found.value).hypot(all.error / all.value) }
    };
    let ratio = over(mean_of(&misses, cut));
    misses.sort_by(|a, b| a.cycles.total_cmp(&b.cycles));
    let mut weights = Blocks::NONE;
    misses.iter().for_each(|miss| weights.add(miss.block, miss.weight));
    let weights = weights.folds();
    let p90 = cut.jackknife(|fold| {
        let mut left = 0.9 * at(&weights, fold);
        let counted = misses.iter().filter(|miss| miss.block != fold);
        let mut reached = f64::NAN;
        for miss in counted {
            reached = miss.cycles;
            left -= miss.weight;
            if left <= 0.0 {
                break;
            }
        }
        reached
    });
    // A quantile of latencies in whole cycles may not move at all when a block is left out.
    Latency { ratio, p90_ratio: over(p90).at_least(ratio.error) }
}

fn misses<'a>(samples: impl Iterator<Item = &'a Seen<'a>>) -> (Vec<Miss>, Cut) {
    let known: Vec<(f64, f64)> = samples
        .filter(|seen| seen.misses())
        .filter_map(|seen| Some((f64::from(seen.row.latency?), seen.weight)))
        .collect();
    let cut = Cut::new(known.len());
    let miss = |(place, (cycles, weight)): (usize, (f64, f64))| Miss { cycles, weight, block: cut.of(place) };
    (known.into_iter().enumerate().map(miss).collect(), cut)
}

fn mean_of(misses: &[Miss], cut: Cut) -> Estimate {
    let (mut sum, mut weights) = (Blocks::NONE, Blocks::NONE);
    for miss in misses {
        sum.add(miss.block, miss.cycles * miss.weight);
        weights.add(miss.block, miss.weight);
    }
    let (sum, weights) = (sum.folds(), weights.folds());
    cut.jackknife(|fold| at(&sum, fold) / at(&weights, fold))
}
