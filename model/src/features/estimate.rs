//! A value with its standard error, in the two ways that features get theirs.
//!
//! **Ratios of samples** ([`Ratio`]: the part of an object's samples that store, its part of all samples) have intervals as any
//! share has ([`crate::interval`]): batches of time show what the samples are worth. The standard error is the half width of the
//! 95 % interval over 1.96, so that it is never zero: ten loads of ten do not show that nothing stores. A ratio of few samples
//! is drawn towards what is known otherwise (the whole program's) as if [`PRIOR_SAMPLES`] more had been seen there; with a
//! hundred samples that is less than its error by far.
//!
//! **Everything else** is computed again without each of 24 blocks of the object's samples ([`Folds`], [`Blocks`]), and the spread
//! of these values is the error (the delete-a-group jackknife; Shao and Wu, *Annals of Statistics* 17, 1989, on why groups also
//! serve for what is not smooth, as quantiles). Blocks are runs of neighbouring samples, so what is alike because it is close
//! in time is left out together. They are cut by number of samples and not by time, since many objects live for a small part
//! of the run, and blocks without samples would say nothing. No such error is below [`floor`]: what was never seen may
//! still be there.

use crate::interval::{BATCHES, Interval, share_interval, standard_error};

/// How many samples' worth of what is known otherwise a ratio is drawn towards.
const PRIOR_SAMPLES: f64 = 2.0;

/// The two-sided 95 % quantile of the normal distribution.
const Z: f64 = 1.959_964;

/// A value and its standard error; NaN where not known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Estimate {
    pub(super) value: f64,
    pub(super) error: f64,
}

impl Estimate {
    pub(super) const UNKNOWN: Self = Self { value: f64::NAN, error: f64::NAN };

    /// The same with an error of at least this.
    pub(super) fn at_least(self, error: f64) -> Self {
        Self { error: self.error.max(error), ..self }
    }
}

/// What `samples` samples cannot exclude of a value that is `scale` at most, as a standard error: of `n` samples none shows what up
/// to 3/n of them would with 95 % confidence.
pub(super) fn floor(scale: f64, samples: f64) -> f64 {
    scale * (3.0 / samples).min(1.0) / Z
}

/// A part of a weight, by batch of time.
#[derive(Clone, Debug, Default)]
pub(super) struct Ratio {
    hits: [f64; BATCHES],
    totals: [f64; BATCHES],
    sum: f64,
    squares: f64,
}

impl Ratio {
    /// Counts a sample for the whole, and for the part if it is a hit.
    pub(super) fn add(&mut self, batch: usize, weight: f64, hit: bool) {
        if let Some(total) = self.totals.get_mut(batch) {
            *total += weight;
        }
        if hit && let Some(hits) = self.hits.get_mut(batch) {
            *hits += weight;
        }
        self.sum += weight;
        self.squares += weight * weight;
    }

    /// A part of this whole that another ratio counted as hits.
    pub(super) fn of(hits: &Self, whole: &Self) -> Self {
        Self { hits: hits.hits, ..whole.clone() }
    }

    /// What the whole weighs.
    pub(super) fn weight(&self) -> f64 {
        self.sum
    }

    /// How many samples of equal weight the whole is worth.
    pub(super) fn samples(&self) -> f64 {
        if self.squares > 0.0 { self.sum * self.sum / self.squares } else { 0.0 }
    }

    /// Part over whole, by batch, with what the whole of the batch weighs.
    pub(super) fn batches(&self) -> impl Iterator<Item = (f64, f64)> + '_ {
        self.hits
            .iter()
            .zip(&self.totals)
            .filter(|(_, total)| **total > 0.0)
            .map(|(hits, total)| (hits / total, *total))
    }

    /// Part over whole; NaN where there is nothing.
    pub(super) fn part(&self) -> f64 {
        self.hits.iter().sum::<f64>() / self.sum
    }

    /// As it is.
    pub(super) fn plain(&self) -> Estimate {
        Estimate { value: self.part(), error: standard_error(&self.hits, &self.totals, self.samples()) }
    }

    /// Drawn towards what is known otherwise.
    pub(super) fn towards(&self, prior: f64) -> Estimate {
        let samples = self.samples();
        let Estimate { value, error } = self.plain();
        match prior.is_finite() && value.is_finite() {
            true => Estimate { value: (samples * value + PRIOR_SAMPLES * prior) / (samples + PRIOR_SAMPLES), error },
            false => Estimate { value, error },
        }
    }

    /// The binary logarithm of the part over `of`, as if half a sample more had been a hit: finite where none was. The error is that
    /// of the upper end of the interval, since the lower may be zero.
    pub(super) fn log2_over(&self, of: f64) -> Estimate {
        let samples = self.samples();
        let Interval { high, .. } = share_interval(&self.hits, &self.totals, samples);
        let part = (samples * self.part() + 0.5) / (samples + 1.0);
        Estimate { value: (part / of).log2(), error: (high / part).log2().max(0.0) / Z }
    }
}

