//! The lints: what each means, from where on it speaks and why from there, and what it says.

use tierscope_rank::{Family, Features, Name};

use super::{Known, Lint, of_what, times_cache};
use crate::advice::{FEW_SAMPLES, NEGLIGIBLE};

/// Steadiness from which on an object is a stream.
const STREAM: f64 = 0.6;
/// Part of addresses that come out of other loads, from which on they decide, and below which they do not.
const CHASE: f64 = 0.5;
const NO_CHASE: f64 = 0.2;
/// Part of samples that store, from which on an object is written much.
const WRITTEN: f64 = 0.25;
/// How much worse writes must do than reads in the slow tier, to speak of writes.
const WORSE_WRITES: f64 = 1.5;
/// What memory without granules moves at once.
const LINE_BYTES: f64 = 64.0;
/// Part of samples that walked page tables.
const WALKS: f64 = 0.5;
/// Part of samples in the first quarter of an object's life.
const EARLY: f64 = 0.9;
/// Part of the last-level cache that an object may fill and still stay there: where everything fits, and where not.
const FITS: f64 = 0.5;
const FITS_BESIDE_OTHERS: f64 = 0.1;

/// A pattern with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LintKind {
    /// Few samples.
    TooFewSamples,
    /// A stream.
    StreamPrefetch,
    /// Addresses out of other loads.
    PointerChase,
    /// The slow tier's bandwidth decides.
    BandwidthBound,
    /// Written much, where writes are slow.
    WriteHeavyOnOptane,
    /// Page walks.
    TlbBound,
    /// Used at first only.
    BuildPhaseOnly,
    /// In cache.
    FitsInLlc,
}

impl LintKind {
    /// All of them, in the order in which they are found.
    pub const ALL: [Self; 8] = [
        Self::TooFewSamples,
        Self::StreamPrefetch,
        Self::PointerChase,
        Self::BandwidthBound,
        Self::WriteHeavyOnOptane,
        Self::TlbBound,
        Self::BuildPhaseOnly,
        Self::FitsInLlc,
    ];

    /// The name people look up and scripts match.
    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Self::TooFewSamples => "too-few-samples",
            Self::StreamPrefetch => "stream-prefetch",
            Self::PointerChase => "pointer-chase",
            Self::BandwidthBound => "bandwidth-bound",
            Self::WriteHeavyOnOptane => "write-heavy-on-optane",
            Self::TlbBound => "tlb-bound",
            Self::BuildPhaseOnly => "build-phase-only",
            Self::FitsInLlc => "fits-in-llc",
        }
    }

    /// What it means, in one line.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::TooFewSamples => "Too few samples to rank it by them.",
            Self::StreamPrefetch => {
                "It is gone through in order: prefetchers hide latency, and a tier's bandwidth is what counts."
            }
            Self::PointerChase => {
                "Its addresses come out of other loads, as in lists, trees and look-ups by index: no prefetcher can follow."
            }
            Self::BandwidthBound => "In the slow tier it would be held up by bandwidth more than by latency.",
            Self::WriteHeavyOnOptane => {
                "It is written much, and the slow tier writes far worse than it reads, or in granules larger than a line."
            }
            Self::TlbBound => "Most of its misses also walk page tables: huge pages help it in any tier.",
            Self::BuildPhaseOnly => {
                "It is used at the beginning of its life and hardly later: it need not hold fast memory."
            }
            Self::FitsInLlc => "It stays in the last-level cache, so the tier behind hardly matters.",
        }
    }

    /// When it speaks. Every comparison is with the end of a 95 % interval.
    #[must_use]
    pub fn threshold(self) -> String {
        match self {
            Self::TooFewSamples => format!("fewer than {FEW_SAMPLES} samples, at least one"),
            Self::StreamPrefetch => {
                format!("`sequentiality` above {STREAM} and `dependent_share`, where known, below {NO_CHASE}")
            }
            Self::PointerChase => format!("`dependent_share` above {CHASE}, and no stream"),
            Self::BandwidthBound => {
                format!("`formula_bandwidth` above `formula_latency` and above {NEGLIGIBLE} of the run")
            }
            Self::WriteHeavyOnOptane => format!(
                "`store_share` above {WRITTEN}, and `write_bandwidth_x` {WORSE_WRITES} times `bandwidth_x` or `granule_bytes` above \
                 {LINE_BYTES}"
            ),
            Self::TlbBound => format!("`walk_share` above {WALKS}"),
            Self::BuildPhaseOnly => format!("`early_share` above {EARLY}"),
            Self::FitsInLlc => {
                format!(
                    "bytes below {FITS} of the last-level cache where all movable bytes fit into it, else below \
                     {FITS_BESIDE_OTHERS}; and `miss_share`, where known, not above {NEGLIGIBLE}"
                )
            }
        }
    }

    /// Why it speaks from there on.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::TooFewSamples => {
                "With ten samples the 95 % interval of their number (Poisson, 4.8 to 18.4) spans a factor of nearly four."
            }
            Self::StreamPrefetch => {
                "Below, four in ten steps go where no prefetcher follows, and their latency outweighs what it hides of the others."
            }
            Self::PointerChase => {
                "Above one half most accesses cannot begin before another has ended; those of one chain wait in turn."
            }
            Self::BandwidthBound => {
                "The larger of two estimates that are added decides; below a hundredth nobody sees either."
            }
            Self::WriteHeavyOnOptane => {
                "A store for three loads is what code mixes on average, and samples of time see fewer of them, since buffers hide \
                 stores; Optane reads three to five times faster than it writes, and moves 256 B for 64 B."
            }
            Self::TlbBound => "Above one half a walk is part of the typical miss, below it of the exception.",
            Self::BuildPhaseOnly => "Even use has 0.25; above 0.9 the other three quarters of its life share a tenth.",
            Self::FitsInLlc => {
                "The other half is for stacks, code and tables; where not everything fits, the rest passes through the cache too."
            }
        }
    }
}

