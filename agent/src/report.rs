//! `tierscope report`: opens a profile, summarises it, shows it.

use crate::cli::ReportArguments;
use crate::commands::{print, terminal_width};
use crate::failure::Failure;
use crate::record;
use std::io::IsTerminal;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use tierscope_model::summarise;
use tierscope_model::summary::SortKey;
use tierscope_report::{RenderOptions, Report, render_html, render_table, to_json};
use tierscope_traces::Profile;

/// Objects shown where nothing else is asked for.
const TOP: usize = 20;

/// Of so many objects the call stacks are shown.
const STACKS: usize = 3;

pub(crate) fn run(arguments: &ReportArguments) -> Result<u8, Failure> {
    let mut remarks = Vec::new();
    let profile = open(&arguments.profile)?;
    let lacks_symbols = profile.meta().totals.symbols == 0 && profile.meta().totals.sites > 0;
    let profile = if !arguments.debug_dir.is_empty() || (lacks_symbols && !profile.is_being_written()) {
        drop(profile);
        match record::look_up_symbols_again(&arguments.profile, &arguments.debug_dir) {
            Ok(more) => remarks.extend(more),
            // Somebody else's profile can be read without being ours to complete.
            Err(failure) => remarks.push(format!("functions have no names: {failure}")),
        }
        open(&arguments.profile)?
    } else {
        profile
    };
    let tables = profile.tables();
    let mut summary = summarise(profile.meta(), &tables, arguments.sort);
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
    };
    let top = arguments.top.unwrap_or(TOP);
    if let Some(path) = &arguments.html {
        write_page(path, &render_html(&report, arguments.top.unwrap_or(usize::MAX)))?;
        return Ok(0);
    }
    if arguments.json {
        let mut text = serde_json::to_vec_pretty(&to_json(&report))
            .map_err(|error| Failure::cannot(format!("cannot write the report as JSON: {error}")))?;
        text.push(b'\n');
        print(&text)?;
        return Ok(0);
    }
    let stacks = if arguments.verbose { top } else { STACKS.min(top) };
    print(table(&report, top, stacks, arguments.sort).as_bytes())?;
    Ok(0)
}

fn open(path: &Path) -> Result<Profile, Failure> {
    Profile::open(path).map_err(|error| Failure::from_error("cannot show the profile", &error))
}

/// The report as a table for whatever standard output is.
pub(crate) fn table(report: &Report<'_>, top: usize, stacks: usize, sort: SortKey) -> String {
    let color = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    render_table(report, &RenderOptions { width: terminal_width().or(columns_asked_for()), top, stacks, color, sort })
}

/// `COLUMNS`, where there is no terminal to ask.
fn columns_asked_for() -> Option<usize> {
    std::env::var("COLUMNS").ok()?.parse().ok().filter(|columns| (40..=1000).contains(columns))
}

/// Written beside its place and renamed, so that a page is whole or not there; private, as the profile it shows is.
fn write_page(path: &Path, page: &str) -> Result<(), Failure> {
    let failure = |error: std::io::Error| Failure::cannot(format!("cannot write {}: {error}", path.display()));
    let mut name = path.file_name().ok_or_else(|| Failure::usage("--html needs the name of a file"))?.to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)
        .and_then(|mut file| std::io::Write::write_all(&mut file, page.as_bytes()))
        .and_then(|()| std::fs::rename(&temporary, path));
    written.map_err(|error| {
        // The page is not wanted half-written; what cannot be removed was never created.
        let _ = std::fs::remove_file(&temporary);
        failure(error)
    })
}
