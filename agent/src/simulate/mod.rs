//! `tierscope simulate`: exact answers for a machine one does not have.
//!
//! ```text
//! config.json ──> qemu-x86_64 + tracer ──> program, unmodified, with the shim inside
//!                        │                        │ what it allocates: marked system calls
//!                        ▼                        ▼
//!                  tierscope-sim: every access, every placement
//!                        │
//!                        └──> outcome.json, samples, blocks ──> NAME.sim.tsp, --stats
//! ```
//!
//! All of the model is in `tierscope-sim` and all that looks into the program in `tierscope-tracer`, which the emulator loads. What
//! is here decides what is modelled (`shape`, `memory`), starts the emulator (`emulator`), and makes a profile of what was found
//! (`profile`) that every other command reads like a recording's. `sweep` runs the program again to time placements of whole
//! sets of objects.

mod code;
mod emulator;
mod memory;
mod profile;
mod run;
mod shape;
mod sweep;

pub(crate) use run::Finished;

use crate::cli::SimulateArguments;
use crate::commands::shell_quoted;
use crate::failure::Failure;
use crate::launch::Ended;
use crate::output::{self, Stats};
use crate::place::{self, Policied};
use crate::record;
use crate::units::hex;
use emulator::Emulator;
use memory::Memory;
use profile::Found;
use run::Runner;
use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use tierscope_binary::{PreloadVerdict, Program};
use tierscope_model::explain::notes;
use tierscope_model::summarise;
use tierscope_model::summary::SortKey;
use tierscope_report::{Report, to_json};
use tierscope_sim::config::AtMark;
use tierscope_sim::{Config, Detail, Placement};
use tierscope_traces::{Allocator, Clock, Exit, Host, Meta, Profile, Sampler, SamplerKind};

/// Simulates a program and returns its exit status.
///
/// # Errors
///
/// When it cannot be simulated here, before the program starts; and when the profile cannot be written.
pub(crate) fn run(arguments: &SimulateArguments) -> Result<u8, Failure> {
    let simulation = Simulation::new(arguments)?;
    let output = arguments.output.clone().unwrap_or_else(|| default_output(&simulation.program.command));
    if !arguments.force && output.exists() {
        let why = format!("{} is there already", output.display());
        return Err(Failure::cannot(why).mend("-f replaces it; -o takes another name"));
    }
    output::check_room_for(&output)?;
    let stats = arguments.stats.as_deref().map(Stats::open).transpose()?;
    if !arguments.quiet {
        simulation.notes.iter().for_each(|note| say(&format!("tierscope: note: {note}\n")));
    }
    let finished = simulation.run(&simulation.config)?;
    simulation.write(&finished, &output, arguments.force)?;
    let mut searched = Vec::new();
    if arguments.budget_sweep {
        searched = sweep::run(&simulation, &finished.outcome, &output, arguments)?;
    }
    if !arguments.no_symbols {
        record::look_up_symbols_again(&output, &[])?;
    }
    if let Some(mut stats) = stats {
        write_stats(&mut stats, &output)?;
    }
    if !arguments.quiet {
        say(&told(&finished, &output));
        if !searched.is_empty() {
            say(&format!("\nSlowdown by part of its memory that is fast:\n{}", sweep::table(&searched)));
        }
    }
    Ok(finished.ended.as_status())
}

/// A program and what it is simulated on: all that stays the same from run to run.
pub(crate) struct Simulation {
    program: Program,
    command: Vec<OsString>,
    /// What the emulator executes: the program's ELF file and its arguments.
    words: Vec<OsString>,
    emulator: Emulator,
    host: Host,
    /// Whether the shim can be loaded, or why not.
    shim: String,
    quiet: bool,
    /// A placement to time, and which of the modelled tiers each of its tiers is.
    policy: Option<(Policied, Vec<u16>)>,
    /// What was assumed, in sentences.
    notes: Vec<String>,
    pub(crate) config: Config,
}

