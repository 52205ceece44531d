//! The next command, ready to be copied.

use tierscope_model::advice::{Goal, Ranker};

use super::AdviceReport;
use crate::text::printable;

/// What carries the advice out; or, where no policy was written, what writes one.
pub(super) fn next(shown: &AdviceReport<'_>) -> String {
    if let Some(next) = shown.next {
        return next.to_owned();
    }
    if let Some(policy) = shown.policy {
        let command: Vec<String> = shown.report.meta.program.command.iter().map(|text| shell_word(text)).collect();
        let command = if command.is_empty() { "CMD".to_owned() } else { command.join(" ") };
        return format!("tierscope run --policy {} -- {command}", shell_word(&policy.to_string_lossy()));
    }
    let goal = match shown.advice.goal {
        Goal::FastBytes(bytes) => format!("--fast {}", exact(bytes)),
        Goal::FastFraction(part) => format!("--fast {}", percent(part)),
        Goal::MaxSlowdown { limit, .. } => format!("--max-slowdown {}", percent(limit)),
    };
    let ranker = match shown.advice.asked {
        Ranker::Model => String::new(),
        other => format!(" --ranker {other}"),
    };
    let profile = shown.report.path.to_string_lossy();
    let name = profile.trim_end_matches('/').trim_end_matches(".tsp");
    let name = name.rsplit('/').next().unwrap_or(name);
    let options: String = shown.options.iter().map(|option| format!(" {}", shell_word(option))).collect();
    format!(
        "tierscope advise {} {goal}{options}{ranker} -o {}",
        shell_word(&profile),
        shell_word(&format!("{name}.policy.toml"))
    )
}

/// `7%`, without the traces that multiplying leaves.
fn percent(part: f64) -> String {
    format!("{}%", (part * 1e8).round() / 1e6)
}

/// A word of a command line, quoted where a shell would read it otherwise; without what a terminal would not show.
#[must_use]
pub fn shell_word(text: &str) -> String {
    let text = printable(text);
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-+=/:,@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

/// Bytes to the byte, in the largest unit that divides them.
fn exact(bytes: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    let unit = units.into_iter().find(|(shift, _)| bytes > 0 && bytes.trailing_zeros() >= *shift);
    unit.map_or_else(|| bytes.to_string(), |(shift, unit)| format!("{}{unit}", bytes >> shift))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_a_shell_and_numbers_are_exact() {
        assert_eq!([percent(0.07), percent(0.125), percent(1.0)], ["7%", "12.5%", "100%"]);
        assert_eq!(shell_word("./bc"), "./bc");
        assert_eq!(shell_word("a b"), "'a b'");
        assert_eq!(shell_word("it's"), "'it'\\''s'");
        assert_eq!(shell_word(""), "''");
        assert_eq!(shell_word("a\u{1b}[2Jb"), "'a\u{fffd}[2Jb'");
        assert_eq!([exact(0), exact(1 << 32), exact(5 << 20), exact(4097)], ["0", "4GiB", "5MiB", "4097"]);
    }
}
