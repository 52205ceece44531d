//! What costs are taken from, and why not from a model where one was asked for.
//!
//! A simulation that timed the tiers in question is believed before any model: then `model` means `oracle`. A model needs samples that are time or
//! misses, tiers that are read by lines, and to be there. Where one of these is missing the advice goes by `stall-density` and says why.

use rustc_hash::FxHashMap;
use tierscope_rank::{Family, formula};
use tierscope_traces::{Meta, Tables};

use super::cost::Source;
use super::learned::Learned;
use super::tier::{Tier, pair};
use super::timed::Timed;
use super::{AdviceError, Options, Ranker, Teacher};
use crate::features::{FeaturesError, Observed, Window, features, llc_bytes};
use crate::summary::Summary;

/// What is known before anything is priced.
pub(super) struct Known {
    pub(super) source: Source,
    /// What orders objects: the ranker that was asked for, or the one in its place.
    pub(super) ranker: Ranker,
    pub(super) without_model: Option<String>,
    /// What was seen of the objects, with the tiers and the formula put in; `None` where samples are of no family.
    pub(super) observed: Option<Observed>,
}

/// Finds out.
pub(super) fn find(
    meta: &Meta,
    tables: &Tables,
    summary: &Summary,
    recorded: &FxHashMap<String, Vec<u32>>,
    options: &Options,
    teacher: &Teacher<'_>,
) -> Result<Known, AdviceError> {
    let (asked, tiers) = (options.ranker, options.tiers.as_slice());
    let observed = features(meta, tables, summary, Window::WHOLE, llc_bytes(meta).unwrap_or(0));
    let observed = observed.map(|observed| beside(observed, tiers));
    if let Some(timed) = Timed::new(meta, tables, summary, recorded, tiers) {
        let ranker = if asked == Ranker::Model { Ranker::Oracle } else { asked };
        return Ok(Known { source: Source::Timed(timed), ranker, without_model: None, observed: observed.ok() });
    }
    if asked == Ranker::Oracle {
        let name = |tier: Option<&Tier>| tier.map_or_else(String::new, |tier| tier.name.clone());
        return Err(AdviceError::NeedsTimes { fast: name(tiers.first()), slow: name(tiers.last()) });
    }
    let samples = |observed, without_model: Option<String>| {
        let ranker = if asked == Ranker::Model { Ranker::StallDensity } else { asked };
        let without_model = without_model.filter(|_| asked == Ranker::Model);
        Known { source: Source::Samples, ranker, without_model, observed }
    };
    if asked == Ranker::StallDensity {
        return Ok(samples(observed.ok(), None));
    }
    let observed = match observed {
        Ok(observed) => observed,
        Err(FeaturesError::NoSamples { .. }) => return Err(AdviceError::NoSamples),
        Err(error) => return Ok(samples(None, Some(no_family(&error)))),
    };
    if let Some(paged) = tiers.iter().find(|tier| tier.paged) {
        let why = format!("{} is read in pages, and it has learnt from memory that is read in lines", paged.name);
        return Ok(samples(Some(observed), Some(why)));
    }
    let learned =
        teacher(observed.family).and_then(|trained| Learned::new(trained, &observed, tiers).map_err(|e| e.to_string()));
    Ok(match learned {
        Ok(learned) => {
            let source = Source::Learned(Box::new(learned));
            Known { source, ranker: asked, without_model: None, observed: Some(observed) }
        }
        Err(why) => samples(Some(observed), Some(why)),
    })
}

/// Features with what is known of the fastest and the slowest tier, and what the formula says of those.
fn beside(mut observed: Observed, tiers: &[Tier]) -> Observed {
    let Some(pair) = tiers.first().zip(tiers.last()).map(|(fastest, slowest)| pair(fastest, slowest)) else {
        return observed;
    };
    let family: Family = observed.family;
    for object in &mut observed.objects {
        object.features.set_tiers(&pair);
        formula::put(family, &mut object.features);
    }
    observed
}

fn no_family(error: &FeaturesError) -> String {
    match error {
        FeaturesError::NoFamily { sampler } => {
            format!("{} samples are neither time nor cache misses, which is what it has learnt from", sampler.as_str())
        }
        other => other.to_string(),
    }
}