/// A sum without each block, and at the end with all.
pub(super) type Folds = [f64; BATCHES + 1];

/// Sums by block, from which those without one come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Blocks([f64; BATCHES]);

impl Blocks {
    pub(super) const NONE: Self = Self([0.0; BATCHES]);

    pub(super) fn add(&mut self, block: usize, value: f64) {
        if let Some(sum) = self.0.get_mut(block) {
            *sum += value;
        }
    }

    pub(super) fn folds(&self) -> Folds {
        let all: f64 = self.0.iter().sum();
        std::array::from_fn(|fold| all - self.0.get(fold).copied().unwrap_or(0.0))
    }
}

/// How the samples of an object, in order of time, are cut into blocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    samples: usize,
}

impl Cut {
    pub(super) const fn new(samples: usize) -> Self {
        Self { samples }
    }

    /// How many blocks there are.
    pub(super) fn blocks(self) -> usize {
        self.samples.min(BATCHES)
    }

    /// The block of a sample, by its place.
    pub(super) fn of(self, place: usize) -> usize {
        place * self.blocks() / self.samples.max(1)
    }

    /// A value from sums, with the jackknife's error: unknown below two blocks, or where leaving one out leaves nothing.
    pub(super) fn jackknife(self, value: impl Fn(usize) -> f64) -> Estimate {
        let blocks = self.blocks();
        let all = value(BATCHES);
        if blocks < 2 {
            return Estimate { value: all, error: f64::NAN };
        }
        let without: Vec<f64> = (0..blocks).map(value).collect();
        let mean = without.iter().sum::<f64>() / blocks as f64;
        let spread: f64 = without.iter().map(|one| (one - mean).powi(2)).sum();
        Estimate { value: all, error: (spread * (blocks as f64 - 1.0) / blocks as f64).sqrt() }
    }
}

/// The value of a fold.
pub(super) fn at(folds: &Folds, fold: usize) -> f64 {
    folds.get(fold).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_jackknife_of_a_mean_is_its_standard_error() {
        let mut state = 1u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f64
        };
        let values: Vec<f64> = (0..240).map(|_| random()).collect();
        let cut = Cut::new(values.len());
        let (mut sums, mut counts) = (Blocks::NONE, Blocks::NONE);
        for (place, value) in values.iter().enumerate() {
            sums.add(cut.of(place), *value);
            counts.add(cut.of(place), 1.0);
        }
        let (sums, counts) = (sums.folds(), counts.folds());
        let found = cut.jackknife(|fold| at(&sums, fold) / at(&counts, fold));
        let mean = values.iter().sum::<f64>() / 240.0;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / 239.0;
        assert!((found.value / mean - 1.0).abs() < 1e-9);
        assert!((found.error / (variance / 240.0).sqrt() - 1.0).abs() < 0.5, "{found:?} {}", (variance / 240.0).sqrt());
    }

    #[test]
    fn a_ratio_of_few_samples_is_drawn_to_what_is_known_and_one_of_many_is_not() {
        let ratio = |samples: usize| {
            let mut ratio = Ratio::default();
            (0..samples).for_each(|n| ratio.add(n % BATCHES, 1.0, true));
            ratio.towards(0.1)
        };
        assert!((ratio(1).value - 0.4).abs() < 1e-12 && ratio(1).error > 0.15, "{:?}", ratio(1));
        assert!(ratio(1000).value > 0.99 && ratio(1000).error < 0.01 && ratio(1000).error > 0.0);
        assert!(ratio(0).value.is_nan() && ratio(0).error.is_nan());
    }

    #[test]
    fn the_logarithm_of_a_share_that_was_never_hit_is_finite_and_unsure() {
        let mut ratio = Ratio::default();
        (0..1000).for_each(|n| ratio.add(n % BATCHES, 1.0, false));
        let found = ratio.log2_over(0.5);
        assert!(found.value < -9.0 && found.value > -12.0 && found.error > 1.0, "{found:?}");
    }

    #[test]
    fn a_single_sample_has_no_jackknife() {
        assert!(Cut::new(1).jackknife(|_| 1.0).error.is_nan());
        assert_eq!(Cut::new(100).blocks(), BATCHES);
        assert_eq!((Cut::new(100).of(0), Cut::new(100).of(99)), (0, BATCHES - 1));
    }
}
