//! Getting into programs and reading their memory.

use crate::capability::SYS_PTRACE;
use crate::check::{Area, Check};
use crate::machine::Machine;
use crate::probes::DirectoryProbe;

pub(crate) fn checks(machine: &Machine) -> Vec<Check> {
    vec![scope(machine), read(machine), directory(machine)]
}

fn check(id: &'static str, title: &'static str, finding: impl Into<String>) -> Check {
    Check::ok(Area::Attach, id, title, finding)
}

fn scope(machine: &Machine) -> Check {
    let scope = machine.root.number("/proc/sys/kernel/yama/ptrace_scope");
    let found = |finding: &str| check("attach.scope", "running programs", finding);
    let cost = "`record -- CMD` works; the memory of a program that was not started by Tierscope cannot be read \
                (`record -p`, `apply -p`).";
    match scope {
        _ if machine.has_capability(SYS_PTRACE) => found("of every user, by CAP_SYS_PTRACE"),
        None => found("of the same user (no yama)"),
        Some(..=0) => found("of the same user (ptrace_scope 0)"),
        Some(1) => {
            found("only children (ptrace_scope 1)").limited(cost).mend("sudo sysctl -w kernel.yama.ptrace_scope=0")
        }
        Some(2) => found("only with CAP_SYS_PTRACE (ptrace_scope 2)")
            .limited(cost)
            .mend("sudo setcap cap_sys_ptrace+ep \"$(command -v tierscope)\""),
        Some(_) => found("none (ptrace_scope 3)")
            .limited(format!("{cost} It cannot be mended before the next boot: the kernel does not take this back.")),
    }
}

fn read(machine: &Machine) -> Check {
    let found = |finding: String| check("attach.read", "memory of children", finding);
    match machine.probes.read_child {
        Ok(()) => found("readable (process_vm_readv)".into()),
        Err(errno) => {
            let check = found(format!("not readable: {errno}"))
                .limited("Addresses that depend on what the program just loaded (pointer chases) stay unresolved.");
            Check { mend: machine.grant("SYS_PTRACE"), ..check }
        }
    }
}

fn directory(machine: &Machine) -> Check {
    let found = |finding: String| check("attach.directory", "place for the shim", finding);
    match &machine.probes.directory {
        DirectoryProbe::Usable(path) => found(path.display().to_string()),
        DirectoryProbe::Refused(tried) => {
            let tried: Vec<_> = tried.iter().map(|(path, why)| format!("{} is {why}", path.display())).collect();
            found(if tried.is_empty() { "no directory".into() } else { tried.join(", ").replace("is does", "does") })
                .limited("The shim cannot be given to programs: heap objects are seen as anonymous memory only.")
                .mend("mkdir -m 700 ~/.tierscope && export TMPDIR=~/.tierscope")
        }
    }
}
