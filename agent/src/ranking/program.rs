//! `tierscope eval --program`: every ranker on one program, from scratch.
//!
//! The program is measured as the table's are (`crate::examine`), but at one size: the same command is recorded and simulated. What comes
//! of it is a table of one program, on which the rankers are evaluated as on one that was left out: by a model of each family
//! that was trained without rows of a program of that name.
//!
//! Many programs have nothing that is worth placing. That is an answer and no failure: it is said with the numbers that it rests
//! on ([`Abstention`]), as early as it is known, and no placement is evaluated.

use super::told::{self, Judged};
use super::{Read, read};
use crate::cli::{EvalArguments, SimulateArguments};
use crate::commands::{print, print_json};
use crate::examine::native::{self, Recorded, Sampling};
use crate::examine::rows::{self, Measured};
use crate::examine::simulated::{self, Simulated};
use crate::examine::{Silence, simulated::Slowdown};
use crate::failure::Failure;
use crate::private;
use crate::simulate::Simulation;
use std::io::Write;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use tierscope_rank::evaluate::train_without;
use tierscope_rank::{Family, Model, Predicted, Table, evaluate_model};

/// All movable objects together cost less than this: nothing is worth a policy. Cells under it count in no reduction either.
const LEAST_COST: f64 = 0.01;

/// Objects that are timed at once: more than reach memory in most programs. Interpreters have hundreds before they come to what matters.
const LANES: u16 = 1024;

/// What the directory of `--keep` says of what is in it.
const KEPT: &str = "command.txt";

/// Why nothing is evaluated.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Abstention {
    /// The recording has no sample.
    NoSamples {
        /// How long it ran.
        seconds: f64,
    },
    /// No object of it could be placed.
    NothingMovable {
        /// Objects in all.
        objects: usize,
    },
    /// Nothing that can be placed reaches memory.
    NoMisses(Objects),
    /// All of it costs next to nothing.
    Cheap {
        objects: Objects,
        /// Each movable object's slowdown alone in slow memory, added up, for the pair of tiers where that is most.
        slowdown: f64,
        /// That pair.
        tiers: String,
    },
    /// There is one object, so there is nothing to choose between.
    One {
        /// What it is called.
        name: String,
        bytes: f64,
        slowdown: f64,
        tiers: String,
    },
}

/// The movable objects of a program.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Objects {
    pub(super) count: usize,
    pub(super) bytes: f64,
    pub(super) largest_bytes: f64,
    pub(super) llc_bytes: u64,
}

/// Evaluates the program.
///
/// # Errors
///
/// Something needed is missing, the program fails, or there is too little in the table.
pub(super) fn eval(arguments: &EvalArguments) -> Result<u8, Failure> {
    let simulate = simulate(arguments);
    // Whatever is missing is missed before anything is run.
    let llc_bytes = Simulation::new(&simulate)?.config.machine.llc.bytes;
    let Read { table, key } = read(arguments.table.as_deref())?;
    let name = name(arguments);
    let kept = Kept::open(arguments)?;
    let measured = &arguments.measured;
    let case = Measured {
        program: &name,
        scale: "as given",
        seed: 0,
        llc_bytes,
        from: measured.from_mark.as_deref(),
        until: measured.to_mark.as_deref(),
    };
    let found = measure(arguments, &simulate, &case, kept.path())?;
    let document = match found {
        Found::Nothing(abstention) => {
            if !arguments.json {
                print(abstention.tell(&name).as_bytes())?;
            }
            told::abstained(&name, &key, &abstention)
        }
        Found::Objects(objects) => {
            let judged = judge(arguments, &table, &name, &objects.own)?;
            if !arguments.json {
                print(told::text(&name, &objects, &judged).as_bytes())?;
            }
            told::document(&name, &key, &objects, &judged)
        }
    };
    if arguments.json { print_json("the evaluation", &document).map(|()| 0) } else { Ok(0) }
}

/// What is simulated.
fn simulate(arguments: &EvalArguments) -> SimulateArguments {
    let measured = &arguments.measured;
    SimulateArguments {
        tiers: measured.tiers.clone(),
        llc: measured.llc,
        l2: measured.l2,
        fast_forward: measured.fast_forward,
        warm_up: measured.warm_up,
        max_instructions: measured.max_instructions,
        from_mark: measured.from_mark.iter().cloned().collect(),
        to_mark: measured.to_mark.iter().cloned().collect(),
        sample: Some(measured.sample),
        sample_every: measured.sample_every,
        lanes: LANES,
        quiet: arguments.quiet,
        ..SimulateArguments::of(arguments.command.clone())
    }
}

