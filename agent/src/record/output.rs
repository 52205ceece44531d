//! From a process's rows to its profile on disk.

use super::Written;
use super::process::Process;
use crate::failure::Failure;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::path::{Path, PathBuf};
use tierscope_traces::{Exit, Losses, Meta, ProfileWriter, Row, TracesError};

/// A profile being written.
#[derive(Debug)]
pub(super) struct Output {
    writer: ProfileWriter,
}

fn failure(error: TracesError) -> Failure {
    Failure::from_error("cannot write the profile", &error)
}

/// Creates the profile of a child next to that of the program that was launched: `NAME.PID.tsp`, and where that is
/// taken (a pid came round again) `NAME.PID-2.tsp`.
pub(super) fn create_beside(base: &Path, template: &Meta, process: &Process) -> Result<Output, Failure> {
    let default = super::default_output(&process.name, process.pid);
    for attempt in 1..100 {
        let mut name = default.with_extension("").into_os_string();
        if attempt > 1 {
            name.push(format!("-{attempt}"));
        }
        name.push(".tsp");
        let path = base.with_file_name(name);
        match ProfileWriter::create(&path, false, meta(template, process)) {
            Ok(writer) => return Ok(Output { writer }),
            Err(TracesError::Exists(_)) => {}
            Err(error) => return Err(failure(error)),
        }
    }
    Err(Failure::cannot(format!("too many profiles named {}", default.display())).mend("remove old profiles"))
}

fn meta(template: &Meta, process: &Process) -> Meta {
    let mut meta = template.clone();
    meta.program.pid = process.pid;
    meta.program.parent_pid = Some(process.parent);
    meta.clock.monotonic_start_ns = meta.clock.monotonic_start_ns.max(process.started_ns);
    meta
}

impl Output {
    pub(super) fn create(path: &Path, force: bool, template: &Meta, process: &Process) -> Result<Output, Failure> {
        let writer = ProfileWriter::create(path, force, meta(template, process)).map_err(failure)?;
        Ok(Output { writer })
    }

    /// Moves the process's rows into the writer.
    pub(super) fn take_rows(&mut self, process: &mut Process) {
        fn all<R: Row>(buffer: &mut tierscope_traces::Buffer<R>, rows: impl IntoIterator<Item = R>) {
            rows.into_iter().for_each(|row| buffer.push(row));
        }
        let writer = &mut self.writer;
        all(writer.modules(), process.modules.take_dirty());
        all(writer.sites(), process.objects.take_sites());
        all(writer.objects(), process.objects.take_objects());
        all(writer.allocations(), process.rows.allocations.drain(..));
        all(writer.samples(), process.rows.samples.drain(..));
        all(writer.counters(), process.rows.counters.drain(..));
        all(writer.marks(), process.rows.marks.drain(..));
    }

    /// Brings the meta data up to date.
    pub(super) fn update(&mut self, process: &Process, losses: Losses, duration_ns: u64, options: &[(&str, u64)]) {
        let meta = self.writer.meta_mut();
        meta.losses = Losses { unwritten: meta.losses.unwritten, ..losses };
        meta.clock.duration_ns = duration_ns;
        if meta.program.exe.is_empty()
            && let Some(module) = process.modules.rows().first()
        {
            meta.program.exe.clone_from(&module.path);
            meta.program.build_id.clone_from(&module.build_id);
        }
        for (name, value) in options {
            meta.options.insert((*name).to_string(), (*value).into());
        }
    }

    pub(super) fn flush(&mut self) -> Result<(), Failure> {
        self.writer.flush().map_err(failure)
    }

    pub(super) fn writer(&mut self) -> &mut ProfileWriter {
        &mut self.writer
    }

    /// Ends the profile.
    pub(super) fn finish(&mut self, process: &Process, exit: Option<Exit>) -> Result<Written, Failure> {
        self.writer.meta_mut().program.exit = exit;
        self.writer.finish().map_err(failure)?;
        let share = |part: u64, whole: u64| if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
        let meta = self.writer.meta();
        Ok(Written {
            path: self.writer.path().to_path_buf(),
            pid: process.pid,
            name: process.name.clone(),
            samples: process.tally.samples,
            addressed: share(process.tally.user_addressed, process.tally.user_samples),
            attributed: share(process.tally.attributed, process.tally.samples),
            lost_samples: meta.losses.samples,
            lost_allocations: meta.losses.allocations,
            lost_frees: meta.losses.frees,
            events: meta.options.get("events_consumed").and_then(serde_json::Value::as_u64).unwrap_or(0),
        })
    }

    /// Removes the profile: its program never started.
    pub(super) fn remove(self) {
        // It holds nothing; what cannot be removed is an empty profile.
        let _ = std::fs::remove_dir_all(self.writer.path());
    }
}

/// The name that was asked for goes to the profile with the most samples: `record -o x.tsp -- timeout 10 ./app` is about
/// the app, not about `timeout`, which is the process we started. The two exchange their names.
pub(super) fn give_the_name_to_the_busiest(closed: &mut [(Written, Output)], base: &Path, root_pid: u32) {
    let samples = |index: usize| closed.get(index).map_or(0, |(written, _)| written.samples);
    let Some(busiest) = (0..closed.len()).max_by_key(|index| samples(*index)) else { return };
    let Some(root) = closed.iter().position(|(written, _)| written.pid == root_pid && written.path == base) else {
        return;
    };
    if busiest == root || samples(busiest) <= samples(root) {
        return;
    }
    let other: PathBuf = closed.get(busiest).map_or_else(PathBuf::new, |(written, _)| written.path.clone());
    let root_name = closed.get(root).map_or_else(String::new, |(written, _)| written.name.clone());
    if renameat_with(CWD, base, CWD, &other, RenameFlags::EXCHANGE).is_err() {
        return;
    }
    // The launched process's profile now lies under the child's name; a name of its own reads better.
    let own = base.with_file_name(super::default_output(&root_name, root_pid));
    let moved = renameat_with(CWD, &other, CWD, &own, RenameFlags::NOREPLACE).is_ok();
    if let Some((written, _)) = closed.get_mut(root) {
        written.path = if moved { own } else { other };
    }
    if let Some((written, _)) = closed.get_mut(busiest) {
        written.path = base.to_path_buf();
    }
}
