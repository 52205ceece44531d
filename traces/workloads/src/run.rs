//! One run: its phases, announced and timed, and its result.
//!
//! A phase is announced to a profiler by the C function `tierscope_mark`, which exists only when the Tierscope preload
//! library is in the process; it is looked up once, and its absence costs nothing.

use std::ffi::{CStr, c_char};
use std::io::{self, Write};
use std::time::Instant;

use serde_json::{Map, Value, json};

use crate::command_line::Settings;
use crate::memory::{peak_resident_bytes, resident_bytes};
use crate::registry::Registry;

/// Phases with which a steady state begins. Most workloads have one kernel; some have several stretches that differ.
const STEADY: [&str; 3] = ["kernel", "forward", "snapshot"];

/// What is said on stdout when a run that is to meet others is about to enter its steady state.
pub(crate) const READY: &str = "ready";

/// Exit status of a run that waited for others in vain.
const ABANDONED: i32 = 3;

type Mark = unsafe extern "C" fn(*const c_char);

/// What a workload is given to report to.
#[derive(Debug)]
pub(crate) struct Run {
    /// Where its objects are noted.
    pub(crate) registry: Registry,
    mark: Option<Mark>,
    phases: Vec<Value>,
    threads: u32,
    /// The phase that the steady state began with.
    steady: Option<String>,
    meet: bool,
    failure: Option<String>,
}

impl Run {
    /// Nothing has happened yet.
    pub(crate) fn new(settings: &Settings) -> Self {
        Run {
            registry: Registry::default(),
            mark: find_mark(),
            phases: Vec::new(),
            threads: settings.threads,
            steady: None,
            meet: settings.meet,
            failure: None,
        }
    }

    /// Threads a kernel may use.
    pub(crate) fn threads(&self) -> u32 {
        self.threads
    }

    /// Says that the run has no result, and why: a sentence for people.
    pub(crate) fn fail(&mut self, reason: String) {
        self.failure = Some(reason);
    }

    /// Announces a phase, runs it, and notes its time and the memory resident at its end.
    pub(crate) fn phase<T>(&mut self, name: &'static CStr, work: impl FnOnce(&mut Self) -> T) -> T {
        if self.steady.is_none() && STEADY.iter().any(|&steady| name.to_bytes() == steady.as_bytes()) {
            self.steady = Some(name.to_string_lossy().into_owned());
            if self.meet {
                wait_for_others();
            }
        }
        if let Some(mark) = self.mark {
            // SAFETY: the function has the signature of Tierscope's public header, and `name` is a C string.
            unsafe { mark(name.as_ptr()) };
        }
        let (start, cpu_start) = (Instant::now(), cpu_seconds());
        let result = work(self);
        self.phases.push(json!({
            "name": name.to_string_lossy(),
            "seconds": start.elapsed().as_secs_f64(),
            "cpu_seconds": cpu_seconds() - cpu_start,
            "resident_bytes": resident_bytes(),
        }));
        result
    }

    /// Writes the side file if there is to be one, and puts the result together. The error is a sentence for people.
    pub(crate) fn finish(self, settings: &Settings, outcome: Map<String, Value>) -> Result<Value, String> {
        if let Some(reason) = self.failure {
            return Err(reason);
        }
        if let Some(path) = &settings.objects {
            let written = self.registry.write(path);
            written.map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        }
        let mut largest = Map::new();
        for block in self.registry.blocks() {
            let label = block.label();
            let known = largest.get(label.as_ref()).and_then(Value::as_u64).unwrap_or(0);
            largest.insert(label.into_owned(), json!(known.max(block.bytes as u64)));
        }
        let mut result = json!({
            "schema": "tierscope.workload/1",
            "workload": settings.workload.name,
            "scale": settings.scale.name(),
            "iterations": settings.iterations,
            "threads": settings.threads,
            "seed": settings.seed,
            "settings": settings.options.all(),
            "phases": self.phases,
            "steady": self.steady,
            "object_bytes": largest,
            "peak_resident_bytes": peak_resident_bytes(),
        });
        if let Value::Object(fields) = &mut result {
            fields.extend(outcome);
        }
        Ok(result)
    }
}

/// Says that this run is ready, and waits for a line on stdin. Whoever was to send it may be gone: then nobody waits
/// for the result either.
fn wait_for_others() {
    let said = writeln!(io::stdout(), "{READY}").and_then(|()| io::stdout().flush());
    let heard = io::stdin().read_line(&mut String::new());
    if said.is_err() || !heard.is_ok_and(|bytes| bytes > 0) {
        std::process::exit(ABANDONED);
    }
}

/// CPU time of all threads of this process so far.
fn cpu_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec to write to; this clock always exists, so that the call cannot fail.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// Tierscope's mark, where its preload library is loaded.
fn find_mark() -> Option<Mark> {
    // SAFETY: the name is a C string; looking it up has no effect but to bind it.
    let symbol = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"tierscope_mark".as_ptr()) };
    // SAFETY: a null pointer becomes `None`; any other is the function of that name, whose signature the public header
    // fixes.
    unsafe { std::mem::transmute::<*mut libc::c_void, Option<Mark>>(symbol) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command_line::{Request, parse};

    #[test]
    fn phases_are_reported_in_order_and_marks_may_be_absent() {
        let Ok(Request::Run(settings)) = parse(["bc".into()]) else { panic!("a run") };
        let mut run = Run::new(&settings);
        assert!(run.mark.is_none());
        assert_eq!(run.phase(c"first", |_| 7), 7);
        run.phase(c"second", |_| (0..1_000_000).for_each(|i| _ = std::hint::black_box(i)));
        let result = run.finish(&settings, Map::new()).unwrap();
        assert!(result["phases"][1]["cpu_seconds"].as_f64().unwrap() > 0.0);
        assert_eq!((&result["phases"][0]["name"], &result["phases"][1]["name"]), (&json!("first"), &json!("second")));
    }

    #[test]
    fn a_side_file_that_cannot_be_written_is_an_error() {
        let line = ["bc", "--objects", "/nonexistent/objects"];
        let Ok(Request::Run(settings)) = parse(line.map(Into::into)) else { panic!("a run") };
        let error = Run::new(&settings).finish(&settings, Map::new()).unwrap_err();
        assert!(error.contains("/nonexistent/objects"), "{error}");
    }
}
