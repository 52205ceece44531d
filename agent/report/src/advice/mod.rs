//! What an advice looks like: a table with a curve for people, JSON for scripts.

mod chart;
mod command;
mod json;
mod text;

use std::path::Path;

use tierscope_model::advice::{Advice, Tie};

use crate::{Report, names};

pub use command::shell_word;
pub use json::{ADVICE_SCHEMA, advice_to_json};
pub use text::render_advice;

/// Everything an advice is shown from.
#[derive(Clone, Copy, Debug)]
pub struct AdviceReport<'a> {
    /// The profile it is about.
    pub report: Report<'a>,
    /// The advice.
    pub advice: &'a Advice,
    /// What is known of its tiers, in their order; may be shorter.
    pub tiers: &'a [TierNote],
    /// What was assumed of the tiers, in whole sentences.
    pub assumptions: &'a [String],
    /// Why the policy cannot be carried out on this machine as it is, in whole sentences.
    pub obstacles: &'a [String],
    /// Options of the command line that must be repeated to get the same advice: `["--tiers", "here.toml"]`.
    pub options: &'a [String],
    /// Where its policy was written; `None` if it was not.
    pub policy: Option<&'a Path>,
    /// The next command, where it is neither the recorded one under the policy nor the one that writes a policy.
    pub next: Option<&'a str>,
}

/// The sentence of a tie, with objects by the names people know, of at most so many columns each.
fn tie_text(tie: &Tie, advice: &Advice, columns: usize) -> String {
    tie.text(advice, &|object| names::object(&object.object, columns))
}

/// Where a tier and its figures come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TierNote {
    /// What stands behind it: `node 1`, `files in /mnt/tier`; `None` where nothing does.
    pub behind: Option<String>,
    /// Where its latency is from.
    pub source: Option<String>,
}
