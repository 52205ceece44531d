//! How sure a share is: 95 % intervals for the fraction of samples that fall on one object.
//!
//! Two things make an observed share differ from the true one. The samples are few: that is the binomial's business,
//! and Wilson's interval covers it well even for shares near 0 and 1 and for a handful of samples. And samples close
//! in time are alike, because a program does one thing for a while: then `n` samples say less than `n` independent
//! ones, and a binomial interval is too narrow, easily by a factor of three. Batch means over time see that: cut the run
//! into equal stretches long against the correlation, and judge by how the share differs *between* stretches. Each
//! stretch has its own number of samples (the program sleeps, threads come and go), so the share is a ratio estimator
//! and its variance that of the residuals (Cochran, *Sampling Techniques*, 3rd ed., eq. 2.39 and 6.13).
//!
//! That variance over the binomial one is the design effect: how many samples are worth one independent one. A
//! symmetric interval from it would be wrong where few independent stretches hit the object (its lower end falls
//! below zero, its upper end short), so the effective number of samples goes into Wilson's formula instead, with Student's
//! quantile for the batches there were (Korn and Graubard, *Survey Methodology* 24, 1998, do the same for surveys).
//! Correlation that reaches from one batch into the next hides from fine batches; so it is done for 24 and for 12
//! batches, and the interval is everything that these two and the plain binomial admit.
//!
//! The simulations in the tests measure the coverage, and say where it ends: 95 % for independent samples and for a
//! correlation time of a twentieth of a batch; for a third of a batch 90 % at a share of 0.1, where the whole run is worth
//! some 36 independent samples. Phases longer than that are what marks are for.
//!
//! What it does not cover: whatever is wrong with every sample alike (skid, a sampler that cannot see some accesses),
//! and how the next run would differ from this one.

/// Batches a run is cut into: enough for a quantile near the normal one, few enough to be long.
pub const BATCHES: usize = 24;

/// The two-sided 95 % quantile of the normal distribution.
const Z: f64 = 1.959_964;

/// The two-sided 95 % quantiles of Student's distribution for 1 to 23 degrees of freedom.
const STUDENT: [f64; BATCHES - 1] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
    2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069,
];

/// A 95 % interval, inside 0..=1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Interval {
    /// Lower bound.
    pub low: f64,
    /// Upper bound.
    pub high: f64,
}

impl Interval {
    /// The interval that says nothing.
    pub const UNKNOWN: Self = Self { low: 0.0, high: 1.0 };

    /// Half its width.
    #[must_use]
    pub fn half_width(&self) -> f64 {
        (self.high - self.low) / 2.0
    }
}

/// The interval of a share: everything that Wilson's interval and batch means admit.
///
/// `hits` and `totals` are the (weighted) samples of the object and of everything, batch by batch;
/// `effective` is the number of samples that the weighted total is worth: (sum w)^2 / sum w^2.
#[must_use]
pub fn share_interval(hits: &[f64], totals: &[f64], effective: f64) -> Interval {
    let total: f64 = totals.iter().sum();
    if total <= 0.0 || !total.is_finite() {
        return Interval::UNKNOWN;
    }
    let share = (hits.iter().sum::<f64>() / total).clamp(0.0, 1.0);
    [1, 2].into_iter().filter_map(|together| batch_means(share, hits, totals, together, effective)).fold(
        wilson(share, effective, Z),
        |all, one| Interval { low: all.low.min(one.low), high: all.high.max(one.high) },
    )
}

/// The standard error of a share: what [`share_interval`]'s half width is in normal quantiles. Never 0, as the interval never is
/// a point; NaN where nothing is known.
#[must_use]
pub fn standard_error(hits: &[f64], totals: &[f64], effective: f64) -> f64 {
    let interval = share_interval(hits, totals, effective);
    if interval == Interval::UNKNOWN { f64::NAN } else { interval.half_width() / Z }
}

/// The mean of independent values and half of its 95 % interval by Student's distribution, which is infinite for one value; `None`
/// for none.
#[must_use]
pub fn mean_interval(values: &[f64]) -> Option<(f64, f64)> {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let freedom = values.len().checked_sub(1)?;
    let quantile = match freedom {
        0 => return Some((mean, f64::INFINITY)),
        _ => STUDENT.get(freedom - 1).copied().unwrap_or(Z),
    };
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / freedom as f64;
    Some((mean, quantile * (variance / count).sqrt()))
}

/// Wilson's score interval for a share observed in `n` independent samples, for a two-sided `quantile`.
#[must_use]
pub fn wilson(share: f64, n: f64, quantile: f64) -> Interval {
    if n <= 0.0 || !n.is_finite() || !(0.0..=1.0).contains(&share) {
        return Interval::UNKNOWN;
    }
    let square = quantile * quantile;
    let centre = (share + square / (2.0 * n)) / (1.0 + square / n);
    let half = quantile / (1.0 + square / n) * (share * (1.0 - share) / n + square / (4.0 * n * n)).sqrt();
    // The share itself is always inside; at 0 and 1 rounding may say otherwise by the last bit.
    Interval { low: (centre - half).clamp(0.0, share), high: (centre + half).clamp(share, 1.0) }
}

