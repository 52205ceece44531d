//! How unevenly over time an object is used.

use super::estimate::{Estimate, Ratio};

/// Squared coefficient of variation of an object's share over the batches of the window, less what sampling alone gives: 0 for
/// what is used evenly, large for what is used now and then. A batch counts by its samples. The variance that `n` samples of a
/// share p show by themselves is p (1 - p) / n, and is taken off; what is left below zero is zero.
pub(super) fn variance(share: &Ratio) -> Estimate {
    let batches: Vec<(f64, f64)> = share.batches().collect();
    if batches.len() < 2 || share.part().is_nan() || share.part() <= 0.0 {
        return Estimate::UNKNOWN;
    }
    let per_weight = share.samples() / share.weight();
    let of = |left_out: Option<usize>| {
        let used = || batches.iter().enumerate().filter(|(n, _)| Some(*n) != left_out).map(|(_, batch)| *batch);
        let total: f64 = used().map(|(_, weight)| weight).sum();
        let mean = used().map(|(part, weight)| part * weight).sum::<f64>() / total;
        let number = used().count() as f64;
        let spread = used().map(|(part, weight)| weight * (part - mean).powi(2)).sum::<f64>() / total;
        // The mean is of the same samples, which takes one batch's worth of the noise away.
        let noise = mean * (1.0 - mean) * (number - 1.0) / (total * per_weight);
        (spread - noise) / (mean * mean)
    };
    let all = of(None);
    let without: Vec<f64> = (0..batches.len()).map(|n| of(Some(n))).filter(|value| value.is_finite()).collect();
    let number = without.len() as f64;
    let mean = without.iter().sum::<f64>() / number;
    let spread: f64 = without.iter().map(|value| (value - mean).powi(2)).sum();
    let jackknife = (spread * (number - 1.0) / number).sqrt();
    // What the noise that is taken off varies by itself: a chi-squared of as many batches.
    let part = share.part();
    let noise = (1.0 - part) / (part * share.samples()) * (2.0 * (batches.len() as f64 - 1.0)).sqrt();
    Estimate { value: all.max(0.0), error: jackknife.max(noise) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interval::BATCHES;

    fn share(of_batch: impl Fn(usize) -> usize) -> Ratio {
        let mut share = Ratio::default();
        for batch in 0..BATCHES {
            (0..100).for_each(|n| share.add(batch, 1.0, (n * 61) % 100 < of_batch(batch)));
        }
        share
    }

    #[test]
    fn even_use_has_none_and_use_in_half_the_run_has_one() {
        let even = variance(&share(|batch| 28 + batch * 7 % 5));
        assert!(even.value < 0.02 && even.value + 3.0 * even.error > 0.0, "{even:?}");
        let half = variance(&share(|batch| if batch % 2 == 0 { 60 } else { 0 }));
        assert!((half.value - 1.0).abs() < 0.05 && half.error < 0.6, "{half:?}");
    }

    #[test]
    fn one_sample_shows_no_variance() {
        let one = variance(&share(|batch| usize::from(batch == 3)));
        assert!(one.value < 0.1 && one.error > 1.0, "{one:?}");
        assert!(variance(&share(|_| 0)).value.is_nan());
    }
}
