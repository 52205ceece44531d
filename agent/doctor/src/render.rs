//! The report as text: one line per check, more only where something is wrong.

use crate::check::{Area, Check, Report, Status};

/// Two spaces, the status, two spaces, the title, two spaces.
const STATUS: usize = 7;
const TITLE: usize = 18;
const INDENT: usize = 2 + STATUS + 2;
const FINDING: usize = INDENT + TITLE + 2;
/// Below this nothing is readable; the terminal wraps by itself.
const NARROWEST: usize = 60;

impl Report {
    /// Text of at most `width` columns (commands to be pasted excepted: they are not broken), in colour if asked.
    pub fn render(&self, width: usize, color: bool) -> String {
        let width = width.max(NARROWEST);
        let mut lines = wrap(&self.summary(), width);
        let mut area = None;
        for check in &self.checks {
            if area != Some(check.area) {
                area = Some(check.area);
                lines.push(String::new());
                lines.push(paint(heading(check.area), "1", color));
            }
            lines.extend(render(check, width, color));
        }
        lines.iter().map(|line| format!("{}\n", line.trim_end())).collect()
    }

    /// One sentence that answers the question.
    fn summary(&self) -> String {
        let attention = self.checks.iter().filter(|check| check.status != Status::Ok).count();
        let checks = match attention {
            0 => format!("All {} checks are well.", self.checks.len()),
            _ => format!("{attention} of {} checks are limited or missing.", self.checks.len()),
        };
        match (self.can_record, self.samplers[..].split_last()) {
            (true, Some((only, []))) => format!("Tierscope can record here, with the {only} sampler. {checks}"),
            (true, Some((last, others))) => {
                format!("Tierscope can record here, with the {} and {last} samplers. {checks}", others.join(", "))
            }
            (false, Some(_)) => format!("Tierscope cannot record this program: see what is missing below. {checks}"),
            (_, None) => format!("Tierscope cannot record here: see what is missing below. {checks}"),
        }
    }
}

fn heading(area: Area) -> &'static str {
    match area {
        Area::Target => "The program",
        Area::Sampling => "Sampling: where samples come from",
        Area::Attach => "Reaching into programs",
        Area::Tiers => "Kinds of memory",
        Area::Pages => "Watching and moving pages",
        Area::Host => "This machine",
    }
}

fn render(check: &Check, width: usize, color: bool) -> Vec<String> {
    let (word, code) = match check.status {
        Status::Ok => ("ok", "32"),
        Status::Limited => ("limited", "33"),
        Status::Missing => ("missing", "31"),
    };
    let mut finding = wrap_list(&check.finding, width - FINDING).into_iter();
    let status = paint(&format!("{word:STATUS$}"), code, color);
    let first = finding.next().unwrap_or_default();
    let mut lines = vec![format!("  {status}  {:TITLE$}  {first}", check.title)];
    lines.extend(finding.map(|line| format!("{:FINDING$}{line}", "")));
    if check.status != Status::Ok {
        lines.extend(wrap(&check.meaning, width - INDENT).iter().map(|line| format!("{:INDENT$}{line}", "")));
    }
    let command = check.mend.iter().map(|command| format!("{:INDENT$}$ {}", "", paint(command, "36", color)));
    lines.extend(command);
    lines
}

fn paint(text: &str, code: &str, color: bool) -> String {
    if color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

/// As [`wrap`], but a list (`...; ...`) that needs more than one line has a line for each of its members.
fn wrap_list(text: &str, width: usize) -> Vec<String> {
    if text.chars().count() <= width {
        return vec![text.to_owned()];
    }
    text.split_inclusive("; ").flat_map(|member| wrap(member, width)).collect()
}

/// Break at spaces into lines of at most `width` columns; a longer word has a line of its own.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
