//! Builds what the executable carries: the preload shim, the simulator's tracer and the demo's workload.
//!
//! They are programs of their own (the shim has other panic and link settings than anything else here), so a second
//! cargo builds them into a directory of their own; sharing ours would wait for our own lock.

#![allow(clippy::expect_used, clippy::panic, reason = "a build script's panic is how it tells cargo what is wrong")]

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR"));
    let workspace = manifest.parent().expect("agent/ lies in the workspace").to_path_buf();
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    for input in [
        "ld_preload/src",
        "ld_preload/build.rs",
        "ld_preload/Cargo.toml",
        "ld_preload/wire/src",
        "ld_preload/arena/src",
    ] {
        println!("cargo::rerun-if-changed={}", workspace.join(input).display());
    }
    for input in [
        "traces/sim/src",
        "traces/sim/Cargo.toml",
        "traces/tracer/src",
        "traces/tracer/Cargo.toml",
        "agent/binary/src",
        "agent/binary/Cargo.toml",
    ] {
        println!("cargo::rerun-if-changed={}", workspace.join(input).display());
    }
    for input in ["traces/workloads/src", "traces/workloads/Cargo.toml", "Cargo.toml", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", workspace.join(input).display());
    }
    let target_dir = out.join("carried");
    let shim = ["--package", "tierscope-preload", "--lib", "--features", "export"];
    let shim = cargo(&workspace, &target_dir, "shim", &shim).join("libtierscope_preload.so");
    let tracer = ["--package", "tierscope-tracer", "--lib", "--features", "plugin"];
    let tracer = cargo(&workspace, &target_dir, "plugin", &tracer).join("libtierscope_tracer.so");
    let workloads = ["--package", "tierscope-workloads", "--bin", "tierscope-workloads"];
    let workloads = cargo(&workspace, &target_dir, "plugin", &workloads).join("tierscope-workloads");
    println!("cargo::rustc-env=TIERSCOPE_SHIM={}", shim.display());
    println!("cargo::rustc-env=TIERSCOPE_TRACER={}", tracer.display());
    println!("cargo::rustc-env=TIERSCOPE_WORKLOADS={}", workloads.display());
}

/// Builds a part with a profile and returns the directory where it then is.
fn cargo(workspace: &Path, target_dir: &Path, profile: &str, what: &[&str]) -> PathBuf {
    let target = env::var("TARGET").expect("cargo sets TARGET");
    let mut command = Command::new(env::var_os("CARGO").expect("cargo sets CARGO"));
    command
        .current_dir(workspace)
        .args(["build", "--profile", profile, "--target", &target])
        .arg("--target-dir")
        .arg(target_dir)
        .args(what);
    // Settings of the outer build that are not meant for this one: clippy and coverage wrap the compiler, loom and
    // sanitisers change its flags, and the outer profile's choices arrive as variables.
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        let foreign = ["RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS"];
        if foreign.contains(&name.as_str()) || name.starts_with("CARGO_PROFILE_") || name.starts_with("CARGO_BUILD_") {
            command.env_remove(&name);
        }
    }
    let status = command.status().unwrap_or_else(|error| panic!("cannot start cargo: {error}"));
    assert!(status.success(), "building {what:?} failed: {status}");
    target_dir.join(target).join(profile)
}
