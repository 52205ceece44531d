//! From what a simulation found to a profile.
//!
//! A simulated profile is a profile: the same tables, with exact counts and timed placements besides. Its clock is that of the
//! modelled machine: cycles with everything in fast memory, in nanoseconds; where no time was modelled, an instruction is a
//! cycle. What was first seen when is known in instructions, which are put on that clock in proportion.
//!
//! The outcome is what a plugin inside somebody's program wrote, so numbers in it may refer to nothing: such a row is left out
//! or refers to nothing in the profile.

use super::code::Loads;
use crate::failure::Failure;
use rustc_hash::FxHashMap;
use std::path::Path;
use tierscope_sim::outcome::{LaneKind, Outcome};
use tierscope_sim::{Allocation, Config, Counts, Lane, Level, ObjectId, ObjectKey, Sample, Tlb};
use tierscope_traces::{
    Access, AddressQuality, AllocationRow, Attribution, CountRow, CounterRow, MarkRow, Meta, ModuleRow, ObjectKind,
    ObjectRow, PlacementKind, PlacementRow, ProfileWriter, SampleRow, SimulatedTiers, Simulation, SiteRow, TracesError,
    series,
};

/// Times of the modelled machine.
struct Clock {
    ghz: f64,
    /// Ticks (cycles, or instructions where there are none) in an instruction.
    ticks_per_instruction: f64,
}

impl Clock {
    fn ns(&self, ticks: u64) -> u64 {
        (ticks as f64 / self.ghz) as u64
    }

    fn of_instructions(&self, instructions: u64) -> u64 {
        (instructions as f64 * self.ticks_per_instruction / self.ghz) as u64
    }
}

/// Everything a profile is written from.
pub(super) struct Found<'a> {
    pub(super) config: &'a Config,
    pub(super) outcome: &'a Outcome,
    pub(super) samples: &'a [Sample],
    pub(super) allocations: &'a [Allocation],
}

/// The number of an object in the profile.
fn number(object: ObjectId) -> Option<u32> {
    object.0.checked_sub(1)
}

/// Cycles of the lane with everything fast, of a set.
pub(super) fn all_fast(outcome: &Outcome, wanted: u16) -> Option<&Lane> {
    outcome.lanes.iter().find(|lane| matches!(lane.kind, LaneKind::AllFast { set } if set == wanted))
}

/// What the meta data says of the simulation.
pub(super) fn simulation(
    config: &Config,
    outcome: &Outcome,
    emulator: &str,
    approximations: Vec<String>,
) -> Simulation {
    let tier = |index: u16| config.tiers.get(usize::from(index));
    let name = |index: u16| tier(index).map(|tier| tier.name.clone()).unwrap_or_default();
    let figures = |index: u16| tier(index).and_then(|tier| serde_json::to_value(tier).ok()).unwrap_or_default();
    Simulation {
        emulator: emulator.to_owned(),
        instructions: outcome.totals.instructions,
        counted_instructions: outcome.totals.counted_instructions,
        cycles_all_fast: all_fast(outcome, 0).map(|lane| lane.cycles as f64),
        ghz: config.machine.ghz,
        tiers: config
            .sets
            .iter()
            .filter(|_| config.timing)
            .map(|set| SimulatedTiers {
                name: set.name.clone(),
                fast: name(set.fast),
                slow: name(set.slow),
                fast_figures: figures(set.fast),
                slow_figures: figures(set.slow),
            })
            .collect(),
        machine: serde_json::to_value(&config.machine).unwrap_or_default(),
        approximations,
    }
}

/// What was not exact, in sentences.
pub(super) fn approximations(outcome: &Outcome) -> Vec<String> {
    let counts = &outcome.approximations;
    let say = |count: u64, one: &str, many: &str| match count {
        0 => None,
        1 => Some(format!("1 {one}")),
        _ => Some(format!("{count} {many}")),
    };
    let in_part = outcome.lanes.iter().filter(|lane| lane.closed_at.is_some()).count();
    let sentences = [
        say(
            in_part as u64,
            "object (marked ~) was timed in part of the run only, as there were more of them than --lanes",
            "objects (marked ~) were timed in parts of the run only, as there were more of them than --lanes",
        ),
        say(counts.unknown_frees, "block was freed that was not known", "blocks were freed that were not known"),
        say(
            counts.overwritten_blocks,
            "block was followed by another in its place without having been freed",
            "blocks were followed by others in their place without having been freed",
        ),
        say(
            counts.objects_without_room,
            "object found no room in the table: its accesses are outside all objects",
            "objects found no room in the table: their accesses are outside all objects",
        ),
        say(counts.senseless_events, "event made no sense", "events made no sense"),
        say(counts.senseless_accesses, "access made no sense", "accesses made no sense"),
    ];
    sentences.into_iter().flatten().map(|text| text + ".").collect()
}

