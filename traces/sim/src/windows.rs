//! Timing in windows: a run of minutes from a thousandth of its instructions, with an interval that says how sure that is.
//!
//! Systematic sampling with functional warming, after SMARTS (Wunderlich, Wenisch, Falsafi, Hoe, "SMARTS: Accelerating
//! Microarchitecture Simulation via Rigorous Statistical Sampling", ISCA 2003): caches, TLBs and predictors see every
//! instruction, timing only windows at regular distances, each after a warm-up that fills queues. Cycles of the run are the mean
//! cycles per instruction of the windows times the instructions of the run.
//!
//! Lanes are timed in the same windows, so what distinguishes two lanes is the mean of the differences window by window, and its error
//! is that of the differences: far smaller than that of either lane, since both are slow in the same windows.

use crate::config::Windows;

/// What is done with the next block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Not timed.
    Skip,
    /// Timed, to fill queues.
    WarmUp,
    /// Timed and kept.
    Keep,
}

/// Where a run is among its windows.
#[derive(Debug, Clone)]
pub struct Position {
    windows: Windows,
    instructions: u64,
}

impl Position {
    /// At the start: the first period begins with what is skipped.
    pub fn new(windows: Windows) -> Self {
        Self { windows, instructions: 0 }
    }

    /// What is done with what comes next.
    pub fn phase(&self) -> Phase {
        let Windows { every, length, warm_up } = self.windows;
        let at = self.instructions % every.max(1);
        if at >= every.saturating_sub(length) {
            Phase::Keep
        } else if at >= every.saturating_sub(length.saturating_add(warm_up)) {
            Phase::WarmUp
        } else {
            Phase::Skip
        }
    }

    /// So many instructions were executed.
    pub fn advance(&mut self, instructions: u64) {
        self.instructions = self.instructions.saturating_add(instructions);
    }

    /// Instructions so far.
    pub fn instructions(&self) -> u64 {
        self.instructions
    }
}

/// Cycles per instruction of the reference lane, window by window.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Reference {
    windows: f64,
    sum: f64,
    squares: f64,
}

/// What another lane had more, window by window. Windows from before the lane existed differ by nothing, and need not be added.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Difference {
    sum: f64,
    squares: f64,
    products: f64,
}

/// A mean and half of the width of its 95 % interval; infinite with fewer than two windows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The mean.
    pub mean: f64,
    /// Half of the interval around it.
    pub half: f64,
}

impl Reference {
    /// Adds a window.
    pub fn add(&mut self, cpi: f64) {
        self.windows += 1.0;
        self.sum += cpi;
        self.squares += cpi * cpi;
    }

    /// Windows so far.
    pub fn windows(&self) -> u64 {
        self.windows as u64
    }

    fn half(&self, sum: f64, squares: f64) -> f64 {
        let n = self.windows;
        if n < 2.0 {
            return f64::INFINITY;
        }
        let variance = ((squares - sum * sum / n) / (n - 1.0)).max(0.0);
        quantile(n - 1.0) * (variance / n).sqrt()
    }

    /// Its own cycles per instruction.
    pub fn estimate(&self) -> Estimate {
        Estimate { mean: self.sum / self.windows.max(1.0), half: self.half(self.sum, self.squares) }
    }

    /// Cycles per instruction of a lane with this difference.
    pub fn lane(&self, difference: &Difference) -> Estimate {
        let squares = self.squares + 2.0 * difference.products + difference.squares;
        let sum = self.sum + difference.sum;
        Estimate { mean: sum / self.windows.max(1.0), half: self.half(sum, squares) }
    }

    /// The difference itself.
    pub fn difference(&self, difference: &Difference) -> Estimate {
        Estimate { mean: difference.sum / self.windows.max(1.0), half: self.half(difference.sum, difference.squares) }
    }

