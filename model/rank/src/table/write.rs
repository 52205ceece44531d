//! Lines of cells to text.

use std::fmt::Write as _;

/// Lines of CSV, with a line feed after each.
pub(super) fn lines(header: &[String], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut text = String::new();
    line(&mut text, header);
    rows.for_each(|row| line(&mut text, &row));
    text
}

fn line(text: &mut String, cells: &[String]) {
    for (number, cell) in cells.iter().enumerate() {
        if number > 0 {
            text.push(',');
        }
        if cell.contains([',', '"', '\n', '\r']) {
            // Writing to a String cannot fail.
            let _ = write!(text, "\"{}\"", cell.replace('"', "\"\""));
        } else {
            text.push_str(cell);
        }
    }
    text.push('\n');
}