/// What the program is called in a table.
fn name(arguments: &EvalArguments) -> String {
    let file = || {
        let path = arguments.command.first().map(Path::new).and_then(Path::file_name)?;
        Some(path.to_string_lossy().into_owned())
    };
    arguments.measured.name.clone().or_else(file).unwrap_or_else(|| "program".to_owned())
}

/// Where recording and simulation are put.
enum Kept {
    Asked(PathBuf),
    Ours(TempDir),
}

impl Kept {
    /// The directory that was asked for holds runs of this command with these options, or none.
    fn open(arguments: &EvalArguments) -> Result<Self, Failure> {
        let Some(path) = &arguments.measured.keep else {
            return private::directory(|_| Ok(())).map(|(directory, ())| Self::Ours(directory));
        };
        let cannot = |error: std::io::Error| Failure::cannot(format!("cannot keep in {}: {error}", path.display()));
        std::fs::create_dir_all(path).map_err(cannot)?;
        let described = path.join(KEPT);
        let wanted = described_as(arguments);
        match std::fs::read_to_string(&described) {
            Ok(there) if there == wanted => {}
            Ok(_) => {
                let why = format!("{} has the runs of another command, or of other options", path.display());
                return Err(Failure::cannot(why).mend("--keep with a directory of its own"));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                std::fs::write(&described, wanted).map_err(cannot)?;
            }
            Err(error) => return Err(cannot(error)),
        }
        Ok(Self::Asked(path.clone()))
    }

    fn path(&self) -> &Path {
        match self {
            Self::Asked(path) => path,
            Self::Ours(directory) => directory.path(),
        }
    }
}

/// Everything that decides what is recorded and simulated.
fn described_as(arguments: &EvalArguments) -> String {
    let EvalArguments { measured, command, .. } = arguments;
    let text = format!(
        "{command:?}\ntiers {}, llc {:?}, l2 {:?}, fast-forward {}, warm-up {}, delay {:?}, instructions {:?}, from {:?}, \
         to {:?}, sample {:?}, every {}, rate {}\n",
        measured.tiers,
        measured.llc,
        measured.l2,
        measured.fast_forward,
        measured.warm_up,
        measured.delay,
        measured.max_instructions,
        measured.from_mark,
        measured.to_mark,
        measured.sample,
        measured.sample_every,
        measured.rate,
    );
    format!("tierscope {}\n{text}", env!("CARGO_PKG_VERSION"))
}

/// What measuring came to.
enum Found {
    Nothing(Abstention),
    Objects(Labelled),
}

/// What there is to place.
pub(super) struct Labelled {
    pub(super) own: Table,
    /// Movable objects that were found in both runs.
    pub(super) paired: usize,
    /// Movable objects that were not timed to the end, and so have no part in anything.
    pub(super) untimed: usize,
}

fn measure(
    arguments: &EvalArguments,
    simulate: &SimulateArguments,
    case: &Measured<'_>,
    kept: &Path,
) -> Result<Found, Failure> {
    let say = |text: &str| {
        if !arguments.quiet {
            // Where standard error is closed there is nobody to tell.
            let _ = writeln!(std::io::stderr(), "tierscope: {text}");
        }
    };
    // What the program prints would be mixed with what we do.
    let _silence = Silence::begin()?;
    say("1/3: recording");
    let sampling = Sampling { rate_hz: arguments.measured.rate, delay: arguments.measured.delay };
    let native = native::record(arguments.command.clone(), sampling, &kept.join("native.tsp"))?;
    if let Some(abstention) = unseen(&native) {
        return Ok(Found::Nothing(abstention));
    }
    say("2/3: simulating it with each object alone in slow memory");
    let is_worth = |simulated: &Simulated| {
        let worth = worthless(simulated, case.llc_bytes).is_none();
        if worth {
            say("3/3: simulating it with sets of objects in slow memory");
        }
        worth
    };
    let simulated = simulated::simulate(simulate, kept, &is_worth)?;
    if let Some(abstention) = worthless(&simulated, case.llc_bytes) {
        return Ok(Found::Nothing(abstention));
    }
    let labelled = rows::table(case, &native, &simulated)?;
    let is_untimed = |place: usize| simulated.alone.iter().any(|alone| alone.get(place).copied().flatten().is_none());
    let movable = simulated.movable.iter().enumerate().filter(|(_, movable)| **movable);
    let untimed = movable.filter(|(place, _)| is_untimed(*place)).count();
    Ok(Found::Objects(Labelled { own: labelled.table, paired: labelled.paired, untimed }))
}