/// What there is to notice about an object. Features hold what is known of tiers ([`Features::set_tiers`]) and the formulas, where
/// somebody has put them in; what needs them is silent without.
#[must_use]
pub fn lints(family: Family, features: &Features) -> Vec<Lint> {
    let few = features.known(Name::Samples).filter(|samples| *samples > 0.0 && *samples < FEW_SAMPLES);
    let matters = few.is_none() && Known::part(features, Name::Share).is_some_and(|share| share.low >= NEGLIGIBLE);
    let found = LintKind::ALL.into_iter().filter_map(|kind| {
        let message = match kind {
            LintKind::TooFewSamples => few.and_then(|samples| too_few(family, features, samples)),
            LintKind::FitsInLlc => fits(features),
            _ if !matters => None,
            LintKind::StreamPrefetch => stream(features),
            LintKind::PointerChase => chase(features),
            LintKind::BandwidthBound => bandwidth(features),
            LintKind::WriteHeavyOnOptane => written(features),
            LintKind::TlbBound => walks(features),
            LintKind::BuildPhaseOnly => early(features),
        };
        message.map(|message| Lint { kind, message })
    });
    found.collect()
}

fn too_few(family: Family, features: &Features, samples: f64) -> Option<String> {
    let share = Known::part(features, Name::Share)?;
    Some(format!(
        "It has {samples:.0} samples, {} {}. Record for longer, or with a higher rate (-r), before relying on its place.",
        share.percent(),
        of_what(family)
    ))
}

fn stream_of(features: &Features) -> Option<Known> {
    let steady = Known::part(features, Name::Sequentiality)?.above(STREAM)?;
    // Where it is known, it must be known to be small.
    match features.known(Name::DependentShare) {
        None => Some(steady),
        Some(_) => Known::part(features, Name::DependentShare)?.below(NO_CHASE).map(|_| steady),
    }
}

fn stream(features: &Features) -> Option<String> {
    let steady = stream_of(features)?;
    let tiers = Known::of(features, Name::BandwidthX)
        .map(|ratio| format!(" The slow tier has {:.1} times less bandwidth.", ratio.value));
    Some(format!(
        "One speed explains its steps to {}: prefetchers hide latency.{}",
        steady.plain(),
        tiers.unwrap_or_default()
    ))
}

