//! The native half: the program recorded by the clock sampler.

use crate::failure::Failure;
use crate::record::{self, Props, SamplerChoice, Subject};
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;
use tierscope_model::summarise;
use tierscope_model::summary::{SortKey, Summary};
use tierscope_traces::{Meta, Profile, Tables};

/// A recorded program.
pub(crate) struct Recorded {
    pub(crate) meta: Meta,
    pub(crate) tables: Tables,
    pub(crate) summary: Summary,
}

/// How a program is recorded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sampling {
    pub(crate) rate_hz: u32,
    /// Samples of so long are not kept.
    pub(crate) delay: Duration,
}

/// Records a command into `output`, unless a whole profile is there already.
pub(crate) fn record(command: Vec<OsString>, sampling: Sampling, output: &Path) -> Result<Recorded, Failure> {
    if let Some(recorded) = read(output).ok().filter(|recorded| recorded.meta.complete) {
        return Ok(recorded);
    }
    let shown = command.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    super::rewind_input();
    let outcome = record::run(&Props {
        output: Some(output.to_path_buf()),
        force: true,
        quiet: true,
        rate_hz: sampling.rate_hz,
        delay: sampling.delay,
        sampler: SamplerChoice::Clock,
        ..Props::new(Subject::Command(command))
    })?;
    match outcome.exit_status {
        Some(0) => read(output),
        status => {
            let how = status.map(|status| format!(" (exit status {status})")).unwrap_or_default();
            Err(Failure::cannot(format!("{shown} failed{how}")).mend("run it by itself: it says why"))
        }
    }
}

fn read(output: &Path) -> Result<Recorded, Failure> {
    let failure = |error| Failure::from_error("cannot read the recording", &error);
    let profile = Profile::open(output).map_err(failure)?;
    let (meta, tables) = (profile.meta().clone(), profile.tables());
    let summary = summarise(&meta, &tables, SortKey::natural(&meta));
    Ok(Recorded { meta, tables, summary })
}

impl Recorded {
    /// The most bytes of all movable objects.
    pub(crate) fn footprint(&self) -> u64 {
        let movable = tierscope_model::advice::movable(&self.summary);
        let objects = self.summary.objects.iter().zip(movable).filter(|(_, movable)| *movable);
        objects.map(|(object, _)| object.live_bytes_max as u64).fold(0, u64::saturating_add)
    }
}
