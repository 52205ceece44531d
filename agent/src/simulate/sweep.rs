//! Placements of whole sets, for 10, 20 ... 90 % of a program's memory in the fast tier.
//!
//! Slowdowns do not add up: two arrays that are read together overlap their misses, so moving the second costs less, or more,
//! than moving it alone. What a set costs is therefore timed as a set. The first run gives each object's own cost; from those come
//! the greedy placements of several orders, which the second run times. Each further run tries exchanges around the best
//! placement of each budget: one object in, and others out to make room. The best that was ever timed is the `oracle`: a bound
//! from above on the best there is, found by search, not by proof.
//!
//! What can be moved is what a policy can name: heap objects and globals of at least a page. Everything else stays fast. A set
//! fits a budget when the most bytes each of its members had at a time add up to no more.
//!
//! Objects are known by identity, which is the same in every run of a program that allocates alike. One that comes up in a later
//! run only stays fast.

use super::{Simulation, profile};
use crate::cli::SimulateArguments;
use crate::failure::Failure;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use tierscope_sim::outcome::{LaneKind, Object};
use tierscope_sim::{Config, ObjectKey, Outcome, Placement};
use tierscope_traces::{PlacementKind, PlacementRow, Profile, ProfileWriter};

/// Placements timed in one run.
const AT_ONCE: usize = 62;
/// Globals smaller than this share their page with others.
const PAGE: u64 = 4096;
/// The budgets, in percent of the bytes of all that can be moved.
const BUDGETS: [u64; 9] = [10, 20, 30, 40, 50, 60, 70, 80, 90];

/// An object that can be moved.
#[derive(Debug, Clone)]
struct Candidate {
    identity: u64,
    bytes: u64,
    /// Cycles it costs alone in slow memory.
    alone: f64,
    misses: u64,
    first_seen: u64,
}

/// Which candidates are in fast memory, by index.
type Chosen = BTreeSet<usize>;

/// What greedy placements go by: the most first.
type Order = fn(&Candidate) -> f64;

/// The orders in which greedy placements fill fast memory.
const ORDERS: [(&str, Order); 4] = [
    ("stall-density", |one| one.alone / one.bytes.max(1) as f64),
    ("llc-misses", |one| one.misses as f64),
    ("misses-per-byte", |one| one.misses as f64 / one.bytes.max(1) as f64),
    ("first-touch", |one| -(one.first_seen as f64)),
];

/// What a search has found out.
struct Search {
    candidates: Vec<Candidate>,
    slow: u16,
    total: u64,
    /// Extra cycles of every set that was timed.
    timed: BTreeMap<Chosen, f64>,
}

/// One line of the result.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Line {
    name: String,
    cycles: f64,
    extra: f64,
}

/// Runs the search and adds what it timed to the profile.
pub(super) fn run(
    simulation: &Simulation,
    first: &Outcome,
    output: &Path,
    arguments: &SimulateArguments,
) -> Result<Vec<Line>, Failure> {
    let config = &simulation.config;
    let Some(set) = config.sets.first() else { return Ok(Vec::new()) };
    let mut search = Search::new(first, set.slow);
    let mut base = profile::all_fast(first, 0).map_or(0.0, |lane| lane.cycles as f64);
    for _ in 0..arguments.sweep_runs {
        let wanted = search.wanted();
        if wanted.is_empty() {
            break;
        }
        let placements = wanted.iter().map(|chosen| search.placement(chosen)).collect();
        let config =
            Config { placements, sets: vec![set.clone()], singles: false, sample_every: None, ..config.clone() };
        let outcome = simulation.run(&config)?.outcome;
        let Some(all_fast) = profile::all_fast(&outcome, 0) else { break };
        base = all_fast.cycles as f64;
        for lane in &outcome.lanes {
            if let LaneKind::Placement { placement } = lane.kind
                && let Some(chosen) = wanted.get(usize::from(placement))
            {
                search.timed.insert(chosen.clone(), lane.cycles as f64 - base);
            }
        }
    }
    let lines = search.lines(base);
    append(output, &set.name, &lines)?;
    Ok(lines)
}

impl Search {
    fn new(outcome: &Outcome, slow: u16) -> Self {
        let base = profile::all_fast(outcome, 0).map_or(0, |lane| lane.cycles);
        let alone = |object: &Object| {
            let lane = outcome
                .lanes
                .iter()
                .find(|lane| matches!(lane.kind, LaneKind::ObjectSlow { set: 0, object: of } if of == object.object));
            lane.map_or(0.0, |lane| lane.cycles as f64 - base as f64)
        };
        let movable = |object: &&Object| match object.key {
            ObjectKey::Heap { .. } => object.live_bytes_max > 0,
            ObjectKey::Global { .. } => object.bytes >= PAGE,
            _ => false,
        };
        let candidates: Vec<Candidate> = outcome
            .objects
            .iter()
            .filter(movable)
            .map(|object| Candidate {
                identity: object.identity,
                bytes: object.live_bytes_max.max(object.bytes),
                alone: alone(object),
                misses: object.counts.llc_misses(),
                first_seen: object.first_seen,
            })
            .collect();
        let total = candidates.iter().fold(0_u64, |sum, one| sum.saturating_add(one.bytes));
        Self { candidates, slow, total, timed: BTreeMap::new() }
    }

