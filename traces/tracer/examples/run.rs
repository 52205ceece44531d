//! Runs a program under QEMU and the plugin, without the agent: for scripts that compare and measure.
//!
//! ```text
//! run PLUGIN SHIM CONFIG OUTCOME PROGRAM ARGUMENTS...
//! ```
//!
//! `PLUGIN` is the library as it was built; `SHIM` the preload shim, or `-` for none; `CONFIG` a file with what differs from the
//! simulator's default configuration (`{}` for nothing); with `"processor": ["GenuineIntel", 6, 106]` (vendor, family and model of
//! `/proc/cpuinfo`) the machine is by default the one around that. `OUTCOME` is written. The exit status is the program's.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a tool of the tests")]

use serde_json::Value;
use std::path::Path;
use std::process::{Command, exit};
use tierscope_sim::{Config, Machine};
use tierscope_tracer::{CONFIG_FILE, OUTCOME_FILE, TracerConfig, plugin_file};

fn qemu_version() -> (u32, u32) {
    let output = Command::new("qemu-x86_64").arg("--version").output();
    let output = output.expect("qemu-x86_64 is missing; install the package qemu-user");
    let text = String::from_utf8(output.stdout).unwrap();
    let mut parts = text.split_whitespace().nth(2).unwrap().split('.').map(|part| part.parse().unwrap());
    (parts.next().unwrap(), parts.next().unwrap())
}

/// Puts what is in `with` over what is in `into`, field by field.
fn merge(into: &mut Value, with: Value) {
    match (into, with) {
        (Value::Object(into), Value::Object(with)) => {
            for (name, value) in with {
                merge(into.entry(name).or_insert(Value::Null), value);
            }
        }
        (into, with) => *into = with,
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [plugin, shim, config, outcome, program, arguments @ ..] = arguments.as_slice() else {
        eprintln!("usage: run PLUGIN SHIM|- CONFIG OUTCOME PROGRAM ARGUMENTS...");
        exit(2);
    };
    let directory = tempfile::tempdir().unwrap();
    let mut given: Value = serde_json::from_slice(&std::fs::read(config).unwrap()).expect("JSON");
    let processor = given.as_object_mut().and_then(|given| given.remove("processor"));
    let machine = processor.and_then(|processor| {
        let (vendor, family, model): (String, u32, u32) =
            serde_json::from_value(processor).expect("vendor, family and model");
        Machine::of_processor(&vendor, family, model)
    });
    let default = Config { machine: machine.unwrap_or_default(), ..Config::default() };
    let mut simulator = serde_json::to_value(default).unwrap();
    merge(&mut simulator, given);
    let simulator = serde_json::from_value(simulator).expect("a configuration of the simulator");
    let config =
        TracerConfig { simulator, directory: directory.path().into(), policies: Vec::new(), ask_for_each: false };
    let file = directory.path().join(CONFIG_FILE);
    std::fs::write(&file, serde_json::to_vec(&config).unwrap()).unwrap();
    let (major, minor) = qemu_version();
    let version = plugin_file::interface_version(major, minor);
    let library = directory.path().join("tracer.so");
    let bytes = plugin_file::with_version(&std::fs::read(plugin).unwrap(), version).expect("the plugin as it is built");
    std::fs::write(&library, bytes).unwrap();
    let mut command = Command::new("qemu-x86_64");
    command.env("LD_PRELOAD", &library).arg("-plugin").arg(format!("{},config={}", library.display(), file.display()));
    if shim == "-" {
        command.args(["-U", "LD_PRELOAD"]);
    } else {
        let shim = Path::new(shim).canonicalize().unwrap();
        command.arg("-E").arg(format!("LD_PRELOAD={}", shim.display()));
        command.args(["-E", "TIERSCOPE_PRELOAD=trace=1;follow=0"]);
    }
    let status = command.arg(program).args(arguments).status().unwrap();
    std::fs::copy(directory.path().join(OUTCOME_FILE), outcome).expect("an outcome");
    drop(directory);
    exit(status.code().unwrap_or(1));
}
