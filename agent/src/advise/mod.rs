//! `tierscope advise`: from a profile and a budget to a policy, and what every other budget would give.
//!
//! What can be refused is refused before the profile is opened, and the policy is written before anything is shown of it. The model that
//! says what objects cost is obtained only where one is needed (`ranking::Models`).

mod apart;
mod choice;

use crate::cli::{AdviseArguments, Fast};
use crate::commands::{columns, has_colors, print, print_json};
use crate::failure::Failure;
use crate::output::Output;
use crate::ranking::Models;
use crate::report::open_named;
pub(crate) use apart::Apart;
use choice::Choice;
use std::path::Path;
use tierscope_machine::{Root, detect, today};
use tierscope_model::advice::policy::{Setting, policy};
use tierscope_model::advice::{Advice, AdviceError, Goal, Options, advise};
use tierscope_model::summarise;
use tierscope_model::summary::SortKey;
use tierscope_placement::{Bound, Limits};
use tierscope_policy::{Policy, update};
use tierscope_report::{AdviceReport, RenderOptions, Report, advice_to_json, render_advice};
use tierscope_traces::Meta;

/// Objects shown where nothing else is asked for.
const TOP: usize = 20;

pub(crate) fn run(arguments: &AdviseArguments) -> Result<u8, Failure> {
    run_before(arguments, None)
}

/// As [`run`], with the command that is told to come next instead of the recorded one, which may be no user's.
pub(crate) fn run_before(arguments: &AdviseArguments, next: Option<&str>) -> Result<u8, Failure> {
    let claim = |path: &std::path::PathBuf| Output::claim(path, arguments.force, "brings the advice into it");
    let output = arguments.output.as_ref().map(claim).transpose()?;
    let earlier = output.as_ref().map(earlier).transpose()?.flatten();
    let machine = detect(&Root::default());
    let mut remarks = Vec::new();
    let profile = open_named(&arguments.profile, &[], &mut remarks)?;
    let simulated = profile.meta().simulation.as_ref().and_then(|simulation| simulation.tiers.first());
    let earlier_policy = earlier.as_ref().map(|(_, policy)| policy);
    let choice = Choice::make(arguments, &machine, simulated, earlier_policy, &today())?;
    let tables = profile.tables();
    let summary = summarise(profile.meta(), &tables, SortKey::Share);
    let options =
        Options { tiers: choice.priced(), goal: goal(arguments), ranker: arguments.ranker, limits: Limits::default() };
    let models = Models::shipped(arguments.quiet);
    let advice = advise(profile.meta(), &tables, &summary, &options, &|family| models.get(family))
        .map_err(|error| refusal(arguments, &error))?;

    let mut obstacles = choice.obstacles(&machine);
    if let Some(output) = output {
        let setting = Setting {
            tiers: choice.placed(),
            profile: arguments.profile.display().to_string(),
            created: Some(today()),
            tierscope: Some(env!("CARGO_PKG_VERSION").to_owned()),
        };
        let text = policy_text(&advice, profile.meta(), setting, earlier.as_ref(), &mut obstacles)?;
        output.write(text.as_bytes())?;
    }
    if arguments.quiet {
        return Ok(0);
    }
    let mut warnings = profile.warnings();
    warnings.extend(remarks);
    let shown = AdviceReport {
        report: Report {
            path: profile.path(),
            meta: profile.meta(),
            summary: &summary,
            warnings: &warnings,
            being_written: profile.is_being_written(),
            notes: &[],
        },
        advice: &advice,
        tiers: &choice.notes(),
        assumptions: &choice.assumptions,
        obstacles: &obstacles,
        options: &repeated(arguments),
        policy: arguments.output.as_deref(),
        next,
    };
    show(&shown, arguments)?;
    Ok(0)
}