/// Fills a profile.
///
/// # Errors
///
/// What the disk says.
pub(super) fn write(path: &Path, force: bool, meta: Meta, found: Found<'_>) -> Result<(), Failure> {
    let failure = |error| Failure::from_error("cannot write the profile", &error);
    let mut writer = ProfileWriter::create(path, force, meta).map_err(failure)?;
    let outcome = found.outcome;
    let counted = outcome.totals.instructions.max(1) as f64;
    let clock = Clock {
        ghz: found.config.machine.ghz,
        ticks_per_instruction: all_fast(outcome, 0).map_or(1.0, |lane| lane.cycles as f64 / counted),
    };
    let sites = sites(outcome, &mut writer).map_err(failure)?;
    objects(outcome, &sites, &clock, &mut writer).map_err(failure)?;
    placements(outcome, found.config, &mut writer);
    counters(outcome, &clock, &mut writer);
    for mark in &outcome.marks {
        writer.marks().push(MarkRow { time_ns: clock.ns(mark.time), tid: mark.tid, name: mark.name.clone() });
    }
    let mut loads = Loads::new(outcome);
    for row in found.samples {
        writer.samples().push(sample(row, &mut loads, &clock, found.config.timing));
        make_room(&mut writer).map_err(failure)?;
    }
    for (allocation, row) in (0..).zip(found.allocations) {
        let (Some(object), Some(&site)) = (number(row.object), sites.get(&row.site)) else { continue };
        writer.allocations().push(AllocationRow {
            allocation,
            object,
            site,
            address: row.address,
            bytes: row.bytes,
            weight: 1.0,
            time_ns: clock.ns(row.time),
            tid: row.tid,
            freed_ns: (row.freed != u64::MAX).then(|| clock.ns(row.freed)),
        });
        make_room(&mut writer).map_err(failure)?;
        if writer.needs_flush() {
            writer.flush().map_err(failure)?;
        }
    }
    for row in unrecorded(&found, &sites, &clock) {
        writer.allocations().push(row);
        make_room(&mut writer).map_err(failure)?;
    }
    writer.finish().map_err(failure)
}

/// A row for the blocks of each object that were too small to be recorded, so that the object has its size: as many blocks as the largest
/// goes into what was live at most beyond the recorded ones, from the object's first sight to the end.
fn unrecorded(found: &Found<'_>, sites: &FxHashMap<u64, u32>, clock: &Clock) -> Vec<AllocationRow> {
    let mut recorded: FxHashMap<ObjectId, Vec<(u64, bool, u64)>> = FxHashMap::default();
    for row in found.allocations {
        recorded.entry(row.object).or_default().extend([(row.time, true, row.bytes), (row.freed, false, row.bytes)]);
    }
    // Where blocks lie matters to the features of several threads, which count from the lowest address.
    let mut lowest: FxHashMap<ObjectId, u64> = FxHashMap::default();
    for sample in found.samples {
        lowest.entry(sample.object).and_modify(|low| *low = sample.address.min(*low)).or_insert(sample.address);
    }
    let first = found.allocations.len() as u64;
    let rows = found.outcome.objects.iter().filter_map(|row| {
        let ObjectKey::Heap { site, .. } = &row.key else { return None };
        let rest = row.live_bytes_max.saturating_sub(recorded.get_mut(&row.object).map_or(0, |steps| most(steps)));
        let (object, bytes) = (number(row.object)?, row.bytes.min(rest));
        (bytes > 0).then_some(())?;
        Some(AllocationRow {
            allocation: 0,
            object,
            site: *sites.get(site)?,
            address: lowest.get(&row.object).copied().unwrap_or(0),
            bytes,
            weight: rest as f64 / bytes as f64,
            time_ns: clock.of_instructions(row.first_seen),
            tid: 0,
            freed_ns: None,
        })
    });
    rows.zip(first..).map(|(row, allocation)| AllocationRow { allocation, ..row }).collect()
}

