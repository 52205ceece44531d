//! The program that is to be recorded: running, or a command.

use std::ffi::{OsStr, OsString};

use tierscope_binary::{Libc, Linkage, NotLoadable, PreloadVerdict, Program};

use crate::check::{Area, Check};
use crate::machine::Machine;
use crate::probes::{Errno, TargetProbes};

/// AT_SECURE in the auxiliary vector.
const AT_SECURE: u64 = 23;
/// In the name of the shim's file, wherever it was put.
const SHIM: &str = "tierscope_preload";

fn check(id: &'static str, title: &'static str, finding: impl Into<String>) -> Check {
    Check::ok(Area::Target, id, title, finding)
}

/// What can be said of a command before it is started.
pub(crate) fn command(command: &[OsString]) -> Vec<Check> {
    let name = command.first().map(OsString::as_os_str).unwrap_or(OsStr::new(""));
    let found = |finding: String| check("target.program", "program", finding);
    let program = match Program::find(name) {
        Ok(program) => program,
        Err(error) => {
            return vec![found(name.to_string_lossy().into_owned()).missing(format!("It cannot be run: {error}"))];
        }
    };
    let mut finding = program.path.display().to_string();
    if let Some(script) = program.scripts.first() {
        finding = format!("{} runs {}", program.command.display(), script.display());
        if *script != program.path {
            finding.push_str(&format!(", which runs {}", program.path.display()));
        }
    }
    vec![found(finding), linkage(&program), preload(&program.preload_verdict())]
}

fn linkage(program: &Program) -> Check {
    let how = match &program.linkage {
        Linkage::Static => "statically linked".to_owned(),
        Linkage::Dynamic { libc: Libc::Glibc, .. } => "dynamically linked, glibc".into(),
        Linkage::Dynamic { libc: Libc::Musl, .. } => "dynamically linked, musl".into(),
        Linkage::Dynamic { interpreter, libc: Libc::Other } => format!("linked by {}", interpreter.display()),
    };
    check("target.linkage", "linkage", format!("{}, {how}", program.machine))
}

fn preload(verdict: &PreloadVerdict) -> Check {
    match verdict {
        PreloadVerdict::Loadable => check("target.preload", "shim", "can be preloaded"),
        PreloadVerdict::NotLoadable(reason) => {
            check("target.preload", "shim", "cannot be preloaded").limited(unloadable(reason))
        }
    }
}

fn unloadable(reason: &NotLoadable) -> String {
    let because = reason.to_string();
    let mut letters = because.chars();
    let capital: String = letters.next().map(|first| first.to_uppercase().collect()).unwrap_or_default();
    format!(
        "{capital}{}. It is recorded without: heap objects are seen as anonymous memory only. {}",
        letters.as_str(),
        reason.advice()
    )
}

/// What can be said of a running process.
pub(crate) fn process(machine: &Machine, pid: u32) -> Vec<Check> {
    let at = |file: &str| format!("/proc/{pid}/{file}");
    let Some(name) = machine.root.field(at("status"), "Name") else {
        return vec![
            check("target.exists", "process", format!("there is no process {pid}"))
                .missing("It has ended, or it is in another PID namespace: `pgrep -a NAME` lists what is here."),
        ];
    };
    let state = machine.root.field(at("status"), "State").unwrap_or_default();
    let found = |finding: String| check("target.exists", "process", finding);
    if state.starts_with(['Z', 'X']) {
        return vec![found(format!("{pid} ({name}) has ended")).missing("It waits for its parent to notice.")];
    }
    let threads = machine.root.field(at("status"), "Threads").and_then(|threads| threads.parse().ok()).unwrap_or(1);
    if machine.root.field(at("status"), "VmSize").is_none() {
        return vec![
            found(format!("{pid} ({name}) is a thread of the kernel")).missing("It has no memory of its own."),
        ];
    }
    let maps = machine.root.text(at("maps")).unwrap_or_default();
    let probes = (machine.try_target)(pid, first_readable(&maps));
    let mut checks = vec![found(format!("{pid} ({name}), {}", tierscope_machine::count(threads, "thread")))];
    checks.extend([permission(machine, pid, probes), readable(machine, pid, probes), shim(machine, pid, &maps)]);
    checks.extend(namespace(machine, pid));
    checks
}

/// Start of the first mapping that may be read.
fn first_readable(maps: &str) -> Option<u64> {
    let line =
        maps.lines().find(|line| line.split(' ').nth(1).is_some_and(|protection| protection.starts_with('r')))?;
    u64::from_str_radix(line.split('-').next()?, 16).ok()
}