fn chase(features: &Features) -> Option<String> {
    let dependent = Known::part(features, Name::DependentShare)?.above(CHASE)?;
    if stream_of(features).is_some() {
        return None;
    }
    let tiers = features.known(Name::LatencyX);
    let tiers = tiers.map(|ratio| format!(" The slow tier takes {ratio:.1} times as long."));
    Some(format!(
        "{} of its samples need an address that was itself just loaded: no prefetcher follows, and where each waits for the last \
         nothing hides the latency.{}",
        dependent.percent(),
        tiers.unwrap_or_default()
    ))
}

fn bandwidth(features: &Features) -> Option<String> {
    let moving = Known::of(features, Name::FormulaBandwidth)?.above(NEGLIGIBLE)?;
    let waiting = Known::of(features, Name::FormulaLatency)?;
    if moving.low <= waiting.high {
        return None;
    }
    let (bandwidth, latency) = (features.known(Name::BandwidthX)?, features.known(Name::LatencyX)?);
    Some(format!(
        "In the slow tier moving its lines would cost {} of the run, waiting for them {}: that tier has {bandwidth:.1} times less \
         bandwidth and {latency:.1} times the latency.",
        moving.percent(),
        waiting.percent()
    ))
}

fn written(features: &Features) -> Option<String> {
    let stores = Known::part(features, Name::StoreShare)?.above(WRITTEN)?;
    let (reads, writes) = (features.known(Name::BandwidthX), features.known(Name::WriteBandwidthX));
    let worse = reads.zip(writes).filter(|(reads, writes)| *writes >= WORSE_WRITES * reads);
    let granule = features.known(Name::GranuleBytes).filter(|bytes| *bytes > LINE_BYTES);
    let why = match (worse, granule) {
        (Some((reads, writes)), _) => {
            format!("the slow tier reads {reads:.1} times slower than the fast one and writes {writes:.1} times slower")
        }
        (None, Some(bytes)) => {
            format!("the slow tier moves {bytes:.0} B for each line of {LINE_BYTES} B that is written back alone")
        }
        (None, None) => return None,
    };
    Some(format!("{} of its samples store, and {why}.", stores.percent()))
}

fn walks(features: &Features) -> Option<String> {
    let walks = Known::part(features, Name::WalkShare)?.above(WALKS)?;
    Some(format!("{} of its samples walked page tables: huge pages spare them, in any tier.", walks.percent()))
}

fn early(features: &Features) -> Option<String> {
    let early = Known::part(features, Name::EarlyShare)?.above(EARLY)?;
    let lifetime = features.known(Name::Lifetime);
    let lifetime = lifetime.map(|part| format!(" It lives for {:.0} % of the observed time.", part * 100.0));
    Some(format!(
        "{} of its samples lie in the first quarter of its life.{}",
        early.percent(),
        lifetime.unwrap_or_default()
    ))
}

