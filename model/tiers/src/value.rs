//! A parsed TOML document with the place of everything in it, and the reading of single values.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::error::{TiersError, did_you_mean};
use crate::size::bytes_of;

pub(crate) type Item<'a> = Spanned<DeValue<'a>>;

/// A table of a file, with the text it came from for the places of errors.
#[derive(Clone, Copy)]
pub(crate) struct Table<'a> {
    pub(crate) text: &'a str,
    pub(crate) table: &'a DeTable<'a>,
}

impl<'a> Table<'a> {
    pub(crate) fn error(&self, span: Range<usize>, message: impl Into<String>) -> TiersError {
        TiersError::at(self.text, span, message)
    }

    pub(crate) fn get(&self, key: &str) -> Option<&'a Item<'a>> {
        self.table.get(key)
    }

    /// Entries in the order of the file.
    pub(crate) fn in_order(&self) -> Vec<(&'a str, Range<usize>, &'a Item<'a>)> {
        let mut entries: Vec<_> = self.table.iter().map(|(key, item)| (&**key.get_ref(), key.span(), item)).collect();
        entries.sort_by_key(|(_, span, _)| span.start);
        entries
    }

    /// Refuse keys that mean nothing here.
    pub(crate) fn only(&self, known: &[&str], of: &str) -> Result<(), TiersError> {
        for (key, span, _) in self.in_order() {
            if !known.contains(&key) {
                let near = did_you_mean(key, known.iter().copied());
                let all = if near.is_empty() { format!("; there are: {}", known.join(", ")) } else { near };
                return Err(self.error(span, format!("`{}` is no key of {of}{all}", clipped(key))));
            }
        }
        Ok(())
    }

    pub(crate) fn inner(&self, item: &'a Item<'a>) -> Option<Self> {
        item.get_ref().as_table().map(|table| Self { text: self.text, table })
    }

    /// A text that is there and not empty.
    pub(crate) fn string(&self, key: &str) -> Result<Option<String>, TiersError> {
        let Some(item) = self.get(key) else { return Ok(None) };
        match item.get_ref().as_str() {
            Some(text) if !text.trim().is_empty() => Ok(Some(text.to_owned())),
            Some(_) => Err(self.error(item.span(), format!("`{key}` is empty: write a text, or leave it out"))),
            None => Err(self.mistyped(item, key, "a text in quotes")),
        }
    }

    pub(crate) fn boolean(&self, key: &str) -> Result<Option<bool>, TiersError> {
        let Some(item) = self.get(key) else { return Ok(None) };
        item.get_ref().as_bool().map(Some).ok_or_else(|| self.mistyped(item, key, "true or false"))
    }

    /// Whole numbers up to `largest`.
    pub(crate) fn numbers(&self, key: &str, largest: u32) -> Result<Option<Vec<u32>>, TiersError> {
        let Some(item) = self.get(key) else { return Ok(None) };
        let wanted = "a list of whole numbers such as [0, 1]";
        let list = item.get_ref().as_array().ok_or_else(|| self.mistyped(item, key, wanted))?;
        let one = |member: &Item<'_>| {
            let number = integer(member.get_ref()).and_then(|number| u32::try_from(number).ok());
            number.filter(|&number| number <= largest).ok_or_else(|| {
                self.error(member.span(), format!("a member of `{key}` must be a whole number from 0 to {largest}"))
            })
        };
        list.iter().map(one).collect::<Result<_, _>>().map(Some)
    }

    pub(crate) fn mistyped(&self, item: &Item<'_>, key: &str, wanted: &str) -> TiersError {
        let kind = item.get_ref().type_str();
        self.error(item.span(), format!("`{key}` is of type {kind}: write {wanted}"))
    }
}

fn integer(value: &DeValue<'_>) -> Option<i64> {
    let integer = value.as_integer()?;
    i64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

/// A finite number, written as one or, where `sizes`, as text with a unit of bytes.
pub(crate) fn number(value: &DeValue<'_>, sizes: bool) -> Option<f64> {
    if let Some(text) = value.as_str() {
        return sizes.then(|| bytes_of(text)).flatten().map(|bytes| bytes as f64);
    }
    let number = match value.as_float() {
        Some(float) => float.as_str().parse().ok()?,
        None => integer(value)? as f64,
    };
    Some(number).filter(|number: &f64| number.is_finite())
}

/// What a file says, short enough for a message.
pub(crate) fn clipped(text: &str) -> String {
    let short: String = text.chars().filter(|letter| !letter.is_control()).take(40).collect();
    if short.len() < text.len() { format!("{short}...") } else { short }
}

/// Whether a text is `YYYY`, `YYYY-MM` or `YYYY-MM-DD` with a month and day there can be.
pub(crate) fn is_date(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let fits = |part: &str, length: usize, range: Range<u32>| {
        part.len() == length
            && part.bytes().all(|digit| digit.is_ascii_digit())
            && part.parse().is_ok_and(|n| range.contains(&n))
    };
    match parts.as_slice() {
        [year] => fits(year, 4, 1900..2200),
        [year, month] => fits(year, 4, 1900..2200) && fits(month, 2, 1..13),
        [year, month, day] => fits(year, 4, 1900..2200) && fits(month, 2, 1..13) && fits(day, 2, 1..32),
        _ => false,
    }
}
