//! The files of a run, while it runs and when it is over.

use crate::outcome::{ALLOCATIONS_FILE, OUTCOME_FILE, PROGRESS_FILE, SAMPLES_FILE, TracerOutcome};
use crate::progress::Progress;
use crate::rows::RowWriter;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use tierscope_sim::{Allocation, Sample};

/// The files.
#[derive(Debug)]
pub(crate) struct Output {
    directory: PathBuf,
    samples: RowWriter,
    allocations: RowWriter,
    progress: File,
}

impl Output {
    /// Makes the files in `directory`.
    pub(crate) fn create(directory: &Path) -> Result<Output, String> {
        let in_directory = |name: &str| directory.join(name);
        let say = |error| format!("cannot write into {}: {error}", directory.display());
        Ok(Output {
            directory: directory.into(),
            samples: RowWriter::samples(&in_directory(SAMPLES_FILE)).map_err(say)?,
            allocations: RowWriter::allocations(&in_directory(ALLOCATIONS_FILE)).map_err(say)?,
            progress: File::create(in_directory(PROGRESS_FILE)).map_err(say)?,
        })
    }

    /// Appends rows; how many could not be written.
    pub(crate) fn rows(&mut self, samples: &[Sample], allocations: &[Allocation]) -> u64 {
        let failed_samples = samples.iter().filter(|row| !self.samples.write(&row.to_bytes())).count();
        let failed = allocations.iter().filter(|row| !self.allocations.write(&row.to_bytes())).count();
        (failed_samples + failed) as u64
    }

    /// Says how far it is.
    pub(crate) fn progress(&self, progress: &Progress) {
        progress.write(&self.progress);
    }

    /// Writes the outcome, whole or not at all.
    pub(crate) fn finish(&mut self, outcome: &TracerOutcome) -> Result<(), String> {
        let mut outcome = outcome.clone();
        for (writer, name) in [(&mut self.samples, "samples"), (&mut self.allocations, "allocations")] {
            if !writer.flush() {
                outcome.losses.rows_not_written += 1;
                eprintln!("tierscope: the last {name} could not be written");
            }
        }
        let (name, fresh) = (self.directory.join(OUTCOME_FILE), self.directory.join("outcome.json.new"));
        let text = serde_json::to_vec(&outcome).map_err(|error| error.to_string())?;
        let write = || {
            let mut file = File::create(&fresh)?;
            file.write_all(&text)?;
            std::fs::rename(&fresh, &name)
        };
        write().map_err(|error| format!("{}: {error}", name.display()))
    }
}
