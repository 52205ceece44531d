//! Over how many pages, instructions and threads an object's samples spread, whatever their number.
//!
//! Counting distinct pages counts samples: twice as many find more pages. What does not depend on their number is how often *two* of
//! them agree: a pair of samples falls on the same page with probability C = sum of squared shares, however many pairs are
//! looked at (Simpson, *Nature* 163, 1949; the U-statistic over pairs is unbiased). 1/C is the effective number of pages. With
//! few samples hardly a pair agrees, so each of these has some pairs' worth of prior: one that all are one instruction or one thread; a
//! quarter of an agreeing one that samples spread evenly over the pages.
//!
//! Threads that share: of two samples that are close in the object (the same 64th of it, at least a page), how often are they of
//! different threads, over how often any two of the object are? 1 where threads go everywhere, 0 where each keeps to its part.

use super::collect::Seen;
use super::estimate::{Blocks, Cut, Estimate, Folds, at, floor};
use super::sizes::{PAGE, Size};
use crate::interval::BATCHES;

/// How an object's samples spread.
pub(super) struct Spread {
    pub(super) page_concentration: Estimate,
    pub(super) instructions: Estimate,
    pub(super) threads: Estimate,
    pub(super) shared_share: Estimate,
}

/// Into how many parts an object is cut to see which threads are near each other.
const PARTS: f64 = 64.0;

/// How many agreeing pairs' worth of even spread, in as many pairs as take them, samples over pages begin with.
const EVEN_PAIRS: f64 = 0.25;

/// Two pairs' worth of not knowing whether threads mix.
const MIXING_PAIRS: f64 = 2.0;

/// A sample: what it has in common with others, its block, its weight.
type Item<K> = (K, usize, f64);

/// The weight of pairs of different samples with equal keys, without each block and with all.
fn pairs<K: Ord + Copy>(items: &mut [Item<K>]) -> Folds {
    items.sort_by_key(|item| item.0);
    let mut sums = [0.0; BATCHES + 1];
    for run in items.chunk_by(|a, b| a.0 == b.0).filter(|run| run.len() > 1) {
        let (mut weights, mut squares) = (Blocks::NONE, Blocks::NONE);
        for &(_, block, weight) in run {
            weights.add(block, weight);
            squares.add(block, weight * weight);
        }
        for ((sum, weight), square) in sums.iter_mut().zip(weights.folds()).zip(squares.folds()) {
            *sum += (weight * weight - square).max(0.0) / 2.0;
        }
    }
    sums
}

/// Measures an object's samples, which are in order of time.
pub(super) fn measure(samples: &[Seen<'_>], size: &Size) -> Spread {
    let (sum, squares) =
        samples.iter().fold((0.0, 0.0), |(sum, squares), seen| (sum + seen.weight, squares + seen.weight.powi(2)));
    if samples.is_empty() {
        let unknown = Estimate::UNKNOWN;
        return Spread { page_concentration: unknown, instructions: unknown, threads: unknown, shared_share: unknown };
    }
    // In units of what a sample is worth, so that pairs can be counted.
    let unit = squares / sum;
    let effective = sum / unit;
    let cut = Cut::new(samples.len());
    let mut codes: Vec<_> = samples.iter().enumerate().map(|(n, s)| (s.code(), cut.of(n), s.weight / unit)).collect();
    let mut threads: Vec<_> =
        samples.iter().enumerate().map(|(n, s)| (s.row.tid, cut.of(n), s.weight / unit)).collect();
    let mut all: Vec<_> = threads.iter().map(|&(_, block, weight)| ((), block, weight)).collect();
    let (codes, one_thread, all) = (pairs(&mut codes), pairs(&mut threads), pairs(&mut all));
    let effective_number = |same: &Folds| {
        let number = cut.jackknife(|fold| (at(&all, fold) + 1.0) / (at(same, fold) + 1.0));
        number.at_least(floor(number.value, effective))
    };
    Spread {
        instructions: effective_number(&codes),
        threads: effective_number(&one_thread),
        page_concentration: concentration(samples, size, unit),
        shared_share: sharing(samples, size, unit, &one_thread, &all),
    }
}

/// Samples by the part of the object that they fall into.
fn located<'a>(samples: &'a [Seen<'_>], size: &Size, part_bytes: f64, unit: f64) -> Vec<(Item<u64>, &'a Seen<'a>)> {
    let cut = Cut::new(samples.len());
    let base = samples.iter().filter_map(|seen| seen.row.address).min().unwrap_or(0).min(size.base);
    let item = |place: usize, seen: &Seen<'_>| {
        let part = (seen.row.address? - base) as f64 / part_bytes;
        Some((part as u64, cut.of(place), seen.weight / unit))
    };
    samples.iter().enumerate().filter_map(|(place, seen)| Some((item(place, seen)?, seen))).collect()
}

/// 0: even over all pages; 1: all on one page. On a logarithmic scale, so that a tenth of the pages of any object count alike.
fn concentration(samples: &[Seen<'_>], size: &Size, unit: f64) -> Estimate {
    let pages = size.pages();
    if !pages.is_finite() || pages < 2.0 {
        return Estimate::UNKNOWN;
    }
    let mut items: Vec<Item<u64>> = located(samples, size, PAGE, unit).into_iter().map(|(item, _)| item).collect();
    if items.is_empty() {
        return Estimate::UNKNOWN;
    }
    let mut all: Vec<Item<()>> = items.iter().map(|&(_, block, weight)| ((), block, weight)).collect();
    let (same, all) = (pairs(&mut items), pairs(&mut all));
    let scale = |agreement: f64| ((agreement * pages).ln() / pages.ln()).clamp(0.0, 1.0);
    let found = Cut::new(samples.len())
        .jackknife(|fold| scale((at(&same, fold) + EVEN_PAIRS) / (at(&all, fold) + EVEN_PAIRS * pages)));
    // What few pairs cannot exclude: as many again as seen, and three.
    let could_be = scale((2.0 * at(&same, BATCHES) + 3.0) / at(&all, BATCHES).max(1.0));
    found.at_least((could_be - found.value).max(0.0) / 4.0)
}

fn sharing(samples: &[Seen<'_>], size: &Size, unit: f64, one_thread: &Folds, all: &Folds) -> Estimate {
    let part_bytes = (size.bytes / PARTS).max(PAGE);
    if !part_bytes.is_finite() {
        return Estimate::UNKNOWN;
    }
    let located = located(samples, size, part_bytes, unit);
    let mut near: Vec<Item<u64>> = located.iter().map(|&(item, _)| item).collect();
    let mut near_of_one: Vec<Item<(u64, u32)>> =
        located.iter().map(|&((part, block, weight), seen)| ((part, seen.row.tid), block, weight)).collect();
    let (near, near_of_one) = (pairs(&mut near), pairs(&mut near_of_one));
    let mixing = Cut::new(samples.len()).jackknife(|fold| {
        let anywhere = 1.0 - at(one_thread, fold) / at(all, fold);
        if anywhere.is_nan() || anywhere <= 0.0 {
            return 0.0;
        }
        let differ = (at(&near, fold) - at(&near_of_one, fold)) / anywhere;
        ((differ + MIXING_PAIRS / 2.0) / (at(&near, fold) + MIXING_PAIRS)).clamp(0.0, 1.0)
    });
    mixing.at_least(floor(1.0, at(&near, BATCHES).max(samples.len() as f64)))
}
