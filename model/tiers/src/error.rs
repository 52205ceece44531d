//! What is wrong with a tier file, where, and what to write instead.

use std::ops::Range;

/// A tier file, or a list of preset names, that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TiersError {
    /// A file, at a place.
    #[error("line {line}, column {column}: {message}")]
    File {
        /// From 1.
        line: usize,
        /// In characters, from 1.
        column: usize,
        /// What is wrong and what to write.
        message: String,
    },
    /// A list of presets.
    #[error("{0}")]
    Preset(String),
}

impl TiersError {
    /// A message about bytes of a text.
    pub(crate) fn at(text: &str, span: Range<usize>, message: impl Into<String>) -> Self {
        let mut start = span.start.min(text.len());
        while !text.is_char_boundary(start) {
            start -= 1;
        }
        let before = text.get(..start).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Self::File { line, column, message: message.into() }
    }
}

/// ` (did you mean X?)` for the known word nearest to a wrong one, else nothing.
pub(crate) fn did_you_mean<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    // Nothing known is that long; a distance to it would only cost time.
    if wrong.len() > 64 {
        return String::new();
    }
    let nearest = known.into_iter().map(|word| (distance(wrong, word), word)).min();
    match nearest {
        Some((edits, word)) if edits <= 1 + word.len() / 3 => format!("; did you mean `{word}`?"),
        _ => String::new(),
    }
}

/// Levenshtein distance, in bytes.
fn distance(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (index, a) in left.bytes().enumerate() {
        let mut diagonal = index;
        let mut previous = index + 1;
        for (slot, b) in row.iter_mut().skip(1).zip(right.bytes()) {
            let above = *slot;
            previous = (diagonal + usize::from(a != b)).min(above + 1).min(previous + 1);
            diagonal = above;
            *slot = previous;
        }
        if let Some(first) = row.first_mut() {
            *first = index + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_of_words_is_that_of_levenshtein() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", ""), 3);
        assert_eq!(distance("same", "same"), 0);
    }

    #[test]
    fn only_a_near_word_is_suggested() {
        let known = ["read_latency_ns", "capacity"];
        assert_eq!(did_you_mean("read_latancy_ns", known), "; did you mean `read_latency_ns`?");
        assert_eq!(did_you_mean("colour", known), "");
    }

    #[test]
    fn a_place_counts_characters_and_stays_inside_the_text() {
        let place = |start| match TiersError::at("é=1\nüü=2\n", start..start, "") {
            TiersError::File { line, column, .. } => (line, column),
            TiersError::Preset(_) => (0, 0),
        };
        assert_eq!(place(0), (1, 1));
        assert_eq!(place(2), (1, 2));
        assert_eq!(place(1), (1, 1));
        assert_eq!(place(7), (2, 2));
        assert_eq!(place(999), (3, 1));
    }
}
