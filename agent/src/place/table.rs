//! `tierscope compile` and `tierscope shim`: a table and a library that place without us.

use super::outcome::{how_name, objects};
use super::prepare;
use crate::cli::{CompileArguments, ShimArguments};
use crate::commands::{print, shell_quoted};
use crate::embedded;
use crate::failure::Failure;
use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tierscope_wire::policy::VARIABLE;

/// Writes a file by rename, so that nobody ever sees half of it, and returns its absolute path.
fn write(path: &Path, bytes: &[u8], mode: u32, force: bool) -> Result<PathBuf, Failure> {
    let shown = path.display();
    let failure = |error: std::io::Error| Failure::cannot(format!("cannot write {shown}: {error}"));
    if !force && path.symlink_metadata().is_ok() {
        return Err(Failure::cannot(format!("{shown} is there already")).mend("--force replaces it"));
    }
    let absolute = std::path::absolute(path).map_err(failure)?;
    let parent = absolute.parent().unwrap_or(Path::new("/"));
    let mut file = tempfile::Builder::new()
        .prefix(".tierscope-")
        .permissions(std::fs::Permissions::from_mode(mode))
        .tempfile_in(parent)
        .map_err(failure)?;
    file.write_all(bytes).map_err(failure)?;
    // The umask is for what a user makes unasked.
    file.as_file().set_permissions(std::fs::Permissions::from_mode(mode)).map_err(failure)?;
    file.persist(&absolute).map_err(|error| failure(error.error))?;
    Ok(absolute)
}

/// `tierscope compile`.
pub(crate) fn write_table(arguments: &CompileArguments) -> Result<u8, Failure> {
    let prepared = prepare(&arguments.policy, arguments.strict.map(Into::into), &arguments.command)?;
    let path = write(&arguments.output, &prepared.table, 0o600, arguments.force)?;
    if arguments.quiet {
        return Ok(0);
    }
    for warning in &prepared.warnings {
        eprintln!("tierscope: warning: {warning}");
    }
    let rules = &prepared.policy.rules;
    let rule = |number: u32| rules.get((number as usize).wrapping_sub(1));
    let mut text = String::new();
    for module in &prepared.compiled.rebuilt {
        text += &format!("{module} is not of the build the policy was made for: its sites were looked up by name\n");
    }
    let mut ways: BTreeMap<&str, usize> = BTreeMap::new();
    let mut lines: BTreeMap<u32, String> = BTreeMap::new();
    for (number, how) in &prepared.compiled.resolved {
        *ways.entry(how_name(*how)).or_default() += 1;
        let Some(rule) = rule(*number) else { continue };
        let (objects, how) = (objects(rule), describe(how_name(*how)));
        lines.insert(*number, format!("rule {number}: {objects} -> {} ({how})\n", rule.tier));
    }
    for left in &prepared.compiled.unresolved {
        let Some(rule) = rule(left.rule) else { continue };
        lines.insert(left.rule, format!("rule {}: {} is LEFT OUT: {}\n", left.rule, objects(rule), left.why));
    }
    text.extend(lines.into_values());
    let found = prepared.compiled.resolved.len();
    text += &format!("{}: {found} of {} rules", path.display(), rules.len());
    if found > 0 {
        let ways: Vec<String> = ways.iter().map(|(how, count)| format!("{count} by {how}")).collect();
        text += &format!(" ({})", ways.join(", "));
    }
    text += "\n\nWithout tierscope (`tierscope shim -o FILE` writes the library):\n";
    let command: Vec<String> = arguments.command.iter().map(|word| shell_quoted(Path::new(word))).collect();
    text += &format!("  LD_PRELOAD=FILE {VARIABLE}={} {}\n", shell_quoted(&path), command.join(" "));
    print(text.as_bytes()).map(|()| 0)
}

/// How a rule was found, as a person reads it.
fn describe(how: &str) -> &'static str {
    match how {
        "size" => "by size alone",
        "exact" => "exactly, the same build",
        "unchecked" => "as it stands; the policy does not say of which build",
        "later" => "in a module that is not loaded at the start; checked when it is",
        "line" => "by function, file and line",
        "function" => "by function",
        _ => "by name",
    }
}

/// `tierscope shim`.
pub(crate) fn write_shim(arguments: &ShimArguments) -> Result<u8, Failure> {
    let absolute = std::path::absolute(&arguments.output).unwrap_or_else(|_| arguments.output.clone());
    if absolute.to_string_lossy().contains([' ', ':', '\n']) {
        let text = format!("{} has a space or a colon, at which LD_PRELOAD is split", absolute.display());
        return Err(Failure::cannot(text).mend("write it to another directory"));
    }
    let path = write(&arguments.output, embedded::SHIM, 0o755, arguments.force)?;
    let text = format!(
        "{} is the preload library. With a table that `tierscope compile POLICY -o TABLE -- ./app` wrote:\n  \
         LD_PRELOAD={} {VARIABLE}=TABLE ./app\n",
        path.display(),
        path.display()
    );
    print(text.as_bytes()).map(|()| 0)
}
