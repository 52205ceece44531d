//! Why an object is where it is: one sentence with its numbers, and lints that name what it is.
//!
//! A lint is a pattern with a name that people can look up (`docs/lints.md`), in the manner of tokio-console. Three rules make lints worth
//! reading:
//!
//! - **Beyond its error.** A lint speaks when the 95 % interval of what it looks at lies wholly beyond its threshold. What is not known, or
//!   known without an error, is no evidence.
//! - **It says its numbers**, with their interval, so that one can disagree.
//! - **It is about what matters.** Of an object with less than a hundredth of the samples nothing is said but its size.
//!
//! A message is one or two full sentences about "it", the object, whose name the reader sees beside it.

mod lint;

use std::fmt;

use tierscope_placement::Cost;
use tierscope_rank::{Family, Features, Name};

pub use lint::{LintKind, lints};

/// The two-sided 95 % quantile of the normal distribution.
const Z: f64 = 1.959_964;

/// What was noticed about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lint {
    /// What.
    pub kind: LintKind,
    /// The evidence, for people.
    pub message: String,
}

impl fmt::Display for Lint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.id(), self.message)
    }
}

/// A feature that is known, with its 95 % interval.
#[derive(Clone, Copy, Debug)]
struct Known {
    value: f64,
    low: f64,
    high: f64,
}

impl Known {
    /// `None` where the feature or its error is not known.
    fn of(features: &Features, name: Name) -> Option<Self> {
        let (value, error) = (features.known(name)?, features.error(name));
        error.is_finite().then_some(Self { value, low: value - Z * error, high: value + Z * error })
    }

    /// Of what is a part of a whole.
    fn part(features: &Features, name: Name) -> Option<Self> {
        let Self { value, low, high } = Self::of(features, name)?;
        Some(Self { value, low: low.clamp(0.0, 1.0), high: high.clamp(0.0, 1.0) })
    }

    fn above(self, threshold: f64) -> Option<Self> {
        (self.low > threshold).then_some(self)
    }

    fn below(self, threshold: f64) -> Option<Self> {
        (self.high < threshold).then_some(self)
    }

    /// `42.0 % (40.1-43.9 %)`.
    fn percent(self) -> String {
        let number = |part: f64| format!("{:.1}", part * 100.0);
        format!("{} % ({}-{} %)", number(self.value), number(self.low), number(self.high))
    }

    /// `0.93 (0.90-0.96)`.
    fn plain(self) -> String {
        format!("{:.2} ({:.2}-{:.2})", self.value, self.low, self.high)
    }
}

/// What a share of samples is a share of.
const fn of_what(family: Family) -> &'static str {
    match family {
        Family::Clock => "of the time",
        Family::Levels => "of the sampled misses",
    }
}

/// Times the last-level cache, in words.
fn times_cache(features: &Features) -> Option<String> {
    let times = features.known(Name::Log2BytesToLlc)?.exp2();
    Some(match times {
        _ if times >= 10.0 => format!("{times:.0} times the last-level cache"),
        _ if times >= 0.1 => format!("{times:.1} times the last-level cache"),
        _ => format!("{:.1} % of the last-level cache", times * 100.0),
    })
}

/// The numbers that put an object where it is, in one sentence. `predicted` is what the run would lose with this object alone in
/// the tier called `slow`, where somebody predicts that.
#[must_use]
pub fn sentence(family: Family, features: &Features, predicted: Option<(Cost, &str)>) -> String {
    let mut parts = Vec::new();
    let share = Known::part(features, Name::Share);
    let bytes = features.known(Name::BytesShare).map(|part| format!(" in {:.1} % of the movable bytes", part * 100.0));
    let bytes = bytes.unwrap_or_default();
    let seen = features.known(Name::Samples).is_some_and(|samples| samples > 0.0);
    match share {
        Some(share) if seen => parts.push(format!("{} {}{bytes}", share.percent(), of_what(family))),
        Some(share) => {
            parts.push(format!(
                "No sample fell on it, so at most {:.1} % {}{bytes}",
                share.high * 100.0,
                of_what(family)
            ));
        }
        None => parts.push(format!("Nothing was sampled of it{bytes}")),
    }
    if seen {
        let dependent = Known::part(features, Name::DependentShare).and_then(|part| part.above(0.5));
        let in_order = Known::part(features, Name::Sequentiality).and_then(|part| part.above(0.5));
        match (dependent, in_order) {
            (Some(part), _) => parts.push(format!("{} of its addresses come out of other loads", part.percent())),
            (None, Some(part)) => parts.push(format!("it is gone through in order, to {}", part.plain())),
            (None, None) if features.known(Name::Sequentiality).is_some() => {
                parts.push("in no order that its samples show".to_owned());
            }
            (None, None) => {}
        }
        if let Some(part) = Known::part(features, Name::StoreShare).and_then(|part| part.above(0.1)) {
            parts.push(format!("{} of its samples store", part.percent()));
        }
    }
    parts.extend(times_cache(features));
    if let Some((Cost { point, low, high }, slow)) = predicted {
        let [point, low, high] = [point, low, high].map(|part| format!("{:.1}", part * 100.0));
        parts.push(format!("alone in {slow} it would cost {point} % ({low}-{high} %)"));
    }
    parts.join("; ") + "."
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chase() -> Features {
        let mut features = Features::default();
        features.set(Name::Share, 0.42, 0.01);
        features.set_exact(Name::Samples, 800.0);
        features.set_exact(Name::BytesShare, 0.12);
        features.set(Name::DependentShare, 0.98, 0.01);
        features.set(Name::Sequentiality, 0.02, 0.03);
        features.set(Name::StoreShare, 0.25, 0.02);
        features.set_exact(Name::Log2BytesToLlc, 1.0);
        features
    }

    #[test]
    fn a_sentence_says_how_much_of_what_in_how_many_bytes_and_what_it_would_cost() {
        let cost = Cost { point: 0.23, low: 0.18, high: 0.29 };
        assert_eq!(
            sentence(Family::Clock, &chase(), Some((cost, "cxl"))),
            "42.0 % (40.0-44.0 %) of the time in 12.0 % of the movable bytes; 98.0 % (96.0-100.0 %) of its addresses come out of \
             other loads; 25.0 % (21.1-28.9 %) of its samples store; 2.0 times the last-level cache; alone in cxl it would cost \
             23.0 % (18.0-29.0 %)."
        );
    }

    #[test]
    fn a_sentence_without_samples_says_what_may_have_been_missed() {
        let mut features = Features::default();
        features.set(Name::Share, 0.0, 0.002);
        features.set_exact(Name::Samples, 0.0);
        features.set_exact(Name::Log2BytesToLlc, -5.0);
        assert_eq!(
            sentence(Family::Levels, &features, None),
            "No sample fell on it, so at most 0.4 % of the sampled misses; 3.1 % of the last-level cache."
        );
        assert_eq!(sentence(Family::Clock, &Features::default(), None), "Nothing was sampled of it.");
    }

    #[test]
    fn what_has_no_error_is_no_evidence() {
        let mut features = chase();
        features.set(Name::DependentShare, 0.98, f64::NAN);
        assert!(sentence(Family::Clock, &features, None).contains("in no order"));
    }
}
