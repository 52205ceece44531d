//! What a program's objects cost, as the simulator finds it: each alone in slow memory, and sets of them.
//!
//! The first run times every object alone and takes PMU-like samples; its profile is read as any other. The second times all
//! subsets of the [`LATTICE`] movable objects that cost most, and all movable objects together: with these the cost of almost any
//! placement is known, not added up.

use crate::cli::SimulateArguments;
use crate::failure::Failure;
use crate::launch::Ended;
use crate::simulate::{Finished, Simulation};
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use std::path::Path;
use tierscope_model::summarise;
use tierscope_model::summary::{SortKey, Summary, recorded};
use tierscope_sim::outcome::{LaneKind, Outcome};
use tierscope_sim::{Config, Placement};
use tierscope_traces::{Meta, PlacementKind, Profile, Tables};

/// Objects of which all subsets are timed.
pub(crate) const LATTICE: usize = 6;

/// Slowdown of a run: 0.05 is 5 %.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Slowdown {
    pub(crate) point: f64,
    /// Half of the 95 % interval; 0 where every instruction was timed.
    pub(crate) error: f64,
}

/// A set of objects in slow memory, all others in fast.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Timed {
    /// Index of the pair of tiers.
    pub(crate) pair: usize,
    /// Identities, sorted.
    pub(crate) slow: Vec<String>,
    pub(crate) slowdown: Slowdown,
}

/// Numbers of the recorded objects by identity of what they are part of.
type Members = FxHashMap<String, Vec<u32>>;

/// A simulated program.
pub(crate) struct Simulated {
    pub(crate) meta: Meta,
    pub(crate) tables: Tables,
    pub(crate) summary: Summary,
    /// Which objects of the summary can be moved.
    pub(crate) movable: Vec<bool>,
    /// By pair of tiers: each object of the summary alone in slow memory; `None` where it was not timed to the end.
    pub(crate) alone: Vec<Vec<Option<Slowdown>>>,
    pub(crate) sets: Vec<Timed>,
    pub(crate) pairs: Vec<String>,
}

/// Simulates a program twice, into the directory `kept`; what is there already is not done again. The second run is left out, and there are
/// no sets, unless `is_worth` finds that what the first one says makes it worth while.
pub(crate) fn simulate(
    arguments: &SimulateArguments,
    kept: &Path,
    is_worth: &dyn Fn(&Simulated) -> bool,
) -> Result<Simulated, Failure> {
    let (profile, sets) = (kept.join("simulated.tsp"), kept.join("sets.json"));
    if let Some(sets) = read_sets(&sets) {
        return Ok(Simulated { sets, ..read(&profile)?.0 });
    }
    let simulation = Simulation::new(arguments)?;
    super::rewind_input();
    let first = whole(simulation.run(&simulation.config)?)?;
    simulation.write(&first, &profile, true)?;
    crate::record::look_up_symbols_again(&profile, &[])?;
    let (mut simulated, members) = read(&profile)?;
    if !is_worth(&simulated) {
        return Ok(simulated);
    }
    let (wanted, config) = simulated.second(&simulation.config, &first.outcome, &members);
    super::rewind_input();
    let second = whole(simulation.run(&config)?)?;
    simulated.sets = timed(&wanted, &config, &second.outcome);
    let cannot = |error: std::io::Error| Failure::cannot(format!("cannot write {}: {error}", sets.display()));
    let text = serde_json::to_vec(&simulated.sets).map_err(|error| cannot(error.into()))?;
    std::fs::write(&sets, text).map_err(cannot)?;
    Ok(simulated)
}

/// A run from which something follows: the program did not fail in it, and some of it was counted.
fn whole(finished: Finished) -> Result<Finished, Failure> {
    let how = match finished.ended {
        Ended::Exited(0) => None,
        Ended::Exited(status) => Some(format!("with exit status {status}")),
        Ended::Killed(signal) => Some(format!("by signal {signal}")),
    };
    if let Some(how) = how {
        let remarks = finished.remarks.join(" ");
        return Err(Failure::cannot(format!("the simulated program ended {how}. {remarks}").trim_end().to_owned())
            .mend("tierscope simulate with the same command shows what it prints"));
    }
    if finished.outcome.totals.counted_instructions == 0 {
        let all = finished.outcome.totals.instructions;
        return Err(Failure::cannot(format!("of the program's {all} instructions none were simulated")).mend(
            "begin earlier: a mark of --from-mark that the program sets, or less of --fast-forward and --warm-up",
        ));
    }
    Ok(finished)
}

/// What an earlier run left; `None` where it left nothing whole.
fn read_sets(path: &Path) -> Option<Vec<Timed>> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

/// The first run's profile, and the recorded objects that each of its objects is made of.
fn read(profile: &Path) -> Result<(Simulated, Members), Failure> {
    let failure = |error| Failure::from_error("cannot read the simulated profile", &error);
    let read = Profile::open(profile).map_err(failure)?;
    let (meta, tables) = (read.meta().clone(), read.tables());
    let summary = summarise(&meta, &tables, SortKey::natural(&meta));
    let movable = tierscope_model::advice::movable(&summary);
    let members = recorded(&tables);
    let tiers = meta.simulation.iter().flat_map(|simulation| &simulation.tiers);
    let pairs: Vec<String> = tiers.map(|pair| pair.name.clone()).collect();
    let alone = pairs.iter().map(|pair| alone(pair, &meta, &tables, &summary, &members)).collect();
    Ok((Simulated { meta, tables, summary, movable, alone, sets: Vec::new(), pairs }, members))
}

