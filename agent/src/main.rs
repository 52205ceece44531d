//! The `tierscope` executable: parses, dispatches, and turns outcomes into exit statuses.

use clap::Parser;
use std::process::ExitCode;
use tierscope::cli::Cli;
use tierscope::commands;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors, and go to standard output.
            let status = if error.use_stderr() { 2 } else { 0 };
            let _ = error.print();
            return ExitCode::from(status);
        }
    };
    match commands::run(cli.command) {
        Ok(status) => ExitCode::from(status),
        Err(failure) => {
            eprintln!("tierscope: {failure}");
            ExitCode::from(failure.exit_status())
        }
    }
}