fn fits(features: &Features) -> Option<String> {
    let all_fit = features.known(Name::Log2FootprintToLlc).is_some_and(|footprint| footprint <= 0.0);
    let most = if all_fit { FITS } else { FITS_BESIDE_OTHERS };
    Known::of(features, Name::Log2BytesToLlc)?.below(most.log2())?;
    // It should fit, and yet it was seen to miss.
    if Known::part(features, Name::MissShare).is_some_and(|misses| misses.low > NEGLIGIBLE) {
        return None;
    }
    Some(format!("It is {}: once read it stays there.", times_cache(features)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tierscope_rank::TierPair;

    /// An object that nothing is to be said of, large and busy, with tiers as Optane beside DDR4.
    fn plain() -> Features {
        let mut features = Features::default();
        for (name, value, error) in [
            (Name::Share, 0.3, 0.01),
            (Name::Samples, 1000.0, 0.0),
            (Name::BytesShare, 0.3, 0.0),
            (Name::Log2BytesToLlc, 3.0, 0.0),
            (Name::Lifetime, 1.0, 0.0),
            (Name::Sequentiality, 0.3, 0.05),
            (Name::DependentShare, 0.3, 0.02),
            (Name::StoreShare, 0.1, 0.01),
            (Name::WalkShare, 0.2, 0.02),
            (Name::EarlyShare, 0.25, 0.02),
            (Name::MissShare, 0.005, 0.001),
            (Name::Log2FootprintToLlc, 4.0, 0.0),
            (Name::FormulaLatency, 0.5, 0.02),
            (Name::FormulaBandwidth, 0.2, 0.02),
        ] {
            features.set(name, value, error);
        }
        features.set_tiers(&TierPair {
            latency_x: 3.0,
            bandwidth_x: 2.8,
            write_bandwidth_x: 7.0,
            granule_bytes: 256.0,
            slow_read_gbs: 37.6,
            slow_write_gbs: 11.0,
        });
        features
    }

    fn with(changes: &[(Name, f64, f64)]) -> Features {
        let mut features = plain();
        changes.iter().for_each(|&(name, value, error)| features.set(name, value, error));
        features
    }

    fn kinds(family: Family, features: &Features) -> Vec<LintKind> {
        lints(family, features).into_iter().map(|lint| lint.kind).collect()
    }

    #[test]
    fn an_ordinary_object_has_none() {
        for family in Family::ALL {
            assert_eq!(lints(family, &plain()), []);
        }
        assert_eq!(lints(Family::Clock, &Features::default()), []);
    }

    #[test]
    fn each_speaks_of_its_case_and_is_silent_on_the_opposite_and_within_the_error() {
        use LintKind as Kind;
        /// A lint, features that make it speak, and changes to them each of which silences it.
        type Case = (Kind, &'static [(Name, f64, f64)], &'static [(Name, f64, f64)]);
        const NAN: f64 = f64::NAN;
        let cases: [Case; 8] = [
            (
                Kind::TooFewSamples,
                &[(Name::Samples, 4.0, 0.0), (Name::Share, 0.01, 0.005)],
                &[(Name::Samples, 10.0, 0.0), (Name::Samples, 0.0, 0.0), (Name::Samples, NAN, NAN)],
            ),
            (
                Kind::StreamPrefetch,
                &[(Name::Sequentiality, 0.95, 0.02), (Name::DependentShare, 0.02, 0.01)],
                &[
                    (Name::Sequentiality, 0.05, 0.02),
                    (Name::Sequentiality, 0.95, 0.3),
                    (Name::Sequentiality, 0.95, NAN),
                    (Name::DependentShare, 0.9, 0.02),
                    (Name::DependentShare, 0.02, 0.2),
                    (Name::Share, 0.005, 0.001),
                ],
            ),
            (
                Kind::PointerChase,
                &[(Name::DependentShare, 0.97, 0.01)],
                &[
                    (Name::DependentShare, 0.02, 0.01),
                    (Name::DependentShare, 0.7, 0.2),
                    (Name::DependentShare, NAN, NAN),
                    (Name::Share, 0.02, 0.01),
                ],
            ),
            (
                Kind::BandwidthBound,
                &[(Name::FormulaBandwidth, 0.9, 0.03)],
                &[
                    (Name::FormulaLatency, 2.0, 0.03),
                    (Name::FormulaBandwidth, 0.9, 0.3),
                    (Name::FormulaBandwidth, NAN, NAN),
                    (Name::BandwidthX, NAN, NAN),
                ],
            ),
            (
                Kind::WriteHeavyOnOptane,
                &[(Name::StoreShare, 0.6, 0.02)],
                &[(Name::StoreShare, 0.02, 0.02), (Name::StoreShare, 0.3, 0.1), (Name::StoreShare, NAN, NAN)],
            ),
            (
                Kind::TlbBound,
                &[(Name::WalkShare, 0.8, 0.02)],
                &[(Name::WalkShare, 0.1, 0.02), (Name::WalkShare, 0.6, 0.1), (Name::WalkShare, NAN, NAN)],
            ),
            (
                Kind::BuildPhaseOnly,
                &[(Name::EarlyShare, 0.99, 0.005)],
                &[(Name::EarlyShare, 0.1, 0.005), (Name::EarlyShare, 0.99, 0.1), (Name::EarlyShare, NAN, NAN)],
            ),
            (
                Kind::FitsInLlc,
                &[(Name::Log2BytesToLlc, -4.0, 0.1)],
                &[
                    (Name::Log2BytesToLlc, 3.0, 0.1),
                    (Name::Log2BytesToLlc, -3.0, 0.1),
                    (Name::Log2BytesToLlc, -4.0, 0.5),
                    (Name::Log2BytesToLlc, NAN, NAN),
                    (Name::MissShare, 0.2, 0.02),
                ],
            ),
        ];
        for (kind, speaks, silences) in cases {
            let features = with(speaks);
            assert_eq!(kinds(Family::Levels, &features), [kind]);
            for &silence in silences {
                let features = with(&[speaks, &[silence]].concat());
                assert!(!kinds(Family::Levels, &features).contains(&kind), "{} with {silence:?}", kind.id());
            }
        }
        assert_eq!(cases.map(|(kind, ..)| kind), LintKind::ALL);
    }

    #[test]
    fn writes_are_spoken_of_only_where_the_slow_tier_has_trouble_with_them() {
        let written = with(&[(Name::StoreShare, 0.6, 0.02)]);
        let mut as_fast = written.clone();
        as_fast.set_exact(Name::WriteBandwidthX, 2.8);
        assert!(lints(Family::Clock, &as_fast)[0].message.contains("256 B"));
        as_fast.set_exact(Name::GranuleBytes, 64.0);
        assert_eq!(lints(Family::Clock, &as_fast), []);
        for name in [Name::WriteBandwidthX, Name::GranuleBytes] {
            as_fast.set_exact(name, f64::NAN);
        }
        assert_eq!(lints(Family::Clock, &as_fast), []);
    }

    #[test]
    fn half_the_cache_is_small_only_where_everything_fits() {
        let half = |footprint| with(&[(Name::Log2BytesToLlc, -1.5, 0.0), (Name::Log2FootprintToLlc, footprint, 0.0)]);
        assert_eq!(kinds(Family::Clock, &half(-0.5)), [LintKind::FitsInLlc]);
        assert_eq!(kinds(Family::Clock, &half(0.5)), []);
        assert_eq!(kinds(Family::Clock, &half(f64::NAN)), []);
    }

    #[test]
    fn messages_have_the_numbers_and_their_intervals() {
        let of = |changes| lints(Family::Clock, &with(changes)).remove(0).to_string();
        assert_eq!(
            of(&[(Name::DependentShare, 0.97, 0.01)]),
            "pointer-chase: 97.0 % (95.0-99.0 %) of its samples need an address that was itself just loaded: no prefetcher follows, \
             and where each waits for the last nothing hides the latency. The slow tier takes 3.0 times as long."
        );
        assert_eq!(
            of(&[(Name::Samples, 4.0, 0.0), (Name::Share, 0.01, 0.005)]),
            "too-few-samples: It has 4 samples, 1.0 % (0.0-2.0 %) of the time. Record for longer, or with a higher rate (-r), \
             before relying on its place."
        );
        assert_eq!(
            of(&[(Name::Log2BytesToLlc, -4.0, 0.0)]),
            "fits-in-llc: It is 6.2 % of the last-level cache: once read it stays there."
        );
        assert!(of(&[(Name::StoreShare, 0.6, 0.02)]).ends_with(
            "60.0 % (56.1-63.9 %) of its samples store, and the slow tier reads 2.8 times slower than the fast one and writes \
             7.0 times slower."
        ));
    }

    #[test]
    fn texts_are_sentences() {
        for kind in LintKind::ALL {
            assert!(kind.meaning().ends_with('.') && kind.reason().ends_with('.'), "{}", kind.id());
            assert!(!kind.threshold().contains('|') && !kind.meaning().contains('|'));
        }
    }
}
