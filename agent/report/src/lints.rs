//! What was noticed about objects, by name: the same in a report and in an advice.

use tierscope_model::explain::Lint;

use crate::table::{Paint, line};
use crate::text::{printable, wrap};

/// Where a person reads what a name means.
const DOCUMENT: &str = "docs/lints.md";

/// Lints of one object, under `indent` columns.
pub(crate) fn of_object(out: &mut String, lints: &[Lint], indent: usize, columns: usize, paint: Paint) {
    for lint in lints {
        let text = format!("{}{}: {}", " ".repeat(indent), lint.kind.id(), printable(&lint.message));
        wrap(&text, columns, indent + 2).iter().for_each(|text| line(out, &paint.warn(text)));
    }
}

/// The line that says where to look names up, below whatever had some.
pub(crate) fn explained(out: &mut String, indent: usize, paint: Paint) {
    line(out, &paint.dim(&format!("{}({DOCUMENT} says what these names mean, and what to do)", " ".repeat(indent))));
}
