//! Rows from a program of the user's on memory that the user has: each object alone in the slow tier, timed.
//!
//! The program is recorded, and then run again and again under policies that differ in one object (`advise::Apart`). Runs take
//! turns, so that what changes on the machine meanwhile meets all of them: what counts is the ratio of a run to the one of the same turn
//! with everything in fast memory, and the label's error is how these ratios differ from turn to turn.

use super::store::Store;
use crate::advise::Apart;
use crate::cli::{LabelArguments, RunArguments};
use crate::examine::Silence;
use crate::examine::native::{self, Recorded, Sampling};
use crate::examine::rows::{llc_bytes, row};
use crate::failure::Failure;
use crate::{place, private};
use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tierscope_model::features::{Window, features};
use tierscope_model::interval::mean_interval;
use tierscope_rank::{Case, Features, Row, Set, Table, TierFigures, TierPair};
use tierscope_tiers::{Quantity, Tier};

/// Who timed it, in the table.
const MACHINE: &str = "measured";
/// Characters of a command line that name a case.
const MOST_OF_A_COMMAND: usize = 200;

/// What a program's time grows by.
#[derive(Debug, Clone, Copy)]
struct Slowdown {
    point: f64,
    error: f64,
}

/// Records, measures and adds to the table.
///
/// # Errors
///
/// The tiers are not there, nothing can be placed, or a run fails.
pub(super) fn run(arguments: &LabelArguments) -> Result<u8, Failure> {
    let store = Store::open(&arguments.table)?;
    let say = |text: String| {
        if !arguments.quiet {
            // Where standard error is closed there is nobody to tell.
            let _ = std::io::stderr().write_all(text.as_bytes());
        }
    };
    let (directory, ()) = private::directory(|_| Ok(()))?;
    let _silence = Silence::begin()?;
    say("tierscope: recording\n".to_owned());
    let sampling = Sampling { rate_hz: arguments.rate, delay: Duration::ZERO };
    let recorded = native::record(arguments.command.clone(), sampling, &directory.path().join("native.tsp"))?;
    let apart = Apart::new(&recorded.meta, &recorded.tables, &recorded.summary, &arguments.tiers)?;
    let tier_pair = tier_pair(apart.tiers())?;
    let movable = apart.movable();
    let alone: Vec<&str> = movable.iter().copied().take(arguments.objects).collect();

    // The reference first, then each object, then all that can be moved.
    let sets = std::iter::once(Vec::new()).chain(alone.iter().map(|id| vec![*id])).chain([movable.clone()]);
    let policies: Vec<PathBuf> = sets
        .enumerate()
        .map(|(number, slow)| write(directory.path(), number, &apart.policy(&slow).to_toml()))
        .collect::<Result<_, _>>()?;
    let mut seconds = vec![Vec::new(); policies.len()];
    for turn in 1..=arguments.passes {
        for (number, (policy, seconds)) in policies.iter().zip(&mut seconds).enumerate() {
            let took = timed(policy, &arguments.command)?;
            seconds.push(took);
            let what = match number {
                0 => "all fast".to_owned(),
                number if number <= alone.len() => format!("object {number} of {} slow", alone.len()),
                _ => "all slow".to_owned(),
            };
            say(format!("tierscope: [{turn}/{}] {what}: {took:.3} s\n", arguments.passes));
        }
    }
    let Some((reference, others)) = seconds.split_first() else { return Ok(0) };
    let slowdowns: Vec<Slowdown> = others.iter().map(|seconds| slowdown(reference, seconds)).collect();
    let case = case_of(&arguments.command, &recorded, apart.tiers()[1]);
    let table = table(&case, tier_pair, &recorded, &alone, &movable, &slowdowns)?;
    say(format!("tierscope: {} rows measured\n", table.rows.len()));
    store.add(table)?;
    Ok(0)
}

fn write(directory: &Path, number: usize, text: &str) -> Result<PathBuf, Failure> {
    let path = directory.join(format!("{number}.policy.toml"));
    std::fs::write(&path, text)
        .map_err(|error| Failure::cannot(format!("cannot write {}: {error}", path.display())))?;
    Ok(path)
}

/// Seconds of a run under a policy.
fn timed(policy: &Path, command: &[OsString]) -> Result<f64, Failure> {
    let arguments = RunArguments {
        policy: policy.to_path_buf(),
        stats: None,
        strict: None,
        quiet: true,
        command: command.to_vec(),
    };
    match place::run_timed(&arguments)? {
        (0, seconds) => Ok(seconds),
        (status, _) => Err(Failure::cannot(format!("the program ended with status {status} under a policy"))
            .mend("run it by itself: it must end, with status 0, each time")),
    }
}

/// From the times of each turn.
fn slowdown(reference: &[f64], seconds: &[f64]) -> Slowdown {
    let ratios: Vec<f64> =
        reference.iter().zip(seconds).map(|(reference, seconds)| seconds / reference - 1.0).collect();
    let (point, error) = mean_interval(&ratios).unwrap_or((f64::NAN, f64::NAN));
    Slowdown { point, error }
}

