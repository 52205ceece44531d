//! Function names for a table.
//!
//! A demangled C++ or Rust name says the same thing several times over: the parameters repeat the declaration, the
//! template arguments the types, the path the project. They are left out in the order in which they are least missed,
//! and only as far as the width demands, so that a name that fits is shown as it is. What must survive is the last
//! component: it is what people search for in their source.

/// A function's name in at most `width` columns. Parameters go first, then template and generic arguments, then
/// leading path components; what still does not fit is cut, with `…` at its end.
pub fn short_name(name: &str, width: usize) -> String {
    let fits = |name: &str| name.chars().count() <= width;
    let mut short = without_decoration(name);
    for shorten in [without_parameters, without_arguments] {
        if fits(&short) {
            return short;
        }
        short = shorten(&short);
    }
    while !fits(&short) {
        match after_first_component(&short) {
            Some(rest) => short = rest.to_owned(),
            None => break,
        }
    }
    if fits(&short) {
        return short;
    }
    short.chars().take(width.saturating_sub(1)).chain((width > 0).then_some('…')).collect()
}

/// Without what compilers add: clone and ABI tags, unnamed namespaces, Rust's hash.
fn without_decoration(name: &str) -> String {
    let mut name = name.replace("(anonymous namespace)::", "").replace("[abi:cxx11]", "");
    for clone in [" [clone", " (.", "@"] {
        if let Some(at) = name.find(clone).filter(|&at| at > 0) {
            name.truncate(at);
        }
    }
    if let Some((path, hash)) = name.rsplit_once("::h")
        && hash.len() == 16
        && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
    {
        name.truncate(path.len());
    }
    name
}

/// Without the parameter list, what follows it (`const`), and the return type before a template's name.
fn without_parameters(name: &str) -> String {
    let pieces = Pieces::of(name);
    let mut end = name.len();
    let mut start = 0;
    for piece in pieces.0 {
        match piece.kind {
            Kind::Group if piece.text.starts_with('(') && piece.start > start => {
                end = piece.start;
                break;
            }
            Kind::Space => start = piece.start + 1,
            _ => {}
        }
    }
    let short = name[start.min(end)..end].trim();
    if short.is_empty() { name.to_owned() } else { short.to_owned() }
}

/// Without `<...>`; of Rust's `<Type as Trait>::method` the type stays.
fn without_arguments(name: &str) -> String {
    let mut short = String::new();
    for piece in Pieces::of(name).0 {
        match piece.kind {
            Kind::Group if piece.text.starts_with('<') => {
                let begins_path = short.is_empty() || short.ends_with(' ');
                if begins_path {
                    let inner = &piece.text[1..piece.text.len() - 1];
                    let own = inner.split_once(" as ").map_or(inner, |(own, _)| own);
                    short.push_str(&without_arguments(own));
                }
            }
            _ => short.push_str(piece.text),
        }
    }
    // Rust writes a turbofish before its arguments.
    short.replace("::::", "::").trim_end_matches("::").trim_start_matches("::").to_owned()
}

/// What follows the first `::` outside of brackets.
fn after_first_component(name: &str) -> Option<&str> {
    let pieces = Pieces::of(name);
    let separator = pieces.0.iter().find(|piece| matches!(piece.kind, Kind::Separator))?;
    name.get(separator.start + 2..).filter(|rest| !rest.is_empty())
}

enum Kind {
    /// Letters, digits, operators.
    Word,
    /// `::`
    Separator,
    /// A space outside of brackets.
    Space,
    /// A balanced `<...>`, `(...)`, `{...}` or `[...]`.
    Group,
}

struct Piece<'a> {
    kind: Kind,
    start: usize,
    text: &'a str,
}

/// A name cut at its outermost brackets, spaces and separators.
struct Pieces<'a>(Vec<Piece<'a>>);

impl<'a> Pieces<'a> {
    fn of(name: &'a str) -> Self {
        let mut pieces = Vec::new();
        let mut at = 0;
        while at < name.len() {
            let rest = &name[at..];
            let (kind, length) = next_piece(rest, name[..at].chars().next_back());
            pieces.push(Piece { kind, start: at, text: &rest[..length] });
            at += length;
        }
        Self(pieces)
    }
}