impl Simulation {
    /// Finds everything that is needed; nothing is started yet.
    ///
    /// # Errors
    ///
    /// Names what is missing or makes no sense.
    pub(crate) fn new(arguments: &SimulateArguments) -> Result<Self, Failure> {
        let name = arguments.command.first().ok_or_else(|| Failure::usage("no program to simulate"))?;
        let program = Program::find(name).map_err(|error| Failure::from_error("cannot simulate", &error))?;
        let words = emulator::guest(&program, &arguments.command)?;
        let emulator = Emulator::find(arguments.qemu.as_deref())?;
        let host = record::describe_host();
        let mut config = configure(arguments, shape::machine(arguments, &host)?)?;
        let mut notes = Vec::new();
        if !arguments.no_timing {
            let memory = Memory::named(&arguments.tiers, arguments.memory_mode)?;
            (config.tiers, config.sets, config.timing) = (memory.tiers, memory.sets, true);
            notes = memory.assumptions;
        }
        let policy =
            arguments.policy.as_deref().map(|policy| place::compiled_for(policy, &arguments.command)).transpose()?;
        let policy = match policy {
            Some(policy) => {
                let tiers = policy_tiers(&policy, &config)?;
                let default = policy.default.and_then(|default| tiers.get(default)).copied().unwrap_or(0);
                let name = policy.name.clone();
                config.placements.push(Placement { name, default, objects: Default::default() });
                notes.extend(policy.warnings.iter().cloned());
                Some((policy, tiers))
            }
            None => None,
        };
        config.check().map_err(|error| Failure::usage(error.to_string()))?;
        let shim = match program.preload_verdict() {
            PreloadVerdict::NotLoadable(reason) => reason.to_string(),
            _ => "loaded".to_owned(),
        };
        let (command, quiet) = (arguments.command.clone(), arguments.quiet);
        Ok(Self { program, command, words, emulator, host, shim, quiet, policy, notes, config })
    }

    /// Runs the program once.
    ///
    /// # Errors
    ///
    /// It could not be run, or left no result.
    pub(crate) fn run(&self, config: &Config) -> Result<Finished, Failure> {
        let with_shim = self.shim == "loaded";
        let runner = Runner { emulator: &self.emulator, words: &self.words, with_shim, quiet: self.quiet };
        // Only the configuration that was made from the policy has a placement for it.
        let policy = self.policy.as_ref().filter(|_| config.placements == self.config.placements);
        runner.run(config, policy.map(|(policy, tiers)| (policy, tiers.as_slice())))
    }

    /// Writes what a run with the simulation's own configuration found as a profile.
    ///
    /// # Errors
    ///
    /// What the disk says.
    pub(crate) fn write(&self, finished: &Finished, output: &Path, force: bool) -> Result<(), Failure> {
        let found = Found {
            config: &self.config,
            outcome: &finished.outcome,
            samples: &finished.samples,
            allocations: &finished.allocations,
        };
        profile::write(output, force, self.describe(finished), found)
    }

    fn describe(&self, finished: &Finished) -> Meta {
        let Self { program, command, emulator, host, shim, config, .. } = self;
        let outcome = &finished.outcome;
        let cycles = profile::all_fast(outcome, 0).map_or(outcome.totals.instructions, |lane| lane.cycles);
        let mut approximations = profile::approximations(outcome);
        approximations.extend(finished.remarks.iter().cloned());
        let mut meta = Meta {
            tierscope_version: env!("CARGO_PKG_VERSION").to_owned(),
            created: tierscope_traces::rfc3339(std::time::SystemTime::now()),
            host: host.clone(),
            sampler: Sampler {
                kind: SamplerKind::Sim,
                chosen_because: match config.sample_every {
                    Some(1) => "every load that missed the last-level cache".to_owned(),
                    Some(every) => {
                        format!("one in {every} loads that missed the last-level cache; counts are of all accesses")
                    }
                    None => "no samples; counts are of all accesses".to_owned(),
                },
                user_only: true,
                address_source: "simulated".to_owned(),
                ..Sampler::default()
            },
            allocator: Allocator {
                large_bytes: config.record_blocks_of.unwrap_or(0),
                stack_mode: "unwind tables".into(),
                shim: shim.clone(),
                ..Allocator::default()
            },
            clock: Clock { duration_ns: (cycles as f64 / config.machine.ghz) as u64, ..Clock::default() },
            simulation: Some(profile::simulation(config, outcome, &emulator.name, approximations)),
            ..Meta::default()
        };
        meta.program.command = command.iter().map(|word| word.to_string_lossy().into_owned()).collect();
        meta.program.exe = program.path.display().to_string();
        meta.program.build_id = program.build_id.as_deref().map(hex);
        meta.program.pid = finished.pid;
        meta.program.exit = Some(match finished.ended {
            Ended::Exited(code) => Exit::Code(code),
            Ended::Killed(signal) => Exit::Signal(signal),
        });
        meta
    }
}

