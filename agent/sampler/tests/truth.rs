//! Shares of samples against shares of time.
//!
//! A program times four loops over four arrays, each in its own way; the samples that fall on an array must be the
//! share of time that its loop took. Times are CPU times, as the clock that samples is, so other work on the machine
//! does not matter. `TIERSCOPE_TRUTH_ONLY=-O3` runs one level.

#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::ops::Range;
use std::path::PathBuf;
use std::process::Command;

use tierscope_sampler::{Access, AccessKind, Quality, RawSample, Record, Rule, Sampler, SamplerConfig, Target};

mod support;

use support::{Attribution, Child, drain_until, perf_works, pipe};

struct Case {
    level: &'static str,
    threads: usize,
    form: &'static str,
    stretch: &'static str,
    tolerance: f64,
}

struct Outcome {
    /// By name: share of time alone, of time mixed, of samples; in per cent.
    shares: Vec<(String, f64, f64, f64)>,
    user_samples: usize,
    addressed: f64,
    exact: f64,
    microseconds: f64,
    stores_as_stores: f64,
    chase_dependent: f64,
    /// With an address, but in none of the arrays: on the stack.
    elsewhere: f64,
    rules: HashMap<Rule, usize>,
}

fn compile(level: &str) -> PathBuf {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/programs/four_arrays.c");
    let program = directory.join(format!("four_arrays{level}"));
    let compiled = Command::new("cc").args(["-g", level, "-pthread", source, "-o"]).arg(&program).status();
    assert!(compiled.is_ok_and(|status| status.success()), "a C compiler (`cc`) is needed");
    program
}

fn measure(case: &Case) -> Outcome {
    let program = compile(case.level);
    let (input, keep) = pipe();
    let (output, stdout) = pipe();
    let threads = case.threads.to_string();
    let command = [program.to_str().unwrap(), &threads, case.form, "1500", case.stretch];
    let mut child = Child::stopped(&command, Some(input), Some(stdout));
    let config = SamplerConfig { rate_hz: 2000, ..SamplerConfig::default() };
    let mut sampler = Sampler::open(Target::Launch { pid: child.pid }, &config).unwrap();
    child.release();

    let (lines, line) = std::sync::mpsc::channel::<serde_json::Value>();
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(File::from(output)).lines() {
            let _ = lines.send(serde_json::from_str(&line.unwrap()).unwrap());
        }
    });
    let mut attribution = Attribution::new(child.pid);
    let mut arrays: Option<serde_json::Value> = None;
    let mut truth = None;
    let mut resolved: Vec<(RawSample, Access)> = Vec::new();
    drain_until(&mut sampler, |records| {
        if arrays.is_none()
            && let Ok(line) = line.try_recv()
        {
            attribution.refresh();
            attribution.set_objects(spans(&line).map(|(_, span)| span).collect());
            arrays = Some(line);
        } else if let Ok(line) = line.try_recv() {
            truth = Some(line);
        }
        if arrays.is_some() {
            let samples = records.iter().filter_map(|record| match record {
                Record::Sample(sample) => Some(*sample),
                _ => None,
            });
            resolved.extend(samples.map(|sample| (sample, attribution.resolve(&sample))));
        }
        truth.is_some()
    });
    assert_eq!(sampler.losses().lost_records, 0, "the rings overflowed");
    let spent_us = attribution.spent.as_secs_f64() * 1e6 / resolved.len().max(1) as f64;
    let outcome = compare(&resolved, &arrays.unwrap(), &truth.unwrap(), spent_us);
    drop(keep);
    assert_eq!(child.wait(), 0);
    reader.join().unwrap();
    outcome
}

fn number(value: &serde_json::Value) -> u64 {
    value.as_u64().unwrap()
}

fn spans(arrays: &serde_json::Value) -> impl Iterator<Item = (&str, Range<u64>)> {
    arrays["arrays"].as_array().unwrap().iter().map(|array| {
        let start = number(&array["start"]);
        (array["name"].as_str().unwrap(), start..start + number(&array["bytes"]))
    })
}