/// Each object alone in the slow tier of a pair. An object with several members has their sum, unless one of them was not timed.
fn alone(pair: &str, meta: &Meta, tables: &Tables, summary: &Summary, members: &Members) -> Vec<Option<Slowdown>> {
    let cycles = meta.simulation.as_ref().and_then(|simulation| simulation.cycles_all_fast).unwrap_or(f64::NAN);
    let rows = tables.placements.iter().filter(|row| row.kind == PlacementKind::Alone && row.tiers == pair);
    let timed: FxHashMap<u32, Option<Slowdown>> = rows
        .filter_map(|row| {
            let slowdown = Slowdown { point: row.extra_cycles / cycles, error: row.extra_cycles_error / cycles };
            Some((row.object?, (!row.is_bound).then_some(slowdown)))
        })
        .collect();
    let moved: FxHashMap<u32, bool> = tables
        .counts
        .iter()
        .filter_map(|row| Some((row.object?, row.bytes_read > 0 || row.bytes_written > 0)))
        .collect();
    let one = |member: &u32| match timed.get(member) {
        Some(slowdown) => *slowdown,
        // What never came to memory costs the same anywhere.
        None => (!moved.get(member).copied().unwrap_or(false)).then(Slowdown::default),
    };
    let add =
        |sum: Slowdown, one: Slowdown| Slowdown { point: sum.point + one.point, error: sum.error.hypot(one.error) };
    let object =
        |id: &str| members.get(id)?.iter().map(one).try_fold(Slowdown::default(), |sum, one| Some(add(sum, one?)));
    summary.objects.iter().map(|row| object(&row.id)).collect()
}

impl Simulated {
    /// The movable objects that cost most in some slow tier, ascending.
    fn dearest(&self) -> Vec<usize> {
        let cost = |place: usize| {
            let of = |alone: &Vec<Option<Slowdown>>| alone.get(place).copied().flatten().map_or(0.0, |one| one.point);
            self.alone.iter().map(of).fold(0.0, f64::max)
        };
        let movable = self.movable.iter().enumerate().filter(|(_, movable)| **movable).map(|(place, _)| place);
        let mut places: Vec<usize> = movable.filter(|place| cost(*place) > 0.0).collect();
        places.sort_by(|a, b| cost(*b).total_cmp(&cost(*a)).then(a.cmp(b)));
        places.truncate(LATTICE);
        places.sort_unstable();
        places
    }

    /// The sets of the second run, and its configuration.
    fn second(&self, config: &Config, first: &Outcome, members: &Members) -> (Vec<(usize, Vec<String>)>, Config) {
        let id = |place: usize| self.summary.objects.get(place).map(|object| object.id.clone());
        let dearest: Vec<String> = self.dearest().into_iter().filter_map(id).collect();
        let subset = |mask: u32| {
            let chosen = (0..).zip(&dearest).filter(|(bit, _)| mask >> bit & 1 == 1);
            let mut ids: Vec<String> = chosen.map(|(_, id)| id.clone()).collect();
            ids.sort_unstable();
            ids
        };
        let mut sets: Vec<Vec<String>> = (1..1_u32 << dearest.len()).map(subset).collect();
        let movable = self.movable.iter().enumerate().filter(|(_, is)| **is);
        let mut all: Vec<String> = movable.filter_map(|(place, _)| id(place)).collect();
        all.sort_unstable();
        if !sets.contains(&all) {
            sets.push(all);
        }
        let identities: FxHashMap<u32, u64> =
            first.objects.iter().filter_map(|row| Some((row.object.0.checked_sub(1)?, row.identity))).collect();
        let of =
            |id: &String| members.get(id).into_iter().flatten().filter_map(|member| identities.get(member).copied());
        let wanted: Vec<(usize, Vec<String>)> =
            (0..self.pairs.len()).flat_map(|pair| sets.iter().map(move |set| (pair, set.clone()))).collect();
        let placement = |(pair, set): &(usize, Vec<String>)| {
            let slow = config.sets.get(*pair).map_or(0, |set| set.slow);
            let objects = set.iter().flat_map(of).map(|identity| (identity, slow)).collect();
            Placement { name: "set".to_owned(), default: 0, objects }
        };
        let placements = wanted.iter().map(placement).collect();
        let config = Config { placements, singles: false, sample_every: None, max_lanes: 1024, ..config.clone() };
        (wanted, config)
    }
}

/// What the second run timed.
fn timed(wanted: &[(usize, Vec<String>)], config: &Config, outcome: &Outcome) -> Vec<Timed> {
    let base = |pair: usize| {
        let is_base = |kind| matches!(kind, LaneKind::AllFast { set } if usize::from(set) == pair);
        outcome.lanes.iter().find(|lane| is_base(lane.kind)).map(|lane| lane.cycles as f64)
    };
    let bases: Vec<Option<f64>> = (0..config.sets.len()).map(base).collect();
    let of = |lane: &tierscope_sim::Lane| {
        let LaneKind::Placement { placement } = lane.kind else { return None };
        let (pair, slow) = wanted.get(usize::from(placement))?;
        // Lanes of the fast tier are one where the fast tier is: that of the first pair.
        let base = bases.get(*pair).copied().flatten().or_else(|| bases.first().copied().flatten())?;
        let slowdown = Slowdown {
            point: lane.cycles as f64 / base - 1.0,
            error: lane.half_difference_cycles.unwrap_or(0.0) / base,
        };
        Some(Timed { pair: *pair, slow: slow.clone(), slowdown })
    };
    outcome.lanes.iter().filter_map(of).collect()
}
