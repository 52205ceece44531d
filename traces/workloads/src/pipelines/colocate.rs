//! `colocate`: several workloads on one machine at once, as processes, for row 19, co-location of small jobs.
//!
//! Each job is a process of this program, made ready by itself; when all are, all start their kernels together. An
//! iteration is a tenth of the iterations that each job has by default, or of those given behind its name. With
//! `alone=yes` each runs by itself first, in turn, so that the result can say what company costs: a job's `slowdown`,
//! and the `throughput_gain` of running together over running in turn, which is what row 19 claims to be 3.
//!
//! Kept: address spaces, allocators and page tables of their own; one cache and one memory for all. Left out:
//! accelerators and their partitions; arrivals and ends of jobs at different times.
//!
//! Expected on top: of each job what is on top when it is alone; but what was kept in the last-level cache there may
//! have to come from memory here, most of all `pr`'s `contributions`, which just fit the cache of a larger machine.
//! Between the jobs fast memory goes to whoever gains most by the byte: not to each an equal share, and not by size.
//!
//! Objects are named by job: `0.pr/scores`. `peak_resident_bytes` is that of all jobs together. The result is the same
//! with any number of threads, of which each job has as many as told.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Map, Value, json};

use crate::checksum;
use crate::command_line::Settings;
use crate::options::{Declared, Values};
use crate::run::{READY, Run};
use crate::workload::{Workload, find};

/// Jobs at once, at most.
const MOST: usize = 16;

/// Iterations of `colocate` that make one default run of each job.
const PARTS: u64 = 10;

/// What can be set.
pub(crate) static OPTIONS: &[Declared] = &[
    Declared {
        name: "jobs",
        default: "pr,dlrm:300,hnsw",
        values: Values::Read {
            form: "1 to 16 workloads with commas between, each NAME or NAME:ITERATIONS, none of them colocate",
            accepts: |text| parse(text).is_some(),
        },
        help: "what runs",
    },
    Declared {
        name: "alone",
        default: "no",
        values: Values::OneOf(&["no", "yes"]),
        help: "whether each job first runs by itself, for comparison",
    },
];

/// One job.
#[derive(Debug, Clone, Copy)]
struct Job {
    workload: &'static Workload,
    iterations: u32,
}

fn parse(text: &str) -> Option<Vec<Job>> {
    let jobs = text.split(',').map(|job| {
        let (name, iterations) = job.split_once(':').map_or((job, None), |(name, count)| (name, Some(count)));
        let workload = find(name).filter(|workload| workload.name != "colocate")?;
        let iterations = match iterations {
            None => workload.iterations,
            Some(text) => text.parse().ok().filter(|&iterations| iterations > 0)?,
        };
        Some(Job { workload, iterations })
    });
    jobs.collect::<Option<Vec<_>>>().filter(|jobs| jobs.len() <= MOST)
}

/// Runs the workload.
pub(crate) fn run(settings: &Settings, run: &mut Run) -> Map<String, Value> {
    let outcome = together(settings, run);
    outcome.unwrap_or_else(|error| {
        run.fail(error);
        Map::new()
    })
}

fn together(settings: &Settings, run: &mut Run) -> Result<Map<String, Value>, String> {
    let jobs = parse(settings.options.text("jobs")).unwrap_or_default();
    let alone = if settings.options.text("alone") == "yes" {
        run.phase(c"alone", |_| {
            jobs.iter().map(|&job| Process::start(settings, job, None)?.release()?.result()).collect::<Result<_, _>>()
        })?
    } else {
        Vec::new()
    };
    let files: Vec<_> = (0..jobs.len()).map(|number| side_file(settings, number)).collect();
    let processes = run.phase(c"generate", |_| {
        let started: Vec<_> =
            jobs.iter().zip(&files).map(|(&job, file)| Process::start(settings, job, file.as_ref())).collect();
        started.into_iter().map(|process| process?.ready()).collect::<Result<Vec<_>, _>>()
    })?;
    let results = run.phase(c"kernel", |_| {
        let released: Vec<_> = processes.into_iter().map(Process::release).collect();
        released.into_iter().map(|process| process?.result()).collect::<Result<Vec<_>, _>>()
    })?;
    for (file, label) in files.iter().zip(labels(&jobs)) {
        let Some(file) = file else { continue };
        run.registry.adopt(&label, file).map_err(|error| format!("cannot take over {}: {error}", file.display()))?;
    }
    Ok(outcome(&jobs, &results, &alone))
}

