//! What an advice looks like: a table with a curve for people, JSON for scripts.

mod chart;
mod command;
mod json;
mod text;

use std::path::Path;

use tierscope_model::advice::Advice;

use crate::Report;

pub use json::{ADVICE_SCHEMA, advice_to_json};
pub use text::render_advice;

/// Everything an advice is shown from.
#[derive(Clone, Copy, Debug)]
pub struct AdviceReport<'a> {
    /// The profile it is about.
    pub report: Report<'a>,
    /// The advice.
    pub advice: &'a Advice,
    /// Where its policy was written; `None` if it was not.
    pub policy: Option<&'a Path>,
}
