//! From what was typed to what is done.

use crate::cli::{Cli, Command, DoctorArguments, RecordArguments, SamplerName, StackName};
use crate::failure::Failure;
use crate::output::Stats;
use crate::record::{self, Outcome, Props, SamplerChoice, Subject};
use crate::{advise, demo, label, place, ranking, report, simulate, tiers};
use clap::CommandFactory;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::Duration;
use tierscope_wire::options::StackMode;

/// Runs a command and returns the exit status.
///
/// # Errors
///
/// [`Failure`], which knows its own exit status.
pub fn run(command: Command) -> Result<u8, Failure> {
    match command {
        Command::Record(arguments) => record(arguments),
        Command::Report(arguments) => report::run(&arguments),
        Command::Run(arguments) => place::run(&arguments),
        Command::Simulate(arguments) => simulate::run(&arguments),
        Command::Label(arguments) => label::run(&arguments),
        Command::Train(arguments) => ranking::train(&arguments),
        Command::Eval(arguments) => ranking::eval(&arguments),
        Command::Compile(arguments) => place::write_table(&arguments),
        Command::Shim(arguments) => place::write_shim(&arguments),
        Command::Advise(arguments) => advise::run(&arguments),
        Command::Tiers(arguments) => tiers::run(&arguments),
        Command::Doctor(arguments) => doctor(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "tierscope", &mut script);
            print(&script).map(|()| 0)
        }
        Command::Man { directory } => clap_mangen::generate_to(Cli::command(), &directory)
            .map(|()| 0)
            .map_err(|error| Failure::cannot(format!("cannot write manual pages to {}: {error}", directory.display()))),
    }
}

/// Writes to standard output. A reader that has had enough (`| head`) is no error.
pub(crate) fn print(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::cannot(format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Columns of the terminal on standard output, if it is one.
pub(crate) fn terminal_width() -> Option<usize> {
    let out = std::io::stdout();
    if !out.is_terminal() {
        return None;
    }
    rustix::termios::tcgetwinsize(out).ok().map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

/// Columns to fill: those of the terminal, or `COLUMNS` where there is none; `None` where nothing limits them.
pub(crate) fn columns() -> Option<usize> {
    let asked_for = || std::env::var("COLUMNS").ok()?.parse().ok().filter(|columns| (40..=1000).contains(columns));
    terminal_width().or_else(asked_for)
}

/// Whether standard output shows colours.
pub(crate) fn has_colors() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// Writes a document and a line feed to standard output.
pub(crate) fn print_json(what: &str, value: &impl serde::Serialize) -> Result<(), Failure> {
    let mut text = serde_json::to_vec_pretty(value)
        .map_err(|error| Failure::cannot(format!("cannot write {what} as JSON: {error}")))?;
    text.push(b'\n');
    print(&text)
}

fn props(arguments: RecordArguments) -> Result<Props, Failure> {
    let subject = match arguments.pid {
        Some(pid) => Subject::Pid(pid),
        None => Subject::Command(arguments.command),
    };
    Ok(Props {
        output: arguments.output,
        force: arguments.force,
        rate_hz: arguments.rate,
        duration: arguments.duration,
        delay: arguments.delay,
        sampler: match arguments.sampler {
            SamplerName::Auto => SamplerChoice::Auto,
            SamplerName::Clock => SamplerChoice::Clock,
            SamplerName::Fault => SamplerChoice::Fault,
            SamplerName::Pmu => {
                return Err(Failure::cannot("this version has no sampler for a processor's PMU")
                    .mend("--sampler clock works on every processor, with or without a PMU"));
            }
        },
        follow_fork: arguments.follow_fork,
        shim: !arguments.no_shim,
        mean_bytes: arguments.sample_bytes,
        large_bytes: arguments.large_bytes,
        stacks: match arguments.stacks {
            StackName::Unwind => StackMode::Unwind,
            StackName::FramePointer => StackMode::FramePointer,
            StackName::Caller => StackMode::Caller,
        },
        symbols: !arguments.no_symbols,
        quiet: arguments.quiet,
        round: Duration::from_millis(arguments.round_ms),
        ..Props::new(subject)
    })
}

fn record(arguments: RecordArguments) -> Result<u8, Failure> {
    let stats = arguments.stats.as_deref().map(Stats::open).transpose()?;
    let props = props(arguments)?;
    let outcome = record::run(&props)?;
    if let Some(mut stats) = stats {
        stats.write(&outcome)?;
    }
    if !props.quiet {
        // Where standard error is closed there is nobody to tell.
        let _ = std::io::stderr().write_all(describe(&outcome).as_bytes());
    }
    Ok(outcome.exit_status.unwrap_or(0))
}

/// What was recorded, and the exact next command.
pub(crate) fn describe(outcome: &Outcome) -> String {
    let mut text = String::new();
    for profile in &outcome.profiles {
        text += &format!(
            "tierscope: {}: {} samples of {} in {:.1} s ({}), {:.0} % of those in user code with an address\n",
            profile.path.display(),
            profile.samples,
            profile.name,
            outcome.duration_s,
            outcome.sampler,
            profile.addressed * 100.0,
        );
        let lost = [
            (profile.lost_samples, "samples"),
            (profile.lost_allocations, "allocations"),
            (profile.lost_frees, "frees"),
        ];
        let lost: Vec<String> =
            lost.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
        if !lost.is_empty() {
            text += &format!("tierscope:   lost: {}\n", lost.join(", "));
        }
    }
    if let Some(first) = outcome.profiles.first() {
        text += &format!("tierscope: next: tierscope report {}\n", shell_quoted(&first.path));
    }
    text
}

/// A path as a word of a command line.
pub(crate) fn shell_quoted(path: &Path) -> String {
    tierscope_report::shell_word(&path.to_string_lossy())
}

fn doctor(arguments: &DoctorArguments) -> Result<u8, Failure> {
    let subject = match (arguments.pid, arguments.command.is_empty()) {
        (Some(pid), _) => tierscope_doctor::Subject::Process(pid),
        (None, false) => tierscope_doctor::Subject::Command(arguments.command.clone()),
        (None, true) => tierscope_doctor::Subject::Machine,
    };
    let report = tierscope_doctor::examine(&subject);
    if arguments.json {
        print_json("the findings", &report)?;
    } else {
        print(report.render(terminal_width().unwrap_or(80), has_colors()).as_bytes())?;
    }
    Ok(report.exit_status())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_command_can_be_pasted() {
        assert_eq!(shell_quoted(Path::new("bc.4711.tsp")), "bc.4711.tsp");
        assert_eq!(shell_quoted(Path::new("it's here.tsp")), "'it'\\''s here.tsp'");
    }
}
