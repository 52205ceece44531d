//! `tierscope demo`: the first journey on the shipped workload. Records it, shows the report, advises on a quarter of its
//! memory, runs it as the policy says, and compares what can be compared here.
//!
//! The workload is betweenness centrality on a Kronecker graph, because it shows in a quarter of a minute what this is
//! about: nine objects, of which one takes most of the bytes and another most of the time. The slow tier is files beside
//! the profile, which every machine can have. As long as memory is not short their pages stay in it: so the comparison
//! shows what carrying a policy out costs, and says so.

use crate::cli::{AdviseArguments, DemoArguments, Fast, RunArguments};
use crate::commands::{print, shell_quoted};
use crate::failure::Failure;
use crate::record::{self, Props, Subject};
use crate::{advise, place, private};
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;
use tierscope_model::advice::Ranker;
use tierscope_model::explain::notes;
use tierscope_model::summarise;
use tierscope_model::summary::SortKey;
use tierscope_report::Report;
use tierscope_traces::Profile;

pub(crate) fn run(arguments: &DemoArguments) -> Result<u8, Failure> {
    let directory = tempfile::Builder::new()
        .prefix("tierscope-demo-")
        .rand_bytes(12)
        .permissions(std::fs::Permissions::from_mode(0o700))
        .tempdir()
        .map_err(|error| Failure::cannot(format!("no directory for the workload: {error}")))?;
    let program = private::extract_workloads(directory.path())
        .map_err(|error| Failure::cannot(format!("cannot extract the workload: {error}")))?;
    // A demo leaves nothing behind but its profile: no graph in the user's cache.
    let command =
        [program.as_os_str(), "bc".as_ref(), "--no-cache".as_ref(), "--scale".as_ref(), arguments.scale.as_ref()];
    eprintln!(
        "tierscope: recording betweenness centrality on a Kronecker graph (scale {}); its result follows",
        arguments.scale
    );
    let outcome = record::run(&Props {
        output: Some(arguments.output.clone()),
        force: true,
        ..Props::new(Subject::Command(command.map(OsString::from).to_vec()))
    })?;
    let failure = |error| Failure::from_error("cannot show the profile", &error);
    let profile = Profile::open(&arguments.output).map_err(failure)?;
    let tables = profile.tables();
    let summary = summarise(profile.meta(), &tables, SortKey::Share);
    let report = Report {
        path: profile.path(),
        meta: profile.meta(),
        summary: &summary,
        warnings: &profile.warnings(),
        being_written: false,
        notes: &notes(profile.meta(), &tables, &summary),
    };
    let mut text = format!("\n{}", crate::report::table(&report, 10, 1, SortKey::Share));
    text += &reading(&summary);
    text += &format!("\nThe whole of it: tierscope report -v {}\n", shell_quoted(&arguments.output));
    print(text.as_bytes())?;
    match outcome.exit_status.unwrap_or(0) {
        0 => place_it(arguments, &command),
        status => Ok(status),
    }
}

/// The part of what can be placed that may be in fast memory.
const FAST: f64 = 0.25;

/// Advises, runs the program by the policy, and compares.
fn place_it(arguments: &DemoArguments, command: &[&OsStr]) -> Result<u8, Failure> {
    let policy = arguments.output.with_extension("policy.toml");
    let slow = slow_directory(&arguments.output.with_extension("slow"))?;
    let text = format!(
        "\nNext: which objects deserve memory, if there were a quarter of it, and files on a slower disk for the rest?\n\
         $ tierscope advise {} --fast 25% --tiers ddr5,nand-nvme --slow-dir {} -o {}\n\n",
        shell_quoted(&arguments.output),
        shell_quoted(&slow),
        shell_quoted(&policy),
    );
    print(text.as_bytes())?;
    // One of an earlier demo would be kept and updated.
    let _ = std::fs::remove_file(&policy);
    // The workload is gone when the demo is over; its profile is not.
    let next = format!("tierscope advise {} --fast 50% --tiers ddr5,nand-nvme", shell_quoted(&arguments.output));
    let advised = AdviseArguments {
        profile: arguments.output.clone(),
        fast: Some(Fast::Part(FAST)),
        max_slowdown: None,
        tiers: Some("ddr5,nand-nvme".into()),
        fast_node: Vec::new(),
        slow_node: Vec::new(),
        slow_dir: Some(slow),
        slow_dax: None,
        ranker: Ranker::Model,
        output: Some(policy.clone()),
        force: false,
        json: false,
        top: Some(10),
        quiet: false,
    };
    advise::run_before(&advised, Some(&next))?;
    print(format!("\n$ tierscope run --policy {} -- tierscope-workloads bc\n", shell_quoted(&policy)).as_bytes())?;
    let start = Instant::now();
    let status = place::run(&RunArguments {
        policy,
        stats: None,
        strict: None,
        quiet: false,
        command: command.iter().map(OsString::from).collect(),
    })?;
    let placed = start.elapsed().as_secs_f64();
    if status != 0 {
        return Ok(status);
    }
    let plain = plainly(command)?;
    let text = format!(
        "\nCompared: {plain:.1} s with everything in memory, {placed:.1} s as the policy says. There was room in memory for the\n\
         pages of the files, so this is what carrying the policy out costs, not what slow memory costs.\n"
    );
    print(text.as_bytes())?;
    Ok(0)
}

fn slow_directory(path: &Path) -> Result<PathBuf, Failure> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.and_then(|()| path.canonicalize())
        .map_err(|error| Failure::cannot(format!("no directory for the slow tier at {}: {error}", path.display())))
}

/// Seconds of a run with nothing of ours.
fn plainly(command: &[&OsStr]) -> Result<f64, Failure> {
    let start = Instant::now();
    let (program, rest) = command.split_first().ok_or_else(|| Failure::cannot("there is nothing to run"))?;
    let status = Command::new(program).args(rest).stdin(Stdio::null()).stdout(Stdio::null()).status();
    match status {
        Ok(status) if status.success() => Ok(start.elapsed().as_secs_f64()),
        Ok(status) => Err(Failure::cannot(format!("the workload ended with {status}"))),
        Err(error) => Err(Failure::cannot(format!("cannot run the workload: {error}"))),
    }
}

/// Objects with less than this share of the samples are not worth a sentence.
const NOTABLE_SHARE: f64 = 0.05;

/// How to read the table, with the numbers of this run: the notable object that gains most from each byte of fast memory.
fn reading(summary: &tierscope_model::Summary) -> String {
    let notable = summary.objects.iter().filter(|object| object.share >= NOTABLE_SHARE && object.live_bytes_max > 0.0);
    let Some(densest) = notable.max_by(|one, other| one.density().total_cmp(&other.density())) else {
        return "\nNo object has a notable share of the samples: the run was too short.\n".into();
    };
    let bytes: f64 = summary.objects.iter().map(|object| object.live_bytes_max).sum();
    let (low, high) = (densest.share_interval.low, densest.share_interval.high);
    format!(
        "\nHow to read it: a sample is a moment at which the program waited for memory. {:.0} % of them ({:.0}-{:.0} %)\n\
         waited for {}, which is {:.1} % of the bytes: fast memory spent there buys most.\n",
        densest.share * 100.0,
        low * 100.0,
        high * 100.0,
        tierscope_report::printable(&densest.name),
        densest.live_bytes_max / bytes * 100.0,
    )
}