    fn budget(&self, percent: u64) -> u64 {
        (u128::from(self.total) * u128::from(percent) / 100) as u64
    }

    fn bytes(&self, chosen: &Chosen) -> u64 {
        chosen.iter().filter_map(|&one| self.candidates.get(one)).fold(0, |sum, one| sum.saturating_add(one.bytes))
    }

    /// As many as fit, the first in the order first. What reaches memory never is of no use there.
    fn greedy(&self, order: Order, percent: u64) -> Chosen {
        let mut places: Vec<usize> = (0..self.candidates.len()).collect();
        let key = |place: &usize| self.candidates.get(*place).map_or(f64::NEG_INFINITY, order);
        places.sort_by(|a, b| key(b).total_cmp(&key(a)).then(a.cmp(b)));
        let mut room = self.budget(percent);
        let fits = |place: &usize| {
            let bytes = self.candidates.get(*place).map_or(u64::MAX, |one| one.bytes);
            let fits = bytes <= room;
            room -= if fits { bytes } else { 0 };
            fits
        };
        places.into_iter().filter(fits).collect()
    }

    /// The best set known for a budget.
    fn best(&self, percent: u64) -> Option<(&Chosen, f64)> {
        let budget = self.budget(percent);
        let fitting = self.timed.iter().filter(|(chosen, _)| self.bytes(chosen) <= budget);
        fitting.min_by(|a, b| a.1.total_cmp(b.1)).map(|(chosen, extra)| (chosen, *extra))
    }

    /// The sets to time next: the greedy ones first, then exchanges around the best of each budget.
    fn wanted(&self) -> Vec<Chosen> {
        let greedy =
            BUDGETS.iter().flat_map(|&percent| ORDERS.iter().map(move |(_, order)| self.greedy(*order, percent)));
        let mut wanted: BTreeSet<Chosen> = greedy.filter(|chosen| !self.timed.contains_key(chosen)).collect();
        let mut exchanges: Vec<Vec<Chosen>> = BUDGETS.iter().map(|&percent| self.exchanges(percent)).collect();
        // In turn, so that every budget gets its part.
        while wanted.len() < AT_ONCE && exchanges.iter().any(|left| !left.is_empty()) {
            for left in &mut exchanges {
                if wanted.len() < AT_ONCE {
                    wanted.extend(left.pop());
                }
            }
        }
        wanted.into_iter().take(AT_ONCE).collect()
    }

    /// Sets one exchange away from the best of a budget that were not timed, the most promising last: one object comes in, and
    /// what is worth least for its bytes goes out until it fits.
    fn exchanges(&self, percent: u64) -> Vec<Chosen> {
        let Some((best, _)) = self.best(percent) else { return Vec::new() };
        let budget = self.budget(percent);
        let mut found = Vec::new();
        for (place, candidate) in self.candidates.iter().enumerate() {
            if best.contains(&place) || candidate.bytes > budget || candidate.alone <= 0.0 {
                continue;
            }
            for order in [ORDERS[0].1, |one: &Candidate| one.alone] {
                let mut chosen = best.clone();
                let mut leaving: Vec<usize> = best.iter().copied().collect();
                let key = |place: &usize| self.candidates.get(*place).map_or(0.0, order);
                leaving.sort_by(|a, b| key(b).total_cmp(&key(a)));
                chosen.insert(place);
                while self.bytes(&chosen) > budget
                    && let Some(out) = leaving.pop()
                {
                    chosen.remove(&out);
                }
                let value: f64 = chosen.iter().filter_map(|&one| self.candidates.get(one)).map(|one| one.alone).sum();
                if self.bytes(&chosen) <= budget && !self.timed.contains_key(&chosen) {
                    found.push((value, chosen));
                }
            }
        }
        found.sort_by(|a, b| a.0.total_cmp(&b.0));
        found.dedup_by(|a, b| a.1 == b.1);
        found.into_iter().map(|(_, chosen)| chosen).collect()
    }

    fn placement(&self, chosen: &Chosen) -> Placement {
        let slow = self.candidates.iter().enumerate().filter(|(place, _)| !chosen.contains(place));
        let objects = slow.map(|(_, candidate)| (candidate.identity, self.slow)).collect();
        Placement { name: "set".to_owned(), default: 0, objects }
    }

    /// Every greedy placement that was timed, and the best of each budget.
    fn lines(&self, base: f64) -> Vec<Line> {
        let line = |name: &str, percent: u64, extra: f64| Line {
            name: format!("{name} {percent}%"),
            cycles: base + extra,
            extra,
        };
        let mut lines = Vec::new();
        for percent in BUDGETS {
            for (name, order) in ORDERS {
                let extra = self.timed.get(&self.greedy(order, percent));
                lines.extend(extra.map(|extra| line(name, percent, *extra)));
            }
            lines.extend(self.best(percent).map(|(_, extra)| line("oracle", percent, extra)));
        }
        lines
    }
}

