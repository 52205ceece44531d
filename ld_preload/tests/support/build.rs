//! Builds the shim and the small programs that tests run.

#![allow(dead_code, unreachable_pub, missing_docs, reason = "part of each test that includes it")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Names of tools that tests may do without, by the environment variable `TIERSCOPE_TESTS_WITHOUT`.
fn done_without(tool: &str) -> bool {
    std::env::var("TIERSCOPE_TESTS_WITHOUT").is_ok_and(|list| list.split([',', ' ']).any(|name| name == tool))
}

/// Whether a tool is there. Where it is not, that is a failure unless the caller of the tests said so beforehand.
pub fn have(tool: &str, there: bool) -> bool {
    assert!(
        there || done_without(tool),
        "{tool} is missing; install it, or set TIERSCOPE_TESTS_WITHOUT={tool} to skip what needs it"
    );
    there
}

/// Whether a command can be found.
pub fn have_command(tool: &str) -> bool {
    let there = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|directory| directory.join(tool).exists()));
    have(tool, there)
}

fn scratch() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
}

fn manifest() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
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
            .arg("--manifest-path")
            .arg(manifest().join("Cargo.toml"))
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .status()
            .unwrap();
        assert!(status.success(), "the shim does not build");
        target.join("shim/libtierscope_preload.so")
    })
}

/// Compiles `tests/hazards/NAME` with more arguments into a file of another name, and returns that.
pub fn compile(compiler: &str, source: &str, output: &str, arguments: &[&str]) -> PathBuf {
    let directory = scratch().join("programs");
    std::fs::create_dir_all(&directory).unwrap();
    // Other tests may be running what is there: never write to it in place.
    let fresh = directory.join(format!("{output}.{:?}", std::thread::current().id()));
    let finished = directory.join(output);
    let result = Command::new(compiler)
        // Allocations that nobody looks at are to happen all the same.
        .args(["-O1", "-g0", "-w", "-fno-builtin", "-fno-allocation-dce", "-I"])
        .arg(manifest().join("include"))
        .arg("-o")
        .arg(&fresh)
        .arg(manifest().join("tests/hazards").join(source))
        .args(arguments)
        .output()
        .unwrap();
    assert!(result.status.success(), "{compiler} {source}: {}", String::from_utf8_lossy(&result.stderr));
    std::fs::rename(&fresh, &finished).unwrap();
    finished
}

/// A program from C.
pub fn program(name: &str) -> PathBuf {
    assert!(have_command("cc"));
    compile("cc", &format!("{name}.c"), name, &["-pthread"])
}
