//! What a prediction does not know.
//!
//! Grammar: [`Caveat::text`] is one or two full sentences with the figures that matter, first what is not known, then what
//! it means for the numbers or what to do. Each says something about *this* profile; what holds of every advice is in
//! `docs/advice.md`.

use tierscope_tiers::human_bytes;
use tierscope_traces::{Meta, SamplerKind};

use super::cost::Basis;
use super::place::Fixed;
use super::{Advice, AdvisedObject, Goal, percent};
use crate::summary::Summary;

/// Objects with fewer samples than this have intervals wider than their shares.
pub(crate) const FEW_SAMPLES: f64 = 10.0;
/// Parts below this are not worth a sentence.
pub(crate) const NEGLIGIBLE: f64 = 0.01;

/// One thing that is not known.
#[derive(Clone, Debug, PartialEq)]
pub enum Caveat {
    /// The samples are no time and no accesses.
    OrderOnly {
        /// Their kind.
        sampler: SamplerKind,
    },
    /// A model was to say what objects cost, and cannot.
    NoModel {
        /// Why, as half a sentence.
        reason: String,
    },
    /// What a prediction is that was learnt.
    Learned {
        /// From so many programs.
        programs: usize,
    },
    /// Objects like none that the model has learnt from.
    ByFormula {
        /// How many.
        objects: usize,
        /// How many movable objects have samples.
        of: usize,
    },
    /// Waiting is not told from computing.
    NoLevels {
        /// The kind of the samples.
        sampler: SamplerKind,
    },
    /// Levels without latencies.
    NominalLatencies,
    /// Objects were timed alone, sets were not.
    SetsFromSingles,
    /// The recording was cut short or is under way.
    Incomplete,
    /// Events or samples were lost.
    Lost {
        /// Samples.
        samples: u64,
        /// Allocations and frees.
        allocations: u64,
    },
    /// Heap objects are not told apart, or only those allocated late.
    NoSites {
        /// What the profile says of the shim.
        shim: String,
    },
    /// Part of the samples belongs to no object.
    Unattributed {
        /// Which part.
        share: f64,
        /// What it could add if all of it were in the slowest tier.
        most: f64,
    },
    /// Part of the samples belongs to its object by a guess.
    Guessed {
        /// Which part.
        share: f64,
    },
    /// Objects that no policy can move.
    Unmovable {
        /// Why.
        reason: Fixed,
        /// How many.
        objects: usize,
        /// Their part of all samples.
        share: f64,
        /// Name of the tier they stay in.
        tier: String,
    },
    /// Movable objects with samples, but few.
    FewSamples {
        /// How many.
        objects: usize,
        /// How many movable objects have samples.
        of: usize,
    },
    /// Movable objects of unknown size.
    UnknownSizes {
        /// How many.
        objects: usize,
    },
    /// Small blocks are sampled.
    SampledBlocks {
        /// Blocks below this size are.
        below: u64,
    },
    /// A tier loses more in bandwidth than in latency.
    Bandwidth {
        /// Its name.
        tier: String,
        /// How many times less bandwidth it has.
        bandwidth: f64,
        /// How many times more latency.
        latency: f64,
    },
    /// A tier is read in pages that then stay in memory.
    Paged {
        /// Its name.
        tier: String,
        /// Nanoseconds until a page is there.
        latency_ns: f64,
    },
    /// The budget asked for is more than the fastest tier has.
    BudgetCapped {
        /// Bytes asked for.
        asked: u64,
        /// Bytes there are.
        capacity: u64,
    },
    /// The run has phases that use different objects.
    Phases {
        /// How many.
        phases: usize,
    },
}

