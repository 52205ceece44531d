//! Where the last choice of a plan is within the noise.
//!
//! A plan keeps one object fast and leaves another out because the first is predicted to cost more alone in slow memory. If the second
//! would fit in its place, the two can be exchanged, and which is better depends on which costs more. With estimates *a* and *b* and
//! half intervals *h* and *k* that face each other, the difference is known to sqrt(*h*² + *k*²) where errors are independent; those of one run
//! share what is wrong with all of it, which makes this too wide rather than too narrow. Where the difference is less, the choice is a tie.
//!
//! **How much longer to record.** The squared width of an interval has a part that comes of few samples and shrinks as they grow in number, and
//! one that does not (a model's). With *m* of the second kind and *s* of the first, recording *f* times as long decides the tie if
//! *m* + *s*/*f* is no more than the squared difference. Where *m* alone is more, no recording decides it, and timing both does
//! (`tierscope simulate`).
//!
//! Only what matters is told: an exchange that could not gain a hundredth of the run, or of two objects neither of which is predicted to
//! cost so much, is nobody's question. Blocks that never live together
//! count as if they did.

use tierscope_placement::Cost;

use super::caveat::NEGLIGIBLE;
use super::{Advice, AdvisedObject, Basis};

/// Recording for so many times as long is nothing to ask of a person.
const MOST_TIMES: f64 = 100.0;

/// Two objects of which either could be the one in fast memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tie {
    /// Place in [`Advice::objects`] of the one that is kept fast.
    pub fast: usize,
    /// Place of the one that is left out.
    pub slow: usize,
    /// What would tell them apart.
    pub remedy: Remedy,
}

/// What would decide a tie.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Remedy {
    /// More samples.
    Record {
        /// Times as long, or as often.
        times: f64,
        /// Seconds that is, where the recording says how long it took.
        seconds: Option<f64>,
    },
    /// The width is the model's: time both.
    Simulate,
    /// They cost so nearly the same that nothing of reasonable length does.
    Neither,
}

/// The tie of an advice whose ranker knows costs, if there is one. `seconds` is the length of the recording.
pub(super) fn find(advice: &Advice, seconds: Option<f64>) -> Option<Tie> {
    if !advice.ranker.knows_costs() || !advice.predicts() {
        return None;
    }
    let used = advice.tiers.first().map_or(0, |used| used.bytes);
    let room = advice.budget.unwrap_or(used).saturating_sub(used);
    let movable = || advice.objects.iter().enumerate().filter(|(_, object)| object.fixed.is_none());
    let matters = |object: &AdvisedObject| object.criticality.high >= NEGLIGIBLE;
    let mut closest: Option<(f64, Tie)> = None;
    for (fast, kept) in movable().filter(|(_, object)| object.tier == 0 && matters(object)) {
        for (slow, left_out) in movable().filter(|(_, object)| object.tier > 0 && matters(object)) {
            if left_out.bytes > kept.bytes.saturating_add(room) {
                continue;
            }
            let [first, second] = [kept, left_out].map(|object| Estimate::of(object, advice.basis));
            let Some((ratio, remedy)) = compare(first, second, advice.basis, seconds) else { continue };
            if closest.is_none_or(|(least, _)| ratio < least) {
                closest = Some((ratio, Tie { fast, slow, remedy }));
            }
        }
    }
    closest.map(|(_, tie)| tie)
}

/// A cost, and the part of its interval's squared width that few samples are to blame for.
#[derive(Clone, Copy)]
struct Estimate {
    cost: Cost,
    sampled: f64,
}

impl Estimate {
    fn of(object: &AdvisedObject, basis: Basis) -> Self {
        let sampled = match (&object.learned, basis) {
            (Some(predicted), Basis::Learned) => predicted.sampled,
            (_, Basis::Simulated) => 0.0,
            // Shares of samples have no other error.
            _ => 1.0,
        };
        Self { cost: object.criticality, sampled }
    }
}

/// How many times the noise the difference is, and what would decide; `None` where it is decided, or does not matter.
fn compare(kept: Estimate, left_out: Estimate, basis: Basis, seconds: Option<f64>) -> Option<(f64, Remedy)> {
    let (above, below) = (kept.cost, left_out.cost);
    let difference = above.point - below.point;
    // Facing each other: how much less the first may cost, and how much more the second.
    let (of_first, of_second) = ((above.point - above.low).powi(2), (below.high - below.point).powi(2));
    let all = of_first + of_second;
    let matters = above.point.max(below.point) >= NEGLIGIBLE && below.high - above.low >= NEGLIGIBLE;
    if difference > all.sqrt() || all <= 0.0 || !matters {
        return None;
    }
    let samples = of_first * kept.sampled + of_second * left_out.sampled;
    let times = samples / (difference * difference - (all - samples));
    let remedy = match basis {
        Basis::Simulated => Remedy::Neither,
        _ if (1.0..=MOST_TIMES).contains(&times) => {
            Remedy::Record { times, seconds: seconds.map(|seconds| seconds * times) }
        }
        Basis::Learned if samples < all / 2.0 => Remedy::Simulate,
        _ => Remedy::Neither,
    };
    Some((difference / all.sqrt(), remedy))
}