fn next_piece(rest: &str, before: Option<char>) -> (Kind, usize) {
    if rest.starts_with("::") {
        return (Kind::Separator, 2);
    }
    let starts_word = !before.is_some_and(|before| before.is_alphanumeric() || before == '_');
    if let Some(symbol) = rest.strip_prefix("operator").filter(|_| starts_word) {
        let length = operator_length(symbol);
        if length > 0 {
            return (Kind::Word, "operator".len() + length);
        }
    }
    let Some(first) = rest.chars().next() else { return (Kind::Word, 0) };
    match first {
        ' ' => (Kind::Space, 1),
        '<' | '(' | '{' | '[' => match group_length(rest) {
            Some(length) => (Kind::Group, length),
            None => (Kind::Word, 1),
        },
        _ => (Kind::Word, first.len_utf8()),
    }
}

/// The symbol of an overloaded operator, which may look like brackets: `operator()`, `operator<<`, `operator->`.
fn operator_length(symbol: &str) -> usize {
    if symbol.starts_with("()") || symbol.starts_with("[]") {
        return 2;
    }
    symbol.bytes().take_while(|byte| b"<>=!+-*/%^&|~,".contains(byte)).count()
}

/// Length of the bracketed group that `text` begins with; none if it does not close.
fn group_length(text: &str) -> Option<usize> {
    let mut open = Vec::new();
    let mut previous = 0;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'<' => open.push(b'>'),
            b'(' => open.push(b')'),
            b'{' => open.push(b'}'),
            b'[' => open.push(b']'),
            // The arrow of a Rust return type closes nothing.
            b'>' if previous == b'-' => {}
            b'>' | b')' | b'}' | b']' => {
                // An unmatched `<` was a comparison; it ends with the bracket around it.
                while byte != b'>' && open.last() == Some(&b'>') {
                    open.pop();
                }
                if open.pop() != Some(byte) {
                    return None;
                }
                if open.is_empty() {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
        previous = byte;
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_that_fits_is_left_alone() {
        assert_eq!(
            short_name("std::vector<int>::push_back(int const&)", 80),
            "std::vector<int>::push_back(int const&)"
        );
        assert_eq!(short_name("main", 4), "main");
    }

    #[test]
    fn decoration_always_goes() {
        assert_eq!(short_name("core::ptr::drop_in_place::h0123456789abcdef", 80), "core::ptr::drop_in_place");
        assert_eq!(short_name("(anonymous namespace)::Grid::step() [clone .cold]", 80), "Grid::step()");
        assert_eq!(short_name("f::hash", 80), "f::hash");
    }

    #[test]
    fn parameters_go_before_template_arguments_before_the_path() {
        let name = "void gapbs::Graph<int, int>::relabel(std::vector<int, std::allocator<int> > const&, bool) const";
        assert_eq!(short_name(name, 40), "gapbs::Graph<int, int>::relabel");
        assert_eq!(short_name(name, 25), "gapbs::Graph::relabel");
        assert_eq!(short_name(name, 20), "Graph::relabel");
        assert_eq!(short_name(name, 8), "relabel");
        assert_eq!(short_name(name, 5), "rela…");
        assert_eq!(short_name(name, 0), "");
    }

    #[test]
    fn rust_paths_keep_the_type() {
        let name = "<alloc::vec::Vec<T,A> as core::ops::index::Index<I>>::index";
        assert_eq!(short_name(name, 30), "alloc::vec::Vec::index");
        assert_eq!(
            short_name("alloc::vec::Vec<T>::with_capacity", 28),
            "alloc::vec::Vec::with_capacity".strip_prefix("alloc::").unwrap()
        );
        assert_eq!(short_name("app::run::<u64, fn(u8) -> u32>::inner", 20), "app::run::inner");
        assert_eq!(short_name("app::main::{{closure}}", 16), "main::{{closure}}".strip_prefix("main::").unwrap());
    }

    #[test]
    fn operators_are_not_brackets() {
        assert_eq!(short_name("std::ostream& ns::operator<<(std::ostream&, Big const&)", 20), "ns::operator<<");
        assert_eq!(short_name("Less<int>::operator()(int, int) const", 20), "Less::operator()");
        assert_eq!(short_name("Pointer<Node>::operator->() const", 22), "Pointer::operator->");
    }

    proptest! {
        #[test]
        fn any_name_fits_its_width(name in "[a-z:<>(){}\\[\\] &,*é-]{0,60}|operator[<>()=-]{0,5}.{0,20}", width in 0_usize..50) {
            prop_assert!(short_name(&name, width).chars().count() <= width);
        }
    }
}
