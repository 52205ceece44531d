//! The native half of a case: the program recorded by the clock sampler.

use crate::failure::Failure;
use crate::record::{self, Props, SamplerChoice, Subject};
use std::ffi::OsString;
use std::path::Path;
use tierscope_model::summarise;
use tierscope_model::summary::{SortKey, Summary};
use tierscope_traces::{Meta, Profile, Tables};

/// A recorded program.
pub(super) struct Recorded {
    pub(super) meta: Meta,
    pub(super) tables: Tables,
    pub(super) summary: Summary,
}

/// Records a command into `output`, unless a whole profile is there already.
pub(super) fn record(command: Vec<OsString>, rate_hz: u32, output: &Path) -> Result<Recorded, Failure> {
    if let Some(recorded) = read(output).ok().filter(|recorded| recorded.meta.complete) {
        return Ok(recorded);
    }
    let shown = command.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    let outcome = record::run(&Props {
        output: Some(output.to_path_buf()),
        force: true,
        quiet: true,
        rate_hz,
        sampler: SamplerChoice::Clock,
        ..Props::new(Subject::Command(command))
    })?;
    if outcome.exit_status != Some(0) {
        return Err(Failure::cannot(format!("{shown} failed")).mend("run it by itself: it says why"));
    }
    read(output)
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
    pub(super) fn footprint(&self) -> u64 {
        let movable = tierscope_model::advice::movable(&self.summary);
        let objects = self.summary.objects.iter().zip(movable).filter(|(_, movable)| *movable);
        objects.map(|(object, _)| object.live_bytes_max as u64).fold(0, u64::saturating_add)
    }
}
