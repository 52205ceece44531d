//! A table of a file, and the reading of single values out of it. Every reader reports what is wrong and answers `None`.

use std::cell::{Cell, RefCell};
use std::ops::Range;

use tierscope_tiers::bytes_of;
use toml_edit::{Item, TableLike, Value};

use crate::error::{PolicyError, PolicyErrors, clipped, nearest};

/// The most mistakes that are kept.
const MAX_ERRORS: usize = 50;

/// The text and what was found wrong with it so far.
pub(super) struct Reader<'a> {
    text: &'a str,
    errors: RefCell<Vec<(usize, PolicyError)>>,
    more: Cell<usize>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Reader { text, errors: RefCell::default(), more: Cell::default() }
    }

    pub(super) fn error(&self, span: Range<usize>, reason: String, instead: Option<String>) {
        let mut errors = self.errors.borrow_mut();
        if errors.len() == MAX_ERRORS {
            self.more.set(self.more.get() + 1);
            return;
        }
        errors.push((span.start, PolicyError::new(self.text, span, reason, instead)));
    }

    /// Reports a name that is none of those there are.
    pub(super) fn unknown(&self, span: Range<usize>, what: &str, name: &str, known: &[&str]) {
        let instead = match nearest(name, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None if known.is_empty() => format!("there is no {what} in this file"),
            None => format!("there are: {}", known.join(", ")),
        };
        self.error(span, format!("`{}` is no {what}", clipped(name)), Some(instead));
    }

    pub(super) fn is_clean(&self) -> bool {
        self.errors.borrow().is_empty()
    }

    /// Line of a place, from 1.
    pub(super) fn line(&self, at: usize) -> usize {
        self.text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
    }

    pub(super) fn finish(self) -> PolicyErrors {
        let mut errors = self.errors.into_inner();
        errors.sort_by_key(|(at, _)| *at);
        PolicyErrors { errors: errors.into_iter().map(|(_, error)| error).collect(), more: self.more.get() }
    }
}

/// A table.
pub(super) struct Section<'a> {
    pub(super) reader: &'a Reader<'a>,
    pub(super) table: &'a dyn TableLike,
    /// Its header, for what is missing.
    pub(super) span: Range<usize>,
    /// What messages call it.
    pub(super) called: String,
}

