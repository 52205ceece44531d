//! Median and quartiles.

use tierscope_tiers::{Figure, Origin};

/// A median with the quartiles around it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Spread {
    /// Of finite values; None of none.
    pub(crate) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.retain(|value| value.is_finite());
        values.sort_by(f64::total_cmp);
        Some(Self { median: quantile(&values, 0.5)?, low: quantile(&values, 0.25)?, high: quantile(&values, 0.75)? })
    }

    /// As a figure, with three significant digits: windows agree to no more.
    pub(crate) fn figure(self, date: &str) -> Figure {
        let range = Some((three_digits(self.low), three_digits(self.high)));
        Figure { range, ..Figure::new(three_digits(self.median), Origin::new("measured on this machine", date)) }
    }
}

/// By linear interpolation between the sorted values.
fn quantile(sorted: &[f64], part: f64) -> Option<f64> {
    let place = part * (sorted.len().checked_sub(1)? as f64);
    let (below, above) = (sorted.get(place.floor() as usize)?, sorted.get(place.ceil() as usize)?);
    Some(below + (above - below) * place.fract())
}

fn three_digits(value: f64) -> f64 {
    // The shortest text with three digits, read back: free of the error of scaling by powers of ten.
    format!("{value:.2e}").parse().unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_outlier_moves_neither_median_nor_quartiles_far() {
        let spread = Spread::of(vec![100.0, 101.0, 102.0, 103.0, 9000.0, f64::NAN]).unwrap();
        assert_eq!((spread.low, spread.median, spread.high), (101.0, 102.0, 103.0));
        assert_eq!(Spread::of(vec![7.0]).unwrap().high, 7.0);
        assert_eq!(Spread::of(Vec::new()), None);
    }

    #[test]
    fn figures_have_three_digits_and_keep_their_order() {
        let figure = Spread { median: 104.4712, low: 103.96, high: 12_345.6 }.figure("2026-11-21");
        assert_eq!((figure.value, figure.range), (104.0, Some((104.0, 12_300.0))));
        assert_eq!(three_digits(0.083_74), 0.0837);
    }
}