/// What a job's objects are named after.
fn labels(jobs: &[Job]) -> impl Iterator<Item = String> {
    jobs.iter().enumerate().map(|(number, job)| format!("{number}.{}", job.workload.name))
}

/// Where a job writes its objects, if that is wanted: beside the file that all will be in.
fn side_file(settings: &Settings, number: usize) -> Option<PathBuf> {
    let mut name = settings.objects.clone()?.into_os_string();
    name.push(format!(".{number}"));
    Some(name.into())
}

/// Puts the jobs' results together.
fn outcome(jobs: &[Job], results: &[Value], alone: &[Value]) -> Map<String, Value> {
    let (mut objects, mut described, mut words) = (Map::new(), Vec::new(), Vec::new());
    for (number, (label, result)) in labels(jobs).zip(results).enumerate() {
        for (name, bytes) in result["object_bytes"].as_object().into_iter().flatten() {
            objects.insert(format!("{label}/{name}"), bytes.clone());
        }
        let mut description = json!({
            "workload": result["workload"],
            "iterations": result["iterations"],
            "checksum": result["checksum"],
            "steady_seconds": steady_seconds(result),
            "peak_resident_bytes": result["peak_resident_bytes"],
        });
        if let Some(alone) = alone.get(number) {
            description["steady_seconds_alone"] = json!(steady_seconds(alone));
            description["slowdown"] = json!(steady_seconds(result) / steady_seconds(alone));
        }
        described.push(description);
        words.push(u64::from_str_radix(result["checksum"].as_str().unwrap_or_default(), 16).unwrap_or_default());
    }
    let mut outcome = Map::new();
    if !alone.is_empty() {
        let in_turn: f64 = alone.iter().map(steady_seconds).sum();
        let longest = results.iter().map(steady_seconds).fold(0.0, f64::max);
        outcome.insert("throughput_gain".into(), json!(in_turn / longest));
    }
    let resident: u64 = results.iter().filter_map(|result| result["peak_resident_bytes"].as_u64()).sum();
    outcome.insert("checksum".into(), json!(checksum::of(words)));
    outcome.insert("jobs".into(), json!(described));
    outcome.insert("object_bytes".into(), Value::Object(objects));
    outcome.insert("peak_resident_bytes".into(), json!(resident));
    outcome
}

/// From the start of the steady state to the end of the last phase.
fn steady_seconds(result: &Value) -> f64 {
    let phases = result["phases"].as_array().map(Vec::as_slice).unwrap_or_default();
    let steady = phases.iter().skip_while(|phase| phase["name"].as_str() != result["steady"].as_str());
    steady.filter(|phase| phase["name"] != "measure").filter_map(|phase| phase["seconds"].as_f64()).sum()
}

/// A job that is running. One that is given up is killed: it would wait for ever.
#[derive(Debug)]
struct Process {
    name: &'static str,
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    ready: bool,
}