fn append(output: &Path, tiers: &str, lines: &[Line]) -> Result<(), Failure> {
    let failure = |error| Failure::from_error("cannot add to the profile", &error);
    let next = Profile::open(output).map_err(failure)?.meta().totals.placements;
    let mut writer = ProfileWriter::append(output).map_err(failure)?;
    for (placement, line) in (u32::try_from(next).unwrap_or(u32::MAX)..).zip(lines) {
        writer.placements().push(PlacementRow {
            placement,
            kind: PlacementKind::Searched,
            tiers: tiers.to_owned(),
            name: line.name.clone(),
            object: None,
            cycles: line.cycles,
            extra_cycles: line.extra,
            extra_cycles_error: 0.0,
            is_bound: false,
        });
    }
    writer.finish().map_err(failure)
}

/// The result for people: a row for each budget, a column for each order.
pub(super) fn table(lines: &[Line]) -> String {
    let find = |name: &str, percent: u64| {
        let wanted = format!("{name} {percent}%");
        let line = lines.iter().find(|line| line.name == wanted)?;
        let base = line.cycles - line.extra;
        (base > 0.0).then(|| format!("{:+.1} %", line.extra / base * 100.0))
    };
    let names: Vec<&str> = ORDERS.iter().map(|(name, _)| *name).chain(["oracle"]).collect();
    let mut text = format!("{:>5}", "fast");
    names.iter().for_each(|name| text += &format!("  {name:>15}"));
    text.push('\n');
    for percent in BUDGETS {
        text += &format!("{percent:>4}%");
        for name in &names {
            text += &format!("  {:>15}", find(name, percent).unwrap_or_else(|| "-".to_owned()));
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(candidates: &[(u64, f64, u64)]) -> Search {
        let candidate = |(identity, &(bytes, alone, misses)): (u64, &(u64, f64, u64))| Candidate {
            identity,
            bytes,
            alone,
            misses,
            first_seen: identity,
        };
        let candidates: Vec<Candidate> = (0..).zip(candidates).map(candidate).collect();
        let total = candidates.iter().map(|one| one.bytes).sum();
        Search { candidates, slow: 1, total, timed: BTreeMap::new() }
    }

    #[test]
    fn greedy_fills_what_fits_in_its_order() {
        let search = search(&[(50, 10.0, 900), (30, 30.0, 100), (20, 1.0, 800)]);
        assert_eq!(search.greedy(ORDERS[0].1, 50), Chosen::from([1, 2]));
        assert_eq!(search.greedy(ORDERS[1].1, 50), Chosen::from([0]));
        assert_eq!(search.greedy(ORDERS[3].1, 90), Chosen::from([0, 1]));
        assert_eq!(search.greedy(ORDERS[0].1, 10), Chosen::new());
    }

    #[test]
    fn what_is_slow_is_what_was_not_chosen() {
        let search = search(&[(50, 10.0, 900), (30, 30.0, 100)]);
        let placement = search.placement(&Chosen::from([1]));
        assert_eq!(placement.objects.into_iter().collect::<Vec<_>>(), [(0, 1)]);
    }

    #[test]
    fn search_finds_the_set_that_singles_do_not_show() {
        // Alone 0 and 1 look worthless; together they are worth everything.
        let mut search = search(&[(25, 5.0, 10), (25, 5.0, 10), (50, 20.0, 50), (10, 1.0, 1)]);
        let cost = |chosen: &Chosen| if chosen.contains(&0) && chosen.contains(&1) { 10.0 } else { 100.0 };
        for _ in 0..4 {
            let wanted = search.wanted();
            assert!(wanted.len() <= AT_ONCE && wanted.iter().all(|chosen| !search.timed.contains_key(chosen)));
            search.timed.extend(wanted.into_iter().map(|chosen| (chosen.clone(), cost(&chosen))));
        }
        assert_eq!(search.best(50).map(|(_, extra)| extra), Some(10.0));
        let lines = search.lines(1000.0);
        let oracle = lines.iter().find(|line| line.name == "oracle 50%").unwrap();
        assert_eq!((oracle.cycles, oracle.extra), (1010.0, 10.0));
        assert!(table(&lines).lines().count() == 10 && table(&lines).contains("+1.0 %"), "{}", table(&lines));
    }

    #[test]
    fn no_set_is_larger_than_its_budget_and_the_oracle_is_no_worse_than_greedy() {
        let mut search = search(&[(13, 9.0, 3), (17, 2.0, 7), (29, 8.0, 1), (31, 4.0, 9), (10, 0.0, 0)]);
        for _ in 0..3 {
            let wanted = search.wanted();
            let cost = |chosen: &Chosen| 100.0 - chosen.iter().map(|&one| search.candidates[one].alone).sum::<f64>();
            let timed: Vec<_> = wanted.into_iter().map(|chosen| (chosen.clone(), cost(&chosen))).collect();
            search.timed.extend(timed);
        }
        for percent in BUDGETS {
            let (best, extra) = search.best(percent).unwrap();
            assert!(search.bytes(best) <= search.budget(percent));
            for (_, order) in ORDERS {
                assert!(extra <= search.timed[&search.greedy(order, percent)]);
            }
        }
    }
}
