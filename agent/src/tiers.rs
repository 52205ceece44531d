//! `tierscope tiers`: what kinds of memory there are: here, in a file, or in publications.

use crate::cli::TiersArguments;
use crate::commands::{columns, print, print_json, shell_quoted};
use crate::failure::Failure;
use crate::output::{Output, read_text};
use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::path::Path;
use tierscope_machine::{
    Machine, Measurement, Request, Root, detect, measure, missing, render_text, to_json, to_tiers, today,
};
use tierscope_tiers::{Quantity, Tiers, TiersError};

/// Columns where nothing says how wide the output is.
const WIDTH: usize = 100;

/// A set of tiers and what is known beside it.
struct Found {
    /// Empty where the tiers are not those of a machine.
    machine: Machine,
    measured: Measurement,
    /// What of the tiers this machine has not.
    missing: Vec<(String, String)>,
}

pub(crate) fn run(arguments: &TiersArguments) -> Result<u8, Failure> {
    let output =
        arguments.output.as_deref().map(|path| Output::claim(path, arguments.force, "replaces it")).transpose()?;
    if let Some(list) = &arguments.preset {
        return preset(list, arguments.json, output);
    }
    let found = if arguments.presets {
        let names: Vec<&str> = tierscope_tiers::names().collect();
        of_tiers(Tiers::of_presets(&names.join(",")).map_err(|error| unusable("the presets", &error))?)
    } else if let Some(path) = &arguments.tiers {
        let mut found = of_tiers(read(path)?);
        let here = detect(&Root::default());
        let lacks = |tier: &tierscope_tiers::Tier| Some((tier.name.clone(), missing(&here, tier.backend.as_ref()?)?));
        found.missing = found.measured.tiers.as_slice().iter().filter_map(lacks).collect();
        found
    } else {
        look(arguments)?
    };
    show(&found, arguments.json)?;
    let Measurement { tiers, failures } = &found.measured;
    if let Some(output) = output {
        if tiers.as_slice().is_empty() {
            return Err(Failure::cannot("no memory tier was found, so no tier file was written")
                .mend("tierscope tiers --preset ddr5,cxl-asic -o FILE writes one to edit"));
        }
        write(output, &tiers.to_toml())?;
    }
    let asked = arguments.dir.len() + found.machine.nodes.iter().filter(|node| node.total_bytes.is_some()).count();
    match failures.first() {
        Some(first) if arguments.measure && failures.len() >= asked => {
            Err(Failure::cannot(format!("nothing could be measured; {}: {}", first.tier, first.reason)))
        }
        _ => Ok(0),
    }
}

/// Prints presets as a tier file, or writes them into one.
fn preset(list: &str, json: bool, output: Option<Output>) -> Result<u8, Failure> {
    let tiers = Tiers::of_presets(list).map_err(|error| Failure::usage(error.to_string()))?;
    // A single one as it was written, for its comments and the order of its keys.
    let text = tierscope_tiers::text(list.trim()).map_or_else(|| tiers.to_toml(), str::to_owned);
    let shown = output.is_none();
    if let Some(output) = output {
        write(output, &text)?;
    }
    if json {
        show(&of_tiers(tiers), true)?;
    } else if shown {
        print(text.as_bytes())?;
    }
    Ok(0)
}

fn of_tiers(tiers: Tiers) -> Found {
    let measured = Measurement { tiers, failures: Vec::new() };
    Found { machine: Machine::default(), measured, missing: Vec::new() }
}

fn look(arguments: &TiersArguments) -> Result<Found, Failure> {
    // Before anything takes its time.
    for directory in &arguments.dir {
        let cannot = |why: &str| Failure::cannot(format!("cannot measure {}: {why}", directory.display()));
        let found = std::fs::metadata(directory).map_err(|error| cannot(&error.to_string()))?;
        if !found.is_dir() {
            return Err(cannot("it is no directory"));
        }
    }
    let machine = detect(&Root::default());
    let measured = if arguments.measure {
        let request = Request { directories: arguments.dir.clone(), ..Request::default() };
        let bar = std::io::stderr().is_terminal().then(|| indicatif::ProgressBar::new(100));
        if let Some(bar) = &bar
            && let Ok(style) = indicatif::ProgressStyle::with_template("{bar:24} {percent:>3} % {msg}")
        {
            bar.set_style(style);
        }
        let outcome = measure(&machine, &request, &mut |part, what| {
            if let Some(bar) = &bar {
                bar.set_position((part * 100.0) as u64);
                bar.set_message(what.to_owned());
            }
            ControlFlow::Continue(())
        });
        if let Some(bar) = bar {
            bar.finish_and_clear();
        }
        outcome.map_err(|error| Failure::from_error("cannot measure", &error))?
    } else {
        Measurement { tiers: to_tiers(&machine, &today()), failures: Vec::new() }
    };
    Ok(Found { machine, measured, missing: Vec::new() })
}

