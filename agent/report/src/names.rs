//! What an object is called in a table: short enough to stand in a column, long enough to be recognised.
//!
//! A C++ or Rust name spends most of its length on template arguments and parameters, which say least. They go first, and
//! only where the full name does not fit; then the end goes, under an ellipsis.

use tierscope_model::summary::{Frame, Function, ObjectSummary, Part};
use tierscope_traces::ObjectKind;

use crate::text::{fit, printable, width};

/// The name of an object in at most `columns`: what it is, and where its code is as far as there is room.
pub(crate) fn object(object: &ObjectSummary, columns: usize) -> String {
    let part = object.part.as_ref().map(Part::label).filter(|label| !label.is_empty());
    let bare =
        printable(part.as_ref().and_then(|label| object.name.strip_suffix(label.as_str())).unwrap_or(&object.name));
    let bare = bare.trim_end();
    let place = place(object);
    // From most to least: the first that fits is shown.
    let tail = |with_place: bool| {
        let place = place.as_ref().filter(|_| with_place);
        [part.as_ref(), place].into_iter().flatten().map(|text| format!(" {text}")).collect::<String>()
    };
    let short = shorten(bare);
    let candidates = [(bare, true), (short.as_str(), true), (short.as_str(), false)];
    for (name, with_place) in candidates {
        let tail = tail(with_place);
        if width(name) + width(&tail) <= columns {
            return format!("{name}{tail}");
        }
    }
    // What tells it from its siblings stays, whatever the name loses.
    let tail = tail(false);
    match columns.checked_sub(width(&tail)).filter(|&room| room >= 8) {
        Some(room) => fit(&short, room) + &tail,
        None => fit(&short, columns),
    }
}

/// `bc.cc:88` of the frame people recognise, or the module of a global.
pub(crate) fn place(object: &ObjectSummary) -> Option<String> {
    if object.kind != ObjectKind::Heap {
        let module = object.module.as_deref()?;
        return Some(printable(module.rsplit('/').next().unwrap_or(module)));
    }
    let (_, frame) = object.user_frame()?;
    frame.function().map(|function| function_place(frame, function))
}

fn function_place(frame: &Frame, function: &Function) -> String {
    printable(&function.place().unwrap_or_else(|| frame.module_name().to_owned()))
}

/// A frame in at most `columns`: `BrandesBC bc.cc:88`, or `bc+0x1a2b` without a symbol.
pub(crate) fn frame(frame: &Frame, columns: usize) -> String {
    let Some(function) = frame.function() else { return fit(&printable(&frame.location()), columns) };
    let place = format!(" {}", function_place(frame, function));
    let name = printable(&function.name);
    let room = columns.saturating_sub(width(&place));
    if width(&name) <= room {
        return name + &place;
    }
    let short = shorten(&name);
    if room >= 12 { fit(&short, room) + &place } else { fit(&short, columns) }
}

/// Without template arguments and parameters: `Graph<int, (lambda)>::build(std::string const&)` is `Graph<…>::build`.
pub(crate) fn shorten(name: &str) -> String {
    let without_parameters = name.strip_suffix(" const").unwrap_or(name);
    let without_parameters = match without_parameters.strip_suffix(')').and_then(|_| last_open(without_parameters)) {
        // `(anonymous namespace)::f` keeps its beginning, `operator()` its name.
        Some(open) if open > 0 && !without_parameters[..open].ends_with("operator") => &without_parameters[..open],
        _ => name,
    };
    let mut short = String::new();
    let mut depth = 0usize;
    for (at, c) in without_parameters.char_indices() {
        let is_operator = without_parameters[..at].trim_end_matches(['<', '>', '-', '=']).ends_with("operator");
        match c {
            // A leading `<Type as Trait>::method` of Rust says who it is about: only its inside is shortened.
            '<' if at == 0 => short.push(c),
            '<' if !is_operator => {
                if depth == 0 {
                    short.push_str("<…>");
                }
                depth += 1;
            }
            '>' if depth > 0 && !is_operator && !without_parameters[..at].ends_with('-') => depth -= 1,
            _ if depth == 0 => short.push(c),
            _ => {}
        }
    }
    short
}

/// Where the parenthesis that closes at the end was opened.
fn last_open(name: &str) -> Option<usize> {
    let mut depth = 0usize;
    for (at, c) in name.char_indices().rev() {
        match c {
            ')' => depth += 1,
            '(' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_and_parameters_go_and_the_rest_stays() {
        for (full, short) in [
            ("main", "main"),
            ("std::vector<int, std::allocator<int> >::push_back(int const&)", "std::vector<…>::push_back"),
            ("(anonymous namespace)::build(Graph const&, int)", "(anonymous namespace)::build"),
            ("Matrix::operator()(int, int) const", "Matrix::operator()"),
            ("Stream::operator<<(int)", "Stream::operator<<"),
            (
                "<gap::Graph as core::iter::FromIterator<u32>>::from_iter",
                "<gap::Graph as core::iter::FromIterator<…>>::from_iter",
            ),
            ("unbalanced>>)(", "unbalanced>>)("),
            ("a<b<c", "a<…>"),
        ] {
            assert_eq!(shorten(full), short);
        }
    }
}