impl Caveat {
    /// The word for scripts.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::OrderOnly { .. } => "order-only",
            Self::NoModel { .. } => "no-model",
            Self::Learned { .. } => "learned",
            Self::ByFormula { .. } => "by-formula",
            Self::NoLevels { .. } => "no-levels",
            Self::NominalLatencies => "nominal-latencies",
            Self::SetsFromSingles => "sets-from-singles",
            Self::Incomplete => "incomplete",
            Self::Lost { .. } => "lost",
            Self::NoSites { .. } => "no-sites",
            Self::Unattributed { .. } => "unattributed",
            Self::Guessed { .. } => "guessed",
            Self::Unmovable { .. } => "unmovable",
            Self::FewSamples { .. } => "few-samples",
            Self::UnknownSizes { .. } => "unknown-sizes",
            Self::SampledBlocks { .. } => "sampled-blocks",
            Self::Bandwidth { .. } => "bandwidth",
            Self::Paged { .. } => "paged",
            Self::BudgetCapped { .. } => "budget-capped",
            Self::Phases { .. } => "phases",
        }
    }

    /// The sentence for people.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::OrderOnly { sampler } => format!(
                "Samples of kind {} count events, not time: they order objects, and the predicted slowdowns are no \
                 slowdowns. Record with --sampler clock for predictions.",
                sampler.as_str()
            ),
            Self::NoModel { reason } => format!(
                "The trained model is not used: {}. Objects are ordered by stall-density, their shares of the samples, instead.",
                reason.trim_end_matches('.')
            ),
            Self::Learned { programs } => format!(
                "Costs are what such objects cost in simulations of {programs} programs. Nine in ten of the costs of programs that \
                 were left out of learning lie in their intervals; a program unlike all of those may not. `tierscope simulate` \
                 times this one."
            ),
            Self::ByFormula { objects, of } => format!(
                "{objects} of the {of} movable objects with samples {} like nothing the model has learnt from, or {} too few samples: \
                 their costs are the formula's, with its wider intervals.",
                if *objects == 1 { "is" } else { "are" },
                if *objects == 1 { "has" } else { "have" }
            ),
            Self::NoLevels { sampler } => format!(
                "The {} sampler says when, not from which cache: time spent computing on an object counts as waiting for \
                 it, so costs are upper bounds as far as latency goes.",
                sampler.as_str()
            ),
            Self::NominalLatencies => {
                "Samples carry levels but no latencies: each level counts with what it typically \
                                       takes, not with what it took."
                    .to_owned()
            }
            Self::SetsFromSingles => {
                "The simulation timed each object alone and all together; what a set in between costs is put together from \
                 those. `tierscope simulate --budget-sweep` times sets."
                    .to_owned()
            }
            Self::Incomplete => {
                "The recording did not end in good order: what came after its last part is missing from \
                                 shares and sizes."
                    .to_owned()
            }
            Self::Lost { samples, allocations } => format!(
                "{samples} samples and {allocations} allocations and frees were lost while recording: shares and sizes are off \
                 by as much."
            ),
            Self::NoSites { shim } => format!(
                "Heap objects are known only as far as the shim saw them allocated ({shim}); what was there before cannot \
                 be placed by a rule."
            ),
            Self::Unattributed { share, most } => format!(
                "{} of the samples belong to no known object and are in no prediction; if all that memory were slow it \
                 would cost up to {} more.",
                percent(*share),
                percent(*most)
            ),
            Self::Guessed { share } => format!(
                "{} of the samples belong to their object by a reconstructed address or as its nearest neighbour; \
                 intervals do not cover such mistakes.",
                percent(*share)
            ),
            Self::Unmovable { reason, objects, share, tier } => format!(
                "No rule can place {} ({objects} of them, {} of the samples): they stay in {tier} and are in no budget.",
                reason.describe(),
                percent(*share)
            ),
            Self::FewSamples { objects, of } => format!(
                "{objects} of the {of} movable objects with samples {} fewer than {FEW_SAMPLES:.0} samples: record for longer, or \
                 with a higher rate (-r), before relying on their order.",
                if *objects == 1 { "has" } else { "have" }
            ),
            Self::UnknownSizes { objects } => format!(
                "The size of {objects} movable objects is not known; they count as taking no fast memory, and are placed \
                 there."
            ),
            Self::SampledBlocks { below } => {
                format!(
                    "Blocks below {} were sampled: the bytes of objects made of them are estimates.",
                    human_bytes(*below)
                )
            }
            Self::Bandwidth { tier, bandwidth, latency } => format!(
                "{tier} has {bandwidth:.1} times less bandwidth but only {latency:.1} times more latency, and predictions are \
                 by latency: objects that are streamed can cost more than is said here."
            ),
            Self::Paged { tier, latency_ns } => format!(
                "{tier} is read in pages, which stay in memory as long as there is room: only a touch of a page that is not \
                 there takes {:.0} us. Costs here are as if every sampled access were one, so they order objects and are far \
                 above what a run loses.",
                latency_ns / 1e3
            ),
            Self::BudgetCapped { asked, capacity } => format!(
                "{} of fast memory were asked for and the fastest tier has {}: the advice is for what it has.",
                human_bytes(*asked),
                human_bytes(*capacity)
            ),
            Self::Phases { phases } => format!(
                "The run announced {phases} phases, and one placement is for all of it: what only one phase uses holds fast \
                 memory in the others too."
            ),
        }
    }
}

