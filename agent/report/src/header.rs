//! The lines above the table: what was recorded, how, and how far it can be trusted. The HTML page shows the same ones.

use tierscope_traces::{Exit, Losses, SamplerKind, Simulation};

use crate::Report;
use crate::text::printable;
use crate::units::{bytes, count, duration, percent, thousands};

/// Label and text of each line.
pub(crate) fn lines(report: &Report<'_>) -> Vec<(&'static str, String)> {
    let simulated = report.meta.simulation.as_ref().map(|modelled| ("simulated", simulated(report, modelled)));
    let mut lines = vec![("program", program(report)), ("sampler", sampler(report))];
    lines.extend(simulated);
    lines.extend([
        ("sampled", sampled(report)),
        ("attributed", attributed(report)),
        ("memory", memory(report)),
        ("lost", lost(&report.meta.losses)),
    ]);
    lines
}

/// Instructions, cycles, and what the whole placement costs.
fn simulated(report: &Report<'_>, modelled: &Simulation) -> String {
    let mut text = format!("{} instructions by {}", count(modelled.instructions as f64), printable(&modelled.emulator));
    if modelled.counted_instructions < modelled.instructions {
        text += &format!(", {} of them counted", count(modelled.counted_instructions as f64));
    }
    let Some(run) = &report.summary.simulation else { return text };
    if let Some(cycles) = run.cycles_all_fast {
        text += &format!("; {} cycles all in fast memory", count(cycles));
    }
    if let (Some(slowdown), Some(interval)) = (run.slowdown, run.slowdown_interval) {
        let half = (interval.high - interval.low) / 2.0 * 100.0;
        let placement = printable(&run.placement);
        let tiers = printable(&run.tiers);
        text += &format!(", {:+.1} ± {half:.1} % {placement} with {tiers}", slowdown * 100.0);
    }
    text
}

/// What a reader must know before believing any number; whole sentences, most important first.
pub(crate) fn warnings(report: &Report<'_>) -> Vec<String> {
    let mut warnings = Vec::new();
    if report.being_written {
        warnings.push("The recording is still under way: this is what has been written so far.".to_owned());
    } else if !report.meta.complete {
        warnings.push(
            "This profile is incomplete: the recorder was stopped before it could finish, and what came after the last \
             part is missing."
                .to_owned(),
        );
    }
    // What was simulated was counted, whether samples were kept or not.
    let sampled = report.summary.simulation.is_none();
    if sampled && report.summary.samples == 0.0 {
        warnings.push(
            "There are no samples: the program ran for less than a sampling period, slept all the time, or could not be \
             sampled. Record for longer, with a higher rate (-r), or see `tierscope doctor`."
                .to_owned(),
        );
    } else if sampled && report.summary.objects.iter().all(|object| object.samples == 0.0) {
        warnings.push(
            "No sample belongs to a known object, so nothing can be ranked: was the shim loaded? See the lines above."
                .to_owned(),
        );
    }
    let shim = &report.meta.allocator.shim;
    if !shim.is_empty() && shim != "loaded" {
        warnings.push(format!("Heap objects are not told apart, because the shim is not loaded: {}.", printable(shim)));
    }
    let approximations = report.meta.simulation.iter().flat_map(|simulation| &simulation.approximations);
    warnings.extend(approximations.chain(report.warnings).map(|warning| {
        let warning = printable(warning);
        if warning.ends_with('.') { warning } else { warning + "." }
    }));
    warnings
}

fn program(report: &Report<'_>) -> String {
    let program = &report.meta.program;
    let command = if program.command.is_empty() { &program.exe } else { &program.command.join(" ") };
    let command = if command.is_empty() { "unknown" } else { command };
    let command = on_one_line(command);
    let exit = match program.exit {
        Some(Exit::Code(code)) => format!(", exit status {code}"),
        Some(Exit::Signal(signal)) => format!(", ended by signal {signal}"),
        None => String::new(),
    };
    let pid = if program.pid == 0 { String::new() } else { format!(" (pid {}{exit})", program.pid) };
    printable(&command) + &pid
}

/// A command may be a whole script (`python3 -c ...`): its beginning tells which it is.
fn on_one_line(command: &str) -> String {
    const MOST: usize = 160;
    let line = command.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= MOST { line } else { line.chars().take(MOST).chain(['…']).collect() }
}

fn sampler(report: &Report<'_>) -> String {
    let sampler = &report.meta.sampler;
    let meaning = match sampler.kind {
        SamplerKind::Pmu => "pmu: sampled memory accesses",
        SamplerKind::Clock => "clock: shares are of time, not of misses",
        SamplerKind::Fault => "fault: first touches of pages, not accesses",
        SamplerKind::Import => "import: samples of another tool",
        SamplerKind::Sim => "sim: accesses of a simulated machine",
        SamplerKind::Unknown => "unknown",
    };
    let rate =
        if sampler.rate_hz > 0.0 { format!(", {} Hz per thread", count(sampler.rate_hz)) } else { String::new() };
    let why = printable(&sampler.chosen_because);
    let why = if why.is_empty() { why } else { format!(" ({why})") };
    let user = if sampler.user_only { ", user mode only" } else { "" };
    format!("{meaning}{rate}{user}{why}")
}

fn sampled(report: &Report<'_>) -> String {
    let clock = &report.meta.clock;
    let delay =
        if clock.delay_ns > 0 { format!(" after a delay of {}", duration(clock.delay_ns)) } else { String::new() };
    format!("{} samples in {}{delay}", count(report.summary.samples), duration(clock.duration_ns))
}

fn attributed(report: &Report<'_>) -> String {
    if report.summary.samples == 0.0 {
        return "nothing to attribute".to_owned();
    }
    let shares = &report.summary.attribution;
    format!(
        "{}: {} exactly, {} by a reconstructed address, {} to the nearest object",
        percent(shares.attributed()),
        percent(shares.exact),
        percent(shares.approximate),
        percent(shares.neighbour)
    )
}

fn memory(report: &Report<'_>) -> String {
    let allocations: f64 = report.summary.objects.iter().map(|object| object.allocations).sum();
    let sampled = match report.meta.allocator.mean_bytes {
        0 => String::new(),
        mean => format!(
            "; blocks below {} are sampled, one every {}",
            bytes(report.meta.allocator.large_bytes as f64),
            bytes(mean as f64)
        ),
    };
    format!("{} live at the peak, {} allocations{sampled}", bytes(report.summary.peak_live_bytes), count(allocations))
}

fn lost(losses: &Losses) -> String {
    let kinds = [
        (losses.samples, "samples"),
        (losses.allocations, "allocations"),
        (losses.frees, "frees"),
        (losses.other_events, "other events"),
        (losses.stacks, "call stacks"),
        (losses.corrupt, "damaged events"),
        (losses.unwritten, "rows not written"),
    ];
    let lost: Vec<String> = kinds
        .into_iter()
        .filter(|&(number, _)| number > 0)
        .map(|(number, what)| format!("{} {what}", thousands(number)))
        .collect();
    if lost.is_empty() { "nothing".to_owned() } else { lost.join(", ") }
}
