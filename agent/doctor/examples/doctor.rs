//! `tierscope doctor`, before there is a `tierscope`: `cargo run --example doctor [-- -p PID | -- CMD]`.

use std::io::IsTerminal;
use std::process::ExitCode;

use tierscope_doctor::{Subject, examine};

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let pid = arguments.get(1).and_then(|pid| pid.to_str()?.parse().ok());
    let subject = match (arguments.first().is_some_and(|first| first == "-p"), pid) {
        (true, Some(pid)) => Subject::Process(pid),
        _ if arguments.is_empty() => Subject::Machine,
        _ => Subject::Command(arguments),
    };
    let report = examine(&subject);
    print!("{}", report.render(80, std::io::stdout().is_terminal()));
    ExitCode::from(report.exit_status())
}