impl Process {
    fn start(settings: &Settings, job: Job, objects: Option<&PathBuf>) -> Result<Self, String> {
        let name = job.workload.name;
        let iterations = u64::from(job.iterations) * u64::from(settings.iterations) / PARTS;
        let program = std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
        let mut command = Command::new(program);
        command
            .args([name, "--meet", "--scale", settings.scale.name(), "--graph", settings.graph.name()])
            .args(["--iterations", &iterations.clamp(1, u32::MAX.into()).to_string()])
            .args(["--threads", &settings.threads.to_string(), "--seed", &settings.seed.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        match &settings.cache {
            Some(cache) => command.arg("--cache").arg(cache),
            None => command.arg("--no-cache"),
        };
        if let Some(objects) = objects {
            command.arg("--objects").arg(objects);
        }
        let mut child = command.spawn().map_err(|error| format!("cannot start {name}: {error}"))?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let output = output.map(BufReader::new).ok_or_else(|| format!("{name} has no output"))?;
        Ok(Process { name, child, input, output, ready: false })
    }

    fn line(&mut self) -> Result<String, String> {
        let mut line = String::new();
        let read = self.output.read_line(&mut line);
        read.map_err(|error| format!("cannot read what {} says: {error}", self.name))?;
        Ok(line)
    }

    /// Waits until it is about to start its kernel.
    fn ready(mut self) -> Result<Self, String> {
        let line = self.line()?;
        if line.trim_end() != READY {
            let status = self.child.wait().map_err(|error| format!("cannot wait for {}: {error}", self.name))?;
            return Err(format!("{} ended before its kernel began ({status}); see above", self.name));
        }
        self.ready = true;
        Ok(self)
    }

    /// Lets it start its kernel, as soon as it is ready.
    fn release(self) -> Result<Self, String> {
        let mut process = if self.ready { self } else { self.ready()? };
        let name = process.name;
        let mut input = process.input.take().ok_or_else(|| format!("{name} has no input"))?;
        writeln!(input).map_err(|error| format!("cannot let {name} start: {error}"))?;
        Ok(process)
    }

    /// Waits for its result.
    fn result(mut self) -> Result<Value, String> {
        let line = self.line()?;
        let status = self.child.wait().map_err(|error| format!("cannot wait for {}: {error}", self.name))?;
        if !status.success() {
            return Err(format!("{} failed ({status}); see above", self.name));
        }
        serde_json::from_str(&line).map_err(|error| format!("{} gave no result: {error}", self.name))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Neither matters for one that has ended, which is nearly always.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_are_workloads_with_iterations_if_need_be() {
        let jobs = parse("pr,dlrm:7,pr").unwrap();
        let read: Vec<_> = jobs.iter().map(|job| (job.workload.name, job.iterations)).collect();
        let own = find("pr").unwrap().iterations;
        assert_eq!(read, [("pr", own), ("dlrm", 7), ("pr", own)]);
        assert_eq!(labels(&jobs).collect::<Vec<_>>(), ["0.pr", "1.dlrm", "2.pr"]);
        for text in ["", "pr,", "nosuch", "colocate", "pr:0", "pr:x", "pr:", &["pr"; 17].join(",")] {
            assert!(parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn gains_are_those_of_the_kernels_and_nothing_else() {
        let result = |kernel: f64| {
            json!({
                "workload": "w", "iterations": 1, "checksum": "10", "steady": "kernel", "peak_resident_bytes": 5,
                "object_bytes": { "scores": 3 },
                "phases": [{ "name": "generate", "seconds": 100.0 }, { "name": "kernel", "seconds": kernel },
                           { "name": "measure", "seconds": 100.0 }],
            })
        };
        let jobs = parse("pr,cc").unwrap();
        let found = outcome(&jobs, &[result(4.0), result(3.0)], &[result(2.0), result(3.0)]);
        assert_eq!(found["jobs"][0]["slowdown"], 2.0);
        assert_eq!(found["throughput_gain"], 1.25);
        assert_eq!(found["peak_resident_bytes"], 10);
        assert_eq!(found["object_bytes"], json!({ "0.pr/scores": 3, "1.cc/scores": 3 }));
        assert!(!outcome(&jobs, &[result(4.0), result(3.0)], &[]).contains_key("throughput_gain"));
    }
}
