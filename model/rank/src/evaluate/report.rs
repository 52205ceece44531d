//! Cells to means, and both to text and JSON.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Value, json};

use super::{Cell, EvaluatedRow, Evaluation, LEAST, Ranker, RankerSummary, mean};

/// The mean of every program, budget and ranker over the program's cases.
pub(super) fn rows(cells: &[Cell]) -> Vec<EvaluatedRow> {
    // Budgets are tenths: whole numbers order them.
    let mut found: BTreeMap<(&str, u32), Vec<&Cell>> = BTreeMap::new();
    for cell in cells {
        found.entry((&cell.case.program, (cell.budget * 1000.0) as u32)).or_default().push(cell);
    }
    let mut rows = Vec::new();
    for ((program, _), cells) in found {
        for (number, ranker) in Ranker::ALL.into_iter().enumerate() {
            let slowdowns = cells.iter().map(|cell| cell.slowdowns.get(number).copied().flatten());
            // A ranker that lacks what it ranks by in some case would be compared on other cases than the rest.
            let Some(slowdowns) = slowdowns.collect::<Option<Vec<f64>>>() else { continue };
            let budget = cells.first().map_or(0.0, |cell| cell.budget);
            let slowdown = mean(&slowdowns);
            rows.push(EvaluatedRow { program: program.into(), budget, ranker, cases: cells.len(), slowdown });
        }
    }
    rows
}

/// Means over programs and budgets.
pub(super) fn rankers(rows: &[EvaluatedRow], orders: &[Vec<(f64, f64)>]) -> Vec<RankerSummary> {
    let mut cells: BTreeMap<(&str, u32), BTreeMap<Ranker, f64>> = BTreeMap::new();
    for row in rows {
        let cell = cells.entry((&row.program, (row.budget * 1000.0) as u32)).or_default();
        cell.insert(row.ranker, row.slowdown);
    }
    let summary = |(ranker, orders): (Ranker, &Vec<(f64, f64)>)| {
        let (mut slowdowns, mut reductions, mut regrets) = (Vec::new(), Vec::new(), Vec::new());
        for cell in cells.values() {
            let Some(&own) = cell.get(&ranker) else { continue };
            slowdowns.push(own);
            if let Some(&misses) = cell.get(&Ranker::LlcMisses).filter(|misses| **misses >= LEAST) {
                reductions.push(1.0 - own / misses);
            }
            if let Some(&oracle) = cell.get(&Ranker::Oracle) {
                regrets.push((1.0 + own) / (1.0 + oracle) - 1.0);
            }
        }
        RankerSummary {
            ranker,
            mean_slowdown: mean(&slowdowns),
            mean_reduction_vs_llc_misses: mean(&reductions),
            max_reduction_vs_llc_misses: reductions.iter().copied().reduce(f64::max).unwrap_or(f64::NAN),
            mean_regret_vs_oracle: mean(&regrets),
            tau: mean(&orders.iter().map(|(tau, _)| *tau).collect::<Vec<_>>()),
            ndcg: mean(&orders.iter().map(|(_, gain)| *gain).collect::<Vec<_>>()),
        }
    };
    Ranker::ALL.into_iter().zip(orders).map(summary).collect()
}

impl Evaluation {
    /// The evaluation as `tierscope eval --json` has it: `summary`, `rankers` and `rows`; what is not known is null.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "family": self.family.as_str(),
            "programs": self.programs,
            "summary": self.summary,
            "rankers": self.rankers,
            "learners_chosen": self.chosen,
            "rows": self.rows,
        })
    }
}

impl fmt::Display for Evaluation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { family, programs, summary, .. } = self;
        let counted = if *programs == 1 { "one program".to_owned() } else { format!("{programs} programs, each") };
        writeln!(f, "features of family {family}: {counted} ranked by what was learnt without it")?;
        writeln!(
            f,
            "  {:17} {:>9} {:>10} {:>10} {:>8} {:>6} {:>6}",
            "ranker", "slowdown", "reduction", "at most", "regret", "tau", "ndcg"
        )?;
        for row in &self.rankers {
            let percent = |value: f64| if value.is_finite() { format!("{:.1} %", value * 100.0) } else { "-".into() };
            let plain = |value: f64| if value.is_finite() { format!("{value:.3}") } else { "-".into() };
            writeln!(
                f,
                "  {:17} {:>9} {:>10} {:>10} {:>8} {:>6} {:>6}",
                row.ranker.as_str(),
                percent(row.mean_slowdown),
                percent(row.mean_reduction_vs_llc_misses),
                percent(row.max_reduction_vs_llc_misses),
                percent(row.mean_regret_vs_oracle),
                plain(row.tau),
                plain(row.ndcg)
            )?;
        }
        writeln!(
            f,
            "intervals (nominally 90 %) cover {:.1} % of criticalities, {:.1} % of those from 1 %, {:.1} % of sets; \
             {:.1} % of objects are left to the formula",
            summary.interval_coverage * 100.0,
            summary.interval_coverage_costly * 100.0,
            summary.interval_coverage_sets * 100.0,
            summary.unsure * 100.0
        )
    }
}
