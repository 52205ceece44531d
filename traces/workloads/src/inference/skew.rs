//! How often the rows of an embedding table are looked up: laws of popularity, fitted to production or chosen.
//!
//! Production is what Meta has published about its own tables: `facebookresearch/dlrm_datasets` (MIT licence) says, for
//! the lookups of one large batch over 856 (2021) or 788 (2022) tables, which share of the rows was looked up how often,
//! in powers of two, and which share of the lookups they took. Read from the most popular bin down, that is a curve: the
//! share A(x) of the lookups that the most popular share x of the rows takes. In both years its head is straight over the
//! logarithm of x, and its body bends; so the law is a mixture of a head whose popularity falls as one over the rank,
//! with a flat top, and a body:
//!
//! ```text
//! A(x) = head * ln(1 + x / top) / ln(1 + 1 / top) + (1 - head) * (1 - (1 - x)^bend)
//! ```
//!
//! Fitted by least squares to the 15 (2021: the first, of all 856 tables) or 16 points of the curve: a grid over the three
//! parameters, then random steps downhill. Where the published share of rows is rounded to fewer than two digits (bins of
//! more than 256 lookups), it was put at the lookups of the bin divided by 1.4 times its lower edge. The largest error of
//! A at any point is 0.014 (2021) and 0.016 (2022), the root of the mean square 0.008 and 0.007. The published headline,
//! that 0.8 % of the rows take 42 % of the lookups (2021) and 1.8 % take 52 % (2022), comes out as 41.9 % and 51.7 %.
//! "Rows" are those looked up at all in that batch; rows nobody asks for are left out, here as there.
//!
//! Both parts have an inverse in closed form, so that a lookup costs one random word and no table.

use crate::random::{self, Permutation};

/// A law of popularity.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Skew {
    /// Fitted to a published histogram.
    Fitted { head: f64, top: f64, bend: f64 },
    /// Zipf: the row of rank k is looked up as often as k^-exponent says.
    Zipf { exponent: f64 },
    /// Every row as often.
    Uniform,
}

/// Fitted to `dlrm_datasets` 2021.
const PRODUCTION_2021: Skew = Skew::Fitted { head: 0.735_923, top: 1.819_75e-5, bend: 4.277_71 };

/// Fitted to `dlrm_datasets` 2022.
const PRODUCTION_2022: Skew = Skew::Fitted { head: 0.770_424, top: 1.400_66e-5, bend: 5.883_48 };

/// How a law is written in a setting.
pub(crate) const FORM: &str = "2021 | 2022 (production) | zipf:EXPONENT (0.1 to 3) | uniform";

impl Skew {
    /// The law written as [`FORM`] says.
    pub(crate) fn parse(text: &str) -> Option<Skew> {
        match text {
            "2021" => Some(PRODUCTION_2021),
            "2022" => Some(PRODUCTION_2022),
            "uniform" => Some(Skew::Uniform),
            _ => {
                let exponent = text.strip_prefix("zipf:")?.parse().ok()?;
                (0.1..=3.0).contains(&exponent).then_some(Skew::Zipf { exponent })
            }
        }
    }

    /// Whether [`Skew::parse`] understands the text.
    pub(crate) fn accepts(text: &str) -> bool {
        Skew::parse(text).is_some()
    }

    /// What of the law's inverse does not depend on the draw.
    fn constant(self, rows: u32) -> f64 {
        match self {
            Skew::Uniform => 0.0,
            Skew::Fitted { top, .. } => (1.0 / top).ln_1p(),
            Skew::Zipf { exponent } => (f64::from(rows) + 1.0).powf(1.0 - exponent),
        }
    }

    /// Which share of the rows, counted from the most popular, lies before the row of a lookup: from 0 to below 1.
    #[inline]
    fn position(self, rows: u32, constant: f64, draw: f64) -> f64 {
        match self {
            Skew::Uniform => draw,
            Skew::Fitted { head, top, .. } if draw < head => top * (constant * (draw / head)).exp_m1(),
            Skew::Fitted { head, bend, .. } => 1.0 - ((1.0 - draw) / (1.0 - head)).powf(1.0 / bend),
            Skew::Zipf { exponent } => {
                // The continuous law over ranks 1 to rows + 1, whose integer parts have Zipf's shares but for the first
                // few ranks, which it flattens a little (by 2 % of the lookups at exponent 1 and a million rows).
                let (rest, rows) = (1.0 - exponent, f64::from(rows));
                let rank = if rest.abs() < 1e-9 {
                    (rows + 1.0).powf(draw)
                } else {
                    (1.0 + draw * (constant - 1.0)).powf(1.0 / rest)
                };
                (rank - 1.0) / rows
            }
        }
    }
}

/// Lookups in one table: which row is popular is settled by chance, once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lookups {
    skew: Skew,
    constant: f64,
    rows: u32,
    seed: u64,
    scatter: Option<Permutation>,
}

