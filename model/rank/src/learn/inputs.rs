//! Which features a learner sees, and what stands for those that are not known.
//!
//! A column must be known in a fifth of the training rows and have two values at least: trees and solvers are never
//! given a constant column. What is not known takes the median of the training rows; where more than a fiftieth of them do not know it, a
//! second column says so. A value outside the range that was trained on is taken as the nearest inside: beyond, only
//! the formula speaks.
//!
//! **Left out on purpose.** How many samples there are says how long one recorded. Shares of samples act through the formula,
//! which grows with them: a correction that fell with a share could undo that. A clock's density is seen, since it says what stays in the cache.

use serde::{Deserialize, Serialize};

use crate::data::Data;
use crate::feature::{FEATURES, Family, Features, Group, Name};

/// Part of the training rows in which a column must be known.
const KNOWN_PART: f64 = 0.2;

/// Part of the rows that may be unknown before this is worth a column.
const UNKNOWN_PART: f64 = 0.02;

/// What a learner predicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// The factor by which the formula is wrong.
    Correction,
    /// The cost itself, in logarithms: sees every feature, promises nothing of monotony.
    Cost,
}

/// One column of a matrix.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Column {
    /// The feature's name in tables.
    pub(crate) feature: String,
    /// Whether the column says that the feature is not known, rather than its value.
    pub(crate) indicator: bool,
    /// What stands for unknown.
    pub(crate) median: f64,
    /// Least and most of the training rows.
    pub(crate) range: (f64, f64),
}

/// The columns of a matrix, in order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Inputs {
    pub(crate) columns: Vec<Column>,
    #[serde(skip)]
    names: Vec<Option<Name>>,
}

/// Shares of samples, in any form.
const SHARES: [Name; 7] = [
    Name::Share,
    Name::ShareOfAttributed,
    Name::MissShare,
    Name::Log2MissDensity,
    Name::LatencyShare,
    Name::FormulaLatency,
    Name::FormulaBandwidth,
];

/// Of the densities only a clock's is seen: what a clock sees often may be what the cache keeps, misses were not kept.
fn is_share(name: Name, family: Family) -> bool {
    SHARES.contains(&name) || (name == Name::Log2Density && family == Family::Levels)
}

/// Whether a correction may fall when this grows: not for what physics says costs more.
pub(crate) fn must_not_fall(name: Name) -> bool {
    matches!(name, Name::LatencyX | Name::BandwidthX | Name::WriteBandwidthX) || SHARES.contains(&name)
}

fn is_seen(name: Name, family: Family, target: Target, groups: &[Group]) -> bool {
    let feature = name.feature();
    groups.contains(&feature.group)
        && feature.families.contains(&family)
        && name != Name::Samples
        && (target == Target::Cost || !is_share(name, family))
}

impl Inputs {
    /// The columns that the rows of `data` can give to a learner.
    pub(crate) fn new(data: &Data, rows: &[usize], target: Target, groups: &[Group]) -> Self {
        let mut columns = Vec::new();
        for feature in &FEATURES {
            if !is_seen(feature.name, data.family, target, groups) {
                continue;
            }
            let known = rows.iter().filter_map(|&row| data.features.get(row)?.known(feature.name));
            let mut known: Vec<f64> = known.collect();
            known.sort_by(f64::total_cmp);
            let (Some(&least), Some(&most)) = (known.first(), known.last()) else { continue };
            if (known.len() as f64) < KNOWN_PART * rows.len() as f64 {
                continue;
            }
            let median = known.get(known.len() / 2).copied().unwrap_or(least);
            let column = Column { feature: feature.text.into(), indicator: false, median, range: (least, most) };
            if least < most {
                columns.push(column.clone());
            }
            if (rows.len() - known.len()) as f64 > UNKNOWN_PART * rows.len() as f64 {
                columns.push(Column { indicator: true, median: 1.0, range: (0.0, 1.0), ..column });
            }
        }
        Self { names: names(&columns), columns }
    }

    /// Finds the names again after reading; the name of a column that no feature has is the error.
    pub(crate) fn resolve(&mut self) -> Result<(), String> {
        self.names = names(&self.columns);
        match self.columns.iter().zip(&self.names).find(|(_, name)| name.is_none()) {
            Some((column, _)) => Err(column.feature.clone()),
            None => Ok(()),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.columns.len()
    }

    /// By column, the name of its feature.
    pub(crate) fn names(&self) -> &[Option<Name>] {
        &self.names
    }

    /// Which columns a correction may not fall with.
    pub(crate) fn rising(&self) -> Vec<bool> {
        let pairs = self.columns.iter().zip(&self.names);
        pairs.map(|(column, name)| !column.indicator && name.is_some_and(must_not_fall)).collect()
    }

    /// One row of the matrix, appended.
    pub(crate) fn fill(&self, features: &Features, out: &mut Vec<f64>) {
        out.extend(self.columns.iter().zip(&self.names).map(|(column, name)| {
            let known = name.and_then(|name| features.known(name));
            match (column.indicator, known) {
                (true, None) => 1.0,
                (true, Some(_)) => 0.0,
                (false, None) => column.median,
                (false, Some(value)) => value.clamp(column.range.0, column.range.1),
            }
        }));
    }

    /// By column, the standard error of such a row, appended.
    pub(crate) fn errors(&self, features: &Features, out: &mut Vec<f64>) {
        out.extend(self.columns.iter().zip(&self.names).map(|(column, name)| {
            let error = name.filter(|_| !column.indicator).map_or(0.0, |name| features.error(name));
            if error.is_finite() { error.min(column.range.1 - column.range.0) } else { 0.0 }
        }));
    }

    /// Part of the columns whose feature is unknown, or so far outside what was trained on that it says something else.
    pub(crate) fn strange(&self, features: &Features) -> f64 {
        let plain = self.columns.iter().zip(&self.names).filter(|(column, _)| !column.indicator);
        let (mut all, mut strange) = (0u32, 0u32);
        for (column, name) in plain {
            let Some(name) = *name else { continue };
            if must_not_fall(name) {
                continue;
            }
            all += 1;
            let width = (column.range.1 - column.range.0) / 4.0;
            let inside = features
                .known(name)
                .is_some_and(|value| value >= column.range.0 - width && value <= column.range.1 + width);
            strange += u32::from(!inside);
        }
        if all == 0 { 0.0 } else { f64::from(strange) / f64::from(all) }
    }
}

fn names(columns: &[Column]) -> Vec<Option<Name>> {
    columns.iter().map(|column| Name::of(&column.feature)).collect()
}
