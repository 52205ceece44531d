//! What is wrong with a policy file: every mistake with its place, a piece of the file, and what to write instead.

use std::fmt;
use std::ops::Range;

/// Characters of a line that are shown.
const WIDTH: usize = 100;

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {reason}\n{excerpt}{}", help(.instead))]
pub struct PolicyError {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// The line with a caret under the place; no line feed at the end.
    pub excerpt: String,
    /// What is wrong.
    pub reason: String,
    /// What to write instead, where that is known.
    pub instead: Option<String>,
}

fn help(instead: &Option<String>) -> String {
    instead.as_ref().map(|instead| format!("\n  help: {instead}")).unwrap_or_default()
}

impl PolicyError {
    pub(crate) fn new(text: &str, span: Range<usize>, reason: String, instead: Option<String>) -> Self {
        let start = floor(text, span.start);
        let before = text.get(..start).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = before.matches('\n').count() + 1;
        let content = text.get(line_start..).unwrap_or_default().lines().next().unwrap_or_default();
        let column = before.get(line_start..).unwrap_or_default().chars().count();
        let inside = text.get(start..floor(text, span.end)).unwrap_or_default();
        let length = inside.lines().next().unwrap_or_default().chars().count().max(1);
        PolicyError { line, column: column + 1, excerpt: excerpt(line, content, column, length), reason, instead }
    }
}

/// The nearest start of a character at or before a place.
fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// A line with a caret; of a long line the part around the place.
fn excerpt(line: usize, content: &str, column: usize, length: usize) -> String {
    let skipped = if column < WIDTH - 20 { 0 } else { column - WIDTH / 2 };
    let shown: String = content
        .chars()
        .skip(skipped)
        .take(WIDTH)
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect();
    let carets = length.min(WIDTH.saturating_sub(column - skipped)).max(1);
    let (number, indent) = (format!("{line:>5}"), " ".repeat(column - skipped));
    let shown = shown.trim_end();
    let first = if shown.is_empty() { format!("{number} |") } else { format!("{number} | {shown}") };
    format!("{first}\n      | {indent}{}", "^".repeat(carets))
}

/// Everything that is wrong with a file, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyErrors {
    /// The mistakes, at least one.
    pub errors: Vec<PolicyError>,
    /// How many more there are than are kept.
    pub more: usize,
}

impl std::error::Error for PolicyErrors {}

impl fmt::Display for PolicyErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            let gap = if index == 0 { "" } else { "\n" };
            write!(f, "{gap}{error}")?;
        }
        if self.more > 0 {
            write!(f, "\nand {} more", self.more)?;
        }
        Ok(())
    }
}

/// The known word nearest to a wrong one, if it is near.
pub(crate) fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Nothing known is that long; a distance to it would only cost time.
    if wrong.len() > 64 {
        return None;
    }
    let (edits, word) = known.into_iter().map(|word| (distance(wrong, word), word)).min()?;
    (edits <= 1 + word.len() / 3).then_some(word)
}

/// Edits (Levenshtein) between two words, in bytes.
fn distance(left: &str, right: &str) -> usize {
    let mut costs: Vec<usize> = (0..=right.len()).collect();
    for (done, a) in left.bytes().enumerate() {
        let mut corner = done;
        let mut beside = done + 1;
        for (cost, b) in costs.iter_mut().skip(1).zip(right.bytes()) {
            beside = (corner + usize::from(a != b)).min(*cost + 1).min(beside + 1);
            corner = std::mem::replace(cost, beside);
        }
        if let Some(first) = costs.first_mut() {
            *first = done + 1;
        }
    }
    costs.last().copied().unwrap_or_default()
}

/// What a file says, short enough for a message.
pub(crate) fn clipped(text: &str) -> String {
    let mut letters = text.chars().map(|letter| if letter.is_control() { ' ' } else { letter });
    let short: String = letters.by_ref().take(60).collect();
    if letters.next().is_some() { format!("{short}...") } else { short }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_counts_characters_and_stays_inside_the_text() {
        let text = "é=1\nüü=2\n";
        let place = |start| {
            let error = PolicyError::new(text, start..start + 1, String::new(), None);
            (error.line, error.column)
        };
        assert_eq!((place(0), place(1), place(2), place(7), place(999)), ((1, 1), (1, 1), (1, 2), (2, 2), (3, 1)));
    }

    #[test]
    fn a_long_line_is_shown_around_the_place() {
        let text = format!("key = \"{}\" # {}", "a".repeat(300), "b".repeat(300));
        let error = PolicyError::new(&text, 200..400, "wrong".into(), None);
        let lines: Vec<&str> = error.excerpt.lines().collect();
        assert!(lines.iter().all(|line| line.chars().count() <= WIDTH + 8), "{}", error.excerpt);
        assert!(lines[1].ends_with('^'));
    }

    #[test]
    fn only_a_near_word_is_suggested() {
        assert_eq!(nearest("capcity", ["nodes", "capacity"]), Some("capacity"));
        assert_eq!(nearest("colour", ["nodes", "capacity"]), None);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