/// What applies to an advice.
pub(super) fn find(meta: &Meta, summary: &Summary, advice: &Advice) -> Vec<Caveat> {
    let mut found = Vec::new();
    let sampler = meta.sampler.kind;
    found.extend(advice.without_model.clone().map(|reason| Caveat::NoModel { reason }));
    let movable = || advice.objects.iter().filter(|object| object.fixed.is_none());
    let of = movable().filter(|object| object.object.samples > 0.0).count();
    match advice.basis {
        Basis::Learned => {
            found.extend(advice.model.as_ref().map(|model| Caveat::Learned { programs: model.programs }));
            let unsure = |object: &&AdvisedObject| object.learned.as_ref().is_some_and(|learned| learned.unsure);
            let objects = movable().filter(|object| object.object.samples > 0.0).filter(unsure).count();
            if objects > 0 {
                found.push(Caveat::ByFormula { objects, of });
            }
        }
        Basis::Touches => found.push(Caveat::OrderOnly { sampler }),
        Basis::Time => found.push(Caveat::NoLevels { sampler }),
        Basis::MissLevels => found.push(Caveat::NominalLatencies),
        Basis::MissLatency => {}
        Basis::Simulated => found.push(Caveat::SetsFromSingles),
    }
    if !meta.complete {
        found.push(Caveat::Incomplete);
    }
    let allocations = meta.losses.allocations.saturating_add(meta.losses.frees);
    if meta.losses.samples > 0 || allocations > 0 {
        found.push(Caveat::Lost { samples: meta.losses.samples, allocations });
    }
    let shim = &meta.allocator.shim;
    if !shim.is_empty() && shim != "loaded" {
        found.push(Caveat::NoSites { shim: shim.clone() });
    }
    let slowest = advice.tiers.last().zip(advice.tiers.first());
    if summary.attribution.none >= NEGLIGIBLE && advice.basis != Basis::Simulated {
        let ratio = slowest.map_or(1.0, |(slowest, fastest)| slowest.tier.latency_ratio(&fastest.tier));
        let share = summary.attribution.none;
        found.push(Caveat::Unattributed { share, most: share * (ratio - 1.0).max(0.0) });
    }
    let share = summary.attribution.approximate + summary.attribution.neighbour;
    if share >= NEGLIGIBLE {
        found.push(Caveat::Guessed { share });
    }
    found.extend(unmovable(advice));
    let objects = movable().filter(|object| object.object.samples > 0.0 && object.object.samples < FEW_SAMPLES).count();
    if objects > 0 && advice.basis != Basis::Simulated {
        found.push(Caveat::FewSamples { objects, of });
    }
    let objects = movable().filter(|object| object.bytes == 0).count();
    if objects > 0 {
        found.push(Caveat::UnknownSizes { objects });
    }
    if meta.allocator.mean_bytes > 0 && meta.allocator.large_bytes > 0 {
        found.push(Caveat::SampledBlocks { below: meta.allocator.large_bytes });
    }
    found.extend(paged(advice));
    if !matches!(advice.basis, Basis::Simulated | Basis::Learned) {
        found.extend(bandwidth(advice));
    }
    found.extend(capped(advice));
    let phases = summary.phases.iter().filter(|phase| phase.samples > 0.0).count();
    if phases > 1 {
        found.push(Caveat::Phases { phases });
    }
    found
}

fn unmovable(advice: &Advice) -> impl Iterator<Item = Caveat> + '_ {
    Fixed::ALL.into_iter().filter_map(|reason| {
        let mut here = advice.objects.iter().filter(|object| object.fixed == Some(reason)).peekable();
        let tier = here.peek().and_then(|object| advice.tiers.get(object.tier))?.tier.name.clone();
        let (objects, share) = here.fold((0, 0.0), |(count, share), object| (count + 1, share + object.object.share));
        (share >= NEGLIGIBLE).then_some(Caveat::Unmovable { reason, objects, share, tier })
    })
}

fn paged(advice: &Advice) -> impl Iterator<Item = Caveat> + '_ {
    advice
        .tiers
        .iter()
        .filter(|used| used.tier.paged && used.objects > 0)
        .map(|used| Caveat::Paged { tier: used.tier.name.clone(), latency_ns: used.tier.latency_ns })
}

fn bandwidth(advice: &Advice) -> impl Iterator<Item = Caveat> + '_ {
    let fastest = advice.tiers.first().map(|used| &used.tier);
    advice.tiers.iter().filter(|used| used.objects > 0 && !used.tier.paged).filter_map(move |used| {
        let (bandwidth, latency) = (used.tier.bandwidth_ratio(fastest?)?, used.tier.latency_ratio(fastest?));
        (bandwidth > latency).then(|| Caveat::Bandwidth { tier: used.tier.name.clone(), bandwidth, latency })
    })
}

fn capped(advice: &Advice) -> Option<Caveat> {
    let capacity = advice.tiers.first()?.tier.capacity?;
    let asked = match advice.goal {
        Goal::FastBytes(bytes) => bytes,
        Goal::FastFraction(part) => (advice.footprint as f64 * part).round() as u64,
        Goal::MaxSlowdown { .. } => return None,
    };
    (asked > capacity).then_some(Caveat::BudgetCapped { asked, capacity })
}
