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
use tierscope_rank::{Family, Features, Name, Predicted};
use tierscope_traces::{Meta, Tables};

pub use lint::{LintKind, lints};

use crate::features::{Window, features, llc_bytes};
use crate::summary::Summary;

/// Costs below this need no reasons: they would read 0.0 %.
const WORTH_REASONS: f64 = 0.0005;

/// Most features named in a sentence.
const NAMED: usize = 2;

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

/// What is known of an object.
#[derive(Clone, Copy, Debug)]
pub enum Evidence<'a> {
    /// What its samples show.
    Features(Family, &'a Features),
    /// Its part of something, where samples show no more.
    Share {
        /// 0 to 1.
        part: f64,
        /// Of what: "of the time".
        of_what: &'static str,
        /// Its part of the movable bytes.
        bytes: f64,
    },
}

/// What the run would lose with an object alone in slow memory.
#[derive(Clone, Copy, Debug)]
pub struct Prediction<'a> {
    /// So much.
    pub cost: Cost,
    /// What that memory is called.
    pub slow: &'a str,
    /// The model's reasons, where a model says so.
    pub learned: Option<&'a Predicted>,
}

/// The numbers that put an object where it is, in one sentence.
#[must_use]
pub fn sentence(evidence: &Evidence<'_>, predicted: Option<&Prediction<'_>>) -> String {
    let mut parts = match evidence {
        Evidence::Features(family, features) => seen(*family, features),
        Evidence::Share { part, of_what, bytes } => {
            vec![format!("{:.1} % {of_what} in {:.1} % of the movable bytes", part * 100.0, bytes * 100.0)]
        }
    };
    if let Some(Prediction { cost: Cost { point, low, high }, slow, learned }) = predicted {
        let [point, low, high] = [point, low, high].map(|part| format!("{:.1}", part * 100.0));
        parts.push(format!("alone in {slow} it would cost {point} % ({low}-{high} %)"));
        parts.extend(learned.and_then(reasons));
    }
    parts.join("; ") + "."
}

/// What moved a model's prediction away from the formula.
fn reasons(predicted: &Predicted) -> Option<String> {
    // What moves next to nothing is no reason.
    if predicted.formula.max(predicted.criticality) < WORTH_REASONS || predicted.formula <= 0.0 {
        return None;
    }
    if predicted.unsure {
        return Some("by the formula, for the model knows nothing like it".to_owned());
    }
    let moved = predicted.contributions.iter().take(NAMED).map(|moved| {
        let value =
            if moved.value.is_finite() { format!("of {:.2}", moved.value) } else { "that is not known".to_owned() };
        format!("{} {value} (x{:.2})", moved.name, moved.factor)
    });
    let moved: Vec<String> = moved.collect();
    let formula = format!("the formula says {:.1} %", predicted.formula * 100.0);
    Some(if moved.is_empty() { formula } else { format!("{formula}, corrected most for {}", moved.join(" and ")) })
}

/// What samples show of an object, part by part.
fn seen(family: Family, features: &Features) -> Vec<String> {
    let mut parts = Vec::new();
    let share = Known::part(features, Name::Share);
    let bytes = features.known(Name::BytesShare).map(|part| format!(" in {:.1} % of the movable bytes", part * 100.0));
    let bytes = bytes.unwrap_or_default();
    let sampled = features.known(Name::Samples).is_some_and(|samples| samples > 0.0);
    match share {
        Some(share) if sampled => parts.push(format!("{} {}{bytes}", share.percent(), of_what(family))),
        Some(share) => {
            parts.push(format!(
                "No sample fell on it, so at most {:.1} % {}{bytes}",
                share.high * 100.0,
                of_what(family)
            ));
        }
        None => parts.push(format!("Nothing was sampled of it{bytes}")),
    }
    if sampled {
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
    parts
}

/// What is said of an object where nobody asks about tiers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Note {
    /// The numbers that tell what it is.
    pub why: String,
    /// What was noticed about it.
    pub lints: Vec<Lint>,
}

/// Notes on every object of a summary of these tables, in its order; none where samples are neither time nor misses, or there are none.
#[must_use]
pub fn notes(meta: &Meta, tables: &Tables, summary: &Summary) -> Vec<Note> {
    let observed = features(meta, tables, summary, Window::WHOLE, llc_bytes(meta).unwrap_or(0));
    let Ok(observed) = observed else { return Vec::new() };
    let family = observed.family;
    let note = |features: &Features| Note {
        why: sentence(&Evidence::Features(family, features), None),
        lints: lints(family, features),
    };
    observed.objects.iter().map(|object| note(&object.features)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tierscope_rank::Contribution;

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
            sentence(
                &Evidence::Features(Family::Clock, &chase()),
                Some(&Prediction { cost, slow: "cxl", learned: None })
            ),
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
            sentence(&Evidence::Features(Family::Levels, &features), None),
            "No sample fell on it, so at most 0.4 % of the sampled misses; 3.1 % of the last-level cache."
        );
        let nothing = Features::default();
        assert_eq!(sentence(&Evidence::Features(Family::Clock, &nothing), None), "Nothing was sampled of it.");
    }

    #[test]
    fn what_has_no_error_is_no_evidence() {
        let mut features = chase();
        features.set(Name::DependentShare, 0.98, f64::NAN);
        assert!(sentence(&Evidence::Features(Family::Clock, &features), None).contains("in no order"));
    }

    #[test]
    fn a_model_says_what_moved_it_or_that_it_followed_the_formula() {
        let mut learned = Predicted {
            criticality: 0.2,
            interval: (0.1, 0.3),
            sampled: 0.5,
            formula: 0.1,
            unsure: false,
            contributions: vec![
                Contribution { name: Name::Sequentiality, value: 0.02, factor: 1.5 },
                Contribution { name: Name::Lifetime, value: f64::NAN, factor: 1.3 },
                Contribution { name: Name::Threads, value: 1.0, factor: 1.1 },
            ],
        };
        let evidence = Evidence::Share { part: 0.3, of_what: "of the time", bytes: 0.1 };
        let cost = Cost { point: 0.2, low: 0.1, high: 0.3 };
        let said =
            |learned: &Predicted| sentence(&evidence, Some(&Prediction { cost, slow: "cxl", learned: Some(learned) }));
        assert_eq!(
            said(&learned),
            "30.0 % of the time in 10.0 % of the movable bytes; alone in cxl it would cost 20.0 % (10.0-30.0 %); the formula says \
             10.0 %, corrected most for sequentiality of 0.02 (x1.50) and lifetime that is not known (x1.30)."
        );
        learned.unsure = true;
        assert!(said(&learned).ends_with("; by the formula, for the model knows nothing like it."));
        learned.formula = 0.0;
        assert!(said(&learned).ends_with("(10.0-30.0 %)."));
    }
}
