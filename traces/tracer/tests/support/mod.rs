//! Builds the plugin, the shim and small programs, and runs programs under QEMU with them.

#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test needs a part of it")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use tierscope_sim::outcome::Object;
use tierscope_sim::{Config, Counts, ObjectKey};
use tierscope_tracer::{CONFIG_FILE, PolicyConfig, TracerConfig, TracerOutcome, plugin_file};

fn scratch() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
}

fn manifest() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Whether whoever runs the tests said that there is no emulator (`scripts/test --without qemu`).
pub fn left_out() -> bool {
    std::env::var("TIERSCOPE_TESTS_WITHOUT").is_ok_and(|list| list.split([',', ' ']).any(|name| name == "qemu"))
}

/// What the emulator is called; the package it comes from is named when it is missing.
pub fn qemu() -> &'static Path {
    static QEMU: OnceLock<PathBuf> = OnceLock::new();
    QEMU.get_or_init(|| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let found =
            std::env::split_paths(&path).map(|directory| directory.join("qemu-x86_64")).find(|file| file.exists());
        found.expect("qemu-x86_64 is missing; install the package qemu-user (sudo apt-get install qemu-user)")
    })
}

/// Its version.
pub fn qemu_version() -> (u32, u32) {
    let output = Command::new(qemu()).arg("--version").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let version = text.split_whitespace().nth(2).expect("qemu-x86_64 version X.Y.Z");
    let mut parts = version.split('.').map(|part| part.parse().expect("a number"));
    (parts.next().unwrap(), parts.next().unwrap())
}

fn cargo(package: &str, profile: &str, feature: &str) -> PathBuf {
    let target = scratch().join(profile);
    let status = Command::new(env!("CARGO"))
        .args(["build", "-q", "-p", package, "--lib", "--profile", profile, "--features", feature, "--target-dir"])
        .arg(&target)
        .arg("--manifest-path")
        .arg(manifest().join("Cargo.toml"))
        .current_dir(manifest().join("../.."))
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .status()
        .unwrap();
    assert!(status.success(), "{package} does not build");
    target.join(profile)
}

/// The plugin, for this machine's QEMU.
pub fn plugin() -> &'static Path {
    static PLUGIN: OnceLock<PathBuf> = OnceLock::new();
    PLUGIN.get_or_init(|| {
        let (major, minor) = qemu_version();
        let built = cargo("tierscope-tracer", "plugin", "plugin").join("libtierscope_tracer.so");
        let version = plugin_file::interface_version(major, minor);
        let bytes = plugin_file::with_version(&std::fs::read(built).unwrap(), version).expect("one version in it");
        let file = scratch().join(format!("tracer.{}.so", std::process::id()));
        std::fs::write(&file, bytes).unwrap();
        file
    })
}

/// The shim as it is shipped.
pub fn shim() -> &'static Path {
    static SHIM: OnceLock<PathBuf> = OnceLock::new();
    SHIM.get_or_init(|| {
        let target = scratch().join("shim");
        let status = Command::new(env!("CARGO"))
            .args(["build", "-q", "-p", "tierscope-preload", "--lib", "--profile", "shim", "--features", "export"])
            .arg("--target-dir")
            .arg(&target)
            .current_dir(manifest().join("../.."))
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .status()
            .unwrap();
        assert!(status.success(), "the shim does not build");
        target.join("shim/libtierscope_preload.so")
    })
}

/// A program from C, compiled with more arguments.
pub fn program(name: &str, output: &str, arguments: &[&str]) -> PathBuf {
    static BUILT: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());
    let directory = scratch().join("programs");
    std::fs::create_dir_all(&directory).unwrap();
    let finished = directory.join(output);
    // Once: another test may be running it, and its symbols are read from its file.
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if built.contains(&finished) {
        return finished;
    }
    let fresh = directory.join(format!("{output}.fresh"));
    let result = Command::new("cc")
        .args(["-O1", "-g0", "-w", "-fno-builtin", "-fno-allocation-dce", "-pthread", "-I"])
        .arg(manifest().join("../../ld_preload/include"))
        .arg("-o")
        .arg(&fresh)
        .arg(manifest().join("tests/programs").join(format!("{name}.c")))
        .args(arguments)
        .output()
        .expect("cc is missing; install the package gcc");
    assert!(result.status.success(), "cc {name}.c: {}", String::from_utf8_lossy(&result.stderr));
    std::fs::rename(&fresh, &finished).unwrap();
    built.push(finished.clone());
    finished
}

/// A run under QEMU.
pub struct Run {
    pub output: Output,
    pub directory: tempfile::TempDir,
}

impl Run {
    pub fn outcome(&self) -> TracerOutcome {
        TracerOutcome::read(self.directory.path()).unwrap_or_else(|error| {
            panic!("{error}\n{}\n{}", self.output.status, String::from_utf8_lossy(&self.output.stderr))
        })
    }

    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.output.stdout).into_owned()
    }
}

/// How a program is run.
pub struct Setting {
    pub config: Config,
    pub policies: Vec<PolicyConfig>,
    pub shim: bool,
    pub ask_for_each: bool,
}

impl Default for Setting {
    fn default() -> Self {
        Setting { config: Config::default(), policies: Vec::new(), shim: true, ask_for_each: false }
    }
}

/// Runs a program.
pub fn run(program: &Path, arguments: &[&str], setting: Setting) -> Run {
    let directory = tempfile::tempdir().unwrap();
    let config = TracerConfig {
        simulator: setting.config,
        directory: directory.path().into(),
        policies: setting.policies,
        ask_for_each: setting.ask_for_each,
    };
    let file = directory.path().join(CONFIG_FILE);
    std::fs::write(&file, serde_json::to_vec(&config).unwrap()).unwrap();
    let mut command = Command::new(qemu());
    // Else each run of it does something else.
    command.env("PYTHONHASHSEED", "0");
    command.env("LD_PRELOAD", plugin()).arg("-plugin").arg(format!("{},config={}", plugin().display(), file.display()));
    if setting.shim {
        command.arg("-E").arg(format!("LD_PRELOAD={}", shim().display()));
        command.args(["-E", "TIERSCOPE_PRELOAD=trace=1;follow=0"]);
    } else {
        command.args(["-U", "LD_PRELOAD"]);
    }
    let output = command.arg(program).args(arguments).stdin(Stdio::null()).output().unwrap();
    Run { output, directory }
}

/// The counts of a global.
pub fn global(outcome: &TracerOutcome, name: &str) -> Counts {
    let is_global = |object: &&Object| matches!(object.key, ObjectKey::Global { .. }) && object.name == name;
    let mut found = outcome.outcome.objects.iter().filter(is_global);
    let one = found.next().unwrap_or_else(|| panic!("no global {name}"));
    assert!(found.next().is_none(), "two globals {name}");
    one.counts
}

/// Heap objects whose largest block has so many bytes.
pub fn heap(outcome: &TracerOutcome, bytes: u64) -> Vec<&Object> {
    let fits = |object: &&Object| matches!(object.key, ObjectKey::Heap { .. }) && object.bytes == bytes;
    outcome.outcome.objects.iter().filter(fits).collect()
}

/// Loads and stores.
pub fn accesses(counts: Counts) -> (u64, u64) {
    (counts.loads, counts.stores)
}
