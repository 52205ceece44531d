//! What `tierscope eval --program` says: why nothing is worth placing, or how every ranker places.

use super::program::{Abstention, Labelled, Objects};
use serde_json::{Value, json};
use tierscope_rank::evaluate::BUDGETS;
use tierscope_rank::{Evaluation, Predicted, Ranker, Row, Table};
use tierscope_report::{bytes, percent, printable};

const SCHEMA: &str = "tierscope.eval-program/1";

/// Objects that are shown to people.
const MOST_SHOWN: usize = 12;

/// Characters of an object's name that are shown.
const NAME: usize = 30;

/// What came of a pair of tiers.
pub(super) struct Judged {
    pub(super) tiers: String,
    /// The pair's rows and sets.
    pub(super) own: Table,
    /// By family: how rankers placed, and what the model said of each row.
    pub(super) evaluations: Vec<(Evaluation, Vec<Option<Predicted>>)>,
}

impl Objects {
    /// `37 objects that can be placed, 2.1 MiB in all, the largest 512 KiB; the last-level cache holds 48 MiB`.
    fn tell(&self) -> String {
        format!(
            "{} that can be placed, {} in all, the largest {}; the modelled last-level cache holds {}",
            if self.count == 1 { "one object".to_owned() } else { format!("{} objects", self.count) },
            bytes(self.bytes),
            bytes(self.largest_bytes),
            bytes(self.llc_bytes as f64)
        )
    }

    fn to_json(self) -> Value {
        json!({ "objects": self.count, "bytes": self.bytes, "largest_bytes": self.largest_bytes, "llc_bytes": self.llc_bytes })
    }
}

impl Abstention {
    /// For people.
    pub(super) fn tell(&self, program: &str) -> String {
        let why = match self {
            Self::NoSamples { seconds } => format!(
                "it ran for {seconds:.3} s and no sample was taken, so nothing is known of it. A longer run is, or --rate with more samples a second"
            ),
            Self::NothingMovable { objects } => format!(
                "of its {objects} objects none can be placed: policies name heap objects with a call stack, and globals of a page and more"
            ),
            Self::NoMisses(objects) => format!("none of them reaches memory: it has {}", objects.tell()),
            Self::Cheap { objects, slowdown, tiers } => format!(
                "with each of them alone in slow memory ({tiers}) it would be {:.2} % slower, all added up, and under 1 % nothing is worth a policy. It has {}",
                slowdown * 100.0,
                objects.tell()
            ),
            Self::One { name, bytes: size, slowdown, tiers } => format!(
                "one object alone reaches memory, {} of {}, which in slow memory ({tiers}) costs {:.1} %: there is nothing to choose between. It should be in fast memory if it fits",
                printable(name),
                bytes(*size),
                slowdown * 100.0
            ),
        };
        format!("{}: abstains: {why}.\n", printable(program))
    }

    fn to_json(&self) -> Value {
        let (reason, numbers) = match self {
            Self::NoSamples { seconds } => ("no-samples", json!({ "seconds": seconds })),
            Self::NothingMovable { objects } => ("nothing-movable", json!({ "objects": objects })),
            Self::NoMisses(objects) => ("no-misses", objects.to_json()),
            Self::Cheap { objects, slowdown, tiers } => {
                ("cheap", json!({ "movable": objects.to_json(), "slowdown": slowdown, "tiers": tiers }))
            }
            Self::One { name, bytes, slowdown, tiers } => {
                ("one-object", json!({ "object": name, "bytes": bytes, "slowdown": slowdown, "tiers": tiers }))
            }
        };
        json!({ "reason": reason, "numbers": numbers })
    }
}

/// For scripts: nothing was evaluated.
pub(super) fn abstained(program: &str, key: &str, abstention: &Abstention) -> Value {
    let abstains = abstention.to_json();
    json!({ "schema": SCHEMA, "program": program, "table": key, "abstains": abstains, "pairs": [] })
}

/// For scripts.
pub(super) fn document(program: &str, key: &str, objects: &Labelled, judged: &[Judged]) -> Value {
    let Labelled { own, paired, untimed } = objects;
    let pairs: Vec<Value> = judged.iter().map(pair).collect();
    let llc_bytes = own.rows.first().map(|row| row.case.llc_bytes);
    json!({
        "schema": SCHEMA,
        "program": program,
        "table": key,
        "abstains": null,
        "llc_bytes": llc_bytes,
        "paired_objects": paired,
        "untimed_objects": untimed,
        "pairs": pairs,
    })
}

