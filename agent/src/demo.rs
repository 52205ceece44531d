//! `tierscope demo`: records the shipped workload and shows the report.
//!
//! The workload is betweenness centrality on a Kronecker graph, because it shows in a quarter of a minute what this is
//! about: nine objects, of which one takes most of the bytes and another most of the time.

use crate::cli::DemoArguments;
use crate::commands::{print, shell_quoted};
use crate::embedded;
use crate::failure::Failure;
use crate::record::{self, Props, Subject};
use std::ffi::OsString;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
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
    let program = directory.path().join("tierscope-workloads");
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o700)
        .open(&program)
        .and_then(|mut file| std::io::Write::write_all(&mut file, embedded::WORKLOADS))
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
    let summary = summarise(profile.meta(), &profile.tables(), SortKey::Share);
    let report = Report {
        path: profile.path(),
        meta: profile.meta(),
        summary: &summary,
        warnings: &profile.warnings(),
        being_written: false,
    };
    let mut text = format!("\n{}", crate::report::table(&report, 10, 1, SortKey::Share));
    text += &reading(&summary);
    text += &format!("\nThe whole of it: tierscope report -v {}\n", shell_quoted(&arguments.output));
    text += &crate::report::next(&arguments.output, &summary);
    print(text.as_bytes())?;
    Ok(outcome.exit_status.unwrap_or(0))
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
