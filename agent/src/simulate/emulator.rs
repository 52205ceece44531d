//! The emulator that executes the program: QEMU's user mode, with plugins.
//!
//! A plugin names the version of the interface it was written for, and QEMU refuses those it no longer knows; so the
//! version of the emulator decides which number the extracted tracer carries.

use crate::failure::Failure;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;
use tierscope_binary::{Class, Machine, Program};

const PACKAGE: &str =
    "apt-get install qemu-user (Debian, Ubuntu); other systems call the package qemu-user or qemu-linux-user";

/// An emulator that can be used.
#[derive(Debug)]
pub(super) struct Emulator {
    pub(super) path: PathBuf,
    /// `qemu-x86_64 7.2.22`.
    pub(super) name: String,
    /// Its major and minor version.
    pub(super) version: (u32, u32),
}

impl Emulator {
    /// The one asked for, or the one in `PATH`.
    pub(super) fn find(asked: Option<&Path>) -> Result<Self, Failure> {
        let path = match asked {
            Some(path) => path.to_path_buf(),
            None => in_path("qemu-x86_64").ok_or_else(|| {
                let but = if in_path("qemu-x86_64-static").is_some() {
                    "; qemu-x86_64-static is there, but a static one takes no plugins"
                } else {
                    ""
                };
                Failure::cannot(format!("no qemu-x86_64 in PATH, which executes the program{but}")).mend(PACKAGE)
            })?,
        };
        let cannot = |why: String| Failure::cannot(format!("{} cannot be used: {why}", path.display())).mend(PACKAGE);
        let output = Command::new(&path).arg("--version").output().map_err(|error| cannot(error.to_string()))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let version = version_of(&text).ok_or_else(|| {
            let said = text.lines().next().unwrap_or_default();
            cannot(format!("asked for its version it says {:?}", tierscope_report::printable(said)))
        })?;
        let (major, minor) = version.1;
        // Plugins came with 4.2; what memory callbacks promise has held since 6.0.
        if major < 6 {
            return Err(cannot(format!("it is version {major}.{minor}; 6.0 or newer is needed")));
        }
        if !takes_plugins(&path) {
            return Err(cannot(format!("version {major}.{minor} as it is built here takes no plugins")));
        }
        Ok(Self { name: format!("qemu-x86_64 {}", version.0), path, version: version.1 })
    }
}

/// Whether it was built with plugins: some distributions' are not.
fn takes_plugins(path: &Path) -> bool {
    let output = Command::new(path).arg("--help").output();
    output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).lines().any(|line| line.starts_with("-plugin")))
}

/// `qemu-x86_64 version 7.2.22 (Debian 1:7.2+dfsg-7)` has 7.2.22, and (7, 2).
fn version_of(text: &str) -> Option<(String, (u32, u32))> {
    let (_, rest) = text.lines().next()?.split_once(" version ")?;
    let word = rest.split_whitespace().next()?;
    let mut numbers = word.split('.').map(str::parse);
    let version = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    Some((word.to_owned(), version))
}

fn in_path(name: &str) -> Option<PathBuf> {
    let paths = std::env::var_os("PATH")?;
    let executable = |path: &PathBuf| path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok();
    std::env::split_paths(&paths).map(|directory| directory.join(name)).find(executable)
}

/// What the emulator is to execute for a command: it knows ELF files only, so a script becomes an argument of its interpreter.
/// `env`, which would execute the real one outside the emulator, is passed over.
pub(super) fn guest(program: &Program, command: &[OsString]) -> Result<Vec<OsString>, Failure> {
    let mut words = Vec::new();
    if program.scripts.is_empty() {
        words.push(absolute(&program.path)?);
    } else {
        let first = std::fs::read(&program.command).unwrap_or_default();
        let arguments = script_argument(&first).unwrap_or_default();
        if program.path.file_name() == Some(OsStr::new("env")) {
            let mut rest = arguments.split_whitespace().filter(|word| *word != "-S");
            let name = rest.next().unwrap_or_default();
            let found = Program::find(name).map_err(|error| Failure::from_error("cannot simulate", &error))?;
            elf(&found)?;
            words.push(absolute(&found.path)?);
            words.extend(rest.map(OsString::from));
        } else if program.scripts.len() > 1 {
            let shown = program.command.display();
            return Err(Failure::cannot(format!("{shown} is a script whose interpreter is a script, too"))
                .mend("name the program itself before its scripts: tierscope simulate -- PROGRAM SCRIPT"));
        } else {
            words.push(absolute(&program.path)?);
            words.extend((!arguments.is_empty()).then(|| arguments.into()));
        }
        words.push(absolute(&program.command)?);
    }
    elf(program)?;
    words.extend(command.iter().skip(1).cloned());
    Ok(words)
}

fn elf(program: &Program) -> Result<(), Failure> {
    if program.machine == Machine::X86_64 && program.class == Class::Bits64 {
        return Ok(());
    }
    let shown = program.path.display();
    Err(Failure::cannot(format!("{shown} is no program for x86-64, which is all that can be simulated")))
}

fn absolute(path: &Path) -> Result<OsString, Failure> {
    std::path::absolute(path)
        .map(PathBuf::into_os_string)
        .map_err(|error| Failure::cannot(format!("cannot find {}: {error}", path.display())))
}

/// The argument that a script's first line gives its interpreter: everything after the first word, as the kernel has it.
fn script_argument(script: &[u8]) -> Option<String> {
    let line = script.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let line = String::from_utf8_lossy(line.get(..line.len().min(254))?).into_owned();
    let (_, argument) = line.trim().split_once([' ', '\t'])?;
    Some(argument.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_nonsense_is_not() {
        let debian = "qemu-x86_64 version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)\nCopyright";
        assert_eq!(version_of(debian), Some(("7.2.22".into(), (7, 2))));
        assert_eq!(version_of("qemu-x86_64 version 10.0.2\n").map(|found| found.1), Some((10, 0)));
        for nonsense in ["", "bash, version ", "qemu version x.y"] {
            assert_eq!(version_of(nonsense), None, "{nonsense:?}");
        }
    }

    #[test]
    fn what_is_no_emulator_is_refused_with_the_package() {
        let refusal = Emulator::find(Some(Path::new("/bin/true"))).unwrap_err();
        assert!(refusal.to_string().contains("qemu-user"), "{refusal}");
        let refusal = Emulator::find(Some(Path::new("/no/such/file"))).unwrap_err();
        assert_eq!(refusal.exit_status(), 3);
    }

    #[test]
    fn one_without_plugins_is_refused_before_anything_is_run() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("qemu-x86_64");
        let script = |help: &str| {
            let text = format!("#!/bin/sh\n[ $1 = --help ] && echo '{help}' || echo 'qemu-x86_64 version 9.2.0'\n");
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            Emulator::find(Some(&path))
        };
        let refusal = script("-version  display version").unwrap_err().to_string();
        assert!(refusal.contains("9.2 as it is built here takes no plugins"), "{refusal}");
        assert_eq!(script("-plugin  QEMU_PLUGIN").unwrap().version, (9, 2));
    }

    #[test]
    fn a_scripts_argument_is_all_that_follows_its_interpreter() {
        assert_eq!(script_argument(b"#!/usr/bin/env -S python3 -u\nx"), Some("-S python3 -u".into()));
        assert_eq!(script_argument(b"#! /bin/sh\n"), None);
        assert_eq!(script_argument(b"\x7fELF"), None);
    }
}
