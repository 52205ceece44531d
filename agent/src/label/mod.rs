//! `tierscope label`: the table that rankers learn from, made from the shipped workloads.
//!
//! ```text
//! workload, small or larger ──record (clock)──────> features of time ───────┐
//!                                                                           ├─> a row for each object and pair of tiers
//! the same, tiny, on a machine ──simulate──> samples with levels ─> features┤
//! shrunk as its data are             │                                      │
//!                                    └────> each object alone slow: labels ─┘
//!                                    └────> all subsets of the dearest ─────> a row for each set
//! ```
//!
//! Natively a program is recorded at a size at which memory matters; its objects are found again in the simulation of a small
//! one (`crate::examine`) on caches that are smaller by the same factor (`case`). Only the steady phase counts in either.
//!
//! A program of the user's can be measured on the user's own tiers instead (`measured`).
//!
//! A case is written when it is whole, to new files that then replace the old ones, under a lock: a run that is cut off loses the
//! case it was at, and two runs may share a table.

mod case;
mod measured;
mod store;

use crate::cli::{LabelArguments, Shape, SimulateArguments};
use crate::examine::Silence;
use crate::examine::native::{self, Sampling};
use crate::examine::rows::{self, Labelled, Measured};
use crate::examine::simulated;
use crate::failure::Failure;
use crate::{private, record};
use case::{Case, PROGRAMS, Program, Shrunk, UNTIL};
use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};
use store::Store;

/// Size of the run that is simulated.
const SIMULATED_SCALE: &str = "tiny";
/// Runs of the simulated size are over in a blink natively: this often they show their blocks, and more is not asked of them.
const TINY_RATE_HZ: u32 = 99;
/// First-level data cache of the shrunk machine.
const L1: Shape = Shape::Of { bytes: 32 << 10, ways: Some(8) };

/// Makes or adds to a table.
///
/// # Errors
///
/// Something needed is missing, or the table cannot be read or written. A case that fails is told and left out.
pub(crate) fn run(arguments: &LabelArguments) -> Result<u8, Failure> {
    if !arguments.command.is_empty() {
        return measured::run(arguments);
    }
    let cases = cases(arguments)?;
    let store = Store::open(&arguments.table)?;
    let known = if arguments.force { Vec::new() } else { store.cases()? };
    let wanted: Vec<&Case> = cases.iter().filter(|case| !known.contains(case)).collect();
    let say = |text: &str| {
        if !arguments.quiet {
            // Where standard error is closed there is nobody to tell.
            let _ = std::io::stderr().write_all(text.as_bytes());
        }
    };
    say(&format!("tierscope: {} cases, {} of them in the table already\n", cases.len(), cases.len() - wanted.len()));
    let (directory, workloads) = private::directory(private::extract_workloads)?;
    // What workloads print is for nobody.
    let _silence = Silence::begin()?;
    let (mut done, mut failed) = (0, 0);
    let start = Instant::now();
    for (number, case) in wanted.iter().enumerate() {
        let began = Instant::now();
        let kept = match &arguments.keep {
            Some(keep) => keep.join(case.to_string().replace(' ', "-")),
            None => directory.path().join(number.to_string()),
        };
        std::fs::create_dir_all(&kept)
            .map_err(|error| Failure::cannot(format!("cannot make {}: {error}", kept.display())))?;
        match label(case, arguments, &kept, &workloads) {
            Ok(labelled) => {
                let (rows, clock) = (labelled.table.rows.len(), labelled.paired);
                store.add(labelled.table)?;
                done += 1;
                let left = start.elapsed().as_secs_f64() / (number + 1) as f64 * (wanted.len() - number - 1) as f64;
                say(&format!(
                    "tierscope: [{}/{}] {case}: {rows} rows, {clock} objects in both runs, {:.0} s; {:.0} min left\n",
                    number + 1,
                    wanted.len(),
                    began.elapsed().as_secs_f64(),
                    left / 60.0
                ));
            }
            Err(failure) => {
                failed += 1;
                let _ = writeln!(std::io::stderr(), "tierscope: [{}/{}] {case}: {failure}", number + 1, wanted.len());
            }
        }
    }
    say(&format!("tierscope: {done} cases labelled, {failed} failed, in {:.0} s\n", start.elapsed().as_secs_f64()));
    Ok(if failed > 0 { 1 } else { 0 })
}

/// The cases asked for that are this run's part.
fn cases(arguments: &LabelArguments) -> Result<Vec<Case>, Failure> {
    let programs: Vec<Program> = if arguments.programs.is_empty() {
        PROGRAMS.to_vec()
    } else {
        let find = |name: &String| {
            PROGRAMS.into_iter().find(|program| program.name == name).ok_or_else(|| {
                let known: Vec<&str> = PROGRAMS.iter().map(|program| program.name).collect();
                Failure::usage(format!("no workload {name:?} can be labelled; there are {}", known.join(", ")))
            })
        };
        arguments.programs.iter().map(find).collect::<Result<_, _>>()?
    };
    let mut cases = Vec::new();
    for seed in &arguments.seeds {
        for scale in &arguments.scales {
            cases.extend(programs.iter().map(|program| Case { program: *program, scale: scale.clone(), seed: *seed }));
        }
    }
    let (part, of) = arguments.part;
    Ok(cases.into_iter().enumerate().filter(|(number, _)| number % of == part - 1).map(|(_, case)| case).collect())
}

fn label(case: &Case, arguments: &LabelArguments, kept: &Path, workloads: &Path) -> Result<Labelled, Failure> {
    let command = |scale: &str, more: &[&str]| -> Vec<OsString> {
        let words = case.arguments(scale).into_iter().chain(more.iter().map(|word| (*word).to_owned()));
        std::iter::once(workloads.as_os_str().to_owned()).chain(words.map(OsString::from)).collect()
    };
    let path = |name: &str| kept.join(name);
    let at = |rate_hz| Sampling { rate_hz, delay: Duration::ZERO };
    let native = native::record(command(&case.scale, &[]), at(arguments.rate), &path("native.tsp"))?;
    let tiny = command(SIMULATED_SCALE, &["--iterations", "1"]);
    let tiny = native::record(tiny, at(TINY_RATE_HZ), &path("tiny.tsp"))?;
    let shrunk = Shrunk::new(&record::describe_host(), native.footprint(), tiny.footprint());
    let simulate = SimulateArguments {
        tiers: arguments.tiers.clone(),
        llc: Some(Shape::Of { bytes: shrunk.llc_bytes, ways: Some(16) }),
        l2: Some(Shape::Of { bytes: shrunk.l2_bytes, ways: Some(8) }),
        l1d: Some(L1),
        from_mark: vec![case.program.from.to_owned()],
        to_mark: vec![UNTIL.to_owned()],
        max_instructions: Some(arguments.instructions),
        sample: Some(arguments.sample),
        sample_every: arguments.sample_every,
        quiet: true,
        ..SimulateArguments::of(command(SIMULATED_SCALE, &[]))
    };
    let simulated = simulated::simulate(&simulate, kept, &|_| true)?;
    let measured = Measured {
        program: case.program.name,
        scale: &case.scale,
        seed: case.seed,
        llc_bytes: shrunk.llc_bytes,
        from: Some(case.program.from),
        until: Some(UNTIL),
    };
    rows::table(&measured, &native, &simulated)
}