/// The most bytes that lived at once of blocks that were allocated (true) and freed at these times.
fn most(steps: &mut [(u64, bool, u64)]) -> u64 {
    // At equal times frees come first: a block that is moved counts once.
    steps.sort_unstable();
    let mut live: u64 = 0;
    let levels = steps.iter().map(|(_, allocates, bytes)| {
        live = if *allocates { live + bytes } else { live.saturating_sub(*bytes) };
        live
    });
    levels.max().unwrap_or(0)
}

/// Whatever has millions of rows calls this between them: a full buffer takes no more.
fn make_room(writer: &mut ProfileWriter) -> Result<(), TracesError> {
    if writer.needs_flush() { writer.flush() } else { Ok(()) }
}

/// Writes modules and sites; returns the numbers of sites by identity.
fn sites(outcome: &Outcome, writer: &mut ProfileWriter) -> Result<FxHashMap<u64, u32>, TracesError> {
    for (module, row) in (0..).zip(&outcome.modules) {
        writer.modules().push(ModuleRow {
            module,
            path: row.path.clone(),
            build_id: row.build_id.clone(),
            start: row.start,
            end: row.end,
            bias: row.bias,
            loaded_ns: 0,
            unloaded_ns: None,
        });
    }
    let known = |module: Option<u32>| module.filter(|module| (*module as usize) < outcome.modules.len());
    let mut numbers = FxHashMap::default();
    for (site, row) in (0..).zip(&outcome.sites) {
        numbers.insert(row.site, site);
        for (depth, (module, offset)) in (0..).zip(&row.frames) {
            writer.sites().push(SiteRow { site, depth, module: known(*module), offset: *offset });
        }
        make_room(writer)?;
    }
    Ok(numbers)
}

fn objects(
    outcome: &Outcome,
    sites: &FxHashMap<u64, u32>,
    clock: &Clock,
    writer: &mut ProfileWriter,
) -> Result<(), TracesError> {
    for row in &outcome.objects {
        let Some(object) = number(row.object) else { continue };
        // A program has thousands of globals and tables of its libraries that it never looks at.
        if row.counts.accesses() == 0 && !matches!(row.key, ObjectKey::Heap { .. }) {
            continue;
        }
        let mut written = ObjectRow {
            object,
            kind: ObjectKind::Anon,
            site: None,
            size_class: None,
            slot: None,
            module: None,
            name: row.name.clone(),
            start: row.start,
            bytes: row.bytes,
            tid: row.tid,
            first_seen_ns: clock.of_instructions(row.first_seen),
        };
        match &row.key {
            ObjectKey::Heap { site, place } => {
                written.kind = ObjectKind::Heap;
                written.site = sites.get(site).copied();
                written.size_class = place.map(|(class, _)| class);
                written.slot = place.map(|(_, slot)| slot);
            }
            ObjectKey::Global { module, .. } => {
                written.kind = ObjectKind::Global;
                written.module = Some(*module).filter(|module| (*module as usize) < outcome.modules.len());
            }
            ObjectKey::Stack { .. } => written.kind = ObjectKind::Stack,
            ObjectKey::File { .. } => written.kind = ObjectKind::File,
            ObjectKey::Named { .. } | ObjectKey::Anonymous { .. } => {}
        }
        writer.objects().push(written);
        writer.counts().push(counts(Some(object), &row.counts, !outcome.lanes.is_empty()));
        make_room(writer)?;
    }
    writer.counts().push(counts(None, &outcome.unattributed, !outcome.lanes.is_empty()));
    Ok(())
}

fn counts(object: Option<u32>, counts: &Counts, timed: bool) -> CountRow {
    CountRow {
        object,
        loads: counts.loads,
        stores: counts.stores,
        l1_misses: counts.l1_misses,
        l2_misses: counts.l2_misses,
        llc_load_misses: counts.llc_load_misses,
        llc_store_misses: counts.llc_store_misses,
        tlb_walks: counts.tlb_walks,
        bytes_read: counts.bytes_read,
        bytes_written: counts.bytes_written,
        stall_cycles: timed.then_some(counts.stall_cycles),
    }
}

