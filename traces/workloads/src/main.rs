//! Real kernels on real data structures, in one program that is made to be profiled.
//!
//! Each workload stands for a published system and keeps what decides that system's memory behaviour: the data
//! structures, their sizes relative to the caches, and the order in which they are touched. It leaves out what does
//! not, and its module says which is which.
//!
//! What a profiler needs of a workload, every workload here gives:
//!
//! * Each logical object is allocated in a function of its own, named after it and never inlined, so that a call stack
//!   names the object. [`registry::Registry`] notes where it lay and when; `--objects FILE` writes that down, and
//!   attribution can be checked against it.
//! * [`run::Run`] announces phases to the profiler, and times them. What is made ready beforehand is in phases of its
//!   own (`generate`, `load`, `build`); the steady state is the phase `kernel`.
//! * Same seed, same result, whatever the number of threads.
//!
//! This crate is built by the build script of the `tierscope` program and embedded in it, cold, on every first build:
//! it therefore has few and small dependencies.

mod checksum;
mod command_line;
mod graphs;
mod inference;
mod memory;
mod options;
mod patterns;
mod pipelines;
mod random;
mod registry;
mod run;
mod shared;
mod workload;

use std::io::{self, Write};
use std::process::ExitCode;

use command_line::{Request, parse};
use run::Run;

/// Exit status of a command line that makes no sense, and of a run that could not write what it was asked to.
const USAGE: u8 = 2;
const FAILED: u8 = 3;

fn main() -> ExitCode {
    let (text, status) = match parse(std::env::args_os().skip(1)) {
        Ok(Request::Help) => (command_line::help(), ExitCode::SUCCESS),
        Ok(Request::Describe(workload)) => (workload::describe(workload), ExitCode::SUCCESS),
        Ok(Request::List) => (workload::list(), ExitCode::SUCCESS),
        Ok(Request::Run(settings)) => {
            let mut run = Run::new(&settings);
            let outcome = (settings.workload.run)(&settings, &mut run);
            match run.finish(&settings, outcome) {
                Ok(result) => (format!("{result}\n"), ExitCode::SUCCESS),
                Err(error) => return complain(&error, FAILED),
            }
        }
        Err(message) => return complain(&message, USAGE),
    };
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => status,
        // The reader of a pipe may leave early; that is no failure of ours.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => status,
        Err(error) => complain(&format!("cannot write to stdout: {error}"), FAILED),
    }
}

/// Says on stderr what is wrong and how to go on.
fn complain(message: &str, status: u8) -> ExitCode {
    eprintln!("tierscope-workloads: {message}");
    if status == USAGE {
        eprintln!(
            "Try 'tierscope-workloads --help'; 'tierscope-workloads list' names all {}.",
            workload::all().count()
        );
    }
    ExitCode::from(status)
}