/// Wilson's interval for the samples that these are worth, judged by how batches of `together` neighbouring
/// stretches differ; `None` where they differ no more than independent samples, or cannot tell.
fn batch_means(share: f64, hits: &[f64], totals: &[f64], together: usize, effective: f64) -> Option<Interval> {
    let batches: Vec<(f64, f64)> = hits
        .chunks(together)
        .zip(totals.chunks(together))
        .map(|(hits, totals)| (hits.iter().sum::<f64>(), totals.iter().sum::<f64>()))
        .filter(|&(_, total)| total > 0.0)
        .collect();
    let freedom = batches.len().checked_sub(1).filter(|&freedom| freedom > 0)?;
    let quantile = STUDENT.get(freedom - 1).copied().unwrap_or(Z);
    let total: f64 = totals.iter().sum();
    let residuals: f64 = batches.iter().map(|(hit, total)| (hit - share * total).powi(2)).sum();
    let variance = residuals * batches.len() as f64 / freedom as f64 / (total * total);
    let binomial = share * (1.0 - share) / effective;
    (binomial > 0.0 && variance.is_finite())
        .then(|| wilson(share, effective * (binomial / variance).min(1.0), quantile))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A small generator of our own: tests must not depend on a library's choice of stream.
    struct Random(u64);

    impl Random {
        fn uniform(&mut self) -> f64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let mixed = (self.0 ^ (self.0 >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            ((mixed ^ (mixed >> 32)) >> 11) as f64 / (1u64 << 53) as f64
        }
    }

    #[test]
    fn a_mean_has_students_interval() {
        assert_eq!(mean_interval(&[]), None);
        assert_eq!(mean_interval(&[2.0]), Some((2.0, f64::INFINITY)));
        // Variance 2, two values: 12.706 standard errors of 1.
        let (mean, half) = mean_interval(&[1.0, 3.0]).unwrap();
        assert_eq!(mean, 2.0);
        assert!((half - 12.706).abs() < 1e-9, "{half}");
    }

    /// Fractions of runs whose interval holds the true share: of the shares reported, and of Wilson's alone.
    ///
    /// `stay` is the probability that a sample falls where the one before did, else it is drawn anew: the marginal is
    /// the share, the correlation time `1 / (1 - stay)` samples.
    fn coverage(share: f64, samples: usize, stay: f64) -> (f64, f64) {
        const RUNS: u32 = 2000;
        let mut random = Random(42);
        let (mut ours, mut binomial) = (0, 0);
        for _ in 0..RUNS {
            let (mut hits, mut totals) = ([0.0; BATCHES], [0.0; BATCHES]);
            let mut hit = random.uniform() < share;
            for sample in 0..samples {
                if random.uniform() >= stay {
                    hit = random.uniform() < share;
                }
                // Batches are of equal time, not of equal samples: the second half is sampled half as densely.
                let place = sample as f64 / samples as f64;
                let batch =
                    ((if place < 2.0 / 3.0 { place * 0.75 } else { place * 1.5 - 0.5 }) * BATCHES as f64) as usize;
                totals[batch.min(BATCHES - 1)] += 1.0;
                hits[batch.min(BATCHES - 1)] += f64::from(u8::from(hit));
            }
            let holds = |interval: Interval| u32::from(interval.low <= share && share <= interval.high);
            let observed = hits.iter().sum::<f64>() / samples as f64;
            ours += holds(share_interval(&hits, &totals, samples as f64));
            binomial += holds(wilson(observed, samples as f64, Z));
        }
        (f64::from(ours) / f64::from(RUNS), f64::from(binomial) / f64::from(RUNS))
    }

    #[test]
    fn independent_samples_are_covered() {
        for share in [0.01, 0.1, 0.5, 0.9] {
            for samples in [50, 500, 5000] {
                let (ours, _) = coverage(share, samples, 0.0);
                assert!(ours >= 0.94, "share {share}, {samples} samples: {ours}");
            }
        }
    }

    #[test]
    fn correlated_samples_are_covered_where_a_binomial_alone_is_not() {
        // 200 samples a batch; runs of 10 samples, and of 67, which leave some 36 independent ones in the whole run.
        for (stay, least) in [(0.9, 0.94), (0.985, 0.89)] {
            for share in [0.1, 0.5] {
                let (ours, binomial) = coverage(share, 200 * BATCHES, stay);
                println!("share {share}, stay {stay}: {ours}, binomial {binomial}");
                assert!(ours >= least, "share {share}, stay {stay}: {ours}");
                assert!(binomial < 0.5, "the binomial was not expected to hold: {binomial}");
            }
        }
    }

    #[test]
    fn an_object_without_samples_has_an_upper_bound_and_a_run_without_samples_has_none() {
        let none = share_interval(&[0.0; 4], &[25.0; 4], 100.0);
        assert!(none.low == 0.0 && none.high > 0.02 && none.high < 0.05, "{none:?}");
        assert_eq!(share_interval(&[0.0; 4], &[0.0; 4], 0.0), Interval::UNKNOWN);
    }

    #[test]
    fn weights_count_for_what_they_are_worth() {
        let equal = wilson(0.5, 100.0, Z);
        let unequal = wilson(0.5, 20.0, Z);
        assert!(unequal.half_width() > 2.0 * equal.half_width());
    }

    #[test]
    fn a_share_lies_in_its_interval_to_the_last_bit() {
        for samples in 1..5000 {
            for share in [0.0, 1.0, 1.0 / f64::from(samples)] {
                let interval = wilson(share, f64::from(samples), Z);
                assert!(interval.low <= share && share <= interval.high, "{share} of {samples}: {interval:?}");
            }
        }
    }
}
