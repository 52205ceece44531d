//! Which object belongs in which tier, what that is predicted to cost, and what it cannot know.
//!
//! **What is predicted.** Costs come from the best of three sources. Where a simulation timed the tiers in question, its times are
//! taken (`timed`). Else a model says what such objects cost in other programs (`learned`); whoever asks brings it ([`Trained`]), for nothing
//! here reads files. Where it cannot speak, and where `stall-density` is asked for, it is shares of samples ([`cost`]): a tier answers in so
//! many nanoseconds; the time that went into an object's accesses grows by the ratio of that to the fastest tier's. So an object with a
//! share *s* of the run's time adds *s* (latency ratio - 1) to the run in that tier. That needs no training, and it overstates: time spent computing
//! on an object counts as waiting for it where the sampler cannot tell, and accesses that overlap wait together. It
//! understates where a tier's bandwidth ends. Every such limit that applies to a profile is a [`Caveat`] of its advice.
//!
//! **What is placed.** Heap objects with a call stack and globals with a symbol of at least a page: those a policy can name.
//! Small blocks go by site, all together. Stacks, mapped files and memory without a name stay where they are, and what
//! they cost is in the prediction ([`Fixed`]).
//!
//! **Rankers** order objects ([`Ranker`]). Those that know costs hand them to the optimiser of
//! `tierscope-placement`; the others are filled into the fastest tier in their order, as kernels and earlier tools do. Placements of all but
//! `stall-density` are priced by the same source, so that they can be compared.

pub mod baseline;
mod caveat;
pub mod cost;
mod error;
mod learned;
mod lives;
mod place;
pub mod policy;
mod rank;
mod source;
mod tie;
mod tier;
mod timed;
mod why;

use rustc_hash::FxHashMap;
use tierscope_placement::{Bound, Cost, Forecast, Limits, Optimality, Plan, Problem};
use tierscope_rank::{Family, Predicted};
use tierscope_traces::{Meta, Tables};

pub use caveat::Caveat;
pub(crate) use caveat::{FEW_SAMPLES, NEGLIGIBLE};
pub use cost::Basis;
pub use error::AdviceError;
pub use learned::{ModelUsed, Trained};
pub use place::Fixed;
pub use rank::Ranker;
pub use tie::{Remedy, Tie};
pub use tier::Tier;

use crate::explain::{Lint, lints};
use crate::features::Observed;
use crate::summary::{ObjectSummary, Summary};
use cost::Costs;

/// How much of the fastest tier may be used.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// At most so many bytes.
    FastBytes(u64),
    /// At most this part, 0 to 1, of the most bytes of all movable objects that live at once.
    FastFraction(f64),
    /// As few bytes as keep the predicted slowdown at or under this: 0.05 is 5 %.
    MaxSlowdown {
        /// The limit.
        limit: f64,
        /// Which end of the prediction must keep it.
        bound: Bound,
    },
}

/// What to ask.
#[derive(Clone, Debug)]
pub struct Options {
    /// The tiers, the fastest first; what no rule names goes to the last.
    pub tiers: Vec<Tier>,
    /// The budget.
    pub goal: Goal,
    /// How objects are ordered.
    pub ranker: Ranker,
    /// How much work the search may do.
    pub limits: Limits,
}

/// What to do with a program's objects.
#[derive(Clone, Debug)]
pub struct Advice {
    /// How objects were ordered.
    pub ranker: Ranker,
    /// How they were to be ordered.
    pub asked: Ranker,
    /// What the costs rest on.
    pub basis: Basis,
    /// The model they are of, where they are a model's.
    pub model: Option<ModelUsed>,
    /// Why no model speaks where one was asked for, as half a sentence.
    pub without_model: Option<String>,
    /// The tiers, with what is put there.
    pub tiers: Vec<TierUse>,
    /// What was asked.
    pub goal: Goal,
    /// Bytes of the fastest tier the goal comes to; `None` where it was a slowdown.
    pub budget: Option<u64>,
    /// The most bytes of all movable objects that live at once.
    pub footprint: u64,
    /// The predicted slowdown of the whole run against everything in the fastest tier.
    pub predicted: Cost,
    /// The same with everything that can be moved in the slowest tier.
    pub all_slow: Cost,
    /// Movable objects in the ranker's order, then the fixed ones.
    pub objects: Vec<AdvisedObject>,
    /// What every budget would give.
    pub curve: Vec<CurveStep>,
    /// How good the placement is known to be, at these costs.
    pub optimality: Optimality,
    /// The choice that is within the noise, if there is one.
    pub tie: Option<Tie>,
    /// What the prediction does not know, most important first.
    pub caveats: Vec<Caveat>,
}

impl Advice {
    /// Whether its costs are slowdowns of the run. First touches only order objects; and where a tier is read in pages,
    /// most accesses find theirs in memory.
    #[must_use]
    pub fn predicts(&self) -> bool {
        self.basis != Basis::Touches && !self.tiers.iter().any(|used| used.tier.paged && used.objects > 0)
    }
}