/// What is simulated, but for the tiers.
fn configure(arguments: &SimulateArguments, machine: tierscope_sim::Machine) -> Result<Config, Failure> {
    let at = |detail| move |mark: &String| AtMark { mark: mark.clone(), detail };
    let mut at_marks: Vec<AtMark> = arguments.from_mark.iter().map(at(Detail::Full)).collect();
    at_marks.extend(arguments.to_mark.iter().map(at(Detail::Off)));
    if let Some(mark) = arguments.from_mark.iter().find(|mark| arguments.to_mark.contains(mark)) {
        return Err(Failure::usage(format!("--from-mark and --to-mark are both {mark:?}")));
    }
    Ok(Config {
        machine,
        sampling: arguments.sample.map(Into::into),
        sample_every: (arguments.sample_every > 0).then_some(arguments.sample_every),
        record_blocks_of: Some(tierscope_wire::options::DEFAULT_LARGE_BYTES),
        max_lanes: arguments.lanes,
        // Caches are warm when the first mark comes.
        detail: if arguments.from_mark.is_empty() { Detail::Full } else { Detail::Warm },
        at_marks,
        fast_forward: arguments.fast_forward,
        warm_up: arguments.warm_up,
        max_instructions: arguments.max_instructions,
        ..Config::default()
    })
}

/// Which of the modelled tiers each of a policy's is: that of its name, or, where none of the names is known, of its place.
fn policy_tiers(policy: &Policied, config: &Config) -> Result<Vec<u16>, Failure> {
    let named = |name: &String| (0..).zip(&config.tiers).find(|(_, tier)| tier.name == *name).map(|(index, _)| index);
    let found: Vec<Option<u16>> = policy.tiers.iter().map(named).collect();
    if found.iter().all(Option::is_none) && found.len() == config.tiers.len() {
        return Ok((0..).take(found.len()).collect());
    }
    let modelled: Vec<&str> = config.tiers.iter().map(|tier| tier.name.as_str()).collect();
    let unknown = |name: &String| {
        Failure::usage(format!("the policy's tier {name} is none of those modelled ({})", modelled.join(", ")))
            .mend(format!("--tiers {} models the policy's, where they are presets", policy.tiers.join(",")))
    };
    found.into_iter().zip(&policy.tiers).map(|(index, name)| index.ok_or_else(|| unknown(name))).collect()
}

/// The name a profile gets when none is given.
fn default_output(program: &Path) -> PathBuf {
    let name = program.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    PathBuf::from(format!("{}.sim.tsp", record::file_name_of(&name)))
}

/// Where standard error is closed there is nobody to tell.
fn say(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

fn write_stats(stats: &mut Stats, output: &Path) -> Result<(), Failure> {
    let failure = |error| Failure::from_error("cannot read the profile again", &error);
    let profile = Profile::open(output).map_err(failure)?;
    let tables = profile.tables();
    let summary = summarise(profile.meta(), &tables, SortKey::natural(profile.meta()));
    let report = Report {
        path: profile.path(),
        meta: profile.meta(),
        summary: &summary,
        warnings: &profile.warnings(),
        being_written: false,
        notes: &notes(profile.meta(), &tables, &summary),
    };
    stats.write(&to_json(&report))
}

/// What was simulated, and the exact next command.
fn told(finished: &Finished, output: &Path) -> String {
    let totals = &finished.outcome.totals;
    let seconds = finished.seconds.max(1e-9);
    let speed = totals.instructions as f64 / seconds / 1e6;
    let mut text = format!(
        "tierscope: {}: {} instructions simulated in {seconds:.1} s ({speed:.0} M/s)\n",
        output.display(),
        tierscope_report::count(totals.instructions as f64),
    );
    for remark in &finished.remarks {
        text += &format!("tierscope:   {remark}\n");
    }
    text + &format!("tierscope: next: tierscope report {}\n", shell_quoted(output))
}