/// The real user id of a process, `/proc/self` included.
fn user(machine: &Machine, process: &str) -> Option<String> {
    let users = machine.root.field(format!("/proc/{process}/status"), "Uid")?;
    users.split_whitespace().next().map(str::to_owned)
}

/// The command that runs Tierscope as somebody who may.
fn as_owner(machine: &Machine, pid: u32) -> Option<String> {
    let (ours, theirs) = (user(machine, "self")?, user(machine, &pid.to_string())?);
    match () {
        // Root was refused: by a container or a security module, which no other user gets past.
        () if ours == "0" => None,
        () if ours != theirs && theirs != "0" => Some(format!("sudo -u '#{theirs}' tierscope record -p {pid}")),
        () => Some(format!("sudo tierscope record -p {pid}")),
    }
}

fn permission(machine: &Machine, pid: u32, probes: TargetProbes) -> Check {
    let found = |finding: String| check("target.sampling", "sampling", finding);
    match probes.clock {
        Ok(()) => found("perf cpu-clock opens on it".into()),
        Err(Errno(libc::ESRCH)) => found("it has just ended".into()).missing("There is nothing left to sample."),
        Err(_) if machine.probes.clock.is_err() => {
            found("no sampler works here, see below".into()).missing("Nothing can be sampled on this machine as it is.")
        }
        Err(errno) => {
            let check = found(format!("refused: {errno}"));
            let check = check.missing("It belongs to another user, or has privileges this user lacks.");
            Check { mend: as_owner(machine, pid), ..check }
        }
    }
}

fn readable(machine: &Machine, pid: u32, probes: TargetProbes) -> Check {
    let found = |finding: String| check("target.memory", "its memory", finding);
    match probes.read {
        Ok(()) => found("readable".into()),
        Err(errno) => {
            let check = found(format!("not readable: {errno}"));
            let check = check.limited("Addresses that depend on what the program just loaded stay unresolved.");
            Check { mend: as_owner(machine, pid), ..check }
        }
    }
}

/// Whether the shim is in it, and if not whether it could have been.
fn shim(machine: &Machine, pid: u32, maps: &str) -> Check {
    let found = |finding: &str| check("target.shim", "shim", finding);
    if maps.lines().any(|line| line.contains(SHIM)) {
        return found("loaded");
    }
    let restart = "Its heap objects are seen as anonymous memory only: the shim has to be there from the start. Restart \
                   it under `tierscope record -- CMD` to see them by site.";
    if is_secure(machine, pid) {
        let reason =
            "It was started with privileges (set-user-ID or file capabilities), so the shim could not be loaded.";
        return found("not loaded, and could not be").limited(format!("{reason} {restart}"));
    }
    match Program::inspect(machine.root.path(format!("/proc/{pid}/exe"))).map(|program| program.preload_verdict()) {
        Ok(PreloadVerdict::NotLoadable(reason)) => found("not loaded, and could not be").limited(unloadable(&reason)),
        Ok(PreloadVerdict::Loadable) => found("not loaded").limited(restart),
        Err(_) => found("not loaded (its program cannot be read)").limited(restart),
    }
}

/// AT_SECURE of a running process: pairs of native words.
fn is_secure(machine: &Machine, pid: u32) -> bool {
    let Ok(vector) = std::fs::read(machine.root.path(format!("/proc/{pid}/auxv"))) else { return false };
    let (pairs, _) = vector.as_chunks::<16>();
    let word = |bytes: &[u8]| bytes.first_chunk().map_or(0, |bytes| u64::from_ne_bytes(*bytes));
    pairs.iter().any(|pair| word(&pair[..8]) == AT_SECURE && word(&pair[8..]) != 0)
}

/// Another mount or PID namespace: paths in its maps are not paths here.
fn namespace(machine: &Machine, pid: u32) -> Option<Check> {
    let link =
        |process: &str, name: &str| std::fs::read_link(machine.root.path(format!("/proc/{process}/ns/{name}"))).ok();
    let differs = |name: &str| {
        let (ours, theirs) = (link("self", name), link(&pid.to_string(), name));
        theirs.is_some() && ours != theirs
    };
    let found = |finding: &str| check("target.namespace", "namespaces", finding);
    differs("mnt").then(|| {
        let finding = if differs("pid") { "in another container" } else { "in another mount namespace" };
        found(finding).limited(format!(
            "Its files are read through /proc/{pid}/root. Symbols can be found after it has ended only if its image is \
             at hand: give --debug-dir."
        ))
    })
}