/// A tier and what is put there.
#[derive(Clone, Debug, PartialEq)]
pub struct TierUse {
    /// The tier.
    pub tier: Tier,
    /// The most bytes of movable objects it holds at once.
    pub bytes: u64,
    /// How many movable objects it holds.
    pub objects: usize,
}

/// One object and its place.
#[derive(Clone, Debug, PartialEq)]
pub struct AdvisedObject {
    /// The object.
    pub object: ObjectSummary,
    /// Number of its tier in [`Advice::tiers`].
    pub tier: usize,
    /// Why it stays where it is; `None` where it was placed.
    pub fixed: Option<Fixed>,
    /// The most of its bytes that live at once.
    pub bytes: u64,
    /// What it adds to the run where it is placed.
    pub predicted: Cost,
    /// What it would add alone in the slowest tier.
    pub criticality: Cost,
    /// Place in the ranker's order, from 1; `None` for fixed ones.
    pub rank: Option<usize>,
    /// What a model says of it in the slowest tier, where costs are a model's.
    pub learned: Option<Predicted>,
    /// Why it is where it is, in a sentence.
    pub why: String,
    /// What was noticed about it.
    pub lints: Vec<Lint>,
}

/// One point of the curve.
#[derive(Clone, Debug, PartialEq)]
pub struct CurveStep {
    /// Bytes of the fastest tier in use at their fullest.
    pub fast_bytes: u64,
    /// The predicted slowdown.
    pub slowdown: Cost,
    /// Place in [`Advice::objects`] of what would come into the fastest tier next.
    pub next_object: Option<usize>,
    /// Whether the placement was found by search rather than in the ranker's order.
    pub searched: bool,
}

/// Which objects of a summary a policy can name, and so place.
#[must_use]
pub fn movable(summary: &Summary) -> Vec<bool> {
    place::sort_out(summary).iter().map(Option::is_none).collect()
}

/// How hot each object's touched pages are to a kernel that tiers pages ([`Ranker::Hotness`]), by identity; objects without
/// samples are left out.
#[must_use]
pub fn hotness(tables: &Tables) -> FxHashMap<String, f64> {
    let recorded = crate::summary::recorded(tables);
    rank::heat(tables, &recorded).into_iter().map(|(id, heat)| (id.to_owned(), heat)).collect()
}

/// Whoever has models: one of a family, or why there is none. Asked at most once, and only where a model is needed.
pub type Teacher<'a> = dyn Fn(Family) -> Result<Trained, String> + 'a;