fn placements(outcome: &Outcome, config: &Config, writer: &mut ProfileWriter) {
    for (placement, lane) in (0..).zip(&outcome.lanes) {
        let (kind, set, object) = match lane.kind {
            LaneKind::AllFast { set } => (PlacementKind::AllFast, set, None),
            LaneKind::AllSlow { set } => (PlacementKind::AllSlow, set, None),
            LaneKind::ObjectSlow { set, object } => (PlacementKind::Alone, set, number(object)),
            LaneKind::MemoryMode { set } => (PlacementKind::MemoryMode, set, None),
            LaneKind::Placement { .. } => (PlacementKind::Given, 0, None),
        };
        let Some(base) = all_fast(outcome, set) else { continue };
        writer.placements().push(PlacementRow {
            placement,
            kind,
            tiers: config.sets.get(usize::from(set)).map(|set| set.name.clone()).unwrap_or_default(),
            name: if kind == PlacementKind::Given { lane.name.clone() } else { String::new() },
            object,
            cycles: lane.cycles as f64,
            extra_cycles: lane.cycles as f64 - base.cycles as f64,
            extra_cycles_error: lane.half_difference_cycles.unwrap_or(0.0),
            is_bound: lane.closed_at.is_some(),
        });
    }
}

/// What counters of the cores said of each stretch of the run.
fn counters(outcome: &Outcome, clock: &Clock, writer: &mut ProfileWriter) {
    for stretch in &outcome.stretches {
        let values = [
            (series::CORE_CYCLES, stretch.cycles),
            (series::OFFCORE_READS, stretch.reads),
            (series::OFFCORE_READ_CYCLES, stretch.read_cycles),
            (series::MEMORY_STALL_CYCLES, stretch.stall_cycles),
        ];
        let time_ns = clock.ns(stretch.until);
        for (name, value) in values {
            writer.counters().push(CounterRow { time_ns, name: name.to_owned(), value: value as f64 });
        }
    }
}

fn sample(sample: &Sample, loads: &mut Loads<'_>, clock: &Clock, timed: bool) -> SampleRow {
    let (module, offset) = loads.place(sample.ip);
    let object = number(sample.object);
    SampleRow {
        time_ns: clock.ns(sample.time),
        tid: sample.tid,
        cpu: sample.cpu,
        ip: sample.ip,
        module,
        offset,
        kernel: false,
        address: Some(sample.address),
        access: Access::Load,
        address_quality: AddressQuality::Exact,
        attribution: if object.is_some() { Attribution::Exact } else { Attribution::None },
        level: Some(match sample.level {
            Level::L1 => tierscope_traces::Level::L1,
            Level::L2 => tierscope_traces::Level::L2,
            Level::Llc => tierscope_traces::Level::L3,
            Level::Memory => tierscope_traces::Level::LocalMemory,
        }),
        // Between windows nothing is timed.
        latency: timed.then_some(sample.latency).filter(|latency| *latency > 0),
        dependent: loads.waits_for_load(sample.ip),
        tlb: Some(match sample.tlb {
            Tlb::L1 => tierscope_traces::Tlb::L1,
            Tlb::L2 => tierscope_traces::Tlb::L2,
            Tlb::Walk => tierscope_traces::Tlb::Walk,
        }),
        weight: sample.weight as f32,
        object,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tierscope_traces::{FLUSH_ROWS, Profile};

    #[test]
    fn a_program_may_have_more_sites_than_a_buffer_holds() {
        let frames = vec![(None, 7); 64];
        let site = |site| tierscope_sim::outcome::Site { site, frames: frames.clone() };
        let outcome = Outcome { sites: (0..3 * FLUSH_ROWS as u64 / 64).map(site).collect(), ..Outcome::default() };
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("p.tsp");
        let mut writer = ProfileWriter::create(&path, false, Meta::default()).unwrap();
        assert_eq!(sites(&outcome, &mut writer).unwrap().len(), outcome.sites.len());
        assert!(writer.sites().len() < 2 * FLUSH_ROWS, "{} rows wait", writer.sites().len());
        writer.finish().unwrap();
        assert_eq!(Profile::open(&path).unwrap().tables().sites.len(), 3 * FLUSH_ROWS);
    }

    #[test]
    fn most_that_lived_at_once_is_counted_in_order_of_time() {
        assert_eq!(most(&mut [(5, true, 30), (0, true, 20), (4, false, 20), (9, false, 30)]), 30);
        // Moved: freed and allocated at the same instant.
        assert_eq!(most(&mut [(0, true, 10), (3, true, 12), (3, false, 10), (u64::MAX, false, 12)]), 12);
        assert_eq!(most(&mut []), 0);
    }
}
