//! What a summary and an advice look like: tables for people, JSON for scripts, one HTML file to pass on.
//!
//! Nothing is computed here but layout. Names come from the recorded program and from whoever made the profile, so
//! every one passes [`text::printable`] before it reaches a terminal: no control characters, no direction overrides, and
//! a width that can be counted. Every number shown has where it came from (the header) and how sure it is beside it.

mod advice;
mod header;
mod html;
mod json;
mod lints;
mod names;
mod stacks;
mod table;
mod text;
mod units;

use std::path::Path;

use tierscope_model::Summary;
use tierscope_model::explain::Note;
use tierscope_model::summary::SortKey;
use tierscope_traces::Meta;

pub use advice::{ADVICE_SCHEMA, AdviceReport, TierNote, advice_to_json, render_advice, shell_word};
pub use html::render_html;
pub use json::{SCHEMA, to_json};
pub use table::render_table;
pub use text::printable;
pub use units::{bytes, count, percent};

/// Everything a report is made from.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    /// Where the profile is; shown only.
    pub path: &'a Path,
    /// What the profile says about itself.
    pub meta: &'a Meta,
    /// Its objects.
    pub summary: &'a Summary,
    /// What could not be read ([`tierscope_traces::Profile::warnings`]).
    pub warnings: &'a [String],
    /// Whether the recording is still under way ([`tierscope_traces::Profile::is_being_written`]).
    pub being_written: bool,
    /// What there is to say of each object, in the order of the summary's; may be shorter, and is of no use to an advice.
    pub notes: &'a [Note],
}

/// How to lay out the table.
#[derive(Clone, Copy, Debug)]
pub struct RenderOptions {
    /// Columns of the terminal; `None` where the output is none, which gets a table as wide as its names need.
    pub width: Option<usize>,
    /// How many objects to show.
    pub top: usize,
    /// Of how many objects to show where they are allocated and accessed.
    pub stacks: usize,
    /// Whether to use ANSI colours.
    pub color: bool,
    /// What the objects are ordered by, named above the table.
    pub sort: SortKey,
}

impl Default for RenderOptions {
    fn default() -> Self {
        Self { width: Some(80), top: 20, stacks: 3, color: false, sort: SortKey::Share }
    }
}
