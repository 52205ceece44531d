//! Which part of a run is simulated, and how much of it.
//!
//! Two things decide, and the lesser counts: how many instructions have been executed (fast-forward, then warm-up, then all), and
//! what the last mark said that means something.

use crate::config::{AtMark, Config, Detail};

/// The state of it.
#[derive(Debug, Clone)]
pub(crate) struct Extent {
    marked: Detail,
    at_marks: Vec<AtMark>,
    warm_from: u64,
    full_from: u64,
    /// Instructions at which the next of these begins.
    next: u64,
    by_count: Detail,
    /// What holds now.
    pub(crate) detail: Detail,
}

impl Extent {
    pub(crate) fn new(config: &Config) -> Self {
        let mut extent = Self {
            marked: config.detail,
            at_marks: config.at_marks.clone(),
            warm_from: config.fast_forward,
            full_from: config.fast_forward.saturating_add(config.warm_up),
            next: 0,
            by_count: Detail::Off,
            detail: Detail::Off,
        };
        extent.advance(0);
        extent
    }

    /// So many instructions have been executed before what comes now.
    #[inline]
    pub(crate) fn advance(&mut self, instructions: u64) {
        if instructions >= self.next {
            self.change(instructions);
        }
    }

    /// Whether everything is counted until a mark says otherwise.
    pub(crate) fn is_full_from_now_on(&self) -> bool {
        self.detail == Detail::Full && self.next == u64::MAX
    }

    fn change(&mut self, instructions: u64) {
        (self.by_count, self.next) = if instructions >= self.full_from {
            (Detail::Full, u64::MAX)
        } else if instructions >= self.warm_from {
            (Detail::Warm, self.full_from)
        } else {
            (Detail::Off, self.warm_from)
        };
        self.detail = self.by_count.min(self.marked);
    }

    /// The program announced a phase.
    pub(crate) fn mark(&mut self, name: &str) {
        if let Some(at_mark) = self.at_marks.iter().find(|at_mark| at_mark.mark == name) {
            self.marked = at_mark.detail;
            self.detail = self.by_count.min(self.marked);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_go_from_off_to_full_and_marks_may_say_less() {
        let at = |mark: &str, detail| AtMark { mark: mark.into(), detail };
        let at_marks = vec![at("solve", Detail::Full), at("write", Detail::Off)];
        let config = Config { fast_forward: 100, warm_up: 50, detail: Detail::Warm, at_marks, ..Config::default() };
        let mut extent = Extent::new(&config);
        let mut at = |instructions| {
            extent.advance(instructions);
            extent.detail
        };
        assert_eq!(
            [at(0), at(99), at(100), at(149), at(150)],
            [Detail::Off, Detail::Off, Detail::Warm, Detail::Warm, Detail::Warm]
        );
        extent.mark("solve");
        assert_eq!(extent.detail, Detail::Full);
        extent.mark("nothing");
        assert_eq!(extent.detail, Detail::Full);
        extent.mark("write");
        assert_eq!(extent.detail, Detail::Off);
        assert_eq!(Extent::new(&Config::default()).detail, Detail::Full);
    }
}