/// Advises on a profile. `summary` is that of the same tables, in any order.
///
/// # Errors
/// See [`AdviceError`].
pub fn advise(
    meta: &Meta,
    tables: &Tables,
    summary: &Summary,
    options: &Options,
    teacher: &Teacher<'_>,
) -> Result<Advice, AdviceError> {
    tier::check(&options.tiers)?;
    options.ranker.check(meta.sampler.kind)?;
    let recorded = crate::summary::recorded(tables);
    let known = source::find(meta, tables, summary, &recorded, options, teacher)?;
    let (ranker, observed) = (known.ranker, known.observed);
    let costs = Costs::measure(meta, tables, summary, &recorded, &options.tiers, known.source);
    if summary.samples <= 0.0 && costs.basis() != Basis::Simulated {
        return Err(AdviceError::NoSamples);
    }
    if costs.basis() == Basis::Touches && matches!(options.goal, Goal::MaxSlowdown { .. }) {
        return Err(AdviceError::NoSlowdown { sampler: meta.sampler.kind });
    }
    let found = place::sort_out(summary);
    let movable: Vec<usize> = found.iter().enumerate().filter(|(_, fixed)| fixed.is_none()).map(|(n, _)| n).collect();
    if movable.is_empty() {
        return Err(AdviceError::NothingToPlace { shim: meta.allocator.shim.clone() });
    }
    let lives = lives::of(tables, summary, &recorded);
    let problem = place::problem(summary, &movable, lives, &costs, &options.tiers)?;
    let forecast = costs.forecast(&movable, &found);
    let order = rank::order(ranker, &problem, summary, tables, &recorded, &movable, meta.sampler.kind)?;

    let searches = ranker.knows_costs();
    let budget = budget(options.goal, &problem)?;
    let plan = plan(&problem, &order, &forecast, options, searches, budget)?;
    let curve = tierscope_placement::curve(&problem, &order, &forecast, searches.then_some(options.limits))?;
    let all_slow = forecast.forecast(&problem, &vec![options.tiers.len() - 1; movable.len()]);

    let mut advice = Advice {
        ranker,
        asked: options.ranker,
        basis: costs.basis(),
        model: costs.learned().map(|learned| learned.used().clone()),
        without_model: known.without_model,
        tiers: tiers_used(&options.tiers, &plan),
        goal: options.goal,
        budget,
        footprint: problem.footprint(),
        predicted: plan.cost,
        all_slow,
        objects: Vec::with_capacity(found.len()),
        curve: Vec::new(),
        optimality: plan.optimality,
        tie: None,
        caveats: Vec::new(),
    };
    let slowest = options.tiers.len() - 1;
    let advised = |of_summary: usize, tier: usize, bytes: u64| {
        Some(AdvisedObject {
            object: summary.objects.get(of_summary)?.clone(),
            tier,
            fixed: found.get(of_summary).copied().flatten(),
            bytes,
            predicted: costs.of(of_summary, tier),
            criticality: costs.of(of_summary, slowest),
            rank: None,
            learned: costs.learned().and_then(|learned| learned.slowest(of_summary).cloned()),
            why: String::new(),
            lints: observed.as_ref().map_or_else(Vec::new, |observed| noticed(observed, of_summary)),
        })
    };
    let mut places = vec![0; movable.len()];
    let mut of_summary = Vec::with_capacity(found.len());
    for (rank, &number) in order.iter().enumerate() {
        let (Some(&place), Some(&tier)) = (movable.get(number), plan.placed.get(number)) else { continue };
        let Some(object) = advised(place, tier, problem.peak(number)) else { continue };
        if let Some(place) = places.get_mut(number) {
            *place = rank;
        }
        of_summary.push(place);
        advice.objects.push(AdvisedObject { rank: Some(rank + 1), ..object });
    }
    for (place, fixed) in found.iter().enumerate() {
        let (Some(fixed), Some(object)) = (fixed, summary.objects.get(place)) else { continue };
        of_summary.push(place);
        advice.objects.extend(advised(place, fixed.tier(slowest), object.live_bytes_max as u64));
    }
    advice.curve = curve
        .into_iter()
        .map(|point| CurveStep {
            fast_bytes: point.fast_bytes,
            slowdown: point.cost,
            next_object: point.next.and_then(|number| places.get(number).copied()),
            searched: point.searched,
        })
        .collect();
    why::explain(&mut advice, &of_summary, observed.as_ref(), &costs.shares());
    let seconds = Some(meta.clock.duration_ns as f64 / 1e9).filter(|seconds| *seconds > 0.0);
    advice.tie = tie::find(&advice, seconds);
    advice.caveats = caveat::find(meta, summary, &advice);
    Ok(advice)
}

/// What there is to notice about an object of the summary.
fn noticed(observed: &Observed, object: usize) -> Vec<Lint> {
    observed.objects.get(object).map_or_else(Vec::new, |object| lints(observed.family, &object.features))
}

/// Per cent, without decimals where they say nothing.
fn percent(part: f64) -> String {
    format!("{} %", in_percent(part))
}

/// The number of that.
fn in_percent(part: f64) -> String {
    if part < 9.9995 { format!("{:.1}", part * 100.0) } else { format!("{:.0}", part * 100.0) }
}

/// The bytes a goal comes to; `None` where it is a slowdown.
fn budget(goal: Goal, problem: &Problem) -> Result<Option<u64>, AdviceError> {
    let capacity = problem.tiers().first().and_then(|tier| tier.capacity).unwrap_or(u64::MAX);
    match goal {
        Goal::FastBytes(bytes) => Ok(Some(bytes.min(capacity))),
        Goal::FastFraction(part) if (0.0..=1.0).contains(&part) => {
            Ok(Some(((problem.footprint() as f64 * part).round() as u64).min(capacity)))
        }
        Goal::FastFraction(part) => Err(AdviceError::BadFraction { part }),
        Goal::MaxSlowdown { limit, .. } if limit.is_finite() && limit >= 0.0 => Ok(None),
        Goal::MaxSlowdown { limit, .. } => Err(AdviceError::BadLimit { limit }),
    }
}

fn plan(
    problem: &Problem,
    order: &[usize],
    forecast: &dyn Forecast,
    options: &Options,
    searches: bool,
    budget: Option<u64>,
) -> Result<Plan, AdviceError> {
    if let Goal::MaxSlowdown { limit, bound } = options.goal {
        let order = (!searches).then_some(order);
        return Ok(tierscope_placement::least_fast(problem, order, forecast, limit, bound, options.limits)?);
    }
    let problem = problem.with_fast(budget);
    Ok(if searches {
        tierscope_placement::best(&problem, forecast, options.limits)?
    } else {
        tierscope_placement::in_order(&problem, order, forecast)?
    })
}

fn tiers_used(tiers: &[Tier], plan: &Plan) -> Vec<TierUse> {
    tiers
        .iter()
        .enumerate()
        .map(|(number, tier)| TierUse {
            tier: tier.clone(),
            bytes: plan.peaks.get(number).copied().unwrap_or(0),
            objects: plan.placed.iter().filter(|&&placed| placed == number).count(),
        })
        .collect()
}
