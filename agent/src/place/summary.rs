//! What came of a policy, as a person reads it after the program's own output.
//!
//! First the tiers, then every rule that did not do what it says, with its reason; of rules that did, the largest. What the
//! counts mean for the person is said where it is not obvious; what did not happen is not mentioned.

use super::outcome::{Outcome, RuleOutcome, TierOutcome};
use std::fmt::Write;
use tierscope_tiers::human_bytes;

/// Rules shown of those that did what they say.
const RULES: usize = 12;
/// Rules shown of each kind that did not.
const TROUBLED: usize = 20;

/// The summary; lines end with a line feed.
pub(super) fn render(outcome: &Outcome) -> String {
    let mut text = String::new();
    if outcome.processes == 0 {
        nothing(&mut text, outcome);
    } else {
        head(&mut text, outcome);
        outcome.tiers.iter().for_each(|each| tier(&mut text, outcome, each));
        rules(&mut text, outcome);
        unmatched(&mut text, outcome);
        trouble(&mut text, outcome);
    }
    left_out(&mut text, outcome);
    kernel(&mut text, outcome);
    text
}

/// `1 block`, `2 blocks`.
fn count(number: u64, thing: &str) -> String {
    let plural = if number == 1 {
        ""
    } else if thing.ends_with('s') {
        "es"
    } else {
        "s"
    };
    format!("{number} {thing}{plural}")
}

fn line(text: &mut String, what: impl std::fmt::Display) {
    let _ = writeln!(text, "tierscope: {what}");
}

fn nothing(text: &mut String, outcome: &Outcome) {
    let program = outcome.command.first().map(String::as_str).unwrap_or_default();
    line(text, format_args!("nothing was placed: no process of {program} loaded the preload library"));
    line(
        text,
        "  it ended before its libraries were loaded, or something cleans the environment or starts the program \
         elsewhere (sudo, env -i, a container, a static program in between): run tierscope inside of that",
    );
}

fn head(text: &mut String, outcome: &Outcome) {
    let blocks: u64 = outcome.tiers.iter().map(|tier| tier.blocks).sum();
    let whose = if outcome.processes == 1 { String::new() } else { format!(" of {} processes", outcome.processes) };
    line(text, format_args!("placed {}{whose} by {}", count(blocks, "block"), outcome.policy.display()));
}

fn tier(text: &mut String, outcome: &Outcome, tier: &TierOutcome) {
    let default = if tier.name == outcome.default_tier { ", default" } else { "" };
    let most = tier.capacity.map(|bytes| format!(", at most {}", human_bytes(bytes))).unwrap_or_default();
    let on_nodes = matches!(tier.backend, "numa" | "interleave");
    let what = if tier.backend == "default" {
        "not counted".to_owned()
    } else if tier.blocks == 0 && on_nodes && tier.name == outcome.default_tier {
        "what no rule matches, from the program's own allocator".to_owned()
    } else if tier.blocks == 0 {
        "no block".to_owned()
    } else {
        let blocks = count(tier.blocks, "block");
        format!("{blocks}, {} at once, {} in all", human_bytes(tier.bytes_peak), human_bytes(tier.bytes))
    };
    line(text, format_args!("  {} ({}{most}{default}): {what}", tier.name, tier.place));
    if tier.spilled_blocks > 0 {
        let (blocks, bytes) = (count(tier.spilled_blocks, "block"), human_bytes(tier.spilled_bytes));
        // Mappings of the program's own keep their address, so files and swap cannot have them.
        let why = if on_nodes { "no room" } else { "no room, or a mapping of the program's own" };
        line(text, format_args!("    {blocks} ({bytes}) meant for it went elsewhere: {why}"));
    }
    if tier.failures > 0 {
        let why = tier.last_error.as_deref().unwrap_or("the system did not say why");
        let times = count(tier.failures, "time");
        line(text, format_args!("    its memory could not be had {times}, the last time: {why}"));
    }
}

