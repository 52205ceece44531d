//! Which object belongs in which tier, what that is predicted to cost, and what it cannot know.
//!
//! **What is predicted.** A tier answers in so many nanoseconds; the time that went into an object's accesses grows by
//! the ratio of that to the fastest tier's. So an object with a share *s* of the run's time adds *s* (latency ratio - 1) to
//! the run in that tier ([`cost`]). That is the whole model. It needs no training, and it overstates: time spent computing
//! on an object counts as waiting for it where the sampler cannot tell, and accesses that overlap wait together. It
//! understates where a tier's bandwidth ends. Where a simulation timed the tiers in question, its times are taken instead
//! (`timed`). Every such limit that applies to a profile is a [`Caveat`] of its advice.
//!
//! **What is placed.** Heap objects with a call stack and globals with a symbol of at least a page: those a policy can name.
//! Small blocks go by site, all together. Stacks, mapped files and memory without a name stay where they are, and what
//! they cost is in the prediction ([`Fixed`]).
//!
//! **Rankers** order objects ([`Ranker`]). The one that knows costs hands them to the optimiser of
//! `tierscope-placement`; the others are filled into the fastest tier in their order, as kernels and earlier tools do, and
//! their placements are priced by the same model, so that they can be compared.

pub mod baseline;
mod caveat;
pub mod cost;
mod error;
mod lives;
mod place;
pub mod policy;
mod rank;
mod tier;
mod timed;
mod why;

use rustc_hash::FxHashMap;
use tierscope_placement::{Bound, Cost, Forecast, Limits, Optimality, Plan, Problem};
use tierscope_traces::{Meta, Tables};

pub use caveat::Caveat;
pub(crate) use caveat::{FEW_SAMPLES, NEGLIGIBLE};
pub use cost::Basis;
pub use error::AdviceError;
pub use place::Fixed;
pub use rank::Ranker;
pub use tier::Tier;

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
    /// What the costs rest on.
    pub basis: Basis,
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
    /// Why it is where it is, in a sentence.
    pub why: String,
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

/// Advises on a profile. `summary` is that of the same tables, in any order.
///
/// # Errors
/// See [`AdviceError`].
pub fn advise(meta: &Meta, tables: &Tables, summary: &Summary, options: &Options) -> Result<Advice, AdviceError> {
    tier::check(&options.tiers)?;
    options.ranker.check(meta.sampler.kind)?;
    let recorded = crate::summary::recorded(tables);
    let costs = Costs::measure(meta, tables, summary, &recorded, &options.tiers);
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
    let order = rank::order(options.ranker, &problem, summary, tables, &recorded, &movable);

    let budget = budget(options.goal, &problem)?;
    let plan = plan(&problem, &order, &forecast, options, budget)?;
    let searches = options.ranker.knows_costs().then_some(options.limits);
    let curve = tierscope_placement::curve(&problem, &order, &forecast, searches)?;
    let all_slow = forecast.forecast(&problem, &vec![options.tiers.len() - 1; movable.len()]);

    let mut advice = Advice {
        ranker: options.ranker,
        basis: costs.basis(),
        tiers: tiers_used(&options.tiers, &plan),
        goal: options.goal,
        budget,
        footprint: problem.footprint(),
        predicted: plan.cost,
        all_slow,
        objects: Vec::with_capacity(found.len()),
        curve: Vec::new(),
        optimality: plan.optimality,
        caveats: Vec::new(),
    };
    let slowest = options.tiers.len() - 1;
    let mut places = vec![0; movable.len()];
    for (rank, &number) in order.iter().enumerate() {
        let (Some(&of_summary), Some(&tier)) = (movable.get(number), plan.placed.get(number)) else { continue };
        let Some(object) = summary.objects.get(of_summary) else { continue };
        if let Some(place) = places.get_mut(number) {
            *place = rank;
        }
        let (predicted, criticality) = (costs.of(of_summary, tier), costs.of(of_summary, slowest));
        let (bytes, rank) = (problem.peak(number), Some(rank + 1));
        let object = object.clone();
        advice.objects.push(AdvisedObject {
            object,
            tier,
            fixed: None,
            bytes,
            predicted,
            criticality,
            rank,
            why: String::new(),
        });
    }
    for (of_summary, fixed) in found.iter().enumerate() {
        let (Some(fixed), Some(object)) = (fixed, summary.objects.get(of_summary)) else { continue };
        advice.objects.push(AdvisedObject {
            object: object.clone(),
            tier: fixed.tier(slowest),
            fixed: Some(*fixed),
            bytes: object.live_bytes_max as u64,
            predicted: costs.of(of_summary, fixed.tier(slowest)),
            criticality: costs.of(of_summary, slowest),
            rank: None,
            why: String::new(),
        });
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
    let shares: FxHashMap<&str, f64> =
        summary.objects.iter().map(|object| object.id.as_str()).zip(costs.shares()).collect();
    why::explain(&mut advice, &|id| shares.get(id).copied().unwrap_or(0.0));
    advice.caveats = caveat::find(meta, summary, &advice);
    Ok(advice)
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
    budget: Option<u64>,
) -> Result<Plan, AdviceError> {
    let searches = options.ranker.knows_costs();
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