impl<'a> Section<'a> {
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.get(key).is_some_and(|item| !item.is_none())
    }

    /// The keys in the order of the file, with their places.
    pub(super) fn keys(&self) -> Vec<(String, Range<usize>)> {
        self.table.iter().map(|(key, _)| (key.to_owned(), self.key_span(key))).collect()
    }

    pub(super) fn key_span(&self, key: &str) -> Range<usize> {
        let own = self.table.key(key).and_then(|key| key.span());
        own.or_else(|| self.table.get(key).and_then(Item::span)).unwrap_or_else(|| self.span.clone())
    }

    pub(super) fn value_span(&self, key: &str) -> Range<usize> {
        self.table.get(key).and_then(Item::span).unwrap_or_else(|| self.key_span(key))
    }

    /// Refuses keys that mean nothing here.
    pub(super) fn only(&self, known: &[&str]) {
        for (key, span) in self.keys() {
            if !known.contains(&key.as_str()) {
                self.reader.unknown(span, &format!("key of {}", self.called), &key, known);
            }
        }
    }

    fn mistyped(&self, key: &str, wanted: &str) {
        let kind = self.table.get(key).map_or("nothing", Item::type_name);
        self.reader.error(self.value_span(key), format!("`{key}` is of type {kind}"), Some(format!("write {wanted}")));
    }

    /// A table inside; none where there is none.
    pub(super) fn section(&self, key: &str, called: &str) -> Option<Section<'a>> {
        let item = self.table.get(key).filter(|item| !item.is_none())?;
        let Some(table) = item.as_table_like() else {
            self.mistyped(key, &format!("a table `{called}`"));
            return None;
        };
        let span = item.span().unwrap_or_else(|| self.key_span(key));
        Some(Section { reader: self.reader, table, span, called: format!("`{called}`") })
    }

    /// A text that is not empty.
    pub(super) fn text(&self, key: &str) -> Option<(String, Range<usize>)> {
        let item = self.table.get(key)?;
        let span = self.value_span(key);
        match item.as_str() {
            Some(text) if text.trim().is_empty() => {
                let instead = "write a text, or leave the key out";
                self.reader.error(span, format!("`{key}` is empty"), Some(instead.into()));
                None
            }
            Some(text) if text.contains('\0') => {
                self.reader.error(span, format!("`{key}` has a zero byte in it"), Some("leave it out".into()));
                None
            }
            Some(text) => Some((text.to_owned(), span)),
            None => {
                self.mistyped(key, "a text in quotes");
                None
            }
        }
    }

    pub(super) fn boolean(&self, key: &str) -> Option<bool> {
        let item = self.table.get(key)?;
        let boolean = item.as_bool();
        if boolean.is_none() {
            self.mistyped(key, "true or false");
        }
        boolean
    }

    /// A whole number up to `largest`.
    pub(super) fn whole(&self, key: &str, largest: u64) -> Option<u64> {
        let item = self.table.get(key)?;
        let number =
            item.as_integer().and_then(|number| u64::try_from(number).ok()).filter(|number| *number <= largest);
        if number.is_none() {
            let instead = format!("write a whole number from 0 to {largest}");
            self.reader.error(self.value_span(key), format!("`{key}` cannot be this"), Some(instead));
        }
        number
    }

    pub(super) fn number(&self, key: &str) -> Option<f64> {
        let item = self.table.get(key)?;
        let found = item.as_value().and_then(number);
        if found.is_none() {
            self.mistyped(key, "a number, such as 0.041");
        }
        found
    }

    /// Bytes: a text with a unit, or a whole number.
    pub(super) fn bytes(&self, key: &str) -> Option<u64> {
        let item = self.table.get(key)?;
        let bytes = match item.as_str() {
            Some(text) => bytes_of(text),
            None => item.as_integer().and_then(|number| u64::try_from(number).ok()),
        };
        if bytes.is_none() {
            let instead = "write a size such as \"4 GiB\", \"512 MiB\" or 4096";
            self.reader.error(self.value_span(key), format!("`{key}` is no number of bytes"), Some(instead.into()));
        }
        bytes
    }

    /// The members of a list.
    pub(super) fn list(&self, key: &str, example: &str) -> Option<Vec<&'a Value>> {
        let item = self.table.get(key)?;
        let list = item.as_array().map(|array| array.iter().collect());
        if list.is_none() {
            self.mistyped(key, &format!("a list such as {example}"));
        }
        list
    }

    /// The members of a list of texts, with their places; what is no text is reported and left out.
    pub(super) fn texts(&self, key: &str, example: &str) -> Option<Vec<(&'a str, Range<usize>)>> {
        let list = self.list(key, example)?;
        let one = |value: &'a Value| {
            let span = value.span().unwrap_or_else(|| self.value_span(key));
            if value.as_str().is_none() {
                let reason = format!("a member of `{key}` is of type {}", value.type_name());
                self.reader.error(span.clone(), reason, Some(format!("write a list such as {example}")));
            }
            value.as_str().map(|text| (text, span))
        };
        Some(list.into_iter().filter_map(one).collect())
    }

    /// Whole numbers in a range; anything else is reported and left out.
    pub(super) fn numbers(&self, key: &str, range: std::ops::RangeInclusive<u16>) -> Option<Vec<u16>> {
        let list = self.list(key, "[0, 1]")?;
        let one = |value: &&Value| {
            let number = value.as_integer().and_then(|number| u16::try_from(number).ok());
            let number = number.filter(|number| range.contains(number));
            if number.is_none() {
                let span = value.span().unwrap_or_else(|| self.value_span(key));
                let instead = format!("write whole numbers from {} to {}", range.start(), range.end());
                self.reader.error(span, format!("a member of `{key}` cannot be this"), Some(instead));
            }
            number
        };
        Some(list.iter().filter_map(one).collect())
    }
}

/// A finite number.
pub(super) fn number(value: &Value) -> Option<f64> {
    let number = value.as_float().or_else(|| value.as_integer().map(|whole| whole as f64));
    number.filter(|number| number.is_finite())
}