/// The policy that is there and will be updated; an empty file is none.
fn earlier(output: &Output) -> Result<Option<(String, Policy)>, Failure> {
    let Some(text) = output.replaced()?.filter(|text| !text.trim().is_empty()) else { return Ok(None) };
    let shown = output.shown().display();
    match Policy::parse(&text) {
        Ok(policy) => Ok(Some((text, policy))),
        Err(errors) => {
            Err(Failure::cannot(format!("{shown} is there and is no policy to bring an advice into:\n{errors}"))
                .mend(format!("correct it, or write to another file; rm {shown} gives it up")))
        }
    }
}

fn goal(arguments: &AdviseArguments) -> Goal {
    match (arguments.fast, arguments.max_slowdown) {
        (Some(Fast::Bytes(bytes)), _) => Goal::FastBytes(bytes),
        (Some(Fast::Part(part)), _) => Goal::FastFraction(part),
        // One of them is required; a limit is for those who must keep it, so the interval's upper end counts.
        (None, limit) => Goal::MaxSlowdown { limit: limit.unwrap_or(0.0), bound: Bound::High },
    }
}

fn refusal(arguments: &AdviseArguments, error: &AdviceError) -> Failure {
    Failure::from_error(&format!("cannot advise on {}", arguments.profile.display()), error)
}

/// The text of the policy, checked to read back. What a person must know of an update is added to `obstacles`.
fn policy_text(
    advice: &Advice,
    meta: &Meta,
    setting: Setting,
    earlier: Option<&(String, Policy)>,
    obstacles: &mut Vec<String>,
) -> Result<String, Failure> {
    let new = policy(advice, meta, setting);
    let Some((text, _)) = earlier else {
        let text = new.to_toml();
        return match Policy::parse(&text) {
            Ok(_) => Ok(text),
            Err(errors) => {
                Err(Failure::cannot(format!("the policy would not read back, so it was not written:\n{errors}")))
            }
        };
    };
    let updated = update(text, &new).map_err(|errors| {
        Failure::cannot(format!("the advice does not go into the policy that is there:\n{errors}"))
    })?;
    if !updated.stale.is_empty() {
        let numbers: Vec<String> = updated.stale.iter().map(u32::to_string).collect();
        obstacles.push(format!(
            "The program was rebuilt since rules were written by hand (number {} in the file): their addresses are of the old \
             build, so their `site` must be written anew.",
            numbers.join(", ")
        ));
    }
    Ok(updated.text)
}

/// The options that decide on the tiers, as they were typed.
fn repeated(arguments: &AdviseArguments) -> Vec<String> {
    let list = |nodes: &[u16]| nodes.iter().map(u16::to_string).collect::<Vec<_>>().join(",");
    let path = |path: &Path| path.to_string_lossy().into_owned();
    let options = [
        ("--tiers", arguments.tiers.clone()),
        ("--fast-node", Some(list(&arguments.fast_node))),
        ("--slow-node", Some(list(&arguments.slow_node))),
        ("--slow-dir", arguments.slow_dir.as_deref().map(path)),
        ("--slow-dax", arguments.slow_dax.as_deref().map(path)),
    ];
    let given = options.into_iter().filter_map(|(name, value)| Some((name, value.filter(|value| !value.is_empty())?)));
    given.flat_map(|(name, value)| [name.to_owned(), value]).collect()
}

fn show(shown: &AdviceReport<'_>, arguments: &AdviseArguments) -> Result<(), Failure> {
    if arguments.json {
        let mut value = advice_to_json(shown);
        if let Some(top) = arguments.top
            && let Some(objects) = value.get_mut("objects").and_then(serde_json::Value::as_array_mut)
        {
            objects.truncate(top);
        }
        return print_json("the advice", &value);
    }
    let top = arguments.top.unwrap_or(TOP);
    let options = RenderOptions { width: columns(), top, stacks: top, color: has_colors(), ..RenderOptions::default() };
    print(render_advice(shown, &options).as_bytes())
}

#[cfg(test)]
mod tests;
