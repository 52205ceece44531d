//! Builds fixtures with the system's compilers. A missing compiler fails the test, unless TIERSCOPE_TESTS_WITHOUT (a
//! comma-separated list) names it.

#![allow(clippy::unwrap_used, clippy::panic, dead_code, reason = "helpers of tests, of which each uses some")]

use std::path::{Path, PathBuf};
use std::process::Command;

/// A compiler, by the name TIERSCOPE_TESTS_WITHOUT knows it by.
pub(crate) fn tool(name: &str) -> Option<Command> {
    let without = std::env::var("TIERSCOPE_TESTS_WITHOUT").unwrap_or_default();
    if without.split(',').any(|missing| missing.trim() == name) {
        eprintln!("skipped: TIERSCOPE_TESTS_WITHOUT names {name}");
        return None;
    }
    let found = Command::new(name).arg("--version").output();
    assert!(
        found.is_ok(),
        "{name} is needed for this test; install it, or set TIERSCOPE_TESTS_WITHOUT={name} to do without"
    );
    Some(Command::new(name))
}

pub(crate) fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Compile `tests/fixtures/NAME` into `folder`; the compiler follows from the extension.
pub(crate) fn compile(folder: &Path, fixture: &str, output: &str, flags: &[&str]) -> Option<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(fixture);
    let mut compiler = tool(match source.extension().unwrap().to_str().unwrap() {
        "c" => "cc",
        "cc" => "c++",
        _ => "rustc",
    })?;
    let path = folder.join(output);
    run(compiler.args(flags).arg(source).arg("-o").arg(&path));
    Some(path)
}

/// Address of a symbol, by `nm`.
pub(crate) fn address_of(path: &Path, symbol: &str) -> u64 {
    let listing = run(Command::new("nm").arg("-C").arg(path));
    let line = listing.lines().find(|line| line.splitn(3, ' ').nth(2).is_some_and(|name| name.contains(symbol)));
    let line = line.unwrap_or_else(|| panic!("no symbol {symbol} in {}", path.display()));
    u64::from_str_radix(line.split(' ').next().unwrap(), 16).unwrap()
}