/// Why the recording says that there is nothing to place.
fn unseen(native: &Recorded) -> Option<Abstention> {
    if native.tables.samples.is_empty() {
        return Some(Abstention::NoSamples { seconds: native.meta.clock.duration_ns as f64 / 1e9 });
    }
    let movable = tierscope_model::advice::movable(&native.summary);
    let objects = native.summary.objects.len();
    (!movable.contains(&true)).then_some(Abstention::NothingMovable { objects })
}

/// Why the simulation says that there is nothing to place.
fn worthless(simulated: &Simulated, llc_bytes: u64) -> Option<Abstention> {
    let all = simulated.summary.objects.iter().enumerate();
    let movable: Vec<_> = all.filter(|(place, _)| simulated.movable.get(*place).copied().unwrap_or(false)).collect();
    if movable.is_empty() {
        return Some(Abstention::NothingMovable { objects: simulated.summary.objects.len() });
    }
    let objects = Objects {
        count: movable.len(),
        bytes: movable.iter().map(|(_, object)| object.live_bytes_max).sum(),
        largest_bytes: movable.iter().map(|(_, object)| object.live_bytes_max).fold(0.0, f64::max),
        llc_bytes,
    };
    let reaches = |place: &usize| {
        let counted = simulated.summary.objects.get(*place).and_then(|object| object.counted.as_ref());
        counted.is_some_and(|counted| counted.bytes_read > 0 || counted.bytes_written > 0)
    };
    let reaching: Vec<_> = movable.iter().filter(|(place, _)| reaches(place)).collect();
    if reaching.is_empty() {
        return Some(Abstention::NoMisses(objects));
    }
    let sums = simulated.pairs.iter().zip(&simulated.alone).map(|(tiers, alone)| {
        let cost = |place: &usize| alone.get(*place).copied().flatten().map_or(0.0, |Slowdown { point, .. }| point);
        (movable.iter().map(|(place, _)| cost(place).max(0.0)).sum::<f64>(), tiers.clone())
    });
    let (slowdown, tiers) = sums.max_by(|(one, _), (other, _)| one.total_cmp(other))?;
    if slowdown < LEAST_COST {
        return Some(Abstention::Cheap { objects, slowdown, tiers });
    }
    match reaching.as_slice() {
        [(_, only)] => {
            let (name, bytes) = (only.name.clone(), only.live_bytes_max);
            Some(Abstention::One { name, bytes, slowdown, tiers })
        }
        _ => None,
    }
}

/// Trains both models without the program, and evaluates all rankers on it, pair of tiers by pair.
fn judge(arguments: &EvalArguments, table: &Table, name: &str, own: &Table) -> Result<Vec<Judged>, Failure> {
    let models = arguments.family.families().iter().map(|&family| {
        train_without(table, family, name).map_err(|error| Failure::from_error("nothing was trained", &error))
    });
    let models: Vec<Model> = models.collect::<Result<_, _>>()?;
    let mut pairs: Vec<String> = own.rows.iter().map(|row| row.case.tiers.clone()).collect();
    pairs.sort();
    pairs.dedup();
    let of_pair = |tiers: &String| Table {
        rows: own.rows.iter().filter(|row| row.case.tiers == *tiers).cloned().collect(),
        sets: own.sets.iter().filter(|set| set.case.tiers == *tiers).cloned().collect(),
    };
    let judged = pairs.into_iter().map(|tiers| {
        let own = of_pair(&tiers);
        let evaluations = models.iter().map(|model| (evaluate_model(model, &own), said(model, &own))).collect();
        Judged { tiers, own, evaluations }
    });
    Ok(judged.collect())
}

/// What a model says of each row; `None` where its samples saw nothing of the object.
fn said(model: &Model, own: &Table) -> Vec<Option<Predicted>> {
    let family: Family = model.family();
    let one = |row: &tierscope_rank::Row| {
        let features = row.features(family)?;
        model.predict(family, &[(features, row.tier_pair)]).ok()?.pop()
    };
    own.rows.iter().map(one).collect()
}
