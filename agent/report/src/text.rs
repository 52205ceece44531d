//! Text from elsewhere on a terminal of limited width.
//!
//! A name may hold anything: escape sequences that recolour or retitle the terminal, carriage returns, overrides of the
//! writing direction, joiners that make three emoji one on some terminals and three on others. [`printable`] replaces
//! every character that is not simply drawn where it stands, so that afterwards the width of a text is the sum of the widths
//! of its characters, on every terminal, and cutting it at any character is safe.

use unicode_width::UnicodeWidthChar;

/// The text with everything that would not simply be drawn replaced by U+FFFD, one for a run of such characters.
#[must_use]
pub fn printable(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut replaced = false;
    for c in text.chars() {
        if is_drawn(c) {
            clean.push(c);
        } else if !replaced {
            clean.push(char::REPLACEMENT_CHARACTER);
        }
        replaced = !is_drawn(c);
    }
    clean
}

/// Characters of width zero are combining marks, joiners, selectors and direction controls: none of them stands alone.
fn is_drawn(c: char) -> bool {
    !c.is_control() && c.width().is_some_and(|width| width > 0) && !matches!(c, '\u{2028}' | '\u{2029}' | '\u{ad}')
}

/// Columns that a printable text takes.
pub(crate) fn width(text: &str) -> usize {
    text.chars().map(|c| c.width().unwrap_or(0)).sum()
}

/// At most `columns` wide; what is cut is marked by an ellipsis at the end.
pub(crate) fn fit(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut kept = String::new();
    let mut used = 1;
    for c in text.chars() {
        used += c.width().unwrap_or(0);
        if used > columns {
            break;
        }
        kept.push(c);
    }
    if columns > 0 {
        kept.push('…');
    }
    kept
}

/// Filled up with spaces on the right.
pub(crate) fn left(text: &str, columns: usize) -> String {
    format!("{text}{}", " ".repeat(columns.saturating_sub(width(text))))
}

/// Filled up with spaces on the left.
pub(crate) fn right(text: &str, columns: usize) -> String {
    format!("{}{text}", " ".repeat(columns.saturating_sub(width(text))))
}

/// Words in lines of at most `columns`, each but the first indented; a word that is too long for a line is cut.
pub(crate) fn wrap(text: &str, columns: usize, indent: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut line = String::new();
    // A number is not parted from its percent sign.
    let text = text.replace(" %", "\u{a0}%");
    for (place, word) in text.split(' ').enumerate() {
        let begins = line.trim_start().is_empty();
        if !begins && width(&line) + 1 + width(word) > columns {
            lines.push(std::mem::replace(&mut line, " ".repeat(indent)));
        } else if place > 0 && (!begins || lines.is_empty()) {
            // Leading spaces of the first line are the caller's layout.
            line.push(' ');
        }
        line.push_str(&fit(word, columns.saturating_sub(width(&line)).max(1)));
    }
    lines.push(line);
    lines.iter().map(|line| line.replace('\u{a0}', " ")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_moves_the_cursor_survives() {
        assert_eq!(printable("a\u{1b}[31mb\r\n\tc\u{9b}d"), "a\u{fffd}[31mb\u{fffd}c\u{fffd}d");
        assert_eq!(printable("a\u{202e}b\u{200d}c\u{2028}d\u{7f}"), "a\u{fffd}b\u{fffd}c\u{fffd}d\u{fffd}");
        assert_eq!(printable("größe 表 🦀"), "größe 表 🦀");
    }

    #[test]
    fn a_fitted_text_is_never_wider_than_asked() {
        for text in ["", "a", "表表表表", "🦀🦀🦀", "plain text"] {
            for columns in 0..12 {
                assert!(width(&fit(text, columns)) <= columns, "{text} in {columns}");
            }
        }
        assert_eq!(fit("表表表", 4), "表…");
    }

    #[test]
    fn wrapped_lines_keep_to_their_width() {
        let lines = wrap("one two three four five sixsixsixsixsix", 12, 2);
        assert_eq!(lines, ["one two", "  three four", "  five", "  sixsixsix…"]);
    }
}