fn case_of(command: &[OsString], recorded: &Recorded, slow: &Tier) -> Case {
    let words: Vec<_> = command.iter().map(|word| word.to_string_lossy()).collect();
    let name = words.first().map_or("", |path| path.rsplit('/').next().unwrap_or(path));
    let rest = words.get(1..).unwrap_or_default().join(" ");
    Case {
        program: name.to_owned(),
        scale: rest.chars().take(MOST_OF_A_COMMAND).collect(),
        seed: 0,
        llc_bytes: llc_bytes(&recorded.meta.host),
        tiers: slow.name.clone(),
        machine: MACHINE.to_owned(),
    }
}

/// Ratios of what is known of the tiers; a granule that is not known is a line.
fn tier_pair([fast, slow]: [&Tier; 2]) -> Result<TierPair, Failure> {
    const LINE: f64 = 64.0;
    let figure = |tier: &Tier, quantity: Quantity| {
        tier.value(quantity).ok_or_else(|| {
            Failure::cannot(format!("{} is not known of {}", quantity.key(), tier.name))
                .mend("tierscope tiers --measure -o FILE measures it")
        })
    };
    let written = |tier: &Tier| {
        tier.value(Quantity::WriteBandwidthGbs).map_or_else(|| figure(tier, Quantity::ReadBandwidthGbs), Ok)
    };
    let figures = |tier: &Tier| {
        Ok::<_, Failure>(TierFigures {
            latency_ns: figure(tier, Quantity::ReadLatencyNs)?,
            read_gbs: figure(tier, Quantity::ReadBandwidthGbs)?,
            write_gbs: written(tier)?,
            granule_bytes: tier.value(Quantity::GranuleBytes).unwrap_or(LINE),
        })
    };
    let slow = figures(slow)?;
    Ok(TierPair::between(&figures(fast)?, &slow))
}

/// The rows: `slowdowns` are those of the objects `alone` and then of all that is `movable`.
fn table(
    case: &Case,
    tier_pair: TierPair,
    recorded: &Recorded,
    alone: &[&str],
    movable: &[&str],
    slowdowns: &[Slowdown],
) -> Result<Table, Failure> {
    let Recorded { meta, tables, summary } = recorded;
    let llc_bytes = llc_bytes(&meta.host);
    let observed = features(meta, tables, summary, Window::WHOLE, llc_bytes)
        .map_err(|error| Failure::from_error("no features", &error))?;
    let clock = |place: usize| -> Option<Features> {
        observed.objects.iter().find(|object| object.object == place).map(|object| object.features.clone())
    };
    let measured = |(id, slowdown): (&&str, &Slowdown)| {
        let (place, object) = summary.objects.iter().enumerate().find(|(_, object)| object.id == **id)?;
        let unseen = row(case, tier_pair, object, (slowdown.point, slowdown.error));
        Some(Row { clock: clock(place), ..unseen })
    };
    let mut sets = Vec::new();
    // A set with objects that have no row says nothing to those who read the table.
    if let Some(all) = slowdowns.get(alone.len()).filter(|_| alone.len() == movable.len() && alone.len() > 1) {
        let mut slow: Vec<String> = movable.iter().map(|id| (*id).to_owned()).collect();
        slow.sort_unstable();
        sets.push(Set { case: case.clone(), slow, slowdown: all.point, error: all.error });
    }
    Ok(Table { rows: alone.iter().zip(slowdowns).filter_map(measured).collect(), sets })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slowdown_is_the_mean_of_its_turns() {
        // The machine was half as fast in the second turn: that is nobody's cost.
        let slowdown = slowdown(&[1.0, 2.0, 1.0], &[1.1, 2.2, 1.1]);
        assert!((slowdown.point - 0.1).abs() < 1e-9 && slowdown.error < 1e-9, "{slowdown:?}");
    }

    #[test]
    fn ratios_need_a_bandwidth() {
        let tier = |name: &str, read: f64| {
            let mut tier = Tier::named(name);
            let origin = tierscope_tiers::Origin { source: None, date: None };
            tier.set(Quantity::ReadLatencyNs, tierscope_tiers::Figure::new(read, origin.clone()));
            (tier, origin)
        };
        let ((mut fast, origin), (mut slow, _)) = (tier("fast", 100.0), tier("slow", 250.0));
        let failure = tier_pair([&fast, &slow]).unwrap_err().to_string();
        assert!(failure.contains("read_bandwidth_gbs is not known of slow"), "{failure}");
        for (tier, gbs) in [(&mut fast, 100.0), (&mut slow, 20.0)] {
            tier.set(Quantity::ReadBandwidthGbs, tierscope_tiers::Figure::new(gbs, origin.clone()));
        }
        let pair = tier_pair([&fast, &slow]).unwrap();
        assert_eq!(
            (pair.latency_x, pair.bandwidth_x, pair.write_bandwidth_x, pair.granule_bytes),
            (2.5, 5.0, 5.0, 64.0)
        );
    }
}