impl Lookups {
    /// Lookups in a table of `rows` rows (1 to 2^31). `ranked` leaves the rows in order of popularity, as a table
    /// reordered by frequency has them; otherwise they are anywhere.
    pub(crate) fn new(skew: Skew, rows: u32, seed: u64, ranked: bool) -> Self {
        let scatter = (!ranked).then(|| Permutation::new(rows, random::derive(seed, 0x0073_6361_7474)));
        Lookups { skew, constant: skew.constant(rows), rows, seed: random::derive(seed, 0x6c6f_6f6b), scatter }
    }

    /// The row of one lookup.
    #[inline]
    pub(crate) fn row(&self, lookup: u64) -> u32 {
        let draw = random::unit(random::at(self.seed, lookup));
        let position = self.skew.position(self.rows, self.constant, draw);
        let rank = ((position * f64::from(self.rows)) as u32).min(self.rows - 1);
        self.scatter.map_or(rank, |scatter| scatter.apply(rank))
    }
}

/// Share of the accesses that the most accessed `share` of some rows take; 0 where there are none.
pub(crate) fn share_of_hottest(mut counts: Vec<u32>, share: f64) -> f64 {
    counts.sort_unstable_by(|a, b| b.cmp(a));
    let hottest = ((counts.len() as f64 * share).round() as usize).min(counts.len());
    let sum = |counts: &[u32]| counts.iter().map(|&count| u64::from(count)).sum::<u64>();
    let all = sum(&counts);
    if all == 0 { 0.0 } else { sum(&counts[..hottest]) as f64 / all as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Share of the lookups that the most popular share of the rows takes, by rank, not by luck.
    fn sampled(skew: Skew, share: f64) -> f64 {
        const ROWS: u32 = 1 << 20;
        let lookups = Lookups::new(skew, ROWS, 11, true);
        let popular = (f64::from(ROWS) * share) as u32;
        (0..200_000).filter(|&lookup| lookups.row(lookup) < popular).count() as f64 / 2e5
    }

    #[test]
    fn the_fitted_laws_give_the_published_shares() {
        for (year, rows, share) in [("2021", 0.008, 0.42), ("2022", 0.018, 0.52)] {
            let found = sampled(Skew::parse(year).unwrap(), rows);
            assert!((found - share).abs() < 0.01, "{year}: {found}");
        }
    }

    #[test]
    fn the_fitted_laws_follow_the_published_curves() {
        // Points of the published histograms whose share of rows has two digits.
        let points_2021 =
            [(0.020, 0.494), (0.052, 0.598), (0.124, 0.719), (0.236, 0.820), (0.375, 0.888), (0.527, 0.932)];
        let points_2022 =
            [(0.047, 0.619), (0.115, 0.739), (0.227, 0.844), (0.365, 0.912), (0.514, 0.952), (0.658, 0.975)];
        for (year, points) in [("2021", points_2021), ("2022", points_2022)] {
            for (rows, share) in points {
                let found = sampled(Skew::parse(year).unwrap(), rows);
                assert!((found - share).abs() < 0.02, "{year} {rows}: {found}, not {share}");
            }
        }
    }

    #[test]
    fn zipf_gives_each_rank_its_share() {
        for exponent in [0.8, 1.0, 1.2] {
            let weights: Vec<_> = (1..=1u32 << 20).map(|rank| f64::from(rank).powf(-exponent)).collect();
            let (all, hottest): (f64, f64) = (weights.iter().sum(), weights[..10_485].iter().sum());
            let found = sampled(Skew::Zipf { exponent }, 0.01);
            assert!((found - hottest / all).abs() < 0.03, "{exponent}: {found}, not {}", hottest / all);
        }
        assert!((sampled(Skew::Uniform, 0.25) - 0.25).abs() < 0.01);
    }

    #[test]
    fn scattered_rows_are_as_popular_as_ranked_ones() {
        let count = |ranked| {
            let lookups = Lookups::new(PRODUCTION_2022, 5000, 3, ranked);
            let mut counts = vec![0; 5000];
            (0..100_000).for_each(|lookup| counts[lookups.row(lookup) as usize] += 1);
            counts
        };
        let (ranked, scattered) = (count(true), count(false));
        assert!(ranked[..50].iter().sum::<u32>() > 40_000 && scattered[..50].iter().sum::<u32>() < 40_000);
        assert_eq!(share_of_hottest(ranked, 0.01), share_of_hottest(scattered, 0.01));
    }

    #[test]
    fn what_is_no_law_is_refused() {
        for text in ["", "2020", "zipf", "zipf:", "zipf:9", "zipf:nan", "Uniform"] {
            assert!(!Skew::accepts(text), "{text}");
        }
        assert_eq!(Skew::parse("zipf:1.05"), Some(Skew::Zipf { exponent: 1.05 }));
    }

    #[test]
    fn shares_of_the_hottest_are_by_count() {
        assert_eq!(share_of_hottest(vec![1, 6, 1, 2], 0.25), 0.6);
        assert_eq!(share_of_hottest(vec![], 0.01), 0.0);
    }
}