    /// The difference as a fraction of the reference: what criticality is. The interval is that of a ratio estimator (Cochran,
    /// "Sampling Techniques", 3rd edition, 6.4): of what remains of the differences when the ratio is taken out.
    pub fn ratio(&self, difference: &Difference) -> Estimate {
        if self.sum <= 0.0 {
            return Estimate { mean: 0.0, half: f64::INFINITY };
        }
        let ratio = difference.sum / self.sum;
        // The residuals sum to nothing.
        let squares = difference.squares - 2.0 * ratio * difference.products + ratio * ratio * self.squares;
        Estimate { mean: ratio, half: self.half(0.0, squares) * self.windows / self.sum }
    }
}

impl Difference {
    /// Adds a window in which the reference lane had `cpi` and this one `more` than that.
    pub fn add(&mut self, cpi: f64, more: f64) {
        self.sum += more;
        self.squares += more * more;
        self.products += more * cpi;
    }
}

/// The 97.5 % quantile of Student's distribution, by its expansion around the normal one (Abramowitz, Stegun, 26.7.5): within 1 %
/// from three degrees of freedom on.
fn quantile(degrees: f64) -> f64 {
    let z = 1.959_964_f64;
    let g1 = (z.powi(3) + z) / 4.0;
    let g2 = (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / 96.0;
    let g3 = (3.0 * z.powi(7) + 19.0 * z.powi(5) + 17.0 * z.powi(3) - 15.0 * z) / 384.0;
    z + g1 / degrees + g2 / degrees.powi(2) + g3 / degrees.powi(3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_comes_at_the_end_of_each_period() {
        let mut position = Position::new(Windows { every: 10, length: 2, warm_up: 3 });
        let phases: Vec<Phase> = (0..20)
            .map(|_| {
                let phase = position.phase();
                position.advance(1);
                phase
            })
            .collect();
        let period = [[Phase::Skip; 5].as_slice(), &[Phase::WarmUp; 3], &[Phase::Keep; 2]].concat();
        assert_eq!(phases, [period.clone(), period].concat());
    }

    #[test]
    fn quantiles_are_those_of_the_tables() {
        for (degrees, value) in [(3.0, 3.182), (10.0, 2.228), (30.0, 2.042), (1e6, 1.960)] {
            assert!((quantile(degrees) / value - 1.0).abs() < 0.01, "{degrees}: {}", quantile(degrees));
        }
    }

    #[test]
    fn differences_are_surer_than_what_differs() {
        let (mut reference, mut difference) = (Reference::default(), Difference::default());
        for window in 0..100 {
            // Phases of very different speed; the lane is a tenth slower in all of them.
            let cpi = if window % 3 == 0 { 10.0 } else { 1.0 };
            reference.add(cpi);
            difference.add(cpi, cpi / 10.0);
        }
        let own = reference.estimate();
        assert!((own.mean - 4.06).abs() < 0.1 && own.half > 0.7, "{own:?}");
        let ratio = reference.ratio(&difference);
        assert!((ratio.mean - 0.1).abs() < 1e-12 && ratio.half < 1e-6, "{ratio:?}");
        let lane = reference.lane(&difference);
        assert!((lane.mean - 1.1 * own.mean).abs() < 1e-9 && (lane.half - 1.1 * own.half).abs() < 1e-6);
    }

    #[test]
    fn intervals_hold_the_truth_as_often_as_they_say() {
        let mut state = 7u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1u64 << 53) as f64
        };
        let mut held = 0;
        for _ in 0..1000 {
            let (mut reference, mut difference) = (Reference::default(), Difference::default());
            for _ in 0..40 {
                let cpi = 1.0 + random();
                reference.add(cpi);
                difference.add(cpi, 0.2 * cpi + 0.1 * (random() - 0.5));
            }
            let ratio = reference.ratio(&difference);
            held += u32::from((ratio.mean - 0.2).abs() <= ratio.half);
        }
        assert!((925..=975).contains(&held), "{held} of 1000");
    }

    #[test]
    fn one_window_says_nothing_of_its_error() {
        let mut reference = Reference::default();
        reference.add(2.0);
        assert_eq!(reference.estimate(), Estimate { mean: 2.0, half: f64::INFINITY });
    }
}
