//! `tierscope report`: opens a profile, summarises it, shows it.

use crate::cli::ReportArguments;
use crate::commands::{columns, has_colors, print, print_json, shell_quoted};
use crate::failure::Failure;
use crate::output::Output;
use crate::record;
use std::path::{Path, PathBuf};
use tierscope_model::explain::notes;
use tierscope_model::summary::SortKey;
use tierscope_model::{Summary, summarise};
use tierscope_report::{RenderOptions, Report, render_html, render_table, to_json};
use tierscope_traces::Profile;

/// Objects shown where nothing else is asked for.
const TOP: usize = 20;

/// Of so many objects the call stacks are shown.
const STACKS: usize = 3;

pub(crate) fn run(arguments: &ReportArguments) -> Result<u8, Failure> {
    let mut remarks = Vec::new();
    let profile = open_named(&arguments.profile, &arguments.debug_dir, &mut remarks)?;
    let tables = profile.tables();
    let sort = arguments.sort.unwrap_or_else(|| SortKey::natural(profile.meta()));
    let mut summary = summarise(profile.meta(), &tables, sort);
    let notes = notes(profile.meta(), &tables, &summary);
    let mut warnings = profile.warnings();
    warnings.extend(remarks);
    if arguments.json
        && let Some(top) = arguments.top
    {
        summary.objects.truncate(top);
    }
    let report = Report {
        path: profile.path(),
        meta: profile.meta(),
        summary: &summary,
        warnings: &warnings,
        being_written: profile.is_being_written(),
        notes: &notes,
    };
    let top = arguments.top.unwrap_or(TOP);
    if let Some(path) = &arguments.html {
        let page = render_html(&report, arguments.top.unwrap_or(usize::MAX));
        // Private, as the profile it shows is.
        Output::claim(path, true, "")?.private().write(page.as_bytes())?;
        return Ok(0);
    }
    if arguments.json {
        print_json("the report", &to_json(&report))?;
        return Ok(0);
    }
    let stacks = if arguments.verbose { top } else { STACKS.min(top) };
    let text = table(&report, top, stacks, sort) + &next(&arguments.profile, &summary);
    print(text.as_bytes())?;
    Ok(0)
}

/// Opens a profile, with the names of its functions looked up where they are not there yet or `debug_dirs` may have more;
/// what could not be done about it is added to `remarks`.
pub(crate) fn open_named(path: &Path, debug_dirs: &[PathBuf], remarks: &mut Vec<String>) -> Result<Profile, Failure> {
    let profile = open(path)?;
    let lacks_symbols = profile.meta().totals.symbols == 0 && profile.meta().totals.sites > 0;
    if debug_dirs.is_empty() && (!lacks_symbols || profile.is_being_written()) {
        return Ok(profile);
    }
    drop(profile);
    match record::look_up_symbols_again(path, debug_dirs) {
        Ok(more) => remarks.extend(more),
        // Somebody else's profile can be read without being ours to complete.
        Err(failure) => remarks.push(format!("functions have no names: {failure}")),
    }
    open(path)
}

fn open(path: &Path) -> Result<Profile, Failure> {
    Profile::open(path).map_err(|error| Failure::from_error("cannot show the profile", &error))
}

/// The report as a table for whatever standard output is.
pub(crate) fn table(report: &Report<'_>, top: usize, stacks: usize, sort: SortKey) -> String {
    render_table(report, &RenderOptions { width: columns(), top, stacks, color: has_colors(), sort })
}

/// What to type next, with an empty line before it; nothing where the profile cannot be advised on.
pub(crate) fn next(path: &Path, summary: &Summary) -> String {
    if summary.samples > 0.0 && !summary.objects.is_empty() {
        format!("\nnext        tierscope advise {} --fast 25%\n", shell_quoted(path))
    } else {
        String::new()
    }
}