fn rules(text: &mut String, outcome: &Outcome) {
    let mut worked: Vec<&RuleOutcome> =
        outcome.rules.iter().filter(|rule| rule.found.is_some() && !rule.did_nothing()).collect();
    worked.sort_by_key(|rule| std::cmp::Reverse(rule.bytes.max(rule.bytes_moved.unwrap_or(0)).max(rule.spilled_bytes)));
    for rule in worked.iter().take(RULES) {
        let what = match rule.bytes_moved {
            Some(bytes) => format!("{} moved", human_bytes(bytes)),
            None => format!("{}, {} at once", count(rule.blocks, "block"), human_bytes(rule.bytes_peak)),
        };
        let spilled = match rule.spilled_blocks {
            0 => String::new(),
            blocks => format!("; {} ({}) went elsewhere", count(blocks, "block"), human_bytes(rule.spilled_bytes)),
        };
        line(text, format_args!("  rule {} -> {}: {what}{spilled}: {}", rule.rule, rule.tier, rule.objects));
    }
    if let Some(more @ 1..) = worked.len().checked_sub(RULES) {
        line(text, format_args!("  and {} (--stats FILE has all)", count(more as u64, "smaller rule")));
    }
    let idle: Vec<&RuleOutcome> = outcome.rules.iter().filter(|rule| rule.did_nothing()).collect();
    for rule in idle.iter().take(TROUBLED) {
        let why = match (&rule.error, rule.bytes_moved, rule.found) {
            (Some(error), ..) => format!("could not be moved: {error}"),
            (None, Some(_), _) => "was not moved".to_owned(),
            (_, _, Some("later")) => "matched nothing: its module was not loaded, or is another build".to_owned(),
            _ => "matched nothing".to_owned(),
        };
        line(text, format_args!("  rule {} -> {}: {why}: {}", rule.rule, rule.tier, rule.objects));
    }
    more(text, idle.len(), "more rule that matched nothing", "more rules that matched nothing");
}

fn more(text: &mut String, found: usize, one: &str, several: &str) {
    match found.saturating_sub(TROUBLED) {
        0 => {}
        1 => line(text, format_args!("  and 1 {one} (--stats FILE has all)")),
        number => line(text, format_args!("  and {number} {several} (--stats FILE has all)")),
    }
}

fn left_out(text: &mut String, outcome: &Outcome) {
    let left: Vec<&RuleOutcome> = outcome.rules.iter().filter(|rule| rule.found.is_none()).collect();
    for rule in left.iter().take(TROUBLED) {
        let why = rule.why_not.as_deref().unwrap_or("it was not found in the program");
        line(text, format_args!("  rule {} -> {} was left out: {}: {why}", rule.rule, rule.tier, rule.objects));
    }
    more(text, left.len(), "more rule was left out", "more rules were left out");
}

fn unmatched(text: &mut String, outcome: &Outcome) {
    let unmatched = outcome.unmatched;
    if unmatched.blocks > 0 {
        let (blocks, bytes) = (count(unmatched.blocks, "block"), human_bytes(unmatched.bytes));
        let tier = &outcome.default_tier;
        line(text, format_args!("  no rule matched {blocks} ({bytes} in all): default tier {tier}"));
    }
}

fn trouble(text: &mut String, outcome: &Outcome) {
    for module in &outcome.modules.rebuilt {
        line(text, format_args!("  {module} is not of the build the policy was made for: sites were found by name"));
    }
    if outcome.modules.differing > 0 {
        let modules = count(outcome.modules.differing, "module");
        line(
            text,
            format_args!("  {modules} met of another build than the policy's, for which its rules did not hold"),
        );
    }
    let failures = &outcome.failures;
    let kinds = [
        (failures.no_address_space, "process", "had no address space to place in, and placed nothing"),
        (failures.no_metadata, "block", "left alone: no memory for bookkeeping"),
        (failures.no_stack, "block", "left alone: the call stack could not be followed"),
        (failures.reentered, "block", "left alone: asked for by the placing itself"),
    ];
    for (number, thing, what) in kinds.into_iter().filter(|(number, ..)| *number > 0) {
        line(text, format_args!("  {} {what}", count(number, thing)));
    }
    if outcome.gave_up || failures.last_error.is_some() {
        let why = failures.last_error.as_deref().unwrap_or("the system did not say why");
        let what = if outcome.gave_up { "a process could not place" } else { "the last failure of the system" };
        line(text, format_args!("  {what}: {why}"));
    }
}

fn kernel(text: &mut String, outcome: &Outcome) {
    let Some(moves) = outcome.kernel.filter(|moves| !moves.is_none()) else { return };
    let (down, up) = (count(moves.pages_demoted, "page"), count(moves.pages_promoted, "page"));
    let mut what = format!("the kernel moved {down} down and {up} up during the run");
    if moves.pages_balanced > moves.pages_promoted {
        let _ = write!(what, ", {} between nodes in all", count(moves.pages_balanced, "page"));
    }
    line(text, format_args!("{what} (on the whole machine): placed pages may no longer be where the policy put them"));
}