fn compare(
    resolved: &[(RawSample, Access)],
    arrays: &serde_json::Value,
    truth: &serde_json::Value,
    microseconds: f64,
) -> Outcome {
    let in_mixed_phase = |sample: &RawSample| {
        truth["threads"].as_array().unwrap().iter().any(|thread| {
            number(&thread["tid"]) == u64::from(sample.tid)
                && (number(&thread["from_ns"])..number(&thread["to_ns"])).contains(&sample.time_ns)
        })
    };
    let mut by_name: HashMap<&str, usize> = HashMap::new();
    let (mut user, mut addressed, mut exact) = (0, 0, 0);
    let (mut stores, mut dependent, mut elsewhere) = (0, 0, 0);
    let mut rules = HashMap::new();
    for (sample, access) in resolved.iter().filter(|(sample, _)| in_mixed_phase(sample)) {
        if !sample.kernel {
            user += 1;
            addressed += usize::from(access.quality != Quality::None);
            exact += usize::from(access.quality == Quality::Exact);
            *rules.entry(access.rule).or_default() += 1;
        }
        let hit = access.address.and_then(|address| spans(arrays).find(|(_, span)| span.contains(&address)));
        if let Some((name, _)) = hit {
            *by_name.entry(name).or_default() += 1;
            stores += usize::from(name == "stores" && access.kind == AccessKind::Store);
            dependent += usize::from(name == "chase" && access.dependent);
        } else if !sample.kernel {
            elsewhere += usize::from(access.address.is_some());
        }
    }

    let loops = truth["loops"].as_array().unwrap();
    let names: Vec<&str> = loops.iter().take(4).filter_map(|way| way["name"].as_str()).collect();
    let seconds = |name: &str, field: &str| -> f64 {
        loops.iter().filter(|way| way["name"] == name).filter_map(|way| way[field].as_f64()).sum()
    };
    let total = |field: &str| names.iter().map(|name| seconds(name, field)).sum::<f64>();
    let hits: usize = by_name.values().sum();
    let count = |name: &str| by_name.get(name).copied().unwrap_or(0);
    let percent = |part: f64, whole: f64| 100.0 * part / whole;
    let shares = names
        .iter()
        .map(|&name| {
            (
                name.to_owned(),
                percent(seconds(name, "alone_s"), total("alone_s")),
                percent(seconds(name, "mixed_s"), total("mixed_s")),
                percent(count(name) as f64, hits as f64),
            )
        })
        .collect();
    Outcome {
        shares,
        user_samples: user,
        addressed: percent(addressed as f64, user as f64),
        exact: percent(exact as f64, user as f64),
        microseconds,
        stores_as_stores: percent(stores as f64, count("stores") as f64),
        chase_dependent: percent(dependent as f64, count("chase") as f64),
        elsewhere: percent(elsewhere as f64, user as f64),
        rules,
    }
}

fn is_amd() -> bool {
    std::fs::read_to_string("/proc/cpuinfo").unwrap().contains("AuthenticAMD")
}

#[test]
fn shares_of_samples_are_shares_of_time() {
    if !perf_works() {
        return;
    }
    let only = std::env::var("TIERSCOPE_TRUTH_ONLY").ok();
    let mut table = String::new();
    let mut worst = Vec::new();
    // Unoptimised code keeps its pointers in memory only, where they must be read while the loop still runs.
    // On Zen 4 such a loop of stores that wait is seen waiting at its own stack half of the time (17 to 21 % of all samples are in no array),
    // so that the other arrays' shares of the rest are too large: errors were between 8 and 16 points.
    let unoptimised = if is_amd() { 20.0 } else { 8.0 };
    for (level, stretch, tolerance) in [("-O2", "1", 3.0), ("-O3", "1", 3.0), ("-O0", "40", unoptimised)] {
        if only.as_deref().is_some_and(|only| only != level) {
            continue;
        }
        for (threads, form) in [(1, "separate"), (2, "separate"), (1, "inlined")] {
            let case = Case { level, threads, form, stretch, tolerance };
            let outcome = measure(&case);
            let _ = writeln!(
                table,
                "{level} {threads} thread(s), {form}: {} samples, {:.1} % addressed, {:.1} % exact, {:.1} us each, \
                 {:.0} % of stores told, {:.0} % of the chase dependent, {:.1} % in no array",
                outcome.user_samples,
                outcome.addressed,
                outcome.exact,
                outcome.microseconds,
                outcome.stores_as_stores,
                outcome.chase_dependent,
                outcome.elsewhere,
            );
            for (name, alone, mixed, sampled) in &outcome.shares {
                let error = sampled - mixed;
                let _ = writeln!(
                    table,
                    "  {name:<11} {alone:6.2} % alone {mixed:6.2} % mixed {sampled:6.2} % of samples {error:+6.2}"
                );
                if error.abs() > case.tolerance {
                    worst.push(format!("{level} {threads} {form} {name}: {error:+.2}"));
                }
            }
            let _ = writeln!(table, "  {:?}", outcome.rules);
            if outcome.addressed < 95.0 {
                worst.push(format!("{level} {threads} {form}: {:.1} % addressed", outcome.addressed));
            }
        }
    }
    println!("{table}");
    assert!(worst.is_empty(), "{worst:#?}");
}
