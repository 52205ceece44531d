//! A check and the report that lists them.
//!
//! The grammar: `finding` is a fragment that states what was seen ("denied by perf_event_paranoid 4"); `meaning` is one
//! or two full sentences that say what this costs a user of Tierscope; `mend` is a command that can be pasted into a
//! shell as it stands. Where nothing can be done, `mend` is absent and `meaning` says so.

use serde::Serialize;

/// How well a thing works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should.
    Ok,
    /// In part, or not for everything.
    Limited,
    /// Not at all.
    Missing,
}

/// What a check is about; reports are grouped by it, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Area {
    /// The process or command asked about.
    Target,
    /// Where samples come from.
    Sampling,
    /// Getting into and reading other programs.
    Attach,
    /// What kinds of memory there are.
    Tiers,
    /// Watching and moving pages.
    Pages,
    /// The rest of the machine.
    Host,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Stable name for scripts, `area.thing`.
    pub id: &'static str,
    /// What it is about.
    pub area: Area,
    /// Name for people, at most 18 columns.
    pub title: &'static str,
    /// How well it works.
    pub status: Status,
    /// What was seen: a fragment.
    pub finding: String,
    /// What that means for Tierscope: full sentences, empty where all is well.
    pub meaning: String,
    /// The command that mends it; absent if it is well or cannot be mended from here.
    pub mend: Option<String>,
}

impl Check {
    pub(crate) fn ok(area: Area, id: &'static str, title: &'static str, finding: impl Into<String>) -> Self {
        Self { id, area, title, status: Status::Ok, finding: finding.into(), meaning: String::new(), mend: None }
    }

    /// It works in part.
    pub(crate) fn limited(self, meaning: impl Into<String>) -> Self {
        Self { status: Status::Limited, meaning: meaning.into(), ..self }
    }

    /// It does not work.
    pub(crate) fn missing(self, meaning: impl Into<String>) -> Self {
        Self { status: Status::Missing, meaning: meaning.into(), ..self }
    }

    pub(crate) fn mend(self, command: impl Into<String>) -> Self {
        Self { mend: Some(command.into()), ..self }
    }
}

/// Everything that was looked at: what `doctor --json` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// `tierscope.doctor/1`.
    pub schema: &'static str,
    /// Whether a recording is possible, of the subject if there is one.
    pub can_record: bool,
    /// Samplers that work, best first, by the names `record --sampler` takes.
    pub samplers: Vec<&'static str>,
    /// The checks, grouped by area.
    pub checks: Vec<Check>,
}

/// Checks that must not be missing if a target is to be recorded.
const NEEDED: [&str; 3] = ["target.exists", "target.sampling", "target.program"];
const SAMPLERS: [(&str, &str); 2] = [("sampling.clock", "clock"), ("sampling.fault", "fault")];

impl Report {
    pub(crate) fn new(mut checks: Vec<Check>) -> Self {
        checks.sort_by_key(|check| check.area);
        let status = |id: &str| checks.iter().find(|check| check.id == id).map(|check| check.status);
        let works = |&(id, _): &(&str, &str)| status(id).is_some_and(|status| status != Status::Missing);
        let samplers: Vec<_> = SAMPLERS.into_iter().filter(works).map(|(_, sampler)| sampler).collect();
        let refused = NEEDED.iter().any(|id| status(id) == Some(Status::Missing));
        Self { schema: "tierscope.doctor/1", can_record: !samplers.is_empty() && !refused, samplers, checks }
    }

    /// 0 if recording with at least one sampler is possible, 3 if not.
    pub fn exit_status(&self) -> u8 {
        if self.can_record { 0 } else { 3 }
    }
}
