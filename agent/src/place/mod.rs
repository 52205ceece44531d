//! Carrying a policy out: `tierscope run`, and `tierscope compile` for runs without us.
//!
//! ```text
//! app.policy.toml ──parse──> policy ──compile──> table file ──TIERSCOPE_POLICY──> shim places
//!                              │        ▲                                          │
//!                              │        └ names of the program (`resolve`)         └ counts, in the same file
//!                              └ checked against the machine (`checks`)                    │
//!                                                                  summary, JSON <── outcome
//! ```
//!
//! The work is the shim's. What is here happens before the program starts, where anything wrong is an error with its way
//! out, and after it has ended, where the counts in the table file are read and told.

mod checks;
mod kernel;
mod outcome;
mod resolve;
mod run;
mod summary;
mod table;
#[cfg(test)]
mod tests;

use crate::failure::Failure;
use resolve::Files;
use std::ffi::OsString;
use std::path::Path;
use tierscope_binary::{PreloadVerdict, Program};
use tierscope_policy::{Compiled, Match, Policy, compile};

pub(crate) use run::{run, run_timed};
pub(crate) use table::{write_shim, write_table};

/// A policy that was read, and what it is for a command.
struct Prepared {
    policy: Policy,
    program: Program,
    compiled: Compiled,
    /// The table file's bytes.
    table: Vec<u8>,
    /// What does not stop the command, but is to be known.
    warnings: Vec<String>,
}

/// A policy as a simulation needs it: nothing of it is carried out.
pub(crate) struct Policied {
    /// The file's name without what tells its kind.
    pub(crate) name: String,
    /// The table's bytes.
    pub(crate) table: Vec<u8>,
    /// Names of the table's tiers, in its order.
    pub(crate) tiers: Vec<String>,
    /// Which of them has what no rule names; `None` for the program's own allocator.
    pub(crate) default: Option<usize>,
    /// What is to be known.
    pub(crate) warnings: Vec<String>,
}

/// Reads a policy and compiles it for a command that will be simulated.
pub(crate) fn compiled_for(path: &Path, command: &[OsString]) -> Result<Policied, Failure> {
    let Prepared { compiled, table, warnings, .. } = prepare(path, None, command)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = name.strip_suffix(".toml").unwrap_or(&name);
    Ok(Policied {
        name: name.strip_suffix(".policy").unwrap_or(name).to_owned(),
        table,
        tiers: compiled.spec.tiers.into_iter().map(|tier| tier.name).collect(),
        default: compiled.spec.default_tier.map(usize::from),
        warnings,
    })
}

/// Reads a policy file.
fn read(path: &Path) -> Result<Policy, Failure> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::cannot(format!("cannot read the policy {shown}: {error}"))
            .mend("tierscope advise PROFILE --fast 25% -o app.policy.toml writes one")
    })?;
    Policy::parse(&text).map_err(|errors| Failure::usage(format!("the policy {shown} cannot be used:\n{errors}")))
}

/// Reads a policy and compiles it for a command, whose program must be one the shim can be loaded into.
fn prepare(path: &Path, strict: Option<Match>, command: &[OsString]) -> Result<Prepared, Failure> {
    let mut policy = read(path)?;
    policy.program.matching = strict.unwrap_or(policy.program.matching);
    let name = command.first().ok_or_else(|| Failure::usage("no program to run"))?;
    let program = Program::find(name).map_err(|error| Failure::from_error("cannot run", &error))?;
    if let PreloadVerdict::NotLoadable(reason) = program.preload_verdict() {
        let text = format!("nothing of {} can be placed: {reason}", program.path.display());
        return Err(Failure::cannot(text).mend(reason.advice()));
    }
    let files = Files::of(&policy, &program, command);
    let compiled = compile(&policy, &files);
    let mut warnings = Vec::new();
    if !files.has_its_program() {
        warnings.push(format!(
            "the policy was made for `{}`, which is not {}: its rules hold in processes that run it",
            policy.program.name.as_deref().unwrap_or_default(),
            program.path.display(),
        ));
    }
    drop(files);
    if !compiled.unresolved.is_empty() {
        let (left, all) = (compiled.unresolved.len(), policy.rules.len());
        let because = match compiled.rebuilt.as_slice() {
            [] => String::new(),
            rebuilt => {
                let by_line = policy.program.matching == Match::Line;
                let hint = if by_line { "; where only lines moved, --strict function finds them" } else { "" };
                format!(" (not of the build the policy was made for: {}{hint})", rebuilt.join(", "))
            }
        };
        warnings.push(format!("{left} of {all} rules cannot be found in the program and are left out{because}"));
    }
    let table = compiled
        .spec
        .encode()
        .map_err(|error| Failure::from_error("the policy is more than a table can hold", &error))?;
    Ok(Prepared { policy, program, compiled, table, warnings })
}
