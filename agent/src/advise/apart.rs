//! Policies that differ in one thing: which objects are in slow memory while all others are in fast. Runs under them say what the
//! objects cost on a machine that has both.
//!
//! An advice gives no rules to what belongs in its last tier, which has everything that no rule names. So the tiers are turned round
//! here: the slow one comes first, and what is to be in it has rules; everything else, what the profile has not seen included, is in
//! the fast one.

use crate::failure::Failure;
use crate::tiers::named;
use tierscope_machine::{Root, detect, missing, today};
use tierscope_model::advice::policy::{Setting, policy};
use tierscope_model::advice::{Advice, Goal, Options, Ranker, TierUse, advise};
use tierscope_model::summary::Summary;
use tierscope_placement::Limits;
use tierscope_policy::Policy;
use tierscope_tiers::Tier;
use tierscope_traces::{Meta, Tables};

/// A program's objects between two tiers of this machine.
pub(crate) struct Apart<'a> {
    meta: &'a Meta,
    advice: Advice,
    setting: Setting,
    fast: Tier,
    slow: Tier,
}

impl<'a> Apart<'a> {
    /// From a recording and a tier file whose slower tier this machine has.
    ///
    /// # Errors
    ///
    /// They are not two tiers, one is not there, or nothing of the program can be placed.
    pub(crate) fn new(meta: &'a Meta, tables: &Tables, summary: &Summary, word: &str) -> Result<Self, Failure> {
        const MEASURE: &str =
            "tierscope tiers --measure --dir DIR -o FILE measures what this machine has; then --tiers FILE";
        let tiers = named(word)?.tiers;
        let [fast, slow] = tiers.as_slice() else {
            let count = tiers.as_slice().len();
            return Err(Failure::usage(format!(
                "--tiers {word} has {count} tiers, and two are measured against each other"
            ))
            .mend(MEASURE));
        };
        let machine = detect(&Root::default());
        let cannot = |why: String| {
            Failure::cannot(format!("{word}: nothing can be put into {}: {why}", slow.name)).mend(MEASURE)
        };
        let backend = slow.backend.as_ref().ok_or_else(|| cannot("there is no memory behind it".to_owned()))?;
        if let Some(reason) = missing(&machine, backend) {
            return Err(cannot(reason));
        }
        let priced = super::choice::priced(&[fast.clone(), slow.clone()]);
        let options = Options {
            tiers: priced,
            goal: Goal::FastFraction(1.0),
            ranker: Ranker::StallDensity,
            limits: Limits::default(),
        };
        // The order is of no consequence, so no model is asked.
        let mut advice =
            advise(meta, tables, summary, &options, &|family| Err(format!("no model of {family} samples")))
                .map_err(|error| Failure::from_error("nothing of it can be measured", &error))?;
        // What is measured has all the room it needs.
        advice.budget = None;
        advice.tiers.reverse();
        let placed = |tier: &Tier| tierscope_policy::Tier {
            name: tier.name.clone(),
            backend: tier.backend.clone(),
            capacity: None,
        };
        let setting = Setting {
            tiers: vec![placed(slow), placed(fast)],
            profile: String::new(),
            created: Some(today()),
            tierscope: Some(env!("CARGO_PKG_VERSION").to_owned()),
        };
        Ok(Self { meta, advice, setting, fast: fast.clone(), slow: slow.clone() })
    }

    /// The two tiers, the fast one first.
    pub(crate) fn tiers(&self) -> [&Tier; 2] {
        [&self.fast, &self.slow]
    }

    /// Identities of the movable objects, those of which most of the run is first.
    pub(crate) fn movable(&self) -> Vec<&str> {
        let mut movable: Vec<_> = self.advice.objects.iter().filter(|object| object.fixed.is_none()).collect();
        movable.sort_by(|a, b| b.criticality.point.total_cmp(&a.criticality.point));
        movable.into_iter().map(|object| object.object.id.as_str()).collect()
    }

    /// The policy that puts these objects into slow memory.
    pub(crate) fn policy(&self, slow: &[&str]) -> Policy {
        let mut advice = self.advice.clone();
        let [in_slow, in_fast] = [0, 1];
        for object in &mut advice.objects {
            let chosen = object.fixed.is_none() && slow.contains(&object.object.id.as_str());
            object.tier = if chosen { in_slow } else { in_fast };
        }
        for (number, used) in advice.tiers.iter_mut().enumerate() {
            let objects = advice.objects.iter().filter(|object| object.tier == number);
            *used = TierUse {
                bytes: objects.clone().map(|object| object.bytes).sum(),
                objects: objects.count(),
                tier: used.tier.clone(),
            };
        }
        policy(&advice, self.meta, self.setting.clone())
    }
}