fn show(found: &Found, json: bool) -> Result<(), Failure> {
    let Measurement { tiers, failures } = &found.measured;
    if json {
        let mut value = to_json(&found.machine, tiers, failures);
        if let Some(object) = value.as_object_mut() {
            let missing = found.missing.iter();
            let missing = missing.map(|(tier, reason)| serde_json::json!({ "tier": tier, "reason": reason })).collect();
            object.insert("missing".to_owned(), serde_json::Value::Array(missing));
        }
        return print_json("the tiers", &value);
    }
    let mut text = render_text(&found.machine, tiers, failures, columns().unwrap_or(WIDTH));
    let is_known = |tier: &tierscope_tiers::Tier| tier.value(Quantity::ReadLatencyNs).is_some();
    if !found.machine.nodes.is_empty() && failures.is_empty() && !tiers.as_slice().iter().any(is_known) {
        text.push_str("\nThe firmware states no latency; tierscope tiers --measure measures it.\n");
    }
    if !found.missing.is_empty() {
        text.push_str("\nNot on this machine\n");
    }
    for (tier, reason) in &found.missing {
        text.push_str(&format!("  {tier}: {}\n", tierscope_report::printable(reason)));
    }
    print(text.as_bytes())
}

fn write(output: Output, text: &str) -> Result<(), Failure> {
    let shown = output.shown().to_path_buf();
    output.write(text.as_bytes())?;
    let quoted = shell_quoted(&shown);
    eprintln!("tierscope: wrote {}; next: tierscope advise PROFILE --fast 25% --tiers {quoted}", shown.display());
    Ok(())
}

/// Reads a tier file.
pub(crate) fn read(path: &Path) -> Result<Tiers, Failure> {
    Tiers::parse(&read_text(path, path)?).map_err(|error| unusable(&path.display().to_string(), &error))
}

fn unusable(what: &str, error: &TiersError) -> Failure {
    Failure::cannot(format!("{what}, {error}"))
        .mend("docs/tiers.md has the format; tierscope tiers --preset ddr5 prints an example")
}

/// What `--tiers` names.
#[derive(Debug)]
pub(crate) struct Named {
    pub(crate) tiers: Tiers,
    /// Whether they are presets rather than those of a file.
    pub(crate) presets: bool,
}

/// The tiers of presets, or of a file where the word can only be a path or one is there.
///
/// # Errors
///
/// The file cannot be used, or there is neither such a file nor such a preset.
pub(crate) fn named(word: &str) -> Result<Named, Failure> {
    let presets = Tiers::of_presets(word);
    let path = Path::new(word);
    if presets.is_err() && (word.contains('/') || word.ends_with(".toml") || path.exists()) {
        return Ok(Named { tiers: read(path)?, presets: false });
    }
    let tiers = presets.map_err(|error| {
        Failure::usage(format!("{error}; nor is there a file of that name"))
            .mend("tierscope tiers --presets lists the presets")
    })?;
    Ok(Named { tiers, presets: true })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_a_list_of_presets_or_a_file() {
        let names = |word: &str| {
            let named = named(word).unwrap();
            named.tiers.as_slice().iter().map(|tier| tier.name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(names("ddr5,cxl-asic"), ["ddr5", "cxl-asic"]);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("mine");
        std::fs::write(&file, "schema = \"tierscope.tiers/1\"\n[tiers.mine]\nread_latency_ns = 1\n").unwrap();
        assert_eq!(names(file.to_str().unwrap()), ["mine"]);
    }

    #[test]
    fn what_is_wrong_with_it_is_said_with_the_place() {
        let said = named("ddr6").unwrap_err().to_string();
        assert!(said.contains("did you mean `ddr") && said.contains("nor is there a file"), "{said}");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("mine.toml");
        let shown = file.to_str().unwrap();
        assert!(named(shown).unwrap_err().to_string().contains("No such file"));
        std::fs::write(&file, "schema = \"tierscope.tiers/1\"\n[tiers.mine]\nread_latancy_ns = 1\n").unwrap();
        let said = named(shown).unwrap_err().to_string();
        assert!(said.contains("line 3, column 1") && said.contains("read_latency_ns"), "{said}");
    }
}
