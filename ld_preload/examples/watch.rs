//! `watch SHIM OPTIONS -- COMMAND`: runs a program under the shim and says what it recorded. For trying the shim by hand.

#![allow(clippy::expect_used, clippy::unwrap_used, missing_docs, clippy::undocumented_unsafe_blocks)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use support::{Agency, Recording, run};
use tierscope_wire::Event;
use tierscope_wire::options::Options;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let split = arguments.iter().position(|argument| argument == "--").expect("usage: watch SHIM OPTIONS -- COMMAND");
    let options = Options::parse(arguments.get(1).filter(|_| split > 1).map_or("", String::as_str));
    let mut command = Command::new(&arguments[split + 1]);
    command.args(&arguments[split + 2..]);
    let outcome = run(&mut command, Path::new(&arguments[0]), options, Agency::Attentive);
    std::io::stdout().write_all(&outcome.stdout).unwrap();
    std::io::stderr().write_all(&outcome.stderr).unwrap();
    for recording in &outcome.recordings {
        report(recording);
    }
    let elapsed = outcome.elapsed.as_secs_f64();
    eprintln!("{} in {elapsed:.3} s, {:.3} s of user time", outcome.status, user_seconds());
}

/// What the program and the children it waited for have cost.
fn user_seconds() -> f64 {
    // SAFETY: zeros are valid, and the kernel fills in the local.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage);
        usage
    };
    usage.ru_utime.tv_sec as f64 + usage.ru_utime.tv_usec as f64 * 1e-6
}

fn report(recording: &Recording) {
    let mut kinds: HashMap<String, usize> = HashMap::new();
    let mut stacks: HashMap<u32, (u64, u64)> = HashMap::new();
    recording.for_each(|_, event| {
        let name = format!("{event:?}");
        *kinds.entry(name.split([' ', '{']).next().unwrap_or("").to_owned()).or_default() += 1;
        if let Event::Allocate { stack, bytes, .. } | Event::Map { stack, bytes, .. } = event {
            let site = stacks.entry(stack.0).or_default();
            site.0 += 1;
            site.1 += bytes;
        }
    });
    let (events, losses) = recording.produced();
    let header = recording.header();
    eprintln!(
        "pid {} from {}: {events} events, {} read, lost {losses:?}, {} stacks lost, reentered {}, {} stack words",
        recording.pid,
        recording.hello.forked_from,
        recording.events.len(),
        header.lost_stacks.load(std::sync::atomic::Ordering::Relaxed),
        header.reentered.load(std::sync::atomic::Ordering::Relaxed),
        header.stack_words_used.load(std::sync::atomic::Ordering::Relaxed),
    );
    eprintln!("  {kinds:?}");
    let depths: Vec<usize> = stacks.keys().map(|id| recording.frames(tierscope_wire::StackId(*id)).len()).collect();
    eprintln!(
        "  {} stacks, depth {} on average, {} of one frame",
        depths.len(),
        depths.iter().sum::<usize>() / depths.len().max(1),
        depths.iter().filter(|depth| **depth == 1).count()
    );
    let modules = recording.modules();
    let mut top: Vec<_> = stacks.iter().collect();
    top.sort_by_key(|(_, (_, bytes))| std::cmp::Reverse(*bytes));
    for (id, (count, bytes)) in top.into_iter().take(4) {
        let frames: Vec<String> = recording
            .frames(tierscope_wire::StackId(*id))
            .iter()
            .map(|frame| {
                modules.iter().find(|(start, end, ..)| (*start..*end).contains(frame)).map_or_else(
                    || format!("{frame:x}"),
                    |(_, _, bias, path)| format!("{}+{:x}", path.rsplit('/').next().unwrap_or(""), frame - bias),
                )
            })
            .collect();
        eprintln!("  {count} x {bytes} bytes: {}", frames.join(" "));
    }
}