fn pair(judged: &Judged) -> Value {
    let object = |(place, row): (usize, &Row)| {
        let predictions = judged.evaluations.iter().map(|(evaluation, said)| {
            let said = said.get(place).and_then(Option::as_ref);
            json!({
                "family": evaluation.family.as_str(),
                "criticality": said.map(|said| said.criticality),
                "interval": said.map(|said| [said.interval.0, said.interval.1]),
                "formula": said.map(|said| said.formula),
                "unsure": said.map(|said| said.unsure),
            })
        });
        json!({
            "object": row.object,
            "name": row.name,
            "bytes": row.bytes,
            "movable": row.movable,
            "criticality": row.criticality,
            "criticality_error": row.criticality_error,
            "llc_misses": row.counted.llc_misses,
            "predicted": predictions.collect::<Vec<Value>>(),
        })
    };
    json!({
        "tiers": judged.tiers,
        "objects": judged.own.rows.iter().enumerate().map(object).collect::<Vec<Value>>(),
        "families": judged.evaluations.iter().map(|(evaluation, _)| evaluation.to_json()).collect::<Vec<Value>>(),
    })
}

/// For people.
pub(super) fn text(program: &str, objects: &Labelled, judged: &[Judged]) -> String {
    let Labelled { own, paired, untimed } = objects;
    let mut text = String::new();
    for (number, judged) in judged.iter().enumerate() {
        let movable = judged.own.rows.iter().filter(|row| row.movable);
        let (count, size) = movable.fold((0, 0.0), |(count, size), row| (count + 1, size + row.bytes as f64));
        if number == 0 {
            let llc = own.rows.first().map_or(0.0, |row| row.case.llc_bytes as f64);
            text += &format!(
                "{}: {count} objects that can be placed, {}, which is {:.1} times the modelled last-level cache; {paired} were found in both runs\n",
                printable(program),
                bytes(size),
                size / llc
            );
            if *untimed > 0 {
                text += &format!(
                    "{untimed} more reach memory only where nothing was timed, or were timed in part: they are in none of what follows\n"
                );
            }
        }
        text += &format!("\nslow memory {}: what objects cost alone, and what was predicted of them\n", judged.tiers);
        text += &of_pair(judged);
        for (evaluation, _) in &judged.evaluations {
            text += &format!("\n{evaluation}");
            text += &budgets(evaluation);
        }
    }
    text
}

/// The movable objects that cost most.
fn of_pair(judged: &Judged) -> String {
    let families: String =
        judged.evaluations.iter().map(|(e, _)| format!(" {:>24}", format!("model, {}", e.family))).collect();
    let mut text = format!("  {:NAME$} {:>9} {:>8} {:>8}{families}\n", "object", "size", "misses", "costs");
    let mut rows: Vec<(usize, &Row)> = judged.own.rows.iter().enumerate().filter(|(_, row)| row.movable).collect();
    rows.sort_by(|(_, a), (_, b)| b.criticality.total_cmp(&a.criticality));
    let known = |misses: f64| if misses.is_finite() { misses } else { 0.0 };
    let misses: f64 = judged.own.rows.iter().map(|row| known(row.counted.llc_misses)).sum();
    for (place, row) in rows.iter().take(MOST_SHOWN) {
        let name: String = printable(&row.name).chars().take(NAME).collect();
        let share = percent(known(row.counted.llc_misses) / misses.max(1.0));
        let costs = format!("{:.1} %", row.criticality * 100.0);
        text += &format!("  {name:NAME$} {:>9} {share:>8} {costs:>8}", bytes(row.bytes as f64));
        for (_, said) in &judged.evaluations {
            let shown = said.get(*place).and_then(Option::as_ref).map_or_else(
                || "not seen".to_owned(),
                |said| {
                    let (low, high) = said.interval;
                    let (low, high) = (low * 100.0, high * 100.0);
                    format!("{:.1} % ({low:.1} to {high:.1})", said.criticality * 100.0)
                },
            );
            text += &format!(" {shown:>24}");
        }
        text.push('\n');
    }
    if rows.len() > MOST_SHOWN {
        text += &format!("  and {} more\n", rows.len() - MOST_SHOWN);
    }
    text
}

/// Slowdown by ranker and budget.
fn budgets(evaluation: &Evaluation) -> String {
    if evaluation.rows.is_empty() {
        return "no placement was evaluated: fewer than two of its objects are large enough to matter\n".to_owned();
    }
    let heads: String = BUDGETS.iter().map(|budget| format!(" {:>7}", format!("{:.0} %", budget * 100.0))).collect();
    let mut text = format!("slowdown by part of its memory that is fast\n  {:17}{heads}\n", "ranker");
    for ranker in Ranker::ALL {
        let own = evaluation.rows.iter().filter(|row| row.ranker == ranker);
        let cells: String = own.map(|row| format!(" {:>7}", format!("{:.1} %", row.slowdown * 100.0))).collect();
        if !cells.is_empty() {
            text += &format!("  {:17}{cells}\n", ranker.as_str());
        }
    }
    text
}
