//! What a test needs of the machine.

use std::collections::HashSet;
use std::fmt::Arguments;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

/// Names the requirements that this machine is known to lack.
const WITHOUT: &str = "TIERSCOPE_TESTS_WITHOUT";

/// Something that may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Need {
    /// gcc.
    C,
    /// g++.
    Cxx,
    /// gcc with libgomp.
    OpenMp,
    /// gcc with a static libc.
    StaticLibc,
    /// musl-gcc and musl's loader.
    Musl,
    /// redis-cli, redis-benchmark, and the server, which Debian ships with them as redis-check-rdb.
    Redis,
    /// Debian's python3 with numpy.
    Numpy,
    /// The sqlite3 shell.
    Sqlite,
    /// gcc, and the emulator that simulations run in.
    Qemu,
    /// The rights of root, and setpriv to give them away.
    Root,
    /// The right to mount a file system.
    Mount,
}

impl Need {
    /// Its name in `TIERSCOPE_TESTS_WITHOUT`, and the Debian packages that have it.
    fn describe(self) -> (&'static str, &'static str) {
        match self {
            Need::C => ("gcc", "gcc libc6-dev"),
            Need::Cxx => ("g++", "g++"),
            Need::OpenMp => ("openmp", "gcc libc6-dev"),
            Need::StaticLibc => ("static", "gcc libc6-dev"),
            Need::Musl => ("musl", "musl-tools"),
            Need::Redis => ("redis", "redis-tools"),
            Need::Numpy => ("numpy", "python3 python3-numpy"),
            Need::Sqlite => ("sqlite", "sqlite3"),
            Need::Qemu => ("qemu", "qemu-user gcc libc6-dev"),
            Need::Root => ("root", "util-linux, as root"),
            Need::Mount => ("mount", "mount, as root, in a container that may"),
        }
    }

    fn is_here(self) -> bool {
        match self {
            Need::C => on_path("gcc").is_some() && links(&[]),
            Need::Cxx => on_path("g++").is_some(),
            Need::OpenMp => on_path("gcc").is_some() && links(&["-fopenmp"]),
            Need::StaticLibc => on_path("gcc").is_some() && links(&["-static"]),
            Need::Musl => on_path("musl-gcc").is_some() && Path::new("/lib/ld-musl-x86_64.so.1").exists(),
            Need::Redis => {
                ["redis-check-rdb", "redis-cli", "redis-benchmark"].iter().all(|tool| on_path(tool).is_some())
            }
            Need::Numpy => succeeds(Command::new(super::interpreters::PYTHON).args(["-c", "import numpy"])),
            Need::Sqlite => on_path("sqlite3").is_some(),
            Need::Qemu => on_path("gcc").is_some() && on_path("qemu-x86_64").is_some(),
            Need::Mount => super::environment::SmallDisk::mount().is_some(),
            Need::Root => rustix::process::geteuid().is_root() && on_path("setpriv").is_some(),
        }
    }
}

/// Whether the test can go on. Panics where the machine lacks something that it was not said to lack.
pub(crate) fn have(needs: &[Need]) -> bool {
    let without = std::env::var(WITHOUT).unwrap_or_default();
    needs.iter().all(|need| {
        let (name, packages) = need.describe();
        if without.split(',').any(|word| word.trim() == name) {
            say(format_args!("NOT TESTED without {name} ({WITHOUT}): {}", current_test()));
            return false;
        }
        assert!(need.is_here(), "this test needs {name} (Debian: {packages}); to do without it, set {WITHOUT}={name}");
        true
    })
}

/// Says something even where the test passes: the test runner swallows only what goes through the print macros.
pub(crate) fn say(text: Arguments<'_>) {
    let line = format!("end_to_end: {text}\n");
    // Nothing can be done about a closed stderr.
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// Where a program is found.
pub(crate) fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(name)).find(|file| file.is_file())
}

fn current_test() -> String {
    std::thread::current().name().unwrap_or("a test").to_owned()
}

fn links(flags: &[&str]) -> bool {
    static LINKED: Mutex<Option<HashSet<Vec<String>>>> = Mutex::new(None);
    let key: Vec<String> = flags.iter().map(|&flag| flag.to_owned()).collect();
    let mut linked = LINKED.lock().unwrap();
    let linked = linked.get_or_insert_default();
    if linked.contains(&key) {
        return true;
    }
    let scratch = tempfile::tempdir().unwrap();
    let source = scratch.path().join("empty.c");
    std::fs::write(&source, "int main(void) { return 0; }\n").unwrap();
    let works = succeeds(Command::new("gcc").args(flags).arg("-o").arg(scratch.path().join("empty")).arg(source));
    if works {
        linked.insert(key);
    }
    works
}

fn succeeds(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}
