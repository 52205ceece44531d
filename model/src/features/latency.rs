//! How long an object's misses take, for samplers that say, and how much time lies between them.
//!
//! Only accesses that missed the last-level cache count: what a cache answers takes as long in any tier.
//!
//! A chain that is walked alone and eight that are walked at once have the same misses, with the same latencies; of the eight an eighth of the
//! time lies between two of them. A sampled miss stands for those since the one before it of its thread, so the time since then is theirs.

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

/// Misses with how long each took, by block.
struct Miss {
    took: f64,
    weight: f64,
    block: usize,
}

/// Mean latency in cycles of the misses among these samples, which are in order of time.
pub(super) fn mean<'a>(samples: impl Iterator<Item = &'a Seen<'a>>) -> Estimate {
    let (misses, cut) = misses(samples, cycles);
    mean_of(&misses, cut)
}

/// Mean time in nanoseconds between the sampled misses of a thread.
pub(super) fn mean_gap<'a>(samples: impl Iterator<Item = &'a Seen<'a>>) -> Estimate {
    let (misses, cut) = misses(samples, gap);
    mean_of(&misses, cut)
}

/// The time before an object's misses over that before all, of which `all` is the mean.
pub(super) fn gap_ratio(samples: &[Seen<'_>], all: Estimate) -> Estimate {
    let (misses, cut) = misses(samples.iter(), gap);
    let own = mean_of(&misses, cut);
    // Where no time passes between an object's misses, what is not known of all is all there is to its error.
    over(own, all).at_least(own.error / all.value)
}

/// Relative errors add up as independent ones do, which is too much for an object that has most of the misses.
fn over(found: Estimate, all: Estimate) -> Estimate {
    let value = found.value / all.value;
    Estimate { value, error: value * (found.error / found.value).hypot(all.error / all.value) }
}

/// Measures an object's samples, which are in order of time; the mean of all in cycles.
pub(super) fn measure(samples: &[Seen<'_>], all: Estimate) -> Latency {
    let (mut misses, cut) = misses(samples.iter(), cycles);
    if misses.is_empty() {
        return Latency { ratio: Estimate::UNKNOWN, p90_ratio: Estimate::UNKNOWN };
    }
    let ratio = over(mean_of(&misses, cut), all);
    misses.sort_by(|a, b| a.took.total_cmp(&b.took));
    let mut weights = Blocks::NONE;
    misses.iter().for_each(|miss| weights.add(miss.block, miss.weight));
    let weights = weights.folds();
    let p90 = cut.jackknife(|fold| {
        let mut left = 0.9 * at(&weights, fold);
        let counted = misses.iter().filter(|miss| miss.block != fold);
        let mut reached = f64::NAN;
        for miss in counted {
            reached = miss.took;
            left -= miss.weight;
            if left <= 0.0 {
                break;
            }
        }
        reached
    });
    // A quantile of latencies in whole cycles may not move at all when a block is left out.
    Latency { ratio, p90_ratio: over(p90, all).at_least(ratio.error) }
}

fn cycles(seen: &Seen<'_>) -> Option<f64> {
    seen.row.latency.map(f64::from)
}

fn gap(seen: &Seen<'_>) -> Option<f64> {
    seen.gap_ns.map(|ns| ns as f64)
}

fn misses<'a>(samples: impl Iterator<Item = &'a Seen<'a>>, took: fn(&Seen<'_>) -> Option<f64>) -> (Vec<Miss>, Cut) {
    let known: Vec<(f64, f64)> =
        samples.filter(|seen| seen.misses()).filter_map(|seen| Some((took(seen)?, seen.weight))).collect();
    let cut = Cut::new(known.len());
    let miss = |(place, (took, weight)): (usize, (f64, f64))| Miss { took, weight, block: cut.of(place) };
    (known.into_iter().enumerate().map(miss).collect(), cut)
}

fn mean_of(misses: &[Miss], cut: Cut) -> Estimate {
    let (mut sum, mut weights) = (Blocks::NONE, Blocks::NONE);
    for miss in misses {
        sum.add(miss.block, miss.took * miss.weight);
        weights.add(miss.block, miss.weight);
    }
    let (sum, weights) = (sum.folds(), weights.folds());
    cut.jackknife(|fold| at(&sum, fold) / at(&weights, fold))
}
