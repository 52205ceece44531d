//! Which part of a run is looked at.

use tierscope_traces::Tables;

/// A stretch of the profile's clock, from the start up to and without the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// First nanosecond.
    pub start_ns: u64,
    /// The first nanosecond after it.
    pub end_ns: u64,
}

impl Window {
    /// Everything that was recorded.
    pub const WHOLE: Self = Self { start_ns: 0, end_ns: u64::MAX };

    /// From the first mark of this name to the next mark of another: a phase that is announced anew in each iteration is one.
    /// `None` where the program set no such mark.
    #[must_use]
    pub fn phase(tables: &Tables, name: &str) -> Option<Self> {
        let start_ns = tables.marks.iter().filter(|mark| mark.name == name).map(|mark| mark.time_ns).min()?;
        let later = tables.marks.iter().filter(|mark| mark.name != name && mark.time_ns > start_ns);
        Some(Self { start_ns, end_ns: later.map(|mark| mark.time_ns).min().unwrap_or(u64::MAX) })
    }

    /// Whether this instant is in it.
    #[must_use]
    pub const fn holds(&self, time_ns: u64) -> bool {
        self.start_ns <= time_ns && time_ns < self.end_ns
    }

    /// The part of it that was observed: from the first sample in it to the last. `None` without samples.
    pub(super) fn observed(self, tables: &Tables) -> Option<Self> {
        let times = || tables.samples.iter().map(|sample| sample.time_ns).filter(|&time_ns| self.holds(time_ns));
        Some(Self { start_ns: times().min()?, end_ns: times().max()?.saturating_add(1) })
    }

    /// How long it is.
    pub(super) const fn nanoseconds(&self) -> u64 {
        self.end_ns.saturating_sub(self.start_ns)
    }

    /// What of a span lies in it, where any does.
    pub(super) fn clip(&self, start_ns: u64, end_ns: u64) -> Option<(u64, u64)> {
        let (start, end) = (start_ns.max(self.start_ns), end_ns.min(self.end_ns));
        (start < end).then_some((start, end))
    }

    /// Which of `parts` equal stretches an instant in it falls into.
    pub(super) fn stretch(&self, time_ns: u64, parts: usize) -> usize {
        let place = time_ns.saturating_sub(self.start_ns) as f64 / self.nanoseconds().max(1) as f64;
        ((place * parts as f64) as usize).min(parts.saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tierscope_traces::MarkRow;

    #[test]
    fn a_phase_reaches_from_its_first_mark_to_the_next_of_another_name() {
        let marks = [(5, "build"), (10, "kernel"), (20, "kernel"), (30, "measure"), (40, "kernel")];
        let marks = marks.map(|(time_ns, name)| MarkRow { time_ns, tid: 1, name: name.into() }).to_vec();
        let tables = Tables { marks, ..Tables::default() };
        assert_eq!(Window::phase(&tables, "kernel"), Some(Window { start_ns: 10, end_ns: 30 }));
        assert_eq!(Window::phase(&tables, "measure"), Some(Window { start_ns: 30, end_ns: 40 }));
        assert_eq!(Window::phase(&tables, "nothing"), None);
        assert_eq!(Window::WHOLE.observed(&tables), None);
    }

    #[test]
    fn stretches_are_equal_and_cover_it() {
        let window = Window { start_ns: 100, end_ns: 200 };
        assert_eq!([100, 124, 125, 199].map(|time_ns| window.stretch(time_ns, 4)), [0, 0, 1, 3]);
        assert_eq!((window.clip(0, 150), window.clip(200, 300)), (Some((100, 150)), None));
    }
}