/// A cost with its interval, for people.
pub(super) fn shown(cost: Cost) -> String {
    let Cost { point, low, high } = cost;
    format!("{} ({}-{} %)", super::percent(point), super::in_percent(low), super::in_percent(high))
}

impl Tie {
    /// One or two sentences; `name` is what each object is called.
    #[must_use]
    pub fn text(&self, advice: &Advice, name: &dyn Fn(&AdvisedObject) -> String) -> String {
        let (Some(kept), Some(left_out)) = (advice.objects.get(self.fast), advice.objects.get(self.slow)) else {
            return String::new();
        };
        let slow = advice.tiers.last().map_or("slow memory", |used| used.tier.name.as_str());
        let choice = format!(
            "{} rather than {} in fast memory is within the noise: alone in {slow} they cost {} and {}.",
            name(kept),
            name(left_out),
            shown(kept.criticality),
            shown(left_out.criticality)
        );
        let mends = match self.remedy {
            Remedy::Record { times, seconds } => {
                let long = seconds.map_or_else(String::new, |seconds| format!(" ({})", duration(seconds)));
                format!("Recording {times:.1} times as long{long}, or as often (-r), would tell them apart.")
            }
            Remedy::Simulate => {
                "Recording for longer would not tell them apart, since the width is the model's and not that \
                                 of few samples; `tierscope simulate` times both."
                    .to_owned()
            }
            Remedy::Neither => "They cost so nearly the same that either may be there.".to_owned(),
        };
        format!("{choice} {mends}")
    }
}

fn duration(seconds: f64) -> String {
    match seconds {
        seconds if seconds < 120.0 => format!("{seconds:.0} s"),
        seconds if seconds < 7200.0 => format!("{:.0} min", seconds / 60.0),
        seconds => format!("{:.1} h", seconds / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn estimate(point: f64, half: f64, sampled: f64) -> Estimate {
        Estimate { cost: Cost { point, low: (point - half).max(0.0), high: point + half }, sampled }
    }

    #[test]
    fn what_differs_by_more_than_the_noise_and_what_does_not_matter_is_no_tie() {
        let tie = |first, second| compare(first, second, Basis::Time, None);
        assert_eq!(tie(estimate(0.5, 0.1, 1.0), estimate(0.3, 0.1, 1.0)), None);
        assert!(tie(estimate(0.5, 0.1, 1.0), estimate(0.37, 0.1, 1.0)).is_some(), "0.13 is less than 0.14");
        assert_eq!(tie(estimate(0.004, 0.002, 1.0), estimate(0.003, 0.002, 1.0)), None, "nobody sees either");
        assert_eq!(tie(estimate(0.004, 0.2, 0.0), estimate(0.003, 0.2, 0.0)), None, "wide, and about nothing");
        assert_eq!(tie(estimate(0.5, 0.0, 1.0), estimate(0.5, 0.0, 1.0)), None, "equal for certain");
    }

    #[test]
    fn so_many_times_as_long_is_just_enough() {
        let (first, second) = (estimate(0.5, 0.1, 1.0), estimate(0.4, 0.2, 1.0));
        let Some((_, Remedy::Record { times, seconds })) = compare(first, second, Basis::Time, Some(10.0)) else {
            panic!("no tie")
        };
        assert!((times - 5.0).abs() < 1e-9 && (seconds.unwrap() - 50.0).abs() < 1e-9, "{times} {seconds:?}");
        // With that many times the samples the halves are narrower by its root, and the tie is decided.
        let narrower = |of: Estimate, half: f64| estimate(of.cost.point, half / (1.001 * times).sqrt(), 1.0);
        assert_eq!(compare(narrower(first, 0.1), narrower(second, 0.2), Basis::Time, None), None);
    }

    #[test]
    fn where_the_width_is_the_models_no_recording_helps_and_a_simulation_does() {
        let remedy = |difference: f64, sampled| {
            let (first, second) = (estimate(0.5, 0.2, sampled), estimate(0.5 - difference, 0.2, sampled));
            compare(first, second, Basis::Learned, None).unwrap().1
        };
        assert_eq!(remedy(0.1, 0.1), Remedy::Simulate);
        // 0.08 in all, 0.06 of it samples': 0.02 + 0.06 / f is 0.04 for f = 3.
        assert!(matches!(remedy(0.2, 0.75), Remedy::Record { times, .. } if (times - 3.0).abs() < 1e-9));
        assert_eq!(remedy(0.0, 0.9), Remedy::Neither, "equal as far as anybody can tell");
        let timed = compare(estimate(0.5, 0.2, 0.0), estimate(0.4, 0.2, 0.0), Basis::Simulated, Some(9.0)).unwrap();
        assert_eq!(timed.1, Remedy::Neither);
    }
}
